"""Binary fields of a shapefile's DBF: their values, or NULL and a word about it; never the bytes as text."""

import datetime as dt
import struct
from decimal import Decimal

import pytest

from geo_assets.ledger.warnings import kind_of
from geo_assets.vector.reader import dbf_binary
from geo_assets_tests.vector.test_values import dbase, rows, values  # noqa: F401 - a fixture

FOXPRO, DBASE_3, DBASE_7 = 0x30, 0x03, 0x04
DAY = 2_460_000  # 2023-02-24


def marked(path, version, **flags):
    """Have a DBF say of which version it is, and which flags its fields have."""
    part = path.with_suffix(".dbf")
    data = bytearray(part.read_bytes())
    data[0] = version
    for start in range(32, struct.unpack_from("<H", data, 8)[0] - 1, 32):
        data[start + 18] = flags.get(data[start : start + 11].rstrip(b"\0").decode(), 0)
    part.write_bytes(data)
    return path


def moment(day, ms):
    return struct.pack("<ii", day, ms)


def test_binary_fields_of_foxpro_are_the_numbers_and_times_of_the_file(tmp_path, rows):  # noqa: F811
    fields = [
        ("N", "N", 5, 0),
        ("I", "I", 4, 0),
        ("B", "B", 8, 2),
        ("Y", "Y", 8, 4),
        ("T", "T", 8, 0),
        ("C", "C", 3, 0),
    ]
    path = dbase(
        tmp_path / "a.shp", fields,
        (b"1", struct.pack("<i", -5), struct.pack("<d", 2.5), struct.pack("<q", 12345), moment(DAY, 3_600_001), b"x"),
        (b"2", struct.pack("<i", 2**31 - 1), struct.pack("<d", -0.1), struct.pack("<q", -(2**63)), moment(0, 0), b"y"),
        (b"3", struct.pack("<i", 0), struct.pack("<d", 0), struct.pack("<q", 0), b" " * 8, b"z"),
    )  # fmt: skip
    found, said, plan, _ = rows(marked(path, FOXPRO))
    assert [c.sql_type for c in plan.columns] == ["integer", "integer", "double precision", "numeric(19,4)", "timestamp", "text"]  # fmt: skip
    assert (values(found, "i"), values(found, "b")) == ([-5, 2**31 - 1, 0], [2.5, -0.1, 0])
    assert values(found, "y") == [Decimal("1.2345"), Decimal("-922337203685477.5808"), 0]
    assert values(found, "t") == [dt.datetime.fromisoformat("2023-02-24T01:00:00.001"), None, None]
    assert (values(found, "n"), values(found, "c")) == ([1, 2, 3], ["x", "y", "z"])
    assert said == ""
    assert values(rows(path, where="i < 0")[0], "n") == [1]
    assert values(rows(path, where="t IS NULL")[0], "n") == [2, 3]


def test_binary_fields_without_a_value_are_null_and_counted(tmp_path, rows):  # noqa: F811
    path = dbase(
        tmp_path / "a.shp", [("I", "I", 4, 0), ("T", "T", 8, 0)],
        (b"", moment(99_999_999, 5)), (struct.pack("<i", 7), moment(DAY, 86_400_000)), (struct.pack("<i", 8), moment(DAY, -1)),
    )  # fmt: skip
    found, said, _, _ = rows(marked(path, FOXPRO))
    assert (values(found, "i"), values(found, "t")) == ([None, 7, 8], [None] * 3)
    assert "'I': 1 value of nothing but blanks, now NULL" in said
    assert "'T': 3 values not a time, now NULL: 'Julian day 99999999, 5 ms'" in said
    assert kind_of(f"'I': 1 value {dbf_binary.BLANK}") == "values made NULL"


