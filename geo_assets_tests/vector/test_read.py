import contextlib
import gc
import json
import shutil
import sqlite3
import tracemalloc
import warnings
import zipfile

import geopandas as gpd
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyproj
import pytest
import rasterio
import rasterio.shutil
import shapely
from rasterio.transform import from_origin

from geo_assets.errors import GeoAssetsError
from geo_assets.vector.reader.batches import BATCH_ROWS
from geo_assets_tests.vector.builders import (
    BOWTIE,
    NATURAL_EARTH,
    SQUARE,
    frame,
    points,
    shapefile_parts,
    spreadsheet,
    write,
    zip_tree,
    zipped,
)
from geo_assets_tests.vector.conftest import send


def refusal(look, path, code, **request):
    with pytest.raises(GeoAssetsError) as caught:
        look(path, **request)
    assert caught.value.code == code, caught.value
    return str(caught.value)


@pytest.mark.parametrize(
    ("ending", "driver"),
    [
        ("gpkg", "GPKG"),
        ("shp", "ESRI Shapefile"),
        ("geojson", "GeoJSON"),
        ("geojsonl", "GeoJSONSeq"),
        ("fgb", "FlatGeobuf"),
        ("kml", "LIBKML"),
    ],
)
def test_each_format_is_read_by_its_driver(tmp_path, look, ending, driver):
    (plan,) = look(write(points(5), tmp_path / f"a.{ending}")).layers
    assert (plan.driver, plan.feature_count, plan.srid, plan.geometry_type) == (driver, 5, 4326, "POINT")
    assert np.allclose(plan.bbox_4326, (5, 50, 6, 51))


def test_a_format_is_told_by_its_bytes_and_not_by_its_name(tmp_path, look):
    path = write(points(5), tmp_path / "a.gpkg").rename(tmp_path / "a.geojson")
    assert look(path).layers[0].driver == "GPKG"
    lines = write(points(5), tmp_path / "b.geojsonl").rename(tmp_path / "b.json")
    assert look(lines).layers[0].driver == "GeoJSONSeq"


def test_upper_case_and_mixed_case_parts_are_one_shapefile(tmp_path, look):
    shp = write(points(3), tmp_path / "roads.shp")
    for part in shapefile_parts(shp):
        part.rename(part.with_name("ROADS" + part.suffix.upper() if part.suffix != ".dbf" else "Roads.Dbf"))
    zipped(tmp_path / "upper.zip", *[p for p in tmp_path.iterdir() if p.suffix != ".zip"])
    (plan,) = look(tmp_path / "upper.zip").layers
    assert (plan.feature_count, plan.srid) == (3, 4326)


def test_every_shapefile_of_a_nested_archive_becomes_a_layer(tmp_path, look):
    (tmp_path / "deep").mkdir()
    one, two = write(points(2), tmp_path / "one.shp"), write(frame(SQUARE), tmp_path / "deep/two.shp")
    members = {f"x/y/{p.name}": p for p in shapefile_parts(one)} | {f"z/{p.name}": p for p in shapefile_parts(two)}
    report = look(
        zipped(tmp_path / "a.zip", **members, **{"readme.txt": one.with_suffix(".prj"), "__MACOSX/x/._one.shp": one})
    )
    assert [(p.member, p.geometry_type, p.label) for p in report.layers] == [
        ("x/y/one.shp", "POINT", "x/y/one"),
        ("z/two.shp", "MULTIPOLYGON", "z/two"),
    ]
    assert "readme.txt" in report.warnings[0]


def test_documentation_beside_the_data_of_an_archive_is_left_out(tmp_path, look):
    (tmp_path / "meta.json").write_text('{"title": "x"}')
    (tmp_path / "codes.csv").write_text("code,meaning\n1,x\n")
    report = look(
        zipped(
            tmp_path / "a.zip", write(points(2), tmp_path / "a.gpkg"), tmp_path / "meta.json", tmp_path / "codes.csv"
        )
    )
    assert len(report.layers) == 1
    assert len(report.warnings) == 2


def test_a_file_geodatabase_in_an_archive_is_one_source(tmp_path, look):
    gdb = write(points(4, crs=2193), tmp_path / "a.gdb", layer="roads")
    (plan,) = look(zip_tree(tmp_path / "a.gdb.zip", gdb)).layers
    assert (plan.driver, plan.layer, plan.feature_count, plan.srid, plan.member) == (
        "OpenFileGDB",
        "roads",
        4,
        2193,
        None,
    )


