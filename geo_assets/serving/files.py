"""Files of the published containers over HTTP: read-only, with ranges and validators.

Here: from a request to the bytes of one file. A path is followed name by name from the container on, and no link is
followed, so nothing outside is reached, whatever a name says or becomes meanwhile. Not here: which containers
(`published.py`), who may ask (`app.py`).
"""

from __future__ import annotations

import asyncio
import os
import secrets
import stat
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from email.utils import formatdate, parsedate_to_datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from geo_assets.receipts.model import FOLDER as RECEIPTS
from geo_assets.serving.answers import problem
from geo_assets.serving.published import Published
from geo_assets.storage.local import IN_PROGRESS

T = TypeVar("T")

#: Bytes of one read.
_CHUNK = 256 * 1024

#: A client that reads a COG asks for some neighbouring blocks; more than these is no way to read a file.
_MOST_RANGES = 16

_TYPES = {
    ".tif": "image/tiff; application=geotiff; profile=cloud-optimized",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".webp": "image/webp",
    ".json": "application/json",
    ".geojson": "application/geo+json",
    ".parquet": "application/vnd.apache.parquet",
    ".pmtiles": "application/vnd.pmtiles",
}


#: Disks are slow, and what waits for one keeps none of the other services waiting.
_THREADS = ThreadPoolExecutor(8, thread_name_prefix="files")


async def _in_thread(function: Callable[..., T], *arguments: Any) -> T:
    return await asyncio.get_running_loop().run_in_executor(_THREADS, function, *arguments)


@dataclass(frozen=True, slots=True)
class _File:
    """An open file as it was when it was opened."""

    descriptor: int
    size: int
    modified: float
    etag: str
    media_type: str


class Files:
    """The ASGI application."""

    def __init__(self, published: Published) -> None:
        self._published = published

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope, receive)
        if scope["method"] not in {"GET", "HEAD"}:
            answer: Response = problem(405, "files are read, by GET and HEAD", headers={"Allow": "GET, HEAD"})
        else:
            file = await _in_thread(self._open, scope)
            if file:
                try:
                    await _answer(request, file)(scope, receive, send)
                finally:
                    os.close(file.descriptor)
                return
            answer = problem(404, "there is no such published file")
        await answer(scope, receive, send)

    def _open(self, scope: Scope) -> _File | None:
        """Open the file that a path names. The raw path is taken, so that an encoded slash is part of no name."""
        raw = scope["raw_path"].decode("latin-1").partition("?")[0]
        parts = [unquote(part, errors="surrogateescape") for part in raw.split("/")]
        prefix = scope["root_path"].count("/") + 1
        alias, name, *path = [*parts[prefix:], "", ""] if len(parts) < prefix + 2 else parts[prefix:]
        container = self._published.container(alias, name)
        if container is None or not path or any(not _is_plain(part) for part in path) or _is_internal(path):
            return None
        try:
            return _opened(container.path, path)
        except OSError:
            return None


def _is_plain(name: str) -> bool:
    return name not in {"", ".", ".."} and not {"/", "\\", "\0"} & set(name)


def _is_internal(path: list[str]) -> bool:
    """Whether a file is for this system alone: a receipt, which tells of sources, or an upload in progress."""
    return path[0] == RECEIPTS or IN_PROGRESS.search(path[-1]) is not None


