"""Repair of the parts that need it gives what GEOS makes of the whole."""

import time

import numpy as np
import pytest
import shapely

from geo_assets.vector.reader.repairs import made_valid

BOW = shapely.from_wkt("POLYGON((0 0, 1 1, 1 0, 0 1, 0 0))")


def whole(geometry):
    return shapely.make_valid(geometry, method="structure", keep_collapsed=False)


def squares(side, step):
    """A MultiPolygon of squares in rows, whose first is a bow tie."""
    x, y = (each.ravel() * step for each in np.meshgrid(np.arange(side), np.arange(side)))
    return shapely.multipolygons([BOW, *shapely.box(x, y, x + 1, y + 1)[1:]])


@pytest.mark.parametrize("step", [1, 2, 0.5], ids=["that touch", "that are apart", "that overlap"])
def test_a_bow_tie_among_squares_is_repaired_as_geos_repairs_all(step):
    made, expected = made_valid(squares(20, step)), whole(squares(20, step))
    assert made.is_valid
    assert shapely.equals(made, expected)
    assert made.area == pytest.approx(expected.area)


@pytest.mark.parametrize("seed", range(60))
def test_scribbles_cover_what_geos_says_they_cover(seed):
    rng = np.random.default_rng(seed)
    rings = [
        np.round(
            rng.uniform(0, 10, 2) + rng.normal(0, rng.uniform(0.2, 2), (rng.integers(4, 9), 2)), rng.integers(0, 3)
        )
        for _ in range(rng.integers(2, 30))
    ]
    scribble = shapely.multipolygons([shapely.Polygon(ring) for ring in rings])
    made, expected = made_valid(scribble), whole(scribble)
    assert made.is_valid
    assert made.area == pytest.approx(expected.area)
    assert shapely.symmetric_difference(made, expected).area == pytest.approx(0, abs=1e-9)


def test_one_inside_the_hole_of_another_stays_and_one_inside_the_other_does_not():
    ring = shapely.Polygon(shapely.box(0, 0, 9, 9).exterior, [shapely.box(3, 3, 6, 6).exterior])
    made = made_valid(shapely.multipolygons([ring, shapely.box(4, 4, 5, 5), shapely.box(1, 1, 2, 2)]))
    assert (len(made.geoms), made.area) == (2, 73)


def test_nothing_is_left_of_what_is_flat():
    assert made_valid(shapely.multipolygons([shapely.Polygon([(0, 0), (1, 1), (0, 0)])] * 2)).is_empty


def test_one_bow_tie_among_a_hundred_thousand_squares_takes_seconds():
    began = time.process_time()
    assert made_valid(squares(320, 2)).area == pytest.approx(320**2 - 0.5)
    assert time.process_time() - began < 10


def test_many_that_lie_upon_each_other_take_no_longer_than_they_do_in_geos():
    many = shapely.multipolygons([BOW, *[shapely.box(0, 0, 1, 1)] * 20_000])
    began = time.process_time()
    assert made_valid(many).area == 1
    assert time.process_time() - began < 10
