"""A COG whose full resolution is the JPEG blocks of its source, bit by bit: what was compressed with loss once is not
decoded and encoded again, and does not grow.

Here: whether a source has such blocks, the overviews that go with them, the file that is made of both, and whether its
blocks are the source's. A mask within the source is kept in the same way.
Not here: the order of the steps and the comparison of pixels (`cog.py`), the bytes of a header (`cogfile.py`), the
arithmetic of overviews (`given_overviews.py`).

A block of JPEG in a TIFF is abbreviated: its tables may be in the directory (JPEGTables), which also tells how its
colours become RGB. So the fields of the codec come from the source, all others from GDAL's COG driver, as in
`onepass.py`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio.shutil

from geo_assets.raster import cogfile, gdal, given_overviews, tiff
from geo_assets.raster.comparison import Loss, pixel_differences
from geo_assets.raster.inspect import RasterInfo
from geo_assets.raster.models import OverviewLoss
from geo_assets.raster.pixels import TILE, alpha_band
from geo_assets.raster.profiles import OF_CODES, Profile, choose_profile

#: Formats that compress pictures with loss, and the codes for it in a TIFF: JPEG (old and new) and WebP.
_LOSSY_DRIVERS, _LOSSY_CODES = frozenset({"JPEG", "WEBP"}), frozenset({6, tiff.JPEG, tiff.CODES["WEBP"]})

#: Sides of tiles that a COG may have here, in pixels: for smaller ones each request brings next to nothing, of larger
#: ones a reader decodes megabytes for the corner that it shows.
_LEAST_TILE, _MOST_TILE = 128, 2048

#: Bytes of a block that is stored: a JPEG begins and ends with two; a tile of 2048 x 2048 pixels has 12 MB decoded.
_LEAST_BLOCK, _MOST_BLOCK = 4, 64 << 20

# TIFF 6.0 and its supplements
_TABLES = 347

_COPY_BYTES = 4 << 20

#: Fields that say how blocks are decoded: samples, codec, colours, order of bits, tiles, tables.
_CODEC = frozenset({258, 259, 262, 266, 277, 284, 317, 322, 323, 338, 339, _TABLES, 529, 530, 531, 532})
_SUBFILE_TYPE = 254

#: What overviews have in common with their averages, besides pixels.
_GRID = ("shape", "count", "dtypes", "nodata", "mask_flag_enums", "colorinterp")

#: What overviews are written with, where their pixels may deviate: with the codec of their full resolution, which who
#: reads that can decode; the first that is near enough, by the limit of the profile `visual`. Noise needs the second.
_WITH_LOSS = tuple(Profile("overviews", "JPEG", quality=quality, min_psnr=32.0) for quality in (85, 95))
_WITHOUT_LOSS = Profile("overviews", "DEFLATE", predictor="STANDARD")


def lossy(info: RasterInfo, layout: tiff.Layout | None) -> bool:
    """Whether a source was compressed with loss.

    Args:
        info: of the source.
        layout: of the source, if it is a TIFF.
    """
    code = layout.directories[0].compression if layout and layout.directories else None
    return info.driver in _LOSSY_DRIVERS or code in _LOSSY_CODES


def unsuited(info: RasterInfo, layout: tiff.Layout | None, resampling: str | None = None) -> str | None:
    """Say why the blocks of a source that is `lossy` cannot be those of a COG, with the `resampling` that is asked for;
    None if they can be.
    """
    if layout is None or info.driver != "GTiff":
        return f"only a TIFF has such blocks, which a {gdal.FORMATS.get(info.driver, info.driver)} file has not"
    main, masks = layout.directories[0], _masks(layout)
    wrong = {
        "its blocks are not JPEG": main.compression != tiff.JPEG,
        "they are strips, where a COG has tiles": not main.tiled,
        "each band has blocks of its own": main.planes > 1,
        "their samples do not have 8 bits": main.bits != 8 or info.dtype != "uint8",
        "their colours are neither grey nor RGB nor YCbCr": (
            main.photometric not in {tiff.BLACK_IS_ZERO, tiff.RGB, tiff.YCBCR}
        ),
        f"tiles of {main.block_width:,} x {main.block_height:,} pixels are none of a good COG": (
            not all(
                side % 16 == 0 and _LEAST_TILE <= side <= _MOST_TILE for side in (main.block_width, main.block_height)
            )
        ),
        "it has metadata of domains that could not be kept with them": bool(info.domains),
        "its numbers are codes, of which averages have no meaning": (
            choose_profile(info).overview_resampling != "AVERAGE"
        ),
        f"its overviews are averages, where {resampling} was asked for": resampling in OF_CODES,
        "its mask is not stored in the same tiles": not all(_same_tiles(main, mask) for mask in masks),
        "its mask is in a file beside it": any(p.suffix.lower() == ".msk" for p in info.path.parent.iterdir()),
        "its first image is not the one that is shown": (
            (main.width, main.height, main.block_samples) != (info.width, info.height, info.count)
        ),
        "its tables are odd": (
            any(_odd(image, layout.size) or _odd_fields(info.path, image) for image in (main, *masks[:1]))
        ),
    }
    return next((why for why, is_so in wrong.items() if is_so), None)


def _masks(layout: tiff.Layout) -> list[tiff.Directory]:
    return [d for d in layout.directories if d.mask and not d.reduced]


def _same_tiles(main: tiff.Directory, mask: tiff.Directory) -> bool:
    """Whether a mask is stored as GDAL does: a bit for each pixel, DEFLATE, in the tiles of its image."""
    ours, theirs = ((d.tiled, d.width, d.height, d.block_width, d.block_height, len(d.counts)) for d in (main, mask))
    return ours == theirs and (mask.bits, mask.block_samples, mask.compression) == (1, 1, tiff.CODES["DEFLATE"])


def _odd(image: tiff.Directory, size: int) -> bool:
    """Whether there are too few or too many blocks, or the same bytes are of several of them: a small file could become
    a huge one.
    """
    stored = image.counts > 0
    return bool(
        len(image.counts) != image.grid_blocks
        or (image.counts > _MOST_BLOCK).any()
        or ((image.counts > 0) & (image.counts < _LEAST_BLOCK)).any()
        or (image.offsets[stored] == 0).any()
        or int(image.counts.sum(dtype=np.uint64)) > size
    )


def _odd_fields(source: Path, image: tiff.Directory) -> bool:
    try:
        tiff.fields(source, image, _CODEC)
    except tiff.LayoutError:
        return True
    return False


@dataclass(frozen=True, slots=True)
class Overviews:
    """A COG whose levels are the overviews of a source; without a file where the source is small."""

    path: Path | None
    loss: OverviewLoss
    problems: tuple[str, ...] = ()  # what in it differs from the averages


def halved(dataset: Any, directory: Path, progress: Callable[[float], None]) -> Path | None:
    """Return the averages of an open source, in a private directory; None where it is small and has no overviews.

    Args:
        dataset: the source.
        directory: a private one.
        progress: called with the part of the work that is done, 0 to 1.
    """
    if max(dataset.shape) <= TILE:
        return None
    path = directory / "half.tif"
    given_overviews.stage_alone(dataset, path, TILE, progress)
    return path


def overviews(dataset: Any, averages: Path | None, threads: int) -> Overviews:
    """Make a COG of the averages, and compare each of its levels with what it was made of.

    Args:
        dataset: the source.
        averages: those of `halved`; they are removed.
        threads: how many compress.
    """
    if averages is None:
        return Overviews(None, "without loss")
    path = averages.with_name("overviews.tif")
    found = Overviews(path, "without loss")
    for profile in (*(_WITH_LOSS if _may_deviate(dataset) else ()), _WITHOUT_LOSS):
        loss = None if profile.lossless else Loss(min_psnr=profile.min_psnr)
        with gdal.open_raster(averages) as half:
            others = "FORCE_USE_EXISTING" if max(half.shape) > TILE else "NONE"
            rasterio.shutil.copy(half, path, driver="COG", **{**profile.options(threads), "OVERVIEWS": others})
        found = Overviews(path, "with loss" if loss else "without loss", tuple(_differences(averages, path, loss)))
        if not found.problems:
            break
    for file in averages.parent.glob(f"{averages.name}*"):
        file.unlink()
    return found


def _differences(averages: Path, path: Path, loss: Loss | None) -> Iterator[str]:
    """Yield the differences between a COG and the averages it was made of; loss counts over all levels together."""
    level = 0
    while averages.exists():
        which: dict[str, Any] = {"OVERVIEW_LEVEL": level - 1} if level else {}
        with gdal.open_raster(averages) as theirs, gdal.open_raster(path, **which) as ours:
            if any(getattr(theirs, fact) != getattr(ours, fact) for fact in _GRID):
                yield f"overview {level + 1} is not of the size, the type or the mask of its averages"
            else:
                yield from pixel_differences(theirs, ours, loss=loss)
        averages, level = averages.with_name(f"{averages.name}.ovr"), level + 1
    yield from loss.problems() if loss else ()


def _may_deviate(dataset: Any) -> bool:
    """Whether overviews may be compressed with loss, as JPEG: pictures in grey or RGB all of whose values are colours.
    A lossy nodata value is a speckled edge, and GDAL has no JPEG with alpha.
    """
    colours = [c.name for c in dataset.colorinterp]
    return dataset.nodata is None and alpha_band(dataset) is None and colours in (["gray"], ["red", "green", "blue"])


def write(made: Path, source: Path, layout: tiff.Layout, skeleton: cogfile.Header, reduced: Overviews) -> None:
    """Write the COG, with its stamp.

    Args:
        made: the COG.
        source: whose blocks are copied.
        layout: of the source, which is not `unsuited`.
        skeleton: what GDAL's COG driver says of the metadata; see `onepass.skeleton`.
        reduced: its overviews.
    """
    images = _kept(layout)
    fields = [_image_fields(source, images[0], skeleton), *(_mask_fields(source, mask) for mask in images[1:])]
    others, start, end = cogfile.Header((), skeleton.ghost, big=False), 0, 0
    if reduced.path:
        (others, start), end = cogfile.read_header(reduced.path), reduced.path.stat().st_size
    header = cogfile.above([*zip(fields, (image.counts for image in images), strict=True)], others, end - start)
    with made.open("wb") as out, source.open("rb") as file:
        length = out.write(cogfile.stamped_by_blocks(header))
        if reduced.path:
            with reduced.path.open("rb") as coarser:
                coarser.seek(start)
                shutil.copyfileobj(coarser, out, _COPY_BYTES)
        for blocks in zip(*(_blocks(file.fileno(), image) for image in images), strict=True):
            for block in filter(None, blocks):
                out.writelines(cogfile.framed(block))
    stamped = cogfile.stamped_by_blocks(header, cogfile.blocks_sha256(made, length))
    with made.open("r+b") as out:
        out.write(stamped)


def _image_fields(source: Path, image: tiff.Directory, skeleton: cogfile.Header) -> dict[int, cogfile.Field]:
    others = {tag: field for tag, field in skeleton.images[0].fields.items() if tag not in _CODEC}
    return cogfile.sized({**others, **tiff.fields(source, image, _CODEC)}, image.height, image.width)


def _mask_fields(source: Path, mask: tiff.Directory) -> dict[int, cogfile.Field]:
    return cogfile.sized(tiff.fields(source, mask, {*_CODEC, _SUBFILE_TYPE}), mask.height, mask.width)


def _kept(layout: tiff.Layout) -> list[tiff.Directory]:
    """Return the images whose blocks are kept: full resolution, and its mask."""
    return [layout.directories[0], *_masks(layout)[:1]]


def _blocks(descriptor: int, image: tiff.Directory) -> Iterator[bytes]:
    """Yield the bytes of each block; none of one that is not stored."""
    for offset, count in zip(image.offsets.tolist(), image.counts.tolist(), strict=True):
        yield os.pread(descriptor, count, offset)


def differing(made: Path, source: Path, layout: tiff.Layout) -> list[str]:
    """Return what of the blocks in a COG, and of what tells how to decode them, is not the source's."""
    theirs, ours = _kept(layout), _kept(tiff.read_layout(made))
    problems = []
    with made.open("rb") as new, source.open("rb") as old:
        for a, b in zip(theirs, ours, strict=True):
            if tiff.fields(source, a, _CODEC) != tiff.fields(made, b, _CODEC):
                problems.append(f"{a.title} is not decoded as that of the source")
            pairs = zip(_blocks(old.fileno(), a), _blocks(new.fileno(), b), strict=True)
            if wrong := [a.name(number) for number, (x, y) in enumerate(pairs) if x != y]:
                problems.append(f"{wrong[0]} and {len(wrong) - 1:,} more blocks are not those of the source")
    return problems
