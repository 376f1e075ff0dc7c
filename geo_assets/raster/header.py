"""What the headers of COGs say of their grids and their samples.

Here: reading them from the first bytes of the files; no pixel is looked at. It runs in the sandboxed child. Not here:
whether a file is a good COG (`validate.py`), what to compare its header with (`stac/assets.py`).
"""

from __future__ import annotations

from itertools import accumulate

from geo_assets.raster import gdal
from geo_assets.raster.gdal import stored_types
from geo_assets.raster.georeference import dataset_crs, epsg, projjson, wkt2
from geo_assets.raster.models import CogHeader, HeadersReport, HeadersRequest, nodata_json
from geo_assets.raster.nodata import nodata_told


def headers(request: HeadersRequest) -> HeadersReport:
    """Read the headers; none where these bytes are too few, or not those of a TIFF. All are in one file: making one for
    each takes longer than reading it.
    """
    starts = accumulate(request.lengths, initial=0)
    parts = [
        f"/vsisubfile/{start}_{length},{request.source}" if length else None
        for start, length in zip(starts, request.lengths, strict=False)
    ]
    with gdal.session(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"):  # these files have no sidecars
        return HeadersReport(headers=tuple(_header(part) if part else None for part in parts))


def _header(source: str) -> CogHeader | None:
    try:
        with gdal.open_raster(source) as cog:
            crs, dtypes = dataset_crs(cog), stored_types(cog)
            code = epsg(crs)
            return CogHeader(
                width=cog.width,
                height=cog.height,
                dtypes=dtypes,
                nodata=nodata_json(nodata_told(cog), dtypes[0]),
                epsg=code,
                crs_wkt2=None if code else wkt2(crs),
                projjson=None if code else projjson(crs),
                transform=tuple(cog.transform)[:6],
            )
    except gdal.GDAL_ERRORS:
        return None
