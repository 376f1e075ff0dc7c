import datetime as dt
import struct
import tempfile
from collections import Counter
from dataclasses import replace
from decimal import Decimal
from io import BytesIO
from pathlib import Path

import geopandas as gpd
import numpy as np
import pyarrow as pa
import pyogrio.raw
import pytest
import shapely
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql

from geo_assets.errors import GeoAssetsError
from geo_assets.sandbox import pool as pool_module
from geo_assets.sandbox import start as start_module
from geo_assets.vector.ipc import Batches, StreamViolationError
from geo_assets.vector.models import ColumnPlan, InspectReport, InspectRequest, LayerPlan, StreamReport, StreamRequest
from geo_assets.vector.names import column_names
from geo_assets.vector.reader import stream as stream_module
from geo_assets.vector.reader.conversion import convert, wire_type
from geo_assets.vector.reader.placing import Placing
from geo_assets.vector.schemas import reject_schema, wire_schema
from geo_assets.vector.tables import incoming as incoming_module
from geo_assets.vector.tables import load as load_module
from geo_assets.vector.tables.load import StageOptions, stage_table
from geo_assets.vector.tables.session import Session, open_session
from geo_assets.vector.types import arrow_type, sql_type
from geo_assets_tests.vector.builders import BOWTIE, NATURAL_EARTH, SQUARE, frame, points, write
from geo_assets_tests.vector.conftest import send


def plan_of(count=1, geometry_type="POINT", srid=4326, has_z=False, **wires):
    names = column_names(list(wires))
    columns = tuple(
        ColumnPlan(position=i, source_name=source, name=name, arrow_type=wire, sql_type=sql_type(wire))
        for i, (source, name, wire) in enumerate(zip(wires, names, wires.values(), strict=True))
    )
    return LayerPlan(
        driver="GPKG", columns=columns, geometry_type=geometry_type, has_z=has_z, srid=srid, source_crs=f"EPSG:{srid}", crs_name="x",
        feature_count=count, bounds=(0, 0, 1, 1), bbox_4326=(0, 0, 1, 1), footprint={},
    )  # fmt: skip


