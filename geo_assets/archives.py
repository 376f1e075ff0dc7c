"""Archives: unpacking an uploaded zip or tar in our own code, within limits.

Here: refusing what no honest archive has (paths out of it, links, passwords, bombs), and writing the rest to a
directory that the caller owns. Not here: what the members are (`vector/reader/sources.py`,
`raster/archives.py`). GDAL never
opens the archive itself.
"""

from __future__ import annotations

import gzip
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Self, cast

from geo_assets.errors import GeoAssetsError
from geo_assets.litter import is_litter

#: A FileGDB has hundreds of files; no delivery has ten thousand datasets.
MAX_MEMBERS = 10_000

#: Most bytes that an archive may unpack to, unless a request says otherwise.
MAX_UNPACKED_BYTES = 20 * 1024**3

#: Deflate cannot exceed 1032:1, and honest data stays far below; blank DBF columns reach it, so small members are let
#: off.
MAX_RATIO = 100
_RATIO_FROM_BYTES = 16 * 1024**2

_MAX_PATH = 512
_MAX_NAME_BYTES = 255  #: of each part of a path, the limit of file systems; a longer one cannot be written
_COPY_BYTES = 1024**2
_ENCRYPTED, _UTF_8 = 0x1, 0x800  # flags of a member of a zip
_NAMED = 3  #: members that a note names

_GZIP, _TAR_AT, _TAR = b"\x1f\x8b", 257, b"ustar"


@dataclass(frozen=True, slots=True)
class _Entry:
    info: zipfile.ZipInfo
    path: PurePosixPath


def unpack(archive: Path, into: Path, *, max_bytes: int, name: str) -> list[PurePosixPath]:
    """Unpack a zip or tar, by its first bytes; returns the members' paths, without directories and litter.

    Args:
        archive: the file.
        into: a directory that is ours alone; made if need be.
        max_bytes: most bytes that all members together may have.
        name: what the archive is called in messages.

    Raises:
        GeoAssetsError: UNSAFE_ARCHIVE, TOO_LARGE, EMPTY_ARCHIVE, UNREADABLE.
        OSError: the disk is full.
    """
    if _is_tar(archive):
        return _unpack_tar(archive, into, max_bytes, name)
    with _reading(name), zipfile.ZipFile(archive) as zipped:
        entries = [_entry(info, name) for info in zipped.infolist()]
        files = [entry for entry in entries if not entry.info.is_dir() and not is_litter(str(entry.path))]
        if not files:
            raise GeoAssetsError("EMPTY_ARCHIVE", f"{name} holds no file")
        _check_sizes(entries, max_bytes, name)
        _check_distinct(files, name)
        into.mkdir(parents=True, exist_ok=True)
        for entry in files:
            _write(zipped, entry, into / entry.path, name)
    return [entry.path for entry in files]


def notes_on_names(archive: Path, name: str) -> tuple[str, ...]:
    """A note where a zip has names of which it does not say that they are UTF-8: without that they are CP437 by the
    standard, and most programs write another encoding.
    """
    if _is_tar(archive):
        return ()
    with _reading(name), zipfile.ZipFile(archive) as zipped:
        read = [i.filename for i in zipped.infolist() if not (i.flag_bits & _UTF_8 or i.orig_filename.isascii())]
    more = f" and {len(read) - _NAMED} more" if len(read) > _NAMED else ""
    told = f"names in {name} are not said to be UTF-8 and were read as CP437: {', '.join(read[:_NAMED])}{more}"
    return (told,) if read else ()


def _is_tar(archive: Path) -> bool:
    with archive.open("rb") as file:
        head = file.read(_TAR_AT + len(_TAR))
    return head.startswith(_GZIP) or head[_TAR_AT:] == _TAR


