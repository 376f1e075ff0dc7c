"""When something was taken: what counts as a word on it, and what does not."""

import pytest

from geo_assets.capture import by_pattern, of_metadata, of_product, pattern, taken, was_saved_by_a_program


def span(found):
    return found and (found.start, found.end)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2023-08-21T10:10:31Z", ("2023-08-21T10:10:31Z", None)),
        ("2023-08-21T12:10:31+02:00", ("2023-08-21T10:10:31Z", None)),
        ("2023:08:21 10:10:31", ("2023-08-21T10:10:31Z", None)),
        ("2023-08-21", ("2023-08-21T00:00:00Z", "2023-08-21T23:59:59Z")),
        ("20230821", ("2023-08-21T00:00:00Z", "2023-08-21T23:59:59Z")),
        ("202308", None),
        ("20231345", None),
        ("2024-02", ("2024-02-01T00:00:00Z", "2024-02-29T23:59:59Z")),
        ("1999", ("1999-01-01T00:00:00Z", "1999-12-31T23:59:59Z")),
        ("2020-01/2020-03-15", ("2020-01-01T00:00:00Z", "2020-03-15T23:59:59Z")),
        ("2021/2020", None),
        ("yesterday", None),
        ("2023-02-30", None),
        ("0000:00:00 00:00:00", None),
        ("", None),
    ],
)
def test_a_date_is_the_span_of_its_day_and_nothing_is_guessed(text, expected):
    assert span(taken(text, "x")) == expected


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("in/LC08_L2SP_193024_20230821_20230826_02_T1_SR_B4.TIF", "2023-08-21T00:00:00Z"),
        ("LC08_L2SP_193024_20230821_20230826_02_T1.tar/x.TIF", "2023-08-21T00:00:00Z"),
        ("S2A_MSIL2A_20230821T101031_N0509_R022_T33UUU_20230821T161359.SAFE/GRANULE/x.jp2", "2023-08-21T10:10:31Z"),
        ("T33UUU_20230821T101031_B8A_20m.jp2", "2023-08-21T10:10:31Z"),
        ("S1A_IW_GRDH_1SDV_20200101T050102_20200101T050127_030612_0381D3_1234.tiff", "2020-01-01T05:01:02Z"),
    ],
)
def test_products_are_known_by_their_names(name, start):
    assert of_product(name).start == start


@pytest.mark.parametrize(
    "name",
    [
        "dop_33250.tif",
        "20230821.tif",
        "LC08_20230821.tif",
        "report_20230821T101031.tif",
        "LC08_L2SP_193024_20231321_20230826_02_T1_B4.TIF",
    ],
)
def test_digits_in_other_names_are_no_time(name):
    assert of_product(name) is None


@pytest.mark.parametrize(
    ("text", "name", "expected"),
    [
        (r"_%Y%m%d_", "ortho_20190704_a.tif", ("2019-07-04T00:00:00Z", "2019-07-04T23:59:59Z")),
        (r"(?P<year>\d{4})/(?P<month>\d\d)/", "in/2019/07/a.tif", ("2019-07-01T00:00:00Z", "2019-07-31T23:59:59Z")),
        (r"%Y%jT%H%M%S", "2020060T101112", ("2020-02-29T10:11:12Z", None)),
        (r"_%y%m%d", "x_990704", ("1999-07-04T00:00:00Z", "1999-07-04T23:59:59Z")),
        (r"_%Y%m%d_", "ortho_20191304_a.tif", None),
        (r"_%Y%m%d_", "ortho.tif", None),
    ],
)
def test_a_pattern_finds_the_time_in_a_name(text, name, expected):
    assert span(by_pattern(text, name)) == expected


@pytest.mark.parametrize("text", ["(", r"(?P<jahr>\d{4})", r"\d+", "%m"])
def test_a_pattern_that_cannot_find_a_year_is_refused(text):
    with pytest.raises(ValueError, match=r"group|regular expression"):
        pattern(text)


def test_the_metadata_files_of_products_tell_their_time():
    mtl = 'GROUP = IMAGE_ATTRIBUTES\n    DATE_ACQUIRED = 2023-08-21\n    SCENE_CENTER_TIME = "09:58:02.1234560Z"\n'
    assert of_metadata("a/LC08_x_MTL.txt", mtl).start == "2023-08-21T09:58:02.123456Z"
    assert span(of_metadata("a/LC08_x_MTL.json", '{"DATE_ACQUIRED": "2023-08-21"}')) == (
        "2023-08-21T00:00:00Z",
        "2023-08-21T23:59:59Z",
    )
    xml = "<PRODUCT_START_TIME>2023-08-21T10:10:31.024Z</PRODUCT_START_TIME>"
    assert of_metadata("x.SAFE/MTD_MSIL2A.xml", xml).start == "2023-08-21T10:10:31.024000Z"
    assert of_metadata("x.SAFE/other.xml", xml) is None


@pytest.mark.parametrize(
    "software", ["Adobe Photoshop CC 2019 (Windows)", "GIMP 2.10", "Esri ArcGIS 10.8", "paint.net 4.2", "GDAL 3.4"]
)
def test_editors_write_the_time_of_saving(software):
    assert was_saved_by_a_program(software)


@pytest.mark.parametrize("software", ["", "UltraMap", "Leica XPro", "DJI M3E", "EPSON Scan"])
def test_cameras_do_not(software):
    assert not was_saved_by_a_program(software)
