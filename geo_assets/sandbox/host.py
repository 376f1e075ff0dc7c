"""What children may be on this host at a time: seats, shared by the pools of all runs, steps and workers.

Here: how many seats and how much memory a pool holds, who is next, who gives one back. Not here: what is done in a seat
(`pool.py`), how many there are by default (`machine.py`).

A folder has one file for each pool, locked by its process for as long as the pool lives: the kernel lets go of the lock
when the process dies, and whoever looks next counts its seats as free. There is no daemon. The file says for whom the
pool works (its run), what it holds, and since when it waits.

Whoever holds least is next, and of those who hold the same, who has waited longest. A run that holds two more than one
that waits gives one back between two files; one that holds a single seat gives it to a run that has none once it has
had it for a while. So a run that begins does not wait for the end of another, and each gets its share.

Large runs give way to small ones, except for one seat that they have among them: no stream of small runs stops them.
As a file of a large run may take an hour, there is one seat more than the host has, for a small run that has none.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import stat
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import IO

from geo_assets.machine import default_host_folder

#: Seconds between two looks at the others. A look costs some 20 µs for each pool of the host.
LOOK_EVERY = 0.1

#: Seconds for which a run keeps its only seat though another run has none: a child takes half a second to start.
TURN_SECONDS = 3.0

#: Seconds after which one that waits and does not look any more (it is frozen) stands in nobody's way.
_LOST_SECONDS = 5.0

#: Of a pool's file, and of the one that is locked while anything changes.
_ENDING, _MUTEX = ".pool", "lock"

#: Seconds between two tries to lock it: it is held for less than a millisecond.
_RETRY = 0.002

#: Seconds after which the holder of that lock counts as stopped (a debugger, a frozen container): we go on without.
_MUTEX_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class HostLimits:
    """What all children of a host may use together.

    Attributes:
        folder: where those who share the limits meet.
        children: at a time.
        memory_mb: their address space together. One child may always be there, however large.
    """

    folder: Path
    children: int
    memory_mb: int


@dataclass(frozen=True, slots=True)
class _Claim:
    """What one pool holds and wants."""

    run: str
    held: int = 0
    memory_mb: int = 0
    waiting_since: float = 0.0  # of CLOCK_MONOTONIC, one for the host; 0: it does not wait
    looked: float = 0.0
    is_large: bool = False


@dataclass(frozen=True, slots=True)
class _Party:
    """A run: all of its pools together."""

    run: str
    held: int
    waiting_since: float
    is_large: bool
    gives_way: bool = False

    @property
    def turn(self) -> tuple[bool, int, float]:
        """Smaller is earlier."""
        return self.gives_way, self.held, self.waiting_since


class HostShare:
    """The seats that one pool holds of its host. Safe to use from many threads."""

    def __init__(self, limits: HostLimits, run: str, child_mb: int) -> None:
        """Register the pool.

        Args:
            limits: of the host.
            run: for whom it works: the pools of one run share what the run gets.
            child_mb: what each of its children may have.
        """
        self._limits, self._child_mb = limits, child_mb
        self._folder = _own_folder(limits.folder)
        self._claim = _Claim(run)
        self._leaving = 0  # seats whose children are being ended
        self._since = 0.0  # when the last seat came
        self._lock = threading.Lock()
        self._mutex = (self._folder / _MUTEX).open("ab")
        self._path = self._folder / f"{os.getpid()}-{secrets.token_hex(6)}{_ENDING}"
        with self._exclusively():
            self._file = self._path.open("w+b", buffering=0)
            fcntl.flock(self._file, fcntl.LOCK_EX)
            self._write()

    def close(self) -> None:
        """Give back everything."""
        with contextlib.suppress(OSError):
            self._path.unlink()
        self._file.close()
        self._mutex.close()

    def give_way(self) -> None:
        """Say that the run of this pool is a large one."""
        with self._lock, self._exclusively():
            self._claim = replace(self._claim, is_large=True)
            self._write()

    @property
    def waits(self) -> bool:
        """Whether it has asked for a seat and has none yet."""
        return self._claim.waiting_since > 0

    def ask(self) -> bool:
        """Take a seat if there is one and nobody is before us; otherwise stand in line. Does not wait.

        Asked again within `LOOK_EVERY`, it answers without looking.
        """
        with self._lock:
            now = time.monotonic()
            if self.waits and now < self._claim.looked + LOOK_EVERY:
                return False
            with self._exclusively():
                others = self._others()
                if self._is_free(others) and self._is_next(others):
                    self._since = now
                    self._set(self._claim.held + 1, 0.0)
                    return True
                self._set(self._claim.held, self._claim.waiting_since or now)
        return False

    def ask_no_more(self) -> None:
        """Leave the line: nobody in this pool wants a seat any more."""
        with self._lock:
            if self.waits:
                with self._exclusively():
                    self._set(self._claim.held, 0.0)

    def give_back(self) -> None:
        """Return a seat whose child has ended, after `owes` or `is_wanted` said so."""
        with self._lock, self._exclusively():
            self._leaving -= 1
            self._set(self._claim.held - 1, self._claim.waiting_since)

    def owes(self) -> bool:
        """Whether this pool is to give a seat back between two files, as another run needs it more: end the child, then
        `give_back`.
        """
        with self._lock:
            if self._claim.held <= self._leaving:
                return False
            with self._exclusively():
                others = self._others()
            parties = _parties([*others, self._claim])
            mine = parties.pop(self._claim.run)
            ours, before = mine.held - self._leaving, [p for p in parties.values() if p.gives_way <= mine.gives_way]
            least = min((party.held for party in before if party.waiting_since), default=ours)
            had_its_turn = time.monotonic() - self._since > TURN_SECONDS
            steps = [claim.held for claim in others if claim.run == self._claim.run and claim.waiting_since]
            spare = (
                self._claim.held - self._leaving - min(steps, default=self._claim.held)
            )  # for another step of the run
            owes = ours - least >= 2 or spare >= 2 or (ours > least == 0 and had_its_turn)
            owes = owes or (mine.is_large and self._is_in_the_way([*parties.values(), replace(mine, held=ours)]))
            self._leaving += owes
        return owes

    def is_wanted(self) -> bool:
        """Whether another run waits for the seat of an idle child: end the child, then `give_back`."""
        with self._lock:
            if self._claim.held <= self._leaving:
                return False
            with self._exclusively():
                wanted = any(claim.waiting_since and claim.run != self._claim.run for claim in self._others())
            self._leaving += wanted
        return wanted

    def _is_in_the_way(self, parties: list[_Party]) -> bool:
        """Whether large runs have a second seat though a small one needs it: it has none, or has the one too many."""
        large = sum(party.held for party in parties if party.is_large)
        needed = any(party.waiting_since and not party.held and not party.is_large for party in parties)
        return large >= 2 and (needed or sum(party.held for party in parties) > self._limits.children)

    def _is_free(self, others: list[_Claim]) -> bool:
        claims = [*others, self._claim]
        held, memory = sum(claim.held for claim in claims), sum(claim.memory_mb for claim in claims)
        fits = memory + self._child_mb <= self._limits.memory_mb
        return not held or (held < self._limits.children + self._may_have_one_more(claims) and fits)

    def _may_have_one_more(self, claims: list[_Claim]) -> bool:
        """Whether our run is a small one without a seat, and a large one has some: its files may take hours."""
        parties = _parties(claims)
        ours = parties[self._claim.run]
        return not ours.is_large and not ours.held and any(p.is_large and p.held for p in parties.values())

    def _is_next(self, others: list[_Claim]) -> bool:
        since = self._claim.waiting_since or time.monotonic()
        parties = _parties([*others, replace(self._claim, waiting_since=since, looked=time.monotonic())])
        mine = parties.pop(self._claim.run).turn
        return not any(party.waiting_since and party.turn < mine for party in parties.values())

    def _others(self) -> list[_Claim]:
        """The claims of all other pools that live; files of those that do not are removed."""
        others = (path for path in self._folder.glob(f"*{_ENDING}") if path != self._path)
        return [claim for path in others if (claim := _read(path))]

    def _set(self, held: int, waiting_since: float) -> None:
        looked = time.monotonic() if waiting_since else 0.0
        memory = held * self._child_mb
        self._claim = _Claim(self._claim.run, held, memory, waiting_since, looked, self._claim.is_large)
        self._write()

    def _write(self) -> None:
        claim = self._claim
        text = json.dumps(astuple(claim)).encode()
        os.pwrite(self._file.fileno(), text, 0)
        os.ftruncate(self._file.fileno(), len(text))

    @contextmanager
    def _exclusively(self) -> Iterator[None]:
        held = _locked(self._mutex)
        try:
            yield
        finally:
            if held:
                fcntl.flock(self._mutex, fcntl.LOCK_UN)


def _own_folder(folder: Path) -> Path:
    """The folder, made if needed; of another user's (anybody may make one in /tmp) we use none."""
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.lstat()
        if stat.S_ISDIR(status.st_mode) and os.access(folder, os.W_OK) and _is_ours(folder, status):
            return folder
    return Path(tempfile.mkdtemp(prefix="geo-assets-host-"))