def test_a_kmz_is_its_document(tmp_path, look):
    kml = write(points(3), tmp_path / "doc.kml")
    path = tmp_path / "a.kmz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(kml, "doc.kml")
        archive.writestr("images/a.png", "x")
    assert look(path).layers[0].feature_count == 3


def test_kml_columns_that_the_file_does_not_have_are_left_out(tmp_path, look):
    plan = look(write(points(3, Name=["a", "b", "c"], speed=[1.0, 2.0, 3.0]), tmp_path / "a.kml")).layers[0]
    assert [c.name for c in plan.columns if c.name != "id"] == ["name", "speed"]


def test_kml_layers_of_one_name_are_all_read(tmp_path, look):
    def folder(x):
        return (
            f"<Folder><name>layer</name><Placemark><Point><coordinates>{x},2</coordinates></Point></Placemark></Folder>"
        )

    path = tmp_path / "a.kml"
    path.write_text(f'<kml xmlns="http://www.opengis.net/kml/2.2"><Document>{folder(1)}{folder(5)}</Document></kml>')
    assert sorted(plan.bounds[0] for plan in look(path).layers) == [1, 5]


KML_OF_TWO = (
    '<kml xmlns="http://www.opengis.net/kml/2.2"><Document>'
    "<Folder><name>first</name><Placemark><Point><coordinates>1,2</coordinates></Point></Placemark></Folder>"
    "<Folder><name>second</name><Placemark><Point><coordinates>3,4</coordinates></Point></Placemark></Folder>"
    "</Document></kml>"
)

GML_OF_TWO = (
    '<o:FeatureCollection xmlns:o="http://a.example/" xmlns:gml="http://www.opengis.net/gml">'
    "<gml:featureMember><o:first><o:place>"
    '<gml:Point srsName="EPSG:4326"><gml:coordinates>1,2</gml:coordinates></gml:Point>'
    "</o:place></o:first></gml:featureMember>"
    "<gml:featureMember><o:second><o:place>"
    '<gml:Point srsName="EPSG:4326"><gml:coordinates>3,4</gml:coordinates></gml:Point>'
    "</o:place></o:second></gml:featureMember></o:FeatureCollection>"
)

GPX_OF_TWO = (
    '<gpx version="1.1" xmlns="http://www.topografix.com/GPX/1/1"><wpt lat="1" lon="2"/>'
    '<trk><trkseg><trkpt lat="1" lon="2"/><trkpt lat="2" lon="2"/></trkseg></trk></gpx>'
)


@pytest.mark.parametrize(
    ("ending", "text", "names"),
    [
        ("kml", KML_OF_TWO, ["first", "second"]),
        ("gml", GML_OF_TWO, ["first", "second"]),
        ("gpx", GPX_OF_TWO, ["waypoints", "tracks", "track_points"]),
    ],
)
def test_all_layers_of_a_text_are_read(tmp_path, look, ending, text, names):
    path = tmp_path / f"a.{ending}"
    path.write_text(text)
    assert [plan.layer for plan in look(path).layers] == names


def test_layers_without_features_or_geometry_are_left_out_with_a_warning(tmp_path, look):
    path = write(points(3), tmp_path / "a.gpkg", layer="full")
    write(points(3).iloc[:0], path, layer="empty", geometry_type="Point")
    write(frame(None, None), path, layer="null", geometry_type="Point")
    report = look(path)
    assert [plan.layer for plan in report.layers] == ["full"]
    assert any("'empty'" in w and "no feature" in w for w in report.warnings)
    assert any("'null'" in w and "no geometry in its 2 features" in w for w in report.warnings)


def test_a_file_of_nothing_says_what_it_lacks(tmp_path, look):
    nothing = tmp_path / "a.geojson"
    nothing.write_text('{"type": "FeatureCollection", "features": []}')
    assert "no feature" in refusal(look, nothing, "VECTOR_NO_LAYERS")
    nothing.write_text(
        '{"type": "FeatureCollection", "features": [{"type": "Feature", "properties": {"a": 1}, "geometry": null}]}'
    )
    assert "no geometry" in refusal(look, nothing, "VECTOR_NO_GEOMETRY")


def test_mixed_geometry_is_refused_with_its_counts(tmp_path, look):
    path = write(frame("POINT(1 2)", SQUARE, SQUARE), tmp_path / "a.gpkg")
    assert "1 Point, 2 Polygon" in refusal(look, path, "VECTOR_MIXED_GEOMETRY", mixed="reject")


