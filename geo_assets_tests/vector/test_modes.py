"""append, upsert, schema drift, versions and rollback, as readers of the table see them."""

import itertools
from dataclasses import replace
from io import BytesIO

import pyarrow as pa
import pytest
import shapely

from geo_assets.errors import GeoAssetsError
from geo_assets.vector.models import StreamReport
from geo_assets.vector.schemas import reject_schema, wire_schema
from geo_assets.vector.tables.load import StageOptions, stage_table
from geo_assets.vector.tables.publish import rollback
from geo_assets_tests.vector.publishing import merge, publish
from geo_assets_tests.vector.test_load import ipc, plan_of, stage


@pytest.fixture
def staged(dsn):
    """A staged table of rows {column: values}; `point` makes their geometry."""
    count = 0

    def make(table, wires, columns, *, point=(1, 2), srid=4326):
        nonlocal count
        count += 1
        rows = len(next(iter(columns.values())))
        plan = plan_of(rows, srid=srid, **wires)
        schema = wire_schema(plan.columns)
        arrays = [pa.array(columns[name], schema.field(name).type) for name in columns]
        batch = pa.record_batch(
            [*arrays, pa.array([shapely.to_wkb(shapely.Point(point))] * rows, pa.binary())], schema=schema
        )
        return stage(dsn, plan, ipc(schema, batch), rows, table=table, suffix=f"m{count}")

    return make


A = {"id": "int32", "t": "string"}


def refused(db, table, code, work):
    with pytest.raises(GeoAssetsError) as caught:
        work()
    assert caught.value.code == code, caught.value
    assert db.staged() == []
    return str(caught.value)


def test_append_adds_rows_to_what_is_there_or_makes_the_table(staged, db):
    done = merge(db.conn, staged("added", A, {"id": [1, 2], "t": ["a", "b"]}), "append")
    assert (done.rows, done.inserted) == (2, 2)
    done = merge(db.conn, staged("added", A, {"id": [2, 3], "t": ["x", "y"]}), "append")
    assert (done.rows, done.inserted) == (4, 2)
    assert db.rows("select gid, id, t from vector.added order by gid") == [
        (1, 1, "a"),
        (2, 2, "b"),
        (3, 2, "x"),
        (4, 3, "y"),
    ]
    assert db.staged() == []


def test_upsert_replaces_rows_by_their_key_and_leaves_equal_ones_alone(staged, db):
    merge(db.conn, staged("keyed", A, {"id": [1, 2, 3], "t": ["a", "b", "c"]}), "upsert", key=["id"])
    before = dict(db.rows("select id, xmin::text from vector.keyed"))
    done = merge(db.conn, staged("keyed", A, {"id": [2, 3, 4], "t": ["b", "new", None]}), "upsert", key=["id"])
    assert (done.rows, done.inserted, done.updated) == (4, 1, 1)
    assert db.rows("select id, t from vector.keyed order by id") == [(1, "a"), (2, "b"), (3, "new"), (4, None)]
    after = dict(db.rows("select id, xmin::text from vector.keyed"))
    assert [i for i in (1, 2, 3) if after[i] != before[i]] == [3]
    assert done.table == "vector.keyed"


def test_upsert_sees_that_only_the_geometry_changed(staged, db):
    merge(db.conn, staged("moved_point", A, {"id": [1], "t": ["a"]}), "upsert", key=["id"])
    done = merge(db.conn, staged("moved_point", A, {"id": [1], "t": ["a"]}, point=(5, 6)), "upsert", key=["id"])
    assert done.updated == 1
    assert db.value("select st_astext(geom) from vector.moved_point") == "POINT(5 6)"


@pytest.mark.parametrize(
    ("columns", "key", "said"),
    [
        ({"id": [1, 1], "t": ["a", "b"]}, ["id"], "(id)=(1)"),
        ({"id": [1, None], "t": ["a", "b"]}, ["id"], "1 row of the source has no id"),
        ({"id": [1], "t": ["a"]}, ["nope"], "'nope'"),
        ({"id": [1], "t": ["a"]}, [], "needs a key"),
    ],
)
def test_a_key_must_be_there_and_distinct(staged, db, columns, key, said):
    table = staged("badkey", A, columns)
    assert said in refused(db, table, "INVALID_KEY", lambda: merge(db.conn, table, "upsert", key=key))
    assert "badkey" not in db.published()


def test_the_published_table_must_fit_the_key_too(staged, db):
    publish(db.conn, staged("doubles", A, {"id": [1, 1], "t": ["a", "b"]}))
    table = staged("doubles", A, {"id": [2], "t": ["c"]})
    assert "several rows" in refused(db, table, "INVALID_KEY", lambda: merge(db.conn, table, "upsert", key=["id"]))
    merge(db.conn, staged("other_key", A, {"id": [1], "t": ["a"]}), "upsert", key=["id"])
    table = staged("other_key", A, {"id": [1], "t": ["a"]})
    assert "is id, not t" in refused(db, table, "INVALID_KEY", lambda: merge(db.conn, table, "upsert", key=["t"]))
    table = staged("other_key", A, {"id": [1], "t": ["z"]})
    refused(db, table, "INVALID_KEY", lambda: merge(db.conn, table, "append"))


