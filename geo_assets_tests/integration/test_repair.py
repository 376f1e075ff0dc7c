"""What `reconcile` finds, `reconcile --repair` mends, or leaves alone and says why; all as a user does it."""

import json
import os
import re
import shutil
import signal
import subprocess
import time

import geopandas as gpd
import httpx
import numpy as np
import pytest
from shapely.geometry import box

from geo_assets.stac.pgstac import load_items
from geo_assets_tests.faults.test_terminate import graphql, run_status
from geo_assets_tests.integration.test_ingest_container import connect
from geo_assets_tests.integration.test_partitions import _LAUNCH, _SELECTOR
from geo_assets_tests.integration.test_publication import ingest, upload
from geo_assets_tests.integration.test_receipts import flipped, path_of
from geo_assets_tests.oracle import settings_of
from geo_assets_tests.raster.test_cog import write
from geo_assets_tests.stac.test_retries import item
from geo_assets_tests.waiting import until

NAME = "repaired"

_SCHEDULES = """query ($selector: RepositorySelector!) { schedulesOrError(repositorySelector: $selector) {
    ... on Schedules { results { name scheduleState { status } } } } }"""


@pytest.fixture(scope="module")
def tasks(cli, tmp_path_factory):
    """The tasks of a job with two rasters and a table."""
    folder = tmp_path_factory.mktemp(NAME)
    write(folder / "a.tif", np.ones((1, 30, 30), "uint8"))
    write(folder / "b.tif", np.full((1, 30, 30), 2, "uint8"))
    gpd.GeoDataFrame({"n": [1, 2]}, geometry=[box(0, 0, 1, 1), box(1, 1, 2, 2)], crs=4326).to_file(folder / "c.gpkg")
    upload(cli, folder, NAME)
    return ingest(cli, NAME)[1]


def compared(cli, *words, name=NAME, code=0) -> dict:
    done = cli.run("reconcile", "--collection", name, *words, "--json")
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout)


def classes(found: list[dict]) -> list[str]:
    return sorted(each["class"] for each in found)


def assert_as_published(cli, name=NAME):
    done = cli.run("verify", "--collection", name, "--deep")
    assert done.returncode == 0, done.stdout + done.stderr


def cog_of(cli, tasks, source):
    return path_of(cli, tasks[source]["outputs"]["cog"])


def attempts(cli, name=NAME) -> int:
    query = "select count(*) from geo.attempts join geo.jobs using (job_id) where parameters->>'collection' = %s"
    with connect(cli) as db:
        return db.execute(query, (name,)).fetchone()[0]


def delete_item(cli, name):
    collection, _, identity = name.partition("/")
    with connect(cli) as db:
        db.execute("set search_path to pgstac, public")
        db.execute("select pgstac.delete_item(%s, %s)", (identity, collection))


def test_where_all_agrees_nothing_is_found_and_nothing_repaired(cli, tasks):
    assert compared(cli, "--deep")["differences"] == []
    before = attempts(cli)
    done = compared(cli, "--repair")
    assert (done["faults"], done["repaired"], done["left"]) == (0, [], [])
    assert attempts(cli) == before
    assert cli.run("reconcile", "--collection", NAME).stdout == "all agrees\n"


def test_a_lost_cog_a_lost_item_and_a_lost_table_are_told_and_made_again(cli, tasks):
    cog_of(cli, tasks, "a.tif").unlink()
    delete_item(cli, tasks["b.tif"]["outputs"]["stac_item"])
    (table,) = (t["table"] for t in tasks["c.gpkg"]["outputs"]["tables"])
    with connect(cli) as db:
        db.execute(f"drop table {table}")
    lost = ["MISSING_COG", "MISSING_ITEM", "MISSING_TABLE"]
    found = compared(cli, code=1)
    assert (found["faults"], classes(found["differences"])) == (3, lost)
    assert found["counts"]["MISSING_COG"] == 1
    assert all("reconcile --repair" in each["remedy"] for each in found["differences"])
    said = cli.run("reconcile", "--collection", NAME)
    assert said.returncode == 1
    assert f"MISSING_ITEM: {tasks['b.tif']['outputs']['stac_item']} (of b.tif)\n  → " in said.stdout
    assert said.stdout.endswith("faults: 3 (1 MISSING_ITEM, 1 MISSING_COG, 1 MISSING_TABLE)\n")
    answer = httpx.get(f"{cli.exports['GEO_ASSETS_API_URL']}/api/reconcile", params={"collection": NAME})
    assert answer.json() == found
    done = compared(cli, "--repair")
    assert (done["faults"], classes(done["repaired"]), done["left"]) == (0, lost, [])
    assert_as_published(cli)
    with connect(cli) as db:
        assert db.execute(f"select count(*) from {table}").fetchone() == (2,)


