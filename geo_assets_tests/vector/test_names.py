import re
import time
from dataclasses import replace

import pyarrow as pa
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from geo_assets.vector.models import ColumnPlan
from geo_assets.vector.names import (
    MAX_IDENTIFIER_BYTES,
    MAX_TABLE_NAME_BYTES,
    RESERVED,
    column_names,
    table_name,
    table_names,
)
from geo_assets.vector.schemas import wire_schema
from geo_assets_tests.vector.publishing import publish
from geo_assets_tests.vector.test_load import POINT, ipc, plan_of, stage

_ANY_TEXT = st.text(max_size=90)


def test_letters_are_folded_and_runs_of_the_rest_become_one_underscore():
    assert column_names(["Ünï côde", "a (m²)", "Straße", "CNTY_", "name:cs"]) == [
        "uni_code",
        "a_m2",
        "strasse",
        "cnty_",
        "name_cs",
    ]


def test_what_postgresql_reserves_gets_an_underscore():
    assert column_names(["select", "gid", "geom", "ctid", "User"]) == ["select_", "gid_", "geom_", "ctid_", "user_"]


def test_of_columns_that_fold_alike_the_one_written_so_keeps_its_name():
    names = column_names(["NAME", "name", "Name"])
    assert names[1] == "name"
    assert len(set(names)) == 3
    assert column_names(["Name", "NAME", "name"]) == [names[2], names[0], names[1]]  # whatever their order


def test_columns_with_one_name_are_told_apart():
    assert len(set(column_names(["a", "a", "a", ""]))) == 4


def test_a_name_without_any_usable_letter_is_a_hash():
    first, second = column_names(["漢字", "仮名"])
    assert first != second
    assert re.fullmatch(r"c_[0-9a-f]{8}", first)


def test_names_that_differ_only_beyond_the_limit_stay_different():
    one, other = column_names(["x" * 70 + "1", "x" * 70 + "2"])
    assert one != other
    assert len(one) == MAX_IDENTIFIER_BYTES


@given(st.lists(_ANY_TEXT, max_size=12))
@example(["a", "A", "a_", "_", ""])
@example(["gid", "gid_", "GID"])
def test_column_names_are_always_distinct_short_and_plain(originals):
    names = column_names(originals)
    assert len(set(names)) == len(originals)
    assert all(
        re.fullmatch(r"[a-z_][a-z0-9_]*", name) and len(name) <= MAX_IDENTIFIER_BYTES and name not in RESERVED
        for name in names
    )
    assert names == column_names(originals)


def test_a_table_is_named_for_its_collection_file_and_layer():
    assert table_name("samples", "NC counties", None) == "samples_nc_counties"
    assert table_name("", "roads", "Main Roads") == "roads_main_roads"
    assert table_name("", "2024") == "t_2024"


def test_a_hostile_layer_name_is_only_a_name():
    assert table_name("", "odd", "drop table; --") == "odd_drop_table"


def test_files_whose_letters_cannot_be_folded_get_different_tables():
    assert table_name("c", "漢字_2020") != table_name("c", "仮名_2020")


@given(_ANY_TEXT, _ANY_TEXT, st.none() | _ANY_TEXT)
def test_table_names_are_always_short_and_plain(prefix, stem, layer):
    name = table_name(prefix, stem, layer)
    assert re.fullmatch(r"[a-z_][a-z0-9_]*", name)
    assert len(name) <= MAX_TABLE_NAME_BYTES
    assert "__" not in name


def test_a_source_with_one_layer_gives_the_table_its_own_name():
    assert table_names("c", "roads", ["some layer"]) == ["c_roads"]


def test_the_layers_of_one_source_get_distinct_tables():
    names = table_names("c", "roads", ["A-b", "a b", "other"])
    assert len(set(names)) == 3
    assert names[2] == "c_roads_other"


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(originals=st.lists(_ANY_TEXT, min_size=1, max_size=8), layer=_ANY_TEXT)
def test_any_names_make_a_legal_table_whose_comments_have_the_originals(dsn, db, originals, layer):
    names, table = column_names(originals), table_name("", layer)
    columns = tuple(
        ColumnPlan(position=i, source_name=original, name=name, arrow_type="int32", sql_type="integer")
        for i, (original, name) in enumerate(zip(originals, names, strict=True))
    )
    plan = replace(plan_of(1), columns=columns, layer=layer)
    batch = pa.record_batch(
        [*([pa.array([1], pa.int32())] * len(names)), pa.array([POINT])], schema=wire_schema(columns)
    )
    publish(db.conn, stage(dsn, plan, ipc(batch.schema, batch), 1, table=table, suffix="n"))
    stored = db.rows(
        "select attname::text, col_description(attrelid, attnum) from pg_attribute where attrelid = %s::regclass and"
        " attnum > 1 order by attnum",
        f"vector.{table}",
    )
    db.run(f"drop table vector.{table}")
    plain = [original.replace("\0", "").encode("utf-8", "replace").decode() for original in originals]
    assert [(name, comment or "") for name, comment in stored] == [*zip(names, plain, strict=True), ("geom", "")]


def test_thousands_of_equal_names_are_made_distinct_as_one_by_one():
    began = time.process_time()
    names = column_names(["a"] * 3000)
    assert time.process_time() - began < 2
    assert len(set(names)) == 3000
    assert names[:4] == column_names(["a"] * 4)
