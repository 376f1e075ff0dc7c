"""An older ledger is brought up to date with what it knows: outcomes of runs that are or were there, partitions of the
one old set.
"""

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import psycopg

from geo_assets.database.migrate import migrate
from geo_assets.submissions.submit import Submitter
from geo_assets_tests.databases import DAGSTER_TABLES, before_migration, environment

#: job -> its run in Dagster, or none, and the status of its one task.
JOBS = {
    "a": ("SUCCESS", "succeeded"),
    "b": ("FAILURE", "running"),
    "c": (None, "succeeded"),  # its run was deleted
    "d": (None, "running"),
    "e": ("SUCCESS", "quarantined"),
}


def test_outcomes_and_partitions_of_an_older_ledger_are_carried_over(cluster, settings, tmp_path):
    older = before_migration("0010", cluster, settings, tmp_path)
    with psycopg.connect(older.dsn("pipeline")) as conn:
        conn.execute(DAGSTER_TABLES)
        for letter, (run, task) in JOBS.items():
            job_id, key = letter * 64, f"hello_{letter}"
            conn.execute(
                "insert into geo.jobs (job_id, job_type, parameters, partition_key, submitted_by) values (%s,"
                " 'hello_world', '{}', %s, 'test')",
                (job_id, key),
            )
            conn.execute(
                """insert into geo.attempts (job_id, attempt, requested_by, run_id, launched_at)
                   values (%s, 1, 'test', %s, now() - interval '1 hour')""",
                (job_id, letter),
            )
            conn.execute(
                """insert into geo.tasks (job_id, stage, task_key, kind, status, fingerprint, run_id, outputs, error_code, error_message)
                   select %s, 'greetings', '0', 'greeting', %s, 'f', %s, '{"a": 1}', e, e from (select case when %s = 'quarantined' then 'UNREADABLE' end) t(e)""",
                (job_id, task, letter, task),
            )
            conn.execute(
                "insert into dagster.dynamic_partitions (partitions_def_name, partition) values ('submissions', %s)",
                (key,),
            )
            if run:
                conn.execute(
                    "insert into dagster.runs (run_id, pipeline_name, status, start_time, end_time) values (%s,"
                    " 'hello_world', %s, 1, 2)",
                    (letter, run),
                )
                conn.execute("insert into dagster.run_tags values (%s, 'dagster/partition', %s)", (letter, key))
        conn.execute(
            "insert into dagster.dynamic_partitions (partitions_def_name, partition) values ('submissions', 'nobodys')"
        )
    assert "0010_outcomes.sql" in migrate(older)
    with Submitter(older, launches=False) as submitter:
        status = {letter: str(submitter.jobs.find(letter * 64).status) for letter in JOBS}
        assert status == {
            "a": "completed",
            "b": "processing",
            "c": "completed",
            "d": "processing",
            "e": "completed_with_errors",
        }
        assert {p.job_id[0] for p in submitter.jobs.stalled_jobs()} == {"b", "d"}
    with psycopg.connect(older.dsn("pipeline")) as conn:
        sets = conn.execute(
            "select partitions_def_name, partition from dagster.dynamic_partitions order by id"
        ).fetchall()
    assert set(sets) == {("submissions", "nobodys"), *(("hello_world", f"hello_{letter}") for letter in JOBS)}


def test_a_migration_that_is_killed_half_way_leaves_nothing_and_of_two_at_once_each_file_is_applied_by_one(
    settings, tmp_path
):
    files = {
        "9001_first.sql": "create table public.m_first ()",
        "9002_second.sql": "create table public.m_second (); select pg_sleep(2); create table public.m_third ()",
    }
    for name, statements in files.items():
        (tmp_path / name).write_text(statements)
    script = f"""
from pathlib import Path
from geo_assets.database.migrate import migrate
from geo_assets.settings import Settings
migrate(Settings(_env_file=None), folder=Path({str(tmp_path)!r}))
"""
    process = subprocess.Popen([sys.executable, "-c", script], env={**os.environ, **environment(settings)})
    with psycopg.connect(settings.dsn("migrator"), autocommit=True) as conn:
        sleeping = "select count(*) from pg_stat_activity where query like '%%m_second%%pg_sleep%%' and pid <> %s"
        own = conn.info.backend_pid
        while conn.execute(sleeping, (own,)).fetchone() == (0,):
            assert process.poll() is None
            time.sleep(0.05)
        process.kill()
        process.wait(10)
        with ThreadPoolExecutor(2) as pool:  # both wait for the lock of what was killed
            applied = list(pool.map(lambda _: migrate(settings, folder=tmp_path), range(2)))
        assert sorted(name for names in applied for name in names) == ["9002_second.sql"]
        assert conn.execute(
            "select count(*) from pg_tables where tablename like 'm\\_%%' and schemaname = 'public'"
        ).fetchone() == (3,)
        assert conn.execute(
            "select array_agg(name order by name) from public.geo_migrations where name ^@ '900'"
        ).fetchone() == (sorted(files),)


def test_an_attempt_of_the_janitor_that_has_not_ended_gets_the_time_of_its_submission(cluster, settings, tmp_path):
    older = before_migration("0048", cluster, settings, tmp_path)
    with psycopg.connect(older.dsn("pipeline")) as conn:
        conn.execute(
            "insert into geo.jobs (job_id, job_type, parameters, partition_key, submitted_by) values (%s,"
            " 'hello_world', '{}', 'hello_a', 'test')",
            ("a" * 64,),
        )
        for attempt, by in enumerate(("cli", "janitor", "http", "janitor", "janitor"), 1):
            conn.execute(
                """insert into geo.attempts (job_id, attempt, requested_by, requested_at, outcome)
                   values (%s, %s, %s, make_timestamptz(2026, 11, %s, 0, 0, 0), %s)""",
                ("a" * 64, attempt, by, attempt, "completed" if attempt < 3 else None),
            )
    assert "0048_submission_times.sql" in migrate(older)
    with psycopg.connect(older.dsn("pipeline")) as conn:
        query = "select extract(day from submitted_at)::int from geo.attempts order by attempt"
        assert [day for (day,) in conn.execute(query)] == [None, None, None, 3, 3]
