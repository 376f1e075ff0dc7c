"""One raster becomes a validated COG: passed through, with blocks of the source, written in one pass or by GDAL's COG
driver; then proof, then a report.

Here: `convert`, the one door, and the order of the steps. It runs in the sandboxed child.
Not here: each step (`inspect.py`, `origin.py`, `profiles.py`, `kept_blocks.py`, `onepass.py`, `reproject.py`,
`comparison.py`, `validate.py`, `report.py`, `thumbnail.py`).

Never rio-cogeo's `cog_translate`, which goes through a WarpedVRT and so changes pixels under masks, drops GCPs and
shifts georeferencing. Not the driver's option STATISTICS=YES either, whose numbers ignore masks and alpha: statistics
are summed up while pixels are written or compared.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import rasterio.shutil
from rasterio.crs import CRS

from geo_assets.errors import GeoAssetsError
from geo_assets.raster import cog_driver, cogfile, domains, gdal, kept_blocks, onepass, tiff
from geo_assets.raster.checkpoint import Checkpoint, KeptIsWrongError
from geo_assets.raster.codecs import Codec, compressors
from geo_assets.raster.comparison import Loss, compare, lost_metadata, metadata_differences
from geo_assets.raster.file_hash import FileHash
from geo_assets.raster.footprint import refuse_off_earth
from geo_assets.raster.gdal import numpy_dtype
from geo_assets.raster.georeference import dataset_crs, same_crs
from geo_assets.raster.inspect import RasterInfo, inspect
from geo_assets.raster.kept_cog import KeptCog
from geo_assets.raster.models import ConvertReport, ConvertRequest, Georeferencing, OverviewLoss
from geo_assets.raster.origin import STAGED, Origin, Task, origin_of, refuse_unreadable_pixels
from geo_assets.raster.pixels import Measurement, has_own_mask, measured
from geo_assets.raster.profiles import DEFAULT, OF_CODES, PROFILES, choose_profile
from geo_assets.raster.progress import Progress
from geo_assets.raster.report import captured, describe, grown, hash_of, software, still_turned, turned
from geo_assets.raster.reproject import materialise, needs_mask, outline, unite_validity, unites, warped
from geo_assets.raster.thumbnail import write_thumbnail
from geo_assets.raster.validate import (
    level_hashes,
    likeness_of,
    not_as_written,
    raise_for,
    stale_overviews,
    stamp_problems,
    structure,
)
from geo_assets.raster.workers import workers

#: What GDAL and the C library say of a full disk, a quota or the sandbox's limit on the size of a file.
_DISK_FULL = (
    "No space left",
    "File too large",
    "quota",
    "Write error",
    "write error",
    "Cannot write",
    "TIFFAppendToStrip",
)


@dataclass(frozen=True, slots=True)
class _Proof:
    """What was measured of a COG that was compared with its source."""

    measurement: Measurement
    loss: Loss | None = None
    kept_blocks: OverviewLoss | None = None
    passed_through: bool = False
    resumed: float = 0.0
    cog: Any = None  # where it is open already
    sha256: str = ""  # of its file, where that is known already


class _TooFarError(Exception):
    """A lossy copy deviates further from its source than its profile allows."""


def convert(request: ConvertRequest) -> ConvertReport:
    """Write the COG (and thumbnail) that is requested, or raise and leave nothing.

    Raises:
        GeoAssetsError: UNREADABLE, UNSUPPORTED_FORMAT, RASTER_SUBDATASETS, RASTER_UNSUPPORTED, RASTER_NO_CRS,
            INVALID_CRS, INVALID_PARAMETERS, TOO_LARGE, DISK_FULL, COG_VALIDATION_FAILED.
        MemoryError: the memory limit is too small for this file.
    """
    started = time.monotonic()
    destination = Path(request.destination)
    with gdal.session() as log, _private_directory(destination.parent) as work:
        info = inspect(Path(request.source))
        profile = choose_profile(info, request.profile, request.resampling)
        decoded = info.width * info.height * info.count * numpy_dtype(info.dtype).itemsize
        progress = Progress(Path(request.progress) if request.progress else None, decoded)
        layout = _sound_layout(info, request.threads)
        task = Task(request, info, profile, work, list(info.notes), log, layout, progress)
        task, proof = _made(task, origin_of(task))
        with proof.cog or gdal.open_raster(task.made) as cog:
            report = _described(task, proof, cog)
            if request.thumbnail:
                write_thumbnail(cog, info.kind, work / "thumbnail.png")
        report = replace(report, seconds=round(time.monotonic() - started, 3))
        _publish(work, request)
    return report


@contextmanager
def _private_directory(parent: Path) -> Iterator[Path]:
    """A directory on the destination's file system; nothing in it outlives the conversion, whatever happens."""
    work = Path(tempfile.mkdtemp(prefix=".cog-", dir=parent))
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _publish(work: Path, request: ConvertRequest) -> None:
    """Publish the COG last: where it exists, everything else does."""
    if request.thumbnail:
        shutil.move(work / "thumbnail.png", request.thumbnail)
    (work / "cog.tif").replace(request.destination)


