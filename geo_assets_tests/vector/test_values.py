"""No value of a file becomes another one in the table: it is the same, or NULL and counted, or the feature is rejected
with a reason.
"""

import datetime as dt
import json
import sqlite3
import struct
import tracemalloc
from decimal import Decimal

import geopandas as gpd
import numpy as np
import pyarrow as pa
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from geo_assets.errors import GeoAssetsError
from geo_assets.vector.reader.declared import typed
from geo_assets.vector.reader.findings import Findings
from geo_assets_tests.vector.builders import altered, points, shapefile_parts, sqlite, write, zipped
from geo_assets_tests.vector.conftest import send

UTC = dt.UTC


@pytest.fixture
def rows(private, look):
    """(rows by column name, all that is said, the plan, the report) of a file of one layer, as it is sent."""

    def read(path, **request):
        report = look(path, thorough=False, **request)
        plan = report.layers[0]
        file, sent = send(private(path), plan)
        return (
            pa.ipc.open_stream(file).read_all().to_pylist(),
            " ".join([*report.warnings, *plan.warnings, *sent.warnings]),
            plan,
            sent,
        )

    return read


def values(rows, column):
    return [row[column] for row in rows]


def geojson(path, *features, **members):
    """Features are (geometry, properties) or whole."""
    whole = [{"type": "Feature", "geometry": f[0], "properties": f[1]} if isinstance(f, tuple) else f for f in features]
    path.write_text(json.dumps({"type": "FeatureCollection", **members, "features": whole}))
    return path


def place(*coordinates):
    return {"type": "Point", "coordinates": list(coordinates)}


def table(path, columns, *stored, key="fid"):
    """A GeoPackage whose layer `t` has these columns, in which SQLite stores whatever it is given."""
    write(points(1), path, layer="seed")
    with sqlite3.connect(path) as connection:
        connection.execute(f"create table t ({key} integer primary key, geom blob, {', '.join(columns)})")
        connection.execute(
            "insert into gpkg_contents (table_name, identifier, data_type, srs_id) values ('t', 't', 'features', 4326)"
        )
        connection.execute("insert into gpkg_geometry_columns values ('t', 'geom', 'POINT', 4326, 0, 0)")
        blob = b"GP\x00\x01" + struct.pack("<i", 4326) + shapely.to_wkb(shapely.Point(7, 51))
        for row in stored:
            connection.execute(f"insert into t values (?, ?{', ?' * (len(row) - 1)})", (row[0], blob, *row[1:]))
    connection.close()
    return path


