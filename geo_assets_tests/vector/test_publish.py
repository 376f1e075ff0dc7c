import threading
import time
from dataclasses import replace

import psycopg
import pytest

from geo_assets.errors import GeoAssetsError
from geo_assets.vector.tables import locks as module
from geo_assets.vector.tables import publish as publishing
from geo_assets.vector.tables.publish import in_one_commit
from geo_assets.vector.tables.session import open_session
from geo_assets.vector.tables.staging import discard, sweep
from geo_assets_tests.vector.publishing import publish
from geo_assets_tests.vector.test_load import POINT, ipc, plan_of, stage


@pytest.fixture
def staged(dsn):
    """A staged table of `rows` rows with one integer column, or columns of one's own."""
    import pyarrow as pa

    from geo_assets.vector.schemas import wire_schema

    count = 0

    def make(table, rows=2, **wires):
        nonlocal count
        count += 1
        plan = plan_of(rows, **(wires or {"a": "int32"}))
        arrays = [
            pa.array([1] * rows, pa.int64()).cast(field.type)
            for field in wire_schema(plan.columns)
            if field.name != "geom"
        ]
        batch = pa.record_batch([*arrays, pa.array([POINT] * rows)], schema=wire_schema(plan.columns))
        return stage(dsn, plan, ipc(batch.schema, batch), rows, table=table, suffix=f"p{count}")

    return make


def refused(db, staged_table, code, **options):
    with pytest.raises(GeoAssetsError) as caught:
        publish(db.conn, staged_table, **options)
    assert caught.value.code == code, caught.value
    assert staged_table.staging_name not in db.staged()
    return str(caught.value)


def count(db, table):
    return db.value("select count(*) from {t}", t=f"vector.{table}")


def test_the_first_publication_makes_the_table_and_reads_it_back(staged, db):
    done = publish(db.conn, staged("first", 3))
    assert (done.table, done.rows, done.srid, done.geometry_type) == ("vector.first", 3, 4326, "POINT")
    assert count(db, "first") == 3
    assert db.staged() == []


def test_a_replacement_leaves_nothing_of_the_old_table(staged, db):
    publish(db.conn, staged("again", 3))
    for rows in (4, 5):
        assert publish(db.conn, staged("again", rows)).rows == rows
    assert {n for n in db.published() if n.startswith("again")} == {"again"}
    assert {n for (n,) in db.rows("select relname from pg_class where relname like 'again%%'")} == {
        "again",
        "again_pkey",
        "again_geom_idx",
        "again_gid_seq",
    }
    assert db.staged() == []


def test_a_connection_whose_rows_are_dicts_will_do(staged, dsn):
    from psycopg.rows import dict_row

    with psycopg.connect(dsn, row_factory=dict_row) as conn:
        assert publish(conn, staged("dicts", 2)).rows == 2
        assert publish(conn, staged("dicts", 3)).rows == 3


def test_a_raised_fence_undoes_everything(staged, db):
    publish(db.conn, staged("fenced", 3))
    seen = []

    def lost(conn, done):
        seen.append(
            conn.execute("select count(*) from vector.fenced").fetchone()[0]
        )  # it sees the new table, readers do not yet
        raise GeoAssetsError("LEASE_LOST", "another run took over")

    refused(db, staged("fenced", 9), "LEASE_LOST", before_commit=lost)
    assert seen == [9]
    assert count(db, "fenced") == 3


def test_what_the_fence_writes_is_committed_with_the_table(staged, db):
    db.run("create table if not exists public.log (t text)")
    publish(
        db.conn, staged("logged"), before_commit=lambda conn, done: conn.execute("insert into log values ('published')")
    )
    assert db.rows("select t from public.log") == [("published",)]


def test_views_over_the_table_and_views_over_those_follow_it(staged, db):
    publish(db.conn, staged("viewed", 3))
    db.run("create view public.v1 with (security_barrier) as select gid, a, geom from vector.viewed where a > 0")
    db.run("create view public.v2 as select v1.a, t.gid from public.v1 join vector.viewed t using (gid)")
    db.run("grant select on public.v1 to a_reader; comment on view public.v1 is 'mine'")
    publish(db.conn, staged("viewed", 7))
    assert db.value("select count(*) from public.v1") == 7
    assert db.value("select count(*) from public.v2") == 7
    assert db.value("select reloptions from pg_class where oid = 'public.v1'::regclass") == ["security_barrier=true"]
    assert db.value("select has_table_privilege('a_reader', 'public.v1', 'select')")
    assert db.value("select obj_description('public.v1'::regclass)") == "mine"
    db.run("drop view public.v1 cascade")


