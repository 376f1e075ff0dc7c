import json

import numpy as np
import pyarrow as pa
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from geo_assets.vector.reader import geometry
from geo_assets.vector.reader.geojson_wkb import BadGeometryError, kind_of_text, wkb_of_texts
from geo_assets.vector.reader.geojson_wkb import to_wkb as geojson_to_wkb
from geo_assets.vector.reader.geometry import clean, fit
from geo_assets.vector.reader.simple import Sound
from geo_assets.vector.reader.survey import Survey, table_type
from geo_assets.vector.reader.tangles import TANGLED, is_tangled
from geo_assets.vector.reader.wkb import Headers, promote_wkb, to_wkb
from geo_assets_tests.vector.builders import BOWTIE, SQUARE


def wkb(*texts, **options):
    return pa.array(
        [
            None if text is None else shapely.to_wkb(shapely.from_wkt(text), **{"flavor": "iso", **options})
            for text in texts
        ],
        pa.binary(),
    )


def wkt(geometries):
    return [None if g is None else shapely.normalize(g).wkt for g in geometries]


@pytest.mark.parametrize(
    "options",
    [{}, {"byte_order": 0}, {"flavor": "extended"}, {"flavor": "extended", "byte_order": 0, "include_srid": True}],
)
def test_headers_are_read_in_every_dialect_of_wkb(options):
    array = wkb(
        "POINT(1 2)",
        None,
        "POLYGON Z((0 0 1,1 0 1,1 1 1,0 0 1))",
        "LINESTRING M(0 0 1,1 1 2)",
        "MULTIPOINT ZM((1 2 3 4))",
        **options,
    )
    headers = Headers.of(array)
    assert headers.codes.tolist() == [1, 0, 3, 2, 4]
    assert headers.has_z.tolist() == [False, False, True, False, True]
    assert headers.has_m.tolist() == [False, False, False, True, True]
    assert headers.plain.all() == (options == {})


def test_headers_of_a_slice_and_of_large_binary_are_the_same():
    array = wkb("POINT(1 2)", "LINESTRING(0 0,1 1)", None, SQUARE)
    assert Headers.of(array.slice(1)).codes.tolist() == [2, 0, 3]
    assert Headers.of(array.cast(pa.large_binary()).slice(1, 2)).codes.tolist() == [2, 0]
    assert Headers.of(array.slice(0, 0)).codes.tolist() == []
    assert Headers.of(pa.array([None, None], pa.binary())).codes.tolist() == [0, 0]


def test_bytes_that_are_no_wkb_are_rejected_and_the_rest_is_kept():
    array = pa.array(
        [b"", b"\x01", b"\x07" * 9, b"\x01\x01\x00\x00\x00half", wkb("POINT(1 2)")[0].as_py()], pa.binary()
    )
    cleaned = clean(array, {})
    assert cleaned.reasons == dict.fromkeys(range(4), geometry.UNREADABLE)
    assert wkt(cleaned.geometries) == [None] * 4 + ["POINT (1 2)"]


def test_a_bow_tie_is_repaired_within_its_dimension_and_counted():
    cleaned = clean(wkb(BOWTIE, SQUARE), {})
    assert cleaned.repaired == {"Self-intersection": 1}
    assert shapely.is_valid(cleaned.geometries).all()
    assert cleaned.geometries[0].geom_type == "MultiPolygon"
    assert cleaned.geometries[0].area == 2
    assert cleaned.area_changed == 1  # its signed area was 0


def test_what_repair_would_empty_is_rejected_with_its_fault():
    cleaned = clean(wkb("POLYGON((0 0, 1 1, 0 0, 0 0))", "LINESTRING(1 1, 1 1)"), {})
    assert all(reason.startswith("not repairable: ") for reason in cleaned.reasons.values())
    assert len(cleaned.reasons) == 2


def test_an_unclosed_ring_is_closed_and_counted():
    ring = wkb(SQUARE)[0].as_py()
    unclosed = ring[:9] + (4).to_bytes(4, "little") + ring[13:-16]
    cleaned = clean(pa.array([unclosed, ring]), {})
    assert cleaned.repaired == {geometry.UNCLOSED: 1}
    assert cleaned.geometries[0].equals(cleaned.geometries[1])