def ipc(schema, *batches):
    sink = BytesIO()
    with pa.ipc.new_stream(sink, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return BytesIO(sink.getvalue())


POINT = shapely.to_wkb(shapely.Point(1, 2))


def simple(values=(1, 2), wkb=POINT):
    plan = plan_of(len(values), a="int32")
    batch = pa.record_batch(
        [pa.array(values, pa.int32()), pa.array([wkb] * len(values), pa.binary())], schema=wire_schema(plan.columns)
    )
    return plan, batch


def stage(dsn, plan, file, rows, table="a", suffix="s1", **options):
    return stage_table(
        dsn, plan, table, file, lambda: StreamReport(rows=rows), staging_suffix=suffix, source="a.gpkg", **options
    )


def test_a_row_of_more_numbers_than_postgresql_holds_is_refused_in_words(dsn, db):
    count = 1590
    plan = plan_of(1, **{f"c{i}": "int64" for i in range(count)})
    batch = pa.record_batch(
        [*([pa.array([2**40])] * count), pa.array([POINT], pa.binary())], schema=wire_schema(plan.columns)
    )
    with pytest.raises(GeoAssetsError, match=r"^a.gpkg: a row takes 1\d,\d{3} bytes, .* at most 8,160 for") as caught:
        stage(dsn, plan, ipc(batch.schema, batch), 1)
    assert caught.value.code == "VECTOR_UNSUPPORTED_TYPE"
    assert caught.value.remedy == "load some of its columns: --param columns=A,B"
    assert db.staged() == []


def test_what_postgresql_says_of_a_refused_value_names_no_staged_table(dsn):
    plan, batch = simple(wkb=shapely.to_wkb(shapely.Point(1, 2))[:-1])
    with pytest.raises(GeoAssetsError, match="refused a value") as caught:
        stage(dsn, plan, ipc(batch.schema, batch), 2)
    assert "s1" not in str(caught.value), str(caught.value)
    assert "WKB structure does not match expected size! (line 1, column geom)" in str(caught.value)


def test_a_table_is_typed_keyed_indexed_and_commented(tmp_path, load, db):
    loaded = load(write(frame(SQUARE, Ünï=["x"]), tmp_path / "lots of land.gpkg", layer="Lots"), "typed")
    assert db.rows("select type, srid, coord_dimension from geometry_columns where f_table_name = 'typed'") == [
        ("MULTIPOLYGON", 4326, 2)
    ]
    assert db.rows("select column_name, data_type from information_schema.columns where table_name = 'typed' order by ordinal_position") == [
        ("gid", "bigint"), ("fid", "bigint"), ("uni", "text"), ("geom", "USER-DEFINED"),
    ]  # fmt: skip
    indexes = dict(db.rows("select indexname, indexdef from pg_indexes where tablename = 'typed'"))
    assert set(indexes) == {"typed_pkey", "typed_geom_idx"}
    assert "gist" in indexes["typed_geom_idx"]
    assert db.value("select pg_get_serial_sequence('vector.typed', 'gid')") == "vector.typed_gid_seq"
    assert db.value("select obj_description('vector.typed'::regclass)") == "lots of land.gpkg, layer Lots"
    assert db.value("select col_description('vector.typed'::regclass, 3)") == "Ünï"
    assert db.value("select reltuples from pg_class where oid = 'vector.typed'::regclass") == 1
    analysed = db.rows("select attname from pg_stats where schemaname = 'vector' and tablename = 'typed'")
    assert len(analysed) == 4
    assert loaded.tables[0].rows == 1


def test_values_survive_exactly(tmp_path, load, db):
    source = gpd.GeoDataFrame(
        {
            "id": np.array([2**63 - 1, 2**53 + 1, -(2**63)], dtype="int64"),
            "empty": ["", None, "x"],
            "select": ["a", "b", "c"],
            "Ünï côde": ["é", "漢", "🌍"],
            "gid": [7, 8, 9],
            "flag": [True, False, True],
        },
        geometry=gpd.points_from_xy([174.0, 175.0, -41.0], [-41.0, -42.0, 2.0]),
        crs=4326,
    )
    load(write(source, tmp_path / "odd.gpkg", layer="drop table; --"), "odd")
    assert db.rows("select * from vector.odd order by gid")[0][1:-1] == (1, 2**63 - 1, "", "a", "é", 7, True)
    assert db.rows("select id, empty, uni_code, gid_, flag from vector.odd order by gid") == [
        (2**63 - 1, "", "é", 7, True),
        (2**53 + 1, None, "漢", 8, False),
        (-(2**63), "x", "🌍", 9, True),
    ]


def test_integers_with_nulls_stay_integers(tmp_path, load, db):
    import pandas as pd

    load(write(points(2, n=pd.array([2**60 + 1, None], dtype="Int64")), tmp_path / "a.gpkg"), "nulls")
    assert db.rows("select n, pg_typeof(n)::text from vector.nulls order by gid") == [
        (2**60 + 1, "bigint"),
        (None, "bigint"),
    ]


def test_what_postgis_holds_is_what_geopandas_reads(load, db):
    load(NATURAL_EARTH, "ne")
    source = gpd.read_file(NATURAL_EARTH)
    geometry = shapely.from_wkb(
        [bytes(row[0]) for row in db.rows("select st_asbinary(geom) from vector.ne order by gid")]
    )
    assert shapely.equals(geometry, source.geometry.values).all()
    assert [row[0] for row in db.rows("select name from vector.ne order by gid")] == source["name"].tolist()
    assert db.value("select count(*) from vector.ne where not st_isvalid(geom)") == 0


def test_repaired_geometry_is_valid_to_postgis_and_null_is_kept(tmp_path, load, db):
    load(write(frame(BOWTIE, None, "POLYGON EMPTY"), tmp_path / "a.gpkg"), "repaired")
    assert db.rows("select st_isvalid(geom), st_area(geom) from vector.repaired order by gid") == [
        (True, 2.0),
        (None, None),
    ]


def test_heights_make_a_table_with_heights(tmp_path, load, db):
    load(write(frame("LINESTRING Z(0 0 1,1 1 2)"), tmp_path / "a.gpkg"), "high")
    assert db.rows(
        "select type, coord_dimension, st_astext(geom) from geometry_columns, vector.high where f_table_name = 'high'"
    ) == [("MULTILINESTRING", 3, "MULTILINESTRING Z ((0 0 1,1 1 2))")]


def test_a_layer_is_transformed_as_postgis_would(tmp_path, load, db):
    load(write(frame("POINT(173 -41)", "POINT(170 -45)"), tmp_path / "a.gpkg"), "moved", target_crs="EPSG:2193")
    assert db.value("select st_srid(geom) from vector.moved limit 1") == 2193
    assert (
        db.value(
            "select max(st_distance(geom, st_transform(st_setsrid(p, 4326), 2193))) from vector.moved, (values (1,"
            " st_point(173, -41)), (2, st_point(170, -45))) v(n, p) where gid = v.n"
        )
        < 1e-6
    )


def test_every_layer_of_a_source_becomes_a_table(tmp_path, load, db):
    path = write(points(3), tmp_path / "a.gpkg", layer="one")
    write(frame(SQUARE), path, layer="two")
    assert [(t.table, t.rows, t.geometry_type) for t in load(path, "several").tables] == [
        ("vector.several", 3, "POINT"),
        ("vector.several_1", 1, "MULTIPOLYGON"),
    ]


_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
_DATES = st.dates(dt.date(1, 1, 1), dt.date(9999, 12, 31))
_TIMES = st.datetimes()
_COLUMNS = {
    "bool": (pa.bool_(), st.booleans()),
    "i8": (pa.int8(), st.integers(-(2**7), 2**7 - 1)),
    "u16": (pa.uint16(), st.integers(0, 2**16 - 1)),
    "i32": (pa.int32(), st.integers(-(2**31), 2**31 - 1)),
    "i64": (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    "u64": (pa.uint64(), st.integers(0, 2**64 - 1)),
    "f32": (pa.float32(), st.floats(width=32, allow_nan=False)),
    "f64": (pa.float64(), st.floats(allow_nan=False)),
    "dec": (pa.decimal128(38, 9), st.decimals(-(10**28), 10**28, places=9)),
    "text": (pa.string(), _TEXT),
    "enum": (pa.dictionary(pa.int32(), pa.string()), _TEXT),
    "bytes": (pa.binary(), st.binary(max_size=20)),
    "date": (pa.date32(), _DATES),
    "time": (pa.time64("us"), st.times()),
    "ts": (pa.timestamp("us"), _TIMES),
    "tz": (pa.timestamp("us", "UTC"), _TIMES.map(lambda t: t.replace(tzinfo=dt.UTC))),
    "texts": (pa.list_(pa.string()), st.lists(_TEXT | st.none(), max_size=4)),
    "numbers": (pa.list_(pa.int64()), st.lists(st.integers(-(2**63), 2**63 - 1), max_size=4)),
    "nested": (
        pa.struct([("a", pa.int64()), ("b", pa.list_(pa.string()))]),
        st.fixed_dictionaries({"a": st.integers(-(2**63), 2**63 - 1), "b": st.lists(_TEXT, max_size=3)}),
    ),
}


@pytest.fixture(scope="module")
def session(dsn):
    with open_session(dsn) as session:
        yield session


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.fixed_dictionaries({name: st.none() | values for name, (_, values) in _COLUMNS.items()}),
        min_size=1,
        max_size=8,
    )
)
def test_every_supported_value_comes_back_from_postgresql_as_it_was(session, db, rows):
    wires = {name: wire_type(name, arrow) for name, (arrow, _) in _COLUMNS.items()}
    plan = plan_of(len(rows), **wires)
    arrays = [
        convert(pa.array([row[name] for row in rows], arrow), wires[name], Counter())
        for name, (arrow, _) in _COLUMNS.items()
    ]
    batch = pa.record_batch([*arrays, pa.array([POINT] * len(rows), pa.binary())], schema=wire_schema(plan.columns))
    stage(session, plan, ipc(batch.schema, batch), len(rows), table="rt")
    columns = ", ".join(f'"{c.name}"' + ("::double precision" if c.name == "f32" else "") for c in plan.columns)
    assert db.rows(f"select {columns} from vector_staging.rt__s1 order by gid") == [
        tuple(row[name] for name in _COLUMNS) for row in rows
    ]


