"""Kinds of geometry that few files have or declare: of any kind with heights or measures, surfaces of many faces,
curves.
"""

import struct

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely

from geo_assets.errors import GeoAssetsError
from geo_assets.vector.reader.geometry import CURVED_COLLECTION
from geo_assets_tests.vector.builders import altered, frame, spreadsheet, write

HEADER = b"GP\x00\x01" + struct.pack("<i", 4326)


def point(code, *ordinates):
    """A point of a GeoPackage, with this code of WKB."""
    return HEADER + struct.pack(f"<BI{len(ordinates)}d", 1, code, *ordinates)


def declared(path, kind, z, m, *blobs, layer="t"):
    """A GeoPackage one layer of which is declared of this kind, with these geometries."""
    mode = "a" if path.exists() else "w"
    write(frame(*["POINT(1 2)"] * len(blobs)), path, layer=layer, geometry_type="Unknown", mode=mode)
    said = "update gpkg_geometry_columns set geometry_type_name = ?, z = ?, m = ? where table_name = ?"
    stored = ((f'update "{layer}" set geom = ? where n = ?', (blob, n)) for n, blob in enumerate(blobs))
    return altered(path, (said, (kind, z, m, layer)), *stored)


TIN = HEADER + struct.pack("<BIIBIII12d", 1, 1016, 1, 1, 1017, 1, 4, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0)


@pytest.mark.parametrize(
    ("z", "m", "blob", "has_z"),
    [
        (1, 0, point(1001, 7, 51, 3), True),
        (0, 1, point(2001, 7, 51, 3), False),
        (1, 1, point(3001, 7, 51, 3, 4), True),
        (2, 2, point(1001, 7, 51, 3), True),
    ],
    ids=["z", "m", "z and m", "either"],
)
def test_a_layer_of_any_kind_with_heights_or_measures_is_read_by_the_kinds_of_its_features(
    tmp_path, look, z, m, blob, has_z
):
    report = look(declared(tmp_path / "a.gpkg", "GEOMETRY", z, m, blob))
    (plan,) = report.layers
    assert (plan.geometry_type, plan.has_z, plan.bounds) == ("POINT", has_z, (7, 51, 7, 51))
    assert not any("warning of GDAL" in warning for warning in (*report.warnings, *plan.warnings))


def test_features_with_heights_of_several_kinds_are_read_from_gml(tmp_path, look):
    write(frame("POINT Z(1 2 3)", "LINESTRING Z(1 2 3, 4 5 6)"), tmp_path / "a.gml")
    tmp_path.joinpath("a.xsd").unlink()  # the kinds are those of the features
    assert [(plan.geometry_type, plan.has_z) for plan in look(tmp_path / "a.gml").layers] == [
        ("POINT", True),
        ("MULTILINESTRING", True),
    ]


@pytest.mark.parametrize("kind", ["TIN", "POLYHEDRALSURFACE", "TRIANGLE"])
@pytest.mark.parametrize("z", [0, 1])
def test_a_layer_that_is_declared_of_a_rare_kind_leaves_the_others_as_they_are(tmp_path, look, kind, z):
    path = declared(tmp_path / "a.gpkg", "POINT", 0, 0, point(1, 7, 51), layer="good")
    declared(path, kind, z, 0, TIN, layer="rare")
    report = look(path)
    assert [(plan.layer, plan.geometry_type) for plan in report.layers] == [("good", "POINT")]
    assert ["'rare'" in warning and "TIN geometry is not supported" in warning for warning in report.warnings] == [True]
    with pytest.raises(GeoAssetsError, match="TIN geometry is not supported"):
        look(path, layers=["rare"])


CURVES = {
    "CIRCULARSTRING(0 0,1 1,2 0)": "CircularString geometry is not supported",
    "CIRCULARSTRING Z (0 0 1,1 1 1,2 0 1)": "CircularString geometry is not supported",
    "circularstring empty": "CircularString geometry is not supported",
    "COMPOUNDCURVE((0 0,1 1),CIRCULARSTRING(1 1,2 2,3 1))": "CompoundCurve geometry is not supported",
    "CURVEPOLYGON((0 0,1 0,1 1,0 0))": "CurvePolygon geometry is not supported",
    "MULTICURVE((0 0,1 1))": "MultiCurve geometry is not supported",
    "SRID=4326;MULTISURFACE(((0 0,1 0,1 1,0 0)))": "MultiSurface geometry is not supported",
    "TIN Z(((0 0 0,1 0 0,1 1 0,0 0 0)))": "TIN geometry is not supported",
    "TRIANGLE((0 0,1 0,1 1,0 0))": "Triangle geometry is not supported",
    "POLYHEDRALSURFACEZ(((0 0 0,1 0 0,1 1 0,0 0 0)))": "PolyhedralSurface geometry is not supported",
    "GEOMETRYCOLLECTION(CIRCULARSTRING(0 0,1 1,2 0))": CURVED_COLLECTION,
    "GEOMETRYCOLLECTION ZM(POINT ZM(1 2 3 4),CIRCULARSTRING ZM(0 0 1 1,1 1 1 1,2 0 1 1))": CURVED_COLLECTION,
}


def tables(folder, *texts):
    """The same geometries as text in each format that has them so, and what else tells which they are."""
    comma = folder / "a.csv"
    comma.write_text("n,wkt\n" + "".join(f'{n},"{text}"\n' for n, text in enumerate(texts)))
    sheet = spreadsheet(folder / "a.xlsx", ("n", "wkt"), *enumerate(texts))
    pq.write_table(pa.table({"n": range(len(texts)), "wkt": texts}), folder / "a.parquet")
    return [(comma, {}), (sheet, {}), (folder / "a.parquet", {"geometry_column": "wkt"})]


@pytest.mark.parametrize(("text", "reason"), CURVES.items(), ids=[text.partition("(")[0] for text in CURVES])
def test_a_curve_or_surface_in_text_is_rejected_by_name_and_the_other_rows_are_kept(tmp_path, look, text, reason):
    for path, options in tables(tmp_path, text, "POINT(7 51)"):
        (plan,) = look(path, source_crs="EPSG:4326", **options).layers
        assert (plan.geometry_type, plan.bounds) == ("POINT", (7, 51, 7, 51))
        assert plan.rejected_by_reason == {reason: 1}


@pytest.mark.parametrize("mixed", ["split", "generic"])
def test_curves_within_a_collection_are_rejected_and_no_fault_of_ours(tmp_path, look, mixed):
    curved = shapely.to_wkb(shapely.from_wkt("GEOMETRYCOLLECTION(POINT(1 1),CIRCULARSTRING(0 0,1 1,2 0))"))
    package = declared(tmp_path / "a.gpkg", "GEOMETRY", 0, 0, HEADER + curved, point(1, 7, 51))
    text = tmp_path / "a.csv"
    text.write_text(f"n,wkb\n0,{curved.hex()}\n1,{shapely.to_wkb(shapely.Point(7, 51)).hex()}\n")
    for path in (package, text):
        (plan,) = look(path, source_crs="EPSG:4326", mixed=mixed).layers
        assert (plan.bounds, plan.rejected_by_reason) == ((7, 51, 7, 51), {CURVED_COLLECTION: 1})
