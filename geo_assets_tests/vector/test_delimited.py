import json
import time

import pytest
import shapely

from geo_assets.errors import GeoAssetsError
from geo_assets.vector.reader.placing import ANOTHER_CRS, BY_COMMA, BY_POINT, NOT_NUMBERS, NOT_WKT
from geo_assets.vector.reader.srids import ANOTHER_SRID
from geo_assets_tests.vector.conftest import send

BLANKS = " " * 50_000


@pytest.fixture
def rows(tmp_path, private, look):
    """(plan, rows, report) of a text, as it is sent; with `rejects`, these too."""
    import pyarrow as pa

    def read(body, name="a.csv", *, rejects=False, **request):
        path = tmp_path / name
        path.write_bytes(body if isinstance(body, bytes) else body.encode())
        plan = look(path, **request).layers[0]
        file, report = send(private(path), plan)
        streams = [pa.ipc.open_stream(file).read_all().to_pylist() for _ in range(1 + rejects)]
        return plan, streams[0], report, *streams[1:]

    return read


def test_longitude_and_latitude_are_wgs84_and_stay_columns(rows):
    plan, sent, _ = rows("name,Longitude,LAT\nx,1.5,2.5\n")
    assert (plan.srid, plan.geometry_type, plan.bounds) == (4326, "POINT", (1.5, 2.5, 1.5, 2.5))
    assert {k: v for k, v in sent[0].items() if k != "geom"} == {"name": "x", "longitude": 1.5, "lat": 2.5}


def test_an_empty_field_is_null_and_a_quoted_empty_one_is_not(rows):
    _, sent, _ = rows('t,lon,lat\n,1,2\n"",1,2\n')
    assert [row["t"] for row in sent] == [None, ""]


def test_a_column_is_a_number_only_if_every_value_is_written_as_one(rows):
    plan, sent, _ = rows(
        "i,big,huge,zip,f,mixed,day,no_day,lon,lat\n"
        "1,9223372036854775807,9223372036854775808,01234,1.5,1,2020-02-29,2021-02-30,1,2\n"
        "-2,-9223372036854775808,12345678901234567890,99999,2,x,1999-12-31,2020-01-01,1,2\n"
    )
    assert {c.name: c.sql_type for c in plan.columns if c.name not in {"lon", "lat"}} == {
        "i": "bigint", "big": "bigint", "huge": "text", "zip": "text", "f": "double precision", "mixed": "text", "day": "date", "no_day": "text",
    }  # fmt: skip
    assert sent[0]["big"] == 2**63 - 1
    assert sent[1]["zip"] == "99999"


@pytest.mark.parametrize(("delimiter", "name"), [(";", "a.csv"), ("\t", "a.tsv"), ("|", "a.csv"), (",", "a.csv")])
def test_the_delimiter_is_found_out(rows, delimiter, name):
    text = 'name,lon,lat\n"a, b; c",1.5,2.5\n'.replace("lon,lat", delimiter.join(["lon", "lat"])).replace(
        "name,", f"name{delimiter}"
    )
    text = text.replace('",1.5,2.5', f'"{delimiter}1.5{delimiter}2.5')
    _, sent, _ = rows(text, name)
    assert sent[0]["name"] == "a, b; c"


def test_decimal_commas_locate_rows_too(rows):
    plan, _, _ = rows("name;lon;lat\nx;7,25;51,5\n")
    assert plan.bounds == (7.25, 51.5, 7.25, 51.5)


@pytest.mark.parametrize(
    ("encoding", "warned"),
    [
        ("utf-8", False),
        ("utf-8-sig", False),
        ("utf-16", False),
        ("utf-16-le", False),
        ("utf-16-be", False),
        ("cp1252", True),
    ],
)
def test_the_encoding_is_found_out(rows, encoding, warned):
    plan, sent, _ = rows("stadt,lon,lat\nKöln – é,6.9,50.9\n".encode(encoding))
    assert sent[0]["stadt"] == "Köln – é"
    assert bool(plan.warnings) == warned


