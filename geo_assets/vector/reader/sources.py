"""Sources: the datasets in an upload, each under a private name with which it can be opened.

Here: the steps: unpack, identify, check, link. The name of an upload proves nothing and never reaches GDAL.
Not here: the allow-list of formats (`formats.py`), the checks before a library opens a file (`checks.py`), reading
features (`layers.py`).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from shutil import rmtree
from tempfile import TemporaryDirectory

from geo_assets.archives import notes_on_names
from geo_assets.errors import ErrorClass, GeoAssetsError
from geo_assets.storage.journals import file_of_journal, refuse_unwritten
from geo_assets.storage.kinds import Kind, kind_of, whole_folder
from geo_assets.text import how_many
from geo_assets.vector.encodings import NOT_BY_GDAL, encoding_of_dbf, find_codec, gdal_name
from geo_assets.vector.models import LayerOptions
from geo_assets.vector.reader import gml_text, gpkg_alone
from geo_assets.vector.reader.batches import beside
from geo_assets.vector.reader.checks import MAPINFO_PARTS, SHAPEFILE_PARTS, check_file, parts_of
from geo_assets.vector.reader.dbf_layout import Dbf, cut_long_texts, whole_of
from geo_assets.vector.reader.formats import ENDINGS, GZIP, OWN_ENDING, ZIP, Format, head_of, identify
from geo_assets.vector.reader.kml_layers import copy_of_layers
from geo_assets.vector.reader.kml_links import kml_documents, links_of
from geo_assets.vector.reader.kml_schemas import KmlText, copy_for_gdal, first_declared
from geo_assets.vector.reader.listing import Listing, layers_of
from geo_assets.vector.reader.mapinfo_text import Charset, as_latin_1
from geo_assets.vector.reader.mif_columns import Header
from geo_assets.vector.reader.parts import check_parts
from geo_assets.vector.reader.prj import make_readable
from geo_assets.vector.reader.read_once import read_ahead
from geo_assets.vector.reader.threads import beside_gdal
from geo_assets.vector.reader.unpacking import gunzipped, listed, made_whole, unpack_whole
from geo_assets.vector.reader.xml_numbers import Seen, check_numbers

#: Text formats in which a coordinate may be any text.
_XML = frozenset({Format.KML, Format.GML, Format.GPX})

#: What a file of JSON-FG, OGC's extension of GeoJSON, says that it conforms to.
_JSON_FG = b"opengis.net/spec/json-fg"

#: Formats with journals.
_SQLITE = frozenset({Format.GPKG, Format.SQLITE})

#: Of an archive whose rasters lie in another one, which was unpacked in search of vectors.
_OF_RASTERS = "put rasters into a zip of their own, not into one within another"

_ENCODING_SAMPLE_BYTES = 64 * 1024**2


@dataclass(frozen=True, slots=True)
class Dataset:
    """One file (or FileGDB) that can be opened."""

    path: Path  # under a name of ours
    format: Format
    name: str  # its name in messages
    stem: str
    member: str | None = None  # its path within the archive
    encoding: str | None = None  # of its text, where the format does not define it
    as_bytes: str | None = None  # the same, of text that GDAL delivers as its bytes, in Latin-1
    notes: tuple[str, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)  # layers that are not read, and why
    options: LayerOptions = field(default_factory=LayerOptions)
    features: Mapping[str, int] = field(
        default_factory=dict
    )  # least features of a layer, as counted in the text; "": the only layer
    declared: Mapping[str | int, str] = field(
        default_factory=dict
    )  # wire types of columns that GDAL delivers as text, by name in lower case, of a MIF by position
    unread: Mapping[str, Mapping[int, str]] = field(
        default_factory=dict
    )  # geometries of a GML that GDAL does not read, or in part: what is wrong, by layer and position
    named: Mapping[str, str] = field(default_factory=dict)  # values that may become no column: which would have them
    references: Mapping[str, Collection[str]] = field(
        default_factory=dict
    )  # what names the CRS of geometries of a GML, by layer
    listing: Listing | None = None  # its layers, where they are known

    def in_words(self, said: str) -> str:
        """Return what a library says of the file, with its name in the place of ours, and without our folders."""
        folders = re.escape(str(self.path.parent)), r"(?<![\w.])/[^\s'\":]*"  # the second: where it was before
        plain = re.sub(rf"(?:{'|'.join(folders)})/({re.escape(self.path.stem)}\.)", r"\1", " ".join(said.split()))
        return plain.replace(self.path.name, self.name)


@dataclass(frozen=True, slots=True)
class Source:
    """An upload, ready to be opened."""

    name: str
    datasets: tuple[Dataset, ...]
    warnings: tuple[str, ...] = ()
    left_out: tuple[GeoAssetsError, ...] = ()  # members that cannot be opened


def prepare(path: Path, *, max_unpacked_bytes: int, options: LayerOptions | None = None) -> Source:
    """Identify an upload, unpack it if it is an archive, and link what can be opened. May be repeated.

    Args:
        path: the upload, in a directory that is its own.
        max_unpacked_bytes: most bytes that an archive may unpack to.
        options: how to read it.

    Raises:
        GeoAssetsError: UNREADABLE, VECTOR_UNSUPPORTED, INCOMPLETE_SHAPEFILE, VECTOR_NO_LAYERS, or what `unpack` raises.
    """
    options = options or LayerOptions()
    if path.is_dir():
        return Source(path.name, (_dataset(path, path.name, path.parent / ".opened" / "0", options),))
    head = head_of(path)
    if head.startswith(GZIP):
        path = gunzipped(path, max_unpacked_bytes)
        head = head_of(path)
    if not head.startswith(ZIP) or path.suffix.lower() == ".xlsx":
        return Source(path.name, (_dataset(path, path.name, path.parent / ".opened" / "0", options),))
    if path.suffix.lower() not in {".zip", ".kmz"}:
        raise GeoAssetsError(
            "VECTOR_UNSUPPORTED",
            f"{path.name} is a zip, which its name does not say",
            remedy="name it .zip, or upload what is in it",
        )
    folder = path.parent / ".unpacked"
    if not folder.exists():
        unpack_whole(path, folder, max_unpacked_bytes)
    members = sorted(PurePosixPath(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
    if path.suffix.lower() == ".kmz":
        members = kml_documents(folder, members, path.name)
    return _archive(path, folder, members, path.parent / ".opened", options)


def _archive(path: Path, folder: Path, members: Sequence[PurePosixPath], opened: Path, options: LayerOptions) -> Source:
    name = path.name
    wanted, others = _datasets_among(members)
    if not wanted:
        raise GeoAssetsError(
            "VECTOR_NO_LAYERS",
            f"{name} holds no vector file that is supported; it holds {listed(members)}",
            remedy=_OF_RASTERS if any(kind_of(str(member)) is Kind.RASTER for member in members) else None,
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
    unread = (f"{name} also holds what no table is made of: {listed(others)}",) if others else ()
    return Source(name, tuple(datasets), (*unread, *notes_on_names(path, name)), tuple(left_out))


def _datasets_among(members: Sequence[PurePosixPath]) -> tuple[list[PurePosixPath], list[PurePosixPath]]:
    """Return what can be opened by its name (a folder that is one source counts once), and the files that belong to
    none.
    """
    wanted: dict[PurePosixPath, None] = {}
    others = []
    stems = {member.with_suffix("") for member in members if member.suffix.lower() in {".shp", ".tab", ".mif"}}
    for member in members:
        whole = whole_folder(str(member))
        if whole is not None:
            wanted[PurePosixPath("." if whole.endswith("=") else whole)] = None  # the archive itself is the table
        elif member.suffix.lower() in ENDINGS.keys() - {".gdb"}:
            wanted[member] = None
        elif not any(str(member).lower().startswith(f"{stem}.".lower()) for stem in stems):
            others.append(member)
    databases = {str(member) for member in wanted}
    return list(wanted), [member for member in others if file_of_journal(str(member)) not in databases]


def _dataset(path: Path, name: str, folder: Path, options: LayerOptions, member: str | None = None) -> Dataset:
    """Check one file and link it into a folder of its own, under a name of ours."""
    kind = _kind_of_folder(path, name) if path.is_dir() else identify(path, name)
    if kind in _SQLITE:
        refuse_unwritten(path, name)
    left_out = check_file(path, kind, name)
    own = folder / f"data{path.suffix.lower() if kind is Format.MAPINFO else OWN_ENDING[kind]}"
    header = Header.of(path) if own.suffix == ".mif" else None
    charset = Charset.of(path, parts_of(path, MAPINFO_PARTS), options) if kind is Format.MAPINFO else None
    as_bytes = charset.codec if charset and charset.by_us and (header or own.suffix == ".tab") else None
    seen, listing = Seen(), None
    if not folder.exists():
        with made_whole(folder) as unfinished:
            if kind in _XML:
                seen, listing = _looked_at(path, kind, unfinished / own.name, name, folder)
            else:
                _lay_out(path, kind, unfinished / own.name, name, header, latin_1=as_bytes is not None)
    elif kind in _XML:
        seen = check_numbers(path, name)
    if own.suffix == ".mif":
        counted, _ = beside_gdal(partial(check_parts, own, name), partial(read_ahead, own, folder, kind))
    else:
        counted = check_parts(own, name)
    features = seen.gml.features if counted is None else {"": counted}
    encoding, notes = (
        _declared_encoding(path, own, options) if kind is Format.SHAPEFILE else (None, _notes(path, kind, name))
    )
    if charset:
        encoding, notes = charset.codec, (*notes, *filter(None, [charset.note]))
    elif encoding in NOT_BY_GDAL:
        as_bytes = encoding
    declared = header.declared() if header else seen.kml.declared_types()
    notes += (*_several(seen, name), *seen.kml.notes(name))
    return Dataset(
        own,
        kind,
        name,
        path.stem,
        member,
        encoding,
        as_bytes,
        notes,
        left_out,
        options,
        features,
        declared,
        seen.gml.unread,
        seen.named,
        seen.gml.references,
        listing,
    )


def _kind_of_folder(path: Path, name: str) -> Format:
    """Return the format of a folder: a FileGDB, or Parquet files that are one table."""
    names = {p.name.lower() for p in path.iterdir()}
    if path.suffix.lower() == ".gdb" or "gdb" in names:
        return Format.FILEGDB
    if any(p.suffix.lower() in {".parquet", ".geoparquet"} for p in path.rglob("*")):
        return Format.PARQUET
    raise GeoAssetsError(
        "VECTOR_UNSUPPORTED", f"{name} is a folder, but neither a FileGDB nor a table in Parquet files"
    )


def _notes(path: Path, kind: Format, name: str) -> tuple[str, ...]:
    """Return notes about links of a KML, which are not followed, except within a KMZ, and about what is not read."""
    links = links_of(path) if kind is Format.KML else []
    outside = [PurePosixPath(link) for link in links if not (path.parent / link).is_file()]
    notes = []
    if outside:
        files = how_many(len(outside), "file that is", "files that are")
        notes.append(f"{name} links to {files} not followed: {listed(outside)}")
    if kind is Format.GEOJSON and _JSON_FG in head_of(path):
        notes.append(f"{name} is JSON-FG, of which only what GeoJSON has is read: no `place`, `time` or `coordRefSys`")
    return tuple(notes)


def _several(seen: Seen, name: str) -> tuple[str, ...]:
    """Return notes about features with several geometries."""
    found = {f"layer {layer!r} of {name}": count for layer, count in seen.gml.several.items()}
    found[name] = seen.kml.several
    several = "several geometries, of which only the last is read"
    return tuple(
        f"{how_many(count, f'feature of {where} has', f'features of {where} have')} {several}"
        for where, count in found.items()
        if count
    )


def _declared_encoding(path: Path, own: Path, options: LayerOptions) -> tuple[str, tuple[str, ...]]:
    """Determine the encoding of a shapefile's text and write it to a .cpg of ours, where GDAL looks for it."""
    theirs = parts_of(path, SHAPEFILE_PARTS).get(".cpg")
    declared = (
        theirs.read_bytes()[:40].decode("ascii", "replace").strip(" \t\r\n\0\ufeff") if theirs is not None else None
    )
    dbf = Dbf.open(whole_of(own.with_suffix(".dbf")))
    text = dbf.character_bytes(_ENCODING_SAMPLE_BYTES) if dbf is not None else b""
    codec, note = encoding_of_dbf(text, declared or None, dbf.page if dbf is not None else 0)
    if options.encoding:
        codec, note = find_codec(options.encoding) or codec, None
    cpg = own.with_suffix(".cpg")
    cpg.unlink(missing_ok=True)
    cpg.write_text("ISO-8859-1" if codec in NOT_BY_GDAL else gdal_name(codec))  # bytes as they are, for the DBF's check
    return codec, (note,) if note else ()