def _sound_layout(info: RasterInfo, threads: int) -> tiff.Layout | None:
    """Return the layout of a TIFF; None for any other format.

    Refuses what GDAL would read without an error: blocks beyond the end, DEFLATE blocks that do not match their
    checksum.
    """
    if info.driver != "GTiff":
        return None
    try:
        layout = tiff.read_layout(info.path)
        cut = tiff.cut_off(layout)
    except tiff.LayoutError as error:
        raise gdal.unreadable(info.path, info.driver, str(error)) from error
    if cut:
        remedy = f"upload it again, whole (what is there has {layout.size:,} bytes), then submit again"
        raise gdal.unreadable(info.path, info.driver, "; ".join(cut), remedy=remedy)
    if wrong := tiff.bad_checksums(info.path, layout, threads):
        raise gdal.unreadable(info.path, info.driver, "; ".join(wrong))
    return layout


def _with_crs(task: Task, origin: Origin) -> Origin:
    """Make a copy with the given CRS; pixels and everything else are unchanged."""
    path = task.work / "assigned.tif"
    options = {**STAGED, **domains.copied_by_gdal(task.info), "NUM_THREADS": str(task.request.threads)}
    with gdal.reading(task.info.path, task.info.driver), gdal.open_raster(origin.path, origin.driver) as dataset:
        rasterio.shutil.copy(dataset, path, driver="GTiff", **options)
    onepass.assign_crs(path, origin.crs)
    return replace(origin, path=path, driver="GTiff", assigned=False)


def _made(task: Task, origin: Origin) -> tuple[Task, _Proof]:
    """Write the COG and prove it; once more, by the default profile, where a lossy one does not come near the pixels:
    return the task as it was done.
    """
    told = len(task.notes)
    try:
        return task, _make(task, origin)
    except _TooFarError as error:
        del task.notes[told:]
        task = replace(task, profile=choose_profile(task.info, resampling=task.request.resampling))
        return task, _make(task, origin, f": {error}")


def _make(task: Task, origin: Origin, why: str = "") -> _Proof:
    """Write the COG and prove it, with the source's own blocks where that is asked for, by the one-pass writer where
    possible, else by GDAL's driver; return what was measured. `why` the profile that was asked for is not taken.

    Raises:
        _TooFarError: a lossy profile does not suit these pixels.
        GeoAssetsError: COG_VALIDATION_FAILED; UNREADABLE; INVALID_CRS; RASTER_UNSUPPORTED; DISK_FULL.
    """
    if not origin.target and (proof := _passed_through(task, origin)):
        return proof
    if task.request.keep_lossy and (proof := _with_kept_blocks(task, origin)):
        return proof
    if (asked := task.request.profile) and task.profile.name != asked:
        task.notes.append(f"the profile {asked} does not suit its pixels{why}; written as {task.profile.name}")
    if origin.target:
        return _reprojected(task, origin, origin.target)
    with task.open(origin) as dataset:
        if origin.crs or task.info.georeferencing is Georeferencing.RPCS:
            refuse_off_earth(dataset, task.name, origin.crs)
        if onepass.suits(dataset, task.info, task.profile):
            return _in_one_pass(task, origin, dataset, dataset)
    return _by_gdal(task, origin)


