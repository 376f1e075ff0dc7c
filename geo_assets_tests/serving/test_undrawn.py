"""What cannot be drawn as it is asked is the client's fault, and says why."""

import pytest

pytest.importorskip("tipg")

from geo_assets_tests.serving.ingested import COLLECTION
from geo_assets_tests.serving.test_doors import at

MOSAIC = f"/tiles/collections/{COLLECTION}"

UNSUITED = [
    "preview.png?assets=data|bidx=9",
    "preview.png?assets=data|bidx=0",
    "preview.png?assets=data|expression=b9",
    "statistics?assets=data|bidx=9",
    "info?assets=data|bidx=9",
    "preview.png?colormap=5",
    "preview.png?colormap=[1]",
    'preview.png?colormap={"a":[1,2,3]}',
    'preview.png?colormap={"0":5}',
    'preview.png?colormap=[[["a",1],[1,2,3,4]]]',
    "preview.png?color_formula=gamma R 0",
    "preview.png?color_formula=sigmoidal R 1",
    "preview.png?color_formula=saturation 2",
    "statistics?assets=data&histogram_range=5,1",
    "statistics?assets=data&histogram_bins=5,1",
    "preview.png?algorithm=normalizedIndex",
    'preview.png?algorithm=hillshade&algorithm_params={"azimuth":"x"}',
    "preview.png?assets=data&expression=;",
    "tiles/WebMercatorQuad/0/0/0.png?buffer=0.7",
    "point/1e9,5",
    "point/9,95",
    "point/1e9,1e9?coord_crs=EPSG:25832",
    "bbox/-1000,-1000,1000,1000.png?dst_crs=EPSG:3857",
    "bbox/8,95,9,99.png",
]


@pytest.fixture(scope="module")
def client(ingested):
    with at(ingested.settings) as client:
        yield client


def base_of(ingested, name):
    collection, identity = ingested.item_of(name)
    return f"/tiles/collections/{collection}/items/{identity}"


@pytest.mark.parametrize("asked", UNSUITED)
def test_an_option_that_does_not_suit_a_raster_is_refused_in_a_sentence(client, ingested, asked):
    answer = client.get(f"{base_of(ingested, 'dem_west.tif')}/{asked}")
    assert answer.status_code in {400, 404}, answer.text
    told = answer.json()["detail"]
    assert "log says why" not in told
    assert "pydantic" not in told
    assert "[type=" not in told
    assert "validation error" not in told


@pytest.mark.parametrize("asked", ["bbox/8,49,10,51.png?assets=data|bidx=9", "bbox/8,49,10,51.png?colormap=5"])
def test_so_is_one_that_does_not_suit_a_mosaic(client, asked):
    assert client.get(f"{MOSAIC}/{asked}").status_code == 400


def test_a_number_for_no_data_suits_the_type_of_the_raster(client, ingested):
    photo = base_of(ingested, "dem_west.tif")
    assert client.get(f"{photo}/preview.png?nodata=nan").status_code == 200
    from geo_assets.serving.undrawn import with_own_options

    plain, own = ([("assets", "data"), ("tilesize", "256")], [("nodata", "nan")])
    keys = [with_own_options({}, query, "/x/preview.png")["geo_assets.own_options"] for query in (plain, own)]
    assert keys == [False, True]


def test_a_place_outside_of_a_raster_has_no_value(client, ingested):
    answer = client.get(f"{base_of(ingested, 'dem_west.tif')}/point/0,0")
    assert answer.status_code == 404
    assert "outside" in answer.json()["detail"]


@pytest.mark.parametrize("document", ["WebMercatorQuad/tilejson.json", "WMTSCapabilities.xml"])
def test_tiles_are_described_of_rasters_that_are_there_alone(client, ingested, document):
    item = base_of(ingested, "dem_west.tif")
    answer = client.get(f"{item}/{document}?assets=none")
    assert answer.status_code == 404
    assert "data" in answer.json()["detail"]
    assert client.get(f"{item}/{document}?assets=data").status_code == 200


def test_every_tiling_scheme_that_is_told_has_a_first_tile(client, ingested):
    item = base_of(ingested, "dem_west.tif")
    schemes = [told["id"] for told in client.get("/tiles/tileMatrixSets").json()["tileMatrixSets"]]
    assert len(schemes) > 10
    for scheme in schemes:
        for base in (item, MOSAIC):
            assert client.get(f"{base}/tiles/{scheme}/0/0/0.png?assets=data").status_code in {200, 204, 404}, scheme
            assert client.get(f"{base}/tiles/{scheme}/24/0/0.png?assets=data").status_code in {200, 204, 404}, scheme
        assert scheme in client.get(f"{item}/WMTSCapabilities.xml").text


def test_every_tiling_scheme_of_tables_has_a_first_tile(client, ingested):
    collection, identity = ingested.item_of("places.geojson")
    links = client.get(f"/stac/collections/{collection}/items/{identity}").json()["links"]
    (table,) = [link["href"].split("/")[-2] for link in links if link["rel"] == "items"]
    schemes = [told["id"] for told in client.get("/features/tileMatrixSets").json()["tileMatrixSets"]]
    assert len(schemes) > 10
    for scheme in schemes:
        assert client.get(f"/features/collections/{table}/tiles/{scheme}/0/0/0").status_code in {200, 204, 404}, scheme


def test_a_raster_whose_file_is_gone_says_so(client, ingested):
    collection, identity = ingested.item_of("dem_ost.tif")
    stored = client.get(f"/stac/collections/{collection}/items/{identity}").json()["assets"]["data"]["href"]
    file = ingested.cli.home / "containers" / stored.partition("/files/default/")[2]
    away = file.with_suffix(".away")
    file.rename(away)
    try:
        for asked in (
            f"{base_of(ingested, 'dem_ost.tif')}/preview.png?assets=data",
            f"{MOSAIC}/bbox/9.0,49.9,9.1,50.png",
        ):
            answer = client.get(asked)
            assert answer.status_code == 410, answer.text
            assert "gone" in answer.json()["detail"]
            assert "reconcile" in answer.json()["remedy"]
    finally:
        away.rename(file)


@pytest.mark.parametrize("accept", ["application/json;q", "application/json;q=1=2", "application/json; , */*;q=0.5"])
@pytest.mark.parametrize("path", ["/tiles/tileMatrixSets", "/features/collections"])
def test_a_header_that_libraries_fail_with_is_read_without_what_is_no_parameter(client, path, accept):
    assert client.get(path, headers={"Accept": accept}).status_code == 200
