"""Rasters with longitudes beyond 180 degrees, as the grids of the weather have them, are served whole."""

import re

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

pytest.importorskip("tipg")

from geo_assets.serving.grids import GridReader
from geo_assets_tests.raster.test_cog import write
from geo_assets_tests.serving.test_doors import at

RAMP = np.add.outer(np.arange(90), np.arange(180)).astype("uint16")

#: west, south, east, north; size; system of the picture
VIEWS = [
    ((-180, -85, 180, 85), {}),
    ((-100, -50, 100, 50), {"width": 300, "height": 200}),
    ((-10, -10, 10, 10), {"dst_crs": rasterio.crs.CRS.from_epsg(3857), "width": 50, "height": 50}),
    ((-100, 0, -80, 20), {"dst_crs": rasterio.crs.CRS.from_epsg(3857), "width": 64, "height": 64}),
    ((80, 0, 100, 20), {"dst_crs": rasterio.crs.CRS.from_epsg(3857), "width": 64, "height": 64}),
]


def world(path, *, west, masked):
    """A grid of two degrees around the Earth."""
    turned = np.roll(RAMP, -(180 + west) // 2, axis=1)
    profile = {"nodata": 100} if masked == "nodata" else {"alpha": "YES"} if masked == "alpha" else {}
    bands = np.stack([turned, np.where(turned % 5, 65535, 300)]) if masked == "alpha" else turned[None]
    write(path, bands.astype("uint16"), crs="EPSG:4326", transform=from_origin(west, 90, 2, 2), **profile)
    return path


@pytest.mark.parametrize("masked", ["", "nodata", "alpha"])
@pytest.mark.parametrize("west", [0, -90, 20])
def test_a_grid_beyond_180_is_read_as_one_that_ends_there(tmp_path, west, masked):
    plain = world(tmp_path / "plain.tif", west=-180, masked=masked)
    beyond = world(tmp_path / "beyond.tif", west=west, masked=masked)
    with GridReader(str(plain)) as one, GridReader(str(beyond)) as other:
        for box, how in VIEWS:
            expected, found = one.part(box, **how), other.part(box, **how)
            assert found.array.shape == expected.array.shape
            np.testing.assert_array_equal(found.array.filled(0), expected.array.filled(0))
            np.testing.assert_array_equal(found.mask, expected.mask)
        for tile in ((0, 0, 0), (0, 0, 1), (1, 1, 1), (3, 3, 3), (4, 3, 3)):
            np.testing.assert_array_equal(other.tile(*tile).array.filled(0), one.tile(*tile).array.filled(0))
        for lon in (-179, -90, -0.5, 0, 0.5, 20, 90, 179):
            assert other.point(lon, 11).array.tolist() == one.point(lon, 11).array.tolist()
            assert other.point(lon, 11).coordinates == (lon, 11)


@pytest.fixture(scope="module")
def client(ingested):
    folder = ingested.cli.home / "containers" / "beyond"
    folder.mkdir()
    world(folder / "world.tif", west=0, masked="")
    write(folder / "fiji.tif", RAMP[None, :, :100], crs="EPSG:4326", transform=from_origin(170, 9, 0.2, 0.2))
    ingest = ("submit", "ingest_container", "--param", "container=beyond", "--wait")
    done = ingested.cli.json(*ingest)
    assert done["status"] == "completed", done
    with at(ingested.settings) as client:
        yield client


def item_of(client, name):
    (item,) = [i for i in client.get("/stac/search?limit=1000").json()["features"] if i["id"].startswith(name)]
    return item["collection"], f"/tiles/collections/{item['collection']}/items/{item['id']}"


def opaque(answer):
    """The share of the picture that shows something, in per cent."""
    assert answer.status_code == 200, answer.text
    with rasterio.MemoryFile(answer.content) as file, file.open() as picture:
        return round(100 * float((picture.read()[-1] > 0).mean()))


def test_both_halves_of_a_world_from_0_to_360_are_served(client):
    collection, item = item_of(client, "world")
    for base in (item, f"/tiles/collections/{collection}"):
        for tile in ("0/0/0", "1/0/0", "1/1/0", "3/1/3"):
            assert opaque(client.get(f"{base}/tiles/WebMercatorQuad/{tile}.png")) == 100
        assert opaque(client.get(f"{base}/bbox/-100,0,-80,20.png")) == 100
    for lon in (-90, 0, 90, 270):
        value = client.get(f"{item}/point/{lon},11").json()["values"]
        assert value == [RAMP[39, (lon + 180) % 360 // 2]]


def test_both_sides_of_180_are_served_and_nothing_else(client):
    _, item = item_of(client, "fiji")
    sides = [opaque(client.get(f"{item}/tiles/WebMercatorQuad/5/{x}/16.png")) for x in (31, 0)]
    assert sides[0] == sides[1] > 60
    assert client.get(f"{item}/tiles/WebMercatorQuad/5/15/16.png").status_code == 404
    assert [client.get(f"{item}/point/{lon},0").json()["values"] for lon in (179.9, -179.9)] == [[94], [95]]


@pytest.mark.parametrize(("name", "deepest"), [("world", 0), ("fiji", 3)])
def test_bounds_of_tiles_stay_within_180_degrees(client, name, deepest):
    _, item = item_of(client, name)
    told = client.get(f"{item}/WebMercatorQuad/tilejson.json").json()
    assert (told["bounds"][0], told["bounds"][2], told["center"][0]) == (-180, 180, 0)
    assert told["maxzoom"] == deepest
    capabilities = client.get(f"{item}/WMTSCapabilities.xml").text
    boxes = re.findall(r"WGS84BoundingBox.*?LowerCorner>(\S+) .*?UpperCorner>(\S+) ", capabilities, re.DOTALL)
    assert set(boxes) == {("-180.0", "180.0")}
    geojson = client.get(f"{item}/info.geojson?assets=data").json()["bbox"]
    assert geojson[::2] == ([-180, 180] if name == "world" else [170, -170])
