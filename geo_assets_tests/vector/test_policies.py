"""Filters, rejects and policies, from a file's bytes to the tables: every feature is loaded, rejected or filtered, and
the counts say which.
"""

import json

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import shapely
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from geo_assets.errors import GeoAssetsError
from geo_assets.vector.models import InspectRequest
from geo_assets.vector.reader.inspect import inspect
from geo_assets_tests.vector.builders import (
    BOWTIE,
    NATURAL_EARTH,
    SQUARE,
    frame,
    points,
    shapefile_parts,
    write,
    zipped,
)
from geo_assets_tests.vector.conftest import send

ENDINGS = ("gpkg", "shp", "geojson", "geojsonl", "fgb", "kml", "parquet", "csv")


def as_file(source, path):
    """The frame in the format of the path's ending."""
    if path.suffix == ".parquet":
        source.to_parquet(path)
    elif path.suffix == ".csv":
        table = pd.DataFrame(source.drop(columns="geometry"))
        table.assign(lon=source.geometry.x, lat=source.geometry.y).to_csv(path, index=False)
    else:
        write(source, path)
    return path


def refusal(look, path, code, **request):
    with pytest.raises(GeoAssetsError) as caught:
        look(path, **request)
    assert caught.value.code == code, caught.value
    return str(caught.value)


def sent(private, path, plan):
    """The rows of a plan's stream and the child's report; the account is checked."""
    file, report = send(private(path), plan)
    rows = pa.ipc.open_stream(file).read_all()
    rejects = pa.ipc.open_stream(file).read_all()
    assert len(rows) == report.rows
    assert len(rejects) == sum(report.rejected.values())
    assert plan.feature_count == report.rows + report.filtered + sum(report.rejected.values())
    return rows, rejects, report


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_filter_means_the_same_for_every_format(tmp_path, private, look, ending):
    rng = np.random.default_rng(5)
    source = points(
        500, n=rng.integers(-50, 50, 500).astype("int32"), name=rng.choice(["Alpha", "alpha", "Älpha", "B%"], 500)
    )
    path = as_file(source, tmp_path / f"a.{ending}")
    plan = look(
        path, where="n > 10.5 and (NAME like 'A%' or name = 'B%')", columns=("n",), bbox=(5.2, 0, 5.8, 90)
    ).layers[0]
    rows, _, report = sent(private, path, plan)
    met = source[(source.n > 10) & source.name.isin(["Alpha", "B%"])].cx[5.2:5.8, 0:90]
    assert rows.column_names == ["n", "geom"]
    assert sorted(rows["n"].to_pylist()) == sorted(met.n.tolist())  # a FlatGeobuf is in the order of its index
    assert report.filtered == plan.filtered == 500 - len(met)


@pytest.mark.parametrize("ending", ENDINGS)
def test_an_unknown_column_is_an_error_for_every_format(tmp_path, look, ending):
    path = as_file(points(3, n=[1, 2, 3]), tmp_path / f"a.{ending}")
    assert "'nope'" in refusal(look, path, "UNKNOWN_COLUMN", columns=("n", "nope"))
    assert "'nope'" in refusal(look, path, "UNKNOWN_COLUMN", where="nope = 1")


def test_more_columns_than_a_table_may_have_are_refused_unless_some_are_chosen(tmp_path, look):
    path, names = tmp_path / "a.csv", [f"c{i}" for i in range(1597)]
    path.write_text(f"lon,lat,{','.join(names)}\n" + ",".join(["1"] * 1599) + "\n")
    said = refusal(look, path, "VECTOR_UNSUPPORTED_TYPE")
    assert said == "a.csv has 1,599 columns, and a table of PostgreSQL at most 1,598 beside gid and geom"
    assert len(look(path, columns=("lon", *names)).layers[0].columns) == 1598


