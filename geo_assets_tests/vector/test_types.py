import json
from collections import Counter
from decimal import Decimal
from uuid import UUID

import pyarrow as pa
import pytest

from geo_assets.errors import GeoAssetsError
from geo_assets.vector.models import ColumnPlan
from geo_assets.vector.reader.conversion import (
    BEYOND_YEARS,
    HALF_CHARACTER,
    NO_JSON_NUMBER,
    NOT_JSON,
    NOT_UTF8,
    NUL_REMOVED,
    as_json,
    convert,
    wire_type,
)
from geo_assets.vector.types import arrow_type, sql_type
from geo_assets.wire import checked


@pytest.mark.parametrize(
    ("arrow", "wire", "sql"),
    [
        (pa.uint8(), "int16", "smallint"),
        (pa.uint32(), "int64", "bigint"),
        (pa.uint64(), "decimal(20, 0)", "numeric(20,0)"),
        (pa.float16(), "float32", "real"),
        (pa.large_string(), "string", "text"),
        (pa.string_view(), "string", "text"),
        (pa.null(), "string", "text"),
        (pa.dictionary(pa.int8(), pa.string()), "string", "text"),
        (pa.binary(16), "binary", "bytea"),
        (pa.date64(), "date32", "date"),
        (pa.time32("ms"), "time64[us]", "time"),
        (pa.timestamp("ns"), "timestamp[us]", "timestamp"),
        (pa.timestamp("ms", "Europe/Paris"), "timestamp[us, UTC]", "timestamptz"),
        (pa.decimal128(5, -2), "decimal(7, 0)", "numeric(7,0)"),
        (pa.decimal256(70, 3), "decimal(70, 3)", "numeric(70,3)"),
        (pa.large_list(pa.large_string()), "list<string>", "text[]"),
        (pa.list_(pa.uint8(), 3), "list<int16>", "smallint[]"),
        (pa.list_(pa.list_(pa.int32())), "json", "jsonb"),
        (pa.struct([("a", pa.int32())]), "json", "jsonb"),
        (pa.map_(pa.string(), pa.int32()), "json", "jsonb"),
        (pa.json_(), "json", "jsonb"),
        (pa.uuid(), "string", "text"),
        (pa.duration("s"), "duration[us]", "interval"),
    ],
)
def test_every_arrow_type_has_one_counterpart_in_postgresql(arrow, wire, sql):
    assert wire_type("c", arrow) == wire
    assert sql_type(wire) == sql
    assert wire_type("c", arrow_type(wire)) == wire  # a wire type is its own


def test_a_type_without_counterpart_names_its_column():
    with pytest.raises(GeoAssetsError, match=r"'odd'.*union") as caught:
        wire_type("odd", pa.sparse_union([pa.field("a", pa.int32())]))
    assert caught.value.code == "VECTOR_UNSUPPORTED_TYPE"


def test_a_plan_cannot_carry_sql_of_the_childs_own():
    said = {"position": 0, "source_name": "a", "name": "a", "arrow_type": "int32", "sql_type": "integer"}
    assert checked(ColumnPlan, said).name == "a"
    with pytest.raises(ValueError, match="not loaded as"):
        checked(ColumnPlan, {**said, "sql_type": "integer); drop table x; --"})
    with pytest.raises(ValueError, match="pattern"):
        checked(ColumnPlan, {**said, "name": 'a"; drop'})


def test_unsigned_64_bit_integers_keep_their_value():
    assert convert(pa.array([2**64 - 1, None], pa.uint64()), "decimal(20, 0)", Counter()).to_pylist() == [
        Decimal(2**64 - 1),
        None,
    ]


def test_empty_text_and_null_stay_apart():
    assert convert(pa.array(["", None, "x"]), "string", Counter()).to_pylist() == ["", None, "x"]


def test_nul_characters_are_removed_and_counted():
    notes = Counter()
    assert convert(pa.array(["a\0b", "c"]), "string", notes).to_pylist() == ["ab", "c"]
    assert convert(pa.array([["x\0"], ["y"]]), "list<string>", notes).to_pylist() == [["x"], ["y"]]
    assert notes == {NUL_REMOVED: 2}