def test_line_breaks_in_quotes_are_text(rows):
    _, sent, _ = rows('"na\nme",lon,lat\r\n"a\nb",1,2\r\n\r\n"c",3,4\r\n')
    assert [row["na_me"] for row in sent] == ["a\nb", "c"]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('lon,lat,t\n1,2,"open\n3,4,x\n5,6,y\n', 2),
        ('lon,lat,t\n1,2,x\n3,4,"open', 3),
        ('t,lon,lat\n"a\nb",1,2\n"open,3,4\nx,5,6\n\n', 4),
        ('t\tlon\tlat\nsays "hi"\t1\t2\n"open\t3\t4\nx\t5\t6\n', 3),
        ('lon,lat,t\n1,2,"a"" open\n3,4,x\n', 2),
        ('lon,lat,"t\n1,2,x\n3,4,x\n', 1),
        ('lon,lat,t\n1,2,"open\n' + "3,4,some text\n" * 700_000, 2),
    ],
    ids=["last", "ends", "first", "tabs", "doubled", "header", "long"],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-8-sig"])
def test_a_quote_that_is_never_closed_is_refused_with_the_line_of_its_row(rows, text, line, encoding):
    with pytest.raises(GeoAssetsError, match=f"a.csv has a row that begins in line {line} and does not end") as error:
        rows(text.encode(encoding), delimiter="\t" if "\t" in text else ",", attribute_tables=True)
    assert error.value.code == "UNREADABLE"


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\n\n\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-be", "cp1252"])
def test_quotes_within_a_field_and_behind_one_open_nothing(rows, encoding, end):
    text = 'lon,lat,t\n1,2,27" é\n3,4,"5" pipe\n5,6,"he said ""no"""\n7,8,"a"b"' + end
    body = "\ufeff".encode(encoding) + text.encode(encoding) if encoding == "utf-16-be" else text.encode(encoding)
    _, sent, report = rows(body)
    assert [row["t"] for row in sent] == ['27" é', "5 pipe", 'he said "no"', 'ab"']
    assert report.rejected == {}


def test_rows_whose_coordinates_are_no_numbers_are_rejected_and_empty_ones_kept(rows):
    plan, sent, report = rows("n,lon,lat\n1,1,2\n2,,\n3,x,2\n4,1,\n5, 1 ,+2\n")
    assert plan.rejected_by_reason == report.rejected == {NOT_NUMBERS: 2}
    assert [(row["n"], row["geom"] is None) for row in sent] == [(1, False), (2, True), (5, False)]


def test_wkt_becomes_the_geometry_and_needs_a_crs(rows):
    text = 'n,WKT\n1,"POLYGON((0 0,1 0,1 1,0 0))"\n2,\n3,"POLYGON((0 0,1"\n'
    with pytest.raises(GeoAssetsError) as caught:
        rows(text)
    assert caught.value.code == "VECTOR_NO_CRS"
    plan, sent, report = rows(text, source_crs="EPSG:2056")
    assert (plan.srid, plan.geometry_type, report.rejected) == (2056, "MULTIPOLYGON", {NOT_WKT: 1})
    assert list(sent[0]) == ["n", "geom"]


def test_a_column_of_words_that_begin_as_wkt_does_is_no_geometry(rows):
    plan, sent, _ = rows("shape,lon,lat\ntriangle,1,2\nPoint,3,4\n")
    assert (plan.geometry_type, plan.bounds, [row["shape"] for row in sent]) == (
        "POINT",
        (1, 2, 3, 4),
        ["triangle", "Point"],
    )


def test_x_and_y_do_not_say_which_crs_they_are_in(rows):
    with pytest.raises(GeoAssetsError) as caught:
        rows("x,y\n500000,5000000\n")
    assert caught.value.code == "VECTOR_NO_CRS"
    assert rows("x,y\n500000,5000000\n", source_crs="EPSG:32632")[0].srid == 32632


def test_a_table_without_coordinates_names_its_columns(rows):
    with pytest.raises(GeoAssetsError, match="'id', 'name'") as caught:
        rows("id,name\n1,x\n")
    assert caught.value.code == "VECTOR_NO_GEOMETRY"


def test_a_row_of_another_width_is_a_reject_and_refuses_nothing(rows):
    plan, sent, report = rows("n,lon,lat\n1,2,3\n1,2\n4,5,6\n7,8,9,10\n")
    assert [row["n"] for row in sent] == [1, 4]
    assert report.rejected == {
        "a row of 2 fields, where the header has 3": 1,
        "a row of 4 fields, where the header has 3": 1,
    }
    assert plan.feature_count == 4


