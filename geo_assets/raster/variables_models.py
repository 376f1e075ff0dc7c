"""The contracts of splitting a container: the requests, and the result for each variable or member and for the whole.

Here: messages of a child and its parent (`wire.py`); importing this costs next to nothing.
Not here: anything that looks at a file (`variables.py`, `archives.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

from geo_assets.raster.models import NoData
from geo_assets.wire import Message


@dataclass(frozen=True, kw_only=True)
class VariablesRequest(Message):
    """Write each variable of a NetCDF, HDF5 or GRIB file, or each image of a TIFF or GeoPackage, as a GeoTIFF."""

    source: str
    folder: str  # a directory that is ours alone; its path holds neither a quote nor a colon


@dataclass(frozen=True, kw_only=True)
class VariableBand(Message):
    """One step of the dimensions beyond rows and columns."""

    description: str
    datetime: str | None  # ISO 8601 UTC; also the item DATETIME of the band's metadata
    dimensions: dict[str, str]  # name -> value and unit, as the file has them


@dataclass(frozen=True, kw_only=True)
class Variable(Message):
    """One variable: either a file, or the reason why there is none."""

    name: str
    path: str | None = None  # a tiled GeoTIFF in the request's folder
    error: dict[str, str] | None = None  # code, message, remedy, as `GeoAssetsError.to_dict` writes them
    title: str | None = None  # long_name, or what the format has in its place
    standard_name: str | None = None
    unit: str | None = None
    scale: float = 1.0
    offset: float = 0.0
    nodata: NoData | None = None
    dtype: str | None = None
    width: int = 0
    height: int = 0
    epsg: int | None = None
    bands: tuple[VariableBand, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class VariablesReport(Message):
    """Every variable of the container, in its order."""

    driver: str
    variables: tuple[Variable, ...]
    auxiliary: tuple[str, ...] = ()  # what the others need to be understood and is no data: coordinates, bounds


@dataclass(frozen=True, kw_only=True)
class UnpackRequest(Message):
    """Unpack the rasters of a zip or tar."""

    archive: str
    folder: str  # a directory that is ours alone
    name: str  # what the archive is called in messages
    max_bytes: int  # most bytes that all members together may have


@dataclass(frozen=True, kw_only=True)
class RasterMember(Message):
    """One raster of an archive, alone with its sidecars in a directory."""

    name: str  # its path within the archive
    path: str
    sidecars: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class UnpackReport(Message):
    """The contents of the archive."""

    rasters: tuple[RasterMember, ...]
    others: tuple[str, ...]  # members that are no rasters and belong to none
    aside: tuple[str, ...] = ()  # rasters that are no data of the product: masks, previews
    notes: tuple[str, ...] = ()  # on the archive itself
    # when it was taken, as the metadata file of the product says; as `ConvertRequest.datetime`
    product_datetime: str | None = None


@dataclass(frozen=True, kw_only=True)
class ProductRequest(Message):
    """Read the metadata files of a product."""

    folder: str  # a directory in which they lie


@dataclass(frozen=True, kw_only=True)
class ProductReport(Message):
    """What the metadata say about all rasters of the product."""

    datetime: str | None  # when it was taken; as `ConvertRequest.datetime`
