"""The one-pass writer: pixels are read once, and tiles, overviews, statistics and hashes come from that one reading.

Here: the flow of strips through the levels and threads.
Not here: arithmetic (`overviews.py`), compression (`codecs.py`), buffered blocks (`block_buffer.py`), the layout of the
file (`cogfile.py`).

For common types only (`suits`); GDAL's COG driver remains for the rest. GDAL still reads the source, writes the
directories (a skeleton: the COG of one pixel with the same metadata), and reads the result to verify it.

A strip is one row of tiles. Its tiles are worked on by threads; each leaves a quarter of itself in the strip of the
next level, which is begun when it is full. So memory holds a few strips per level, whatever the height of the raster.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import rasterio
import rasterio.shutil
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.windows import Window

from geo_assets.raster import cogfile, gdal, gdal_cache
from geo_assets.raster.block_buffer import BlockBuffer
from geo_assets.raster.checkpoint import WHOLE, Checkpoint
from geo_assets.raster.codecs import TRIAL_ROWS, Codec, choose_codec, codec_of, encode_mask
from geo_assets.raster.gdal import dtype_names, numpy_dtype
from geo_assets.raster.inspect import RasterInfo
from geo_assets.raster.overviews import METHODS, level_sizes
from geo_assets.raster.pixels import (
    TILE,
    Measurement,
    Sums,
    TileMeasure,
    Validity,
    can_hold,
    has_own_mask,
    measure_tile,
    tile_check,
)
from geo_assets.raster.profiles import Profile
from geo_assets.raster.tiles import Bools, Pixels
from geo_assets.raster.workers import workers

#: Types whose averages and predictors are implemented here. Not 64-bit integers: their averages do not fit into
#: doubles.
_DTYPES = frozenset({"uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64"})

#: With more bands than this a pixel-interleaved tile is tens of megabytes, of which a reader may want one band.
_MAX_BANDS = 16

#: Decoded bytes of a strip; a few are held at a time.
_MAX_STRIP_BYTES = 192 << 20

#: Strips that are still being compressed while the next is read, those of all levels together.
_STRIPS_AHEAD = 2

#: A raster with so many tiles across for each thread is wide: one strip of the full resolution, whatever there is of
#: the others, keeps the threads at work while the next is read.
_TILES_A_THREAD = 4

#: Bytes that a conversion holds in memory: strips, which grow with the width of the raster, and compressed blocks until
#: they are written. Blocks use what the strips leave; the others wait on disk.
_MEMORY, _LEAST_FOR_BLOCKS = 224 << 20, 16 << 20

#: As many bytes as strips of the full resolution has what is in memory of all levels, at most (4.5; of a wide raster
#: 4.3).
_STRIPS_HELD = 5

#: Tiles of the trial, spread over the grid: at most this many, and one per this many pixels, so that the trial does not
#: cost more than it saves.
_TRIAL_TILES, _PIXELS_A_TRIAL_TILE = 6, 1 << 20

#: Name of the VRT of a dataset without pixels that a skeleton is made of.
VIRTUAL = "skeleton.vrt"

#: Elements in the XML of a skeleton that name the source of pixels and overviews, and masks.
_SOURCES = re.compile(rb"<(SimpleSource|ComplexSource|OverviewList|Overview)\b.*?</\1>", re.DOTALL)
_MASKS = re.compile(rb"<MaskBand>.*?</MaskBand>", re.DOTALL)


def suits(dataset: Any, info: RasterInfo, profile: Profile) -> bool:
    """Whether this writer can make what the profile asks for, exactly as GDAL's driver would."""
    planes = dataset.count + has_own_mask(dataset)
    strip = dataset.width * profile.block_size * planes * numpy_dtype(info.dtype).itemsize
    return (
        profile.compress in {"DEFLATE", "ZSTD"}
        and info.dtype in _DTYPES
        and info.nbits is None
        and not info.domains  # GDAL's VRT, of which the skeleton is made, does not carry them
        and dataset.count <= _MAX_BANDS
        and strip <= _MAX_STRIP_BYTES
        and profile.block_size == TILE
    )


def choose_by_trial(dataset: Any, profile: Profile) -> Codec:
    """Return the codec with the level of the profile, or that for these pixels."""
    if profile.level is not None:
        return codec_of(profile.compress, profile.predictor, profile.level)
    return choose_codec(list(_samples(dataset)), profile.compress, profile.predictor)