def test_a_layer_of_nothing_but_rubbish_is_refused_with_its_reasons(tmp_path, look):
    path = write(frame("POLYGON EMPTY", "POLYGON((0 0,1 1,0 0,0 0))"), tmp_path / "a.gpkg")
    message = refusal(look, path, "VECTOR_ALL_REJECTED")
    assert "1 empty geometry" in message
    assert "not repairable" in message


def test_a_layer_without_crs_needs_one(tmp_path, look):
    path = write(points(3, crs=None), tmp_path / "a.gpkg")
    refusal(look, path, "VECTOR_NO_CRS")
    plan = look(path, source_crs="EPSG:4258").layers[0]
    assert (plan.srid, plan.warnings) == (4258, ())


def test_what_a_file_says_of_its_crs_wins_over_what_is_said_of_it(tmp_path, look):
    plan = look(write(points(3), tmp_path / "a.gpkg"), source_crs="EPSG:2193").layers[0]
    assert plan.srid == 4326
    assert "source_crs was not used" in plan.warnings[0]


def test_an_unknown_target_is_refused(tmp_path, look):
    with pytest.raises(GeoAssetsError) as caught:
        look(write(points(3), tmp_path / "a.gpkg"), target_crs="EPSG:999999")
    assert caught.value.code == "INVALID_CRS"


def test_coordinates_beyond_the_globe_are_pointed_out(tmp_path, look):
    path = write(
        gpd.GeoDataFrame(geometry=gpd.points_from_xy([500_000, 5], [5_000_000, 50]), crs=4326), tmp_path / "a.gpkg"
    )
    plan = look(path).layers[0]
    assert plan.rejected_by_reason == {"beyond longitude and latitude": 1}
    assert "is its CRS right" in plan.warnings[0]
    assert plan.bounds == (5, 50, 5, 50)


@pytest.mark.parametrize("target", [None, "EPSG:3035"])
def test_what_is_sent_is_what_an_independent_reader_sees(tmp_path, private, look, target):
    source = gpd.read_file(NATURAL_EARTH)
    path = write(source, tmp_path / "a.gpkg")
    plan = look(path, target_crs=target).layers[0]
    file, report = send(private(path), plan)
    table = pa.ipc.open_stream(file).read_all()
    expected = source.to_crs(target) if target else source
    assert report.rows == len(source)
    assert table.column_names == ["fid", "pop_est", "continent", "name", "iso_a3", "gdp_md_est", "geom"]
    assert table["name"].to_pylist() == source["name"].tolist()
    sent = shapely.from_wkb(table["geom"].to_numpy())
    assert {g.geom_type for g in sent} == {"MultiPolygon"}
    assert np.allclose(shapely.total_bounds(sent), expected.total_bounds)
    if target is None:
        assert plan.wkb_as_is
        assert shapely.equals(sent, source.geometry.values).all()
    else:
        assert np.isclose(
            shapely.area(sent).sum(),
            shapely.area(shapely.make_valid(expected.geometry.values, method="structure", keep_collapsed=False)).sum(),
            rtol=1e-6,
        )


def test_the_account_of_repairs_and_rejects_adds_up(tmp_path, private, look):
    path = write(frame(SQUARE, BOWTIE, None, "POLYGON EMPTY", n=[1, 2, 3, 4]), tmp_path / "a.gpkg")
    plan = look(path).layers[0]
    assert (plan.feature_count, plan.null_geometries, plan.rejected_by_reason, plan.repaired_by_reason) == (
        4,
        1,
        {"empty geometry": 1},
        {"Self-intersection": 1},
    )
    file, report = send(private(path), plan)
    assert (report.rows, report.rejected, report.repaired) == (3, plan.rejected_by_reason, plan.repaired_by_reason)
    rows = pa.ipc.open_stream(file).read_all().to_pylist()
    assert [(row["n"], row["geom"] is None) for row in rows] == [(1, False), (2, False), (3, True)]


def test_points_that_the_target_crs_cannot_hold_are_rejected(tmp_path, private, look):
    path = write(frame("POINT(10 -50)", "POINT(10 90)"), tmp_path / "a.gpkg")
    _, report = send(private(path), look(path, target_crs="EPSG:3031").layers[0])
    assert (report.rows, report.rejected) == (1, {"outside the area of the target CRS": 1})