def test_another_schema_is_refused_with_the_difference_unless_it_is_allowed(staged, db):
    publish(db.conn, staged("drifts", A, {"id": [1], "t": ["a"]}))
    wires, columns = {"id": "int64", "u": "float64"}, {"id": [1], "u": [0.5]}
    for work in (
        lambda table: publish(db.conn, table, schema_drift="refuse"),
        lambda table: merge(db.conn, table, "append"),
    ):
        table = staged("drifts", wires, columns)
        said = refused(db, table, "SCHEMA_DRIFT", lambda work=work, table=table: work(table))
        assert (
            said
            == "vector.drifts has another schema: id is bigint, was integer; t (text) is gone; u (double precision)"
            " is new"
        )
    done = publish(db.conn, staged("drifts", wires, columns), schema_drift="allow")
    assert done.drift == ("id is bigint, was integer", "t (text) is gone", "u (double precision) is new")


def test_another_srid_or_geometry_type_is_drift(staged, db):
    publish(db.conn, staged("srid", A, {"id": [1], "t": ["a"]}))
    table = staged("srid", A, {"id": [1], "t": ["a"]}, srid=3857)
    said = refused(db, table, "SCHEMA_DRIFT", lambda: publish(db.conn, table, schema_drift="refuse"))
    assert "geom is geometry(Point,3857), was geometry(Point,4326)" in said
    table = staged("srid", A, {"id": [1], "t": ["a"]}, srid=3857)
    refused(db, table, "SCHEMA_DRIFT", lambda: merge(db.conn, table, "append", schema_drift="allow"))


def test_the_order_of_columns_is_no_drift(staged, db):
    publish(db.conn, staged("order_", A, {"id": [1], "t": ["a"]}))
    assert (
        publish(
            db.conn, staged("order_", {"t": "string", "id": "int32"}, {"t": ["b"], "id": [2]}), schema_drift="refuse"
        ).drift
        == ()
    )


def test_allowed_drift_adds_columns_leaves_missing_ones_null_and_takes_narrower_types(staged, db):
    merge(db.conn, staged("grows", {"id": "int64", "t": "string"}, {"id": [1], "t": ["a"]}), "append")
    done = merge(
        db.conn, staged("grows", {"id": "int32", "u": "bool"}, {"id": [2], "u": [True]}), "append", schema_drift="allow"
    )
    assert done.drift == ("id is integer, was bigint", "t (text) is gone", "u (boolean) is new")
    assert db.rows("select id, t, u from vector.grows order by id") == [(1, "a", None), (2, None, True)]
    table = staged("grows", {"id": "float64"}, {"id": [0.5]})
    assert "double precision" in refused(
        db, table, "SCHEMA_DRIFT", lambda: merge(db.conn, table, "append", schema_drift="allow")
    )


def test_a_fence_that_is_raised_while_rows_are_added_undoes_it(staged, db):
    merge(db.conn, staged("fenced_add", A, {"id": [1], "t": ["a"]}), "append")

    def lost(conn, done):
        assert done.rows == 2
        raise GeoAssetsError("LEASE_LOST", "another run took over")

    table = staged("fenced_add", A, {"id": [2], "t": ["b"]})
    refused(db, table, "LEASE_LOST", lambda: merge(db.conn, table, "append", before_commit=lost))
    assert db.value("select count(*) from vector.fenced_add") == 1


def test_replaced_tables_are_kept_called_back_and_let_go_oldest_first(staged, db):
    for n in range(1, 6):
        done = publish(db.conn, staged("kept", A, {"id": [n] * n, "t": ["x"] * n}), keep_versions=3)
    assert done.version == "vector_versions.kept__v4"
    db.run("create view public.kept_view as select count(*) as n from vector.kept")
    for n in (4, 3, 2):
        assert rollback(db.conn, "kept").rows == n
        assert db.value("select n from public.kept_view") == n
        assert db.rows("select indexname from pg_indexes where tablename = 'kept' order by 1") == [
            ("kept_geom_idx",),
            ("kept_pkey",),
        ]
        assert db.value("select pg_get_serial_sequence('vector.kept', 'gid')") == "vector.kept_gid_seq"
    with pytest.raises(GeoAssetsError) as caught:
        rollback(db.conn, "kept")
    assert caught.value.code == "NO_VERSION"
    assert db.value("select count(*) from vector.kept") == 2
    assert db.rows("select tablename from pg_tables where schemaname = 'vector_versions'") == []
    db.run("drop view public.kept_view")


