"""An older ledger is brought up to date with what it knows: outcomes of runs that are or were there, partitions of the
one old set.
"""

import shutil

import psycopg

from geo_assets.database.bootstrap import bootstrap
from geo_assets.database.migrate import migrate, migrations
from geo_assets.settings import project_file
from geo_assets.submissions.submit import Submitter
from geo_assets_tests.databases import DAGSTER_TABLES

#: job -> its run in Dagster, or none, and the status of its one task.
JOBS = {
    "a": ("SUCCESS", "succeeded"),
    "b": ("FAILURE", "running"),
    "c": (None, "succeeded"),  # its run was deleted
    "d": (None, "running"),
    "e": ("SUCCESS", "quarantined"),
}


def test_outcomes_and_partitions_of_an_older_ledger_are_carried_over(cluster, settings, tmp_path):
    older = settings.model_copy(update={"pg_database": "older"})
    bootstrap(cluster.dsn(), older)
    for m in migrations():
        if m.name < "0010":
            shutil.copy(project_file("sql") / m.name, tmp_path)
    migrate(older, folder=tmp_path)
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
