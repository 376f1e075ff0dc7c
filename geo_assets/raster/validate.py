"""Validation: that a file is a whole, well-formed COG.

Here: `validate_cog` for any file; it names what is wrong, in words.
Not here: whether a COG holds what its source holds (`comparison.py`), making or mending.

rio-cogeo and GDAL's own validator check the order of the file and no pixel: a COG truncated at 70 % passes one, flipped
bytes pass both. So every block of every level is decoded, and what carries a checksum, a frame or a stamp is checked
against it.
"""

from __future__ import annotations

import queue
import struct
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from rasterio.windows import Window

from geo_assets.errors import GeoAssetsError
from geo_assets.raster import cogfile, gdal, gdal_cache, tiff
from geo_assets.raster.drivers import driver_of
from geo_assets.raster.inspect import refuse_disguised_sidecars, refuse_foreign_overviews
from geo_assets.raster.likeness import DEVIATIONS, Likeness
from geo_assets.raster.models import ValidateReport, ValidateRequest
from geo_assets.raster.pixels import TILE, Measurement, Piece, own_mask, pieces, tile_check, tile_digest, tiles_of
from geo_assets.raster.tiles import Bools, Pixels
from geo_assets.raster.workers import workers

#: Pixels along a side beyond which tiles and overviews are required, and bytes within which the main directory must
#: begin: rio-cogeo's numbers.
_LARGE, _MAIN_WITHIN = 512, 300

#: Where to look for a stamp if the directories cannot be read.
_HEADER_BYTES = 1 << 20

#: Where overviews are sampled, in parts of the grid, and pixels per side of each sample.
_PLACES = ((0.1, 0.1), (0.5, 0.5), (0.9, 0.9), (0.1, 0.9), (0.9, 0.1))
_LOOK = 64

#: Tiles read in one call: each call costs time, each tile takes memory.
_TILES_AT_ONCE = 4

#: Share of the valid pixels of a sample that may vanish in an overview.
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
    stamped = not problems and bool({cogfile.PIXELS_ITEM, cogfile.BLOCKS_ITEM} & _tags(path).keys())
    kept = pixels_kept(path, request.threads) if problems else stamped or None
    return ValidateReport(problems=tuple(problems), stamped=stamped, pixels_kept=kept)


def _tags(path: Path) -> dict[str, str]:
    with gdal.open_raster(path) as dataset:
        tags: dict[str, str] = dataset.tags()
    return tags