def test_a_row_of_another_width_decides_no_type_and_keeps_its_values_among_the_rejects(rows):
    text = "\n\nid,n,lon,lat\n1,5,1,2\nTotal,02\n2,6,3,4\n"
    plan, sent, report, rejects = rows(text, rejects=True, columns=("n", "id"))
    assert {c.name: c.sql_type for c in plan.columns} == {"n": "bigint", "id": "bigint"}
    assert [(row["id"], row["n"]) for row in sent] == [(1, 5), (2, 6)]
    assert [(row["src_fid"], json.loads(row["attributes"])) for row in rejects] == [(2, {"n": "02", "id": "Total"})]
    assert report.rejected == {"a row of 2 fields, where the header has 4": 1}


@pytest.mark.parametrize("line", ["   ", "\t", "\x1a", ",,,"])
def test_a_line_of_blanks_is_an_empty_row(rows, line):
    plan, sent, report = rows(f"id,n,lon,lat\n1,5,1,2\n{line}\n2,6,3,4\n{line}")
    assert [(row["id"], row["n"]) for row in sent] == [(1, 5), (2, 6)]
    assert (plan.feature_count, report.rejected) == (2, {})
    assert report.warnings == ("2 rows of nothing, which were left out",)


def test_a_condition_sees_no_value_of_a_row_of_another_width(rows):
    _, sent, report = rows("id,n,lon,lat\n1,5,1,2\nTotal,7\n2,8,3,4\n", where="n > 6")
    assert ([row["id"] for row in sent], report.filtered, report.rejected) == ([2], 2, {})


def test_columns_of_one_name_are_all_kept(rows):
    plan, sent, _ = rows("a,a,lon,lat\n1,2,3,4\n")
    assert len({c.name for c in plan.columns}) == 4
    assert list(sent[0].values())[:2] == [1, 2]


def test_a_number_of_more_digits_than_a_double_has_keeps_them(rows):
    plan, sent, _ = rows(
        "few,even,uneven,huge,lon,lat\n0.30000000000000004,123456789012.123456,52.123456789012345678,1e+999,1,2\n"
        "1.5,1.123456,1.5,1.5,1,2\n"
    )
    kinds = ["double precision", "numeric(21,6)", "text", "text"]
    assert [c.sql_type for c in plan.columns if c.name not in {"lon", "lat"}] == kinds
    assert [str(value) for value in list(sent[0].values())[:4]] == [
        "0.30000000000000004", "123456789012.123456", "52.123456789012345678", "1e+999",
    ]  # fmt: skip


def test_a_double_with_all_its_17_digits_is_one(rows):
    plan, sent, _ = rows("f,lon,lat\n0.10000000000000001,1,2\n52.123456789012344,1,2\n1.5,1,2\n")
    assert {c.name: c.sql_type for c in plan.columns}["f"] == "double precision"
    assert [row["f"] for row in sent] == [0.1, 52.123456789012344, 1.5]


def test_a_fixed_number_of_decimals_is_kept_and_a_power_in_capitals_stays_text(rows):
    plan, sent, _ = rows("price,code,uneven,lon,lat\n12.10,1E5,12.10,1,2\n3.50,2E5,3.5,1,2\n")
    assert {c.name: c.sql_type for c in plan.columns}["code"] == "text"
    assert [str(row["price"]) for row in sent] == ["12.10", "3.50"]
    assert [(row["code"], row["uneven"]) for row in sent] == [("1E5", "12.10"), ("2E5", "3.5")]


