"""The contracts of splitting a container: the requests, and the result for each variable or member and for the whole.

Here: pydantic models, strict JSON in both directions; importing this costs pydantic and nothing else.
Not here: anything that looks at a file (`variables.py`, `archives.py`).
"""

from __future__ import annotations

from pydantic import Field

from geo_assets.raster.models import Finite, Model, NoData


class VariablesRequest(Model):
    """Write each variable of a NetCDF, HDF5 or GRIB file, or each image of a TIFF or GeoPackage, as a GeoTIFF."""

    source: str
    folder: str = Field(description="a directory that is ours alone; its path holds neither a quote nor a colon")


class VariableBand(Model):
    """One step of the dimensions beyond rows and columns."""

    description: str
    datetime: str | None = Field(description="ISO 8601 UTC; also the item DATETIME of the band's metadata")
    dimensions: dict[str, str] = Field(description="name -> value and unit, as the file has them")


class Variable(Model):
    """One variable: either a file, or the reason why there is none."""

    name: str
    path: str | None = Field(None, description="a tiled GeoTIFF in the request's folder")
    error: dict[str, str] | None = Field(
        None, description="code, message, remedy, as `GeoAssetsError.to_dict` writes them"
    )
    title: str | None = Field(None, description="long_name, or what the format has in its place")
    standard_name: str | None = None
    unit: str | None = None
    scale: Finite = 1.0
    offset: Finite = 0.0
    nodata: NoData | None = None
    dtype: str | None = None
    width: int = 0
    height: int = 0
    epsg: int | None = None
    bands: tuple[VariableBand, ...] = ()
    notes: tuple[str, ...] = ()


class VariablesReport(Model):
    """Every variable of the container, in its order."""

    driver: str
    variables: tuple[Variable, ...]
    auxiliary: tuple[str, ...] = Field(
        (), description="what the others need to be understood and is no data: coordinates, bounds"
    )


class UnpackRequest(Model):
    """Unpack the rasters of a zip or tar."""

    archive: str
    folder: str = Field(description="a directory that is ours alone")
    name: str = Field(description="what the archive is called in messages")
    max_bytes: int = Field(gt=0, description="most bytes that all members together may have")


class RasterMember(Model):
    """One raster of an archive, alone with its sidecars in a directory."""

    name: str = Field(description="its path within the archive")
    path: str
    sidecars: tuple[str, ...]


class UnpackReport(Model):
    """The contents of the archive."""

    rasters: tuple[RasterMember, ...]
    others: tuple[str, ...] = Field(description="members that are no rasters and belong to none")
    aside: tuple[str, ...] = Field((), description="rasters that are no data of the product: masks, previews")
    notes: tuple[str, ...] = Field((), description="on the archive itself")
    product_datetime: str | None = Field(
        None, description="when it was taken, as the metadata file of the product says; as `ConvertRequest.datetime`"
    )


class ProductRequest(Model):
    """Read the metadata files of a product."""

    folder: str = Field(description="a directory in which they lie")


class ProductReport(Model):
    """What the metadata say about all rasters of the product."""

    datetime: str | None = Field(description="when it was taken; as `ConvertRequest.datetime`")
