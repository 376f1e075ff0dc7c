"""The connections of loads: kept from one source to the next, without what the last one left, and replaced if lost."""

import os
import socket
import threading
import time

import psycopg
import pytest
from adbc_driver_manager import Error
from psycopg import sql

from geo_assets.errors import GeoAssetsError
from geo_assets.kept import Kept
from geo_assets.settings import Settings
from geo_assets.stages.load_database import LoadDatabase
from geo_assets.vector.tables.session import Session, connected, kept_sessions, message_of
from geo_assets.vector.tables.staging import staging_lock
from geo_assets_tests.waiting import until

_PID = sql.SQL("select pg_backend_pid()")

#: The connections of this process but that which asks.
_MINE = "select from pg_stat_activity where application_name like %s and pid <> pg_backend_pid()"


@pytest.fixture
def database(settings):
    with LoadDatabase(settings) as database:
        yield database


@pytest.fixture
def other(settings):
    with psycopg.connect(settings.dsn("pipeline"), autocommit=True) as conn:
        yield conn


def sessions_of(database):
    with database.connection() as conn, database.session() as session:
        return conn.info.backend_pid, session(_PID)[0][0]


def have_ended(other, pids):
    """Whether the server's processes of these connections are gone, which takes them a moment."""
    return other.execute("select from pg_stat_activity where pid = any(%s)", (pids,)).fetchone() is None


def test_one_source_after_the_other_is_loaded_on_the_same_two_connections(database):
    assert len({sessions_of(database) for _ in range(10)}) == 1


def test_each_thread_that_loads_has_connections_of_its_own(database):
    used, all_at_work = [], threading.Barrier(3)

    def load():
        with database.connection() as conn, database.session() as session:
            used.extend([conn.info.backend_pid, session(_PID)[0][0]])
            all_at_work.wait(30)

    threads = [threading.Thread(target=load) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(used)) == 6


def test_connections_that_a_restart_of_postgresql_ended_are_opened_anew(database, other):
    before = sessions_of(database)
    for pid in before:
        other.execute("select pg_terminate_backend(%s, 10000)", (pid,))  # returns when it is gone
    assert not set(before) & set(sessions_of(database))


def test_a_source_that_fails_leaves_nothing_to_the_next(database):
    def fail():
        with database.connection() as conn, database.session() as session:
            conn.execute("create temporary table half_done (i int)")
            session(sql.SQL("create temporary table half_done (i int)"))
            raise ZeroDivisionError

    before = sessions_of(database)
    with pytest.raises(ZeroDivisionError):
        fail()
    assert not set(before) & set(sessions_of(database))


def test_a_session_between_two_sources_holds_no_lock_and_no_transaction(database, other):
    with database.session() as session:
        session(sql.SQL("select pg_advisory_lock_shared({})").format(staging_lock("abc123")))
        session.commit()
        (pid,) = session(_PID)[0]
        taken = sql.SQL("select pg_try_advisory_lock({})").format(staging_lock("abc123"))
        assert other.execute(taken).fetchone() == (False,)
    assert other.execute(taken).fetchone() == (True,)
    assert other.execute("select state from pg_stat_activity where pid = %s", (pid,)).fetchone() == ("idle",)


def test_a_connection_is_opened_anew_when_it_has_become_old(database, monkeypatch):
    before = sessions_of(database)
    monkeypatch.setattr("geo_assets.kept._OLDEST", 0.0)
    assert not set(before) & set(sessions_of(database))


def test_a_session_that_is_opened_ahead_is_the_first_that_a_load_has(database, other):
    database.session.ahead()
    assert len({sessions_of(database) for _ in range(3)}) == 1
    # none beside that of statements, once those of tests before this one have ended
    until(lambda: other.execute(_MINE, (f"%/{os.getpid()}",)).rowcount == 2)


def kept_ahead(*dsns):
    """Sessions that are opened with one address after the other, the first ahead of use; and those that were opened."""
    opened, left = [], list(dsns)

    def make():
        opened.append(connected(left.pop(0)))
        return opened[-1]

    sessions = Kept(make, Session.close, tidy=Session.tidied, answers=Session.answers)
    sessions.ahead()
    return sessions, opened


def test_a_session_that_is_opened_ahead_and_lost_since_is_replaced(settings, other):
    sessions, opened = kept_ahead(*[settings.dsn("pipeline")] * 2)
    until(lambda: opened)
    (lost,) = opened[0](_PID)
    opened[0].rollback()
    other.execute("select pg_terminate_backend(%s, 10000)", lost)
    with sessions, sessions() as session:
        assert session(_PID) != [lost]


def test_a_session_that_cannot_be_opened_ahead_fails_the_first_load_alone(settings):
    away = Settings(**{**settings.model_dump(), "pg_port": 1})
    sessions, _ = kept_ahead(away.dsn("pipeline"), settings.dsn("pipeline"))
    with sessions:
        with pytest.raises(GeoAssetsError, match="does not accept"), sessions():
            pass
        with sessions() as session:
            assert session(_PID)


def test_nobody_but_a_load_waits_for_a_session_that_is_opened_ahead(settings):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        away = Settings(**{**settings.model_dump(), "pg_port": silent.getsockname()[1]})
        began = time.monotonic()
        with kept_sessions(away) as sessions:
            sessions.ahead()
            connection, _ = silent.accept()
        connection.close()
        assert time.monotonic() - began < 5


def test_a_session_that_nobody_came_to_use_is_closed_with_the_database(database, other):
    database.session.ahead()
    database.close()
    until(lambda: other.execute(_MINE, (f"%/{os.getpid()}",)).fetchone() is None)


def test_what_is_left_is_closed_with_the_database(settings, other):
    with LoadDatabase(settings) as database:
        pids = list(sessions_of(database))
    until(lambda: have_ended(other, pids))


def test_what_is_in_work_while_the_database_is_closed_is_closed_when_it_is_left(settings, other):
    database = LoadDatabase(settings)
    with database.connection() as conn, database.session() as session:
        pids = [conn.info.backend_pid, session(_PID)[0][0]]
        database.close()
    until(lambda: have_ended(other, pids))


def test_the_reason_of_an_error_is_told_however_long_the_statements_before_it_are(database):
    comment = sql.SQL("perform {}").format(sql.Literal("it's a column's comment: " * 50))

    def fail():
        with database.session() as session:
            session.all_of([comment, sql.SQL("perform 1 / 0")])

    with pytest.raises(Error) as failed:
        fail()
    assert "division by zero" in message_of(failed.value)


def test_names_and_comments_with_quotes_and_dollars_are_taken_as_they_are(database):
    odd = 'it\'s "odd" $$; end $do$ \\ := found'
    with database.session() as session:
        session.all_of(
            [
                sql.SQL("create temporary table {} (found int, {} text)").format(
                    sql.Identifier("odd"), sql.Identifier(odd)
                ),
                sql.SQL("comment on column odd.found is {}").format(sql.Literal(odd)),
            ]
        )
        assert session(sql.SQL("select col_description('odd'::regclass, 1)")) == [(odd,)]
        assert session(
            sql.SQL("select attname::text from pg_attribute where attrelid = 'odd'::regclass and attnum = 2")
        ) == [(odd,)]
