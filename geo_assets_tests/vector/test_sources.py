import os
import sqlite3
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from geo_assets.archives import unpack
from geo_assets.commands.source import members_of
from geo_assets.errors import GeoAssetsError
from geo_assets.vector.models import InspectRequest
from geo_assets.vector.reader.inspect import inspect
from geo_assets_tests.vector.builders import NATURAL_EARTH, hive, points, shapefile_parts, write, zip_tree, zipped

VRT = (
    "<OGRVRTDataSource><OGRVRTLayer"
    " name='passwd'><SrcDataSource>CSV:/etc/passwd</SrcDataSource></OGRVRTLayer></OGRVRTDataSource>"
)


def refused(look, path, code, *words, **request):
    """The file is refused with that code, in a sentence that names it."""
    with pytest.raises(GeoAssetsError) as caught:
        look(path, **request)
    assert caught.value.code == code, caught.value
    assert path.name in str(caught.value)
    assert str(path.parent) not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("name", ["a.vrt.geojson", "a.kml", "a.csv", "a.gpkg", "a.shp", "a.parquet", "a.fgb", "a.vrt"])
def test_a_vrt_is_refused_whatever_its_name(tmp_path, look, name):
    path = tmp_path / name
    path.write_text(VRT)
    refused(look, path, "VECTOR_UNSUPPORTED", "OGRVRTDataSource")


def test_a_vrt_inside_of_json_is_refused(tmp_path, look):
    path = tmp_path / "a.geojson"
    path.write_text('{"type": "FeatureCollection", "x": "' + VRT + '", "features": []}')
    refused(look, path, "VECTOR_UNSUPPORTED", "not GeoJSON")


def test_a_stored_gdal_pipeline_is_refused(tmp_path, look):
    path = tmp_path / "a.geojson"
    path.write_text('{"type": "gdal_streamed_alg", "command_line": "gdal vector pipeline ! read /etc/passwd"}')
    refused(look, path, "VECTOR_UNSUPPORTED", "gdal_streamed_alg")


def test_a_fresh_reader_has_no_driver_that_reads_other_files():
    code = (
        "from geo_assets.vector.reader import formats; formats.forbid_drivers(); import pyogrio;"
        " print(*pyogrio.list_drivers(), sep='\\n')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "OGR_SKIP": "TopoJSON"},
    )
    drivers = set(done.stdout.split("\n"))
    assert {"GPKG", "ESRI Shapefile", "GeoJSON", "FlatGeobuf", "LIBKML", "OpenFileGDB"} <= drivers
    assert not {"OGR_VRT", "GDALG", "ADBC", "WFS", "HTTP", "TopoJSON", "OSM"} & drivers


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x00\x01\x02",
        b"hello",
        b"{",
        b'{"type": "Topology"}',
        b"SQLite format 3\0",
        b"fgb\x03fgb\x00junkjunk",
        b"PAR1junkPAR1",
        b"PK\x03\x04junk",
        b"\x00\x00\x27\x0a",
    ],
)
@pytest.mark.parametrize("ending", ["geojson", "gpkg", "fgb", "parquet", "csv", "kml", "shp", "zip"])
def test_what_is_no_data_is_refused_in_one_sentence(tmp_path, look, body, ending):
    path = tmp_path / f"a.{ending}"
    path.write_bytes(body)
    with pytest.raises(GeoAssetsError) as caught:
        look(path)
    assert caught.value.error_class == "invalid", caught.value
    assert "a." in str(caught.value)
    assert str(tmp_path) not in str(caught.value)
    assert "data." not in str(caught.value)  # the private name


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path, look):
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.shp", "w") as member:
        for _ in range(64):
            member.write(bytes(1 << 20))
    refused(look, path, "UNSAFE_ARCHIVE", "67,108,864")


def test_an_archive_larger_than_allowed_is_refused(tmp_path, look):
    path = zipped(tmp_path / "a.zip", *shapefile_parts(NATURAL_EARTH))
    refused(look, path, "TOO_LARGE", "1,000", max_unpacked_bytes=1000)


def test_a_member_that_is_larger_than_its_header_says_is_found_out(tmp_path):
    path = tmp_path / "liar.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.csv", b"lon,lat\n" + b"1,2\n" * 1000)
    size, body = (4008).to_bytes(4, "little"), path.read_bytes()
    assert body.count(size) == 2
    path.write_bytes(body.replace(size, (10).to_bytes(4, "little")))
    with pytest.raises(GeoAssetsError) as caught:
        unpack(path, tmp_path / "out", max_bytes=10**6, name=path.name)
    assert caught.value.code in {"UNSAFE_ARCHIVE", "UNREADABLE"}


@pytest.mark.parametrize(
    "name",
    [
        "../../slipped.geojson",
        "/etc/slipped.geojson",
        "a/../../b.geojson",
        "..\\..\\b.geojson",
        "C:/b.geojson",
        "a\nb.geojson",
    ],
)
def test_a_member_that_leads_out_of_the_archive_is_refused(tmp_path, look, name):
    path = tmp_path / "slip.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, '{"type":"FeatureCollection","features":[]}')
    refused(look, path, "UNSAFE_ARCHIVE")
    assert not list(tmp_path.rglob("*slipped*"))


