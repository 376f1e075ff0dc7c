"""Proof: that a file is a whole, well-formed COG, and that a COG holds what its source holds.

Here: `validate_cog` for any file, `compare` for a copy and its source. Both name what is wrong, in words.
Not here: making or mending.

rio-cogeo and GDAL's own validator look at the order of the file and never at a pixel: a COG cut off at 70 % passes one,
flipped bytes pass both. So every block of every level is decoded, and what carries a checksum, a frame or a stamp is
checked against it.
"""

from __future__ import annotations

import math
import queue
import struct
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from rasterio.crs import CRS
from rasterio.windows import Window

from geo_assets.errors import GeoAssetsError
from geo_assets.raster import cogfile, gdal, tiff
from geo_assets.raster.georeference import dataset_crs, same_crs, same_transform
from geo_assets.raster.inspect import driver_of, refuse_disguised_sidecars, refuse_foreign_overviews
from geo_assets.raster.models import ValidateReport, ValidateRequest
from geo_assets.raster.pixels import (
    Bools,
    Measurement,
    Piece,
    Pixels,
    Validity,
    canonical,
    measure_piece,
    own_mask,
    pieces,
    tile_check,
    tile_digest,
    tiles_of,
)

#: Tags that describe the file or its making, not the data.
_NOT_DATA = ("STATISTICS_", "OVR_RESAMPLING_ALG", "AREA_OR_POINT")

#: Windows with different pixels that are named before the comparison stops.
_MAX_DIFFERENCES = 3

#: Pixels along a side beyond which tiles and overviews are asked for, and bytes within which the main directory must
#: begin: rio-cogeo's numbers.
_LARGE, _MAIN_WITHIN = 512, 300

#: Where a stamp is looked for if directories cannot be followed.
_HEADER_BYTES = 1 << 20

#: Where overviews are looked at, in parts of the grid, and pixels of each look along a side.
_PLACES = ((0.1, 0.1), (0.5, 0.5), (0.9, 0.9), (0.1, 0.9), (0.9, 0.1))
_LOOK = 64

#: Tiles read in one call: each call has its price, each tile takes memory.
_TILES_AT_ONCE = 4

#: Valid pixels, in parts of a look, that may vanish in an overview.
_FEW = 0.5

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
    """What is wrong with the order of the file: the rules of GDAL and, strictly, of rio-cogeo, and the place and frame
    of every block.

    They are few and their libraries slow to load; a test holds the answers against rio-cogeo's.
    https://gdal.org/en/stable/drivers/raster/cog.html#file-format

    Raises:
        tiff.LayoutError: the directories cannot be followed.
    """
    layout = tiff.read_layout(path)
    if not layout.directories:
        return ["it has no image"]
    return tiff.cut_off(layout) or [
        *_pyramid_problems(layout.pyramid()),
        *_order_problems(layout),
        *tiff.bad_frames(path, layout),
    ]


def _pyramid_problems(levels: list[tiff.Directory]) -> Iterator[str]:
    main = levels[0]
    if max(main.width, main.height) > _LARGE:
        if not main.tiled:
            yield f"it is larger than {_LARGE} pixels, but not tiled"
        if len(levels) == 1:
            yield f"it is larger than {_LARGE} pixels, but has no overviews"
    for finer, coarser in pairwise(levels):
        if not coarser.tiled and max(coarser.width, coarser.height) > _LARGE:
            yield f"{_level(coarser)} is larger than {_LARGE} pixels, but not tiled"
        if (
            coarser.width > finer.width
            or coarser.height > finer.height
            or (coarser.width, coarser.height) == (finer.width, finer.height)
        ):
            yield f"{_level(coarser)} is not smaller than the level before it"


def _order_problems(layout: tiff.Layout) -> Iterator[str]:
    levels = layout.pyramid()
    if layout.ghost.get("KNOWN_INCOMPATIBLE_EDITION") == "YES":
        yield "it was a COG once, but has been edited since"
    if levels[0].at > _MAIN_WITHIN:
        yield f"its main directory is at byte {levels[0].at:,}, not at the start"
    for finer, coarser in pairwise(levels):
        if coarser.at < finer.at:
            yield f"the directory of {_level(coarser)} is before that of the level before it"
    starts = [(level, int(level.offsets[level.counts > 0][0])) for level in levels if (level.counts > 0).any()]
    for level, start in starts:
        if start < level.at:
            yield f"the first block of {_level(level)} is before its directory"
    for (finer, first), (coarser, second) in pairwise(starts):
        if first < second:
            yield f"the first block of {_level(finer)} is before that of {_level(coarser)}, which is smaller"


