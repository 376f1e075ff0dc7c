"""Map tiles and pictures of rasters: titiler over pgstac as the reader, for items and for collections as mosaics.

titiler keeps each mosaic as a search in the database, which the reader may not write, and its search for a tile makes
a temporary table, for which the reader has no right (`sql/0011_reader.sql`). Here a collection is searched as any
client would. There are no routes that open an address which the client gives.
Here: the application. Not here: what is drawn where the client does not say (`drawing.py`), what a picture may cost
(`pictures.py`).
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from threading import Lock
from typing import Annotated, Any, TypeVar
from urllib.parse import unquote

import attr
import pystac
from cachetools import TTLCache
from fastapi import APIRouter, FastAPI, HTTPException, Path, Request
from psycopg_pool import ConnectionPool
from starlette.types import ASGIApp, Receive, Scope, Send
from titiler.core.dependencies import DefaultDependency
from titiler.core.factory import ColorMapFactory, MultiBaseTilerFactory, TMSFactory
from titiler.core.middleware import CacheControlMiddleware
from titiler.extensions import wmtsExtension
from titiler.mosaic.extensions.wmts import wmtsExtension as wmtsExtensionMosaic
from titiler.pgstac.backend import PGSTACBackend
from titiler.pgstac.factory import MosaicTilerFactory
from titiler.pgstac.model import Search

from geo_assets import __version__
from geo_assets.database.connections import DictConnection
from geo_assets.serving import undrawn
from geo_assets.serving.answers import problem
from geo_assets.serving.assets import readers_of
from geo_assets.serving.drawing import Limits, completed, with_asset
from geo_assets.serving.pictures import PARAMETERS, Queue, bands_of, is_description, is_drawn, sized
from geo_assets.serving.published import Published
from geo_assets.serving.questions import Asked, Query, fault_of_place, query_of, with_query
from geo_assets.serving.reader import open_reader_for_threads
from geo_assets.serving.schemes import SCHEMES
from geo_assets.settings import Settings

T = TypeVar("T")

#: Seconds for which an item or a collection is taken as it was: a map asks for many tiles at once, and what was
#: published again has another file.
_KNOWN_SECONDS = 5.0

#: Most items that are drawn into one picture of a collection.
_MOST_ITEMS = 100

#: Items of a collection that describe how it is drawn.
_SAMPLE = 20

_OF = re.compile(r"/collections/(?P<collection>[^/]+)(?:/items/(?P<item>[^/]+))?/")


class Catalogue:
    """Items and collections as the reader finds them, each known for some seconds."""

    def __init__(self) -> None:
        self.pool: ConnectionPool[DictConnection] | None = None
        self._known: TTLCache[Any, Any] = TTLCache(maxsize=2000, ttl=_KNOWN_SECONDS)
        self._lock = Lock()

    def item(self, collection: str, item: str) -> dict[str, Any]:
        """Return an item.

        Raises:
            HTTPException: 404.
        """
        return self._kept(("item", collection, item), lambda: self._item(collection, item))

    def parsed(self, collection: str, item: str) -> pystac.Item:
        """Return an item as readers take it, which they do not change.

        Raises:
            HTTPException: 404.
        """
        return self._kept(("parsed", collection, item), lambda: pystac.Item.from_dict(self.item(collection, item)))

    def collection(self, collection: str) -> dict[str, Any]:
        """Return a collection.

        Raises:
            HTTPException: 404.
        """
        return self._kept(("collection", collection), lambda: self._collection(collection))

    def sample(self, collection: str) -> list[dict[str, Any]]:
        """Return some items of a collection, as far as they have rasters."""
        wanted = {"collections": [collection], "limit": _SAMPLE}
        return self._kept(("sample", collection), lambda: [i for i in self.search(wanted) if _rasters(i)])

    def search(self, wanted: dict[str, Any]) -> list[dict[str, Any]]:
        """Return what a search finds."""
        found = self._ask("select pgstac.search(%s) as found", json.dumps(wanted))
        features: list[dict[str, Any]] = (found or {}).get("features") or []
        return features

    def _item(self, collection: str, item: str) -> dict[str, Any]:
        found = self.search({"ids": [item], "collections": [collection], "limit": 1})
        if not found:
            raise HTTPException(404, f"there is no item {item} in collection {collection}")
        return found[0]

    def _collection(self, collection: str) -> dict[str, Any]:
        found: dict[str, Any] | None = self._ask("select pgstac.get_collection(%s) as found", collection)
        if found is None:
            raise HTTPException(404, f"there is no collection {collection}")
        return found

    def _ask(self, query: str, parameter: str) -> Any:
        if self.pool is None:
            raise HTTPException(503, "the server is not ready")
        with self.pool.connection() as connection:
            row = connection.execute(query, (parameter,)).fetchone()
        return row["found"] if row else None

    def _kept(self, key: Any, ask: Callable[[], T]) -> T:
        with self._lock:
            if key in self._known:
                known: T = self._known[key]
                return known
        found = ask()
        with self._lock:
            self._known[key] = found
        return found


def _rasters(item: dict[str, Any]) -> dict[str, Any]:
    """The assets of an item that are drawn."""
    return {k: a for k, a in item["assets"].items() if str(a.get("type", "")).startswith("image/tiff")}


def _mosaic_of(catalogue: Catalogue) -> type[PGSTACBackend]:
    """Titiler's mosaic of a collection, searched without a trace in the database."""

    @attr.s
    class Mosaic(PGSTACBackend):  # type: ignore[misc]
        def info(self) -> Search:
            """What the mosaic is; its extent is the collection's."""
            extent = catalogue.collection(self.input)["extent"]["spatial"]["bbox"][0]
            west, south, east, north = extent if len(extent) == 4 else (*extent[:2], *extent[3:5])
            bounds = (west, south, east, north) if west <= east else (-180.0, south, 180.0, north)
            now = datetime.now(UTC)
            metadata = {"type": "mosaic", "bounds": bounds}
            wanted = {"collections": [self.input]}
            return Search(hash=self.input, search=wanted, lastused=now, usecount=0, metadata=metadata)

        def get_assets(self, geom: Any, **options: Any) -> list[Any]:  # noqa: ARG002 - how titiler would stop early
            """The items that a picture may show, the newest first."""
            found = catalogue.search(
                {
                    "collections": [self.input],
                    "intersects": json.loads(geom.model_dump_json(exclude_none=True)),
                    "limit": _MOST_ITEMS,
                    "fields": {"include": ["assets", "id", "bbox", "collection"]},
                }
            )
            return [{**item, "assets": _rasters(item)} for item in found if _rasters(item)]

    return Mosaic