@pytest.mark.parametrize(
    ("text", "srid", "place"),
    [
        ("geom\nSRID=25832;POINT(500000 5700000)\n", 25832, (500000, 5700000)),
        ("WKB\n0101000020E6100000000000000000F83F0000000000000440\n", 4326, (1.5, 2.5)),
        ('geo_point_2d\n"51.5, 7.25"\n', 4326, (7.25, 51.5)),
        ("lat;lon\n51°30'36\"N;7°15'00\"W\n", 4326, (-7.25, 51.51)),
        ('geojson\n"{""type"":""Point"",""coordinates"":[7.25,51.5]}"\n', 4326, (7.25, 51.5)),
        ("sep=;\nlon;lat\n7,25;51,5\n", 4326, (7.25, 51.5)),
        ("id,lat,lon\r1,51.5,7.25\r", 4326, (7.25, 51.5)),
        ("Decimal Longitude,Decimal-Latitude\n7.25,51.5\n", 4326, (7.25, 51.5)),
        ("INTPTLAT,INTPTLONG\n51.5,7.25\n", 4326, (7.25, 51.5)),
    ],
)
def test_rows_are_placed_however_people_write_places(rows, text, srid, place):
    plan, sent, report = rows(text)
    assert (plan.srid, len(sent), report.rejected) == (srid, 1, {})
    assert shapely.get_coordinates(shapely.from_wkb(sent[0]["geom"])).tolist() == [pytest.approx(place)]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize(
    "text",
    [
        "\n\nid;lon;lat\n1;1;2\n",
        "sep=;\n\nid;lon;lat\n1;1;2\n",
        "\n \nsep=;\n\t\n\nid;lon;lat\n1;1;2\n",
    ],
)
def test_blank_lines_before_the_header_are_passed_over(rows, text, encoding, end):
    plan, sent, report = rows(text.replace("\n", end).encode(encoding))
    assert {c.name: c.sql_type for c in plan.columns} == {"id": "bigint", "lon": "bigint", "lat": "bigint"}
    assert ([row["id"] for row in sent], report.rejected) == ([1], {})


def test_a_first_name_of_nothing_is_no_blank_line(rows):
    _, sent, _ = rows("\n\tlon\tlat\n7\t1\t2\n", "a.tsv")
    assert list(sent[0].values())[:3] == [7, 1, 2]


def test_a_comma_that_may_part_thousands_is_refused_until_it_is_said(rows):
    text = 'x,y\n"530,000","180,000"\n'
    with pytest.raises(GeoAssetsError, match="thousands or decimals"):
        rows(text, source_crs="EPSG:27700")
    assert rows(text, source_crs="EPSG:27700", decimal=".")[0].bounds == (530000, 180000, 530000, 180000)
    assert rows(text, source_crs="EPSG:27700", decimal=",")[0].bounds == (530, 180, 530, 180)


@pytest.mark.parametrize("x", ["512 345,6", "512345,6", "512,345", "512.345,6"])
def test_a_comma_that_no_row_of_the_sample_explains_makes_no_number(rows, x):
    text = "n,x,y\n" + "".join(f"{n},500 {n:03},5 700 000\n" for n in range(100))
    _, sent, report = rows(f'{text}100,"{x}","5 700 000"\n', source_crs="EPSG:25832")
    assert ([row["n"] for row in sent], report.rejected) == ([*range(100)], {BY_POINT: 1})


def test_thousands_that_are_surely_parted_by_commas_need_no_sample(rows):
    text = "x,y\n" + "500 000,5 700 000\n" * 100 + '"512,345.5","5,700,000"\n'
    _, sent, report = rows(text, source_crs="EPSG:25832")
    assert (shapely.from_wkb(sent[-1]["geom"]).wkt, report.rejected) == ("POINT (512345.5 5700000)", {})


@pytest.mark.parametrize(
    ("first", "other"), [("530,000.5", "530 000,5"), ("530 000,5", "530 000.5"), ("530 000,5", "530,000.5")]
)
def test_a_decimal_mark_other_than_that_of_the_file_makes_no_number(rows, first, other):
    text = f'x;y\n"{first}";"5 700 000"\n"{other}";"5 700 000"\n'
    _, sent, report = rows(text, source_crs="EPSG:25832", decimal="." if "." in first else ",")
    assert [shapely.from_wkb(row["geom"]).x for row in sent] == [530000.5]
    assert report.rejected == {BY_POINT if "." in first else BY_COMMA: 1}


@pytest.mark.parametrize(
    ("most", "few", "reason"),
    [
        (("8.5", "47.3"), ("8,5", "47,3"), BY_POINT),
        (("8,5", "47,3"), ("8.5", "47.3"), BY_COMMA),
        (("8.5", "47.3"), ("8,500", "47,300"), BY_POINT),
        (("8.500", "47.300"), ("8,5", "47,3"), BY_POINT),
    ],
)
def test_where_rows_have_two_decimal_marks_that_of_most_is_taken_and_the_reason_names_it(rows, most, few, reason):
    text = "n;lon;lat\n" + "".join(f"{n};{';'.join(few if n == 2 else most)}\n" for n in range(4))
    _, sent, report = rows(text)
    assert ([row["n"] for row in sent], report.rejected) == ([0, 1, 3], {reason: 1})
    assert {shapely.from_wkb(row["geom"]).wkt for row in sent} == {"POINT (8.5 47.3)"}


