"""GML, KML and GPX: no coordinate is invented where none is written, and every lost feature is reported."""

import re
import time
import tracemalloc
from contextlib import suppress

import geopandas as gpd
import pytest
from shapely import LineString

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


WFS = (
    '<wfs:FeatureCollection xmlns:wfs="http://www.opengis.net/wfs/2.0" xmlns:gml="http://www.opengis.net/gml/3.2"'
    ' xmlns:ex="http://ex" xmlns:xlink="http://www.w3.org/1999/xlink">%s</wfs:FeatureCollection>'
)
ROAD = '<wfs:member><ex:road gml:id="r%d">%s</ex:road></wfs:member>'
HERE = '<gml:LineString srsName="EPSG:25832"><gml:posList>0 0 1 1</gml:posList></gml:LineString>'
CURVES = (
    '<gml:MultiCurve srsName="EPSG:25832"><gml:curveMember xlink:href="#x"/>'
    f"<gml:curveMember>{HERE}</gml:curveMember></gml:MultiCurve>"
)
RECTANGLE = "<gml:exterior><gml:LinearRing><gml:posList>0 0 1 0 1 1 0 0</gml:posList></gml:LinearRing></gml:exterior>"
SURFACE = (
    '<gml:Surface srsName="EPSG:25832"><gml:patches><gml:Cone/><gml:PolygonPatch>'
    f"{RECTANGLE}</gml:PolygonPatch></gml:patches></gml:Surface>"
)
BOX = "<gml:%s><gml:lowerCorner>0 0</gml:lowerCorner><gml:upperCorner>1 1</gml:upperCorner></gml:%s>"


@pytest.mark.parametrize(
    ("geometry", "reason"),
    [
        (
            CURVES,
            "a geometry of which a part is a link, which is not followed",
        ),
        (
            '<gml:OrientableCurve><gml:baseCurve xlink:href="#x"/></gml:OrientableCurve>',
            "a geometry of which a part is a link, which is not followed",
        ),
        (
            SURFACE,
            "a surface with a patch that cannot be read",
        ),
        ("<gml:Clothoid/>", "its geometry is of the kind Clothoid, which cannot be read"),
        (BOX % ("Envelope", "Envelope"), "its geometry is of the kind Envelope, which cannot be read"),
    ],
)
def test_a_geometry_of_a_gml_that_gdal_reads_in_part_or_not_is_rejected(tmp_path, load, db, geometry, reason):
    path = tmp_path / "a.gml"
    texts = [HERE, geometry, HERE]
    path.write_text(WFS % "".join(ROAD % (9 - i, f"<ex:geom>{text}</ex:geom>") for i, text in enumerate(texts)))
    loaded = load(path, "gml_unread")
    assert loaded.plan.rejected_by_reason == {reason: 1}
    assert db.rows("select gml_id, st_npoints(geom) from {t} order by gid", t=loaded.table) == [("r9", 2), ("r7", 2)]
    rejects = db.rows("select reason, attributes ->> 'gml_id', geom_wkb from {t}", t=f"{loaded.table}__rejects")
    assert rejects == [(reason, "r8", None)]


@pytest.mark.parametrize(
    "about",
    [
        '<gml:description xlink:href="http://ex/d"/>',
        '<gml:metaDataProperty xlink:href="#m"/>',
        '<gml:name xlink:href="#n"/>',
    ],
)
def test_a_link_that_is_about_a_geometry_and_no_part_of_it_rejects_nothing(tmp_path, look, about):
    path = tmp_path / "a.gml"
    line = f'<gml:LineString srsName="EPSG:25832">{about}<gml:posList>1 2 3 4</gml:posList></gml:LineString>'
    topology = '<ex:topo><gml:Edge><gml:directedNode xlink:href="#p"/></gml:Edge></ex:topo>'
    path.write_text(
        WFS % (ROAD % (1, f"<ex:geom>{line}</ex:geom>") + ROAD % (2, f"<ex:geom>{HERE}</ex:geom>{topology}"))
    )
    plan = look(path).layers[0]
    assert (plan.feature_count, plan.null_geometries, plan.rejected_by_reason) == (2, 0, {})


