"""The pool of sandboxed children: starts them, hands out calls, kills what hangs, replaces what dies.

Here: processes, deadlines, private directories. Not here: the limits inside a child (`child.py`).

A call that kills its child is tried once more in a fresh one; a second death condemns the input, not the pool.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import queue
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Self, TypeVar

from pydantic import BaseModel

from geo_assets.errors import GeoAssetsError
from geo_assets.sandbox.protocol import Call, Reply, receive, send

R = TypeVar("R", bound=BaseModel)

#: GDAL and PROJ, told before they are loaded. Drivers that read other files, the network or run code are never registered,
#: but for VRT, which every warp needs in memory; what protects from a VRT in disguise is that each open names its one driver.
#: OGR_SQLITE_LOAD_EXTENSIONS is not among them: it *names* extensions ("NO" would be one), and without it SQLite loads none.
_GDAL_ENVIRONMENT = {
    "GDAL_SKIP": "GTI,STACIT,STACTA,MRF,WMS,WMTS,WCS,DAAS,EEDAI,EEDA,PLMosaic,NGW,HTTP,PDF,MBTiles,OSM,KMLSUPEROVERLAY,RPFTOC,TIL,SAFE,Zarr,DERIVED,NGSGEOID,GDALG,PostGISRaster,Rasterlite",
    "OGR_SKIP": "OGR_VRT,ADBC,WFS,OAPIF,OGCAPI,CSW,NGW,Elasticsearch,Carto,AmigoCloud,PLSCENES,GPSBabel,PDF,MBTiles,PMTiles,OSM,PostgreSQL,MySQL,MSSQLSpatial,ODBC,MongoDBv3,GDALG,HTTP,EEDA",
    "GDAL_DISABLE_READDIR_ON_OPEN": "FALSE",  # each source lies alone with its own sidecars
    "GDAL_VRT_ENABLE_PYTHON": "NO",
    "GDAL_VRT_ENABLE_RAWRASTERBAND": "NO",
    "CPL_VSIL_CURL_ALLOWED_EXTENSIONS": ".none",
    "GDAL_HTTP_TIMEOUT": "1",
    "GDAL_CACHEMAX": "64",  # MB a child: a row of blocks; more is only more memory to clear
    "PROJ_NETWORK": "OFF",
}

#: The C library gives large blocks back to the kernel at once, which then clears the same pages for the next tile:
#: a quarter of the time of a fast conversion. Here they are kept; one arena a core.
_MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str(1 << 30), "MALLOC_ARENA_MAX": str(os.cpu_count() or 1)}

#: Sixteen times the usual: fewer changes between the child and us.
_PIPE_BYTES = 1024**2

#: Bytes of a source for which a call is given a second beyond its time. The slowest that we have seen, compressed, is 10 MB/s.
_BYTES_A_SECOND = 2_000_000

#: A child is replaced after this many calls, so that what a native library leaks does not add up.
_CALLS_PER_CHILD = 500


def _seconds_for(request: BaseModel) -> float:
    """More time for a larger source."""
    source = getattr(request, "source", None)
    return Path(source).stat().st_size / _BYTES_A_SECOND if isinstance(source, str) and Path(source).is_file() else 0.0


class _Child:
    """One process and the two ends that hold it: its control socket and its lifeline."""

    def __init__(self, scratch: Path, memory_mb: int, file_mb: int, preload: Sequence[str], readable: Sequence[Path]) -> None:
        self.calls = 0
        mine, theirs = socket.socketpair()
        lifeline_read, self._lifeline = os.pipe()
        environment = {
            **_GDAL_ENVIRONMENT,
            "PATH": os.defpath,
            "LANG": "C.UTF-8",
            "HOME": str(scratch),
            "TMPDIR": str(scratch),
            "CPL_TMPDIR": str(scratch),
            "OPENBLAS_NUM_THREADS": "1",
            **_MALLOC,
        }
        numbers = (theirs.fileno(), lifeline_read, memory_mb, file_mb)
        # -P: or a module that a file managed to write into the scratch directory would be found first
        command = [sys.executable, "-P", "-m", "geo_assets.sandbox.child", *map(str, numbers), ",".join(preload), *map(str, readable)]
        self.process = subprocess.Popen(
            command,
            env=environment,
            cwd=scratch,
            pass_fds=(theirs.fileno(), lifeline_read),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        theirs.close()
        os.close(lifeline_read)
        self.control = mine

    def close(self) -> None:
        """Kill it and free what holds it."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()
        self.control.close()
        with contextlib.suppress(OSError):
            os.close(self._lifeline)


