"""Classification of the files of a container: rasters, vectors, archives, the sidecars that belong to them, and the
rest.

Here: the table of file name endings and the grouping of files into sources, by name alone, in a stream.
Not here: opening a file. A name proves nothing; the sandboxed reader decides by the first bytes.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from itertools import groupby
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from geo_assets.litter import is_litter
from geo_assets.storage.journals import file_of_journal


class Kind(StrEnum):
    """The kind of a source, by its name."""

    RASTER = "raster"
    VECTOR = "vector"
    ZIP = "zip"
    SCENE = "scene"  # several rasters that are one item (`scenes.py`)
    SIDECAR = "sidecar"  # without the file that it belongs to
    COMPANION = "companion"  # accompanies the data for people or other programs: a README, a style, a checksum
    UNSUPPORTED = "unsupported"


_RASTER = frozenset(
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
_VECTOR = frozenset(
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

_ZIP = frozenset({".zip", ".tar", ".tgz"})

#: Archives with two endings.
_TAR_GZ = ".tar.gz"

#: Endings of packed files that are not unpacked.
_PACKED = (_GZ, ".7z", ".rar", ".bz2", ".xz", ".zst")

#: Endings of raw pixels where a `.hdr` with the same name describes them, as for ENVI; without it some of these endings
#: mean something else.
_RAW = frozenset({".bil", ".bip", ".bsq", ".flt", ".img", ".dat", ".raw", ".bin", ""})

#: Parts of a shapefile; `.prj` also belongs to ASCII grids and the like.
_SHAPEFILE_PARTS = frozenset(
    {".shx", ".dbf", ".prj", ".cpg", ".sbn", ".sbx", ".qix", ".qpj", ".cst", ".idm", ".ind", ".atx"}
)

#: Parts of a MapInfo table and of an interchange file, and files that GDAL and others write beside a GML; by the ending
#: of the main file.
_VECTOR_PARTS = {
    ".tab": frozenset({".dat", ".map", ".id", ".ind", ".dbf"}),
    ".mif": frozenset({".mid"}),
    ".gml": frozenset({".xsd", ".gfs"}),
}
_MAPINFO_DATA = frozenset({".dat", ".dbf"})

#: Headers of raw pixels: their rows, columns and data type.
_HEADER = ".hdr"

#: World files and the raster endings that they belong to: the first and last letter of the ending and a `w`, or the
#: ending and a `w`.
_WORLD = {
    ".tfw": {".tif", ".tiff"},
    ".tifw": {".tif", ".tiff"},
    ".tiffw": {".tiff"},
    ".pgw": {".png"},
    ".pngw": {".png"},
    ".jgw": {".jpg", ".jpeg"},
    ".jpgw": {".jpg"},
    ".jpegw": {".jpeg"},
    ".j2w": {".jp2", ".j2k"},
    ".wld": _RASTER,
    ".rpb": _RASTER,
    ".imd": _RASTER,
    ".gfw": {".gif"},
    ".bpw": {".bmp", ".bip"},
    ".wbw": {".webp"},
    ".jpw": {".jpg"},
    ".jxw": {".jpx"},
    ".nfw": {".ntf", ".nitf"},
    ".blw": {".bil"},
    ".bqw": {".bsq"},
    ".clr": {".bil", ".bip", ".bsq", ".flt"},
    ".stx": {".bil", ".bip", ".bsq", ".flt"},
    ".aux": _RASTER,  # ERDAS, like the next three
    ".rrd": _RASTER,
    ".ige": {".img"},
    ".rde": {".img", ".rrd"},
}

#: Sidecars whose name is the whole name of the main file and an ending: `a.tif.aux.xml`, `a.tif.ovr`, `roads.shp.xml`.
_APPENDED = (".aux.xml", ".shp.xml", ".ovr", ".msk", ".xml")

#: RPCs as GeoEye and WorldView deliver them: the stem of the raster and this.
_RPC_TEXT = "_rpc.txt"

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


class Member(BaseModel):
    """One blob of a source."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)
    path: str
    size: int
    etag: str
    holds: tuple[Kind, ...] | None = None  # of a file whose contents were listed (`zips.py`)


class Source(BaseModel):
    """One unit of work: a file with the sidecars that belong to it, or a folder. `path` identifies it everywhere."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)
    path: str
    kind: Kind
    members: tuple[Member, ...]  # the main file first; of a folder: all its files

    @property
    def size(self) -> int:
        """Return the bytes of all members."""
        return sum(m.size for m in self.members)

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder with all its files."""
        return self.kind is not Kind.SCENE and all(m.path != self.path for m in self.members)

    @property
    def holds(self) -> tuple[Kind, ...]:
        """Return what an archive or GeoPackage contains as far as known: rasters, vectors, both or neither."""
        return self.members[0].holds or ()