def _is_ours(folder: Path, status: os.stat_result) -> bool:
    """The default one must be this user's alone; what a setting names may be shared by several users."""
    return folder != default_host_folder() or (status.st_uid == os.geteuid() and not status.st_mode & 0o077)


def _locked(mutex: IO[bytes]) -> bool:
    """Lock it, for as long as anybody may reasonably hold it; false if its holder has stopped."""
    deadline = time.monotonic() + _MUTEX_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(mutex, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        time.sleep(_RETRY)
    return False


def _read(path: Path) -> _Claim | None:
    """The claim of a pool; None if its process is dead, whose file is removed then."""
    try:
        with path.open("rb", buffering=0) as file:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                path.unlink()
                return None
            run, held, memory_mb, since, looked, *large = json.loads(file.read(4096))  # an older release says no more
            is_lost = time.monotonic() - float(looked) > _LOST_SECONDS
            waits = 0.0 if is_lost else float(since)
            return _Claim(str(run), int(held), int(memory_mb), waits, float(looked), is_large=large == [True])
    except (OSError, ValueError):  # closed meanwhile
        return None


def _parties(claims: list[_Claim]) -> dict[str, _Party]:
    """The claims of each run together. It waits for as long as the first of its pools.

    Large runs give way while one of them has a seat.
    """
    parties: dict[str, _Party] = {}
    for claim in claims:
        known = parties.get(claim.run, _Party(claim.run, 0, 0.0, is_large=False))
        since = min((each for each in (known.waiting_since, claim.waiting_since) if each), default=0.0)
        large = known.is_large or claim.is_large
        parties[claim.run] = _Party(claim.run, known.held + claim.held, since, is_large=large)
    give_way = any(party.is_large and party.held for party in parties.values())
    return {run: replace(party, gives_way=give_way and party.is_large) for run, party in parties.items()}
