"""Restarts processes of a stack that die: `python -m geo_assets.local.supervisor`, itself one of the stack's processes.

Here: when to restart, and the record of deaths that `doctor` reads. Not here: how a part is started (`stack.py`).

A part that dies is restarted at once; one that dies again within a minute waits, longer each time. The stack's lock is
held while something is started, so that `up` and `down` never find a half-started part; the supervisor does not wait
for the lock.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from pathlib import Path

from pydantic import BaseModel, Field

from geo_assets.errors import GeoAssetsError
from geo_assets.local.stack import Stack

FILE = "supervisor.json"

_LOOK_SECONDS = 1.0

#: Seconds after which a restarted part counts as healthy again.
WELL_SECONDS = 60.0

_LONGEST_PAUSE_SECONDS = 60.0

#: Deaths in a row from which on it is called a crash loop.
CRASH_LOOP = 4


class Deaths(BaseModel):
    """How often in a row a part has died, each time within a minute of its start, and when it was or is started next
    (Unix time).
    """

    count: int = 0
    next_start: float = 0
    waiting: bool = False

    def after_another(self, now: float) -> Deaths:
        """Return the record after a death at `now`: pauses of 0, 2, 4, 8 … 60 seconds."""
        count = self.count + 1 if now - self.next_start < WELL_SECONDS else 1
        pause = 0.0 if count == 1 else min(_LONGEST_PAUSE_SECONDS, 2.0 ** (count - 1))
        return Deaths(count=count, next_start=now + pause, waiting=True)


class Account(BaseModel):
    """The supervisor's record, written for `doctor`."""

    deaths: dict[str, Deaths] = Field(default_factory=dict)

    @classmethod
    def of(cls, home: Path) -> Account:
        """Return the record of a home's supervisor; empty where there is none."""
        try:
            return cls.model_validate_json((home / FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return cls()

    def save(self, home: Path) -> None:
        """Write the record atomically."""
        temporary = home / f".{FILE}"
        temporary.write_text(self.model_dump_json(), encoding="utf-8")
        temporary.replace(home / FILE)


def look(stack: Stack, account: Account) -> None:
    """Do one round: note parts that died, and restart those whose pause is over."""
    for name in stack.dead_parts():
        now = time.time()
        known = account.deaths.get(name, Deaths())
        if not known.waiting:
            known = account.deaths[name] = known.after_another(now)
            account.save(stack.home)
            loop = ", a crash loop" if known.count >= CRASH_LOOP else ""
            _log(
                f"{name} is down (death {known.count} in a row{loop}), next start in {known.next_start - now:.0f} s:"
                f" {stack.log_file(name)}"
            )
        if known.next_start <= now:
            _start(stack, name, known)


def _start(stack: Stack, name: str, known: Deaths) -> None:
    try:
        known.waiting = not stack.start_again(name)
    except (GeoAssetsError, OSError) as error:
        known.waiting = False  # the next round notes that it is down once more
        _log(f"{name} does not start: {error}")
        return
    if not known.waiting:
        _log(f"{name} was started again")


def _log(message: str) -> None:
    now = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime())
    print(f"{now} {message}", file=sys.stderr, flush=True)  # noqa: T201 - its log


def _reap() -> None:
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def main() -> None:
    """Watch the stack of this home until it has another supervisor, or none."""
    stack, account = Stack(), Account()
    account.save(stack.home)
    while stack.is_supervised_by(os.getpid()):
        look(stack, account)
        time.sleep(_LOOK_SECONDS)
        _reap()


if __name__ == "__main__":
    main()