def _reprojected(task: Task, origin: Origin, target: CRS) -> _Proof:
    """Write the source in another CRS: its warped view by the one-pass writer where possible, else by way of a staged
    file.
    """
    origin = _united(task, _with_crs(task, origin) if origin.assigned else origin)
    staged = task.work / "warped.tif"
    with task.open(origin) as dataset:
        task.notes.extend(cog_driver.not_warped(dataset, task.work))
        refuse_off_earth(dataset, task.name)
        with (
            gdal.reading(task.info.path, task.info.driver),
            warped(dataset, task.info, target, task.request, task.notes) as view,
        ):
            there = Origin(staged, "GTiff", target)
            if not (needs_mask(dataset) or has_own_mask(view)) and onepass.suits(view, task.info, task.profile):
                outline(dataset, view, staged)
                with gdal.open_raster(staged) as one_pixel:
                    return _in_one_pass(task, there, view, one_pixel)
            materialise(dataset, view, staged, task.info.nodata)
    with gdal.open_raster(staged) as dataset:
        if onepass.suits(dataset, task.info, task.profile):
            return _in_one_pass(task, there, dataset, dataset)
    return _by_gdal(task, there)


def _united(task: Task, origin: Origin) -> Origin:
    """Make a copy in which a mask or an alpha band alone marks valid pixels, where the source has a mask and nodata or
    alpha.
    """
    path = task.work / "united.tif"
    with gdal.reading(task.info.path, task.info.driver), task.open(origin) as dataset:
        if not unites(dataset):
            return origin
        unite_validity(dataset, path)
    return replace(origin, path=path, driver="GTiff")


def _passed_through(task: Task, origin: Origin) -> _Proof | None:
    """Copy the source byte for byte where it is a good COG already, lossless or not; return None where it is not.

    A good COG validates, has the layout of a COG, fits the requested profile (if any), and its overviews match its
    pixels; by which method they were made, it does not say.
    """
    alone = not any(
        p.name != task.name
        for p in task.info.path.parent.iterdir()
        if p.name.lower().startswith(task.info.path.stem.lower())
    )
    layout = task.layout
    if not alone or origin.assigned or layout is None or not layout.ghost or not layout.directories:
        return None
    if task.request.resampling in OF_CODES and len(layout.pyramid()) > 1:
        return None
    if task.request.profile and layout.directories[0].compression != tiff.CODES.get(task.profile.compress):
        return None
    if structure(task.info.path) or stale_overviews(task.info.path):
        return None
    likeness = likeness_of(task.info.path)
    hashes, problems = level_hashes(task.info.path, task.request.threads, first_level=1, likeness=likeness)
    if problems or task.log.messages:
        return None
    shutil.copyfile(task.info.path, task.made)
    with gdal.reading(task.info.path, task.info.driver), gdal.open_raster(task.made) as cog:
        if origin.crs:
            refuse_off_earth(cog, task.name)
        measurement = measured(cog, likeness.full(cog))
    if likeness.stale(measurement.bands):
        return None
    if problems := stamp_problems(task.made, [measurement.sha256(), *hashes]):
        raise gdal.unreadable(task.info.path, "GTiff", "; ".join(problems))
    return _Proof(measurement, passed_through=True)


