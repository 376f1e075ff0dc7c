"""Formats that are not read here, by the names of their files, and what makes them readable.

Here: data that people deliver, so that an error has a command. Not here: what is read (`kinds.py`), what the first
bytes of a file say (`raster/drivers.py`, `vector/reader/formats.py`).
"""

from __future__ import annotations

from pathlib import PurePosixPath

#: A format -> what makes it readable.
CONVERTERS = {
    "ArcInfo E00": "convert it, for example with: ogr2ogr out.gpkg in.e00",
    "DGN, a drawing without a CRS": "convert it, for example with: ogr2ogr -a_srs EPSG:… out.gpkg in.dgn",
    "DWG, a drawing without a CRS": "save it as DXF, and convert that with: ogr2ogr -a_srs EPSG:… out.gpkg in.dxf",
    "ECW": "convert it, for example with a GDAL with ECW: gdal_translate in.ecw out.tif",
    "HDF4": "convert it, for example with: h4toh5, or a GDAL with HDF4: gdal_translate in.hdf out.tif",
    "MrSID": "convert it, for example with: mrsidgeodecode -i in.sid -o out.tif",
    "OpenDocument": "save it as .xlsx or CSV, and upload that",
    "OpenStreetMap": "convert it, for example with: ogr2ogr out.gpkg in.osm.pbf",
    "PDF": "convert it, for example with a GDAL with PDF: gdal_translate in.pdf out.tif --config GDAL_PDF_DPI 300",
    "S-57": "convert it, for example with: ogr2ogr out.gpkg in.000",
    "TopoJSON": "convert it, for example with: ogr2ogr out.gpkg in.topojson",
    "an old format of Excel": "save it as .xlsx or CSV, and upload that",
}

#: Endings that no stage reads, and their formats.
_NOT_READ = {
    ".000": "S-57",
    ".dgn": "DGN, a drawing without a CRS",
    ".dwg": "DWG, a drawing without a CRS",
    ".e00": "ArcInfo E00",
    ".ecw": "ECW",
    ".ods": "OpenDocument",
    ".osm": "OpenStreetMap",
    ".pbf": "OpenStreetMap",
    ".sid": "MrSID",
    ".topojson": "TopoJSON",
    ".xls": "an old format of Excel",
}


def not_read(path: str) -> str | None:
    """Return the format, one of `CONVERTERS`, that a file's name indicates and that is not read here."""
    return _NOT_READ.get(PurePosixPath(path).suffix.lower())
