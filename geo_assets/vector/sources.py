"""Sources: what an uploaded file really is, by its first bytes, and the datasets that are in it.

Here: the allow-list of formats, the checks before a library opens a file, and the private names under which it is opened.
Not here: reading features (`layers.py`). The name of an upload is a claim; it never reaches GDAL.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sqlite3
import struct
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath

from geo_assets.archives import unpack
from geo_assets.errors import GeoAssetsError


class Format(StrEnum):
    """Everything that is opened; the value is the driver that must do it."""

    GPKG = "GPKG"
    SHAPEFILE = "ESRI Shapefile"
    GEOJSON = "GeoJSON"
    GEOJSON_LINES = "GeoJSONSeq"
    FLATGEOBUF = "FlatGeobuf"
    FILEGDB = "OpenFileGDB"
    KML = "LIBKML"
    PARQUET = "Parquet"  # by pyarrow: the wheels' GDAL has no Parquet driver
    CSV = "CSV"  # by pyarrow: GDAL's reader cannot tell '' from NULL


_ENDINGS = {
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
    ".parquet": Format.PARQUET,
    ".geoparquet": Format.PARQUET,
    ".csv": Format.CSV,
    ".tsv": Format.CSV,
}

#: The ending under which each is opened.
_OWN_ENDING = {
    Format.GPKG: ".gpkg",
    Format.SHAPEFILE: ".shp",
    Format.GEOJSON: ".geojson",
    Format.GEOJSON_LINES: ".geojsonl",
    Format.FLATGEOBUF: ".fgb",
    Format.FILEGDB: ".gdb",
    Format.KML: ".kml",
    Format.PARQUET: ".parquet",
    Format.CSV: ".csv",
}

#: GDAL drivers that are never registered: they read other files, reach the network, load code, or are not on the list above.
#: (Of those in pyogrio's wheels: GDAL complains on stderr about a name that it does not know.)
_FORBIDDEN_DRIVERS = (
    "OGR_VRT ADBC GDALG WFS OAPIF OGCAPI CSW NGW Elasticsearch Carto AmigoCloud PLSCENES EEDA HTTP GPSBabel PDF MBTiles PMTiles OSM GML XLSX ODS "
    "SQLite MVT ESRIJSON TopoJSON JSONFG GeoRSS GPX DXF DGN PDS4 VICAR S57 SXF Selafin VFK VDV EDIGEO WAsP LVBAG MapML MiraMonVector OGR_GMT "
    "OGR_PDS PGDUMP AVCBin AVCE00 AIVector PCIDSK Idrisi JML GTFS"
)

#: What is refused by name, because people have it, and how it is made readable.
_REFUSED_XML = {
    "FeatureCollection": ("GML", "ogr2ogr out.gpkg in.gml"),
    "gpx": ("GPX", "ogr2ogr out.gpkg in.gpx"),
    "osm": ("OpenStreetMap XML", "ogr2ogr out.gpkg in.osm"),
}
_DXF = re.compile(rb"(?:AutoCAD Binary DXF|(?:\s*999\r?\n[^\n]*\n)*\s*0\r?\n\s*SECTION)")

#: A zip in a zip in a zip is an archive of deliveries; deeper is a trap.
_MAX_NESTING = 2

_HEAD_BYTES = 65_536
_ENCODING_SAMPLE_BYTES = 64 * 1024**2
_SQLITE = b"SQLite format 3\0"
_SHAPEFILE = struct.pack(">i", 9994)
_FLATGEOBUF = b"fgb\x03fgb"
_PARQUET = b"PAR1"
_ZIP = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")

#: What would make GDAL take JSON for a stored pipeline or a VRT, both of which can name other files.
_FOREIGN_JSON = re.compile(rb"gdal_streamed_alg|<OGRVRTDataSource|<VRTDataset")

_SHAPEFILE_PARTS = (".shx", ".dbf", ".prj", ".cpg")  # index and attributes are needed; the rest GDAL can do without
_REQUIRED_PARTS = (".shx", ".dbf")

#: Triggers that the GeoPackage standard and GDAL put on a layer's table; they only keep an index or a count up to date.
_STANDARD_TRIGGERS = re.compile(r"(?:rtree_|trigger_(?:insert|delete)_feature_count_|gpkg_|trigger_gpkg_)")


@dataclass(frozen=True, slots=True)
class Dataset:
    """One file (or FileGDB) that can be opened."""

    path: Path  # under a name of ours
    format: Format
    name: str  # what it is called in messages
    stem: str
    member: str | None = None  # its path within the archive
    encoding: str | None = None  # of a shapefile's text


@dataclass(frozen=True, slots=True)
class Source:
    """An upload, ready to be opened."""

    name: str
    datasets: tuple[Dataset, ...]
    warnings: tuple[str, ...] = ()


def forbid_drivers() -> None:
    """Keep GDAL from registering the drivers that must never see an upload. Works before pyogrio is first imported."""
    skip = dict.fromkeys((*filter(None, os.environ.get("OGR_SKIP", "").split(",")), *_FORBIDDEN_DRIVERS.split()))
    os.environ["OGR_SKIP"] = ",".join(skip)


def prepare(path: Path, *, max_unpacked_bytes: int) -> Source:
    """Identify an upload, unpack it if it is an archive, and lay out what can be opened. May be repeated.

    Args:
        path: the upload, in a directory that is its own.
        max_unpacked_bytes: most bytes that an archive may unpack to.

    Raises:
        GeoAssetsError: UNREADABLE, VECTOR_UNSUPPORTED, INCOMPLETE_SHAPEFILE, VECTOR_NO_LAYERS, or what `unpack` raises.
    """
    if path.is_dir() and path.suffix.lower() == ".gdb":
        return Source(path.name, (_dataset(path, path.name, path.parent / ".opened" / "0"),))
    head = _head(path)
    if not head.startswith(_ZIP):
        return Source(path.name, (_dataset(path, path.name, path.parent / ".opened" / "0"),))
    if path.suffix.lower() not in {".zip", ".kmz"}:
        raise GeoAssetsError(
            "VECTOR_UNSUPPORTED", f"{path.name} is a zip, which its name does not say", remedy="name it .zip, or upload what is in it"
        )
    folder = path.parent / ".unpacked"
    if not folder.exists():
        _unpack_whole(path, folder, max_unpacked_bytes)
    members = sorted(PurePosixPath(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
    if path.suffix.lower() == ".kmz":
        members = _main_kml(members, path.name)
    return _archive(path.name, folder, members, path.parent / ".opened")


def _unpack_whole(archive: Path, folder: Path, max_bytes: int) -> None:
    """Unpack beside the final place, then move: a folder that exists is complete. A zip in a zip becomes a folder of its name."""
    with _made_whole(folder) as partial:
        unpack(archive, partial, max_bytes=max_bytes, name=archive.name)
        for _ in range(_MAX_NESTING):
            inner = _archives_below(partial)
            if not inner:
                return
            for path in inner:
                _unpack_inner(path, max_bytes - _size_below(partial), f"{path.name} of {archive.name}")
        if _archives_below(partial):
            raise GeoAssetsError("UNSAFE_ARCHIVE", f"{archive.name} nests zips more than {_MAX_NESTING} deep")


def _archives_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.suffix.lower() in {".zip", ".kmz"} and path.is_file()]


def _unpack_inner(path: Path, max_bytes: int, name: str) -> None:
    packed = path.rename(path.with_name(f"{path.name}.packed"))
    try:
        unpack(packed, path, max_bytes=max(0, max_bytes), name=name)
    except GeoAssetsError as error:
        if error.code != "EMPTY_ARCHIVE":
            raise
        path.mkdir()
    packed.unlink()


def _size_below(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@contextmanager
def _made_whole(folder: Path) -> Iterator[Path]:
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f"{folder.name}-", dir=folder.parent))
    try:
        yield partial
        with contextlib.suppress(FileExistsError):  # a call beside this one was first
            partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _archive(name: str, folder: Path, members: Sequence[PurePosixPath], opened: Path) -> Source:
    wanted, others = _datasets_among(members)
    if not wanted:
        raise GeoAssetsError("VECTOR_NO_LAYERS", f"{name} holds no vector file that is supported; it holds {_listed(members)}")
    datasets = [
        _dataset(folder / member, f"{member.name} of {name}", opened / str(i), str(member) if len(wanted) > 1 else None)
        for i, member in enumerate(wanted)
    ]
    warnings = (f"{name} also holds what is no vector data: {_listed(others)}",) if others else ()
    return Source(name, tuple(datasets), warnings)


def _main_kml(members: Sequence[PurePosixPath], name: str) -> list[PurePosixPath]:
    """A KMZ's one document: doc.kml, else the first .kml nearest to its root; the rest are pictures and models."""
    documents = [member for member in members if member.suffix.lower() == ".kml"]
    if not documents:
        raise GeoAssetsError("VECTOR_NO_LAYERS", f"{name} holds no KML; it holds {_listed(members)}")
    return [min(documents, key=lambda member: (len(member.parts), member.name.lower() != "doc.kml", str(member)))]


