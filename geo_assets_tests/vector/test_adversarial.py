"""Hostile files, each with its documented outcome: refused in one sentence or loaded harmlessly, in bounded time and
memory, nothing left.

Every file is made here. They go through the same sandboxed children as an upload; what a child may use is small, so
that a file that wants more is found out. docs/vector.md has the table of outcomes.
"""

import gzip
import io
import json
import sqlite3
import struct
import threading
import time
import zipfile
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely

from geo_assets.errors import ErrorClass, GeoAssetsError
from geo_assets.sandbox.pool import SandboxPool
from geo_assets.vector.models import InspectReport, InspectRequest, StreamReport, StreamRequest
from geo_assets.vector.names import table_names
from geo_assets.vector.tables.load import stage_table
from geo_assets_tests.vector.builders import SQUARE, frame, points, shapefile_parts, spreadsheet, write, zipped
from geo_assets_tests.vector.publishing import publish

SECRET = "root:x:0:0"
VRT = (
    "<OGRVRTDataSource><OGRVRTLayer"
    " name='passwd'><SrcDataSource>CSV:/etc/passwd</SrcDataSource></OGRVRTLayer></OGRVRTDataSource>"
)
FEATURE = '{"type":"Feature","properties":{"a":1},"geometry":{"type":"Point","coordinates":[1,2]}}'

FILES = {}


def hostile(name, *codes):
    """A builder of `name`; its outcome is one of the codes, or `loaded`."""

    def register(build):
        FILES[f"{build.__name__}: {name}"] = (name, build, codes)
        return build

    return register


def text(name, body, *codes):
    """A hostile file that is its text or bytes."""
    data = body.encode() if isinstance(body, str) else body
    FILES[f"{len(FILES)}: {name}"] = (name, lambda path: path.write_bytes(data), codes)


# -- other files, through formats that name them -----------------------------------------------------------------------
for ending in ("geojson", "json", "kml", "csv", "gpkg", "shp", "fgb", "parquet"):
    text(f"vrt.{ending}", VRT, "VECTOR_UNSUPPORTED", "UNREADABLE")
text("comment.geojson", f"<!-- x -->{VRT}", "VECTOR_UNSUPPORTED")
text("inside.geojson", '{"type":"FeatureCollection","x":"' + VRT + '","features":[]}', "VECTOR_UNSUPPORTED")
text(
    "pipeline.json",
    '{"type":"gdal_streamed_alg","command_line":"gdal vector pipeline ! read /etc/passwd"}',
    "VECTOR_UNSUPPORTED",
)
text("link.geojson", '{"type":"Topology","objects":{}}', "VECTOR_UNSUPPORTED", "UNREADABLE")
text("esri.json", '{"geometryType":"esriGeometryPoint","features":[]}', "VECTOR_NO_LAYERS", "UNREADABLE")
text(
    "service.json",
    '{"type":"FeatureCollection","features":[],"links":[{"href":"http://169.254.169.254/"}]}',
    "VECTOR_NO_LAYERS",
)
text("wfs.gml", '<wfs:FeatureCollection xmlns:wfs="http://www.opengis.net/wfs"/>', "VECTOR_NO_LAYERS")
text(
    "xxe.gml",
    '<!DOCTYPE g [<!ENTITY x SYSTEM "file:///etc/passwd">]><gml:FeatureCollection>&x;</gml:FeatureCollection>',
    "VECTOR_UNSUPPORTED",
)
text(
    "xxe.kml",
    '<?xml version="1.0"?><!DOCTYPE kml [<!ENTITY x SYSTEM'
    ' "file:///etc/passwd">]><kml><Document><name>&x;</name></Document></kml>',
    "VECTOR_UNSUPPORTED",
)
text(
    "laughs.kml",
    '<?xml version="1.0"?><!DOCTYPE kml [<!ENTITY a "aaaaaaaaaa">'
    + "".join(f'<!ENTITY {chr(98 + i)} "{("&" + chr(97 + i) + ";") * 10}">' for i in range(9))
    + "]><kml><Document><name>&j;</name></Document></kml>",
    "VECTOR_UNSUPPORTED",
)
text(
    "late.kml",
    '<kml xmlns="http://www.opengis.net/kml/2.2"><Document>\n<!DOCTYPE x [<!ENTITY y "z">]>&y;</Document></kml>',
    "UNREADABLE",
    "VECTOR_NO_LAYERS",
)
text(
    "network.kml",
    '<kml xmlns="http://www.opengis.net/kml/2.2"><Document><NetworkLink><Link><href>file:///etc/passwd</href></Link></NetworkLink></Document></kml>',
    "VECTOR_NO_LAYERS",
    "UNREADABLE",
)
text("drawing.dxf", "0\nSECTION\n2\nENTITIES\n0\nENDSEC\n0\nEOF\n", "VECTOR_UNSUPPORTED")