@pytest.mark.faults
def test_a_wrong_href_more_rows_and_an_item_that_the_ledger_lost_are_mended(cli, tasks):
    (table,) = (t["table"] for t in tasks["c.gpkg"]["outputs"]["tables"])
    wrong, lost = (tasks[source]["outputs"]["stac_item"] for source in ("a.tif", "b.tif"))
    with connect(cli) as db:
        db.execute(
            "update pgstac.items set content = jsonb_set(content, '{assets,data,href}', '\"file:///elsewhere.tif\"')"
            " where collection || '/' || id = %s",
            (wrong,),
        )
        db.execute(f"insert into {table} (n, geom) select n, geom from {table}")
        db.execute("delete from geo.published where stac_item = %s", (lost,))
    differ = ["DANGLING_HREF", "ORPHAN_ITEM", "ROWCOUNT_MISMATCH", "UNPUBLISHED"]
    assert classes(compared(cli, code=1)["differences"]) == differ
    compared(cli, "--repair")
    assert_as_published(cli)


@pytest.mark.faults
def test_a_flipped_bit_is_seen_only_deeply_and_the_cog_gets_its_bytes_back(cli, tasks):
    cog = cog_of(cli, tasks, "a.tif")
    good = cog.read_bytes()
    cog.write_bytes(flipped(good))
    assert compared(cli)["differences"] == []
    assert classes(compared(cli, "--deep", code=1)["differences"]) == ["CHECKSUM_MISMATCH"]
    done = compared(cli, "--deep", "--repair")
    assert classes(done["repaired"]) == ["CHECKSUM_MISMATCH"]
    assert cog.read_bytes() == good
    assert_as_published(cli)


def test_what_nobody_knows_is_deleted_and_what_is_young_or_may_be_another_databases_is_not(cli, tasks):
    cog = cog_of(cli, tasks, "b.tif")
    old, young = cog.with_name("old.tif"), cog.with_name("young.tif")
    for path in (old, young):
        shutil.copyfile(cog, path)
    two_days_ago = time.time() - 2 * 86400
    os.utime(old, (two_days_ago, two_days_ago))
    load_items(settings_of(cli), NAME, [item("stranger", NAME)], guard=lambda _: None, record=lambda _: None)
    assert classes(compared(cli, code=1)["differences"]) == ["ORPHAN_COG", "ORPHAN_ITEM"]
    receipt = cli.home / "containers" / "cogs" / "_receipts" / ("f" * 64) / "000001-0123456789ab.json"
    receipt.parent.mkdir(parents=True)
    receipt.touch()
    done = compared(cli, "--repair", code=1)
    assert classes(done["left"]) == ["ORPHAN_COG", "ORPHAN_ITEM"]
    assert "rebuild --from default/cogs" in done["left"][0]["said"]
    shutil.rmtree(receipt.parent)
    done = compared(cli, "--repair")
    assert classes(done["repaired"]) == ["ORPHAN_COG", "ORPHAN_ITEM"]
    assert (old.exists(), young.exists()) == (False, True)
    young.unlink()
    assert_as_published(cli)