class _Bounds(DefaultDependency):  # type: ignore[misc]
    """How the reader says bounds: with west > east across 180 in GeoJSON (RFC 7946), else without."""

    def __init__(self, request: Request) -> None:
        self.flat = not request.url.path.endswith(".geojson")


class _Mosaics(MosaicTilerFactory):  # type: ignore[misc]
    """Titiler's, without its lists of what lies in a box: they are the items as they are stored, with the places of
    their files. The STAC API has them for clients.
    """

    def assets(self) -> None:
        """Register no route."""


class _Completed:
    """Completes what a client asks for (`drawing.py`), and refuses what would take all memory (`pictures.py`)."""

    def __init__(self, app: ASGIApp, catalogue: Catalogue) -> None:
        self._app = app
        self._catalogue = catalogue
        self._queue = Queue(app)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["method"] not in {"GET", "HEAD"}:
            refusal = problem(405, "pictures are asked for by GET", headers={"Allow": "GET, HEAD"})
            await refusal(scope, receive, send)
            return
        path = scope["path"].removeprefix(scope["root_path"])
        scope = undrawn.with_own_options(scope, query_of(scope), path)
        match = _OF.match(path)
        if match is None or not (is_drawn(path) or is_description(path)):
            await self._app(scope, receive, send)
            return
        assets, drawn = await asyncio.to_thread(self._rasters, match["collection"], match["item"])
        if is_description(path):
            query = with_asset(query_of(scope), assets)
            if match["item"] and assets and (name := _unknown(query, assets[0])):
                told = f"there is no raster {name[:60]!r} in this item; there are: {', '.join(assets[0]) or 'none'}"
                await problem(404, told)(scope, receive, send)
                return
            await self._app(with_query(scope, query), receive, send)
            return
        nowhere = fault_of_place(path, query_of(scope))
        query = completed(query_of(scope), assets, drawn)
        bands, too_many = bands_of(query, assets)
        query, values, too_large = sized(query, path, bands, mosaic=match["item"] is None)
        if fault := nowhere or too_many or too_large:
            await problem(400, fault)(scope, receive, send)
            return
        await self._queue.answer(values, with_query(scope, query), receive, send)

    def _rasters(self, collection: str, item: str | None) -> tuple[list[dict[str, Any]], dict[str, Limits]]:
        """The rasters of each item that describes what is drawn; asset -> limits, where these are known for all."""
        try:
            if item is not None:
                return [_rasters(self._catalogue.item(collection, item))], {}
            drawn = _drawn(self._catalogue.collection(collection))
            return [_rasters(item) for item in self._catalogue.sample(collection)], drawn
        except HTTPException:
            return [], {}  # the application says what is not there