def test_a_view_that_needs_a_column_which_is_gone_stops_the_replacement(staged, db):
    publish(db.conn, staged("narrow", 3))
    db.run("create view public.needs_a as select a from vector.narrow")
    assert "public.needs_a" in refused(db, staged("narrow", 4, b="int32"), "SCHEMA_MISMATCH")
    assert "public.needs_a" in refused(db, staged("narrow", 4, a="int64"), "SCHEMA_MISMATCH")
    assert db.value("select count(*) from public.needs_a") == 3
    db.run("drop view public.needs_a")


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ("create materialized view public.depends as select * from vector.hung", "public.depends"),
        ("create table public.depends (gid bigint references vector.hung)", "foreign key"),
        (
            (
                "create function public.f() returns trigger language plpgsql as 'begin return new; end'; create trigger"
                " depends before insert on vector.hung execute function public.f()"
            ),
            "trigger depends",
        ),
        ("create policy depends on vector.hung using (true)", "policy depends"),
        (
            (
                "create function public.depends() returns bigint language sql begin atomic select count(*) from"
                " vector.hung; end"
            ),
            "function",
        ),
    ],
)
def test_what_cannot_be_carried_over_stops_the_replacement_by_name(staged, db, statement, named):
    publish(db.conn, staged("hung", 3))
    db.run(statement)
    assert named in refused(db, staged("hung", 4), "SCHEMA_MISMATCH")
    assert count(db, "hung") == 3
    db.run("drop table vector.hung cascade; drop table if exists public.depends; drop function if exists public.f()")


def test_a_view_in_the_tables_place_is_not_overwritten(staged, db):
    db.run("create view vector.in_place as select 1 as a")
    assert "not a table" in refused(db, staged("in_place"), "SCHEMA_MISMATCH")
    db.run("drop view vector.in_place")


def test_grants_are_carried_over(staged, db):
    publish(db.conn, staged("granted"))
    db.run("grant select, update on vector.granted to a_reader; grant select on vector.granted to public")
    publish(db.conn, staged("granted"))
    assert db.value("select has_table_privilege('a_reader', 'vector.granted', 'update')")
    assert (
        db.value(
            "select count(*) from pg_class c, aclexplode(relacl) a where c.oid = 'vector.granted'::regclass and"
            " a.grantee = 0"
        )
        == 1
    )


def test_a_table_that_others_hold_is_a_passing_fault(staged, db, dsn, monkeypatch):
    monkeypatch.setattr(module, "_LOCK_TIMEOUT_MS", 50)
    monkeypatch.setattr(module, "_ATTEMPTS", 2)
    publish(db.conn, staged("held", 3))
    with psycopg.connect(dsn) as other:
        other.execute("select count(*) from vector.held")  # an open transaction is enough
        assert "locked" in refused(db, staged("held", 4), "DATABASE_UNAVAILABLE")
    assert count(db, "held") == 3


def test_a_lock_that_is_let_go_is_waited_for(staged, db, dsn, monkeypatch):
    monkeypatch.setattr(module, "_LOCK_TIMEOUT_MS", 50)
    publish(db.conn, staged("waited", 3))
    with psycopg.connect(dsn) as other:
        other.execute("select count(*) from vector.waited")
        threading.Timer(0.3, other.rollback).start()
        assert publish(db.conn, staged("waited", 4)).rows == 4


def test_a_transaction_of_the_callers_own_is_refused(staged, db, dsn):
    with psycopg.connect(dsn) as conn:
        conn.execute("select 1")
        with pytest.raises(GeoAssetsError, match="another transaction"):
            publish(conn, (table := staged("nested")))
    discard(db.conn, table)
    assert db.staged() == []


def test_a_staged_table_that_is_gone_is_our_fault(staged, db):
    table = replace(staged("gone"), staging_name="gone__zz")
    refused(db, table, "INTERNAL")
    db.run("drop table vector_staging.gone__p1")


def test_readers_of_the_table_and_of_a_view_never_see_a_half_or_no_table(staged, db, dsn):
    publish(db.conn, staged("swapped", 500))
    db.run("create view public.swap_view as select * from vector.swapped")
    tables = [staged("swapped", 500) for _ in range(6)]
    stop, faults, seen, slowest = threading.Event(), [], set(), [0.0]

    def read():
        with psycopg.connect(dsn, autocommit=True) as conn:
            while not stop.is_set():
                began = time.monotonic()
                try:
                    seen.add(conn.execute("select count(*) from vector.swapped").fetchone()[0])
                    seen.add(conn.execute("select count(*) from public.swap_view").fetchone()[0])
                except psycopg.Error as error:
                    faults.append(str(error))
                slowest[0] = max(slowest[0], time.monotonic() - began)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    try:
        for table in tables:
            publish(db.conn, table)
    finally:
        stop.set()
        for reader in readers:
            reader.join()
    assert (seen, faults) == ({500}, [])
    assert slowest[0] < 2
    db.run("drop view public.swap_view")


def test_two_publishers_of_one_table_come_one_after_the_other(staged, db, dsn):
    tables = [staged("raced", rows) for rows in range(1, 9)]
    faults = []

    def work(table):
        try:
            with psycopg.connect(dsn) as conn:
                publish(conn, table)
        except BaseException as error:  # noqa: BLE001 - the test's own account
            faults.append(error)

    threads = [threading.Thread(target=work, args=(table,)) for table in tables]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert count(db, "raced") in range(1, 9)
    assert {n for n in db.published() if n.startswith("raced")} == {"raced"}
    assert db.staged() == []