def test_columns_come_in_the_order_in_which_they_are_named(tmp_path, private, look):
    path = write(points(2, a=[1, 2], b=[3, 4], c=[5, 6]), tmp_path / "a.gpkg")
    plan = look(path, columns=("C", "a"), where="b = 4").layers[0]
    assert sent(private, path, plan)[0].to_pylist()[0] | {"geom": None} == {"c": 6, "a": 2, "geom": None}


def test_a_filter_that_leaves_nothing_is_refused(tmp_path, look):
    path = write(points(3, n=[1, 2, 3]), tmp_path / "a.gpkg")
    assert "nothing of 3 features" in refusal(look, path, "VECTOR_ALL_FILTERED", where="n > 3")
    refusal(look, path, "VECTOR_ALL_FILTERED", bbox=(100, 0, 101, 1))


@pytest.mark.parametrize(
    ("bbox", "bbox_crs", "expected"),
    [
        ((172, -44, 176, -40), "EPSG:4326", [1]),
        ((1_500_000, 5_100_000, 1_850_000, 5_600_000), "EPSG:2193", [1]),
        ((170, -90, -170, 90), "EPSG:4326", [1, 2]),
        ((-180, -90, 180, 90), "EPSG:4326", [0, 1, 2]),
    ],
)
def test_a_box_may_be_in_any_crs_and_cross_the_antimeridian(tmp_path, private, look, bbox, bbox_crs, expected):
    source = gpd.GeoDataFrame({"n": [0, 1, 2]}, geometry=gpd.points_from_xy([10, 174, -175], [50, -42, -15]), crs=4326)
    path = write(source, tmp_path / "a.gpkg")
    assert sent(private, path, look(path, bbox=bbox, bbox_crs=bbox_crs).layers[0])[0]["n"].to_pylist() == expected


def test_a_box_takes_what_touches_it_and_not_what_only_its_box_does(tmp_path, private, look):
    path = write(frame("LINESTRING(0 0,10 10)", "LINESTRING(4 4,5 5)", None, n=[1, 2, 3]), tmp_path / "a.gpkg")
    rows, _, report = sent(private, path, look(path, bbox=(4, 4, 4.5, 4.5)).layers[0])
    assert (rows["n"].to_pylist(), report.filtered) == ([1, 2], 1)
    refusal(look, path, "VECTOR_ALL_FILTERED", bbox=(0, 8, 2, 10))


CITIES = {"Berlin": (13.4, 52.5), "Praha": (14.42, 50.09), "Wien": (16.37, 48.21)}


def within(look, private, source, path, **options):
    """The names of what is loaded."""
    return sent(private, path, look(write(source, path), **options).layers[0])[0]["n"].to_pylist()


@pytest.mark.parametrize(
    "crs",
    [5514, 25832, 3035, 2056, 4314, 2154, 3857, 4807, 3995],
)
def test_a_box_takes_the_same_places_in_every_crs(tmp_path, private, look, crs):
    places = gpd.GeoDataFrame(
        {"n": list(CITIES)}, geometry=gpd.points_from_xy(*np.transpose(list(CITIES.values()))), crs=4326
    )
    areas = places.set_geometry(places.to_crs(3035).buffer(1000).to_crs(4326))
    for kind, source in (("points", places), ("areas", areas)):
        for number, (box, expected) in enumerate(
            (
                ((-180, -90, 180, 90), list(CITIES)),
                ((-10, 35, 40, 70), list(CITIES)),
                ((13.5, 48, 16.5, 51), ["Praha", "Wien"]),
                ((179, -80, 16, 90), ["Berlin", "Praha"]),
                ((14.42, 50.09, 14.42, 50.09), ["Praha"]),
                ((14.42, 45, 14.42, 55), ["Praha"]),
            )
        ):
            path = tmp_path / f"{kind}{number}.gpkg"
            assert within(look, private, source.to_crs(crs), path, bbox=box) == expected, (kind, box)


