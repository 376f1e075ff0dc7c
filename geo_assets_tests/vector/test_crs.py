import geopandas as gpd
import numpy as np
import pytest
from pyproj import CRS, Transformer
from pyproj.exceptions import CRSError

from geo_assets.epsg import parse_code
from geo_assets.errors import GeoAssetsError
from geo_assets.longitudes import footprint
from geo_assets.vector.crs import geographic_box, parse_file_crs, plan_crs, transformer
from geo_assets_tests.vector.builders import points, write

LONDON = (528_895.0, 180_561.0, 529_803.0, 181_408.0)
SHORTENED_NATIONAL_GRID = (
    'PROJCS["Transverse_Mercator",GEOGCS["GCS_OSGB 1936",DATUM["OSGB_1936",SPHEROID["Airy'
    ' 1830",6377563.396,299.3249646],AUTHORITY["EPSG","6277"]],'
    'PRIMEM["Greenwich",0],UNIT["Degree",0.0174532925199433],AUTHORITY["EPSG","4277"]],PROJECTION["Transverse_Mercator"],'
    'PARAMETER["latitude_of_origin",49],PARAMETER["central_meridian",-2],PARAMETER["scale_factor",0.999601],'
    'PARAMETER["false_easting",400000],PARAMETER["false_northing",-100000],UNIT["metre",1]]'
)


@pytest.mark.parametrize(
    "text",
    [
        "EPSG:999999",
        "epsg:4326",
        "4326",
        "https://example.com/crs",
        "/etc/passwd",
        "+proj=longlat",
        "EPSG:4326+5773",
        "",
    ],
)
def test_only_known_epsg_codes_are_taken_from_a_person(text):
    with pytest.raises(GeoAssetsError) as caught:
        parse_code(text)
    assert caught.value.code == "INVALID_CRS"


def _without_authority(datum, name, ellipsoid):
    """As GDAL writes it, longitude first, where a file names no authority."""
    unit = 'PRIMEM["Greenwich",0],UNIT["degree",0.0174532925199433]'
    return (
        f'GEOGCS["{name}",DATUM["{datum}",SPHEROID[{ellipsoid}]],{unit},AXIS["Longitude",EAST],AXIS["Latitude",NORTH]]'
    )


#: EPSG has northing first, and Esri a grid of the same parameters with easting first.
_GAUSS_KRUGER = (
    'PROJCS["DHDN / 3-degree Gauss-Kruger zone 3",GEOGCS["DHDN",DATUM["Deutsches_Hauptdreiecksnetz",SPHEROID["Bessel'
    ' 1841",6377397.155,299.1528128]],PRIMEM["Greenwich",0],UNIT["degree",0.0174532925199433]],PROJECTION['
    '"Transverse_Mercator"],PARAMETER["latitude_of_origin",0],PARAMETER["central_meridian",9],PARAMETER["scale_factor"'
    ',1],PARAMETER["false_easting",3500000],PARAMETER["false_northing",0],UNIT["metre",1],AXIS["Easting",EAST],AXIS['
    '"Northing",NORTH]]'
)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("OGC:CRS84", 4326),
        ("EPSG:4979", 4326),
        ("EPSG:2193+7839", 2193),
        (CRS.from_epsg(32633).to_wkt("WKT1_ESRI"), 32633),
        (CRS.from_epsg(3857).to_json(), 3857),
        (_without_authority("WGS_1984", "WGS 84", '"WGS 84",6378137,298.257223563'), 4326),
        (_without_authority("North_American_Datum_1983", "NAD83", '"GRS 1980",6378137,298.257222101'), 4269),
        (CRS("+proj=longlat +datum=WGS84").to_json(), 4326),
        (_GAUSS_KRUGER, 31467),
    ],
)
def test_a_crs_is_recognised_however_it_is_written(text, code):
    plan = plan_crs(parse_file_crs(text), None, (10, 45, 20, 55), "a.gpkg")
    assert plan.srid == code
    assert plan.transform_name is None
    assert not plan.warnings


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        'LOCAL_CS["Undefined Cartesian SRS"]',
        (
            'GEOGCS["Undefined geographic'
            ' SRS",DATUM["unknown",SPHEROID["unknown",6378137,298.257223563]],PRIMEM["Greenwich",0],UNIT["degree",0.0174532925199433]]'
        ),
        "nonsense",
    ],
)
def test_a_crs_that_locates_nothing_is_none(text):
    assert parse_file_crs(text) is None


def test_a_grid_written_with_fewer_digits_is_transformed_to_the_grid_it_is():
    plan = plan_crs(parse_file_crs(SHORTENED_NATIONAL_GRID), None, LONDON, "buildings.gpkg")
    assert plan.srid == 27700
    assert plan.transform_name
    assert "differs by at most 0.08" in plan.warnings[0]
    moved = transformer(plan.source, plan.srid).transform(LONDON[0], LONDON[1])
    assert np.allclose(moved, LONDON[:2], atol=0.1)


@pytest.mark.parametrize("target", [None, "EPSG:4326"])
def test_a_grid_whose_datum_mapinfo_names_in_words_is_the_grid_it_is(tmp_path, look, target):
    bern = gpd.GeoDataFrame({"n": [1]}, geometry=gpd.points_from_xy([2_600_000], [1_200_000]), crs=2056)
    (plan,) = look(write(bern, tmp_path / "a.mif"), target_crs=target).layers
    note = (
        "its CRS 'unnamed' on 'CH1903+ datum for Switzerland' was taken for EPSG:2056 (CH1903+ / LV95), from which it"
        " differs by at most 0.001 m here"
    )
    assert (plan.srid, plan.source_crs, plan.warnings[0]) == (4326 if target else 2056, "EPSG:2056", note)