def test_publishers_of_the_same_tables_in_another_order_come_one_after_the_other(staged, db, dsn):
    tables = [[staged("left_one", n), staged("right_one", n)] for n in range(1, 9)]
    faults = []

    def work(several):
        try:
            with psycopg.connect(dsn) as conn:
                in_one_commit(conn, several, lambda: [publishing.publish(conn, table) for table in several])
        except BaseException as error:  # noqa: BLE001 - the test's own account
            faults.append(error)

    threads = [threading.Thread(target=work, args=(several[:: (-1) ** n],)) for n, several in enumerate(tables)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert count(db, "left_one") == count(db, "right_one")
    assert db.staged() == []


def test_of_several_tables_all_are_published_or_none(staged, db):
    publish(db.conn, staged("both_a", 3))
    publish(db.conn, staged("both_b", 3))
    db.run("create view public.needs_both as select a from vector.both_b")
    several = [staged("both_a", 4), staged("both_b", 4, b="int32")]
    with pytest.raises(GeoAssetsError, match="needs_both"):
        in_one_commit(db.conn, several, lambda: [publishing.publish(db.conn, table) for table in several])
    assert (count(db, "both_a"), count(db, "both_b"), db.staged()) == (3, 3, [])
    db.run("drop view public.needs_both")


def test_what_a_killed_process_left_is_swept_and_what_is_at_work_is_not(staged, db, dsn):
    left = staged("swept")  # its session is over
    with open_session(dsn) as session:
        mine = stage_rows(session, "kept_at_work", "k1")
        assert first_swept(db.conn) == [left.staging_name]
        assert db.staged() == [mine.staging_name]
    assert first_swept(db.conn) == [mine.staging_name]


def first_swept(conn) -> list[str]:
    """What is swept first: the server lets go of a session's locks a moment after its client has left."""
    deadline = time.monotonic() + 15
    while not (names := sweep(conn)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return names


def replaced_under_load(db, dsn, seconds):
    """Six writers replace one table with two views over it while two readers ask all three; swaps' times, faults, what
    was seen.
    """
    stop, faults, seen, times = threading.Event(), [], set(), []
    publish(db.conn, stage_rows(dsn, "crowd", "w0"))
    db.run(
        "create view public.crowd_view as select * from vector.crowd; create view public.crowd_count as select count(*)"
        " as n from public.crowd_view"
    )

    def read():
        with psycopg.connect(dsn, autocommit=True) as conn:
            while not stop.is_set():
                try:
                    seen.add(conn.execute("select count(*) from vector.crowd").fetchone()[0])
                    seen.add(conn.execute("select n from public.crowd_count").fetchone()[0])
                except psycopg.Error as error:
                    faults.append(str(error))

    def write(number):
        end, count = time.monotonic() + seconds, 0
        with psycopg.connect(dsn) as conn:
            while time.monotonic() < end:
                count += 1
                table = stage_rows(dsn, "crowd", f"w{number}x{count}")
                began = time.monotonic()
                try:
                    publish(conn, table)
                except BaseException as error:  # noqa: BLE001 - the test's own account
                    faults.append(str(error))
                times.append(time.monotonic() - began)

    readers = [threading.Thread(target=read) for _ in range(2)]
    writers = [threading.Thread(target=write, args=(number,)) for number in range(1, 7)]
    for thread in readers + writers:
        thread.start()
    for thread in writers:
        thread.join()
    stop.set()
    for thread in readers:
        thread.join()
    db.run("drop view public.crowd_view cascade")
    times.sort()
    print(
        f"{len(times)} swaps by 6 writers, waiting in line included: median {times[len(times) // 2]:.3f} s, longest"
        f" {times[-1]:.3f} s"
    )
    assert db.staged() == []
    return times, faults, seen


def stage_rows(dsn, table, suffix, rows=500):
    import pyarrow as pa

    from geo_assets.vector.schemas import wire_schema

    plan = plan_of(rows, a="int32")
    batch = pa.record_batch(
        [pa.array([1] * rows, pa.int32()), pa.array([POINT] * rows)], schema=wire_schema(plan.columns)
    )
    return stage(dsn, plan, ipc(batch.schema, batch), rows, table=table, suffix=suffix)


def test_six_writers_and_two_readers_with_views_never_meet(db, dsn):
    _, faults, seen = replaced_under_load(db, dsn, 2)
    assert (faults, seen) == ([], {500})


@pytest.mark.slow
def test_six_writers_and_two_readers_never_meet_and_a_swap_takes_half_a_second_at_most(db, dsn):
    times, faults, seen = replaced_under_load(db, dsn, 60)
    assert (faults, seen) == ([], {500})
    assert times[int(len(times) * 0.95)] <= 0.5