def test_where_as_many_coordinates_have_a_point_as_a_comma_the_point_is_taken(rows):
    _, sent, report = rows("n;lon;lat\n0;8,5;47,3\n1;8.5;47.3\n")
    assert ([row["n"] for row in sent], report.rejected) == ([1], {BY_POINT: 1})


@pytest.mark.parametrize("header", ["POINT_X,POINT_Y", "X Coord,Y Coord", "utm_easting,utm_northing", "X.UTM,Y.UTM"])
def test_names_of_eastings_are_known_however_their_words_are_joined(rows, header):
    assert rows(f"{header}\n500000,5700000\n", source_crs="EPSG:25832")[0].bounds == (5e5, 5.7e6, 5e5, 5.7e6)


def test_a_geometry_that_cannot_be_read_before_any_that_can_is_rejected_alone(rows):
    _, sent, report = rows('id,wkt\n1,unknown\n2,"POINT(1 2)"\n', source_crs="EPSG:4326")
    assert report.rejected == {NOT_WKT: 1}
    assert [row["id"] for row in sent] == [2]


@pytest.mark.parametrize(
    ("header", "values", "place"),
    [
        ("gps_lon,lat,lon,gps_lat", "1,2,3,4", (3, 2)),
        ("lat_dd,lat_deg,long,lat", "1,2,3,4", (3, 4)),
        ("point_x,x,y,point_y", "1,2,3,4", (2, 3)),
        ("lat_dd,lon_deg,lon_dd", "1,2,3", (3, 1)),
        ("lon_wgs84,lat", "1,2", (1, 2)),
    ],
)
def test_x_and_y_are_of_one_kind_of_name_where_there_are_several(rows, header, values, place):
    _, sent, _ = rows(f"{header}\n{values}\n", source_crs="EPSG:4326")
    assert shapely.get_coordinates(shapely.from_wkb(sent[0]["geom"])).tolist() == [list(place)]


@pytest.mark.parametrize(
    "text",
    [
        f'id,wkt\n1,POINT(1 2)\n2,"{BLANKS}x"\n',
        f'id,wkt\n1,POINT(1 2)\n2,"POINT{BLANKS}x"\n',
        f'id,wkt\n1,POINT(1 2)\n2,"SRID=4326;{BLANKS}x"\n',
        f'id,lon,lat\n1,1,2\n2,"1{BLANKS}x",2\n',
        f'id,lon,lat\n1,1,2\n2,"N 1 2{BLANKS}x",2\n',
    ],
    ids=["wkt", "kind", "srid", "degrees", "minutes"],
)
def test_a_value_of_blanks_costs_no_more_than_its_length(rows, text):
    began = time.process_time()
    _, sent, report = rows(text, source_crs="EPSG:4326")
    assert ([row["id"] for row in sent], sum(report.rejected.values())) == ([1], 1)
    assert time.process_time() - began < 5


def postgis(crs=None, geometry=None):
    """A geometry as PostGIS writes it, as a field."""
    named = {"crs": {"type": "name", "properties": {"name": crs}}} if crs else {}
    text = json.dumps({"type": "Point", **named, "coordinates": [12, 50]}) if geometry is None else geometry
    return '"' + text.replace('"', '""') + '"'


def test_a_geometry_of_geojson_is_in_the_crs_that_it_names_and_others_are_rejected(rows):
    names = ["EPSG:25832", "urn:ogc:def:crs:EPSG::25832", None, "EPSG:25833", "EPSG:25832"]
    text = "n,geojson\n" + "".join(f"{n},{postgis(name)}\n" for n, name in enumerate(names))
    plan, sent, report = rows(text)
    assert (plan.srid, [row["n"] for row in sent], report.rejected) == (25832, [0, 1, 4], {ANOTHER_CRS: 2})