def _looked_at(path: Path, kind: Format, own: Path, name: str, folder: Path) -> tuple[Seen, Listing | None]:
    """Link or copy a text of XML, and look at it while GDAL reads it.

    Args:
        path: the text.
        kind: its format.
        own: the link or copy.
        name: of the text, in messages.
        folder: where the link or copy will be.

    Returns: what the text says, and its layers, unless they have to be listed later.
    """
    if kind is not Format.KML:
        _link(path, own)
        seen, listing = beside_gdal(partial(check_numbers, path, name), partial(_layers_of, own, kind, folder))
        if not seen.gml.wants_a_copy:
            return seen, listing
        _forget(own, folder)
        gml_text.copy_for_gdal(path, own, seen.gml)
        return seen, None
    expected = first_declared(path)
    _placed(path, own, expected)
    seen, _ = beside_gdal(partial(check_numbers, path, name), partial(read_ahead, own, folder, kind))
    if seen.kml.changes != expected.changes:
        _forget(own, folder)
        _placed(path, own, seen.kml)
    return seen, _layers_of_kml(path, own, seen.kml)


def _layers_of(own: Path, kind: Format, folder: Path) -> Listing:
    """List the layers of a GML or a GPX; of a GML the first is read before, by which GDAL finds its columns, too."""
    if kind is Format.GML:
        with suppress(Exception):
            read_ahead(own, folder, kind)
    return layers_of(own, kind)


