"""The inventory stage: list a container into the ledger, and say what each file is.

Here: listing, filtering, classification of a whole container in bounded memory. Not here: opening any file,
but for the directories of zips and the contents of GeoPackages (`storage/zips.py`, `storage/geopackages.py`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import psycopg

from geo_assets.errors import GeoAssetsError
from geo_assets.ledger.models import PlannedTask
from geo_assets.outcomes import INVENTORY, InputFile, ListingOutputs, TaskInput
from geo_assets.parameters import ListContainer, PublishContainer
from geo_assets.stages.bad_files import plan_tasks
from geo_assets.stages.context import StageContext
from geo_assets.stages.contracts import InventoryRef, JobRef
from geo_assets.stages.scenes import scenes_of, sources_in
from geo_assets.stages.stac_setup import record_single_task
from geo_assets.storage.blobs import Blob
from geo_assets.storage.containers import Container
from geo_assets.storage.foreign import CONVERTERS, not_read
from geo_assets.storage.kinds import Kind, is_packed
from geo_assets.storage.products import with_metadata
from geo_assets.storage.scenes import Scenes
from geo_assets.storage.sources import Member, Source, group_sources, why_ignored
from geo_assets.storage.zips import is_looked_into, look_into
from geo_assets.text import batched, how_many

STAGE = INVENTORY

#: Archives and GeoPackages that are looked into before their contents are recorded.
_LOOKED_INTO = 500

#: Kinds that no stage works on: they end here, in quarantine, so that every file is accounted for.
REFUSALS = {
    Kind.UNSUPPORTED: ("UNSUPPORTED_FORMAT", "is neither raster nor vector, by its name"),
    Kind.SIDECAR: ("ORPHAN_SIDECAR", "is a part of a file that is not there"),
}


def take_inventory(context: StageContext, job: JobRef) -> InventoryRef:
    """List the job's container again; globs are applied before the limit. The output containers are checked first.

    Raises:
        GeoAssetsError: CONTAINER_NOT_FOUND, of the sources or the outputs; STORAGE_FORBIDDEN; STORAGE_UNAVAILABLE;
            NOTHING_MATCHED, a container with files holds none that was asked for, or one with rasters no scene.
    """
    if job.stood_aside:
        return InventoryRef(job=job, files=0, bytes=0, sources={})
    ingests = isinstance(job.parameters, PublishContainer)
    if ingests:
        context.ensure_outputs()
    ignored = _list(context, job)
    if ingests:
        _look_behind_etags(context, job)
        _look_inside(context, job)
    files, size = context.inventory.totals(job.job_id)
    if not files:
        insist_on_a_match(context.source_container(job), job.parameters_as(ListContainer))
    kinds: Counter[str] = Counter()

    def refused() -> Iterator[PlannedTask]:
        for source in sources_of(context, job):
            kinds[source.kind] += 1
            if source.kind in REFUSALS:
                yield refused_by_name(source)

    if ingests:
        plan_tasks(context, job, STAGE, refused())
    else:
        kinds.update(source.kind for source in sources_of(context, job))
        listed = ListingOutputs(files=files, bytes=size, sources=dict(kinds), ignored=ignored)
        record_single_task(context, job, STAGE, listed)
    limit = job.parameters_as(ListContainer).limit
    every = sources_in(context.inventory.members(job.job_id), job.parameters)
    worked_on = (s for s in every if s.kind is not Kind.COMPANION)
    truncated = limit is not None and len(list(islice(worked_on, limit + 1))) > limit
    if not ingests:
        context.complete(job)  # the listing is all that it was asked for
    return InventoryRef(job=job, files=files, bytes=size, ignored=ignored, sources=dict(kinds), truncated=truncated)


def _list(context: StageContext, job: JobRef) -> int:
    """Write the listing into the ledger; returns how many files were left out. If the store fails meanwhile, it is
    listed again.
    """
    container, asked = context.source_container(job), job.parameters_as(ListContainer)

    def replace(*, exact: bool = False) -> int:
        ignored = 0

        def pages() -> Iterator[list[tuple[Blob, str | None]]]:
            nonlocal ignored
            for page in container.list(asked.prefix, exact=exact, everything=True):
                told = [(b, b.ignored or why_ignored(b.path, asked.include, asked.exclude)) for b in page]
                ignored += sum(why is not None for _, why in told)
                yield told

        context.inventory.replace(job.job_id, pages())
        return ignored

    def listed() -> int:
        try:
            return replace()
        except psycopg.errors.UniqueViolation:  # `/a` and `a`, listed under one name
            return replace(exact=True)

    if not container.exists():
        raise GeoAssetsError("CONTAINER_NOT_FOUND", f"there is no container {container}")
    return context.patience(container.alias, listed)


def insist_on_a_match(container: Container, asked: ListContainer) -> None:
    """Refuse a prefix or globs that match nothing: a misspelt prefix must not look like a finished delivery. A
    container without any file is a success.

    Raises:
        GeoAssetsError: NOTHING_MATCHED.
    """
    wanted = {"prefix": asked.prefix, "include": list(asked.include), "exclude": list(asked.exclude)}
    named = [f"{name} {value!r}" for name, value in wanted.items() if value]
    if named and not asked.allow_empty and any(page for page in container.list("")):
        raise GeoAssetsError(
            "NOTHING_MATCHED", f"nothing in {asked.account}/{asked.container} matches {', '.join(named)}"
        )


def _insist_on_a_scene(sources: list[Source], scenes: Scenes, asked: ListContainer) -> None:
    """Refuse an expression, or globs of assets, that make a scene of no raster: misspelt, it must not look as if each
    file were meant to be an item of its own. A container without a raster is a success.
    """
    rasters = [s.path for s in sources if s.kind is Kind.RASTER and not s.is_folder]
    if asked.allow_empty or not rasters or any(s.kind is Kind.SCENE for s in sources):
        return
    wanted = f"id_regex {scenes.id_regex!r}" + (" and a glob of assets" if scenes.assets else "")
    raise GeoAssetsError(
        "NOTHING_MATCHED",
        f"no raster in {asked.account}/{asked.container} matches {wanted}; there is {rasters[0]}, for example",
    )


def described(inventory: InventoryRef) -> str:
    """The listing in one line."""
    if inventory.job.stood_aside:
        return "nothing was listed: another run owns the job"
    p = inventory.job.parameters_as(ListContainer)
    kinds = (
        ", ".join(f"{count:,} {kind}" for kind, count in sorted(inventory.sources.items()))
        or "nothing that the submission asks for"
    )
    more = f"; {how_many(inventory.ignored, 'file')} left alone" if inventory.ignored else ""
    return f"{p.account}/{p.container}: {how_many(inventory.files, 'file')}, {inventory.bytes:,} bytes: {kinds}{more}"


def _look_behind_etags(context: StageContext, job: JobRef) -> None:
    """Mark files that were rewritten behind an unchanged etag; with `verify_sources` they are looked for."""
    container = context.source_container(job)
    if container.etags_are_proof:
        return
    context.inventory.mark_rewritten(job.job_id, container.alias, container.name)
    if not context.jobs.verifies_sources(job.run_id):
        return

    def verify(made_from: tuple[str, str]) -> None:
        path, sha256 = made_from
        try:
            now = container.sha256(path)
        except GeoAssetsError as error:
            if error.code in {"SOURCE_GONE", "STORAGE_FORBIDDEN"}:
                return  # the stage that reads it will say so
            raise
        if now != sha256:
            context.inventory.note_rewritten(job.job_id, container.alias, container.name, path, now)

    with ThreadPoolExecutor(context.settings.workers, thread_name_prefix="verify") as threads:
        list(threads.map(verify, context.inventory.made_from(job.job_id)))
    context.inventory.mark_rewritten(job.job_id, container.alias, container.name)


def _look_inside(context: StageContext, job: JobRef) -> None:
    """Find out what each archive and GeoPackage holds, which decides the stages that take it."""
    container = context.source_container(job)
    several = (member for member in context.inventory.by_path(job.job_id) if is_looked_into(member.path))
    for batch in batched(several, _LOOKED_INTO):
        context.inventory.note_contents(job.job_id, list(look_into(container, batch)))


def refused_by_name(source: Source) -> PlannedTask:
    """The task of a source of a kind in `REFUSALS`: it ends here."""
    code, sentence = REFUSALS[source.kind]
    if called := not_read(source.path):
        sentence = f"is {called} by its name, which is not read here"
    elif is_packed(source.path):
        sentence = "is packed in a way that is not unpacked here"
    error = GeoAssetsError(
        code, f"{source.path} {sentence}", remedy=_remedy(source) if source.kind is Kind.UNSUPPORTED else None
    )
    return PlannedTask(
        task_key=source.path,
        kind=source.kind,
        fingerprint="refused by name",
        input=task_input(source),
        error=error.to_dict(),
    )


def _remedy(source: Source) -> str:
    if called := not_read(source.path):
        return CONVERTERS[called]
    if is_packed(source.path):
        return "unpack it and upload what is in it, or pack it as .zip, .tar or .tar.gz"
    ending = source.path.rpartition("/")[2].rpartition(".")[2]
    globs = f"*.{ending}" if ending.isalnum() else source.path
    return (
        "if it is data, convert it to a format that is read (docs/formats.md) and upload that; if not: --param"
        f" 'exclude={globs}' leaves it out"
    )


def task_input(source: Source) -> TaskInput:
    """The input of a source's task."""
    return TaskInput(members=tuple(InputFile(path=m.path, size=m.size, etag=m.etag) for m in source.members))