def test_heights_are_kept_and_m_values_reported(tmp_path, look):
    plan = look(write(frame("LINESTRING Z(0 0 1,1 1 2)", "LINESTRING(0 0,1 1)"), tmp_path / "a.gpkg")).layers[0]
    assert plan.has_z
    assert "1 of 2 geometries have no height" in plan.warnings[0]
    plan = look(NATURAL_EARTH.parent.parent / "line_zm.gpkg").layers[0]
    assert plan.has_z
    assert "M values" in plan.warnings[0]


@pytest.mark.parametrize(
    ("name", "kind"),
    [("curve.gpkg", "MULTILINESTRING"), ("curvepolygon.gpkg", "MULTIPOLYGON"), ("multisurface.gpkg", "MULTIPOLYGON")],
)
def test_curves_become_lines_as_gdal_makes_them_and_are_counted(private, look, name, kind):
    path = NATURAL_EARTH.parent.parent / name
    plan = look(path).layers[0]
    assert (plan.geometry_type, plan.linearised, plan.rejected_by_reason) == (kind, plan.feature_count, {})
    assert "0.06 % of the radius" in plan.warnings[0]
    file, _ = send(private(path), plan)
    sent = shapely.from_wkb(pa.ipc.open_stream(file).read_all()["geom"].to_numpy())
    assert np.allclose(shapely.total_bounds(sent), gpd.read_file(path).total_bounds)


def test_large_layers_are_sent_in_bounded_batches(tmp_path, private, look):
    path = write(points(20_000), tmp_path / "a.fgb")
    file, report = send(private(path), look(path).layers[0])
    sizes = [len(batch) for batch in pa.ipc.open_stream(file)]
    assert sum(sizes) == report.rows == 20_000
    assert max(sizes) <= BATCH_ROWS


def test_geojson_values_keep_their_types(tmp_path, private, look):
    path = tmp_path / "a.geojson"
    properties = {
        "i": 2**53 + 1,
        "t": "2020-01-01T02:00:00+02:00",
        "o": {"a": [1, None]},
        "l": ["a", ""],
        "b": True,
        "e": "",
        "n": None,
    }
    feature = {"type": "Feature", "properties": properties, "geometry": {"type": "Point", "coordinates": [1, 2]}}
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    plan = look(path).layers[0]
    assert {c.name: c.sql_type for c in plan.columns} == {
        "i": "bigint",
        "t": "timestamptz",
        "o": "jsonb",
        "l": "text[]",
        "b": "boolean",
        "e": "text",
        "n": "text",
    }
    (row,) = pa.ipc.open_stream(send(private(path), plan)[0]).read_all().to_pylist()
    assert (row["i"], row["l"], row["e"], row["n"], json.loads(row["o"])) == (
        2**53 + 1,
        ["a", ""],
        "",
        None,
        {"a": [1, None]},
    )
    assert row["t"].isoformat() == "2020-01-01T00:00:00+00:00"


def test_a_coded_domain_is_stored_as_its_codes(tmp_path, private, look):
    path = write(points(2, code=np.array([1, 2], dtype="int32")), tmp_path / "a.gpkg", layer="t")
    with sqlite3.connect(path) as connection:
        connection.executescript("""
            create table gpkg_data_columns (table_name text, column_name text, name text, title text, description text, mime_type text, constraint_name text);
            create table gpkg_data_column_constraints (constraint_name text, constraint_type text, value text, min numeric, min_is_inclusive boolean,
                max numeric, max_is_inclusive boolean, description text);
            insert into gpkg_data_columns values ('t', 'code', 'code', null, null, null, 'd');
            insert into gpkg_data_column_constraints values ('d', 'enum', '1', null, null, null, null, 'one'), ('d', 'enum', '2', null, null, null, null, 'two');
        """)
    connection.close()
    plan = look(path).layers[0]
    assert plan.columns[1].sql_type == "integer"
    assert pa.ipc.open_stream(send(private(path), plan)[0]).read_all()["code"].to_pylist() == [1, 2]


def test_geoparquet_says_its_crs_or_means_longitude_and_latitude(tmp_path, look):
    path = tmp_path / "a.parquet"
    points(3, crs=2193).to_parquet(path)
    assert look(path).layers[0].srid == 2193
    points(3, crs="OGC:CRS84").to_parquet(path)
    assert look(path).layers[0].srid == 4326
    points(3, crs=None).to_parquet(path)
    refusal(look, path, "VECTOR_NO_CRS")


