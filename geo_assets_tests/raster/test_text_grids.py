"""Rasters that are text, ASCII grids and points on a grid: each number is in the COG as it is written, or is refused,
or said to be rounded.
"""

import numpy as np
import pytest
import rasterio

from geo_assets.errors import GeoAssetsError
from geo_assets.raster.cog import convert
from geo_assets.raster.models import ConvertRequest

HEADER = "ncols 4\nnrows 2\nxllcorner 500000\nyllcorner 4000000\ncellsize 10\n"
SIDE = 4


@pytest.fixture
def made(tmp_path):
    """Converts a text; returns the report and the pixels of the first band."""

    def make(name: str, text: str):
        (tmp_path / name).write_bytes(text.encode())
        report = convert(
            ConvertRequest(source=str(tmp_path / name), destination=str(tmp_path / "out.tif"), source_crs="EPSG:32618")
        )
        with rasterio.open(tmp_path / "out.tif") as cog:
            return report, cog.read(1)

    return make


def points(words: list[str], *, by_columns: bool = False, between: str = " ", head: str = "", end: str = "\n") -> str:
    """Points of a square, each with the next of the words, or its neighbour if `by_columns`."""
    places = [(500_000 + 10 * (i % SIDE), 4_000_000 - 10 * (i // SIDE)) for i in range(SIDE**2)]
    rows = list(zip(places, (words * SIDE**2)[: SIDE**2], strict=True))
    if by_columns:
        rows.sort(key=lambda row: (row[0][0], -row[0][1]))
    return head + "".join(between.join([str(x), str(y), word]) + end for (x, y), word in rows)


def refused(make, name: str, text: str) -> GeoAssetsError:
    with pytest.raises(GeoAssetsError) as caught:
        make(name, text)
    return caught.value


@pytest.mark.parametrize(
    "words",
    [
        ["3000000001"],  # beyond int32, so GDAL takes float32
        ["1", "16777217", "0.5"],
        ["9007199254740993"],
        ["1.5", "1e400"],
        ["1.5", "1.5e39"],
    ],
)
def test_a_point_whose_number_would_become_another_is_refused(made, words):
    error = refused(made, "in.xyz", points(words))
    assert (error.code, bool(error.remedy)) == ("RASTER_UNSUPPORTED", True)
    assert next(word for word in words if len(word) > 4) in error.message


@pytest.mark.parametrize("word", ["--", "1-2", "2e", ".", "1.2.3", "+", "1e5e5", "e"])
def test_a_point_whose_word_is_no_number_is_unreadable(made, word):
    error = refused(made, "in.xyz", points(["1.5", word]))
    assert (error.code, word[:20] in error.message) == ("UNREADABLE", True)


@pytest.mark.parametrize("word", ["1" * 500, "0" * 5000 + "1" * 20])
def test_a_word_that_is_longer_than_any_number_is_none(made, word):
    assert refused(made, "in.xyz", points(["1.5", word])).code == "UNREADABLE"
    assert refused(made, "in.asc", HEADER + f"{word} 2.5 3 4\n5 6 7 8\n").code == "UNREADABLE"


def test_points_with_more_digits_than_a_float_has_are_said_to_be_rounded(made):
    report, pixels = made("in.xyz", points(["1234567.26", "0.1", "-2.75", "12.30000019073486"]))
    assert pixels[0].tolist() == np.array([1234567.26, 0.1, -2.75, 12.3], "float32").tolist()
    (note,) = [note for note in report.warnings if "1234567.26" in note]
    assert "float32" in note


@pytest.mark.parametrize(
    "word", ["0.1", "-1234.567", "12.30000019073486", "85.1234589", "535.867188", "3.40282346638529e+38", "1e20"]
)
def test_a_number_that_a_float_prints_as_it_is_written_is_held(made, word):
    report, pixels = made("in.xyz", points([word, "0.5"]))
    assert (pixels.dtype, pixels[0, 0]) == (np.float32, np.float32(float(word)))
    assert not [note for note in report.warnings if "digits" in note]
    report, pixels = made("in.asc", HEADER + f"{word} 2.5 3 4\n5 6 7 8\n")
    assert (pixels.dtype, pixels[0, 0]) == (np.float32, np.float32(float(word)))
    assert not [note for note in report.warnings if "digits" in note]


@pytest.mark.parametrize("form", [
    {"end": "\r\n"},
    {"end": "\r\n\r\n"},
    {"end": "  \n"},
    {"between": ";"},
    {"between": "\t"},
    {"between": "\t", "end": "\t7\t8\n"},
    {"between": ", "},
    {"head": "x y z\n"},
    {"head": "east;north;\"height\"\n", "between": ";"},
])  # fmt: skip
@pytest.mark.parametrize("bad", ["3000000001", "1-2"])
def test_the_number_of_a_point_is_found_in_every_form_of_such_files(made, form, bad):
    words = [str(n) for n in range(1, 17)]
    _, pixels = made("in.xyz", points(words, **form))
    assert pixels.ravel().tolist() == list(range(1, 17))
    assert bad in refused(made, "in.xyz", points([*words[:9], bad], **form)).message


def test_a_decimal_comma_is_one_and_the_columns_are_those_of_their_names(made):
    text = points(["0,5", "16777217"], between=";", head="long;lat;z\n")
    assert "16777217" in refused(made, "in.xyz", text).message
    rows = [f"{i} {z} {500_000 + 10 * (i % 4)} {4_000_000 - 10 * (i // 4)}" for i, z in enumerate(range(16))]
    _, pixels = made("in.xyz", "id z x y\n" + "\n".join(rows) + "\n")
    assert pixels.ravel().tolist() == list(range(16))


def test_negative_whole_numbers_that_go_down_columns_are_refused_for_gdal_reads_them_one_too_high(made):
    words = [str(-n) for n in range(16)]
    _, pixels = made("in.xyz", points(words))
    assert pixels.ravel().tolist() == [-n for n in range(16)]
    error = refused(made, "in.xyz", points(words, by_columns=True))
    assert (error.code, "sort" in error.remedy) == ("RASTER_UNSUPPORTED", True)
    _, pixels = made("in.xyz", points([word.strip("-") for word in words], by_columns=True))
    assert pixels.ravel().tolist() == list(range(16))


@pytest.mark.parametrize("words", [
    "1234567.26 2 3 4",
    "85.123456 0.5 3 4",
    "2.5 16777217 3 4",
    "3000000000 3000000001 3 4",
    "1e300 0.5 3 4",
    "1 nan -inf inf",
    "1.5 NaN -Inf INF",
    "0.12345678E+03 0.5 1.23456789e-5 4",
])  # fmt: skip
def test_a_grid_whose_numbers_need_more_than_gdals_type_is_read_as_doubles(made, words):
    report, pixels = made("in.asc", HEADER + words + "\n5 6 7 8\n")
    assert pixels.dtype == np.float64
    np.testing.assert_array_equal(pixels[0], [float(word) for word in words.split()])
    assert any("float64" in note for note in report.warnings)


@pytest.mark.parametrize("word", ["-nan", "-NaN", "infinity", "-Infinity"])
def test_a_word_for_no_number_that_gdal_reads_as_zero_is_refused_in_a_grid(made, word):
    error = refused(made, "in.asc", HEADER + f"{word} 2.5 3 4\n5 6 7 8\n")
    assert (error.code, word in error.message, "nan" in error.remedy) == ("RASTER_UNSUPPORTED", True, True)


@pytest.mark.parametrize("word", ["9007199254740993", "1e400", "1e99999999999999999999"])
def test_a_number_that_not_even_a_double_holds_is_refused_in_a_grid(made, word):
    error = refused(made, "in.asc", HEADER + f"{word} 2 3 4\n5 6 7 8\n")
    assert (error.code, word in error.message) == ("RASTER_UNSUPPORTED", True)


@pytest.mark.parametrize(
    "text", [HEADER + "1_000 2 3 4\n5 6 7 8\n", HEADER + "NODATA_value 1_0\n1 2 3 4\n5 6 7 8\n"], ids=["cell", "header"]
)
def test_digits_with_an_underline_between_them_are_no_number(made, text):
    assert refused(made, "in.asc", text).code == "UNREADABLE"
