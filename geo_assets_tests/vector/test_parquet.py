"""Parquet as programs write it: geometries in each of Arrow's types for bytes, and parts that differ."""

import datetime as dt
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pyproj
import pytest
import shapely

from geo_assets.errors import GeoAssetsError
from geo_assets_tests.vector.builders import frame, points
from geo_assets_tests.vector.conftest import send

WKB = [shapely.to_wkb(shapely.Point(7, 51)), None, shapely.to_wkb(shapely.Point(8, 52))]
PLACES = ["POINT (7 51)", None, "POINT (8 52)"]


@pytest.fixture
def sent(private, look):
    """(plan, the rows as they are sent, geometries as WKT) of a file."""

    def read(path, **request):
        (plan,) = look(path, **request).layers
        rows = pa.ipc.open_stream(send(private(path), plan)[0]).read_all().to_pylist()
        return plan, rows, [row["geom"] and shapely.from_wkb(row["geom"]).wkt for row in rows]

    return read


def geoparquet(path, geometry, encoding="WKB", **columns):
    said = {"encoding": encoding, "geometry_types": []}
    geo = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": said}}
    table = pa.table({**columns, "geometry": geometry})
    pq.write_table(table.replace_schema_metadata({"geo": json.dumps(geo)}), path)
    return path


def dictionary(values, kind):
    return pa.DictionaryArray.from_arrays(
        pa.array([0, None, 1], pa.int32()), pa.array([v for v in values if v is not None], kind)
    )


@pytest.mark.parametrize(
    "geometry",
    [
        pa.array(WKB, pa.binary()),
        pa.array(WKB, pa.large_binary()),
        pa.array(WKB, pa.binary_view()),
        pa.array(WKB, pa.binary(21)),
        dictionary(WKB, pa.binary()),
        dictionary(WKB, pa.large_binary()),
        pa.array(WKB, pa.binary()).dictionary_encode(),
    ],
    ids=lambda array: str(array.type),
)
def test_wkb_is_a_geometry_in_each_of_arrows_types_for_bytes(tmp_path, sent, geometry):
    plan, _, shapes = sent(geoparquet(tmp_path / "a.parquet", geometry, n=[1, 2, 3]))
    assert (plan.geometry_type, plan.srid, plan.null_geometries, shapes) == ("POINT", 4326, 1, PLACES)
    pq.write_table(pa.table({"n": [1, 2, 3], "shape": geometry}), tmp_path / "b.parquet")
    plan, _, shapes = sent(tmp_path / "b.parquet", geometry_column="shape", source_crs="EPSG:25832")
    assert (plan.srid, shapes) == (25832, PLACES)


def test_a_geometry_of_nothing_but_nulls_is_none(tmp_path, look):
    path = geoparquet(tmp_path / "a.parquet", pa.nulls(2), n=[1, 2])
    with pytest.raises(GeoAssetsError) as caught:
        look(path)
    assert caught.value.code == "VECTOR_NO_GEOMETRY"
    assert look(path, attribute_tables=True).layers[0].geometry_type is None


@pytest.mark.parametrize(
    ("geometry", "encoding", "said"),
    [
        (pa.array([[1, 2]], pa.list_(pa.uint8())), "WKB", "'geometry' of a.parquet has the type list<element: uint8>"),
        (pa.array([5]), "WKB", "'geometry' of a.parquet has the type int64"),
        (pa.array(["POINT(7 51)"]), "WKB", "'geometry' of a.parquet has the type string"),
        (pa.array([[1.0, 2.0]]), "point", "'geometry' of a.parquet has the type list<element: double>"),
        (pa.array([{"x": 1.0, "y": 2.0}]), "polygon", "'geometry' of a.parquet has the type struct<x: double"),
    ],
    ids=["list", "number", "text", "list for a point", "point for a polygon"],
)
def test_what_is_no_geometry_of_the_declared_encoding_is_refused_with_its_column_and_type(
    tmp_path, look, geometry, encoding, said
):
    with pytest.raises(GeoAssetsError) as caught:
        look(geoparquet(tmp_path / "a.parquet", geometry, encoding))
    assert caught.value.code == "VECTOR_UNSUPPORTED"
    assert said in str(caught.value)


