"""Hostile and broken raster files, made from a seed: what `docs/hostile-rasters.md` promises is tried on each.

Here: the bytes of the files, by kind, and the outcomes that are documented for a kind.
Not here: running them (`test_hostile.py`).

A file is made for a `Trap`: the secret that it tries to read, the place where it tries to write, the port that it tries
to call.
"""

import io
import json
import sqlite3
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import rasterio.shutil
from rasterio.io import MemoryFile
from rasterio.transform import from_origin

CONVERTED = "CONVERTED"

GEOREFERENCED = {"crs": "EPSG:32618", "transform": from_origin(5e5, 4e6, 10, 10)}


@dataclass(frozen=True)
class Trap:
    """Targets that a hostile file must not reach."""

    secret: Path  # a valid raster of another tenant
    victim: Path  # a directory in which nothing may appear
    port: int  # of a server that counts

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@dataclass(frozen=True)
class Hostile:
    """One submission: the source and the files beside it."""

    name: str
    content: bytes
    sidecars: dict[str, bytes] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)  # of the ConvertRequest
    pixels: np.ndarray | None = None  # known without reading the file
    outcomes: tuple[str, ...] | None = None  # where a file can say more than its kind


@dataclass(frozen=True)
class Kind:
    """A row of the table in docs/hostile-rasters.md."""

    outcomes: tuple[str, ...]
    make: Callable[[np.random.Generator, Trap], Iterator[Hostile]]


KINDS: dict[str, Kind] = {}


def kind(name: str, *outcomes: str):
    """Register a maker under its name in the documentation."""

    def enter(make):
        KINDS[name] = Kind(outcomes, make)
        return make

    return enter


# --- honest files to spoil
# -------------------------------------------------------------------------------------------------


def picture(count: int = 3, side: int = 160, dtype: str = "uint8") -> np.ndarray:
    """Return a smooth picture with noise, so that every codec has work to do."""
    noise = np.random.default_rng(7).integers(0, 30, (count, side, side))
    rows, columns = np.mgrid[0:side, 0:side]
    return ((rows + columns) // 2 % 220 + noise).astype(dtype)


@cache
def encoded(driver: str = "GTiff", count: int = 3, dtype: str = "uint8", **options: Any) -> bytes:
    """A raster file as bytes."""
    pixels = picture(count, dtype=dtype)
    place = GEOREFERENCED if driver in {"GTiff", "HFA", "AAIGrid"} else {}
    shape = {"count": count, "height": pixels.shape[1], "width": pixels.shape[2], "dtype": dtype}
    with MemoryFile() as memory:
        if driver in {"GTiff", "HFA"}:
            with memory.open(driver=driver, **shape, **place, **options) as dataset:
                dataset.write(pixels)
            return memory.read()
        with MemoryFile() as plain:
            with plain.open(driver="GTiff", **shape, **place) as dataset:
                dataset.write(pixels)
            with plain.open() as dataset:
                rasterio.shutil.copy(dataset, memory.name, driver=driver, **options)
        return memory.read()


@cache
def tiled(codec: str) -> bytes:
    return encoded(compress=codec, tiled="YES", blockxsize=64, blockysize=64, interleave="pixel")


@cache
def striped(codec: str) -> bytes:
    return encoded(compress=codec, blockysize=16, interleave="pixel")


#: A PNG, JPEG or JPEG 2000 has its place from a world file and its CRS from the request.
WORLD = b"10\n0\n0\n-10\n500005\n3999995\n"
GIVEN_CRS = {"source_crs": "EPSG:32618"}


#: WebP has no world files.
PLACE_XML = b"<PAMDataset><GeoTransform>500000,10,0,4000000,0,-10</GeoTransform></PAMDataset>"


def pictured(name: str, content: bytes, beside: dict[str, bytes] | None = None, **more: Any) -> Hostile:
    """A picture with a world file, and a CRS from the request."""
    place = {f"{name}.aux.xml": PLACE_XML} if content[8:12] == b"WEBP" else {Path(name).stem + ".wld": WORLD}
    return Hostile(name, content, {**place, **(beside or {})}, GIVEN_CRS, **more)


# --- TIFF by hand
# ----------------------------------------------------------------------------------------------------------

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 7: 1, 11: 4, 12: 8, 13: 4, 16: 8}
_CODES = {1: "B", 2: "B", 3: "H", 4: "I", 7: "B", 11: "f", 12: "d", 13: "I", 16: "Q"}

SHORT, LONG, DOUBLE, ASCII = 3, 4, 12, 2

_PLACE = {
    33550: (DOUBLE, [10.0, 10.0, 0.0]),
    33922: (DOUBLE, [0.0, 0.0, 0.0, 5e5, 4e6, 0.0]),
    34735: (SHORT, [1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 32618]),
}


def raw_tiff(
    changes: dict[int, Any] | None = None,
    *,
    side: int = 32,
    data: bytes | None = None,
    big: bool = False,
    next_ifd: int = 0,
) -> bytes:
    """A TIFF of one uncompressed strip, field by field; `changes` maps a tag to (type, values), raw bytes of a field,
    or None.

    Where a value is the string "data", it is the offset of the data.
    """
    data = bytes(range(256)) * (side * side // 256) if data is None else data
    fields: dict[int, Any] = {
        256: (LONG, [side]),
        257: (LONG, [side]),
        258: (SHORT, [8]),
        259: (SHORT, [1]),
        262: (SHORT, [1]),
        273: (LONG, ["data"]),
        277: (SHORT, [1]),
        278: (LONG, [side]),
        279: (LONG, [len(data)]),
        **_PLACE,
        **(changes or {}),
    }
    fields = {tag: value for tag, value in sorted(fields.items()) if value is not None}
    head, entry, inline = (16, 20, 8) if big else (8, 12, 4)
    table = (8 if big else 2) + entry * len(fields) + inline
    sizes = {tag: len(v[1]) * _SIZES[v[0]] for tag, v in fields.items() if not isinstance(v, bytes)}
    data_at = head + table + sum(size + size % 2 for size in sizes.values() if size > inline)
    body, extra = b"", b""
    for tag, value in fields.items():
        if isinstance(value, bytes):
            body += value
            continue
        code, values = value
        packed = struct.pack(f"<{len(values)}{_CODES[code]}", *(data_at if v == "data" else v for v in values))
        if len(packed) > inline:
            where = head + table + len(extra)
            extra += packed + b"\0" * (len(packed) % 2)
            packed = struct.pack("<Q" if big else "<I", where)
        body += struct.pack("<HHQ" if big else "<HHI", tag, code, len(values)) + packed.ljust(inline, b"\0")
    if big:
        return (
            b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, len(fields)) + body + struct.pack("<Q", next_ifd) + extra + data
        )
    return b"II*\0" + struct.pack("<IH", 8, len(fields)) + body + struct.pack("<I", next_ifd) + extra + data


def text(words: str | bytes) -> tuple[int, list[int]]:
    """An ASCII field."""
    return ASCII, [*(words.encode() if isinstance(words, str) else words), 0]


def gdal_metadata(*items: str) -> tuple[int, list[int]]:
    """The private field in which GDAL keeps metadata."""
    return text(f"<GDALMetadata>{''.join(items)}</GDALMetadata>")


def one_tile(side: int, codec: int, tile: bytes, bits: int = 8, samples: int = 1) -> bytes:
    """A TIFF that is a single compressed tile."""
    changes = {
        258: (SHORT, [bits] * samples), 259: (SHORT, [codec]), 277: (SHORT, [samples]), 273: None, 278: None, 279: None,
        322: (LONG, [side]), 323: (LONG, [side]), 324: (LONG, ["data"]), 325: (LONG, [len(tile)]),
    }  # fmt: skip
    return raw_tiff(changes, side=side, data=tile)


# --- cut off
# ---------------------------------------------------------------------------------------------------------------