@pytest.mark.parametrize(
    "beside",
    [
        "",
        f"<gml:boundedBy>{BOX % ('Envelope', 'Envelope')}</gml:boundedBy>",
        '<ex:next xlink:href="#r1"/>',
        '<ex:when><gml:TimePeriod><gml:begin xlink:href="#t"/></gml:TimePeriod></ex:when>',
    ],
)
def test_a_feature_of_a_gml_without_a_geometry_is_not_rejected(tmp_path, look, beside):
    path = tmp_path / "a.gml"
    path.write_text(WFS % (ROAD % (1, f"<ex:geom>{HERE}</ex:geom>") + ROAD % (2, f"{beside}<ex:n>1</ex:n>")))
    plan = look(path).layers[0]
    assert (plan.feature_count, plan.null_geometries, plan.rejected_by_reason) == (2, 1, {})


DECLARED = '<SchemaData schemaUrl="#s"><SimpleData name="i">1</SimpleData></SchemaData>'
OTHER = '<Data name="%s"><value>01</value></Data>'
EXTENDED = "<Placemark><ExtendedData>%s</ExtendedData><Point><coordinates>1,2</coordinates></Point></Placemark>"
SCHEMA = '<Schema name="s" id="s"><SimpleField name="i" type="int"/></Schema>'
HEART = '<e:hr xmlns:e="http://e">120</e:hr>'
TRACK = '<trk><trkseg><trkpt lat="2" lon="1"><extensions>%s</extensions></trkpt><trkpt lat="3" lon="1"/></trkseg></trk>'


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.kml", KML % (SCHEMA + EXTENDED % (DECLARED + OTHER % "extra")), "extra"),
        ("a.kml", KML % (SCHEMA + EXTENDED % DECLARED + EXTENDED % (OTHER % "I" + OTHER % "other")), "other"),
        ("a.kml", KML % "<Placemark><address>x</address><Point><coordinates>1,2</coordinates></Point></Placemark>", "address"),
        ("a.gpx", GPX % TRACK % '<e:x xmlns:e="http://e"><e:hr>120</e:hr><e:cad>80</e:cad></e:x>', "hr, cad"),
    ],
)  # fmt: skip
def test_values_that_gdal_makes_no_column_of_are_named(tmp_path, look, name, text, said):
    path = tmp_path / name
    path.write_text(text)
    assert f"{name} has values that become no column: {said}" in look(path).warnings


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.kml", KML % (SCHEMA + EXTENDED % DECLARED)),
        ("a.kml", KML % (EXTENDED % (OTHER % "a") + EXTENDED % (OTHER % "b"))),
        ("a.kml", KML % (SCHEMA + f"<Folder>{EXTENDED % DECLARED}</Folder><Folder>{EXTENDED % (OTHER % 'a')}</Folder>")),
        ("a.kml", KML % (f"<Folder>{EXTENDED % (OTHER % 'i')}{EXTENDED % DECLARED}</Folder>" + SCHEMA)),
        ("a.kml", KML % (EXTENDED % (OTHER % "zz") + EXTENDED % DECLARED)),
        ("a.gpx", GPX % '<wpt lat="2" lon="1"><extensions><e:hr xmlns:e="http://e">1</e:hr></extensions></wpt>'),
        ("a.gpx", GPX % (TRACK % HEART).replace("<trkseg>", f"<extensions>{HEART}</extensions><trkseg>")),
    ],
)  # fmt: skip
def test_values_that_become_columns_are_not_named(tmp_path, look, name, text):
    path = tmp_path / name
    path.write_text(text)
    assert not [said for said in look(path).warnings if "become no column" in said]