def test_text_that_is_declared_as_wkb_is_read_where_its_column_is_named(tmp_path, sent):
    path = geoparquet(tmp_path / "a.parquet", pa.array(["POINT(7 51)"]))
    assert sent(path, geometry_column="geometry", source_crs="EPSG:4326")[2] == ["POINT (7 51)"]


def test_columns_of_views_are_read_as_what_they_show(tmp_path, sent):
    columns = {
        "s": pa.array(["a", None, "b" * 20], pa.string_view()),
        "b": pa.array([b"a", None, b"b" * 20], pa.binary_view()),
        "l": pa.array([["a"], None, []], pa.list_(pa.string_view())),
        "o": pa.array([{"k": "v"}, None, {"k": None}], pa.struct({"k": pa.string_view()})),
    }
    _, rows, shapes = sent(geoparquet(tmp_path / "a.parquet", pa.array(WKB, pa.binary_view()), **columns))
    assert shapes == PLACES
    assert [[row[name] for row in rows] for name in columns] == [
        ["a", None, "b" * 20],
        [b"a", None, b"b" * 20],
        [["a"], None, []],
        ['{"k": "v"}', None, '{"k": null}'],
    ]


@pytest.mark.parametrize("kind", [pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())], ids=str)
def test_coordinates_and_wkt_are_read_in_each_of_arrows_types_for_text(tmp_path, sent, kind):
    text = {"x": ["7", "8,5"], "y": ["51", "52,25"], "shape": ["POINT(7 51)", "POINT(8.5 52.25)"]}
    pq.write_table(pa.table({name: pa.array(said).cast(kind) for name, said in text.items()}), tmp_path / "a.parquet")
    for options in ({"x": "x", "y": "y"}, {"geometry_column": "shape"}):
        shapes = sent(tmp_path / "a.parquet", source_crs="EPSG:4326", **options)[2]
        assert shapes == ["POINT (7 51)", "POINT (8.5 52.25)"]


@pytest.mark.parametrize("encoding", ["WKB", "geoarrow"])
def test_a_second_geometry_that_is_named_is_read_as_the_file_declares_it(tmp_path, look, encoding):
    two = points(1)
    two["centre"] = frame("POINT(500000 5700000)", crs=25832).geometry
    two.to_parquet(tmp_path / "a.parquet", geometry_encoding=encoding)
    (plan,) = look(tmp_path / "a.parquet", geometry_column="centre").layers
    assert (plan.srid, plan.bounds) == (25832, (500000, 5700000, 500000, 5700000))


def parts(folder, *crs, empty=()):
    """A folder of GeoParquet files of two points, each in its CRS; of those in `empty` no row is left."""
    folder.mkdir()
    for number, each in enumerate(crs):
        points(2, crs=each)[: 0 if number in empty else 2].to_parquet(folder / f"{number}.parquet")
    return folder


@pytest.mark.parametrize(
    ("crs", "said"),
    [
        ((25832, 25832, 25833), "0.parquet is in 'ETRS89 / UTM zone 32N', 2.parquet in 'ETRS89 / UTM zone 33N'"),
        ((4326, 25832), "0.parquet is in 'WGS 84', 1.parquet in 'ETRS89 / UTM zone 32N'"),
        ((25832, None), "0.parquet is in 'ETRS89 / UTM zone 32N', 1.parquet in no CRS"),
    ],
    ids=["another", "degrees and metres", "none"],
)
def test_parts_in_different_crs_are_refused_and_named(tmp_path, look, crs, said):
    folder = parts(tmp_path / "a.parquet", *crs)
    with pytest.raises(GeoAssetsError) as caught:
        look(folder)
    assert caught.value.code == "INVALID_CRS"
    assert said in str(caught.value)
    assert "--override-crs" in caught.value.remedy
    assert look(folder, source_crs="EPSG:25832", override_crs=True).layers[0].srid == 25832