@pytest.fixture
def parquets_own_type():
    """Writes Parquet's types GEOMETRY and GEOGRAPHY, and nothing of Arrow's schema: as programs without Arrow do."""

    class Wkb(pa.ExtensionType):
        """What makes pyarrow write them."""

        def __init__(self, said=b"{}"):
            self.said = said
            super().__init__(pa.binary(), "geoarrow.wkb")

        def __arrow_ext_serialize__(self):
            return self.said

        @classmethod
        def __arrow_ext_deserialize__(cls, _, said):
            return cls(said)

    def written(path, **said):
        wkb = pa.array(shapely.to_wkb(shapely.points([7, 8], [51, 52])).tolist(), pa.binary())
        shapes = pa.ExtensionArray.from_storage(Wkb(json.dumps(said).encode()), wkb)
        pq.write_table(pa.table({"a": [1, 2], "shape": shapes}), path, store_schema=False)
        return path

    pa.register_extension_type(Wkb())
    yield written
    with contextlib.suppress(KeyError):
        pa.unregister_extension_type("geoarrow.wkb")


@pytest.mark.parametrize(
    ("said", "srid", "warned"),
    [
        ({}, 4326, ""),
        ({"crs": "EPSG:25832"}, 25832, ""),
        ({"crs": "srid:25832"}, 25832, ""),
        ({"crs": json.loads(pyproj.CRS(25832).to_json())}, 25832, ""),
        ({"edges": "spherical"}, 4326, "its edges are spherical; PostGIS takes them for straight lines"),
    ],
    ids=["none", "code", "srid", "projjson", "geography"],
)
def test_parquets_own_geometry_and_geography_are_read_without_the_schema_of_arrow(
    tmp_path, private, parquets_own_type, look, said, srid, warned
):
    path = parquets_own_type(tmp_path / "a.parquet", **said)
    file = pq.ParquetFile(path)
    assert file.metadata.metadata is None
    assert str(file.schema.column(1).logical_type).startswith("Geography" if "edges" in said else "Geometry")
    pa.unregister_extension_type("geoarrow.wkb")  # the reader knows it by Parquet's type alone
    (plan,) = look(path).layers
    assert (plan.srid, plan.geometry_type, plan.feature_count) == (srid, "POINT", 2)
    assert [column.name for column in plan.columns] == ["a"]
    assert warned in " ".join(plan.warnings)
    rows = pa.ipc.open_stream(send(private(path), plan)[0]).read_all()
    assert [shapely.from_wkb(wkb).wkt for wkb in rows.column(rows.num_columns - 1).to_pylist()] == [
        "POINT (7 51)",
        "POINT (8 52)",
    ]


def test_parquet_without_geometry_is_refused_and_names_its_columns(tmp_path, look):
    import pyarrow.parquet as pq

    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"a": [1]}), path)
    assert "'a'" in refusal(look, path, "VECTOR_NO_GEOMETRY")


@pytest.mark.parametrize(("declared", "text"), [(None, "Zürich"), ("UTF-8", "Zürich 漢"), (None, "Zürich 漢 – naïve")])
def test_shapefile_text_is_read_in_the_encoding_it_is_in(tmp_path, private, look, declared, text):
    encoding = "UTF-8" if "漢" in text else "ISO-8859-1"
    shp = write(points(2, town=[text, "x"]), tmp_path / "a.shp", encoding=encoding)
    if declared is None:
        shp.with_suffix(".cpg").unlink()
        dbf = shp.with_suffix(".dbf")
        dbf.write_bytes(dbf.read_bytes()[:29] + b"\0" + dbf.read_bytes()[30:])  # no code page either
    rows = pa.ipc.open_stream(send(private(shp), look(shp).layers[0])[0]).read_all()
    assert rows["town"].to_pylist() == [text, "x"]


def test_a_geopackage_of_tiles_says_that_it_is_a_raster_and_its_features_are_read_beside_them(look, tmp_path):
    alone, both = tmp_path / "tiles.gpkg", tmp_path / "both.gpkg"
    shape = {
        "count": 1,
        "height": 20,
        "width": 20,
        "dtype": "uint8",
        "crs": "EPSG:32633",
        "transform": from_origin(4e5, 5e6, 10, 10),
    }
    with rasterio.io.MemoryFile() as memory:
        with memory.open(driver="GTiff", **shape) as dataset:
            dataset.write(np.full((1, 20, 20), 7, "uint8"))
        with memory.open() as dataset:
            rasterio.shutil.copy(dataset, alone, driver="GPKG", RASTER_TABLE="ORTHO")
    shutil.copy(alone, both)
    gpd.GeoDataFrame({"a": [1]}, geometry=[shapely.Point(1, 2)], crs="EPSG:4326").to_file(
        both, layer="places", mode="a"
    )
    assert "holds tiles, which are a raster" in refusal(look, alone, "VECTOR_NO_LAYERS")
    report = look(both)
    assert [plan.layer for plan in report.layers] == ["places"]
    assert any("'ORTHO'" in warning and "geo-assets cog" in warning for warning in report.warnings)