def test_empty_and_not_finite_geometries_are_rejected_and_null_is_kept():
    infinite = shapely.to_wkb(shapely.linestrings([[0, 0], [np.inf, 1]]))
    array = pa.concat_arrays([wkb("POINT EMPTY", None, "POINT(1 2)"), pa.array([infinite])])
    cleaned = clean(array, {})
    assert cleaned.reasons == {0: geometry.EMPTY, 3: geometry.NOT_FINITE}


def test_curves_are_rejected_by_name():
    curve = (1).to_bytes(1, "little") + (8).to_bytes(4, "little") + (0).to_bytes(4, "little")
    assert clean(pa.array([curve]), {}).reasons == {0: "CircularString geometry is not supported"}


def test_m_values_are_dropped_and_heights_kept():
    cleaned = clean(wkb("POINT ZM(1 2 3 4)", "POINT M(1 2 4)", "POINT Z(1 2 3)"), {})
    assert cleaned.with_m == 2
    assert wkt(cleaned.geometries) == ["POINT Z (1 2 3)", "POINT (1 2)", "POINT Z (1 2 3)"]


def test_fitting_makes_multi_geometries_and_gives_missing_heights_zero():
    cleaned = clean(wkb("LINESTRING Z(0 0 5,1 1 5)", "MULTILINESTRING((0 0,1 1))", None), {})
    assert fit(cleaned, "MULTILINESTRING", has_z=True) == 1
    assert wkt(cleaned.geometries) == ["MULTILINESTRING Z ((0 0 5, 1 1 5))", "MULTILINESTRING Z ((0 0 0, 1 1 0))", None]


@pytest.mark.parametrize(
    ("kind", "texts"),
    [
        ("MULTIPOLYGON", [SQUARE, None, f"MULTIPOLYGON({SQUARE.removeprefix('POLYGON')})"]),
        ("MULTILINESTRING", ["LINESTRING Z(0 0 1,1 1 2)", "MULTILINESTRING Z((0 0 1,1 1 2),(3 3 3,4 4 4))"]),
        ("MULTIPOINT", ["POINT(1 2)", "MULTIPOINT((1 2),(3 4))"]),
        ("POINT", ["POINT(1 2)", None]),
    ],
)
def test_promoting_bytes_gives_what_promoting_geometries_gives(kind, texts):
    array, has_z = wkb(*texts), "Z" in texts[0]
    cleaned = clean(array, {})
    fit(cleaned, kind, has_z=has_z)
    assert promote_wkb(array, kind, has_z=has_z).to_pylist() == to_wkb(cleaned.geometries, has_z=has_z).to_pylist()


def survey(*texts):
    result = Survey()
    for text in texts:
        array = wkb(text)
        result.add(Sound.nothing(Headers.of(array)), clean(array, {}))
    return result


def type_of(surveyed):
    ((kind, tally),) = surveyed.tallies.items()
    return table_type(kind, tally)


def test_points_stay_points_unless_one_is_a_multipoint():
    assert type_of(survey("POINT(1 2)", None)) == "POINT"
    assert type_of(survey("POINT(1 2)", "MULTIPOINT((1 2))")) == "MULTIPOINT"
    assert type_of(survey("LINESTRING(0 0,1 1)")) == "MULTILINESTRING"


def test_dimensions_that_no_one_table_holds_are_seen():
    assert survey("POINT(1 2)", SQUARE).mixed
    assert survey("GEOMETRYCOLLECTION(POINT(1 2),LINESTRING(0 0,1 1))").mixed
    assert not survey(SQUARE, f"MULTIPOLYGON({SQUARE.removeprefix('POLYGON')})").mixed
    assert survey("POINT(1 2)", "POINT(1 2)", SQUARE).type_counts() == "2 Point, 1 Polygon"


def test_only_bytes_that_need_no_work_are_passed_on_as_they_are():
    assert survey(SQUARE, None).wkb_as_is
    assert survey(SQUARE, BOWTIE).changed == [1]
    assert not survey("POINT Z(1 2 3)", "POINT(1 2)").wkb_as_is
    assert survey("POINT M(1 2 3)").changed == [0]


