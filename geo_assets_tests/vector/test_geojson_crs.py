import json

import pytest

from geo_assets.errors import GeoAssetsError

RD_AND_NAP = "urn:ogc:def:crs,crs:EPSG::28992,crs:EPSG::5709"


def named(name):
    return {"type": "name", "properties": {"name": name}}


def point(*coordinates, crs=None, kind="Point"):
    """A point, with the CRS that it names for itself."""
    own = {} if crs is None else {"crs": named(crs)}
    return {"type": kind, **own, "coordinates": list(coordinates)}


def collection(*geometries, **members):
    """A text of one feature for each geometry."""
    features = [{"type": "Feature", "properties": {"n": n}, "geometry": g} for n, g in enumerate(geometries)]
    return json.dumps({"type": "FeatureCollection", **members, "features": features})


@pytest.fixture
def plan_of(tmp_path, look):
    """The plan of a text."""

    def read(text, name="a.geojson", **request):
        path = tmp_path / name
        path.write_text(text)
        return look(path, **request).layers[0]

    return read


def test_a_crs_that_every_geometry_names_is_the_files_as_postgis_writes_it(plan_of):
    plan = plan_of(collection(point(-100.5, 40.0, crs="EPSG:4267"), point(-100.5, 40.1, crs="EPSG:4267"), None))
    assert (plan.srid, plan.bounds) == (4267, (-100.5, 40.0, -100.5, 40.1))


def test_a_crs_of_every_line_counts_in_lines_of_geojson(plan_of):
    lines = [json.dumps({"type": "Feature", "properties": {}, "geometry": point(4e5, 1e5, crs="EPSG:27700")})] * 2
    assert plan_of("\n".join(lines), "a.geojsonl").srid == 27700


def test_a_crs_of_a_feature_is_its_geometrys(plan_of):
    feature = {"type": "Feature", "crs": named("EPSG:25832"), "properties": {}, "geometry": point(5e5, 5.7e6)}
    assert plan_of(json.dumps({"type": "FeatureCollection", "features": [feature]})).srid == 25832


def test_a_crs_of_every_member_of_a_geometry_collection_counts(plan_of):
    members = [point(5e5, 5.7e6, crs="EPSG:25832"), point(5e5, 5.8e6, crs="EPSG:25832")]
    assert plan_of(collection({"type": "GeometryCollection", "geometries": members})).srid == 25832


@pytest.mark.parametrize("members_first", [True, False])
def test_a_collection_may_repeat_the_crs_of_its_geometries_in_other_words(plan_of, members_first):
    body = json.loads(collection(point(5e5, 5.7e6, crs="EPSG:25832")))
    crs = {"crs": named("urn:ogc:def:crs:EPSG::25832")}
    assert plan_of(json.dumps({**crs, **body} if members_first else {**body, **crs})).srid == 25832


def test_a_geometry_without_a_crs_agrees_with_one_that_names_wgs_84(plan_of):
    assert plan_of(collection(point(7, 51), point(7, 52, crs="urn:ogc:def:crs:OGC:1.3:CRS84"))).srid == 4326


@pytest.mark.parametrize(
    "text",
    [
        collection(point(5e5, 5.7e6, crs="EPSG:25832"), point(5e5, 5.7e6, crs="EPSG:25833")),
        collection(point(5e5, 5.7e6, crs="EPSG:25832"), point(7, 51)),
        collection(point(7, 51), point(5e5, 5.7e6, crs="EPSG:25832")),
        collection(point(5e5, 5.7e6, crs="EPSG:25832"), crs=named("EPSG:25833")),
        collection(point(5e5, 5.7e6, crs="EPSG:25832"), point(5e5, 5.7e6, crs="EPSG:0")),
        "\n".join([collection(point(5e5, 5.7e6), crs=named("EPSG:25832")), collection(point(7, 51))]),
    ],
)
def test_geometries_in_several_crs_are_refused_unless_one_is_to_count_for_all(plan_of, text):
    with pytest.raises(GeoAssetsError, match=r"a\.geojson has coordinates in more than one CRS: .*EPSG:25832") as error:
        plan_of(text, source_crs="EPSG:25832")
    assert error.value.code == "VECTOR_UNSUPPORTED"
    assert "more than one" not in str(plan_of(text, source_crs="EPSG:32632", override_crs=True).warnings)


@pytest.mark.parametrize(
    ("crs", "srid"),
    [
        ({"type": "EPSG", "properties": {"code": 25832}}, 25832),
        ({"type": "EPSG", "properties": {"code": "25832"}}, 25832),
        ({"type": "OGC", "properties": {"urn": "urn:ogc:def:crs:EPSG::25832"}}, 25832),
        (named("http://www.opengis.net/def/crs/EPSG/0/25832"), 25832),
        (named("https://www.opengis.net/def/crs/EPSG/0/25832"), 25832),
        (named("http://www.opengis.net/gml/srs/epsg.xml#25832"), 25832),
        (named("urn:x-ogc:def:crs:EPSG:25832"), 25832),
        ("EPSG:25832", 25832),
        (named("http://www.opengis.net/def/crs/OGC/1.3/CRS84"), 4326),
        (named(RD_AND_NAP), 28992),
    ],
)
def test_a_crs_is_understood_in_every_way_in_which_it_is_written(plan_of, crs, srid):
    assert plan_of(collection(point(5, 51) if srid == 4326 else point(1e5, 4e5, 3), crs=crs)).srid == srid


def test_the_heights_of_a_compound_crs_are_named(plan_of):
    plan = plan_of(collection(point(1e5, 4e5, 3), crs=named(RD_AND_NAP)))
    assert any("NAP height" in warning for warning in plan.warnings)


@pytest.mark.parametrize("crs", [None, {}, {"type": "link", "properties": {"href": "http://example.org"}}, 25832])
def test_a_crs_that_names_nothing_known_is_none(plan_of, crs):
    with pytest.raises(GeoAssetsError) as error:
        plan_of(collection(point(1e5, 4e5), crs=crs))
    assert error.value.code == "VECTOR_NO_CRS"


def test_a_code_that_does_not_exist_is_named_and_not_said_to_be_missing(plan_of):
    with pytest.raises(GeoAssetsError, match=r"a\.geojson names a CRS that is not known: 'EPSG:999999'") as error:
        plan_of(collection(point(1e5, 4e5), crs=named("EPSG:999999")))
    assert error.value.code == "VECTOR_NO_CRS"
