"""The pool of sandboxed children: starts them, hands out calls, kills what hangs, replaces what dies.

Here: which call runs in which lane, deadlines, answers. Not here: a lane (`lane.py`), its process (`process.py`), the
limits inside a child (`child.py`, `walls.py`), directories (`scratch.py`), who waits for a lane (`idle.py`).

A lane is a directory and the child that may write only in it. Where we are root, its files belong to us until a call
names them: so a compromised child cannot replace a path where we are about to write. Whoever opens a workspace has a
lane exclusively until the workspace is closed; a call runs in the lane that contains the files named in its request. So
no child can reach the files of another. A call that kills its child is tried once more in a new one; after a second
death the input is rejected, and the pool goes on.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import logging
import os
import random
import secrets
import stat
import tempfile
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, BinaryIO, Self, TypeVar

from geo_assets.errors import GeoAssetsError
from geo_assets.machine import lower_priority
from geo_assets.plugins import engine_packages
from geo_assets.sandbox.host import HostLimits, HostShare
from geo_assets.sandbox.idle import IdleLanes
from geo_assets.sandbox.lane import Lane
from geo_assets.sandbox.process import Child, PipeEnd
from geo_assets.sandbox.protocol import LONGEST_SAID, Call, Reply, Terms, receive_reply, send
from geo_assets.sandbox.scratch import (
    hand_over,
    make_and_hold,
    move,
    opened_below,
    remove,
    sweep,
    take_up,
)
from geo_assets.sandbox.walls import USERS, is_root
from geo_assets.sandbox.watch import DISK_MB, Watch, Watched
from geo_assets.spans import span
from geo_assets.wire import checked, ready_to_check, told

R = TypeVar("R")

_log = logging.getLogger(__name__)

#: Size of the pipe, sixteen times the default: fewer switches between the child and us.
_PIPE_BYTES = 1024**2


#: Characters of a child's traceback that are kept.
_LONGEST_TRACEBACK = 20_000


class Stream:
    """A call that also sends bytes: read `file` to its end, then call `report`."""

    def __init__(self, file: BinaryIO, finish: Any) -> None:
        self.file = file
        self._finish = finish

    def report(self, result: type[R]) -> R:
        """Return the call's result; only now is it known that the stream was complete.

        Raises:
            GeoAssetsError: any failure of the child.
        """
        return self._finish(result)  # type: ignore[no-any-return]


class SandboxPool:
    """Up to `workers` children; safe to use from as many threads."""

    def __init__(
        self,
        scratch: Path,
        *,
        workers: int = 1,
        memory_mb: int = 4096,
        file_mb: int = 200 * 1024,
        disk_mb: int = DISK_MB,
        timeout_seconds: float = 600,
        permissive: bool = False,
        preload: Sequence[str] = (),
        readable: Sequence[Path] = (),
        host: HostLimits | None = None,
        run: str = "",
        only_ours: bool = False,
    ) -> None:
        """Make the pool; no child is started yet.

        Args:
            scratch: where it makes a directory for its children, which is removed when the pool is closed.
            workers: the most children.
            memory_mb: address space of a child.
            file_mb: size of a file that a child writes.
            disk_mb: of all files together that a child has on disk at a time.
            timeout_seconds: after this time a call fails and its child is killed.
            permissive: work also on a machine that lacks a wall.
            preload: modules that a child imports while it waits for its first call.
            readable: files and directories outside of `scratch` that children may read, beside Python and its packages.
            host: what all pools of this host share; None: this one is not counted.
            run: for whom it works; the pools of one run share what the run gets of the host.
            only_ours: no function of another distribution will be called: to find these takes 50 ms.
        """
        self._scratch, self._held = make_and_hold(scratch)
        sweep(scratch)
        self._made = self._scratch / "made"  # children cannot reach it
        self._made.mkdir()
        self._timeout = timeout_seconds
        self._watch = Watch(disk_mb << 20)
        users = random.sample(USERS, workers)
        own = permissive, tuple(preload), tuple(map(str, readable)), () if only_ours else engine_packages()
        terms = [Terms(memory_mb, file_mb, user, *own) for user in users]
        self._lanes = {str(n): Lane(self._scratch / str(n), each, self._start) for n, each in enumerate(terms)}
        share = HostShare(host, run or secrets.token_hex(8), memory_mb) if host else None
        self._idle = IdleLanes(self._lanes.values(), share)
        self.workers = workers
        self._living: weakref.WeakSet[Child] = weakref.WeakSet()
        self._aborted, self._gives_way, self._starting = False, False, threading.Lock()
        #: Children die with the thread that started them (PR_SET_PDEATHSIG); this one lives as long as the pool. One
        #: that a command started ahead is of its first thread, which lives longer.
        self._starter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sandbox-start")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End every idle child and remove the scratch directory."""
        with ExitStack() as steps:  # the last first, and each, whatever becomes of another
            steps.callback(self._held.close)
            steps.callback(remove, self._scratch)
            steps.callback(self._watch.close)
            steps.callback(self._starter.shutdown)
            steps.callback(self._idle.close)

    def abort(self) -> None:
        """Kill every child, also busy ones: running and later calls raise CANCELLED. For a run that is being stopped,
        and for what needs no child any more.
        """
        with self._starting:
            self._aborted = True
            living = list(self._living)
        self._idle.stop()
        for child in living:
            with contextlib.suppress(ProcessLookupError):
                child.process.kill()  # the thread that waits for its answer closes it

    @property
    def aborted(self) -> bool:
        """Whether it was told to do nothing any more."""
        return self._aborted

    def _start(self, folder: Path, terms: Terms) -> Child:
        with self._starting:
            if self._aborted:
                raise GeoAssetsError("CANCELLED", "the run was told to stop")
            child = self._starter.submit(Child, folder, terms).result()
            self._living.add(child)
            if self._gives_way:
                lower_priority(child.process.pid)
        return child

    @property
    def busy_seconds(self) -> float:
        """For how long its children have been busy with calls that have ended, all together."""
        return sum(lane.busy_seconds for lane in self._lanes.values())

    def give_way(self) -> None:
        """Say that this pool works for a large run: small ones get seats and processors of the host before it."""
        with self._starting:
            self._gives_way, living = True, list(self._living)
        self._idle.give_way()
        for child in living:
            lower_priority(child.process.pid)

    def warm_up(self) -> None:
        """Start a child now, so that it is ready when the next workspace is opened."""
        lane = self._idle.take()
        try:
            lane.ready()
        finally:
            self._idle.put(lane)

    @property
    def waits_for_host(self) -> bool:
        """Whether a file waits because other runs of this host have all the children that it may have."""
        return self._idle.wait_for_host

    @contextmanager
    def workspace(self) -> Iterator[Path]:
        """Yield a private directory for one source and its results, removed afterwards. Until then its lane is
        reserved.
        """
        lane = self._idle.take()
        try:
            with self._workspace_of(lane) as folder:
                yield folder
        finally:
            self._idle.put(lane)

    @contextmanager
    def workspace_beside(self, workspace: Path) -> Iterator[Path]:
        """Yield a workspace for a part of the work of another one: in an idle lane, so that parts run at the same time,
        or else in the same lane.
        """
        lane = self._idle.take_now()
        if lane is None:
            yield Path(tempfile.mkdtemp(dir=workspace))
            return
        try:
            with self._workspace_of(lane) as folder:
                lane.goes_on_from(self._lane_with(workspace))
                yield folder
        finally:
            self._idle.put(lane)

    @contextmanager
    def _workspace_of(self, lane: Lane) -> Iterator[Path]:
        folder = lane.workspace()
        try:
            yield folder
        finally:
            lane.clear()
            remove(self._made_in(folder))

    def move(self, made: Path, destination: Path, *, of: Path) -> None:
        """Rename what a child made, within its workspace or to another one of this pool.

        Args:
            made: where the child says that it lies.
            destination: where to move it.
            of: the directory that the call was given for its results. Files outside belong to others.

        Raises:
            GeoAssetsError: SANDBOX_CRASHED, it is not where the child says; the next call gets a new child.
        """
        try:
            move(made, destination, of, self._scratch)
        except (OSError, ValueError) as error:
            self._lane_with(of).distrust()
            raise GeoAssetsError(
                "SANDBOX_CRASHED", f"the reader did not make the file that it reported: {error}"
            ) from error

    def take(self, made: Path, workspace: Path, *, of: Path | None = None, most: int | None = None) -> Path:
        """Move a file that a child made to where no child can reach it, until the workspace is closed.

        Args:
            made: where the child says that it lies.
            workspace: the one in which the child works.
            of: as for `move`; the workspace.
            most: bytes that such a file may have, where its reader holds it in memory.

        Raises:
            GeoAssetsError: SANDBOX_CRASHED, it is larger, or not a regular file: reading it as our user might read what
                the child may not.
        """
        folder = self._made_in(workspace)
        folder.mkdir(exist_ok=True)
        taken = Path(tempfile.mkdtemp(dir=folder)) / made.name
        self.move(made, taken, of=of or workspace)
        status = taken.lstat()
        plain = stat.S_ISREG(status.st_mode) and status.st_nlink == 1
        if not plain or status.st_size > (status.st_size if most is None else most):
            self._lane_with(of or workspace).distrust()
            what = f"of {status.st_size:,} bytes" if plain else "no plain file"
            raise GeoAssetsError("SANDBOX_CRASHED", f"the reader made {made.name} {what}")
        if is_root():
            os.chown(taken, os.geteuid(), os.getegid())
        return taken

    def peek(self, written: Path, most: int) -> bytes:
        """Return the first bytes of a file that a child is writing; nothing where there is no regular file with that
        name.
        """
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with contextlib.suppress(OSError, ValueError), opened_below(self._scratch, written.parent) as folder:
            descriptor = os.open(written.name, flags, dir_fd=folder)
            try:
                status = os.fstat(descriptor)
                return os.read(descriptor, most) if stat.S_ISREG(status.st_mode) and status.st_nlink == 1 else b""
            finally:
                os.close(descriptor)
        return b""

    def _lane_with(self, folder: Path) -> Lane:
        return self._lanes[folder.relative_to(self._scratch).parts[0]]

    def child_in(self, workspace: Path) -> int | None:
        """The process that works in a workspace; None before it is started."""
        return self._lane_with(workspace).pid

    def _made_in(self, workspace: Path) -> Path:
        return self._made / "-".join(workspace.relative_to(self._scratch).parts[:2])

    def kept(self, workspace: Path, name: str) -> Path:
        """Return a directory in a workspace that is kept if this process is killed: the next pool that asks for the
        same name gets its contents.

        Args:
            workspace: a private one, of this pool. The directory is created by whoever writes in it.
            name: identifies the work and its options: a later call with the same name resumes from what is there.
        """
        return take_up(self._scratch.parent, workspace, name)

    def call(self, function: str, request: object, result: type[R]) -> R:
        """Run a function of `protocol.FUNCTIONS` in the child whose lane contains the files of the request; in an idle
        one if none does.

        Raises:
            GeoAssetsError: what the function raised; SANDBOX_CRASHED after the second death; SANDBOX_TIMEOUT;
                SANDBOX_OUT_OF_MEMORY; TOO_LARGE, more disk space than is allowed; DISK_FULL; SANDBOX_INCOMPLETE, this
                machine lacks a wall; CANCELLED after `abort`.
        """
        call = Call(function, told(request))
        with self._lane_of(call.request) as lane:
            try:
                return self._once(lane, call, request, result)
            except _ChildDied:
                pass
            try:
                return self._once(lane, call, request, result)
            except _ChildDied as death:
                raise GeoAssetsError("SANDBOX_CRASHED", f"the reader died twice on this file ({death})") from None

    def _once(self, lane: Lane, call: Call, request: object, result: type[R]) -> R:
        with lane.child() as child, _logged(call, child), self._watched(lane, child, request) as watched:
            return _exchange(child, call, watched, result)

    @contextmanager
    def _lane_of(self, request: dict[str, Any]) -> Iterator[Lane]:
        paths = [Path(text) for text in _strings(request) if text.startswith(f"{self._scratch}{os.sep}")]
        names = {path.relative_to(self._scratch).parts[0] for path in paths}
        if len(names) > 1:
            raise GeoAssetsError("CONTRACT_VIOLATION", "a call names files of two workspaces")
        if names:
            lane = self._lanes[names.pop()]
            if is_root():
                hand_over(paths, lane.folder, lane.user)
            yield lane
            return
        lane = self._idle.take()
        try:
            lane.workspace()
            yield lane
        finally:
            lane.clear()
            self._idle.put(lane)

    @contextmanager
    def stream(self, function: str, request: object) -> Iterator[Stream]:
        """Run a function that writes to a pipe while the caller reads it; memory stays bounded by the pipe."""
        call = Call(function, told(request))
        read_fd, write_fd = os.pipe()
        with contextlib.suppress(OSError):  # beyond this user's limit for all pipes together
            fcntl.fcntl(write_fd, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        end = PipeEnd(read_fd)
        file = io.BufferedReader(end)
        with ExitStack() as stack:
            stack.enter_context(file)
            try:
                lane = stack.enter_context(self._lane_of(call.request))
                child = stack.enter_context(lane.child())
                stack.enter_context(_logged(call, child))
                end.written_by(child.process)
                watched = stack.enter_context(self._watched(lane, child, request))
                send(child.control, told(call), (write_fd,))
            finally:
                os.close(write_fd)

            def finish(result: type[R]) -> R:
                try:
                    return _result(child, watched, result)
                except _ChildDied as death:
                    raise GeoAssetsError("SANDBOX_CRASHED", f"the reader died on this file ({death})") from None

            yield Stream(file, finish)

    def _watched(self, lane: Lane, child: Child, request: object) -> AbstractContextManager[Watched]:
        """Return the limits of a call that are enforced from outside."""
        return self._watch.over(child.process, lane.folder, self._timeout + lane.seconds_for(request))


def _strings(value: Any) -> Iterator[str]:
    """Yield every text in a request."""
    if is_dataclass(value):
        value = told(value)
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from _strings(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _strings(each)


class _ChildDied(Exception):  # noqa: N818 - an event inside this module, not an error of the project
    """The child ended without an answer."""


@contextmanager
def _logged(call: Call, child: Child) -> Iterator[None]:
    """Log what became of a call. A child has no log to write to, so that no file can."""
    began, how = time.monotonic(), {"function": call.function, "child_pid": child.process.pid}
    try:
        with span("child", function=call.function, child_pid=child.process.pid):
            yield
    except Exception as error:
        code = {"code": error.code} if isinstance(error, GeoAssetsError) else {}
        ended = {**how, **code, "reason": str(error), "seconds": round(time.monotonic() - began, 3)}
        _log.info("call of a sandboxed child failed", extra=ended)
        raise
    _log.info("sandboxed child was called", extra={**how, "seconds": round(time.monotonic() - began, 3)})


def _exchange(child: Child, call: Call, watched: Watched, result: type[R]) -> R:
    try:
        send(child.control, told(call))
    except OSError as error:
        raise _ChildDied(str(error)) from error
    ready_to_check(Reply)
    ready_to_check(result)
    return _result(child, watched, result)


def _result(child: Child, watched: Watched, result: type[R]) -> R:
    try:
        reply = receive_reply(child.control, lambda: child.process.poll() is None)
        for said in reply.said if reply else ():
            _log.info("sandboxed child warned", extra={"child_pid": child.process.pid, "said": said[:LONGEST_SAID]})
        if reply is not None and reply.error is None:
            return checked(result, reply.result)
    except OSError:
        reply = None
    except ValueError as error:
        said = f"{type(error).__name__}: {error}"[:_LONGEST_TRACEBACK]
        crashed = GeoAssetsError("SANDBOX_CRASHED", "the reader sent an invalid answer")
        crashed.add_note(said)
        raise crashed from None
    if reply is None or reply.error is None:
        status = child.process.wait()
        if watched.verdict:
            raise watched.verdict
        raise _ChildDied(f"signal {-status}" if status < 0 else f"exit {status}")
    failure = GeoAssetsError.from_reader(reply.error)
    if reply.traceback:
        failure.add_note(reply.traceback[:_LONGEST_TRACEBACK])
    raise failure
