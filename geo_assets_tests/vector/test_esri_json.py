"""Esri JSON: the contents of a file are in the table, or the reason why not is reported."""

import json

import pytest
import shapely
from pyproj import CRS

from geo_assets.vector.reader.esri_json import ANOTHER_CRS

KINDS = {"a": "esriFieldTypeInteger"}


def write(path, kind, geometries, attributes=None, kinds=KINDS, **members):
    rows = attributes or [{"a": place} for place in range(len(geometries))]
    fields = [{"name": name, "type": type_} for name, type_ in kinds.items()]
    features = [{"attributes": row, "geometry": geometry} for row, geometry in zip(rows, geometries, strict=True)]
    document = {
        "geometryType": f"esriGeometry{kind}",
        "spatialReference": {"wkid": 4326},
        "fields": fields,
        "features": features,
        **members,
    }
    path.write_text(json.dumps(document))
    return path


RING = [[0, 0], [0, 1], [1, 1], [0, 0]]


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (
            "Polygon",
            {"rings": [RING]},
            [
                {"rings": [[[0, 0], [0, "x"], [1, 1], [0, 0]]]},
                {"rings": [[[0, 0], [0], [1, 1], [0, 0]]]},
                {"rings": [[[0, 0], [0, None], [1, 1], [0, 0]]]},
                {"rings": [RING, [5]]},
                {"rings": "x"},
                {"curveRings": [[[0, 0], {"c": [[1, 1], [0, 1]]}, [0, 0]]]},
                "a polygon",
                [RING],
            ],
        ),
        ("Polyline", {"paths": [[[0, 0], [1, 1]]]}, [{"paths": [[[0, 0], ["x", 1]]]}, {"paths": 5}, {"curvePaths": [[[0, 0], {"c": []}]]}]),
        ("Multipoint", {"points": [[0, 0], [1, 1]]}, [{"points": [[0, 0], ["x", 1]]}, {"points": [[0]]}]),
        ("Point", {"x": 1, "y": 2}, [{"x": "1", "y": 2}, {"x": 1}, {"x": "NaN", "y": 2}, {"x": 1, "y": 2, "z": "high"}, {"x": [1], "y": {}}]),
    ],
)  # fmt: skip
def test_a_geometry_that_cannot_be_read_is_rejected_with_its_place_and_not_loaded_as_null(
    tmp_path, load, db, kind, good, bad
):
    table = f"esri_{kind.lower()}"
    loaded = load(write(tmp_path / "a.json", kind, [good, *bad, None, {}, good]), table)
    assert sum(loaded.plan.rejected_by_reason.values()) == len(bad)
    assert set(loaded.plan.rejected_by_reason) <= {
        "coordinates that cannot be read",
        "curves of Esri's, which cannot be read",
        "not a feature",
    }
    last = len(bad) + 3
    assert db.rows("select a, geom is null from {t} order by gid", t=loaded.table) == [
        (0, False), (last - 2, True), (last - 1, True), (last, False),
    ]  # fmt: skip
    rejects = db.rows("select src_fid, (attributes->>'a')::int from {t} order by src_fid", t=f"{loaded.table}__rejects")
    assert rejects == [(place + 1, place) for place in range(1, len(bad) + 1)]


@pytest.mark.parametrize("empty", [None, {}, {"x": None, "y": None}, {"x": "NaN", "y": "NaN"}])
def test_an_empty_point_as_esri_writes_it_is_null(tmp_path, load, db, empty):
    loaded = load(write(tmp_path / "a.json", "Point", [{"x": 1, "y": 2}, empty]), "esri_empty")
    assert loaded.plan.rejected_by_reason == {}
    assert db.rows("select a, st_astext(geom) from vector.esri_empty order by gid") == [(0, "POINT(1 2)"), (1, None)]


def test_what_is_no_feature_is_rejected(tmp_path, load):
    path = write(tmp_path / "a.json", "Point", [{"x": 1, "y": 2}])
    document = json.loads(path.read_text())
    document["features"] += [5, "x", None]
    path.write_text(json.dumps(document))
    loaded = load(path, "esri_none")
    assert (loaded.tables[0].rows, loaded.plan.rejected_by_reason) == (1, {"not a feature": 3})


def test_object_ids_below_zero_twice_or_large_lose_no_feature_and_do_not_sort_them(tmp_path, load, db):
    ids = [5, -3, 3_000_000_000, 5, None, 0]
    path = write(
        tmp_path / "a.json",
        "Point",
        [{"x": place, "y": 2} for place in range(len(ids))],
        [{"OBJECTID": ident, "a": place} for place, ident in enumerate(ids)],
        {"OBJECTID": "esriFieldTypeOID", **KINDS},
        objectIdFieldName="OBJECTID",
    )
    load(path, "esri_ids")
    assert db.rows("select objectid, a from vector.esri_ids order by gid") == list(
        zip(ids, range(len(ids)), strict=True)
    )


