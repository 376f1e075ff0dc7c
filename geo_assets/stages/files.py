"""Shared by the stages that process files: planning sources as tasks, fetching a source, fingerprints.

Here: which stage takes what, the account from inventory to tasks. Not here: what is done with a file (`cogs.py`,
`vector_tables.py`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from geo_assets.archives import MAX_MEMBERS
from geo_assets.errors import GeoAssetsError
from geo_assets.file_stages import FILE_STAGES
from geo_assets.ledger.inventory import stored_etag
from geo_assets.ledger.models import Converted, PlannedTask, Work
from geo_assets.outcomes import FetchedFile, FileOutputs, TaskInput
from geo_assets.parameters import OfJobType, PublishContainer, shaping_values
from geo_assets.stages.bad_files import plan_tasks
from geo_assets.stages.chunks import cut_stage, plan_of
from geo_assets.stages.container_inventory import sources_of, task_input
from geo_assets.stages.context import StageContext
from geo_assets.stages.contracts import Chunk, InventoryRef, JobRef, StagePlan
from geo_assets.stages.costs import Costs
from geo_assets.stages.raster_conversion import PRODUCT
from geo_assets.stages.scenes import scene_places
from geo_assets.storage.blobs import BlobRef, FirstBytes, blob_path
from geo_assets.storage.containers import FOR_EVER
from geo_assets.storage.journals import unwritten
from geo_assets.storage.kinds import Kind
from geo_assets.storage.sources import Source, name_key, path_within
from geo_assets.text import batched, plain_name, says_all

#: Raised when an engine's output for plain files changes: everything is then redone. Where a corrected fault
#: changes the output for odd ones, `--force` redoes them.
RECIPE = 3

#: Outputs that a store is asked for at the same time, and those whose answers are kept until they are taken.
_AT_ONCE = 16
_ASKED = 64

#: Of an output's name, in bytes; with the hash and the ending it stays below what file systems allow (255).
_LONGEST_STEM = 200

#: A file name longer than this is shortened in the private directory; the file systems that we meet allow 255 bytes.
_LONGEST_NAME = 200

#: Of a part of a path within a folder, which is not shortened: `name=value` is data. Bytes.
_LONGEST_PART = 255


def plan_files(
    context: StageContext,
    inventory: InventoryRef,
    stage: str,
    refuse: Callable[[Source], GeoAssetsError | None],
    unusable: Callable[[], Sequence[str]] = tuple,
) -> tuple[StagePlan, list[Chunk]]:
    """Enter the sources that a stage takes as its tasks and cut what is not done yet into chunks.

    Args:
        context: of the stage.
        inventory: the sources.
        stage: that is planned.
        refuse: tells why a source is not worked on at all.
        unusable: finds the tasks whose remains of an earlier run, other than their receipts, cannot be used.
    """
    job = inventory.job
    if job.stood_aside:
        return plan_of(job, stage, 0, []), []
    stages, fingerprint = job.parameters_as(PublishContainer).stages, fingerprints(job, stage)
    costs = Costs.of(job, stage, context.ledger.work.costs(stage))

    def tasks() -> Iterator[PlannedTask]:
        for source in sources_of(context, job):
            if stage in stages_of(source, stages):
                error = refuse(source)
                yield PlannedTask(
                    task_key=source.path,
                    kind=source.kind,
                    fingerprint=fingerprint(source),
                    input=task_input(source),
                    cost_ms=costs.milliseconds(source),
                    bytes=source.size,
                    error=error.to_dict() if error else None,
                )

    count = plan_tasks(context, job, stage, tasks(), force=job.force)
    context.tasks.redo(job.job_id, job.run_id, stage, unusable())
    return cut_stage(context, job, stage, count, context.bounds)


def stages_of(source: Source, stages: Iterable[str]) -> tuple[str, ...]:
    """The stages that take a source, in a job type of these kinds. A zip or a GeoPackage that holds rasters and vectors
    is a task of two stages.

    A zip that holds neither, or that could not be looked into, goes where vectors go: there it is explained what is
    wrong with it.
    """
    alone = {Kind.ZIP: Kind.VECTOR, Kind.SCENE: Kind.RASTER}.get(source.kind, source.kind)
    kinds = (alone,) if source.kind is Kind.SCENE else source.holds or (alone,)
    return tuple(stage for stage in stages if Kind(FILE_STAGES[stage].engine) in kinds)


def fingerprints(job: OfJobType, stage: str) -> Callable[[Source], str]:
    """The function that tells the fingerprint of a source. It is equal if nothing needs to be redone: the same bytes
    (by etag and size), the same parameters that shape the output, which are looked up once.
    """
    shaping = _shaping(job, stage)

    def of(source: Source) -> str:
        body = {**shaping, "members": [[m.path, m.size, m.etag] for m in source.members]}
        return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()

    return of


def _made_from(job: OfJobType, stage: str, members: Sequence[FetchedFile]) -> str:
    """As `fingerprints`, of files that were fetched: by the hashes of their bytes, not by etag."""
    body = {**_shaping(job, stage), "members": [[file.path, file.sha256] for file in members]}
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _shaping(job: OfJobType, stage: str) -> dict[str, Any]:
    """What decides over the outputs of a stage besides the bytes of a source."""
    parameters = job.parameters_as(PublishContainer)
    return {
        "recipe": RECIPE,
        "collection": parameters.collection,
        **shaping_values(parameters, stage),
    }


def content_hash(job: OfJobType, task: Converted) -> str:
    """Equal if the same bytes became the same output with the same parameters: what was only delivered again is
    unchanged.
    """
    made = [*(cog.sha256 for cog in task.outputs.all_cogs), *([t.table, t.rows] for t in task.outputs.all_tables)]
    if isinstance(task.outputs, FileOutputs):
        made += [task.outputs.all_checksums.get(blob, blob) for blob in task.outputs.blobs]
    body = [_made_from(job, task.stage, task.receipt.input), made]
    return hashlib.sha256(json.dumps(body).encode()).hexdigest()


def fingerprint_of_bytes(members: Sequence[FetchedFile]) -> str:
    """The fingerprint of files that were fetched, by their bytes: the same if they are delivered again."""
    body = [[file.path, file.sha256] for file in members]
    return hashlib.sha256(json.dumps(body).encode()).hexdigest()[:16]


def fingerprint_of_members(task_input: TaskInput) -> str:
    """The fingerprint of a planned task's files by their etags, by which release 0.1 recorded what it appended."""
    body = [[m.path, m.size, m.etag] for m in task_input.members]
    return hashlib.sha256(json.dumps(body).encode()).hexdigest()[:16]


