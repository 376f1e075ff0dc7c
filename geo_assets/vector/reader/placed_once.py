"""Geometry that is text in a table: it is parsed in the first reading, and kept for the second.

Here: the file of it, and when it is of use. Not here: making geometry (`placing.py`), the table (`delimited.py`).

GEOS takes 12 microseconds for a polygon in WKT, and holds Python's lock while it does. What is kept is of use only to
who reads the same bytes in the same way; without it, as on a full disk, the text is parsed again.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from geo_assets.vector.reader.batches import LayerRef

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
    kept, of = ref.beside, _identity(ref.dataset.path, how)
    with ExitStack() as opened:
        if (answers := _kept(kept, of, opened)) is not None:
            yield lambda _: _as_kept(next(answers))
        elif kept.exists() or (keeper := _Keeper.begun(kept, place)) is None:
            yield place
        else:
            opened.callback(keeper.discard)
            yield keeper.place
            keeper.end(of)


def _identity(path: Path, how: str) -> str:
    """Return what a file is kept of: who edits a text in its place gives it another time."""
    stat = path.stat()
    return json.dumps([stat.st_ino, stat.st_mtime_ns, stat.st_size, how])


def _kept(kept: Path, of: str, opened: ExitStack) -> Iterator[Any] | None:
    """Open what was kept; None where there is nothing, of something else, or nothing that can be read."""
    import pyarrow as pa

    try:
        if (kept / _OF).read_text() != of:
            return None
        file = opened.enter_context(pa.memory_map(str(kept / _ROWS)))
        reader = opened.enter_context(pa.ipc.open_stream(file))
    except (OSError, pa.ArrowInvalid):
        return None
    answers: Iterator[Any] = reader.iter_batches_with_custom_metadata()
    return answers


def _as_kept(batch: Any) -> tuple[pa.Array, dict[int, str]]:
    faults = json.loads(batch.custom_metadata[_FAULTS])
    return batch.batch.column(0), {int(row): fault for row, fault in faults.items()}


class _Keeper:
    """Keeps the answers of `place`, as long as there is room; a folder that has its final name is whole."""

    def __init__(self, kept: Path, folder: Path, place: Place) -> None:
        import pyarrow as pa

        self._kept, self._folder, self._place = kept, folder, place
        self._schema = pa.schema([("wkb", pa.binary())])
        self._file: Any = pa.OSFile(str(folder / _ROWS), "wb")
        self._rows: Any = pa.ipc.new_stream(self._file, self._schema)
        self._failed = False

    @classmethod
    def begun(cls, kept: Path, place: Place) -> Self | None:
        """Begin a file; None where that is not possible."""
        try:
            folder = Path(tempfile.mkdtemp(prefix=f"{kept.name}-", dir=kept.parent))
        except OSError:
            return None
        try:
            return cls(kept, folder, place)
        except OSError:
            shutil.rmtree(folder, ignore_errors=True)
            return None

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
        """Give the file its name, if it is whole.

        Args:
            of: what it is kept of.
        """
        with suppress(OSError):
            self._rows.close()
            self._file.close()
            (self._folder / _OF).write_text(of)
            if not self._failed:
                self._folder.rename(self._kept)

    def discard(self) -> None:
        """Remove what has no name yet."""
        with suppress(OSError):
            self._file.close()
        shutil.rmtree(self._folder, ignore_errors=True)
