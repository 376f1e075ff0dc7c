"""Splitting containers of variables: each variable of a NetCDF, HDF5 or GRIB file, each image of a TIFF or GeoPackage
becomes a GeoTIFF of its own.

Here: the list of variables, what each band of them is, and the staged copy. It runs in the sandboxed child.
Not here: the COG, which `cog.py` makes of each staged file; time (`cf_time.py`); HDF5's ways into other files
(`hdf5.py`).

The file must not choose what is opened. GDAL names the parts of a container by strings (`NETCDF:"path":name`), in which
a crafted variable name would be read as another path: so the container is opened under a plain name in our own
directory, each string is composed here, and a variable whose name has a quote or a colon is refused. The driver is
named on every open.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import rasterio
import rasterio.shutil
from rasterio.crs import CRS
from rasterio.windows import Window

from geo_assets.errors import GeoAssetsError
from geo_assets.raster import beside, gdal, hdf5, tiff
from geo_assets.raster.cf_axes import EAST, NORTH, crs_by_units, latitudes_across
from geo_assets.raster.cf_time import TimeAxis, time_axis
from geo_assets.raster.drivers import container_driver_of
from geo_assets.raster.gdal import dtype_names, numpy_dtype
from geo_assets.raster.georeference import dataset_crs, epsg
from geo_assets.raster.inspect import refuse_foreign_files, refuse_what_does_not_fit
from geo_assets.raster.models import nodata_json
from geo_assets.raster.onepass import assign_crs
from geo_assets.raster.variable_attributes import notes_on, title_of, unit_of
from geo_assets.raster.variables_models import Variable, VariableBand, VariablesReport, VariablesRequest

#: A reanalysis has some dozens, a satellite granule a hundred; each becomes a file, a COG and an item.
MAX_VARIABLES = 200

#: Decoded bytes copied at a time.
_COPY_BYTES = 32 * 1024**2

_TILE = 512

#: The container's name in our own directory.
_PLAIN_NAME = "source"

#: A name that stays within its place in GDAL's strings.
_SAFE_NAME = re.compile(r'^[^":\\\x00-\x1f\x7f]{1,200}$')

#: GDAL treats a grid as regular whose rows are up to a tenth of a degree from where they belong, and says so.
_UNEVEN = re.compile(r"not spaced evenly|not equally spaced|Gaussian", re.IGNORECASE)

#: Attributes whose value names other variables, which then are not data themselves.
_NAMING = ("#bounds", "#coordinates", "#grid_mapping", "#climatology")

#: Attributes of the whole file; Attribute Convention for Data Discovery 1.3.
_COVERAGE = ("time_coverage_start", "time_coverage_end")

#: Attributes of a variable of codes: which there are, and the legend (CF Conventions 1.11, 3.5).
_FLAGS = ("flag_values", "flag_masks", "flag_meanings")

_DATASET_ITEMS = ("standard_name", "long_name", "cell_methods", "comment", "description", *_FLAGS)
_GRIB_ITEMS = (
    "GRIB_ELEMENT",
    "GRIB_SHORT_NAME",
    "GRIB_COMMENT",
    "GRIB_REF_TIME",
    "GRIB_VALID_TIME",
    "GRIB_FORECAST_SECONDS",
)

#: The copy is read once and deleted: the fastest codec.
_STAGED = {
    "tiled": True,
    "blockxsize": _TILE,
    "blockysize": _TILE,
    "compress": "ZSTD",
    "zstd_level": 1,
    "bigtiff": "IF_SAFER",
}


#: Drivers whose parts are images: copied with everything they contain.
_IMAGES = frozenset({"GTiff", "GPKG"})


@dataclass(frozen=True, slots=True)
class _Part:
    """A variable as GDAL names it."""

    name: str
    opens: Path | str
    driver: str
    bands: tuple[int, ...] | None = None  # None: all
    like: tuple[int, int] | None = None  # rows and columns of the image that files beside the container place


def variables(request: VariablesRequest) -> VariablesReport:
    """Write every variable of a container into `request.folder`; one that cannot be written is reported with the
    reason.

    Raises:
        GeoAssetsError: UNREADABLE, UNSUPPORTED_FORMAT, RASTER_UNSUPPORTED, TOO_LARGE, DISK_FULL, INVALID_PARAMETERS:
            the container.
        MemoryError: the memory limit is too small for this file.
    """
    path, folder = Path(request.source), Path(request.folder)
    driver = container_driver_of(path)
    if driver is None:
        raise GeoAssetsError(
            "UNSUPPORTED_FORMAT",
            f"{path.name} is no container of variables: NetCDF, HDF5, GRIB, a TIFF or GeoPackage of many images",
        )
    if driver == "HDF5":
        hdf5.refuse_other_files(path)
    with _plain_name(path, folder) as plain:
        with gdal.session(), gdal.reading(path, driver, opened=plain):
            parts, auxiliary = _parts(plain, driver, path.name)
        if len(parts) > MAX_VARIABLES:
            raise GeoAssetsError(
                "TOO_LARGE", f"{path.name} holds {len(parts):,} variables; the limit is {MAX_VARIABLES}"
            )
        made = tuple(
            _variable(path, plain, part, folder / f"{i:03d}_{_slug(part.name)}.tif") for i, part in enumerate(parts, 1)
        )
    return VariablesReport(driver=parts[0].driver if parts else driver, variables=made, auxiliary=auxiliary)


@contextmanager
def _plain_name(path: Path, folder: Path) -> Iterator[Path]:
    """Yield the container under a name of ours, in a directory without other files."""
    if any(sign in str(folder.absolute()) for sign in '":'):
        raise GeoAssetsError("INVALID_PARAMETERS", f"the path of the directory has a quote or a colon: {folder}")
    with tempfile.TemporaryDirectory(
        prefix="plain-", dir=folder.absolute()
    ) as private:  # a call that was killed may have left one
        plain = Path(private) / _PLAIN_NAME
        plain.symlink_to(path.absolute())
        yield plain


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_")[:60] or "variable"


# --- what there is
# ---------------------------------------------------------------------------------------------------------


def _parts(plain: Path, driver: str, name: str) -> tuple[list[_Part], tuple[str, ...]]:
    """Return the variables, and the names of those that only serve others."""
    if driver == "GTiff":
        return _images(plain), ()
    if driver == "GPKG":
        return _tables(plain), ()
    if driver == "GRIB":
        return _fields(plain), ()
    parts, auxiliary = _netcdf(plain, name)
    if driver == "HDF5" and not any(_is_placed(part) for part in parts):
        parts = _hdf5(plain) or parts
    if not parts:
        raise GeoAssetsError("RASTER_UNSUPPORTED", f"{name} holds no variable with rows and columns")
    return parts, auxiliary


def _images(plain: Path) -> list[_Part]:
    with gdal.open_raster(plain) as dataset:
        count, first = len(dataset.subdatasets), dataset.shape
    return [_Part(f"image {n}", f"GTIFF_DIR:{n}:{plain}", "GTiff", like=first) for n in range(1, count + 1)] or [
        _Part("image 1", plain, "GTiff", like=first)
    ]


def _tables(plain: Path) -> list[_Part]:
    """Return the tile tables of a GeoPackage."""
    with gdal.open_raster(plain, "GPKG") as dataset:
        prefix = f"GPKG:{plain}:"
        return [
            _Part(name.removeprefix(prefix), name, "GPKG")
            for name in _subdataset_names(dataset)
            if name.startswith(prefix)
        ]


def _fields(plain: Path) -> list[_Part]:
    """Group the messages of one element on one kind of level: their bands are times and levels."""
    groups: dict[str, list[int]] = {}
    with gdal.open_raster(plain, "GRIB") as dataset:
        for band in dataset.indexes:
            tags = dataset.tags(band)
            level = tags.get("GRIB_SHORT_NAME", "").rpartition("-")[2]
            groups.setdefault(f"{tags.get('GRIB_ELEMENT', 'unknown')} {level}".strip(), []).append(band)
    return [_Part(name, plain, "GRIB", tuple(bands)) for name, bands in groups.items()]


def _netcdf(plain: Path, name: str) -> tuple[list[_Part], tuple[str, ...]]:
    with gdal.open_raster(plain, "netCDF") as dataset:
        names = [n.removeprefix(f'NETCDF:"{plain}":') for n in _subdataset_names(dataset)]
        if not names:
            alone = dataset.tags(1).get("NETCDF_VARNAME", name) if dataset.count else None
            return ([_Part(alone, plain, "netCDF")] if alone else []), ()
    parts = [_Part(n, f'NETCDF:"{plain}":{n}', "netCDF") for n in names]
    tags = {key: value for part in parts[: MAX_VARIABLES + 1] for key, value in _attributes(part).items()}
    serving = {word for key, value in tags.items() if key.endswith(_NAMING) for word in value.split()}
    serving |= {n for n in names if tags.get(f"{n}#units", "").lower() in NORTH | EAST}
    return [part for part in parts if part.name not in serving], tuple(n for n in names if n in serving)


def _attributes(part: _Part) -> dict[str, str]:
    """Return the attributes of a variable and of those along its dimensions; none where it cannot be opened: the copy
    will report that.
    """
    if not _SAFE_NAME.match(part.name):
        return {}
    try:
        with gdal.open_raster(part.opens, part.driver) as dataset:
            return dict(dataset.tags())
    except gdal.GDAL_ERRORS:
        return {}


def _hdf5(plain: Path) -> list[_Part]:
    """Return the parts of HDF-EOS and similar files, which place their grids in their own ways."""
    with gdal.open_raster(plain, "HDF5") as dataset:
        names = [n.removeprefix(f'HDF5:"{plain}":') for n in _subdataset_names(dataset)]
    return [_Part(n.removeprefix("//"), f'HDF5:"{plain}":{n}', "HDF5Image") for n in names]


def _subdataset_names(dataset: Any) -> list[str]:
    """Return the names as GDAL writes them; rasterio's `subdatasets` drops the quotes."""
    tags = dataset.tags(ns="SUBDATASETS")
    return [tags[f"SUBDATASET_{n}_NAME"] for n in range(1, len(tags) + 1) if f"SUBDATASET_{n}_NAME" in tags]