@pytest.mark.parametrize("code", [2180, 31467])
def test_a_grid_that_mapinfo_has_on_another_datum_is_not_that_grid(tmp_path, look, code):
    crs = CRS.from_epsg(code)
    x, y = Transformer.from_crs(crs.geodetic_crs, crs, always_xy=True).transform(19 if code == 2180 else 9, 51)
    grid = gpd.GeoDataFrame({"n": [1]}, geometry=gpd.points_from_xy([x], [y]), crs=code)
    path = write(grid, tmp_path / "a.mif")  # GDAL writes WGS 84
    with pytest.raises(GeoAssetsError, match="has no EPSG code"):
        look(path)


def test_a_crs_of_ones_own_needs_a_target():
    crs = CRS.from_proj4("+proj=tmerc +lat_0=10 +lon_0=17.3 +k=0.5 +x_0=12345 +ellps=GRS80 +units=m")
    with pytest.raises(GeoAssetsError, match="no EPSG code") as caught:
        plan_crs(crs, None, (0, 0, 1, 1), "a.gpkg")
    assert "target_crs" in caught.value.remedy
    assert plan_crs(crs, parse_code("EPSG:4326"), (12000, 0, 13000, 1000), "a.gpkg").srid == 4326


def test_the_target_is_reached_and_the_way_is_named():
    plan = plan_crs(CRS.from_epsg(4326), parse_code("EPSG:2193"), (172, -44, 176, -36), "a.gpkg")
    assert plan.srid == 2193
    assert plan.transform_name
    x, y = transformer(plan.source, plan.srid).transform(173.0, -41.0)  # longitude first
    assert abs(x - 1_600_000) < 1
    assert 5_400_000 < y < 5_500_000


def test_a_missing_grid_is_said():
    plan = plan_crs(CRS.from_epsg(4267), parse_code("EPSG:4326"), (-84, 34, -75, 36), "nc.gpkg")
    assert plan.accuracy_m
    assert "grid that is not installed" in plan.warnings[0]


@pytest.mark.parametrize("code", [4267, 4301], ids=["NAD27", "Tokyo"])
def test_a_datum_that_proj_knows_no_way_from_is_told(code):
    plan = plan_crs(CRS.from_epsg(code), parse_code("EPSG:4326"), (10, 50, 11, 51), "a.gpkg")
    assert plan.accuracy_m is None
    assert f"PROJ knows no transformation from '{CRS.from_epsg(code).name}' to 'WGS 84'" in plan.warnings[0]
    with pytest.raises(GeoAssetsError, match="unknown accuracy") as caught:
        plan_crs(CRS.from_epsg(code), parse_code("EPSG:4326"), (10, 50, 11, 51), "a.gpkg", max_accuracy_m=1000)
    assert caught.value.code == "TRANSFORM_INACCURATE"


@pytest.mark.parametrize(("source", "target"), [(4326, 3857), (4258, 25832), (32632, 32633)])
def test_a_projection_alone_is_exact(source, target):
    bounds = (500000, 5500000, 500001, 5500001) if source == 32632 else (10, 50, 11, 51)
    plan = plan_crs(CRS.from_epsg(source), parse_code(f"EPSG:{target}"), bounds, "a.gpkg", max_accuracy_m=0.01)
    assert (plan.accuracy_m, plan.warnings) == (0, ())


def test_a_box_across_the_antimeridian_has_its_west_east_of_its_east():
    box = geographic_box("EPSG:3832", (-1_000_000, -1_000_000, 4_000_000, 1_000_000))
    west, _, east, _ = box
    assert west > east
    assert footprint(box)["type"] == "MultiPolygon"
    assert geographic_box("EPSG:4326", (170, -10, 190, 10)) == (170, -10, -170, 10)


def test_a_box_in_degrees_is_kept_within_the_world():
    assert geographic_box("EPSG:4326", (-180.0, -90.0, 180.00000000000006, 83.6)) == (-180, -90, 180, 83.6)


def test_a_failure_of_proj_is_of_one_file_and_not_remembered(monkeypatch):
    def fail(_):
        raise CRSError("no database context specified")

    text = CRS.from_epsg(2193).to_wkt() + " "
    with monkeypatch.context() as broken:
        broken.setattr(CRS, "from_user_input", fail)
        assert parse_file_crs(text) is None
    assert parse_file_crs(text).to_epsg() == 2193
    assert parse_file_crs(text) is parse_file_crs(text)


@pytest.mark.parametrize("option", ["source_crs", "target_crs", "bbox_crs"])
@pytest.mark.parametrize("code", ["EPSG:5773", "EPSG:5801"], ids=["heights", "engineering"])
def test_a_crs_that_has_no_longitude_and_latitude_is_refused_where_it_is_named(tmp_path, look, option, code):
    path = write(points(1), tmp_path / "a.gpkg")
    said = "neither geographic nor projected|is not a CRS that PROJ knows"  # PROJ before 9.5 has no engineering CRSs
    with pytest.raises(GeoAssetsError, match=said) as caught:
        look(path, bbox=(5, 50, 6, 51), override_crs=option == "source_crs", **{option: code})
    assert caught.value.code == "INVALID_CRS"


@pytest.mark.parametrize("ending", ["gpkg", "fgb", "gml", "parquet"])
def test_a_file_in_a_crs_of_heights_alone_says_nothing_of_its_places(tmp_path, look, ending):
    path = write(points(1, crs="EPSG:3855"), tmp_path / f"a.{ending}")
    with pytest.raises(GeoAssetsError) as caught:
        look(path)
    assert caught.value.code == "VECTOR_NO_CRS"
    assert look(path, source_crs="EPSG:4326").layers[0].srid == 4326