def test_a_box_across_the_antimeridian_takes_what_is_there_and_no_more(tmp_path, private, look):
    places = frame("POINT(177 -40)", "POINT(-177 -40)", "POINT(160 -40)", "POINT(-160 -40)", n=list("abcd"))
    for crs in ("EPSG:4326", "EPSG:4272", "EPSG:32760", "EPSG:3857"):
        path = tmp_path / f"{crs[5:]}.gpkg"
        assert within(look, private, places.to_crs(crs), path, bbox=(170, -50, -170, -30)) == ["a", "b"]
    north = frame("POINT(177 10)", "POINT(55 10)", n=["a", "b"]).to_crs("EPSG:32660")
    with pytest.raises(GeoAssetsError):
        look(write(north[:1], tmp_path / "n.gpkg"), bbox=(-30, -80, 60, 84))


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:4272"])
def test_longitudes_that_are_counted_to_360_are_those_of_the_box(tmp_path, private, look, crs):
    squares = [shapely.box(west, -45, west + width, -35) for west, width in ((182, 1), (185, 10), (200, 1))]
    places = gpd.GeoDataFrame({"n": list("abc")}, geometry=squares, crs=crs)
    assert within(look, private, places, tmp_path / "a.gpkg", bbox=(170, -50, -170, -30)) == ["a", "b"]


def test_a_box_within_a_polygon_around_a_pole_touches_it(tmp_path, private, look):
    ring = shapely.Point(0, 0).buffer(3e6).difference(shapely.Point(0, 0).buffer(1e6))
    source = gpd.GeoDataFrame({"n": ["ring"]}, geometry=[ring], crs=3995)
    for name, box in (("a", (10, 70, 11, 71)), ("b", (179, 70, -179, 71)), ("c", (-180, 60, 180, 70))):
        assert within(look, private, source, tmp_path / f"{name}.gpkg", bbox=box) == ["ring"]
    for box in ((10, 85, 11, 86), (-180, 85, 180, 90), (0, 0, 90, 50)):
        refusal(look, write(source, tmp_path / "d.gpkg"), "VECTOR_ALL_FILTERED", bbox=box)


@pytest.mark.parametrize("bbox", [(0, 5, 1, 4), (float("nan"), 0, 1, 1), (0, 0, float("inf"), 1)])
def test_a_box_that_is_none_is_refused(tmp_path, look, bbox):
    refusal(look, write(points(2), tmp_path / "a.gpkg"), "INVALID_FILTER", bbox=bbox)


def test_rejected_features_are_kept_with_their_id_reason_bytes_and_attributes(tmp_path, load, db):
    source = frame(
        SQUARE,
        "POLYGON EMPTY",
        "POLYGON((0 0,1 1,0 0,0 0))",
        BOWTIE,
        name=["a", "b", "", None],
        größe=[1, 2, None, 4.5],
    )
    load(write(source, tmp_path / "a.gpkg"), "some")
    assert db.value("select count(*) from vector.some") == 2
    assert db.rows(
        "select src_fid, reason, geom_wkb is not null, attributes from vector.some__rejects order by reject_id"
    ) == [
        (2, "empty geometry", True, {"fid": 2, "name": "b", "grosse": 2}),
        (3, "not repairable: Too few points in geometry component", True, {"fid": 3, "name": "", "grosse": None}),
    ]
    load(write(frame(SQUARE, name=["a"]), tmp_path / "b.gpkg"), "some")
    assert "some__rejects" not in db.published()


def test_rows_of_text_that_locate_nothing_are_rejected_by_their_place(tmp_path, load, db):
    path = tmp_path / "a.csv"
    path.write_text("lon,lat,name\n1,2,a\nx,2,b\n,,c\n3,4,d\n")
    load(path, "texts")
    assert db.rows("select src_fid, reason, attributes from vector.texts__rejects") == [
        (2, "coordinates are not numbers", {"lon": "x", "lat": 2, "name": "b"}),
    ]
    assert db.rows("select name, geom is null from vector.texts order by gid") == [
        ("a", False),
        ("c", True),
        ("d", False),
    ]


