"""The bytes of a COG: directories first, then the blocks, smallest overview first.

Here: taking directories from a file that GDAL made, putting them before blocks that are ours or GDAL's, and the stamp.
Not here: pixels and compression (`onepass.py`, `codecs.py`), reading files made by others (`tiff.py`).

GDAL writes every directory entry that has a meaning (grid, CRS, nodata, colours, metadata), into a skeleton or a whole
COG; we place them. So a COG of ours says what GDAL's would have said.

The stamp is two items of metadata. `GEO_ASSETS_PIXELS_SHA256` is the hash of the level-0 pixels (`pixels.py`).
`GEO_ASSETS_SEAL_SHA256` is the SHA-256 of the header (everything before the first block, the seal itself as 64 zeros),
then of the pixel hashes of all overview levels, from the largest, in ASCII. Together they cover every bit that a reader
sees. Where pixels depend on who decodes them (JPEG), `GEO_ASSETS_BLOCKS_SHA256` stands in place of the first item: the
SHA-256 of everything after the header; the seal is of the header alone.
https://gdal.org/en/stable/drivers/raster/cog.html#file-format has the layout.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from geo_assets.raster.domains import ICC, XMP

#: Names of the metadata items.
PIXELS_ITEM, BLOCKS_ITEM = "GEO_ASSETS_PIXELS_SHA256", "GEO_ASSETS_BLOCKS_SHA256"
SEAL_ITEM = "GEO_ASSETS_SEAL_SHA256"
STAMP = (PIXELS_ITEM, BLOCKS_ITEM, SEAL_ITEM)

# TIFF 6.0 and its supplements
_SUBFILE_TYPE, _WIDTH, _HEIGHT, _OFFSETS, _COUNTS = 254, 256, 257, 324, 325
_GDAL_METADATA = 42112
_LONG, _LONG8, _ASCII, _BYTE, _UNDEFINED = 4, 16, 2, 1, 7

#: Entries of the full resolution that an overview needs as well: the type of its samples, codec, tiles, colours,
#: nodata.
_SHARED = (258, 259, 262, 277, 284, 317, 320, 322, 323, 338, 339, 42113)

#: Entries that tell how to decode JPEG: tables that its blocks share, how colours become YCbCr.
_JPEG = (347, 529, 530, 531, 532)

#: What the first entry of an overview and of a mask says.
_REDUCED, _MASK = 1, 4

_TYPE_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}

#: Bytes before and after each block: its size, and its last four bytes again.
_LEADER, _TRAILER = 4, 4

#: Classic TIFF counts bytes in 32 bits; what a header has besides offsets and counts fits into the rest.
_CLASSIC_BYTES = 2**32 - 2**20

_NO_SEAL = "0" * 64
_GHOST = b"GDAL_STRUCTURAL_METADATA_SIZE="
_GHOST_LINE = 43
_INTERLEAVED = b"MASK_INTERLEAVED_WITH_IMAGERY=YES\n"
_COPY_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Field:
    """One directory entry: TIFF's number of its type, how many values, their bytes, little endian."""

    kind: int
    count: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Image:
    """One directory, and its blocks: offsets from the start of the data section (leader included) and bytes; 0 bytes is
    sparse.
    """

    fields: dict[int, Field]
    offsets: NDArray[np.uint64]
    counts: NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Header:
    """Everything before the blocks. `ghost` is GDAL's promise about the order of blocks."""

    images: tuple[Image, ...]
    ghost: bytes
    big: bool


def sized(fields: dict[int, Field], height: int, width: int) -> dict[int, Field]:
    """Return the fields of an image of another size."""
    return {**fields, _WIDTH: _long(width), _HEIGHT: _long(height)}