def _is_placed(part: _Part) -> bool:
    if not _SAFE_NAME.match(part.name):
        return False
    try:
        with gdal.opened_raster(part.opens, part.driver) as (dataset, placed):
            return placed and not dataset.transform.is_identity
    except gdal.GDAL_ERRORS:
        return False


# --- one variable
# ----------------------------------------------------------------------------------------------------------


def _variable(path: Path, plain: Path, part: _Part, destination: Path) -> Variable:
    try:
        _refuse_name(path, part)
        with (
            gdal.session() as log,
            gdal.reading(path, part.driver, opened=plain),
            gdal.opened_raster(part.opens, part.driver) as (dataset, placed),
        ):
            _refuse(dataset, path, plain, part, placed=placed, uneven=any(_UNEVEN.search(m) for m in log.messages))
            if part.driver in _IMAGES:
                return _copied_image(dataset, path, part, destination, placed=placed)
            variable = _copied(dataset, part, destination)
            if damage := log.damage():
                raise gdal.unreadable(path, part.driver, damage)
            return variable
    except GeoAssetsError as error:
        destination.unlink(missing_ok=True)
        if error.code == "DISK_FULL":
            raise
        return Variable(name=part.name, error=error.to_dict())


def _refuse_name(path: Path, part: _Part) -> None:
    if not _SAFE_NAME.match(part.name):
        raise GeoAssetsError(
            "RASTER_UNSUPPORTED",
            f"a variable of {path.name} has a name that cannot be passed to GDAL: {part.name[:80]!r}",
        )