def test_a_layer_that_is_nearly_all_rejected_does_not_fill_memory_and_adds_up(tmp_path, private, look):
    path = write(frame(*["POLYGON EMPTY"] * 20_000, SQUARE), tmp_path / "a.gpkg")
    rows, rejects, _ = sent(private, path, look(path).layers[0])
    assert (len(rows), len(rejects)) == (1, 20_000)
    assert rejects["src_fid"].to_pylist() == list(range(1, 20_001))


def test_null_geometry_is_kept_or_rejected_as_is_asked(tmp_path, private, look):
    path = write(frame("POINT(1 2)", None), tmp_path / "a.gpkg")
    assert sent(private, path, look(path).layers[0])[2].rows == 2
    assert sent(private, path, look(path, null_geometry="reject").layers[0])[2].rejected == {"no geometry": 1}


MIXED = (
    "POINT(1 2)",
    SQUARE,
    "LINESTRING(0 0,1 1)",
    SQUARE,
    None,
    "POLYGON EMPTY",
    f"GEOMETRYCOLLECTION({SQUARE},POINT(1 2))",
    "MULTIPOINT((5 6))",
)


def test_a_mixed_layer_is_split_and_each_feature_is_in_one_table(tmp_path, load, db):
    loaded = load(write(frame(*MIXED, n=list(range(8))), tmp_path / "a.gpkg"), "mixed")
    kinds = {plan.label: (plan.geometry_type, plan.feature_count) for plan in loaded.report.layers}
    assert kinds == {"a/point": ("MULTIPOINT", 5), "a/line": ("MULTILINESTRING", 1), "a/polygon": ("MULTIPOLYGON", 2)}
    assert [db.rows("select n from {t} order by 1", t=t.table) for t in loaded.tables] == [
        [(0,), (4,), (7,)],
        [(2,)],
        [(1,), (3,)],
    ]
    assert db.rows("select src_fid, reason from vector.mixed__rejects order by 1") == [
        (6, "empty geometry"), (7, "geometry collection of several kinds"),
    ]  # fmt: skip


def test_a_mixed_layer_is_one_untyped_table_if_that_is_wanted(tmp_path, load, db):
    loaded = load(write(frame(*MIXED, n=list(range(8))), tmp_path / "a.gpkg"), "generic", mixed="generic")
    assert db.rows("select type, srid from geometry_columns where f_table_name = 'generic'") == [("GEOMETRY", 4326)]
    assert loaded.tables[0].rows == 7
    assert db.value("select count(distinct geometrytype(geom)) from vector.generic") == 5


def test_a_mixed_layer_can_be_filtered_and_transformed_as_any_other(tmp_path, private, look):
    path = write(frame(*MIXED, n=list(range(8))), tmp_path / "a.gpkg")
    layers = look(path, where="n < 6", bbox=(0.5, 0.5, 3, 3), target_crs="EPSG:3857").layers
    sums = [sent(private, path, plan)[2] for plan in layers]
    assert sum(report.rows for report in sums) == 4
    assert sum(plan.feature_count for plan in layers) == 8


def test_layers_are_chosen_by_name(tmp_path, look):
    path = write(points(3), tmp_path / "a.gpkg", layer="one")
    write(points(4), path, layer="two")
    assert [plan.layer for plan in look(path, layers=("two",)).layers] == ["two"]
    assert "'one', 'two'" in refusal(look, path, "UNKNOWN_LAYER", layers=("three",))


