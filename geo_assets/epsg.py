"""`EPSG:code`, the only form in which people name a reference system.

Here: from the text to the CRS. Not here: what files say of theirs (`vector/crs.py`, `raster/georeference.py`), which
may be of any authority.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from geo_assets.errors import GeoAssetsError
from geo_assets.patterns import EPSG_CODE

if TYPE_CHECKING:
    from pyproj import CRS


def parse_code(text: str) -> CRS:
    """The CRS of `EPSG:code`; nothing else, for PROJ's free-text form also takes URLs and files.

    Raises:
        GeoAssetsError: INVALID_CRS, also one of heights alone, or another that has no place for longitude and latitude.
    """
    from pyproj import CRS
    from pyproj.exceptions import CRSError

    if not EPSG_CODE.fullmatch(text):
        raise GeoAssetsError("INVALID_CRS", f"{text!r} is not a CRS of the form EPSG:code")
    try:
        crs = CRS.from_user_input(text)
    except CRSError:
        raise no_such_code(text) from None
    if not (crs.is_geographic or crs.is_projected):
        raise GeoAssetsError("INVALID_CRS", f"{text} ({crs.name}) is neither geographic nor projected")
    return crs


def no_such_code(text: str) -> GeoAssetsError:
    """INVALID_CRS, for a code that is written as one."""
    return GeoAssetsError(
        "INVALID_CRS",
        f"{text} is not a CRS that PROJ knows: there is no such code",
        remedy="look for its code, for example at https://epsg.org",
    )
