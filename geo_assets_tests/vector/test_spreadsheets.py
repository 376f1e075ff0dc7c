import re

import pyarrow as pa
import pytest

from geo_assets.errors import GeoAssetsError
from geo_assets_tests.vector.builders import spreadsheet
from geo_assets_tests.vector.conftest import send

MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"

#: Styles of cells: 1 a date, 2 a date with a time, 3 a time.
STYLES = (
    f'<styleSheet xmlns="{MAIN}"><cellXfs count="4"><xf numFmtId="0"/><xf numFmtId="14"/><xf numFmtId="22"/>'
    '<xf numFmtId="20"/></cellXfs></styleSheet>'
)


def workbook(properties, prefix=""):
    """The XML of a workbook of one sheet."""
    relations = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    named = f"xmlns:{prefix[:-1]}" if prefix else "xmlns"
    return (
        f'<?xml version="1.0"?><{prefix}workbook {named}="{MAIN}" xmlns:r="{relations}">{properties}<{prefix}sheets>'
        f'<{prefix}sheet name="s" sheetId="1" r:id="rId1"/></{prefix}sheets></{prefix}workbook>'
    )


@pytest.fixture
def rows_of(tmp_path, private, look):
    """The rows of a sheet with the columns lon, lat, day, moment and clock in a workbook of these properties."""

    def read(properties, *rows, **options):
        def styled(sheet):
            sheet = re.sub(r't="str"><v>(\w+)</v>', r't="inlineStr"><is><t>\1</t></is>', sheet)
            return re.sub(r'r="([CDE])(\d+)"', lambda m: f'{m[0]} s="{"CDE".index(m[1]) + 1}"', sheet)

        more = {"xl/workbook.xml": workbook(properties), "xl/styles.xml": STYLES}
        path = spreadsheet(
            tmp_path / "a.xlsx", ("lon", "lat", "day", "moment", "clock"), *rows, change=styled, **more, **options
        )
        file, _ = send(private(path), look(path).layers[0])
        return [
            tuple(row[name].isoformat() for name in ("day", "moment", "clock"))
            for row in pa.ipc.open_stream(file).read_all().to_pylist()
        ]

    return read


@pytest.mark.parametrize("written", ["1", "true"])
def test_dates_of_a_workbook_that_counts_days_from_1904_are_those_that_excel_shows(rows_of, written):
    (*rows, last) = rows_of(f'<workbookPr date1904="{written}"/>', (7, 51, 45292, 45292.25, 0.5), (7, 51, 1, 1.5, 0.75))
    assert rows == [("2028-01-02", "2028-01-02T06:00:00", "12:00:00")]
    assert last == ("1904-01-02", "1904-01-02T12:00:00", "18:00:00")


@pytest.mark.parametrize("properties", ["", "<workbookPr/>", '<workbookPr date1904="0" codeName="date1904"/>'])
def test_dates_of_other_workbooks_count_from_1900(rows_of, properties):
    assert rows_of(properties, (7, 51, 45292, 45292.25, 0.5)) == [("2024-01-01", "2024-01-01T06:00:00", "12:00:00")]


def test_dates_among_text_in_a_workbook_that_counts_days_from_1904_are_refused(rows_of):
    with pytest.raises(GeoAssetsError, match=r"column 'day' of .* has dates among other values") as error:
        rows_of('<workbookPr date1904="1"/>', (7, 51, 45292, 1, 0.5), (7, 51, "unknown", 1, 0.5))
    assert error.value.code == "VECTOR_UNSUPPORTED_TYPE"


@pytest.fixture
def sheet(tmp_path, private, look):
    """(plan, rows, report) of a sheet, in whose XML some text is replaced."""

    def read(*rows, change=(), **request):
        def changed(text):
            for old, new in change:
                text = re.sub(old, new, text)
            return re.sub(r't="str"><v>(\w+)</v>', r't="inlineStr"><is><t>\1</t></is>', text)

        path = spreadsheet(tmp_path / "a.xlsx", *rows, change=changed, **{"xl/styles.xml": STYLES})
        plan = look(path, **request).layers[0]
        file, report = send(private(path), plan)
        return plan, pa.ipc.open_stream(file).read_all().to_pylist(), report

    return read


