"""Small files for the tests, each written by an independent library."""

import sqlite3
import struct
import warnings
import zipfile
from contextlib import closing
from pathlib import Path

import geopandas as gpd
import numpy as np
import pyogrio
import pyproj
import shapely

NATURAL_EARTH = Path(pyogrio.__file__).parent / "tests/fixtures/naturalearth_lowres/naturalearth_lowres.shp"

BOWTIE = "POLYGON((0 0, 2 2, 2 0, 0 2, 0 0))"
SQUARE = "POLYGON((0 0, 1 0, 1 1, 0 1, 0 0))"


def frame(*wkt, crs=4326, **columns):
    """A GeoDataFrame of WKT geometries (None: no geometry)."""
    geometry = [None if text is None else shapely.from_wkt(text) for text in wkt]
    return gpd.GeoDataFrame(columns or {"n": np.arange(len(wkt), dtype="int32")}, geometry=geometry, crs=crs)


def points(count, crs=4326, **columns):
    columns = columns or {"n": np.arange(count, dtype="int64")}
    return gpd.GeoDataFrame(
        columns, geometry=gpd.points_from_xy(np.linspace(5, 6, count), np.linspace(50, 51, count)), crs=crs
    )


def altered(path, *statements):
    """A GeoPackage after statements (SQL, or SQL and its values) that no trigger of its own looks at; returns
    the path.
    """
    with closing(sqlite3.connect(path)) as database, database:
        for (name,) in database.execute("select name from sqlite_master where type = 'trigger'").fetchall():
            database.execute(f'drop trigger "{name}"')
        for statement in statements:
            database.execute(*((statement,) if isinstance(statement, str) else statement))
    return path


def sqlite(path, create, *rows):
    """A database that is no GeoPackage, with a table `t` whose points in WGS 84 are `g`, as WKB."""
    crs = "spatial_ref_sys(srid integer unique, auth_name text, auth_srid text, srtext text)"
    layers = (
        "geometry_columns(f_table_name varchar, f_geometry_column varchar, geometry_type integer,"
        " coord_dimension integer, srid integer, geometry_format varchar)"
    )
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(f"create table {crs}")
        database.execute(f"create table {layers}")
        database.execute(
            "insert into spatial_ref_sys values (4326, 'epsg', '4326', ?)", (pyproj.CRS(4326).to_wkt("WKT1_GDAL"),)
        )
        database.execute("insert into geometry_columns values ('t', 'g', 1, 2, 4326, 'WKB')")
        database.execute(f"create table t{create}")
        for row in rows:
            database.execute(f"insert into t values ({','.join('?' * len(row))})", row)
    return path


def write(frame, path, **options):
    """Write with pyogrio, or as GeoParquet, by the path's ending; returns the path."""
    if path.suffix == ".parquet":
        frame.to_parquet(path, **options)
        return path
    drivers = {
        ".gpkg": "GPKG",
        ".shp": "ESRI Shapefile",
        ".geojson": "GeoJSON",
        ".geojsonl": "GeoJSONSeq",
        ".fgb": "FlatGeobuf",
        ".kml": "LIBKML",
        ".gdb": "OpenFileGDB",
        ".tab": "MapInfo File",
        ".mif": "MapInfo File",
        ".gml": "GML",
        ".sqlite": "SQLite",
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        frame.to_file(path, driver=drivers[path.suffix], engine="pyogrio", **options)
    return path


def hive(folder, **partitions):
    """A folder of GeoParquet files of two points each, in Hive's partitions: `hive(folder, year=[2023, 2024])`."""
    ((key, values),) = partitions.items()
    for value in values:
        part = folder / f"{key}={value}"
        part.mkdir(parents=True)
        points(2).to_parquet(part / "part-0.parquet")
    return folder


def zipped(path, *files, **renamed):
    """A zip of files; `folder/name=path` renames."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in files:
            archive.write(file, file.name)
        for name, file in renamed.items():
            archive.write(file, name)
    return path


def shapefile_parts(shp):
    return [p for p in shp.parent.iterdir() if p.stem == shp.stem]


def zip_tree(path, tree):
    """A zip of everything below a directory, with the directory's own name."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(tree.rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(tree.parent))
    return path


_SHEETS = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_TYPES = "application/vnd.openxmlformats-officedocument.spreadsheetml"


def spreadsheet(path, *rows, change=lambda sheet: sheet, **more):
    """An .xlsx of one sheet, whose XML may be changed; `more` are members by name, each text or blocks of bytes."""

    def cell(value, at):
        return (
            f'<c r="{at}" t="str"><v>{value}</v></c>' if isinstance(value, str) else f'<c r="{at}"><v>{value}</v></c>'
        )

    lines = ["".join(cell(value, f"{chr(65 + c)}{r}") for c, value in enumerate(row)) for r, row in enumerate(rows, 1)]
    data = "".join(f'<row r="{r}">{line}</row>' for r, line in enumerate(lines, 1))
    head = '<?xml version="1.0" encoding="UTF-8"?>'
    members = {
        "[Content_Types].xml": (
            f'{head}<Types xmlns="{_PACKAGE}/content-types"><Override PartName="/xl/workbook.xml"'
            f' ContentType="{_TYPES}.sheet.main+xml"/><Override PartName="/xl/worksheets/sheet1.xml"'
            f' ContentType="{_TYPES}.worksheet+xml"/></Types>'
        ),
        "xl/workbook.xml": (
            f'{head}<workbook xmlns="{_SHEETS}" xmlns:r="{_OFFICE}"><sheets><sheet name="s" sheetId="1"'
            ' r:id="rId1"/></sheets></workbook>'
        ),
        "xl/_rels/workbook.xml.rels": (
            f'{head}<Relationships xmlns="{_PACKAGE}/relationships"><Relationship Id="rId1" Type="{_OFFICE}/worksheet"'
            ' Target="worksheets/sheet1.xml"/></Relationships>'
        ),
        "xl/worksheets/sheet1.xml": change(
            f'{head}<worksheet xmlns="{_SHEETS}"><sheetData>{data}</sheetData></worksheet>'
        ),
        **more,
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, body in members.items():
            with archive.open(name, "w") as member:
                for block in [body.encode()] if isinstance(body, str) else body:
                    member.write(block)
    return path


def members(outer: int, inner: int, *, heights: bool) -> bytes:
    """A MultiPolygon of one triangle, the type codes of which need not agree."""
    ring = [(0.0, 0.0, 5.0), (1.0, 0.0, 6.0), (0.0, 1.0, 7.0), (0.0, 0.0, 5.0)]
    numbers = [n for vertex in ring for n in (vertex if heights else vertex[:2])]
    polygon = struct.pack("<BII", 1, inner, 1) + struct.pack(f"<I{len(numbers)}d", len(ring), *numbers)
    return struct.pack("<BII", 1, outer, 1) + polygon


def contradicting(path: Path, outer: int, inner: int, *, heights: bool, where: str = "true") -> Path:
    """A GeoPackage of two MultiPolygons, of which some are such as `members` makes."""
    both = [shapely.MultiPolygon([shapely.box(0, 0, 1, 1), shapely.box(2, 2, 3, 3)])] * 2
    write(gpd.GeoDataFrame({"n": [1, 2]}, geometry=both, crs=4326), path)
    blob = members(outer, inner, heights=heights)
    altered(path, (f"update a set geom = cast(substr(geom, 1, 40) || ? as blob) where {where}", (blob,)))
    return path