def sources_of(context: StageContext, job: JobRef) -> Iterator[Source]:
    """The sources that the job works on, in path order, within its limit; and the companions among them, which do not
    count.

    Raises:
        GeoAssetsError: NOTHING_MATCHED, as `take_inventory`.
    """
    members, metadata = context.inventory.members(job.job_id), context.inventory.product_metadata(job.job_id)
    return sources_among(members, metadata, job.parameters_as(ListContainer))


def sources_among(members: Iterable[Member], metadata: Iterable[Member], asked: ListContainer) -> Iterator[Source]:
    """As `sources_of`, of any listing: as many sources as the limit allows, each with the other files that it is read
    with as its last members: they are fetched with it, and it is made again where one of them changes.

    Args:
        members: in the order of `name_key`, then of their paths.
        metadata: those of them for which `is_product_metadata` is true.
        asked: the parameters of the job.

    Raises:
        GeoAssetsError: NOTHING_MATCHED, scenes are asked for and there are rasters, but no scene.
    """
    sources, scenes = group_sources(members), scenes_of(asked)
    if scenes is None:
        return with_metadata(within(sources, asked.limit), metadata)
    grouped = scenes.grouped(with_metadata(sources, metadata))
    _insist_on_a_scene(grouped, scenes, asked)
    return within(grouped, asked.limit)


def within(sources: Iterable[Source], limit: int | None) -> Iterator[Source]:
    """As many sources as a job's limit allows, and the companions among them."""
    left = math.inf if limit is None else limit
    for source in sources:
        left -= source.kind is not Kind.COMPANION
        if left < 0:
            return
        yield source