def test_a_layer_that_was_found_sound_is_not_checked_again():
    assert survey(SQUARE, None).untouched
    assert clean(wkb(BOWTIE), {}, sound=True).repaired == {}


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("GEOMETRYCOLLECTION (POINT Z (1 2 3), POINT (4 5))", "MULTIPOINT Z ((1 2 3), (4 5 0))"),
        (
            "GEOMETRYCOLLECTION (POINT Z (1 2 3), LINESTRING (4 5, 6 7))",
            "GEOMETRYCOLLECTION Z (POINT Z (1 2 3), LINESTRING Z (4 5 0, 6 7 0))",
        ),
    ],
)
def test_members_of_a_collection_without_height_get_0_and_are_counted(written, expected):
    cleaned = clean(wkb(written, "POINT Z (1 2 3)"), {})
    assert cleaned.geometries[0].wkt == expected
    assert (dict(cleaned.repaired), cleaned.changed) == ({geometry.WITHOUT_HEIGHT: 1}, {0})


def test_a_collection_of_one_kind_is_a_multi_geometry():
    cleaned = clean(
        wkb(f"GEOMETRYCOLLECTION({SQUARE}, GEOMETRYCOLLECTION(POLYGON((5 5,6 5,6 6,5 5)), POLYGON EMPTY))"), {}
    )
    assert cleaned.repaired == {geometry.COLLECTION_OF_ONE_KIND: 1}
    assert (cleaned.geometries[0].geom_type, cleaned.geometries[0].area) == ("MultiPolygon", 1.5)


def test_what_lies_beyond_the_domain_is_rejected_and_its_extent_remembered():
    cleaned = clean(wkb("POINT(10 50)", "POINT(10 95)", "POINT(500000 6000000)"), {}, domain=(-360, -90, 360, 90))
    assert cleaned.reasons == {1: geometry.OFF_THE_GLOBE, 2: geometry.OFF_THE_GLOBE}
    assert cleaned.strays.tolist() == [10, 95, 500000, 6000000]


@pytest.mark.parametrize("kind", ["POINT", "LINESTRING", "POLYGON", "MULTIPOINT", "MULTILINESTRING", "MULTIPOLYGON"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
def test_coordinates_that_are_no_numbers_are_found_in_every_type(kind, bad):
    ring = [[0, 0], [1, 0], [1, 1], [0, 0]]
    ring[2] = [bad, 1]
    shape = {
        "POINT": lambda: shapely.points(bad, 1),
        "LINESTRING": lambda: shapely.linestrings(ring),
        "POLYGON": lambda: shapely.polygons(ring),
        "MULTIPOINT": lambda: shapely.multipoints(ring),
        "MULTILINESTRING": lambda: shapely.multilinestrings([shapely.linestrings(ring)]),
        "MULTIPOLYGON": lambda: shapely.multipolygons([shapely.polygons(ring)]),
    }[kind]()
    cleaned = clean(pa.array([shapely.to_wkb(shape), shapely.to_wkb(shapely.Point(1, 2))]), {})
    assert cleaned.reasons == {0: geometry.NOT_FINITE}


def _scribble(vertices, size=1.0, at=0.0):
    return np.random.default_rng(5).uniform(at, at + size, (vertices, 2))


def test_a_scribble_is_rejected_with_a_reason_before_its_repair_takes_minutes():
    cleaned = clean(pa.array(shapely.to_wkb([shapely.Polygon(_scribble(5000)), shapely.from_wkt(BOWTIE)])), {})
    assert cleaned.reasons == {0: TANGLED}
    assert cleaned.repairs == {1: "Self-intersection"}


def test_a_tangle_that_is_a_small_part_of_a_large_outline_is_found():
    angle = np.linspace(0, 2 * np.pi, 300_000, endpoint=False)
    circle = np.column_stack([np.cos(angle), np.sin(angle)])
    assert is_tangled(shapely.Polygon(np.vstack([circle, _scribble(1000, 0.5)])))
    bent = np.vstack([circle, [[0.9, 0.9], [0.5, -0.9]]])
    assert not is_tangled(shapely.Polygon(bent))
    assert is_tangled(shapely.GeometryCollection([shapely.MultiPolygon([shapely.Polygon(_scribble(1000))])]))


def test_edges_that_touch_or_lie_upon_each_other_are_no_tangle():
    cells = [shapely.box(x, y, x + 1, y + 1) for x in range(40) for y in range(40)]
    assert not is_tangled(shapely.multipolygons(cells))
    assert not is_tangled(shapely.multipolygons([shapely.box(0, 0, 1, 1)] * 2000))
    assert clean(pa.array([shapely.to_wkb(shapely.multipolygons(cells))]), {}).reasons == {}


NUMBERS = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**6), 10**6)


