"""Geometries that are looked at while they are sent give the table and the plan that looking before gives."""

import json
import sqlite3
import struct
import zipfile
from contextlib import closing
from dataclasses import replace
from io import BytesIO

import geopandas as gpd
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyogrio
import pytest
import shapely
from pyproj import CRS
from shapely.geometry import LineString, MultiPoint, MultiPolygon, Point, Polygon, box

from geo_assets.errors import GeoAssetsError
from geo_assets.stages.vector_load import _as_found
from geo_assets.vector.models import Found, InspectRequest, StreamRequest
from geo_assets.vector.reader import geometry
from geo_assets.vector.reader.batches import BATCH_ROWS
from geo_assets.vector.reader.filters import LayerFilter
from geo_assets.vector.reader.inspect import inspect
from geo_assets.vector.reader.simple import Sound
from geo_assets.vector.reader.sqlite_values import SQLiteCheck
from geo_assets.vector.reader.stream import stream
from geo_assets_tests.vector.builders import NATURAL_EARTH, altered, contradicting, write

BOW = Polygon([(0, 0), (2, 2), (2, 0), (0, 2)])
HOLED = box(0, 0, 9, 9) - box(1, 1, 2, 2)
BOW_IN_UTM = Polygon([(5e5, 5e6), (5.02e5, 5.02e6), (5.02e5, 5e6), (5e5, 5.02e6)])
FAR = box(700, 0, 701, 1)  # beyond any longitude
GARBAGE = box(0, 0, 1e13, 1)


def loaded(path, *, later, **options):
    """Plan, corrected by what was found, rows and rejects."""
    (plan,) = inspect(InspectRequest(source=str(path), thorough=not later, **options)).layers
    assert plan.looked_at_later is later
    sink = BytesIO()
    report = stream(StreamRequest(source=str(path), plan=plan), sink)
    sink.seek(0)
    rows = pa.ipc.open_stream(sink).read_all()
    rejects = pa.ipc.open_stream(sink).read_all()
    return _as_found(plan, report), replace(report, found=None), rows, rejects


def as_the_stages_load(path, **options):
    """By a plan of what the file states, and, where that is found to be wrong, by another; and how many plans it took."""
    request = InspectRequest(source=str(path), thorough=False, **options)
    for attempt in (1, 2):
        (plan,) = inspect(replace(request, look_first=attempt == 2)).layers
        sink = BytesIO()
        report = stream(StreamRequest(source=str(path), plan=plan), sink)
        if report.as_planned and (report.found is None or report.found.fits(plan)):
            sink.seek(0)
            return _as_found(plan, report), pa.ipc.open_stream(sink).read_all(), attempt
    raise AssertionError(report)


KINDS = {
    "sound": [box(0, 0, 1, 1), box(3, 3, 4, 5), Polygon([(0, 0), (5, 0), (2, 8)])],
    "repaired": [box(0, 0, 1, 1), BOW, HOLED],
    "rejected": [FAR, box(0, 0, 1, 1), BOW],
    "absurd": [box(0, 0, 1, 1), GARBAGE],
    "without": [None, box(0, 0, 1, 1), None, BOW],
    "multi": [MultiPolygon([box(0, 0, 1, 1), box(2, 2, 3, 3)]), MultiPolygon([box(0, 0, 1, 1), box(0.5, 0, 3, 3)])],
    "heights": [Polygon([(0, 0, 1), (1, 0, 2), (1, 1, 3)]), Polygon([(0, 0, 1), (2, 2, 2), (2, 0, 3), (0, 2, 4)])],
    "wide": [box(-170, 0, 170, 1), box(0, 0, 1, 1)],
    "points": [Point(1, 2), Point(3, 4)],
    "multi points": [MultiPoint([(1, 2), (3, 4)]), MultiPoint([(5, 6)])],
    "lines": [LineString([(0, 0), (1, 1)]), LineString([(0, 0), (2, 1), (1, 1)])],
    "lines of a place": [LineString([(0, 0), (1, 1)]), LineString([(2, 2), (2, 2)])],
}


def same(path, **options):
    later, before = (loaded(path, later=when, **options) for when in (True, False))
    assert Found.of(later[0]) == Found.of(before[0])
    assert later[0].feature_count == before[0].feature_count
    assert (later[0].geometry_type, later[0].has_z, later[0].srid) == (
        before[0].geometry_type,
        before[0].has_z,
        before[0].srid,
    )
    assert later[1:] == before[1:]
    return later


@pytest.mark.parametrize("kind", KINDS)
def test_the_table_and_the_plan_are_the_same_whenever_geometries_are_looked_at(tmp_path, kind):
    path = write(gpd.GeoDataFrame({"n": range(len(KINDS[kind]))}, geometry=KINDS[kind], crs=4326), tmp_path / "a.gpkg")
    _, report, rows, rejects = same(path)
    assert len(rows) + len(rejects) == len(KINDS[kind])
    assert (report.rejected != {}) == (kind in {"rejected", "absurd", "lines of a place"})