def read_header(path: Path) -> tuple[Header, int]:
    """Return the header of a little-endian COG that GDAL made, and where its data section starts."""
    with path.open("rb") as file:
        head = file.read(16)
        big = head[2] == 43
        (offset,) = struct.unpack("<Q", head[8:16]) if big else struct.unpack("<I", head[4:8])
        ghost = _read_ghost(file, 16 if big else 8)
        directories = []
        while offset:
            fields, offset = _read_directory(file, offset, big=big)
            directories.append(fields)
    tables = [(_numbers(d.pop(_OFFSETS)), _numbers(d.pop(_COUNTS))) for d in directories]
    stored = [np.min(offsets[counts > 0]) for offsets, counts in tables if (counts > 0).any()]
    start = int(min(stored)) - _LEADER if stored else path.stat().st_size
    images = [Image(fields, np.where(counts > 0, offsets - np.uint64(start), offsets), counts)
              for fields, (offsets, counts) in zip(directories, tables, strict=True)]  # fmt: skip
    return Header(tuple(images), ghost, big), start


def pyramid(skeleton: Header, sizes: Sequence[tuple[int, int]], blocks: Sequence[NDArray[np.uint64]]) -> Header:
    """Return the header of a COG whose levels have these (height, width) and blocks of these bytes, full resolution
    first.

    Directories are in the order of GDAL, that of the full resolution first, then that of its mask, then those of the
    overviews, then those of their masks; so are blocks: the smallest level first, rows from the top, that of a mask
    behind that of its image.

    Args:
        skeleton: has the full resolution, and its mask if there is one.
        sizes: of the levels.
        blocks: bytes, for each level: shape (blocks, images of the skeleton).
    """
    total = 0
    placed: list[list[NDArray[np.uint64]]] = [[] for _ in blocks]
    for level in reversed(range(len(blocks))):
        placed[level] = in_turn(total, *blocks[level].T)
        total += stored_bytes(blocks[level])

    def of(level: int, number: int) -> Image:
        fields = skeleton.images[number].fields
        fields = sized(_reduced(fields) if level else fields, *sizes[level])
        return Image(fields, placed[level][number], blocks[level][:, number])

    numbers = range(len(skeleton.images))
    overviews = [of(level, number) for number in numbers for level in range(1, len(sizes))]
    images = (*(of(0, number) for number in numbers), *overviews)
    return Header(images, skeleton.ghost, _is_big(total, images))


def above(images: Sequence[tuple[dict[int, Field], NDArray[np.uint64]]], overviews: Header, behind: int) -> Header:
    """Return the header of a COG of which the full resolution is given, and the overviews are all that another COG has.

    Args:
        images: fields and bytes of the blocks of the full resolution, and of its mask; their blocks are stored in turn.
        overviews: of the other COG; without images if there are none.
        behind: bytes of its blocks, after which those of `images` come.
    """
    fields, blocks = zip(*images, strict=True)
    placed = in_turn(behind, *blocks)
    full = [Image(*image) for image in zip(fields, placed, blocks, strict=True)]
    reduced = [Image(_reduced(i.fields), i.offsets, i.counts) for i in overviews.images]
    ghost = _with_masks(overviews.ghost) if len(full) > 1 else overviews.ghost
    total = behind + sum(map(stored_bytes, blocks))
    return Header((*full, *reduced), ghost, _is_big(total, (*full, *reduced)))


def _is_big(blocks: int, images: Sequence[Image]) -> bool:
    """Whether a file needs BigTIFF that has so many bytes of blocks, and an offset and a count of each."""
    return blocks + sum(2 * 4 * len(image.counts) for image in images) > _CLASSIC_BYTES


def in_turn(start: int, *images: NDArray[np.uint64]) -> list[NDArray[np.uint64]]:
    """Return the offsets of the blocks of some images, whose bytes these are: the first of each, then the second of
    each.
    """
    blocks = np.stack(images, axis=1)
    stored = _stored(blocks).ravel()
    before = (np.cumsum(stored, dtype=np.uint64) - stored).reshape(blocks.shape)
    offsets = np.where(blocks > 0, before + np.uint64(start + _LEADER), np.uint64(0))
    return list(offsets.T)


def _stored(blocks: NDArray[np.uint64]) -> NDArray[np.uint64]:
    return np.where(blocks > 0, blocks + np.uint64(_LEADER + _TRAILER), np.uint64(0))


def stored_bytes(blocks: NDArray[np.uint64]) -> int:
    """Return what blocks of these bytes take in the file, all together, each `framed`."""
    return int(_stored(blocks).sum(dtype=np.uint64))


