"""Proof: that a file is a whole, well-formed COG, and that a COG holds what its source holds.

Here: `validate_cog` for any file, `compare` for a copy and its source. Both name what is wrong, in words.
Not here: making or mending.

rio-cogeo and GDAL's own validator look at the order of the file and never at a pixel: a COG cut off at 70 % passes one, flipped
bytes pass both. So every block of every level is decoded, and what carries a checksum, a frame or a stamp is checked against it.
"""

from __future__ import annotations

import math
import queue
import struct
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from rasterio.crs import CRS

from geo_assets.errors import GeoAssetsError
from geo_assets.raster import cogfile, gdal, tiff
from geo_assets.raster.georeference import dataset_crs, same_crs, same_transform
from geo_assets.raster.inspect import driver_of, refuse_disguised_sidecars, refuse_foreign_overviews
from geo_assets.raster.models import ValidateReport, ValidateRequest
from geo_assets.raster.pixels import Bools, Measurement, Piece, Pixels, canonical, measure_piece, own_mask, pieces, tile_digest, tiles_of

#: Tags that describe the file or its making, not the data.
_NOT_DATA = ("STATISTICS_", "OVR_RESAMPLING_ALG", "AREA_OR_POINT")

#: Windows with different pixels that are named before the comparison stops.
_MAX_DIFFERENCES = 3

T = TypeVar("T")
R = TypeVar("R")


def validate(request: ValidateRequest) -> ValidateReport:
    """`validate_cog`, as it is called in the sandbox.

    Raises:
        GeoAssetsError: see there.
    """
    path = Path(request.source)
    problems = validate_cog(path, request.threads)
    return ValidateReport(problems=tuple(problems), stamped=not problems and cogfile.PIXELS_ITEM in _tags(path))


def _tags(path: Path) -> dict[str, str]:
    with gdal.open_raster(path) as dataset:
        tags: dict[str, str] = dataset.tags()
    return tags


def validate_cog(path: Path, threads: int = 1) -> list[str]:
    """What is wrong with a file as a COG; empty if nothing is. Every block of every level is read.

    Raises:
        GeoAssetsError: the file is not a TIFF, or names another file as its overviews.
    """
    path = Path(path)
    with gdal.session() as log:
        if driver_of(path) != "GTiff":
            return [f"{path.name} is not a TIFF"]
        try:
            with gdal.open_raster(path) as dataset:
                refuse_foreign_overviews(dataset, path)
            refuse_disguised_sidecars(path)
            problems = structure(path)
            problems += tiff.bad_checksums(path, tiff.read_layout(path), threads)
            if not problems:
                hashes, problems = level_hashes(path, threads)
                problems = problems or stamp_problems(path, hashes)
        except gdal.GDAL_ERRORS as error:
            return [gdal.reason(error, path)]
        except (tiff.LayoutError, ValueError, struct.error) as error:
            return [str(error)]
        damage = log.damage()
        return problems or ([damage] if damage else [])


def structure(path: Path) -> list[str]:
    """What is wrong with the order of the file: rio-cogeo's rules, strictly, and the place and frame of every block.

    Raises:
        tiff.LayoutError: the directories cannot be followed.
    """
    from rio_cogeo.cogeo import cog_validate

    layout = tiff.read_layout(path)
    problems = tiff.cut_off(layout)
    if problems:
        return problems
    _, errors, warnings = cog_validate(path.absolute(), strict=True, quiet=True)
    return [*errors, *warnings, *tiff.bad_frames(path, layout)]


def level_hashes(path: Path, threads: int = 1, first_level: int = 0) -> tuple[list[str], list[str]]:
    """Decode every block: the pixel hash of each level (0 is full resolution), and what does not decode."""
    with gdal.open_raster(path) as dataset:
        levels = len(dataset.overviews(1))
    hashes, problems = [], []
    for level in range(first_level, levels + 1):
        options: dict[str, Any] = {} if level == 0 else {"OVERVIEW_LEVEL": level - 1}
        try:
            hashes.append(_level_hash(path, options, threads))
        except gdal.GDAL_ERRORS as error:
            problems.append(f"level {level} does not decode: {gdal.reason(error, path)}")
    return hashes, problems


