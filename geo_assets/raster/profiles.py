"""COG profiles: the codec, level, predictor and overview method that suit a purpose and a kind of pixels.

Here: plain data, and the one function that picks a profile. Lossless unless a profile says how far it may deviate.
The parameter `profile`, its JSON schema and the command line offer what `PROFILES` holds; importing this costs pydantic
and nothing else.
Not here: looking at pixels (`inspect.py`), writing files (`cog.py`), the level by trial (`codecs.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from geo_assets.errors import GeoAssetsError
from geo_assets.raster.models import PixelKind

if TYPE_CHECKING:
    from geo_assets.raster.inspect import RasterInfo


@dataclass(frozen=True, slots=True)
class Profile:
    """How a COG is written. Immutable; override with `dataclasses.replace`."""

    name: str
    compress: str
    level: int | None = None  # None: by trial, or the codec's default in GDAL
    predictor: str = "NO"  # NO, STANDARD (differences of integers) or FLOATING_POINT (bytes of floats, sorted)
    overview_resampling: str = "AVERAGE"
    block_size: int = 512  # pixels; GDAL's COG default, one range request per tile at web zooms
    sparse: bool = False  # blocks of nothing but nodata are not stored
    quality: int | None = None  # of WEBP, 1 to 100
    max_error: float | None = None  # in stored units, of every pixel; None: see `min_psnr`
    min_psnr: float | None = None  # decibels over all valid pixels

    @property
    def lossless(self) -> bool:
        """Whether every pixel must be equal to the source's."""
        return self.max_error is None and self.min_psnr is None

    def options(self, threads: int = 1) -> dict[str, str]:
        """Creation options of GDAL's COG driver."""
        options = {
            "COMPRESS": self.compress,
            "OVERVIEWS": "IGNORE_EXISTING",  # those of the source may be stale
            "OVERVIEW_RESAMPLING": self.overview_resampling,
            "BLOCKSIZE": str(self.block_size),
            "BIGTIFF": "IF_SAFER",
            "SPARSE_OK": "YES" if self.sparse else "NO",
            "NUM_THREADS": str(threads),
        }
        if self.lossless:
            options |= {"PREDICTOR": self.predictor, "OVERVIEW_PREDICTOR": self.predictor}  # NO otherwise
        if self.level is not None:
            options["LEVEL"] = str(self.level)
        if self.quality is not None:
            options |= {"QUALITY": str(self.quality), "OVERVIEW_QUALITY": str(self.quality)}
        if self.max_error is not None:
            options["MAX_Z_ERROR"] = str(self.max_error)
        return options


#: The default profile: every client reads it, and each block carries a checksum.
DEFAULT = "web"

PROFILES: dict[str, Profile] = {
    p.name: p
    for p in (
        Profile(DEFAULT, "DEFLATE"),
        Profile("analysis", "ZSTD"),  # faster to write and to read; geotiff.js before 3 cannot
        Profile(
            "archive", "ZSTD", level=17
        ),  # the smallest lossless; some thirty times the time. LINZ's choice for its archive
        Profile("visual", "WEBP", quality=90, min_psnr=32.0),  # pictures for people, a fifth of the size
        Profile(
            "dem", "LERC_ZSTD", max_error=0.001
        ),  # a millimetre where the unit is metres: far below any sensor's noise
    )
}

if TYPE_CHECKING:
    ProfileName = str
else:
    #: One of `PROFILES`, for pydantic.
    ProfileName = Literal[tuple(PROFILES)]

#: The methods of resampling that invent no value. Who asks for one of them means it for overviews, too.
OF_CODES = ("nearest", "mode")

#: Any other method invents values: classes that do not exist, half a mask, a phase that cancels out.
_OVERVIEW_RESAMPLING: dict[PixelKind, str] = {
    PixelKind.IMAGERY: "AVERAGE",
    PixelKind.CONTINUOUS: "AVERAGE",  # cubic overshoots beside nodata
    PixelKind.CATEGORICAL: "MODE",
    PixelKind.MASK: "MODE",
    PixelKind.COMPLEX: "NEAREST",
}

#: Kinds whose neighbours do not predict each other: a predictor makes palettes some 10 % larger.
_UNPREDICTABLE = frozenset({PixelKind.CATEGORICAL, PixelKind.MASK, PixelKind.COMPLEX})


def choose_profile(info: RasterInfo, name: str | None = None, resampling: str | None = None) -> Profile:
    """Return the profile with this name (default: `DEFAULT`), adapted to the pixels that `info` describes.

    Where a lossy profile does not suit them, the default one is taken: a submission of mixed files names one profile
    for all. The `resampling` that is asked for makes overviews too, where it is one `OF_CODES`.

    Raises:
        GeoAssetsError: INVALID_PARAMETERS, there is no profile of this name.
    """
    if (name or DEFAULT) not in PROFILES:
        raise GeoAssetsError("INVALID_PARAMETERS", f"there is no profile {name!r}; there are {', '.join(PROFILES)}")
    profile = PROFILES[name or DEFAULT]
    if not _suits(profile, info):
        profile = PROFILES[DEFAULT]
    return replace(
        profile,
        predictor=_predictor(info),
        overview_resampling=_overview_resampling(info, resampling),
        sparse=_sparse(info),
    )


def _suits(profile: Profile, info: RasterInfo) -> bool:
    if profile.name == "visual":  # a lossy nodata value is a speckled edge
        return (
            info.kind is PixelKind.IMAGERY
            and info.dtype == "uint8"
            and info.count in {3, 4}
            and info.nodata is None
            and not info.nbits
        )
    if profile.name == "dem":
        return info.kind is PixelKind.CONTINUOUS and info.dtype in {"float32", "float64"}
    return True


def _predictor(info: RasterInfo) -> str:
    from geo_assets.raster.gdal import numpy_dtype

    dtype = numpy_dtype(info.dtype)
    if info.kind in _UNPREDICTABLE or info.nbits is not None:  # GDAL refuses predictors for odd numbers of bits
        return "NO"
    if dtype.kind in "iu":
        return "STANDARD"
    return "FLOATING_POINT" if dtype.itemsize in {4, 8} else "NO"  # not for half floats


def _overview_resampling(info: RasterInfo, asked: str | None) -> str:
    from geo_assets.raster.gdal import numpy_dtype

    dtype = numpy_dtype(info.dtype)
    if info.palette or (
        dtype.kind in "iu" and dtype.itemsize == 8
    ):  # GDAL averages by way of doubles, which have 53 bits
        return "NEAREST"
    if asked in OF_CODES and info.kind is not PixelKind.COMPLEX:
        return asked.upper()
    return _OVERVIEW_RESAMPLING[info.kind]


def _sparse(info: RasterInfo) -> bool:
    """Whether blocks may be left out: only where a missing block reads back identically. Not for zero, because minus
    zero differs from zero in its bits.
    """
    return info.nodata is not None and info.nodata != 0
