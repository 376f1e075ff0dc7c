"""The best way from one CRS to another for an area: its name, how good it is, and what a person should know of it.

Here: pyproj alone, what PROJ says of an operation. Not here: moving coordinates (`vector/ends.py`,
`raster/reproject.py`).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyproj import CRS, Transformer


@dataclass(frozen=True, slots=True)
class Operation:
    """A transformation."""

    name: str
    accuracy_m: float | None  # 0: exact, as of a projection alone; None: unknown
    missing_grids: str | None = None  # of a better one: ` (us_noaa_conus.tif, …)`, or nothing where it has no name
    guessed: str | None = None  # what is wrong with one that PROJ only guesses


def best_between(source: CRS, target: CRS, box: tuple[float, float, float, float]) -> Operation | None:
    """Return the best operation from one CRS to another; None where there is none.

    Args:
        source: of the coordinates.
        target: where they are wanted.
        box: around them in longitude and latitude; west > east where it crosses the antimeridian.
    """
    from pyproj.aoi import AreaOfInterest
    from pyproj.exceptions import ProjError
    from pyproj.transformer import TransformerGroup

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about missing grids, which are reported
            group = TransformerGroup(source, target, always_xy=True, area_of_interest=AreaOfInterest(*box))
    except ProjError:
        return None
    if not group.transformers:
        return None
    best = group.transformers[0]
    accuracy = _accuracy_of(best)
    guessed = None
    if accuracy is None:
        guessed = (
            f"PROJ knows no transformation from {_datum(source)} to {_datum(target)} for where it lies: longitudes and"
            " latitudes stayed as they are, which may be hundreds of metres off"
        )
    return Operation(best.description, accuracy, None if group.best_available else _missing_grids(group), guessed)


def _accuracy_of(operation: Transformer) -> float | None:
    if operation.accuracy is not None and operation.accuracy >= 0:  # below it PROJ knows none
        return float(operation.accuracy)
    steps = operation.operations or ()
    return 0.0 if steps and all(step.type_name == "Conversion" for step in steps) else None


def _datum(crs: CRS) -> str:
    return repr((crs.geodetic_crs or crs).name)


def _missing_grids(group: Any) -> str:
    for operation in group.unavailable_operations:
        names = [grid.short_name for grid in operation.grids if not grid.available]
        if names:
            return f" ({', '.join(names)})"
    return ""
