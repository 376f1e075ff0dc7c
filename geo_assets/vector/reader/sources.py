"""Sources: what an uploaded file really is, by its first bytes, and the datasets that are in it.

Here: the allow-list of formats, the checks before a library opens a file, and the private names under which it is
opened.
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
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path, PurePosixPath

from geo_assets.archives import check, gunzip, unpack
from geo_assets.errors import ErrorClass, GeoAssetsError
from geo_assets.storage.sources import whole_folder
from geo_assets.vector.encodings import encoding_of_dbf, find_codec, gdal_name
from geo_assets.vector.models import LayerOptions
from geo_assets.vector.reader.dbf import Dbf
from geo_assets.vector.reader.parts import check_parts
from geo_assets.vector.reader.sqlite_values import read_only
from geo_assets.vector.reader.xml_numbers import check_numbers


class Format(StrEnum):
    """Everything that is opened; the value is the driver that must do it."""

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

#: The ending under which each is opened.
_OWN_ENDING = {
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

#: Text in which a coordinate may be anything.
_XML = frozenset({Format.KML, Format.GML, Format.GPX})

#: GDAL drivers that are never registered: they read other files, reach the network, load code, or are not on the list
#: above. MBTiles is one of them no longer: a child reads rasters too, and whichever library comes first names the
#: drivers of both. A layer that another driver than its format's would read is refused (`layers.py`). (Of those in
#: pyogrio's wheels: GDAL complains on stderr about a name that it does not know.)
_FORBIDDEN_DRIVERS = (
    "OGR_VRT ADBC GDALG WFS OAPIF OGCAPI CSW NGW Elasticsearch Carto AmigoCloud PLSCENES EEDA HTTP GPSBabel PDF PMTiles"
    " OSM ODS MVT TopoJSON JSONFG GeoRSS DXF DGN PDS4 VICAR S57 SXF Selafin VFK VDV EDIGEO WAsP LVBAG MapML"
    " MiraMonVector OGR_GMT OGR_PDS PGDUMP AVCBin AVCE00 AIVector PCIDSK Idrisi JML GTFS"
)

#: What is refused by name, because people have it, and how it is made readable.
_REFUSED_XML = {
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

#: ArcGIS's own JSON of features.
_ESRI_JSON = re.compile(
    rb'"geometryType"\s*:\s*"esriGeometry|"spatialReference"\s*:\s*\{|"features"\s*:\s*\[\s*\{\s*"attributes"'
)

_SHAPEFILE_PARTS = (".shx", ".dbf", ".prj", ".cpg")  # index and attributes are needed; the rest GDAL can do without
_REQUIRED_PARTS = (".shx", ".dbf")
_MAPINFO_PARTS = (".dat", ".map", ".id", ".ind", ".dbf", ".mid")

#: What a MapInfo table may not be: one that opens others, or a picture.
_MAPINFO_REFERENCE = re.compile(rb"create\s+view|open\s+table|IsSeamless|type\s+(?!native|dbf)\"?\w", re.IGNORECASE)

#: A MIF that has columns.
_MIF_COLUMNS = re.compile(rb"^\s*columns\s+[1-9]", re.IGNORECASE | re.MULTILINE)

#: Modules of virtual tables that read nothing but the file itself; what others there are opens files and is refused.
_HARMLESS_MODULES = frozenset(
    {
        "rtree",
        "rtree_i32",
        "virtualspatialindex",
        "virtualelementary",
        "virtualknn",
        "virtualknn2",
        "fts3",
        "fts4",
        "fts5",
    }
)

_GZIP = b"\x1f\x8b"
_OLE = b"\xd0\xcf\x11\xe0"
_COPY_BYTES = 1024**2


@dataclass(frozen=True, slots=True)
class Dataset:
    """One file (or FileGDB) that can be opened."""

    path: Path  # under a name of ours
    format: Format
    name: str  # what it is called in messages
    stem: str
    member: str | None = None  # its path within the archive
    encoding: str | None = None  # of a shapefile's text
    notes: tuple[str, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)  # layers that are not read, and why
    options: LayerOptions = field(default_factory=LayerOptions)
    features: Mapping[str, int] = field(
        default_factory=dict
    )  # of a layer at least, as far as the text says so; "": of the only one


@dataclass(frozen=True, slots=True)
class Source:
    """An upload, ready to be opened."""

    name: str
    datasets: tuple[Dataset, ...]
    warnings: tuple[str, ...] = ()
    left_out: tuple[GeoAssetsError, ...] = ()  # members that cannot be opened


def forbid_drivers() -> None:
    """Keep GDAL from registering the drivers that must never see an upload. Works before pyogrio is first imported."""
    skip = dict.fromkeys((*filter(None, os.environ.get("OGR_SKIP", "").split(",")), *_FORBIDDEN_DRIVERS.split()))
    os.environ["OGR_SKIP"] = ",".join(skip)


def prepare(path: Path, *, max_unpacked_bytes: int, options: LayerOptions | None = None) -> Source:
    """Identify an upload, unpack it if it is an archive, and lay out what can be opened. May be repeated.

    Args:
        path: the upload, in a directory that is its own.
        max_unpacked_bytes: most bytes that an archive may unpack to.
        options: what is said of how it is to be read.

    Raises:
        GeoAssetsError: UNREADABLE, VECTOR_UNSUPPORTED, INCOMPLETE_SHAPEFILE, VECTOR_NO_LAYERS, or what `unpack` raises.
    """
    options = options or LayerOptions()
    if path.is_dir():
        return Source(path.name, (_dataset(path, path.name, path.parent / ".opened" / "0", options),))
    head = _head(path)
    if head.startswith(_GZIP):
        path = _gunzipped(path, max_unpacked_bytes)
        head = _head(path)
    if not head.startswith(_ZIP) or path.suffix.lower() == ".xlsx":
        return Source(path.name, (_dataset(path, path.name, path.parent / ".opened" / "0", options),))
    if path.suffix.lower() not in {".zip", ".kmz"}:
        raise GeoAssetsError(
            "VECTOR_UNSUPPORTED",
            f"{path.name} is a zip, which its name does not say",
            remedy="name it .zip, or upload what is in it",
        )
    folder = path.parent / ".unpacked"
    if not folder.exists():
        _unpack_whole(path, folder, max_unpacked_bytes)
    members = sorted(PurePosixPath(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
    if path.suffix.lower() == ".kmz":
        members = _kml_documents(folder, members, path.name)
    return _archive(path, folder, members, path.parent / ".opened", options)


def _gunzipped(path: Path, max_bytes: int) -> Path:
    """What one gzip holds, under its name without `.gz`, in a folder of its own."""
    stem = path.name[: -len(".gz")] if path.suffix.lower() == ".gz" else path.stem
    if path.suffix.lower() == ".tgz" or stem.lower().endswith(".tar"):
        raise GeoAssetsError(
            "VECTOR_UNSUPPORTED", f"{path.name} is a tar", remedy="make a plain zip of the data files, and upload that"
        )
    folder = path.parent / ".gunzipped"
    if not folder.exists():
        with _made_whole(folder) as partial:
            gunzip(path, partial / stem, max_bytes=max_bytes, name=path.name)
    return folder / stem


def _unpack_whole(archive: Path, folder: Path, max_bytes: int) -> None:
    """Unpack beside the final place, then move: a folder that exists is complete. A zip in a zip becomes a folder of
    its name.
    """
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


def _archive(path: Path, folder: Path, members: Sequence[PurePosixPath], opened: Path, options: LayerOptions) -> Source:
    name = path.name
    wanted, others = _datasets_among(members)
    if not wanted:
        raise GeoAssetsError(
            "VECTOR_NO_LAYERS", f"{name} holds no vector file that is supported; it holds {_listed(members)}"
        )
    datasets, left_out = [], []
    for i, member in enumerate(wanted):
        try:
            own = str(member) if len(wanted) > 1 else None
            datasets.append(
                _dataset(folder / member, f"{member.name or 'the folder'} of {name}", opened / str(i), options, own)
            )
        except GeoAssetsError as error:
            if error.error_class is not ErrorClass.INVALID or error.code == "UNSAFE_ARCHIVE":
                raise
            left_out.append(error)
    if not datasets:
        raise (
            left_out[0]
            if len(left_out) == 1
            else GeoAssetsError(
                "VECTOR_NO_LAYERS", f"{name} holds nothing that can be read: {'; '.join(map(str, left_out[:5]))}"
            )
        )
    warnings = (f"{name} also holds what is no vector data: {_listed(others)}",) if others else ()
    return Source(name, tuple(datasets), warnings, tuple(left_out))


#: What a KML says of another file of its archive.
_HREF = re.compile(rb"<(?:\w+:)?href>\s*(?:<!\[CDATA\[)?\s*([^<\]]+?)\s*(?:\]\]>)?\s*</(?:\w+:)?href>")
_NETWORK_LINK = re.compile(rb"<(?:\w+:)?NetworkLink\b.*?</(?:\w+:)?NetworkLink>", re.DOTALL)
_MOST_LINKED_BYTES = 64 * 1024**2


def _kml_documents(folder: Path, members: Sequence[PurePosixPath], name: str) -> list[PurePosixPath]:
    """A KMZ's main document (doc.kml, else the first .kml nearest to its root) and those that it links to within the
    archive.
    """
    documents = [member for member in members if member.suffix.lower() == ".kml"]
    if not documents:
        raise GeoAssetsError("VECTOR_NO_LAYERS", f"{name} holds no KML; it holds {_listed(members)}")
    found = [min(documents, key=lambda member: (len(member.parts), member.name.lower() != "doc.kml", str(member)))]
    for document in found:  # grows: a linked document may link on
        for linked in _links(folder / document):
            target = PurePosixPath(os.path.normpath(document.parent / linked))
            if target in documents and target not in found:
                found.append(target)
    return found


def _links(document: Path) -> list[str]:
    """Paths that the network links of a KML name."""
    with document.open("rb") as file:
        text = file.read(_MOST_LINKED_BYTES)
    return [href.decode("utf-8", "replace") for link in _NETWORK_LINK.findall(text) for href in _HREF.findall(link)]


def _datasets_among(members: Sequence[PurePosixPath]) -> tuple[list[PurePosixPath], list[PurePosixPath]]:
    """What can be opened by its name, each folder that is one source once, and the files that belong to nothing."""
    wanted: dict[PurePosixPath, None] = {}
    others = []
    stems = {member.with_suffix("") for member in members if member.suffix.lower() in {".shp", ".tab", ".mif"}}
    for member in members:
        whole = whole_folder(str(member))
        if whole is not None:
            wanted[PurePosixPath("." if whole.endswith("=") else whole)] = None  # the archive itself is the table
        elif member.suffix.lower() in _ENDINGS.keys() - {".gdb"}:
            wanted[member] = None
        elif not any(str(member).lower().startswith(f"{stem}.".lower()) for stem in stems):
            others.append(member)
    return list(wanted), others


def _listed(members: Sequence[PurePosixPath], limit: int = 5) -> str:
    names = ", ".join(str(member)[:60] for member in members[:limit])
    return f"{names} and {len(members) - limit} more" if len(members) > limit else names


def _dataset(path: Path, name: str, folder: Path, options: LayerOptions, member: str | None = None) -> Dataset:
    """Check one file and link it into a folder of its own under a name of ours."""
    kind = _kind_of_folder(path, name) if path.is_dir() else identify(path, name)
    left_out = _CHECKS.get(kind, _no_check)(path, name)
    own = folder / f"data{path.suffix.lower() if kind is Format.MAPINFO else _OWN_ENDING[kind]}"
    if not folder.exists():
        with _made_whole(folder) as partial:
            _lay_out(path, kind, partial / own.name, name)
    counted = check_parts(own, name)
    features = check_numbers(own, name) if kind in _XML else {} if counted is None else {"": counted}
    encoding, notes = (
        _declared_encoding(path, own, options) if kind is Format.SHAPEFILE else (None, _notes(path, kind, name))
    )
    return Dataset(own, kind, name, path.stem, member, encoding, notes, left_out, options, features)


def _kind_of_folder(path: Path, name: str) -> Format:
    """A FileGDB, or a folder of Parquet files that are one table."""
    names = {p.name.lower() for p in path.iterdir()}
    if path.suffix.lower() == ".gdb" or "gdb" in names:
        return Format.FILEGDB
    if any(p.suffix.lower() in {".parquet", ".geoparquet"} for p in path.rglob("*")):
        return Format.PARQUET
    raise GeoAssetsError(
        "VECTOR_UNSUPPORTED", f"{name} is a folder, but neither a FileGDB nor a table in Parquet files"
    )


def _notes(path: Path, kind: Format, name: str) -> tuple[str, ...]:
    """What a KML links to: it is not followed, but for what a KMZ holds itself."""
    links = _links(path) if kind is Format.KML else []
    outside = [link for link in links if not (path.parent / link).is_file()]
    return (
        (
            (
                f"{name} links to {len(outside)} files that are not followed:"
                f" {_listed([PurePosixPath(link) for link in outside])}"
            ),
        )
        if outside
        else ()
    )


def _declared_encoding(path: Path, own: Path, options: LayerOptions) -> tuple[str, tuple[str, ...]]:
    """The encoding of a shapefile's text, written where GDAL looks for it: in a .cpg of ours."""
    theirs = _parts(path, _SHAPEFILE_PARTS).get(".cpg")
    declared = (
        theirs.read_bytes()[:40].decode("ascii", "replace").strip(" \t\r\n\0\ufeff") if theirs is not None else None
    )
    dbf = Dbf.open(own.with_suffix(".dbf"))
    text = dbf.character_bytes(_ENCODING_SAMPLE_BYTES) if dbf is not None else b""
    codec, note = encoding_of_dbf(text, declared or None, dbf.page if dbf is not None else 0)
    if options.encoding:
        codec, note = find_codec(options.encoding) or codec, None
    cpg = own.with_suffix(".cpg")
    cpg.unlink(missing_ok=True)
    cpg.write_text(gdal_name(codec))
    return codec, (note,) if note else ()


