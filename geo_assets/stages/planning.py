"""The plan of a submission, without doing it: list, classify, compare with the ledger.

Here: the plan and its hash. Not here: running anything.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from geo_assets.errors import GeoAssetsError
from geo_assets.ledger.tasks import Tasks
from geo_assets.parameters import HelloWorld, IngestContainer, Job, ListContainer, Parameters
from geo_assets.settings import Settings
from geo_assets.stages.container_inventory import REFUSALS, insist_on_a_match, sources_among
from geo_assets.stages.files import fingerprint, stages_of
from geo_assets.stages.scenes import scene_fault
from geo_assets.storage.containers import existing_container
from geo_assets.storage.sources import Kind, Member, Source, is_taken
from geo_assets.storage.zips import look_into
from geo_assets.task_status import BAD_INPUT, DONE, TaskStatus

Action = Literal["create", "change", "skip", "collide", "unsupported", "companion"]


class PlannedSource(BaseModel):
    """What would become of one source."""

    model_config = ConfigDict(frozen=True)
    path: str
    kind: str
    stage: str = ""  # that takes it; a zip of rasters and vectors is planned twice
    action: Action
    bytes: int
    reason: str = ""


class Plan(BaseModel):
    """What a submission would do now; `plan_hash` stands for all of it."""

    model_config = ConfigDict(frozen=True)
    job_id: str
    job_type: str
    parameters: dict[str, Any]
    plan_hash: str
    counts: dict[str, int]
    expected_tasks: int
    bytes: int
    sources: tuple[PlannedSource, ...] = ()


def make_plan(settings: Settings, tasks: Tasks, parameters: Parameters) -> Plan:
    """Compare the container with the ledger.

    Raises:
        GeoAssetsError: CONTAINER_NOT_FOUND, UNKNOWN_ACCOUNT; NOTHING_MATCHED, as the job itself would end.
    """
    job = Job.of(parameters)
    sources: tuple[PlannedSource, ...] = ()
    expected = 2 * parameters.n if isinstance(parameters, HelloWorld) else 1
    if isinstance(parameters, ListContainer):
        sources = tuple(
            _plan_sources(parameters, _listed(settings, tasks, parameters), job, tasks.fingerprints(job.job_id))
        )
        if isinstance(parameters, IngestContainer):
            expected = sum(source.action != "companion" for source in sources)
    counts = Counter(s.action for s in sources)
    body = json.dumps([job.job_id, [s.model_dump() for s in sources]], sort_keys=True)
    return Plan(
        job_id=job.job_id,
        job_type=job.job_type,
        parameters=job.parameters.stored(),
        plan_hash=hashlib.sha256(body.encode("utf-8", "backslashreplace")).hexdigest(),
        counts=dict(counts),
        expected_tasks=expected,
        bytes=sum(s.bytes for s in sources if s.action in {"create", "change"}),
        sources=sources,
    )


def insist_on_plan(settings: Settings, tasks: Tasks, parameters: Parameters, plan_hash: str) -> None:
    """Refuse to continue if the plan is not the one of this hash.

    Raises:
        GeoAssetsError: PLAN_CHANGED; what `make_plan` raises.
    """
    now = make_plan(settings, tasks, parameters).plan_hash
    if now != plan_hash:
        raise GeoAssetsError(
            "PLAN_CHANGED", f"the plan is {now[:12]} now, not {plan_hash[:12]}: files or results have changed since"
        )


def _listed(settings: Settings, tasks: Tasks, parameters: ListContainer) -> list[Source]:
    container = existing_container(settings, parameters.account, parameters.container)
    marks = tasks.rewritten(parameters.account, parameters.container)
    members = [
        Member(path=b.path, size=b.size, etag=marks.get((b.path, b.etag), b.etag))
        for page in container.list(parameters.prefix)
        for b in page
        if is_taken(b.path, parameters.include, parameters.exclude)
    ]
    if not members:
        insist_on_a_match(container, parameters)
    if isinstance(parameters, IngestContainer):
        members = list(look_into(container, members))
    return list(sources_among(members, parameters))


def _plan_sources(
    parameters: ListContainer, sources: Iterable[Source], job: Job, known: dict[tuple[str, str], tuple[str, TaskStatus]]
) -> Iterable[PlannedSource]:
    for source in sources:
        if fault := scene_fault(parameters, source):
            yield PlannedSource(
                path=source.path, kind=source.kind, action="unsupported", bytes=source.size, reason=fault.message
            )
            continue
        for stage in _stages(parameters, source):
            action, reason = _action(
                source, stage, fingerprint(job, source, stage) if stage else "", known.get((stage, source.path))
            )
            yield PlannedSource(
                path=source.path, kind=source.kind, stage=stage, action=action, bytes=source.size, reason=reason
            )


def _stages(parameters: ListContainer, source: Source) -> tuple[str, ...]:
    """The stages of a source; none if it belongs to another job type. A source that is refused by its name, or only
    listed, is reported once.
    """
    if not isinstance(parameters, IngestContainer) or source.kind in REFUSALS or source.kind is Kind.COMPANION:
        return ("",)
    return stages_of(source, parameters.stages)


def _action(source: Source, stage: str, now: str, known: tuple[str, TaskStatus] | None) -> tuple[Action, str]:
    if source.kind in REFUSALS:
        return "unsupported", f"{BAD_INPUT} by its name"
    if source.kind is Kind.COMPANION:
        return "companion", "belongs to the data, and stays where it is"
    if not stage or known is None:
        return "create", ""
    before, status = known
    if before != now:
        return "change", "its bytes changed since"
    if status is BAD_INPUT:
        return "skip", f"{BAD_INPUT} before, unchanged"
    return ("skip", "done, unchanged") if status in DONE else ("create", f"was {status}")
