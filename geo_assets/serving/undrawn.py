"""What cannot be drawn as it is asked: which fault is the client's, and how it is told.

A raster that is published can be read; what a library then fails with is an option that does not suit it, a place
beyond its coordinate system, or a file that is gone. Here: from what was raised to an answer. Not here: what is refused
before a raster is opened (`questions.py`, `pictures.py`).
"""

from __future__ import annotations

import logging
import re

from fastapi import FastAPI, Request
from morecantile.errors import MorecantileError
from rasterio._err import CPLE_BaseError
from rio_tiler.errors import PointOutsideBounds, RioTilerError
from starlette.responses import Response
from starlette.types import Scope
from titiler.core.errors import DEFAULT_STATUS_CODES, add_exception_handlers
from titiler.mosaic.errors import MOSAIC_STATUS_CODES
from titiler.pgstac.errors import PGSTAC_STATUS_CODES

from geo_assets.serving.answers import problem
from geo_assets.serving.questions import Query

_log = logging.getLogger(__name__)

_KEY = "geo_assets.own_options"

#: Their names alone change nothing of what is read from a raster.
_PLAIN = frozenset({"assets", "format", "f", "tilesize"})

#: With these libraries meet an option that does not suit a raster.
_OF_OPTIONS = (ValueError, TypeError, IndexError, ArithmeticError, CPLE_BaseError)

_GONE = re.compile(r"No such file|does not exist|response code: 404|NoSuchKey|BlobNotFound")


class AssetGoneError(Exception):
    """The file of an asset is not where its item says."""


def is_gone(error: Exception) -> bool:
    """Whether GDAL found no file at an address."""
    return _GONE.search(str(error)) is not None


def with_own_options(scope: Scope, query: Query, path: str) -> Scope:
    """A request that remembers whether its client asked for more than a raster as it is.

    Args:
        scope: of the request.
        query: as the client gave it, before it is completed.
        path: what is asked for; with a place in it, that is an option.
    """
    own = any(name not in _PLAIN or "|" in value for name, value in query)
    return {**scope, _KEY: own or "/bbox/" in path or "/point/" in path}


def install(app: FastAPI) -> None:
    """Register the handlers of an application that draws."""
    # all that rio-tiler raises of its own is about what was asked for
    codes = {**DEFAULT_STATUS_CODES, RioTilerError: 400, PointOutsideBounds: 404, MorecantileError: 404}
    add_exception_handlers(app, {**codes, **MOSAIC_STATUS_CODES, **PGSTAC_STATUS_CODES})
    for kind in _OF_OPTIONS:
        app.add_exception_handler(kind, _unsuited)
    app.add_exception_handler(AssetGoneError, _gone)


def _unsuited(request: Request, error: Exception) -> Response:
    if not request.scope.get(_KEY):
        raise error
    _log.warning("%s cannot be drawn as asked", request.url.path, exc_info=error)
    remedy = "leave options out one by one; …/info tells the bands and types of a raster, …/info.geojson where it is"
    return problem(400, f"this cannot be drawn as it is asked: {error}", remedy=remedy)


def _gone(_: Request, error: Exception) -> Response:
    remedy = (
        "ask for the item again: it may have been published anew or withdrawn; which files are missing is told by:"
        " geo-assets reconcile"
    )
    return problem(410, str(error), remedy=remedy)