def _refuse(dataset: Any, path: Path, plain: Path, part: _Part, *, placed: bool, uneven: bool) -> None:
    """Refuse a variable whose rows and columns are not evenly spaced on the Earth, or too many. Whether an image has a
    place is seen when it is converted, as of any image.
    """
    what = f"{part.name} of {path.name}"
    if part.driver in _IMAGES:
        refuse_foreign_files(dataset, plain)
        placed = True
    elif dataset.transform.is_identity:
        placed = False
    if dataset.count == 0:
        raise GeoAssetsError("RASTER_UNSUPPORTED", f"{what} has no bands")
    if not placed or uneven:
        how = "its rows are not evenly spaced" if uneven else _without_a_grid(dataset)
        raise GeoAssetsError(
            "RASTER_UNSUPPORTED",
            f"{what} has no regular grid: {how}",
            remedy="warp it to one first, for example with: gdalwarp -geoloc NETCDF:in.nc:variable out.tif",
        )
    container = f'NETCDF:"{plain}"'
    if part.driver == "netCDF" and (latitudes := latitudes_across(dataset, container)):
        raise GeoAssetsError(
            "RASTER_UNSUPPORTED",
            f"the columns of {what} are latitudes ({latitudes}): its last dimension should be the longitude",
            remedy="change the order of its dimensions first, for example with: ncpdq -a lat,lon in.nc out.nc",
        )
    if len(set(dtype_names(dataset))) > 1:
        raise GeoAssetsError("RASTER_UNSUPPORTED", f"{what} has bands of different data types")
    refuse_what_does_not_fit(dataset, plain, what)