def test_parts_in_one_crs_that_is_written_in_different_ways_are_one_table(tmp_path, look):
    utm = pyproj.CRS(25832)
    (plan,) = look(parts(tmp_path / "a.parquet", utm, utm.to_wkt(), utm.to_wkt("WKT1_ESRI"))).layers
    assert (plan.srid, plan.feature_count) == (25832, 6)
    (plan,) = look(parts(tmp_path / "b.parquet", "OGC:CRS84", 4326)).layers
    assert (plan.srid, plan.feature_count) == (4326, 4)


def test_a_part_without_rows_or_without_metadata_says_nothing_of_the_crs(tmp_path, look):
    folder = parts(tmp_path / "a.parquet", 25832, 4326, empty=[1])
    bare = pq.read_table(folder / "0.parquet").replace_schema_metadata(None)
    pq.write_table(bare, folder / "2.parquet")
    (plan,) = look(folder).layers
    assert (plan.srid, plan.feature_count) == (25832, 4)


def test_a_part_whose_crs_is_not_told_is_in_that_which_is_named(tmp_path, look):
    folder = parts(tmp_path / "a.parquet", None, 25832)
    assert look(folder, source_crs="EPSG:25832").layers[0].srid == 25832
    with pytest.raises(GeoAssetsError, match=r"0\.parquet is in 'ETRS89 / UTM zone 33N', 1\.parquet in 'ETRS89"):
        look(folder, source_crs="EPSG:25833")


def test_parts_with_different_geometries_are_refused(tmp_path, look):
    folder = tmp_path / "a.parquet"
    folder.mkdir()
    two = points(1)
    two["centre"] = two.geometry
    two.to_parquet(folder / "0.parquet")
    two.set_geometry("centre").to_parquet(folder / "1.parquet")
    with pytest.raises(GeoAssetsError, match=r"0\.parquet 'geometry', 1\.parquet 'centre'"):
        look(folder)
    assert look(folder, geometry_column="centre").layers[0].feature_count == 2


@pytest.mark.parametrize("kind", [pa.time32("s"), pa.time32("ms"), pa.time64("us"), pa.time64("ns")], ids=str)
def test_a_time_that_no_clock_shows_is_null_and_counted(tmp_path, private, look, kind):
    second = {"s": 1, "ms": 1000, "us": 10**6, "ns": 10**9}[kind.unit]
    ticks = [90000 * second, 43200 * second, None, -3661 * second]
    times = pa.array(ticks, pa.int32() if kind.bit_width == 32 else pa.int64()).view(kind)
    path = geoparquet(tmp_path / "a.parquet", pa.array(WKB[:1] * 4), t=times)
    file, report = send(private(path), look(path).layers[0])
    sent = pa.ipc.open_stream(file).read_all().column("t")
    assert sent.to_pylist() == [None, dt.time(12), None, None]
    assert report.warnings == ("'t': 2 values not a time of day, now NULL: '25:00:00', '-01:01:01'",)


POSITION = pa.struct([("x", pa.float64()), ("y", pa.float64())])


def ring(*places):
    return [{"x": float(x), "y": float(y)} for x, y in places]


TRIANGLE = ring((0, 0), (1, 0), (1, 1), (0, 0))
OPEN, OF_TWO, FLAT = TRIANGLE[:3], ring((0, 0), (1, 1)), ring((0, 0), (1, 1), (0, 0))
WHOLE, NESTED = "MULTIPOLYGON (((0 0, 1 0, 1 1, 0 0)))", "coordinates are nested wrongly for their type"


