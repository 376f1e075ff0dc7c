"""A load of items is retried after errors that concurrent work causes in PostgreSQL, and after no others."""

import threading
import time
from contextlib import contextmanager
from dataclasses import replace

import psycopg
import pytest

from geo_assets.database.connections import Backoff, KeptConnection, retrying_also_on
from geo_assets.stac.pgstac import count_found, load_items


def item(identity: str, collection: str) -> dict:
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "id": identity,
        "collection": collection,
        "geometry": {"type": "Point", "coordinates": [5.0, 50.0]},
        "bbox": [5.0, 50.0, 5.0, 50.0],
        "properties": {"datetime": "2026-01-02T03:04:05Z"},
        "links": [],
        "assets": {},
    }


@pytest.fixture
def other(settings):
    """Somebody else, at work beside the load, on a table that both need."""
    with psycopg.connect(settings.dsn("pipeline"), autocommit=True) as conn:
        conn.execute("create table vector_staging.shared (k int primary key check (k > 0))")
        conn.execute("insert into vector_staging.shared values (1), (2)")
        yield conn
        conn.execute("drop table vector_staging.shared")


@contextmanager
def locked(conn):
    with conn.transaction():
        conn.execute("lock table vector_staging.shared in access exclusive mode")
        yield


def lock_timeout(ours, other):
    with locked(other):
        ours.execute("set local lock_timeout = '50ms'")
        ours.execute("select from vector_staging.shared")


def deadlock(ours, other):
    lock = "select from vector_staging.shared where k = %s for update"
    ready = threading.Event()

    def work():
        with other.transaction():
            other.execute(lock, (2,))
            ready.set()
            time.sleep(0.3)  # who waited first looks for the deadlock first, and is its victim
            other.execute(lock, (1,))

    ours.execute(lock, (1,))
    threading.Thread(target=work, daemon=True).start()
    assert ready.wait(10)
    ours.execute(lock, (2,))


def taken_key(ours, other):
    ours.execute("insert into vector_staging.shared values (1)")


def narrow_constraint(ours, other):
    ours.execute("insert into vector_staging.shared values (0)")


def table_made_by_another(ours, other):
    ours.execute("create table vector_staging.shared (k int)")


def range_of_a_month(ours, other):
    ours.execute("do $$ begin raise exception 'dtrange is greater than the partition size month'; end $$")


@pytest.mark.parametrize(
    "trouble", [deadlock, lock_timeout, taken_key, narrow_constraint, table_made_by_another, range_of_a_month]
)
def test_a_load_that_others_disturbed_is_done_by_the_next_try(settings, other, trouble):
    tries = []

    def record(conn):
        tries.append(conn)
        if len(tries) == 1:
            trouble(conn, other)
        return "recorded"

    name = trouble.__name__
    items = [item(f"i{n}", name) for n in range(3)]
    assert load_items(settings, name, items, guard=lambda conn: None, record=record) == "recorded"
    assert len(tries) == 2
    assert count_found(settings, name, [i["id"] for i in items]) == 3


def test_a_load_that_somebody_cancelled_is_not_tried_again_and_leaves_nothing(settings):
    tries = []

    def record(conn):
        tries.append(conn)
        conn.execute("set local statement_timeout = '50ms'")
        conn.execute("select pg_sleep(5)")

    with pytest.raises(psycopg.errors.QueryCanceled):
        load_items(settings, "cancelled-load", [item("i", "cancelled-load")], guard=lambda conn: None, record=record)
    assert len(tries) == 1
    assert count_found(settings, "cancelled-load", ["i"]) == 0


BRIEF = Backoff(attempts=3, first_wait_seconds=0.01, longest_wait_seconds=0.02)


@pytest.mark.parametrize(("backoff", "tries"), [(BRIEF, 3), (replace(BRIEF, total_seconds=0.005), 2)])
def test_a_backoff_says_how_often_and_how_long_a_statement_is_tried(backoff, tries):
    tried = []

    @retrying_also_on(ZeroDivisionError, backoff=backoff)
    def statement():
        tried.append("once more")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        statement()
    assert len(tried) == tries


def test_what_is_tried_again_is_logged_without_its_arguments_and_nothing_reaches_standard_output(capfd, caplog):
    tried = []

    @retrying_also_on(ZeroDivisionError, backoff=BRIEF)
    def statement(token):
        tried.append(token)
        if len(tried) == 1:
            raise ZeroDivisionError("by nothing\nDETAIL: a secret")

    with caplog.at_level("INFO", logger="geo_assets"):
        statement("a secret")
    assert capfd.readouterr().out == ""
    (line,) = [record for record in caplog.records if record.name == "geo_assets.database.connections"]
    assert (line.getMessage(), line.error) == ("statement tried again", "by nothing")
    assert line.statement.endswith("statement")
    assert "a secret" not in str(vars(line))


def test_a_connection_is_kept_from_load_to_load_holds_no_lock_between_them_and_may_be_lost(settings):
    served = []

    def load(identity, kept):
        load_items(
            settings,
            "kept",
            [item(identity, "kept")],
            guard=lambda conn: None,
            record=lambda conn: served.append(conn.info.backend_pid),
            kept=kept,
        )

    with KeptConnection(settings) as kept, psycopg.connect(settings.dsn("pipeline"), autocommit=True) as other:
        load("a", kept)
        load("b", kept)
        assert len(set(served)) == 1
        assert other.execute(
            "select count(*) filter (where l.locktype = 'advisory'), count(distinct a.pid) filter (where a.state <> 'idle')"
            " from pg_stat_activity a left join pg_locks l using (pid) where a.pid = %s",
            (served[0],),
        ).fetchone() == (0, 0)
        other.execute("select pg_terminate_backend(%s)", (served[0],))
        load("c", kept)
    assert len(set(served)) == 2
    assert count_found(settings, "kept", ["a", "b", "c"]) == 3
