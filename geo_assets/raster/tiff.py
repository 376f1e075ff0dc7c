"""The layout of a TIFF: where each block of each image is, and whether its bytes are complete.

Here: reading directories and raw blocks without decoding pixels, for checks that GDAL does not make: a block beyond the
end of the file, the checksum of a DEFLATE block, the frame of a COG's block.
Not here: pixels (`pixels.py`), what makes a COG valid (`validate.py`).

GDAL does not verify the checksum (Adler-32) of a DEFLATE strip, nor of a tile that inflates to more than its size:
flipped bits then become pixels without an error. LZW, ZSTD and uncompressed blocks carry no checksum: their damage
cannot be detected.
"""

from __future__ import annotations

import math
import os
import struct
import sys
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

from geo_assets.raster.cogfile import Field
from geo_assets.raster.workers import workers

# TIFF 6.0 and its supplements; https://gdal.org/drivers/raster/cog.html#file-format for the last two
_SUBFILE_TYPE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 254, 256, 257, 258, 259, 262
_STRIP_OFFSETS, _ORIENTATION, _SAMPLES, _STRIP_COUNTS, _PLANAR = 273, 274, 277, 279, 284
_TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_COUNTS, _SUB_IFDS = 322, 323, 324, 325, 330
_ROWS_PER_STRIP, _GEO_KEYS = 278, 34735
_WANTED = frozenset(range(254, 331)) | {_GEO_KEYS}
_GHOST = b"GDAL_STRUCTURAL_METADATA_SIZE="
_GHOST_LENGTH = 43  # of its first line, which says how long the rest is

_DEFLATE = frozenset({8, 32946})

#: Values of the tag Compression.
UNCOMPRESSED, JPEG = 1, 7

#: Values of the tag PhotometricInterpretation.
BLACK_IS_ZERO, RGB, YCBCR = 1, 2, 6

#: Values of Compression for the codecs of our profiles, by GDAL's names.
CODES = {"DEFLATE": 8, "ZSTD": 50000, "WEBP": 50001, "LERC_ZSTD": 34887, "LERC": 34887}

#: TIFF field type -> NumPy's; those that offsets, counts and sizes come in.
_TYPES = {3: "u2", 4: "u4", 13: "u4", 16: "u8", 18: "u8"}

#: TIFF field type -> bytes of a number in it, which the order of bytes applies to; a fraction is two of four.
_NUMBER_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 4, 7: 1, 13: 4, 16: 8}
_FRACTION = 5

#: The most directories; an honest pyramid has a dozen.
_MAX_DIRECTORIES = 1000

#: The most problems that are named; the rest is counted.
_MAX_PROBLEMS = 3

#: Bytes inflated at a time; bounds the memory for a block that inflates to gigabytes.
_INFLATE_BYTES = 1 << 20

#: Bytes of the blocks that are handed to a thread at a time: enough to be worth it for strips of one short row.
_BATCH_BYTES = 1 << 20


#: Bytes of a block, packed and unpacked, below which setting up costs more than inflating, and zlib is twice as fast at
#: it.
_SHORT = 4096


class LayoutError(ValueError):
    """The directories cannot be read."""


@dataclass(frozen=True, slots=True)
class Block:
    """The bytes of one tile or strip."""

    directory: int
    index: int
    offset: int
    count: int