class Stream:
    """A call that also sends bytes: read `file` to its end, then ask for the `report`."""

    def __init__(self, file: BinaryIO, finish: Any) -> None:
        self.file = file
        self._finish = finish

    def report(self) -> dict[str, Any]:
        """The call's result; only now is it known that the stream was whole.

        Raises:
            GeoAssetsError: whatever befell the child.
        """
        return self._finish()  # type: ignore[no-any-return]


#: Held by the pool that owns a scratch directory; the kernel lets go of it when that process dies.
_LOCK = ".held"


#: Of a directory in a workspace that outlives the death of its process, and where it then waits; and for how long.
_KEPT_PREFIX, _KEPT, _KEPT_SECONDS = "kept-", "kept", 7 * 24 * 3600


def _clear_abandoned(scratch: Path) -> None:
    """Remove the scratch directories of pools whose process was killed, but for what was to be kept."""
    for folder in scratch.glob("run-*"):
        try:
            with (folder / _LOCK).open("r") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                for kept in folder.glob(f"*/{_KEPT_PREFIX}*"):
                    if kept.is_dir() and not kept.is_symlink():
                        _put_by(kept, scratch / _KEPT)
                shutil.rmtree(folder, ignore_errors=True)
        except OSError:
            continue  # held, or just being made
    for kept in (scratch / _KEPT).glob("*"):
        with contextlib.suppress(OSError):
            if time.time() - kept.stat().st_mtime > _KEPT_SECONDS:
                shutil.rmtree(kept, ignore_errors=True)


def _put_by(kept: Path, place: Path) -> None:
    """The newest one of a name stays."""
    place.mkdir(exist_ok=True)
    shutil.rmtree(place / kept.name, ignore_errors=True)
    kept.rename(place / kept.name)
    os.utime(place / kept.name)


