"""Coordinates of a NetCDF variable by their units, as the CF conventions have them.

Here: which are longitudes and latitudes, and what follows from it. Not here: times (`cf_time.py`), reading variables
(`variables.py`).
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np
from rasterio.crs import CRS

from geo_assets.raster import gdal
from geo_assets.raster.georeference import dataset_crs

#: CF 1.11, §4.1 and §4.2: units that make a coordinate a latitude or a longitude.
NORTH = frozenset({"degrees_north", "degree_north", "degree_n", "degrees_n", "degreen", "degreesn"})
EAST = frozenset({"degrees_east", "degree_east", "degree_e", "degrees_e", "degreee", "degreese"})


def crs_by_units(dataset: Any, name: str) -> CRS | None:
    """Return the file's own CRS; EPSG:4326 where rows are latitudes and columns longitudes by CF; else None."""
    own = dataset_crs(dataset)
    units = {
        value.strip().lower()
        for key, value in dataset.tags().items()
        if key.endswith("#units") and not key.startswith(f"{name}#")
    }
    if own is None and units & NORTH and units & EAST and not dataset.tags().get(f"{name}#grid_mapping"):
        return CRS.from_epsg(4326)
    return own


def latitudes_across(dataset: Any, container: str) -> str | None:
    """Return the coordinate of latitudes that runs along the columns, as in NASA's IMERG; None where none does. GDAL
    takes the last dimension for x, whatever it is.

    Args:
        dataset: the open variable, which has a grid.
        container: what GDAL calls its file; followed by a colon and a name, one of its variables.
    """
    columns = dataset.transform.c + dataset.transform.a * np.array([0.5, dataset.width - 0.5])
    for key, units in dataset.tags().items():
        name, _, item = str(key).partition("#")
        if item != "units" or units.strip().lower() not in NORTH:
            continue
        with suppress(*gdal.GDAL_ERRORS), gdal.open_raster(f"{container}:{name}", "netCDF") as axis:
            if axis.shape != (1, dataset.width):
                continue
            ends = axis.read(1)[0, [0, -1]]
            if np.allclose(ends, columns, rtol=0, atol=abs(dataset.transform.a) / 2):
                return name
    return None