def _samples(dataset: Any) -> Iterator[Pixels]:
    """Yield some rows from the middle of tiles along the diagonals of the grid."""
    rows, columns = min(TRIAL_ROWS, dataset.height), min(TILE, dataset.width)
    tiles = min(_TRIAL_TILES, 1 + dataset.width * dataset.height // _PIXELS_A_TRIAL_TILE)
    for i in range(tiles):
        down, across = (2 * i + 1) / (2 * tiles), (2 * ((i * 5) % tiles) + 1) / (2 * tiles)
        window = Window(int(across * (dataset.width - columns)), int(down * (dataset.height - rows)), columns, rows)
        yield dataset.read(window=window)


def skeleton(
    dataset: Any, directory: Path, profile: Profile, options: dict[str, str], crs: CRS | None = None
) -> cogfile.Header:
    """Return the directory that GDAL's COG driver would write for one pixel with the metadata of `dataset`, and that of
    its mask if it has one.

    Args:
        dataset: the source, or an outline of it.
        directory: a private one, in which `VIRTUAL` stays.
        profile: codec and predictor.
        options: further creation options of GDAL's COG driver, about metadata.
        crs: the one assigned to a source without one.

    Raises:
        GDAL's errors.
    """
    virtual, made = directory / VIRTUAL, directory / "skeleton.tif"
    rasterio.shutil.copy(dataset, virtual, driver="VRT")
    text = _SOURCES.sub(b"", virtual.read_bytes())  # bytes: metadata may be in any encoding
    if not has_own_mask(dataset):
        text = _MASKS.sub(b"", text)
    virtual.write_bytes(
        re.sub(rb'rasterXSize="\d+" rasterYSize="\d+"', b'rasterXSize="1" rasterYSize="1"', text, count=1)
    )
    with rasterio.open(virtual, "r+", driver="VRT") as hollow:
        _set_numbers(hollow, dataset)
        if gdal.has_colours_in_vain(dataset):
            hollow.colorinterp = [ColorInterp.gray, *dataset.colorinterp[1:]]
        if crs:
            _set_crs(hollow, crs)
        rasterio.shutil.copy(
            hollow, made, driver="COG", **{**profile.options(), **options, "OVERVIEWS": "NONE", "SPARSE_OK": "YES"}
        )
    return cogfile.read_header(made)[0]


def _set_numbers(hollow: Any, dataset: Any) -> None:
    """Set those numbers of `dataset` of which the text of a VRT holds some digits only: of scales and offsets 16, of
    ground control points 13, and 4 after the point.
    """
    hollow.scales, hollow.offsets = dataset.scales, dataset.offsets
    points, crs = dataset.gcps
    if points:
        hollow.gcps = (points, crs or CRS())


def assign_crs(path: Path, crs: CRS) -> None:
    """Assign a CRS to a GeoTIFF that we made."""
    with rasterio.open(path, "r+", driver="GTiff") as staged:
        _set_crs(staged, crs)


def _set_crs(dataset: Any, crs: CRS) -> None:
    points = dataset.gcps[0]
    if points:
        dataset.gcps = (points, crs)
    else:
        dataset.crs = crs


@dataclass
class _Level:
    """One level: its size, the strip that is being filled, the finished blocks."""

    number: int
    height: int
    width: int
    measurement: Measurement
    counts: list[int] = field(default_factory=list)  # bytes of its blocks, that of a mask behind that of its image
    checks: list[int] = field(default_factory=list)  # of its tiles; see `pixels.tile_check`
    open: dict[int, Pixels] = field(
        default_factory=dict
    )  # strips that are being filled, by number; see `Pyramid._strip`
    last_row: Pixels | None = None  # of the strip before
    filled: int = 0  # rows of the first open strip
    done: int = 0  # strips handed out

    def facts(self) -> dict[str, Any]:
        """Return what a checkpoint saves as JSON; see `resume`."""
        return {"filled": self.filled, "done": self.done, "sums": [asdict(sums) for sums in self.measurement.bands]}

    def arrays(self) -> dict[str, Pixels]:
        """Return what a checkpoint saves as arrays."""
        numbers = {"counts": np.array(self.counts, np.uint64), "checks": np.array(self.checks, np.uint64)}
        last = {} if self.last_row is None else {"last_row": self.last_row}
        strips = {f"open.{number}": strip for number, strip in self.open.items()}
        return {**numbers, "digests": np.frombuffer(bytes(self.measurement.digests), np.uint8), **last, **strips}

    def resume(self, facts: dict[str, Any], arrays: dict[str, Pixels]) -> None:
        """Restore the state from `facts` and `arrays`."""
        self.filled, self.done = facts["filled"], facts["done"]
        self.measurement.bands = [Sums(**sums) for sums in facts["sums"]]
        self.measurement.digests = bytearray(arrays["digests"].tobytes())
        self.counts, self.checks = arrays["counts"].tolist(), arrays["checks"].tolist()
        self.last_row = arrays.get("last_row")
        self.open = {
            int(name.removeprefix("open.")): array for name, array in arrays.items() if name.startswith("open.")
        }


@dataclass(frozen=True, slots=True)
class _Tile:
    """The result of one tile: its block, and that of its mask if there is one."""

    blocks: tuple[bytes, ...]
    check: int
    measure: TileMeasure


class Pyramid(AbstractContextManager["Pyramid"]):
    """Writes all levels of one raster with several threads: call `run`, then `save`.

    Args:
        dataset: the source, for which `suits` holds.
        codec: encodes the blocks.
        directory: for blocks that do not fit into memory.
        threads: how many compress.
        checkpoint: where progress is saved; None for a raster that is too small to need it.
        sparse: tiles of nothing but nodata are not stored.
        resampling: by which of `overviews.METHODS` a level is made of the one before.
    """

    def __init__(
        self,
        dataset: Any,
        codec: Codec,
        directory: Path,
        threads: int,
        checkpoint: Checkpoint | None = None,
        *,
        sparse: bool = False,
        resampling: str = "AVERAGE",
    ) -> None:
        self._dataset, self._codec = dataset, codec
        self._halve, self._halve_mask = METHODS[resampling]
        self._stack = stack = ExitStack()
        self._dtype = numpy_dtype(dtype_names(dataset)[0])
        self._validity = Validity.of(dataset)
        self._masked = has_own_mask(dataset)
        self._filler = _filler(dataset.nodata, self._dtype) if sparse and not self._masked else None
        self._empty: dict[tuple[int, ...], _Tile] = {}  # by size
        self._is_wide = dataset.width >= _TILES_A_THREAD * threads * TILE
        self._pool = workers(threads, -(-dataset.height // TILE) * -(-dataset.width // TILE))
        stack.callback(self._pool.shutdown, cancel_futures=True)
        self._pending: deque[tuple[_Level, int, list[Future[_Tile]]]] = deque()
        name, count = dtype_names(dataset)[0], dataset.count
        sizes = level_sizes(dataset.height, dataset.width, TILE)
        strip = (count + self._masked) * (1 + TILE) * (1 + dataset.width) * self._dtype.itemsize
        self._blocks_waiting = BlockBuffer(
            directory, len(sizes), max(_LEAST_FOR_BLOCKS, _MEMORY - _STRIPS_HELD * strip), checkpoint
        )
        self._checkpoint, self.resumed = checkpoint, 0.0
        stack.callback(self._blocks_waiting.close)
        self.levels = [
            _Level(i, height, width, Measurement(name, count, height, width)) for i, (height, width) in enumerate(sizes)
        ]

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def save(self, made: Path, outline: cogfile.Header, written: Callable[[BinaryIO], None] = lambda _: None) -> Path:
        """Write the COG, with the directory of `outline` (see `skeleton`). Returns where it is: at `made`, or beside
        what is kept of the progress, from where it is moved once it is proven.

        Args:
            made: where it is to be.
            outline: its directory.
            written: called with the file where what lies before its position stays as it is.
        """
        blocks = [np.array(level.counts, np.uint64).reshape(-1, 1 + self._masked) for level in self.levels]
        header = cogfile.pyramid(outline, [(level.height, level.width) for level in self.levels], blocks)
        hashes = self.hashes()
        with self._blocks_waiting.output(made, cogfile.stamped(header, hashes[0], hashes[1:])) as out:
            for level in reversed(self.levels):
                self._blocks_waiting.move_to(out, level.number, cogfile.stored_bytes(blocks[level.number]), written)
        return self._blocks_waiting.place(made)

    def hashes(self) -> list[str]:
        """Return the pixel hash of each level, full resolution first."""
        return [level.measurement.sha256() for level in self.levels]

    def checks(self) -> list[list[int]]:
        """Return the checks of the tiles of each level, full resolution first."""
        return [level.checks for level in self.levels]

    @property
    def measurement(self) -> Measurement:
        """Return the hash and statistics of the full resolution."""
        return self.levels[0].measurement

    def run(self, progress: Callable[[float], None]) -> None:
        """Read the source from top to bottom, or from where an earlier attempt stopped."""
        with gdal_cache.for_reading(self._dataset, TILE):
            self._run(progress)

    def _run(self, progress: Callable[[float], None]) -> None:
        full = self.levels[0]
        first = self._resume()
        self.resumed = min(1.0, first * TILE / full.height)
        kept = first
        for number in range(first, -(-full.height // TILE)):
            rows = min(TILE, full.height - number * TILE)
            self._read(self._strip(full, number)[:, 1 : 1 + rows, 1:], Window(0, number * TILE, full.width, rows))
            self._hand_out(full, rows)
            while self._is_ahead():
                self._collect()
            progress((number * TILE + rows) / full.height)
            if self._checkpoint and (number + 1 - kept) * TILE * full.width >= self._checkpoint.pixels:
                self._keep(self._checkpoint)
                kept = number + 1
        self._collect_all()
        if self._checkpoint and full.done > first:
            self._keep(self._checkpoint)

    def _read(self, strip: Pixels, window: Window) -> None:
        if self._masked:
            self._dataset.read(window=window, out=strip[:-1])
            strip[-1] = self._dataset.read_masks(1, window=window) != 0
        else:
            self._dataset.read(window=window, out=strip)

    def _parted(self, planes: Pixels) -> tuple[Pixels, Bools | None]:
        """Return the bands of a part of a strip, and the dataset's own mask, which is its last plane."""
        return (planes[:-1], planes[-1] != 0) if self._masked else (planes, None)

    def _is_ahead(self) -> bool:
        """Whether so much is being compressed that the next strip is not read yet."""
        if not self._is_wide:
            return len(self._pending) > _STRIPS_AHEAD
        return sum(level is self.levels[0] for level, *_ in self._pending) > 1

    def _keep(self, checkpoint: Checkpoint) -> None:
        """Save the progress; called while no tile is being worked on."""
        self._collect_all()
        full = self.levels[0]
        facts = {
            "lengths": self._blocks_waiting.all_to_disk(),
            "levels": [level.facts() for level in self.levels],
            WHOLE: full.done * TILE >= full.height,
        }
        arrays = {f"{level.number}.{name}": array for level in self.levels for name, array in level.arrays().items()}
        checkpoint.save(facts, arrays)

    def _resume(self) -> int:
        """Return the number of the first strip that is still to be read."""
        if self._checkpoint is None:
            return 0
        kept = self._checkpoint.load(len(self.levels))
        if kept is None:
            self._checkpoint.forget()
            return 0
        facts, arrays = kept
        for level, its_facts in zip(self.levels, facts["levels"], strict=True):
            prefix = f"{level.number}."
            level.resume(
                its_facts,
                {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)},
            )
        return self.levels[0].done

    def _collect_all(self) -> None:
        while self._pending:
            self._collect()

    def _strip(self, level: _Level, number: int) -> Pixels:
        """Return the strip with this number: all bands, and as one more the dataset's own mask if it has one; a new one
        has room for a row above and a column to the left, which are zero.
        """
        if number not in level.open:
            planes = self._dataset.count + self._masked
            level.open[number] = np.zeros((planes, 1 + TILE, 1 + level.width), self._dtype)
        return level.open[number]

    def _hand_out(self, level: _Level, rows: int) -> None:
        """Pass the tiles of the next strip, which is full, to the threads."""
        number = level.done
        strip = level.open.pop(number)[:, : 1 + rows]
        if level.last_row is not None:
            strip[:, 0] = level.last_row
        level.last_row = strip[:, -1].copy()
        target = (
            self._strip(self.levels[level.number + 1], number // 2) if level.number + 1 < len(self.levels) else None
        )
        futures = [
            self._pool.submit(self._tile, level, number, strip, left, target) for left in range(0, level.width, TILE)
        ]
        self._pending.append((level, rows, futures))
        level.done += 1
        level.filled = 0

    def _collect(self) -> None:
        """Wait for the oldest strip; its reduced tiles may complete a strip of the next level."""
        level, rows, futures = self._pending.popleft()
        for future in futures:
            tile = future.result()
            level.counts += map(len, tile.blocks)
            level.checks.append(tile.check)
            for block in filter(None, tile.blocks):
                self._blocks_waiting.append(level.number, block)
            level.measurement.add(tile.measure)
        if level.number + 1 == len(self.levels):
            return
        above = self.levels[level.number + 1]
        above.filled += -(-rows // 2)
        if above.filled == TILE or above.done * TILE + above.filled == above.height:
            self._hand_out(above, above.filled)

    def _tile(self, level: _Level, number: int, strip: Pixels, left: int, target: Pixels | None) -> _Tile:
        """Measure one tile, reduce it into the strip of the next level, and encode it."""
        columns = min(TILE, level.width - left)
        tile = np.ascontiguousarray(strip[:, 1:, 1 + left : 1 + left + columns])
        if self._filler is not None and _is_all(tile, self._filler):
            return self._empty_tile(level, number, strip, tile, left, target)
        data, mask = self._parted(tile)
        outer = self._validity.opaque(data, mask)
        measure = measure_tile(data, tuple(self._dataset.indexes), self._validity, outer=outer, mask=mask)
        if target is not None:
            self._reduce(level, number, strip, tile, left, target)
        blocks = [self._codec.encode(_whole(data))]
        if mask is not None:
            blocks.append(encode_mask(_whole(mask)))
        return _Tile(tuple(blocks), tile_check(data, mask), measure)

    def _empty_tile(
        self, level: _Level, number: int, strip: Pixels, tile: Pixels, left: int, target: Pixels | None
    ) -> _Tile:
        """Handle a tile without data: it is not encoded, and one measurement serves for all tiles of its size."""
        if target is not None:
            self._reduce(level, number, strip, tile, left, target)
        if tile.shape not in self._empty:
            measure = measure_tile(
                tile, tuple(self._dataset.indexes), self._validity, outer=self._validity.opaque(tile)
            )
            self._empty[tile.shape] = _Tile((b"",), tile_check(tile), measure)
        return self._empty[tile.shape]

    def _reduce(self, level: _Level, number: int, strip: Pixels, tile: Pixels, left: int, target: Pixels) -> None:
        """Halve a tile in each direction, with the row and column before it where the size of the level is odd."""
        rows, columns = strip.shape[1] - 1, tile.shape[2]
        odd_height, odd_width = level.height % 2, level.width % 2
        window = (
            tile
            if not (odd_height or odd_width)
            else strip[:, 1 - odd_height :, 1 + left - odd_width : 1 + left + columns]
        )
        place = {"first": (number * TILE // 2, left // 2), "size": (level.height, level.width)}
        data, mask = self._parted(window)
        half = self._halve(data, self._validity, outer=mask, **place)
        top = 1 + (number % 2) * (TILE // 2)
        part = target[:, top : top + -(-rows // 2), 1 + left // 2 : 1 + left // 2 + half.shape[2]]
        part[: len(half)] = half
        if mask is not None:
            part[-1] = self._halve_mask(mask, **place)


def _filler(nodata: float | None, dtype: np.dtype[Any]) -> Pixels | None:
    """Return the value that GDAL reads where a block is missing; None where the type cannot hold it."""
    return np.array(nodata).astype(dtype) if nodata is not None and can_hold(dtype, nodata) else None


def _is_all(tile: Pixels, filler: Pixels) -> bool:
    """Whether every pixel equals this one, in every bit."""
    bits = f"u{tile.dtype.itemsize}"
    wanted = filler.view(bits)
    return bool(tile.flat[0:1].view(bits)[0] == wanted and (tile.view(bits) == wanted).all())


def _whole(tile: Pixels) -> Pixels:
    """Return a tile, or a mask of one, of full size; beyond the edge its last pixels are repeated, which compress to
    almost nothing.
    """
    short = [(0, TILE - n) for n in tile.shape[-2:]]
    return np.pad(tile, [(0, 0)] * (tile.ndim - 2) + short, mode="edge") if any(n for _, n in short) else tile