class SandboxPool:
    """Up to `workers` children; safe to use from as many threads."""

    def __init__(
        self,
        scratch: Path,
        *,
        workers: int = 1,
        memory_mb: int = 4096,
        file_mb: int = 200 * 1024,
        timeout_seconds: float = 600,
        preload: Sequence[str] = (),
        readable: Sequence[Path] = (),
    ) -> None:
        """Make the pool; no child is started yet.

        Args:
            scratch: where it makes a directory of its own, in which its children work; gone when it is closed.
            workers: children at most.
            memory_mb: address space of a child.
            file_mb: size of a file that a child writes.
            timeout_seconds: after which a call is given up and its child killed.
            preload: modules that a child imports while it waits for its first call.
            readable: files and directories outside of `scratch` that children may read, beside Python and its packages.
        """
        scratch.mkdir(parents=True, exist_ok=True)
        self._scratch = Path(tempfile.mkdtemp(prefix="run-", dir=scratch))
        self._held = (self._scratch / _LOCK).open("w")
        fcntl.flock(self._held, fcntl.LOCK_EX)
        _clear_abandoned(scratch)
        self._limits = (memory_mb, file_mb, preload, readable)
        self._timeout = timeout_seconds
        self._idle: queue.LifoQueue[_Child | None] = queue.LifoQueue()
        for _ in range(workers):
            self._idle.put(None)  # started when first needed
        self.workers = workers

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End every idle child and remove the scratch directory."""
        while not self._idle.empty():
            child = self._idle.get()
            if child:
                child.close()
        shutil.rmtree(self._scratch, ignore_errors=True)
        self._held.close()

    def warm_up(self) -> None:
        """Start a child now, so that it is ready when the first call comes."""
        child = self._idle.get()
        self._idle.put(child or _Child(self._scratch, *self._limits))

    @contextmanager
    def workspace(self) -> Iterator[Path]:
        """A private directory for one source and what is made of it; gone afterwards."""
        folder = Path(tempfile.mkdtemp(dir=self._scratch))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def kept(self, workspace: Path, name: str) -> Path:
        """A directory in a workspace that outlives this process if it is killed: the next pool that asks for its name finds what was in it.

        Args:
            workspace: a private one, of this pool.
            name: of what is worked on, and how: whoever asks for it goes on from what is there.
        """
        folder = workspace / f"{_KEPT_PREFIX}{name}"
        try:
            (self._scratch.parent / _KEPT / folder.name).rename(folder)
        except FileNotFoundError:
            folder.mkdir()
        return folder

    def call(self, function: str, request: BaseModel, result: type[R]) -> R:
        """Run a function of `protocol.FUNCTIONS` in a child.

        Raises:
            GeoAssetsError: what the function raised; SANDBOX_CRASHED after the second death; SANDBOX_TIMEOUT; SANDBOX_OUT_OF_MEMORY.
        """
        try:
            return result.model_validate(self._once(function, request))
        except _ChildDied:
            pass
        try:
            return result.model_validate(self._once(function, request))
        except _ChildDied as death:
            raise GeoAssetsError("SANDBOX_CRASHED", f"the reader died twice on this file ({death})") from None

    def _once(self, function: str, request: BaseModel) -> dict[str, Any]:
        with self._child() as child, self._time(child, request) as expired:
            return _exchange(child, Call(function=function, request=request.model_dump(mode="json")), expired)

    @contextmanager
    def stream(self, function: str, request: BaseModel) -> Iterator[Stream]:
        """Run a function that writes to a pipe while the caller reads it; memory stays bounded by the pipe."""
        read_fd, write_fd = os.pipe()
        with contextlib.suppress(OSError):  # beyond what this user's pipes may hold together
            fcntl.fcntl(write_fd, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        file = os.fdopen(read_fd, "rb")
        with file, self._child() as child, self._time(child, request) as expired:
            try:
                send(child.control, Call(function=function, request=request.model_dump(mode="json")).model_dump(mode="json"), (write_fd,))
            finally:
                os.close(write_fd)

            def finish() -> dict[str, Any]:
                try:
                    return _result(child, expired)
                except _ChildDied as death:
                    raise GeoAssetsError("SANDBOX_CRASHED", f"the reader died on this file ({death})") from None

            stream = Stream(file, finish)
            yield stream

    def _time(self, child: _Child, request: BaseModel) -> AbstractContextManager[threading.Event]:
        """The deadline of a call."""
        return _deadline(child, self._timeout + _seconds_for(request))

    @contextmanager
    def _child(self) -> Iterator[_Child]:
        child = self._idle.get()
        try:
            if child is None or child.process.poll() is not None or child.calls >= _CALLS_PER_CHILD:
                if child:
                    child.close()
                child = None
                child = _Child(self._scratch, *self._limits)
            child.calls += 1
            yield child
        except GeoAssetsError as error:
            if child and (child.process.poll() is not None or error.code in {"SANDBOX_TIMEOUT", "SANDBOX_CRASHED"}):
                child.close()
                child = None
            raise
        except BaseException:
            if child:
                child.close()  # its state is unknown: an answer may still be on the way
            child = None
            raise
        finally:
            self._idle.put(child)


class _ChildDied(Exception):  # noqa: N818 - an event inside this module, not an error of the project
    """The child ended without an answer."""


@contextmanager
def _deadline(child: _Child, seconds: float) -> Iterator[threading.Event]:
    """Kill the child when its time is up; the event tells that from a crash."""
    expired = threading.Event()

    def expire() -> None:
        expired.set()
        with contextlib.suppress(ProcessLookupError):
            child.process.send_signal(signal.SIGKILL)

    timer = threading.Timer(seconds, expire)
    timer.daemon = True
    timer.start()
    try:
        yield expired
    finally:
        timer.cancel()


def _exchange(child: _Child, call: Call, expired: threading.Event) -> dict[str, Any]:
    try:
        send(child.control, call.model_dump(mode="json"))
    except OSError as error:
        raise _ChildDied(str(error)) from error
    return _result(child, expired)


def _result(child: _Child, expired: threading.Event) -> dict[str, Any]:
    try:
        message, _ = receive(child.control)
    except OSError:
        message = None
    if message is None:
        status = child.process.wait()
        if expired.is_set():
            raise GeoAssetsError("SANDBOX_TIMEOUT", "reading it took longer than one file is given")
        raise _ChildDied(f"signal {-status}" if status < 0 else f"exit {status}")
    reply = Reply.model_validate(message)
    if reply.error is not None:
        error = GeoAssetsError.from_dict(reply.error)
        if reply.traceback:
            error.add_note(reply.traceback)
        raise error
    return reply.result or {}