def _with_kept_blocks(task: Task, origin: Origin) -> _Proof | None:
    """Write a COG that has the JPEG blocks of the source; return None, with a note, where the grid is not suited."""
    info, layout = task.info, task.layout
    if not kept_blocks.lossy(info, layout):
        return None
    why = "it is reprojected" if origin.target else kept_blocks.unsuited(info, layout, task.request.resampling)
    if why or layout is None:
        task.notes.append(f"keep_lossy does not keep its blocks: {why}")
        return None
    with task.open(origin) as dataset:
        if origin.crs or info.georeferencing is Georeferencing.RPCS:
            refuse_off_earth(dataset, task.name, origin.crs)
        with gdal.reading(info.path, info.driver):
            half = kept_blocks.halved(dataset, task.work, task.progress.written)
        with _writing(task, origin):
            reduced = kept_blocks.overviews(dataset, half, task.request.threads)
            crs = origin.crs if origin.assigned else None
            options = cog_driver.metadata_options(task, origin)
            skeleton = onepass.skeleton(dataset, task.work, PROFILES[DEFAULT], options, crs)
            skeleton = cogfile.holding(skeleton, info.embedded)
            kept_blocks.write(task.made, info.path, layout, skeleton, reduced)
        task.notes.extend(cog_driver.names_left_behind(task.work))
        raise_for(task.name, [*reduced.problems, *_structure(task.made)])
        _, problems = level_hashes(task.made, task.request.threads, first_level=1)
        problems += kept_blocks.differing(task.made, info.path, layout)
        with task.open(replace(origin, path=task.made)) as cog:
            measurement = _compared(task, origin, dataset, cog, problems)
    return _Proof(measurement, kept_blocks=reduced.loss)


def _compared(
    task: Task, origin: Origin, source: Any, cog: Any, problems: list[str], loss: Loss | None = None
) -> Measurement:
    """Compare a COG with what it was copied from, and measure it; `problems` are what is known to be wrong already.

    Raises:
        _TooFarError: there is no other difference than by `loss`, which is too large.
        GeoAssetsError: COG_VALIDATION_FAILED; UNREADABLE, RASTER_UNSUPPORTED.
    """
    measurement = Measurement.of(cog)
    with gdal.reading(task.info.path, task.info.driver):
        problems += compare(
            source, cog, crs=origin.crs, measurement=measurement, loss=loss, progress=task.progress.proven
        )
        if damage := task.log.damage():
            raise gdal.unreadable(task.info.path, task.info.driver, damage)
        _refuse_a_crs_that_a_tiff_cannot_hold(task.name, origin, cog)
        task.notes.extend(lost_metadata(source, cog))
    raise_for(task.name, problems)
    if loss and (far := loss.problems()):
        raise _TooFarError("; ".join(far))
    return measurement


def _in_one_pass(task: Task, origin: Origin, dataset: Any, described: Any) -> _Proof:
    """Write the pixels of `dataset` with the metadata of `described`: itself, or its outline."""
    return _gone_on_with(task, lambda: _written_in_one_pass(task, origin, dataset, described))


def _gone_on_with(task: Task, attempt: Callable[[], _Proof]) -> _Proof:
    """Go on with what an earlier attempt has kept; begin anew where that cannot be proven, or has other metadata."""
    told = len(task.notes)
    with suppress(KeptIsWrongError):
        return attempt()
    del task.notes[told:]
    return attempt()  # nothing is kept any more


@contextmanager
def _doubting(kept: Checkpoint | None) -> Iterator[None]:
    """Make what an earlier attempt has kept the first suspect where a COG cannot be proven."""
    try:
        yield
    except GeoAssetsError as error:
        if kept is None or error.code != "COG_VALIDATION_FAILED":
            raise
        kept.forget()
        raise KeptIsWrongError from error


