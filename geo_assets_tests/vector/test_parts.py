"""Datasets of several parts of which one is truncated, and records that are not geometries: every loss is reported."""

import struct

import geopandas as gpd
import pyogrio
import pytest
import shapely

from geo_assets.errors import GeoAssetsError
from geo_assets_tests.vector.builders import NATURAL_EARTH, altered, points, write

MIF = (
    'Version 300\nCharset "WindowsLatin1"\nDelimiter ","\nCoordSys Earth Projection 1, 104\nColumns 1\n  a'
    " Integer\nData\n\n"
)


def mif(folder, objects, rows):
    path = folder / "a.mif"
    path.write_text(MIF + objects)
    path.with_suffix(".mid").write_text(rows)
    return path


def refused(look, path):
    with pytest.raises(GeoAssetsError) as caught:
        look(path)
    assert caught.value.code == "UNREADABLE"
    return str(caught.value)


@pytest.mark.parametrize(
    ("objects", "rows", "said"),
    [
        ("Point 1 2\nPoint 3 4\nPoint 5 6\n", "1\n2\n", "3 objects, and its .mid 2 rows"),
        ("Point 1 2\nPoint 3 4\n", "1\n2\n3\n", "2 objects, and its .mid 3 rows"),
        ("Point 1 2\n", "", "1 objects, and its .mid 0 rows"),
        ("Point 1 2\nPline 3\n1 2\n", "1\n2\n", "1 of 2 features"),
        ("Point 1 2\nPoint x 4\n", "1\n2\n", "'Point x 4'"),
        ("Point 1 2\nPline 2\n1 2\n3 N/A\n", "1\n2\n", "'3 N/A'"),
        ("Point 1 2\nBanana 3\n", "1\n", "'Banana 3'"),
    ],
    ids=["rows are missing", "rows are left", "empty", "cut", "no number", "no number in a line", "no object"],
)
def test_a_mif_whose_parts_do_not_fit_is_refused(tmp_path, look, objects, rows, said):
    assert said in refused(look, mif(tmp_path, objects, rows))


def test_a_whole_mif_is_loaded_with_all_kinds_of_objects(tmp_path, load, db):
    objects = (
        'None\nPoint 1 2\n    Symbol (35,0,12)\nLine 0 0 1 1\n    Pen (1,2,0)\nPline 2\n0 0\n1 -1.5e0\n    Smooth\n'
        'Region 1\n  4\n0 0\n0 1\n1 1\n0 0\n    Brush (2,16777215,16777215)\n    Center 0.5 0.5\n'
        'Collection 2\nRegion 1\n  4\n0 0\n0 1\n1 1\n0 0\nPline 2\n0 0\n1 1\nMultipoint 2\n1 1\n2 2\nRect 0 0 1 1\n'
    )  # fmt: skip
    loaded = load(mif(tmp_path, objects, "1\n2\n3\n4\n5\n6\n7\n8\n\n"), "mif_kinds", mixed="generic")
    assert loaded.tables[0].rows == 8
    assert [row[0] for row in db.rows("select a from {t} order by gid", t=loaded.table)] == [1, 2, 3, 4, 5, 6, 7, 8]


@pytest.mark.parametrize("ending", ["mif", "tab"])
def test_what_gdal_writes_of_mapinfo_is_whole(tmp_path, look, ending):
    source = gpd.read_file(NATURAL_EARTH)
    pyogrio.write_dataframe(
        source, tmp_path / f"a.{ending}", driver="MapInfo File", **({"FORMAT": "MIF"} if ending == "mif" else {})
    )
    assert look(tmp_path / f"a.{ending}").layers[0].feature_count == len(source)


@pytest.fixture
def shapefile(tmp_path):
    path = tmp_path / "a.shp"
    gpd.GeoDataFrame({"a": [0, 1, 2]}, geometry=[shapely.Point(i, 1).buffer(1, 2) for i in range(3)], crs=4326).to_file(
        path
    )
    return path


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "a.tab"
    pyogrio.write_dataframe(points(3, a=[0, 1, 2]), path, driver="MapInfo File")
    return path


