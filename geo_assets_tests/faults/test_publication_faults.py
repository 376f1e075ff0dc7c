"""What is interrupted between two stores, refused at the gate, or shares a name: never half seen, never another's."""

import os
import shutil
import signal
import subprocess

import geopandas as gpd
import numpy as np
import psycopg
import pytest
from shapely.geometry import box

from geo_assets.stages.reconcile import Class
from geo_assets_tests.conftest import geo_assets
from geo_assets_tests.faults.test_killed_run import connect, run_workers
from geo_assets_tests.faults.test_retire import sweep
from geo_assets_tests.integration.test_publication import ingest, items, upload
from geo_assets_tests.oracle import assert_reconciled, differences, settings_of
from geo_assets_tests.raster.test_cog import write
from geo_assets_tests.waiting import until

pytestmark = pytest.mark.faults


@pytest.mark.parametrize("how", ["cancelled", "killed"])
def test_a_run_that_ends_between_item_load_and_ledger_commit_leaves_no_item_that_the_ledger_does_not_know(
    cli, tmp_path, how
):
    name = f"between-{how}"
    for i in range(10):
        write(tmp_path / f"t{i}.tif", np.full((1, 20, 20), i, "uint8"))
    upload(cli, tmp_path, name)
    with connect(cli) as barrier, connect(cli) as db:
        with barrier.transaction():
            barrier.execute("lock table geo.published in exclusive mode")
            job = cli.json("submit", "ingest_container", "--param", f"container={name}")
            until(
                lambda: db.execute(
                    "select 1 from pg_locks where not granted and relation = 'geo.published'::regclass"
                ).fetchone()
            )
            assert db.execute("select count(*) from pgstac.items where collection = %s", (name,)).fetchone() == (0,)
            if how == "killed":
                for worker in run_workers(cli):
                    os.kill(worker, signal.SIGKILL)
                until(lambda: not run_workers(cli))
                cancel = None
            else:
                command = geo_assets("cancel", job["job_id"])
                cancel = subprocess.Popen(command, env=cli.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
                until(lambda: db.execute("select 1 from pg_locks where not granted and relation = 'geo.jobs'::regclass or not granted and locktype = 'transactionid'").fetchone())  # fmt: skip
        if cancel is not None:
            cancel.communicate(timeout=60)
        known = db.execute("select count(*) from geo.published where stac_item ^@ %s", (f"{name}/",)).fetchone()
        assert db.execute("select count(*) from pgstac.items where collection = %s", (name,)).fetchone() == known
    if how == "cancelled":
        assert cli.json("job", job["job_id"])["status"] in {"cancelled", "completed"}
    assert cli.json("submit", "ingest_container", "--param", f"container={name}", "--wait")["status"] == "completed"
    assert len(items(cli, name)) == 10


def gated(cli, tmp_path, name: str, bad: str | None) -> tuple[dict, dict]:
    """A container of one good vector and one bad file, or none, ingested with on_error=fail."""
    folder = tmp_path / name
    folder.mkdir()
    gpd.GeoDataFrame({"n": [1, 2]}, geometry=[box(0, 0, 1, 1), box(2, 2, 3, 3)], crs=4326).to_file(folder / "good.gpkg")
    if bad:
        (folder / bad).write_bytes(b"II*\x00 no raster")
    upload(cli, folder, name)
    return ingest(cli, name, "on_error=fail")


def seen(cli, name: str) -> list[str]:
    """Tables of a collection that readers see."""
    reader = settings_of(cli).dsn("reader")
    with psycopg.connect(reader) as db:
        query = (
            "select tablename from pg_tables where tablename ^@ %s and has_schema_privilege(schemaname, 'usage') order"
            " by 1"
        )
        return [table for (table,) in db.execute(query, (f"{name.replace('-', '_')}_",))]


@pytest.mark.parametrize("bad", ["bad.tif", "plan.dwg"])
def test_one_bad_file_and_on_error_fail_publish_no_table_whatever_stage_meets_it(cli, tmp_path, bad):
    name = f"gate-{bad.partition('.')[0].lower()}"
    job, _ = gated(cli, tmp_path, name, bad)
    assert (job["status"], job["error_code"]) == ("failed", "BAD_FILES")
    assert "1 bad file" in job["error_message"]
    assert seen(cli, name) == []
    assert items(cli, f"{name}-vector") == {}
    (cli.home / "containers" / name / bad).unlink()
    mended, tasks = ingest(cli, name, "on_error=fail")
    assert mended["status"] == "completed"
    assert tasks["good.gpkg"]["outputs"]["tables"][0]["rows"] == 2
    assert len(seen(cli, name)) == 1


def test_a_table_that_exists_keeps_its_content_when_the_gate_refuses_what_would_replace_it(cli, tmp_path):
    _, tasks = gated(cli, tmp_path, "gate-exists", None)
    (table,) = (t["table"] for t in tasks["good.gpkg"]["outputs"]["tables"])
    source = cli.home / "containers" / "gate-exists" / "good.gpkg"
    gpd.GeoDataFrame({"n": [3]}, geometry=[box(0, 0, 1, 1)], crs=4326).to_file(source)
    (source.parent / "bad.tif").write_bytes(b"nothing")
    job, _ = ingest(cli, "gate-exists", "on_error=fail")
    assert job["status"] == "failed"
    with connect(cli) as db:
        assert db.execute(f"select count(*) from {table}").fetchone() == (2,)
    (source.parent / "bad.tif").unlink()
    assert ingest(cli, "gate-exists", "on_error=fail")[0]["status"] == "completed"
    with connect(cli) as db:
        assert db.execute(f"select count(*) from {table}").fetchone() == (1,)
        assert db.execute("select count(*) from geo.waiting_tables where task_key = 'good.gpkg'").fetchone() == (0,)


def test_a_table_whose_source_changed_while_it_waited_is_swept(cli, tmp_path):
    gated(cli, tmp_path, "gate-swept", "bad.tif")
    source = cli.home / "containers" / "gate-swept" / "good.gpkg"
    source.write_bytes(b"no longer a geopackage")
    assert ingest(cli, "gate-swept", "on_error=fail")[0]["status"] == "failed"
    sweep(cli)
    with connect(cli) as db:
        assert db.execute(
            "select count(*) from pg_tables where schemaname = 'vector_waiting' and tablename ^@ 'gate_swept'"
        ).fetchone() == (0,)


def test_the_same_path_and_bytes_in_two_containers_of_one_collection_are_two_cogs_and_retiring_one_leaves_the_other(
    cli, tmp_path
):
    write(tmp_path / "same.tif", np.ones((1, 20, 20), "uint8"))
    for name in ("twin-a", "twin-b"):
        upload(cli, tmp_path, name)
    one, other = (cli.home / "containers" / name / "same.tif" for name in ("twin-a", "twin-b"))
    other.unlink()
    os.link(one, other)  # the same etag too
    outputs = [
        ingest(cli, name, "collection=twins", "deleted=retire")[1]["same.tif"]["outputs"]
        for name in ("twin-a", "twin-b")
    ]
    assert outputs[0]["cog"] != outputs[1]["cog"]
    assert outputs[0]["thumbnail"] != outputs[1]["thumbnail"]
    one.unlink()
    request = (
        "submit",
        "ingest_container",
        "--param",
        "container=twin-a",
        "--param",
        "collection=twins",
        "--param",
        "deleted=retire",
    )
    assert cli.json(*request, "--allow-mass-retire", "--wait")["status"] == "completed"
    assert len(items(cli, "twins")) == 1
    assert_reconciled(cli, "twins")


def test_a_file_that_was_converted_not_published_and_then_taken_away_leaves_neither_cog_nor_table(cli, tmp_path):
    name = "never-registered"
    for file, width in (("a.tif", 20), ("stays.tif", 30)):
        write(tmp_path / file, np.ones((1, 20, width), "uint8"))
    gpd.GeoDataFrame({"n": [1]}, geometry=[box(0, 0, 1, 1)], crs=4326).to_file(tmp_path / "b.gpkg")
    upload(cli, tmp_path, name)
    with connect(cli) as barrier, connect(cli) as db:
        barrier.execute("select pg_advisory_lock(hashtextextended('geo_assets:stac:' || %s, 0))", (name,))
        job = cli.json("submit", "ingest_container", "--param", f"container={name}")
        until(lambda: db.execute("select 1 from pg_locks where not granted and locktype = 'advisory'").fetchone())
        assert cli.run("cancel", job["job_id"]).returncode == 0
    assert cli.json("job", job["job_id"])["status"] == "cancelled"
    assert len(seen(cli, name)) == 1
    for file in ("a.tif", "b.gpkg"):
        (cli.home / "containers" / name / file).unlink()
    assert ingest(cli, name)[0]["status"] == "completed"
    sweep(cli)
    assert seen(cli, name) == []
    (cog,) = (cli.home / "containers" / "cogs" / name).rglob("*.tif")
    assert list(items(cli, name).values()) == [cog.as_uri()]


def test_a_blob_that_a_killed_run_left_without_a_name_is_swept_and_one_that_is_named_never(cli, tmp_path):
    write(tmp_path / "a.tif", np.ones((1, 20, 20), "uint8"))
    upload(cli, tmp_path, "orphaned")
    _, tasks = ingest(cli, "orphaned")
    named = tasks["a.tif"]["outputs"]["cog"]
    cog = cli.home / "containers" / named.removeprefix("default/")
    shutil.copy(cog, cog.with_name("lost.tif"))
    lost = named.replace(cog.name, "lost.tif")
    with connect(cli) as db:  # as an upload announces itself, and as one that was announced and then named
        db.execute("insert into geo.loose_blobs (blob, run_id) values (%s, 'killed'), (%s, 'killed')", (lost, named))
    assert differences(cli, "orphaned") == {Class.ORPHAN_COG: 1}
    assert sweep(cli) >= 1
    assert not cog.with_name("lost.tif").exists()
    assert cog.exists()
    with connect(cli) as db:
        assert db.execute("select count(*) from geo.loose_blobs where blob = any(%s)", ([lost, named],)).fetchone() == (
            0,
        )