@kind("GeoTIFF cut off", "UNREADABLE")
def cut_off_tiffs(rng, trap):
    for codec in ("DEFLATE", "LZW", "ZSTD", "NONE"):
        whole = tiled(codec)
        for part in (0.3, 0.7, 0.99):
            yield Hostile(f"{codec}_{part}.tif", whole[: int(len(whole) * part)])
    whole = striped("DEFLATE")  # its last bytes are pixels
    for size in (4, 5, 8, 9, 20, 200, len(whole) - 1):
        yield Hostile(f"first_{size}.tif", whole[:size])
    for name, options in {
        "bigtiff": {"bigtiff": "YES"},
        "big_endian": {"endianness": "BIG"},
        "jpeg": {"compress": "JPEG"},
        "lerc": {"compress": "LERC"},
        "webp": {"compress": "WEBP"},
        "lzma": {"compress": "LZMA"},
        "packbits": {"compress": "PACKBITS"},
        "separate": {"compress": "DEFLATE", "interleave": "band"},
    }.items():
        whole = encoded(**options)
        yield Hostile(f"{name}.tif", whole[: len(whole) * 6 // 10])
    cog = encoded("COG", compress="DEFLATE", blocksize=64)
    yield Hostile("cog_70.tif", cog[: len(cog) * 7 // 10])
    yield Hostile("cog_99.tif", cog[: len(cog) * 99 // 100])


@kind("picture cut off", "UNREADABLE")
def cut_off_pictures(rng, trap):
    for driver, name in (
        ("PNG", "in.png"),
        ("JPEG", "in.jpg"),
        ("JP2OpenJPEG", "in.jp2"),
        ("WEBP", "in.webp"),
        ("BMP", "in.bmp"),
        ("GIF", "in.gif"),
    ):
        whole = encoded(driver, count=1 if driver == "GIF" else 3)
        for part in (0.02, 0.5, 0.9):
            yield pictured(f"{part}_{name}", whole[: int(len(whole) * part)])


@kind("Erdas Imagine cut off", "UNREADABLE", "RASTER_UNSUPPORTED")
def cut_off_hfa(rng, trap):
    whole = encoded("HFA")
    for part in (0.01, 0.3, 0.6, 0.95):
        yield Hostile(f"{part}.img", whole[: int(len(whole) * part)])


# --- damaged
# ---------------------------------------------------------------------------------------------------------------


def flipped(whole: bytes, rng: np.random.Generator, bits: int, start: int, end: int) -> bytes:
    """Return the same bytes with some bits of a range flipped."""
    damaged = bytearray(whole)
    for place in rng.integers(start * 8, end * 8, bits):
        damaged[place // 8] ^= 1 << (place % 8)
    return bytes(damaged)


def data_of(whole: bytes) -> tuple[int, int]:
    """Return where the blocks of a file made by GDAL are: after the first directory and its tables, which end before
    the first block.
    """
    with MemoryFile(whole) as memory, memory.open() as dataset:
        places: list[int] = []
        for row in range(-(-dataset.height // dataset.block_shapes[0][0])):
            for column in range(-(-dataset.width // dataset.block_shapes[0][1])):
                offset = dataset.get_tag_item(f"BLOCK_OFFSET_{column}_{row}", "TIFF", bidx=1)
                size = dataset.get_tag_item(f"BLOCK_SIZE_{column}_{row}", "TIFF", bidx=1)
                places += [int(offset), int(offset) + int(size)] if offset else []
        return min(places), max(places)


@kind("flipped bits in DEFLATE blocks", "UNREADABLE")
def flipped_deflate(rng, trap):
    for layout, whole in (("tiled", tiled("DEFLATE")), ("striped", striped("DEFLATE"))):
        for bits in (1, 1, 5, 100):
            yield Hostile(f"{layout}_{bits}.tif", flipped(whole, rng, bits, *data_of(whole)))
    end = data_of(whole)[1]
    yield Hostile("zeroed.tif", whole[: end - 2000] + bytes(1000) + whole[end - 1000 :])


@kind("flipped bits in LZW, ZSTD or plain blocks", "UNREADABLE", CONVERTED)
def flipped_unprotected(rng, trap):
    for codec in ("LZW", "ZSTD", "NONE"):
        for layout, whole in (("tiled", tiled(codec)), ("striped", striped(codec))):
            for bits in (1, 20):
                yield Hostile(f"{codec}_{layout}_{bits}.tif", flipped(whole, rng, bits, *data_of(whole)))


@kind(
    "flipped bits anywhere in a GeoTIFF", "UNREADABLE", "UNSUPPORTED_FORMAT", "RASTER_UNSUPPORTED", "RASTER_NO_CRS", "RASTER_SUBDATASETS", "TOO_LARGE", "INVALID_CRS", CONVERTED
)  # fmt: skip
def flipped_headers(rng, trap):
    for codec in ("DEFLATE", "LZW", "ZSTD", "NONE"):
        for number in range(4):
            yield Hostile(f"{codec}_{number}.tif", flipped(tiled(codec), rng, 3, 0, 700))
    whole = encoded(compress="JPEG", tiled="YES", blockxsize=128, blockysize=128, photometric="YCBCR")
    for number in range(6):
        yield Hostile(f"kept_{number}.tif", flipped(whole, rng, 3, 0, 900), options={"keep_lossy": True})


@cache
def cog(codec: str = "DEFLATE") -> bytes:
    """Return a COG with overviews and a mask, made by another program."""
    pixels = picture(side=600)
    shape = {"count": 3, "height": 600, "width": 600, "dtype": "uint8"}
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK="YES"), MemoryFile() as memory, MemoryFile() as plain:
        with plain.open(driver="GTiff", **shape, **GEOREFERENCED) as dataset:
            dataset.write(pixels)
            dataset.write_mask(pixels[0] > 40)
        with plain.open() as dataset:
            rasterio.shutil.copy(dataset, memory.name, driver="COG", COMPRESS=codec, BLOCKSIZE="256")
        return memory.read()


@kind(
    "flipped bits in a COG", "UNREADABLE", "UNSUPPORTED_FORMAT", "RASTER_UNSUPPORTED", "RASTER_NO_CRS", "RASTER_SUBDATASETS", "TOO_LARGE", CONVERTED
)  # fmt: skip
def flipped_cogs(rng, trap):
    whole = cog()
    for number in range(8):
        yield Hostile(
            f"promises_{number}.tif", flipped(whole, rng, 3, 8, 260)
        )  # what GDAL writes before the first directory
        yield Hostile(f"header_{number}.tif", flipped(whole, rng, 3, 260, 3000))
        yield Hostile(f"anywhere_{number}.tif", flipped(whole, rng, 5, 3000, len(whole)))
    for number in range(4):  # LZW has no checksum; overviews come first
        yield Hostile(f"overviews_{number}.tif", flipped(cog("LZW"), rng, 100, 3000, 40_000))
    promises = whole.index(b"LAYOUT")
    yield Hostile("promises_not_text.tif", whole[:promises] + b"\xff\xfe" + whole[promises + 2 :])


@kind("damaged JPEG, in a TIFF or alone", "UNREADABLE", CONVERTED)
def damaged_jpeg(rng, trap):
    whole = encoded(compress="JPEG", tiled="YES", blockxsize=64, blockysize=64, photometric="YCBCR")
    for number in range(3):
        yield Hostile(f"tiff_{number}.tif", flipped(whole, rng, 20, *data_of(whole)))
    whole = encoded(compress="JPEG", tiled="YES", blockxsize=128, blockysize=128, photometric="YCBCR")
    for number in range(6):
        damaged = flipped(whole, rng, 3, *data_of(whole))
        yield Hostile(f"kept_{number}.tif", damaged, options={"keep_lossy": True})
    whole = encoded("JPEG")
    for number in range(3):
        yield pictured(f"alone_{number}.jpg", flipped(whole, rng, 5, 20, len(whole)))


@kind(
    "damaged PNG, JPEG 2000 or WebP",
    "UNREADABLE",
    "UNSUPPORTED_FORMAT",
    "TOO_LARGE",
    "RASTER_UNSUPPORTED",
    "SANDBOX_OUT_OF_MEMORY",
    CONVERTED,
)
def damaged_pictures(rng, trap):
    for driver, ending in (("PNG", "png"), ("JP2OpenJPEG", "jp2"), ("WEBP", "webp"), ("HFA", "img")):
        whole = encoded(driver)
        for number in range(3):
            damaged = flipped(whole, rng, 5, 30, len(whole))
            name = f"{number}.{ending}"
            yield Hostile(name, damaged) if driver == "HFA" else pictured(name, damaged)


def run_length_hfa() -> bytes:
    """A compressed Erdas Imagine file: runs of eight rows."""
    pixels = (np.mgrid[0:256, 0:256][0] // 32).astype("uint8")
    with MemoryFile() as memory:
        with memory.open(
            driver="HFA", count=1, height=256, width=256, dtype="uint8", compressed="YES", **GEOREFERENCED
        ) as dataset:
            dataset.write(pixels, 1)
        return memory.read()


@kind("damaged runs in Erdas Imagine", "UNREADABLE", CONVERTED)
def damaged_runs(rng, trap):
    whole = run_length_hfa()
    yield Hostile("whole.img", whole, outcomes=(CONVERTED,))
    blocks = [
        at for at in range(len(whole) - 8) if whole[at : at + 8] == struct.pack("<II", 2, 17)
    ]  # two runs; where they end
    for number, at in enumerate(blocks[:3]):
        yield Hostile(f"one_run_{number}.img", whole[:at] + b"\1" + whole[at + 1 :], outcomes=("UNREADABLE",))
        yield Hostile(f"no_run_{number}.img", whole[:at] + b"\0" + whole[at + 1 :], outcomes=("UNREADABLE",))


@kind("metadata that is not UTF-8", "UNREADABLE", CONVERTED)
def latin_metadata(rng, trap):
    for name, item in {
        "dataset": b'<Item name="a">\xe6</Item>',
        "band": b'<Item name="a" sample="0">\xe6</Item>',
        "description": b'<Item name="DESCRIPTION" sample="0" role="description">\xe6</Item>',
        "domain": b'<Item name="a" domain="\xe6">b</Item>',
    }.items():
        yield Hostile(f"{name}.tif", raw_tiff({42112: text(b"<GDALMetadata>" + item + b"</GDALMetadata>")}))
    yield Hostile("citation.tif", raw_tiff({270: text(b"\xe6"), 305: text(b"\xe6")}))


# --- bombs
# -----------------------------------------------------------------------------------------------------------------


@kind("more pixels, bands or bytes than a file can mean", "TOO_LARGE")
def declared_too_large(rng, trap):
    yield Hostile("sides.tif", raw_tiff({256: (LONG, [2**31 - 1]), 257: (LONG, [2**31 - 1]), 278: (LONG, [1])}))
    yield Hostile("wide.tif", raw_tiff({256: (LONG, [4_000_001]), 257: (LONG, [1]), 278: (LONG, [1])}))
    yield Hostile(
        "block.tif",
        raw_tiff({256: (LONG, [30_000]), 257: (LONG, [30_000]), 278: (LONG, [30_000]), 259: (SHORT, [8])}),
        outcomes=("TOO_LARGE", "UNREADABLE"),
    )
    yield Hostile("tile.tif", one_tile(32, 8, zlib.compress(bytes(1024))).replace(struct.pack("<HHII", 322, LONG, 1, 32), struct.pack("<HHII", 322, LONG, 1, 65536)).replace(struct.pack("<HHII", 323, LONG, 1, 32), struct.pack("<HHII", 323, LONG, 1, 65536)))  # fmt: skip
    yield Hostile(
        "bands.tif",
        raw_tiff({277: (SHORT, [1001]), 258: (SHORT, [8] * 1001), 338: (SHORT, [0] * 1000)}, data=bytes(1001 * 1024)),
    )
    yield Hostile("sparse_terabyte.tif", sparse(1_000_000, 1_000_000))
    yield Hostile("sparse_3_gigabytes.tif", sparse(60_000, 50_000))
    yield pictured("picture.png", png(2**31 - 1, 2**31 - 1, b""), outcomes=("UNREADABLE",))
    yield pictured("wide.png", png(1_000_000, 1_000_000, zlib.compress(bytes(1000))))
    yield pictured("picture.bmp", bmp(200_000, 200_000), outcomes=("UNREADABLE", "TOO_LARGE"))
    yield pictured("picture.jp2", jp2_of_size(2**31 - 2, 2**31 - 2), outcomes=("TOO_LARGE", "UNREADABLE"))
    # GDAL 3.12 compares what is declared with the file's size itself
    yield Hostile("grid.asc", ascii_grid("1 2", ncols=10**6, nrows=10**6), outcomes=("TOO_LARGE", "UNREADABLE"))


def sparse(width: int, height: int) -> bytes:
    """A BigTIFF of a few KB in which no block is stored."""
    tile = 16384
    blocks = -(-width // tile) * -(-height // tile)
    return raw_tiff(
        {256: (LONG, [width]), 257: (LONG, [height]), 273: None, 278: None, 279: None, 322: (LONG, [tile]), 323: (LONG, [tile]), 324: (LONG, [0] * blocks), 325: (LONG, [0] * blocks)},
        big=True, data=b"",
    )  # fmt: skip


def png(
    width: int, height: int, idat: bytes, *, colour: int = 0, chunks: tuple[tuple[bytes, bytes], ...] = ()
) -> bytes:
    """A PNG with correct checksums."""
    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", idat), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in parts
    )


def bmp(width: int, height: int) -> bytes:
    return b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)


def jp2_of_size(width: int, height: int) -> bytes:
    """Return a JPEG 2000 whose SIZ segment and ihdr box declare a wrong size."""
    whole = encoded("JP2OpenJPEG", count=1, codec="JP2")
    at = whole.index(b"\xff\x51") + 6  # marker, length, capabilities; then width and height
    damaged = bytearray(whole)
    damaged[at : at + 8] = struct.pack(">II", width, height)
    damaged[at + 16 : at + 24] = struct.pack(">II", width, height)  # one tile of that size
    box = whole.index(b"ihdr") + 4
    damaged[box : box + 8] = struct.pack(">II", height, width)
    return bytes(damaged)


@kind("blocks that unpack to more than they should", "UNREADABLE", CONVERTED)
def bombs(rng, trap):
    exact = np.zeros((1, 32, 32), "uint8")
    yield Hostile("zstd.tif", one_tile(32, 50000, zstd_zeros(1 << 30)))
    yield Hostile("lzma.tif", one_tile(32, 34925, b"\xfd7zXZ\0" + bytes(64)))
    yield Hostile("packbits.tif", one_tile(32, 32773, b"\x81\0" * 100_000))
    yield Hostile("lzw.tif", one_tile(32, 5, b"\x80\x00\x20" + bytes(100_000)))
    yield Hostile("honest.tif", one_tile(32, 8, zlib.compress(bytes(1024))), pixels=exact, outcomes=(CONVERTED,))
    yield pictured("idat.png", png(32, 32, zlib.compress(bytes(64 << 20), 9)))
    row = zlib.compress(bytes(32 * 33))
    yield pictured(
        "text.png", png(32, 32, row, chunks=((b"zTXt", b"Comment\0\0" + zlib.compress(bytes(64 << 20), 9)),))
    )
    yield pictured("profile.png", png(32, 32, row, chunks=((b"iCCP", b"p\0\0" + zlib.compress(bytes(64 << 20), 9)),)))


@kind("DEFLATE blocks that unpack to more than their size", "UNREADABLE")
def overfull_deflate(rng, trap):
    for size in (1025, 4096, 64 << 20):
        yield Hostile(f"tile_of_{size}.tif", one_tile(32, 8, zlib.compress(bytes(size), 9)))


def zstd_zeros(size: int) -> bytes:
    """Return a ZSTD frame of zeros, written as blocks of one repeated byte: 4 bytes for each 128 KB."""
    block = 128 * 1024
    count = size // block
    blocks = [struct.pack("<I", (block << 3) | (1 << 1) | (number == count - 1))[:3] + b"\0" for number in range(count)]
    return b"\x28\xb5\x2f\xfd" + bytes([0b1010_0000]) + struct.pack("<I", size) + b"".join(blocks)


@kind(
    "pages without end, fields without sense",
    "UNREADABLE",
    "RASTER_UNSUPPORTED",
    "RASTER_SUBDATASETS",
    "RASTER_NO_CRS",
    "TOO_LARGE",
    CONVERTED,
)
def senseless_headers(rng, trap):
    for name, changes in SENSELESS.items():
        yield Hostile(f"{name}.tif", raw_tiff(changes))
    yield Hostile("loop_to_itself.tif", raw_tiff(next_ifd=8), outcomes=("UNREADABLE",))
    yield Hostile("loop_of_sub_pages.tif", raw_tiff({330: (LONG, [8])}), outcomes=("UNREADABLE", "RASTER_SUBDATASETS"))
    yield Hostile("ten_thousand_pages.tif", pages(10_000), outcomes=("RASTER_SUBDATASETS", "UNREADABLE"))
    yield Hostile("entries.tif", b"II*\0\x08\0\0\0\xff\xff" + bytes(100), outcomes=("UNREADABLE",))
    yield Hostile("big_entries.tif", b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, 1 << 60), outcomes=("UNREADABLE",))
    yield Hostile("big_pointer.tif", b"II+\0\x08\0\0\0" + struct.pack("<Q", (1 << 63) - 1), outcomes=("UNREADABLE",))
    yield Hostile("big_offset_size.tif", b"II+\0\xff\xff\0\0" + struct.pack("<QQ", 16, 1), outcomes=("UNREADABLE",))
    yield Hostile("magic_and_a_vrt.tif", b"II*\0" + vrt("/etc/passwd"), outcomes=("UNREADABLE",))


@kind("sizes of strips that are missing or too few", "UNREADABLE", CONVERTED)
def senseless_sizes(rng, trap):
    packed = zlib.compress(bytes(range(256)) * 4)
    yield Hostile("none.tif", raw_tiff({279: None}))  # some old writers leave them out
    yield Hostile("none_deflate.tif", raw_tiff({279: None, 259: (SHORT, [8])}, data=packed))
    yield Hostile("two_sizes.tif", raw_tiff({279: (LONG, [1024, 5])}))
    yield Hostile("two_places.tif", raw_tiff({273: (LONG, ["data", 5])}))
    yield Hostile("signed.tif", raw_tiff({279: _count(279, 9, 1, 1024)}))


def _count(tag: int, code: int, count: int, value: int) -> bytes:
    return struct.pack("<HHII", tag, code, count, value)


#: Changes to an honest header, each of which makes no sense.
SENSELESS: dict[str, dict[int, Any]] = {
    "no_width": {256: None},
    "zero_width": {256: (LONG, [0])},
    "no_strips": {273: None, 279: None},
    "no_samples": {277: (SHORT, [0])},
    "most_samples": {277: (SHORT, [65535])},
    "zero_bits": {258: (SHORT, [0])},
    "most_bits": {258: (SHORT, [65535])},
    "odd_bits": {258: (SHORT, [13])},
    "bits_of_two_sizes": {277: (SHORT, [2]), 258: (SHORT, [8, 16])},
    "zero_rows": {278: (LONG, [0])},
    "unknown_codec": {259: (SHORT, [4711])},
    "fax": {259: (SHORT, [4]), 258: (SHORT, [1])},
    "old_jpeg": {259: (SHORT, [6])},
    "jpeg_of_nothing": {259: (SHORT, [7])},
    "palette_without_colours": {262: (SHORT, [3])},
    "palette_too_short": {262: (SHORT, [3]), 320: (SHORT, [1, 2, 3])},
    "unknown_photometric": {262: (SHORT, [999])},
    "ycbcr_of_one_band": {262: (SHORT, [6])},
    "unknown_sample_format": {339: (SHORT, [77])},
    "offset_beyond": {273: (LONG, [2**32 - 2])},
    "size_beyond": {279: (LONG, [2**32 - 1])},
    "strip_is_the_header": {273: (LONG, [0])},
    "table_of_4_billion": {273: _count(273, LONG, 2**32 - 1, 8)},
    "table_beyond": {273: _count(273, LONG, 64, 2**31)},
    "strings_without_end": {270: _count(270, ASCII, 2**31, 8)},
    "strip_table_of_doubles": {273: (DOUBLE, [8.0])},
    "unknown_type": {273: _count(273, 99, 1, 8)},
    "place_of_nan": {33550: (DOUBLE, [float("nan")] * 3)},
    "place_of_infinity": {33922: (DOUBLE, [0.0, 0.0, 0.0, float("inf"), float("-inf"), 0.0])},
    "pixel_of_size_zero": {33550: (DOUBLE, [0.0, 0.0, 0.0])},
    "place_too_short": {33922: (DOUBLE, [1.0])},
    "control_points_of_nan": {
        33550: None,
        33922: (DOUBLE, [0, 0, 0, 5e5, 4e6, 0, 32, 0, 0, float("nan"), 4e6, 0, 0, 32, 0, 5e5, 4e6 - 320, 0, 32, 32, 0, 500320, 4e6 - 320, 0]),
    },
    "matrix_of_zeros": {33550: None, 33922: None, 34264: (DOUBLE, [0.0] * 16)},
    "keys_without_end": {34735: (SHORT, [1, 1, 0, 65535, 1024, 0, 1, 1])},
    "keys_of_ones": {34735: (SHORT, [1] * 400)},
    "keys_elsewhere": {34735: (SHORT, [1, 1, 0, 2, 1024, 0, 1, 1, 3072, 34736, 200, 60000])},
    "epsg_unknown": {34735: (SHORT, [1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 1])},
    "nodata_of_words": {42113: text("none, really")},
    "nodata_beyond_the_type": {42113: text("1e400")},
    "metadata_not_xml": {42112: text("<GDALMetadata><Item")},
    "metadata_laughs": {42112: text('<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]><GDALMetadata><Item name="x">&b;</Item></GDALMetadata>')},
    "metadata_deep": {42112: text("<GDALMetadata>" * 3000)},
    "metadata_not_text": {42112: gdal_metadata(), 305: text(b"\xff\xfe\x80")},
    "profile_of_nothing": {34675: (7, [0] * 8)},
    "exif_into_itself": {34665: (LONG, [8])},
    "rpc_of_nan": {50844: (DOUBLE, [float("nan")] * 92)},
    "mask_page_of_itself": {254: (LONG, [4])},
    "overview_alone": {254: (LONG, [1])},
}  # fmt: skip


def pages(number: int) -> bytes:
    """A TIFF of many pages, all of the same strip."""
    page = struct.pack("<H", 9)
    fields = [(256, 32), (257, 32), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (278, 32), (279, 1024)]
    page += b"".join(struct.pack("<HHII", tag, LONG, 1, value) for tag, value in fields)
    first, size = 8 + 1024, len(page) + 4
    body = b"".join(page + struct.pack("<I", first + (i + 1) * size if i < number - 1 else 0) for i in range(number))
    return b"II*\0" + struct.pack("<I", first) + bytes(1024) + body


# --- disguises
# -------------------------------------------------------------------------------------------------------------


def vrt(source: str, *, raw: bool = False) -> bytes:
    """A virtual raster of another file."""
    if raw:
        band = (
            '<VRTRasterBand dataType="Byte" band="1" subClass="VRTRawRasterBand"><SourceFilename'
            f' relativeToVRT="0">{source}</SourceFilename><ImageOffset>0</ImageOffset><PixelOffset>1</PixelOffset><LineOffset>20</LineOffset></VRTRasterBand>'
        )
    else:
        band = (
            '<VRTRasterBand dataType="Byte" band="1"><SimpleSource><SourceFilename'
            f' relativeToVRT="0">{source}</SourceFilename><SourceBand>1</SourceBand></SimpleSource></VRTRasterBand>'
        )
    return (
        '<VRTDataset rasterXSize="20"'
        f' rasterYSize="20"><SRS>EPSG:32618</SRS><GeoTransform>500000,10,0,4000000,0,-10</GeoTransform>{band}</VRTDataset>'.encode()
    )


def disguises(trap: Trap) -> dict[str, bytes]:
    """Return texts that GDAL opens as rasters, each of which would read a file, write one or use the network."""
    url, secret, victim = trap.url, trap.secret, trap.victim / "written_by_mrf"
    python = (
        '<VRTDataset rasterXSize="2" rasterYSize="2"><VRTRasterBand dataType="Byte" band="1"'
        ' subClass="VRTDerivedRasterBand"><PixelFunctionLanguage>Python</PixelFunctionLanguage><PixelFunctionType>f</PixelFunctionType><PixelFunctionCode><![CDATA[\nimport'
        ' os\ndef f(*a, **k): os.mkdir("%s")\n]]></PixelFunctionCode></VRTRasterBand></VRTDataset>'
    )
    mrf = (
        f"<MRF_META><CachedSource><Source>{secret}</Source></CachedSource><Raster><Size x='160' y='160'"
        " c='3'/><PageSize x='160' y='160'"
        f" c='3'/><Compression>NONE</Compression><DataFile>{victim}.data</DataFile><IndexFile>{victim}.idx</IndexFile></Raster></MRF_META>"
    )
    stac = {
        "type": "FeatureCollection",
        "stac_version": "1.0.0",
        "features": [
            {
                "type": "Feature",
                "stac_version": "1.0.0",
                "properties": {"proj:epsg": 4326, "proj:transform": [1, 0, 0, 0, -1, 0], "proj:shape": [20, 20]},
                "assets": {
                    "a": {
                        "href": f"{url}/a.tif",
                        "proj:epsg": 4326,
                        "proj:transform": [1, 0, 0, 0, -1, 0],
                        "proj:shape": [20, 20],
                        "eo:bands": [{"name": "a"}],
                    }
                },
                "geometry": None,
            }
        ],
    }
    return {
        "vrt": vrt(str(secret)),
        "vrt_raw": vrt("/etc/passwd", raw=True),
        "vrt_curl": vrt(f"/vsicurl/{url}/a.tif"),
        "vrt_spaces": b"\xef\xbb\xbf\n  " + vrt(str(secret)),
        "vrt_python": (python % victim).encode(),
        "mrf": mrf.encode(),
        "wms": f'<GDAL_WMS><Service name="TMS"><ServerUrl>{url}/${{z}}/${{x}}/${{y}}.png</ServerUrl></Service><DataWindow><UpperLeftX>0</UpperLeftX><UpperLeftY>0</UpperLeftY><LowerRightX>20</LowerRightX><LowerRightY>20</LowerRightY><SizeX>20</SizeX><SizeY>20</SizeY><TileLevel>1</TileLevel></DataWindow><BandsCount>1</BandsCount></GDAL_WMS>'.encode(),
        "wcs": f"<WCS_GDAL><ServiceURL>{url}/wcs?</ServiceURL><Version>1.0.0</Version><CoverageName>a</CoverageName></WCS_GDAL>".encode(),
        "wmts": f"<GDAL_WMTS><GetCapabilitiesUrl>{url}/wmts</GetCapabilitiesUrl><Layer>a</Layer></GDAL_WMTS>".encode(),
        "wms_capabilities": f'<WMT_MS_Capabilities version="1.1.1"><Capability><Request><GetMap><DCPType><HTTP><Get><OnlineResource xlink:href="{url}"/></Get></HTTP></DCPType></GetMap></Request></Capability></WMT_MS_Capabilities>'.encode(),
        "url": f"{url}/a.tif".encode(),
        "gdalg": json.dumps({"type": "gdal_streamed_alg", "command_line": f"gdal raster convert {secret} --of stream streamed"}).encode(),
        "gti": f"<GDALTileIndexDataset><IndexDataset>{secret}</IndexDataset><IndexLayer>a</IndexLayer></GDALTileIndexDataset>".encode(),
        "stacit": json.dumps(stac).encode(),
        "stacta": json.dumps({"type": "Feature", "stac_version": "1.0.0", "stac_extensions": ["tiled-assets"], "asset_templates": {"a": {"href": f"{url}/{{TileMatrix}}.tif"}}, "properties": {"tiles:tile_matrix_sets": {}}}).encode(),
        "subdataset": f"GTIFF_DIR:1:{secret}".encode(),
        "derived": f"DERIVED_SUBDATASET:AMPLITUDE:{secret}".encode(),
        "netcdf_name": f'NETCDF:"{secret}":a'.encode(),
        "zarr": b'{"zarr_format": 2, "shape": [20, 20], "chunks": [20, 20], "dtype": "|u1", "order": "C", "compressor": null, "fill_value": 0, "filters": null}',
        "pdf": b"%PDF-1.4\n1 0 obj\n<< /Type /Catalog >>\nendobj\n",
        "sqlite": b"SQLite format 3\0" + bytes(200),
        "envi": f"ENVI\nsamples = 20\nlines = 20\nbands = 1\ndata type = 1\ndata file = {secret}\n".encode(),
        "worldfile_of_ozi": f"OziExplorer Map Data File Version 2.2\na\n{secret}\n".encode(),
    }  # fmt: skip


@kind("another format in disguise", "UNSUPPORTED_FORMAT", "UNREADABLE")
def disguised(rng, trap):
    endings = (".tif", ".png", ".jp2", ".asc")
    for number, (name, content) in enumerate(disguises(trap).items()):
        for ending in endings if number < 6 else (endings[number % 4], ".tif"):
            yield Hostile(name + ending, content)


@kind("no raster at all", "UNREADABLE", "UNSUPPORTED_FORMAT")
def no_raster(rng, trap):
    yield Hostile("empty.tif", b"", outcomes=("UNREADABLE",))
    yield Hostile("one_byte.tif", b"I", outcomes=("UNSUPPORTED_FORMAT",))
    yield Hostile("text.tif", b"not a raster", outcomes=("UNSUPPORTED_FORMAT",))
    yield Hostile("noise.tif", rng.bytes(100_000), outcomes=("UNSUPPORTED_FORMAT",))
    yield Hostile("noise_after_magic.tif", b"II*\0" + rng.bytes(10_000), outcomes=("UNREADABLE",))
    yield Hostile("noise_after_magic.png", b"\x89PNG\r\n\x1a\n" + rng.bytes(10_000), outcomes=("UNREADABLE",))
    yield Hostile(
        "noise_after_magic.jp2", b"\x00\x00\x00\x0cjP  \r\n\x87\n" + rng.bytes(10_000), outcomes=("UNREADABLE",)
    )
    yield Hostile("noise_after_magic.j2k", b"\xff\x4f\xff\x51\xff" + rng.bytes(10_000), outcomes=("UNREADABLE",))
    yield Hostile("noise_after_magic.img", b"EHFA_HEADER_TAG\0" + rng.bytes(10_000), outcomes=("UNREADABLE",))
    yield Hostile("noise_after_magic.dt0", b"UHL1" + rng.bytes(10_000), outcomes=("UNREADABLE",))
    yield Hostile("noise_after_magic.bmp", b"BM" + rng.bytes(10_000), outcomes=("UNREADABLE", "TOO_LARGE"))
    yield Hostile("noise_after_magic.gif", b"GIF89a" + rng.bytes(10_000), outcomes=("UNREADABLE",))
    yield Hostile("zeros.tif", b"II*\0" + bytes(10_000), outcomes=("UNREADABLE",))
    with_members = io.BytesIO()
    with zipfile.ZipFile(with_members, "w") as archive:
        archive.writestr("in.tif", striped("NONE"))
    yield Hostile("zip.tif", with_members.getvalue(), outcomes=("UNSUPPORTED_FORMAT",))


@kind("a container of variables, or its magic and noise", "RASTER_SUBDATASETS")
def containers(rng, trap):
    for name, magic in {
        "classic.nc": b"CDF\x01",
        "large.nc": b"CDF\x02",
        "hdf5.h5": b"\x89HDF\r\n\x1a\n",
        "weather.grib2": b"GRIB\0\0\0\x02",
        "hdf5.tif": b"\x89HDF\r\n\x1a\n",
    }.items():
        yield Hostile(name, magic + rng.bytes(5000))


# --- files that point to others
# ----------------------------------------------------------------------------------------------


@kind("metadata that names another file", "RASTER_UNSUPPORTED")
def pointing_metadata(rng, trap):
    targets = {
        "secret": trap.secret,
        "vrt": "@beside.ovr",
        "curl": f"/vsicurl/{trap.url}/a.tif",
        "base": ":::BASE:::../../etc/passwd",
    }
    for name, target in targets.items():
        item = f'<Item name="OVERVIEW_FILE" domain="OVERVIEWS">{target}</Item>'
        yield Hostile(f"{name}.tif", raw_tiff({42112: gdal_metadata(item)}), {"beside.ovr": vrt(str(trap.secret))})
    item = (
        f'<Item name="X_DATASET" domain="GEOLOCATION">/vsicurl/{trap.url}/x.tif</Item><Item name="Y_DATASET"'
        f' domain="GEOLOCATION">{trap.secret}</Item>'
    )
    yield Hostile("geolocation.tif", raw_tiff({42112: gdal_metadata(item)}))
    yield Hostile("geolocation_warped.tif", raw_tiff({42112: gdal_metadata(item)}), options={"target_crs": "EPSG:3857"})
    pam = (
        f'<PAMDataset><Metadata domain="OVERVIEWS"><MDI key="OVERVIEW_FILE">{trap.secret}</MDI></Metadata></PAMDataset>'
    )
    yield Hostile("pam.tif", raw_tiff(), {"pam.tif.aux.xml": pam.encode()})
    yield pictured("pam.png", encoded("PNG"), {"pam.png.aux.xml": pam.encode()})


@kind("overviews or a mask beside it that are something else", "UNREADABLE", "RASTER_UNSUPPORTED")
def disguised_sidecars(rng, trap):
    for ending in ("ovr", "msk", "OVR", "ovr.msk"):
        yield Hostile("in.tif", raw_tiff(), {f"in.tif.{ending}": vrt(str(trap.secret))}, outcomes=("UNREADABLE",))
    yield pictured(
        "in.png", encoded("PNG"), {"in.png.msk": vrt(f"/vsicurl/{trap.url}/a.tif")}, outcomes=("UNREADABLE",)
    )
    pointing = raw_tiff({42112: gdal_metadata(f'<Item name="OVERVIEW_FILE" domain="OVERVIEWS">{trap.secret}</Item>')})
    yield Hostile("in.tif", raw_tiff(), {"in.tif.ovr": pointing}, outcomes=("RASTER_UNSUPPORTED",))
    yield Hostile("in.tif", raw_tiff(), {"in.tif.ovr": b""}, outcomes=("UNREADABLE",))
    yield Hostile("in.tif", raw_tiff(), {"in.tif.msk": b"II*\0" + rng.bytes(500)}, outcomes=("UNREADABLE",))


@kind("sidecars that lie", CONVERTED, "UNREADABLE", "RASTER_UNSUPPORTED", "RASTER_NO_CRS")
def lying_sidecars(rng, trap):
    plain = raw_tiff()
    nan_world = b"nan\n0\n0\nnan\nnan\nnan\n"
    yield Hostile(
        "nan.tif",
        raw_tiff({33550: None, 33922: None}),
        {"nan.tfw": nan_world},
        outcomes=("UNREADABLE", "RASTER_UNSUPPORTED"),
    )
    yield Hostile("noise.tif", plain, {"noise.tfw": rng.bytes(1000)}, outcomes=(CONVERTED,))
    yield Hostile("contradicts.tif", plain, {"contradicts.tfw": WORLD}, outcomes=(CONVERTED,))
    yield Hostile("prj.tif", plain, {"prj.prj": trap.url.encode()}, outcomes=(CONVERTED,))
    for name, srs in {
        "url": trap.url,
        "file": str(trap.secret),
        "proj": "+proj=pipeline +step +proj=hgridshift +grids=/etc/passwd",
        "noise": "�" * 50,
    }.items():
        pam = f"<PAMDataset><SRS>{srs}</SRS><GeoTransform>0,1,0,0,0,-1</GeoTransform></PAMDataset>".encode()
        yield Hostile(
            f"crs_{name}.tif", raw_tiff({33550: None, 33922: None, 34735: None}), {f"crs_{name}.tif.aux.xml": pam}
        )
        yield Hostile(
            f"crs_{name}.asc", ascii_grid(), {f"crs_{name}.prj": srs.encode(), f"crs_{name}.asc.aux.xml": pam}
        )
    for name, pam in {
        "not_xml": b"\xff\xfe<PAM",
        "deep": b"<PAMDataset>" * 3000,
        "laughs": (
            b'<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]><PAMDataset><Metadata><MDI'
            b' key="x">&b;</MDI></Metadata></PAMDataset>'
        ),
        "many": (
            b"<PAMDataset><Metadata>"
            + b"".join(b'<MDI key="k%d">v</MDI>' % i for i in range(4000))
            + b"</Metadata></PAMDataset>"
        ),
        "nodata": b'<PAMDataset><PAMRasterBand band="1"><NoDataValue>7</NoDataValue></PAMRasterBand></PAMDataset>',
        "bands": b'<PAMDataset><PAMRasterBand band="99"><NoDataValue>7</NoDataValue></PAMRasterBand></PAMDataset>',
        "place": b"<PAMDataset><GeoTransform>nan,nan,nan,nan,nan,nan</GeoTransform></PAMDataset>",
        "mask": (
            "<PAMDataset><PAMRasterBand"
            f' band="1"><MaskBand><SourceFilename>{trap.secret}</SourceFilename></MaskBand></PAMRasterBand></PAMDataset>'.encode()
        ),
    }.items():
        yield Hostile(f"{name}.tif", plain, {f"{name}.tif.aux.xml": pam})
    yield Hostile("other_size.tif", plain, {"other_size.tif.ovr": striped("NONE")})
    item = f'<Item name="FILENAME" domain="ProxyOverviewRequest">{trap.secret}</Item>'
    yield Hostile("proxy.tif", raw_tiff({42112: gdal_metadata(item)}), outcomes=(CONVERTED,))
    yield Hostile("other_mask.tif", plain, {"other_mask.tif.msk": striped("NONE")})
    yield Hostile(
        "rpb.tif", plain, {"rpb.RPB": rng.bytes(3000), "rpb.IMD": rng.bytes(3000), "rpb_RPC.TXT": rng.bytes(3000)}
    )
    yield Hostile("aux.tif", plain, {"aux.aux": b"EHFA_HEADER_TAG\0" + rng.bytes(3000)})
    yield Hostile(
        "esri.tif", plain, {"esri.tif.xml": b"<!DOCTYPE x SYSTEM '" + trap.url.encode() + b"/x.dtd'><metadata>"}
    )


@kind("a CRS that sends PROJ elsewhere", CONVERTED, "UNREADABLE", "RASTER_NO_CRS", "RASTER_UNSUPPORTED", "INVALID_CRS")
def pointing_crs(rng, trap):
    keys = [1, 1, 0, 4, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 32767]
    grid = f"{trap.url}/grid.tif"
    wkt = (
        f'PROJCS["x",GEOGCS["x",DATUM["x",SPHEROID["x",6378137,298.25],EXTENSION["PROJ4_GRIDS","{grid}"]],PRIMEM["Greenwich",0],UNIT["degree",0.0174532925199433]],PROJECTION["Mercator_1SP"],UNIT["metre",1],EXTENSION["PROJ4","+proj=merc'
        f' +a=6378137 +nadgrids={grid} +no_defs"]]'
    )
    citation = f"ESRI PE String = {wkt}"
    for name, words in {"esri": citation, "proj": f"+proj=merc +nadgrids={grid}", "url": trap.url}.items():
        field = [*keys, 1026, 34737, len(words) + 1, 0]
        yield Hostile(
            f"{name}.tif",
            raw_tiff({34735: (SHORT, field), 34737: text(words + "|")}),
            options={"target_crs": "EPSG:4326"},
        )
    pam = f"<PAMDataset><SRS>{wkt.replace(chr(34), '&quot;')}</SRS></PAMDataset>".encode()
    yield Hostile("pam.tif", raw_tiff({34735: None}), {"pam.tif.aux.xml": pam}, {"target_crs": "EPSG:4326"})
    yield Hostile("asked.tif", raw_tiff({34735: None}), options={"source_crs": trap.url}, outcomes=("INVALID_CRS",))
    yield Hostile(
        "asked_file.tif", raw_tiff({34735: None}), options={"source_crs": "/etc/passwd"}, outcomes=("INVALID_CRS",)
    )
    yield Hostile(
        "asked_init.tif",
        raw_tiff({34735: None}),
        options={"source_crs": "+init=/etc/passwd:1"},
        outcomes=("INVALID_CRS",),
    )
    for name, srs in {
        "url": f"{trap.url}/crs.xml",
        "gmljp2": "gmljp2://xml/crs.xml",
        "entity": f"file://{trap.secret}",
    }.items():
        yield Hostile(f"gml_{name}.jp2", jp2_with_gml(srs), outcomes=(CONVERTED,), options={"source_crs": "EPSG:32618"})


def jp2_with_gml(srs: str) -> bytes:
    """Return a JPEG 2000 whose GML box locates it in a CRS with that name."""
    gml = f"""<gml:FeatureCollection xmlns:gml="http://www.opengis.net/gml" xmlns:xlink="http://www.w3.org/1999/xlink"><gml:featureMember><gml:RectifiedGrid dimension="2" srsName="{srs}"><gml:limits><gml:GridEnvelope><gml:low>0 0</gml:low><gml:high>159 159</gml:high></gml:GridEnvelope></gml:limits><gml:origin><gml:Point srsName="{srs}"><gml:coordinates>500005,3999995</gml:coordinates></gml:Point></gml:origin><gml:offsetVector srsName="{srs}">10,0</gml:offsetVector><gml:offsetVector srsName="{srs}">0,-10</gml:offsetVector></gml:RectifiedGrid></gml:featureMember></gml:FeatureCollection>""".encode()

    def box(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body) + 8) + name + body

    def labelled(label: bytes, *boxes: bytes) -> bytes:
        return box(b"asoc", box(b"lbl ", label) + b"".join(boxes))

    inner = labelled(b"gml.root-instance", box(b"xml ", gml))
    dictionary = labelled(b"crs.xml", box(b"xml ", f'<gml:Dictionary xlink:href="{srs}"/>'.encode()))
    whole = encoded("JP2OpenJPEG", count=1, codec="JP2")
    at = whole.index(b"jp2c") - 4
    return whole[:at] + labelled(b"gml.data", inner, dictionary) + whole[at:]


# --- names
# -----------------------------------------------------------------------------------------------------------------


@kind("a wrong ending", CONVERTED)
def wrong_endings(rng, trap):
    yield pictured("png.tif", encoded("PNG"), pixels=picture())
    yield pictured("tif.png", striped("LZW"), pixels=picture())
    yield pictured("jpeg.jp2", encoded("JPEG"))
    yield pictured("jp2.tif", encoded("JP2OpenJPEG", codec="JP2", reversible="YES", quality="100"), pixels=picture())
    yield pictured("gif.jpg", encoded("GIF", count=1), pixels=picture(1))
    yield pictured("webp.png", encoded("WEBP", lossless="YES"), pixels=picture())
    yield Hostile("asc.tif", ascii_grid("1 2 3 4"), options=GIVEN_CRS)
    yield Hostile("tif.nc", striped("NONE"), pixels=picture())
    yield Hostile("hfa.tif", encoded("HFA"), pixels=picture())
    yield Hostile("no_ending", striped("NONE"), pixels=picture())


@kind("a name that could be taken for something else", CONVERTED)
def names(rng, trap):
    for name in (
        "new\nline.tif", "quote\".tif", "quote'.tif", "$(touch x).tif", "-rf.tif", "a;b|c.tif", "GTIFF_DIR:2:x.tif", "NETCDF:x:y.tif", "zip!in.tif", "in.tif?a=b&c.tif", "a,b=c.tif",
        "<VRTDataset>.tif", "%2e%2e.tif", "http:x.tif", "ünï code \U0001f30d.tif", "\u202eflip.tif", "tab\t.tif", "back\\slash.tif", " .tif", "…" * 60 + ".tif", "MEM:::.tif", "{a}.tif", "%s%n.tif",
    ):  # fmt: skip
        yield Hostile(name, striped("DEFLATE"), pixels=picture())


# --- ASCII grids
# -----------------------------------------------------------------------------------------------------------


def ascii_grid(
    values: str = "1 2\n3 4", *, ncols: Any = 2, nrows: Any = 2, corner: Any = 500000, cell: Any = 10, more: str = ""
) -> bytes:
    return f"ncols {ncols}\nnrows {nrows}\nxllcorner {corner}\nyllcorner 4000000\ncellsize {cell}\n{more}{values}\n".encode()


@kind("an ASCII grid that does not add up", "UNREADABLE", "TOO_LARGE", "RASTER_UNSUPPORTED")
def wrong_grids(rng, trap):
    def grid(name: str, content: bytes) -> Hostile:
        return Hostile(f"{name}.asc", content, options=GIVEN_CRS)

    yield grid("too_few", ascii_grid("1 2 3"))
    yield grid("too_many", ascii_grid("1 2 3 4 5"))
    yield grid("words", ascii_grid("1 two 3 4"))
    yield grid("binary", ascii_grid("1 2 \0\1\2 4"))
    yield grid("no_values", ascii_grid(""))
    yield grid("nan_columns", ascii_grid(ncols="nan"))
    yield grid("negative", ascii_grid(ncols=-2))
    yield grid("no_rows", ascii_grid(nrows=0))
    yield grid("no_cells", ascii_grid(cell=0))
    yield grid("nan_cells", ascii_grid(cell="nan"))
    yield grid("nan_corner", ascii_grid(corner="nan"))
    yield grid("billion_columns", ascii_grid(ncols=10**9))
    yield grid("billion_rows", ascii_grid(nrows=10**9))
    yield grid("header_alone", b"ncols 2\n")
    yield grid("beyond_doubles", ascii_grid("1.5 2 3 1e400"))
    yield grid("whole_beyond_doubles", ascii_grid("2.5 2 3 9007199254740993"))
    yield grid("a_power_beyond_all", ascii_grid("2.5 2 3 1e99999999999999999999"))
    yield grid("a_word_for_nodata", ascii_grid("1 2 3 4", more="NODATA_value NODATA\n"))
    yield grid("one_long_word", ascii_grid("1" * 1_000_000))
    yield grid("beyond_doubles", ascii_grid("1e999 2 3 4"))


# --- raw pixels, tiles, and other files that say little of themselves
# -----------------------------------------------------------


def envi(**fields: Any) -> bytes:
    known = {
        "samples": 32,
        "lines": 32,
        "bands": 1,
        "header offset": 0,
        "data type": 1,
        "interleave": "bsq",
        "byte order": 0,
        "map info": "{UTM, 1, 1, 500000, 4000000, 10, 10, 18, North, WGS-84}",
        **fields,
    }
    return ("ENVI\n" + "".join(f"{name} = {value}\n" for name, value in known.items())).encode()


def ehdr(**fields: Any) -> bytes:
    known = {
        "nrows": 32,
        "ncols": 32,
        "nbands": 1,
        "nbits": 8,
        "layout": "bil",
        "byteorder": "I",
        "ulxmap": 500005,
        "ulymap": 3999995,
        "xdim": 10,
        "ydim": 10,
        **fields,
    }
    return "".join(f"{name} {value}\n" for name, value in known.items()).encode()


_LIES = {
    "more_rows": ({"lines": 33}, {"nrows": 33}),
    "billions": ({"lines": 2**31 - 1, "samples": 2**31 - 1}, {"nrows": 2**31 - 1, "ncols": 2**31 - 1}),
    "negative": ({"lines": -32}, {"nrows": -32}),
    "nothing": ({"lines": 0}, {"nrows": 0}),
    "words": ({"lines": "many"}, {"nrows": "many"}),
    "bands": ({"bands": 2**31 - 1}, {"nbands": 2**31 - 1}),
    "offset": ({"header offset": 2**40}, {"skipbytes": 2**40}),
    "negative_offset": ({"header offset": -1000}, {"skipbytes": -1000}),
    "wider_type": ({"data type": 5}, {"nbits": 32}),
    "no_type": ({"data type": 77}, {"nbits": 77}),
    "gaps": ({"interleave": "bip", "bands": 3}, {"bandgapbytes": 2**31 - 1, "nbands": 2}),
    "long_rows": ({"interleave": "x" * 100_000}, {"bandrowbytes": 2**31 - 1, "totalrowbytes": 2**31 - 1}),
}


@kind("raw pixels whose header lies", "UNREADABLE", "TOO_LARGE", "RASTER_UNSUPPORTED", "UNSUPPORTED_FORMAT")
def lying_headers(rng, trap):
    pixels = rng.integers(0, 255, 1024).astype("uint8").tobytes()
    for name, (of_envi, of_ehdr) in _LIES.items():
        yield Hostile(f"{name}.dat", pixels, {f"{name}.hdr": envi(**of_envi)}, GIVEN_CRS)
        yield Hostile(f"{name}.bil", pixels, {f"{name}.hdr": ehdr(**of_ehdr)}, GIVEN_CRS)
    yield Hostile("compressed.dat", pixels, {"compressed.hdr": envi(**{"file compression": 1})}, GIVEN_CRS)
    yield Hostile("empty.bil", b"", {"empty.hdr": ehdr()}, GIVEN_CRS)
    yield Hostile("noise.bil", pixels, {"noise.hdr": rng.bytes(5000)}, GIVEN_CRS)


@kind("raw pixels whose header names other files", CONVERTED, "UNREADABLE", "RASTER_UNSUPPORTED")
def pointing_headers(rng, trap):
    pixels = rng.integers(0, 255, 1024).astype("uint8")
    for field_, name in (
        ("data file", "data"),
        ("sensor type", "sensor"),
        ("dem file", "dem"),
        ("spectral library", "library"),
    ):
        for place in (str(trap.secret), trap.url, f"/vsicurl/{trap.url}/x"):
            beside = {f"{name}.hdr": envi(**{field_: place})}
            yield Hostile(f"{name}.dat", pixels.tobytes(), beside, GIVEN_CRS, pixels=pixels.reshape(1, 32, 32))
    for beside in ("clr", "stx", "prj"):
        for content in (vrt(trap.secret), f"{trap.url}\n".encode(), rng.bytes(3000)):
            sidecars = {"in.hdr": ehdr(), f"in.{beside}": content}
            yield Hostile("in.bil", pixels.tobytes(), sidecars, GIVEN_CRS, pixels=pixels.reshape(1, 32, 32))


@cache
def nitf() -> bytes:
    return encoded("NITF", count=1)


@kind(
    "a NITF that is damaged or names other files",
    CONVERTED,
    "UNREADABLE",
    "RASTER_UNSUPPORTED",
    "TOO_LARGE",
    "RASTER_SUBDATASETS",
)
def nitfs(rng, trap):
    whole = nitf()
    yield pictured("whole.ntf", whole, outcomes=(CONVERTED,))
    for part in (0.1, 0.5, 0.9):
        yield pictured(f"cut_{part}.ntf", whole[: int(len(whole) * part)], outcomes=("UNREADABLE",))
    for number in range(8):
        yield pictured(f"header_{number}.ntf", flipped(whole, rng, 3, 9, 900))
    yield pictured("images.ntf", whole[:360] + b"999" + whole[363:])
    for word in (str(trap.secret), trap.url, f"/vsicurl/{trap.url}/x"):
        yield pictured("text.ntf", whole[:39] + word.encode().ljust(80)[:80] + whole[119:])
        beside = {
            "rpf.rpb": f'bandId = "P";\nIMAGE\n filename = "{word}";\nEND;\n'.encode(),
            "rpf.ntf.aux.xml": vrt(word),
        }
        yield pictured("rpf.ntf", whole, beside)


def tiles(path: str, *, application: bytes, blobs: list[bytes], **metadata: Any) -> bytes:
    """MBTiles, or a GeoPackage of tiles where `application` says so; one zoom level of one tile for each blob."""
    with sqlite3.connect(":memory:") as db:
        values = {
            "name": "n",
            "format": "png",
            "minzoom": 0,
            "maxzoom": len(blobs) - 1,
            "bounds": "-180,-85,180,85",
            **metadata,
        }
        db.execute("create table metadata (name text, value text)")
        db.executemany("insert into metadata values (?, ?)", [(k, str(v)) for k, v in values.items()])
        db.execute("create table tiles (zoom_level integer, tile_column integer, tile_row integer, tile_data blob)")
        db.executemany("insert into tiles values (?, 0, 0, ?)", list(enumerate(blobs)))
        db.commit()
        whole = bytearray(db.serialize())
    whole[68:72] = application
    return bytes(whole)


@kind(
    "tiles of SQLite with odd contents",
    "UNREADABLE",
    "RASTER_UNSUPPORTED",
    "TOO_LARGE",
    "UNSUPPORTED_FORMAT",
    CONVERTED,
)
def odd_tiles(rng, trap):
    bomb = png(60_000, 60_000, zlib.compress(bytes(1 << 20), 9))
    small = png(16, 16, zlib.compress(bytes(17 * 16)))
    blobs = {
        "empty": b"",
        "noise": rng.bytes(3000),
        "bomb": bomb,
        "small": small,
        "vrt": vrt(trap.secret),
        "json": f'{{"url": "{trap.url}"}}'.encode(),
    }
    for name, blob in blobs.items():
        for application, ending in ((b"\0\0\0\0", "mbtiles"), (b"MPBX", "mbtiles"), (b"GPKG", "gpkg")):
            yield Hostile(f"{name}.{ending}", tiles(name, application=application, blobs=[blob]))
    yield Hostile("zoom.mbtiles", tiles("zoom", application=b"MPBX", blobs=[small], maxzoom=2**31 - 1))
    yield Hostile("zoom_40.mbtiles", tiles("zoom", application=b"MPBX", blobs=[small], minzoom=40, maxzoom=40))
    yield Hostile("bounds.mbtiles", tiles("bounds", application=b"MPBX", blobs=[small], bounds="nan,inf,-1e999,x"))
    yield Hostile(
        "pointing.mbtiles",
        tiles("p", application=b"MPBX", blobs=[small], json=f'{{"tiles": ["{trap.url}"]}}', template=trap.url),
    )
    for number in range(4):
        yield Hostile(
            f"flipped_{number}.mbtiles", flipped(tiles("f", application=b"MPBX", blobs=[small]), rng, 30, 100, 8000)
        )


@kind("points that are no grid", "UNREADABLE", "UNSUPPORTED_FORMAT", "TOO_LARGE", "RASTER_UNSUPPORTED")
def nonsense_points(rng, trap):
    for name, content in {
        "words": b"1 1 1\n2 1 one\n1 2 3\n2 2 4\n",
        "two_columns": b"1 1\n2 1\n",
        "one_point": b"1 1 1\n",
        "scattered": "\n".join(f"{x} {y} 1" for x, y in rng.random((500, 2))).encode(),
        "infinite": b"1 1 1\n1e999 1 2\n1 2 3\n1e999 2 4\n",
        "far_apart": b"0 0 1\n1e-9 0 1\n1e9 0 1\n0 1e9 2\n",
        "one_long_line": b"1 " * 2_000_000,
        "no_number": b"1 2 1\n2 2 1-2\n1 1 3\n2 1 4\n",
        "powers": b"1 2 1.5\n2 2 1e99999999999999999999\n1 1 3\n2 1 4\n",
        "signs": b"- - -\n+ + +\n. . .\n",
        "noise": b"1 1 1\n" + rng.bytes(5000),
    }.items():
        yield Hostile(f"{name}.xyz", content, options=GIVEN_CRS)


@kind(
    "elevation tiles of a wrong size or place",
    "UNREADABLE",
    "UNSUPPORTED_FORMAT",
    "RASTER_UNSUPPORTED",
    "INVALID_CRS",
    "TOO_LARGE",
)
def wrong_elevation(rng, trap):
    for size in (0, 1, 2 * 1200 * 1201, 2 * 1201 * 1201 + 1, 100):
        yield Hostile("N45E007.hgt", bytes(size))
    for name in ("nowhere.hgt", "N99E007.hgt", "N45E999.hgt"):
        yield Hostile(name, bytes(2 * 1201 * 1201))
    head = b"UHL1" + b"0070000E0450000N00300030NA  U  UNKNOWN     12011201"
    for name, content in {
        "header_alone": head,
        "header_and_zeros": head.ljust(80) + bytes(3000),
        "billions": (
            head.replace(b"12011201", b"99999999").ljust(80) + b"DSI".ljust(648) + b"ACC".ljust(2700) + bytes(5000)
        ),
        "negative": (
            head.replace(b"12011201", b"-001-001").ljust(80) + b"DSI".ljust(648) + b"ACC".ljust(2700) + bytes(5000)
        ),
        "noise": b"UHL1" + rng.bytes(5000),
    }.items():
        yield Hostile(f"{name}.dt1", content)


# --- honest, though it does not look so
# --------------------------------------------------------------------------------------


@kind("odd but right", CONVERTED)
def odd_but_right(rng, trap):
    block = rng.integers(0, 255, 1024).astype("uint8")
    tiles = {
        256: (LONG, [64]),
        257: (LONG, [64]),
        273: None,
        278: None,
        279: None,
        322: (LONG, [32]),
        323: (LONG, [32]),
        324: (LONG, ["data"] * 4),
        325: (LONG, [1024] * 4),
    }
    yield Hostile(
        "one_block_four_times.tif",
        raw_tiff(tiles, data=block.tobytes()),
        pixels=np.tile(block.reshape(1, 32, 32), (1, 2, 2)),
    )
    yield Hostile("trailing_noise.tif", striped("DEFLATE") + rng.bytes(5000), pixels=picture())
    yield Hostile(
        "one_pixel.tif",
        raw_tiff({256: (LONG, [1]), 257: (LONG, [1]), 278: (LONG, [1]), 279: (LONG, [1])}, data=b"\x07"),
        pixels=np.full((1, 1, 1), 7, "uint8"),
    )
    yield Hostile(
        "one_row.tif",
        raw_tiff({256: (LONG, [1024]), 257: (LONG, [1]), 278: (LONG, [1])}),
        pixels=(np.arange(1024) % 256).astype("uint8").reshape(1, 1, 1024),
    )
    yield Hostile("fields_unsorted.tif", unsorted(), pixels=(np.arange(1024) % 256).astype("uint8").reshape(1, 32, 32))
    yield Hostile("private_field.tif", raw_tiff({65000: (7, list(rng.bytes(20_000)))}))
    yield Hostile(
        "many_items.tif", raw_tiff({42112: gdal_metadata(*(f'<Item name="k{i}">v</Item>' for i in range(5000)))})
    )
    late = ("1 " * 999 + "1\n") * 300 + "1.5 " * 1000
    yield Hostile("fractions_come_late.asc", ascii_grid(late, ncols=1000, nrows=301), options=GIVEN_CRS)
    for name, word in {"integer_of_40_bits": "1099511627776", "far": "1e300", "long": "16777217"}.items():
        yield Hostile(
            f"{name}.asc",
            ascii_grid(f"1.5 2 3 {word}"),
            options=GIVEN_CRS,
            pixels=np.array([[[1.5, 2], [3, float(word)]]]),
        )
    yield Hostile(
        "decimal_commas.asc", ascii_grid("1,5 2,5\n-9999 1e2", more="NODATA_value -9999\n"), options=GIVEN_CRS
    )
    for number in range(2):
        values = rng.integers(0, 2**32, (1, 40, 40), "uint32").view("float32")
        with MemoryFile() as memory:
            with memory.open(driver="GTiff", count=1, height=40, width=40, dtype="float32", **GEOREFERENCED) as dataset:
                dataset.write(values)
            yield Hostile(f"random_floats_{number}.tif", memory.read(), pixels=values)


def unsorted() -> bytes:
    """Return a TIFF whose fields are in the wrong order, as old writers make them."""
    whole = bytearray(raw_tiff({33550: _PLACE[33550]}))
    first, last = 10, 10 + 12 * 8
    whole[first : first + 12], whole[last : last + 12] = whole[last : last + 12], whole[first : first + 12]
    return bytes(whole)