def name_key(path: str) -> tuple[str, str]:
    """Return (folder, lower-case stem): files with equal keys may belong together. A folder that is one source counts
    as one name.
    """
    whole = whole_folder(path)
    if whole:
        folder, _, name = whole.rpartition("/")
        return folder, name.lower()
    folder, _, name = path.rpartition("/")
    lower = name.lower()
    if lower.endswith(_RPC_TEXT) and lower != _RPC_TEXT:
        return folder, lower.removesuffix(_RPC_TEXT)
    lower = file_of_journal(lower) or lower
    for ending in _APPENDED:
        if lower.endswith(ending) and len(lower) > len(ending):
            lower = lower.removesuffix(ending)
            break
    if lower.endswith((_HEADER, _TAR_GZ)) or _unpacked(lower) != lower:
        lower = lower.rpartition(".")[0]
    stem, dot, _ = lower.rpartition(".")
    known = dot and _ending(lower) in _STEMMED
    return folder, stem if known and stem else lower


#: Endings in which files of one source may differ.
_STEMMED = (
    _RASTER | _VECTOR | _ZIP | _SHAPEFILE_PARTS | _WORLD.keys() | _RAW | frozenset[str]().union(*_VECTOR_PARTS.values())
)


def matches(path: str, include: Sequence[str], exclude: Sequence[str]) -> bool:
    """Whether a path passes the globs; `*` also crosses `/`, so `*.tif` matches in every folder.

    A file in a folder that is one source passes by its own path or by that of the folder: `*.gdb` and `sales` select
    all its files, `*/year=2024/*` some partitions of a table. So does a journal by its file's.
    """
    names = {path, whole_folder(path) or file_of_journal(path) or path}

    def among(globs: Sequence[str]) -> bool:
        return any(fnmatch.fnmatchcase(name, g) for name in names for g in globs)

    return (not include or among(include)) and not among(exclude)


def is_taken(path: str, include: Sequence[str], exclude: Sequence[str]) -> bool:
    """Whether a listed file is processed: it is not litter, nor of our own account, and it passes the globs."""
    return why_ignored(path, include, exclude) is None


def is_source_taken(source: str, include: Sequence[str], exclude: Sequence[str]) -> bool:
    """Whether a source is processed, by its path; for a folder also by its contents."""
    inside = source
    if source.lower().endswith(".gdb"):
        inside = f"{source}/a00000001.gdbtable"
    elif not kind_of(source):
        inside = f"{source}0/part.parquet" if source.endswith("=") else f"{source}/any=0/part.parquet"
    return is_taken(inside, include, exclude)


#: In a container of COGs: receipts (`receipts/model.py`), and the items of collections (`stages/items_file.py`).
_ACCOUNT = re.compile(
    r"_receipts/[^/]+/\d{6,}-[0-9a-f]{12}\.json(\.gz)?|_collections/[^/]+/[0-9a-f]{16}/items\.parquet"
)


def why_ignored(path: str, include: Sequence[str], exclude: Sequence[str]) -> str | None:
    """Return why a listed file is ignored; None for one that is processed."""
    if is_litter(path):
        return "left behind by an operating system or a program"
    if _ACCOUNT.fullmatch(path):
        return "a receipt or a list of items that this pipeline keeps beside its COGs"
    return None if matches(path, include, exclude) else "left out by include or exclude"


def group_sources(members: Iterable[Member]) -> Iterator[Source]:
    """Yield the sources of a listing that is ordered by `name_key`; only one group is held at a time."""
    for _, group in groupby(members, key=lambda m: name_key(m.path)):
        yield from _sources_of(list(group))


def sorted_sources(members: Iterable[Member]) -> list[Source]:
    """Return the sources of a listing in any order, which fits into memory."""
    return list(group_sources(sorted(members, key=lambda m: (*name_key(m.path), m.path))))


def siblings(path: Path) -> list[Path]:
    """Return a file and the sidecars beside it, as an ingestion would group them."""
    beside = [p for p in path.absolute().parent.iterdir() if p.is_file() and name_key(p.name) == name_key(path.name)]
    groups = group_sources(Member(path=p.name, size=0, etag="") for p in sorted(beside))
    names = next(
        (source.members for source in groups if source.path == path.name), (Member(path=path.name, size=0, etag=""),)
    )
    return [path.absolute().parent / member.path for member in names]


def _ending(path: str) -> str:
    name = path.rpartition("/")[2].lower()
    return "." + name.rpartition(".")[2] if "." in name else ""


def is_companion(path: str) -> bool:
    """Whether a file that belongs to no source accompanies the data for people or other programs."""
    name = path.rpartition("/")[2].lower()
    return (
        _ending(path) in _COMPANION or name.endswith(_COMPANION_PARTS) or _COMPANION_NAMES.fullmatch(name) is not None
    )


def kind_of(path: str) -> Kind | None:
    """Return the kind that a file's name indicates; None for sidecars and unknown files."""
    if path.lower().endswith(_TAR_GZ):
        return Kind.ZIP
    ending = _ending(_unpacked(path.lower()))
    if _COMPANION_NAMES.fullmatch(path.rpartition("/")[2].lower()):
        return None
    for kind, endings in ((Kind.RASTER, _RASTER), (Kind.VECTOR, _VECTOR), (Kind.ZIP, _ZIP)):
        if ending in endings:
            return kind
    return None


