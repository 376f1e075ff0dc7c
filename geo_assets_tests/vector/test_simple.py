"""Which geometries are valid beyond doubt: never one that GEOS calls invalid."""

import struct
from types import SimpleNamespace

import geopandas as gpd
import numpy as np
import pyarrow as pa
import pytest
import shapely
from hypothesis import example, given, settings
from hypothesis import strategies as st
from shapely.geometry import LineString, MultiPoint, MultiPolygon, Point, Polygon, box

from geo_assets.vector.ends import Way
from geo_assets.vector.reader.geometry import valid_of
from geo_assets.vector.reader.simple import moved, sound
from geo_assets.vector.reader.wkb import Headers
from geo_assets_tests.vector.builders import NATURAL_EARTH


def looked_at(geometries, **how):
    wkb = pa.array(shapely.to_wkb(np.asarray(geometries, dtype=object), flavor="iso", **how), pa.binary())
    return sound(wkb, Headers.of(wkb))


def star(rng, vertices, centre=(0.0, 0.0), size=1.0, *, clockwise=False):
    angles = np.sort(rng.uniform(0, 2 * np.pi, vertices))
    radii = size * rng.uniform(0.95, 1.0, vertices)
    ring = np.column_stack([centre[0] + radii * np.cos(angles), centre[1] + radii * np.sin(angles)])
    return Polygon(ring[::-1] if clockwise else ring)


SOUND = {
    "point": Point(1, 2),
    "point with height": Point(1, 2, 3),
    "line": LineString([(0, 0), (0, 0), (1, 0), (0, 0)]),
    "square": box(0, 0, 1, 1),
    "square far away": box(6e5, 5e6, 6e5 + 1e-3, 5e6 + 1e-3),
    "clockwise": box(0, 0, 1, 1, ccw=False),
    "turning back": Polygon([(0, 0), (4, 0), (4, 4), (3, 1), (1, 1), (0, 4)]),
    "a spiral": Polygon(
        [(0, 0), (9, 0), (9, 9), (1, 9), (1, 3), (6, 3), (6, 4), (2, 4), (2, 8), (8, 8), (8, 1), (0, 1)]
    ),
    "a vertex twice": Polygon([(0, 0), (2, 0), (2, 0), (2, 2), (1, 1), (1, 1), (0, 2), (0, 0)]),
    "straight on": Polygon([(0, 0), (1, 0), (2, 0), (2, 2), (1, 0.5), (0, 2), (0, 1)]),
    "triangle": Polygon([(0, 0), (1, 0), (0.5, 1)]),
    "with heights": Polygon([(0, 0, 5), (1, 0, 6), (1, 1, 7), (0, 1, 8)]),
    "multi of one": MultiPolygon([box(0, 0, 1, 1)]),
    "multi point of one": MultiPoint([(1, 2)]),
}

NOT_SOUND = {
    "bow": Polygon([(0, 0), (1, 1), (1, 0), (0, 1)]),
    "twice around": Polygon([(0, 0), (4, 0), (4, 4), (0, 4), (0.5, 0.5), (3, 0.5), (3, 3), (0.5, 3)]),
    "twice the same way": Polygon([(0, 0), (1, 0), (1, 1), (0, 1), (0, 0), (1, 0), (1, 1), (0, 1)]),
    "spike": Polygon([(0, 0), (2, 0), (2, 2), (3, 3), (2, 2), (0, 2)]),
    "touches an edge": Polygon([(0, 0), (4, 0), (4, 4), (2, 0), (0, 4)]),
    "touches a vertex": Polygon([(0, 0), (4, 0), (4, 4), (2, 2), (3, 4), (1, 4), (2, 2), (0, 4)]),
    "an edge twice": Polygon([(0, 0), (4, 0), (4, 2), (6, 2), (4, 2), (4, 4), (0, 4)]),
    "too far away for the proof": box(1e12, 0, 2e12, 1),
    "a line": Polygon([(0, 0), (1, 1), (2, 2)]),
    "a dot": Polygon([(1, 1), (1, 1), (1, 1), (1, 1)]),
    "a line of one place": LineString([(1, 1), (1, 1)]),
    "not finite": Point(1, float("inf")),
    "no place": LineString([(0, 0), (float("nan"), 1), (2, 2)]),
    "no height": Polygon([(0, 0, 5), (1, 0, 6), (1, 1, 7), (0, 1, float("nan"))]),
    "infinite": Polygon([(0, 0), (float("inf"), 0), (1, 1), (0, 1)]),
    "several": MultiPolygon([box(0, 0, 1, 1), box(0, 0, 2, 2)]),
    "hole": box(0, 0, 4, 4) - box(1, 1, 2, 2),
    "empty": Polygon(),
    "null": None,
}