def _level(directory: tiff.Directory) -> str:
    return (
        "the full resolution" if directory.index == 0 else f"the overview of {directory.width:,} x {directory.height:,}"
    )


def level_hashes(path: Path, threads: int = 1, first_level: int = 0) -> tuple[list[str], list[str]]:
    """Decode every block: the pixel hash of each level (0 is full resolution), and what does not decode."""
    hashes, problems = [], []
    for level in range(first_level, _overviews(path) + 1):
        try:
            hashes.append(_level_hash(path, level, threads))
        except gdal.GDAL_ERRORS as error:
            problems.append(f"level {level} does not decode: {gdal.reason(error, path)}")
    return hashes, problems


def _overviews(path: Path) -> int:
    with gdal.open_raster(path) as dataset:
        return len(dataset.overviews(1))


def _open_level(path: Path, level: int, **options: Any) -> Any:
    """Full resolution is 0, the largest overview 1."""
    if level:
        options["OVERVIEW_LEVEL"] = level - 1
    return gdal.open_raster(path, **options)


def _level_hash(path: Path, level: int, threads: int) -> str:
    with _open_level(path, level) as dataset:
        measurement = Measurement.of(dataset)
    for digest in _each_tile(path, level, threads, tile_digest):
        measurement.add_digest(digest)
    return measurement.sha256()


def not_as_written(
    path: Path, checks: Sequence[Sequence[int]], threads: int, progress: Callable[[float], None]
) -> list[str]:
    """What of a COG is not read as it was written: every block of every level is decoded.

    Args:
        path: of a COG without a mask of its own.
        checks: of the tiles of each level; see `pixels.tile_check`.
        threads: that read.
        progress: is told how far it is, 0 to 1.
    """
    if (there := 1 + _overviews(path)) != len(checks):
        return [f"it has {there} levels instead of {len(checks)}"]
    problems, done, total = [], 0, sum(map(len, checks))
    for level, expected in enumerate(checks):
        wrong = 0
        try:
            for check, wanted in zip(
                _each_tile(path, level, threads, lambda tile, _: tile_check(tile)), expected, strict=True
            ):
                wrong += check != wanted
                done += 1
                progress(done / total)
        except gdal.GDAL_ERRORS as error:
            problems.append(f"level {level} does not decode: {gdal.reason(error, path)}")
        if wrong:
            problems.append(
                f"the pixels of level {level} are not what was written, in {wrong:,} of {len(expected):,} tiles"
            )
    return problems


def _each_tile(path: Path, level: int, threads: int, look: Callable[[Pixels, Bools | None], R]) -> Iterator[R]:
    """What `look` says of each tile and the dataset's own mask of it, in the order of the hash; the mask comes with the
    last bands.

    Each thread has a dataset of its own, so that it is also the one that decodes.
    """
    opened = queue.SimpleQueue[Any]()
    with ExitStack() as stack:
        for _ in range(threads):
            opened.put(stack.enter_context(_open_level(path, level, sharing=False)))
        dataset = opened.get()
        parts, count = list(pieces(dataset, tiles=_TILES_AT_ONCE)), dataset.count
        opened.put(dataset)

        def looks(piece: Piece) -> list[R]:
            dataset = opened.get()
            try:
                data, mask = dataset.read(list(piece.bands), window=piece.window), own_mask(dataset, piece.window)
            finally:
                opened.put(dataset)
            last = mask if piece.bands[-1] == count else None
            return [look(data[:, r, c], None if last is None else last[r, c]) for r, c in tiles_of(piece)]

        pool = stack.enter_context(ThreadPoolExecutor(threads, initializer=gdal.enter_thread))
        for some in batched_map(pool, looks, parts, ahead=2 * threads):
            yield from some


def batched_map(pool: ThreadPoolExecutor, function: Callable[[T], R], items: Iterable[T], ahead: int) -> Iterator[R]:
    """`map` in order, with a bounded number of items in the works."""
    pending = deque[Future[R]]()
    for item in items:
        pending.append(pool.submit(function, item))
        if len(pending) > ahead:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()


def stale_overviews(path: Path) -> list[str]:
    """Overviews that are not of the level below them, by the look of some places: their means are far from each other.

    Whatever the method of resampling, the mean of a window is about the same in both levels. Codes of classes have no
    mean, but their nearest or most frequent ones stay within the values of the window.
    """
    problems = []
    for level in range(1, _overviews(path) + 1):
        try:
            with _open_level(path, level - 1) as fine, _open_level(path, level) as coarse:
                if not all(_akin(fine, coarse, place) for place in _PLACES):
                    problems.append(f"overview {level} is not one of its pixels")
        except gdal.GDAL_ERRORS as error:
            problems.append(f"overview {level} cannot be read: {gdal.reason(error, path)}")
    return problems


