"""Where the assets of an item lie in a service: the storage extension, and a path that GDAL opens with an identity
of its own.

Here: adding this to an item, and taking it away. Not here: the hrefs themselves (`storage/containers.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from geo_assets.storage.places import BlobPlace

_STORAGE = "https://stac-extensions.github.io/storage/v2.0.0/schema.json"
_ALTERNATE = "https://stac-extensions.github.io/alternate-assets/v1.2.0/schema.json"

#: Of `BlobPlace`.
_KINDS = ("az", "s3", "gs")


def with_places(item: dict[str, Any], places: Mapping[str, BlobPlace]) -> dict[str, Any]:
    """Return the item with where its assets lie; an asset whose href is not among `places` stays as it is.

    Args:
        item: with its assets.
        places: href -> the blob.
    """
    found = {place.owner: place for asset in item["assets"].values() if (place := places.get(asset["href"]))}
    if not found:
        return item
    names = {owner: place.kind if len(found) == 1 else f"{place.kind}-{owner}" for owner, place in found.items()}
    schemes = {names[owner]: dict(found[owner].scheme) for owner in sorted(found)}
    return {
        **item,
        "stac_extensions": [*item.get("stac_extensions", []), _STORAGE, _ALTERNATE],
        "properties": {**item["properties"], "storage:schemes": schemes},
        "assets": {key: _placed(asset, places.get(asset["href"]), names) for key, asset in item["assets"].items()},
    }


def without_places(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return the item without where its assets lie: the inverse of `with_places`."""
    told = {"storage:refs", "alternate"}
    extensions = [url for url in item.get("stac_extensions", []) if url not in {_STORAGE, _ALTERNATE}]
    return {
        **item,
        **({"stac_extensions": extensions} if "stac_extensions" in item else {}),
        "properties": {key: value for key, value in item["properties"].items() if key != "storage:schemes"},
        "assets": {
            key: {name: value for name, value in asset.items() if name not in told}
            for key, asset in item["assets"].items()
        },
    }


def alternate_of(asset: Mapping[str, Any]) -> str | None:
    """Return where an asset is in its service; None where it says no place, or not of our kinds."""
    told = asset.get("alternate", {})
    return next((told[kind].get("href") for kind in _KINDS if kind in told), None)


def _placed(asset: dict[str, Any], place: BlobPlace | None, names: Mapping[str, str]) -> dict[str, Any]:
    if place is None:
        return asset
    return {
        **asset,
        "storage:refs": [names[place.owner]],
        "alternate": {place.kind: {"href": place.href}},
    }