def _unpack_tar(archive: Path, into: Path, max_bytes: int, name: str) -> list[PurePosixPath]:
    """Unpack in one pass: a tar has no directory, so a fault of its last member is found after writing the others."""
    into.mkdir(parents=True, exist_ok=True)
    packed, total, seen = archive.stat().st_size, 0, set[PurePosixPath]()
    allowed = max(_RATIO_FROM_BYTES, MAX_RATIO * packed)
    with _reading(name), _plain(archive) as plain, tarfile.open(fileobj=plain, mode="r|", tarinfo=_Header) as tar:
        for number, member in enumerate(tar):
            if number >= MAX_MEMBERS:
                raise GeoAssetsError("UNSAFE_ARCHIVE", f"{name} has more than {MAX_MEMBERS:,} members")
            path = _path(member.name, name)
            if member.isdir():
                continue
            if not member.isreg() or member.issparse():
                raise GeoAssetsError(
                    "UNSAFE_ARCHIVE", f"{name} has a member that is a link, a device or sparse: {member.name[:100]!r}"
                )
            total += member.size
            if total > allowed:
                raise GeoAssetsError(
                    "UNSAFE_ARCHIVE", f"{name} unpacks to more than {MAX_RATIO} times its size, which is not data"
                )
            if total > max_bytes:
                raise GeoAssetsError(
                    "TOO_LARGE", f"{name} unpacks to more than the {max_bytes:,} bytes that are allowed"
                )
            if is_litter(str(path)):
                continue
            if path in seen or seen.intersection(path.parents) or (into / path).is_dir():
                raise GeoAssetsError("UNSAFE_ARCHIVE", f"{name} has two members at {str(path)[:100]!r}")
            seen.add(path)
            _write_from_tar(tar, member, into / path)
        _insist_on_end(tar, allowed)
    if not seen:
        raise GeoAssetsError("EMPTY_ARCHIVE", f"{name} holds no file")
    return sorted(seen)


class _Header(tarfile.TarInfo):
    """A member's header. `tarfile` ends at one that it cannot read as it does at the end marker, and what comes after
    would be lost: here, only the marker is the end.
    """

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> Self:
        """Read the next one.

        Raises:
            tarfile.ReadError: it is damaged, or the file ends without the marker: perhaps more has followed.
        """
        try:
            return super().fromtarfile(tarfile_)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.EmptyHeaderError:  # type: ignore[attr-defined]
            msg = "it ends without the mark of a tar's end: it may be cut off; if it is whole, pack it again"
            raise tarfile.ReadError(msg) from None
        except tarfile.HeaderError as error:
            msg = f"the header of a member is damaged ({error})"
            raise tarfile.ReadError(msg) from error


def _plain(archive: Path) -> BinaryIO:
    """A tar without its compression. `gzip` compares the checksum at the end, which `tarfile` does not read."""
    with archive.open("rb") as file:
        is_packed = file.read(len(_GZIP)) == _GZIP
    return cast("BinaryIO", gzip.open(archive)) if is_packed else archive.open("rb")


def _insist_on_end(tar: tarfile.TarFile, allowed: int) -> None:
    """After the end marker there are zeros alone, up to the end of the file: other bytes were members once."""
    while tar.fileobj and (rest := tar.fileobj.read(_COPY_BYTES)):
        allowed -= len(rest)
        if rest.strip(b"\0") or allowed < 0:
            msg = "more follows the mark of its end, so it is damaged"
            raise tarfile.ReadError(msg)


