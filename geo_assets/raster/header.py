"""What the header of a COG says of its grid and its samples.

Here: reading it from the first bytes of the file; no pixel is looked at. It runs in the sandboxed child. Not here:
whether the file is a good COG (`validate.py`), what to compare the header with (`stac/assets.py`).
"""

from __future__ import annotations

from pathlib import Path

from geo_assets.raster import gdal
from geo_assets.raster.georeference import dataset_crs, epsg, projjson, wkt2
from geo_assets.raster.inspect import dtype_names
from geo_assets.raster.models import CogHeader, HeaderReport, HeaderRequest, nodata_json


def header(request: HeaderRequest) -> HeaderReport:
    """Read the header; none where these bytes are too few, or not those of a TIFF."""
    try:
        with gdal.session(), gdal.open_raster(Path(request.source)) as cog:
            crs, dtypes = dataset_crs(cog), dtype_names(cog)
            return HeaderReport(
                header=CogHeader(
                    width=cog.width,
                    height=cog.height,
                    dtypes=dtypes,
                    nodata=nodata_json(cog.nodata, dtypes[0]),
                    epsg=epsg(crs),
                    crs_wkt2=wkt2(crs),
                    projjson=projjson(crs),
                    transform=tuple(cog.transform)[:6],
                )
            )
    except gdal.GDAL_ERRORS:
        return HeaderReport(header=None)