def validate_cog(path: Path, threads: int = 1) -> list[str]:
    """Return what is wrong with a file as a COG; empty if nothing is. Every block of every level is read.

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


def pixels_kept(path: Path, threads: int = 1) -> bool | None:
    """Whether the pixels of full resolution of a damaged COG are those of its stamp; None if it has none, or if they
    are not all read. Nothing is read where the order of the file is wrong: its directories may name what is not there.
    """
    try:
        with gdal.session() as log:
            stamp = None if structure(path) else _tags(path).get(cogfile.PIXELS_ITEM)
            if stamp is None:
                return None
            kept = _level_hash(path, 0, threads) == stamp
            return None if log.damage() else kept
    except (*gdal.GDAL_ERRORS, tiff.LayoutError, ValueError, struct.error):
        return None


def structure(path: Path) -> list[str]:
    """Return what is wrong with the order of the file: the rules of GDAL and, strictly, of rio-cogeo, and the place and
    frame of every block.

    The rules are few and those libraries slow to load; a test compares the answers with rio-cogeo's.
    https://gdal.org/en/stable/drivers/raster/cog.html#file-format

    Raises:
        tiff.LayoutError: the directories cannot be followed.
    """
    layout = tiff.read_layout(path)
    if not layout.directories:
        return ["it has no image"]
    return [*tiff.bad_tables(layout), *tiff.cut_off(layout)] or [
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


def level_hashes(
    path: Path, threads: int = 1, first_level: int = 0, likeness: Likeness | None = None
) -> tuple[list[str], list[str]]:
    """Decode every block; return the pixel hash of each level (0 is full resolution), and what does not decode. All
    tiles are shown to `likeness`.
    """
    hashes, problems = [], []
    for level in range(first_level, _overviews(path) + 1):
        try:
            hashes.append(_level_hash(path, level, threads, likeness))
        except gdal.GDAL_ERRORS as error:
            problems.append(f"level {level} does not decode: {gdal.reason(error, path)}")
    return hashes, problems


def _overviews(path: Path) -> int:
    with gdal.open_raster(path) as dataset:
        return len(dataset.overviews(1))


def _open_level(path: Path, level: int, **options: Any) -> Any:
    """Open a level: full resolution is 0, the largest overview 1."""
    if level:
        options["OVERVIEW_LEVEL"] = level - 1
    return gdal.open_raster(path, **options)


def _level_hash(path: Path, level: int, threads: int, likeness: Likeness | None = None) -> str:
    with _open_level(path, level) as dataset:
        measurement = Measurement.of(dataset)
        look = likeness.looking(level, dataset) if likeness else None

    def digest_and_sums(data: Pixels, mask: Bools | None) -> tuple[bytes, Any]:
        return tile_digest(data, mask), look(data, mask) if look else None

    for digest, sums in _each_tile(path, level, threads, digest_and_sums):
        measurement.add_digest(digest)
        if likeness and sums is not None:
            likeness.add(level, sums)
    return measurement.sha256()


def likeness_of(path: Path) -> Likeness:
    """Return what compares the levels of a COG, of which it has seen none."""
    sizes = []
    for level in range(_overviews(path) + 1):
        with _open_level(path, level) as dataset:
            sizes.append((dataset.height, dataset.width))
    return Likeness(sizes)


def not_as_written(
    cog: Any, checks: Sequence[Sequence[int]], threads: int, progress: Callable[[float], None]
) -> list[str]:
    """Return what in a COG is not read as it was written: every block of every level is decoded.

    Args:
        cog: the open COG; what of a small one is decoded stays in its cache.
        checks: checksums of the tiles of each level; see `pixels.tile_check`.
        threads: how many read.
        progress: called with the part that is done, 0 to 1.
    """
    path = Path(cog.name)
    if (there := 1 + len(cog.overviews(1))) != len(checks):
        return [f"it has {there} levels instead of {len(checks)}"]
    problems, done, total = [], 0, sum(map(len, checks))
    for level, expected in enumerate(checks):
        wrong = 0
        try:
            for check, wanted in zip(
                _each_tile(path, level, threads, tile_check, None if level else cog),
                expected,
                strict=True,
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


def _each_tile(
    path: Path, level: int, threads: int, look: Callable[[Pixels, Bools | None], R], is_open: Any = None
) -> Iterator[R]:
    """Yield the result of `look` for each tile and the dataset's own mask of it, in the order of the hash; the mask
    comes with the last bands.

    Each thread has a dataset of its own, so that decoding is done by the same thread; `is_open` serves one of them.
    """
    opened = queue.SimpleQueue[Any]()
    with ExitStack() as stack:
        first = is_open or stack.enter_context(_open_level(path, level, sharing=False))
        parts, count = list(pieces(first, tiles=_TILES_AT_ONCE)), first.count
        at_once = min(threads, len(parts))  # of one thread nothing is done meanwhile
        if len(parts[0].bands) == count:
            stack.enter_context(gdal_cache.for_reading(first, TILE, TILE, readers=at_once))
        opened.put(first)
        for _ in range(1, at_once):
            opened.put(stack.enter_context(_open_level(path, level, sharing=False)))

        def looks(piece: Piece) -> list[R]:
            dataset = opened.get()
            try:
                data, mask = dataset.read(list(piece.bands), window=piece.window), own_mask(dataset, piece.window)
            finally:
                opened.put(dataset)
            last = mask if piece.bands[-1] == count else None
            return [look(data[:, r, c], None if last is None else last[r, c]) for r, c in tiles_of(piece)]

        pool = stack.enter_context(workers(threads, at_once, initializer=gdal.enter_thread))
        for some in batched_map(pool, looks, parts, ahead=2 * threads):
            yield from some


def batched_map(pool: Executor, function: Callable[[T], R], items: Iterable[T], ahead: int) -> Iterator[R]:
    """Like `map`, in order, with a bounded number of items being worked on."""
    pending = deque[Future[R]]()
    for item in items:
        pending.append(pool.submit(function, item))
        if len(pending) > ahead:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()


def stale_overviews(path: Path) -> list[str]:
    """Name overviews that do not match the level below them, by some samples: their means are far from each other.

    Whatever the method of resampling, the mean of a window is about the same in both levels. The mean of class codes
    has no meaning, but nearest or most frequent codes are among the values of the window.
    """
    problems = []
    for level in range(1, _overviews(path) + 1):
        try:
            with _open_level(path, level - 1) as fine, _open_level(path, level) as coarse:
                if not all(_akin(fine, coarse, place, band) for place in _PLACES for band in fine.indexes):
                    problems.append(f"overview {level} is not one of its pixels")
        except gdal.GDAL_ERRORS as error:
            problems.append(f"overview {level} cannot be read: {gdal.reason(error, path)}")
    return problems


def _akin(fine: Any, coarse: Any, place: tuple[float, float], band: int) -> bool:
    """Whether a small window of a band of two neighbouring levels shows the same."""
    side = min(_LOOK, *coarse.shape)
    row, column = (int(part * (n - side)) for part, n in zip(place, coarse.shape, strict=True))
    window = Window(column, row, side, side)
    scale = fine.height / coarse.height, fine.width / coarse.width
    around = Window(int(column * scale[1]), int(row * scale[0]), int(side * scale[1]), int(side * scale[0]))
    a, b = (d.read(band, window=w, masked=True).astype(np.float64) for d, w in ((fine, around), (coarse, window)))
    a, b = a[np.isfinite(a)].compressed(), b[np.isfinite(b)].compressed()
    if not a.size or not b.size:
        return bool(a.size == b.size or a.size < _FEW * side * side)
    slack = max(1.0, DEVIATIONS * float(a.std())) if a.std() else 1e-6 * max(1.0, abs(float(a.mean())))
    return bool(abs(a.mean() - b.mean()) <= slack and b.min() >= a.min() - slack and b.max() <= a.max() + slack)


def _header(path: Path) -> bytes:
    """Return the bytes before the first block, as far as known: not every COG is little endian and made like GDAL's."""
    try:
        length = cogfile.read_header(path)[1]
    except (KeyError, IndexError, ValueError, OverflowError, struct.error):
        length = _HEADER_BYTES
    with path.open("rb") as file:
        return file.read(length)


