import pytest
from shapely.geometry import box, mapping, shape

from geo_assets.stac.extent import union


def square(west, south, east, north):
    """A footprint as the raster engine makes it: cut at the antimeridian, with west > east in its box."""
    if west <= east:
        return mapping(box(west, south, east, north)), (west, south, east, north)
    return mapping(box(west, south, 180, north).union(box(-180, south, east, north))), (west, south, east, north)


def test_one_footprint_is_left_as_it_is():
    geometry, bbox = square(1, 2, 3, 4)
    assert union([(geometry, bbox)]) == (geometry, bbox)


def test_neighbours_become_one_polygon_and_strangers_two():
    geometry, bbox = union([square(0, 0, 1, 1), square(1, 0, 2, 1)])
    assert (geometry["type"], bbox) == ("Polygon", (0, 0, 2, 1))
    geometry, bbox = union([square(0, 0, 1, 1), square(5, 5, 6, 6)])
    assert (geometry["type"], bbox) == ("MultiPolygon", (0, 0, 6, 6))
    assert shape(geometry).area == pytest.approx(2)


@pytest.mark.parametrize(
    ("spans", "expected"),
    [
        ([(170, 180), (-180, -170)], (170, -170)),
        ([(170, -170), (-180, -160)], (170, -160)),
        ([(170, -170), (160, 175)], (160, -170)),
        ([(170, -175), (175, -170)], (170, -170)),
        ([(170, 175), (-175, -170)], (170, -170)),
        ([(-180, 180), (10, 20)], (-180, 180)),
        ([(-180, 0), (0, 180)], (-180, 180)),
        ([(-10, 10), (100, 110)], (-10, 110)),
        ([(-100, -90), (90, 100)], (90, -90)),
    ],
)
def test_the_box_is_the_smallest_one_around_all_also_across_the_antimeridian(spans, expected):
    geometry, bbox = union([square(west, 0, east, 1) for west, east in spans])
    assert (bbox[0], bbox[2]) == expected
    assert shape(geometry).is_valid
    assert -180 <= shape(geometry).bounds[0] <= shape(geometry).bounds[2] <= 180