def _forget(own: Path, folder: Path) -> None:
    """Remove a text, and what GDAL made of it, which was not what it should have read."""
    for file in own.parent.glob(f"{own.stem}.*"):
        file.unlink()
    rmtree(beside(folder, 0), ignore_errors=True)


def _placed(kml: Path, own: Path, text: KmlText) -> None:
    if text.changes:
        copy_for_gdal(kml, own, text)
    else:
        _link(kml, own)


def _layers_of_kml(kml: Path, own: Path, text: KmlText) -> Listing | None:
    """List the layers of a KML by a small copy, whose name may be the name of its only layer."""
    with TemporaryDirectory(dir=own.parent) as folder, suppress(Exception):
        small = Path(folder) / own.name
        copy_of_layers(kml, small, text.rows)
        return layers_of(small, Format.KML)
    return None


def _lay_out(path: Path, kind: Format, own: Path, name: str, header: Header | None, *, latin_1: bool) -> None:
    if kind is Format.ESRI_JSON:
        from geo_assets.vector.reader import esri_json

        esri_json.copy(path, own, name)
        return
    if header:
        header.copy_as_text(path, own, latin_1=latin_1)
    elif latin_1:
        own.write_bytes(as_latin_1(path.read_bytes()))
    else:
        _link(path, own)
    if kind in {Format.SHAPEFILE, Format.MAPINFO}:
        for part in parts_of(path, SHAPEFILE_PARTS if kind is Format.SHAPEFILE else MAPINFO_PARTS).values():
            _link(part, own.with_suffix(part.suffix.lower()))
    if kind is Format.GPKG:
        gpkg_alone.set_apart(own)
    if kind is Format.SHAPEFILE:
        cut_long_texts(own.with_suffix(".dbf"))
        if own.with_suffix(".prj").exists():
            make_readable(own.with_suffix(".prj"))


def _link(path: Path, to: Path) -> None:
    """Link a file by hard link if possible; a directory, or a file on another file system, cannot have one."""
    try:
        to.hardlink_to(path)
    except OSError:
        to.symlink_to(path.absolute())
