"""The contracts of a conversion: requests to the raster engine and its reports.

Here: pydantic models, strict JSON in both directions; importing this costs pydantic and nothing else.
Not here: anything that looks at a file. Only sandboxed children import the rest of `raster/`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

#: The CRS of web map tiles (OGC WebMercatorQuad).
WEB_CRS = "EPSG:3857"

#: A nodata value in strict JSON, which has no NaN and no infinity.
NoData = int | float | Literal["nan", "inf", "-inf"]

#: How a reprojected raster may be resampled.
ResamplingName = Literal[
    "nearest", "bilinear", "cubic", "cubic_spline", "lanczos", "average", "mode", "min", "max", "med"
]

#: How overviews are compressed.
OverviewLoss = Literal["with loss", "without loss"]

#: A JSON number that is finite.
Finite = Annotated[float, Field(allow_inf_nan=False)]


def nodata_json(value: float | None, dtype: str) -> NoData | None:
    """Return the nodata value of a band of this type for JSON."""
    if value is None:
        return None
    if value != value:  # noqa: PLR0124 - NaN
        return "nan"
    if value in {float("inf"), float("-inf")}:
        return "inf" if value > 0 else "-inf"
    return int(value) if "int" in dtype and not dtype.startswith("complex") and value == int(value) else float(value)


class PixelKind(StrEnum):
    """What the numbers of a raster mean; decides codec, predictor and overview method."""

    IMAGERY = "imagery"  # what a camera saw: averaging is what a lens does
    CONTINUOUS = "continuous"  # a measured field: elevation, temperature
    CATEGORICAL = "categorical"  # codes: an average of two classes is a third that is not there
    MASK = "mask"  # yes or no
    COMPLEX = "complex"  # radar phase: an average cancels out


class Georeferencing(StrEnum):
    """How pixels are tied to the Earth."""

    TRANSFORM = "transform"  # an affine transform
    GCPS = "gcps"  # ground control points: approximate until warped
    RPCS = "rpcs"  # rational polynomials of a satellite camera: approximate until orthorectified


class Model(BaseModel):
    """Immutable, complete, nothing extra."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class ConvertRequest(Model):
    """Make a COG of one raster file.

    The source is in a directory with its own sidecars and nothing that belongs to another file.
    """

    source: str
    destination: str = Field(description="the COG; replaced only when the new one is valid")
    thumbnail: str | None = Field(None, description="a PNG of at most 256 pixels a side")
    source_crs: str | None = Field(
        None, description="authority:code; given to a source that has no CRS, pixels untouched"
    )
    override_crs: bool = Field(False, description="source_crs counts also where the source says something else")
    target_crs: str | None = Field(None, description="authority:code; the COG is reprojected to it")
    profile: str | None = Field(None, description="one of `PROFILES`; None is the default one")
    keep_lossy: bool = Field(
        False, description="keep the blocks of a TIFF that are JPEG, bit by bit, where the grid of a COG allows it"
    )
    resolution: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="size of a pixel in units of target_crs"
    )
    resampling: str | None = Field(
        None,
        description=(
            "one of `ResamplingName`; nearest and mode make overviews, too; by the kind of pixels where not given"
        ),
    )
    web_tiles: bool = Field(
        False,
        description="on the grid of web map tiles, EPSG:3857, at the zoom level nearest to the source's resolution",
    )
    datetime: str | None = Field(
        None, description="when it was taken: ISO 8601, a date, a month, a year, or two of them with a slash between"
    )
    datetime_regex: str | None = Field(None, description="finds the time in `known_as`; see `capture.pattern`")
    known_as: str = Field("", description="its path where it comes from; the source's name where not given")
    product_datetime: str | None = Field(
        None, description="as `datetime`; what the metadata of the product that it is a part of says"
    )
    threads: int = Field(1, ge=1)
    require_crs: bool = Field(
        True, description="refuse a raster without a known place; otherwise it is copied with a warning"
    )
    kept: str | None = Field(
        None, description="a directory in which what is done of a large raster is kept; a later call goes on from there"
    )
    chunk_pixels: int = Field(500_000_000, ge=1, description="pixels after which it is kept; smaller rasters never are")
    progress: str | None = Field(None, description="a file that is kept telling which part is done, 0 to 1")