def test_values_that_are_none_of_their_columns_are_null_and_said(tmp_path, load, db):
    kinds = {
        "n": "esriFieldTypeInteger",
        "s": "esriFieldTypeSmallInteger",
        "d": "esriFieldTypeDouble",
        "t": "esriFieldTypeDate",
    }
    rows = [
        {"n": "N/A", "s": 70_000, "d": "12,5", "t": "soon"},
        {"n": 1.5, "s": 1, "d": "12.5", "t": 1_662_640_169_000},
        {"n": 2**63 - 1, "s": None, "d": 3, "t": None},
        {"n": "12", "s": 2, "d": None, "t": None},
    ]
    loaded = load(write(tmp_path / "a.json", "Point", [{"x": 1, "y": 2}] * len(rows), rows, kinds), "esri_values")
    assert db.rows("select n, s, d, t at time zone 'UTC' is not null from vector.esri_values order by gid") == [
        (None, 70_000, None, False), (None, 1, 12.5, True), (2**63 - 1, None, 3.0, False), (12, 2, None, False),
    ]  # fmt: skip
    told = " ".join(loaded.plan.warnings)
    assert all(original in told for original in ("N/A", "1.5", "12,5", "soon"))
    assert db.value("select st_astext(geom) from vector.esri_values limit 1") == shapely.Point(1, 2).wkt.replace(
        "POINT (", "POINT("
    )


def test_moments_are_those_that_are_written_or_null_and_said(tmp_path, load, db):
    written = [
        -1, -1000, 0, 1_500_000_000_123, 253_402_300_799_999, 253_402_300_800_000, -62_135_596_800_000, 1.5,
        "1969-12-31T23:59:58Z", "2020-01-01T00:00:00+01:00", "2020-01-01",
    ]  # fmt: skip
    path = write(
        tmp_path / "a.json", "Point", [{"x": 1, "y": 2}] * len(written), [{"t": each} for each in written], {"t": "esriFieldTypeDate"},
    )  # fmt: skip
    loaded = load(path, "esri_moments")
    shown = "to_char(t at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS.MS')"
    found = [row[0] for row in db.rows(f"select {shown} from vector.esri_moments order by gid")]
    assert found == [
        None, "1969-12-31 23:59:59.000", "1970-01-01 00:00:00.000", "2017-07-14 02:40:00.123", "9999-12-31 23:59:59.999", None,
        "0001-01-01 00:00:00.000", None, "1969-12-31 23:59:58.000", "2019-12-31 23:00:00.000", None,
    ]  # fmt: skip
    assert "'t': 4 values not a date, now NULL: '-1', '253402300800000', '1.5', '2020-01-01'" in loaded.plan.warnings


def test_numbers_that_gdal_would_change_are_exact_or_null_and_said(tmp_path, load, db):
    kinds = {"s": "esriFieldTypeSingle", "d": "esriFieldTypeDouble"}
    rows = [{"s": 1e39, "d": 2**53 + 1}, {"s": 1.5, "d": 1e39}]
    loaded = load(write(tmp_path / "a.json", "Point", [{"x": 1, "y": 2}] * 2, rows, kinds), "esri_numbers")
    assert db.rows("select s, d from vector.esri_numbers order by gid") == [(None, None), (1.5, 1e39)]
    said = " ".join(loaded.plan.warnings)
    assert all(f"not a number, now NULL: '{original}'" in said for original in ("1e+39", "9007199254740993"))


def test_undeclared_numbers_of_many_digits_are_text(tmp_path, load, db):
    rows = [{"a": 2**53 + 1, "b": 2**63, "c": 2**53 + 1}, {"a": 1.5, "b": -1, "c": 1}]
    path = write(tmp_path / "a.json", "Point", [{"x": 1, "y": 2}] * 2, rows)
    document = json.loads(path.read_text())
    del document["fields"]
    path.write_text(json.dumps(document))
    load(path, "esri_digits")
    assert db.rows("select a, b, c from vector.esri_digits order by gid") == [
        ("9007199254740993", "9223372036854775808", 2**53 + 1), ("1.5", "-1", 1),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("document", "own", "srid", "kept"),
    [
        ({"wkid": 25832}, [None, {"wkid": 4326}, {"wkid": 25832, "latestWkid": 25832}], 25832, [0, 2]),
        ({"wkid": 102100}, [{"wkid": 102100, "latestWkid": 3857}, {"wkid": 3857}, {"wkid": 25832}], 3857, [0, 1]),
        (None, [{"wkid": 25832}, None, {"wkid": 4326}], 25832, [0, 1]),
        ({"wkt": CRS(25832).to_wkt("WKT1_ESRI")}, [{"wkid": 25832}, {"wkid": 4326}], 25832, [0]),
    ],
)
def test_a_geometry_in_another_crs_than_that_of_its_file_is_rejected(tmp_path, load, db, document, own, srid, kept):
    geometries = [{"x": 1, "y": 2, **({"spatialReference": crs} if crs else {})} for crs in own]
    loaded = load(write(tmp_path / "a.json", "Point", geometries, spatialReference=document), "esri_crs")
    assert db.rows("select a, st_srid(geom) from vector.esri_crs order by a") == [(a, srid) for a in kept]
    assert loaded.plan.rejected_by_reason == {ANOTHER_CRS: len(own) - len(kept)}
