"""How the assets of an item are read for a picture."""

import threading

import attr
import numpy as np
import pystac
import pytest

pytest.importorskip("tipg")

from rasterio.transform import from_origin
from titiler.pgstac.reader import PgSTACReader

from geo_assets.serving.assets import readers_of
from geo_assets.serving.published import Published
from geo_assets.settings import Settings
from geo_assets.storage.local import account_root
from geo_assets_tests.raster.test_cog import write


@pytest.fixture
def settings(tmp_path):
    return Settings(_env_file=None, home=tmp_path)


@pytest.fixture
def item(settings):
    """An item with two rasters of the same place."""
    folder = account_root(settings.storage_accounts[settings.output_account]).absolute() / settings.cog_container
    folder.mkdir(parents=True)
    for name in ("one.tif", "two.tif"):
        pixels = np.arange(64 * 64).reshape(1, 64, 64).astype("uint16")
        write(folder / name, pixels, crs="EPSG:32632", transform=from_origin(5e5, 5.2e6, 10, 10))
    made = pystac.Item("two", None, [9, 46.9, 9.01, 46.96], pystac.utils.str_to_datetime("2024-01-01T00:00:00Z"), {})
    made.properties |= {
        "proj:code": "EPSG:32632",
        "proj:shape": [64, 64],
        "proj:transform": [10, 0, 5e5, 0, -10, 5.2e6],
    }
    made.stac_extensions.append("https://stac-extensions.github.io/projection/v2.0.0/schema.json")
    for name in ("one", "two"):
        made.add_asset(name, pystac.Asset(f"file://{folder}/{name}.tif", media_type=pystac.MediaType.COG))
    return made


@pytest.fixture
def watched(settings):
    """The reader of items, and the threads in which it has read."""
    reader, _ = readers_of(Published(settings))
    seen = []

    @attr.s
    class Watched(reader):  # type: ignore[valid-type]
        def _get_asset_info(self, asset):
            seen.append(threading.get_ident())
            return super()._get_asset_info(asset)

    return Watched, seen


@pytest.mark.parametrize(
    ("way", "place"), [("preview", ()), ("part", ([9, 46.95, 9.005, 46.955],)), ("point", (9.001, 46.951))]
)
def test_one_asset_is_read_where_it_is_asked_for(item, watched, way, place):
    reader, seen = watched
    with reader(item) as opened:
        getattr(opened, way)(*place, assets=["one"])
    assert seen == [threading.get_ident()]


def test_a_tile_of_one_asset_is_read_where_it_is_asked_for(item, watched):
    reader, seen = watched
    with reader(item) as opened:
        (tile,) = opened.tms.tiles(9.001, 46.951, 9.001, 46.951, [14])
        assert opened.tile(tile.x, tile.y, tile.z, assets=["one"]).data.any()
    assert seen == [threading.get_ident()]


def test_two_assets_are_read_side_by_side(item, watched):
    reader, seen = watched
    with reader(item) as opened:
        assert opened.preview(assets=["one", "two"]).count == 2
    assert threading.get_ident() not in seen
    assert len(seen) == 2


def test_the_zooms_of_an_item_are_those_that_the_library_finds(item, settings):
    reader, _ = readers_of(Published(settings))
    with PgSTACReader(item) as theirs, reader(item) as ours:
        assert (ours.minzoom, ours.maxzoom) == (theirs.minzoom, theirs.maxzoom)
        assert ours.maxzoom == 13
        with pytest.raises(AttributeError):
            ours.nothing  # noqa: B018