class BandReport(Model):
    """One band. Statistics are of the valid pixels, exact, in stored units (before scale and offset); None without
    valid pixels.
    """

    name: str = Field(description="the description, or b1, b2, …")
    description: str | None
    unit: str | None
    scale: Finite
    offset: Finite
    colorinterp: str
    minimum: int | Finite | None
    maximum: int | Finite | None
    mean: Finite | None
    stddev: Finite | None = Field(description="of the population")
    valid_percent: Finite
    datetime: str | None = Field(None, description="when it is of, where the band says so; ISO 8601 UTC")
    colours: dict[int, str] = Field(
        {}, exclude_if=lambda value: not value, description="value -> RRGGBB, of a table of colours; valid values only"
    )


class ConvertReport(Model):
    """The result of a conversion. Grid, CRS and bands are the COG's; `driver` is the source's."""

    driver: str
    profile: str
    kind: PixelKind
    georeferencing: Georeferencing | None = Field(description="how its pixels are placed; null: nothing says where")
    width: int
    height: int
    count: int
    dtypes: tuple[str, ...]
    nodata: NoData | None
    epsg: int | None
    crs_wkt2: str | None
    projjson: dict[str, Any] | None
    transform: tuple[Finite, Finite, Finite, Finite, Finite, Finite] = Field(
        description="a, b, c, d, e, f: x = a·column + b·row + c, y = d·column + e·row + f"
    )
    bbox: tuple[Finite, Finite, Finite, Finite] = Field(
        description="west, south, east, north of the whole grid in the COG's CRS"
    )
    footprint: dict[str, Any] | None = Field(
        description="GeoJSON Polygon or MultiPolygon of the valid data, EPSG:4326 longitude, latitude"
    )
    bbox_4326: tuple[Finite, Finite, Finite, Finite] | None = Field(
        description="of the footprint, RFC 7946: west > east where it crosses the antimeridian"
    )
    bands: tuple[BandReport, ...]
    resolution: tuple[Finite, Finite] = Field(
        description="size of a pixel along columns and rows, in the unit of the CRS"
    )
    gsd: Finite | None = Field(description="size of a pixel in metres, at the centre of the grid")
    datetime: str | None = Field(None, description="when it was taken; ISO 8601 UTC; None: unknown")
    end_datetime: str | None = Field(
        None, description="the end of the span in which it was taken, where `datetime` is its start"
    )
    datetime_from: str | None = Field(None, description="what says when it was taken")
    bytes: int
    sha256: str = Field(description="of the COG's bytes")
    pixels_sha256: str = Field(
        description="of the COG's level-0 pixels as they decode here, whatever the codec; see `pixels.py`"
    )
    max_error: Finite | None = Field(
        None, description="the largest difference of a valid pixel to the source; None: lossless"
    )
    kept_blocks: OverviewLoss | None = Field(
        None,
        exclude_if=lambda value: value is None,
        description="full resolution has the JPEG blocks of the source, bit by bit; how its overviews are compressed",
    )
    passed_through: bool = Field(False, description="the source was such a COG already; the output is the same bytes")
    warnings: tuple[str, ...]
    resumed: Finite = Field(0, description="the part that an attempt before this one had done, 0 to 1")
    seconds: Finite
    software: dict[str, str]


class ValidateRequest(Model):
    """Validate a COG made by any program."""

    source: str
    threads: int = Field(1, ge=1)


class ValidateReport(Model):
    """The result of a validation: the file is valid where `problems` is empty."""

    problems: tuple[str, ...]
    stamped: bool = Field(description="it carries the hash of its pixels, or of its blocks, which was compared")
    pixels_kept: bool | None = Field(
        None,
        description="whether the pixels of full resolution are those of its stamp; null: no stamp, or not all are read",
    )


class StripRequest(Model):
    """Compose a strip of thumbnails."""

    thumbnails: tuple[str, ...] = Field(min_length=1, max_length=24)
    destination: str = Field(description="a JPEG")


class StripReport(Model):
    """The size of the strip, in pixels."""

    width: int
    height: int


class HeadersRequest(Model):
    """What `headers` reads."""

    source: str = Field(description="a file: what COGs begin with, one after the other")
    lengths: tuple[int, ...] = Field(description="the bytes of each; 0 for one of which there is nothing")


class CogHeader(Model):
    """The grid and the samples of a COG, as its header has them; as in `ConvertReport`; a CRS has a code or words."""

    width: int
    height: int
    dtypes: tuple[str, ...]
    nodata: NoData | None
    epsg: int | None
    crs_wkt2: str | None
    projjson: dict[str, Any] | None
    transform: tuple[Finite, Finite, Finite, Finite, Finite, Finite]


class HeadersReport(Model):
    """The header of each, if it could be read."""

    headers: tuple[CogHeader | None, ...]
