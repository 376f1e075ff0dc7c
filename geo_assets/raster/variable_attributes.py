"""What the attributes of a variable say of it, beside its grid and its times.

Here: its title, its unit, and what a person should know. Not here: opening it, its bands (`variables.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from geo_assets.raster.gdal import dtype_names, numpy_dtype
from geo_assets.raster.variables_models import VariableBand


def notes_on(dataset: Any, name: str, first: int, bands: tuple[VariableBand, ...]) -> Iterator[str]:
    """Yield what a person should know of how a variable is read.

    Args:
        dataset: the open variable.
        name: of the variable.
        first: its first band.
        bands: what is known of each.
    """
    attributes = dataset.tags()
    for limit in ("valid_range", "valid_min", "valid_max"):
        if stated := attributes.get(f"{name}#{limit}"):
            yield f"its {limit} is {stated.strip('{}')}; values beyond it are kept, and count as valid"
    stated = re.split(r"[{},\s]+", attributes.get(f"{name}#missing_value", "").strip("{} "))
    nodata, dtype = dataset.nodatavals[first - 1], numpy_dtype(dtype_names(dataset)[0])
    if others := [word for word in stated if word and not _is_nodata(word, nodata, dtype)]:
        yield f"its missing_value {', '.join(others)} is not its fill value; it is kept, and counts as valid"
    if all(band.datetime for band in bands):
        return
    if any(" since " in value for key, value in attributes.items() if key.endswith("#units")):
        yield "its times have no moment in UTC: their calendar or unit is not understood"
    known = {key.partition("#")[0] for key in attributes}
    if unread := [each for each in attributes.get(f"{name}#coordinates", "").split() if each not in known]:
        yield (
            f"coordinates that are a single number are not read: {', '.join(unread)}; where the time is among them, say"
            " it with datetime"
        )


def _is_nodata(word: str, nodata: float | None, dtype: np.dtype[Any]) -> bool:
    """Whether a word is the nodata value: a float may have more digits, an unsigned number be written as a negative."""
    try:
        said = float(word)
    except ValueError:
        return False
    if nodata is None or dtype.kind != "f":
        return said == nodata or (dtype.kind == "u" and said % 2 ** (8 * dtype.itemsize) == nodata)
    with np.errstate(over="ignore"):
        return np.array_equal(dtype.type(said), dtype.type(nodata), equal_nan=True)


def title_of(dataset: Any, first: int) -> str | None:
    """Return what a variable is called for people."""
    tags: dict[str, str] = dataset.tags(first)
    return tags.get("long_name") or tags.get("GRIB_COMMENT") or tags.get("description")


def unit_of(dataset: Any, band: int) -> str | None:
    """Return the unit of a band."""
    tags = dataset.tags(band)
    found = dataset.units[band - 1] or tags.get("units") or tags.get("GRIB_UNIT", "").strip("[]")
    return found or None