def _lay_out(path: Path, kind: Format, own: Path, name: str) -> None:
    if kind is Format.ESRI_JSON:
        from geo_assets.vector.reader import esri_json

        esri_json.copy(path, own, name)
        return
    _link(path, own)
    if kind in {Format.SHAPEFILE, Format.MAPINFO}:
        for part in _parts(path, _SHAPEFILE_PARTS if kind is Format.SHAPEFILE else _MAPINFO_PARTS).values():
            _link(part, own.with_suffix(part.suffix.lower()))


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
    raise GeoAssetsError("UNREADABLE", f"{name} does not begin as {claimed.value} does")


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
    if head.startswith(_ZIP) and path.suffix.lower() == ".xlsx":
        return Format.SPREADSHEET
    return Format.PARQUET if head.startswith(_PARQUET) else None


def _text_format(head: bytes, claimed: Format | None, name: str) -> Format | None:
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
    if claimed is Format.MAPINFO:
        return Format.MAPINFO if text[:7].lower().startswith((b"!table", b"version")) else None
    is_text = head.startswith(_UTF16) or b"\0" not in head
    return Format.CSV if claimed is Format.CSV and is_text else None


def _is_json_lines(text: bytes) -> bool:
    """Whether the second line begins another object of its own: `}` ends the first line, `{` begins the second."""
    if text.startswith(b"\x1e"):
        return True
    first, _, rest = text.partition(b"\n")
    return first.rstrip().endswith(b"}") and rest.lstrip().startswith(b"{")


