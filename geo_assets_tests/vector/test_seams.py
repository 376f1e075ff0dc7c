"""Geometries that a transformation takes across an end of the target CRS, from a file's bytes to what is sent."""

import numpy as np
import pyarrow as pa
import pytest
import shapely
from pyproj import Transformer
from shapely import LineString, MultiPolygon, Polygon, box

from geo_assets.vector.ends import ends_of
from geo_assets_tests.vector.builders import NATURAL_EARTH, frame, write
from geo_assets_tests.vector.conftest import send

CUT = "cut where the target CRS ends"
OUTSIDE = "outside the area of the target CRS"

HALF = ends_of("EPSG:3857").turn / 2


@pytest.fixture
def moved(tmp_path, private, look):
    """Geometries as they are sent, and the report."""

    def run(source, crs, target, **options):
        texts = [each if isinstance(each, str) else each.wkt for each in source]
        path = write(frame(*texts, crs=crs), tmp_path / f"a{len(list(tmp_path.iterdir()))}.gpkg")
        (plan,) = look(path, target_crs=target, **options).layers
        file, report = send(private(path), plan)
        return shapely.from_wkb(pa.ipc.open_stream(file).read_all()["geom"].to_pylist()), report

    return run


def spread(geometry):
    """The longitudes of the parts of a geometry."""
    return sorted((round(b[0], 3), round(b[2], 3)) for b in shapely.bounds(shapely.get_parts(geometry)).tolist())


@pytest.mark.parametrize("trust", [False, True])
@pytest.mark.parametrize("ring", [box(170, 0, 190, 10), box(-190, 0, -170, 10)])
def test_a_polygon_across_the_antimeridian_is_cut_there_when_it_is_transformed(moved, ring, trust):
    (made, sliver), report = moved([ring, box(1, 1, 2, 2)], 4326, "EPSG:3857", trust_geometry=trust)
    to = Transformer.from_crs(4326, 3857, always_xy=True).transform
    east, north = to(170, 10)
    expected = MultiPolygon([box(east, 0, HALF, north), box(-HALF, 0, -east, north)])
    assert shapely.equals_exact(made.normalize(), expected.normalize(), 1e-3)
    assert made.is_valid
    assert sliver.bounds == pytest.approx((*to(1, 1), *to(2, 2)))
    assert dict(report.repaired) == {CUT: 1}


@pytest.mark.parametrize("target", ["EPSG:4326", "EPSG:3857", "EPSG:3395", "EPSG:4087"])
def test_a_polygon_of_a_grid_that_crosses_the_antimeridian_is_cut_in_the_target(moved, target):
    # 400 km at the Chatham Islands, with a hole on each side of 180 degrees and one across it
    holes = [box(x, 5150000, x + 20000, 5200000).exterior for x in (2010000, 2170000, 2300000)]
    ((made,), report) = moved([Polygon(box(1986073, 5000000, 2386073, 5400000).exterior, holes)], 2193, target)
    to_target = Transformer.from_crs(2193, target, always_xy=True)
    ends = ends_of(target)

    def turned(x, y):
        return np.column_stack([x % ends.turn, y])

    flat = shapely.transform(
        Polygon(box(1986073, 5000000, 2386073, 5400000).exterior, holes),
        lambda c: turned(*to_target.transform(*c.T)),
    )
    assert made.is_valid
    assert made.area == pytest.approx(flat.area)
    assert len(made.geoms) == 2
    assert all(b[2] - b[0] < ends.turn / 90 for b in shapely.bounds(shapely.get_parts(made)))
    assert dict(report.repaired) == {CUT: 1}


def test_a_line_is_cut_and_keeps_its_heights_and_points_go_to_where_they_are(moved):
    ((line, point), report) = moved(
        [LineString([(170, 0, 1), (190, 0, 3)]), shapely.Point(190, 0, 5)], 4326, "EPSG:3857", mixed="generic"
    )
    assert spread(line) == [(round(-HALF, 3), -18924313.435), (18924313.435, round(HALF, 3))]
    assert sorted(set(shapely.get_coordinates(line, include_z=True)[:, 2])) == pytest.approx([1, 2, 3])
    assert (point.x, point.z) == pytest.approx((-18924313.4348, 5))
    assert dict(report.repaired) == {CUT: 1}