def test_a_year_beside_times_with_a_zone_is_its_beginning_in_utc(tmp_path, load, db):
    path = tmp_path / "a.kml"
    span = "<Placemark><TimeSpan><end>%s</end></TimeSpan><Point><coordinates>1,2</coordinates></Point></Placemark>"
    path.write_text(KML % (span % "2001" + span % "2001-06-07T10:00:00+02:00"))
    loaded = load(path, "kml_zoned_years")
    found = db.rows("select to_char(end_ at time zone 'utc', 'YYYY-MM-DD HH24') from {t} order by gid", t=loaded.table)
    assert found == [("2001-01-01 00",), ("2001-06-07 08",)]


@pytest.mark.parametrize("text", ["2024", " 2024 \n", "2024-01", "2024-01-01"])
def test_a_time_of_a_kml_that_is_a_year_is_its_beginning(tmp_path, load, db, text):
    path = tmp_path / "a.kml"
    place = "<Point><coordinates>1,2</coordinates></Point>"
    ring = f"<name>é</name><MultiGeometry>{RING}</MultiGeometry>"
    path.write_text(
        KML % f"<Placemark><TimeSpan><begin>{text}</begin><end>{text}</end></TimeSpan>{ring}</Placemark>"
        f"<Placemark><TimeStamp><when>{text}</when></TimeStamp>{place}</Placemark>",
        encoding="utf-8",
    )
    loaded = load(path, "kml_years", mixed="generic")
    found = db.rows("select name, begin::text, end_::text, timestamp::text, st_npoints(geom) from {t}", t=loaded.table)
    day = "2024-01-01 00:00:00"
    assert found == [("é", day, day, None, 4), (None, None, None, day, 1)]


def test_of_a_kml_that_is_copied_only_a_part_is_held(tmp_path, look):
    path = tmp_path / "a.kml"
    place = "<Point><coordinates>1,2</coordinates></Point></Placemark>"
    long = 2500 * f"<Placemark><description>{'x' * 40_000}</description>{place}"
    path.write_text(KML % (SCHEMA + long + f"<Placemark><TimeStamp><when>2024</when></TimeStamp>{place}"))
    tracemalloc.start()
    try:
        assert look(path).layers[0].feature_count == 2501
        held = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert held < path.stat().st_size


def test_a_gml_of_lines_with_heights_and_without_is_read_as_it_is_written(tmp_path, load, db):
    path = tmp_path / "a.gml"
    lines = [LineString([(10, 50, 1), (11, 51, 1)]), LineString([(10, 50), (11, 51), (12, 52)])]
    gpd.GeoDataFrame({"n": [0, 1]}, geometry=lines, crs=4326).to_file(path, driver="GML", engine="pyogrio")
    assert 'srsDimension="3"' in path.read_text()  # of the whole, which GDAL would take for that of each line
    loaded = load(path, "gml_mixed")
    assert db.rows("select st_astext(geom) from {t} order by n", t=loaded.table) == [
        ("MULTILINESTRING Z ((10 50 1,11 51 1))",),
        ("MULTILINESTRING Z ((10 50 0,11 51 0,12 52 0))",),
    ]


NESTED = WFS % "<wfs:member><wfs:FeatureCollection>%s</wfs:FeatureCollection></wfs:member>"


def test_what_is_checked_of_a_gml_is_checked_in_a_collection_of_collections_too(tmp_path, look):
    path = tmp_path / "a.gml"
    broken = HERE.replace("0 0 1 1", "0 0 1")
    path.write_text(NESTED % "".join(ROAD % (i, f"<ex:geom>{text}</ex:geom>") for i, text in enumerate([HERE, HERE])))
    assert look(path).layers[0].feature_count == 2
    path.write_text(NESTED % "".join(ROAD % (i, f"<ex:geom>{text}</ex:geom>") for i, text in enumerate([HERE, CURVES])))
    linked = {"a geometry of which a part is a link, which is not followed": 1}
    assert look(path).layers[0].rejected_by_reason == linked
    path.write_text(
        NESTED % "".join(ROAD % (i, f"<ex:geom>{text}</ex:geom>") for i, text in enumerate([HERE, broken, HERE]))
    )
    with pytest.raises(GeoAssetsError, match="1 of 3 features"):
        look(path)