def test_rejects_go_with_their_version(staged, db, dsn):
    def with_reject(reason):
        plan = replace(plan_of(2, a="int32"), rejected_by_reason={reason: 1})
        good = pa.record_batch(
            [pa.array([1], pa.int32()), pa.array([shapely.to_wkb(shapely.Point(1, 2))])],
            schema=wire_schema(plan.columns),
        )
        attributes = pa.ExtensionArray.from_storage(pa.json_(), pa.array(['{"a": 2}']))
        bad = pa.record_batch([pa.array([9]), pa.array([reason]), pa.array([b"x"]), attributes], schema=reject_schema())
        streams = ipc(good.schema, good).getvalue() + ipc(bad.schema, bad).getvalue()
        report = StreamReport(rows=1, rejected={reason: 1})
        return stage_table(
            dsn, plan, "rej", BytesIO(streams), lambda: report, staging_suffix=f"r{len(reason)}", source="a.gpkg"
        )

    publish(db.conn, with_reject("one"), keep_versions=1)
    publish(db.conn, with_reject("second"), keep_versions=1)
    assert db.rows("select src_fid, reason, geom_wkb, attributes from vector.rej__rejects") == [
        (9, "second", b"x", {"a": 2})
    ]
    rollback(db.conn, "rej")
    assert db.rows("select reason from vector.rej__rejects") == [("one",)]
    merge(db.conn, with_reject("another"), "append")
    assert db.rows("select reason from vector.rej__rejects order by reject_id") == [("one",), ("another",)]


def test_a_version_is_not_kept_from_what_would_follow_it(staged, db):
    publish(db.conn, staged("held_back", A, {"id": [1], "t": ["a"]}))
    db.run(
        "create function public.uses() returns bigint language sql begin atomic select count(*) from"
        " vector.held_back; end"
    )
    table = staged("held_back", A, {"id": [2], "t": ["b"]})
    assert "uses()" in refused(db, table, "SCHEMA_MISMATCH", lambda: publish(db.conn, table, keep_versions=2))
    db.run("drop function public.uses()")


@pytest.mark.parametrize("index", ["gist", "spgist", "brin"])
def test_a_table_is_indexed_and_clustered_as_is_asked(tmp_path, dsn, db, index):
    plan = plan_of(200, n="int32")
    points = [shapely.Point(i % 20, i * 7 % 20) for i in range(200)]
    batch = pa.record_batch(
        [pa.array(range(200), pa.int32()), pa.array(shapely.to_wkb(points), pa.binary())],
        schema=wire_schema(plan.columns),
    )
    table = stage(
        dsn,
        plan,
        ipc(batch.schema, batch),
        200,
        table=f"by_{index}",
        suffix="c1",
        options=StageOptions(index=index, cluster=True),
    )
    publish(db.conn, table)
    assert db.rows(
        "select am.amname from pg_index i join pg_class c on c.oid = i.indexrelid join pg_am am on am.oid = c.relam"
        " where indrelid = %s::regclass and not indisprimary",
        f"vector.by_{index}",
    ) == [(index,)]
    stored = db.rows("select st_x(geom), st_y(geom) from {t} order by ctid", t=f"vector.by_{index}")
    jumps = sum(abs(a[0] - b[0]) + abs(a[1] - b[1]) for a, b in itertools.pairwise(stored))
    written = sum(abs(a.x - b.x) + abs(a.y - b.y) for a, b in itertools.pairwise(points))
    assert jumps < written / 2


@pytest.mark.parametrize(("mode", "key"), [("append", []), ("upsert", ["id"])])
def test_a_column_that_is_null_throughout_fits_the_type_of_the_table(staged, db, mode, key):
    wires = {"id": "int32", "a": "float64", "b": "bool", "c": "timestamp[us, UTC]", "j": "json", "n": "decimal(20, 0)"}
    first = {"id": [1], "a": [1.5], "b": [True], "c": [0], "j": ["{}"], "n": [7]}
    merge(db.conn, staged(f"hollow_{mode}", wires, first), mode, key=key)
    none = {name: [None] for name in wires} | {"id": [2]}
    done = merge(
        db.conn, staged(f"hollow_{mode}", dict.fromkeys(wires, "string") | {"id": "int32"}, none), mode, key=key
    )
    assert (done.inserted, done.drift) == (1, ())
    assert db.rows(f"select a, b, c, j, n from vector.hollow_{mode} where id = 2") == [(None,) * 5]
    table = staged(f"hollow_{mode}", dict.fromkeys(wires, "string") | {"id": "int32"}, none | {"a": ["x"]})
    said = refused(db, table, "SCHEMA_DRIFT", lambda: merge(db.conn, table, mode, key=key))
    assert said == f"vector.hollow_{mode} has another schema: a is text, was double precision"


def test_whole_numbers_go_into_a_column_of_fractions_where_a_double_holds_each(staged, db):
    merge(db.conn, staged("mixed_numbers", {"v": "float64"}, {"v": [1.5]}), "append")
    whole = {"v": [2, None, 2**53]}
    done = merge(db.conn, staged("mixed_numbers", {"v": "int64"}, whole), "append", schema_drift="allow")
    assert done.drift == ("v is bigint, was double precision",)
    assert db.rows("select v from vector.mixed_numbers") == [(1.5,), (2.0,), (None,), (2.0**53,)]
    table = staged("mixed_numbers", {"v": "int64"}, {"v": [2**53 + 1]})
    refused(db, table, "SCHEMA_DRIFT", lambda: merge(db.conn, table, "append", schema_drift="allow"))