@pytest.mark.parametrize(
    ("encoding", "row", "outcome"),
    [
        ("multipolygon", [[]], "empty geometry"),
        ("multipolygon", [], "empty geometry"),
        ("multipolygon", [[[]]], "empty geometry"),
        ("multipolygon", [[TRIANGLE], []], "MULTIPOLYGON (((0 0, 1 0, 1 1, 0 0)), EMPTY)"),
        ("multipolygon", [[TRIANGLE], None], NESTED),
        ("multipolygon", [[TRIANGLE, None]], NESTED),
        ("multipolygon", [[[], TRIANGLE]], "unreadable geometry"),
        ("multipolygon", [[OF_TWO]], "not repairable: Too few points in geometry component"),
        ("multipolygon", [[FLAT]], "not repairable: Too few points in geometry component"),
        ("multipolygon", [[OPEN]], WHOLE),
        ("multipolygon", None, None),
        ("polygon", [[], TRIANGLE], "unreadable geometry"),
        ("polygon", [TRIANGLE, [None]], NESTED),
        ("linestring", OF_TWO[:1], "unreadable geometry"),
        ("linestring", [*OF_TWO, None], NESTED),
        ("multilinestring", [OF_TWO[:1], OF_TWO], "MULTILINESTRING ((0 0, 1 1))"),
        ("multilinestring", [[], OF_TWO], "MULTILINESTRING (EMPTY, (0 0, 1 1))"),
        ("multipoint", [], "empty geometry"),
    ],
    ids=str,
)
def test_an_empty_or_short_part_in_a_native_encoding_concerns_its_own_row(
    tmp_path, look, private, encoding, row, outcome
):
    sound = {"polygon": [TRIANGLE], "multipolygon": [[TRIANGLE]], "linestring": OF_TWO}
    sound |= {"multilinestring": [OF_TWO], "multipoint": OF_TWO}
    kind = POSITION
    for _ in range({"multipolygon": 3, "polygon": 2, "multilinestring": 2}.get(encoding, 1)):
        kind = pa.list_(kind)
    rows = pa.array([None, sound[encoding], row, sound[encoding]], kind)
    path = geoparquet(tmp_path / "a.parquet", rows[1:], encoding)
    file, report = send(private(path), look(path).layers[0])
    shapes = [each and shapely.from_wkb(each).wkt for each in pa.ipc.open_stream(file).read_all()["geom"].to_pylist()]
    assert shapes[0] == shapes[-1]
    rejected = len(shapes) == 2
    assert (list(report.rejected) if rejected else shapes[1]) == ([outcome] if rejected else outcome)


@pytest.mark.parametrize(
    ("name", "shape", "said"),
    [
        ("xyz", "POINT Z (1 2 3)", ()),
        ("xym", "POINT (1 2)", ("'geometry' has M values, which were dropped",)),
        (
            "numbers",
            "POINT Z (1 2 3)",
            ("'geometry' does not say what its third coordinates are: they were taken for heights",),
        ),
    ],
)
def test_the_third_of_interleaved_coordinates_is_what_the_file_calls_it(tmp_path, sent, name, shape, said):
    kind = pa.list_(pa.field(name, pa.float64(), nullable=False), 3)
    plan, _, shapes = sent(geoparquet(tmp_path / "a.parquet", pa.array([[1.0, 2.0, 3.0]], kind), "point"))
    assert (shapes, plan.warnings) == ([shape], said)


def test_geoarrow_without_a_crs_is_in_that_which_is_named_or_in_none(tmp_path, look):
    for encoding in ("geoarrow", "WKB"):
        for crs in (None, 25832):
            table = pa.table(points(1, crs=crs).to_arrow(geometry_encoding=encoding))
            pq.write_table(table, tmp_path / "a.parquet")
            (plan,) = look(tmp_path / "a.parquet", source_crs="EPSG:3857").layers
            assert plan.srid == (crs or 3857)
            (plan,) = look(tmp_path / "a.parquet", source_crs="EPSG:3857", geometry_column="geometry").layers
            assert plan.srid == (crs or 3857)
        pq.write_table(pa.table(points(1, crs=None).to_arrow(geometry_encoding=encoding)), tmp_path / "a.parquet")
        with pytest.raises(GeoAssetsError) as caught:
            look(tmp_path / "a.parquet")
        assert caught.value.code == "VECTOR_NO_CRS"


def test_wkt_is_in_the_crs_that_geoarrow_says(tmp_path, look):
    said = {"ARROW:extension:name": "geoarrow.wkt", "ARROW:extension:metadata": '{"crs": "EPSG:25832"}'}
    schema = pa.schema([pa.field("g", pa.string(), metadata=said)])
    pq.write_table(pa.table([["POINT (500000 5700000)"]], schema=schema), tmp_path / "a.parquet")
    (plan,) = look(tmp_path / "a.parquet", geometry_column="g", source_crs="EPSG:3857").layers
    assert plan.srid == 25832
    assert plan.warnings