def test_a_link_in_an_archive_is_refused(tmp_path, look):
    path = tmp_path / "link.zip"
    info = zipfile.ZipInfo("a.geojson")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(info, "/etc/passwd")
    refused(look, path, "UNSAFE_ARCHIVE", "link")


def test_an_encrypted_archive_is_refused(tmp_path, look):
    path = tmp_path / "secret.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.csv", "lon,lat\n1,2\n")
    body = bytearray(path.read_bytes())
    body[6] |= 1
    body[body.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(body)
    refused(look, path, "UNSAFE_ARCHIVE", "encrypted")


def test_two_members_at_one_path_are_refused(tmp_path, look):
    path = tmp_path / "twice.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.csv", "lon,lat\n1,2\n")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a.csv", "lon,lat\n3,4\n")
    refused(look, path, "UNSAFE_ARCHIVE", "two members")


#: The beginning of a rollback journal that is to be played back.
_ROLLBACK = bytes.fromhex("d9d505f920a163d7") + bytes(20)


@pytest.mark.parametrize(("ending", "journal"), [("gpkg", "-wal"), ("gpkg", "-journal"), ("sqlite", "-wal")])
def test_a_database_in_an_archive_is_refused_where_its_journal_holds_changes(tmp_path, look, ending, journal):
    database = write(points(3), tmp_path / f"a.{ending}")
    held = database.with_name(f"{database.name}{journal}")
    held.write_bytes(_ROLLBACK if journal == "-journal" else b"changes")
    path = zipped(tmp_path / "a.zip", database, held)
    refused(look, path, "UNREADABLE", f"a.{ending} of a.zip is being written to: {held.name} holds changes")


def test_an_empty_journal_of_a_database_is_harmless(tmp_path, look):
    database = write(points(3), tmp_path / "a.gpkg")
    journals = [database.with_name(f"a.gpkg{ending}") for ending in ("-wal", "-journal")]
    for journal in journals:
        journal.touch()
    index = database.with_name("a.gpkg-shm")
    index.write_bytes(bytes(32_768))
    report = look(zipped(tmp_path / "a.zip", database, *journals, index))
    assert report.warnings == ()
    assert [layer.columns[1].source_name for layer in report.layers] == ["n"]


def test_a_loose_database_is_refused_where_its_journal_holds_changes_and_leaves_an_empty_one_behind(tmp_path):
    database, journal = tmp_path / "a.db", tmp_path / "a.db-journal"
    database.touch()
    journal.touch()
    assert members_of(database) == {Path("a.db"): database}
    journal.write_bytes(bytes(28) + b"kept")  # as journal_mode=PERSIST leaves it
    assert members_of(database).keys() >= {Path("a.db")}
    journal.write_bytes(_ROLLBACK)
    with pytest.raises(GeoAssetsError, match=r"a\.db is being written to: a\.db-journal holds changes"):
        members_of(database)


def test_an_archive_without_anything_or_without_vectors_says_so(tmp_path, look):
    empty, pictures = tmp_path / "empty.zip", tmp_path / "pictures.zip"
    zipfile.ZipFile(empty, "w").close()
    with zipfile.ZipFile(pictures, "w") as archive:
        archive.writestr("a.png", "x")
        archive.writestr("__MACOSX/._a.shp", "x")
    refused(look, empty, "EMPTY_ARCHIVE")
    refused(look, pictures, "VECTOR_NO_LAYERS", "a.png")


def test_a_truncated_archive_is_refused(tmp_path, look):
    path = zipped(tmp_path / "a.zip", *shapefile_parts(NATURAL_EARTH))
    path.write_bytes(path.read_bytes()[:-200])
    refused(look, path, "UNREADABLE")


def test_a_damaged_member_is_refused(tmp_path, look):
    path = zipped(tmp_path / "a.zip", *shapefile_parts(NATURAL_EARTH))
    body = bytearray(path.read_bytes())
    body[2000:3000] = bytes(1000)
    path.write_bytes(body)
    refused(look, path, "UNREADABLE")


@pytest.mark.parametrize("part", [".shx", ".dbf"])
def test_a_shapefile_without_a_part_names_the_part(tmp_path, look, part):
    shp = write(points(3), tmp_path / "a.shp")
    shp.with_suffix(part).unlink()
    refused(look, shp, "INCOMPLETE_SHAPEFILE", part)


@pytest.mark.parametrize("ending", ["gpkg", "fgb", "geojson", "shp"])
@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9])
def test_a_truncated_file_is_refused(tmp_path, look, ending, kept):
    path = write(points(5000), tmp_path / f"a.{ending}")
    body = path.read_bytes()
    path.write_bytes(body[: int(len(body) * kept)])
    refused(look, path, "UNREADABLE")


