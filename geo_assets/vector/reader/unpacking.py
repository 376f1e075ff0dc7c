"""Unpacking of an upload: a gzip, a zip with zips in it.

Here: folders that are complete as soon as they exist. Not here: what is in them (`sources.py`), the limits of an
archive (`geo_assets/archives.py`).
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from geo_assets.archives import gunzip, unpack
from geo_assets.errors import GeoAssetsError

#: A zip in a zip in a zip can be an archive of deliveries; deeper nesting is refused.
_MAX_NESTING = 2


def gunzipped(path: Path, max_bytes: int) -> Path:
    """Unpack a gzip, under its name without `.gz`, into a folder of its own."""
    stem = path.name[: -len(".gz")] if path.suffix.lower() == ".gz" else path.stem
    if path.suffix.lower() == ".tgz" or stem.lower().endswith(".tar"):
        raise GeoAssetsError(
            "VECTOR_UNSUPPORTED", f"{path.name} is a tar", remedy="make a plain zip of the data files, and upload that"
        )
    folder = path.parent / ".gunzipped"
    if not folder.exists():
        with made_whole(folder) as partial:
            gunzip(path, partial / stem, max_bytes=max_bytes, name=path.name)
    return folder / stem


def unpack_whole(archive: Path, folder: Path, max_bytes: int) -> None:
    """Unpack into a temporary folder, then rename: a folder that exists is complete. A zip in a zip becomes a folder of
    its name.
    """
    with made_whole(folder) as partial:
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
def made_whole(folder: Path) -> Iterator[Path]:
    """Yield a folder to fill, which gets its final name once it is complete."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f"{folder.name}-", dir=folder.parent))
    try:
        yield partial
        try:
            partial.rename(folder)
        except OSError:
            if not folder.is_dir():  # a concurrent call was first
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def listed(members: Sequence[PurePosixPath | str], limit: int = 5) -> str:
    """Return the first of some members, or other names, for a message."""
    names = ", ".join(str(member)[:60] for member in members[:limit])
    return f"{names} and {len(members) - limit} more" if len(members) > limit else names
