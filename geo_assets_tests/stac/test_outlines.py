"""The outline of a raster's item is where its data are on the Earth, though straight edges are curves there."""

import numpy as np
import pytest
from pyproj import Transformer
from rasterio.transform import from_origin
from shapely.geometry import LineString, Point, shape

from geo_assets.raster.cog import convert
from geo_assets.raster.models import ConvertRequest
from geo_assets.stac.item import CogAsset, cog_item
from geo_assets.stac.validation import validated
from geo_assets_tests.raster.test_cog import write
from geo_assets_tests.stac.test_golden_items import REGISTERED


def item_of(folder, pixels, **profile) -> dict:
    source = write(folder / "a.tif", pixels, **profile)
    report = convert(ConvertRequest(source=str(source), destination=str(folder / "a.cog.tif")))
    asset = CogAsset(key="", title=None, href="https://example.org/a.tif", thumbnail=None, report=report)
    return validated(cog_item(identity="a", collection="c", title="a.tif", modified=REGISTERED, cogs=[asset]))


def test_the_outline_follows_the_curved_edges_of_a_wide_grid(tmp_path):
    west, north, size = 1e5, 7.6e6, 8e5  # metres: a whole zone of UTM, far north
    pixels = np.ones((1, 80, 80), "uint8")
    item = item_of(tmp_path, pixels, crs="EPSG:32633", transform=from_origin(west, north, size / 80, size / 80))
    corners = [(west, north), (west + size, north), (west + size, north - size), (west, north - size), (west, north)]
    edge = LineString(corners).segmentize(size / 100)
    lonlat = Transformer.from_crs(32633, 4326, always_xy=True)
    true = [lonlat.transform(x, y) for x, y in edge.coords]
    outline = shape(item["geometry"])
    width = outline.bounds[2] - outline.bounds[0]
    assert max(outline.exterior.distance(Point(p)) for p in true) < width / 1000
    straight = LineString([lonlat.transform(*corner) for corner in corners])
    assert max(straight.distance(Point(p)) for p in true) > width / 100  # corners alone would not do
    assert item["bbox"] == pytest.approx(outline.bounds)


def test_the_outline_is_that_of_the_data_not_of_the_grid(tmp_path):
    pixels = np.zeros((1, 100, 100), "uint8")
    pixels[0, :, :50] = 1
    item = item_of(tmp_path, pixels, nodata=0, crs="EPSG:4326", transform=from_origin(10, 50, 0.01, 0.01))
    assert item["bbox"] == pytest.approx([10, 49, 10.5, 50], abs=0.02)


def test_the_outline_of_a_raster_across_the_antimeridian_is_cut_there(tmp_path):
    pixels = np.ones((1, 20, 40), "uint8")
    item = item_of(tmp_path, pixels, crs="EPSG:3832", transform=from_origin(3.2e6, 1e6, 1e4, 1e4))
    outline = shape(item["geometry"])
    assert outline.is_valid
    assert outline.geom_type == "MultiPolygon"
    west, _, east, _ = item["bbox"]
    assert west > 170
    assert east < -170
    assert sorted(part.bounds[0::2] for part in outline.geoms) == [
        pytest.approx((-180, east)),
        pytest.approx((west, 180)),
    ]
