"""A small delivery that is ingested and served, and a browser."""

import importlib.util

import geopandas as gpd
import numpy as np
import pytest
from rasterio.transform import from_origin
from shapely.geometry import box

from geo_assets_tests.raster.test_cog import write
from geo_assets_tests.serving.browser import Browser, find_chromium
from geo_assets_tests.serving.ingested import ingested  # noqa: F401 - a fixture

#: A file whose name would do harm if it became HTML.
EVIL = "<img src=x onerror=alert(1)>.tif"


@pytest.fixture(scope="session")
def chromium():
    """The program; tests of the page are left out where there is none."""
    program = find_chromium()
    if program is None:
        pytest.skip("there is no Chromium here")
    return program


@pytest.fixture(scope="module")
def browser(chromium):
    browser = Browser(chromium)
    yield browser
    browser.close()


def deliver(folder, far):
    """Good and bad files in one folder, and in another one raster across 180 degrees."""
    ramp = np.add.outer(np.arange(64), np.arange(64))
    write(folder / "heights.tif", ramp[None].astype("float32") * 11, transform=from_origin(5e5, 4e6, 100, 100))
    colours = np.stack([ramp, ramp[::-1], 127 + 0 * ramp]).astype("uint8")
    write(folder / "photo_20240131.tif", colours, transform=from_origin(5.2e5, 4e6, 100, 100), photometric="RGB")
    write(folder / EVIL, ramp[None].astype("uint16"), transform=from_origin(5.4e5, 4e6, 100, 100))
    (folder / "broken.tif").write_bytes(b"II*\x00\x08\x00\x00\x00")
    parcels = gpd.GeoDataFrame(
        {"name": ["<b onclick=alert(1)>north</b>", "south"], "area": [12, 7], "serial": [2**53 + 1, 5]},
        geometry=[box(-75, 36.2, -74, 37), box(-75, 35, -74, 36)],
        crs=4326,
    )
    parcels.to_file(folder / "parcels.gpkg", layer="parcels")
    # a grid of the Pacific, whose middle is at 180 degrees
    write(
        far / "lagoon.tif", ramp[None].astype("uint16"), crs="EPSG:3832", transform=from_origin(3.2e6, -2e6, 3e4, 1e4)
    )


@pytest.fixture(scope="module")
def served(cli, tmp_path_factory):
    """Where the services of the stack are, once it has something to show: {"page", "stac", …, "job"}."""
    if importlib.util.find_spec("titiler") is None:
        pytest.skip("the extra `serve` is not installed")
    folder, far = tmp_path_factory.mktemp("delivery"), tmp_path_factory.mktemp("far")
    deliver(folder, far)
    for source, container in ((folder, "delivery"), (far, "pacific")):
        assert cli.run("upload", str(source), f"default/{container}").returncode == 0
    ingest = ("submit", "ingest_container", "--wait", "--param")
    said = [f for p in ("title=Survey", "datetime_regex=_%Y%m%d", "one_collection=true") for f in ("--param", p)]
    job = cli.json(*ingest, "container=delivery", *said)
    cli.json(*ingest, "container=pacific")
    return {**cli.json("serve", "--detach"), "job": job["job_id"]}
