"""Where the assets of an item lie in Azure Storage: the storage extension, and a path that GDAL opens with an identity
of its own.

Here: adding this to an item, and taking it away. Not here: the hrefs themselves (`storage/containers.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_STORAGE = "https://stac-extensions.github.io/storage/v2.0.0/schema.json"
_ALTERNATE = "https://stac-extensions.github.io/alternate-assets/v1.2.0/schema.json"

#: What the extension's schema asks of a scheme of the type `ms-azure`, letter by letter.
_PLATFORM = "https://{account}.blob.core.windows.net"


@dataclass(frozen=True, slots=True)
class AzurePlace:
    """A blob."""

    account: str  # its name in Azure
    container: str
    path: str


def with_places(item: dict[str, Any], places: Mapping[str, AzurePlace]) -> dict[str, Any]:
    """Return the item with where its assets lie; an asset whose href is not among `places` stays as it is.

    Args:
        item: with its assets.
        places: href -> the blob.
    """
    accounts = sorted({places[asset["href"]].account for asset in item["assets"].values() if asset["href"] in places})
    if not accounts:
        return item
    names = {account: "az" if len(accounts) == 1 else f"az-{account}" for account in accounts}
    schemes = {names[a]: {"type": "ms-azure", "platform": _PLATFORM, "account": a} for a in accounts}
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


def _placed(asset: dict[str, Any], place: AzurePlace | None, names: Mapping[str, str]) -> dict[str, Any]:
    if place is None:
        return asset
    return {
        **asset,
        "storage:refs": [names[place.account]],
        "alternate": {"az": {"href": f"/vsiaz/{place.container}/{place.path}"}},
    }