def _datasets_among(members: Sequence[PurePosixPath]) -> tuple[list[PurePosixPath], list[PurePosixPath]]:
    """What can be opened by its name, each FileGDB once, and the files that belong to nothing."""
    wanted: dict[PurePosixPath, None] = {}
    others = []
    stems = {member.with_suffix("") for member in members if member.suffix.lower() == ".shp"}
    for member in members:
        geodatabase = next((parent for parent in (member, *member.parents) if parent.suffix.lower() == ".gdb"), None)
        if geodatabase is not None and geodatabase != member:
            wanted[geodatabase] = None
        elif member.suffix.lower() in _ENDINGS and geodatabase is None:
            wanted[member] = None
        elif not any(str(member).lower().startswith(f"{stem}.".lower()) for stem in stems):
            others.append(member)
    return list(wanted), others


def _listed(members: Sequence[PurePosixPath], limit: int = 5) -> str:
    names = ", ".join(str(member)[:60] for member in members[:limit])
    return f"{names} and {len(members) - limit} more" if len(members) > limit else names


def _dataset(path: Path, name: str, folder: Path, member: str | None = None) -> Dataset:
    """Check one file and link it into a folder of its own under a name of ours."""
    kind = Format.FILEGDB if path.is_dir() else identify(path, name)
    _CHECKS.get(kind, _no_check)(path, name)
    own = folder / f"data{_OWN_ENDING[kind]}"
    if not folder.exists():
        with _made_whole(folder) as partial:
            _link_all(path, kind, partial / own.name)
    return Dataset(own, kind, name, path.stem, member, _encoding(own) if kind is Format.SHAPEFILE else None)


