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