def styled(columns, style):
    """A change of cells that hold numbers."""
    return rf'(r="[{columns}]\d+")(?! t=)', rf'\1 s="{style}"'


@pytest.mark.parametrize("options", [{}, {"attribute_tables": True}])
def test_rows_that_only_have_a_style_are_no_features_and_are_counted(sheet, options):
    last = '<row r="4" s="1" customFormat="1"><c r="A4" s="1"/></row><row r="5"><c r="C5" t="str"><v> </v></c></row>'
    plan, sent, report = sheet(
        ("lon", "lat", "t"), (1, 2, "x"), (3, 4, "y"), change=[("</sheetData>", f"{last}</sheetData>")], **options
    )
    assert (plan.feature_count, [(row["lon"], row["lat"]) for row in sent]) == (2, [(1, 2), (3, 4)])
    assert [warning for warning in report.warnings if "rows of nothing" in warning] == [
        "2 rows of nothing, which were left out"
    ]


@pytest.mark.parametrize(
    ("style", "numbers", "shown"),
    [
        (1, (1, 59, 60, 61, 0), ["1900-01-01", "1900-02-28", None, "1900-03-01", None]),
        (1, (2958465, 2958466), ["9999-12-31", None]),
        (2, (1.25, 59.5, 60.5, 61.5), ["1900-01-01T06:00:00", "1900-02-28T12:00:00", None, "1900-03-01T12:00:00"]),
    ],
)
def test_days_are_those_that_excel_shows_and_others_are_null_and_counted(sheet, style, numbers, shown):
    _, sent, report = sheet(("lon", "lat", "d"), *((1, 2, number) for number in numbers), change=[styled("C", style)])
    assert [row["d"] and row["d"].isoformat() for row in sent] == shown
    none = [
        f"'{number:g}'" if number < 100 else f"'{number}'"
        for number, day in zip(numbers, shown, strict=True)
        if not day
    ]
    assert [warning.partition("NULL: ")[2] for warning in report.warnings] == [", ".join(none)]


def test_a_number_among_booleans_is_null_and_counted(sheet):
    change = [('<c r="C2">', '<c r="C2" t="b">'), ('<c r="C4">', '<c r="C4" t="b">')]
    plan, sent, report = sheet(("lon", "lat", "b"), (1, 2, 1), (1, 2, 5), (1, 2, 0), change=change)
    assert ([row["b"] for row in sent], plan.columns[2].sql_type) == ([True, None, False], "boolean")
    assert "'b': 1 value not a boolean, now NULL: '5'" in report.warnings


@pytest.mark.parametrize("change", [styled("A", 1), ('<c r="A2">', '<c r="A2" t="b">')], ids=["days", "booleans"])
def test_coordinates_that_a_spreadsheet_made_something_else_of_are_refused_with_the_reason(sheet, change):
    with pytest.raises(GeoAssetsError, match="2 coordinates are not numbers") as caught:
        sheet(("lon", "lat"), (1, 45000), (1, 45001), change=[change, ('<c r="A3">', '<c r="A3" t="b">')][:2])
    assert caught.value.code == "VECTOR_ALL_REJECTED"


def test_a_number_beyond_those_of_a_double_is_null_and_counted(sheet):
    _, sent, report = sheet(("lon", "lat", "v"), (1, 2, 1.5), (1, 2, 77), change=[("<v>77</v>", "<v>1E400</v>")])
    assert [row["v"] for row in sent] == [1.5, None]
    assert report.warnings == ("'v': 1 value not a number, now NULL: 'inf'",)


def test_the_first_rows_of_a_sheet_may_have_no_geometry(sheet):
    plan, sent, _ = sheet(("n", "wkt"), *((1, ""),) * 150, (2, "SRID=25832;POINT(1 2)"))
    assert (plan.srid, len(sent), sent[-1]["geom"] is not None) == (25832, 151, True)


def test_one_row_that_names_an_srid_does_not_say_it_of_those_that_name_none(tmp_path, look):
    rows = [["n", "wkt"], [0, "SRID=25832;POINT(500000 5500000)"], *([n, f"POINT({n} 50)"] for n in range(1, 9))]
    (plan,) = look(spreadsheet(tmp_path / "a.xlsx", *rows), source_crs="EPSG:4326").layers
    assert (plan.srid, plan.rejected_by_reason) == (4326, {"another SRID than the other rows": 1})
