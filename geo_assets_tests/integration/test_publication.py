"""What is published, replaced and taken back, as seen by independent readers."""

import zipfile
from pathlib import Path

import geopandas as gpd
import httpx
import numpy as np
import pytest
import rasterio
from shapely.geometry import Point, box

from geo_assets_tests.integration.test_ingest_container import connect
from geo_assets_tests.raster.test_cog import write


def upload(cli, folder, container):
    assert cli.run("upload", str(folder), f"default/{container}").returncode == 0


def ingest(cli, container, *parameters):
    arguments = [part for p in parameters for part in ("--param", p)]
    job = cli.json("submit", "ingest_container", "--param", f"container={container}", *arguments, "--wait")
    return job, {t["task_key"]: t for t in cli.json("tasks", job["job_id"])}


def items(cli, collection):
    with connect(cli) as db:
        return dict(
            db.execute(
                "select id, content->'assets'->'data'->>'href' from pgstac.items where collection = %s", (collection,)
            ).fetchall()
        )


def test_a_replaced_file_replaces_its_cog_and_nothing_of_the_old_one_is_left(cli, tmp_path):
    source = write(tmp_path / "a.tif", np.ones((1, 30, 30), "uint8"))
    upload(cli, source, "replaced")
    _, first = ingest(cli, "replaced")
    write(tmp_path / "a.tif", np.full((1, 30, 30), 2, "uint8"))
    upload(cli, source, "replaced")
    _, second = ingest(cli, "replaced")
    assert first["a.tif"]["outputs"]["cog"] != second["a.tif"]["outputs"]["cog"]
    assert first["a.tif"]["outputs"]["stac_item"] == second["a.tif"]["outputs"]["stac_item"]
    (cog,) = (cli.home / "containers" / "cogs" / "replaced").rglob("*.tif")
    with rasterio.open(cog) as dataset:
        assert dataset.read(1).max() == 2
    assert list(items(cli, "replaced").values()) == [cog.as_uri()]


def test_an_earlier_job_says_which_one_has_taken_the_place_of_its_files(cli, tmp_path):
    for name in ("a.tif", "b.tif"):
        write(tmp_path / name, np.ones((1, 30, 30), "uint8"))
    upload(cli, tmp_path, "taken-over")
    first, _ = ingest(cli, "taken-over")
    (cli.home / "containers" / "taken-over" / "b.tif").unlink()
    second, tasks = ingest(cli, "taken-over", "target_crs=EPSG:3857")
    assert (first["superseded_by"], second["superseded_by"]) == ({}, {})
    assert tasks["a.tif"]["superseded_by"] is None
    now = cli.json("job", first["job_id"])
    assert now["superseded_by"] == {second["job_id"]: 1}
    told = {task["task_key"]: task["superseded_by"] for task in cli.json("tasks", first["job_id"])}
    assert told == {"a.tif": second["job_id"], "b.tif": None}
    by = second["job_id"][:12]
    assert f"superseded 1 item is job {by}'s now" in cli.run("job", first["job_id"]).stdout
    said = cli.run("tasks", first["job_id"]).stdout
    assert f"superseded: its item is job {by}'s now" in said
    cogs = [line.partition("COG: ")[2] for line in said.splitlines() if "COG: " in line]
    assert [Path(cog).exists() for cog in cogs] == [True]
    answer = httpx.get(f"{cli.exports['GEO_ASSETS_API_URL']}/api/db/tasks/{first['job_id']}").json()
    assert [task["superseded_by"] for task in answer["tasks"]] == [second["job_id"], None]


def test_a_nodata_value_beyond_64_bits_is_published(cli, tmp_path):
    upload(
        cli, write(tmp_path / "a.tif", np.ones((1, 30, 30), "float32"), nodata=np.finfo("float32").min), "far-nodata"
    )
    job, _ = ingest(cli, "far-nodata")
    assert job["status"] == "completed"
    with connect(cli) as db:
        found = db.execute(
            "select content->'assets'->'data'->'bands'->0->'nodata' from pgstac.items where collection = 'far-nodata'"
        )
        assert float(found.fetchone()[0]) == float(np.finfo("float32").min)


