"""Inspection of a raster file: its header, what its numbers mean.

Here: everything that is decided before all pixels of a file are read, and what is refused then.
Not here: choosing the driver by the first bytes (`drivers.py`), what one format alone can have wrong
(`by_format.py`), what a sample of the pixels tells (`sample.py`), writing (`cog.py`), codecs (`profiles.py`).

Two features of GeoTIFF are dangerous in an upload: its metadata can name any other file as its overviews (domain
OVERVIEWS, item OVERVIEW_FILE) or as the coordinates of its pixels (domain GEOLOCATION), and the files `.ovr` and `.msk`
beside it are opened with any driver, so that a VRT under such a name reads any file of the machine. Both are checked
before GDAL is asked for a mask or an overview.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from affine import Affine
from rasterio.crs import CRS

from geo_assets.capture import Taken, taken, was_saved_by_a_program
from geo_assets.errors import GeoAssetsError
from geo_assets.raster import ascii_grid, beside, by_format, gdal
from geo_assets.raster.domains import domains_of, embedded
from geo_assets.raster.drivers import MAGIC, driver_of
from geo_assets.raster.gdal import dtype_names, nbits_of, numpy_dtype, own_masks
from geo_assets.raster.georeference import dataset_crs, georeferencing
from geo_assets.raster.models import Georeferencing, PixelKind
from geo_assets.raster.nodata import nodata_of, nodata_told, nodata_values
from geo_assets.raster.sample import kind_by_sample

#: Hyperspectral cameras have some hundreds; each band costs a directory entry per block and a row of the report.
MAX_BANDS = 1000

#: Pixels along one side. The largest national mosaics are 1.3 million wide; TIFF readers count blocks in 32 bits.
MAX_SIDE = 4_000_000

#: Decoded bytes. Beyond it the output cannot be written within the sandbox's limit on a file.
MAX_DECODED_BYTES = 2 * 1024**4

#: Ratio of declared to actual bytes. DEFLATE reaches 1,032, a constant ZSTD tile with its table entry some 6,500; a 3
#: KB file that declares a terabyte has 3 * 10**8.
MAX_RATIO = 20_000

#: The ratio is checked above this size only: what is small when decoded does no harm.
RATIO_FROM_BYTES = 1024**3

#: Most bytes of a decoded block: it is held up to three times; the sandbox gives a child 4 GB.
MAX_BLOCK_BYTES = 512 * 1024**2


#: Values that a message names.
_SHOWN = 5

#: The time of a NITF's image; and what GDAL writes there by default (nitffile.c, NITFCreateEx).
_NITF_TIME, _GDALS_NITF_TIME = "NITF_IDATIM", "20021216151629"

#: Where formats keep the time of capture, the most specific first: domain, item, and the item of its end.
_CAPTURED: tuple[tuple[str | None, str, str | None], ...] = (
    ("IMAGERY", "ACQUISITIONDATETIME", None),
    (None, "ACQUISITIONDATETIME", None),
    (None, "ACQUISITION_DATETIME", None),
    (None, "ACQUISITION_DATE", None),
    (None, _NITF_TIME, None),
    (None, "time_coverage_start", "time_coverage_end"),  # ACDD 1.3
    (None, "EXIF_DateTimeOriginal", None),
    ("EXIF", "EXIF_DateTimeOriginal", None),
)

#: Drivers that do not look for a world file.
_WITHOUT_WORLD = frozenset({"WEBP", "NITF", "GIF", "BMP"})

#: Colour spaces whose pixels GDAL returns unchanged, or as every decoder does.
_AS_THEY_ARE = frozenset({"RGB", "YCBCR", "GRAY", "GREY", "SRGB"})


@dataclass(frozen=True, slots=True)
class RasterInfo:
    """A raster that was accepted: its header and what its numbers mean."""

    path: Path
    driver: str
    kind: PixelKind
    georeferencing: Georeferencing | None
    crs: CRS | None  # of the grid or of the ground control points, as the file itself says
    prj: CRS | None  # that of the .prj beside it, where the file has none
    world: Affine | None  # of the world file beside it, where the driver does not read one
    width: int
    height: int
    count: int
    dtype: str  # rasterio's name; the same for all bands
    nbits: int | None  # bits of a sample where they are not the data type's own
    nodata: float | None  # as its pixels hold it
    named_nodata: float | None  # as the file names it; GDAL drops one that is far out of range
    palette: bool
    captured: Taken | None  # as its metadata says
    saved: Taken | None  # a TIFF's own time, which may be that of capture
    band_tags: bool  # bands have metadata of their own
    domains: tuple[str, ...]  # metadata beyond the default domain, of the dataset or a band
    embedded: dict[int, bytes]  # its colour profile and XMP, by their tags in a TIFF
    notes: tuple[str, ...]  # what a person should know of how it is read


@contextmanager
def inspected(path: Path) -> Iterator[tuple[Any, RasterInfo]]:
    """Open a file for reading that was inspected; for the engines of other distributions, in a sandboxed child.

    Raises:
        GeoAssetsError: as `inspect`.
    """
    with gdal.session():
        info = inspect(path)
        with gdal.reading(path, info.driver), gdal.opened_raster(path, info.driver) as (dataset, _):
            yield dataset, info


def inspect(path: Path) -> RasterInfo:
    """Inspect a file and refuse what cannot be converted. Call it within `gdal.session`.

    Raises:
        GeoAssetsError: UNREADABLE, UNSUPPORTED_FORMAT, RASTER_SUBDATASETS, RASTER_UNSUPPORTED, TOO_LARGE.
    """
    refuse_disguised_sidecars(path)
    return _inspected(path, driver_of(path))


def _inspected(path: Path, driver: str) -> RasterInfo:
    with gdal.reading(path, driver), gdal.opened_raster(path, driver) as (dataset, placed):
        refuse_foreign_files(dataset, path)
        if driver == "HFA":
            by_format.refuse_parts_elsewhere(dataset, path)
        refuse_what_does_not_fit(dataset, path)
        by_format.refuse_an_animation(dataset, path, driver)
        _refuse_what_a_tiff_cannot_hold(dataset, path)
        notes = list(_remarks(dataset))
        if driver.startswith(ascii_grid.DRIVER) and ascii_grid.needs_doubles(path, dataset):
            return _inspected(path, ascii_grid.OF_DOUBLES)
        notes += filter(None, by_format.read_by_format(dataset, path, driver))
        crs, prj = dataset_crs(dataset), None
        if crs is None:
            prj, told = beside.crs_beside(path)
            notes += filter(None, [told])
        world = None if georeferencing(dataset) or driver not in _WITHOUT_WORLD else beside.world_beside(path)
        nbits = nbits_of(dataset)
        palette = dataset.colorinterp[0].name == "palette"
        return RasterInfo(
            path=path,
            driver=driver,
            kind=_kind(dataset, nbits, palette=palette),
            georeferencing=Georeferencing.TRANSFORM if world else georeferencing(dataset) if placed else None,
            crs=crs,
            prj=prj,
            world=world,
            width=dataset.width,
            height=dataset.height,
            count=dataset.count,
            dtype=dtype_names(dataset)[0],
            nbits=nbits,
            nodata=nodata_of(dataset),
            named_nodata=nodata_told(dataset),
            palette=palette,
            captured=_captured(dataset),
            saved=_saved(dataset),
            band_tags=any(dataset.tags(band) for band in dataset.indexes),
            domains=tuple(sorted(domains_of(dataset))),
            embedded=embedded(dataset, notes),
            notes=tuple(notes),
        )


def _remarks(dataset: Any) -> Iterator[str]:
    space = dataset.tags(ns="IMAGE_STRUCTURE").get("SOURCE_COLOR_SPACE", "RGB")
    if space.upper() not in _AS_THEY_ARE:
        colours = "RGBA" if dataset.count == 4 else "RGB"
        yield (
            f"its colours are {space}: they were turned into {colours} without a colour profile, so its values are not"
            " those of the file"
        )
    if any(dataset.tags(band, ns="IMAGE_STRUCTURE").get("ALPHA") == "PREMULTIPLIED" for band in dataset.indexes):
        yield "its colours are multiplied by its alpha, of which the COG says nothing"
    if gdal.zero_is_white(dataset) and gdal.has_colours_in_vain(dataset):
        yield "its zero is white, of which a COG of such pixels says nothing"


def refuse_foreign_files(dataset: Any, path: Path) -> None:
    """Refuse a file whose metadata makes GDAL open another one. Call it before anything that touches overviews or
    masks.

    Coordinates of pixels elsewhere are not read here, but the copy would send its own readers there.
    """
    for domain, item, what in (
        ("OVERVIEWS", "OVERVIEW_FILE", "its overviews"),
        ("GEOLOCATION", "X_DATASET", "the coordinates of its pixels"),
        ("GEOLOCATION", "Y_DATASET", "the coordinates of its pixels"),
    ):
        if item in dataset.tags(ns=domain):
            raise GeoAssetsError(
                "RASTER_UNSUPPORTED",
                f"{path.name} names another file as {what} ({domain}/{item}), which is not followed",
                remedy="remove that metadata item, for example with: gdal_translate -nomd in.tif out.tif",
            )


#: The name that other modules use.
refuse_foreign_overviews = refuse_foreign_files


def refuse_disguised_sidecars(path: Path) -> None:
    """Refuse `.ovr` and `.msk` beside the source, and beside those, unless they are TIFFs that make GDAL open no other
    file.
    """
    name, folder = path.name.lower(), path.absolute().parent
    with os.scandir(folder) as entries:  # not a Path of each: there may be very many
        names = [entry.name for entry in entries]
    for each in names:
        lower = each.lower()
        if not (lower.startswith(name) and lower != name and lower.endswith((".ovr", ".msk"))):
            continue
        sibling = folder / each
        with sibling.open("rb") as file:
            head = file.read(4)
        if (head, "GTiff") not in MAGIC:
            raise GeoAssetsError(
                "UNREADABLE",
                f"{sibling.name} beside {path.name} is not a TIFF",
                remedy="leave it out, or create it again",
            )
        with gdal.reading(sibling, "GTiff"), gdal.open_raster(sibling) as dataset:
            refuse_foreign_files(dataset, sibling)


def refuse_what_does_not_fit(dataset: Any, path: Path, name: str | None = None) -> None:
    """Refuse by the header, before anything is allocated for pixels. `name` is the raster's name in messages."""
    name = name or path.name
    decoded = dataset.width * dataset.height * sum(numpy_dtype(name).itemsize for name in dtype_names(dataset))
    _refuse_a_place_that_is_none(dataset, name)
    actual = path.stat().st_size
    block = (
        max(rows * columns for rows, columns in dataset.block_shapes) * numpy_dtype(dtype_names(dataset)[0]).itemsize
        if dataset.count
        else 0
    )
    if dataset.interleaving is not None and dataset.interleaving.value == "PIXEL":
        block *= dataset.count
    declares = f"{name} declares {dataset.width:,} x {dataset.height:,} pixels in {dataset.count:,} bands"
    if dataset.count > MAX_BANDS:
        raise GeoAssetsError("TOO_LARGE", f"{declares}; the limit is {MAX_BANDS:,} bands")
    if max(dataset.width, dataset.height) > MAX_SIDE:
        raise GeoAssetsError("TOO_LARGE", f"{declares}; the limit is {MAX_SIDE:,} pixels a side")
    if decoded > MAX_DECODED_BYTES:
        raise GeoAssetsError("TOO_LARGE", f"{declares}, {decoded:,} bytes decoded; the limit is {MAX_DECODED_BYTES:,}")
    if decoded > RATIO_FROM_BYTES and decoded > actual * MAX_RATIO:
        raise GeoAssetsError(
            "TOO_LARGE",
            f"{declares}, {decoded:,} bytes decoded, in a file of {actual:,}; the limit is {MAX_RATIO:,} times",
        )
    if block > MAX_BLOCK_BYTES:
        raise GeoAssetsError(
            "TOO_LARGE", f"{declares} in blocks of {block:,} bytes decoded; the limit is {MAX_BLOCK_BYTES:,}"
        )
    if dataset.count and 0 in dataset.overviews(1):
        raise GeoAssetsError(
            "UNREADABLE",
            f"{name} has overviews that are larger than itself",
            remedy="leave them out, or create them again",
        )


