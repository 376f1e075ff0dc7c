"""The sources of a container: its files, grouped with the sidecars that belong to them, and the rest.

Here: the endings of sidecars and the grouping, by name alone, in a stream.
Not here: what a file is by its name (`kinds.py`), opening one.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from geo_assets.litter import is_litter
from geo_assets.storage.journals import file_of_journal
from geo_assets.storage.kinds import (
    RASTER,
    TAR_GZ,
    VECTOR,
    ZIP,
    Kind,
    ending_of,
    is_companion,
    kind_of,
    unpacked,
    whole_folder,
)

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
    ".wld": RASTER,
    ".rpb": RASTER,
    ".imd": RASTER,
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
    ".aux": RASTER,  # ERDAS, like the next three
    ".rrd": RASTER,
    ".ige": {".img"},
    ".rde": {".img", ".rrd"},
}

#: Sidecars whose name is the whole name of the main file and an ending: `a.tif.aux.xml`, `a.tif.ovr`, `roads.shp.xml`.
_APPENDED = (".aux.xml", ".shp.xml", ".ovr", ".msk", ".xml")

#: RPCs as GeoEye and WorldView deliver them: the stem of the raster and this.
_RPC_TEXT = "_rpc.txt"


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
    if lower.endswith((_HEADER, TAR_GZ)) or unpacked(lower) != lower:
        lower = lower.rpartition(".")[0]
    stem, dot, _ = lower.rpartition(".")
    known = dot and ending_of(lower) in _STEMMED
    return folder, stem if known and stem else lower


#: Endings in which files of one source may differ.
_STEMMED = (
    RASTER | VECTOR | ZIP | _SHAPEFILE_PARTS | _WORLD.keys() | _RAW | frozenset[str]().union(*_VECTOR_PARTS.values())
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
    known = appended or ending_of(path) in parts or file_of_journal(path) is not None
    return Kind.SIDECAR if known else Kind.UNSUPPORTED


def path_within(member: str, source: str) -> str:
    """Return the path of a file within the folder that is its source."""
    return member if source.endswith("=") else member.removeprefix(f"{source.rstrip('/')}/")


def _places_a_picture(member: Member, group: list[Member]) -> bool:
    """Whether a `.tab` only georeferences a raster with the same name, and is not a table."""
    if ending_of(member.path) != ".tab":
        return False
    endings = {ending_of(other.path) for other in group}
    return bool(endings & RASTER) and not endings & _MAPINFO_DATA


def _described(member: Member, group: list[Member]) -> Kind | None:
    """Return RASTER for a file that only its header identifies as raw pixels."""
    raw = not member.path.lower().endswith(_HEADER) and ending_of(member.path) in _RAW
    return Kind.RASTER if raw and any(_describes(other.path, member.path) for other in group) else None


def _describes(header: str, pixels: str) -> bool:
    lower, stem = pixels.lower(), pixels.lower()
    if ending_of(pixels):
        stem = lower.rpartition(".")[0]
    return ending_of(pixels) in _RAW and header.lower() in {f"{lower}{_HEADER}", f"{stem}{_HEADER}"}


def _belongs(sidecar: str, owner: str) -> bool:
    """Whether `sidecar` belongs to `owner`; both have the same `name_key`."""
    lower, owner_lower = sidecar.lower(), owner.lower()
    if file_of_journal(lower) == owner_lower:
        return True
    for ending in _APPENDED:
        if lower.endswith(ending) and lower.removesuffix(ending) in {owner_lower, owner_lower.rpartition(".")[0]}:
            return True
    ending, owned = ending_of(sidecar), ending_of(owner)
    if lower.endswith(_RPC_TEXT):
        return owned in RASTER
    if owned == ".shp":
        return ending in _SHAPEFILE_PARTS
    if owned in _VECTOR_PARTS:
        return ending in _VECTOR_PARTS[owned]
    if ending == _HEADER:
        return _describes(sidecar, owner)
    return (ending in {".prj", ".tab"} and owned in RASTER | _RAW) or owned in _WORLD.get(ending, ())