def dbase(path, fields, *records, declared=None, page=0, marks=None):
    """A shapefile of points whose attributes are these bytes; fields are (name, kind, width, decimals)."""
    write(points(len(records)), path)
    width = 1 + sum(f[2] for f in fields)
    head = struct.pack("<BBBBIHH20x", 3, 124, 1, 1, len(records), 32 + 32 * len(fields) + 1, width)
    head = head[:29] + bytes([page]) + head[30:]
    described = b"".join(
        struct.pack("<11sc4xBB14x", name.encode(), kind.encode(), size % 256, decimals or size // 256)
        for name, kind, size, decimals in fields
    )
    body = b"".join(
        (b"*" if marks and marks[i] else b" ")
        + b"".join(value.ljust(f[2]) for value, f in zip(record, fields, strict=True))
        for i, record in enumerate(records)
    )
    path.with_suffix(".dbf").write_bytes(head + described + b"\r" + body + b"\x1a")
    path.with_suffix(".cpg").unlink(missing_ok=True)
    if declared is not None:
        path.with_suffix(".cpg").write_text(declared)
    return path


# -- ids ---------------------------------------------------------------------------------------------------------------
def test_the_key_of_a_geopackage_is_a_column_that_conditions_and_lists_know(tmp_path, rows):
    path = table(tmp_path / "a.gpkg", ["name text"], (90210001, "a"), (90210005, "b"), key="parcel_id")
    found, _, plan, _ = rows(path, layers=("t",))
    assert values(found, "parcel_id") == [90210001, 90210005]
    assert [c.source_name for c in plan.columns] == ["parcel_id", "name"]
    assert values(rows(path, layers=("t",), where="parcel_id > 90210001")[0], "name") == ["b"]
    assert list(rows(path, layers=("t",), columns=("name",))[0][0]) == ["name", "geom"]


def test_the_objectid_of_a_geodatabase_is_a_column(tmp_path, look):
    folder = write(points(2, a=[5, 6]), tmp_path / "a.gdb", layer="t")
    from geo_assets_tests.vector.builders import zip_tree

    assert [c.name for c in look(zip_tree(tmp_path / "a.zip", folder)).layers[0].columns][:1] == ["objectid"]


@pytest.mark.parametrize(
    ("idents", "kind", "kept"),
    [
        ([4711, 4712, 4711], "integer", [4711, 4712, 4711]),
        (["a.1", "a.2", None], "text", ["a.1", "a.2", None]),
        ([2**40, 2, 3], "bigint", [2**40, 2, 3]),
        (["2024-01-01", "x", "007"], "text", ["2024-01-01", "x", "007"]),
        ([1, "b", 2], "text", ["1", "b", "2"]),
    ],
)
def test_the_ids_of_geojson_are_a_column_also_where_they_repeat_or_are_text(tmp_path, rows, idents, kind, kept):
    features = [
        {"type": "Feature", "geometry": place(7, 51), "properties": {"n": 1}} | ({} if ident is None else {"id": ident})
        for ident in idents
    ]
    found, _, plan, _ = rows(geojson(tmp_path / "a.geojson", *features))
    assert plan.columns[0].sql_type == kind
    assert values(found, "id") == kept


def test_an_id_beside_a_property_of_that_name_has_a_column_of_its_own(tmp_path, rows):
    feature = {"type": "Feature", "id": "way/1", "geometry": place(7, 51), "properties": {"id": 9}}
    found, _, _, _ = rows(geojson(tmp_path / "a.geojson", feature))
    assert (found[0]["id"], found[0]["feature_id"]) == (9, "way/1")


# -- dates and times ---------------------------------------------------------------------------------------------------
def test_a_geopackage_has_no_date_that_its_author_did_not_write(tmp_path, rows):
    path = table(
        tmp_path / "a.gpkg", ["d date", "t datetime"],
        (1, "2022/9/8", "2018/02/13 23:59:59+01"), (2, "08.09.2022", "2022-09-08T12:29:29.123456Z"), (3, "2022-02-30", "2022-02-30T00:00:00Z"),
        (4, 20220908, 1662640169), (5, "2024-02-29", "2022-09-08T12:29:29"), (6, "1900-01-01", None), (7, "", "now"),
    )  # fmt: skip
    found, said, _, _ = rows(path, layers=("t",))
    assert values(found, "d") == [
        dt.date(2022, 9, 8),
        None,
        None,
        None,
        dt.date(2024, 2, 29),
        dt.date(1900, 1, 1),
        None,
    ]
    assert values(found, "t") == [
        dt.datetime(2018, 2, 13, 22, 59, 59, tzinfo=UTC), dt.datetime(2022, 9, 8, 12, 29, 29, 123456, tzinfo=UTC), None, None,
        dt.datetime(2022, 9, 8, 12, 29, 29, tzinfo=UTC), None, None,
    ]  # fmt: skip
    assert "'d': 4 values not a date, now NULL: '08.09.2022', '2022-02-30', '20220908', ''" in said
    assert "'t': 3 values not a time, now NULL: '2022-02-30T00:00:00Z', '1662640169', 'now'" in said
    assert "'t': 1 value without an offset from UTC, taken for UTC" in said


def test_a_dbf_has_no_date_that_its_author_did_not_write(tmp_path, rows):
    path = dbase(
        tmp_path / "a.shp", [("D", "D", 8, 0), ("L", "L", 1, 0)],
        (b"20240230", b"Y"), (b"00000000", b"?"), (b"        ", b" "), (b"19000100", b"1"), (b"20240229", b"n"), (b"2024-2-9", b"F"),
    )  # fmt: skip
    found, said, _, _ = rows(path)
    assert values(found, "d") == [None, None, None, None, dt.date(2024, 2, 29), None]
    assert values(found, "l") == [True, None, None, None, False, False]
    assert "'D': 3 values not a date, now NULL: '20240230', '19000100', '2024-2-9'" in said
    assert "'L': 1 value neither T, F, Y nor N, now NULL: '1'" in said


def test_instants_stay_apart_and_a_time_without_offset_among_them_is_counted(tmp_path, rows):
    times = [
        "2024-03-01T10:00:00+02:00",
        "2024-03-01T10:00:00.999999Z",
        "2024-03-01T10:00:00",
        "2024-07-01T10:00:00-05:00",
    ]
    found, said, plan, _ = rows(geojson(tmp_path / "a.geojson", *((place(7, 51), {"m": t}) for t in times)))
    assert plan.columns[0].sql_type == "timestamptz"
    assert [t and t.isoformat() for t in values(found, "m")] == [
        "2024-03-01T08:00:00+00:00", "2024-03-01T10:00:00.999999+00:00", None, "2024-07-01T15:00:00+00:00",
    ]  # fmt: skip
    assert "'m': 1 value without the offset from UTC that the others have, now NULL: '2024-03-01T10:00:00'" in said


@pytest.mark.parametrize(
    ("written", "kind"),
    [
        (["2024-03-01T10:00:00", "2024-03-01T10:00:00.000001"], "timestamp"),
        (["2024-03-01T10:00:00", "2024-03-01T11:00:00", "2024-03-01T10:00:00Z"], "text"),
        (["2024-02-30", "2024-03-01"], "text"),
        (["2024-02-29", "2024-02-29T10:00:00Z"], "text"),
        (["08.09.2022", "09.09.2022"], "text"),
        (["10:00:00", "23:59:59.5"], "time"),
        (["20220908", "20220909"], "text"),
    ],
)
def test_text_is_a_time_only_if_every_value_is_one_and_stays_as_it_is_otherwise(tmp_path, rows, written, kind):
    found, _, plan, _ = rows(geojson(tmp_path / "a.geojson", *((place(7, 51), {"m": t}) for t in written)))
    assert plan.columns[0].sql_type == kind
    if kind == "text":
        assert values(found, "m") == written


def test_a_flatgeobuf_keeps_the_offsets_of_its_times(tmp_path, rows):
    path = write(points(2, m=["2024-03-01T10:00:00+02:00", "2024-07-01T10:00:00-05:00"]), tmp_path / "a.geojson")
    gpd.read_file(path)
    import pyogrio

    frame = points(2)
    times = pa.array(["2024-03-01T10:00:00+02:00", "2024-07-01T10:00:00-05:00"])
    schema = pa.schema(
        [pa.field("m", pa.string(), metadata={"GDAL:OGR:type": "DateTime"}), pa.field("geometry", pa.binary())]
    )
    batch = pa.record_batch([times, pa.array(shapely.to_wkb(frame.geometry.values))], schema=schema)
    pyogrio.write_arrow(
        pa.Table.from_batches([batch]),
        tmp_path / "a.fgb",
        driver="FlatGeobuf",
        geometry_type="Point",
        geometry_name="geometry",
        crs="EPSG:4326",
    )
    found, _, plan, _ = rows(tmp_path / "a.fgb")
    assert plan.columns[0].sql_type == "timestamptz"
    assert {t.isoformat() for t in values(found, "m")} == {"2024-03-01T08:00:00+00:00", "2024-07-01T15:00:00+00:00"}


# -- numbers -----------------------------------------------------------------------------------------------------------
def test_what_sqlite_stores_in_a_column_of_numbers_is_a_number_or_null(tmp_path, rows):
    path = table(
        tmp_path / "a.gpkg", ["i integer", "r real", "m mediumint", "b boolean", "s smallint"],
        (1, "N/A", "12,5", 5_000_000_000, 2, 1), (2, "12abc", "abc", 1, 1, 70_000), (3, 7, 1.5, 2, 0, -3), (4, 3.7, 1, 3, "true", None),
    )  # fmt: skip
    found, said, _, _ = rows(path, layers=("t",))
    assert values(found, "i") == [None, None, 7, None]
    assert values(found, "r") == [None, None, 1.5, 1.0]
    assert values(found, "m") == [None, 1, 2, 3]
    assert values(found, "b") == [None, True, False, None]
    assert values(found, "s") == [1, None, -3, None]
    assert "'i': 3 values not an integer that the column can hold, now NULL: 'N/A', '12abc', '3.7'" in said
    assert "'m': 1 value" in said
    assert "'5000000000'" in said


def test_a_column_of_a_geopackage_that_gdal_does_not_read_is_named_with_its_type(tmp_path, rows):
    path = table(
        tmp_path / "a.gpkg",
        ["name text", "Code varchar(20)", "price decimal(10,2)", "second POINT", "qty numeric"],
        (1, "a", "x-007", 1.5, None, 2),
    )
    found, said, _, _ = rows(path, layers=("t",))
    assert found[0].keys() == {"fid", "name", "qty", "geom"}
    assert "left out: 'Code' (varchar(20)), 'price' (decimal(10,2)), 'second' (POINT); declare them TEXT" in said
    assert "Field format" not in said


def test_of_columns_that_gdal_reads_none_is_said_to_be_left_out(tmp_path, rows):
    columns = ["name text", "n integer", "r real", "g integer generated always as (n + 1)", "b blob", "d date"]
    path = table(tmp_path / "a.gpkg", columns[:3])
    altered(path, "drop table t", f"create table t (fid integer primary key, geom blob, {', '.join(columns)})")
    altered(
        path,
        (
            "insert into t (fid, geom, n) values (1, ?, 7)",
            (b"GP\x00\x01" + bytes(4) + shapely.to_wkb(shapely.Point(7, 51)),),
        ),
    )
    found, said, _, _ = rows(path, layers=("t",))
    assert found[0].keys() >= {"fid", "name", "n", "r", "b", "d", "geom"}
    assert "left out" not in said


def test_what_stands_in_a_dbf_is_the_number_or_null(tmp_path, rows):
    path = dbase(
        tmp_path / "a.shp", [("I", "N", 9, 0), ("R", "N", 12, 3), ("F", "F", 12, 3)],
        (b"8.401E+8", b"1.5E+3", b"12,5"), (b"N/A", b"abc", b"-.5"), (b"     12", b"1e400", b"+7."), (b"****", b"", b"1.25"), (b"3.7", b"nan", b"0"),
    )  # fmt: skip
    found, said, _, _ = rows(path)
    assert values(found, "i") == [840100000, None, 12, None, None]
    assert values(found, "f") == [None, -0.5, 7.0, 1.25, 0.0]
    assert values(found, "r") == [1500.0, None, None, None, None]
    assert "'R': 3 values not a number, now NULL: 'abc', '1e400', 'nan'" in said
    assert "'I': 2 values not an integer that the column can hold, now NULL: 'N/A', '3.7'" in said
    assert "'F': 1 value not a number, now NULL: '12,5'" in said


def test_a_time_of_mapinfo_that_no_clock_shows_is_null_and_counted(tmp_path, rows):
    path = tmp_path / "a.mif"
    path.write_text(
        'Version 300\nCharset "WindowsLatin1"\nDelimiter ","\nCoordSys Earth Projection 1, 104\nColumns 1\n  t Time\n'
        "Data\n\nPoint 7 51\nPoint 8 51\nPoint 9 51\nPoint 7 52\n"
    )
    path.with_suffix(".mid").write_text("250000000\n120000000\n\n240000000\n")
    sent, said, plan, _ = rows(path)
    assert (values(sent, "t"), plan.columns[0].sql_type) == ([None, dt.time(12), None, None], "time")
    assert "'t': 2 values not a time, now NULL: '250000000', '240000000'" in said
    assert [row["t"] for row in rows(path, where="t IS NOT NULL")[0]] == [dt.time(12)]


def test_integers_of_many_digits_keep_them_all(tmp_path, rows):
    path = dbase(
        tmp_path / "a.shp", [("P", "N", 19, 0), ("Q", "N", 20, 0), ("X", "N", 19, 0)],
        (b"1234567890123456789", b"12345678901234567891", b"1.5"), (b"1234567890123456788", b"-2345678901234567892", b"2"), (b"", b"8.401E+10", b""),
    )  # fmt: skip
    found, _, plan, _ = rows(path)
    assert [c.sql_type for c in plan.columns] == ["numeric(19,0)", "numeric(20,0)", "double precision"]
    assert values(found, "p") == [1234567890123456789, 1234567890123456788, None]
    assert values(found, "q") == [12345678901234567891, -2345678901234567892, 84010000000]
    assert values(found, "x") == [1.5, 2.0, None]


def test_fractions_of_a_dbf_keep_digits_that_a_double_does_not_hold(tmp_path, rows):
    path = dbase(
        tmp_path / "a.shp",
        [("A", "N", 20, 5), ("Q", "N", 24, 15), ("E", "F", 19, 11), ("X", "N", 20, 5), ("S", "N", 18, 16)],
        (b"12345678901234.12345", b"123.456000000000003", b"1.23456789012e+003", b"12345678901234.12345", b"0.1234567890123457"),
        (b"-1.5", b"1234567.123456788947806", b"12345.12345678901", b"1e3", b"1.5000000000000000"),
        (b"N/A", b"0.000000000000001", b"", b"2", b""),
    )  # fmt: skip
    found, said, plan, _ = rows(path)
    assert [c.sql_type for c in plan.columns] == ["numeric(19,5)", *["double precision"] * 4]
    assert values(found, "a") == [Decimal("12345678901234.12345"), Decimal("-1.5"), None]
    assert values(found, "q") == [123.456, 1234567.123456789, 1e-15]
    assert values(found, "e") == [1234.56789012, 12345.12345678901, None]
    assert "'A': 1 value not a number, now NULL: 'N/A'" in said


def test_a_number_that_fills_its_field_of_a_dbf_without_a_point_is_held_beside_fractions(tmp_path, rows):
    """GDAL writes so what is too large for the field: the digits that there is room for."""
    records = [(b"100000000000000005250476",), (b"0.100000000000000",), (b"-3.5",)]
    found, _, plan, _ = rows(dbase(tmp_path / "a.shp", [("Q", "N", 24, 15)], *records))
    assert plan.columns[0].sql_type == "numeric(39,15)"
    assert values(found, "q") == [Decimal(100000000000000005250476), Decimal("0.1"), Decimal("-3.5")]


def test_text_of_a_dbf_that_is_cut_at_a_nul_is_counted(tmp_path, rows):
    records = [(b"x\0y",), (b"padded\0\0",), (b"blank\0  ",), (b"\0",), (b"plain",)]
    found, said, _, _ = rows(dbase(tmp_path / "a.shp", [("T", "C", 10, 0)], *records))
    assert values(found, "t") == ["x", "padded", "blank", None, "plain"]
    assert "'T': 1 value cut at a NUL character: 'x\\x00y'" in said


def test_what_gdal_warns_of_is_said_without_our_path_to_the_file(tmp_path, rows):
    path = dbase(tmp_path / "some lots.shp", [("A", "C", 5, 0)], (b"1",), (b"2",))
    shell = [(0, 0), (0, 5), (5, 5), (5, 0), (0, 0)]
    hole = [(x + 10, y + 10) for x, y in reversed(shell)]  # of no shell
    rings = b"".join(struct.pack("<2d", *vertex) for vertex in shell + hole)
    record = struct.pack("<I4d4I", 5, 0, 0, 15, 15, 2, 10, 0, 5) + rings
    head = struct.pack(">7I", 9994, 0, 0, 0, 0, 0, 0)[:24]
    sizes = (50 + 2 * (4 + len(record) // 2), 50 + 2 * 4)
    for ending, size in zip((".shp", ".shx"), sizes, strict=True):
        body = b"".join(
            struct.pack(">2I", i + 1, len(record) // 2) + record
            if ending == ".shp"
            else struct.pack(">2I", 50 + i * (4 + len(record) // 2), len(record) // 2)
            for i in range(2)
        )
        bounds = struct.pack("<2I8d", 1000, 5, 0, 0, 15, 15, 0, 0, 0, 0)
        path.with_suffix(ending).write_bytes(head + struct.pack(">I", size) + bounds + body)
    _, said, _, _ = rows(path)
    assert "warning of GDAL: 'it contains polygon(s) with rings with invalid winding order" in said, said
    assert "/" not in said


def test_an_integer_that_a_double_cannot_hold_is_exact_also_beside_a_fraction(tmp_path, rows):
    numbers = [
        {"a": 2**53 + 1, "b": 2**64 - 1, "c": 1},
        {"a": 1.5, "b": 1, "c": 2.5},
        {"a": -0.25, "b": None, "c": 10**40},
    ]
    found, _, plan, _ = rows(geojson(tmp_path / "a.geojson", *((place(7, 51), n) for n in numbers)))
    assert [c.sql_type for c in plan.columns] == ["numeric(18,2)", "numeric(20,0)", "numeric(42,1)"]
    assert values(found, "a") == [Decimal(2**53 + 1), Decimal("1.5"), Decimal("-0.25")]
    assert values(found, "b") == [2**64 - 1, 1, None]
    assert values(found, "c") == [1, Decimal("2.5"), 10**40]


@pytest.mark.parametrize(
    ("written", "kind", "expected"),
    [
        (["1e999", "1.5", "-1e999"], "double precision", [None, 1.5, None]),
        (["[1e999, 2]", "[1.5]"], "double precision[]", [[None, 2], [1.5]]),
        (["9007199254740993", "1e999", "1.5"], "text", ["9007199254740993", None, "1.5"]),
    ],
)
def test_a_number_of_geojson_that_a_double_cannot_hold_is_null_and_counted(tmp_path, rows, written, kind, expected):
    path = geojson(tmp_path / "a.geojson", *((place(7, 51), {"a": f"@{i}"}) for i in range(len(written))))
    text = path.read_text()
    for i, number in enumerate(written):
        text = text.replace(f'"@{i}"', number)
    path.write_text(text)
    found, said, plan, _ = rows(path)
    assert (plan.columns[0].sql_type, values(found, "a")) == (kind, expected)
    assert "not a number, now NULL: 'inf'" in said


@pytest.mark.parametrize(
    ("number", "kind", "expected"),
    [
        (1e30, "numeric(31,0)", [2**53 + 1, 10**30, None]),
        (-1e30, "numeric(31,0)", [2**53 + 1, -(10**30), None]),
        (1e300, "text", ["9007199254740993", "1e+300", None]),
    ],
)
def test_a_large_integer_of_geojson_is_exact_also_beside_a_larger_fraction(tmp_path, rows, number, kind, expected):
    numbers = ({"a": 2**53 + 1}, {"a": number}, {"a": None})
    found, _, plan, _ = rows(geojson(tmp_path / "a.geojson", *((place(7, 51), each) for each in numbers)))
    assert (plan.columns[0].sql_type, values(found, "a")) == (kind, expected)


def test_text_in_json_stays_text_and_a_number_a_number(tmp_path, rows):
    features = [
        (place(7, 51), {"j": value, "m": mixed})
        for value, mixed in (("42", "42"), ({"a": 1}, 42), (42, True), (None, None), ("null", 1.5))
    ]
    found, _, plan, _ = rows(geojson(tmp_path / "a.geojson", *features))
    assert [c.sql_type for c in plan.columns] == ["jsonb", "text"]
    assert [None if v is None else json.loads(v) for v in values(found, "j")] == ["42", {"a": 1}, 42, None, "null"]
    assert values(found, "m") == ["42", "42", "true", None, "1.5"]


# -- geometry ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("lines", [False, True])
def test_a_broken_geometry_of_geojson_is_a_reject_with_a_reason_and_no_null(tmp_path, rows, lines):
    good = [place(7, 51), None, place(7, 51, 300)]
    bad = {
        "coordinates are not numbers": [place("7", "51"), place(None, 51), place(True, 51)],
        "unknown geometry type 'point'": [{"type": "point", "coordinates": [7, 51]}],
        "coordinates are nested wrongly for their type": [
            {"type": "Polygon", "coordinates": [[7, 51], [8, 51], [8, 52], [7, 51]]}, {"type": "Point", "coordinates": [[7, 51]]},
            {"type": "LineString", "coordinates": 7}, {"type": "GeometryCollection"}, {"type": "Point"},
        ],
        "a position with fewer than two coordinates": [place(7), {"type": "LineString", "coordinates": [[1, 2], [3]]}],
        "empty geometry": [place(), {"type": "Polygon", "coordinates": []}],
    }  # fmt: skip
    features = [
        {"type": "Feature", "properties": {}, "geometry": g}
        for g in [*good, *(g for some in bad.values() for g in some)]
    ]
    path = tmp_path / f"a.{'geojsonl' if lines else 'geojson'}"
    if lines:
        path.write_text("\n".join(map(json.dumps, features)))
    else:
        geojson(path, *features, "no feature")
        bad["not a GeoJSON feature"] = [None]
    found, _, plan, report = rows(path)
    assert report.rejected == plan.rejected_by_reason == {reason: len(some) for reason, some in bad.items()}
    assert [None if g is None else shapely.from_wkb(g).wkt for g in values(found, "geom")] == [
        "POINT Z (7 51 0)",
        None,
        "POINT Z (7 51 300)",
    ]


def test_every_geometry_of_geojson_is_what_an_independent_reader_sees(tmp_path, rows):
    wkts = [
        "POINT (1 2)", "MULTIPOINT ((1 2), (3 4))", "LINESTRING (0 0, 1 1)", "MULTILINESTRING ((0 0, 1 1), (2 2, 3 3))",
        "POLYGON ((0 0, 4 0, 4 4, 0 0), (1 .5, 2 .5, 2 1, 1 .5))", "MULTIPOLYGON (((0 0, 1 0, 1 1, 0 0)), ((5 5, 6 5, 6 6, 5 5)))",
        "GEOMETRYCOLLECTION (POINT (1 2), LINESTRING (0 0, 1 1))", "POINT Z (1 2 3)", "POLYGON Z ((0 0 1, 4 0 2, 4 4 3, 0 0 1))",
    ]  # fmt: skip
    from geo_assets.vector.reader.geojson_wkb import to_wkb

    for wkt in wkts:
        geometry = shapely.from_wkt(wkt)
        assert shapely.from_wkb(to_wkb(json.loads(shapely.to_geojson(geometry)))).equals_exact(
            geometry, 0, normalize=False
        )
        assert shapely.get_coordinate_dimension(shapely.from_wkb(to_wkb(json.loads(shapely.to_geojson(geometry))))) == (
            3 if " Z " in wkt else 2
        )


def test_a_crs_that_comes_after_the_features_counts_too(tmp_path, rows):
    path = tmp_path / "a.geojson"
    feature = {"type": "Feature", "properties": {}, "geometry": place(400000, 5700000)}
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::25832"}}
    path.write_text(json.dumps({"features": [feature] * 3, "crs": crs, "type": "FeatureCollection"}))
    assert rows(path)[2].srid == 25832


# -- text --------------------------------------------------------------------------------------------------------------
NAMES = [("N", "C", 30, 0)]


@pytest.mark.parametrize(
    ("declared", "page", "encoding", "text", "said"),
    [
        ("1252", 0, "utf-8", "Valle del Árrago", "its text is UTF-8"),
        ("UTF-8", 0, "cp1252", "Málaga", "read as Windows-1252"),
        ("ANSI 1252", 0, "cp1252", "Málaga – €", ""),
        ("Windows 1252", 0, "cp1252", "Málaga – €", ""),
        ("8859_1", 0, "latin-1", "Málaga", ""),
        ("88592", 0, "iso8859-2", "Žluťoučký", ""),
        ("ANSI 1250", 0, "cp1250", "Žluťoučký", ""),
        ("system", 0, "cp1252", "Málaga", "which is no encoding"),
        ("system", 0, "utf-8", "Málaga", ""),
        (None, 0xC8, "cp1250", "Žluťoučký", ""),
        (None, 0x7D, "cp1255", "שלום", ""),
        (None, 0x7E, "cp1256", "سلام", ""),
        (None, 0x98, "mac-greek", "Ελλάδα", ""),
        (None, 0x97, "mac-latin2", "Žluťoučký", ""),
        ("1258", 0, "cp1258", "Nguyên", ""),
        ("1255", 0, "cp1255", "ירושלים", ""),
        (None, 0x09, "cp437", "één", ""),
        (None, 0x68, "cp1252", "Málaga", "names the code page 895, which is no encoding that is known here"),
        (None, 0x85, "cp1252", "Málaga", "names the language driver 0x85, which is no encoding that is known here"),
        (None, 0x57, "utf-8", "Žluťoučký", "its text is UTF-8"),
        ("936", 0, "gbk", "联通中国", ""),
        (None, 0, "cp1252", "Málaga", "nothing says how"),
        ("65001", 0, "utf-8", "漢字", ""),
    ],
)
def test_the_text_of_a_shapefile_is_read_as_it_is_written_or_it_is_said(
    tmp_path, rows, declared, page, encoding, text, said
):
    path = dbase(tmp_path / "a.shp", NAMES, (text.encode(encoding),), (b"x",), declared=declared, page=page)
    found, warned, _, _ = rows(path)
    assert values(found, "n") == [text, "x"]
    assert said in warned
    assert bool(warned) == bool(said)


def test_hebrew_has_its_last_letter_blanks_are_null_and_bytes_that_are_none_are_counted(tmp_path, rows):
    fields = [*NAMES, ("W", "C", 2, 0), ("@@@@", "N", 3, 0)]
    path = dbase(
        tmp_path / "a.shp", fields,
        (" שלום  ".encode("cp1255"), "ם".encode("cp1255"), b"7"), (b"", b"a\0", b"8"), (b"a\xd9", b"ab", b"N/A"), page=0x7D,
    )  # fmt: skip
    part = path.with_suffix(".dbf")
    part.write_bytes(part.read_bytes().replace(b"@@@@", "גנים".encode("cp1255")))
    found, said, _, _ = rows(path)
    assert (values(found, "n"), values(found, "w")) == ([" שלום", None, "a\ufffd"], ["ם", "a", "ab"])
    assert "'N': 1 value text that is not in its encoding, whose faulty bytes were replaced: 'aÙ'" in said
    assert values(rows(path, where="n = ' שלום'")[0], "w") == ["ם"]
    plan = rows(path, columns=("גנים", "W"), where="גנים > 7")[2]
    assert [column.source_name for column in plan.columns] == ["גנים", "W"]
    assert "'גנים': 1 value not an integer that the column can hold, now NULL: 'N/A'" in said


def test_an_encoding_that_is_named_counts_for_every_text_format(tmp_path, rows):
    path = dbase(tmp_path / "a.shp", NAMES, ("Žluť".encode("cp1250"),), declared="1252")
    assert values(rows(path, encoding="windows-1250")[0], "n") == ["Žluť"]
    (tmp_path / "a.csv").write_bytes("n,lon,lat\nŽluť,1,2\n".encode("cp1250"))
    assert values(rows(tmp_path / "a.csv", encoding="ANSI 1250")[0], "n") == ["Žluť"]
    (tmp_path / "a.geojson").write_bytes(
        '{"type":"Feature","properties":{"n":"Žluť"},"geometry":{"type":"Point","coordinates":[1,2]}}'.encode("cp1250")
    )
    assert values(rows(tmp_path / "a.geojson", encoding="cp1250")[0], "n") == ["Žluť"]


@pytest.mark.parametrize("encoding", ["UTF-8", "utf8", None])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_a_geojson_in_utf_8_may_begin_with_a_byte_order_mark_whatever_is_said(tmp_path, rows, encoding, mark):
    path = geojson(tmp_path / "a.geojson", (place(7, 51), {"n": "é"}))
    path.write_bytes(mark + path.read_bytes().replace(b"\\u00e9", "é".encode()))
    assert values(rows(path, encoding=encoding)[0], "n") == ["é"]


# -- said at least -----------------------------------------------------------------------------------------------------
def test_rows_of_a_dbf_that_have_no_shape_or_are_deleted_are_said(tmp_path, rows):
    path = dbase(tmp_path / "a.shp", NAMES, (b"a",), (b"b",), (b"c",), (b"d",), marks=[0, 1, 0, 0])
    shx = path.with_suffix(".shx")
    shx.write_bytes(shx.read_bytes()[:24] + struct.pack(">i", (100 + 8 * 3) // 2) + shx.read_bytes()[28 : 100 + 8 * 3])
    found, said, _, _ = rows(path)
    assert values(found, "n") == ["a", "c"]
    assert "1 row of its DBF has no shape" in said
    assert "1 row of its DBF is marked as deleted" in said


def test_a_vertical_crs_that_no_srid_says_is_named(tmp_path, rows):
    path = write(
        gpd.GeoDataFrame({"a": [1]}, geometry=[shapely.Point(155000, 463000, 12.5)], crs="EPSG:7415"),
        tmp_path / "a.gpkg",
    )
    found, said, plan, _ = rows(path)
    assert (plan.srid, shapely.from_wkb(found[0]["geom"]).z) == (28992, 12.5)
    assert "'NAP height' (EPSG:5709)" in said


def test_what_gdal_warns_of_while_it_reads_is_counted(tmp_path, rows):
    path = tmp_path / "a.kml"
    path.write_text(
        '<kml xmlns="http://www.opengis.net/kml/2.2"><Document><Schema name="s" id="s"><SimpleField name="n"'
        ' type="int"/></Schema><Placemark>'
        '<ExtendedData><SchemaData schemaUrl="#s"><SimpleData name="n">7</SimpleData></SchemaData></ExtendedData>'
        "<Point><coordinates>1,2</coordinates></Point></Placemark></Document></kml>"
    )
    found, said, _, _ = rows(path)
    assert values(found, "n") == [7]
    assert "warning of GDAL" not in said


def kml(path, columns, *marks, text=""):
    """A KML of points whose columns have these types (None: no type) and these texts."""
    types = {name: f' type="{kind}"' if kind else "" for name, kind in columns.items()}
    fields = "".join(f'<SimpleField name="{name}"{kind}/>' for name, kind in types.items())
    data = "".join(
        '<Placemark><ExtendedData><SchemaData schemaUrl="#s">'
        + "".join(f'<SimpleData name="{name}">{value}</SimpleData>' for name, value in mark.items())
        + "</SchemaData></ExtendedData><Point><coordinates>7,51</coordinates></Point></Placemark>"
        for mark in marks
    )
    path.write_text(
        f'<kml xmlns="http://www.opengis.net/kml/2.2"><Document>{text}<Schema name="s" id="s">{fields}</Schema>{data}'
        "</Document></kml>"
    )
    return path


@pytest.mark.parametrize(
    ("kind", "texts", "expected", "said"),
    [
        ("int", ["7", " -8\n", "", "9.0"], [7, -8, None, 9], ""),
        ("int", ["5000000000", "N/A", "12abc"], [5_000_000_000, None, None], "2 values not an integer"),
        ("short", ["1.9", "70000", "1"], [None, 70_000, 1], "1 value not an integer that the column can hold, now"),
        ("uint", ["4000000000", "9223372036854775808"], [4_000_000_000, None], "'9223372036854775808'"),
        ("double", ["1.234,5", "1.5", "-2E3", "", "1e400"], [None, 1.5, -2000, None, None], "2 values not a number"),
        ("float", ["0.1", "12 m", "INF"], [0.1, None, float("inf")], "'12 m'"),
        ("bool", ["2", "true", "FALSE", "1", "0", "", "yes"], [None, True, False, True, False, None, None], "2 values"),
        ("string", ["007", "", "1,5"], ["007", "", "1,5"], ""),
        (None, ["007", "8"], ["007", "8"], ""),
    ],
)
def test_a_value_of_a_kml_is_of_its_declared_type_or_null_and_counted(tmp_path, rows, kind, texts, expected, said):
    path = kml(tmp_path / "a.kml", {"v": kind}, *({"v": text} for text in texts))
    for source in (path, zipped(tmp_path / "b.kmz", path)):
        found, warned, _, _ = rows(source)
        assert values(found, "v") == expected
        assert said in warned
        assert said or "now NULL" not in warned


def test_only_the_declarations_of_a_kml_lose_their_type(tmp_path, rows):
    field = '<SimpleField name="v" type="int"/>'
    path = kml(
        tmp_path / "a.kml",
        {"v": "int", 'q" displayName=\' type="int"> \' x="': "\n&#105;nt", "n": "string", "name": "int", "V": "double"},
        {"v": "7", "n": f"<![CDATA[<Schema>{field}</Schema>]]>"},
        {"v": "x"},
        text=f"<!-- <Schema>{field}</Schema> -->",
    )
    found, said, _, _ = rows(path)
    assert values(found, "n") == [f"<Schema>{field}</Schema>", None]
    assert values(found, "v") == [7, None]
    assert "'v': 1 value not a number" in said


def test_a_column_that_every_kml_has_is_not_of_a_type_that_one_declares(tmp_path, rows):
    path = kml(tmp_path / "a.kml", {"Description": "int"}, {"Description": "8"}, {"Description": "a pond"})
    path.write_text(path.read_text().replace("<Placemark>", "<Placemark><description>deep</description>"))
    found, said, _, _ = rows(path)
    assert [values(found, name) for name in ("description", "description2")] == [["deep", "deep"], [8, None]]
    assert "'a pond'" in said


def gpx(path, *points, kind="wpt"):
    """A GPX of points, or of routes of two points, with these contents."""
    there = '<rtept lat="1" lon="2"/><rtept lat="1" lon="3"/>' if kind == "rte" else ""
    place = "" if there else ' lat="51" lon="7"'
    marks = "".join(f"<{kind}{place}>{text}{there}</{kind}>" for text in points)
    path.write_text(
        '<gpx version="1.1" creator="x" xmlns="http://www.topografix.com/GPX/1/1" xmlns:g="urn:g" xmlns:h="urn:h">'
        f"{marks}</gpx>"
    )
    return path


def extended(value, name="g:n"):
    return f"<extensions><{name}>{value}</{name}></extensions>"


@pytest.mark.parametrize(
    ("column", "texts", "expected", "said"),
    [
        ("ele", ["<ele>1,5</ele>", "<ele>n/a</ele>", "<ele>-1.5</ele>"], [None, None, -1.5], "2 values not a number"),
        ("ele", ["<ele> 7 </ele>", "<ele>\n</ele>", "<ele/>", "", "<ele>1e3</ele>"], [7, None, None, None, 1000], ""),
        ("ele", ["<ele>x</ele><ele>7</ele>", "<ele>7</ele><ele>x</ele>"], [7, None], "'ele': 1 value not a number"),
        ("sat", ["<sat>x</sat>", "<sat>7</sat>"], [None, 7], "'sat': 1 value not an integer"),
        ("sat", ["<sat>5000000000</sat>", "<sat>7</sat>"], [5_000_000_000, 7], ""),
        ("g_n", [extended(99_999_999_999), extended(1), ""], [99_999_999_999, 1, None], ""),
        ("g_n", [extended("<h:m>6</h:m>"), extended("6")], [None, 6], "'<h:m>6</h:m>'"),
        ("g_n", [extended("x"), extended("007")], ["x", "007"], ""),
        ("g_n", [extended("00123"), extended("5"), ""], ["00123", "5", None], ""),
        ("g_n", [extended("01.50"), extended("2.5")], ["01.50", "2.5"], ""),
        ("ele", ["<ele>007</ele>", "<ele>-0.5</ele>"], [7, -0.5], ""),
        ("g_n", [extended("5<!-- 6 -->"), f"<name>a</name>{extended('1.5')}"], [5, 1.5], ""),
    ],
)
def test_a_number_of_a_gpx_is_the_one_that_is_written_or_null_and_counted(
    tmp_path, rows, column, texts, expected, said
):
    found, warned, _, _ = rows(gpx(tmp_path / "a.gpx", *texts))
    assert values(found, column) == expected
    assert said in warned
    assert said or "now NULL" not in warned
    assert "warning of GDAL" not in warned


def test_the_numbers_of_a_route_are_not_those_of_its_points(tmp_path, rows):
    path = gpx(tmp_path / "a.gpx", "<number>1x</number>", "", "<number>3</number>", kind="rte")
    path.write_text(path.read_text().replace('lon="2"/>', 'lon="2"><number>x</number><ele>4 m</ele></rtept>'))
    found, said, _, _ = rows(path)
    assert values(found, "number") == [None, None, 3]
    assert "'number': 1 value not an integer" in said


def mapinfo(path, charset, name, text, codec):
    """A MapInfo table of two points whose texts are this one and `AB`, in this encoding, as is the name of its column."""
    write(points(2, T=["QRST", "AB"]), path)
    rows = path.with_suffix(".dat" if path.suffix == ".tab" else ".mid")
    encoded = text.encode(codec)
    old = b"QRST" if rows.suffix == ".mid" else b"QRST".ljust(len(encoded), b"\0")
    assert old in rows.read_bytes()
    rows.write_bytes(rows.read_bytes().replace(old, encoded.ljust(4, b"\0") if rows.suffix == ".dat" else encoded))
    head = path.read_bytes()
    for said in (b"!charset Neutral\n", b' Charset "Neutral"', b'Charset "Neutral"\n'):
        head = head.replace(said, said.replace(b"Neutral", charset.encode()) if charset else b"")
    named = head.replace(b"  T ", b"  " + name.encode(codec) + b" ")
    assert named != head
    path.write_bytes(named)
    return path


def test_decimals_of_a_text_are_no_length_where_a_record_has_room_behind_its_fields(tmp_path, rows):
    path = dbase(tmp_path / "a.shp", [("A", "C", 3, 2), ("N", "N", 3, 0), ("X", "C", 255, 0), ("Y", "C", 255, 0)], *[(b"abc", b" 12", b"", b"")] * 2)  # fmt: skip
    dbf = bytearray(path.with_suffix(".dbf").read_bytes())
    del dbf[32 + 2 * 32 : 32 + 4 * 32]  # without the last two, whose room stays
    struct.pack_into("<H", dbf, 8, 32 + 2 * 32 + 1)
    path.with_suffix(".dbf").write_bytes(dbf)
    found, said, _, _ = rows(path)
    assert (values(found, "a"), values(found, "n"), said) == (["abc"] * 2, [12] * 2, "")


@pytest.mark.parametrize("ending", ["tab", "mif"])
@pytest.mark.parametrize(
    ("charset", "codec", "text", "said"),
    [
        ("Neutral", "cp1252", "élève", "nothing says how its text is encoded"),
        ("Neutral", "utf-8", "élève", ""),
        (None, "cp1252", "élève", "nothing says how its text is encoded"),
        ("WindowsLatin1", "cp1252", "élève", ""),
        ("WindowsLatin1", "utf-8", "élève", "says 'WindowsLatin1', but its text is UTF-8"),
        ("WindowsHebrew", "cp1255", "שלום", ""),
        ("WindowsVietnamese", "cp1258", "ABCđ", ""),
        ("WindowsThai", "cp874", "ไทยก", ""),
        ("WindowsJapanese", "cp932", "日本", ""),
        ("CodePage850", "cp850", "élève", ""),
        ("ISO8859_5", "iso8859-5", "Жабв", ""),
        ("MacRoman", "mac-roman", "élève", ""),
        ("Klingon", "cp1252", "élève", "says 'Klingon', which is no encoding that is known here"),
    ],
)
def test_the_text_of_mapinfo_is_read_as_it_is_written_or_it_is_said(tmp_path, rows, ending, charset, codec, text, said):
    path = mapinfo(tmp_path / f"a.{ending}", charset, f"N{text[-1]}", text, codec)
    found, warned, plan, _ = rows(path)
    assert [column.source_name for column in plan.columns] == [f"N{text[-1]}"]
    (column,) = (name for name in found[0] if name != "geom")
    assert (values(found, column), plan.encoding) == ([text, "AB"], codec)
    assert said in warned
    assert bool(said) == bool(warned)
    assert values(rows(path, where=f"\"N{text[-1]}\" = '{text}'")[0], column) == [text]


@pytest.mark.parametrize(
    ("ending", "old", "new"),
    [
        ("tab", b"!charset WindowsCyrillic\n", b""),
        ("tab", b"!charset WindowsCyrillic", b'!charset "WindowsCyrillic"'),
        ("tab", b"!charset WindowsCyrillic", b"!charset Neutral"),
        ("mif", b'"WindowsCyrillic"', b"WindowsCyrillic"),
        ("mif", b'"WindowsCyrillic"', b'"Windows Cyrillic"'),
    ],
)
@pytest.mark.parametrize("encoding", [None, "cp1251"])
def test_a_charset_is_understood_wherever_and_however_it_is_written(tmp_path, rows, ending, old, new, encoding):
    path = mapinfo(tmp_path / f"a.{ending}", "WindowsCyrillic", "X", "Жабв", "cp1251")
    head = path.read_bytes()
    assert old in head
    path.write_bytes(head.replace(old, new))
    found, said, plan, _ = rows(path, encoding=encoding)
    assert (values(found, "x"), plan.encoding, said) == (["Жабв", "AB"], "cp1251", "")


@pytest.mark.parametrize("declared", ["UTF-16", "cp500"])
def test_an_encoding_that_has_no_ascii_is_not_that_of_ascii(tmp_path, rows, declared):
    path = dbase(tmp_path / "a.shp", [("NAME", "C", 12, 0)], (b"Main street",), declared=declared)
    found, said, _, _ = rows(path)
    assert values(found, "name") == ["Main street"]
    assert f"its .cpg says '{declared}', but its text is UTF-8" in said


@pytest.mark.parametrize("ending", ["tab", "mif"])
def test_a_request_may_name_the_encoding_of_mapinfo(tmp_path, rows, ending):
    path = mapinfo(tmp_path / f"a.{ending}", "WindowsLatin1", "X", "Жабв", "cp1251")
    found, said, _, _ = rows(path, encoding="windows-1251")
    assert (values(found, "x"), said) == (["Жабв", "AB"], "")


@pytest.mark.parametrize(
    ("declared", "codec"), [(None, "cp1252"), ("UTF-8", "utf-8"), ("1255", "cp1255"), ("1251", "cp1251")]
)
@pytest.mark.parametrize("width", [256, 300, 510, 511, 1000])
def test_a_text_of_more_than_255_characters_is_whole_and_so_is_what_follows_it(tmp_path, rows, declared, codec, width):
    end = {"cp1252": "é", "utf-8": "é", "cp1255": "ם", "cp1251": "я"}[codec]
    fields = [
        ("A", "C", width, 0), ("B", "C", 5, 0), ("N", "N", 5, 0), ("D", "D", 8, 0), ("F", "N", 9, 2), ("L", "L", 1, 0),
        ("E", "C", 260, 0), ("I", "N", 20, 0),
    ]  # fmt: skip
    long = "x" * (width - 2 * len(end.encode(codec))) + end
    path = dbase(
        tmp_path / "a.shp",
        fields,
        (long.encode(codec), b"abc", b"   12", b"20240229", b"     1.25", b"T", b"e", b"12345678901234567890"),
        (b"short", b"de", b"  N/A", b"20240230", b"    -7.25", b"F", b"", b"1"),
        declared=declared,
    )
    found, said, plan, _ = rows(path)
    first, second = ({name: value for name, value in row.items() if name != "geom"} for row in found)
    day = dt.date(2024, 2, 29)
    assert first == {
        "a": long,
        "b": "abc",
        "n": 12,
        "d": day,
        "f": 1.25,
        "l": True,
        "e": "e",
        "i": 12345678901234567890,
    }
    assert second == {"a": "short", "b": "de", "n": None, "d": None, "f": -7.25, "l": False, "e": None, "i": 1}
    assert [column.source_name for column in plan.columns] == [name for name, *_ in fields]
    assert "'N': 1 value not an integer" in said
    assert values(rows(path, where=f"a LIKE '%{end}'", columns=("b",))[0], "b") == ["abc"]
    with pytest.raises(GeoAssetsError, match=r"its columns are 'A', 'B', 'N', 'D', 'F', 'L', 'E', 'I'$"):
        rows(path, columns=("_1",))


@pytest.mark.parametrize(
    ("whole", "points", "number", "text"),
    [
        ("tracks", "track_points", "track_fid", "<trk><name>{}</name><trkseg>{}</trkseg></trk>"),
        ("routes", "route_points", "route_fid", "<rte><name>{}</name>{}</rte>"),
    ],
)
def test_the_points_of_a_gpx_refer_to_a_number_that_its_tracks_and_routes_have(
    tmp_path, private, look, whole, points, number, text
):
    point = {"tracks": "trkpt", "routes": "rtept"}[whole]
    lines = [
        text.format(name, "".join(f'<{point} lat="{i}" lon="{x}"/>' for x in range(2))) for i, name in enumerate("ab")
    ]
    path = tmp_path / "a.gpx"
    path.write_text(f'<gpx version="1.1" xmlns="http://www.topografix.com/GPX/1/1">{"".join(lines)}</gpx>')
    sent = {}
    for plan in look(path).layers:
        file, _ = send(private(path), plan)
        sent[plan.layer] = pa.ipc.open_stream(file).read_all().to_pylist()
    names = {row[number]: row["name"] for row in sent[whole]}
    found = [(names[row[number]], shapely.from_wkb(row["geom"]).y) for row in sent[points]]
    assert found == [("a", 0), ("a", 0), ("b", 1), ("b", 1)]


def mif(path, kind, *texts, ending="\n"):
    """A MIF of points whose column `V` is of this type, and a .mid whose rows are these."""
    head = ["VERSION 300", 'Charset "WindowsLatin1"', 'Delimiter ","', "CoordSys Earth Projection 1, 104", "COLUMNS 2"]
    lines = [*head, "  C Char(10)", f"  V {kind}", "DATA", "", *(f"POINT {i} 51" for i in range(len(texts)))]
    path.write_bytes("".join(line + ending for line in lines).encode())
    path.with_suffix(".mid").write_bytes("".join(f'"007",{text}{ending}' for text in texts).encode("cp1252"))
    return path


@pytest.mark.parametrize(
    ("kind", "texts", "expected", "said"),
    [
        ("Integer", ["7", "N/A", "12abc", "", '"8"'], [7, None, None, None, 8], "2 values not an integer"),
        ("Integer", ["99999999999", "-1"], [99_999_999_999, -1], ""),
        ("SmallInt", ["70000", "1.9", "-3"], [70_000, None, -3], "1 value not an integer"),
        ("LargeInt", ["9007199254740993", "ä"], [9007199254740993, None], "'ä'"),
        ("Float", ["1e400", "1.5", "-1e-3"], [None, 1.5, -0.001], "1 value not a number, now NULL: '1e400'"),
        ("Decimal(10, 2)", ['"1,5"', "12 m", "12.34"], [None, None, 12.34], "2 values not a number"),
        ("Logical", ["T", "X", "F", "", "1"], [True, None, False, None, True], "1 value not a boolean"),
        ("Date", ["20240229", "20240230", "31.12.2023"], [dt.date(2024, 2, 29), None, None], "2 values not a date"),
        ("Date", ["2024-01-02", "2024/01/02", ""], [dt.date(2024, 1, 2), dt.date(2024, 1, 2), None], ""),
        ("Time", ["120000500", "250000000", ""], [dt.time(12, 0, 0, 500_000), None, None], "1 value not a time"),
        (
            "DateTime",
            ["20240229120000001", "20241301120000000", "2024-01-01"],
            [dt.datetime.fromisoformat("2024-02-29T12:00:00.001"), None, None],
            "2 values not a time",
        ),
        ("Char(5)", ["007", '"a""b"'], ["007", 'a"b'], ""),
    ],
)
def test_a_value_of_a_mif_is_the_one_that_is_written_or_null_and_counted(tmp_path, rows, kind, texts, expected, said):
    for ending in ("\n", "\r\n"):
        path = mif(tmp_path / "a.mif", kind, *texts, ending=ending)
        for source in (path, zipped(tmp_path / "b.zip", path, path.with_suffix(".mid"))):
            found, warned, _, _ = rows(source)
            assert values(found, "v") == expected
            assert values(found, "c") == ["007"] * len(texts)
            assert [shapely.from_wkb(row["geom"]).x for row in found] == list(range(len(texts)))
            assert said in warned
            assert said or "now NULL" not in warned


@given(
    kind=st.sampled_from([("date32", 8), ("time64[us]", 9), ("timestamp[us]", 17)]),
    day=st.dates(max_value=dt.date(9999, 12, 31)) | st.sampled_from(["00000101", "20240230", "20241301", "2024-1-1"]),
    clock=st.times() | st.sampled_from(["240000000", "235960000", "120000", "12:00:00"]),
)
def test_a_time_of_a_mif_is_the_same_beside_one_that_is_none(kind, day, clock):
    wire, width = kind
    day = day if isinstance(day, str) else f"{day.year:04}{day:%m%d}"
    clock = clock if isinstance(clock, str) else f"{clock:%H%M%S}{clock.microsecond // 1000:03}"
    text = {8: day, 9: clock, 17: day + clock}[width]
    alone = typed(pa.array([text, "", None]), wire, "v", Findings())
    beside = typed(pa.array([text, "", None, "none"]), wire, "v", Findings())
    assert alone.equals(beside.slice(0, 3))
    assert alone.null_count >= 2


def test_a_mif_whose_header_is_not_understood_is_left_to_gdal(tmp_path, look):
    path = mif(tmp_path / "a.mif", "Integr", "7")
    with pytest.raises(GeoAssetsError, match=r"a\.mif"):
        look(path)


def test_of_a_mif_without_an_end_of_its_header_only_a_part_is_held(tmp_path, look):
    path = mif(tmp_path / "a.mif", "Integer", "7")
    path.write_text("VERSION 300\n" + "Index 1\n" * 2_000_000)
    tracemalloc.start()
    try:
        with pytest.raises(GeoAssetsError, match=r"a\.mif"):
            look(path)
        held = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert held < path.stat().st_size


def test_text_that_no_schema_of_a_kml_declares_stays_text_where_another_folder_declares_its_name(tmp_path, rows):
    path = tmp_path / "a.kml"
    place = "<Point><coordinates>1,2</coordinates></Point></Placemark>"
    path.write_text(
        '<kml xmlns="http://www.opengis.net/kml/2.2"><Document><Schema name="s" id="s"><SimpleField name="num"'
        ' type="int"/></Schema><Folder><name>A</name><Placemark><ExtendedData><SchemaData schemaUrl="#s">'
        f'<SimpleData name="num">7</SimpleData></SchemaData></ExtendedData>{place}</Folder><Folder><name>B</name>'
        f'<Placemark><ExtendedData><Data name="num"><value>abc</value></Data></ExtendedData>{place}</Folder>'
        "</Document></kml>"
    )
    assert [values(rows(path, layers=(layer,))[0], "num") for layer in ("A", "B")] == [["7"], ["abc"]]


def test_inspect_says_beforehand_what_a_load_will_say(tmp_path, look):
    path = table(tmp_path / "a.gpkg", ["i integer"], (1, "N/A"))
    assert "'N/A'" in " ".join(look(path, layers=("t",)).layers[0].warnings)


def test_a_shapefile_in_a_zip_is_held_to_its_bytes_too(tmp_path, rows):
    path = dbase(tmp_path / "a.shp", [("D", "D", 8, 0)], (b"20240230",), (b"20240229",))
    found, said, _, _ = rows(zipped(tmp_path / "b.zip", *shapefile_parts(path)))
    assert values(found, "d") == [None, dt.date(2024, 2, 29)]
    assert "20240230" in said


def test_values_in_the_second_batch_are_held_to_their_bytes_too(tmp_path, rows):
    count = 20_000
    records = [(f"{i}".encode(),) for i in range(count)]
    records[15_000] = (b"N/A",)
    found, said, _, _ = rows(dbase(tmp_path / "a.shp", [("I", "N", 9, 0)], *records))
    assert values(found, "i") == [None if i == 15_000 else i for i in range(count)]
    assert "'I': 1 value not an integer" in said
    frame = points(count, i=np.arange(count))
    path = altered(write(frame, tmp_path / "a.gpkg", layer="t"), "update t set i = 'x' where fid = 15001")
    found, said, _, _ = rows(path)
    assert values(found, "i") == [None if i == 15_000 else i for i in range(count)]
    assert "'i': 1 value not an integer" in said


@pytest.mark.parametrize(
    ("written", "kept", "said"),
    [
        (r'"x\ud800y"', "x\ufffdy", "'p': 1 value with half of a character"),
        (r'["\ud83d\ude00", "\udc00"]', ["\U0001f600", "\ufffd"], "'p': 1 value with half of a character"),
        (r'{"k\ud800": 1}', '{"k\ufffd": 1}', "'p': 1 value with half of a character"),
        (r'{"s": "\u0000x"}', '{"s": "x"}', "text with NUL characters"),
        ('{"e": 1e400, "f": [NaN, 1.5]}', '{"e": null, "f": [null, 1.5]}', "'p': 2 values not a number, now NULL: 'inf', 'nan'"),
        ("12345678901234567.5", "12345678901234567.5", ""),
        ('{"x": 1.5, "y": [12345678901234567.5, 9007199254740993.25]}, "q": 12345678901234567.5', '{"x": 1.5, "y": [12345678901234567.5, 9007199254740993.25]}', ""),
        ("[1.5, 12345678901234567.5], \"q\": 12345678901234567.5", "[1.5, 12345678901234567.5]", ""),
        ("12345678901234567000.0", 12345678901234567000.0, ""),
        ("-3.4028234663852886e38", -3.4028234663852886e38, ""),
    ],
)  # fmt: skip
def test_a_value_of_json_is_as_it_is_written_or_what_became_of_it_is_said(tmp_path, rows, written, kept, said):
    path = tmp_path / "a.geojson"
    geometry = '{"type": "Point", "coordinates": [1, 2]}'
    path.write_text(f'{{"type": "Feature", "geometry": {geometry}, "properties": {{"p": {written}}}}}')
    found, warned, _, _ = rows(path)
    assert values(found, "p") == [kept]
    assert said in warned if said else not warned


def test_a_fourth_coordinate_of_geojson_is_dropped_and_counted(tmp_path, rows):
    line = {"type": "LineString", "coordinates": [[1, 2, 3, 4], [2, 3], [3, 4, 5, 6, 7]]}
    found, said, _, _ = rows(
        geojson(tmp_path / "a.geojson", (place(1, 2, 3, 4), {}), (line, {}), (place(5, 6, 7), {})), mixed="generic"
    )
    assert "2 geometries have M values, which were dropped" in said
    made = [shapely.from_wkb(row["geom"]) for row in found]
    assert [shapely.get_coordinates(each, include_z=True).tolist() for each in made] == [
        [[1, 2, 3]], [[1, 2, 3], [2, 3, 0], [3, 4, 5]], [[5, 6, 7]]
    ]  # fmt: skip


POINT = shapely.to_wkb(shapely.Point(7, 51))
UNNUMBERED = "(k text primary key, n integer, d date, f float, g blob) without rowid"


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (("a", "abc", None, None, POINT), "'n' has 'abc'"),
        (("a", None, "2022-02-30", None, POINT), "'d' has '2022-02-30'"),
        (("a", None, None, "1,5", POINT), "'f' has '1,5'"),
        (("a", None, None, None, b"nothing"), "one of its geometries is bytes that are no geometry"),
    ],
    ids=["integer", "date", "number", "geometry"],
)
def test_a_table_whose_rows_sqlite_does_not_number_is_refused_where_a_value_would_change(tmp_path, rows, row, said):
    path = sqlite(tmp_path / "a.sqlite", UNNUMBERED, row, ("b", None, None, None, None))
    with pytest.raises(GeoAssetsError, match=said) as caught:
        rows(path)
    assert caught.value.code == "VECTOR_UNSUPPORTED"


def test_a_table_whose_rows_sqlite_does_not_number_is_loaded_where_its_values_are_sound(tmp_path, rows):
    path = sqlite(tmp_path / "a.sqlite", UNNUMBERED, ("a", 1, "2022-02-28", 1.5, POINT), ("b", None, None, None, None))
    found, _, _, _ = rows(path)
    assert [values(found, name) for name in "kndf"] == [
        ["a", "b"],
        [1, None],
        [dt.date(2022, 2, 28), None],
        [1.5, None],
    ]


def with_another_key(path, columns, *rows):
    """A GeoPackage whose table `a` has these columns; rows are the values of all but the geometry, the last."""
    seed = write(points(1), path)
    with sqlite3.connect(seed) as database:
        (blob,) = database.execute("select geom from a").fetchone()
    database.close()
    places = ", ".join("?" * (len(rows[0]) + 1))
    insert = f"insert into a values ({places})"
    return altered(seed, "drop table a", f"create table a {columns}", *((insert, (*row, blob)) for row in rows))


@pytest.mark.parametrize(
    "columns",
    [
        "(k text primary key, n integer, geom blob)",
        "(k text primary key, n integer, geom blob) without rowid",
        "(k text, n integer unique not null, geom blob)",
        "(k text, n integer, geom blob, primary key (n, k))",
        "(ogc_fid text, n integer, geom blob)",
    ],
)
def test_a_geopackage_without_a_key_of_integers_gets_no_column_of_numbers(tmp_path, rows, columns):
    found, _, plan, _ = rows(with_another_key(tmp_path / "a.gpkg", columns, ("a", 7), ("b", 8), ("c", 9)))
    assert values(found, plan.columns[0].name) == ["a", "b", "c"]
    assert values(found, "n") == [7, 8, 9]
    assert len(plan.columns) == 2


def test_a_database_without_numbers_of_rows_gets_no_column_of_them(tmp_path, rows):
    _, _, plan, _ = rows(sqlite(tmp_path / "a.sqlite", UNNUMBERED, ("a", 1, None, None, POINT)))
    assert [column.name for column in plan.columns] == ["k", "n", "d", "f"]
    found, _, plan, _ = rows(
        sqlite(tmp_path / "b.sqlite", UNNUMBERED.partition(")")[0] + ")", *([(k, 1, None, None, POINT) for k in "ba"]))
    )
    assert values(found, "rowid") == [1, 2]


def test_a_geopackage_without_a_key_of_integers_is_refused_where_a_value_would_change(tmp_path, rows):
    columns = "(k text primary key, n integer, geom blob)"
    path = with_another_key(tmp_path / "a.gpkg", columns, ("a", 7), ("b", "many"))
    with pytest.raises(GeoAssetsError, match=r"'a' has no key of integers, .* 'n' has 'many'") as caught:
        rows(path)
    assert caught.value.code == "VECTOR_UNSUPPORTED"


def test_rejects_of_a_table_without_a_key_of_integers_have_their_place_from_1(tmp_path, private, look):
    columns = "(k text primary key, n integer, geom blob)"
    path = with_another_key(tmp_path / "a.gpkg", columns, *((f"{i:05}", i) for i in range(9000)))
    altered(path, "update a set geom = null where n in (3, 8999)")
    plan = look(path, null_geometry="reject").layers[0]
    file, sent = send(private(path), plan)
    assert values(pa.ipc.open_stream(file).read_all().to_pylist(), "n") == [n for n in range(8999) if n != 3]
    assert values(pa.ipc.open_stream(file).read_all().to_pylist(), "src_fid") == [4, 9000]
    assert sent.rejected == {"no geometry": 2}


def test_an_attribute_that_hides_the_numbers_of_rows_is_refused(tmp_path, rows):
    with pytest.raises(GeoAssetsError, match="'rowid' that is not its key"):
        rows(sqlite(tmp_path / "a.sqlite", "(rowid text, n integer, g blob)", ("a", "abc", POINT)))


def test_a_generated_column_of_a_geopackage_is_held_against_what_sqlite_stores(tmp_path, rows):
    path = altered(
        write(points(2, n=[1, 2]), tmp_path / "a.gpkg"),
        "alter table a rename to b",
        "create table a(fid integer primary key, geom blob, n integer,"
        " h integer generated always as (case n when 1 then 'abc' else 7 end))",
        "insert into a(fid, geom, n) select fid, geom, n from b",
        "drop table b",
    )
    found, said, _, _ = rows(path)
    assert values(found, "h") == [None, 7]
    assert "'h': 1 value not an integer that the column can hold, now NULL: 'abc'" in said


def test_times_of_a_database_that_is_no_geopackage_keep_microseconds_or_are_counted(tmp_path, rows):
    moments = {
        "2024-01-01T00:00:00.123456": "2024-01-01 00:00:00.123456+00:00",
        "2024-02-29 23:59:59": "2024-02-29 23:59:59+00:00",
        "2024-01-01T12:00:00.000001+02:00": "2024-01-01 10:00:00.000001+00:00",
        "2024-01-01": "2024-01-01 00:00:00+00:00",
        "2023-02-29 00:00:00": "None",
        20240101: "None",
        1704103200: "None",
        None: "None",
    }
    clocks = ["12:00:00.123456", "23:59:59", "25:00", "later", 7, None, "00:00:00", "24:00:00.5"]
    stored = [(moment, clock, POINT) for moment, clock in zip(moments, clocks, strict=True)]
    found, said, _, _ = rows(sqlite(tmp_path / "a.sqlite", "(t timestamp, u time, g blob)", *stored))
    assert [str(value) for value in values(found, "t")] == list(moments.values())
    assert [str(value) for value in values(found, "u")] == [
        "12:00:00.123456", "23:59:59", "None", "None", "None", "None", "00:00:00", "None"
    ]  # fmt: skip
    assert "'t': 3 values not a time, now NULL: '2023-02-29 00:00:00', '20240101', '1704103200'" in said
    assert "'u': 4 values not a time, now NULL: '25:00', 'later', '7', '24:00:00.5'" in said


def test_a_number_beyond_single_precision_is_null_and_counted(tmp_path, rows):
    source = points(4, f=np.array([1.5, 2.5, 3.5, 4.5], dtype="float32"))
    path = altered(
        write(source, tmp_path / "a.gpkg"),
        "update a set f = 1e39 where fid = 1",
        "update a set f = -9e999 where fid = 2",
        "update a set f = 'x' where fid = 3",
    )
    found, said, _, _ = rows(path)
    assert values(found, "f") == [None, float("-inf"), None, 4.5]
    assert "'f': 2 values not a number, now NULL: '1e+39', 'x'" in said


@pytest.mark.parametrize("index", ["YES", "NO"])
@pytest.mark.parametrize("count", [2, 17, 257])
def test_a_flatgeobuf_with_more_features_than_its_header_says_is_refused(tmp_path, look, index, count):
    path = write(points(count), tmp_path / "a.fgb", SPATIAL_INDEX=index)
    assert look(path).layers[0].feature_count == count
    data = bytearray(path.read_bytes())
    at = data.index(count.to_bytes(8, "little"), 12)
    data[at : at + 8] = (count - 1).to_bytes(8, "little")
    path.write_bytes(data)
    with pytest.raises(GeoAssetsError) as caught:
        look(path)
    assert caught.value.code == "UNREADABLE"


def test_an_unsigned_integer_of_a_flatgeobuf_is_itself_or_null_and_counted(tmp_path, rows):
    numbers = np.array([-1, 0, 2**53 - 1, 2**53 + 1], dtype="int64")
    path = write(points(4, unsigned=numbers, signed=numbers), tmp_path / "a.fgb", SPATIAL_INDEX="NO")
    data = bytearray(path.read_bytes())
    at = data.index(b"unsigned")
    kind = next(i for i in range(at - 1, 0, -1) if data[i] == 7)  # the type of the column, before its name: Long
    data[kind] = 8
    path.write_bytes(data)
    found, said, plan, _ = rows(path)
    assert values(found, "unsigned") == [None, 0, 2**53 - 1, None]
    assert values(found, "signed") == numbers.tolist()
    assert [column.sql_type for column in plan.columns] == ["numeric(20,0)", "bigint"]
    assert "'unsigned': 2 values beyond what GDAL reads exactly of unsigned integers, now NULL" in said