_GML_NAMESPACE = b"http://www.opengis.net/gml"


def _xml_format(text: bytes, name: str) -> Format:
    """By the root element, which only declarations and comments may precede."""
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


def _no_check(path: Path, name: str) -> dict[str, str]:  # noqa: ARG001 - as every check
    """Nothing to see before it is opened."""
    return {}


def _check_sqlite(path: Path, name: str) -> dict[str, str]:
    """A truncated file is refused; layers that are SQL of the file's author are left out. Triggers do not fire on
    reading.
    """
    with path.open("rb") as file:
        header = file.read(100)
    page_size = int.from_bytes(header[16:18], "big")
    declared = int.from_bytes(header[28:32], "big") * (65_536 if page_size == 1 else page_size)
    if len(header) < 100 or path.stat().st_size < declared:
        raise GeoAssetsError("UNREADABLE", f"{name} is cut off: it has {path.stat().st_size:,} of {declared:,} bytes")
    try:
        modules, foreign = _foreign_code(path)
    except sqlite3.Error as error:
        raise GeoAssetsError("UNREADABLE", f"{name} is not readable as SQLite: {error}") from error
    except UnicodeDecodeError as error:  # SQLite's own words for it hold what is damaged
        raise GeoAssetsError("UNREADABLE", f"{name} is not readable as SQLite: its schema is damaged") from error
    if modules:
        raise GeoAssetsError(
            "VECTOR_UNSUPPORTED",
            f"{name} has virtual tables of the module {modules[0][:63]!r}, which may open other files",
        )
    return foreign


