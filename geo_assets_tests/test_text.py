import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geo_assets.text import plain_name


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("DOP 2024 (Süd)", "DOP_2024_Sud_"),
        ("..hidden", "hidden"),
        ("正射", "x"),
        ("a%20b#c?d", "a_20b_c_d"),
        ("N45E007.SRTMGL1", "N45E007.SRTMGL1"),
    ],
)
def test_a_plain_name_needs_no_encoding_and_is_still_readable(text, plain):
    assert plain_name(text).rstrip("_") == plain.rstrip("_")


@given(st.text())
def test_any_name_becomes_one_that_every_program_opens(text):
    assert re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}", plain_name(text))
