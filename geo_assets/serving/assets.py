"""The assets of items as titiler reads them: what is published, at hardly more than reading the file costs.

Here: the readers of an item and of one in a mosaic. Not here: what is published where (`published.py`), how a grid is
read (`grids.py`), the routes (`tiles.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, wraps
from typing import Any, TypeVar

import attr
from rasterio.warp import calculate_default_transform
from rio_tiler.constants import WGS84_CRS
from rio_tiler.errors import InvalidAssetName
from titiler.pgstac.reader import PgSTACReader, SimpleSTACReader

from geo_assets.serving.grids import GridReader, is_round
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


@attr.s
class _Item(PgSTACReader):  # type: ignore[misc]
    reader: Any = attr.ib(default=GridReader)
    flat: bool = attr.ib(default=False, kw_only=True)

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

    def tile_exists(self, *place: int) -> bool:
        """Whether some of it may be in a tile."""
        return is_round(self.crs, self.bounds) or super().tile_exists(*place)

    def get_geographic_bounds(self, crs: Any) -> tuple[float, float, float, float]:
        """Return west, south, east, north in degrees; `flat` has none across 180, for which TileJSON has no way."""
        west, south, east, north = super().get_geographic_bounds(crs)
        if is_round(WGS84_CRS, (west, south, east, north)):
            west, east = self.item.bbox[0], self.item.bbox[2]
        return (-180.0, south, 180.0, north) if self.flat and west > east else (west, south, east, north)

    @cached_property
    def _dst_geom_in_tms_crs(self) -> Any:
        """The grid in the system of the tiles, which tells the zooms; another place on its parallels leaves its
        resolution as it is.
        """
        if is_round(self.crs, self.bounds):
            middle = (self.bounds[0] + self.bounds[2]) / 2
            box = (self.bounds[0] - middle, self.bounds[1], self.bounds[2] - middle, self.bounds[3])
            return calculate_default_transform(self.crs, self.tms.rasterio_crs, self.width, self.height, *box)
        return super()._dst_geom_in_tms_crs


@attr.s
class _ItemOfMosaic(SimpleSTACReader):  # type: ignore[misc]
    reader: Any = attr.ib(default=GridReader)

    def tile_exists(self, *place: int) -> bool:
        """Whether some of it may be in a tile."""
        return is_round(self.crs, self.bounds) or super().tile_exists(*place)


def readers_of(published: Published) -> tuple[type[PgSTACReader], type[SimpleSTACReader]]:
    """Return readers for titiler of an item and of one in a mosaic; they open nothing but what is published."""

    def opened(info: Any, alternate: str | None) -> Any:
        found = published.opened(info["url"], alternate)
        if found is None:
            raise InvalidAssetName(f"asset {info['name']} is not in a place that is served")
        url, options = found
        return {**info, "url": url, "env": {**info.get("env", {}), **options}}

    @attr.s
    class ItemReader(_Item):
        def _get_asset_info(self, asset: Any) -> Any:
            info = super()._get_asset_info(asset)
            extra = self.item.assets[info["name"]].extra_fields
            return opened(info, alternate_of(extra))

    @attr.s
    class MosaicReader(_ItemOfMosaic):
        def _get_asset_info(self, asset: Any) -> Any:
            info = super()._get_asset_info(asset)
            told = self.input["assets"][info["name"]]
            return opened(info, alternate_of(told))

    for reader in (ItemReader, MosaicReader):
        for way in _WAYS:
            setattr(reader, way, _in_place(getattr(reader, way)))
    return ItemReader, MosaicReader