def _foreign_code(path: Path) -> tuple[list[str], dict[str, str]]:
    """Modules that may open other files; what is no plain table, and what it is."""
    connection = read_only(path)
    try:
        objects = connection.execute(
            "select type, name, coalesce(sql, '') from sqlite_master where type = 'view' or (type = 'table' and sql"
            " like 'create virtual%')"
        ).fetchall()
    finally:
        connection.close()
    using = {name: re.search(r"\busing\s+[\"'`\[]?(\w+)", statement, re.IGNORECASE) for _, name, statement in objects}
    modules = [
        match[1].lower() if match else name
        for (kind, name, _), match in zip(objects, using.values(), strict=True)
        if kind == "table"
    ]
    foreign = {name: "a view" if kind == "view" else "a virtual table" for kind, name, _ in objects}
    return [module for module in modules if module not in _HARMLESS_MODULES], foreign


def _check_mapinfo(path: Path, name: str) -> dict[str, str]:
    parts = _parts(path, _MAPINFO_PARTS)
    if path.suffix.lower() == ".tab":
        if match := _MAPINFO_REFERENCE.search(_head(path)):
            raise GeoAssetsError(
                "VECTOR_UNSUPPORTED",
                f"{name} is a table of other tables or of a picture ({match[0].decode('ascii', 'replace')[:40]!r})",
            )
        if not {".dat", ".dbf"} & parts.keys():
            raise GeoAssetsError(
                "INCOMPLETE_SHAPEFILE",
                f"{name} comes without its .dat",
                remedy="upload the .tab, .dat, .map and .id parts together",
            )
    elif ".mid" not in parts and _MIF_COLUMNS.search(_head(path)):
        raise GeoAssetsError(
            "INCOMPLETE_SHAPEFILE",
            f"{name} comes without its .mid, which holds its columns",
            remedy="upload the .mif and .mid parts together",
        )
    return {}


