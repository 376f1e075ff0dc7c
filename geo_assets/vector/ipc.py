"""Arrow IPC streams of a child that opened an untrusted file, checked before Arrow reads them.

Here: the framing of a stream, and what decides how much memory each message takes. Not here: what is in a batch, and
whether it is the plan's (`tables/load.py`).

Arrow allocates what a message declares: a compressed one of a megabyte may declare a terabyte. So compressed messages
and dictionaries are refused, and messages beyond `MOST_BYTES` or `MOST_ROWS`, and batches whose columns together
declare more than that, as they may where they share bytes. An honest child sends far less (`reader/stream.py`). Source:
https://arrow.apache.org/docs/format/Columnar.html#serialization-and-interprocess-communication-ipc, Message.fbs and
Schema.fbs.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, Self

if TYPE_CHECKING:
    import pyarrow as pa

#: Most bytes of a message, and of the columns of a batch together.
MOST_BYTES = 256 * 1024**2

#: Most rows of a batch: PostgreSQL's driver holds a batch as a whole, and a row of only booleans is smaller there than
#: here.
MOST_ROWS = 65_536

#: Most bytes of a message's metadata: 1600 columns take a tenth of it.
_MOST_METADATA = 4 * 1024**2

_CONTINUES = 0xFFFFFFFF
_ALIGNED = 8

#: Message.fbs: the one version in which a message is compressed by its `compression` alone, and kinds of messages.
_V5, _SCHEMA, _RECORD_BATCH = 4, 1, 3
#: Places of the fields of its tables: Message and RecordBatch.
_VERSION, _HEADER_TYPE, _HEADER, _BODY_LENGTH = range(4)
_LENGTH, _NODES, _BUFFERS, _COMPRESSION = range(4)
_BUFFER_BYTES = 16  # size of the struct Buffer: offset and length


class StreamViolationError(Exception):
    """The stream is not one that our reader would send."""


class Batches:
    """One stream: its schema is read at once, its batches on demand. What follows its end is left in the file."""

    def __init__(self, file: BinaryIO, schema: pa.Schema) -> None:
        self._file = file
        self.schema = schema

    @classmethod
    def open(cls, file: BinaryIO) -> Self:
        """Read the schema.

        Raises:
            StreamViolationError: see there.
            EOFError: the stream breaks off.
        """
        import pyarrow as pa

        message = _next_message(file, _SCHEMA)
        if message is None:
            raise EOFError("it ends before it begins")
        with _understood():
            return cls(file, pa.ipc.read_schema(message))

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        """Yield its batches, each validated in full, to its end; raises as `open`."""
        import pyarrow as pa

        while (message := _next_message(self._file, _RECORD_BATCH)) is not None:
            with _understood():
                batch = pa.ipc.read_record_batch(message, self.schema)
                batch.validate(full=True)
            yield batch


@contextmanager
def _understood() -> Iterator[None]:
    """Say that a message is at fault where Arrow does: it reads from memory, so no error is the pipe's."""
    import pyarrow as pa

    try:
        yield
    except pa.ArrowMemoryError:
        raise
    except (pa.ArrowException, OSError) as error:
        raise StreamViolationError(f"a message that Arrow refuses: {error}") from error


def _next_message(file: BinaryIO, kind: int) -> pa.Buffer | None:
    """Return a message after checking its size and kind; None at the end of the stream."""
    import pyarrow as pa

    prefix = _read(file, 8)
    continues, length = struct.unpack("<II", prefix)
    if continues != _CONTINUES:
        raise StreamViolationError("it is no stream of Arrow's")
    if length == 0:
        return None
    if length > _MOST_METADATA or length % _ALIGNED:
        raise StreamViolationError(f"a message says {length:,} bytes of itself")
    metadata = _read(file, length)
    body = _checked(metadata, kind)
    buffer = pa.allocate_buffer(len(prefix) + length + body)
    view = memoryview(buffer).cast("B")
    view[: len(prefix)], view[len(prefix) : len(prefix) + length] = prefix, metadata
    _fill(file, view[len(prefix) + length :])
    with _understood():
        return pa.ipc.read_message(buffer)


def _checked(metadata: bytes, kind: int) -> int:
    """Return the length of the body of a message, checked."""
    try:
        message = _Table.root(metadata)
        version, found, body = (
            message.number(_VERSION, "<h"),
            message.number(_HEADER_TYPE, "<B"),
            message.number(_BODY_LENGTH, "<q"),
        )
        if version != _V5 or found != kind:
            raise StreamViolationError(f"a message of the kind {found} and version {version}")
        if not 0 <= body <= MOST_BYTES or body % _ALIGNED:
            raise StreamViolationError(f"a message of {body:,} bytes")
        if kind == _RECORD_BATCH:
            _check_batch(message.table(_HEADER))
    except (struct.error, IndexError) as error:
        raise StreamViolationError(f"a message that is not whole: {error}") from error
    return body


def _check_batch(batch: _Table | None) -> None:
    if batch is None:
        raise StreamViolationError("a batch without a header")
    if batch.has(_COMPRESSION):
        raise StreamViolationError("a compressed batch")
    rows = batch.number(_LENGTH, "<q")
    lengths = [length for _, length in struct.iter_unpack("<qq", batch.vector(_BUFFERS, _BUFFER_BYTES))]
    said = sum(lengths)
    if not 0 <= rows <= MOST_ROWS or said > MOST_BYTES or any(length < 0 for length in lengths):
        raise StreamViolationError(f"a batch of {rows:,} rows and {said:,} bytes")


class _Table:
    """A table of a flatbuffer, as far as it is read here; Arrow verifies the whole
    (https://flatbuffers.dev/internals/).
    """

    def __init__(self, data: bytes, at: int) -> None:
        self._data, self._at = data, at
        self._vtable = at - _at(data, at, "<i")
        self._fields = (_at(data, self._vtable, "<H") - 4) // 2

    @classmethod
    def root(cls, data: bytes) -> Self:
        return cls(data, _at(data, 0, "<I"))

    def has(self, field: int) -> bool:
        return self._offset(field) > 0

    def number(self, field: int, form: str) -> int:
        """Return a field's value; 0 where it is left out."""
        offset = self._offset(field)
        return _at(self._data, self._at + offset, form) if offset else 0

    def table(self, field: int) -> _Table | None:
        return _Table(self._data, self._target(field)) if self.has(field) else None

    def vector(self, field: int, size: int) -> bytes:
        """Return the bytes of a vector of structs of a given size."""
        if not self.has(field):
            return b""
        start = self._target(field)
        length = _at(self._data, start, "<I") * size
        if start + 4 + length > len(self._data):
            raise IndexError(f"a vector of {length:,} bytes")
        return self._data[start + 4 : start + 4 + length]

    def _offset(self, field: int) -> int:
        return _at(self._data, self._vtable + 4 + 2 * field, "<H") if field < self._fields else 0

    def _target(self, field: int) -> int:
        place = self._at + self._offset(field)
        return place + _at(self._data, place, "<I")


def _at(data: bytes, place: int, form: str) -> int:
    if place < 0:  # would count from the end
        raise IndexError(f"a place of {place}")
    value: int = struct.unpack_from(form, data, place)[0]
    return value


def _read(file: BinaryIO, length: int) -> bytes:
    data = bytearray(length)
    _fill(file, memoryview(data))
    return bytes(data)


def _fill(file: BinaryIO, view: memoryview) -> None:
    done = 0
    while done < len(view):
        got = file.readinto(view[done:])  # type: ignore[attr-defined]
        if not got:
            raise EOFError(f"it breaks off {len(view) - done:,} bytes before the end of a message")
        done += got