@given(st.data())
def test_wkb_of_a_geojson_geometry_is_that_of_geos(data):
    width = data.draw(st.sampled_from([2, 3]))
    position = st.lists(NUMBERS, min_size=width, max_size=width)
    line = st.lists(position, min_size=2, max_size=5)
    ring = st.lists(position, min_size=4, max_size=6).map(lambda positions: [*positions[:-1], positions[0]])
    polygon = st.lists(ring, min_size=1, max_size=3)
    kind, nested = data.draw(
        st.sampled_from([
            ("Point", position), ("LineString", line), ("Polygon", polygon),
            ("MultiPoint", st.lists(position, min_size=1, max_size=3)),
            ("MultiLineString", st.lists(line, min_size=1, max_size=3)),
            ("MultiPolygon", st.lists(polygon, min_size=1, max_size=3)),
        ])
    )  # fmt: skip
    geometry = {"type": kind, "coordinates": data.draw(nested)}
    expected = shapely.to_wkb(shapely.from_geojson(json.dumps(geometry)), flavor="iso")
    assert geojson_to_wkb(geometry) == expected


ODD = NUMBERS | st.none() | st.booleans() | st.text(max_size=3) | st.dictionaries(st.text(max_size=2), NUMBERS)


@given(st.recursive(ODD, lambda inner: st.lists(inner, max_size=3), max_leaves=12))
def test_a_fault_of_a_geojson_polygon_is_found_alone_as_among_others(coordinates):
    def outcome(kind, nested):
        try:
            return geojson_to_wkb({"type": kind, "coordinates": nested})
        except BadGeometryError as error:
            return str(error)

    alone, member = outcome("Polygon", coordinates), outcome("MultiPolygon", [coordinates, []])
    if isinstance(alone, bytes):
        assert member[9 : 9 + len(alone)] == alone
    else:
        assert member == alone


@given(st.data())
def test_geometries_as_text_are_those_that_python_makes_of_them_one_by_one(data):
    kind = data.draw(
        st.sampled_from(["Point", "LineString", "Polygon", "MultiPoint", "MultiLineString", "MultiPolygon"])
    )
    depth = {"Point": 0, "LineString": 1, "MultiPoint": 1, "MultiPolygon": 3}.get(kind, 2)
    leaf = st.floats() | st.integers() if data.draw(st.booleans()) else ODD
    nested = st.lists(leaf, min_size=2, max_size=3)
    for _ in range(depth):
        nested = st.lists(nested, max_size=4)
    texts = [
        json.dumps({"type": kind, "coordinates": coordinates}, indent=data.draw(st.sampled_from([None, 1])))
        for coordinates in data.draw(st.lists(nested, min_size=1, max_size=4))
    ]
    assert {kind_of_text(text) for text in texts} == {kind}
    made = wkb_of_texts(kind, texts)
    if made is not None:
        assert made == [geojson_to_wkb(json.loads(text)) for text in texts]


@pytest.mark.parametrize(
    "number", ["1", "-0.0", "0.1", "1E2", "12345678901234567890", "1e-400", "7.123456789012345678901"]
)
def test_numbers_of_geometries_as_text_are_read_as_python_reads_them(number):
    text = f'{{"coordinates": [[[0, 0], [{number}, 0], [1.5, {number}], [0, 0]]], "bbox": [1, 2], "type": "Polygon"}}'
    assert wkb_of_texts("Polygon", [text]) == [geojson_to_wkb(json.loads(text))]


@pytest.mark.parametrize(
    "text", ["[1]", "[1, null]", '["1", 2]', "[true, 2]", "[[1, 2]]", "[]", "null", "[1, 2, 3, 4]"]
)
def test_a_geometry_as_text_that_is_not_as_most_are_is_left_to_who_looks_at_each(text):
    assert wkb_of_texts("Point", [f'{{"type": "Point", "coordinates": {text}}}']) is None
