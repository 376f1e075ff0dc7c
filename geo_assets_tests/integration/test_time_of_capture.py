"""The time of an item is that of capture, or unknown and said to be; never that of registration."""

import datetime as dt
import json

import numpy as np
import psycopg
import pystac
import pytest

from geo_assets_tests.raster.test_cog import write


@pytest.fixture(scope="module")
def search(cli):
    def run(**body):
        env = cli.exports
        place = {
            "host": env["PGHOST"],
            "port": env["PGPORT"],
            "user": env["PGUSER"],
            "password": env["PGPASSWORD"],
            "dbname": env["PGDATABASE"],
        }
        with psycopg.connect(**place, autocommit=True) as db:
            db.execute("set search_path to pgstac, public")
            return {
                f["properties"]["title"]: f
                for f in db.execute("select search(%s)", (json.dumps(body),)).fetchone()[0]["features"]
            }

    return run


def test_an_unknown_time_is_null_and_not_found_under_today_and_does_not_stretch_the_collection(cli, tmp_path, search):
    for name in ("a.tif", "LC08_L2SP_193024_20230821_20230826_02_T1_SR_B4.TIF"):
        write(tmp_path / name, np.zeros((1, 20, 20), "uint8"))
    assert cli.run("upload", str(tmp_path), "default/times").returncode == 0
    job = cli.json("submit", "stage_raster", "--param", "container=times", "--wait")
    assert job["status"] == "completed"
    items = search(collections=["times"])
    unknown, landsat = items["a.tif"], items["LC08_L2SP_193024_20230821_20230826_02_T1_SR_B4.TIF"]
    assert unknown["properties"].get("datetime") is None
    assert unknown["properties"]["geo_assets:datetime_from"] == "unknown"
    assert pystac.Item.from_dict(unknown).datetime is None
    assert landsat["properties"]["datetime"].startswith("2023-08-21")
    today = dt.datetime.now(dt.UTC).date()
    assert not search(collections=["times"], datetime=f"{today}T00:00:00Z/..")
    assert set(search(collections=["times"], datetime="2023-08-21T12:00:00Z")) == {
        "LC08_L2SP_193024_20230821_20230826_02_T1_SR_B4.TIF"
    }
    env = cli.exports
    place = {
        "host": env["PGHOST"],
        "port": env["PGPORT"],
        "user": env["PGUSER"],
        "password": env["PGPASSWORD"],
        "dbname": env["PGDATABASE"],
    }
    with psycopg.connect(**place) as db:
        (extent,) = db.execute(
            "select content->'extent'->'temporal'->'interval'->0 from pgstac.collections where id = 'times'"
        ).fetchone()
    assert [end[:10] for end in extent] == ["2023-08-21", "2023-08-21"]


def test_the_time_that_is_submitted_is_the_items(cli, tmp_path, search):
    write(tmp_path / "a_2019-07-04.tif", np.zeros((1, 20, 20), "uint8"))
    assert cli.run("upload", str(tmp_path), "default/said").returncode == 0
    submit = ("submit", "stage_raster", "--param", "container=said", "--wait")
    assert cli.json(*submit, "--param", "datetime_regex=_%Y-%m-%d")["status"] == "completed"
    assert search(collections=["said"])["a_2019-07-04.tif"]["properties"]["datetime"] == "2019-07-04T00:00:00Z"
    assert cli.json(*submit, "--param", "datetime=2001-02/2001-03")["status"] == "completed"
    properties = search(collections=["said"])["a_2019-07-04.tif"]["properties"]
    assert (properties["start_datetime"], properties["end_datetime"]) == (
        "2001-02-01T00:00:00Z",
        "2001-03-31T23:59:59Z",
    )
    assert cli.run(*submit, "--param", "datetime=yesterday").returncode != 0


@pytest.mark.faults
def test_bands_of_landsat_have_the_time_of_the_metadata_that_lie_beside_them_and_are_made_anew_where_it_changes(
    cli, tmp_path, search
):
    scene = "LC08_L2SP_193024_20230821_20230826_02_T1"
    bands = [f"{scene}_SR_B4.TIF", f"{scene}_QA_PIXEL.TIF"]
    for name in (*bands, "other.tif"):
        write(tmp_path / name, np.zeros((1, 20, 20), "uint8"))
    beside = tmp_path / f"{scene}_MTL.txt"
    beside.write_text('DATE_ACQUIRED = 2023-08-21\n SCENE_CENTER_TIME = "09:58:02.1234560Z"\n')
    (tmp_path / "out").mkdir()
    made = cli.json("cog", str(tmp_path / bands[0]), str(tmp_path / "out" / "b4.tif"))
    assert (made["datetime"], made["datetime_from"]) == ("2023-08-21T09:58:02.123456Z", "the product's metadata")
    assert cli.run("upload", str(tmp_path), "default/scene").returncode == 0
    submit = ("submit", "stage_raster", "--param", "container=scene", "--param", "exclude=out/*")
    job = cli.json(*submit, "--wait")
    assert job["status"] == "completed"
    items = search(collections=["scene"])
    assert {items[name]["properties"]["datetime"] for name in bands} == {"2023-08-21T09:58:02.123456Z"}
    assert items["other.tif"]["properties"].get("datetime") is None
    assert {f["path"]: f["role"] for f in cli.json("files", job["job_id"])}[beside.name] == "companion"
    beside.write_text('DATE_ACQUIRED = 2023-08-21\n SCENE_CENTER_TIME = "10:00:00Z"\n')
    assert cli.run("upload", str(beside), "default/scene").returncode == 0
    plan = cli.json("plan", *submit[1:])
    assert {s["path"]: s["action"] for s in plan["sources"] if s["action"] != "companion"} == {
        bands[0]: "change",
        bands[1]: "change",
        "other.tif": "skip",
    }
    assert [(s["succeeded"], s["skipped"]) for s in cli.json(*submit, "--wait")["stages"] if s["total"]] == [(2, 1)]
    assert search(collections=["scene"])[bands[1]]["properties"]["datetime"] == "2023-08-21T10:00:00Z"