def test_geojson_whose_crs_is_not_known_needs_one(rows):
    text = f"n,geojson\n1,{postgis('urn:x')}\n"
    with pytest.raises(GeoAssetsError, match="does not say which CRS"):
        rows(text)
    assert rows(text, source_crs="EPSG:25832")[0].srid == 25832


@pytest.mark.parametrize(("said", "kept"), [("EPSG:4326", 101), ("EPSG:25832", 102)])
def test_an_srid_after_the_sample_is_held_against_the_crs_that_was_said(rows, said, kept):
    text = "wkt\n" + "POINT(1 2)\n" * 100 + "SRID=25832;POINT(1 2)\nSRID=0;POINT(1 2)\n"
    _, sent, report = rows(text, source_crs=said)
    assert (len(sent), sum(report.rejected.values())) == (kept, 102 - kept)
    assert set(report.rejected) <= {ANOTHER_SRID}


PLAIN, NAMED = "POINT(7 50)", "SRID=25832;POINT(500000 5500000)"
PLAIN_HEX = shapely.Point(7, 50).wkb_hex
NAMED_HEX = shapely.to_wkb(shapely.set_srid(shapely.Point(500000, 5500000), 25832), hex=True, include_srid=True)


@pytest.mark.parametrize(("plain", "named"), [(PLAIN, NAMED), (PLAIN_HEX, NAMED_HEX)], ids=["EWKT", "EWKB"])
@pytest.mark.parametrize("named_first", [True, False])
def test_one_geometry_that_names_an_srid_does_not_say_it_of_those_that_name_none(rows, plain, named, named_first):
    each = [named, *[plain] * 9] if named_first else [*[plain] * 9, named]
    text = "wkt\n" + "".join(f"{one}\n" for one in each)
    plan, sent, report = rows(text, source_crs="EPSG:4326")
    assert (plan.srid, len(sent), report.rejected) == (4326, 9, {ANOTHER_SRID: 1})
    with pytest.raises(GeoAssetsError, match="does not say which CRS"):
        rows(text)


@pytest.mark.parametrize(("plain", "named"), [(PLAIN, NAMED), (PLAIN_HEX, NAMED_HEX)], ids=["EWKT", "EWKB"])
def test_a_few_that_name_no_srid_are_taken_for_that_of_most_and_told(rows, plain, named):
    plan, sent, report = rows("wkt\n" + f"{named}\n" * 9 + f"{plain}\n\n")
    assert (plan.srid, len(sent), report.rejected) == (25832, 10, {})
    assert plan.warnings == ("its geometries that name no SRID were taken for EPSG:25832, which most name",)


def many_sided(srid):
    """A polygon whose text is larger than the sample."""
    return shapely.set_srid(shapely.Point(12, 50).buffer(1, quad_segs=1500), srid)


@pytest.mark.parametrize("name", ["n", "no", "num"])  # the sample ends at another digit
@pytest.mark.parametrize("srid", [0, 25832])
def test_a_first_geometry_larger_than_the_sample_is_read_as_any_other(rows, name, srid):
    written = shapely.to_wkb(many_sided(srid), hex=True, include_srid=srid > 0)
    plan, sent, report = rows(f"{name},wkb\n1,{written}\n2,{written}\n", source_crs=None if srid else "EPSG:25832")
    assert (plan.srid, len(sent), report.rejected) == (25832, 2, {})


def test_a_first_geometry_larger_than_the_sample_says_its_crs_behind_it(rows):
    named = '"crs":{"type":"name","properties":{"name":"EPSG:25832"}}'
    plan, sent, _ = rows(f"geojson\n{postgis(geometry=f'{shapely.to_geojson(many_sided(0))[:-1]},{named}}}')}\n")
    assert (plan.srid, len(sent)) == (25832, 1)


@pytest.mark.parametrize("options", [{}, {"wkt": "wkt"}, {"attribute_tables": True}])
def test_the_first_rows_may_have_no_geometry(rows, options):
    plan, sent, _ = rows("n,wkt\n" + "1,\n" * 150 + "2,SRID=25832;POINT(1 2)\n", **options)
    assert (plan.srid, len(sent), sent[-1]["geom"] is not None) == (25832, 151, True)


def test_a_table_without_any_geometry_is_still_refused(rows):
    with pytest.raises(GeoAssetsError, match="has no longitude/latitude or WKT columns"):
        rows("n,wkt\n" + "1,\n" * 150)