def _written_in_one_pass(task: Task, origin: Origin, dataset: Any, described: Any) -> _Proof:
    threads = task.request.threads
    with gdal.reading(task.info.path, task.info.driver):
        codec = onepass.choose_by_trial(dataset, task.profile)
    how: dict[str, Any] = {"sparse": task.profile.sparse, "resampling": task.profile.overview_resampling}
    checkpoint = _checkpoint(task, dataset, codec)
    with ExitStack() as opened, workers(1, threads) as beside, FileHash(beside) as sha256:
        with onepass.Pyramid(dataset, codec, task.work, threads, checkpoint, **how) as pyramid:
            with gdal.reading(task.info.path, task.info.driver):
                pyramid.run(task.progress.written)
            with _writing(task, origin):
                crs = origin.crs if origin.assigned else None
                options = cog_driver.metadata_options(task, origin)
                header = onepass.skeleton(described, task.work, task.profile, options, crs)
                place = pyramid.save(task.made, cogfile.holding(header, task.info.embedded), sha256.reached)
            task.notes.extend(cog_driver.names_left_behind(task.work))
            checks, measurement, resumed = pyramid.checks(), pyramid.measurement, pyramid.resumed
        cog = opened.enter_context(gdal.open_raster(place))
        problems = not_as_written(cog, checks, threads, task.progress.proven)
        _refuse_a_crs_that_a_tiff_cannot_hold(task.name, origin, cog)
        with gdal.reading(task.info.path, task.info.driver):  # its metadata, which may be no text
            differences = [*metadata_differences(described, cog, origin.crs, outline=described is not dataset)]
            task.notes.extend(lost_metadata(described, cog))
        with _doubting(checkpoint if resumed else None):
            raise_for(task.name, [*_structure(place), *problems, *differences])
        place.replace(task.made)
        opened.pop_all()  # for its description
        return _Proof(measurement, resumed=resumed, cog=cog, sha256=sha256.hexdigest())


def _checkpoint(task: Task, dataset: Any, codec: Codec) -> Checkpoint | None:
    """Return where progress is saved, for a raster that is large enough to need it."""
    request = task.request
    if request.kept is None or dataset.width * dataset.height <= request.chunk_pixels:
        return None
    return Checkpoint(Path(request.kept), _identity(task, dataset, f"{compressors()} {codec}"), request.chunk_pixels)


def _identity(task: Task, dataset: Any, how: str) -> str:
    """Return what tells the source, the way it is written, and who writes it from others."""
    grid = (dataset.width, dataset.height, dataset.count, tuple(dataset.transform), dataset.nodata)
    source = f"{task.info.path.stat().st_size} {task.info.dtype} {grid} {has_own_mask(dataset)}"
    return f"{software()} {source} {task.profile} {how}"


def _by_gdal(task: Task, origin: Origin) -> _Proof:
    """Let GDAL's driver write the COG, or take the one that an earlier attempt has kept, and prove it."""
    kept = _kept_cog(task, origin)
    if kept and (why := kept.refused()):
        raise _TooFarError(why)
    notes = kept.found() if kept else None
    resumed = notes is not None
    task.notes.extend(_written_by_gdal(task, origin, kept) if notes is None else notes)
    place = kept.path if kept else task.made
    overview_hashes, problems = level_hashes(place, task.request.threads, first_level=1)
    loss = None if task.profile.lossless else Loss(task.profile.max_error, task.profile.min_psnr)
    with (
        gdal.reading(task.info.path, task.info.driver),
        gdal.open_raster(origin.path, origin.driver) as source,
        gdal.open_raster(place) as cog,
        _refusing(kept),
    ):
        measurement = _compared(task, origin, source, cog, problems, loss)
    place.replace(task.made)
    cogfile.restamp(task.made, measurement.sha256(), overview_hashes, task.info.embedded)
    raise_for(task.name, _structure(task.made))
    return _Proof(measurement, loss, resumed=float(resumed))


