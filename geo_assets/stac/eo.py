"""Common names of the bands of satellites: red, nir, swir16.

Here: the tables of Landsat and Sentinel-2, and which of them a file belongs to, by its name. Not here: building the
item (`item.py`). The names are those of the EO extension, version 2.0.
"""

from __future__ import annotations

import re

EXTENSION = "https://stac-extensions.github.io/eo/v2.0.0/schema.json"

#: Every common name of the extension.
COMMON_NAMES = frozenset(
    {
        "pan", "coastal", "blue", "green", "green05", "yellow", "red", "rededge", "rededge071", "rededge075",
        "rededge078", "nir", "nir08", "nir09", "cirrus", "swir16", "swir22", "lwir", "lwir11", "lwir12",
    }
)  # fmt: skip

_SENTINEL_2 = {
    "B01": "coastal", "B02": "blue", "B03": "green", "B04": "red", "B05": "rededge071", "B06": "rededge075",
    "B07": "rededge078", "B08": "nir", "B8A": "nir08", "B09": "nir09", "B10": "cirrus", "B11": "swir16",
    "B12": "swir22",
}  # fmt: skip
_OLI = {
    "B1": "coastal", "B2": "blue", "B3": "green", "B4": "red", "B5": "nir08", "B6": "swir16", "B7": "swir22",
    "B8": "pan", "B9": "cirrus", "B10": "lwir11", "B11": "lwir12",
}  # fmt: skip
_TM = {
    "B1": "blue", "B2": "green", "B3": "red", "B4": "nir08", "B5": "swir16", "B6": "lwir", "B7": "swir22", "B8": "pan",
}  # fmt: skip

#: What the name of a file or of a folder above it looks like -> its satellite's bands, and the band at its end.
_NAMED = (
    (re.compile(r"(?:^|/)L[COT]0[89]_.*_(B\d{1,2})\.\w+$"), _OLI),
    (re.compile(r"(?:^|/)L[TE]0[4-7]_.*_(B\d)(?:_VCID_\d)?\.\w+$"), _TM),
    (re.compile(r"(?:^|/)(?:S2[A-D]_|T\d\d[A-Z]{3}_).*_(B\d[0-9A])(?:_\d\dm)?\.\w+$"), _SENTINEL_2),
)


def common_name(key: str, path: str) -> str | None:
    """The common name of the band that a file of a scene holds; None where it is not known.

    Args:
        key: of the asset; it may be a common name itself.
        path: of the file in its container.
    """
    for pattern, names in _NAMED:
        if match := pattern.search(path):
            return names.get(match[1])
    return key.lower() if key.lower() in COMMON_NAMES else None