@dataclass(frozen=True, slots=True)
class Directory:
    """One image of the file: full resolution, overview or mask."""

    index: int
    at: int  # byte of the file
    width: int
    height: int
    compression: int
    block_width: int
    block_height: int
    planes: int
    bits: int  # per sample
    photometric: int
    orientation: int  # 1: the first row is at the top, the first column to the left
    block_samples: int  # per pixel in one block
    tiled: bool
    mask: bool
    reduced: bool  # an overview, or the mask of one
    offsets: NDArray[np.uint64]
    counts: NDArray[np.uint64]

    @property
    def subsampled(self) -> bool:
        """Whether colour may have fewer samples than there are pixels."""
        return self.photometric == YCBCR

    @property
    def block_bytes(self) -> int:
        """Return the decoded bytes of a whole block."""
        return self._row_bytes * self.block_height

    @property
    def _row_bytes(self) -> int:
        return -(-self.block_width * self.block_samples * self.bits // 8)

    def sizes(self, block: int) -> tuple[int, int]:
        """Return the least and the most decoded bytes of a block: some writers cut the last strip at the edge, others
        do not.
        """
        if self.subsampled:
            return 0, sys.maxsize
        if self.tiled:
            return self.block_bytes, self.block_bytes
        _, down = self._grid
        rest = self.height - (block % down) * self.block_height
        return self._row_bytes * min(rest, self.block_height), self.block_bytes

    @property
    def _grid(self) -> tuple[int, int]:
        """Return how many blocks lie side by side, and how many below each other."""
        return -(-self.width // self.block_width), -(-self.height // self.block_height)

    @property
    def grid_blocks(self) -> int:
        """Return how many blocks an image of this size has; its tables may name more or fewer."""
        return math.prod(self._grid) * self.planes

    @property
    def title(self) -> str:
        """Return a readable name of the image."""
        return "the image" if self.index == 0 else f"{'mask' if self.mask else 'image'} {self.index}"

    def blocks(self, which: NDArray[np.bool_]) -> Iterator[Block]:
        """Yield the blocks for which `which` is true."""
        for index in np.flatnonzero(which):
            yield Block(self.index, int(index), int(self.offsets[index]), int(self.counts[index]))

    def name(self, block: int) -> str:
        """Return a readable name of a block: `tile (column, row)` or `strip n`, of which image."""
        across, down = self._grid
        plane, rest = divmod(block, across * down)
        place = f"tile ({rest % across}, {rest // across})" if self.tiled else f"strip {rest}"
        band = f" of band {plane + 1}" if self.planes > 1 else ""
        image = "" if self.index == 0 else f" of {self.title}"
        return place + band + image


@dataclass(frozen=True, slots=True)
class Layout:
    """The whole file. `ghost` is what a COG made by GDAL promises about itself, empty in other files."""

    size: int
    directories: tuple[Directory, ...]
    ghost: dict[str, str]
    geotiff_minor: int | None

    def pyramid(self) -> list[Directory]:
        """Return full resolution and its overviews, without masks, in the order of the file."""
        return [d for d in self.directories if not d.mask and (d.index == 0 or d.reduced)]

    def blocks(self) -> Iterator[Block]:
        """Yield every block that is stored; a sparse one is not."""
        for directory in self.directories:
            yield from directory.blocks(directory.counts > 0)

    def name(self, block: Block) -> str:
        """See `Directory.name`."""
        return self.directories[block.directory].name(block.index)


def read_layout(path: Path) -> Layout:
    """Return the layout of a TIFF or BigTIFF.

    Raises:
        LayoutError: a directory or one of its tables is beyond the end of the file, or the directories do not end.
    """
    with path.open("rb") as file:
        return _Reader(file).layout()


#: Bytes of a field that tells how blocks are decoded. Honest tables have some 600, hostile ones would fill the memory.
_MOST_FIELD = 1 << 16


def fields(path: Path, directory: Directory, wanted: Collection[int]) -> dict[int, Field]:
    """Return those of the wanted fields that a directory has, in little-endian order whatever that of the file.

    Raises:
        LayoutError: one of them is beyond the end of the file, or has more than 64 kB.
    """
    with path.open("rb") as file:
        return _Reader(file).fields(directory.at, wanted)


def cut_off(layout: Layout) -> list[str]:
    """Name the blocks that end beyond the end of the file."""
    # by arrays: a file has a million blocks, all of them good; sums of 64 bits may wrap around
    wrong = (
        (d, (d.counts > 0) & ((d.counts > layout.size) | (d.offsets > layout.size - np.minimum(d.counts, layout.size))))
        for d in layout.directories
    )
    beyond = (b for directory, which in wrong for b in directory.blocks(which))
    return _few(
        f"{layout.name(b)} is cut off at byte {layout.size:,} (it ends at {b.offset + b.count:,})" for b in beyond
    )


def bad_tables(layout: Layout) -> list[str]:
    """Name the images whose tables do not have a place for each block of their size: libtiff takes those that lack one
    for empty, and reads them one by one, a hundred million where a bit of the width is wrong.
    """
    return _few(
        f"{d.title} of {d.width:,} x {d.height:,} pixels has {d.grid_blocks:,} blocks, but its tables name"
        f" {len(d.counts):,}"
        for d in layout.directories
        if len(d.counts) != d.grid_blocks
    )


def bad_checksums(path: Path, layout: Layout, threads: int = 1) -> list[str]:
    """Name DEFLATE blocks whose bytes do not match their checksum. Reads the whole file if it is DEFLATE, else
    nothing.
    """
    batches = (batch for d in layout.directories if d.compression in _DEFLATE for batch in _batches(d))
    problems: list[str] = []
    with path.open("rb") as file, workers(threads, threads) as pool:
        descriptor = file.fileno()
        while len(problems) < _MAX_PROBLEMS and (round_ := list(islice(batches, threads))):
            found = pool.map(lambda batch: _not_whole(descriptor, *batch), round_)
            problems += [
                f"the checksum of {directory.name(n)} is wrong"
                for (directory, _), bad in zip(round_, found, strict=True)
                for n in bad
            ]
    return problems[:_MAX_PROBLEMS]


def _batches(directory: Directory) -> Iterator[tuple[Directory, NDArray[np.int64]]]:
    """Yield the numbers of the stored blocks, as many at a time as make up `_BATCH_BYTES`."""
    there = np.flatnonzero(directory.counts)
    numbers = np.cumsum(directory.counts[there]) // _BATCH_BYTES
    for part in np.split(there, np.flatnonzero(np.diff(numbers)) + 1):
        if part.size:
            yield directory, part


def _not_whole(descriptor: int, directory: Directory, blocks: NDArray[np.int64]) -> list[int]:
    """Return the blocks that do not inflate correctly. Adjacent blocks are read together."""
    starts, counts = directory.offsets[blocks].tolist(), directory.counts[blocks].tolist()
    first, last = min(starts), max(map(sum, zip(starts, counts, strict=True)))
    together = os.pread(descriptor, last - first, first) if last - first <= 2 * sum(counts) else None
    bad = []
    for block, start, count in zip(blocks.tolist(), starts, counts, strict=True):
        data = (
            os.pread(descriptor, count, start) if together is None else together[start - first : start - first + count]
        )
        if not _inflates(data, *directory.sizes(block)):
            bad.append(block)
    return bad


def bad_frames(path: Path, layout: Layout) -> list[str]:
    """Name blocks of a COG that contradict their frame: before each is its size, after it its last four bytes again."""
    if (
        layout.ghost.get("BLOCK_LEADER") != "SIZE_AS_UINT4"
        or layout.ghost.get("BLOCK_TRAILER") != "LAST_4_BYTES_REPEATED"
    ):
        return []
    with path.open("rb") as file:
        descriptor = file.fileno()
        return _few(f"the frame of {layout.name(b)} is wrong" for b in layout.blocks() if not _framed(descriptor, b))


def _few(problems: Iterator[str]) -> list[str]:
    few = list(islice(problems, _MAX_PROBLEMS))
    rest = sum(1 for _ in problems)
    return [*few, f"and {rest:,} more"] if rest else few


def _inflates(data: bytes, least: int, most: int) -> bool:
    """Whether a zlib stream is complete: it inflates to its end, its checksum matches, and it has the bytes of
    a block.
    """
    if max(len(data), most) <= _SHORT:
        try:
            return least <= len(zlib.decompress(data, bufsize=most)) <= most
        except zlib.error:
            return False
    stream, length = isal_zlib.decompressobj(), 0
    try:
        length += len(stream.decompress(data, _INFLATE_BYTES))
        while not stream.eof and stream.unconsumed_tail and length <= most:
            length += len(stream.decompress(stream.unconsumed_tail, _INFLATE_BYTES))
    except isal_zlib.error:  # type: ignore[misc]  # its stubs declare the class as an instance
        return False
    return bool(stream.eof and least <= length <= most)


def _framed(descriptor: int, block: Block) -> bool:
    leader = os.pread(descriptor, 4, block.offset - 4)
    tail = os.pread(descriptor, 8, block.offset + block.count - 4) if block.count >= 4 else b""
    return leader == struct.pack("<I", block.count) and tail[:4] == tail[4:]


class _Reader:
    """Reads the directories of an open file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._size = os.fstat(file.fileno()).st_size
        head = self._at(0, 16)
        self._order = "<" if head[:2] == b"II" else ">"
        self._big = self._number(head[2:4]) == 43
        self._first = self._number(head[8:16] if self._big else head[4:8])

    def layout(self) -> Layout:
        """Return the whole layout."""
        directories: list[Directory] = []
        minor: int | None = None
        pending, seen = [self._first], set[int]()
        while pending:
            offset = pending.pop()
            if offset == 0:
                continue
            if offset in seen or len(seen) >= _MAX_DIRECTORIES:
                raise LayoutError(f"its directories do not end: byte {offset:,} is pointed to again")
            seen.add(offset)
            tags, following = self._directory(offset)
            minor = _geotiff_minor(tags) if minor is None else minor
            if directory := _described(len(directories), offset, tags):
                directories.append(directory)
            pending += [following, *(int(p) for p in tags.get(_SUB_IFDS, ()))]
        return Layout(self._size, tuple(directories), self._ghost(), minor)

    def _at(self, offset: int, length: int) -> bytes:
        self._file.seek(offset)
        data = self._file.read(length)
        if len(data) < length:
            raise LayoutError(f"it ends at byte {self._size:,}, where its directory points to byte {offset + length:,}")
        return data

    def _number(self, data: bytes) -> int:
        return int.from_bytes(data, "little" if self._order == "<" else "big")

    def fields(self, offset: int, wanted: Collection[int]) -> dict[int, Field]:
        """See the function of this name."""
        found = {}
        for tag, kind, field in self._entries(offset)[0]:
            if tag in wanted and kind in _NUMBER_BYTES:
                size = _NUMBER_BYTES[kind]
                count, width = self._number(field[: len(field) // 2]), 2 * size if kind == _FRACTION else size
                if count * width > _MOST_FIELD:
                    raise LayoutError(f"its field {tag} has {count * width:,} bytes")
                data = self._data(field, width)
                found[tag] = Field(
                    kind, count, np.frombuffer(data, f"{self._order}u{size}").astype(f"<u{size}").tobytes()
                )
        return found

    def _directory(self, offset: int) -> tuple[dict[int, NDArray[Any]], int]:
        """Return the wanted fields of the directory at `offset`, and where the next one is."""
        entries, following = self._entries(offset)
        tags = {tag: self._values(field, kind) for tag, kind, field in entries if tag in _WANTED and kind in _TYPES}
        return tags, following

    def _entries(self, offset: int) -> tuple[list[tuple[int, int, bytes]], int]:
        """Return tag, type and the rest of each entry of the directory at `offset`, and where the next directory is."""
        head, entry, pointer = (8, 20, 8) if self._big else (2, 12, 4)
        entries = self._number(self._at(offset, head))
        if entries > 4096:
            raise LayoutError(f"the directory at byte {offset:,} has {entries:,} fields")
        table = self._at(offset + head, entries * entry + pointer)
        found = []
        for start in range(0, entries * entry, entry):
            tag, kind = self._number(table[start : start + 2]), self._number(table[start + 2 : start + 4])
            found.append((tag, kind, table[start + 4 : start + entry]))
        return found, self._number(table[-pointer:])

    def _values(self, field: bytes, kind: int) -> NDArray[Any]:
        dtype = np.dtype(self._order + _TYPES[kind])
        return np.frombuffer(self._data(field, dtype.itemsize), dtype)

    def _data(self, field: bytes, itemsize: int) -> bytes:
        """Return the bytes of an entry's values, which are in it or where it points to."""
        half = len(field) // 2
        count, inline = self._number(field[:half]), field[half:]
        length = count * itemsize
        if length > self._size:
            raise LayoutError(f"it ends at byte {self._size:,}, but declares a table of {length:,} bytes")
        return inline[:length] if length <= half else self._at(self._number(inline), length)

    def _ghost(self) -> dict[str, str]:
        start = 16 if self._big else 8
        self._file.seek(start)
        first = self._file.read(_GHOST_LENGTH)
        if not first.startswith(_GHOST):
            return {}
        length = first[len(_GHOST) :].split(b" ", 1)[0]
        text = self._file.read(int(length) if length.isdigit() else 0).decode("ascii", "replace")
        return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def _geotiff_minor(tags: dict[int, NDArray[Any]]) -> int | None:
    keys = tags.get(_GEO_KEYS)
    return int(keys[2]) if keys is not None and len(keys) > 2 else None


def _described(index: int, at: int, tags: dict[int, NDArray[Any]]) -> Directory | None:
    """Return a directory of an image with blocks, or None: some cameras store other things in directories."""

    def one(tag: int, default: int = 0) -> int:
        values = tags.get(tag)
        return int(values[0]) if values is not None and len(values) else default

    tiled = _TILE_OFFSETS in tags
    offsets = tags.get(_TILE_OFFSETS if tiled else _STRIP_OFFSETS)
    counts = tags.get(_TILE_COUNTS if tiled else _STRIP_COUNTS)
    width, height = one(_WIDTH), one(_HEIGHT)
    if offsets is None or counts is None or len(offsets) != len(counts) or not width or not height:
        return None
    return Directory(
        index=index,
        at=at,
        width=width,
        height=height,
        compression=one(_COMPRESSION, 1),
        block_width=(one(_TILE_WIDTH) if tiled else width) or width,
        block_height=(one(_TILE_HEIGHT) if tiled else min(one(_ROWS_PER_STRIP, height), height)) or height,
        planes=one(_SAMPLES, 1) if one(_PLANAR, 1) == 2 else 1,
        bits=one(_BITS, 1),
        photometric=one(_PHOTOMETRIC),
        orientation=one(_ORIENTATION, 1),
        block_samples=1 if one(_PLANAR, 1) == 2 else one(_SAMPLES, 1),
        tiled=tiled,
        mask=bool(one(_SUBFILE_TYPE) & 4),
        reduced=bool(one(_SUBFILE_TYPE) & 1),
        offsets=offsets.astype(np.uint64),
        counts=counts.astype(np.uint64),
    )