def test_a_kmz_is_read_with_what_it_links_to_inside_of_it_and_names_what_is_outside(tmp_path, look):
    path = tmp_path / "a.kmz"
    with zipfile.ZipFile(path, "w") as archive:
        for name, links in {
            "doc": ["sub/a.kml", "http://example.org/b.kml"],
            "sub/a": ["b.kml"],
            "sub/b": [],
            "unlinked": [],
        }.items():
            marks = f"<Placemark><name>{name}</name><Point><coordinates>1,2</coordinates></Point></Placemark>"
            marks += "".join(f"<NetworkLink><Link><href>{link}</href></Link></NetworkLink>" for link in links)
            archive.writestr(
                f"{name}.kml", f'<kml xmlns="http://www.opengis.net/kml/2.2"><Document>{marks}</Document></kml>'
            )
    report = look(path)
    assert sum(plan.feature_count for plan in report.layers) == 3
    assert "example.org" in " ".join([*report.warnings, *(w for plan in report.layers for w in plan.warnings)])


def test_the_native_encoding_of_geoparquet_and_a_named_column_of_plain_parquet_are_geometry(tmp_path, look):
    shapes = frame(SQUARE, "MULTIPOLYGON(((0 0,1 0,1 1,0 0)),((5 5,6 5,6 6,5 5)))", n=[1, 2])
    shapes.to_parquet(tmp_path / "native.parquet", geometry_encoding="geoarrow")
    plain = pa.table({"n": [1], "shape_of_it": pa.array([shapely.to_wkb(shapely.Point(7, 51))], pa.binary())})
    pq.write_table(plain, tmp_path / "plain.parquet")
    plan = look(tmp_path / "native.parquet").layers[0]
    assert (plan.geometry_type, plan.feature_count, plan.bounds, plan.srid) == ("MULTIPOLYGON", 2, (0, 0, 6, 6), 4326)
    plan = look(tmp_path / "plain.parquet", geometry_column="shape_of_it", source_crs="EPSG:4326").layers[0]
    assert (plan.geometry_type, plan.bounds, [c.name for c in plan.columns]) == ("POINT", (7, 51, 7, 51), ["n"])


def test_a_code_of_esri_is_kept_and_a_crs_that_lies_is_overruled_only_when_asked(tmp_path, look):
    albers = look(write(points(2).to_crs("ESRI:102003"), tmp_path / "a.gpkg")).layers[0]
    assert (albers.srid, albers.crs_code) == (102003, "ESRI:102003")
    lies = write(points(2), tmp_path / "b.gpkg")
    assert look(lies, source_crs="EPSG:4258").layers[0].srid == 4326
    assert look(lies, source_crs="EPSG:4258", override_crs=True).layers[0].srid == 4258


def test_the_rows_of_a_spreadsheet_are_placed_by_their_columns(tmp_path, look):
    spreadsheet(tmp_path / "a.xlsx", ("name", "x", "y"), ("a", 500000.5, 5700000), ("b", 500001, 5700001))
    with pytest.raises(GeoAssetsError) as caught:
        look(tmp_path / "a.xlsx")
    assert caught.value.code == "VECTOR_NO_CRS"
    plan = look(tmp_path / "a.xlsx", source_crs="EPSG:25832").layers[0]
    assert (plan.feature_count, plan.srid, plan.bounds) == (2, 25832, (500000.5, 5700000, 500001, 5700001))
    spreadsheet(tmp_path / "b.xlsx", ("name", "lon", "lat"), ("a", 7.25, 51), ("b", 8, 52))
    plan = look(tmp_path / "b.xlsx").layers[0]
    assert (plan.srid, plan.bounds, [c.name for c in plan.columns]) == (4326, (7.25, 51, 8, 52), ["name", "lon", "lat"])


def test_a_mif_without_the_file_of_its_columns_is_refused(tmp_path, look):
    path = write(points(2), tmp_path / "a.mif")
    path.with_suffix(".mid").unlink()
    with pytest.raises(GeoAssetsError, match=r"without its \.mid"):
        look(path)