def _write_from_tar(tar: tarfile.TarFile, member: tarfile.TarInfo, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    source = tar.extractfile(member)
    with to.open("xb") as target:
        left = member.size
        while source and left and (part := source.read(min(_COPY_BYTES, left))):
            left -= len(part)
            target.write(part)
    if left:
        msg = f"{member.name} is cut off"
        raise EOFError(msg)


def check(archive: Path, *, max_bytes: int, name: str) -> None:
    """Refuse a zip that `unpack` would refuse, for a reader that opens it itself.

    Raises:
        GeoAssetsError: UNSAFE_ARCHIVE, TOO_LARGE, UNREADABLE.
    """
    with _reading(name), zipfile.ZipFile(archive) as zipped:
        entries = [_entry(info, name) for info in zipped.infolist()]
        _check_sizes(entries, max_bytes, name)
        for entry in entries:  # a wrong size is found out by counting
            left = entry.info.file_size
            with zipped.open(entry.info) as source:
                while part := source.read(_COPY_BYTES):
                    left -= len(part)
                    if left < 0:
                        raise GeoAssetsError(
                            "UNSAFE_ARCHIVE", f"{entry.path.name} of {name} unpacks to more than it says"
                        )


def gunzip(archive: Path, to: Path, *, max_bytes: int, name: str) -> None:
    """Unpack one gzip to a file.

    Raises:
        GeoAssetsError: UNSAFE_ARCHIVE, TOO_LARGE, UNREADABLE.
    """
    packed, written = archive.stat().st_size, 0
    try:
        with gzip.open(archive) as source, to.open("xb") as target:
            while part := source.read(_COPY_BYTES):
                written += len(part)
                if written > max_bytes:
                    raise GeoAssetsError("TOO_LARGE", f"{name} unpacks to more than {max_bytes:,} bytes")
                if written > _RATIO_FROM_BYTES and written > MAX_RATIO * packed:
                    raise GeoAssetsError(
                        "UNSAFE_ARCHIVE", f"{name} unpacks to more than {MAX_RATIO} to 1, which is not data"
                    )
                target.write(part)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise GeoAssetsError("UNREADABLE", f"{name} is damaged: {error}") from error


@contextmanager
def _reading(name: str) -> Iterator[None]:
    try:
        yield
    except (
        zipfile.BadZipFile,
        tarfile.TarError,
        gzip.BadGzipFile,
        EOFError,
        NotImplementedError,
        ValueError,
        RuntimeError,
    ) as error:
        raise GeoAssetsError("UNREADABLE", f"{name} is not readable as an archive: {error}") from error
    except Exception as error:
        if type(error).__module__ in {"zlib", "_lzma", "lzma", "bz2"}:
            raise GeoAssetsError("UNREADABLE", f"{name} is damaged: {error}") from error
        raise


def _path(text: str, name: str) -> PurePosixPath:
    """A member's path; refuses one that leads out of the archive."""
    text = text.replace("\\", "/")  # what some Windows programs write
    path = PurePosixPath(text)
    if any(len(os.fsencode(part)) > _MAX_NAME_BYTES for part in path.parts):
        raise GeoAssetsError(
            "UNSAFE_ARCHIVE",
            f"{name} has a member whose name is longer than the {_MAX_NAME_BYTES} bytes that can be written:"
            f" {text[:100]!r}",
        )
    if (
        path.is_absolute()
        or ".." in path.parts
        or (path.parts and ":" in path.parts[0])
        or len(text) > _MAX_PATH
        or not text.isprintable()
    ):
        raise GeoAssetsError(
            "UNSAFE_ARCHIVE", f"{name} has a member whose path leads out of it or cannot be written: {text[:100]!r}"
        )
    return path


def _entry(info: zipfile.ZipInfo, name: str) -> _Entry:
    path, text = _path(info.filename, name), info.filename
    if not path.parts:
        raise GeoAssetsError(
            "UNSAFE_ARCHIVE", f"{name} has a member whose path leads out of it or cannot be written: {text[:100]!r}"
        )
    mode = info.external_attr >> 16
    if stat.S_IFMT(mode) not in {0, stat.S_IFREG, stat.S_IFDIR}:
        raise GeoAssetsError("UNSAFE_ARCHIVE", f"{name} has a member that is a link or a device: {text[:100]!r}")
    if info.flag_bits & _ENCRYPTED:
        raise GeoAssetsError(
            "UNSAFE_ARCHIVE", f"{name} is encrypted (member {text[:100]!r})", remedy="upload it without a password"
        )
    return _Entry(info, path)


def _check_sizes(entries: list[_Entry], max_bytes: int, name: str) -> None:
    if len(entries) > MAX_MEMBERS:
        raise GeoAssetsError("UNSAFE_ARCHIVE", f"{name} has {len(entries):,} members; {MAX_MEMBERS:,} are allowed")
    total = sum(entry.info.file_size for entry in entries)
    packed = sum(entry.info.compress_size for entry in entries)
    if total > _RATIO_FROM_BYTES and total > MAX_RATIO * packed:
        raise GeoAssetsError(
            "UNSAFE_ARCHIVE",
            f"{name} unpacks to {total:,} bytes from {packed:,}: more than {MAX_RATIO} to 1 is not data",
        )
    for entry in entries:
        size = entry.info.file_size
        if size > _RATIO_FROM_BYTES and size > MAX_RATIO * entry.info.compress_size:
            raise GeoAssetsError(
                "UNSAFE_ARCHIVE",
                f"{entry.path.name} of {name} unpacks to {size:,} bytes: more than {MAX_RATIO} to 1 is not data",
            )
    if total > max_bytes:
        raise GeoAssetsError("TOO_LARGE", f"{name} unpacks to {total:,} bytes; {max_bytes:,} are allowed")


def _check_distinct(files: list[_Entry], name: str) -> None:
    seen: set[PurePosixPath] = set()
    for entry in files:
        if entry.path in seen or seen.intersection(entry.path.parents):
            raise GeoAssetsError("UNSAFE_ARCHIVE", f"{name} has two members at {str(entry.path)[:100]!r}")
        seen.add(entry.path)


def _write(zipped: zipfile.ZipFile, entry: _Entry, to: Path, name: str) -> None:
    """Write one member and count its bytes: a header with a wrong size is found out."""
    to.parent.mkdir(parents=True, exist_ok=True)
    left = entry.info.file_size
    with zipped.open(entry.info) as source, to.open("xb") as target:
        while part := source.read(_COPY_BYTES):
            left -= len(part)
            if left < 0:
                raise GeoAssetsError("UNSAFE_ARCHIVE", f"{entry.path.name} of {name} unpacks to more than it says")
            target.write(part)
