"""Where the files of an item are now: containers and accounts may have been moved since its receipt was written.

Here: the hrefs of a restored item, and what the storage extension says of them. Not here: making hrefs
(`storage/containers.py`), restoring (`rebuild.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import quote

from geo_assets.errors import GeoAssetsError
from geo_assets.outcomes import Outputs
from geo_assets.settings import Settings
from geo_assets.stac.places import with_places, without_places
from geo_assets.stac.validation import validated
from geo_assets.stages.catalogue import as_link
from geo_assets.storage.blobs import BlobRef
from geo_assets.storage.containers import open_container
from geo_assets.storage.places import BlobPlace


def in_its_place(
    settings: Settings, item: Mapping[str, Any], made: Outputs, parameters: Mapping[str, Any]
) -> dict[str, Any]:
    """The item with the hrefs that its blobs, tables and sources have here; unchanged where nothing has moved.

    Args:
        settings: the database and the accounts.
        item: as its receipt has it.
        made: what its task put out.
        parameters: of its job.

    Raises:
        GeoAssetsError: STAC_INVALID; UNKNOWN_ACCOUNT, of an output.
    """
    ends: dict[str, str] = {}
    places: dict[str, BlobPlace] = {}
    for blob in made.all_blobs:
        ref = BlobRef.parse(blob)
        container = open_container(settings, ref.alias, ref.container)
        href = container.href(ref.path)
        ends |= {f"/{ref.container}/{path}": href for path in (ref.path, quote(ref.path))}
        if place := container.place(ref.path):
            places[href] = place
    assets = {
        key: {**asset, "href": _asset_href(settings, str(asset["href"]), ends)}
        for key, asset in without_places(item)["assets"].items()
    }
    links = [_link(settings, link, parameters) for link in item["links"]]
    moved = with_places({**without_places(item), "assets": assets, "links": links}, places)
    return dict(item) if moved == item else validated(moved)


def _asset_href(settings: Settings, href: str, ends: Mapping[str, str]) -> str:
    if href.startswith("postgresql://") and "?table=" in href:
        database = f"postgresql://{settings.pg_host}:{settings.pg_port}/{settings.pg_database}"
        return f"{database}?table={href.partition('?table=')[2]}"
    return next((now for end, now in ends.items() if href.endswith(end)), href)


def _link(settings: Settings, link: Mapping[str, Any], parameters: Mapping[str, Any]) -> dict[str, Any]:
    """A link to a source says where that is now, if its account is still known."""
    if link.get("rel") == "derived_from" and link.get("title"):
        with suppress(GeoAssetsError):
            container = open_container(settings, str(parameters.get("account")), str(parameters.get("container")))
            return {**link, "href": as_link(container.href(str(link["title"])))}
    return dict(link)
