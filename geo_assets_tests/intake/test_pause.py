"""A pause holds launches back, and nothing else; a migration waits for what is at work."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta

import psycopg
import pytest
from psycopg import sql
from psycopg.types.json import Jsonb

from geo_assets.database.bootstrap import bootstrap
from geo_assets.database.connections import connect
from geo_assets.database.migrate import PGSTAC_VERSION, migrate, pgstac_version
from geo_assets.errors import GeoAssetsError
from geo_assets.ledger.pause import at_work as at_work_now
from geo_assets.ledger.pause import current, nothing_at_work, pause, resume
from geo_assets.stages.claim import claim_job
from geo_assets.stages.context import StageContext
from geo_assets_tests.intake.test_lifecycle import age_lease, at_work, submitted
from geo_assets_tests.waiting import until


@pytest.fixture
def db(settings):
    """Nothing of another test is at work."""
    with connect(settings, autocommit=True) as conn:
        conn.execute("update geo.jobs set lease_run_id = null, lease_heartbeat = null")
        conn.execute("update geo.attempts set outcome = 'completed' where run_id is null and outcome is null")
        yield conn
        resume(conn)


def test_what_is_submitted_in_a_pause_is_recorded_and_launched_afterwards(submitter, db):
    pause(db, timedelta(hours=1), "new disk")
    job, answer, _ = submitted(submitter)
    assert (answer.attempt, answer.status) == (1, "queued")
    assert submitter.jobs.take_next_launch() is None
    assert not submitter.jobs.take_launch(job.job_id, 1)
    db.execute("update geo.attempts set requested_at = now() - interval '1 minute'")
    assert submitter.jobs.take_launches(10, ["hello_world"]) == []
    assert resume(db)
    assert submitter.jobs.take_launch(job.job_id, 1)


def test_a_pause_is_over_by_itself(submitter, db):
    pause(db, timedelta(hours=1), "forgotten")
    db.execute("update geo.pause set until = now() - interval '1 second'")
    job, _, _ = submitted(submitter)
    assert current(db) is None
    assert submitter.jobs.take_launch(job.job_id, 1)
    assert not resume(db)


def test_what_is_at_work_goes_on_in_a_pause(submitter, dagster, db):
    job, run_id, _ = at_work(submitter, dagster)
    pause(db, timedelta(hours=1), "new disk")
    assert submitter.jobs.claim(job.partition_key, run_id, 1).won
    assert at_work_now(db) == [job.job_id]


def test_a_run_that_somebody_launches_by_hand_in_a_pause_does_not_begin(submitter, dagster, db):
    job, _, _ = submitted(submitter)
    pause(db, timedelta(hours=1), "new disk")
    with pytest.raises(GeoAssetsError, match="new disk") as refused:
        submitter.jobs.claim(job.partition_key, dagster.run(job, "STARTED"), None)
    assert refused.value.code == "LAUNCHES_PAUSED"


def test_a_run_that_waited_in_dagsters_queue_begins_after_the_migration_and_not_below_it(
    settings, submitter, dagster, db
):
    job, _, _ = submitted(submitter)
    assert submitter.jobs.take_launch(job.job_id, 1)
    run_id = dagster.run(job, "QUEUED")
    db.execute("update geo.attempts set launched_at = now() - interval '1 minute' where job_id = %s", (job.job_id,))
    began = threading.Event()

    def run():
        with StageContext(settings, run_id=run_id) as context:
            claim_job(
                context,
                partition_key=job.partition_key,
                run_id=run_id,
                attempt=1,
                job_types=frozenset({"hello_world"}),
            )
        began.set()

    with nothing_at_work(settings, 0, print, "migration"):
        dagster.set(run_id, "STARTED")
        thread = threading.Thread(target=run)
        thread.start()
        assert not began.wait(1.5)
        assert at_work_now(db) == []
    assert began.wait(10)
    thread.join()
    assert at_work_now(db) == [job.job_id]


def test_a_claim_that_is_under_way_when_a_pause_begins_is_seen_as_work(settings, submitter, dagster, db):
    job, _, _ = submitted(submitter)
    assert submitter.jobs.take_launch(job.job_id, 1)
    run_id = dagster.run(job, "STARTED")
    db.execute("update geo.attempts set launched_at = now() - interval '1 minute' where job_id = %s", (job.job_id,))
    with connect(settings) as slow, ThreadPoolExecutor(1) as pool:
        slow.execute("select from geo.attempts where job_id = %s for update", (job.job_id,))
        claiming = pool.submit(submitter.jobs.claim, job.partition_key, run_id, 1)
        waits = "select pid from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
        until(lambda: db.execute(waits).fetchone(), 10)
        releasing = threading.Timer(0.5, slow.commit)
        releasing.start()
        pause(db, timedelta(hours=1), "migration")
        assert at_work_now(db) == [job.job_id]
        assert claiming.result().won


def test_a_migration_waits_for_a_job_and_lets_nothing_begin_meanwhile(settings, submitter, dagster, db):
    job, run_id, _ = at_work(submitter, dagster)
    said, began = [], threading.Event()

    def migrated():
        with nothing_at_work(settings, 30, said.append, "migration"):
            began.set()

    thread = threading.Thread(target=migrated)
    thread.start()
    assert not began.wait(1.5)
    assert said == [f"waiting for 1 jobs at work: {job.job_id[:12]}"]
    another, _, _ = submitted(submitter)
    assert not submitter.jobs.take_launch(another.job_id, 1)
    submitter.jobs.complete(job.job_id, run_id)
    assert began.wait(5)
    thread.join()
    assert submitter.jobs.take_launch(another.job_id, 1)


def test_a_migration_that_is_not_to_wait_names_the_jobs_and_ends_its_pause(settings, submitter, dagster, db):
    job, _, _ = at_work(submitter, dagster)
    with (
        pytest.raises(GeoAssetsError, match=job.job_id[:12]) as refused,
        nothing_at_work(settings, 0, print, "migration"),
    ):
        pytest.fail("it began")
    assert refused.value.code == "JOBS_AT_WORK"
    assert current(db) is None


def test_a_job_whose_run_is_gone_holds_up_no_migration(settings, submitter, dagster, db):
    job, _, _ = at_work(submitter, dagster)
    age_lease(dagster, job, 60)
    with nothing_at_work(settings, 0, print, "migration"):
        assert current(db)


def test_a_pause_of_an_operator_outlives_a_migration(settings, db):
    pause(db, timedelta(hours=1), "new disk")
    with nothing_at_work(settings, 0, print, "migration"):
        pass
    assert current(db).reason == "new disk"


@contextmanager
def a_long_reader(settings):
    """A transaction that goes on and on, and has read every table of pgstac: nobody may change them."""
    with psycopg.connect(settings.dsn("migrator")) as conn:
        for (table,) in conn.execute("select tablename from pg_tables where schemaname = 'pgstac'").fetchall():
            conn.execute(sql.SQL("lock table pgstac.{} in access share mode").format(sql.Identifier(table)))
        yield conn


@pytest.mark.timeout(300)
def test_pgstac_is_migrated_as_soon_as_its_readers_let_it_and_they_are_never_held_up_for_long(settings, cluster):
    from pypgstac.db import PgstacDB
    from pypgstac.migrate import Migrate

    older = settings.model_copy(update={"pg_database": "older_pgstac"})
    bootstrap(cluster.dsn(), older)
    with PgstacDB(dsn=older.dsn("migrator")) as db:
        Migrate(db).run_migration(toversion="0.9.6")
    with psycopg.connect(older.dsn("migrator"), autocommit=True, options="-csearch_path=pgstac,public") as conn:
        conn.execute("select create_collection(%s)", (Jsonb({"id": "c", "type": "Collection"}),))
    failed: list[BaseException] = []

    def migrated():
        try:
            migrate(older)
        except BaseException as error:  # noqa: BLE001 - shown by the test's own thread
            failed.append(error)

    thread = threading.Thread(target=migrated)
    with a_long_reader(older) as reader:
        thread.start()
        held_up = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = 'older_pgstac'"
        with psycopg.connect(older.dsn("pipeline"), autocommit=True) as other:
            longest = searched_while(lambda: other.execute(held_up).fetchone(), older, seconds=12)
        assert thread.is_alive(), failed
        assert pgstac_version(reader) == "0.9.6"
    thread.join(120)
    assert not failed
    with psycopg.connect(older.dsn("pipeline")) as conn:
        assert pgstac_version(conn) == PGSTAC_VERSION
        assert conn.execute("select count(*) from pgstac.collections").fetchone() == (1,)
    assert longest < 8, "a migration that waits for a lock holds up every search after it"


def searched_while(look, settings, seconds):
    """The longest that one of many short searches took."""
    longest, ends = 0.0, time.monotonic() + seconds
    with psycopg.connect(settings.dsn("reader"), autocommit=True) as conn:
        while time.monotonic() < ends:
            look()
            began = time.monotonic()
            for table in ("items", "collections", "queryables", "pgstac_settings"):
                conn.execute(sql.SQL("select count(*) from pgstac.{}").format(sql.Identifier(table)))
            longest = max(longest, time.monotonic() - began)
            time.sleep(0.05)
    return longest