def _without_a_grid(dataset: Any) -> str:
    if "GEOLOCATION" in dataset.tag_namespaces():
        return "each of its pixels has coordinates of its own, or they are not evenly spaced"
    return "its last two dimensions have no evenly spaced coordinates, south to north and west to east"


def _copied_image(dataset: Any, path: Path, part: _Part, destination: Path, *, placed: bool) -> Variable:
    """Copy an image with everything that a TIFF can hold: masks, palettes, control points, metadata; with the place
    that files beside the container give it, where it has none.
    """
    options = {"TILED": "YES", "COMPRESS": "ZSTD", "ZSTD_LEVEL": "1", "BIGTIFF": "IF_SAFER"}
    rasterio.shutil.copy(dataset, destination, driver="GTiff", **options)
    crs, told = dataset_crs(dataset), None
    if crs is None:
        crs, told = beside.crs_beside(path)
        if crs:
            assign_crs(destination, crs)
    placed = placed or bool(dataset.gcps[0] or dataset.rpcs)
    if not placed and dataset.shape == part.like and (world := beside.world_beside(path)):
        with rasterio.open(destination, "r+", driver="GTiff") as staged:
            staged.transform = world
    _refuse_a_short_copy(destination)
    captions = [d or f"{part.name} b{i}" for i, d in enumerate(dataset.descriptions, 1)]
    bands = tuple(VariableBand(description=caption, datetime=None, dimensions={}) for caption in captions)
    title = dataset.tags().get("TIFFTAG_IMAGEDESCRIPTION")
    made = _described(dataset, part, destination, crs, bands, title)
    return replace(made, notes=(*made.notes, told)) if told else made


def _copied(dataset: Any, part: _Part, destination: Path) -> Variable:
    indexes = part.bands or tuple(dataset.indexes)
    bands = tuple(_band(dataset, part, index) for index in indexes)
    crs = crs_by_units(dataset, part.name)
    profile = {
        "driver": "GTiff",
        "count": len(indexes),
        "width": dataset.width,
        "height": dataset.height,
        "dtype": dtype_names(dataset)[0],
        "crs": crs,
        "transform": dataset.transform,
        "nodata": dataset.nodatavals[indexes[0] - 1],
        "interleave": "band",
        **_STAGED,
    }
    try:
        with gdal.create(destination, profile) as staged:
            _describe(dataset, part, staged, indexes, bands)
            for to, index in enumerate(indexes, 1):
                for window in _windows(dataset):
                    staged.write(dataset.read(index, window=window), to, window=window)
    except gdal.GDAL_ERRORS as error:
        if not destination.exists() or _is_about(error, destination):
            raise GeoAssetsError("DISK_FULL", f"no room for {part.name}: {gdal.reason(error, destination)}") from error
        raise
    _refuse_a_short_copy(destination)
    return _described(dataset, part, destination, crs, bands, title_of(dataset, (part.bands or (1,))[0]))


def _is_about(error: BaseException, path: Path) -> bool:
    return path.name in str(error) or path.name in gdal.reason(error, path)


