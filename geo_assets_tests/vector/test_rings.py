"""Rings that the compiled code proves to be simple: those that GEOS calls valid, and no others."""

import itertools
import platform
import sys

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import Polygon

from geo_assets.vector.reader.rings import are_compiled, simple_rings

#: Vertices of the longest ring that is looked at, the last of which repeats the first; edges of a block.
MOST, BLOCK = 4096, 8


def told(several):
    """Of each ring of coordinates, which are closed here."""
    closed = [np.asarray([*ring, ring[0]], dtype=np.float64) for ring in several]
    counts = np.asarray([len(ring) for ring in closed])
    xy = np.concatenate(closed)
    return simple_rings(xy[:, 0], xy[:, 1], np.cumsum(counts) - counts, counts).tolist()


def valid(ring):
    return bool(shapely.is_valid(Polygon(ring)))


def comb(teeth, *, bent=None):
    """A ring of which every second vertex is a tip; one of them may reach into the tooth beside it."""
    tips = [(tooth + 0.25, 9.0) for tooth in range(teeth)]
    if bent is not None:
        tips[bent] = (bent + 1.5, 4.0)
    gaps = [(tooth + 0.75, 1.0) for tooth in range(teeth)]
    return [*itertools.chain.from_iterable(zip(tips, gaps, strict=True)), (teeth, 0.0), (0.0, 0.0)]


def test_the_code_is_compiled_wherever_it_can_be():
    assert are_compiled() == (sys.platform == "linux" and platform.machine() in {"x86_64", "aarch64"})


@pytest.mark.parametrize("teeth", range(1, 40))
def test_a_crossing_is_seen_in_whichever_blocks_its_edges_are(teeth):
    assert told([comb(teeth)]) == [True]
    for bent in range(teeth - 1):
        ring = comb(teeth, bent=bent)
        for turned in range(0, len(ring), BLOCK - 1):  # the ring begins elsewhere, so blocks do
            assert (told([ring[turned:] + ring[:turned]]), valid(ring)) == ([False], False)


@pytest.mark.parametrize(("vertices", "proven"), [(MOST - 1, True), (MOST, False)])
def test_a_ring_of_more_vertices_than_it_looks_at_is_left_to_geos(vertices, proven):
    teeth = (vertices - 2) // 2
    ring = comb(teeth) + [(0.0, 0.5)] * (vertices - 2 * teeth - 2)
    assert (len(ring), told([ring])) == (vertices, [proven])


def test_rings_beside_one_another_are_told_one_by_one():
    kinds = [comb(5), comb(5, bent=2), comb(9), [(0, 0), (1, 0), (1, 1)], [(0, 0), (1, 1), (2, 2)], comb(3, bent=0)]
    assert told(kinds * 50) == [True, False, True, True, False, False] * 50


@settings(max_examples=2000, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=3, max_size=14),
    st.sampled_from([(0.0, 1.0), (6e5, 1e-3), (-1e6, 1 / 3), (0.1, 1e-9)]),
)
def test_on_a_grid_where_edges_meet_and_run_along_each_other_it_says_what_geos_says(vertices, place):
    ring = [(place[0] + x * place[1], place[0] + y * place[1]) for x, y in vertices]
    proven = told([ring])[0]
    if proven:
        assert valid(ring)
    elif valid(ring):  # only what a hair decides is left to GEOS
        assert place != (0.0, 1.0)


@settings(max_examples=500, deadline=None)
@given(st.integers(0, 2**32), st.integers(3, 120))
def test_of_random_walks_none_is_proven_that_geos_calls_invalid(seed, vertices):
    rng = np.random.default_rng(seed)
    angles = np.cumsum(rng.normal(2 * np.pi / vertices, rng.uniform(0, 0.6), vertices))
    ring = np.cumsum(np.column_stack([np.cos(angles), np.sin(angles)]), axis=0) + rng.uniform(-1e6, 1e6, 2)
    assert told([ring]) == [valid(ring)]


def test_a_ring_beyond_the_coordinates_that_are_there_is_refused():
    x = np.zeros(4)
    for start, count in ((0, 5), (-1, 4), (3, 2), (0, -1), (2**62, 2**62)):
        with pytest.raises(ValueError, match="beyond its vertices"):
            simple_rings(x, x, np.asarray([start]), np.asarray([count]))


@pytest.mark.parametrize("coordinate", [float("nan"), float("inf"), -float("inf"), 1e12, 1e300, 1e-320])
def test_what_is_no_number_or_too_large_or_too_small_for_the_proof_is_left_to_geos(coordinate):
    ring = np.asarray([(0, 0), (coordinate, 0), (coordinate, coordinate), (0, coordinate)])
    assert told([ring]) == [False]