@pytest.mark.parametrize("kept", [True, False], ids=["by Arrow", "by others"])
def test_a_timestamp_of_96_bits_is_what_it_is_in_any_century(tmp_path, sent, kept):
    moments = ["9999-12-31 00:00:00", "0001-01-01 00:00:00", "2024-02-29 01:02:03.456789"]
    table = pa.table({"g": pa.array(WKB[:1] * 3), "t": pa.array(moments).cast(pa.timestamp("us"))})
    pq.write_table(table, tmp_path / "a.parquet", use_deprecated_int96_timestamps=True, store_schema=kept)
    _, rows, _ = sent(tmp_path / "a.parquet", geometry_column="g", source_crs="EPSG:4326")
    assert [str(row["t"]) for row in rows] == moments


BEFORE_ALL, FIRST = -(2**63), -210_866_803_200_000_000  # of int64, of PostgreSQL


@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Berlin"])
def test_a_date_or_timestamp_that_postgresql_does_not_have_is_null_and_counted(tmp_path, private, load, db, zone):
    moments = pa.array([BEFORE_ALL, 0, FIRST, FIRST - 1, None], pa.int64()).view(pa.timestamp("us", zone))
    lists = pa.ListArray.from_arrays(pa.array([0, 2, None, 3, 4, 5]), moments)
    days = pa.array([-(2**31), 0, -2_440_588, 2**31 - 1, None], pa.int32()).view(pa.date32())
    path = geoparquet(tmp_path / "a.parquet", pa.array(WKB[:1] * 5), t=moments, l=lists, d=days)
    loaded = load(path, "beyond")
    found = db.rows(
        "select t is null, cardinality(array_remove(l, null)), d is null from {t} order by gid", t=loaded.table
    )
    assert [row[0] for row in found] == [True, False, False, True, True]
    assert [row[1] for row in found] == [1, 1, None, 0, 0]
    assert [row[2] for row in found] == [True, False, False, True, True]
    said = send(private(path), loaded.plan)[1].warnings
    assert said == ("6 values are beyond the dates and times that PostgreSQL has (from 4714 BC), now NULL",)


def test_a_table_with_coordinates_may_have_dates_that_python_does_not(tmp_path, look):
    days = pa.array([2_932_897], pa.int32()).view(pa.date32())
    pq.write_table(pa.table({"x": [7.0], "y": [51.0], "d": days}), tmp_path / "a.parquet")
    (plan,) = look(tmp_path / "a.parquet", x="x", y="y", source_crs="EPSG:4326").layers
    assert plan.bounds == (7, 51, 7, 51)
    with pytest.raises(GeoAssetsError, match=r"'d' of a.parquet has the type date32\[day\], which is no coordinate"):
        look(tmp_path / "a.parquet", x="d", y="y", source_crs="EPSG:4326")


def ewkb(srid, byte_order=1):
    point = shapely.set_srid(shapely.Point(500000, 5700000), srid)
    return shapely.to_wkb(point, include_srid=srid > 0, flavor="extended", byte_order=byte_order)


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()], ids=str)
def test_bytes_that_name_their_srid_are_in_its_crs(tmp_path, look, private, kind):
    rows = [None, ewkb(25832), ewkb(25832, 0), ewkb(0), ewkb(25833), b"", ewkb(25832)[:7]]
    pq.write_table(pa.table({"g": pa.array(rows, kind)}), tmp_path / "a.parquet")
    (plan,) = look(tmp_path / "a.parquet", geometry_column="g", source_crs="EPSG:3857").layers
    assert plan.srid == 25832
    silent, unused = plan.warnings
    assert silent == "its geometries that name no SRID were taken for EPSG:25832, which most name"
    assert "source_crs was not used" in unused
    rejected = send(private(tmp_path / "a.parquet"), plan)[1].rejected
    assert rejected == {"another SRID than the other rows": 1, "unreadable geometry": 2}