def _level_hash(path: Path, options: dict[str, Any], threads: int) -> str:
    """The hash of a level; each thread has a dataset of its own, so that it is also the one that decodes."""
    opened = queue.SimpleQueue[Any]()
    with ExitStack() as stack:
        for _ in range(threads):
            opened.put(stack.enter_context(gdal.open_raster(path, sharing=False, **options)))
        dataset = opened.get()
        parts, measurement, count = list(pieces(dataset, tiles=1)), Measurement.of(dataset), dataset.count
        opened.put(dataset)

        def digests(piece: Piece) -> list[bytes]:
            dataset = opened.get()
            try:
                data, mask = dataset.read(list(piece.bands), window=piece.window), own_mask(dataset, piece.window)
            finally:
                opened.put(dataset)
            last = mask if piece.bands[-1] == count else None
            return [tile_digest(data[:, r, c], None if last is None else last[r, c]) for r, c in tiles_of(piece)]

        pool = stack.enter_context(ThreadPoolExecutor(threads, initializer=gdal.enter_thread))
        for some in batched_map(pool, digests, parts, ahead=2 * threads):
            for digest in some:
                measurement.add_digest(digest)
    return measurement.sha256()


def batched_map(pool: ThreadPoolExecutor, function: Callable[[T], R], items: Iterable[T], ahead: int) -> Iterator[R]:
    """`map` in order, with a bounded number of items in the works."""
    pending = deque[Future[R]]()
    for item in items:
        pending.append(pool.submit(function, item))
        if len(pending) > ahead:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()


def stamp_problems(path: Path, hashes: list[str]) -> list[str]:
    """Whether a COG with a stamp still has the pixels and the header that it was made with; nothing where there is none."""
    tags = _tags(path)
    pixels, sealed = tags.get(cogfile.PIXELS_ITEM), tags.get(cogfile.SEAL_ITEM)
    problems = []
    if pixels and pixels != hashes[0]:
        problems.append(f"its pixels are not those that it was made with: their SHA-256 is {hashes[0]}, its metadata says {pixels}")
    if sealed:
        with path.open("rb") as file:
            header = file.read(cogfile.read_header(path)[1])
        if cogfile.seal(cogfile.unsealed(header, sealed), hashes[1:]) != sealed:
            problems.append("its header or its overviews are not those that it was made with")
    return problems


def compare(source: Any, cog: Any, *, crs: CRS | None = None, measurement: Measurement | None = None) -> list[str]:
    """In what a COG differs from the dataset it was copied from; empty if in nothing that is data.

    Args:
        source: the open dataset that was copied, itself or by way of a staged file.
        cog: the open COG.
        crs: the CRS that was given to a source without one.
        measurement: of `cog`; fed with every piece that is read.
    """
    problems = list(metadata_differences(source, cog, crs or dataset_crs(source)))
    if (source.width, source.height, source.count, source.dtypes) != (cog.width, cog.height, cog.count, cog.dtypes):
        return problems  # there is nothing to hold side by side
    return problems + _pixel_differences(source, cog, measurement)


def metadata_differences(source: Any, cog: Any, crs: CRS | None) -> Iterator[str]:
    """In what the metadata of a COG differs from its source's, `crs` being the one that it should have."""
    for fact in ("width", "height", "count", "dtypes", "scales", "offsets", "units", "descriptions", "mask_flag_enums"):
        ours, theirs = getattr(cog, fact), getattr(source, fact)
        if ours != theirs:
            yield f"{fact} {_short(ours)} instead of {_short(theirs)}"
    if not same_crs(crs, dataset_crs(cog)):
        yield f"CRS {_short(cog.crs)} instead of {_short(crs)}"
    if not same_transform(source.transform, cog.transform, source.width, source.height):
        yield f"transform {tuple(cog.transform)[:6]} instead of {tuple(source.transform)[:6]}"
    if not _same_number(source.nodata, cog.nodata):
        yield f"nodata {cog.nodata} instead of {source.nodata}"
    if _gcps(source) != _gcps(cog):
        yield "ground control points differ"
    if bool(source.rpcs) != bool(cog.rpcs):
        yield "rational polynomials are lost"
    yield from _colour_differences(source, cog)
    if source.tags().get("AREA_OR_POINT", "Area") != cog.tags().get("AREA_OR_POINT", "Area"):
        yield "AREA_OR_POINT differs"


