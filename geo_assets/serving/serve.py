"""Serving the server with uvicorn.

Here: the refusal of an open door, GDAL's options, the port. Not here: the application (`app.py`).
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable

from geo_assets import logs
from geo_assets.api.auth import refuse_open_door
from geo_assets.settings import load_settings
from geo_assets.submissions.submit import Submitter

#: GDAL opens one file at a time, asks nobody for its neighbours, and reads over HTTP nothing but rasters.
_GDAL = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "CPL_VSIL_CURL_ALLOWED_EXTENSIONS": ".tif,.tiff",
    "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES",
    "GDAL_HTTP_MULTIPLEX": "YES",
    "GDAL_HTTP_TIMEOUT": "30",
    "GDAL_HTTP_CONNECTTIMEOUT": "5",
    "GDAL_CACHEMAX": "200",
    "GDAL_INGESTED_BYTES_AT_OPEN": "32768",
    "VSI_CACHE": "TRUE",
    "VSI_CACHE_SIZE": "5000000",
    "GDAL_NUM_THREADS": "1",
    # rasters that are read at once for one picture, each into memory
    "MOSAIC_CONCURRENCY": "2",
    "RIO_TILER_MAX_THREADS": "2",
}


def serve(host: str, port: int, ready: Callable[[], None] = lambda: None) -> None:
    """Serve until told to stop.

    Args:
        host: the address to listen on.
        port: a free one.
        ready: called before it listens, once nothing speaks against it.

    Raises:
        GeoAssetsError: INVALID_PARAMETERS, it would be open to the network, or the port is taken; STACK_NOT_RUNNING.
    """
    from geo_assets.web.serve import refuse_taken
    from geo_assets.web.serve import serve as serve_with_uvicorn

    refuse_taken(host, port)
    settings = load_settings()
    logs.configure_process(settings)
    with Submitter(settings) as submitter:
        required = refuse_open_door(settings, submitter.tokens, host)
    os.environ.update(_GDAL)
    # its import makes settings of its own, and warns of what these lack; ours have it
    logging.getLogger("stac_fastapi.types.config").setLevel(logging.ERROR)
    from geo_assets.serving.app import serving_app

    ready()
    # whoever connects from loopback, as a proxy does for others, would be believed in X-Forwarded-Proto
    serve_with_uvicorn(serving_app(settings, require_auth=required), host, port, proxy_headers=False)


if __name__ == "__main__":
    serve("127.0.0.1", int(sys.argv[1]))
