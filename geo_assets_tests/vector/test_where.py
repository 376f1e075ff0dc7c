"""Conditions: what the grammar allows means the same as in PostgreSQL; everything else is refused in one sentence."""

import contextlib
import datetime as dt
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql

from geo_assets.errors import GeoAssetsError
from geo_assets.vector.reader.conditions import evaluate
from geo_assets.vector.types import arrow_type
from geo_assets.vector.where import Both, Compare, Either, IsNull, Like, Not, OneOf, find_column, parse


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "a =",
        "= 1",
        "1 = 1",
        "a = b",
        "a = 1; drop table x",
        "1=1; drop table x",
        "a in (select 1)",
        "a in ()",
        "a = 1 --",
        "a = 1 /* x */",
        "a = NULL",
        "a like 5",
        "a like 'x\\'",
        "a is 5",
        "a between 1",
        "(a = 1",
        "a = 1)",
        "a = 'x",
        'a" = 1',
        "a == 1",
        "a = 1 b = 2",
        "load_extension('x')",
        "a = 1e9999999",
        "a = 0x10",
        "a = $1",
        "a = '\0'",
        "not",
        "a or",
        "(" * 200 + "a = 1" + ")" * 200,
        "not " * 200 + "a = 1",
        "a = 1 and " * 2000 + "a = 1",
        "exists (select 1)",
        "a = (1)",
        "a::int = 1",
        "sqlite_version() = 'x'",
    ],
)
def test_what_is_not_of_the_grammar_is_refused_in_one_sentence(text):
    with pytest.raises(GeoAssetsError) as caught:
        parse(text)
    assert caught.value.code == "INVALID_FILTER"
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("a = 1", Compare("a", "=", Decimal(1))),
        ("a != -1.5e3", Compare("a", "<>", Decimal("-1.5e3"))),
        ("\"a \"\"b\" = 'it''s'", Compare('a "b', "=", "it's")),
        ("größe >= .5", Compare("größe", ">=", Decimal("0.5"))),
        ("NOT a IS NOT NULL", Not(Not(IsNull("a")))),
        ("a not in (1, TRUE)", Not(OneOf("a", (Decimal(1), True)))),
        ("a not like '%x_'", Not(Like("a", "%x_"))),
        ("a between 1 and 2 and b = false", Both(Both(Compare("a", ">=", Decimal(1)), Compare("a", "<=", Decimal(2))), Compare("b", "=", False))),
        ("a=1 or b=2 and c=3", Either(Compare("a", "=", Decimal(1)), Both(Compare("b", "=", Decimal(2)), Compare("c", "=", Decimal(3))))),
        ("(a=1 or b=2) and c=3", Both(Either(Compare("a", "=", Decimal(1)), Compare("b", "=", Decimal(2))), Compare("c", "=", Decimal(3)))),
    ],
)  # fmt: skip
def test_the_grammar(text, tree):
    assert parse(text) == tree


@given(st.text(max_size=80))
def test_any_text_is_a_condition_or_is_refused(text):
    with contextlib.suppress(GeoAssetsError):
        parse(text)


def test_a_column_is_found_to_the_letter_or_in_any_case_and_never_guessed():
    assert find_column("AREA", ["area", "AREA"], "where", "t") == 1
    assert find_column("Area", ["x", "area"], "where", "t") == 1
    for wanted, names in (("Area", ["area", "AREA"]), ("b", ["a"]), ("b", [])):
        with pytest.raises(GeoAssetsError) as caught:
            find_column(wanted, names, "where", "t")
        assert caught.value.code == "UNKNOWN_COLUMN"


# -- against PostgreSQL ------------------------------------------------------------------------------------------------

_TYPES = {
    "int16": "smallint",
    "int64": "bigint",
    "float32": "real",
    "float64": "double precision",
    "decimal(20, 2)": "numeric(20,2)",
    "string": 'text collate "C"',
    "bool": "boolean",
    "date32": "date",
    "timestamp[us]": "timestamp",
}
_VALUES = {
    "int16": [0, 1, -1, 2**15 - 1, -(2**15), None],
    "int64": [0, 1, -7, 2**53 + 1, 2**63 - 1, -(2**63), None],
    "float32": [0.0, -0.0, 0.2, 1.5, float("nan"), float("inf"), float("-inf"), None],
    "float64": [0.0, 0.1, 0.2, 1e300, -1.5, float("nan"), float("inf"), None],
    "decimal(20, 2)": [Decimal("0.00"), Decimal("0.01"), Decimal("-12.50"), Decimal("123456789012345678.99"), None],
    "string": ["", "a", "A", "ab", "a%b", "a_b", "\\", "é", "漢\n", "it's", "🌍x", None],
    "bool": [True, False, None],
    "date32": [dt.date(1970, 1, 1), dt.date(2020, 2, 29), None],
    "timestamp[us]": [dt.datetime.fromisoformat(t) for t in ("1970-01-01", "2020-02-29 12:30:15.250000")] + [None],
}
_NUMBERS = ["0", "1", "-1", "0.5", "-0.5", "0.2", "0.01", "32767", "32768", "-32769", "9007199254740993", "9223372036854775807",
            "9223372036854775808", "-9223372036854775809", "1e10", "12345678901234567890.5"]  # fmt: skip
