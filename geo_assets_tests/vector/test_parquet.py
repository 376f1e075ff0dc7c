"""Parquet as programs write it: geometries in each of Arrow's types for bytes, and parts that differ."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
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