def refuse_source(context: StageContext, source: Source) -> GeoAssetsError | None:
    """UNSAFE_PATH for a name that the stores refuse, TOO_LARGE for a source above the limits, UNREADABLE for one beside
    which changes lie that are not in it; None where it may be tried.
    """
    for member in source.members:
        try:
            blob_path(member.path)
        except GeoAssetsError as error:
            return GeoAssetsError("UNSAFE_PATH", error.message, remedy="rename it, upload it again, then submit again")
    limit = context.settings.max_source_bytes
    if source.size > limit:
        return GeoAssetsError(
            "TOO_LARGE", f"{source.path} has {source.size:,} bytes; GEO_ASSETS_MAX_SOURCE_BYTES allows {limit:,}"
        )
    unfinished = unwritten(((member.path, member.size) for member in source.members), source.path)
    return unfinished or (_refuse_folder(source) if source.is_folder else None)


def _refuse_folder(source: Source) -> GeoAssetsError | None:
    """Refuse a folder that cannot be copied to a directory as it is, or is too much for one table."""
    if len(source.members) > MAX_MEMBERS:
        return GeoAssetsError(
            "TOO_LARGE", f"{source.path} holds {len(source.members):,} files; {MAX_MEMBERS:,} are allowed in one table"
        )
    paths = {member.path for member in source.members}
    for path in sorted(paths):
        parts = path.split("/")
        if max(len(part.encode()) for part in parts) > _LONGEST_PART or any(
            "/".join(parts[:i]) in paths for i in range(1, len(parts))
        ):
            return GeoAssetsError(
                "UNSAFE_PATH",
                f"{path!r} cannot be a file: a part of its path is too long, or a file itself",
                remedy="rename it, upload it again, then submit again",
            )
    return None