def _unknown(query: Query, assets: dict[str, Any]) -> str | None:
    """The first asset that is asked for and not there."""
    asked = (value.partition("|")[0] for name, value in query if name == "assets")
    return next((name for name in asked if name not in assets), None)


def _drawn(collection: dict[str, Any]) -> dict[str, Limits]:
    """Asset -> limits of its first band, as the collection says that it is drawn."""
    return {
        render["assets"][0]: (float(render["rescale"][0][0]), float(render["rescale"][0][1]))
        for render in collection.get("renders", {}).values()
        if len(render.get("assets", ())) == 1 and render.get("rescale")
    }


def tiles_app(settings: Settings, published: Published) -> FastAPI:
    """The application, to be served below /tiles."""
    catalogue = Catalogue()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        catalogue.pool = await asyncio.to_thread(open_reader_for_threads, settings)
        app.state.dbpool = catalogue.pool
        yield
        await asyncio.to_thread(catalogue.pool.close)

    app = FastAPI(
        title="geo_assets tiles",
        version=__version__,
        openapi_url="/api",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    _add_routes(app, catalogue, published)
    undrawn.install(app)
    app.add_middleware(CacheControlMiddleware, cachecontrol="private, max-age=60", exclude_path={r"/healthz$"})
    app.add_middleware(_Completed, catalogue=catalogue)
    app.add_middleware(Asked, parameters=PARAMETERS)
    return app


def _add_routes(app: FastAPI, catalogue: Catalogue, published: Published) -> None:
    item_reader, mosaic_reader = readers_of(published)

    def the_item(collection_id: Annotated[str, Path()], item_id: Annotated[str, Path()]) -> pystac.Item:
        return catalogue.parsed(collection_id, item_id)

    def the_collection(collection_id: Annotated[str, Path()]) -> str:
        catalogue.collection(collection_id)
        return collection_id

    mosaics = _Mosaics(
        path_dependency=the_collection,
        router_prefix="/collections/{collection_id}",
        backend=_mosaic_of(catalogue),
        dataset_reader=mosaic_reader,
        add_viewer=False,
        add_statistics=False,
        add_part=True,
        add_ogc_maps=False,
        supported_tms=SCHEMES,
        extensions=[wmtsExtensionMosaic()],
    )
    items = MultiBaseTilerFactory(
        reader=item_reader,
        path_dependency=the_item,
        router_prefix="/collections/{collection_id}/items/{item_id}",
        reader_dependency=_Bounds,
        supported_tms=SCHEMES,
        add_viewer=False,
        extensions=[wmtsExtension()],
    )
    app.include_router(mosaics.router, prefix="/collections/{collection_id}", tags=["collections"])
    app.include_router(items.router, prefix="/collections/{collection_id}/items/{item_id}", tags=["items"])
    app.include_router(TMSFactory(supported_tms=SCHEMES).router, tags=["tiling schemes"])
    app.include_router(ColorMapFactory().router, tags=["colours"])

    app.include_router(_landing)


_landing = APIRouter(tags=["landing"])


@_landing.get("/")
def landing(request: Request) -> dict[str, Any]:
    """Say where things are."""
    base = unquote(str(request.base_url)).rstrip("/")
    of_item, of_collection = "collections/{collection}/items/{item}", "collections/{collection}"
    tile = "tiles/WebMercatorQuad/{z}/{x}/{y}.png"
    return {
        "title": "geo_assets tiles",
        "item": f"{base}/{of_item}/{tile}",
        "preview": f"{base}/{of_item}/preview.png",
        "mosaic": f"{base}/{of_collection}/{tile}",
        "api": f"{base}/api",
    }