def _akin(fine: Any, coarse: Any, place: tuple[float, float]) -> bool:
    """Whether a small window of two neighbouring levels shows the same."""
    side = min(_LOOK, *coarse.shape)
    row, column = (int(part * (n - side)) for part, n in zip(place, coarse.shape, strict=True))
    window = Window(column, row, side, side)
    scale = fine.height / coarse.height, fine.width / coarse.width
    around = Window(int(column * scale[1]), int(row * scale[0]), int(side * scale[1]), int(side * scale[0]))
    a, b = (d.read(1, window=w, masked=True).astype(np.float64) for d, w in ((fine, around), (coarse, window)))
    a, b = a[np.isfinite(a)].compressed(), b[np.isfinite(b)].compressed()
    if not a.size or not b.size:
        return bool(a.size == b.size or a.size < _FEW * side * side)
    slack = max(1.0, float(a.std())) if a.std() else 1e-6 * max(1.0, abs(float(a.mean())))
    return bool(abs(a.mean() - b.mean()) <= slack and b.min() >= a.min() - slack and b.max() <= a.max() + slack)


def _header(path: Path) -> bytes:
    """The bytes before the first block, as far as that can be told: not every COG is little endian and as GDAL makes
    them.
    """
    try:
        length = cogfile.read_header(path)[1]
    except (KeyError, IndexError, ValueError, OverflowError, struct.error):
        length = _HEADER_BYTES
    with path.open("rb") as file:
        return file.read(length)


def stamp_problems(path: Path, hashes: list[str]) -> list[str]:
    """Whether a COG with a stamp still has the pixels and the header that it was made with; nothing where there is
    none.
    """
    tags = _tags(path)
    pixels, sealed = tags.get(cogfile.PIXELS_ITEM), tags.get(cogfile.SEAL_ITEM)
    header = _header(path)
    if not (pixels and sealed):
        there = pixels or sealed or any(item.encode() in header for item in (cogfile.PIXELS_ITEM, cogfile.SEAL_ITEM))
        return ["its stamp is damaged"] if there else []
    problems = []
    if pixels != hashes[0]:
        problems.append(
            f"its pixels are not those that it was made with: their SHA-256 is {hashes[0]}, its metadata says {pixels}"
        )
    if cogfile.seal(cogfile.unsealed(header, sealed), hashes[1:]) != sealed:
        problems.append("its header or its overviews are not those that it was made with")
    return problems


@dataclass
class Loss:
    """How far a lossy copy may be off, and how far it is: over the pixels that are valid in the source."""

    max_error: float | None = None
    min_psnr: float | None = None
    largest: float = 0.0
    step: float = 0.0  # between neighbouring floats of the largest value: no number is stored more exactly
    squares: float = 0.0
    pixels: int = 0

    def add(self, theirs: Pixels, ours: Pixels, valid: Bools | None) -> None:
        """Take in the values of a band."""
        off = np.abs(ours.astype(np.float64) - theirs)
        counted = np.isfinite(theirs) if valid is None else valid
        off = off[counted]
        if off.size:
            self.largest = max(self.largest, float(off.max()))
            self.step = max(
                self.step, float(np.spacing(np.abs(theirs[counted]).max())) if theirs.dtype.kind == "f" else 0.0
            )
            self.squares += float(np.einsum("i,i->", off, off))
            self.pixels += off.size

    def problems(self) -> list[str]:
        """Whether it is too far off."""
        if self.max_error is not None and self.largest > self.max_error + self.step:
            return [f"pixels differ by up to {self.largest:g}, which is more than {self.max_error:g}"]
        psnr = 10 * math.log10(255**2 * self.pixels / self.squares) if self.squares else math.inf
        if self.min_psnr is not None and psnr < self.min_psnr:
            return [f"its pixels have a signal-to-noise ratio of {psnr:.1f} dB, below {self.min_psnr:g}"]
        return []