def test_numeric_edges_come_back_exactly(dsn, db):
    plan = plan_of(4, d="decimal(76, 10)", e="decimal(5, 5)")
    d = [Decimal(0), Decimal("-0.0000000001"), Decimal("9" * 66 + "." + "9" * 10), Decimal(100000000)]
    e = [Decimal("0.00001"), Decimal("-0.99999"), Decimal(0), None]
    batch = pa.record_batch(
        [pa.array(d, arrow_type("decimal(76, 10)")), pa.array(e, arrow_type("decimal(5, 5)")), pa.array([POINT] * 4)],
        schema=wire_schema(plan.columns),
    )
    stage(dsn, plan, ipc(batch.schema, batch), 4, table="edges")
    assert db.rows("select d, e from vector_staging.edges__s1 order by gid") == list(zip(d, e, strict=True))
    db.run("drop table vector_staging.edges__s1")


def refused(code, dsn, *arguments, **options):
    with pytest.raises(GeoAssetsError) as caught:
        stage(dsn, *arguments, **options)
    assert caught.value.code == code, caught.value
    return str(caught.value)


def test_a_stream_of_another_schema_is_refused_before_its_first_row(dsn, db):
    plan, _ = simple()
    other = pa.schema([("a", pa.int64()), ("geom", pa.binary())])
    batch = pa.record_batch([[1], [POINT]], schema=other)
    assert "int64" in refused("SCHEMA_MISMATCH", dsn, plan, ipc(other, batch), 1)
    assert db.staged() == []