@pytest.mark.parametrize("trust", [False, True])
@pytest.mark.parametrize("ending", ["shp", "fgb", "parquet"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_same_holds_for_what_the_header_of_a_file_states(tmp_path, kind, ending, trust):
    shapes = [shape for shape in KINDS[kind] if shape is not None or ending != "fgb"]
    path = write(gpd.GeoDataFrame({"n": range(len(shapes))}, geometry=shapes, crs=4326), tmp_path / f"a.{ending}")
    if not trust:
        same(path)
    plan, rows, _ = as_the_stages_load(path, trust_geometry=trust)
    (before,) = inspect(InspectRequest(source=str(path), thorough=False, look_first=True, trust_geometry=trust)).layers
    sink = BytesIO()
    stream(StreamRequest(source=str(path), plan=before), sink)
    sink.seek(0)
    assert rows == pa.ipc.open_stream(sink).read_all()
    assert (plan.geometry_type, plan.has_z, plan.bounds) == (before.geometry_type, before.has_z, before.bounds)


def text_of(path, shapes):
    """The shapes in a format that GDAL reads whole; LIBKML writes no geometry that is invalid, the older driver does."""
    frame = gpd.GeoDataFrame({"n": range(len(shapes))}, geometry=shapes, crs=4326)
    if path.suffix != ".kml":
        return write(frame, path)
    frame.to_file(path, driver="KML", engine="pyogrio")
    return path


@pytest.mark.parametrize("trust", [False, True])
@pytest.mark.parametrize("ending", ["kml", "gml", "mif", "tab"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_same_holds_for_what_gdal_reads_whole_and_is_kept(tmp_path, kind, ending, trust):
    shapes = KINDS[kind]
    if ending in {"mif", "tab"}:
        shapes = [shape and shapely.force_2d(shape) for shape in shapes]
    path = text_of(tmp_path / f"a.{ending}", shapes)
    plan, rows, attempts = as_the_stages_load(path, trust_geometry=trust)
    request = InspectRequest(source=str(path), thorough=False, look_first=True, trust_geometry=trust)
    (before,) = inspect(request).layers
    sink = BytesIO()
    stream(StreamRequest(source=str(path), plan=before), sink)
    sink.seek(0)
    assert attempts == 1
    assert Found.of(plan) == Found.of(before)
    assert (plan.columns, plan.feature_count) == (before.columns, before.feature_count)
    assert rows == pa.ipc.open_stream(sink).read_all()


@pytest.mark.parametrize("ending", ["kml", "gml", "mif", "tab"])
def test_what_gdal_reads_whole_is_looked_at_while_it_is_sent(tmp_path, ending):
    path = text_of(tmp_path / f"a.{ending}", [box(0, 0, 1, 1), BOW])
    assert loaded(path, later=True)[1].repaired == {"Self-intersection": 1}


@pytest.mark.parametrize("trust", [False, True])
@pytest.mark.parametrize("ending", ["shp", "parquet"])
def test_a_file_that_states_a_kind_of_geometry_and_has_none_is_what_looking_before_finds(tmp_path, ending, trust):
    if ending == "parquet":
        path = parquet(tmp_path / "a.parquet", [None, None])
    else:
        path = write(gpd.GeoDataFrame({"n": [0, 1]}, geometry=[Polygon(), Polygon()], crs=4326), tmp_path / "a.shp")
    with pytest.raises(GeoAssetsError, match="no geometry in its 2 features") as caught:
        as_the_stages_load(path, trust_geometry=trust)
    assert caught.value.code == "VECTOR_NO_GEOMETRY"
    plan, rows, _ = as_the_stages_load(path, trust_geometry=trust, attribute_tables=True)
    assert (plan.geometry_type, rows["n"].to_pylist()) == (None, [0, 1])


def test_an_extent_of_a_geoparquet_is_measured_also_where_geometry_is_trusted(tmp_path):
    path = parquet(tmp_path / "a.parquet", [shapely.to_wkb(box(0, 0, 1, 1))], bbox=[0, 0, 50, 50])
    plan, *_ = as_the_stages_load(path, trust_geometry=True)
    assert plan.bounds == (0, 0, 1, 1)


def test_a_shapefile_of_which_rows_are_deleted_is_looked_at_first(tmp_path):
    frame = gpd.GeoDataFrame({"n": range(5)}, geometry=[Point(i, i) for i in range(5)], crs=4326)
    path = write(frame, tmp_path / "a.shp")
    dbf = bytearray(path.with_suffix(".dbf").read_bytes())
    start, width = struct.unpack_from("<HH", dbf, 8)
    for row in (1, 4):
        dbf[start + row * width] = ord("*")
    path.with_suffix(".dbf").write_bytes(dbf)
    plan, rows, plans = as_the_stages_load(path)
    assert (plan.feature_count, rows["n"].to_pylist(), plans) == (3, [0, 2, 3], 2)


def test_an_extent_that_a_shapefile_states_wrongly_is_not_believed(tmp_path):
    path = write(gpd.GeoDataFrame({"n": [1]}, geometry=[box(5e5, 5e6, 5.1e5, 5.1e6)], crs=32632), tmp_path / "a.shp")
    shp = path.read_bytes()
    path.write_bytes(shp[:36] + struct.pack("<4d", 5e6, 5e5, 5.1e6, 5.1e5) + shp[68:])
    plan, *_ = same(path)
    assert plan.bounds == (5e5, 5e6, 5.1e5, 5.1e6)


def test_a_flatgeobuf_that_states_no_kind_of_geometry_is_looked_at_first(tmp_path):
    shapes = [Point(1, 2), box(0, 0, 1, 1)]
    path = write(gpd.GeoDataFrame({"n": [1, 2]}, geometry=shapes, crs=4326), tmp_path / "a.fgb")
    (plan,) = inspect(InspectRequest(source=str(path), thorough=False, mixed="generic")).layers
    assert (plan.geometry_type, plan.looked_at_later) == ("GEOMETRY", False)


@pytest.mark.parametrize("trust", [False, True])
@pytest.mark.parametrize("shapes", [[BOW, None], [None, BOW], [BOW, None, HOLED], [None, None, BOW]], ids=len)
def test_features_of_a_flatgeobuf_without_geometry_are_kept(tmp_path, shapes, trust):
    frame = gpd.GeoDataFrame({"n": range(len(shapes))}, geometry=shapes, crs=4326)
    path = write(frame, tmp_path / "a.fgb", SPATIAL_INDEX="NO")
    plan, rows, _ = as_the_stages_load(path, trust_geometry=trust)
    assert rows["n"].to_pylist() == list(range(len(shapes)))
    assert [wkb is None for wkb in rows["geom"].to_pylist()] == [shape is None for shape in shapes]
    assert plan.null_geometries == shapes.count(None)


def with_an_index(path):
    """A FlatGeobuf of points with an index, as other programs than GDAL write one, also where geometries are missing."""
    data = bytearray(path.read_bytes())
    body = 12 + struct.unpack_from("<I", data, 8)[0]
    root = 12 + struct.unpack_from("<I", data, 12)[0]
    fields = root - struct.unpack_from("<i", data, root)[0]
    node_size = root + struct.unpack_from("<H", data, fields + 4 + 9 * 2)[0]
    struct.pack_into("<H", data, node_size, 16)
    places, place = [], body
    while place < len(data):
        places.append(place - body)
        place += 4 + struct.unpack_from("<I", data, place)[0]
    leaves = (struct.pack("<4dQ", i, i, i, i, place) for i, place in enumerate(places))
    tree = struct.pack("<4dQ", 0, 0, len(places), len(places), 40) + b"".join(leaves)
    path.write_bytes(data[:body] + tree + data[body:])
    return path


@pytest.mark.parametrize("missing", [0, 2, 4])
def test_features_of_a_flatgeobuf_with_an_index_that_lack_a_geometry_are_kept(tmp_path, missing):
    shapes = [None if i == missing else Point(i, i) for i in range(5)]
    frame = gpd.GeoDataFrame({"n": range(5)}, geometry=shapes, crs=4326)
    path = with_an_index(write(frame, tmp_path / "a.fgb", SPATIAL_INDEX="NO"))
    assert pyogrio.read_info(path)["capabilities"]["fast_spatial_filter"]
    _, rows, _ = as_the_stages_load(path)
    assert rows["n"].to_pylist() == list(range(5))
    assert [None if wkb is None else shapely.from_wkb(wkb) for wkb in rows["geom"].to_pylist()] == shapes


@pytest.mark.parametrize("options", [{"trust_geometry": True}, {"target_crs": "EPSG:3857"}, {}], ids=str)
def test_a_box_leaves_out_what_is_no_place(tmp_path, options):
    nowhere = Polygon([(0, 0), (1, 0), (1, float("nan")), (0, 1)])
    path = parquet(tmp_path / "a.parquet", [shapely.to_wkb(box(0, 0, 1, 1)), shapely.to_wkb(nowhere)])
    _, report, rows, _ = loaded(path, later=False, bbox=(0, 0, 2, 2), **options)
    assert rows["n"].to_pylist() == [0]
    assert sum(report.rejected.values()) == 1


def test_a_flatgeobuf_that_is_cut_off_is_unreadable(tmp_path):
    frame = gpd.GeoDataFrame({"n": range(5000)}, geometry=[Point(i / 100, i / 100) for i in range(5000)], crs=4326)
    path = write(frame, tmp_path / "a.fgb")
    path.write_bytes(path.read_bytes()[:-4000])
    for trust in (False, True):
        with pytest.raises(GeoAssetsError) as caught:
            as_the_stages_load(path, trust_geometry=trust)
        assert caught.value.code == "UNREADABLE"


def parquet(path, wkb, **said):
    """A GeoParquet of these bytes, whose metadata says this of them."""
    column = {"encoding": "WKB", "geometry_types": ["Polygon"], "bbox": [0, 0, 3, 3], **said}
    geo = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}
    table = pa.table({"n": list(range(len(wkb))), "geometry": pa.array(wkb, pa.binary())})
    pq.write_table(table.replace_schema_metadata({"geo": json.dumps(geo)}), path)
    return path


@pytest.mark.parametrize("options", [{"byte_order": 0}, {"flavor": "extended", "include_srid": True}, {}], ids=str)
@pytest.mark.parametrize("trust", [False, True])
def test_bytes_that_are_not_as_postgis_wants_them_are_written_anew(tmp_path, options, trust):
    shapes = [box(0, 0, 1, 1), shapely.set_srid(box(1, 1, 2, 2), 4326), HOLED]
    path = parquet(tmp_path / "a.parquet", [shapely.to_wkb(shape, **options) for shape in shapes])
    if not trust:
        same(path)
    _, rows, _ = as_the_stages_load(path, trust_geometry=trust)
    assert shapely.from_wkb(rows["geom"].to_numpy()).tolist() == [shapely.multipolygons([shape]) for shape in shapes]
    assert {bytes(wkb[:5]) for wkb in rows["geom"].to_pylist()} == {b"\1\6\0\0\0"}


@pytest.mark.parametrize(
    "said",
    [
        {"geometry_types": ["Point"]},
        {"geometry_types": ["Polygon", "Point"]},
        {"geometry_types": ["MultiPolygon", "Polygon"]},
        {"geometry_types": ["Polygon Z"]},
        {"geometry_types": []},
        {"geometry_types": "Polygon"},
        {"geometry_types": [None]},
        {"geometry_types": ["Curve"]},
        {"bbox": [5, 5, 9, 9]},
        {"bbox": [170, 0, -170, 1]},
        {"bbox": [0, 0, -5, 3, 3, 9]},
        {"bbox": [0, 0, 1]},
        {"bbox": [0, 0, 10**400, 1]},
        {"bbox": ["0", "0", "3", "3"]},
        {"bbox": None},
    ],
    ids=str,
)
def test_metadata_of_a_geoparquet_that_is_wrong_is_not_believed(tmp_path, said):
    path = parquet(tmp_path / "a.parquet", [shapely.to_wkb(box(0, 0, 1, 1)), shapely.to_wkb(BOW)], **said)
    plan, rows, _ = as_the_stages_load(path)
    assert (plan.geometry_type, plan.has_z, plan.bounds, len(rows)) == ("MULTIPOLYGON", False, (0, 0, 2, 2), 2)


@pytest.mark.parametrize("later", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_what_geos_is_asked_about_is_what_its_bytes_prove(tmp_path, kind, later, monkeypatch):
    path = write(gpd.GeoDataFrame({"n": range(len(KINDS[kind]))}, geometry=KINDS[kind], crs=4326), tmp_path / "a.gpkg")
    proven = loaded(path, later=later)
    monkeypatch.setattr(LayerFilter, "_sound", lambda _self, _batch, headers: Sound.nothing(headers))
    assert loaded(path, later=later) == proven


@pytest.mark.parametrize("trust", [False, True])
def test_what_is_moved_in_its_bytes_is_what_parsing_moving_and_writing_gives(tmp_path, trust, monkeypatch):
    world = gpd.read_file(NATURAL_EARTH).explode(index_parts=False)
    shapes = [*world.geometry.values, BOW, HOLED, None, FAR, Polygon([(0, 0, 1), (1, 0, 2), (1, 1, 3)])]
    path = write(gpd.GeoDataFrame({"n": range(len(shapes))}, geometry=shapes, crs=4326), tmp_path / "a.gpkg")
    options = {"target_crs": "EPSG:3857", "trust_geometry": trust}
    moved = loaded(path, later=False, **options)
    monkeypatch.setattr(geometry, "valid_of", lambda wkb: pa.nulls(len(wkb), wkb.type))
    assert loaded(path, later=False, **options) == moved


@pytest.mark.parametrize("ending", ["gpkg", "fgb", "shp", "parquet"])
def test_the_same_holds_over_several_batches_and_for_real_shapes(tmp_path, ending):
    world = gpd.read_file(NATURAL_EARTH).explode(index_parts=False)
    shapes = np.tile(world.geometry.values, 60)
    many = gpd.GeoDataFrame({"n": range(len(shapes))}, geometry=shapes, crs=world.crs)
    many.loc[[5, BATCH_ROWS - 1, BATCH_ROWS, len(many) - 1], "geometry"] = BOW
    assert len(many) > 2 * BATCH_ROWS
    _, report, _, _ = same(write(many, tmp_path / f"a.{ending}"))
    assert report.repaired["Self-intersection"] >= 4


def test_a_layer_without_attributes_is_looked_at_later_too(tmp_path):
    same(write(gpd.GeoDataFrame(geometry=[box(0, 0, 1, 1), BOW], crs=4326), tmp_path / "a.gpkg"))


def test_a_chosen_crs_that_the_file_has_already_moves_nothing_and_is_looked_at_later(tmp_path):
    same(
        write(gpd.GeoDataFrame({"n": [1, 2]}, geometry=[box(0, 0, 1, 1), BOW], crs=4326), tmp_path / "a.gpkg"),
        target_crs="EPSG:4326",
    )


@pytest.mark.parametrize(
    "options",
    [
        {"target_crs": "EPSG:3857"},
        {"where": "n > 0"},
        {"bbox": (0, 0, 1, 1)},
        {"null_geometry": "reject"},
    ],
)
def test_what_depends_on_a_look_before_is_looked_at_before(tmp_path, options):
    path = write(gpd.GeoDataFrame({"n": [0, 1]}, geometry=[box(0, 0, 1, 1), BOW], crs=4326), tmp_path / "a.gpkg")
    (plan,) = inspect(InspectRequest(source=str(path), thorough=False, **options)).layers
    assert not plan.looked_at_later


def test_layers_that_may_be_left_out_are_looked_at_before(tmp_path):
    path = tmp_path / "a.gpkg"
    for layer in ("good", "far"):
        gpd.GeoDataFrame({"n": [1]}, geometry=[FAR if layer == "far" else BOW], crs=4326).to_file(path, layer=layer)
    report = inspect(InspectRequest(source=str(path), thorough=False))
    assert [(plan.layer, plan.looked_at_later) for plan in report.layers] == [("good", False)]
    assert any("far" in warning for warning in report.warnings)


@pytest.mark.parametrize(
    ("geometry", "crs", "code"),
    [([FAR, FAR], 4326, "VECTOR_ALL_REJECTED"), ([box(5e6, 5e5, 5.1e6, 5.1e5)], 32632, "AXES_SWAPPED")],
)
def test_a_layer_that_cannot_be_loaded_is_refused_as_if_it_had_been_looked_at_before(tmp_path, geometry, crs, code):
    path = write(gpd.GeoDataFrame({"n": range(len(geometry))}, geometry=geometry, crs=crs), tmp_path / "a.gpkg")
    told = []
    for later in (True, False):
        with pytest.raises(GeoAssetsError) as caught:
            loaded(path, later=later)
        told.append((caught.value.code, caught.value.message))
    assert told[0] == told[1]
    assert told[0][0] == code


def test_an_extent_that_the_file_states_wrongly_is_not_believed(tmp_path):
    path = write(gpd.GeoDataFrame({"n": [1]}, geometry=[box(5e5, 5e6, 5.1e5, 5.1e6)], crs=32632), tmp_path / "a.gpkg")
    altered(path, "update gpkg_contents set min_x = 5e6, max_x = 5.1e6, min_y = 5e5, max_y = 5.1e5")
    plan, *_ = same(path)
    assert plan.bounds == (5e5, 5e6, 5.1e5, 5.1e6)


def test_bytes_that_no_library_reads_are_rejected_while_they_are_sent(tmp_path):
    path = write(
        gpd.GeoDataFrame({"n": [1, 2]}, geometry=[box(0, 0, 1, 1), box(2, 2, 3, 3)], crs=4326), tmp_path / "a.gpkg"
    )
    cut = shapely.to_wkb(box(0, 0, 1, 1))[:60]
    altered(path, ("update a set geom = cast(substr(geom, 1, 40) || ? as blob) where n = 2", (cut,)))
    same(path)


def own_grid(path):
    """A GeoPackage whose CRS has no code, though its parameters are those of a grid, and which states a wrong extent."""
    write(gpd.GeoDataFrame({"n": [1, 2]}, geometry=[box(5e5, 5e6, 5.1e5, 5.1e6), BOW_IN_UTM], crs=32632), path)
    wkt = CRS.from_epsg(32632).to_wkt("WKT1_GDAL")
    wkt = wkt[: wkt.rindex(',AUTHORITY["EPSG","32632"]')] + "]"
    wkt = wkt.replace("WGS 84 / UTM zone 32N", "my own grid").replace(
        '"false_easting",500000', '"false_easting",500000.2'
    )
    altered(
        path,
        ("update gpkg_spatial_ref_sys set definition = ?, organization = 'me', srs_name = 'my own grid' where srs_id = 32632", (wkt,)),
        "update gpkg_contents set min_x = 0, min_y = 0, max_x = 0, max_y = 0",
    )  # fmt: skip
    return path


def test_a_crs_without_a_code_is_told_by_the_extent_that_was_measured_not_by_the_stated_one(tmp_path):
    (plan,) = inspect(InspectRequest(source=str(own_grid(tmp_path / "a.gpkg")), thorough=False)).layers
    assert (plan.srid, plan.looked_at_later, plan.feature_count) == (32632, False, 2)


@pytest.mark.parametrize("crs", [4326, 4167])
def test_swapped_longitude_and_latitude_are_said_to_be_swapped(tmp_path, crs):
    swapped = [Point(-41, 174), Point(-40, 175)]
    path = write(gpd.GeoDataFrame({"n": [1, 2]}, geometry=swapped, crs=crs), tmp_path / "a.gpkg")
    for later in (True, False):
        with pytest.raises(GeoAssetsError, match="look swapped") as caught:
            loaded(path, later=later)
        assert caught.value.code == "AXES_SWAPPED"


@pytest.mark.parametrize(
    ("outer", "inner", "heights"), [(6, 1003, True), (6, 0x80000003, True), (1006, 3, False)]
)  # fmt: skip
def test_headers_that_contradict_their_members_are_found_out_and_the_layer_is_looked_at_first(
    tmp_path, outer, inner, heights
):
    path = contradicting(tmp_path / "a.gpkg", outer, inner, heights=heights)
    request = InspectRequest(source=str(path), thorough=False)
    (plan,) = inspect(request).layers
    assert (plan.looked_at_later, plan.has_z) == (True, not heights)
    found = stream(StreamRequest(source=str(path), plan=plan), BytesIO()).found
    assert not found.fits(plan)
    (again,) = inspect(replace(request, look_first=True)).layers
    assert (again.looked_at_later, again.has_z) == (False, heights)
    assert found.fits(again)


def test_a_member_with_m_values_is_said_to_have_lost_them(tmp_path):
    path = contradicting(tmp_path / "a.gpkg", 6, 2003, heights=True, where="n = 2")
    plan, *_ = same(path)
    assert plan.m_dropped == 1


def test_an_archive_of_which_something_is_left_out_is_looked_at_first(tmp_path):
    path = write(gpd.GeoDataFrame({"n": [1]}, geometry=[FAR], crs=4326), tmp_path / "a.gpkg")
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        archive.write(path, "a.gpkg")
        archive.writestr("broken.shp", b"no shapefile")
    with pytest.raises(GeoAssetsError, match=r"broken\.shp") as caught:
        inspect(InspectRequest(source=str(tmp_path / "in.zip"), thorough=False))
    assert "beyond longitude and latitude" in caught.value.message


def test_a_damaged_table_is_unreadable(tmp_path):
    rows = 3000
    frame = gpd.GeoDataFrame({"t": ["x" * 300] * rows}, geometry=[Point(i / 100, 1) for i in range(rows)], crs=4326)
    path = write(frame, tmp_path / "a.gpkg")
    with closing(sqlite3.connect(path)) as connection:
        (page,) = connection.execute("pragma page_size").fetchone()
        (root,) = connection.execute("select rootpage from sqlite_master where name = 'a'").fetchone()
    bytes_ = bytearray(path.read_bytes())
    start = (root - 1) * page
    cells = int.from_bytes(bytes_[start + 3 : start + 5], "big")
    middle = start + 12 + 2 * (cells // 2)
    cell = start + int.from_bytes(bytes_[middle : middle + 2], "big")
    child = int.from_bytes(bytes_[cell : cell + 4], "big")
    bytes_[(child - 1) * page : child * page] = b"\xff" * page
    path.write_bytes(bytes_)
    for options in ({}, {"target_crs": "EPSG:3857"}, {"trust_geometry": True}, {"where": "t is not null"}):
        with pytest.raises(GeoAssetsError) as caught:
            as_the_stages_load(path, **options)
        assert caught.value.code == "UNREADABLE", options


@pytest.mark.parametrize(
    ("shape", "kept"),
    [
        (b"\1\3\0\0\0\1\0\0\0\4\0\0\0" + struct.pack("<8d", 0, 0, 1, 0, 1, 1, 0, 1), 2),  # open
        (b"\1\3\0\0\0\1\0\0\0\2\0\0\0" + struct.pack("<4d", 0, 0, 1, 0), 2),
        (b"\1\2\0\0\0\1\0\0\0" + struct.pack("<2d", 0, 0), 1),
    ],
    ids=["an open ring", "a ring of two", "a line of one"],
)
def test_geometry_that_is_trusted_and_moved_is_what_a_server_takes(tmp_path, shape, kept):
    of_its_kind = box(2, 2, 3, 3) if shape[1] == 3 else LineString([(0, 0), (1, 1)])
    path = write(gpd.GeoDataFrame({"n": [1, 2]}, geometry=[of_its_kind] * 2, crs=4326), tmp_path / "a.gpkg")
    altered(path, ("update a set geom = cast(substr(geom, 1, 40) || ? as blob) where n = 2", (shape,)))
    _, report, rows, rejects = loaded(path, later=False, target_crs="EPSG:3857", trust_geometry=True)
    assert (report.rows, len(rejects)) == (kept, 2 - kept)
    assert len(shapely.from_wkb(rows["geom"].to_numpy())) == kept  # GEOS takes all


def states(path, count):
    """A GeoPackage that states another number of features than it has."""
    return altered(path, f"update gpkg_ogr_contents set feature_count = {count}")


TWO = [box(0, 0, 1, 1), box(2, 2, 3, 3)]


@pytest.mark.parametrize("trust", [False, True])
@pytest.mark.parametrize("count", [1, 3, 2_000_000])
def test_a_number_of_features_that_the_file_states_wrongly_is_found_out(tmp_path, count, trust):
    path = states(write(gpd.GeoDataFrame({"n": [1, 2]}, geometry=TWO, crs=4326), tmp_path / "a.gpkg"), count)
    plan, rows, plans = as_the_stages_load(path, trust_geometry=trust)
    assert (plan.feature_count, len(rows), plans) == (2, 2, 2)


@pytest.mark.parametrize("count", ["null", "'many'", "-1", "0", "2.5"])
def test_a_number_of_features_that_is_none_is_not_believed(tmp_path, count):
    path = states(write(gpd.GeoDataFrame({"n": [1, 2]}, geometry=TWO, crs=4326), tmp_path / "a.gpkg"), count)
    plan, rows, plans = as_the_stages_load(path)
    assert (plan.feature_count, len(rows), plans) == (2, 2, 1)


@pytest.mark.parametrize("trust", [False, True])
@pytest.mark.parametrize(
    ("others", "type_", "heights"),
    [
        ([Point(5, 5)], "GEOMETRY", False),
        ([Polygon([(0, 0, 1), (1, 0, 2), (1, 1, 3)])], "MULTIPOLYGON", True),
        ([MultiPolygon([box(4, 4, 5, 5)])], "MULTIPOLYGON", False),
        ([shapely.GeometryCollection([box(4, 4, 5, 5)])], "MULTIPOLYGON", False),
        ([None], "MULTIPOLYGON", False),
        ([Polygon()], "MULTIPOLYGON", False),
    ],
)
def test_geometries_of_another_kind_than_the_first_make_the_table_that_looking_before_makes(
    tmp_path, others, type_, heights, trust
):
    shapes = [*TWO, *others]
    path = write(gpd.GeoDataFrame({"n": range(len(shapes))}, geometry=shapes, crs=4326), tmp_path / "a.gpkg")
    altered(path, "update gpkg_geometry_columns set geometry_type_name = 'POLYGON'")
    options = {"mixed": "generic", "trust_geometry": trust}
    plan, rows, _ = as_the_stages_load(path, **options)
    (before,) = inspect(InspectRequest(source=str(path), thorough=False, look_first=True, **options)).layers
    sink = BytesIO()
    stream(StreamRequest(source=str(path), plan=before), sink)
    sink.seek(0)
    assert rows == pa.ipc.open_stream(sink).read_all()
    assert (plan.geometry_type, plan.has_z) == (before.geometry_type, before.has_z) == (type_, heights)


def test_a_layer_that_is_split_by_kind_is_looked_at_before_it_is_split(tmp_path):
    shapes = [*TWO, Point(5, 5)]
    path = write(gpd.GeoDataFrame({"n": range(3)}, geometry=shapes, crs=4326), tmp_path / "a.gpkg")
    altered(path, "update gpkg_geometry_columns set geometry_type_name = 'POLYGON'")
    request = InspectRequest(source=str(path), thorough=False)
    (plan,) = inspect(request).layers
    report = stream(StreamRequest(source=str(path), plan=plan), BytesIO())
    assert not report.as_planned
    assert len(inspect(replace(request, look_first=True)).layers) == 2


def test_trusted_geometry_is_sent_while_its_headers_are_looked_at(tmp_path):
    path = write(gpd.GeoDataFrame({"n": [1, 2]}, geometry=TWO, crs=4326), tmp_path / "a.gpkg")
    same(path, trust_geometry=True)


def test_the_values_of_a_plan_from_what_the_file_states_are_checked_on_the_way(tmp_path):
    path = write(gpd.GeoDataFrame({"n": [1, 2]}, geometry=TWO, crs=4326), tmp_path / "a.gpkg")
    altered(path, "update a set n = 'N/A' where n = 2")
    for options in ({}, {"trust_geometry": True}):
        _, report, rows, _ = loaded(path, later=True, **options)
        assert rows["n"].to_pylist() == [1, None]
        assert any("N/A" in warning for warning in report.warnings)


def test_a_plan_of_what_a_large_file_states_does_not_read_its_rows(tmp_path, monkeypatch):
    path = write(gpd.GeoDataFrame({"n": [1, 2]}, geometry=TWO, crs=4326), tmp_path / "a.gpkg")
    monkeypatch.setattr(SQLiteCheck, "scan", lambda *_: pytest.fail("it was scanned"))
    monkeypatch.setattr(SQLiteCheck, "rows", property(lambda _: pytest.fail("its rows were counted")))
    assert as_the_stages_load(path)[2] == 1


def with_holes(path, count=9):
    """A GeoPackage of which rows were deleted, and none of the triggers that would have counted them: GDAL's Arrow
    reader gives rows twice where the stated number is the greatest id.
    """
    frame = gpd.GeoDataFrame(
        {"n": range(count)}, geometry=[box(5e5 + i, 5e6, 5e5 + i + 1, 5e6 + 1) for i in range(count)], crs=32632
    )
    return altered(write(frame, path), "delete from a where fid % 3 = 1")


@pytest.mark.parametrize(
    "options",
    [{}, {"trust_geometry": True}, {"target_crs": "EPSG:3857"}, {"where": "n >= 0"}, {"bbox": (5, 40, 15, 50)}],
    ids=str,
)
@pytest.mark.parametrize("count", [9, 3 * BATCH_ROWS])
def test_each_feature_of_a_table_with_deleted_rows_is_there_once(tmp_path, options, count):
    path = with_holes(tmp_path / "a.gpkg", count)
    plan, rows, _ = as_the_stages_load(path, **options)
    kept = [n for n in range(count) if (n + 1) % 3 != 1]
    assert sorted(rows["n"].to_pylist()) == kept
    assert plan.feature_count == len(kept)


@pytest.mark.parametrize(
    "columns", ["k text primary key, geom blob) without rowid", "rowid text, geom blob)", "ogc_fid text, geom blob)"]
)
def test_a_table_whose_ids_are_no_numbers_is_looked_at_first(tmp_path, columns):
    path = write(gpd.GeoDataFrame({"n": [1, 2]}, geometry=TWO, crs=4326), tmp_path / "a.gpkg")
    name = columns.split()[0]
    altered(
        path,
        "alter table a rename to b",
        f"create table a ({columns}",
        f"insert into a ({name}, geom) select 'row ' || n, geom from b",
        "drop table b",
        "update gpkg_ogr_contents set table_name = 'a'",
    )
    plan, rows, _ = as_the_stages_load(path)
    assert (plan.feature_count, len(rows)) == (2, 2)


def shapefile_zm(path, *places):
    """A shapefile of points of x, y, height and M, which no library writes where one is no number."""
    write(gpd.GeoDataFrame({"n": range(len(places))}, geometry=[Point(1, 2)] * len(places), crs=4326), path)
    records = [struct.pack(">2i", i, 18) + struct.pack("<i4d", 11, *each) for i, each in enumerate(places, 1)]
    extent = struct.pack("<2i8d", 1000, 11, 1, 2, 1, 2, 3, 3, 0, 5)
    for ending, size, body in (
        (".shp", 44, records),
        (".shx", 8, [struct.pack(">2i", 50 + 22 * i, 18) for i in range(len(places))]),
    ):
        head = struct.pack(">7i", 9994, 0, 0, 0, 0, 0, 50 + size // 2 * len(places))
        path.with_suffix(ending).write_bytes(head + extent + b"".join(body))
    return path


NAN_Z = [shapely.Point(1, 2, 3), shapely.Point(1, 2, np.nan)]


@pytest.mark.parametrize("later", [True, False])
@pytest.mark.parametrize("ending", ["gpkg", "shp", "fgb", "parquet"])
def test_a_height_that_is_no_number_is_none_in_every_format(tmp_path, ending, later):
    given = gpd.GeoDataFrame({"n": [1, 2]}, geometry=NAN_Z, crs=4326)
    path = tmp_path / f"a.{ending}"
    if ending == "parquet":
        given.to_parquet(path)
    elif ending == "shp":
        shapefile_zm(path, (1, 2, 3, -1e39), (1, 2, np.nan, -1e39))
    else:
        write(given, path)
    plan, report, rows, _ = loaded(path, later=later)
    assert (plan.has_z, dict(report.repaired)) == (True, {geometry.NO_HEIGHT: 1})
    assert shapely.to_wkt(shapely.from_wkb(rows["geom"].to_pylist())).tolist() == ["POINT Z (1 2 3)", "POINT Z (1 2 0)"]


@pytest.mark.parametrize("target", [None, "EPSG:3857"])
def test_a_layer_without_any_height_that_is_a_number_is_flat(tmp_path, target):
    path = write(gpd.GeoDataFrame({"n": [1, 2]}, geometry=NAN_Z[1:] * 2, crs=4326), tmp_path / "a.gpkg")
    plan, rows, _ = as_the_stages_load(path, target_crs=target)
    assert not plan.has_z
    assert not shapely.has_z(shapely.from_wkb(rows["geom"].to_pylist())).any()


def test_a_height_that_is_no_number_is_none_where_the_layer_is_moved_too(tmp_path):
    lines = [shapely.LineString([(0, 0, 1), (1, 1, np.inf)]), shapely.LineString([(0, 0, 1), (1, 1, 2)])]
    path = write(gpd.GeoDataFrame({"n": [1, 2]}, geometry=lines, crs=4326), tmp_path / "a.gpkg")
    _, report, rows, _ = loaded(path, later=False, target_crs="EPSG:3857")
    made = shapely.get_coordinates(shapely.from_wkb(rows["geom"].to_pylist()), include_z=True)
    assert (made[:, 2].tolist(), dict(report.repaired)) == ([1, 0, 1, 2], {geometry.NO_HEIGHT: 1})


def test_m_of_a_shapefile_whose_first_shape_has_none_is_told(tmp_path):
    path = shapefile_zm(tmp_path / "a.shp", (1, 2, 3, -1e39), (1, 2, 3, 5))
    (plan,) = inspect(InspectRequest(source=str(path))).layers
    assert any("M values, which were dropped" in warning for warning in plan.warnings)