def compare(
    source: Any,
    cog: Any,
    *,
    crs: CRS | None = None,
    measurement: Measurement | None = None,
    loss: Loss | None = None,
    progress: Callable[[float], None] = lambda _: None,
) -> list[str]:
    """In what a COG differs from the dataset it was copied from; empty if in nothing that is data.

    Args:
        source: the open dataset that was copied, itself or by way of a staged file.
        cog: the open COG.
        crs: the CRS that was given to a source without one.
        measurement: of `cog`; fed with every piece that is read.
        loss: for a lossy copy; None where every bit must be equal.
        progress: is told how far it is, 0 to 1.
    """
    problems = list(metadata_differences(source, cog, crs or dataset_crs(source)))
    if (source.width, source.height, source.count, source.dtypes) != (cog.width, cog.height, cog.count, cog.dtypes):
        return problems  # there is nothing to hold side by side
    problems += _pixel_differences(source, cog, measurement, loss, progress)
    return problems + (loss.problems() if loss else [])


def metadata_differences(source: Any, cog: Any, crs: CRS | None, *, outline: bool = False) -> Iterator[str]:
    """In what the metadata of a COG differs from its source's, `crs` being the one that it should have; an outline has
    one pixel.
    """
    for fact in ("width", "height", "count", "dtypes", "scales", "offsets", "units", "descriptions", "mask_flag_enums"):
        ours, theirs = getattr(cog, fact), getattr(source, fact)
        if ours != theirs and not (outline and fact in {"width", "height"}):
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
    """Items of the default domain, of the dataset and each band, that a COG has not or has otherwise: a note, not a
    fault.
    """
    notes = []
    for band in (0, *source.indexes[: cog.count]):
        ours, theirs = _data_tags(cog.tags(band)), _data_tags(source.tags(band))
        if lost := sorted(key for key, value in theirs.items() if ours.get(key) != value):
            notes.append(
                f"metadata of {f'band {band}' if band else 'the dataset'} is not carried over:"
                f" {_short(', '.join(lost))}"
            )
    return notes


def _data_tags(tags: dict[str, str]) -> dict[str, str]:
    return {key: value.strip() for key, value in tags.items() if not key.startswith(_NOT_DATA)}


def _gcps(dataset: Any) -> list[tuple[float, ...]]:
    """Positions only: a TIFF holds no names of points."""
    return [(p.row, p.col, p.x, p.y, p.z or 0.0) for p in dataset.gcps[0]]


def _colours(dataset: Any, band: int) -> dict[int, tuple[int, ...]]:
    """The colour table, without the black that fills it up to 256 entries, and without that of nodata, to which GDAL
    gives no opacity.
    """
    return {
        value: colour
        for value, colour in dataset.colormap(band).items()
        if colour != (0, 0, 0, 255) and value != dataset.nodata
    }


def _same_number(a: float | None, b: float | None) -> bool:
    return a == b or (a is not None and b is not None and math.isnan(a) and math.isnan(b))


def _short(value: Any) -> str:
    text = ", ".join(str(v) for v in value) if isinstance(value, tuple) else str(value)
    return text if len(text) <= 120 else text[:119] + "…"


def _pixel_differences(
    source: Any, cog: Any, measurement: Measurement | None, loss: Loss | None, progress: Callable[[float], None]
) -> list[str]:
    problems: list[str] = []
    validity = Validity.of(source)
    for piece in pieces(cog):
        theirs = source.read(list(piece.bands), window=piece.window)
        ours = cog.read(list(piece.bands), window=piece.window)
        mask = own_mask(cog, piece.window)
        if measurement is not None:
            for tile in measure_piece(cog, piece, ours, mask):
                measurement.add(tile)
        place = f"in rows {piece.window.row_off:,} to {piece.window.row_off + piece.window.height - 1:,}"
        if loss:
            problems += _lossy_differences(theirs, ours, piece.bands, validity, loss, place)
        elif differing := _differing(theirs, ours):
            problems.append(f"{differing:,} pixels differ {place}")
        if not _same_mask(own_mask(source, piece.window), mask):
            problems.append(f"the mask differs {place}")
        if len(problems) >= _MAX_DIFFERENCES:
            break
        progress((piece.window.row_off + piece.window.height) / cog.height)
    return problems


def _lossy_differences(
    theirs: Pixels, ours: Pixels, bands: tuple[int, ...], validity: Validity, loss: Loss, place: str
) -> list[str]:
    """The same pixels must be valid, and the valid ones near; alpha is exact."""
    problems = []
    opaque = theirs[bands.index(validity.alpha)] != 0 if validity.alpha in bands else None
    for band, a, b in zip(bands, theirs, ours, strict=True):
        if band == validity.alpha:
            problems += [f"the alpha band differs {place}"] if not np.array_equal(a, b) else []
            continue
        valid, still = validity.valid(a, opaque), validity.valid(b, opaque)
        if not np.array_equal(True if valid is None else valid, True if still is None else still):
            problems.append(f"other pixels of band {band} are valid {place}")
        loss.add(a, b, valid)
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
