"""How parent and child talk: length-prefixed JSON over a Unix socket, with a pipe handed over for a stream.

Here: the messages, the framing, the terms of a child and the list of functions that it may run. JSON, never pickle: a child that was
taken over by a hostile file must not be able to run code in its parent.
"""

from __future__ import annotations

import array
import json
import socket
import struct
from dataclasses import dataclass
from typing import Any, Self

from pydantic import BaseModel, ConfigDict

#: Everything that may be called in a child. `module:function(request: Model[, sink]) -> Model`.
FUNCTIONS = frozenset(
    {
        "geo_assets.raster.archives:rasters",
        "geo_assets.raster.cog:convert",
        "geo_assets.raster.strip:strip",
        "geo_assets.raster.validate:validate",
        "geo_assets.raster.variables:variables",
        "geo_assets.vector.read:inspect",
        "geo_assets.vector.read:stream",
        "geo_assets.sandbox.selftest:probe",
    }
)

#: A report of a file is a few kilobytes; more is a fault or an attack.
_MAX_MESSAGE = 64 * 1024 * 1024
_HEADER = struct.Struct("!I")


@dataclass(frozen=True, slots=True)
class Terms:
    """How a child is to live; its command line after the two descriptors.

    Attributes:
        memory_mb: address space.
        file_mb: size of a file that it writes.
        user: whom it becomes where it is root.
        permissive: work also where a wall is missing.
        preload: modules to import before the first call.
        readable: what it may read beside its own directory and Python.
    """

    memory_mb: int
    file_mb: int
    user: int
    permissive: bool
    preload: tuple[str, ...]
    readable: tuple[str, ...]

    def arguments(self) -> list[str]:
        """As a command line."""
        return [*map(str, (self.memory_mb, self.file_mb, self.user, int(self.permissive))), ",".join(self.preload), *self.readable]

    @classmethod
    def of(cls, arguments: list[str]) -> Self:
        """The inverse."""
        memory, file, user, permissive = map(int, arguments[:4])
        return cls(memory, file, user, bool(permissive), tuple(filter(None, arguments[4].split(","))), tuple(arguments[5:]))


class Call(BaseModel):
    """Run one function."""

    model_config = ConfigDict(extra="forbid")
    function: str
    request: dict[str, Any]


class Reply(BaseModel):
    """What came of it: a result, or an error as `GeoAssetsError.to_dict` writes it."""

    model_config = ConfigDict(extra="forbid")
    result: dict[str, Any] | None = None
    error: dict[str, str] | None = None
    traceback: str | None = None


def send(control: socket.socket, message: dict[str, Any], fds: tuple[int, ...] = ()) -> None:
    """Send one message, with file descriptors if any."""
    body = json.dumps(message).encode()
    header = _HEADER.pack(len(body))
    if fds:
        socket.send_fds(control, [header], list(fds))
    else:
        control.sendall(header)
    control.sendall(body)


def receive(control: socket.socket) -> tuple[dict[str, Any] | None, list[int]]:
    """One message and the file descriptors that came with it; None where the other side is gone.

    Raises:
        ValueError: the message is longer than any honest one.
    """
    header, fds = _receive_header(control)
    if len(header) < _HEADER.size:
        return None, fds
    (length,) = _HEADER.unpack(header)
    if length > _MAX_MESSAGE:
        msg = f"a message of {length} bytes"
        raise ValueError(msg)
    body = bytearray()
    while len(body) < length:
        part = control.recv(min(length - len(body), 1 << 20))
        if not part:
            return None, fds
        body += part
    message = json.loads(body)
    return (message if isinstance(message, dict) else None), fds


def _receive_header(control: socket.socket) -> tuple[bytes, list[int]]:
    fds = array.array("i")
    header, ancillary, _, _ = control.recvmsg(_HEADER.size, socket.CMSG_LEN(fds.itemsize))
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    while header and len(header) < _HEADER.size:
        part = control.recv(_HEADER.size - len(header))
        if not part:
            break
        header += part
    return header, list(fds)