@pytest.mark.parametrize("name", SOUND)
def test_what_is_simple_is_proven_with_its_box(name):
    found = looked_at([SOUND[name]])
    assert found.rows.tolist() == [True]
    assert found.boxes.tolist() == [list(SOUND[name].bounds)]


@pytest.mark.parametrize("name", NOT_SOUND)
def test_what_is_invalid_or_not_told_by_this_test_is_left_to_geos(name):
    assert looked_at([NOT_SOUND[name]]).rows.tolist() == [False]


def test_a_batch_of_all_kinds_is_told_row_by_row():
    both = [*SOUND.values(), *NOT_SOUND.values()]
    order = np.random.default_rng(1).permutation(len(both))
    found = looked_at([both[i] for i in order])
    assert found.rows.tolist() == [i < len(SOUND) for i in order.tolist()]


def test_a_slice_of_an_array_is_read_where_it_begins():
    wkb = pa.array(shapely.to_wkb([Point(9, 9), box(0, 0, 1, 1), None, box(2, 2, 3, 4)], flavor="iso"), pa.binary())
    part = wkb.slice(1)
    found = sound(part, Headers.of(part))
    assert found.rows.tolist() == [True, False, True]
    assert found.boxes[2].tolist() == [2, 2, 3, 4]


def test_large_binary_and_big_endian_and_postgis_bytes_are_no_fault():
    square = np.asarray([box(0, 0, 1, 1)], dtype=object)
    wide = pa.array(shapely.to_wkb(square), pa.large_binary())
    assert sound(wide, Headers.of(wide)).rows.all()
    assert not looked_at(square, byte_order=0).rows.any()
    ewkb = pa.array(shapely.to_wkb(shapely.set_srid(square, 4326), include_srid=True), pa.binary())
    assert not sound(ewkb, Headers.of(ewkb)).rows.any()


@pytest.mark.parametrize("cut", range(1, 100, 3))
def test_bytes_that_are_cut_off_or_too_many_are_left_to_geos(cut):
    whole = shapely.to_wkb(MultiPolygon([box(0, 0, 1, 1)]), flavor="iso")
    cases = pa.array([whole[:cut], whole + b"\0" * (cut + 1), whole[:5] + b"\xff" * cut + whole[5:]], pa.binary())
    assert not sound(cases, Headers.of(cases)).rows.any()


@given(
    data=st.binary(max_size=120),
    header=st.sampled_from([b"", b"\1\1\0\0\0", b"\1\3\0\0\0\1\0\0\0", b"\1\6\0\0\0\1\0\0\0\1\3\0\0\0"]),
)
def test_no_bytes_make_it_fail_or_be_called_sound_that_geos_refuses(data, header):
    wkb = pa.array([header + data], pa.binary())
    if sound(wkb, Headers.of(wkb)).rows[0]:
        assert shapely.from_wkb(header + data).is_valid


