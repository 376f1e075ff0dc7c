"""The folder of a backup: `backup.json`, `database.dump`, `blobs.jsonl`, and the blobs by their hashes.

Here: what is in it, and reading it back. Not here: filling it (`backup.py`), restoring (`restore.py`).

`backup.json` is written last: a folder without it was interrupted, and is no backup. Blobs are files that are named by
the SHA-256 of their bytes, so any name of a blob is possible, and damage is noticed.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from geo_assets.errors import GeoAssetsError

#: Bytes that are hashed at once.
_PIECE = 1 << 20


class StoredBlob(BaseModel):
    """A line of `blobs.jsonl`."""

    model_config = ConfigDict(frozen=True)
    container: str  # alias/container
    path: str
    size: int
    sha256: str


class Manifest(BaseModel):
    """`backup.json`."""

    model_config = ConfigDict(frozen=True)
    version: Literal[1] = 1
    made_at: str
    release: str
    migrations: dict[str, str]  # name -> SHA-256, as the database has them
    pgstac: str
    postgresql: int  # major version of the server
    database_bytes: int
    database_sha256: str
    index_sha256: str
    containers: tuple[str, ...]  # that were copied
    blobs: int
    blob_bytes: int
    left_out: int = 0  # files of directories whose names no store takes
    missing: int = 0  # blobs that rows name and that were not there
    jobs_at_work: int


@dataclass(frozen=True, slots=True)
class Folder:
    """The folder of a backup."""

    path: Path

    @property
    def database(self) -> Path:
        """The dump of the database."""
        return self.path / "database.dump"

    @property
    def index(self) -> Path:
        """A line for each blob."""
        return self.path / "blobs.jsonl"

    @property
    def manifest(self) -> Path:
        """What makes the folder a backup."""
        return self.path / "backup.json"

    def file_of(self, sha256: str) -> Path:
        """Where the bytes with a hash are."""
        return self.path / "blobs" / sha256[:2] / sha256

    @contextmanager
    def begun(self) -> Iterator[None]:
        """Make the folder; leaving by an exception, also Ctrl-C, takes back what was made.

        Raises:
            GeoAssetsError: FOLDER_NOT_EMPTY.
        """
        there = self.path.is_dir()
        self._begin()
        try:
            yield
        except BaseException:
            for made in self.path.iterdir() if there else [self.path]:
                if made.is_dir():
                    shutil.rmtree(made, ignore_errors=True)
                else:
                    made.unlink(missing_ok=True)
            raise

    def _begin(self) -> None:
        if self.path.is_file() or (self.path.is_dir() and any(self.path.iterdir())):
            raise GeoAssetsError("FOLDER_NOT_EMPTY", f"{self.path} is there already, and is no empty folder")
        (self.path / "blobs").mkdir(parents=True)
        self.path.chmod(0o700)  # it holds hashes of tokens, and messages as they came

    def read(self) -> Manifest:
        """What is in the backup.

        Raises:
            GeoAssetsError: NO_BACKUP; BACKUP_DAMAGED.
        """
        try:
            manifest = Manifest.model_validate_json(self.manifest.read_bytes())
        except OSError as error:
            raise GeoAssetsError("NO_BACKUP", f"{self.path} is no backup: it has no {self.manifest.name}") from error
        except ValidationError as error:
            raise GeoAssetsError("BACKUP_DAMAGED", f"{self.manifest} is none of this release") from error
        for file, digest in ((self.database, manifest.database_sha256), (self.index, manifest.index_sha256)):
            if not file.is_file() or hash_of(file) != digest:
                raise GeoAssetsError("BACKUP_DAMAGED", f"{file} is not as it was written")
        return manifest

    def blobs(self) -> Iterator[StoredBlob]:
        """The blobs that were copied."""
        with self.index.open(encoding="utf-8") as lines:
            for line in lines:
                yield StoredBlob.model_validate_json(line)


def hash_of(file: Path) -> str:
    """The SHA-256 of a file's bytes (hex)."""
    digest = hashlib.sha256()
    with file.open("rb") as content:
        while piece := content.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()