def _check_spreadsheet(path: Path, name: str) -> dict[str, str]:
    check(path, max_bytes=_MOST_SPREADSHEET_BYTES, name=name)
    return {}


#: XML that a spreadsheet may unpack to: a million cells are some 50 MB.
_MOST_SPREADSHEET_BYTES = 1024**3


def _check_shapefile(path: Path, name: str) -> dict[str, str]:
    found = _parts(path, _SHAPEFILE_PARTS)
    missing = [part for part in _REQUIRED_PARTS if part not in found]
    if missing:
        raise GeoAssetsError("INCOMPLETE_SHAPEFILE", f"{name} comes without its {' and '.join(missing)}")
    with path.open("rb") as file:
        declared = int.from_bytes(file.read(28)[24:28], "big") * 2  # in 16-bit words
    if path.stat().st_size < declared:
        raise GeoAssetsError("UNREADABLE", f"{name} is cut off: it has {path.stat().st_size:,} of {declared:,} bytes")
    return {}


def _check_parquet(path: Path, name: str) -> dict[str, str]:
    if path.is_dir():
        return {}
    with path.open("rb") as file:
        file.seek(-min(4, path.stat().st_size), os.SEEK_END)
        if file.read() != _PARQUET:
            raise GeoAssetsError("UNREADABLE", f"{name} is cut off: its footer is missing")
    return {}


_CHECKS = {
    Format.GPKG: _check_sqlite,
    Format.SQLITE: _check_sqlite,
    Format.SHAPEFILE: _check_shapefile,
    Format.PARQUET: _check_parquet,
    Format.MAPINFO: _check_mapinfo,
    Format.SPREADSHEET: _check_spreadsheet,
}


def _parts(path: Path, endings: Sequence[str]) -> dict[str, Path]:
    """The other parts of a dataset by their lower-case ending; their names may differ in case."""
    siblings = [p for p in path.parent.iterdir() if p.stem.lower() == path.stem.lower() and p.suffix.lower() in endings]
    exact = [p for p in siblings if p.stem == path.stem]
    return {p.suffix.lower(): p for p in (*siblings, *exact)}
