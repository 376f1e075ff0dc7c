"""Whether an item says of an asset what the file itself says.

Here: the comparison of a COG's header with the fields that an item has for it. Not here: reading the header
(`raster/header.py`), whether the fields are well-formed (`validation.py`).
"""

from __future__ import annotations

from typing import Any

from geo_assets.raster.models import CogHeader
from geo_assets.stac.item import data_type


def contradictions(item: dict[str, Any], key: str, header: CogHeader) -> list[str]:
    """Name every field of an asset that the header of its COG contradicts; empty if the item is right.

    Args:
        item: what the asset does not say itself, its properties say for it.
        key: the asset's.
        header: as read back from where the asset is.
    """
    asset = item["assets"][key]
    said = {**item["properties"], **asset}
    pairs: dict[str, tuple[Any, Any]] = {
        "proj:code": (said.get("proj:code"), f"EPSG:{header.epsg}" if header.epsg else None),
        "proj:shape": (said.get("proj:shape"), [header.height, header.width]),
        "proj:transform": (said.get("proj:transform"), list(header.transform)),
        "the number of bands": (len(asset["bands"]), len(header.dtypes)),
    }
    if "proj:projjson" in said:
        pairs["proj:projjson"] = said["proj:projjson"], header.projjson
    if "proj:wkt2" in said:
        pairs["proj:wkt2"] = said["proj:wkt2"], header.crs_wkt2
    for number, (band, dtype) in enumerate(zip(asset["bands"], header.dtypes, strict=False), 1):
        pairs[f"data_type of band {number}"] = band.get("data_type"), data_type(dtype)
        pairs[f"nodata of band {number}"] = band.get("nodata"), header.nodata
    return [
        f"{name} is {ours}, in the file {theirs}" for name, (ours, theirs) in pairs.items() if not _same(ours, theirs)
    ]


def _same(ours: Any, theirs: Any) -> bool:
    """Whether two values are the same; numbers as floats, since one that was stored as JSON may have become an integer
    of forty digits on the way.
    """
    if isinstance(ours, list) and isinstance(theirs, list):
        return len(ours) == len(theirs) and all(map(_same, ours, theirs))
    numbers = isinstance(ours, int | float) and isinstance(theirs, int | float)
    return bool(ours == theirs or (numbers and float(ours) == float(theirs)))
