"""Geometry that is text in a table: it is parsed in the first reading, and kept for the second.

Here: the file of it, and when it is of use. Not here: making geometry (`placing.py`), the table (`delimited.py`).

GEOS takes 12 microseconds for a polygon in WKT, and holds Python's lock while it does. What is kept is of use only to
who reads the same bytes in the same way; without it, as on a full disk, the text is parsed again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geo_assets.vector.reader.batches import LayerRef
from geo_assets.vector.reader.unpacking import made_whole

if TYPE_CHECKING:
    import pyarrow as pa

#: Makes WKB of the rows of a batch, and says what is wrong by row.
Place = Callable[["pa.RecordBatch"], tuple["pa.Array", dict[int, str]]]

_ROWS, _OF = "rows.arrow", "of.json"

#: In the metadata of a batch.
_FAULTS = b"faults"


@contextmanager
def placed(ref: LayerRef, place: Place, how: str) -> Iterator[Place]:
    """Yield what places the batches of one pass over a layer: `place`, or a file of what that made before.

    Args:
        ref: the layer.
        place: places a batch.
        how: says all of its dialect and of `place` that the answer depends on.
    """
    import pyarrow as pa

    kept, of = ref.beside, _identity(ref.dataset.path, how)
    if not kept.exists():
        with _keeping(kept, of, place) as keep:
            yield keep
        return
    if (kept / _OF).read_text() != of:
        yield place
        return
    with pa.memory_map(str(kept / _ROWS)) as file, pa.ipc.open_stream(file) as reader:
        batches = reader.iter_batches_with_custom_metadata()
        yield lambda _: _as_kept(next(batches))


def _identity(path: Path, how: str) -> str:
    """Return what a file is kept of: who edits a text in its place gives it another time."""
    stat = path.stat()
    return json.dumps([stat.st_ino, stat.st_mtime_ns, stat.st_size, how])


def _as_kept(batch: Any) -> tuple[pa.Array, dict[int, str]]:
    faults = json.loads(batch.custom_metadata[_FAULTS])
    return batch.batch.column(0), {int(row): fault for row, fault in faults.items()}


class _NotKeptError(Exception):
    """The file could not be written."""


@contextmanager
def _keeping(kept: Path, of: str, place: Place) -> Iterator[Place]:
    """Yield `place`, of which all answers are kept, if the pass comes to its end and there is room for them."""
    try:
        with made_whole(kept) as partial:
            keeper = _Keeper(partial, place)
            yield keeper.place
            keeper.end(of)
    except _NotKeptError:
        pass


class _Keeper:
    """Writes the answers of `place` into a folder, as long as that succeeds."""

    def __init__(self, folder: Path, place: Place) -> None:
        import pyarrow as pa

        self._folder, self._place = folder, place
        self._schema = pa.schema([("wkb", pa.binary())])
        self._file: Any = pa.OSFile(str(folder / _ROWS), "wb")
        self._rows: Any = pa.ipc.new_stream(self._file, self._schema)
        self._failed = False

    def place(self, batch: pa.RecordBatch) -> tuple[pa.Array, dict[int, str]]:
        """Place a batch, and keep the answer."""
        import pyarrow as pa

        wkb, faults = self._place(batch)
        if not self._failed:
            try:
                said = {_FAULTS: json.dumps(faults).encode()}
                self._rows.write_batch(pa.record_batch([wkb], schema=self._schema), custom_metadata=said)
            except OSError:
                self._failed = True
        return wkb, faults

    def end(self, of: str) -> None:
        """Finish the file.

        Args:
            of: what it is kept of.

        Raises:
            _NotKeptError: it is not whole.
        """
        try:
            self._rows.close()
            self._file.close()
            (self._folder / _OF).write_text(of)
        except OSError as error:
            raise _NotKeptError from error
        if self._failed:
            raise _NotKeptError