def _encoding(shp: Path) -> str:
    """What the text of a shapefile is read as: by its .cpg (theirs or ours), else by the code page in its DBF."""
    cpg = shp.with_suffix(".cpg")
    if cpg.exists():
        return "".join(char for char in cpg.read_bytes()[:40].decode("ascii", "replace").strip() if char.isprintable())
    with shp.with_suffix(".dbf").open("rb") as file:
        return f"code page {file.read(30)[29]} of its DBF"


def _link_all(path: Path, kind: Format, own: Path) -> None:
    _link(path, own)
    if kind is Format.SHAPEFILE:
        for part in _parts(path).values():
            _link(part, own.with_suffix(part.suffix.lower()))
        _declare_encoding(own)


def _link(path: Path, to: Path) -> None:
    """A directory cannot have a hard link, and a file on another file system neither."""
    try:
        to.hardlink_to(path)
    except OSError:
        to.symlink_to(path.absolute())


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        raise GeoAssetsError("UNREADABLE", f"{path.name} cannot be read: {error.strerror}") from error
    if not head:
        raise GeoAssetsError("UNREADABLE", f"{path.name} is empty")
    return head


def identify(path: Path, name: str) -> Format:
    """The format of a file by its first bytes; the ending only tells text formats apart.

    Raises:
        GeoAssetsError: UNREADABLE, it is not what its name says; VECTOR_UNSUPPORTED, it is something else.
    """
    head, claimed = _head(path), _ENDINGS.get(path.suffix.lower())
    if _DXF.match(head):
        raise GeoAssetsError(
            "VECTOR_UNSUPPORTED", f"{name} is DXF, a drawing without a CRS", remedy=_converted("ogr2ogr -a_srs EPSG:… out.gpkg in.dxf")
        )
    kind = _binary_format(head) or _text_format(head, claimed, name)
    if kind is not None:
        return kind
    if claimed is None:
        raise GeoAssetsError("VECTOR_UNSUPPORTED", f"{name} is in no supported vector format")
    raise GeoAssetsError("UNREADABLE", f"{name} does not begin as {claimed.value} does")