def output_ref(
    context: StageContext, job: JobRef, work: Work, container: str, *, content: str, ending: str, part: str = ""
) -> BlobRef:
    """Where a file that was made of a source, or of a part of it, lies in an output container. The name carries a hash
    of what was made: a published file is never overwritten with other bytes, whether the source, the parameters or the
    software are others, and what became the same again keeps its name, and with it its item.

    It carries the source's account and container too: of one collection several containers may hold the same path and
    bytes. It is made of plain names: GDAL and the clients of a catalogue do not open a `file://` URL with `%20` in it.
    The source's own name is the title of its item and stands in its receipt; two names that look alike when plain
    differ in their hashes, which are also of the source's path.

    Args:
        context: of the stage.
        job: whose output it is.
        work: the task, named after its source.
        container: of the output account.
        content: the hashes of all files of this kind that the task made.
        ending: of the file's name.
        part: the file's own name, if the task made several.
    """
    path, p = PurePosixPath(work.task_key), job.parameters_as(PublishContainer)
    folders = [plain_name(folder) for folder in path.parent.parts]
    digest = hashlib.sha256(f"{work.task_key} {content}".encode()).hexdigest()
    stem = plain_name(path.stem, length=_LONGEST_STEM)
    told = says_all("".join([*folders, stem]), str(path.parent / path.stem))  # each name of another script becomes `x`
    name = f"{stem}_{digest[: 8 if told else 16]}"
    file = f"{name}/{part}{ending}" if part else f"{name}{ending}"
    return BlobRef(
        context.settings.output_account,
        container,
        str(PurePosixPath(p.collection, p.account, p.container, *folders, file)),
    )


@dataclass(frozen=True, slots=True)
class Output:
    """A file that was made, and where it goes."""

    file: Path
    sha256: str
    ref: BlobRef


def upload_output(context: StageContext, output: Output, media_type: str) -> None:
    """Upload a file, unless it is in its place already: as it was announced, it is not swept meanwhile."""
    container, path = context.output_container(output.ref.container), output.ref.path
    there = container.head(path)
    if there is None or there.size != output.file.stat().st_size or container.sha256(path) != output.sha256:
        container.upload(output.file, path, media_type=media_type, cache_control=FOR_EVER)


def first_bytes(context: StageContext, refs: Iterable[BlobRef], length: int) -> Iterator[FirstBytes | None]:
    """What outputs begin with, in their order; None for one that is gone. A service is asked for several at a time: an
    answer takes it tens of milliseconds, whatever is asked.

    Raises:
        GeoAssetsError: what the store answers.
    """

    def ask(ref: BlobRef) -> FirstBytes | None:
        return context.output_container(ref.container).first_bytes(ref.path, length)

    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="first-bytes") as pool:
        for some in batched(refs, _ASKED):
            yield from pool.map(ask, some)


def fetch(context: StageContext, job: JobRef, work: Work, folder: Path) -> tuple[Path, tuple[FetchedFile, ...]]:
    """Copy a source and its sidecars, or a whole folder, into a private directory; returns the owner's path and the
    receipt of the input.
    """
    container = context.source_container(job)
    places, owner = _places(work, folder)
    fetched = []
    for member, local in zip(work.input.members, places, strict=True):
        local.parent.mkdir(parents=True, exist_ok=True)
        sha256 = container.download(member.path, local, etag=stored_etag(member.etag) or None)
        fetched.append(FetchedFile(path=member.path, size=member.size, etag=member.etag, sha256=sha256))
    return owner, tuple(fetched)


def _places(work: Work, folder: Path) -> tuple[list[Path], Path]:
    """The places of the members of a source in a private directory, and that of the source."""
    if work.kind == Kind.SCENE:
        return scene_places(work, folder), folder
    paths = [m.path for m in work.input.members]
    names = [path.rpartition("/")[2] for path in paths]
    if work.task_key not in paths:
        name = work.task_key.rstrip("/").rpartition("/")[2]
        whole = folder / (f"source{Path(name).suffix}" if len(name.encode()) > _LONGEST_NAME else name)
        return [whole / path_within(path, work.task_key) for path in paths], whole
    key = name_key(work.task_key)
    if max(len(name.encode()) for name in names) > _LONGEST_NAME:
        names = [
            f"source{name[len(key[1]) :]}" if name_key(path) == key else name
            for path, name in zip(paths, names, strict=True)
        ]
    own = [name_key(path) == key for path in paths]
    return [
        folder / name if is_own else folder / PRODUCT / name for name, is_own in zip(names, own, strict=True)
    ], folder / names[0]
