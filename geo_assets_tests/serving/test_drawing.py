"""How a raster is drawn where the client does not say."""

import pytest

pytest.importorskip("tipg")

from geo_assets.serving.drawing import completed, with_asset


def band(dtype="float32", low=0, high=100, **more):
    return {"data_type": dtype, "statistics": {"minimum": low, "maximum": high, **more}}


def asset(*bands, roles=("data",)):
    return {"roles": list(roles), "bands": list(bands)}


DEM = {"data": asset(band(low=10, high=1000, mean=100, stddev=50)), "thumbnail": {"roles": ["thumbnail"]}}
PHOTO = {"data": asset(*[band("uint8")] * 3, roles=("data", "visual"))}
ORTHO = {"data": asset(*[band("uint16", high=n) for n in (100, 200, 300, 400)], roles=("data", "visual"))}


def test_values_are_stretched_to_where_most_of_them_are():
    assert completed([("assets", "data")], [DEM], {}) == [("assets", "data"), ("rescale", "10.0,202.5")]


def test_the_first_raster_is_drawn_where_none_is_named():
    assert completed([], [DEM], {})[0] == ("assets", "data")


def test_of_several_rasters_that_of_the_thumbnail_is_drawn_whatever_their_order():
    scene = {"nir": asset(band()), "red": asset(band(high=50), roles=("data", "overview"))}
    for assets in (scene, dict(reversed(scene.items()))):
        assert completed([], [assets], {}) == [("assets", "red"), ("rescale", "0.0,50.0")]
        assert with_asset([], [assets]) == [("assets", "red")]


@pytest.mark.parametrize("query", [[("assets", "nir")], [("expression", "b1")]])
def test_an_asset_is_named_only_where_the_client_says_nothing(query):
    assert with_asset(query, [DEM]) == query
    assert with_asset([("tile_format", "png")], [{}]) == [("tile_format", "png")]
    assert with_asset([], []) == []


def test_a_picture_of_bytes_is_drawn_as_it_is():
    assert completed([("assets", "data")], [PHOTO], {}) == [("assets", "data")]


def classes(colours):
    told = [{"value": value, "color_hint": colour} for value, colour in colours.items()]
    return {"data": asset({**band("uint8"), "classification:classes": told})}


LAND = classes({1: "ff0000", 5: "0000ff"})


def test_classes_have_the_colours_of_their_table():
    assert completed([], [LAND], {"data": (1, 5)}) == [
        ("assets", "data"),
        ("colormap", '{"1":[255,0,0,255],"5":[0,0,255,255]}'),
    ]
    assert completed([("assets", "data"), ("colormap_name", "terrain")], [LAND], {})[2:] == []


def test_classes_of_a_mosaic_have_colours_if_its_tables_agree():
    more, other = classes({7: "00ff00"}), classes({1: "00ff00"})
    ((_, colormap),) = completed([("assets", "data")], [LAND, more], {})[1:]
    assert '"7":[0,255,0,255]' in colormap
    assert completed([("assets", "data")], [LAND, other], {}) == [("assets", "data")]


def test_three_bands_of_a_picture_are_drawn_each_with_its_limits():
    assert completed([("assets", "data")], [ORTHO], {}) == [
        ("assets", "data|bidx=1,2,3"),
        ("rescale", "0.0,100.0"),
        ("rescale", "0.0,200.0"),
        ("rescale", "0.0,300.0"),
    ]


def test_the_band_that_the_client_names_has_its_own_limits():
    assert completed([("assets", "data|bidx=4")], [ORTHO], {})[1:] == [("rescale", "0.0,400.0")]


@pytest.mark.parametrize("way", ["rescale", "expression", "algorithm", "color_formula", "colormap"])
def test_what_the_client_says_is_left_alone(way):
    query = [("assets", "data"), (way, "1")]
    assert completed(query, [DEM], {}) == query


def test_a_ramp_of_colours_gets_limits():
    assert ("rescale", "10.0,202.5") in completed([("assets", "data"), ("colormap_name", "terrain")], [DEM], {})


def test_all_items_of_a_mosaic_have_the_same_limits():
    other = {"data": asset(band(low=-50, high=20))}
    assert completed([], [DEM, other], {})[1] == ("rescale", "-50.0,202.5")
    assert completed([], [DEM, other], {"data": (0.0, 500.0)})[1] == ("rescale", "0.0,500.0")


@pytest.mark.parametrize("told", [{}, {"minimum": 5, "maximum": 5}, {"minimum": 3}])
def test_without_a_range_of_values_nothing_is_invented(told):
    flat = {"data": asset({"data_type": "float32", "statistics": told})}
    assert completed([("assets", "data")], [flat], {}) == [("assets", "data")]


def test_what_is_not_there_is_left_to_the_server_to_refuse():
    assert completed([("assets", "none")], [DEM], {}) == [("assets", "none")]
    assert completed([("assets", "data")], [], {}) == [("assets", "data")]
    assert completed([("assets", "thumbnail")], [DEM], {}) == [("assets", "thumbnail")]