@pytest.mark.parametrize("plain", [ewkb(0), "POINT(1 2)"], ids=["WKB", "WKT"])
def test_bytes_that_name_no_srid_are_not_in_that_of_one_row(tmp_path, look, private, plain):
    named = "SRID=25832;POINT(1 2)" if isinstance(plain, str) else ewkb(25832)
    pq.write_table(pa.table({"g": [named, *[plain] * 9]}), tmp_path / "a.parquet")
    (plan,) = look(tmp_path / "a.parquet", geometry_column="g", source_crs="EPSG:32633").layers
    assert (plan.srid, plan.rejected_by_reason) == (32633, {"another SRID than the other rows": 1})
    with pytest.raises(GeoAssetsError, match="does not say which CRS"):
        look(tmp_path / "a.parquet", geometry_column="g")


def folder_of(path, *tables):
    path.mkdir()
    for number, table in enumerate(tables):
        pq.write_table(table, path / f"{number}.parquet")
    return path


def test_parts_may_differ_in_the_order_of_their_columns_and_in_how_arrow_keeps_them(tmp_path, sent):
    one = pa.table({"n": pa.array([1], pa.int16()), "s": ["a"], "g": WKB[:1], "l": [[1.5]]})
    two = pa.table(
        {
            "g": pa.array(WKB[:1], pa.large_binary()),
            "s": pa.array(["b"]).dictionary_encode(),
            "l": [[2.5]],
            "n": pa.array([2], pa.uint8()),
        }
    )
    bare = pa.schema([pa.field("n", pa.int16(), nullable=False), *[one.schema.field(i) for i in (1, 2, 3)]])
    none = pa.table({"n": pa.nulls(1), "s": pa.nulls(1), "g": WKB[:1], "l": pa.nulls(1)})
    folder = folder_of(tmp_path / "a.parquet", one, two, one.cast(bare), none)
    _, rows, shapes = sent(folder, geometry_column="g", source_crs="EPSG:4326")
    assert [(row["n"], row["s"], row["l"]) for row in rows] == [
        (1, "a", [1.5]),
        (2, "b", [2.5]),
        (1, "a", [1.5]),
        (None, None, None),
    ]
    assert shapes == PLACES[:1] * 4


@pytest.mark.parametrize(
    ("columns", "named"),
    [
        ({"n": ["1"], "g": WKB[:1]}, "'n'"),
        ({"g": WKB[:1]}, "'n'"),
        ({"n": [1], "g": WKB[:1], "m": [1]}, "'m'"),
        ({"n": [1], "g": ["POINT (7 51)"]}, "'g'"),
    ],
    ids=["type", "missing", "more", "geometry"],
)
def test_parts_with_different_columns_are_refused_and_these_are_named(tmp_path, look, columns, named):
    folder = folder_of(tmp_path / "a.parquet", pa.table({"n": [1], "g": WKB[:1]}), pa.table(columns))
    with pytest.raises(GeoAssetsError, match=rf"1\.parquet differs in {named}"):
        look(folder, geometry_column="g", source_crs="EPSG:4326")


def test_lists_of_nanoseconds_are_cut_as_single_ones_are(tmp_path, sent):
    lists = pa.array([[1999, None]], pa.list_(pa.timestamp("ns")))
    _, rows, _ = sent(geoparquet(tmp_path / "a.parquet", pa.array(WKB[:1]), l=lists))
    assert [each and each.microsecond for each in rows[0]["l"]] == [1, None]


@pytest.mark.parametrize(("encoding", "kept"), [("WKB", "as WKB"), ("geoarrow", "as its coordinates")])
def test_a_second_geometry_is_named_with_how_it_is_kept(tmp_path, look, encoding, kept):
    two = points(1)
    two["centre"] = two.geometry
    two.to_parquet(tmp_path / "a.parquet", geometry_encoding=encoding)
    (plan,) = look(tmp_path / "a.parquet").layers
    assert kept in " ".join(plan.warnings)
