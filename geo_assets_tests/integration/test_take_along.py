"""A submission is taken along whole, by one command; from an Azure account: `test_azure.py`."""

import hashlib
from pathlib import Path

import geopandas as gpd
import numpy as np
import pystac
import pytest
import rasterio
import rustac
from shapely.geometry import box

from geo_assets_tests.integration.test_publication import ingest, upload
from geo_assets_tests.raster.test_cog import write


@pytest.fixture
def delivery(tmp_path):
    folder = tmp_path / "delivery"
    folder.mkdir()
    write(folder / "scan.tif", np.ones((3, 64, 64), "uint8"), photometric="RGB")
    write(folder / "heights.tif", np.random.default_rng(1).normal(10, 3, (1, 64, 64)).astype("float32"))
    frame = gpd.GeoDataFrame({"n": [1, 2]}, geometry=[box(0, 0, 1, 1), box(1, 1, 2, 2)], crs=4326)
    frame.to_file(folder / "parcels.gpkg")
    return folder


def hashes(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_a_submission_is_taken_along_whole_and_twice_the_same(cli, delivery, tmp_path):
    upload(cli, delivery, "taken-along")
    job, tasks = ingest(cli, "taken-along", "export_tables=geoparquet")
    assert job["status"] == "completed", tasks
    told = cli.json("export", "taken-along", str(tmp_path / "one"))
    assert (told["items"], told["to"]) == (3, str(tmp_path / "one"))
    assert cli.run("export", "taken-along", str(tmp_path / "two")).returncode == 0
    assert hashes(tmp_path / "one") == hashes(tmp_path / "two")
    catalog = pystac.Catalog.from_file(str(tmp_path / "one" / "catalog.json"))
    items = {item.properties["title"]: item for item in catalog.get_items(recursive=True)}
    assert items.keys() == tasks.keys()
    with rasterio.open(items["heights.tif"].assets["data"].get_absolute_href()) as cog:
        assert cog.read(1).std() > 1
    (table,) = (a for a in items["parcels.gpkg"].assets.values() if a.media_type == "application/vnd.apache.parquet")
    assert gpd.read_parquet(table.get_absolute_href()).n.tolist() == [1, 2]
    (file,) = tasks["parcels.gpkg"]["outputs"]["geoparquet"]
    assert file["sha256"] == hashlib.sha256(Path(table.get_absolute_href()).read_bytes()).hexdigest()
    held = {}
    for collection in catalog.get_collections():
        listed = rustac.read_sync(collection.assets["geoparquet-items"].get_absolute_href())["features"]
        assert {item["id"] for item in listed} == {item.id for item in collection.get_items()}
        held[collection.id] = [item["properties"]["title"] for item in listed]
    assert held == {
        "taken-along": ["heights.tif"], "taken-along-visual": ["scan.tif"], "taken-along-vector": ["parcels.gpkg"],
    }  # fmt: skip
    again = cli.run("export", "taken-along", str(tmp_path / "one"))
    assert again.returncode != 0
    assert "is no empty folder" in again.stderr