def _opened(folder: Path, path: list[str]) -> _File:
    """Open a regular file below a folder without following a link.

    Raises:
        OSError: it is not there, or not that.
    """
    # the container itself may be a link, which an administrator made
    here = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        for name in path[:-1]:
            below = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=here)
            os.close(here)
            here = below
        # a pipe that somebody put there must not keep us waiting
        descriptor = os.open(path[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=here)
    finally:
        os.close(here)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise FileNotFoundError(path[-1])
    etag = f'"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}"'
    media_type = _TYPES.get(Path(path[-1]).suffix.lower(), "application/octet-stream")
    return _File(descriptor, status.st_size, status.st_mtime, etag, media_type)


def _answer(request: Request, file: _File) -> Response:
    headers = {
        "Accept-Ranges": "bytes",
        "ETag": file.etag,
        "Last-Modified": formatdate(file.modified, usegmt=True),
        "Cache-Control": "private, no-cache",
        "X-Content-Type-Options": "nosniff",
    }
    if _is_known(request, file):
        return Response(status_code=304, headers=headers)
    ranges = _ranges(request, file)
    if ranges == []:
        return problem(416, f"the file has {file.size} bytes", headers={"Content-Range": f"bytes */{file.size}"})
    if ranges is None:
        return _response(request, file, 200, [(b"", 0, file.size)], headers | {"Content-Type": file.media_type})
    if len(ranges) == 1:
        ((start, end),) = ranges
        headers |= {"Content-Range": f"bytes {start}-{end - 1}/{file.size}", "Content-Type": file.media_type}
        return _response(request, file, 206, [(b"", start, end)], headers)
    boundary = secrets.token_hex(12)
    parts = [
        (
            f"\r\n--{boundary}\r\nContent-Type: {file.media_type}\r\n"
            f"Content-Range: bytes {start}-{end - 1}/{file.size}\r\n\r\n".encode(),
            start,
            end,
        )
        for start, end in ranges
    ]
    parts.append((f"\r\n--{boundary}--\r\n".encode(), 0, 0))
    headers |= {"Content-Type": f"multipart/byteranges; boundary={boundary}"}
    return _response(request, file, 206, parts, headers)


def _response(
    request: Request, file: _File, status: int, parts: list[tuple[bytes, int, int]], headers: dict[str, str]
) -> Response:
    headers = headers | {"Content-Length": str(sum(len(head) + end - start for head, start, end in parts))}
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers)
    return StreamingResponse(_bytes(file, parts), status_code=status, headers=headers)


async def _bytes(file: _File, parts: list[tuple[bytes, int, int]]) -> AsyncIterator[bytes]:
    for head, start, end in parts:
        if head:
            yield head
        at = start
        while at < end:
            chunk = await _in_thread(os.pread, file.descriptor, min(_CHUNK, end - at), at)
            if not chunk:
                return  # it was cut off meanwhile; the client sees that bytes are missing
            yield chunk
            at += len(chunk)


def _is_known(request: Request, file: _File) -> bool:
    """Whether the client has the file as it is (RFC 9110, 13.2.2)."""
    if (tags := request.headers.get("if-none-match")) is not None:
        return "*" in tags.split(",") or file.etag in [tag.strip().removeprefix("W/") for tag in tags.split(",")]
    since = _date(request.headers.get("if-modified-since"))
    return since is not None and int(file.modified) <= since


def _ranges(request: Request, file: _File) -> list[tuple[int, int]] | None:
    """The ranges that are asked for, as [start, end); none at all if they are refused, None for the whole file."""
    given = request.headers.get("range")
    if given is None or request.method == "HEAD" or not _is_same(request, file):
        return None
    unit, equals, specs = given.partition("=")
    if unit.strip().lower() != "bytes" or not equals:
        return None
    ranges = []
    for spec in specs.split(","):
        first, dash, last = spec.strip().partition("-")
        if not dash or not all(not part or (part.isascii() and part.isdigit()) for part in (first, last)):
            return None
        if len(first) > 20 or len(last) > 20 or not (first or last) or (first and last and int(last) < int(first)):
            return None
        start = int(first) if first else max(0, file.size - int(last))
        end = min(file.size, int(last) + 1) if first and last else file.size
        if start < end:
            ranges.append((start, end))
    in_order = sorted(ranges)
    overlapping = any(later[0] < earlier[1] for earlier, later in pairwise(in_order))
    return [] if len(ranges) > _MOST_RANGES or overlapping else ranges


def _is_same(request: Request, file: _File) -> bool:
    """Whether ranges are still of the file that the client knows (If-Range; a date is compared exactly)."""
    given = request.headers.get("if-range")
    if given is None or given == file.etag:
        return True
    return not given.startswith(('"', "W/")) and _date(given) == int(file.modified)


def _date(text: str | None) -> int | None:
    try:
        return int(parsedate_to_datetime(text).timestamp()) if text else None
    except ValueError:
        return None