def _refuse_a_place_that_is_none(dataset: Any, name: str) -> None:
    if not all(math.isfinite(x) for x in tuple(dataset.transform)[:6]):
        raise GeoAssetsError(
            "UNREADABLE", f"{name} has a transform with numbers that are not finite: {tuple(dataset.transform)[:6]}"
        )
    points = ((p.row, p.col, p.x, p.y, p.z or 0.0) for p in dataset.gcps[0])
    if wrong := next((point for point in points if not all(map(math.isfinite, point))), None):
        raise GeoAssetsError(
            "UNREADABLE", f"{name} has a ground control point that is not finite: row, column, x, y, z = {wrong}"
        )
    if dataset.transform.determinant == 0:
        raise GeoAssetsError(
            "UNREADABLE", f"{name} has a transform that gives its pixels no area: {tuple(dataset.transform)[:6]}"
        )


def _refuse_what_a_tiff_cannot_hold(dataset: Any, path: Path) -> None:
    if dataset.subdatasets:
        raise GeoAssetsError(
            "RASTER_SUBDATASETS",
            f"{path.name} holds {len(dataset.subdatasets)} images",
            remedy="extract each, for example: gdal_translate GTIFF_DIR:1:in.tif out.tif",
        )
    if dataset.count == 0:
        raise GeoAssetsError("RASTER_UNSUPPORTED", f"{path.name} has no bands")
    if len(set(dtype_names(dataset))) > 1:
        raise GeoAssetsError(
            "RASTER_UNSUPPORTED",
            f"{path.name} has bands of different data types ({', '.join(sorted(set(dtype_names(dataset))))}); a GeoTIFF"
            " has one",
            remedy="make one file of each, for example: gdal_translate -b 1 in out.tif",
        )
    values = nodata_values(dataset)
    if len({repr(value) for value in values}) > 1:
        raise GeoAssetsError(
            "RASTER_UNSUPPORTED",
            f"{path.name} has bands of different nodata values ({', '.join(str(v) for v in values)}); a"
            " GeoTIFF has one",
            remedy="give all bands one, for example: gdalwarp -dstnodata 0 in out.tif",
        )
    if half_seen := [value for band in dataset.indexes for value in _half_seen(dataset, band)]:
        raise GeoAssetsError(
            "RASTER_UNSUPPORTED",
            f"{path.name} has a palette in which colours are transparent ({_listed(half_seen)}); in a TIFF only that of"
            " nodata is",
            remedy="make colours of it, for example with: gdal_translate -expand rgba in.png out.tif",
        )
    if tables := _tables_among_bands(dataset):
        raise GeoAssetsError(
            "RASTER_UNSUPPORTED",
            f"{path.name} has {dataset.count} bands, and a table of colours for that of number {_listed(tables)}; a"
            " GeoTIFF has one for a single band",
            remedy="make one file of each band, for example: gdal_translate -b 1 in out.tif",
        )
    if not all(dataset.mask_flag_enums) or len(set(own_masks(dataset))) > 1:
        raise GeoAssetsError(
            "RASTER_UNSUPPORTED",
            f"{path.name} has a mask for each band; a GeoTIFF has one for all",
            remedy="make one file of each band, for example: gdal_translate -b 1 -mask 1 in out.tif",
        )