def patch(path, at, value):
    body = path.read_bytes()
    path.write_bytes(body[:at] + value + body[at + len(value) :])


def grow(path, count):
    """Another row at the end of a .dbf or .dat."""
    body = path.read_bytes()
    start, width = struct.unpack("<HH", body[8:12])
    path.write_bytes(
        body[:4] + struct.pack("<I", count) + body[8 : start + 3 * width] + body[start : start + width] + b"\x1a"
    )


def test_a_shapefile_with_fewer_whole_rows_than_shapes_is_refused(look, shapefile):
    dbf = shapefile.with_suffix(".dbf")
    whole = dbf.read_bytes()
    patch(dbf, 4, struct.pack("<I", 2))
    assert "2 whole rows for 3 shapes" in refused(look, shapefile)
    dbf.write_bytes(whole[: -struct.unpack("<H", whole[10:12])[0]])
    assert "2 whole rows for 3 shapes" in refused(look, shapefile)
    dbf.write_bytes(whole)
    shx = shapefile.with_suffix(".shx")
    shx.write_bytes(shx.read_bytes() + shx.read_bytes()[-8:])
    assert "3 whole rows for 4 shapes" in refused(look, shapefile)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda dbf: b"", "its .dbf has 0 bytes"),
        (lambda dbf: bytes(len(dbf)), "its .dbf has rows of 0 bytes, and no field"),
        (lambda dbf: dbf[:10] + struct.pack("<H", len(dbf) - 1) + dbf[12:40], "and no field"),
        (lambda dbf: dbf[:8] + struct.pack("<H", 33) + dbf[10:], "and no field"),
        (lambda dbf: dbf[:10] + struct.pack("<H", 5) + dbf[12:] + bytes(999), "says that a row has 5 bytes, and its"),
    ],
)
def test_a_shapefile_of_whose_dbf_gdal_would_read_no_attribute_is_refused(look, shapefile, change, said):
    dbf = shapefile.with_suffix(".dbf")
    dbf.write_bytes(change(dbf.read_bytes()))
    assert said in refused(look, shapefile)


def test_a_dbf_may_say_that_there_are_no_attributes(look, shapefile):
    head = struct.pack("<BBBBIHH20x", 3, 124, 1, 1, 3, 33, 1)
    shapefile.with_suffix(".dbf").write_bytes(head + b"\r" + b" " * 3 + b"\x1a")
    (plan,) = look(shapefile).layers
    assert (plan.feature_count, plan.columns) == (3, ())


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_a_mapinfo_table_whose_map_is_cut_is_refused(tmp_path, look, share):
    path = tmp_path / "a.tab"
    pyogrio.write_dataframe(points(2000), path, driver="MapInfo File")
    assert look(path).layers[0].feature_count == 2000
    shapes = path.with_suffix(".map")
    shapes.write_bytes(shapes.read_bytes()[: int(share * shapes.stat().st_size)])
    assert "of 2,000 features" in refused(look, path)


