"""Formats: which are read, and the format of a file by its first bytes.

Here: the allow-list of formats and of GDAL's drivers. The name of an upload proves nothing; it only distinguishes text
formats. Not here: whether a file is complete and harmless (`checks.py`), what is in it (`layers.py`).
"""

from __future__ import annotations

import os
import re
import struct
from enum import StrEnum
from pathlib import Path

from geo_assets.errors import GeoAssetsError
from geo_assets.text import utf_16_of


class Format(StrEnum):
    """Every format that is opened; the value is the driver that must open it."""

    GPKG = "GPKG"
    SHAPEFILE = "ESRI Shapefile"
    GEOJSON = "GeoJSON"  # by ourselves (`geojson.py`)
    GEOJSON_LINES = "GeoJSONSeq"
    FLATGEOBUF = "FlatGeobuf"
    FILEGDB = "OpenFileGDB"
    KML = "LIBKML"
    GML = "GML"
    GPX = "GPX"
    MAPINFO = "MapInfo File"
    SQLITE = "SQLite"  # SpatiaLite, and tables with WKB
    ESRI_JSON = "ESRIJSON"
    SPREADSHEET = "XLSX"
    PARQUET = "Parquet"  # by pyarrow: the wheels' GDAL has no Parquet driver
    CSV = "CSV"  # by pyarrow: GDAL's reader cannot tell '' from NULL


ENDINGS = {
    ".gpkg": Format.GPKG,
    ".shp": Format.SHAPEFILE,
    ".geojson": Format.GEOJSON,
    ".json": Format.GEOJSON,
    ".geojsonl": Format.GEOJSON_LINES,
    ".geojsons": Format.GEOJSON_LINES,
    ".ndjson": Format.GEOJSON_LINES,
    ".fgb": Format.FLATGEOBUF,
    ".gdb": Format.FILEGDB,
    ".kml": Format.KML,
    ".gml": Format.GML,
    ".gpx": Format.GPX,
    ".tab": Format.MAPINFO,
    ".mif": Format.MAPINFO,
    ".sqlite": Format.SQLITE,
    ".sqlite3": Format.SQLITE,
    ".db": Format.SQLITE,
    ".xlsx": Format.SPREADSHEET,
    ".parquet": Format.PARQUET,
    ".geoparquet": Format.PARQUET,
    ".csv": Format.CSV,
    ".tsv": Format.CSV,
}

#: The file name ending under which each is opened.
OWN_ENDING = {
    Format.GPKG: ".gpkg",
    Format.SHAPEFILE: ".shp",
    Format.GEOJSON: ".geojson",
    Format.GEOJSON_LINES: ".geojsonl",
    Format.FLATGEOBUF: ".fgb",
    Format.FILEGDB: ".gdb",
    Format.KML: ".kml",
    Format.GML: ".gml",
    Format.GPX: ".gpx",
    Format.SQLITE: ".sqlite",
    Format.ESRI_JSON: ".json",
    Format.SPREADSHEET: ".xlsx",
    Format.PARQUET: ".parquet",
    Format.CSV: ".csv",
}

#: GDAL drivers that are never registered: they read other files, reach the network, load code, or are not on the list
#: above. MBTiles is not one of them: a child also reads rasters, and the library that is loaded first sets the drivers
#: of both. A layer that a driver other than its format's would read is refused (`layers.py`). (Of those in pyogrio's
#: wheels: GDAL complains on stderr about a name that it does not know.)
_FORBIDDEN_DRIVERS = (
    "OGR_VRT ADBC GDALG WFS OAPIF OGCAPI CSW NGW Elasticsearch Carto AmigoCloud PLSCENES EEDA HTTP GPSBabel PDF PMTiles"
    " OSM ODS MVT TopoJSON JSONFG GeoRSS DXF DGN PDS4 VICAR S57 SXF Selafin VFK VDV EDIGEO WAsP LVBAG MapML"
    " MiraMonVector OGR_GMT OGR_PDS PGDUMP AVCBin AVCE00 AIVector PCIDSK Idrisi JML GTFS"
)

#: Common formats that are refused by name, and how to convert them.
_REFUSED_XML = {
    "osm": ("OpenStreetMap XML", "ogr2ogr out.gpkg in.osm"),
}
_DXF = re.compile(rb"(?:AutoCAD Binary DXF|(?:\s*999\r?\n[^\n]*\n)*\s*0\r?\n\s*SECTION)")

_HEAD_BYTES = 65_536

_SQLITE = b"SQLite format 3\0"
_SHAPEFILE = struct.pack(">i", 9994)
_FLATGEOBUF = b"fgb\x03fgb"
PARQUET = b"PAR1"
ZIP = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

#: What would make GDAL treat JSON as a stored pipeline or a VRT, both of which can name other files.
_FOREIGN_JSON = re.compile(rb"gdal_streamed_alg|<OGRVRTDataSource|<VRTDataset")

#: ArcGIS's own JSON of features.
_ESRI_JSON = re.compile(
    rb'"geometryType"\s*:\s*"esriGeometry|"spatialReference"\s*:\s*\{|"features"\s*:\s*\[\s*\{\s*"attributes"'
)

GZIP = b"\x1f\x8b"
_OLE = b"\xd0\xcf\x11\xe0"


def forbid_drivers() -> None:
    """Keep GDAL from registering the drivers that must never see an upload. Works before pyogrio is first imported."""
    skip = dict.fromkeys((*filter(None, os.environ.get("OGR_SKIP", "").split(",")), *_FORBIDDEN_DRIVERS.split()))
    os.environ["OGR_SKIP"] = ",".join(skip)


