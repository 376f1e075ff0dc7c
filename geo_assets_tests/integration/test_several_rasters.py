"""Sources that hold several rasters, from the container to the catalogue: one task, one item, a COG for each."""

import os
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from geo_assets_tests.integration.test_ingest_container import connect
from geo_assets_tests.integration.test_publication import ingest, upload
from geo_assets_tests.raster.hostile import encoded, striped
from geo_assets_tests.raster.netcdf import netcdf
from geo_assets_tests.raster.test_archives import archive
from geo_assets_tests.raster.test_cog import write
from geo_assets_tests.raster.test_several import climate, numbers, ragged, write_bytes
from geo_assets_tests.vector.builders import points
from geo_assets_tests.vector.builders import write as write_vector

pytestmark = pytest.mark.faults

SAMPLE = Path(os.environ.get("GEO_ASSETS_SAMPLES", "/nonexistent")) / "raster" / "tmmx_20190121.nc"


def item_of(cli, task) -> dict:
    collection, _, identity = task["outputs"]["stac_item"].partition("/")
    with connect(cli) as db:
        db.execute("set search_path to pgstac, public")
        found = db.execute("select search(jsonb_build_object('collections', jsonb_build_array(%s::text), 'ids', jsonb_build_array(%s::text)))", (collection, identity)).fetchone()  # fmt: skip
    (item,) = found[0]["features"]
    return item


def blobs(cli, collection: str) -> set[str]:
    """Every COG and thumbnail of a collection, as the ledger names them."""
    roots = [cli.home / "containers" / name / collection for name in ("cogs", "thumbnails")]
    return {
        f"default/{p.relative_to(cli.home / 'containers')}" for root in roots for p in root.rglob("*") if p.is_file()
    }


def named(outputs: dict) -> set[str]:
    return {cog[what] for cog in outputs["cogs"] for what in ("cog", "thumbnail")}


def local(cli, ref: str) -> Path:
    return cli.home / "containers" / ref.removeprefix("default/")


@pytest.fixture(scope="module")
def year(cli, tmp_path_factory):
    """A container with one NetCDF of two good variables, ingested."""
    source = write_bytes(
        tmp_path_factory.mktemp("year") / "year.nc", climate(tas=numbers(3, 4, 5), pr=numbers(4, 5, dtype="i2"))
    )
    upload(cli, source, "year")
    job, tasks = ingest(cli, "year", "deleted=retire")
    assert job["status"] == "completed", tasks
    return tasks["year.nc"]


def test_a_container_of_variables_is_one_task_with_a_cog_for_each(cli, year):
    outputs = year["outputs"]
    assert [cog["name"] for cog in outputs["cogs"]] == ["tas", "pr"]
    assert {key: outputs[key] for key in ("cog", "sha256", "thumbnail")} == {
        k: v for k, v in outputs["cogs"][0].items() if k != "name"
    }
    folders = {Path(cog["cog"]).parent for cog in outputs["cogs"]}
    assert len(folders) == 1
    assert folders.pop().name.startswith("year_")
    assert blobs(cli, "year") == named(outputs)
    with rasterio.open(local(cli, outputs["cog"])) as cog:
        np.testing.assert_array_equal(cog.read(), numbers(3, 4, 5))


def test_its_item_has_an_asset_a_variable_and_the_times_of_its_bands(cli, year):
    item = item_of(cli, year)
    assert {"tas", "pr", "thumbnail", "pr-thumbnail"} == item["assets"].keys()
    properties = item["properties"]
    assert {properties["datetime"], properties["start_datetime"]} == {"2000-01-01T00:00:00Z"}
    assert properties["end_datetime"] == "2000-01-03T00:00:00Z"
    tas = item["assets"]["tas"]
    assert [band["datetime"] for band in tas["bands"]] == [f"2000-01-0{day}T00:00:00Z" for day in (1, 2, 3)]
    assert (tas["proj:code"], tas["proj:shape"], tas["bands"][0]["data_type"]) == ("EPSG:4326", [4, 5], "float32")
    assert item["assets"]["pr"]["bands"][0]["data_type"] == "int16"
    assert item["bbox"] == [9.5, 46.5, 14.5, 50.5]