def test_a_stream_that_breaks_off_tells_what_befell_the_child(dsn, db):
    plan, batch = simple()
    body = ipc(batch.schema, batch).getvalue()

    def died():
        raise GeoAssetsError("SANDBOX_CRASHED", "the reader died")

    for cut in (0, 10, len(body) // 2, len(body) - 8, len(body)):
        with pytest.raises(GeoAssetsError) as caught:
            stage_table(dsn, plan, "a", BytesIO(body[:cut]), died, staging_suffix="s1", source="a.gpkg")
        assert caught.value.code == "SANDBOX_CRASHED"
        assert db.staged() == []


def test_a_stream_that_breaks_off_without_a_reason_is_our_fault(dsn, db):
    plan, batch = simple()
    body = ipc(batch.schema, batch).getvalue()
    assert "broke off" in refused("INTERNAL", dsn, plan, BytesIO(body[: len(body) // 2]), 2)
    assert db.staged() == []


def test_a_count_that_does_not_add_up_is_refused(dsn, db):
    plan, batch = simple()
    assert "3 rows were sent, 2 received and 2 stored" in refused(
        "SCHEMA_MISMATCH", dsn, plan, ipc(batch.schema, batch), 3
    )
    assert db.staged() == []


@pytest.fixture
def asked(monkeypatch):
    """The statements that a load executes one by one."""
    said, execute = [], Session.__call__

    def heard(session, statement):
        said.append(statement.as_string(None))
        return execute(session, statement)

    monkeypatch.setattr(Session, "__call__", heard)
    return said


@pytest.mark.parametrize(("inexact", "counts"), [(1 << 24, 0), (2, 1)], ids=["by_its_key", "where_that_is_not_exact"])
def test_the_rows_of_a_table_are_counted_by_its_key_as_long_as_that_is_exact(
    dsn, db, asked, monkeypatch, inexact, counts
):
    plan, batch = simple()
    monkeypatch.setattr(load_module, "_INEXACT_FLOAT4", inexact)
    assert stage(dsn, plan, ipc(batch.schema, batch), 2).rows == 2
    assert sum("count(*)" in statement for statement in asked) == counts
    db.run("drop table vector_staging.a__s1")


def test_the_rows_of_an_empty_table_are_counted(dsn, db, asked):
    plan, batch = simple()
    plan = replace(plan, feature_count=0)
    assert stage(dsn, plan, ipc(batch.schema, batch.slice(0, 0)), 0).rows == 0
    assert sum("count(*)" in statement for statement in asked) == 1
    assert db.value("insert into vector_staging.a__s1 (a) values (4) returning gid") == 1
    db.run("drop table vector_staging.a__s1")


def test_a_row_that_the_table_does_not_keep_is_missed(dsn, db, monkeypatch):
    plan, batch = simple()
    created = load_module._create

    def with_a_trigger(run, plan, name, source):
        created(run, plan, name, source)
        table = sql.Identifier("vector_staging", name)
        drops = "create function pg_temp.drops() returns trigger language plpgsql as 'begin return null; end'"
        when = (
            "create trigger drops before insert on {} for each row when (new.gid = 2) execute function pg_temp.drops()"
        )
        run.all_of([sql.SQL(drops), sql.SQL(when).format(table)])

    monkeypatch.setattr(load_module, "_create", with_a_trigger)
    said = refused("SCHEMA_MISMATCH", dsn, plan, ipc(batch.schema, batch), 2)
    assert "2 rows were sent, 2 received and 1 stored" in said
    assert db.staged() == []


@pytest.mark.parametrize(
    "wkb",
    [
        b"garbage",
        shapely.to_wkb(shapely.from_wkt("LINESTRING(0 0,1 1)")),
        shapely.to_wkb(shapely.Point(1, 2, 3), flavor="iso"),
        shapely.to_wkb(shapely.set_srid(shapely.Point(1, 2), 3857), include_srid=True),
    ],
    ids=["garbage", "line", "height", "srid"],
)
def test_a_geometry_of_another_type_is_refused_by_the_column(dsn, db, wkb):
    plan, batch = simple(wkb=wkb)
    answered = []
    with pytest.raises(GeoAssetsError, match="refused a value") as caught:
        stage_table(
            dsn, plan, "a", ipc(batch.schema, batch), lambda: answered.append(1), staging_suffix="s1", source="a.gpkg"
        )
    assert caught.value.error_class == "invalid"
    assert answered == [1]  # the child's answer was taken: its next call gets its own
    assert db.staged() == []


def test_a_batch_that_is_not_what_it_says_condemns_its_child_unasked_as_it_may_wait_to_send_more(dsn, db):
    plan = plan_of(1, t="string")
    batch = pa.record_batch(
        [pa.array([b"\xff\xfe"], pa.binary()).view(pa.string()), pa.array([POINT])], schema=wire_schema(plan.columns)
    )
    with pytest.raises(GeoAssetsError, match="UTF8") as caught:
        stage_table(
            dsn,
            plan,
            "a",
            ipc(batch.schema, batch),
            lambda: pytest.fail("it is asked"),
            staging_suffix="s1",
            source="a.gpkg",
        )
    assert caught.value.code == "SANDBOX_CRASHED"
    assert db.staged() == []


def patched(body, place, value, form="<q"):
    """A stream with another number in it."""
    at = body.index(place)
    return body[:at] + struct.pack(form, *value) + body[at + struct.calcsize(form) :]


def as_another_child(batch, **options):
    sink = BytesIO()
    with pa.ipc.new_stream(sink, batch.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_batch(batch)
    return sink.getvalue()


def body_of(batch):
    """The length of its message's body, of two columns without nulls."""
    return sum(
        buffer.size + -buffer.size % 8 for array in batch.columns for buffer in array.buffers() if buffer is not None
    )


BODY = struct.pack("<qq", 0, 80_000)  # of the first column with values: where they lie, and how many bytes


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda batch: as_another_child(batch, compression="zstd"), "compressed"),
        (lambda batch: as_another_child(batch, compression="lz4"), "compressed"),
        (lambda batch: as_another_child(batch, metadata_version=pa.ipc.MetadataVersion.V4), "version 3"),
        (lambda batch: as_another_child(batch, use_legacy_format=True), "no stream"),
        (
            lambda batch: patched(as_another_child(batch), struct.pack("<q", body_of(batch)), [2**40]),
            "1,099,511,627,776 bytes",
        ),
        (lambda batch: patched(as_another_child(batch), struct.pack("<q", body_of(batch)), [-8]), "-8 bytes"),
        (lambda batch: patched(as_another_child(batch), BODY, (0, 2**40), "<qq"), "1,099,51"),
        (lambda batch: patched(as_another_child(batch), BODY, (0, -(2**40)), "<qq"), "-1,099,51"),
        (
            lambda batch: (
                ipc(batch.schema, *[batch.slice(0, 1)] * 2).getvalue()[:-8] + b"\xff\xff\xff\xff\xf8\xff\xff\x7f"
            ),
            "bytes of itself",
        ),
        (lambda batch: as_another_child(pa.concat_batches([batch] * 4)), "80,000 rows"),
    ],
    ids=[
        "zstd",
        "lz4",
        "old compression",
        "old framing",
        "large",
        "negative",
        "shared bytes",
        "negative bytes",
        "metadata",
        "rows",
    ],
)
def test_a_stream_that_would_take_more_memory_than_its_bytes_condemns_its_child_unasked(dsn, db, make, said):
    plan, batch = simple(range(20_000))
    with pytest.raises(GeoAssetsError, match=said) as caught:
        stage_table(
            dsn,
            plan,
            "a",
            BytesIO(make(batch)),
            lambda: pytest.fail("it is asked"),
            staging_suffix="s1",
            source="a.gpkg",
        )
    assert caught.value.code == "SANDBOX_CRASHED"
    assert db.staged() == []


def test_a_message_that_arrow_refuses_condemns_its_child_unasked_as_it_may_wait_to_send_more(dsn, db):
    """Arrow says of most that they are an OSError, as if the pipe were at fault."""
    plan, batch = simple(range(20_000))
    body = ipc(batch.schema, batch).getvalue()

    def is_refused(altered):
        try:
            list(Batches.open(BytesIO(altered)))
        except StreamViolationError as error:
            return isinstance(error.__cause__, OSError)
        except EOFError:
            pass
        return False

    altered = (body[:place] + bytes([body[place] ^ 0x7F]) + body[place + 1 :] for place in range(2_000))
    bad = next(filter(is_refused, altered))
    with pytest.raises(GeoAssetsError, match="that Arrow refuses") as caught:
        stage_table(
            dsn, plan, "a", BytesIO(bad), lambda: pytest.fail("it is asked"), staging_suffix="s1", source="a.gpkg"
        )
    assert caught.value.code == "SANDBOX_CRASHED"
    assert db.staged() == []


def test_what_fails_in_our_own_process_ends_the_load_and_its_child_with_a_closed_pipe(dsn, db, monkeypatch):
    plan, batch = simple()
    file = ipc(batch.schema, batch)

    def fails(*_):
        raise ModuleNotFoundError("left out")
        yield

    def report():
        assert file.closed, "the child still waits for us to read"
        raise GeoAssetsError("INTERNAL", "BrokenPipeError")

    monkeypatch.setattr(incoming_module, "_numbered", fails)
    with pytest.raises(ModuleNotFoundError):
        stage_table(dsn, plan, "a", file, report, staging_suffix="s1", source="a.gpkg")
    assert db.staged() == []


def test_a_row_that_is_added_to_a_table_by_hand_gets_the_next_number(load, db, tmp_path):
    table = load(write(points(3, a=[1, 2, 3]), tmp_path / "a.gpkg"), "numbered").table
    assert db.value("insert into {t} (a) values (4) returning gid", t=table) == 4


def test_rejects_that_come_compressed_condemn_their_child_too(dsn, db):
    plan, batch = simple()
    rejects = reject_schema()
    attributes = pa.ExtensionArray.from_storage(pa.json_(), pa.array(["{}"]))
    bad = pa.record_batch([pa.array([1], pa.int64()), pa.array(["x"]), pa.array([POINT]), attributes], schema=rejects)
    stream = ipc(batch.schema, batch).getvalue() + as_another_child(bad, compression="zstd")
    with pytest.raises(GeoAssetsError, match="compressed") as caught:
        stage_table(
            dsn, plan, "a", BytesIO(stream), lambda: pytest.fail("it is asked"), staging_suffix="s1", source="a.gpkg"
        )
    assert caught.value.code == "SANDBOX_CRASHED"
    assert db.staged() == []


def test_a_stream_survives_no_byte_that_is_another(dsn):
    """Whatever is altered of what a message says of itself: what comes is a batch or one of the errors that
    are known.
    """
    _, batch = simple()
    body = ipc(batch.schema, batch).getvalue()
    for place in range(len(body)):
        for value in (0, 1, 0x7F, 0xFF):
            try:
                reader = Batches.open(BytesIO(body[:place] + bytes([value]) + body[place + 1 :]))
                for each in reader:
                    each.validate(full=True)
            except (StreamViolationError, EOFError):
                pass


#: A child that a file has taken over: all that it sends is compressed.
_COMPRESSES = """
import sys
import pyarrow as pa
from geo_assets.sandbox import child
plain = pa.ipc.new_stream
pa.ipc.new_stream = lambda sink, schema: plain(sink, schema, options=pa.ipc.IpcWriteOptions(compression="zstd"))
child.main(int(sys.argv[1]), int(sys.argv[2]))
"""


def test_a_child_that_compresses_its_stream_is_ended(tmp_path, dsn, db, monkeypatch):
    monkeypatch.setattr(start_module, "_CHILD", ("-P", "-c", _COMPRESSES))
    with pool_module.SandboxPool(tmp_path / "scratch", permissive=True) as pool, pool.workspace() as folder:
        source = write(points(3, a=[1, 2, 3]), Path(tempfile.mkdtemp(dir=folder)) / "a.gpkg")
        (plan,) = pool.call(
            "geo_assets.vector.reader.inspect:inspect", InspectRequest(source=str(source)), InspectReport
        ).layers
        child = pool._lanes["0"]._child.process
        with (
            pytest.raises(GeoAssetsError, match="compressed") as caught,
            pool.stream(
                "geo_assets.vector.reader.stream:stream", StreamRequest(source=str(source), plan=plan)
            ) as stream,
        ):
            stage_table(
                dsn, plan, "a", stream.file, lambda: stream.report(StreamReport), staging_suffix="s1", source="a.gpkg"
            )
        assert caught.value.code == "SANDBOX_CRASHED"
        assert child.poll() is not None
    assert db.staged() == []


def test_a_feature_too_large_for_a_message_is_refused_by_its_reader(tmp_path, look, private, monkeypatch):
    monkeypatch.setattr(stream_module, "_LARGEST_ROW", 1000)
    monkeypatch.setattr(stream_module, "BATCH_BYTES", 500)
    path = private(
        write(
            frame("LINESTRING(0 0,1 1)", shapely.to_wkt(shapely.Point(0, 0).buffer(1, 40).exterior)),
            tmp_path / "a.gpkg",
        )
    )
    plan = look(path).layers[0]
    with pytest.raises(GeoAssetsError, match="1,000 are allowed") as caught:
        send(path, plan)
    assert caught.value.code == "TOO_LARGE"


def test_a_srid_that_postgis_does_not_know_is_refused(dsn, db):
    plan = plan_of(1, srid=999_998)
    batch = pa.record_batch([[POINT]], schema=wire_schema(plan.columns))
    refused("INVALID_CRS", dsn, plan, ipc(batch.schema, batch), 1)
    assert db.staged() == []


def test_a_leftover_of_the_same_attempt_is_replaced(dsn, db):
    plan, batch = simple()
    stage(dsn, plan, ipc(batch.schema, batch), 2)
    stage(dsn, plan, ipc(batch.schema, batch), 2)
    assert db.staged() == ["a__s1"]
    db.run("drop table vector_staging.a__s1")


@pytest.mark.parametrize("table", ["", "A", "a b", 'a"; drop table x', "1a", "x" * 51, "vector.a"])
def test_only_plain_table_names_are_taken(dsn, table):
    plan, batch = simple()
    refused("INVALID_PARAMETERS", dsn, plan, ipc(batch.schema, batch), 2, table=table)


def test_a_reader_may_select_once_it_is_said_so(dsn, db):
    plan, batch = simple()
    stage(dsn, plan, ipc(batch.schema, batch), 2, options=StageOptions(reader_role="a_reader"))
    assert db.value("select has_table_privilege('a_reader', 'vector_staging.a__s1', 'select')")
    assert not db.value("select has_table_privilege('a_reader', 'vector_staging.a__s1', 'insert')")
    db.run("drop table vector_staging.a__s1")


def test_one_session_serves_several_tables_also_after_a_failure(dsn, db):
    plan, batch = simple()
    with open_session(dsn) as session:
        stage(session, plan, ipc(batch.schema, batch), 2, table="a")
        refused("SCHEMA_MISMATCH", session, plan, ipc(batch.schema, batch), 3, table="b")
        stage(session, plan, ipc(batch.schema, batch), 2, table="c")
    assert sorted(db.staged()) == ["a__s1", "c__s1"]
    db.run("drop table vector_staging.a__s1, vector_staging.c__s1")


def test_a_value_that_the_driver_refuses_is_no_passing_fault(dsn, db):
    plan = plan_of(1, t="timestamp[us]")
    first = pa.array([-(2**63)], pa.int64()).view(pa.timestamp("us"))
    batch = pa.record_batch([first, pa.array([POINT], pa.binary())], schema=wire_schema(plan.columns))
    assert "refused a value" in refused("VECTOR_UNSUPPORTED_TYPE", dsn, plan, ipc(batch.schema, batch), 1)
    assert db.staged() == []


def test_a_database_that_is_away_is_a_passing_fault():
    plan, batch = simple()
    assert refused("DATABASE_UNAVAILABLE", "postgresql://nobody@127.0.0.1:1/none", plan, ipc(batch.schema, batch), 2)


@pytest.mark.parametrize(("ending", "driver"), [("kml", "KML"), ("gml", "GML"), ("mif", "MapInfo File")])
def test_a_format_that_gdal_reads_whole_is_read_once_to_be_inspected_and_loaded(
    tmp_path, load, db, monkeypatch, ending, driver
):
    path = tmp_path / f"a.{ending}"
    points(20).to_file(path, driver=driver, engine="pyogrio", **({"FORMAT": "MIF"} if ending == "mif" else {}))
    opened = []

    def counted(module, name):
        function = getattr(module, name)

        def counting(file, **arguments):
            opened.append(name)
            return function(file, **arguments)

        monkeypatch.setattr(module, name, counting)

    counted(pyogrio.raw, "open_arrow")
    counted(pyogrio, "list_layers")
    counted(pyogrio, "read_info")
    loaded = load(path, f"read_once_{ending}")
    assert opened == ["open_arrow", "read_info"]  # its rows; which layer, of which driver: of a KML by a small copy
    assert db.value("select count(*) from {t}", t=loaded.table) == 20


def test_geometry_that_is_written_as_text_in_a_table_is_parsed_once(tmp_path, load, db, monkeypatch):
    path = tmp_path / "a.csv"
    path.write_text(
        "name,WKT\na,POINT (7 50)\nb,POINT (8\nc,\nd,SRID=4326;POINT (9 51)\ne,f,g\nh,POINT (10 52)\n", encoding="utf-8"
    )
    asked, place = [], Placing.place

    def counting(placing, batch):
        asked.append(len(batch))
        return place(placing, batch)

    monkeypatch.setattr(Placing, "place", counting)
    loaded = load(path, "parsed_once", source_crs="EPSG:4326")
    assert asked == [5]
    assert db.value("select string_agg(name, '' order by name) from {t}", t=loaded.table) == "acdh"  # c has no place
