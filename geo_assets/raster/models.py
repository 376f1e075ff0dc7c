"""The contracts of a conversion: requests to the raster engine and its reports.

Here: messages of a child and its parent (`wire.py`); importing this costs next to nothing.
Not here: anything that looks at a file. Only sandboxed children import the rest of `raster/`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

from geo_assets.longitudes import check_box
from geo_assets.wire import Message

#: Pixels of a side that GDAL can count.
_MOST = 2**31 - 1

#: Under a name of its own: the reports have fields that are called `datetime`.
fromisoformat = datetime.fromisoformat

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


@dataclass(frozen=True, kw_only=True)
class ConvertRequest(Message):
    """Make a COG of one raster file.

    The source is in a directory with its own sidecars and nothing that belongs to another file.
    """

    source: str
    destination: str  # the COG; replaced only when the new one is valid
    thumbnail: str | None = None  # a PNG of at most 256 pixels a side
    source_crs: str | None = None  # authority:code; given to a source that has no CRS, pixels untouched
    override_crs: bool = False  # source_crs counts also where the source says something else
    target_crs: str | None = None  # authority:code; the COG is reprojected to it
    profile: str | None = None  # one of `PROFILES`; None is the default one
    keep_lossy: bool = False  # keep the blocks of a TIFF that are JPEG, bit by bit, where the grid of a COG allows it
    resolution: float | None = None  # size of a pixel in units of target_crs
    # one of `ResamplingName`; nearest and mode make overviews, too; by the kind of pixels where not given
    resampling: str | None = None
    # on the grid of web map tiles, EPSG:3857, at the zoom level nearest to the source's resolution
    web_tiles: bool = False
    # when it was taken: ISO 8601, a date, a month, a year, or two of them with a slash between
    datetime: str | None = None
    datetime_regex: str | None = None  # finds the time in `known_as`; see `capture.pattern`
    known_as: str = ""  # its path where it comes from; the source's name where not given
    product_datetime: str | None = None  # as `datetime`; what the metadata of the product that it is a part of says
    threads: int = 1
    require_crs: bool = True  # refuse a raster without a known place; otherwise it is copied with a warning
    # a directory in which what is done of a large raster is kept; a later call goes on from there
    kept: str | None = None
    chunk_pixels: int = 500_000_000  # pixels after which it is kept; smaller rasters never are
    progress: str | None = None  # a file that is kept telling which part is done, 0 to 1


@dataclass(frozen=True, kw_only=True)
class BandReport(Message):
    """One band. Statistics are of the valid pixels, exact, in stored units (before scale and offset); None without
    valid pixels.
    """

    name: str  # the description, or b1, b2, …
    description: str | None
    unit: str | None
    scale: float
    offset: float
    colorinterp: str
    minimum: int | float | None
    maximum: int | float | None
    mean: float | None
    stddev: float | None  # of the population
    valid_percent: float
    datetime: str | None = None  # when it is of, where the band says so; ISO 8601 UTC
    # value -> RRGGBB, of a table of colours; valid values only
    colours: dict[int, str] = field(default_factory=dict, metadata={"exclude_if": lambda value: not value})


@dataclass(frozen=True, kw_only=True)
class ConvertReport(Message):
    """The result of a conversion. Grid, CRS and bands are the COG's; `driver` is the source's."""

    driver: str
    profile: str
    kind: PixelKind
    georeferencing: Georeferencing | None  # how its pixels are placed; null: nothing says where
    width: int = field(metadata={"ge": 1, "le": _MOST})
    height: int = field(metadata={"ge": 1, "le": _MOST})
    count: int = field(metadata={"ge": 1})
    dtypes: tuple[str, ...]
    nodata: NoData | None
    epsg: int | None
    crs_wkt2: str | None
    projjson: dict[str, Any] | None
    # a, b, c, d, e, f: x = a·column + b·row + c, y = d·column + e·row + f
    transform: tuple[float, float, float, float, float, float]
    bbox: tuple[float, float, float, float]  # west, south, east, north of the whole grid in the COG's CRS
    # GeoJSON Polygon or MultiPolygon of the valid data, EPSG:4326 longitude, latitude
    footprint: dict[str, Any] | None
    # of the footprint, RFC 7946: west > east where it crosses the antimeridian
    bbox_4326: tuple[float, float, float, float] | None
    bands: tuple[BandReport, ...]
    resolution: tuple[float, float]  # size of a pixel along columns and rows, in the unit of the CRS
    gsd: float | None  # size of a pixel in metres, at the centre of the grid
    datetime: str | None = None  # when it was taken; ISO 8601 UTC; None: unknown
    end_datetime: str | None = None  # the end of the span in which it was taken, where `datetime` is its start
    datetime_from: str | None = None  # what says when it was taken
    bytes: int = field(metadata={"ge": 0})
    sha256: str = field(metadata={"pattern": "^[0-9a-f]{64}$"})  # of the COG's bytes
    pixels_sha256: str  # of the COG's level-0 pixels as they decode here, whatever the codec; see `pixels.py`
    max_error: float | None = None  # the largest difference of a valid pixel to the source; None: lossless
    # full resolution has the JPEG blocks of the source, bit by bit; how its overviews are compressed
    kept_blocks: OverviewLoss | None = field(default=None, metadata={"exclude_if": lambda value: value is None})
    passed_through: bool = False  # the source was such a COG already; the output is the same bytes
    warnings: tuple[str, ...]
    resumed: float = 0  # the part that an attempt before this one had done, 0 to 1
    seconds: float
    software: dict[str, str]

    def __post_init__(self) -> None:
        check_box(self.bbox_4326)
        if not len(self.bands) == len(self.dtypes) == self.count:
            msg = f"{self.count} bands, of which {len(self.bands)} are described"
            raise ValueError(msg)
        for moment in filter(None, (self.datetime, self.end_datetime, *(band.datetime for band in self.bands))):
            fromisoformat(moment)


@dataclass(frozen=True, kw_only=True)
class ValidateRequest(Message):
    """Validate a COG made by any program."""

    source: str
    threads: int = 1


@dataclass(frozen=True, kw_only=True)
class ValidateReport(Message):
    """The result of a validation: the file is valid where `problems` is empty."""

    problems: tuple[str, ...]
    stamped: bool  # it carries the hash of its pixels, or of its blocks, which was compared
    # whether the pixels of full resolution are those of its stamp; null: no stamp, or not all are read
    pixels_kept: bool | None = None


@dataclass(frozen=True, kw_only=True)
class StripRequest(Message):
    """Compose a strip of thumbnails."""

    thumbnails: tuple[str, ...]  # 1 to 24
    destination: str  # a JPEG


@dataclass(frozen=True, kw_only=True)
class StripReport(Message):
    """The size of the strip, in pixels."""

    width: int
    height: int


@dataclass(frozen=True, kw_only=True)
class HeadersRequest(Message):
    """What `headers` reads."""

    source: str  # a file: what COGs begin with, one after the other
    lengths: tuple[int, ...]  # the bytes of each; 0 for one of which there is nothing


@dataclass(frozen=True, kw_only=True)
class CogHeader(Message):
    """The grid and the samples of a COG, as its header has them; as in `ConvertReport`; a CRS has a code or words."""

    width: int
    height: int
    dtypes: tuple[str, ...]
    nodata: NoData | None
    epsg: int | None
    crs_wkt2: str | None
    projjson: dict[str, Any] | None
    transform: tuple[float, float, float, float, float, float]


@dataclass(frozen=True, kw_only=True)
class HeadersReport(Message):
    """The header of each, if it could be read."""

    headers: tuple[CogHeader | None, ...]
