"""Geometries that are looked at while they are sent give the table and the plan that looking before gives."""

from io import BytesIO

import geopandas as gpd
import numpy as np
import pyarrow as pa
import pytest
import shapely
from shapely.geometry import LineString, MultiPoint, MultiPolygon, Point, Polygon, box

from geo_assets.errors import GeoAssetsError
from geo_assets.stages.vector_load import _as_found
from geo_assets.vector.models import Found, InspectRequest, StreamRequest
from geo_assets.vector.reader.batches import BATCH_ROWS
from geo_assets.vector.reader.inspect import inspect
from geo_assets.vector.reader.stream import stream
from geo_assets_tests.vector.builders import NATURAL_EARTH, altered, write

BOW = Polygon([(0, 0), (2, 2), (2, 0), (0, 2)])
HOLED = box(0, 0, 9, 9) - box(1, 1, 2, 2)
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
    return _as_found(plan, report), report.model_copy(update={"found": None}), rows, rejects


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


def test_the_same_holds_over_several_batches_and_for_real_shapes(tmp_path):
    world = gpd.read_file(NATURAL_EARTH).explode(index_parts=False)
    shapes = np.tile(world.geometry.values, 60)
    many = gpd.GeoDataFrame({"n": range(len(shapes))}, geometry=shapes, crs=world.crs)
    many.loc[[5, BATCH_ROWS - 1, BATCH_ROWS, len(many) - 1], "geometry"] = BOW
    assert len(many) > 2 * BATCH_ROWS
    _, report, _, _ = same(write(many, tmp_path / "a.gpkg"))
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
        {"trust_geometry": True},
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