def _binary_format(head: bytes) -> Format | None:
    if head.startswith(_SQLITE):
        return Format.GPKG
    if head.startswith(_SHAPEFILE):
        return Format.SHAPEFILE
    if head.startswith(_FLATGEOBUF[:4]) and head[4:7] == _FLATGEOBUF[4:]:
        return Format.FLATGEOBUF
    return Format.PARQUET if head.startswith(_PARQUET) else None


def _text_format(head: bytes, claimed: Format | None, name: str) -> Format | None:
    text = head.removeprefix(_BYTE_ORDER_MARK).lstrip()
    if text.startswith(b"<"):
        return _xml_format(text, name)
    if text.startswith((b"{", b"\x1e")) and claimed is not Format.CSV:
        if match := _FOREIGN_JSON.search(text):
            raise GeoAssetsError("VECTOR_UNSUPPORTED", f"{name} is JSON, but not GeoJSON (it holds {match[0].decode()!r})")
        return Format.GEOJSON_LINES if _is_json_lines(text) else Format.GEOJSON
    is_text = head.startswith(_UTF16) or b"\0" not in head
    return Format.CSV if claimed is Format.CSV and is_text else None


def _is_json_lines(text: bytes) -> bool:
    """Whether the second line begins another object of its own: `}` ends the first line, `{` begins the second."""
    if text.startswith(b"\x1e"):
        return True
    first, _, rest = text.partition(b"\n")
    return first.rstrip().endswith(b"}") and rest.lstrip().startswith(b"{")


def _xml_format(text: bytes, name: str) -> Format:
    """KML, by its root element, which only declarations and comments may precede."""
    rest = text
    while rest.startswith((b"<?", b"<!--")):
        end = b"?>" if rest.startswith(b"<?") else b"-->"
        _, found, after = rest.partition(end)
        if not found:
            break
        rest = after.lstrip()
    if rest[:9].upper() in {b"<!DOCTYPE", b"<!ENTITY "}:
        raise GeoAssetsError(
            "VECTOR_UNSUPPORTED", f"{name} declares a DOCTYPE, which can name other files", remedy="remove the DOCTYPE and upload it again"
        )
    match = re.match(rb"<(?:\w+:)?(\w+)", rest)
    root = match[1].decode() if match else "unknown"
    if root in _REFUSED_XML:
        called, command = _REFUSED_XML[root]
        raise GeoAssetsError(
            "VECTOR_UNSUPPORTED", f"{name} is {called} (its root is {root!r}), which can name other files", remedy=_converted(command)
        )
    if root != "kml":
        raise GeoAssetsError("VECTOR_UNSUPPORTED", f"{name} is XML, but not KML (its root is {root!r})")
    return Format.KML


def _converted(command: str) -> str:
    return f"convert it, for example: {command}; then upload the GeoPackage"


def _no_check(path: Path, name: str) -> None:
    """Nothing to see before it is opened."""