def _colour_differences(source: Any, cog: Any) -> Iterator[str]:
    ours, theirs = [c.name for c in cog.colorinterp], [c.name for c in source.colorinterp]
    if theirs[0] == "undefined" and ours[0] == "gray":
        theirs[0] = "gray"  # the least that the first band of a TIFF can be
    if ours != theirs:
        yield f"colours {_short(tuple(ours))} instead of {_short(tuple(theirs))}"
    for band in source.indexes[: cog.count]:
        if source.colorinterp[band - 1].name == "palette" and _colours(source, band) != _colours(cog, band):
            yield f"the colours of band {band} differ"


def lost_metadata(source: Any, cog: Any) -> list[str]:
    """Items of the default domain, of the dataset and each band, that a COG has not or has otherwise: a note, not a fault."""
    notes = []
    for band in (0, *source.indexes[: cog.count]):
        ours, theirs = _data_tags(cog.tags(band)), _data_tags(source.tags(band))
        if lost := sorted(key for key, value in theirs.items() if ours.get(key) != value):
            notes.append(f"metadata of {f'band {band}' if band else 'the dataset'} is not carried over: {_short(', '.join(lost))}")
    return notes


def _data_tags(tags: dict[str, str]) -> dict[str, str]:
    return {key: value.strip() for key, value in tags.items() if not key.startswith(_NOT_DATA)}


def _gcps(dataset: Any) -> list[tuple[float, ...]]:
    """Positions only: a TIFF holds no names of points."""
    return [(p.row, p.col, p.x, p.y, p.z or 0.0) for p in dataset.gcps[0]]


def _colours(dataset: Any, band: int) -> dict[int, tuple[int, ...]]:
    """The colour table, without the black that fills it up to 256 entries."""
    return {value: colour for value, colour in dataset.colormap(band).items() if colour != (0, 0, 0, 255)}


def _same_number(a: float | None, b: float | None) -> bool:
    return a == b or (a is not None and b is not None and math.isnan(a) and math.isnan(b))


def _short(value: Any) -> str:
    text = ", ".join(str(v) for v in value) if isinstance(value, tuple) else str(value)
    return text if len(text) <= 120 else text[:119] + "…"


def _pixel_differences(source: Any, cog: Any, measurement: Measurement | None) -> list[str]:
    problems: list[str] = []
    for piece in pieces(cog):
        theirs = source.read(list(piece.bands), window=piece.window)
        ours = cog.read(list(piece.bands), window=piece.window)
        mask = own_mask(cog, piece.window)
        if measurement is not None:
            for tile in measure_piece(cog, piece, ours, mask):
                measurement.add(tile)
        place = f"in rows {piece.window.row_off:,} to {piece.window.row_off + piece.window.height - 1:,}"
        if differing := _differing(theirs, ours):
            problems.append(f"{differing:,} pixels differ {place}")
        if not _same_mask(own_mask(source, piece.window), mask):
            problems.append(f"the mask differs {place}")
        if len(problems) >= _MAX_DIFFERENCES:
            break
    return problems


def _same_mask(a: Bools | None, b: Bools | None) -> bool:
    """Whether two masks of their own are equal; where one is missing, `mask_flag_enums` differ already."""
    return a is None or b is None or np.array_equal(a, b)


def _differing(a: Pixels, b: Pixels) -> int:
    """Pixels that differ in any bit; all NaNs are one."""
    a_bits, b_bits = _bits(a), _bits(b)
    if np.array_equal(a_bits, b_bits):
        return 0
    return int(np.count_nonzero(_bits(canonical(a)) != _bits(canonical(b))))


def _bits(values: Pixels) -> Pixels:
    if values.dtype.kind == "c":
        values = values.view(values.real.dtype)
    return values.view(f"u{values.dtype.itemsize}")


def raise_for(name: str, problems: list[str]) -> None:
    """Fail where there are problems.

    Raises:
        GeoAssetsError: COG_VALIDATION_FAILED, which names them.
    """
    if problems:
        raise GeoAssetsError("COG_VALIDATION_FAILED", f"the COG of {name} is not right: {'; '.join(problems)}")
