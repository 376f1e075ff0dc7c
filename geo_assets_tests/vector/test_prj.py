import pytest
from pyproj import CRS

from geo_assets.errors import GeoAssetsError
from geo_assets_tests.vector.builders import points, write

ESRI = CRS.from_epsg(25832).to_wkt("WKT1_ESRI")


@pytest.fixture
def plan_of(tmp_path, look):
    """The plan of a shapefile with these bytes in its .prj."""

    def read(body):
        path = write(points(2).to_crs(25832), tmp_path / "a.shp")
        path.with_suffix(".prj").write_bytes(body)
        plan = look(path).layers[0]
        assert path.with_suffix(".prj").read_bytes() == body
        return plan

    return read


@pytest.mark.parametrize(
    "body",
    [
        ESRI.encode(),
        ESRI.encode("utf-8-sig"),
        ESRI.encode("utf-16"),
        ESRI.encode("utf-16-le"),
        ESRI.encode("utf-16-be"),
        b"EPSG:25832\r\n",
        b"epsg:25832",
        "EPSG:25832".encode("utf-16"),
    ],
)
def test_a_prj_is_understood_in_any_encoding_and_as_a_code(plan_of, body):
    assert plan_of(body).srid == 25832


@pytest.mark.parametrize(
    ("body", "said"),
    [(b"", "its .prj is empty"), (b" \n", "its .prj is empty"), (b"somewhere", "'somewhere' in its .prj is no CRS")],
)
def test_a_prj_that_names_no_crs_is_said_to_be_there(plan_of, body, said):
    with pytest.raises(GeoAssetsError, match=said) as error:
        plan_of(body)
    assert error.value.code == "VECTOR_NO_CRS"
    assert "replace the .prj" in error.value.remedy