def framed(block: bytes) -> tuple[bytes, bytes, bytes]:
    """Return a block as it is stored in the file: its size, itself, its last bytes again."""
    return struct.pack("<I", len(block)), block, block[-_TRAILER:]


def holding(header: Header, embedded: dict[int, bytes]) -> Header:
    """Return a header whose full resolution has these bytes by their tags, and no other colour profile or XMP."""
    main = header.images[0]
    fields = {tag: field for tag, field in main.fields.items() if tag not in {XMP, ICC}}
    fields |= {tag: Field(_UNDEFINED if tag == ICC else _BYTE, len(data), data) for tag, data in embedded.items()}
    return Header((Image(fields, main.offsets, main.counts), *header.images[1:]), header.ghost, header.big)


def stamped(header: Header, pixels_sha256: str, overview_hashes: Sequence[str]) -> bytes:
    """Return the bytes of a header with its stamp."""
    return _sealed(header, {PIXELS_ITEM: pixels_sha256}, overview_hashes)


def stamped_by_blocks(header: Header, sha256: str = "0" * 64) -> bytes:
    """Return the bytes of a header with its stamp, as many whatever the hash of its blocks is; see `blocks_sha256`."""
    return _sealed(header, {BLOCKS_ITEM: sha256}, ())


def blocks_sha256(path: Path, start: int) -> str:
    """Return the hash of everything after the header, which has `start` bytes."""
    with path.open("rb") as file:
        file.seek(start)
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sealed(header: Header, items: dict[str, str], overview_hashes: Sequence[str]) -> bytes:
    open_header = _compose(_with_items(header, {**items, SEAL_ITEM: _NO_SEAL}))
    return open_header.replace(_seal_item(_NO_SEAL), _seal_item(seal(open_header, overview_hashes)), 1)


def seal(header: bytes, overview_hashes: Sequence[str]) -> str:
    """Return the seal of a header, computed with the seal itself as zeros."""
    return hashlib.sha256(header + "".join(overview_hashes).encode()).hexdigest()


def unsealed(header: bytes, sealed: str) -> bytes:
    """Return a header with its seal replaced by zeros."""
    return header.replace(_seal_item(sealed), _seal_item(_NO_SEAL), 1)


def restamp(made: Path, pixels_sha256: str, overview_hashes: Sequence[str], embedded: dict[int, bytes]) -> None:
    """Put the stamp, and what is embedded, into a COG that GDAL has just made: its blocks are copied unchanged, after a
    longer header.
    """
    header, start = read_header(made)
    unstamped = made.with_name(f"unstamped-{made.name}")
    made.rename(unstamped)
    with unstamped.open("rb") as source, made.open("wb") as out:
        out.write(stamped(holding(header, embedded), pixels_sha256, overview_hashes))
        source.seek(start)
        while data := source.read(_COPY_BYTES):
            out.write(data)
    unstamped.unlink()


def _seal_item(value: str) -> bytes:
    return f'<Item name="{SEAL_ITEM}">{value}</Item>'.encode()


def _with_items(header: Header, items: dict[str, str]) -> Header:
    main = header.images[0]
    field = main.fields.get(_GDAL_METADATA)
    text = field.data.rstrip(b"\0").decode("utf-8", "surrogateescape") if field else "<GDALMetadata>\n</GDALMetadata>\n"
    text = re.sub(rf' *<Item name="(?:{"|".join(STAMP)})">[^<]*</Item>\n', "", text)
    added = "".join(f'  <Item name="{name}">{value}</Item>\n' for name, value in items.items())
    data = text.replace("</GDALMetadata>", f"{added}</GDALMetadata>").encode("utf-8", "surrogateescape") + b"\0"
    fields = {**main.fields, _GDAL_METADATA: Field(_ASCII, len(data), data)}
    return Header((Image(fields, main.offsets, main.counts), *header.images[1:]), header.ghost, header.big)