def test_what_foxpro_marks_as_null_is_null(tmp_path, rows):  # noqa: F811
    fields = [("V", "V", 3, 0), ("I", "I", 4, 0), ("C", "C", 3, 0), ("J", "I", 4, 0), ("_NullFlags", "0", 1, 0)]
    one = struct.pack("<i", 1)
    path = dbase(tmp_path / "a.shp", fields, *((b"", one, b"x", one, bytes([bits])) for bits in (0, 2, 4, 6)))
    found, said, _, _ = rows(marked(path, 0x32, V=0, I=2, J=2, _NullFlags=5))
    assert (values(found, "i"), values(found, "j")) == ([1, None, 1, None], [1, 1, None, None])
    assert (values(found, "c"), said) == (["x"] * 4, "")
    assert set(found[0]) == {"v", "i", "c", "j", "geom"}  # the bits are said by the others


@pytest.mark.parametrize("version", [DBASE_3, 0x83, DBASE_7, FOXPRO])
def test_fields_that_are_not_read_are_null_and_named_in_one_warning(tmp_path, rows, version):  # noqa: F811
    kinds = "MGPO@+WX" + ("B" if version != FOXPRO else "") + ("I" if version == DBASE_7 else "")
    fields = [(f"F{i}", kind, 4 if kind == "I" else 8, 0) for i, kind in enumerate(kinds)]
    path = dbase(
        tmp_path / "a.shp", [*fields, ("EMPTY", "M", 10, 0)], (b"\xff\xfe\x01", *[b"1"] * (len(fields) - 1), b"")
    )
    found, said, _, _ = rows(marked(path, version))
    assert [value for name, value in found[0].items() if name != "geom"] == [None] * (len(fields) + 1)
    assert f"{len(kinds)} columns of its DBF are of kinds that are not read, now NULL: 'F0' (memo, kind 'M'), " in said
    assert "save it as a GeoPackage" in said
    assert "EMPTY" not in said
    assert "warning of GDAL" not in said


def test_decimals_of_a_text_do_not_switch_off_the_look_at_the_bytes(tmp_path, rows):  # noqa: F811
    fields = [("C", "C", 3, 2), ("I", "I", 4, 0), ("N", "N", 3, 0)]
    path = dbase(tmp_path / "a.shp", fields, (b"abc", struct.pack("<i", -5), b"N/A"))
    found, said, _, _ = rows(marked(path, FOXPRO))
    assert (values(found, "c"), values(found, "i"), values(found, "n")) == (["abc"], [-5], [None])
    assert "'N': 1 value not an integer that the column can hold, now NULL: 'N/A'" in said


@pytest.mark.parametrize("width", [1, 3, 7, 9, 200])
@pytest.mark.parametrize("kind", "IBYTM0+@")
def test_a_binary_field_of_a_width_that_its_kind_does_not_have_is_null(tmp_path, rows, kind, width):  # noqa: F811
    path = dbase(tmp_path / "a.shp", [("A", kind, width, 0), ("N", "N", 3, 0)], (b"\x81" * width, b"12"), (b"", b"13"))
    found, said, _, _ = rows(marked(path, FOXPRO, A=2))
    assert (values(found, "n"), "a" in found[0]) == ([12, 13], kind != "0")
    assert kind == "0" or values(found, "a") == [None, None]
    assert ("1 column of its DBF is of a kind that is not read, now NULL: 'A'" in said) == (kind != "0")


def test_binary_fields_and_hebrew_arrive_in_the_table(tmp_path, load, db):
    fields = [
        ("I", "I", 4, 0),
        ("B", "B", 8, 2),
        ("Y", "Y", 8, 4),
        ("T", "T", 8, 0),
        ("C", "C", 8, 0),
        ("M", "M", 4, 0),
    ]
    record = (
        struct.pack("<i", -5),
        struct.pack("<d", 2.5),
        struct.pack("<q", -12345),
        moment(DAY, 3_600_001),
        "שלום".encode("cp1255"),
        struct.pack("<i", 9),
    )
    load(marked(dbase(tmp_path / "a.shp", fields, record, page=0x7D), FOXPRO), "foxpro")
    found = db.rows("select i, b, y, t::text, c, m from {t}", t="vector.foxpro")
    assert found == [(-5, 2.5, Decimal("-1.2345"), "2023-02-24 01:00:00.001", "שלום", None)]
