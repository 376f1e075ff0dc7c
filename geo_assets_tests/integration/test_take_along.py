"""A submission is taken along whole, by one command, from a stack with directories and from one in Azure."""

import hashlib
import json
from pathlib import Path

import geopandas as gpd
import numpy as np
import pystac
import pytest
import rasterio
import rustac
from shapely.geometry import box

from geo_assets_tests.azurite import ACCOUNTS
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
    (collection,) = (c for c in catalog.get_collections() if c.id == "taken-along")
    assert len(rustac.read_sync(collection.assets["geoparquet-items"].get_absolute_href())["features"]) == 2
    again = cli.run("export", "taken-along", str(tmp_path / "one"))
    assert again.returncode != 0
    assert "is no empty folder" in again.stderr


def test_an_export_in_azure_names_no_account_and_holds_no_secret(azure_cli, azurite, delivery):
    from azure.storage.blob import BlobServiceClient

    account = azurite.account(ACCOUNTS[1])
    assert azure_cli.run("upload", str(delivery), "azure/to-be-taken").returncode == 0
    parameters = ("account=azure", "container=to-be-taken", "export_tables=geoparquet")
    job = azure_cli.json("submit", "ingest_container", *(w for p in parameters for w in ("--param", p)), "--wait")
    assert job["status"] == "completed"
    told = azure_cli.json("export", "to-be-taken", "azure/taken/2026")
    container = BlobServiceClient.from_connection_string(account.connection).get_container_client("taken")
    blobs = {blob.name: blob for blob in container.list_blobs()}
    assert len(blobs) == told["files"]
    assert blobs["2026/catalog.json"].last_modified == max(blob.last_modified for blob in blobs.values())
    kinds = {name.rpartition(".")[2]: blob.content_settings.content_type for name, blob in blobs.items()}
    assert kinds["tif"] == "image/tiff; application=geotiff; profile=cloud-optimized"
    assert kinds["pmtiles"] == "application/vnd.pmtiles"
    for name in blobs:
        content = container.download_blob(name).readall()
        assert b"sig=" not in content
        assert account.settings["account_key"].encode() not in content
        if name.endswith(".json") and json.loads(content)["type"] == "Feature":
            assets = json.loads(content)["assets"].values()
            assert all(asset["href"].startswith("./") and "alternate" not in asset for asset in assets)
            assert "storage:schemes" not in json.loads(content)["properties"]
    shown = json.loads(azure_cli.run("collection", "show", "to-be-taken").stdout)
    stored = shown["assets"]["geoparquet-items"]
    assert stored["href"].startswith("http")
    assert "?" not in stored["href"]
    again = azure_cli.run("export", "to-be-taken", "azure/taken/2026")
    assert "is not empty" in again.stderr