def stamp_problems(path: Path, hashes: list[str]) -> list[str]:
    """Return what in a stamped COG no longer matches its stamp, pixels or header; nothing for a COG without a stamp."""
    tags = _tags(path)
    pixels, sealed = tags.get(cogfile.PIXELS_ITEM), tags.get(cogfile.SEAL_ITEM)
    header = _header(path)
    if (blocks := tags.get(cogfile.BLOCKS_ITEM)) and sealed:
        return list(_changed_blocks(path, header, blocks, sealed))
    if not (pixels and sealed):
        there = blocks or pixels or sealed or any(item.encode() in header for item in cogfile.STAMP)
        return ["its stamp is damaged"] if there else []
    problems = []
    if pixels != hashes[0]:
        problems.append(
            f"its pixels are not those that it was made with: their SHA-256 is {hashes[0]}, its metadata says {pixels}"
        )
    if cogfile.seal(cogfile.unsealed(header, sealed), hashes[1:]) != sealed:
        problems.append("its header or its overviews are not those that it was made with")
    return problems


def _changed_blocks(path: Path, header: bytes, blocks: str, sealed: str) -> Iterator[str]:
    """Yield what in a COG that is stamped by its blocks no longer matches its stamp."""
    if (found := cogfile.blocks_sha256(path, len(header))) != blocks:
        yield f"its blocks are not those that it was made with: their SHA-256 is {found}, its metadata says {blocks}"
    if cogfile.seal(cogfile.unsealed(header, sealed), ()) != sealed:
        yield "its header is not that which it was made with"


def raise_for(name: str, problems: list[str]) -> None:
    """Fail where there are problems.

    Raises:
        GeoAssetsError: COG_VALIDATION_FAILED, which names them.
    """
    if problems:
        raise GeoAssetsError("COG_VALIDATION_FAILED", f"the COG of {name} is not valid: {'; '.join(problems)}")