def _check_geopackage(path: Path, name: str) -> None:
    """A truncated file, and layers that run SQL of the file's author when they are read."""
    with path.open("rb") as file:
        header = file.read(100)
    page_size = int.from_bytes(header[16:18], "big")
    declared = int.from_bytes(header[28:32], "big") * (65_536 if page_size == 1 else page_size)
    if len(header) < 100 or path.stat().st_size < declared:
        raise GeoAssetsError("UNREADABLE", f"{name} is cut off: it has {path.stat().st_size:,} of {declared:,} bytes")
    try:
        faults = _foreign_code(path)
    except sqlite3.Error as error:
        raise GeoAssetsError("UNREADABLE", f"{name} is not readable as GeoPackage: {error}") from error
    if faults:
        raise GeoAssetsError(
            "VECTOR_UNSUPPORTED", f"{name}: {faults[0]}", remedy="export the layer as a plain table, for example with ogr2ogr"
        )


def _foreign_code(path: Path) -> list[str]:
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)
    try:
        layers = {row[0].lower() for row in connection.execute("select table_name from gpkg_contents where data_type = 'features'")}
        objects = connection.execute(
            "select type, name, tbl_name, coalesce(sql, '') from sqlite_master where type in ('view', 'trigger', 'table')"
        ).fetchall()
    finally:
        connection.close()
    faults = []
    for kind, name, table, statement in objects:
        if table.lower() not in layers:
            continue
        if kind == "view" or statement.lower().lstrip().startswith("create virtual"):
            faults.append(f"layer {table[:63]!r} is a view, not a table")
        elif kind == "trigger" and not _STANDARD_TRIGGERS.match(name.lower()):
            faults.append(f"layer {table[:63]!r} has the trigger {name[:63]!r}")
    return faults


def _check_shapefile(path: Path, name: str) -> None:
    found = _parts(path)
    missing = [part for part in _REQUIRED_PARTS if part not in found]
    if missing:
        raise GeoAssetsError("INCOMPLETE_SHAPEFILE", f"{name} comes without its {' and '.join(missing)}")
    with path.open("rb") as file:
        declared = int.from_bytes(file.read(28)[24:28], "big") * 2  # in 16-bit words
    if path.stat().st_size < declared:
        raise GeoAssetsError("UNREADABLE", f"{name} is cut off: it has {path.stat().st_size:,} of {declared:,} bytes")


def _check_parquet(path: Path, name: str) -> None:
    with path.open("rb") as file:
        file.seek(-min(4, path.stat().st_size), os.SEEK_END)
        if file.read() != _PARQUET:
            raise GeoAssetsError("UNREADABLE", f"{name} is cut off: its footer is missing")


_CHECKS = {Format.GPKG: _check_geopackage, Format.SHAPEFILE: _check_shapefile, Format.PARQUET: _check_parquet}


def _parts(shp: Path) -> dict[str, Path]:
    """The other parts of a shapefile by their lower-case ending; their names may differ in case."""
    siblings = [p for p in shp.parent.iterdir() if p.stem.lower() == shp.stem.lower() and p.suffix.lower() in _SHAPEFILE_PARTS]
    exact = [p for p in siblings if p.stem == shp.stem]
    return {p.suffix.lower(): p for p in (*siblings, *exact)}


def _declare_encoding(shp: Path) -> None:
    """Without .cpg and without a code page in the DBF, GDAL takes text for Latin-1; most such files are UTF-8 or Windows-1252."""
    dbf, cpg = shp.with_suffix(".dbf"), shp.with_suffix(".cpg")
    with dbf.open("rb") as file:
        header = file.read(32)
        if cpg.exists() or len(header) < 32 or header[29] != 0:
            return
        file.seek(int.from_bytes(header[8:10], "little"))
        cpg.write_text("UTF-8" if _is_mostly_utf8(file.read(_ENCODING_SAMPLE_BYTES)) else "1252")


def _is_mostly_utf8(data: bytes) -> bool:
    """Whether more non-ASCII characters are whole than broken: fields of fixed width cut some in two."""
    text = data.decode("utf-8", "replace")
    broken = text.count("\ufffd")
    return broken == 0 or sum(not char.isascii() for char in text) > 2 * broken