def test_rings_of_real_borders_are_proven_wherever_they_lie():
    parts = shapely.get_parts(gpd.read_file(NATURAL_EARTH).geometry.values)
    parts = parts[(shapely.get_num_interior_rings(parts) == 0) & shapely.is_valid(parts)]
    for x, y, size in ((0, 0, 1), (6e5, 5e6, 1), (6e5, 5e6, 1e-3), (-1e6, 1e6, 1e4)):
        there = shapely.transform(parts, lambda xy: xy * size + (x, y))  # noqa: B023 - called at once
        valid = shapely.is_valid(there)
        assert looked_at(there).rows.sum() == valid.sum() > 280


def test_rings_that_are_almost_round_are_proven_wherever_they_lie_and_however_small_they_are():
    rng = np.random.default_rng(3)
    stars = [
        star(rng, 40, (rng.uniform(-1e6, 1e6), rng.uniform(-1e6, 1e6)), 10.0 ** rng.uniform(0, 4), clockwise=n % 2 == 0)
        for n in range(2000)
    ]
    assert looked_at(stars).rows.all()


def shifted(x, y):
    return x + 10, y * 2


def by(move):
    return Way(SimpleNamespace(transform=move))


def test_what_is_moved_in_its_bytes_is_what_parsing_and_moving_gives_and_the_rest_is_null():
    given = [*SOUND.values(), *NOT_SOUND.values()]
    wkb = pa.array(shapely.to_wkb(np.asarray(given, dtype=object), flavor="iso"), pa.binary())
    anywhere = (-1e12, -1e12, 1e12, 1e12)
    for has_z in (False, True):
        made = moved(wkb, Headers.of(wkb), by(shifted), None, anywhere, has_z=has_z, trust=False).sound
        for each, now, name in zip(given, made.to_pylist(), [*SOUND, *NOT_SOUND], strict=True):
            if name not in SOUND or each.has_z != has_z:
                assert now is None
                continue
            expected = shapely.transform(
                each, lambda c: np.column_stack([*shifted(c[:, 0], c[:, 1]), c[:, 2:]]), include_z=has_z
            )
            assert now == shapely.to_wkb(expected, flavor="iso", output_dimension=3 if has_z else 2)


def test_what_lies_beyond_before_or_afterwards_or_goes_nowhere_is_not_moved():
    squares = np.asarray([box(0, 0, 1, 1), box(100, 0, 101, 1), box(5, 5, 6, 6)], dtype=object)
    wkb = pa.array(shapely.to_wkb(squares, flavor="iso"), pa.binary())
    headers = Headers.of(wkb)
    here = (-1e3, -1e3, 1e3, 1e3)

    def nulls(move, domain, plausible):
        return moved(wkb, headers, by(move), domain, plausible, has_z=False, trust=True).sound.is_null().to_pylist()

    assert nulls(shifted, (0, 0, 50, 50), here) == [False, True, False]
    assert nulls(lambda x, y: (x + 950, y), None, here) == [False, True, False]
    assert nulls(lambda x, y: (np.where(x > 4, np.inf, x), y), None, here) == [False, True, True]


def test_what_a_move_makes_invalid_is_left_to_geos_unless_it_is_trusted():
    wkb = pa.array(shapely.to_wkb([box(0, 0, 1, 1)], flavor="iso"), pa.binary())
    flat, anywhere = (lambda x, y: (x, 0 * y)), (-1e12, -1e12, 1e12, 1e12)
    checked = moved(wkb, Headers.of(wkb), by(flat), None, anywhere, has_z=False, trust=False)
    assert (checked.sound.null_count, checked.unproven.null_count) == (1, 0)
    assert valid_of(checked.unproven).null_count == 1
    trusted = moved(wkb, Headers.of(wkb), by(flat), None, anywhere, has_z=False, trust=True)
    assert (trusted.sound.null_count, trusted.unproven.null_count) == (0, 1)