def test_layers_without_geometry_are_tables_on_request(tmp_path, load, look, db):
    import pyogrio

    path = write(points(3), tmp_path / "a.gpkg", layer="places")
    pyogrio.write_dataframe(pd.DataFrame({"code": [1, 2], "text": ["x", ""]}), path, layer="codes")
    assert [plan.layer for plan in look(path).layers] == ["places"]
    loaded = load(path, "att", attribute_tables=True)
    assert [(plan.layer, plan.geometry_type, plan.srid) for plan in loaded.report.layers] == [
        ("places", "POINT", 4326),
        ("codes", None, 0),
    ]
    assert db.rows("select gid, code, text from vector.att_1") == [(1, 1, "x"), (2, 2, "")]


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_table_without_any_geometry_is_one_of_attributes_on_request(tmp_path, look, load, db, ending):
    path, table = tmp_path / f"a.{ending}", pd.DataFrame({"code": [1, 2], "text": ["x", "y"]})
    table.to_csv(path, index=False) if ending == "csv" else table.to_parquet(path)
    refusal(look, path, "VECTOR_NO_GEOMETRY")
    load(path, "plain", attribute_tables=True, where="code = 2")
    assert db.rows("select code, text from vector.plain") == [(2, "y")]


def test_swapped_axes_are_refused_and_a_wide_geometry_is_pointed_out(tmp_path, look):
    source = gpd.GeoDataFrame(geometry=gpd.points_from_xy([5_400_000, 5_450_000], [1_600_000, 1_650_000]), crs=2193)
    refusal(look, write(source, tmp_path / "a.gpkg"), "AXES_SWAPPED")
    source = gpd.GeoDataFrame(geometry=gpd.points_from_xy([-41, -42], [174, 175]), crs=4326)
    refusal(look, write(source, tmp_path / "b.gpkg"), "AXES_SWAPPED")
    wide = write(frame("POLYGON((179 0,-179 0,-179 1,179 1,179 0))"), tmp_path / "c.gpkg")
    assert "antimeridian" in look(wide).layers[0].warnings[0]


def test_a_transformation_must_be_as_accurate_as_is_asked(tmp_path, look):
    path = write(gpd.GeoDataFrame(geometry=gpd.points_from_xy([-80], [35]), crs=4267), tmp_path / "a.gpkg")
    plan = look(path, target_crs="EPSG:4326").layers[0]
    assert "us_noaa" in plan.warnings[0]
    assert "us_noaa" in refusal(look, path, "TRANSFORM_INACCURATE", target_crs="EPSG:4326", max_transform_accuracy_m=1)
    assert (
        look(path, target_crs="EPSG:4326", max_transform_accuracy_m=100).layers[0].transform_accuracy_m
        == plan.transform_accuracy_m
    )


def test_what_is_trusted_goes_in_as_it_is(tmp_path, load, db):
    loaded = load(write(frame(SQUARE, BOWTIE, None), tmp_path / "a.gpkg"), "trusted", trust_geometry=True)
    assert loaded.plan.wkb_as_is
    assert db.rows("select st_isvalid(geom) from vector.trusted order by gid") == [(True,), (False,), (None,)]
    assert loaded.plan.bounds == (0, 0, 2, 2)


def test_a_load_that_looks_once_gives_what_one_that_looks_twice_gives(tmp_path, private):
    path = write(frame(*[SQUARE, BOWTIE, "POLYGON EMPTY", None] * 50), tmp_path / "a.gpkg")
    tables = []
    for thorough in (True, False):
        plan = inspect(InspectRequest(source=str(private(path)), target_crs="EPSG:3857", thorough=thorough)).layers[0]
        rows, rejects, report = sent(private, path, plan)
        tables.append((rows, rejects, report.repaired))
    assert tables[0][0].equals(tables[1][0])
    assert tables[0][1].equals(tables[1][1])
    assert tables[0][2] == tables[1][2] == {"Self-intersection": 50}


def test_a_zip_in_a_zip_is_read_and_a_nest_of_them_is_not(tmp_path, look):
    one, two = write(points(2), tmp_path / "ROADS.shp"), write(points(3), tmp_path / "b.gpkg")
    inner = zipped(tmp_path / "inner.ZIP", *shapefile_parts(one))
    path = zipped(tmp_path / "outer.zip", **{"x/inner.ZIP": inner, "b.gpkg": two})
    assert [(plan.member, plan.feature_count) for plan in look(path).layers] == [
        ("b.gpkg", 3),
        ("x/inner.ZIP/ROADS.shp", 2),
    ]
    nest = inner
    for depth in range(4):
        nest = zipped(tmp_path / f"nest{depth}.zip", nest)
    assert "deep" in refusal(look, nest, "UNSAFE_ARCHIVE")