# -- what is not what it says ------------------------------------------------------------------------------------------
text("empty.gpkg", b"", "UNREADABLE")
text("zeros.shp", bytes(4096), "UNREADABLE")
text("header.gpkg", b"SQLite format 3\0" + bytes(84), "UNREADABLE")
text("header.fgb", b"fgb\x03fgb\x00" + b"\xff" * 64, "UNREADABLE", "VECTOR_NO_LAYERS")
text("footer.parquet", b"PAR1" + bytes(100) + struct.pack("<I", 2**31 - 1) + b"PAR1", "UNREADABLE")
text("zip.gpkg", b"PK\x05\x06" + bytes(18), "VECTOR_UNSUPPORTED", "UNREADABLE")
text(
    "deep.geojson",
    '{"type":"FeatureCollection","features":[' + '{"a":' * 100_000 + "1" + "}" * 100_000 + "]}",
    "UNREADABLE",
    "VECTOR_UNSUPPORTED",
    "VECTOR_NO_LAYERS",
    "VECTOR_NO_GEOMETRY",
)
text(
    "nested.geojson",
    '{"type":"Feature","properties":{},"geometry":{"type":"GeometryCollection","geometries":[' * 500,
    "UNREADABLE",
    "VECTOR_UNSUPPORTED",
)
text(
    "coordinates.geojson",
    f'{{"type":"FeatureCollection","features":[{FEATURE.replace("[1,2]", "[" * 5000 + "1" + "]" * 5000)}]}}',
    "UNREADABLE",
    "VECTOR_NO_GEOMETRY",
    "VECTOR_UNSUPPORTED",
    "VECTOR_ALL_REJECTED",
    "VECTOR_NO_LAYERS",
)
text(
    "infinite.geojson",
    f'{{"type":"FeatureCollection","features":[{FEATURE.replace("[1,2]", "[1e999,2]")}]}}',
    "VECTOR_ALL_REJECTED",
    "UNREADABLE",
    "VECTOR_NO_GEOMETRY",
)
text("half.geojson", '{"type":"FeatureCollection","features":[' + FEATURE + ",", "UNREADABLE")
text(
    "nul.geojson",
    f'{{"type":"FeatureCollection","features":[{FEATURE.replace("1}", chr(34) + chr(92) + "u0000x" + chr(34) + "}")}]}}',
    "loaded",
)
text("nul.csv", b"lon,lat,t\n1,2,a\0b\n", "UNREADABLE", "loaded", "VECTOR_UNSUPPORTED")
text("ragged.csv", "lon,lat,a\n1,2,3\n1,2\n1,2,3,4\n", "loaded")
text(
    "wide.csv",
    "lon,lat," + ",".join(f"c{i}" for i in range(3000)) + "\n1,2" + ",x" * 3000 + "\n",
    "VECTOR_UNSUPPORTED_TYPE",
    "INTERNAL",
    "TOO_LARGE",
)
text("formula.csv", "lon,lat,\"=cmd|' /C calc'!A0\"\n1,2,=1+1\n", "loaded")
text("quote.csv", 'lon,lat,a\n1,2,"unclosed\n' + "x" * 1000, "UNREADABLE", "loaded")
text("sql.csv", 'lon,lat,"a""; drop table geo.jobs; --"\n1,2,\'; drop table geo.jobs; --\n', "loaded")
text("markup.csv", "lon,lat,<script>alert(1)</script>\n1,2,[x](javascript:alert(1))\n", "loaded")
text("rtl.csv", "lon,lat,\u202egpj.exe,\u200b\n1,2,a,b\n", "loaded")


@hostile("bomb.zip", "UNSAFE_ARCHIVE")
def a_zip_bomb(path):
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("a.shp", "w", force_zip64=True) as member,
    ):
        for _ in range(512):
            member.write(bytes(1 << 20))


@hostile("many.zip", "UNSAFE_ARCHIVE")
def an_archive_of_too_many_members(path):
    with zipfile.ZipFile(path, "w") as archive:
        for i in range(10_001):
            archive.writestr(f"{i}.txt", "")


@hostile("overlap.zip", "UNSAFE_ARCHIVE", "UNREADABLE")
def a_bomb_of_overlapping_members(path):
    """As Fifield's: many entries of the directory share one member's bytes."""
    kernel = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = kernel.compress(bytes(1 << 24)) + kernel.flush()
    crc, body, directory, count = zlib.crc32(bytes(1 << 24)), io.BytesIO(), b"", 200
    body.write(
        struct.pack("<IHHHHHIIIHH", 0x04034B50, 20, 0, 8, 0, 0, crc, len(packed), 1 << 24, 5, 0) + b"0.shp" + packed
    )
    for i in range(count):
        name = f"{i}.shp".encode()
        directory += (
            struct.pack(
                "<IHHHHHHIIIHHHHHII",
                0x02014B50,
                20,
                20,
                0,
                8,
                0,
                0,
                crc,
                len(packed),
                1 << 24,
                len(name),
                0,
                0,
                0,
                0,
                0,
                0,
            )
            + name
        )
    offset = body.tell()
    path.write_bytes(
        body.getvalue()
        + directory
        + struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, count, count, len(directory), offset, 0)
    )


@hostile("nest.zip", "UNSAFE_ARCHIVE")
def a_nest_of_archives(path):
    inner = path.with_name("n0.zip")
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("a.csv", "lon,lat\n1,2\n")
    for i in range(1, 6):
        inner = zipped(path.with_name(f"n{i}.zip"), inner)
    inner.rename(path)