def head_of(path: Path) -> bytes:
    """Return the first bytes of a file; UNREADABLE if there are none."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        raise GeoAssetsError("UNREADABLE", f"{path.name} cannot be read: {error.strerror}") from error
    if not head:
        raise GeoAssetsError("UNREADABLE", f"{path.name} is empty")
    return head


def identify(path: Path, name: str) -> Format:
    """Return the format of a file by its first bytes; the ending only distinguishes text formats.

    Raises:
        GeoAssetsError: UNREADABLE, it is not what its name says; VECTOR_UNSUPPORTED, it is something else.
    """
    head, claimed = head_of(path), ENDINGS.get(path.suffix.lower())
    if _DXF.match(head):
        raise GeoAssetsError(
            "VECTOR_UNSUPPORTED",
            f"{name} is DXF, a drawing without a CRS",
            remedy=_converted("ogr2ogr -a_srs EPSG:… out.gpkg in.dxf"),
        )
    if head.startswith(_OLE):
        raise GeoAssetsError(
            "VECTOR_UNSUPPORTED",
            f"{name} is in an old format of Microsoft's",
            remedy="save it as .xlsx or CSV, and upload that",
        )
    kind = _binary_format(path, head) or _text_format(head, claimed, name)
    if kind is not None:
        return kind
    if claimed is None:
        raise GeoAssetsError("VECTOR_UNSUPPORTED", f"{name} is in no supported vector format")
    raise GeoAssetsError("UNREADABLE", f"{name} does not begin like a {claimed.value} file")


def _binary_format(path: Path, head: bytes) -> Format | None:
    if head.startswith(_SQLITE):
        return (
            Format.GPKG
            if head[68:72] in {b"GPKG", b"GP10", b"GP11"} or path.suffix.lower() == ".gpkg"
            else Format.SQLITE
        )
    if head.startswith(_SHAPEFILE):
        return Format.SHAPEFILE
    if head.startswith(_FLATGEOBUF[:4]) and head[4:7] == _FLATGEOBUF[4:]:
        return Format.FLATGEOBUF
    if head.startswith(ZIP) and path.suffix.lower() == ".xlsx":
        return Format.SPREADSHEET
    return Format.PARQUET if head.startswith(PARQUET) else None


def _text_format(head: bytes, claimed: Format | None, name: str) -> Format | None:
    if utf_16_of(head):
        if claimed in {Format.CSV, None}:
            return claimed
        raise GeoAssetsError(
            "VECTOR_UNSUPPORTED",
            f"{name} is in UTF-16; {claimed.value} is read in UTF-8",
            remedy="save it in UTF-8 and upload it again",
        )
    text = head.removeprefix(_BYTE_ORDER_MARK).lstrip()
    if text.startswith(b"<"):
        return _xml_format(text, name)
    if text.startswith((b"{", b"\x1e")) and claimed is not Format.CSV:
        if match := _FOREIGN_JSON.search(text):
            raise GeoAssetsError(
                "VECTOR_UNSUPPORTED", f"{name} is JSON, but not GeoJSON (it holds {match[0].decode()!r})"
            )
        if _ESRI_JSON.search(text):
            return Format.ESRI_JSON
        return Format.GEOJSON_LINES if _is_json_lines(text) else Format.GEOJSON
    if text.startswith(b"[") and claimed in {Format.GEOJSON, Format.GEOJSON_LINES}:
        raise GeoAssetsError(
            "VECTOR_UNSUPPORTED",
            f"{name} is an array in JSON, and not GeoJSON",
            remedy='put it into a collection: {"type": "FeatureCollection", "features": [ ... ]}',
        )
    if claimed is Format.MAPINFO:
        return Format.MAPINFO if text[:7].lower().startswith((b"!table", b"version")) else None
    return Format.CSV if claimed is Format.CSV and b"\0" not in head else None


def _is_json_lines(text: bytes) -> bool:
    """Whether the second line begins another object: `}` ends the first line, `{` begins the second."""
    if text.startswith(b"\x1e"):
        return True
    first, _, rest = text.partition(b"\n")
    return first.rstrip().endswith(b"}") and rest.lstrip().startswith(b"{")


_GML_NAMESPACE = b"http://www.opengis.net/gml"


def _xml_format(text: bytes, name: str) -> Format:
    """Return the format by the root element, which only declarations and comments may precede."""
    rest = text
    while rest.startswith((b"<?", b"<!--")):
        end = b"?>" if rest.startswith(b"<?") else b"-->"
        _, found, after = rest.partition(end)
        if not found:
            break
        rest = after.lstrip()
    if rest[:9].upper() in {b"<!DOCTYPE", b"<!ENTITY "}:
        raise GeoAssetsError(
            "VECTOR_UNSUPPORTED",
            f"{name} declares a DOCTYPE, which can name other files",
            remedy="remove the DOCTYPE and upload it again",
        )
    match = re.match(rb"<(?:\w+:)?(\w+)", rest)
    root = match[1].decode() if match else "unknown"
    if root in _REFUSED_XML:
        called, command = _REFUSED_XML[root]
        raise GeoAssetsError(
            "VECTOR_UNSUPPORTED",
            f"{name} is {called} (its root is {root!r}), which can name other files",
            remedy=_converted(command),
        )
    if root == "kml":
        return Format.KML
    if root == "gpx":
        return Format.GPX
    if root == "FeatureCollection" or _GML_NAMESPACE in rest:
        return Format.GML
    raise GeoAssetsError("VECTOR_UNSUPPORTED", f"{name} is XML, but neither KML, GML nor GPX (its root is {root!r})")


def _converted(command: str) -> str:
    return f"convert it, for example: {command}; then upload the GeoPackage"