@pytest.mark.parametrize(
    ("name", "body", "remedy"),
    [
        ("a.dxf", "  0\nSECTION\n  2\nHEADER\n", "ogr2ogr"),
        ("a.dxf", "999\nmade by hand\n0\r\nSECTION\n", "ogr2ogr"),
        ("a.csv", "AutoCAD Binary DXF\r\n\x1a", "ogr2ogr"),
        ("a.json", '<osm version="0.6"/>', "ogr2ogr"),
        ("a.xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1".decode("latin-1"), "CSV"),
    ],
)
def test_formats_that_are_refused_come_with_a_remedy(tmp_path, look, name, body, remedy):
    path = tmp_path / name
    path.write_text(body, encoding="latin-1")
    with pytest.raises(GeoAssetsError) as caught:
        look(path)
    assert caught.value.code == "VECTOR_UNSUPPORTED"
    assert remedy in caught.value.remedy


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    wkts=st.lists(st.sampled_from([SQUARE, BOWTIE, "POINT(1 2)", "LINESTRING(0 0,1 1)", "POLYGON EMPTY", None, "POINT(500 2)", MIXED[6]]), min_size=1, max_size=12),
    mixed=st.sampled_from(["split", "generic"]),
    null_geometry=st.sampled_from(["keep", "reject"]),
    where=st.sampled_from([None, "n > 3", "n <= 5 or n is null"]),
    bbox=st.sampled_from([None, (0.5, 0.5, 3, 3)]),
    target=st.sampled_from([None, "EPSG:3857"]),
    thorough=st.booleans(),
)  # fmt: skip
def test_whatever_the_file_and_the_policies_every_feature_is_loaded_rejected_or_filtered(
    tmp_path_factory, wkts, mixed, null_geometry, where, bbox, target, thorough
):
    folder = tmp_path_factory.mktemp("any")
    path = write(frame(*wkts, n=list(range(len(wkts)))), folder / "a.gpkg", geometry_type="Unknown")
    request = InspectRequest(
        source=str(path),
        mixed=mixed,
        null_geometry=null_geometry,
        where=where,
        bbox=bbox,
        target_crs=target,
        thorough=thorough,
    )
    try:
        layers = inspect(request).layers
    except GeoAssetsError as error:
        assert error.code in {"VECTOR_ALL_REJECTED", "VECTOR_ALL_FILTERED", "VECTOR_NO_GEOMETRY"}  # noqa: PT017
        return
    fates = []
    for plan in layers:
        try:
            file, report = send(path, plan)
        except GeoAssetsError as error:
            assert error.code == "VECTOR_ALL_REJECTED"  # noqa: PT017
            return
        rows, rejects = pa.ipc.open_stream(file).read_all(), pa.ipc.open_stream(file).read_all()
        fates += rows["n"].to_pylist() + [json.loads(text)["n"] for text in rejects["attributes"].to_pylist()]
        assert plan.feature_count == report.rows + report.filtered + sum(report.rejected.values())
        assert shapely.is_valid(shapely.from_wkb(rows["geom"].drop_null().to_numpy())).all()
    assert len(fates) == len(set(fates))
    assert len(fates) + sum(plan.filtered for plan in layers) >= len(wkts) - (len(wkts) if bbox and not thorough else 0)
    assert sum(plan.feature_count for plan in layers) == len(wkts)


def test_the_samples_of_geos_keep_their_dimension_when_repaired(tmp_path, load, db):
    load(write(gpd.read_file(NATURAL_EARTH), tmp_path / "ne.gpkg"), "ne_moved", target_crs="EPSG:3035")
    assert db.value("select count(*) from vector.ne_moved where not st_isvalid(geom)") == 0
