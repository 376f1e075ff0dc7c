"""The sandboxed child: receives one call at a time from its parent, runs it within limits, replies, waits for the next.

Here: the limits that a child sets for itself before it opens a file, and the loop.
Not here: what is called (functions of `raster/` and `vector/`), the walls around it (`walls.py`), when a child is
started or killed (`pool.py`).

A child has no credentials: its environment is made by `start.py`, and it cannot read its parent's. It dies with its
parent, also inside native code. Where a wall is missing it opens nothing, unless the settings are permissive.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import importlib.util
import logging
import os
import resource
import signal
import socket
import sys
import traceback
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from geo_assets import plugins
from geo_assets.errors import GeoAssetsError
from geo_assets.lean import NOT_OF_A_CHILD, leave_out
from geo_assets.sandbox import selftest
from geo_assets.sandbox.protocol import FUNCTIONS, LONGEST_SAID, MOST_SAID, Call, Reply, Terms, receive, send
from geo_assets.sandbox.scratch import TEMPORARY, WORK
from geo_assets.sandbox.walls import Walls, has_one_thread, raise_walls
from geo_assets.wire import built, told

#: Most open files: enough for a dataset with its sidecars, few enough to stop a file that opens many others.
_MAX_OPEN_FILES = 256


def main(control_fd: int, lifeline_fd: int, ahead: Sequence[str] = ()) -> None:
    """Learn the terms, then serve calls on the control socket until it closes.

    Args:
        control_fd: its end of the socket.
        lifeline_fd: its end of the pipe that closes when its parent ends.
        ahead: modules to import before the terms are known. If one starts a thread this child ends: one that imports
            them after its walls takes its place.
    """
    gc.disable()  # what is imported stays
    _die_with_parent(lifeline_fd)
    leave_out(*NOT_OF_A_CHILD)
    heard = _Heard()
    logging.getLogger().addHandler(heard)
    for module in ahead:
        importlib.import_module(module)
    if ahead and not has_one_thread():
        return
    with socket.socket(fileno=control_fd) as control:
        said, _ = receive(control)
        if said is None:
            return
        refused = _accept(Path(said.pop("folder")), built(Terms, said))
        gc.freeze()  # nor is it looked through again with each file
        gc.enable()
        while True:
            message, fds = receive(control)
            if message is None:
                return
            reply = refused or _serve(built(Call, message), fds)
            send(control, told(replace(reply, said=heard.taken())))


def _accept(lane: Path, terms: Terms) -> Reply | None:
    """Enter the directory and set the limits, then load what the first call needs; returns the reply to every call
    where a wall is missing.
    """
    os.chdir(lane)
    os.environ.update(dict.fromkeys(("HOME", "TMPDIR", "CPL_TMPDIR"), str(lane / TEMPORARY)))
    _limit(terms.memory_mb, terms.file_mb)
    readable = (lane, *map(Path, terms.readable), *_places_of(terms.packages))
    walls = raise_walls(terms.user, (lane / WORK, lane / TEMPORARY), readable)
    selftest.WALLS.append(walls)
    os.dup2(2, 1)  # what a library prints must not be mistaken for results
    if walls.missing and not terms.permissive:
        return _incomplete(walls)
    for module in terms.preload:
        importlib.import_module(module)
    return None


class _Heard(logging.Handler):
    """What libraries warn of during a call. The parent writes it down: no log is open to a child."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the first ones."""
        if len(self._said) < MOST_SAID:
            self._said.append(f"{record.name}: {record.getMessage()}"[:LONGEST_SAID])

    def taken(self) -> tuple[str, ...]:
        """Return what was heard since the last time."""
        said, self._said = self._said, []
        return tuple(said)


def _places_of(packages: Iterable[str]) -> Iterator[Path]:
    """Where packages of other distributions lie, found and not imported: Python remembers what is in the directories
    that it looked into, and later does not have to read them, which may hold more than packages.
    """
    for name in packages:
        with contextlib.suppress(ImportError, ValueError):
            spec = importlib.util.find_spec(name)
            yield from map(Path, (spec and spec.submodule_search_locations) or ())


def _incomplete(walls: Walls) -> Reply:
    return Reply(
        error=GeoAssetsError(
            "SANDBOX_INCOMPLETE",
            f"this machine lacks walls around what reads untrusted files: {', '.join(walls.missing)}",
        ).to_dict()
    )


def _serve(call: Call, fds: list[int]) -> Reply:
    try:
        if call.function not in FUNCTIONS and call.function not in plugins.engines():
            return Reply(error={"code": "INTERNAL", "message": f"{call.function} is not a function of the sandbox"})
        return Reply(result=_invoke(call, fds))
    except GeoAssetsError as error:
        return Reply(error=error.to_dict())
    except MemoryError:
        return Reply(
            error={
                "code": "SANDBOX_OUT_OF_MEMORY",
                "message": "reading it needs more memory than the limit for one file",
            }
        )
    except OSError as error:
        return Reply(error=_os_error(error), traceback=traceback.format_exc())
    except Exception as error:  # noqa: BLE001 - the boundary: whatever a hostile file provokes is reported, not raised
        return Reply(
            error={"code": "INTERNAL", "message": f"{type(error).__name__}: {error}"[:1000]},
            traceback=traceback.format_exc(),
        )


def _invoke(call: Call, fds: list[int]) -> dict[str, Any]:
    module_name, _, function_name = call.function.partition(":")
    function = getattr(importlib.import_module(module_name), function_name)
    request = function.__annotations__["request"]
    if isinstance(request, str):
        request = vars(sys.modules[module_name])[request]
    arguments = [built(request, call.request)]
    if not fds:
        return told(function(*arguments))
    with os.fdopen(fds[0], "wb", closefd=True) as sink:
        return told(function(*arguments, sink))


def _os_error(error: OSError) -> dict[str, str]:
    if error.errno in {27, 28, 122}:  # EFBIG, ENOSPC, EDQUOT
        return {"code": "DISK_FULL", "message": f"no room for the output: {error.strerror}"}
    return {"code": "INTERNAL", "message": f"{type(error).__name__}: {error}"[:1000]}


def _die_with_parent(lifeline_fd: int) -> None:
    """End this process when its parent ends: by SIGIO, which kills by default, when the parent's end of the lifeline
    closes; later also by SIGKILL, which `raise_walls` requests and which cannot be ignored.
    """
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    fcntl.fcntl(lifeline_fd, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(lifeline_fd, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
    try:
        if os.read(lifeline_fd, 1) == b"":
            os._exit(1)  # the parent died before we could ask
    except BlockingIOError:
        pass


def _limit(memory_mb: int, file_mb: int) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (memory_mb << 20, memory_mb << 20))
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_mb << 20, file_mb << 20))
    resource.setrlimit(resource.RLIMIT_NOFILE, (_MAX_OPEN_FILES, _MAX_OPEN_FILES))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write beyond the limit is an error, not a death


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