def test_what_lies_on_one_side_is_moved_as_it_is_however_wide(moved):
    given = [box(-180, -60, 180, 60), box(-179, 0, 179, 1), box(185, 0, 190, 1), box(170, 0, 180, 1)]
    made, report = moved(given, 4326, "EPSG:3857")
    assert [spread(each)[0] for each in made] == [
        (round(-HALF, 3), round(HALF, 3)),
        (-19926188.852, 19926188.852),
        (-19480910.889, -18924313.435),
        (18924313.435, round(HALF, 3)),
    ]
    assert not report.repaired


def test_what_is_wider_than_half_the_globe_and_crosses_is_cut_too(moved):
    ((made,), report) = moved([Polygon([(100, 0), (200, 0), (300, 0), (300, 10), (100, 10)])], 4326, "EPSG:3857")
    assert [tuple(np.round(np.array(s) / HALF * 180)) for s in spread(made)] == [(-180, -60), (100, 180)]
    assert dict(report.repaired) == {CUT: 1}


def test_the_ends_are_those_of_the_target_and_not_of_greenwich(moved):
    ((made,), report) = moved([box(-40, 0, -20, 10)], 4326, "EPSG:3832")  # its middle is 150 degrees east
    assert len(made.geoms) == 2
    assert dict(report.repaired) == {CUT: 1}
    ((made,), report) = moved([box(170, 0, 190, 10)], 4326, "EPSG:3832")
    assert len(made.geoms) == 1
    assert not report.repaired


@pytest.mark.parametrize(("source", "pole"), [("EPSG:3031", -90), ("EPSG:3413", 90)])
def test_a_ring_around_a_pole_has_the_pole_in_it_afterwards(moved, source, pole):
    ring = shapely.Point(0, 0).buffer(2e6)
    hole = shapely.Point(0, 0).buffer(1e6)
    ((cap, belt), report) = moved([ring, Polygon(ring.exterior, [hole.exterior])], source, "EPSG:4326")
    assert cap.is_valid
    assert belt.is_valid
    assert cap.bounds[0::2] == pytest.approx((-180, 180))
    assert pole in (cap.bounds[1], cap.bounds[3])
    width = abs(cap.bounds[3] - cap.bounds[1])
    assert cap.area == pytest.approx(360 * width, rel=0.01)
    assert belt.area == pytest.approx(180 * width, rel=0.05)
    assert dict(report.repaired) == {CUT: 2}


def test_the_world_is_cut_at_the_last_latitude_of_mercator_and_a_pole_has_no_place(moved):
    given = ["POINT(10 90)", "POINT(10 -90)", "POINT(10 86)", "POINT(10 85)", box(-180, -90, 180, 90)]
    made, report = moved(given, 4326, "EPSG:3857", mixed="generic")
    last = 20048966.104
    assert [tuple(np.round(each.bounds, 3)) for each in made[1:]] == [
        (round(-HALF, 3), -last, round(HALF, 3), last),
    ]
    assert dict(report.rejected) == {OUTSIDE: 3}
    assert dict(report.repaired) == {CUT: 1}


def test_a_line_to_the_pole_is_cut_and_one_beyond_the_last_latitude_rejected(moved):
    given = ["LINESTRING(10 0, 10 90)", "LINESTRING(10 86, 11 89)"]
    (made,), report = moved(given, 4326, "EPSG:3395")
    assert made.bounds[3] == pytest.approx(ends_of("EPSG:3395").high)
    assert (dict(report.rejected), dict(report.repaired)) == ({OUTSIDE: 1}, {CUT: 1})


def test_countries_are_whole_but_antarctica_which_reaches_the_pole(private, look):
    (plan,) = look(NATURAL_EARTH, target_crs="EPSG:3857").layers
    file, report = send(private(NATURAL_EARTH), plan)
    made = shapely.from_wkb(pa.ipc.open_stream(file).read_all()["geom"].to_pylist())
    assert (report.rows, report.repaired[CUT]) == (177, 1)
    assert shapely.total_bounds(made) == pytest.approx((-HALF, -20048966.104, HALF, 18440002.895), abs=1)


def test_an_invalid_polygon_across_the_antimeridian_is_repaired_and_cut(moved):
    ((made,), report) = moved(["POLYGON((170 0, 190 10, 190 0, 170 10, 170 0))"], 4326, "EPSG:3857")
    assert made.is_valid
    assert len(made.geoms) == 2
    assert dict(report.repaired) == {CUT: 1}
