"""The contents of a zip, by the names in its directory: rasters, vectors or both. Nothing is unpacked.

Here: reading that directory by ranges, within limits, and the classification of the names; which files are listed in
this way.
Not here: unpacking (`geo_assets/archives.py`), which kinds there are (`kinds.py`), what a GeoPackage holds
(`geopackages.py`). Here, too, a name proves nothing.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from geo_assets.archives import MAX_MEMBERS
from geo_assets.errors import ErrorClass, GeoAssetsError
from geo_assets.litter import is_litter
from geo_assets.storage import geopackages
from geo_assets.storage.blobs import blob_path
from geo_assets.storage.kinds import Kind, kind_of
from geo_assets.storage.sources import Member, Source, sorted_sources

if TYPE_CHECKING:
    from geo_assets.storage.containers import Container

T = TypeVar("T")

_GEOPACKAGE = ".gpkg"

#: Bytes at the end of a zip that are read at once; the whole directory of most.
_TAIL = 128 * 1024

#: Most bytes of a directory that are read: 10,000 entries of 400 bytes.
_MAX_DIRECTORY = 4 * 1024**2

#: Zips that are read at a time: each needs one or two small requests.
_THREADS = 16

#: Endings of metadata where there are rasters; without rasters they are data.
_METADATA = (".json", ".gml", ".dxf")

#: Endings of illustrations where there are vectors, unless something georeferences them.
_PICTURES = (".png", ".jpg", ".jpeg")


@dataclass(frozen=True, slots=True)
class Contents:
    """The names in a zip, by the stage that reads them."""

    rasters: tuple[str, ...]
    vectors: tuple[str, ...]
    others: tuple[str, ...]

    @property
    def holds(self) -> tuple[Kind, ...]:
        """Return the kinds that there are."""
        return tuple(kind for kind, names in ((Kind.RASTER, self.rasters), (Kind.VECTOR, self.vectors)) if names)


def contents(names: Iterable[str]) -> Contents:
    """Sort the names of a zip by stage. Sidecars stay with their main file."""
    members = [Member(path=name, size=0, etag="") for name in names if not is_litter(name)]
    sources = sorted_sources(members)
    vectors = [s for s in sources if s.kind is Kind.VECTOR]
    rasters = [s for s in sources if s.kind is Kind.RASTER]
    data = [s for s in vectors if not s.path.lower().endswith(_METADATA)]
    placed = [s for s in rasters if not (s.path.lower().endswith(_PICTURES) and len(s.members) == 1)]
    rasters, vectors = (placed if data else rasters), (data if placed else vectors)
    read = {s.path for s in (*rasters, *vectors)}
    return Contents(_paths(rasters), _paths(vectors), _paths(s for s in sources if s.path not in read))


def _paths(sources: Iterable[Source]) -> tuple[str, ...]:
    return tuple(source.path for source in sources)


def is_looked_into(path: str) -> bool:
    """Whether a file's name does not decide which stages read it: an archive, a GeoPackage."""
    return kind_of(path) is Kind.ZIP or path.lower().endswith(_GEOPACKAGE)


def is_tar(path: str) -> bool:
    """Whether a file's name says that it is a tar, compressed or not."""
    return kind_of(path) is Kind.ZIP and not path.lower().endswith(".zip")


def look_into(container: Container, members: Iterable[Member]) -> Iterator[Member]:
    """Yield the same members in the same order; archives and GeoPackages with what they contain.

    Raises:
        GeoAssetsError: STORAGE_UNAVAILABLE.
    """
    waiting = [(member, is_looked_into(member.path)) for member in members]
    with ThreadPoolExecutor(max_workers=_THREADS, thread_name_prefix="zips") as threads:
        seen = threads.map(lambda member: _looked_into(container, member), [m for m, inside in waiting if inside])
        for member, inside in waiting:
            yield next(seen) if inside else member


def _looked_into(container: Container, member: Member) -> Member:
    if member.path.lower().endswith(_GEOPACKAGE):
        return member.model_copy(update={"holds": _asked(lambda: _of_geopackage(container, member))})
    if is_tar(member.path):  # it has no directory: it is assumed to contain rasters, like satellite scenes
        return member.model_copy(update={"holds": (Kind.RASTER,)})
    names = _asked(lambda: _names(container, member))
    return member if names is None else member.model_copy(update={"holds": contents(names).holds})


def _asked(look: Callable[[], T | None]) -> T | None:
    """Return the result; None where the store does not give the file, which the stage that opens it will report; raise
    if the store is only unavailable now.
    """
    try:
        return look()
    except GeoAssetsError as error:
        if error.error_class is ErrorClass.TRANSIENT:
            raise
        return None


def _of_geopackage(container: Container, member: Member) -> tuple[Kind, ...] | None:
    path = blob_path(member.path)
    return geopackages.kinds_in(lambda start, count: container.read_range(path, start, count), member.size)


def _names(container: Container, member: Member) -> list[str] | None:
    """Return the files of a zip; None where it cannot be listed, which the stage that opens it will report."""
    try:
        with zipfile.ZipFile(_Ranges(container, blob_path(member.path), member.size)) as zipped:
            entries = [e.filename.replace("\\", "/") for e in zipped.infolist() if not e.is_dir()]
    except (
        zipfile.BadZipFile,
        EOFError,
        NotImplementedError,
        ValueError,
        RuntimeError,
        OSError,
        MemoryError,
        OverflowError,
    ):
        return None
    return entries if len(entries) <= MAX_MEMBERS else None


class _Ranges:
    """A file-like object for `zipfile` to read the directory: the end at once, the rest by ranges, within a limit."""

    def __init__(self, container: Container, path: str, size: int) -> None:
        self._container, self._path, self._size = container, path, size
        self._at, self._left = 0, _MAX_DIRECTORY
        self._tail_from = max(0, size - _TAIL)
        self._tail = container.read_range(path, self._tail_from, size - self._tail_from) if size else b""

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return where the next read begins."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a position."""
        at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if at < 0:
            msg = "before the beginning"
            raise ValueError(msg)
        self._at = at
        return at

    def read(self, count: int = -1) -> bytes:
        """Return bytes from the current position.

        Raises:
            ValueError: the directory is unreasonably large.
        """
        start, end = self._at, self._size if count < 0 else min(self._size, self._at + count)
        if end <= start:
            return b""
        self._left -= end - start
        if self._left < 0:
            msg = "a directory that is too long"
            raise ValueError(msg)
        self._at = end
        if start >= self._tail_from:
            return self._tail[start - self._tail_from : end - self._tail_from]
        return self._container.read_range(self._path, start, end - start)
