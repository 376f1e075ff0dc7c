"""The assets of items as titiler reads them: what is published, at hardly more than reading the file costs.

Here: the readers of an item and of one in a mosaic. Not here: what is published where (`published.py`), the routes
(`tiles.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import attr
from rio_tiler.errors import InvalidAssetName
from titiler.pgstac.reader import PgSTACReader, SimpleSTACReader

from geo_assets.serving.published import Published
from geo_assets.stac.places import alternate_of

T = TypeVar("T")


def _in_place(read: Callable[..., T]) -> Callable[..., T]:
    """A way to read assets for which one alone gets no thread of its own: in a new one PROJ begins anew, which takes as
    long as the tile.
    """

    @wraps(read)
    def reading(self: Any, *place: Any, assets: Any = None, **options: Any) -> T:
        if isinstance(assets, str) or len(assets or ()) == 1:
            options.setdefault("threads", 1)
        return read(self, *place, assets=assets, **options)

    return reading


#: What a reader of several assets can be asked for.
_WAYS = ("tile", "part", "preview", "feature", "point")


def readers_of(published: Published) -> tuple[type[PgSTACReader], type[SimpleSTACReader]]:
    """Return readers for titiler of an item and of one in a mosaic; they open nothing but what is published."""

    def opened(info: Any, alternate: str | None) -> Any:
        found = published.opened(info["url"], alternate)
        if found is None:
            raise InvalidAssetName(f"asset {info['name']} is not in a place that is served")
        url, options = found
        return {**info, "url": url, "env": {**info.get("env", {}), **options}}

    @attr.s
    class ItemReader(PgSTACReader):  # type: ignore[misc]
        def __attrs_post_init__(self) -> None:
            """Leave the zooms for who asks: they take a transformation between coordinate systems, and no tile needs
            them.
            """
            self.minzoom = self.maxzoom = 0
            super().__attrs_post_init__()
            del self.minzoom, self.maxzoom

        def __getattr__(self, name: str) -> Any:
            if name in {"minzoom", "maxzoom"}:
                return getattr(self, f"_{name}")
            raise AttributeError(name)

        def _get_asset_info(self, asset: Any) -> Any:
            info = super()._get_asset_info(asset)
            extra = self.item.assets[info["name"]].extra_fields
            return opened(info, alternate_of(extra))

    @attr.s
    class MosaicReader(SimpleSTACReader):  # type: ignore[misc]
        def _get_asset_info(self, asset: Any) -> Any:
            info = super()._get_asset_info(asset)
            told = self.input["assets"][info["name"]]
            return opened(info, alternate_of(told))

    for reader in (ItemReader, MosaicReader):
        for way in _WAYS:
            setattr(reader, way, _in_place(getattr(reader, way)))
    return ItemReader, MosaicReader