for number, member in enumerate(
    [
        "../../slipped.geojson",
        "/etc/slipped.geojson",
        "a/../../b.geojson",
        "..\\..\\b.geojson",
        "C:\\b.geojson",
        "a\nb.csv",
    ]
):

    def slip(path, member=member):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(member, '{"type":"FeatureCollection","features":[]}')

    FILES[f"slip {member!r}"] = (f"slip{number}.zip", slip, ("UNSAFE_ARCHIVE",))


@hostile("link.zip", "UNSAFE_ARCHIVE")
def a_link_in_an_archive(path):
    info = zipfile.ZipInfo("a.geojson")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(info, "/etc/passwd")


@hostile("device.zip", "UNSAFE_ARCHIVE")
def a_device_in_an_archive(path):
    info = zipfile.ZipInfo("a.geojson")
    info.external_attr = 0o020666 << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(info, "")


@hostile("hidden.zip", "VECTOR_UNSUPPORTED")
def a_vrt_in_an_archive(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.geojson", VRT)


@hostile("names.zip", "loaded")
def members_whose_names_mean_something_to_gdal(path):
    gpkg = write(points(2), path.with_name("x.gpkg"))
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("PG:host=evil.gpkg", "a,b;c&d.gpkg", "%2e%2e.gpkg", "$(id).gpkg", "'; drop table x; --.gpkg"):
            archive.write(gpkg, name if ":" not in name else f"d/{name}")


@hostile("prj.zip", "VECTOR_NO_CRS", "loaded")
def a_prj_that_is_a_url(path):
    shp = write(points(2), path.with_name("x.shp"))
    shp.with_suffix(".prj").write_text("http://169.254.169.254/latest/meta-data")
    zipped(path, *shapefile_parts(shp))


@hostile("cpg.zip", "UNREADABLE", "loaded")
def a_cpg_that_is_nonsense(path):
    shp = write(points(2, t=["é", "x"]), path.with_name("x.shp"))
    shp.with_suffix(".cpg").write_bytes(b"\x00../../etc/passwd" * 50)
    zipped(path, *shapefile_parts(shp))


@hostile("count.zip", "UNREADABLE", "loaded")
def a_dbf_that_claims_four_thousand_million_rows(path):
    shp = write(points(2), path.with_name("x.shp"))
    dbf = bytearray(shp.with_suffix(".dbf").read_bytes())
    dbf[4:8] = b"\xff\xff\xff\x7f"
    shp.with_suffix(".dbf").write_bytes(dbf)
    zipped(path, *shapefile_parts(shp))


@hostile("parts.zip", "UNREADABLE", "VECTOR_ALL_REJECTED", "VECTOR_NO_GEOMETRY", "loaded")
def a_shape_that_claims_a_thousand_million_points(path):
    shp = write(frame(SQUARE), path.with_name("x.shp"))
    body = bytearray(shp.read_bytes())
    body[100 + 8 + 36 : 100 + 8 + 44] = struct.pack("<ii", 1, 10**9)
    shp.write_bytes(body)
    zipped(path, *shapefile_parts(shp))


def give_functions(connection):
    """What the triggers of a GeoPackage's index call."""
    connection.create_function("ST_IsEmpty", 1, lambda _: 0)
    for name in ("ST_MinX", "ST_MaxX", "ST_MinY", "ST_MaxY"):
        connection.create_function(name, 1, lambda _: 0.0)


def changed(path, *statements, layer="t"):
    write(points(3), path, layer=layer)
    with sqlite3.connect(path) as connection:
        give_functions(connection)
        for statement in statements:
            connection.execute(statement)
    connection.close()


LAYER = (
    "insert into gpkg_contents (table_name, identifier, data_type, srs_id) values ('v', 'v', 'features', 4326)",
    "insert into gpkg_geometry_columns values ('v', 'geom', 'POINT', 4326, 0, 0)",
)


@hostile("view.gpkg", "loaded")
def a_layer_that_is_a_view(path):
    changed(path, "create view v as select * from t", *LAYER)


@hostile("schema.gpkg", "UNREADABLE")
def a_schema_that_is_damaged_and_no_text(path):
    changed(path, "create view vvvv as select * from t")
    path.write_bytes(path.read_bytes().replace(b"CREATE VIEW vvvv", b"CREATE VIEW \xb8\xff(("))


@hostile("function.gpkg", "loaded")
def a_view_that_calls_functions(path):
    changed(path, "create view v as select fid, geom, readfile('/etc/passwd') as x from t", *LAYER)


@hostile("endless.gpkg", "loaded")
def a_view_that_never_ends(path):
    changed(
        path,
        "create view v as with recursive c(fid) as (select 1 union all select fid + 1 from c) select fid, null as geom"
        " from c",
        *LAYER,
    )


@hostile("trigger.gpkg", "loaded")
def a_layer_with_a_trigger(path):
    changed(path, "create trigger mine after insert on t begin select load_extension('/tmp/x.so'); end")


@hostile("virtual.gpkg", "loaded")
def a_layer_that_is_a_virtual_table(path):
    changed(path, "create virtual table v using fts5(a)", *LAYER)


@hostile("lies.gpkg", "loaded", "UNREADABLE")
def a_geopackage_that_lies_about_its_count_and_extent(path):
    changed(
        path,
        "update gpkg_ogr_contents set feature_count = 9000000000000000000",
        "update gpkg_contents set min_x = 'x', max_x = 1e308",
    )


@hostile("srs.gpkg", "VECTOR_NO_CRS", "UNREADABLE", "loaded")
def a_geopackage_whose_crs_is_a_path(path):
    changed(
        path, "update gpkg_spatial_ref_sys set definition = '/etc/passwd', organization = 'NONE' where srs_id = 4326"
    )


@hostile("layer.gpkg", "loaded")
def a_layer_named_to_inject(path):
    write(points(2), path, layer='x"; drop table geo.jobs; --')


@hostile("columns.gpkg", "loaded")
def columns_named_to_inject_and_to_clash(path):
    names = [
        "ctid",
        "gid",
        "geom_",
        "SELECT",
        'a"b',
        "a;b",
        "x" * 200,
        "é" * 63,
        "tableoid",
        "漢字",
        "仮名",
        "%s",
        "{0}",
        "$1",
    ]
    write(points(1, **{name: ["v"] for name in names}), path)


@hostile("blob.gpkg", "VECTOR_ALL_REJECTED", "VECTOR_NO_GEOMETRY", "UNREADABLE", "loaded")
def geometry_that_is_noise(path):
    changed(path, "drop trigger if exists trigger_delete_feature_count_t", "update t set geom = randomblob(64)")


@hostile("ring.gpkg", "VECTOR_ALL_REJECTED", "VECTOR_NO_GEOMETRY", "UNREADABLE")
def a_polygon_that_claims_four_thousand_million_rings(path):
    header = b"GP\x00\x01" + struct.pack("<i", 4326)
    blob = header + b"\x01" + struct.pack("<II", 3, 0xFFFFFFFF)
    write(frame(SQUARE), path, layer="t")
    with sqlite3.connect(path) as connection:
        give_functions(connection)
        connection.execute("update t set geom = ?", (blob,))
    connection.close()


@hostile("depth.parquet", "UNREADABLE", "VECTOR_ALL_REJECTED", "SANDBOX_CRASHED")
def a_collection_nested_beyond_reason(path):
    wkb = (b"\x01" + struct.pack("<II", 7, 1)) * 100_000 + shapely.to_wkb(shapely.Point(1, 2))
    geo_parquet(path, [wkb])


def geo_parquet(path, wkbs, **columns):
    geo = {
        "version": "1.0.0",
        "primary_column": "geometry",
        "columns": {"geometry": {"encoding": "WKB", "geometry_types": []}},
    }
    table = pa.table({**columns, "geometry": pa.array(wkbs, pa.binary())})
    pq.write_table(table.replace_schema_metadata({"geo": json.dumps(geo)}), path)


@hostile("metadata.parquet", "UNREADABLE")
def geoparquet_metadata_that_is_nonsense(path):
    pq.write_table(pa.table({"a": [1]}).replace_schema_metadata({"geo": "[" * 1000}), path)


@hostile("column.parquet", "UNREADABLE")
def geoparquet_that_names_a_column_it_lacks(path):
    geo = {"version": "1.0.0", "primary_column": "../x", "columns": {"../x": {"encoding": "WKB"}}}
    pq.write_table(pa.table({"a": [1]}).replace_schema_metadata({"geo": json.dumps(geo)}), path)


@hostile("crs.parquet", "VECTOR_NO_CRS", "loaded")
def geoparquet_whose_crs_is_a_file(path):
    geo = {
        "version": "1.0.0",
        "primary_column": "g",
        "columns": {"g": {"encoding": "WKB", "crs": {"type": "x", "file": "/etc/passwd"}}},
    }
    table = pa.table({"g": pa.array([shapely.to_wkb(shapely.Point(1, 2))], pa.binary())})
    pq.write_table(table.replace_schema_metadata({"geo": json.dumps(geo)}), path)


@hostile("page.parquet", "UNREADABLE", "TOO_LARGE", "SANDBOX_OUT_OF_MEMORY", "loaded")
def a_parquet_of_one_enormous_repeated_value(path):
    """A dictionary of one 8 MB text, 100,000 times: 800 GB if it were written out."""
    value = pa.DictionaryArray.from_arrays(pa.array(np.zeros(100_000, np.int32)), pa.array(["x" * 8_000_000]))
    geo_parquet(path, [shapely.to_wkb(shapely.Point(1, 2))] * 100_000, big=value)


@hostile("damaged.fgb", "UNREADABLE", "VECTOR_ALL_REJECTED", "VECTOR_UNSUPPORTED_TYPE", "SANDBOX_CRASHED", "loaded")
def a_flatgeobuf_with_flipped_bits(path):
    write(points(500), path)
    flip(path, seed=1, share=0.002)


@hostile(
    "damaged.gpkg",
    "UNREADABLE",
    "VECTOR_NO_LAYERS",
    "VECTOR_ALL_REJECTED",
    "VECTOR_UNSUPPORTED_TYPE",
    "VECTOR_UNSUPPORTED",
    "loaded",
)
def a_geopackage_with_flipped_bits(path):
    write(points(500), path)
    flip(path, seed=2, share=0.0005)


@hostile("damaged.parquet", "UNREADABLE", "VECTOR_ALL_REJECTED", "loaded")
def a_parquet_with_flipped_bits(path):
    points(500).to_parquet(path)
    flip(path, seed=3, share=0.001)


def flip(path, *, seed, share):
    rng, body = np.random.default_rng(seed), bytearray(path.read_bytes())
    for place in rng.integers(100, len(body), int(len(body) * share)):
        body[place] ^= 1 << int(rng.integers(8))
    path.write_bytes(body)


for ending in ("gpkg", "fgb", "geojson", "parquet", "kml"):

    def cut(path):
        source = points(3000)
        source.to_parquet(path) if path.suffix == ".parquet" else write(source, path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    FILES[f"cut.{ending}"] = (f"cut.{ending}", cut, ("UNREADABLE",))


@hostile("vertices.gpkg", "loaded")
def a_polygon_of_a_million_vertices(path):
    angle = np.linspace(0, 2 * np.pi, 1_000_000, endpoint=False)
    write(gpd.GeoDataFrame(geometry=[shapely.Polygon(np.column_stack([np.cos(angle), np.sin(angle)]))], crs=4326), path)


@hostile("star.gpkg", "loaded", "VECTOR_ALL_REJECTED", "SANDBOX_TIMEOUT")
def a_polygon_that_crosses_itself_ten_thousand_times(path):
    rng = np.random.default_rng(4)
    write(gpd.GeoDataFrame(geometry=[shapely.Polygon(rng.uniform(0, 1, (300, 2)))], crs=4326), path)


@hostile("layers.gpkg", "TOO_LARGE", "loaded")
def a_file_of_many_layers(path):
    for i in range(30):
        write(points(1), path, layer=f"layer {i}")


@hostile("null.gpkg", "VECTOR_NO_GEOMETRY")
def a_file_of_nothing_but_null(path):
    write(frame(None, None, None), path, geometry_type="Point")


@hostile("codes.csv", "VECTOR_NO_GEOMETRY")
def a_table_without_place(path):
    pd.DataFrame({"a": [1]}).to_csv(path, index=False)


# -- the formats that name other files, or unpack
# --------------------------------------------------------------------------
GML = (
    '<wfs:FeatureCollection xmlns:wfs="http://www.opengis.net/wfs" xmlns:gml="http://www.opengis.net/gml"'
    ' xmlns:xlink="http://www.w3.org/1999/xlink" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
    ' xmlns:o="http://o" {attributes}>{body}</wfs:FeatureCollection>'
)
GML_POINT = (
    '<gml:featureMember><o:t fid="t.1"><o:a>{a}</o:a><o:geom><gml:Point'
    ' srsName="EPSG:4326"><gml:coordinates>1,2</gml:coordinates></gml:Point></o:geom>{more}</o:t></gml:featureMember>'
)
LAUGHS = (
    '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">'
    + "".join(f'<!ENTITY {chr(98 + i)} "{("&" + chr(97 + i) + ";") * 10}">' for i in range(9))
    + "]>"
)


def gml(name, *codes, attributes="", a="1", more="", prolog=""):
    text(name, prolog + GML.format(attributes=attributes, body=GML_POINT.format(a=a, more=more)), *codes)


gml("schema.gml", "loaded", attributes='xsi:schemaLocation="http://o CANARY/o.xsd"')
gml(
    "file_schema.gml",
    "loaded",
    attributes='xsi:schemaLocation="http://o file:///etc/passwd http://o ../../../../etc/passwd"',
)
gml("xlink.gml", "loaded", more='<o:ref xlink:href="CANARY/x.gml#a"/><o:ref2 xlink:href="file:///etc/passwd#a"/>')
gml(
    "xlink_geometry.gml",
    "loaded",
    "VECTOR_ALL_REJECTED",
    more='<o:geom2><gml:Surface><gml:patches xlink:href="CANARY/y.gml#p"/></gml:Surface></o:geom2>',
)
gml("laughs.gml", "VECTOR_UNSUPPORTED", prolog=f'<?xml version="1.0"?>{LAUGHS}', a="&j;")
gml(
    "comment_then_doctype.gml",
    "VECTOR_UNSUPPORTED",
    prolog='<?xml version="1.0"?><!-- x --><!DOCTYPE g [<!ENTITY x SYSTEM "CANARY/e">]>',
    a="&x;",
)
gml(
    "late.gml",
    "UNREADABLE",
    "VECTOR_NO_LAYERS",
    more='<!DOCTYPE x [<!ENTITY y SYSTEM "file:///etc/passwd">]><o:b>&y;</o:b>',
)
gml("undeclared.gml", "UNREADABLE", "VECTOR_NO_LAYERS", a="&y;")
gml(
    "crs.gml",
    "loaded",
    "VECTOR_NO_CRS",
    more='<o:g><gml:Point srsName="CANARY/crs"><gml:coordinates>1,2</gml:coordinates></gml:Point></o:g>',
)
text("deep.gml", GML.format(attributes="", body="<o:a>" * 50_000), "UNREADABLE", "VECTOR_NO_LAYERS", "SANDBOX_CRASHED")
text(
    "half.gml",
    GML.format(attributes="", body=GML_POINT.format(a=1, more="") * 100)[:5000],
    "UNREADABLE",
    "VECTOR_NO_LAYERS",
)

GPX = '<gpx version="1.1" xmlns="http://www.topografix.com/GPX/1/1"><wpt lat="1" lon="2"><name>{}</name>{}</wpt></gpx>'
text("laughs.gpx", f'<?xml version="1.0"?>{LAUGHS}{GPX.format("&j;", "")}', "VECTOR_UNSUPPORTED")
text(
    "xxe.gpx", f'<!DOCTYPE gpx [<!ENTITY x SYSTEM "file:///etc/passwd">]>{GPX.format("&x;", "")}', "VECTOR_UNSUPPORTED"
)
text("remote.gpx", f'<!DOCTYPE gpx SYSTEM "CANARY/gpx.dtd">{GPX.format("x", "")}', "VECTOR_UNSUPPORTED")
text("undeclared.gpx", GPX.format("&x;", ""), "UNREADABLE")
text(
    "link.gpx",
    GPX.format("x", '<link href="CANARY/a"/><extensions><a:b xmlns:a="CANARY/ns">c</a:b></extensions>'),
    "loaded",
)
text(
    "numbers.gpx",
    GPX.replace('lat="1"', 'lat="1e999"').format("x", ""),
    "VECTOR_NO_LAYERS",
    "VECTOR_ALL_REJECTED",
    "VECTOR_NO_GEOMETRY",
    "UNREADABLE",
    "loaded",
)
text("long.gpx", GPX.format("x" * 20_000_000, ""), "VECTOR_NO_LAYERS", "loaded", "UNREADABLE", "TOO_LARGE")

ESRI = '{"geometryType":"esriGeometryPoint","spatialReference":{"wkid":4326},"fields":[{"name":"a","type":"esriFieldTypeInteger"}],"features":[%s]}'
text(
    "huge.json",
    ESRI % '{"attributes":{"a":1e999},"geometry":{"x":1e999,"y":-1e999}}',
    "VECTOR_ALL_REJECTED",
    "UNREADABLE",
    "VECTOR_NO_GEOMETRY",
)
text(
    "digits.json",
    ESRI % ('{"attributes":{"a":1' + "0" * 1_000_000 + '},"geometry":{"x":1,"y":2}}'),
    "loaded",
    "UNREADABLE",
)
text(
    "nested.json",
    ESRI % ('{"attributes":{"a":' + "[" * 100_000 + "]" * 100_000 + '},"geometry":{"x":1,"y":2}}'),
    "UNREADABLE",
    "loaded",
)
text(
    "wkid.json",
    ESRI.replace("4326", '"CANARY/crs"') % '{"attributes":{"a":1},"geometry":{"x":1,"y":2}}',
    "VECTOR_NO_CRS",
    "loaded",
)
text(
    "entity.json",
    ESRI % '{"attributes":{"a":1,"t":"&x; <!ENTITY x SYSTEM \\"file:///etc/passwd\\">"},"geometry":{"x":1,"y":2}}',
    "loaded",
    "UNREADABLE",
)


def mapinfo(path, **broken):
    """A zip of a MapInfo table some of whose parts are broken: `map=bytes -> bytes`."""
    folder = path.parent / "mapinfo"
    folder.mkdir()
    tab = write(points(200), folder / "t.tab")
    for part in shapefile_parts(tab):
        change = broken.get(part.suffix[1:].lower())
        if change is not None:
            part.write_bytes(change(part.read_bytes()))
    zipped(path, *shapefile_parts(tab))


BROKEN = ("UNREADABLE", "VECTOR_NO_GEOMETRY", "VECTOR_ALL_REJECTED", "VECTOR_NO_LAYERS", "loaded")
for what, change in {
    "half": lambda body: body[: len(body) // 2],
    "noise": lambda body: (
        body[:512] + np.random.default_rng(6).bytes(len(body) - 512) if len(body) > 512 else b"\xff" * len(body)
    ),
    "circle": lambda body: body[:512] + body[512:].replace(b"\x00\x02", b"\x00\x00"),
    "empty": lambda _: b"",
}.items():
    for part in ("map", "id", "dat"):

        def broken_mapinfo(path, part=part, change=change):
            mapinfo(path, **{part: change})

        FILES[f"a MapInfo table whose .{part} is {what}"] = (f"{part}_{what}.zip", broken_mapinfo, BROKEN)

for what, line in {
    "view": 'Create View x As Select * From "/etc/passwd"',
    "seamless": 'begin_metadata\n"\\IsSeamless" = "TRUE"\nend_metadata',
    "picture": 'Type "RASTER"\nFile "/etc/passwd"',
    "open": 'Open Table "/etc/passwd"',
}.items():

    def referring_tab(path, line=line):
        mapinfo(path, tab=lambda body: body + b"\n" + line.encode())

    FILES[f"a MapInfo {what}"] = (f"{what}.zip", referring_tab, ("VECTOR_UNSUPPORTED",))

text(
    "lies.mif",
    "Version 300\nColumns 1\n a Integer\nData\n\nRegion 999999999\n 999999999\n1 2\n",
    "INCOMPLETE_SHAPEFILE",
    *BROKEN,
    "VECTOR_NO_CRS",
    "SANDBOX_OUT_OF_MEMORY",
)

for ending, kernel in {
    "geojson": b'{"type":"FeatureCollection","features":[' + b" " * (1 << 20),
    "csv": b"lon,lat\n" + b"1,2\n" * (1 << 18),
    "gpx": b"<gpx>" + b" " * (1 << 20),
    "bin": bytes(1 << 20),
}.items():

    def gzip_bomb(path, kernel=kernel):
        """A gigabyte in a megabyte."""
        with gzip.open(path, "wb") as file:
            for _ in range(1024):
                file.write(kernel)

    FILES[f"a gzip bomb of {ending}"] = (f"bomb.{ending}.gz", gzip_bomb, ("UNSAFE_ARCHIVE", "TOO_LARGE"))

text("cut.geojson.gz", gzip.compress(FEATURE.encode() * 100)[:60], "UNREADABLE")
text("twice.geojson.gz", gzip.compress(gzip.compress(FEATURE.encode())), "UNREADABLE", "VECTOR_UNSUPPORTED")
text("vrt.geojson.gz", gzip.compress(VRT.encode()), "VECTOR_UNSUPPORTED")
text("scene.tar.gz", gzip.compress(b"x"), "VECTOR_UNSUPPORTED", "UNREADABLE")


@hostile("named.csv.gz", "loaded")
def a_gzip_whose_header_names_another_place(path):
    body = gzip.compress(b"lon,lat\n1,2\n", mtime=0)
    path.write_bytes(body[:3] + b"\x08" + body[4:10] + b"../../slipped.csv\0" + body[10:])


PLACED = (("lon", "lat", "t"), (1.5, 2.5, "x"))


@hostile("plain.xlsx", "loaded")
def a_spreadsheet_that_is_none(path):
    spreadsheet(path, *PLACED)


@hostile("bomb.xlsx", "UNSAFE_ARCHIVE", "TOO_LARGE")
def a_spreadsheet_that_is_a_bomb(path):
    spreadsheet(path, *PLACED, **{"xl/sharedStrings.xml": [bytes(1 << 20)] * 1100})


@hostile(
    "strings.xlsx", "UNSAFE_ARCHIVE", "TOO_LARGE", "UNREADABLE", "SANDBOX_OUT_OF_MEMORY", "VECTOR_NO_GEOMETRY", "loaded"
)
def a_spreadsheet_of_shared_strings_without_end(path):
    rng = np.random.default_rng(7)
    block = b"".join(b"<si><t>%d</t></si>" % n for n in rng.integers(0, 10**12, 50_000).tolist())
    head = b'<sst xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main">'
    spreadsheet(path, *PLACED, **{"xl/sharedStrings.xml": [head, *[block] * 20]})


@hostile("laughs.xlsx", "UNREADABLE", "VECTOR_NO_LAYERS", "VECTOR_NO_GEOMETRY", "VECTOR_UNSUPPORTED")
def a_spreadsheet_with_entities(path):
    spreadsheet(
        path,
        *PLACED,
        change=lambda sheet: sheet.replace("?>", "?>" + LAUGHS, 1).replace("<sheetData>", "<sheetData>&j;"),
    )


@hostile("far.xlsx", "loaded", "UNREADABLE", "VECTOR_NO_GEOMETRY", "SANDBOX_OUT_OF_MEMORY")
def a_spreadsheet_with_a_cell_at_the_end_of_the_world(path):
    far = '<row r="999999999"><c r="ZZZZZ999999999"><v>1</v></c></row>'
    spreadsheet(path, *PLACED, change=lambda sheet: sheet.replace("</sheetData>", far + "</sheetData>"))


@hostile("links.xlsx", "loaded")
def a_spreadsheet_that_links_to_other_workbooks(path):
    external = (
        '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="rId1"'
        ' Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/externalLinkPath"'
        ' Target="CANARY/b.xlsx" TargetMode="External"/></Relationships>'
    )
    spreadsheet(
        path,
        PLACED[0],
        (1, 2, "=WEBSERVICE('CANARY/w')"),
        **{"xl/externalLinks/_rels/externalLink1.xml.rels": external},
    )


@hostile("slip.xlsx", "UNSAFE_ARCHIVE")
def a_spreadsheet_with_a_path_out_of_it(path):
    spreadsheet(path, *PLACED, **{"../../slipped.xml": "x"})


def kmz(path, **documents):
    with zipfile.ZipFile(path, "w") as archive:
        for name, links in documents.items():
            marks = "<Placemark><Point><coordinates>1,2</coordinates></Point></Placemark>"
            marks += "".join(f"<NetworkLink><Link><href>{link}</href></Link></NetworkLink>" for link in links)
            archive.writestr(
                f"{name}.kml", f'<kml xmlns="http://www.opengis.net/kml/2.2"><Document>{marks}</Document></kml>'
            )


@hostile("circle.kmz", "loaded")
def a_kmz_whose_links_form_a_circle(path):
    kmz(path, doc=["a.kml", "./doc.kml"], a=["b.kml", "doc.kml"], b=["a.kml", "b.kml"])


@hostile("away.kmz", "loaded")
def a_kmz_that_links_away(path):
    kmz(path, doc=["CANARY/x.kml", "../../../etc/passwd", "/etc/passwd", "file:///etc/passwd", "a.kml/../../x.kml"])


@hostile("fan.kmz", "loaded", "TOO_LARGE")
def a_kmz_whose_documents_all_link_to_all(path):
    names = [f"d{i}" for i in range(24)]
    kmz(path, **{name: [f"{other}.kml" for other in names] for name in names})


def partitions(path, **members):
    """A zip of Parquet files by the paths that it gives them."""
    part = path.with_name("part.parquet")
    points(2).to_parquet(part)
    with zipfile.ZipFile(path, "w") as archive:
        for name, links_to in members.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = (0o120777 if links_to else 0o100644) << 16
            archive.writestr(info, links_to or part.read_bytes())


@hostile("up.zip", "UNSAFE_ARCHIVE")
def partitions_that_lead_out(path):
    partitions(path, **{"q/year=2024/../../../slipped.parquet": ""})


@hostile("linked.zip", "UNSAFE_ARCHIVE")
def partitions_one_of_which_is_a_link(path):
    partitions(path, **{"q/year=2024/a.parquet": "", "q/year=2025/b.parquet": "/etc/passwd"})


@hostile("values.zip", "loaded")
def partitions_whose_values_are_paths_and_sql(path):
    partitions(path, **{"q/k=%2E%2E%2Fetc%2Fpasswd/a.parquet": "", "q/k='; drop table geo.jobs; --/a.parquet": ""})


@hostile("unlike.zip", "UNREADABLE")
def partitions_that_are_not_alike(path):
    partitions(path, **{"q/k=1/a.parquet": "", "q/k=1/l=2/a.parquet": ""})


@hostile("scribble.gpkg", "VECTOR_ALL_REJECTED")
def a_scribble_of_five_thousand_vertices(path):
    write(
        gpd.GeoDataFrame(geometry=[shapely.Polygon(np.random.default_rng(8).uniform(0, 1, (5000, 2)))], crs=4326), path
    )


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    with SandboxPool(tmp_path_factory.mktemp("pool"), memory_mb=2048, file_mb=1024, timeout_seconds=20) as pool:
        yield pool


@pytest.fixture(scope="module")
def canary():
    """(address, requests) of a server that nobody may call."""
    calls = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            calls.append(self.path)
            self.send_error(404)

        do_HEAD = do_POST = do_GET  # noqa: N815 - as the library has it

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", calls
    server.shutdown()
    server.server_close()


def point_at(address, path):
    """Put the canary's address where a hostile file has its placeholder, also within a small zip."""
    body = path.read_bytes()
    if not body.startswith(b"PK"):
        path.write_bytes(body.replace(b"CANARY", address.encode()))
    elif path.suffix in {".xlsx", ".kmz"} and len(body) < 100_000:
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in members.items():
                archive.writestr(name, content.replace(b"CANARY", address.encode()))


def outcome(pool, db, source):
    """`loaded`, or the code with which it is refused; the sentence."""
    try:
        report = pool.call(
            "geo_assets.vector.reader.inspect:inspect",
            InspectRequest(source=str(source), max_unpacked_bytes=1 << 28),
            InspectReport,
        )
        names = table_names("", "hostile", [plan.label for plan in report.layers])
        for i, (plan, name) in enumerate(zip(report.layers, names, strict=True)):
            with pool.stream(
                "geo_assets.vector.reader.stream:stream",
                StreamRequest(source=str(source), plan=plan, max_unpacked_bytes=1 << 28),
            ) as stream:
                staged = stage_table(
                    db.dsn,
                    plan,
                    name,
                    stream.file,
                    lambda stream=stream: stream.report(StreamReport),
                    staging_suffix=f"h{i}",
                    source=source.name,
                )
            publish(db.conn, staged)
    except GeoAssetsError as error:
        return error.code, error
    return "loaded", None


def test_there_are_enough_of_them():
    assert len(FILES) >= 140


@pytest.mark.parametrize("case", FILES)
def test_a_hostile_file_has_its_documented_outcome_and_leaves_nothing(pool, db, canary, tmp_path, case):
    name, build, expected = FILES[case]
    made = tmp_path / "made"
    made.mkdir()
    build(made / name)
    address, calls = canary
    point_at(address, made / name)
    before = db.published()
    with pool.workspace() as workspace:
        source = workspace / name
        source.write_bytes((made / name).read_bytes())
        began = time.monotonic()
        code, error = outcome(pool, db, source)
        took = time.monotonic() - began
    assert code in expected, error
    assert took < 45, "twice the deadline and more"
    if error is not None:
        sentence = f"{error.message} {error.remedy}"
        assert "\n" not in sentence
        assert code != "UNREADABLE" or error.message.count(name) <= 1
        assert SECRET not in sentence
        assert "Traceback" not in sentence
        assert error.error_class in {ErrorClass.INVALID, ErrorClass.RESOURCE}, error
    assert db.staged() == []
    assert not calls, "it reached the network"
    assert not list(workspace.iterdir())
    assert not list(tmp_path.rglob("*slipped*"))
    for table in db.published() - before:
        assert not table.endswith("_v"), "a layer that is SQL of the file's author"
        assert not db.rows("select 1 from {t} x where x::text like %s", f"%{SECRET}%", t=f"vector.{table}")
        db.run(f"drop table vector.{table}")
