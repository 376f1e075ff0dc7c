import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geo_assets.text import how_many, plain_name, without_name


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


@pytest.mark.parametrize(
    ("number", "words", "said"),
    [
        (0, ("file",), "0 files"),
        (1, ("file",), "1 file"),
        (1200, ("file",), "1,200 files"),
        (1, ("geometry is", "geometries are"), "1 geometry is"),
        (2, ("geometry is", "geometries are"), "2 geometries are"),
    ],
)
def test_one_thing_is_said_of_one_and_several_of_several(number, words, said):
    assert how_many(number, *words) == said


@pytest.mark.parametrize(
    ("said", "left"),
    [
        (
            "a.tif: TIFFReadDirectory:Failed to read directory at offset 8",
            "TIFFReadDirectory:Failed to read directory at offset 8",
        ),
        ("Unable to open a.tif, it has zero usable bands.", "Unable to open it, it has zero usable bands."),
        ("'a.tif' not recognized", "it is not recognized"),
        ("ERROR parsing kml a.tif :no element found on line 64", "ERROR parsing kml: no element found on line 64"),
        ("data.tif and a.tiff, a.tif-1 and a.tif.ovr", "data.tif and a.tiff, a.tif-1 and a.tif.ovr"),
        ("nothing of it", "nothing of it"),
    ],
)
def test_what_is_said_of_a_file_after_its_name_names_it_no_more(said, left):
    assert without_name(said, "a.tif") == left
    assert without_name(f"a folder: {said}", "folder") == f"a folder: {said}"


@given(st.text())
def test_any_name_becomes_one_that_every_program_opens(text):
    assert re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}", plain_name(text))