def test_an_empty_sheet_is_said_to_be_empty(tmp_path, look):
    assert "is empty" in refusal(look, spreadsheet(tmp_path / "a.xlsx"), "VECTOR_NO_GEOMETRY")


def test_a_second_geometry_is_named_and_kept_as_wkb(tmp_path, look):
    source = points(2)
    source["centre"] = gpd.GeoSeries([shapely.Point(1, 2), None], crs=4326)
    source.to_parquet(tmp_path / "a.parquet")
    (plan,) = look(tmp_path / "a.parquet").layers
    assert {column.name: column.sql_type for column in plan.columns}["centre"] == "bytea"
    assert any("'centre' is a second geometry" in warning for warning in plan.warnings)


def test_mollweide_of_esri_is_kept_and_another_planet_is_refused(tmp_path, look):
    (plan,) = look(write(points(2).to_crs("ESRI:54009"), tmp_path / "a.gpkg")).layers
    assert (plan.srid, plan.crs_code) == (54009, "ESRI:54009")
    refusal(look, write(points(2, crs="IAU_2015:30100"), tmp_path / "b.gpkg"), "INVALID_CRS")


def test_a_geopackage_is_closed_when_it_was_read(look, tmp_path):
    with warnings.catch_warnings(record=True) as said:  # Python 3.13 tells of a connection that nobody closed
        warnings.simplefilter("always")
        look(write(points(2, day=[1, 2]), tmp_path / "a.gpkg"))
        gc.collect()
    assert [str(each.message) for each in said if issubclass(each.category, ResourceWarning)] == []


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_json_in_utf_16_is_refused_with_a_remedy(tmp_path, look, encoding):
    path = tmp_path / "a.geojson"
    path.write_bytes('{"type": "FeatureCollection", "features": []}'.encode(encoding))
    with pytest.raises(GeoAssetsError, match="is in UTF-16") as error:
        look(path)
    assert error.value.code == "VECTOR_UNSUPPORTED"
    assert "UTF-8" in error.value.remedy


def test_an_array_of_features_is_refused_with_a_remedy(tmp_path, look):
    path = tmp_path / "a.json"
    path.write_text('[{"type": "Feature", "properties": {}, "geometry": {"type": "Point", "coordinates": [1, 2]}}]')
    with pytest.raises(GeoAssetsError, match="is an array in JSON") as error:
        look(path)
    assert "FeatureCollection" in error.value.remedy


def test_of_json_fg_the_part_that_is_geojson_is_read_and_that_is_said(tmp_path, look):
    path = tmp_path / "a.json"
    path.write_text(
        '{"type": "FeatureCollection", "conformsTo": ["http://www.opengis.net/spec/json-fg-1/0.2/conf/core"],'
        ' "features": [{"type": "Feature", "properties": {"a": 1}, "time": {"date": "2024-01-01"},'
        ' "geometry": {"type": "Point", "coordinates": [7, 51]}, "place": null}]}'
    )
    (plan,) = look(path).layers
    assert plan.feature_count == 1
    assert any("JSON-FG" in said for said in plan.warnings)


def written(features, *, how):
    if how == "lines":
        return "\n".join(map(json.dumps, features)) + "\n"
    if how == "records":
        return "".join(f"\x1e{json.dumps(feature)}\n" for feature in features)
    options = {"tight": {"separators": (",", ":")}, "indented": {"indent": 2}}.get(how, {})
    if how == "geometry first":
        features = [{key: feature[key] for key in sorted(feature, key="geometry".__ne__)} for feature in features]
    return json.dumps({"type": "FeatureCollection", "name": "x", "features": features}, **options)


