"""What opens files: it runs in a sandboxed child, without network, credentials or any file but those it was given.

Here: one function for each engine, `(request: Model) -> Model`. It raises `GeoAssetsError` where the file is at fault.
"""

import json
from pathlib import Path

import numpy as np
from geo_assets.errors import GeoAssetsError
from geo_assets.raster.footprint import footprint
from geo_assets.raster.inspect import inspected

from geo_assets_stage_name.models import Report, Request


def measure(request: Request) -> Report:
    """Write the histogram of a raster's first band.

    Raises:
        GeoAssetsError: what `inspected` refuses; RASTER_NO_CRS, TOO_LARGE, STAGE_NAME_NO_VALUES.
    """
    path = Path(request.source)
    with inspected(path) as (dataset, info):
        if info.crs is None:
            raise GeoAssetsError("RASTER_NO_CRS", f"{path.name} names no CRS")
        if dataset.width * dataset.height > request.max_pixels:
            raise GeoAssetsError("TOO_LARGE", f"{path.name} has more than {request.max_pixels:,} pixels")
        values = dataset.read(1, masked=True).compressed()
        values = values[np.isfinite(values)]
        if not values.size:
            raise GeoAssetsError("STAGE_NAME_NO_VALUES", f"{path.name} has no valid pixel")
        counts, edges = np.histogram(values, bins=request.bins)
        box = footprint(dataset, path.name).bbox
    made = {"edges": edges.tolist(), "counts": counts.tolist()}
    Path(request.destination).write_text(json.dumps(made), encoding="utf-8")
    return Report(bbox_4326=box, software={"numpy": np.__version__})
