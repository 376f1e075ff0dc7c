"""The private folder with the file or folder that a command reads, what belongs to it, and nothing else.

Here: which files belong to it, and how they get there. Not here: the workspace in which that folder lies
(`sandbox/pool.py`), the rules of belonging (`storage/sources.py`).
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from geo_assets.errors import GeoAssetsError
from geo_assets.litter import is_litter
from geo_assets.storage.journals import file_of_journal, refuse_unwritten
from geo_assets.storage.sources import siblings


def members_of(source: Path) -> dict[Path, Path]:
    """The files of a source by the rules of the inventory: place in a private folder -> file.

    For a folder: plain files, also behind a link; links to directories may form a circle and are not followed.

    Raises:
        GeoAssetsError: UNREADABLE, a program has it open and has not written everything into it.
    """
    if source.is_dir():
        files = {path.relative_to(source.parent): path for path in sorted(source.rglob("*")) if path.is_file()}
        return {place: path for place, path in files.items() if not is_litter(place.as_posix())}
    refuse_unwritten(source, source.name)
    # an empty journal stays where it is: a program may be about to write to it
    return {Path(path.name): path for path in siblings(source) if file_of_journal(path.name) is None}


@contextmanager
def unchanged(files: Iterable[Path]) -> Iterator[None]:
    """Refuse what was read of files, or of links to them, that somebody wrote to meanwhile.

    Raises:
        GeoAssetsError: SOURCE_CHANGED.
    """
    before = {file: _stamp(file) for file in files}
    failure = None
    try:
        yield
    except Exception as error:  # noqa: BLE001 - raised below, or what it may come from is
        failure = error
    changed = next((file for file, stamp in before.items() if _stamp(file) != stamp), None)
    if changed is not None:
        remedy = "run it again when nobody writes to it"
        raise GeoAssetsError(
            "SOURCE_CHANGED", f"{changed.name} was changed while it was read", remedy=remedy
        ) from failure
    if failure is not None:
        raise failure


def _stamp(file: Path) -> tuple[int, int, int] | None:
    """What differs where a file was written to or replaced; None where it is gone."""
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def lay_out(files: Mapping[Path, Path], folder: Path, *, linked: bool = False) -> None:
    """Put files into a folder, each at its place.

    Args:
        files: place -> file.
        folder: made if need be.
        linked: by symbolic links, for readers that may read the files where they lie; otherwise by hard links, which
            hold on to what a file was when it is replaced, or as copies where there can be none.
    """
    for place, file in files.items():
        to = folder / place
        to.parent.mkdir(parents=True, exist_ok=True)
        if linked:
            to.symlink_to(file.absolute())
        else:
            _link_or_copy(file, to)


def _link_or_copy(file: Path, to: Path) -> None:
    try:
        to.hardlink_to(file.resolve())
    except OSError:  # another file system, or one without links
        shutil.copyfile(file, to)