def _reduced(fields: dict[int, Field]) -> dict[int, Field]:
    """Return the fields of an image, or of a mask, as an overview has them."""
    of_mask = _SUBFILE_TYPE in fields and _numbers(fields[_SUBFILE_TYPE])[0] & _MASK
    wanted = (_WIDTH, _HEIGHT, *_SHARED, *_JPEG)
    return {
        _SUBFILE_TYPE: _long(_REDUCED | _MASK if of_mask else _REDUCED),
        **{tag: fields[tag] for tag in wanted if tag in fields},
    }


def _with_masks(ghost: bytes) -> bytes:
    """Return the ghost with the promise that each block of a mask follows that of its image."""
    text = ghost[_GHOST_LINE:]
    if _INTERLEAVED not in text:
        text += _INTERLEAVED
    return _GHOST + b"%06d bytes\n" % len(text) + text


def _long(value: int) -> Field:
    return Field(_LONG, 1, struct.pack("<I", value))


def _numbers(field: Field) -> NDArray[np.uint64]:
    return np.frombuffer(field.data, f"<u{_TYPE_SIZES[field.kind]}").astype(np.uint64)


def _compose(header: Header) -> bytes:
    """Compose the header in two passes: where the data section starts depends on its size, not on its contents."""
    size = len(_laid_out(header, 0))
    return _laid_out(header, size)


def _laid_out(header: Header, start: int) -> bytes:
    big = header.big
    first = (16 if big else 8) + len(header.ghost)
    first += first % 2
    magic = struct.pack("<2sHHHQ", b"II", 43, 8, 0, first) if big else struct.pack("<2sHI", b"II", 42, first)
    out = bytearray(magic + header.ghost)
    out += bytes(first - len(out))
    for number, image in enumerate(header.images):
        offsets = np.where(image.counts > 0, image.offsets + np.uint64(start), np.uint64(0)).astype(
            "<u8" if big else "<u4"
        )
        fields = {
            **image.fields,
            _OFFSETS: Field(_LONG8 if big else _LONG, len(offsets), offsets.tobytes()),
            _COUNTS: Field(_LONG, len(image.counts), image.counts.astype("<u4").tobytes()),
        }
        _lay_out_directory(out, fields, big=big, last=number == len(header.images) - 1)
    return bytes(out)


def _lay_out_directory(out: bytearray, fields: dict[int, Field], *, big: bool, last: bool) -> None:
    """Append a directory, then the values that do not fit into it, then the next directory."""
    entry, inline, count, entry_format, pointer = (20, 8, "<Q", "<HHQ", "<Q") if big else (12, 4, "<H", "<HHI", "<I")
    table = bytearray(struct.pack(count, len(fields)))
    behind = len(out) + struct.calcsize(count) + entry * len(fields) + inline
    values = bytearray()
    for tag, field in sorted(fields.items()):
        table += struct.pack(entry_format, tag, field.kind, field.count)
        if len(field.data) <= inline:
            table += field.data.ljust(inline, b"\0")
        else:
            table += struct.pack(pointer, behind + len(values))
            values += field.data
            values += bytes(-len(values) % 8)
    table += struct.pack(pointer, 0 if last else behind + len(values))
    out += table + values


def _read_ghost(file: BinaryIO, start: int) -> bytes:
    file.seek(start)
    line = file.read(_GHOST_LINE)
    if not line.startswith(_GHOST):
        return b""
    return line + file.read(int(line[len(_GHOST) :].split(b" ", 1)[0]))


def _read_directory(file: BinaryIO, offset: int, *, big: bool) -> tuple[dict[int, Field], int]:
    entry, inline, count, entry_format, pointer = (20, 8, "<Q", "<HHQ", "<Q") if big else (12, 4, "<H", "<HHI", "<I")
    file.seek(offset)
    (entries,) = struct.unpack(count, file.read(struct.calcsize(count)))
    table = file.read(entry * entries + inline)
    fields = {}
    for start in range(0, entry * entries, entry):
        tag, kind, values = struct.unpack(entry_format, table[start : start + entry - inline])
        data, length = table[start + entry - inline : start + entry], values * _TYPE_SIZES[kind]
        if length > inline:
            file.seek(struct.unpack(pointer, data)[0])
            data = file.read(length)
        fields[tag] = Field(kind, values, data[:length])
    return fields, struct.unpack(pointer, table[-inline:])[0]