def test_a_second_submission_skips_it(cli, year):
    _, tasks = ingest(cli, "year", "deleted=retire")
    assert tasks["year.nc"]["status"] == "skipped"
    assert tasks["year.nc"]["outputs"] == year["outputs"]


def test_a_bad_variable_among_good_ones_is_left_out_and_told(cli, tmp_path):
    upload(cli, write_bytes(tmp_path / "some.nc", ragged()), "some-bad")
    job, tasks = ingest(cli, "some-bad")
    outputs = tasks["some.nc"]["outputs"]
    assert (job["status"], [cog["name"] for cog in outputs["cogs"]]) == ("completed", ["good"])
    (warning,) = outputs["warnings"]
    assert warning.startswith("bad: left out: bad of some.nc has no regular grid")
    assert item_of(cli, tasks["some.nc"])["assets"]["data"]["href"] == local(cli, outputs["cog"]).as_uri()


def test_where_no_variable_can_be_converted_the_file_is_quarantined_with_the_reasons(cli, tmp_path):
    content = netcdf({"a": (["y", "x"], {}, numbers(4, 5)), "b": (["y", "x"], {}, numbers(4, 5))})
    upload(cli, write_bytes(tmp_path / "none.nc", content), "none-good")
    job, tasks = ingest(cli, "none-good")
    task = tasks["none.nc"]
    assert (job["status"], task["status"], task["error_code"]) == (
        "completed_with_errors",
        "quarantined",
        "RASTER_UNSUPPORTED",
    )
    assert "a: a of none.nc has no regular grid" in task["error_message"]
    assert "b: b of none.nc has no regular grid" in task["error_message"]
    assert blobs(cli, "none-good") == set()


@pytest.mark.slow
def test_a_replaced_container_leaves_nothing_of_the_variables_that_it_had(cli, tmp_path):
    source = write_bytes(tmp_path / "a.nc", climate(tas=numbers(4, 5), pr=numbers(4, 5), huss=numbers(4, 5)))
    upload(cli, source, "swapped")
    _, before = ingest(cli, "swapped")
    write_bytes(source, climate(tas=numbers(4, 5) + 1, ps=numbers(4, 5)))
    upload(cli, source, "swapped")
    _, after = ingest(cli, "swapped")
    assert before["a.nc"]["outputs"]["stac_item"] == after["a.nc"]["outputs"]["stac_item"]
    assert blobs(cli, "swapped") == named(after["a.nc"]["outputs"])
    assert item_of(cli, after["a.nc"])["assets"].keys() == {"tas", "ps", "thumbnail", "ps-thumbnail"}


def test_a_removed_container_is_retired_with_all_its_cogs(cli, tmp_path):
    upload(cli, write_bytes(tmp_path / "a.nc", climate(tas=numbers(4, 5), pr=numbers(4, 5))), "retired")
    upload(cli, write_bytes(tmp_path / "b.nc", climate(tas=numbers(4, 5), pr=numbers(4, 5))), "retired")
    _, before = ingest(cli, "retired", "deleted=retire", "max_retire_percent=100")
    (cli.home / "containers" / "retired" / "a.nc").unlink()
    _, after = ingest(cli, "retired", "deleted=retire", "max_retire_percent=100")
    assert set(after) == {"b.nc"}
    assert blobs(cli, "retired") == named(before["b.nc"]["outputs"])
    with connect(cli) as db:
        assert db.execute("select count(*) from pgstac.items where collection = 'retired'").fetchone() == (1,)


@pytest.mark.slow
def test_variables_are_reprojected_like_any_raster(cli, tmp_path):
    upload(cli, write_bytes(tmp_path / "a.nc", climate(tas=numbers(3, 4, 5), pr=numbers(4, 5))), "turned")
    _, tasks = ingest(cli, "turned", "target_crs=EPSG:3857")
    asset = item_of(cli, tasks["a.nc"])["assets"]["tas"]
    assert asset["proj:code"] == "EPSG:3857"
    assert [band["datetime"][:10] for band in asset["bands"]] == ["2000-01-01", "2000-01-02", "2000-01-03"]