LABEL = '<gml:Point srsName="EPSG:25832"><gml:pos>5 5</gml:pos></gml:Point>'
MARK = "<Placemark><name>%s</name>%s<Point><coordinates>1,2</coordinates></Point></Placemark>"


@pytest.mark.parametrize(
    ("name", "text", "where"),
    [
        (
            "a.gml",
            WFS % (ROAD % (1, f"<ex:geom>{HERE}</ex:geom><ex:label>{LABEL}</ex:label>")),
            "layer 'road' of a.gml",
        ),
        ("a.kml", KML % MARK % ("n", "<LineString><coordinates>1,2 3,4</coordinates></LineString>"), "a.kml"),
    ],
)
def test_a_second_geometry_of_a_feature_is_named(tmp_path, look, name, text, where):
    path = tmp_path / name
    path.write_text(text)
    said = f"1 feature of {where} has several geometries, of which only the last is read"
    assert said in look(path).layers[0].warnings


@pytest.mark.parametrize(
    ("text", "lost"),
    [
        (f"<Document>{MARK % ('a', '')}</Document><Document>{MARK % ('b', '')}</Document>", 1),
        (MARK % ("a", "") + MARK % ("b", "") + MARK % ("c", ""), 2),
        (f"<Document>{MARK % ('a', '')}<group>{MARK % ('b', '')}</group></Document>", 1),
    ],
)
def test_placemarks_that_gdal_would_leave_out_are_refused(tmp_path, look, text, lost):
    path = tmp_path / "a.kml"
    path.write_text(f'<kml xmlns="http://www.opengis.net/kml/2.2">{text}</kml>')
    with pytest.raises(GeoAssetsError, match=f"{lost} placemark") as caught:
        look(path)
    assert caught.value.code == "UNREADABLE"


@pytest.mark.parametrize(("names", "said"), [(("L", "l"), "l"), (("name", "Name"), "Name2"), (("id2", "ID"), "ID2")])
def test_a_value_of_a_kml_that_overwrites_another_is_named(tmp_path, look, names, said):
    path = tmp_path / "a.kml"
    path.write_text(KML % MARK % ("n", f"<ExtendedData>{''.join(OTHER % name for name in names)}</ExtendedData>"))
    assert f"a.kml has values that become no column: {said}" in look(path).warnings


@pytest.mark.parametrize("quote", ['"', "'"])
def test_a_value_named_as_one_of_a_placemarks_own_is_beside_it(tmp_path, load, db, quote):
    path = tmp_path / "a.kml"
    data = "".join(
        f"<Data name={quote}{name}{quote}><value>{i}</value></Data>"
        for i, name in enumerate(["Name", "description", "visibility", "begin"])
    )
    first, second = (MARK % (name, f"<ExtendedData>{data}</ExtendedData>") for name in "ab")
    own = "<description>own</description><visibility>0</visibility>"
    path.write_text(KML % (first.replace("<ExtendedData>", f"{own}<ExtendedData>") + second))
    table = load(path, "kml_own_names").table
    found = db.rows("select name, name2, description, description2, visibility, visibility2, begin2 from {t}", t=table)
    assert found == [("a", "0", "own", "1", 0, "2", "3"), ("b", "0", None, "1", -1, "2", "3")]