def _written_by_gdal(task: Task, origin: Origin, kept: KeptCog | None) -> list[str]:
    """Write the COG, and keep it if it is to be kept; return what is to be noted of it."""
    origin = _with_crs(task, origin) if origin.assigned else origin  # it is compared with the source itself
    with (
        _writing(task, origin),
        gdal.open_raster(origin.path, origin.driver) as dataset,
        task.progress.by_driver(task.made),
    ):
        cog_driver.copy(task, origin, dataset)
    notes = [*cog_driver.names_left_behind(task.work), *cog_driver.left_behind(task.made)]
    if kept:
        kept.keep(task.made, notes)
    return notes


def _kept_cog(task: Task, origin: Origin) -> KeptCog | None:
    """Return where the COG of GDAL's driver is kept, for a raster that is large enough to need it."""
    request = task.request
    if request.kept is None:
        return None
    with gdal.reading(task.info.path, task.info.driver), gdal.open_raster(origin.path, origin.driver) as dataset:
        if dataset.width * dataset.height <= request.chunk_pixels:
            return None
        how = f"{origin.crs and origin.crs.to_wkt()} {origin.assigned} {cog_driver.metadata_options(task, origin)}"
        return KeptCog(Path(request.kept), _identity(task, dataset, how))


@contextmanager
def _refusing(kept: KeptCog | None) -> Iterator[None]:
    """Keep that a lossy profile does not suit, instead of its COG: the next attempt need not find that out again."""
    try:
        yield
    except _TooFarError as error:
        if kept:
            kept.refuse(str(error))
        raise


def _structure(path: Path) -> list[str]:
    try:
        return structure(path)
    except tiff.LayoutError as error:
        return [str(error)]


@contextmanager
def _writing(task: Task, origin: Origin) -> Iterator[None]:
    """Turn a failure to write into the right error: the disk's, the source's or ours."""
    try:
        yield
    except gdal.GDAL_ERRORS as error:
        refuse_unreadable_pixels(origin, task.info)
        why = gdal.reason(error, task.made)
        if any(words in why for words in _DISK_FULL):
            raise GeoAssetsError("DISK_FULL", f"no room for the COG of {task.name}: {why}") from error
        raise GeoAssetsError("INTERNAL", f"GDAL could not write the COG of {task.name}: {why}") from error


def _described(task: Task, proof: _Proof, cog: Any) -> ConvertReport:
    if damage := task.log.damage():
        raise gdal.unreadable(task.info.path, task.info.driver, damage)
    sha256 = proof.sha256 or hash_of(task.made)
    report = describe(task.info, cog, task.made, sha256, task.profile, proof.measurement)
    if not proof.passed_through:
        task.notes.extend(turned(task.layout))
    task.notes.extend(still_turned(task.request, cog))
    if not proof.passed_through and not proof.kept_blocks:
        task.notes.extend(grown(task.info, task.layout, task.profile, task.made, task.request.profile))
    task.notes.extend(domains.lost(task.info, cog))
    when = captured(task.request, task.info, task.notes)
    return replace(
        report,
        datetime=when.start if when else None,
        end_datetime=when.end if when else None,
        datetime_from=when.by if when else None,
        warnings=(*report.warnings, *task.notes, *task.log.messages),
        kept_blocks=proof.kept_blocks,
        passed_through=proof.passed_through,
        resumed=proof.resumed,
        max_error=proof.loss.largest if proof.loss else report.max_error,
    )


def _refuse_a_crs_that_a_tiff_cannot_hold(name: str, origin: Origin, cog: Any) -> None:
    """Refuse a CRS that GeoTIFF keys cannot express: another CRS would be read back, and coordinates be off by some
    metres.
    """
    if not same_crs(origin.crs, dataset_crs(cog)):
        raise GeoAssetsError(
            "RASTER_UNSUPPORTED",
            f"a GeoTIFF cannot hold the CRS of {name} exactly: {_name(origin.crs)} becomes {_name(dataset_crs(cog))}",
            remedy="submit with --param target_crs=EPSG:…, or write the file again with an EPSG code",
        )


def _name(crs: CRS | None) -> str:
    return crs.to_string()[:80] if crs else "none"