def _tables_among_bands(dataset: Any) -> list[int]:
    """Return the bands with a table of colours that has no place in a TIFF for there are other bands than alpha."""
    colours = [colour.name for colour in dataset.colorinterp]
    tables = [band for band, colour in enumerate(colours, 1) if colour == "palette"]
    if len(colours) == 1 or colours == ["palette", "alpha"] or (tables == [1] and gdal.has_colours_in_vain(dataset)):
        return []
    return tables


def _half_seen(dataset: Any, band: int) -> list[int]:
    """Return the values of a palette's colours that are transparent, in part or wholly, and are not nodata."""
    if dataset.colorinterp[band - 1].name != "palette" or gdal.has_colours_in_vain(dataset):
        return []
    return [
        value
        for value, colour in gdal.colour_table(dataset, band).items()
        if colour[3] != 255 and any(colour) and value != dataset.nodata
    ]


def _listed(values: list[int]) -> str:
    more = ", …" if len(values) > _SHOWN else ""
    return ", ".join(map(str, values[:_SHOWN])) + more


def _kind(dataset: Any, nbits: int | None, *, palette: bool) -> PixelKind:
    """Return the kind: from the data type and colours where they decide it, else from a sample."""
    dtype = numpy_dtype(dtype_names(dataset)[0])
    if dtype.kind == "c":
        return PixelKind.COMPLEX
    if dtype.kind == "f":
        return PixelKind.CONTINUOUS
    if nbits == 1:
        return PixelKind.MASK
    if palette or dataset.tags(1).get("LAYER_TYPE", "").lower() == "thematic":  # as ERDAS Imagine says it
        return PixelKind.CATEGORICAL
    if {"red", "green", "blue"} & {c.name for c in dataset.colorinterp}:
        return PixelKind.IMAGERY
    return kind_by_sample(dataset, dtype)


def _captured(dataset: Any) -> Taken | None:
    """Return the time of capture from the file's metadata."""
    for domain, first, last in _CAPTURED:
        tags = dataset.tags(ns=domain) if domain else dataset.tags()
        text = _nitf_time(tags.get(first, "")) if first == _NITF_TIME else tags.get(first)
        span = "/".join(filter(None, (text, tags.get(last) if last else None)))
        if span and (found := taken(span, first)):
            return found
    return None


def _nitf_time(text: str) -> str:
    """Convert CCYYMMDDhhmmss (MIL-STD-2500C, table A-3) to ISO 8601; nothing where a part is unknown, or it is GDAL's
    default.
    """
    parts = re.fullmatch(r"(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)", text)
    return "" if parts is None or text == _GDALS_NITF_TIME else "{}-{}-{}T{}:{}:{}Z".format(*parts.groups())


def _saved(dataset: Any) -> Taken | None:
    """Return a TIFF's own time, unless a program wrote it when it saved the file."""
    tags = dataset.tags()
    if was_saved_by_a_program(tags.get("TIFFTAG_SOFTWARE", "")):
        return None
    return taken(tags.get("TIFFTAG_DATETIME", ""), "TIFFTAG_DATETIME")
