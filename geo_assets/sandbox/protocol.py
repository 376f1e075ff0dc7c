"""The protocol of parent and child: length-prefixed JSON over a Unix socket, with a pipe passed for a stream.

Here: the messages, the framing, the terms of a child and the list of functions that it may run. JSON, never pickle: a
child that was compromised by a hostile file must not be able to run code in its parent.
"""

from __future__ import annotations

import array
import json
import math
import re
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NoReturn

from geo_assets.wire import Message, checked, told

#: Our functions that may be called in a child: `module:function(request: Message[, sink]) -> Message`. Other
#: distributions add theirs (`plugins.engines`).
FUNCTIONS = frozenset(
    {
        "geo_assets.raster.archives:rasters",
        "geo_assets.raster.cog:convert",
        "geo_assets.raster.header:headers",
        "geo_assets.raster.product:product",
        "geo_assets.raster.strip:strip",
        "geo_assets.raster.validate:validate",
        "geo_assets.raster.variables:variables",
        "geo_assets.vector.reader.inspect:inspect",
        "geo_assets.vector.reader.stream:stream",
        "geo_assets.sandbox.selftest:probe",
    }
)

#: A report of a file is a few kilobytes; more is a fault or an attack.
_MAX_MESSAGE = 16 * 1024 * 1024

#: Digits of the longest integer of 64 bits, with its sign; levels within each other, of which a footprint has five.
_MAX_DIGITS, _MAX_DEPTH = 20, 100

#: Warnings of a call that a child passes on, and characters of each.
MOST_SAID, LONGEST_SAID = 20, 500

#: Seconds of silence after which to check whether the other side still lives.
_LOOK_EVERY = 0.25
_HEADER = struct.Struct("!I")

_UNFIT = re.compile("[\\x00\\ud800-\\udfff]")


@dataclass(frozen=True)
class Terms(Message):
    """The limits and options of a child: the first message that it gets.

    Attributes:
        memory_mb: address space.
        file_mb: size of a file that it writes.
        user: the user that it becomes where it is root.
        permissive: work also where a wall is missing.
        preload: modules to import before the first call.
        readable: what it may read beside its own directory and Python.
        packages: of other distributions, which it may import wherever they lie.
    """

    memory_mb: int
    file_mb: int
    user: int
    permissive: bool
    preload: tuple[str, ...]
    readable: tuple[str, ...]
    packages: tuple[str, ...] = ()


@dataclass(frozen=True)
class Call(Message):
    """Run one function."""

    function: str
    request: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Reply(Message):
    """The reply to a call: a result, or an error as `GeoAssetsError.to_dict` writes it."""

    result: dict[str, Any] | None = None
    error: dict[str, str] | None = None
    traceback: str | None = None
    said: tuple[str, ...] = field(default=(), metadata={"max_length": MOST_SAID})  # what its libraries warned of


def send(control: socket.socket, message: dict[str, Any], fds: tuple[int, ...] = ()) -> None:
    """Send one message, with file descriptors if any."""
    body = json.dumps(message, default=told).encode()
    header = _HEADER.pack(len(body))
    if fds:
        socket.send_fds(control, [header], list(fds))
    else:
        control.sendall(header)
    control.sendall(body)


def receive(control: socket.socket) -> tuple[dict[str, Any] | None, list[int]]:
    """Receive a parent's message and the file descriptors that came with it; None where the parent is gone."""
    fds = array.array("i")
    header, ancillary, _, _ = control.recvmsg(_HEADER.size, socket.CMSG_LEN(fds.itemsize))
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    return (_message(control, header, lambda: True) if header else None), list(fds)


def receive_reply(control: socket.socket, alive: Callable[[], bool]) -> Reply | None:
    """Receive a child's reply; None where the child is gone, even if the other end of its socket is still open
    somewhere.

    No descriptor is accepted: the kernel closes those that were sent with it.

    Raises:
        ValueError: it is not a reply that our child would send; pydantic's ValidationError is a ValueError, too.
    """
    control.settimeout(_LOOK_EVERY)
    try:
        message = _message(control, b"", alive, parse_int=_whole, parse_float=_finite, parse_constant=_no_number)
        return None if message is None else checked(Reply, plain(message))
    except RecursionError as error:
        msg = "a message that is nested too deeply"
        raise ValueError(msg) from error
    finally:
        control.settimeout(None)


def _whole(text: str) -> int:
    if len(text) > _MAX_DIGITS:
        return _no_number(text)
    return int(text)


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _no_number(text)


def _no_number(text: str) -> NoReturn:
    msg = f"{text[:20]} is no number that databases have"
    raise ValueError(msg)


def _message(control: socket.socket, begun: bytes, alive: Callable[[], bool], **how: Any) -> dict[str, Any] | None:
    header = _read(control, _HEADER.size, begun, alive)
    if header is None:
        return None
    (length,) = _HEADER.unpack(header)
    if length > _MAX_MESSAGE:
        msg = f"a message of {length} bytes"
        raise ValueError(msg)
    body = _read(control, length, b"", alive)
    if body is None:
        return None
    message = json.loads(body, **how)
    if not isinstance(message, dict):
        msg = "a message that is no object"
        raise ValueError(msg)  # noqa: TRY004 - of what it reads, not of its argument
    return message


def _read(control: socket.socket, length: int, begun: bytes, alive: Callable[[], bool]) -> bytes | None:
    read = bytearray(begun)
    while len(read) < length:
        living = alive()  # checked before reading: what it sent before it died can still be read
        try:
            part = control.recv(min(length - len(read), 1 << 20))
        except TimeoutError:
            if living:
                continue
            return None
        if not part:
            return None
        read += part
    return bytes(read)


def plain(value: Any, depth: int = 0) -> Any:
    """Return a message without NUL and lone surrogates, which databases and terminals do not accept.

    Raises:
        RecursionError: it is deeper than the readers of JSON accept.
    """
    if isinstance(value, str):
        return _UNFIT.sub("", value)
    if depth > _MAX_DEPTH:
        raise RecursionError
    if isinstance(value, dict):
        return {plain(key): plain(each, depth + 1) for key, each in value.items()}
    if isinstance(value, list):
        return [plain(each, depth + 1) for each in value]
    return value
