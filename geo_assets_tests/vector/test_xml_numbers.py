"""GML, KML and GPX: no coordinate is invented where none is written, and every lost feature is reported."""

import re

import pytest

from geo_assets.errors import GeoAssetsError

GML = '<o:FeatureCollection xmlns:o="http://ogr.maptools.org/" xmlns:gml="http://www.opengis.net/gml">%s</o:FeatureCollection>'
MEMBER = '<gml:featureMember>\n<o:p fid="p.%d"><o:pos>north-east</o:pos>%s</o:p></gml:featureMember>'
POINT = '<o:g><gml:Point srsName="EPSG:4326"><gml:coordinates>%s</gml:coordinates></gml:Point></o:g>'
POS = '<o:g><gml:Point srsName="EPSG:4326"><gml:pos>%s</gml:pos></gml:Point></o:g>'
KML = '<kml xmlns="http://www.opengis.net/kml/2.2"><Document>%s</Document></kml>'
PLACEMARK = "\n<Placemark><name>%s</name><Point><coordinates>%s</coordinates></Point></Placemark>"
GPX = '<gpx version="1.1" creator="x" xmlns="http://www.topografix.com/GPX/1/1">%s</gpx>'
LINE = '<trk><trkseg><trkpt lat="2" lon="1"/>\n<trkpt lat="%s" lon="1"/></trkseg></trk>'


def gml(*geometries):
    return GML % "".join(MEMBER % pair for pair in enumerate(geometries, 1))


def kml(*coordinates):
    return KML % "".join(PLACEMARK % pair for pair in enumerate(coordinates))


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.gml", gml(POINT % "1,2", POINT % "x,2"), "1 coordinate is no number in a.gml: 'x,2' in line 3"),
        ("a.gml", gml(POS % "1 2", POS % "N/A N/A"), "'N/A' in line 3"),
        ("a.kml", kml("1,2", "1,two"), "'1,two' in line 3"),
        ("a.kml", kml("1,2", "nan,nan", "3,4"), "'nan,nan' in line 3"),
        ("a.gpx", GPX % '<wpt lat="2" lon="1"/>\n<wpt lat="x" lon="1"/>', "'x' in line 2"),
        ("a.gpx", GPX % '<wpt lat="2" lon="1"/>\n<wpt lon="1"/>', "'no lat' in line 2"),
        ("a.gpx", GPX % '<wpt lat="2" lon="1"/>\n<wpt lat="" lon="inf"/>', "2 coordinates are no numbers in a.gpx"),
        ("a.gpx", GPX % (LINE % "south"), "'south' in line 2"),
        ("a.gml", gml(POINT % "1,2", POINT % "1", POINT % "3,4"), "1 of 3 features"),
    ],
)
def test_what_gdal_would_read_as_0_or_leave_out_is_refused_with_its_line(tmp_path, look, name, text, said):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(GeoAssetsError, match=said.replace("(", r"\(")) as caught:
        look(path)
    assert caught.value.code == "UNREADABLE"


@pytest.mark.parametrize(
    ("name", "text", "counts"),
    [
        ("a.gml", gml(POINT % " 1.5e0,-2E+1 ", POS % "3 4", ""), [(3, 1)]),
        ("a.kml", kml("1, 2, 0", " 1.0,2.0 \n", "3,4,"), [(3, 0)]),
        ("a.gpx", GPX % ('<wpt lat=" 2" lon="1e0"/>' + LINE % "-3"), [(1, 0), (1, 0), (2, 0)]),
    ],
)
def test_what_is_a_number_however_it_is_written_is_read(tmp_path, look, name, text, counts):
    path = tmp_path / name
    path.write_text(text)
    assert [(plan.feature_count, plan.null_geometries) for plan in look(path).layers] == counts


RING = "<LinearRing><coordinates>0,0 1,0 1,1 0,0</coordinates></LinearRing>"


@pytest.mark.parametrize("prefix", ["", "k:"])
def test_a_ring_of_a_kml_that_bounds_no_polygon_is_a_closed_line(tmp_path, load, db, prefix):
    marks = [
        RING,
        f"<MultiGeometry>{RING}{RING.replace('0,0', '5,0')}</MultiGeometry>",
        f"<Polygon><outerBoundaryIs>{RING}</outerBoundaryIs></Polygon>",
        "<name>%s</name><Point><coordinates>1,2</coordinates></Point>",
    ]
    text = KML % "".join(f"<Placemark>{mark}</Placemark>" for mark in marks)
    if prefix:
        text = re.sub("<(/?)", rf"<\1{prefix}", text).replace("xmlns=", "xmlns:k=")
    path = tmp_path / "a.kml"
    path.write_text(text % "<![CDATA[<LinearRing>]]>")
    loaded = load(path, f"kml_rings{len(prefix)}", mixed="generic")
    found = db.rows("select st_astext(st_force2d(geom)), name from {t} order by gid", t=loaded.table)
    assert found == [
        ("LINESTRING(0 0,1 0,1 1,0 0)", None),
        ("MULTILINESTRING((0 0,1 0,1 1,0 0),(5 0,1 0,1 1,5 0))", None),
        ("POLYGON((0 0,1 0,1 1,0 0))", None),
        ("POINT(1 2)", "<LinearRing>"),
    ]


def test_a_segment_of_one_point_is_left_out_of_its_track(tmp_path, load, db):
    place = '<trkpt lat="{}" lon="2"/>'.format
    segment, single = (f"<trkseg>{points}</trkseg>" for points in (place(1) + place(2), place(5)))
    path = tmp_path / "a.gpx"
    path.write_text(GPX % f"<trk>{segment}{single}</trk><trk>{segment}</trk><trk>{single}</trk>")
    loaded = load(path, "gpx_single")
    plan = next(plan for plan in loaded.report.layers if plan.layer == "tracks")
    assert (plan.feature_count, plan.repaired_by_reason, plan.rejected_by_reason) == (
        3,
        {"Part of one point": 1},
        {"unreadable geometry": 1},
    )
    table = loaded.tables[loaded.report.layers.index(plan)].table
    assert db.rows("select st_astext(geom) from {t}", t=table) == [("MULTILINESTRING((2 1,2 2))",)] * 2
