"""The STAC API: stac-fastapi over pgstac, with hrefs that a client can open.

Here: the application, and what is changed in its answers. Not here: what is published where (`published.py`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import asyncpg
import attr
import orjson
from cql2 import Expr
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse, Response
from pydantic import ValidationError
from stac_fastapi.api.app import StacApi
from stac_fastapi.extensions.query import QueryConformanceClasses
from stac_fastapi.pgstac.app import instantiate_api
from stac_fastapi.pgstac.config import Settings as StacSettings
from stac_fastapi.pgstac.core import CoreCrudClient
from stac_fastapi.pgstac.db import get_connection
from stac_fastapi.pgstac.models.extensions import Extensions
from stac_fastapi.types.errors import InvalidQueryParameter

from geo_assets import __version__
from geo_assets.faults import in_words
from geo_assets.serving.answers import problem
from geo_assets.serving.boxes import halves
from geo_assets.serving.cql import Query, as_filter, with_polygons
from geo_assets.serving.described import add_page
from geo_assets.serving.links import for_clients
from geo_assets.serving.origin import origin_of
from geo_assets.serving.published import Published
from geo_assets.serving.reader import open_reader
from geo_assets.serving.searches import Searches
from geo_assets.settings import Settings

_TITLE = "geo_assets"
_REMEDY = "see the API's description: api; a collection's queryables say of which types its properties are"
_NO_WORDS = 'q is words, with AND, OR, + or - between them, or "several in quotes"'
_DESCRIPTION = "What was published: COGs and tables as STAC items."


@attr.s
class _Searches(CoreCrudClient):  # type: ignore[misc]
    """pgstac's, which takes a box across 180° for all that is outside of it."""

    async def _search_base(self, search_request: Any, request: Request) -> Any:
        if search_request.bbox and (both := halves(search_request.bbox)):
            search_request.bbox, search_request.intersects = None, both
        if search_request.query and not search_request.filter_expr and (tree := as_filter(search_request.query)):
            search_request.query, search_request.filter_expr = None, tree
        search_request.filter_expr = with_polygons(search_request.filter_expr)
        try:
            return await super()._search_base(search_request, request=request)
        except (InvalidQueryParameter, asyncpg.DataError) as error:  # the first is said of any time that is wrong
            if search_request.filter_expr:
                _check_form(search_request.filter_expr)
            raise error.__cause__ or error from None

    async def get_search(self, *args: Any, **kwargs: Any) -> Any:
        with _told_in_words():
            return await super().get_search(*args, **kwargs)

    async def item_collection(self, *args: Any, **kwargs: Any) -> Any:
        with _told_in_words():
            return await super().item_collection(*args, **kwargs)

    def _clean_search_args(self, *args: Any, **kwargs: Any) -> Any:
        cleaned = super()._clean_search_args(*args, **kwargs)
        if cleaned.get("bbox") and (both := halves(cleaned["bbox"])):
            del cleaned["bbox"]
            cleaned["intersects"] = both.model_dump(exclude_none=True)
        if "filter" not in cleaned and (tree := as_filter(cleaned.get("query"))):
            del cleaned["query"]
            cleaned["filter"] = tree
        if "filter" in cleaned:
            cleaned["filter"] = with_polygons(cleaned["filter"])
        return cleaned


def _check_form(tree: Any) -> None:
    """Say what is wrong with a filter that the database could not read; in an address the library has done so."""
    try:
        Expr(tree).validate()
    except Exception as error:  # the parser has no other
        raise HTTPException(400, f"the filter is no CQL2: {error}"[:300]) from error


@contextmanager
def _told_in_words() -> Iterator[None]:
    """Tells what does not suit a search by itself, without the words of what found it."""
    try:
        yield
    except HTTPException as error:
        if not isinstance(error.__cause__, ValidationError):
            raise
        faults = [
            f"{'.'.join(str(part) for part in fault['loc'])} {in_words(fault)}".strip()
            for fault in error.__cause__.errors()[:5]
        ]
        raise HTTPException(400, "; ".join(faults)) from error


def _refused(_: Request, error: Exception) -> Response:
    """What pgstac and PostgreSQL say of a value that a client gave, without what they say to their own."""
    told = str(error.args[0])
    if told.startswith("Could not find item using token"):
        remedy = (
            "begin the search anew; where items are withdrawn all the time, page each collection by sortby=id and"
            " filter=id>'the last one'"
        )
        return problem(410, "the item after which this page begins was withdrawn", remedy=remedy)
    if isinstance(error, asyncpg.RaiseError):
        return problem(400, told)
    return problem(400, f"a value does not suit what it is compared with: {told}", remedy=_REMEDY)


def _api(client: type[CoreCrudClient], lifespan: Any) -> StacApi:
    """The library's application, with the extensions that it claims."""
    own = StacSettings(
        _env_file=None,
        stac_fastapi_title=_TITLE,
        stac_fastapi_description=_DESCRIPTION,
        stac_fastapi_landing_id="geo_assets",
        stac_fastapi_version=__version__,
        use_api_hydrate=True,  # the database's own hydration loses what is null
        enable_transactions_extensions=False,
        enable_catalogs_extension=False,
        docs_url="",  # the library's page loads programs from elsewhere
        openapi_url="/api",
    )
    asked = {
        "search_map": {"query": Query()},
        "collection_search_map": {"query": Query(conformance_classes=[QueryConformanceClasses.COLLECTIONS])},
        "item_collection_map": {"query": Query(conformance_classes=[QueryConformanceClasses.ITEMS])},
    }
    return instantiate_api(client=client, extensions=Extensions(**asked, settings=own), lifespan=lifespan, settings=own)


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
            try:
                found = await super().all_collections(request, **kwargs)
            except asyncpg.PostgresSyntaxError as error:
                if not kwargs.get("q"):
                    raise
                raise HTTPException(400, _NO_WORDS) from error
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

    api = _api(Client, lifespan)
    # compression, CORS and where we are behind a proxy are decided once for all (`app.py`)
    api.app.user_middleware.clear()
    app: FastAPI = api.app
    add_page(app, "/api.html")
    app.add_middleware(Searches)
    for kind in (asyncpg.RaiseError, asyncpg.DataError):
        app.add_exception_handler(kind, _refused)
    return app