@pytest.mark.faults
def test_what_has_lost_its_source_is_left_as_it_is_until_that_is_there_again(cli, tasks):
    source, cog = cli.home / "containers" / NAME / "a.tif", cog_of(cli, tasks, "a.tif")
    aside = source.rename(source.parents[1] / "aside-repaired.tif")
    cog.unlink()
    before = attempts(cli)
    try:
        done = compared(cli, "--repair", code=1)
    finally:
        aside.rename(source)
    assert (classes(done["left"]), done["repaired"]) == (["MISSING_COG"], [])
    assert f"its source is gone: default/{NAME}/a.tif" in done["left"][0]["said"]
    assert attempts(cli) == before
    said = cli.run("reconcile", "--collection", NAME, "--repair")
    assert said.returncode == 0
    assert re.fullmatch(
        rf"mended: MISSING_COG: default/cogs/{NAME}/.*: made again by attempt {before + 1} of job .*\nall agrees\n",
        said.stdout,
    )
    assert cog.exists()
    assert_as_published(cli)


@pytest.mark.faults
def test_a_repair_that_was_killed_is_completed_by_the_next_one(cli, tasks):
    cog_of(cli, tasks, "a.tif").unlink()
    before = attempts(cli)
    command = cli.command("reconcile", "--collection", NAME, "--repair")
    with subprocess.Popen(command, env=cli.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as killed:
        until(lambda: attempts(cli) > before)
        killed.send_signal(signal.SIGKILL)
    compared(cli, "--repair")
    assert cog_of(cli, tasks, "a.tif").exists()
    assert attempts(cli) == before + 1, "the attempt that was asked for is waited for, not repeated"
    assert_as_published(cli)


@pytest.mark.faults
def test_what_a_job_at_work_has_not_finished_is_no_difference(cli, tmp_path):
    name = "loading"
    write(tmp_path / "a.tif", np.ones((1, 30, 30), "uint8"))
    for layer in range(30):
        frame = gpd.GeoDataFrame({"n": [1]}, geometry=[box(0, 0, 1, 1)], crs=4326)
        frame.to_file(tmp_path / "b.gpkg", layer=f"l{layer}")
    upload(cli, tmp_path, name)
    loading = "select from geo.tasks where task_key = 'b.gpkg' and job_id = %s and status = 'running' for update"
    loaded = "select count(*) from pg_tables where schemaname = %s and tablename ^@ 'loading'"
    with connect(cli) as db, connect(cli) as holder:
        holder.autocommit = False
        job = cli.json("submit", "ingest_container", "--param", f"container={name}")

        def held():
            return holder.execute(loading, (job["job_id"],)).fetchone() is not None or holder.rollback()

        until(held)
        until(lambda: db.execute(loaded, ("vector_staging",)).fetchone()[0] >= 30)
        assert compared(cli, name=name)["differences"] == [], "its tables are loaded, and no task says so yet"
        assert db.execute(loaded, ("vector",)).fetchone() == (0,), "they are seen once it does"
        holder.rollback()
        until(lambda: cli.json("job", job["job_id"])["status"] == "completed")
        assert db.execute(loaded, ("vector",)).fetchone() == (30,)
    assert compared(cli, name=name)["differences"] == []


def test_a_collection_that_no_job_names_is_one_line(cli, tasks):
    done = cli.run("reconcile", "--collection", "nowhere")
    assert done.returncode == 1
    assert "name it as jobs do: " in done.stderr


def test_dagster_compares_everything_once_a_day_and_whenever_it_is_asked(cli, tasks):
    schedules = graphql(cli, _SCHEDULES, selector=_SELECTOR)["schedulesOrError"]["results"]
    assert {each["name"]: each["scheduleState"]["status"] for each in schedules}["reconcile"] == "RUNNING"
    asked = {"selector": {**_SELECTOR, "pipelineName": "reconcile"}, "mode": "default", "runConfigData": {}}
    run_id = graphql(cli, _LAUNCH, params=asked)["launchRun"]["run"]["runId"]
    assert until(lambda: run_status(cli, run_id) in {"SUCCESS", "FAILURE"} and run_status(cli, run_id)) == "SUCCESS"
    query = "select execution_status from dagster.asset_check_executions where run_id = %s and check_name = 'agrees'"
    with connect(cli) as db:
        assert len(db.execute(query, (run_id,)).fetchall()) == 1
