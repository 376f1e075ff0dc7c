"""Uploading files and folders of this machine into a container.

Here: the files below a folder, and the path under which each is uploaded. Not here: the container (`containers.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from geo_assets.errors import GeoAssetsError
from geo_assets.storage.blobs import safe_path
from geo_assets.storage.containers import Container
from geo_assets.storage.local import files_below


def files_of(source: Path) -> Iterator[tuple[Path, str]]:
    """Yield a file, or all files below a folder, each with its path in the container. Links are not followed."""
    if source.is_file():
        yield source, source.name
        return
    for file in sorted(Path(name) for name, _ in files_below(source)):
        yield file, file.relative_to(source).as_posix()


def upload_tree(
    container: Container, source: Path, prefix: str, refused: Callable[[Path, GeoAssetsError], None] | None = None
) -> Iterator[tuple[Path, str, int]]:
    """Upload a file, or a folder with everything below it; yield (file, blob path, bytes) after each.

    Args:
        container: the destination.
        source: the file or folder. Links in it are not followed.
        prefix: of the blob paths.
        refused: called for each file whose name is not a blob path, and the upload continues; None: the first such file
            ends the upload.

    Raises:
        GeoAssetsError: what the container raises; UNSAFE_PATH where `refused` is None.
    """
    for file, relative in files_of(source):
        path = f"{prefix.rstrip('/')}/{relative}" if prefix else relative
        try:
            container.upload(file, safe_path(path))
        except GeoAssetsError as error:
            if refused is None or error.code != "UNSAFE_PATH":
                raise
            refused(file, error)
            continue
        yield file, path, file.stat().st_size
