"""Uploading files and folders of this machine into a container.

Here: the files below a folder, and the path under which each is uploaded. Not here: the container (`containers.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from geo_assets.errors import GeoAssetsError
from geo_assets.storage.blobs import safe_path
from geo_assets.storage.containers import Container
from geo_assets.storage.local import everything_below, no_file


def files_of(source: Path) -> Iterator[tuple[Path, str, str | None]]:
    """Yield a file, or all that lies below a folder, each with its path in the container, and why it cannot be read if
    it is no file. Links in a folder are not followed.
    """
    if not source.is_dir():
        yield source, source.name, no_file(source.stat())
        return
    for name, status in sorted(everything_below(source), key=lambda found: Path(found[0])):
        yield Path(name), Path(name).relative_to(source).as_posix(), no_file(status)


def upload_tree(
    container: Container, source: Path, prefix: str, refused: Callable[[Path, GeoAssetsError], None] | None = None
) -> Iterator[tuple[Path, str, int]]:
    """Upload a file, or a folder with everything below it; yield (file, blob path, bytes) after each.

    Args:
        container: the destination.
        source: the file or folder. Links in it are not followed.
        prefix: of the blob paths.
        refused: called for each file whose name is not a blob path, and for what is no file, and the upload continues;
            None: the first such file ends the upload.

    Raises:
        GeoAssetsError: what the container raises; UNSAFE_PATH where `refused` is None.
    """
    for file, relative, why in files_of(source):
        path = f"{prefix.rstrip('/')}/{relative}" if prefix else relative
        try:
            _insist_on_a_file(relative, why)
            container.upload(file, safe_path(path))
        except GeoAssetsError as error:
            if refused is None or error.code != "UNSAFE_PATH":
                raise
            refused(file, error)
            continue
        yield file, path, file.stat().st_size


def _insist_on_a_file(relative: str, why: str | None) -> None:
    if why:
        raise GeoAssetsError("UNSAFE_PATH", f"{relative} is {why}", remedy="upload the file itself, if it is meant")
