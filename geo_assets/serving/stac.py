"""The STAC API: stac-fastapi over pgstac, with hrefs that a client can open.

Here: the application, and what is changed in its answers. Not here: what is published where (`published.py`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import attr
import orjson
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from stac_fastapi.api.errors import add_exception_handlers
from stac_fastapi.pgstac.app import instantiate_api
from stac_fastapi.pgstac.config import Settings as StacSettings
from stac_fastapi.pgstac.core import CoreCrudClient
from stac_fastapi.pgstac.db import get_connection
from stac_fastapi.pgstac.models.extensions import Extensions

from geo_assets import __version__
from geo_assets.serving.boxes import halves
from geo_assets.serving.links import for_clients
from geo_assets.serving.origin import origin_of
from geo_assets.serving.published import Published
from geo_assets.serving.reader import open_reader
from geo_assets.serving.searches import Searches
from geo_assets.settings import Settings

_TITLE = "geo_assets"
_DESCRIPTION = "What was published: COGs and tables as STAC items."


@attr.s
class _Searches(CoreCrudClient):  # type: ignore[misc]
    """pgstac's, which takes a box across 180° for all that is outside of it."""

    async def _search_base(self, search_request: Any, request: Request) -> Any:
        if search_request.bbox and (both := halves(search_request.bbox)):
            search_request.bbox, search_request.intersects = None, both
        return await super()._search_base(search_request, request=request)

    def _clean_search_args(self, *args: Any, **kwargs: Any) -> Any:
        cleaned = super()._clean_search_args(*args, **kwargs)
        if cleaned.get("bbox") and (both := halves(cleaned["bbox"])):
            del cleaned["bbox"]
            cleaned["intersects"] = both.model_dump(exclude_none=True)
        return cleaned


def stac_app(settings: Settings, published: Published) -> FastAPI:
    """The application, to be served below /stac."""

    @attr.s
    class Client(_Searches):
        """pgstac's, with hrefs as `links.py` has them."""

        landing_page_id: str = attr.ib(default="geo_assets")
        title: str = attr.ib(default=_TITLE)
        description: str = attr.ib(default=_DESCRIPTION)

        async def _search_base(self, search_request: Any, request: Request) -> Any:
            found = await super()._search_base(search_request, request=request)
            origin = origin_of(request.scope)
            found["features"] = [for_clients(item, published, origin) for item in found["features"]]
            return found

        async def get_collection(self, collection_id: str, request: Request, **kwargs: Any) -> Any:
            found = await super().get_collection(collection_id, request=request, **kwargs)
            return for_clients(found, published, origin_of(request.scope))

        async def all_collections(self, request: Request, **kwargs: Any) -> Any:
            found = await super().all_collections(request, **kwargs)
            origin = origin_of(request.scope)
            if isinstance(found, Response):  # so, if fields were chosen
                content = orjson.loads(found.body)
                content["collections"] = [for_clients(c, published, origin) for c in content["collections"]]
                return JSONResponse(content)
            found["collections"] = [for_clients(c, published, origin) for c in found["collections"]]
            return found

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.readpool = await open_reader(settings)
        app.state.get_connection = get_connection
        yield
        await app.state.readpool.close()

    own = StacSettings(
        _env_file=None,
        stac_fastapi_title=_TITLE,
        stac_fastapi_description=_DESCRIPTION,
        stac_fastapi_landing_id="geo_assets",
        stac_fastapi_version=__version__,
        use_api_hydrate=True,  # the database's own hydration loses what is null
        enable_transactions_extensions=False,
        enable_catalogs_extension=False,
        docs_url="/api.html",
        openapi_url="/api",
    )
    api = instantiate_api(client=Client, extensions=Extensions(settings=own), lifespan=lifespan, settings=own)
    # compression, CORS and where we are behind a proxy are decided once for all (`app.py`)
    api.app.user_middleware.clear()
    app: FastAPI = api.app
    app.add_middleware(Searches)
    # what pgstac and PostgreSQL say of a value that a client gave
    add_exception_handlers(app, {asyncpg.RaiseError: 400, asyncpg.DataError: 400})
    return app