@pytest.mark.faults
def test_removed_files_keep_their_outputs_unless_the_job_retires_them(cli, tmp_path):
    folder = tmp_path / "some"
    folder.mkdir()
    write(folder / "a.tif", np.ones((1, 30, 30), "uint8"))
    gpd.GeoDataFrame(geometry=[box(0, 0, 1, 1)], crs=4326).to_file(folder / "b.gpkg")
    write(folder / "c.tif", np.ones((1, 30, 30), "uint8"))
    upload(cli, folder, "removed")
    ingest(cli, "removed", "deleted=retire", "max_retire_percent=100")
    for name in ("a.tif", "b.gpkg"):
        (cli.home / "containers" / "removed" / name).unlink()
    _, tasks = ingest(cli, "removed", "deleted=retire", "max_retire_percent=100")
    assert set(tasks) == {"c.tif"}
    assert len(items(cli, "removed")) == 1
    assert items(cli, "removed-vector") == {}
    assert len(list((cli.home / "containers" / "cogs" / "removed").rglob("*.tif"))) == 1
    with connect(cli) as db:
        assert db.execute(
            "select count(*) from pg_tables where schemaname = 'vector' and tablename like 'removed%'"
        ).fetchone() == (0,)


@pytest.mark.slow
@pytest.mark.faults
def test_two_jobs_on_one_collection_never_claim_what_the_other_replaced(cli, tmp_path):
    folder = tmp_path / "shared"
    folder.mkdir()
    write(folder / "a.tif", np.ones((1, 30, 30), "uint8"))
    gpd.GeoDataFrame(geometry=[box(0, 0, 1, 1)], crs=4326).to_file(folder / "b.gpkg")
    upload(cli, folder, "shared")
    ingest(cli, "shared")
    job, tasks = ingest(cli, "shared", "target_crs=EPSG:3857")
    assert job["status"] == "completed", tasks
    with rasterio.open(cli.home / "containers" / tasks["a.tif"]["outputs"]["cog"].removeprefix("default/")) as dataset:
        assert dataset.crs.to_epsg() == 3857
    _, again = ingest(cli, "shared")
    assert again["b.gpkg"]["status"] == "succeeded"
    with connect(cli) as db:
        assert db.execute("select srid from geometry_columns where f_table_name = 'shared_b'").fetchone() == (4326,)
    _, once_more = ingest(cli, "shared")
    assert {t["status"] for t in once_more.values()} == {"skipped"}


def test_an_archive_with_a_layer_that_postgresql_refuses_publishes_none_of_its_tables(cli, tmp_path):
    columns = 1590  # of eight bytes each, which is more than a row may take
    bad = [["lon", "lat", *(f"c{i}" for i in range(columns))], ["1", "2", *["123456789012"] * columns]]
    with zipfile.ZipFile(tmp_path / "half.zip", "w") as archive:
        archive.writestr("good.csv", "lon,lat\n1,2\n")
        archive.writestr("bad.csv", "".join(",".join(row) + "\n" for row in bad))
    upload(cli, tmp_path / "half.zip", "one-bad-layer")
    _, tasks = ingest(cli, "one-bad-layer")
    assert tasks["half.zip"]["status"] in {"quarantined", "failed"}
    with connect(cli) as db:
        assert db.execute(
            "select count(*) from pg_tables where schemaname in ('vector', 'vector_staging') and tablename like"
            " 'one_bad_layer%'"
        ).fetchone() == (0,)


def test_rejected_rows_and_points_in_one_place_are_told_and_searchable(cli, tmp_path):
    (tmp_path / "points.csv").write_text("lon,lat,name\n8.5,47.4,a\nbad,47.4,b\n8.5,47.4,c\n")
    gpd.GeoDataFrame(geometry=[Point(8.5, 47.4)], crs=4326).to_file(tmp_path / "one.geojson")
    upload(cli, tmp_path, "points")
    job, tasks = ingest(cli, "points")
    assert job["status"] == "completed"
    (table,) = tasks["points.csv"]["outputs"]["tables"]
    assert table["rows"] + sum(table["rejected"].values()) == 3
    assert len(items(cli, "points-vector")) == 2


@pytest.mark.faults
def test_odd_names_of_files_are_quarantined_or_published_never_a_failure(cli, tmp_path):
    folder = cli.home / "containers" / "odd-names"
    folder.mkdir()
    source = write(tmp_path / "a.tif", np.ones((1, 30, 30), "uint8"))
    for name in ("new\nline.tif", "L" * 240 + ".tif", "sp ace#%?.tif", "ünï🌍.tif", "quote'\".tif"):
        (folder / name).write_bytes(source.read_bytes())
    _, tasks = ingest(cli, "odd-names")
    assert {k: t["error_code"] for k, t in tasks.items() if t["status"] != "succeeded"} == {
        "new\nline.tif": "UNSAFE_PATH"
    }
