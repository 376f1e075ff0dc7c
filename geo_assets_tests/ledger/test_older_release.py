"""A ledger that release 0.1.0 filled goes on where it was: nothing is redone that need not be, and nothing is lost.

`older_release/` is what that release left: its ledger, tables and items as SQL and JSON, and its containers. One job had
ended with a bad file; another, with on_error=fail, had converted a raster and a table and published neither.
"""

import json
import shutil
from pathlib import Path

import dagster as dg
import psycopg
import pytest

from geo_assets.database.bootstrap import bootstrap
from geo_assets.database.migrate import migrate, migrations
from geo_assets.definitions import build_defs
from geo_assets.home import project_file
from geo_assets.ledger import receipts
from geo_assets.ledger.ledger import Ledger
from geo_assets.parameters import Job, validate_parameters
from geo_assets.storage import containers, local
from geo_assets.submissions.submit import Submitter
from geo_assets_tests.databases import DAGSTER_TABLES

LEFT = Path(__file__).with_name("older_release")

#: The newest migration of that release.
NEWEST = "0019_blobs_of_any_kind.sql"

#: Jobs of that release.
ENDED = ("ingest_container", {"container": "older"})
STOPPED = ("ingest_container", {"container": "stopped", "on_error": "fail"})
ENDED_ID = "44b66cb000e75ccb32f06e57517324799a9cc46f9f01d667b6808a40e649e6ca"
STOPPED_ID = "498ab1b98a90ba375cd6a61aedb4f6f59d996cc92a90b757601b86caa2129082"


@pytest.fixture(scope="module")
def older(settings, cluster, open_folder):
    """The settings of a stack of that release, migrated to this one."""
    older = settings.model_copy(update={"home": open_folder(), "pg_database": "older_release"})
    bootstrap(cluster.dsn(), older)
    sql = open_folder()
    for m in migrations():
        if m.name <= NEWEST:
            shutil.copy(project_file("sql") / m.name, sql)
    migrate(older, folder=sql)
    with psycopg.connect(older.dsn("pipeline")) as conn:
        conn.execute(DAGSTER_TABLES)
        conn.execute((LEFT / "vector.sql").read_text())
    with psycopg.connect(cluster.dsn(), dbname="older_release") as conn:
        conn.execute((LEFT / "geo.sql").read_text())
        conn.execute("set search_path to pgstac, public")
        for line in (LEFT / "collections.ndjson").read_text().splitlines():
            conn.execute("select create_collection(%s::jsonb)", (line,))
        items = (LEFT / "items.ndjson").read_text().replace("file://HOME", f"file://{older.home}").splitlines()
        conn.execute("select create_items(%s::jsonb)", (json.dumps([json.loads(line) for line in items]),))
    shutil.copytree(LEFT / "containers", older.home / "containers")
    migrate(older)
    return older


@pytest.fixture
def files_of_then(older, monkeypatch):
    """Copied files have other inodes, and so other etags, than those that were listed then."""
    with psycopg.connect(older.dsn("pipeline")) as conn:
        etags = dict(conn.execute("select path || size, etag from geo.inventory").fetchall())
    entries_below = local.entries_below

    def then(root, folder="", **options):
        for entry in entries_below(root, folder, **options):
            yield entry | {"e_tag": etags.get(f"{entry['path']}{entry['size']}", entry["e_tag"])}

    monkeypatch.setattr(containers, "entries_below", then)


def submitted_again(older, job_type, parameters):
    asked = validate_parameters(job_type, parameters)
    with Submitter(older, launches=False) as submitter:
        submitter.submit(asked, submitted_by="test")
    job = Job.of(asked)
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions(job_type, [job.partition_key])
        made = build_defs(older).resolve_job_def(job_type)
        assert made.execute_in_process(instance=instance, partition_key=job.partition_key).success
    with Ledger(older) as ledger:
        tasks = ledger.tasks.records(job.job_id)
    return job.job_id, {(task.stage, task.task_key): task for task in tasks}


def blobs(older):
    return {p: (p.stat().st_ino, p.stat().st_mtime_ns) for p in (older.home / "containers" / "cogs").rglob("*.tif")}


def test_a_job_of_an_older_release_is_the_same_job_and_redoes_nothing(older, files_of_then):
    before = blobs(older)
    job_id, tasks = submitted_again(older, *ENDED)
    assert job_id == ENDED_ID
    assert {key: str(task.status) for key, task in tasks.items()} == {
        ("cogs", "bad.tif"): "quarantined",
        ("cogs", "good.tif"): "skipped",
        ("cogs", "two.nc"): "skipped",
        ("vector_tables", "layers.gpkg"): "skipped",
    }
    assert {task.error_code for task in tasks.values()} == {None, "UNREADABLE"}
    assert len(tasks["cogs", "two.nc"].outputs.all_cogs) == 2
    assert blobs(older) == before


def test_what_an_older_release_converted_is_published_without_being_converted_again(older, files_of_then):
    (older.home / "containers" / "stopped" / "bad.tif").unlink()
    before = blobs(older)
    job_id, tasks = submitted_again(older, *STOPPED)
    assert job_id == STOPPED_ID
    assert {key: str(task.status) for key, task in tasks.items()} == {
        ("cogs", "kept.tif"): "succeeded",
        ("vector_tables", "kept.geojson"): "succeeded",
    }
    assert blobs(older) == before
    with psycopg.connect(older.dsn("reader")) as conn:
        assert conn.execute("select count(*) from vector.stopped_kept").fetchone() == (3,)
        found = conn.execute("select collection, id from pgstac.items where collection like 'stopped%'").fetchall()
    assert sorted(collection for collection, _ in found) == ["stopped", "stopped-vector"]


def test_items_of_an_older_release_are_known_by_a_hash_so_that_a_change_is_noticed(older):
    with psycopg.connect(older.dsn("pipeline")) as conn:
        rows = dict(conn.execute("select stac_item, item_hash from geo.published").fetchall())
        assert rows
        assert rows == receipts.item_hashes(conn, list(rows))


def test_a_run_of_another_release_than_the_databases_stands_back_and_its_job_is_done_by_the_right_one(settings):
    asked = validate_parameters("hello_world", {"message": "of another release"})
    job = Job.of(asked)
    with Submitter(settings, launches=False) as submitter:
        submitter.submit(asked, submitted_by="test")

        def run():
            with dg.DagsterInstance.ephemeral() as instance:
                instance.add_dynamic_partitions("hello_world", [job.partition_key])
                made = build_defs(settings).resolve_job_def("hello_world")
                tags = {"geo_assets/attempt": "1"}
                return made.execute_in_process(
                    instance=instance, partition_key=job.partition_key, tags=tags, raise_on_error=False
                )

        with psycopg.connect(settings.dsn("migrator"), autocommit=True) as conn:
            conn.execute("insert into public.geo_migrations (name, sha256) values ('9999_later.sql', 'x')")
            try:
                refused = run()
            finally:
                conn.execute("delete from public.geo_migrations where name = '9999_later.sql'")
        assert not refused.success
        assert "9999_later.sql" in str(refused.all_events)
        assert submitter.jobs.find(job.job_id).status == "queued"
        assert run().success
        assert submitter.jobs.find(job.job_id).status == "completed"