_LITERALS = {
    **dict.fromkeys(["int16", "int64", "float32", "float64", "decimal(20, 2)"], _NUMBERS),
    "string": ["''", "'a'", "'A'", "'ab'", "'é'", "'it''s'", "'\\'", "'a%'"],
    "bool": ["TRUE", "FALSE"],
    "date32": ["'1970-01-01'", "'2020-02-29'", "'2020-03-01'"],
    "timestamp[us]": ["'1970-01-01'", "'2020-02-29 12:30:15.25'", "'2020-02-29T00:00:00'"],
}
_PATTERNS = ["'%'", "'a%'", "'_'", "'a\\%b'", "'%\\_%'", "'é'", "'%x'", "'\\\\'", "'__'", "''"]


@st.composite
def predicates(draw):
    wire = draw(st.sampled_from(sorted(_TYPES)))
    column = f'"{wire}"'
    literal = st.sampled_from(_LITERALS[wire])
    operators = ["=", "<>"] if wire == "bool" else ["=", "<>", "!=", "<", "<=", ">", ">="]
    kinds = ["compare", "null"] + (
        ["in"] if wire != "float32" else []
    )  # PostgreSQL itself takes `= 0.2` and `in (0.2)` differently there
    kinds += (["between"] if wire != "bool" else []) + (["like"] if wire == "string" else [])
    match draw(st.sampled_from(kinds)):
        case "compare":
            return f"{column} {draw(st.sampled_from(operators))} {draw(literal)}"
        case "in":
            return (
                f"{column} {draw(st.sampled_from(['in', 'NOT IN']))}"
                f" ({', '.join(draw(st.lists(literal, min_size=1, max_size=3)))})"
            )
        case "between":
            return f"{column} between {draw(literal)} and {draw(literal)}"
        case "like":
            return f"{column} {draw(st.sampled_from(['like', 'not like']))} {draw(st.sampled_from(_PATTERNS))}"
        case _:
            return f"{column} is {draw(st.sampled_from(['', 'not ']))}null"


def combined(inner):
    return st.one_of(
        st.builds("NOT ({})".format, inner),
        st.builds("({}) AND ({})".format, inner, inner),
        st.builds("({}) OR ({})".format, inner, inner),
    )


@pytest.fixture(scope="module")
def rows(dsn):
    """One table and the same values in Arrow: every value of every type, in random rows."""
    import psycopg

    rng = np.random.default_rng(3)
    columns = {wire: [values[i] for i in rng.integers(0, len(values), 60)] for wire, values in _VALUES.items()}
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("drop table if exists public.conditions")
        listed = ", ".join(f'"{wire}" {kind}' for wire, kind in _TYPES.items())
        conn.execute(f"create table public.conditions (place int, {listed})")
        with conn.cursor() as cursor, cursor.copy("copy public.conditions from stdin") as copy:
            for place, row in enumerate(zip(*columns.values(), strict=True)):
                copy.write_row((place, *row))
        yield conn, {wire: (pa.array(values, arrow_type(wire)), wire) for wire, values in columns.items()}
        conn.execute("drop table public.conditions")


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.recursive(predicates(), combined, max_leaves=6))
def test_a_condition_is_evaluated_as_postgresql_does(rows, text):
    conn, columns = rows
    expected = [
        place
        for (place,) in conn.execute(
            sql.SQL("select place from public.conditions where {} order by place").format(sql.SQL(text))
        )
    ]
    mask = evaluate(parse(text), lambda name: columns[name]).to_pylist()
    assert [place for place, met in enumerate(mask) if met] == expected


@pytest.mark.parametrize(
    ("wire", "text"),
    [
        ("string", "c = 1"),
        ("int64", "c = '1'"),
        ("bool", "c = 1"),
        ("bool", "c > TRUE"),
        ("date32", "c = '2020-13-01'"),
        ("date32", "c = 20200101"),
        ("timestamp[us, UTC]", "c > '2020-01-01'"),
        ("timestamp[us]", "c > '2020-01-01T00:00Z'"),
        ("json", "c = 'x'"),
        ("list<string>", "c in ('x')"),
        ("binary", "c = 'x'"),
        ("int64", "c like '1%'"),
        ("float64", "c > 1e400"),
    ],
)
def test_a_literal_of_another_type_is_refused(wire, text):
    with pytest.raises(GeoAssetsError) as caught:
        evaluate(
            parse(text),
            lambda _: (
                pa.nulls(2, pa.string()).cast(pa.string()) if wire == "json" else pa.nulls(2, arrow_type(wire)),
                wire,
            ),
        )
    assert caught.value.code == "INVALID_FILTER"
    assert "'c'" in str(caught.value) or "double precision" in str(caught.value)


def test_a_moment_with_an_offset_is_compared_in_utc():
    values = pa.array([dt.datetime(2020, 1, 1, 12, tzinfo=dt.UTC)], arrow_type("timestamp[us, UTC]"))
    assert evaluate(parse("t = '2020-01-01T14:00+02:00'"), lambda _: (values, "timestamp[us, UTC]")).to_pylist() == [
        True
    ]