def test_what_is_not_read_of_the_times_and_geometries_of_a_kml_is_said(tmp_path, look):
    when = "<Placemark><TimeStamp><when>%s</when></TimeStamp><Point><coordinates>1,2</coordinates></Point></Placemark>"
    points = "".join(f"<when>2020-01-01T00:00:0{i}Z</when><g:coord>1 {i} 3</g:coord>" for i in range(3))
    model = "<Model><Location><longitude>1</longitude><latitude>2</latitude></Location></Model>"
    path = tmp_path / "a.kml"
    path.write_text(
        KML % "".join([when % "2020", when % " 2020-02 ", when % "2020-02-03", f"<Placemark><g:Track xmlns:g='http://www.google.com/kml/ext/2.2'>{points}</g:Track></Placemark>",
                       f"<Placemark>{model}</Placemark>", f"<Placemark>{model}</Placemark>"])
    )  # fmt: skip
    said = look(path, mixed="generic").layers[0].warnings
    assert "2 times of a.kml are a year or a month, which became its beginning" in said
    assert (
        "3 times are of the points of tracks of a.kml, of which only the first and the last of a track are read" in said
    )
    assert "2 models of a.kml became no geometry: a model has a place, but no outline" in said
    path.write_text(KML % (when % "2020-02-03"))
    assert look(path).layers[0].warnings == ()


@pytest.mark.parametrize(
    "text",
    [
        f"<NetworkLink><Link><href>{' ' * 5000}<!-- --></href></Link></NetworkLink>",
        "<NetworkLink/>" * 8000,
        "<NetworkLink" * 8000,
        f"<Placemark><TimeStamp><when>{'T' * 100_000}</when></TimeStamp></Placemark>",
    ],
    ids=["blanks", "links", "no links", "times"],
)
def test_no_text_of_a_kml_takes_long(tmp_path, look, text):
    path = tmp_path / "a.kml"
    path.write_text(KML % (text + MARK % ("n", "")))
    began = time.process_time()
    with suppress(GeoAssetsError):
        look(path)
    assert time.process_time() - began < 2


def in_crs(*names):
    """A GML of points at 7 degrees east, 50 degrees north, each of which names its CRS."""
    point = '<ex:geom><gml:Point srsName="%s"><gml:pos>%s</gml:pos></gml:Point></ex:geom>'
    places = ["50 7" if name.startswith(("urn", "http")) and "CRS84" not in name else "7 50" for name in names]
    return WFS % "".join(ROAD % (i, point % each) for i, each in enumerate(zip(names, places, strict=True)))


URN, URL = "urn:ogc:def:crs:EPSG::%d", "http://www.opengis.net/def/crs/EPSG/0/%d"


@pytest.mark.parametrize(
    "other",
    [URL % 4326, "EPSG:4326", "http://www.opengis.net/gml/srs/epsg.xml#4326", "urn:ogc:def:crs:OGC:1.3:CRS84"],
)
def test_a_gml_whose_geometries_name_one_crs_in_several_ways_is_in_it(tmp_path, load, db, other):
    path = tmp_path / "a.gml"
    in_order = in_crs(URN % 4326, other)
    if "epsg.xml" in other:  # longitude first, as GDAL and all others have it
        in_order = in_order.replace(f'{other}"><gml:pos>50 7', f'{other}"><gml:pos>7 50')
    path.write_text(in_order)
    loaded = load(path, "gml_one_crs")
    assert loaded.report.layers[0].srid == 4326
    assert db.rows("select st_x(geom), st_y(geom) from {t}", t=loaded.table) == [(7, 50), (7, 50)]


def test_a_gml_whose_geometries_name_several_crss_is_refused_with_both(tmp_path, look):
    path = tmp_path / "a.gml"
    path.write_text(in_crs(URN % 25832, URN % 25833))
    with pytest.raises(GeoAssetsError, match=f"more than one CRS: {URN % 25832} and {URN % 25833}") as caught:
        look(path, source_crs="EPSG:25832")
    assert "override_crs" in caught.value.remedy
    assert look(path, source_crs="EPSG:25832", override_crs=True).layers[0].srid == 25832