def test_a_truncated_parquet_file_is_refused(tmp_path, look):
    path = tmp_path / "a.parquet"
    points(5000).to_parquet(path)
    path.write_bytes(path.read_bytes()[:-100])
    refused(look, path, "UNREADABLE", "footer")


def _change(path, *statements):
    with sqlite3.connect(path) as connection:
        connection.create_function("ST_IsEmpty", 1, lambda _: 0)
        for statement in statements:
            connection.execute(statement)
    connection.close()


def test_a_geopackage_layer_that_is_a_view_is_left_out_and_named(tmp_path, look):
    path = write(points(3), tmp_path / "a.gpkg", layer="t")
    _change(
        path,
        "create view v as select * from t",
        "insert into gpkg_contents (table_name, identifier, data_type, srs_id) values ('v', 'v', 'features', 4326)",
        "insert into gpkg_geometry_columns values ('v', 'geom', 'POINT', 4326, 0, 0)",
    )
    report = look(path)
    assert [plan.layer for plan in report.layers] == ["t"]
    assert any("'v'" in said and "a view" in said for said in report.warnings)


def test_a_trigger_of_the_users_does_not_fire_on_reading_and_refuses_nothing(tmp_path, look):
    path = write(points(3), tmp_path / "a.gpkg", layer="t")
    _change(path, "create trigger mine after insert on t begin delete from t; end")
    assert look(path).layers[0].feature_count == 3
    with sqlite3.connect(path) as connection:
        assert connection.execute("select count(*) from t").fetchone() == (3,)
    connection.close()


@pytest.mark.parametrize(
    "prolog",
    [
        "<!DOCTYPE kml SYSTEM 'file:///etc/passwd'>",
        "<!-- a --><?pi ?><!doctype kml [<!ENTITY x SYSTEM 'file:///etc/passwd'>]>",
    ],
)
def test_kml_with_a_doctype_is_refused(tmp_path, look, prolog):
    path = tmp_path / "a.kml"
    path.write_text(f'<?xml version="1.0"?>{prolog}<kml xmlns="http://www.opengis.net/kml/2.2"><Document/></kml>')
    refused(look, path, "VECTOR_UNSUPPORTED", "DOCTYPE")


def test_kml_with_html_in_a_description_is_no_doctype(tmp_path, look):
    path = tmp_path / "a.kml"
    path.write_text(
        '<?xml version="1.0"?><!-- by hand --><kml'
        ' xmlns="http://www.opengis.net/kml/2.2"><Document><Placemark><description><![CDATA[<!DOCTYPE'
        " html><p>hi</p>]]></description><Point><coordinates>1,2</coordinates></Point></Placemark></Document></kml>"
    )
    assert look(path).layers[0].feature_count == 1


def test_other_xml_is_refused_by_its_root(tmp_path, look):
    path = tmp_path / "a.gml"
    path.write_text('<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>')
    refused(look, path, "VECTOR_UNSUPPORTED", "svg")


def test_a_name_that_means_something_to_gdal_is_only_a_name(tmp_path):
    folder = tmp_path / "own"
    folder.mkdir()
    path = write(points(3), tmp_path / "a.gpkg").rename(folder / "a;b?c!d #'\"\\.zip.gpkg")
    report = inspect(InspectRequest(source=str(path)))
    assert report.layers[0].feature_count == 3


def test_a_folder_of_partitions_in_a_zip_is_one_table(tmp_path, look):
    (tmp_path / "d").mkdir()
    folder = hive(tmp_path / "d" / "sites", year=[2023, 2024])
    for path in (
        zip_tree(tmp_path / "a.zip", folder),
        zip_tree(tmp_path / "b.zip", folder.parent),
        _flat(tmp_path / "c.zip", folder),
    ):
        (plan,) = look(path).layers
        assert (plan.feature_count, [c.name for c in plan.columns]) == (4, ["n", "year"])


def _flat(path, folder):
    return zipped(path, **{str(file.relative_to(folder)): file for file in folder.rglob("*.parquet")})


def test_an_archive_of_rasters_in_an_archive_tells_where_rasters_belong(tmp_path, look):
    (tmp_path / "a.tif").write_bytes(b"x")
    inner = zipped(tmp_path / "inner.zip", tmp_path / "a.tif")
    with pytest.raises(GeoAssetsError) as caught:
        look(zipped(tmp_path / "outer.zip", inner))
    assert caught.value.remedy == "put rasters into a zip of their own, not into one within another"


def test_an_archive_of_vectors_tells_what_no_table_is_made_of_and_names_in_no_known_encoding(tmp_path, look):
    roads = write(points(2), tmp_path / "abcd.geojson")
    (tmp_path / "read me.txt").write_text("x")
    path = zipped(tmp_path / "in.zip", roads, tmp_path / "read me.txt")
    path.write_bytes(path.read_bytes().replace(b"abcd", "地図".encode("cp932")))
    unread, names = look(path).warnings
    assert unread == "in.zip also holds what no table is made of: read me.txt"
    assert names.startswith("names in in.zip are not said to be UTF-8 and were read as CP437: ")