def test_bytes_that_are_not_utf8_are_replaced_and_counted():
    notes = Counter()
    faulty = pa.array([b"caf\xe9", b"ok", None], pa.binary()).view(pa.string())
    assert convert(faulty, "string", notes).to_pylist() == ["caf\ufffd", "ok", None]
    assert notes == {NOT_UTF8: 1}


def test_nested_values_become_json_that_jsonb_takes():
    array = pa.array([{"a": [1.5, float("nan")], "b": b"\x00", "c": "x\0"}, None])
    notes = Counter()
    (text, nothing) = convert(array, "json", notes).storage.to_pylist()
    assert json.loads(text) == {"a": [1.5, None], "b": "AA==", "c": "x"}
    assert nothing is None
    assert notes == {NO_JSON_NUMBER: 1, NUL_REMOVED: 1}


@pytest.mark.parametrize(
    "beyond",
    [pa.array([2**30], pa.int32()).view(pa.date32()), pa.array([2**62]).view(pa.timestamp("us"))],
    ids=["d", "t"],
)
def test_a_date_beyond_the_years_of_json_is_null_there_and_counted(beyond):
    nested = pa.StructArray.from_arrays([pa.array([1]), beyond], ["n", "when"])
    lists = pa.ListArray.from_arrays(pa.array([0, 1], pa.int32()), nested)
    notes = Counter()
    assert convert(nested, "json", notes).storage.to_pylist() == ['{"n": 1, "when": null}']
    assert convert(lists, "json", notes).storage.to_pylist() == ['[{"n": 1, "when": null}]']
    assert as_json(["n", "when"], [pa.array([1]), beyond], 1, notes).storage.to_pylist() == ['{"n": 1, "when": null}']
    assert notes == {BEYOND_YEARS: 3}


def test_maps_become_objects_unless_a_key_repeats():
    array = pa.array([[("k", 1), ("l", 2)]], pa.map_(pa.string(), pa.int32()))
    assert convert(array, "json", Counter()).storage.to_pylist() == ['{"k": 1, "l": 2}']
    array = pa.array([[("k", 1), ("k", 2)]], pa.map_(pa.string(), pa.int32()))
    assert json.loads(convert(array, "json", Counter()).storage.to_pylist()[0]) == [["k", 1], ["k", 2]]


@pytest.mark.parametrize(
    ("text", "kept", "said"),
    [
        ('{"a": 1}', {"a": 1}, []),
        ("x", "x", [NOT_JSON]),
        ("NaN", "NaN", [NOT_JSON]),
        ('"\\u0000a"', "a", [NUL_REMOVED]),
        ('"\\ud800"', "\ufffd", [f"text {HALF_CHARACTER}"]),
    ],
)
def test_json_text_is_kept_or_made_fit(text, kept, said):
    notes = Counter()
    array = pa.ExtensionArray.from_storage(pa.json_(), pa.array([text]))
    assert json.loads(convert(array, "json", notes).storage.to_pylist()[0]) == kept
    assert notes == dict.fromkeys(said, 1)


def test_uuids_are_written_as_uuids_are():
    value = UUID("12345678-1234-5678-1234-567812345678")
    assert convert(pa.array([value.bytes], pa.uuid()), "string", Counter()).to_pylist() == [str(value)]


def test_time_zones_become_utc_and_only_nanoseconds_are_cut():
    paris = pa.array([0], pa.timestamp("s", "Europe/Paris"))
    assert convert(paris, "timestamp[us, UTC]", Counter()).cast(pa.int64()).to_pylist() == [0]
    assert convert(pa.array([1999], pa.timestamp("ns")), "timestamp[us]", Counter()).cast(pa.int64()).to_pylist() == [1]
    with pytest.raises(pa.ArrowInvalid):
        convert(pa.array([2**62], pa.timestamp("s")), "timestamp[us]", Counter())
