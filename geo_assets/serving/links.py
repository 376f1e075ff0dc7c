"""What a client gets of an item or collection: hrefs that it can open, and links to the services beside.

Here: from what is stored to what is answered. Nothing of it is stored, so another address needs no command.
Not here: places (`published.py`).
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, unquote

from geo_assets.serving.published import Published

_GEOJSON = "application/geo+json"
_JSON = "application/json"
_TILESETS = "http://www.opengis.net/def/rel/ogc/1.0/tilesets-vector"

#: The schema whose tables are published.
_SCHEMA = "vector."


def for_clients(stored: dict[str, Any], published: Published, origin: str) -> dict[str, Any]:
    """Return an item or collection for a client.

    An href of a published file becomes its URL. An asset or link that names another file of this machine is left out:
    no client can open it, and its path is nobody's business. The item still says in `processing:lineage` what it was
    made of. Items of tables get links to the features and vector tiles of each.

    Args:
        stored: as pgstac has it, perhaps without some of its fields.
        published: what is served.
        origin: of the server.
    """
    answer = dict(stored)
    if isinstance(assets := stored.get("assets"), dict):
        placed = {key: _placed(asset, published, origin) for key, asset in assets.items()}
        answer["assets"] = {key: asset for key, asset in placed.items() if asset is not None}
    if isinstance(links := stored.get("links"), list):
        kept = [_placed(link, published, origin, encoded=True) for link in links]
        answer["links"] = [link for link in kept if link is not None] + _beside(stored, origin)
    return answer


def _placed(
    thing: dict[str, Any], published: Published, origin: str, *, encoded: bool = False
) -> dict[str, Any] | None:
    href = thing.get("href")
    if not isinstance(href, str) or not href.startswith("file:"):
        return thing
    url = published.url(unquote(href) if encoded else href, origin)
    return {**thing, "href": url} if url else None


def _beside(item: dict[str, Any], origin: str) -> list[dict[str, Any]]:
    if item.get("type") != "Feature":
        return []
    links = []
    for key, asset in (item.get("assets") or {}).items():
        table = str(asset.get("title", ""))
        if "table:columns" in asset and table.startswith(_SCHEMA):
            links += _of_table(table, f"{origin}/features/collections/{quote(table, safe='')}")
        elif "profile=cloud-optimized" in str(asset.get("type")):
            links.append(_of_raster(item, key, origin))
    return links


def _of_table(table: str, base: str) -> list[dict[str, Any]]:
    return [
        {"rel": "items", "type": _GEOJSON, "title": f"features of {table}", "href": f"{base}/items"},
        {"rel": _TILESETS, "type": _JSON, "title": f"vector tiles of {table}", "href": f"{base}/tiles"},
        {
            "rel": "tilejson",
            "type": _JSON,
            "title": f"TileJSON of {table}",
            "href": f"{base}/tiles/WebMercatorQuad/tilejson.json",
        },
    ]


def _of_raster(item: dict[str, Any], key: str, origin: str) -> dict[str, Any]:
    collection, identity = (quote(str(item.get(name, "")), safe="") for name in ("collection", "id"))
    base = f"{origin}/tiles/collections/{collection}/items/{identity}"
    return {
        "rel": "tilejson",
        "type": _JSON,
        "title": f"map tiles of {key}",
        "href": f"{base}/WebMercatorQuad/tilejson.json?assets={quote(key, safe='')}",
    }