def test_a_geodatabase_whose_table_is_cut_is_refused(tmp_path, look):
    path = write(points(2000, a=list(range(2000))), tmp_path / "a.gdb", layer="t")
    largest = max(path.glob("*.gdbtable"), key=lambda part: part.stat().st_size)
    assert look(path).layers[0].feature_count == 2000
    largest.write_bytes(largest.read_bytes()[: largest.stat().st_size // 2])
    with pytest.raises(GeoAssetsError, match="of 2,000 features"):
        look(path)


def test_a_dbf_of_dbase_7_is_refused(look, shapefile):
    fields = [(b"ID", b"N", 5), (b"NAME", b"C", 20)]
    described = b"".join(struct.pack("<32scB14x", name, kind, width) for name, kind, width in fields)
    width, start = 1 + sum(width for *_, width in fields), 68 + len(described) + 1
    head = struct.pack("<B3xIHH17xB2x32s4x", 4, 3, start, width, 0, b"DBWINUS0")
    shapefile.with_suffix(".dbf").write_bytes(head + described + b"\r" + b" " * 3 * width + b"\x1a")
    assert "is one of dBase 7" in refused(look, shapefile)


def test_surplus_rows_of_a_shapefile_are_said(look, shapefile):
    grow(shapefile.with_suffix(".dbf"), 4)
    (plan,) = look(shapefile).layers
    assert plan.feature_count == 3
    assert any("1 row of its DBF has no shape" in warning for warning in plan.warnings)


def test_a_mapinfo_table_whose_parts_do_not_fit_is_refused(look, table):
    dat, index = table.with_suffix(".dat"), table.with_suffix(".id")
    rows, entries = dat.read_bytes(), index.read_bytes()
    patch(dat, 4, struct.pack("<I", 2))
    assert "its .dat has 2 whole rows, and its .id 3" in refused(look, table)
    dat.write_bytes(rows[: -struct.unpack("<H", rows[10:12])[0]])
    assert "its .dat has 2 whole rows, and its .id 3" in refused(look, table)
    dat.write_bytes(rows)
    grow(dat, 4)
    assert "its .dat has 4 whole rows, and its .id 3" in refused(look, table)
    dat.write_bytes(rows)
    index.write_bytes(entries[:4])
    assert "its .dat has 3 whole rows, and its .id 1" in refused(look, table)
    index.write_bytes(entries + bytes(8))  # room without an object
    assert look(table).layers[0].feature_count == 3


@pytest.mark.parametrize("at", [0, 36], ids=["type", "parts"])
def test_a_record_of_a_shapefile_that_is_no_shape_is_rejected_and_a_null_shape_is_null(load, db, shapefile, at):
    offset = 2 * struct.unpack(">I", shapefile.with_suffix(".shx").read_bytes()[108:112])[0] + 8
    patch(shapefile, offset + at, struct.pack("<i", 1_000_000))
    loaded = load(shapefile, "no_shape")
    assert loaded.plan.rejected_by_reason == {"a record that is no shape of the file's type": 1}
    assert [row[0] for row in db.rows("select a from vector.no_shape order by gid")] == [0, 2]
    patch(shapefile, offset, bytes(4))
    assert load(shapefile, "null_shape").plan.null_geometries == 1


@pytest.mark.parametrize("trust", [False, True])
def test_bytes_in_a_geopackage_that_are_no_geometry_are_rejected(tmp_path, load, db, trust):
    path = write(points(5, a=[0, 1, 2, 3, 4]), tmp_path / "a.gpkg")
    (layer,) = pyogrio.list_layers(path)[:, 0]
    odd = ((b"\1\2", 1), ("POINT(1 2)", 2), (5, 3), (None, 4))
    altered(path, *((f'update "{layer}" set geom = ? where a = ?', values) for values in odd))
    loaded = load(path, f"no_geometry_{trust}".lower(), trust_geometry=trust)
    assert loaded.plan.rejected_by_reason == {"bytes that are no geometry": 3}
    assert db.rows("select a, geom is null from {t} order by gid", t=loaded.table) == [(0, False), (4, True)]


@pytest.mark.parametrize("gap", [b"", b"1 2\n" * 400_000], ids=["first piece", "later piece"])
def test_the_line_of_a_mif_that_is_none_is_named_wherever_it_is(tmp_path, look, gap):
    path = mif(tmp_path, b"PLINE 2\n1 2\n3 4\n".decode(), "1\n")
    text = path.read_bytes()
    path.write_bytes(text.rstrip(b"\n") + b"\n" + gap + b"1-2 3\n")
    line = path.read_bytes().count(b"\n")
    assert f"line {line:,} is none that a MIF has: '1-2 3'" in refused(look, path)