def test_of_what_is_not_proven_the_valid_ones_are_told_by_geos():
    shapes = [box(0, 0, 9, 9) - box(1, 1, 2, 2), Polygon([(0, 0), (2, 2), (2, 0), (0, 2)])]
    wkb = pa.array([*shapely.to_wkb(shapes, flavor="iso"), None], pa.binary())
    assert valid_of(wkb).to_pylist() == [wkb[0].as_py(), None, None]
    assert valid_of(pa.array([None, None], pa.binary())).null_count == 2
    cut = pa.array([wkb[0].as_py(), wkb[0].as_py()[:40]], pa.binary())
    assert valid_of(cut).null_count == 2  # each is looked at alone, elsewhere


#: Few places, close together and far from zero: rounding decides.
_PLACES = st.sampled_from(
    [0.0, 1.0, 0.5, 1e-16, 1 + 2**-52, 1e6, 1e6 + 2**-33, 5e11, -1.0, 0.1 + 0.2, 0.3, 1e-300, -1e-300]
)
_VERTICES = st.lists(st.tuples(_PLACES, _PLACES), min_size=3, max_size=9)


@settings(max_examples=3000, deadline=None)
@given(_VERTICES)
@example([(0.0, 0.0), (1.0, 0.0), (1 + 2**-52, 1e-16), (0.5, 1.0)])
def test_no_ring_is_proven_that_geos_calls_invalid(vertices):
    polygon = Polygon(vertices)
    if looked_at([polygon]).rows[0]:
        assert polygon.is_valid, shapely.is_valid_reason(polygon)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_of_a_million_random_and_degenerate_rings_none_is_proven_that_geos_calls_invalid(seed):
    rng, rings = np.random.default_rng(seed), []
    for n in range(50_000):
        vertices = int(rng.integers(3, 12) if n % 7 else rng.integers(12, 80))  # the latter of several blocks
        kind = n % 5
        if kind == 0:  # anything
            ring = rng.uniform(-1, 1, (vertices, 2))
        elif kind == 1:  # a small grid: collinear, repeated, crossing
            ring = rng.integers(0, 4, (vertices, 2)) * 10.0 ** rng.integers(-3, 4)
        elif kind == 2:  # around a place, now and then out of order
            angles = np.sort(rng.uniform(0, 2 * np.pi, vertices))
            if rng.random() < 0.3:
                angles = np.roll(angles, 1) if vertices % 2 else angles[rng.permutation(vertices)]
            ring = np.column_stack([np.cos(angles), np.sin(angles)]) * rng.uniform(0.01, 1, (vertices, 1))
        elif kind == 3:  # twice around
            angles = np.sort(rng.uniform(0, 4 * np.pi, vertices))
            ring = np.column_stack([np.cos(angles), np.sin(angles)]) * rng.uniform(0.5, 1, (vertices, 1))
        else:  # a box that is a hair wide, with its corners a few units in the last place off
            ring = np.array([(0, 0), (1, 0), (1, 1e-12), (0.5, 1e-12), (0, 1e-12)])
            ring = ring + rng.integers(-3, 4, ring.shape) * np.spacing(rng.choice([1.0, 1e6, 1e-12]))
        rings.append(ring + (0 if rng.random() < 0.5 else rng.uniform(-1e6, 1e6, 2)))
    polygons = np.asarray([Polygon(ring) for ring in rings], dtype=object)
    found = looked_at(polygons)
    assert found.rows.sum() > 2_000, "many are proven"
    assert shapely.is_valid(polygons[found.rows]).all()


def test_a_ring_that_only_its_move_closes_is_not_moved_in_its_bytes():
    at_a_pole = struct.pack("<BIII10d", 1, 3, 1, 5, 0, 90, 10, 80, 30, 80, 20, 85, 40, 90)
    wkb, anywhere = pa.array([at_a_pole], pa.binary()), (-1e12, -1e12, 1e12, 1e12)

    def to_the_pole(x, y):
        return np.where(y == 90, 0, x), np.where(y == 90, 0, y)

    found = moved(wkb, Headers.of(wkb), by(to_the_pole), None, anywhere, has_z=False, trust=False)
    assert (found.sound.null_count, found.unproven.null_count) == (1, 1)