# --- zips
# ------------------------------------------------------------------------------------------------------------------


ZIPS = ("--param", "container=zips", "--param", "deleted=retire", "--param", "max_retire_percent=50")


def tasks_by_stage(cli, job) -> dict[tuple[str, str], dict]:
    return {(t["stage"], t["task_key"]): t for t in cli.json("tasks", job["job_id"])}


def planned(cli, container: str) -> dict[tuple[str, str], str]:
    plan = cli.json("plan", "ingest_container", "--param", f"container={container}")
    assert plan["expected_tasks"] == len(plan["sources"])
    return {(s["stage"], s["path"]): s["action"] for s in plan["sources"]}


@pytest.fixture(scope="module")
def zips(cli, tmp_path_factory):
    """A container of zips: of rasters with a bad one, of vectors, of both, of neither, and one that is cut off;
    ingested.
    """
    folder = tmp_path_factory.mktemp("zips")
    points = b"lon,lat\n1,2\n"
    scenes = {
        "a/scene.tif": striped("LZW"),
        "b/scene.tif": striped("LZW"),
        "bad.tif": striped("LZW")[:300],
        "grid.nc": climate(tas=numbers(3, 4, 5)),
    }
    (folder / "rasters.zip").write_bytes(archive({**scenes, "read me.txt": b"hello"}))
    (folder / "vectors.zip").write_bytes(archive({"points.csv": points, "logo.png": encoded("PNG")}))
    (folder / "both.zip").write_bytes(archive({"scene.tif": striped("LZW"), "points.csv": points}))
    (folder / "neither.zip").write_bytes(archive({"read me.txt": b"hello"}))
    (folder / "cut.zip").write_bytes(archive({"scene.tif": striped("LZW")})[:-40])
    upload(cli, folder, "zips")
    before = planned(cli, "zips")
    job = cli.json("submit", "ingest_container", *ZIPS, "--wait")
    return job, tasks_by_stage(cli, job), before


def test_each_zip_goes_to_the_stages_that_can_read_what_it_holds_as_the_plan_said(zips):
    job, tasks, before = zips
    assert before == dict.fromkeys(tasks, "create")
    assert {key: task["status"] for key, task in tasks.items()} == {
        ("cogs", "both.zip"): "succeeded",
        ("cogs", "rasters.zip"): "succeeded",
        ("vector_tables", "both.zip"): "succeeded",
        ("vector_tables", "cut.zip"): "quarantined",
        ("vector_tables", "neither.zip"): "quarantined",
        ("vector_tables", "vectors.zip"): "succeeded",
    }
    assert sum(stage["total"] for stage in job["stages"]) == 6


def test_the_rasters_of_a_zip_are_cogs_of_one_item_and_the_bad_one_is_told(cli, zips):
    task = zips[1]["cogs", "rasters.zip"]
    assert [cog["name"] for cog in task["outputs"]["cogs"]] == ["a/scene.tif", "b/scene.tif", "grid.nc:tas"]
    assert [Path(cog["cog"]).name for cog in task["outputs"]["cogs"]] == ["a_scene.tif", "b_scene.tif", "grid_tas.tif"]
    left_out, unread = task["outputs"]["warnings"]
    assert left_out.startswith("bad.tif: left out: it is not readable as GeoTIFF: ")
    assert unread == "it also holds what is neither raster nor vector: read me.txt"
    assert {"a_scene", "b_scene", "grid_tas"} <= item_of(cli, task)["assets"].keys()


def test_a_zip_of_both_has_an_item_in_each_collection_and_a_second_submission_skips_it(cli, zips):
    tasks = zips[1]
    assert tasks["cogs", "both.zip"]["outputs"]["stac_item"].startswith(("zips/", "zips-visual/"))
    assert tasks["vector_tables", "both.zip"]["outputs"]["stac_item"].startswith("zips-vector/")
    assert tasks["vector_tables", "both.zip"]["outputs"]["tables"][0]["rows"] == 1
    again = cli.json("submit", "ingest_container", *ZIPS, "--wait")
    statuses = {key: task["status"] for key, task in tasks_by_stage(cli, again).items()}
    assert {key for key, status in statuses.items() if status == "skipped"} == {
        k for k, t in tasks.items() if t["status"] == "succeeded"
    }


