"""The plan of a submission, without doing it: list, classify, compare with the ledger.

Here: the plan, its hash, and the document that tells of it. Not here: running anything.

However many files there are, memory is that of some: the listing is sorted in a file, and the sources of a plan are
written to one as they are planned.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from typing import Any, BinaryIO, Literal, Self

from pydantic import BaseModel, ConfigDict

from geo_assets.errors import GeoAssetsError
from geo_assets.ledger.tasks import Tasks
from geo_assets.parameters import HelloWorld, Job, ListContainer, Parameters, PublishContainer
from geo_assets.settings import Settings
from geo_assets.stages.container_inventory import REFUSALS, insist_on_a_match, sources_among
from geo_assets.stages.files import fingerprints, stages_of
from geo_assets.stages.scenes import scene_fault
from geo_assets.storage.containers import existing_container
from geo_assets.storage.kinds import Kind
from geo_assets.storage.ordered import OrderedMembers
from geo_assets.storage.products import is_product_metadata
from geo_assets.storage.sources import Member, Source, is_taken
from geo_assets.storage.zips import look_into
from geo_assets.task_status import BAD_INPUT, DONE, TaskStatus
from geo_assets.text import batched

Action = Literal["create", "change", "skip", "collide", "unsupported", "companion"]

#: Sources that are compared with the ledger at once.
_BATCH = 1000

#: Bytes of a document that are handed on at once.
_PIECE = 64 * 1024

#: Between two sources of a document; each has a line.
_NEXT = b",\n"


class PlannedSource(BaseModel):
    """What would become of one source."""

    model_config = ConfigDict(frozen=True)
    path: str
    kind: str
    stage: str = ""  # that takes it; a zip of rasters and vectors is planned twice
    action: Action
    bytes: int
    reason: str = ""


class PlanSummary(BaseModel):
    """What a submission would do now; `plan_hash` stands for all of it."""

    model_config = ConfigDict(frozen=True)
    job_id: str
    job_type: str
    parameters: dict[str, Any]
    plan_hash: str
    counts: dict[str, int]
    expected_tasks: int
    bytes: int


class Plan(PlanSummary):
    """The document that tells of a plan, as programs read it."""

    sources: tuple[PlannedSource, ...] = ()


class MadePlan:
    """A plan whose sources are in a file without a name. It is whole, so that reading it meets neither store nor
    database. A context manager.
    """

    def __init__(self, summary: PlanSummary, file: BinaryIO) -> None:
        """Take over a file with a line for each source, `_NEXT` between them."""
        self.summary = summary
        self._file = file

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @property
    def sources(self) -> Iterator[PlannedSource]:
        """The sources, in the order of their folders and names."""
        self._file.seek(0)
        for line in self._file:
            yield PlannedSource.model_validate_json(line.removesuffix(_NEXT))

    def document(self) -> Iterator[bytes]:
        """A `Plan` as JSON, piece by piece; closes the plan."""
        with self:
            self._file.seek(0)
            yield self.summary.model_dump_json().encode()[:-1] + b',"sources":[\n'
            while piece := self._file.read(_PIECE):
                yield piece
            yield b"]}\n"


def make_plan(settings: Settings, tasks: Tasks, parameters: Parameters) -> MadePlan:
    """Compare the container with the ledger.

    Raises:
        GeoAssetsError: CONTAINER_NOT_FOUND, UNKNOWN_ACCOUNT; NOTHING_MATCHED, as the job itself would end.
    """
    job = Job.of(parameters)
    counts: Counter[str] = Counter()
    size, digest = 0, hashlib.sha256(f'["{job.job_id}", ['.encode())
    file = tempfile.TemporaryFile(prefix="geo_assets_plan_")  # noqa: SIM115 - the plan closes it
    try:
        with closing(_planned(settings, tasks, job)) as planned:
            for number, source in enumerate(planned):
                counts[source.action] += 1
                size += source.bytes if source.action in {"create", "change"} else 0
                digest.update(f"{', ' if number else ''}{json.dumps(source.model_dump(), sort_keys=True)}".encode())
                file.write((_NEXT if number else b"") + source.model_dump_json().encode())
    except BaseException:
        file.close()
        raise
    digest.update(b"]]")
    summary = PlanSummary(
        job_id=job.job_id,
        job_type=job.job_type,
        parameters=job.parameters.stored(),
        plan_hash=digest.hexdigest(),
        counts=dict(counts),
        expected_tasks=_expected_tasks(parameters, counts),
        bytes=size,
    )
    return MadePlan(summary, file)


def insist_on_plan(settings: Settings, tasks: Tasks, parameters: Parameters, plan_hash: str) -> None:
    """Refuse to continue if the plan is not the one of this hash.

    Raises:
        GeoAssetsError: PLAN_CHANGED; what `make_plan` raises.
    """
    with make_plan(settings, tasks, parameters) as made:
        now = made.summary.plan_hash
    if now != plan_hash:
        raise GeoAssetsError(
            "PLAN_CHANGED", f"the plan is {now[:12]} now, not {plan_hash[:12]}: files or results have changed since"
        )


def _expected_tasks(parameters: Parameters, counts: Counter[str]) -> int:
    if isinstance(parameters, HelloWorld):
        return 2 * parameters.n
    if isinstance(parameters, PublishContainer):
        return counts.total() - counts["companion"]
    return 1


def _planned(settings: Settings, tasks: Tasks, job: Job) -> Generator[PlannedSource, None, None]:
    asked = job.parameters
    if not isinstance(asked, ListContainer):
        return
    metadata: list[Member] = []
    with OrderedMembers() as members:
        for page in _listed(settings, tasks, asked):
            members.add(page)
            metadata += (member for member in page if is_product_metadata(member.path))
        yield from _plan_sources(tasks, job, asked, sources_among(members, metadata, asked))


def _listed(settings: Settings, tasks: Tasks, asked: ListContainer) -> Iterator[list[Member]]:
    """The files that are asked for, a page at a time in the order of the store."""
    container = existing_container(settings, asked.account, asked.container)
    marks = tasks.rewritten(asked.account, asked.container)
    found = False
    for page in container.list(asked.prefix):
        members = [
            Member(path=b.path, size=b.size, etag=marks.get((b.path, b.etag), b.etag))
            for b in page
            if is_taken(b.path, asked.include, asked.exclude)
        ]
        found = found or bool(members)
        yield list(look_into(container, members)) if isinstance(asked, PublishContainer) else members
    if not found:
        insist_on_a_match(container, asked)


def _plan_sources(tasks: Tasks, job: Job, asked: ListContainer, sources: Iterable[Source]) -> Iterator[PlannedSource]:
    stages = asked.stages if isinstance(asked, PublishContainer) else ()
    fingerprint_of: dict[str, Callable[[Source], str]] = {stage: fingerprints(job, stage) for stage in stages}
    for batch in batched(sources, _BATCH):
        known = tasks.fingerprints(job.job_id, stages, [source.path for source in batch]) if stages else {}
        for source in batch:
            if fault := scene_fault(asked, source):
                yield _planned_source(source, "", "unsupported", fault.message)
                continue
            for stage in _stages(asked, source):
                now = fingerprint_of[stage](source) if stage else ""
                yield _planned_source(source, stage, *_action(source, stage, now, known.get((stage, source.path))))


def _planned_source(source: Source, stage: str, action: Action, reason: str) -> PlannedSource:
    return PlannedSource(
        path=source.path, kind=source.kind, stage=stage, action=action, bytes=source.size, reason=reason
    )


def _stages(parameters: ListContainer, source: Source) -> tuple[str, ...]:
    """The stages of a source; none if it belongs to another job type. A source that is refused by its name, or only
    listed, is reported once.
    """
    if not isinstance(parameters, PublishContainer) or source.kind in REFUSALS or source.kind is Kind.COMPANION:
        return ("",)
    return stages_of(source, parameters.stages)


def _action(source: Source, stage: str, now: str, known: tuple[str, TaskStatus, bool] | None) -> tuple[Action, str]:
    if source.kind in REFUSALS:
        return "unsupported", f"{BAD_INPUT} by its name"
    if source.kind is Kind.COMPANION:
        return "companion", "no data of its own: it is left where it is"
    if not stage or known is None:
        return "create", ""
    before, status, still = known
    if before != now:
        return "change", "its bytes changed since"
    if status is BAD_INPUT:
        return "skip", f"{BAD_INPUT} before, unchanged"
    if status not in DONE:
        return "create", f"was {status}"
    return ("skip", "done, unchanged") if still else ("create", "done, and replaced by another job or load since")
