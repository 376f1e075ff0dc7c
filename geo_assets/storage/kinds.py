"""What a file is, by its name alone: a raster, a vector source, an archive, a companion.

Here: the endings of what is read, and folders that are one source. Not here: which files belong together
(`sources.py`), what is not read (`foreign.py`). A name proves nothing; the sandboxed reader decides by the first bytes.
"""

from __future__ import annotations

import re
from enum import StrEnum


class Kind(StrEnum):
    """The kind of a source, by its name."""

    RASTER = "raster"
    VECTOR = "vector"
    ZIP = "zip"
    SCENE = "scene"  # several rasters that are one item (`scenes.py`)
    SIDECAR = "sidecar"  # without the file that it belongs to
    COMPANION = "companion"  # accompanies the data for people or other programs: a README, a style, a checksum
    UNSUPPORTED = "unsupported"


RASTER = frozenset(
    {
        ".tif",
        ".tiff",
        ".gtiff",
        ".btf",
        ".png",
        ".jpg",
        ".jpeg",
        ".jp2",
        ".j2k",
        ".asc",
        ".img",
        ".nc",
        ".nc4",
        ".h5",
        ".hdf5",
        ".he5",
        ".grib",
        ".grib2",
        ".grb",
        ".grb2",
        ".vrt",
        ".webp",
        ".bmp",
        ".gif",
        ".jpx",
        ".jpf",
        ".j2c",
        ".jpc",
        ".bil",
        ".bip",
        ".bsq",
        ".flt",
        ".hgt",
        ".dt0",
        ".dt1",
        ".dt2",
        ".ntf",
        ".nitf",
        ".nsf",
        ".xyz",
        ".hdf",
        ".mbtiles",
    }
)


VECTOR = frozenset(
    {
        ".gpkg",
        ".geojson",
        ".json",
        ".geojsonl",
        ".geojsons",
        ".ndjson",
        ".fgb",
        ".parquet",
        ".geoparquet",
        ".kml",
        ".kmz",
        ".csv",
        ".tsv",
        ".shp",
        ".gml",
        ".dxf",
        ".gpx",
        ".tab",
        ".mif",
        ".sqlite",
        ".sqlite3",
        ".db",
        ".xlsx",
    }
)


#: Vector files of one part, which may also be gzipped: `roads.geojson.gz`.
_GZ = ".gz"


_NEVER_PACKED = frozenset({".shp", ".tab", ".mif", ".dxf"})


ZIP = frozenset({".zip", ".tar", ".tgz"})


#: Archives with two endings.
TAR_GZ = ".tar.gz"


#: Endings of packed files that are not unpacked.
_PACKED = (_GZ, ".7z", ".rar", ".bz2", ".xz", ".zst")


#: What people and programs put beside data: documents, styles and projects of desktop programs, checksums, metadata.
_COMPANION = frozenset(
    {
        ".txt",
        ".md",
        ".rst",
        ".pdf",
        ".doc",
        ".docx",
        ".odt",
        ".rtf",
        ".htm",
        ".html",
        ".log",
        ".url",
        ".qml",
        ".qmd",
        ".qlr",
        ".qgs",
        ".qgz",
        ".sld",
        ".lyr",
        ".lyrx",
        ".mxd",
        ".aprx",
        ".clr",
        ".md5",
        ".sha1",
        ".sha256",
        ".sha512",
        ".sum",
        ".met",
        ".xml",
        ".xsd",
        ".xsl",
    }
)


#: Companions by their whole names: documents without an ending, and JSON known to be metadata (Landsat, STAC).
_COMPANION_NAMES = re.compile(
    r"_success|_(common_)?metadata"
    r"|(readme|licen[sc]e|copying|notice|authors|changelog|manifest|md5sums?|sha\d*sums?|checksums?)"
    r"|metadata\.json|catalog\.json|collection\.json|.+_(mtl|ang)\.json"
)


#: Companions named like the raster that they describe: an attribute table of Esri (`classes.tif.vat.dbf`).
_COMPANION_PARTS = (".vat.dbf", ".vat.cpg", ".vat.dbf.xml")


#: A folder of Hive partitioning, whose name is a value of a column: `year=2024`.
_PARTITION = re.compile(r"[^\W\d]\w*=.*", re.DOTALL)


_PARQUET = (".parquet", ".geoparquet")


def kind_of(path: str) -> Kind | None:
    """Return the kind that a file's name indicates; None for sidecars and unknown files."""
    if path.lower().endswith(TAR_GZ):
        return Kind.ZIP
    ending = ending_of(unpacked(path.lower()))
    if _COMPANION_NAMES.fullmatch(path.rpartition("/")[2].lower()):
        return None
    for kind, endings in ((Kind.RASTER, RASTER), (Kind.VECTOR, VECTOR), (Kind.ZIP, ZIP)):
        if ending in endings:
            return kind
    return None


def is_packed(path: str) -> bool:
    """Whether a file's name indicates an archive, or another packed file that no stage unpacks."""
    kind = kind_of(path)
    return kind is Kind.ZIP or (kind is None and path.lower().endswith(_PACKED))


def is_companion(path: str) -> bool:
    """Whether a file that belongs to no source accompanies the data for people or other programs."""
    name = path.rpartition("/")[2].lower()
    return (
        ending_of(path) in _COMPANION or name.endswith(_COMPANION_PARTS) or _COMPANION_NAMES.fullmatch(name) is not None
    )


def whole_folder(path: str) -> str | None:
    """Return the folder that is one source and contains this file, if any: a FileGDB, a table of Parquet files.

    For a table whose partitions are in the container's root it is the column's name and `=`.
    """
    *folders, name = path.split("/")
    for index, folder in enumerate(folders):
        if folder.lower().endswith((".gdb", *_PARQUET)):
            return "/".join(folders[: index + 1])
        if name.lower().endswith(_PARQUET) and _PARTITION.fullmatch(folder):
            return "/".join(folders[:index]) or f"{folder.partition('=')[0]}="
    return None


def ending_of(path: str) -> str:
    """Return the last ending of a file's name in lower case, with its dot; nothing where it has none."""
    name = path.rpartition("/")[2].lower()
    return "." + name.rpartition(".")[2] if "." in name else ""


def unpacked(lower: str) -> str:
    """Return a lower-case name without the `.gz` of a single gzipped vector file."""
    bare = lower.removesuffix(_GZ)
    return bare if ending_of(bare) in VECTOR - _NEVER_PACKED else lower