def is_packed(path: str) -> bool:
    """Whether a file's name indicates an archive, or another packed file that no stage unpacks."""
    kind = kind_of(path)
    return kind is Kind.ZIP or (kind is None and path.lower().endswith(_PACKED))


def _unpacked(lower: str) -> str:
    """Return a lower-case name without the `.gz` of a single gzipped vector file."""
    bare = lower.removesuffix(_GZ)
    return bare if _ending(bare) in _VECTOR - _NEVER_PACKED else lower


def _sources_of(group: list[Member]) -> Iterator[Source]:
    """Yield the sources of one key: a folder that is one, and files beside it with the same name (`roads.gdb.zip`)."""
    folders: dict[str, list[Member]] = {}
    files: list[Member] = []
    for member in group:
        whole = whole_folder(member.path)
        (folders.setdefault(whole, []) if whole else files).append(member)
    names = {member.path for member in files}
    for path, members in folders.items():  # Azure allows a blob and a folder with the same name
        yield Source(path=f"{path}/" if path in names else path, kind=Kind.VECTOR, members=tuple(members))
    yield from _sources_of_files(files)


def _sources_of_files(group: list[Member]) -> Iterator[Source]:
    kinds = {
        m.path: kind
        for m in group
        if (kind := kind_of(m.path) or _described(m, group)) and not _places_a_picture(m, group)
    }
    owners = {path: [m] for m in group if (path := m.path) in kinds}
    orphans: list[Member] = []
    for member in group:
        if member.path in owners:
            continue
        fitting = [o for o in owners if _belongs(member.path, o)]
        if not fitting:
            orphans.append(member)
        for owner in fitting:  # a .prj beside a shapefile and a grid with the same name belongs to both
            owners[owner].append(member)
    for path, members in owners.items():
        yield Source(path=path, kind=kinds[path], members=tuple(members))
    for member in orphans:
        yield Source(path=member.path, kind=_kind_alone(member.path), members=(member,))


def _kind_alone(path: str) -> Kind:
    """Return the kind of a file that is not a source and belongs to none."""
    lower = path.lower()
    appended = lower.endswith(_APPENDED[:4])  # all but plain `.xml`
    if is_companion(path) and not appended:
        return Kind.COMPANION
    parts = _SHAPEFILE_PARTS | _WORLD.keys() | {_HEADER, ".mid", ".gfs"}
    known = appended or _ending(path) in parts or file_of_journal(path) is not None
    return Kind.SIDECAR if known else Kind.UNSUPPORTED


#: A folder of Hive partitioning, whose name is a value of a column: `year=2024`.
_PARTITION = re.compile(r"[^\W\d]\w*=.*", re.DOTALL)
_PARQUET = (".parquet", ".geoparquet")


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


def path_within(member: str, source: str) -> str:
    """Return the path of a file within the folder that is its source."""
    return member if source.endswith("=") else member.removeprefix(f"{source.rstrip('/')}/")


def _places_a_picture(member: Member, group: list[Member]) -> bool:
    """Whether a `.tab` only georeferences a raster with the same name, and is not a table."""
    if _ending(member.path) != ".tab":
        return False
    endings = {_ending(other.path) for other in group}
    return bool(endings & _RASTER) and not endings & _MAPINFO_DATA


def _described(member: Member, group: list[Member]) -> Kind | None:
    """Return RASTER for a file that only its header identifies as raw pixels."""
    raw = not member.path.lower().endswith(_HEADER) and _ending(member.path) in _RAW
    return Kind.RASTER if raw and any(_describes(other.path, member.path) for other in group) else None


def _describes(header: str, pixels: str) -> bool:
    lower, stem = pixels.lower(), pixels.lower()
    if _ending(pixels):
        stem = lower.rpartition(".")[0]
    return _ending(pixels) in _RAW and header.lower() in {f"{lower}{_HEADER}", f"{stem}{_HEADER}"}


def _belongs(sidecar: str, owner: str) -> bool:
    """Whether `sidecar` belongs to `owner`; both have the same `name_key`."""
    lower, owner_lower = sidecar.lower(), owner.lower()
    if file_of_journal(lower) == owner_lower:
        return True
    for ending in _APPENDED:
        if lower.endswith(ending) and lower.removesuffix(ending) in {owner_lower, owner_lower.rpartition(".")[0]}:
            return True
    ending, owned = _ending(sidecar), _ending(owner)
    if lower.endswith(_RPC_TEXT):
        return owned in _RASTER
    if owned == ".shp":
        return ending in _SHAPEFILE_PARTS
    if owned in _VECTOR_PARTS:
        return ending in _VECTOR_PARTS[owned]
    if ending == _HEADER:
        return _describes(sidecar, owner)
    return (ending in {".prj", ".tab"} and owned in _RASTER | _RAW) or owned in _WORLD.get(ending, ())
