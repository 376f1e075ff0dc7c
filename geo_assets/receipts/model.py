"""The form of a receipt: one JSON document that is written and read a line at a time.

Here: what stands in it, its version, its place, lines to records and back. Not here: where the records come from and
go to (`ledger/receipts.py`), writing it into a store (`write.py`).

The document is an object. Its first line is the head; after it come lists, each with one record a line. So any program
reads it as JSON, and ours reads one of 100,000 tasks in little memory. A change that an older release would read
wrongly raises the version; a key or a list may be added without.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import zlib
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from geo_assets.errors import GeoAssetsError
from geo_assets.text import one_line

#: Of the form: a release reads no other.
VERSION: Final = 1

#: Codes of what is there and cannot be read.
UNREADABLE = frozenset({"RECEIPT_UNREADABLE", "RECEIPT_OF_NEWER_RELEASE"})

#: The folder of receipts in the container of COGs. No collection is called so (`parameter_types.CollectionId`).
FOLDER = "_receipts"

#: The lists that are rows of the ledger, each called as its table.
TASKS, NAMES, LOADS, TOMBSTONES, RASTER_COLLECTIONS, DELTAS = ROWS = (
    "tasks",
    "table_names",
    "vector_loads",
    "tombstones",
    "raster_collections",
    "deltas",
)

#: The lists from the catalogue, which come after them. `published` has each item with its row of the ledger.
COLLECTIONS, PUBLISHED = "collections", "published"

#: Most bytes of a line: a record of a source with some hundred rasters has one or two MB.
_LONGEST_LINE = 256 << 20

_LIST_BEGINS = re.compile(r'"([a-z_]+)": \[')
_NAME = re.compile(r"(\d{6,})-(?P<hash>[0-9a-f]{12})\.json(\.gz)?")
_GZIP_MAGIC = b"\x1f\x8b"


class Head(BaseModel):
    """The first line: the job, its attempts with their outcomes, and its account."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    version: Literal[1] = VERSION
    number: int = Field(0, description="of the receipts of this job; the highest one holds. 0: not of a store")
    written_at: str
    software: dict[str, str]
    status: str = Field(description="of the job, as users see it")
    job: dict[str, Any] = Field(description="its row of the ledger: id, type, parameters, …")
    attempts: list[dict[str, Any]]
    counts: dict[str, dict[str, int]] = Field(description="stage -> status -> listed tasks")

    @property
    def job_id(self) -> str:
        """The job's id."""
        return str(self.job["job_id"])


def lines_of(head: Head, lists: Iterable[tuple[str, Iterable[str]]]) -> Iterator[str]:
    """The lines of a receipt, each with its line break.

    Args:
        head: of it.
        lists: name -> its records, each as JSON without line breaks.
    """
    yield f'{{"receipt": {json.dumps(head.model_dump(mode="json"), ensure_ascii=False)}'
    for name, records in lists:
        yield f',\n"{name}": ['
        between = "\n"
        for record in records:
            yield f"{between}{record}"
            between = ",\n"
        yield "\n]"
    yield "}\n"


class Stored:
    """A receipt in a local file, plain or compressed."""

    def __init__(self, path: Path, label: str) -> None:
        """Read the head.

        Args:
            path: of the file.
            label: what it is called where it comes from.

        Raises:
            GeoAssetsError: RECEIPT_UNREADABLE, RECEIPT_OF_NEWER_RELEASE.
        """
        self._path, self.label = path, label
        lines = self._lines()
        first = next(lines, "").rstrip("\n").removesuffix(",")
        lines.close()
        try:
            told = json.loads(f"{first}}}")["receipt"]
            if told["version"] != VERSION:
                raise GeoAssetsError(
                    "RECEIPT_OF_NEWER_RELEASE",
                    f"the receipt {label} is of geo_assets {one_line(str(told['software']['geo_assets']))[:40]}, in"
                    f" version {int(told['version'])} of the form; this release reads version {VERSION}",
                )
            self.head = Head.model_validate(told)
            _ = self.head.job_id
        except (ValueError, KeyError, TypeError, ValidationError) as error:
            raise self._unreadable("it is damaged: its first line is not that of a receipt") from error

    def _unreadable(self, why: str) -> GeoAssetsError:
        return GeoAssetsError("RECEIPT_UNREADABLE", f"the receipt {self.label} cannot be read: {why}")

    def _lines(self) -> Generator[str, None, None]:
        with self._path.open("rb") as raw:
            is_gzip = raw.read(2) == _GZIP_MAGIC
        try:
            with gzip.open(self._path, "rb") if is_gzip else self._path.open("rb") as file:
                while line := file.readline(_LONGEST_LINE):
                    yield line.decode()
        except (OSError, EOFError, ValueError, zlib.error) as error:
            raise self._unreadable(f"it is damaged ({type(error).__name__})") from error

    def records(self, wanted: str) -> Iterator[dict[str, Any]]:
        """The records of a list; none where the receipt has no such list.

        Raises:
            GeoAssetsError: RECEIPT_UNREADABLE, it is not whole.
        """
        current, ended = None, False
        for line in self._lines():
            text = line.rstrip("\n").removesuffix(",")
            if begun := _LIST_BEGINS.fullmatch(text):
                current = begun[1]
            elif text in {"]", "]}"}:
                current, ended = None, text == "]}"
            elif current == wanted:
                try:
                    yield json.loads(text)
                except ValueError as error:
                    raise self._unreadable(f"a record of {wanted} is damaged") from error
        if not ended:
            raise self._unreadable("its end is missing")

    def check(self) -> None:
        """Read it to its end, and compare its bytes with the hash in its name, if it has one.

        Raises:
            GeoAssetsError: RECEIPT_UNREADABLE, it is not what was written.
        """
        digest = hashlib.sha256()
        for line in self._lines():
            digest.update(line.encode())
        named = _NAME.fullmatch(self.label.rpartition("/")[2])
        if named and not digest.hexdigest().startswith(named["hash"]):
            raise self._unreadable("its bytes are not those of its name")


def number_of(name: str) -> int | None:
    """The number of a receipt by its file name; None if it is none."""
    match = _NAME.fullmatch(name)
    return int(match[1]) if match else None