def test_a_zip_that_loses_its_rasters_is_retired_in_one_stage_alone(cli, zips, tmp_path):
    upload(cli, write_bytes(tmp_path / "both.zip", archive({"points.csv": b"lon,lat\n1,2\n3,4\n"})), "zips")
    again = cli.json("submit", "ingest_container", *ZIPS, "--wait")
    tasks = tasks_by_stage(cli, again)
    assert ("cogs", "both.zip") not in tasks
    assert tasks["vector_tables", "both.zip"]["outputs"]["tables"][0]["rows"] == 2
    assert blobs(cli, "zips") == named(tasks["cogs", "rasters.zip"]["outputs"])


def test_a_job_of_one_kind_takes_the_zips_of_that_kind(cli, zips):
    plans = {
        kind: {s["path"] for s in cli.json("plan", f"stage_{kind}", "--param", "container=zips")["sources"]}
        for kind in ("raster", "vector")
    }
    assert plans["raster"] == {"rasters.zip"}
    assert plans["vector"] == {"vectors.zip", "both.zip", "neither.zip", "cut.zip"}


# --- real data
# -------------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not SAMPLE.is_file(), reason="GEO_ASSETS_SAMPLES is not set")
def test_the_sample_is_published_with_its_pixels(cli):
    upload(cli, SAMPLE, "sample-netcdf")
    job, tasks = ingest(cli, "sample-netcdf")
    task = tasks[SAMPLE.name]
    assert job["status"] == "completed"
    assert [cog["name"] for cog in task["outputs"]["cogs"]] == ["air_temperature"]
    with rasterio.open(SAMPLE) as source, rasterio.open(local(cli, task["outputs"]["cog"])) as cog:
        np.testing.assert_array_equal(source.read(), cog.read())
    assert item_of(cli, task)["assets"]["data"]["bands"][0]["unit"] == "K"


def test_tiles_of_a_geopackage_become_a_cog_and_its_features_a_table(cli, tmp_path):
    grid = {"driver": "GPKG", "crs": "EPSG:25833", "transform": from_origin(3e5, 5.9e6, 10, 10), "TILE_FORMAT": "PNG"}
    for name in ("tiles.gpkg", "both.gpkg"):
        write(tmp_path / name, np.full((3, 60, 80), 7, "uint8"), **grid)
    points(2, crs=25833).to_file(tmp_path / "both.gpkg", layer="points", mode="a")
    write_vector(points(2), tmp_path / "features.gpkg")
    upload(cli, tmp_path, "geopackages")
    plan = cli.json("plan", "ingest_container", "--param", "container=geopackages")
    job = cli.json("submit", "ingest_container", "--param", "container=geopackages", "--wait")
    assert job["status"] == "completed"
    tasks = {(t["stage"], t["task_key"]): t for t in cli.json("tasks", job["job_id"])}
    assert set(tasks) == {
        ("cogs", "tiles.gpkg"),
        ("cogs", "both.gpkg"),
        ("vector_tables", "both.gpkg"),
        ("vector_tables", "features.gpkg"),
    }
    assert {(s["stage"], s["path"]) for s in plan["sources"]} == set(tasks)
    for name in ("tiles.gpkg", "both.gpkg"):
        with rasterio.open(local(cli, tasks["cogs", name]["outputs"]["cog"])) as cog:
            assert (cog.crs.to_epsg(), cog.shape, cog.read(2).min()) == (25833, (60, 80), 7)
    assert [table["rows"] for table in tasks["vector_tables", "both.gpkg"]["outputs"]["tables"]] == [2]
    assert "holds tiles, which are a raster" in tasks["vector_tables", "both.gpkg"]["outputs"]["warnings"][0]
    assert item_of(cli, tasks["cogs", "both.gpkg"])["properties"]["proj:code"] == "EPSG:25833"
