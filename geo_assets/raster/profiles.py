"""COG profiles: the codec, predictor, level and overview method that suit a kind of pixels.

Here: plain data, and the one function that picks a profile. Every profile is lossless.
Not here: looking at pixels (`inspect.py`), writing files (`cog.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from geo_assets.errors import GeoAssetsError
from geo_assets.raster.inspect import RasterInfo, numpy_dtype
from geo_assets.raster.models import PixelKind


@dataclass(frozen=True, slots=True)
class Profile:
    """How a COG is written. Immutable; override with `dataclasses.replace`."""

    name: str
    compress: str
    level: int | None = None  # None: the codec's default in GDAL
    predictor: str = "NO"  # NO, STANDARD (differences of integers) or FLOATING_POINT (bytes of floats, sorted)
    overview_resampling: str = "AVERAGE"
    block_size: int = 512  # pixels; GDAL's COG default, one range request per tile at web zooms
    sparse: bool = False  # blocks of nothing but nodata are not stored

    def options(self, threads: int = 1) -> dict[str, str]:
        """Creation options of GDAL's COG driver."""
        options = {
            "COMPRESS": self.compress,
            "PREDICTOR": self.predictor,
            "OVERVIEW_PREDICTOR": self.predictor,  # NO otherwise
            "OVERVIEWS": "IGNORE_EXISTING",  # those of the source may be stale
            "OVERVIEW_RESAMPLING": self.overview_resampling,
            "BLOCKSIZE": str(self.block_size),
            "BIGTIFF": "IF_SAFER",
            "SPARSE_OK": "YES" if self.sparse else "NO",
            "NUM_THREADS": str(threads),
        }
        if self.level is not None:
            options["LEVEL"] = str(self.level)
        return options


DEFAULT = "default"

PROFILES: dict[str, Profile] = {
    p.name: p
    for p in (
        Profile(DEFAULT, "DEFLATE"),  # every client reads it, and it carries a checksum
        Profile("analysis", "ZSTD", level=1),  # half the time of the default at its size; geotiff.js before 3 cannot read it
    )
}

#: Anything but these invents values: classes that are not there, half a mask, a phase that cancels out.
_OVERVIEW_RESAMPLING: dict[PixelKind, str] = {
    PixelKind.IMAGERY: "AVERAGE",
    PixelKind.CONTINUOUS: "AVERAGE",  # cubic overshoots beside nodata
    PixelKind.CATEGORICAL: "MODE",
    PixelKind.MASK: "MODE",
    PixelKind.COMPLEX: "NEAREST",
}

#: Kinds whose neighbours do not predict each other: a predictor makes palettes some 10 % larger.
_UNPREDICTABLE = frozenset({PixelKind.CATEGORICAL, PixelKind.MASK, PixelKind.COMPLEX})


def choose_profile(info: RasterInfo, name: str | None = None) -> Profile:
    """The profile of this name (default: `DEFAULT`), suited to what `info` says of the pixels.

    Raises:
        GeoAssetsError: INVALID_PARAMETERS, there is no profile of this name.
    """
    try:
        profile = PROFILES[name or DEFAULT]
    except KeyError:
        raise GeoAssetsError("INVALID_PARAMETERS", f"there is no profile {name!r}; there are {', '.join(PROFILES)}") from None
    return replace(profile, predictor=_predictor(info), overview_resampling=_overview_resampling(info), sparse=_sparse(info))


def _predictor(info: RasterInfo) -> str:
    dtype = numpy_dtype(info.dtype)
    if info.kind in _UNPREDICTABLE or info.nbits is not None:  # GDAL refuses predictors for odd numbers of bits
        return "NO"
    if dtype.kind in "iu":
        return "STANDARD"
    return "FLOATING_POINT" if dtype.itemsize in {4, 8} else "NO"  # not for half floats


def _overview_resampling(info: RasterInfo) -> str:
    dtype = numpy_dtype(info.dtype)
    if info.palette or (dtype.kind in "iu" and dtype.itemsize == 8):  # GDAL averages by way of doubles, which have 53 bits
        return "NEAREST"
    return _OVERVIEW_RESAMPLING[info.kind]


def _sparse(info: RasterInfo) -> bool:
    """Only where a missing block reads back as it was: not for zero, because minus zero is not zero in every bit."""
    return info.nodata is not None and info.nodata != 0