def _windows(dataset: Any) -> Iterator[Window]:
    """Yield strips of whole tiles, divided where a strip is too wide."""
    itemsize = numpy_dtype(dtype_names(dataset)[0]).itemsize
    across = max(_TILE, _COPY_BYTES // (itemsize * _TILE) // _TILE * _TILE)
    for top in range(0, dataset.height, _TILE):
        for left in range(0, dataset.width, across):
            yield Window(left, top, min(across, dataset.width - left), min(_TILE, dataset.height - top))


def _refuse_a_short_copy(destination: Path) -> None:
    """Check that all blocks are there: GDAL reports no error if the disk was full when the file was closed."""
    try:
        short = tiff.cut_off(tiff.read_layout(destination))
    except tiff.LayoutError as error:
        short = [str(error)]
    if short:
        raise GeoAssetsError("DISK_FULL", f"no room for {destination.name}: {short[0]}")


def _describe(
    dataset: Any, part: _Part, staged: Any, indexes: tuple[int, ...], bands: tuple[VariableBand, ...]
) -> None:
    places = [index - 1 for index in indexes]
    staged.scales = [dataset.scales[place] for place in places]
    staged.offsets = [dataset.offsets[place] for place in places]
    staged.units = [unit_of(dataset, place + 1) or "" for place in places]
    own = dataset.tags(indexes[0])
    if not any(band.datetime for band in bands):
        staged.update_tags(**{item: value for item in _COVERAGE if (value := dataset.tags().get(f"NC_GLOBAL#{item}"))})
    staged.update_tags(variable=part.name, **{item: own[item] for item in _DATASET_ITEMS if own.get(item)})
    for to, (index, band) in enumerate(zip(indexes, bands, strict=True), 1):
        staged.set_band_description(to, band.description)
        tags = dataset.tags(index)
        items = {item: tags[item] for item in _GRIB_ITEMS if item in tags} | band.dimensions
        if any(item in own for item in _FLAGS):
            items["LAYER_TYPE"] = "thematic"  # as `inspect.py` reads it
        staged.update_tags(to, **items, **({"DATETIME": band.datetime} if band.datetime else {}))


def _described(
    dataset: Any, part: _Part, destination: Path, crs: CRS | None, bands: tuple[VariableBand, ...], title: str | None
) -> Variable:
    first = (part.bands or (1,))[0]
    tags = dataset.tags(first)
    return Variable(
        name=part.name,
        path=str(destination),
        title=title,
        standard_name=tags.get("standard_name"),
        unit=unit_of(dataset, first),
        scale=dataset.scales[first - 1],
        offset=dataset.offsets[first - 1],
        nodata=nodata_json(dataset.nodatavals[first - 1], dtype_names(dataset)[0]),
        dtype=dtype_names(dataset)[0],
        width=dataset.width,
        height=dataset.height,
        epsg=epsg(crs),
        bands=bands,
        notes=tuple(notes_on(dataset, part.name, first, bands)),
    )


# --- one band
# --------------------------------------------------------------------------------------------------------------


def _band(dataset: Any, part: _Part, index: int) -> VariableBand:
    tags = dataset.tags(index)
    if part.driver == "GRIB":
        return _grib_band(tags, part)
    attributes = dataset.tags()
    moment: str | None = None
    dimensions: dict[str, str] = {}
    for key, value in tags.items():
        if not key.startswith("NETCDF_DIM_"):
            continue
        name = key.removeprefix("NETCDF_DIM_")
        unit = attributes.get(f"{name}#units", "")
        axis = time_axis(unit, attributes.get(f"{name}#calendar", ""))
        moment = moment or _moment(axis, value)
        dimensions[name] = f"{value} {unit}".strip()
    levels = [f"{name}={value}" for name, value in dimensions.items() if " since " not in value or moment is None]
    return VariableBand(
        description=" ".join([*([moment] if moment else []), *levels]) or part.name,
        datetime=moment,
        dimensions=dimensions,
    )


def _grib_band(tags: dict[str, str], part: _Part) -> VariableBand:
    level = tags.get("GRIB_SHORT_NAME", "")
    moment = _moment(time_axis("seconds since 1970-01-01", ""), tags.get("GRIB_VALID_TIME", "").split(" ")[0])
    words = [tags.get("GRIB_ELEMENT", part.name), level, moment or ""]
    return VariableBand(
        description=" ".join(w for w in words if w), datetime=moment, dimensions={"level": level} if level else {}
    )


def _moment(axis: TimeAxis | None, value: str) -> str | None:
    try:
        return axis.moment(float(value)) if axis else None
    except ValueError:
        return None