@pytest.mark.parametrize("how", ["plain", "tight", "indented", "geometry first", "lines", "records"])
def test_a_geojson_says_the_same_however_it_is_written(tmp_path, private, look, how):
    ring = [[0, 0], [1, 0], [1, 1.5], [0, 0]]
    geometries = [
        {"type": "Polygon", "coordinates": [ring]},
        None,
        {"type": "Polygon", "coordinates": [[*ring[:3], [0, 0, 7]]]},
        {"type": "GeometryCollection", "geometries": [{"type": "Point", "coordinates": [1, 2]}]},
        {"type": "MultiPolygon", "coordinates": [[ring], [ring]]},
        {"type": "Polygon", "coordinates": [["x"]]},
        {"type": "Polygon", "coordinates": []},
        {"type": "Polygon", "coordinates": [ring], "bbox": [0, 0, 1, 1.5]},
        {"type": "Banana", "coordinates": [ring]},
    ]
    odd = ['"geometry": {"type": "Point"}', {"geometry": {"a": 1}}, 2**70, 1.5, None, [1], "}", True, "é"]
    features = [
        {"type": "Feature", "id": i, "properties": {"n": i, "odd": odd[i], "geometry": "own"}, "geometry": geometry}
        for i, geometry in enumerate(geometries)
    ]
    features += [{"type": "Feature", "properties": {"n": i}, "geometry": geometries[0]} for i in range(9, 12)]
    path = tmp_path / "a.geojson"
    path.write_text(written(features, how=how))
    (plan,) = look(path, mixed="generic").layers
    file, report = send(private(path), plan)
    rows = pa.ipc.open_stream(file).read_all().to_pylist()
    shapes = [None if row["geom"] is None else shapely.from_wkb(row["geom"]).wkt for row in rows]
    polygon = "POLYGON Z ((0 0 0, 1 0 0, 1 1.5 0, 0 0 0))"
    assert [(row["n"], row["geometry"]) for row in rows] == [
        *((n, "own") for n in (0, 1, 2, 3, 4, 7)), *((n, None) for n in (9, 10, 11))
    ]  # fmt: skip
    assert shapes[:2] == [polygon, None]
    assert shapes[5:] == [polygon] * 4
    assert sum(report.rejected.values()) == 3


HERE = '{"type": "Point", "coordinates": [1, 2]}'


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        (f'{{"type": "FeatureCollection", "geometry": {HERE}, "features": [{HERE}, {HERE}]}}', 2),
        (f'{{"type": "FeatureCollection", "geometry": {HERE}, "features": []}}', "has no feature"),
        (f'{{"type": "Foo", "geometry": {HERE}}}', "is JSON, but not GeoJSON"),
        (f'{{"geometry": {HERE}}}', "is JSON, but not GeoJSON"),
        (f'{{"type": "FeatureCollection", "features": [{{"type": ["a"], "geometry": {HERE}}}]}}', 1),
        (
            '{"type": "Feature", "properties": {}, "geometry": {"type": "Point", "coordinates": [01, 2]}}',
            "at character 85",
        ),
        (
            '{"type": "Feature", "properties": {}, "geometry": {"type": "Point", "coordinates": [1,\x0b2]}}',
            "at character 86",
        ),
        (
            '{"type": "Feature", "geometry": {"type": "Point", "coordinates": ' + 100_000 * "[" + "}}",
            "nested too deeply",
        ),
        (
            '{"type": "Feature", "properties": {"a": ' + 2100 * "[" + 2100 * "]" + f'}}, "geometry": {HERE}}}',
            "nested (2,000 deep|too deeply)",
        ),
    ],
)
def test_json_that_is_nearly_a_feature_is_what_it_is(tmp_path, look, text, outcome):
    path = tmp_path / "a.geojson"
    path.write_text(text)
    if isinstance(outcome, int):
        assert look(path).layers[0].feature_count == outcome
    else:
        with pytest.raises(GeoAssetsError, match=outcome):
            look(path)


@pytest.mark.parametrize("ring", [[[0, 0], [1, 0], [1, 1], [0, 1]], [[0, 0], [1, 0], [0, 1]]])
@pytest.mark.parametrize("thorough", [True, False])
def test_a_ring_of_a_geojson_that_is_not_closed_is_repaired_and_that_is_said(tmp_path, private, look, ring, thorough):
    path = tmp_path / "a.geojson"
    shapes = [{"type": "Polygon", "coordinates": [each]} for each in (ring, [[0, 0], [1, 0], [1, 1], [0, 0]])]
    path.write_text(written([{"type": "Feature", "properties": {}, "geometry": g} for g in shapes], how="plain"))
    (plan,) = look(path, thorough=thorough).layers
    _, report = send(private(path), plan)
    assert (report.found.repaired_by_reason if report.found else report.repaired) == {"Unclosed ring": 1}


def test_a_part_of_a_geojson_is_held_whatever_its_properties_are(tmp_path, look):
    path = tmp_path / "a.geojson"
    values = list(range(1000))
    feature = {"type": "Feature", "properties": {"v": values}, "geometry": {"type": "Point", "coordinates": [1, 2]}}
    path.write_text(written([feature] * 4_500, how="lines"))
    tracemalloc.start()
    try:
        look(path)
        held = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert held < 190e6
