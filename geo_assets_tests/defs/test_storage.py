"""Dagster's storage keeps its connections, and outlives a database that closes them."""

import time
from urllib.parse import urlencode
from uuid import uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from geo_assets.defs.storage import PooledPostgresStorage
from geo_assets_tests.faults.test_killed_run import connect
from geo_assets_tests.keepalive import seconds_until_noticed
from geo_assets_tests.waiting import until


@pytest.fixture
def name():
    """Of one test's connections: what another test left open may not be collected yet."""
    return f"storage-{uuid4().hex[:8]}"


def storage_with(cli, **said):
    url = cli.exports["GEO_ASSETS_DAGSTER_POSTGRES_URL"]
    return PooledPostgresStorage(f"{url}&{urlencode(said)}", should_autocreate_tables=False)


@pytest.fixture
def storage(cli, name):
    return storage_with(cli, application_name=name)


def look_at_everything(storage):
    storage.run_storage.get_runs_count()
    storage.event_log_storage.get_records_for_run("a run that never was")
    storage.schedule_storage.all_instigator_state()


def test_statements_on_runs_events_and_schedules_share_connections_that_are_kept(cli, storage, name):
    for _ in range(10):
        look_at_everything(storage)
    with connect(cli) as db:  # what was closed takes the server a moment
        mine = "select count(*) from pg_stat_activity where application_name = %s"
        until(lambda: db.execute(mine, (name,)).fetchone() == (1,))


def test_connections_that_the_server_closed_are_replaced_before_they_are_used(cli, storage, name):
    look_at_everything(storage)
    with connect(cli) as db:
        db.execute("select pg_terminate_backend(pid) from pg_stat_activity where application_name = %s", (name,))
    look_at_everything(storage)


def test_limits_in_the_url_of_dagsters_storage_are_kept(cli):
    storage = storage_with(cli, keepalives_idle=60)
    with storage.run_storage.connect() as conn:
        assert seconds_until_noticed(conn.connection.driver_connection.fileno()) == 75


def test_dagster_too_notices_within_half_a_minute_that_the_server_has_vanished(storage):
    for connect_to in (storage.run_storage.connect, storage.event_log_storage.index_connection):
        with connect_to() as conn:
            assert seconds_until_noticed(conn.connection.driver_connection.fileno()) == 25


def test_in_the_webserver_it_keeps_its_connections_and_no_statement_takes_longer_than_asked(cli, storage, name):
    look_at_everything(storage)
    for each in (storage.schedule_storage, storage.run_storage, storage.event_log_storage):
        each.optimize_for_webserver(statement_timeout=200, pool_recycle=3600, max_overflow=20)
    test_statements_on_runs_events_and_schedules_share_connections_that_are_kept(cli, storage, name)
    test_connections_that_the_server_closed_are_replaced_before_they_are_used(cli, storage, name)
    runs, events, schedules = storage.run_storage, storage.event_log_storage, storage.schedule_storage
    for connect_to in (runs.connect, events.index_connection, schedules.connect):
        with pytest.raises(OperationalError, match="statement timeout"), connect_to() as conn:
            conn.execute(text("select pg_sleep(5)"))


def test_the_processes_of_a_stack_use_it_and_one_without_work_opens_next_to_no_connection(cli):
    def opened():
        with connect(cli) as db:
            return db.execute("select sessions from pg_stat_database where datname = current_database()").fetchone()[0]

    least = 1000
    for _ in range(5):  # the stack may still be busy with what another test asked for
        before = opened()
        time.sleep(6)
        least = min(least, opened() - before)
        if least < 20:
            break
    assert least < 20, "dagster-postgres alone opens some hundred"
