"""Times as a person sees them: in the zone of who looks, or in UTC for who asks for it with `--utc`.

Here: the one place where a command turns a time into text, and the option. Not here: JSON, whose times are always UTC
(`console.py`); the database, whose sessions are (`settings.py`).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from datetime import UTC, datetime
from functools import wraps
from typing import Annotated, Any

import typer

_UtcFlag = Annotated[bool, typer.Option("--utc", help="Show times in UTC instead of the zone of this terminal (TZ).")]


class _Zone:
    utc = False


def shows_times(command: Callable[..., None]) -> Callable[..., None]:
    """A decorator: the command, which prints times, also takes `--utc`."""

    @wraps(command)
    def with_zone(*args: Any, utc: bool = False, **options: Any) -> None:
        _Zone.utc = utc
        command(*args, **options)

    asked = inspect.signature(command, eval_str=True)
    flag = inspect.Parameter("utc", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=_UtcFlag)
    with_zone.__signature__ = asked.replace(parameters=[*asked.parameters.values(), flag])  # type: ignore[attr-defined]
    return with_zone


def moment(at: datetime) -> str:
    """`2026-11-01 01:30:00-02:30`, `2026-11-01 04:00:00Z`: with its offset, as an hour comes twice when clocks are put
    back.
    """
    return at.astimezone(UTC if _Zone.utc else None).isoformat(" ", "seconds").replace("+00:00", "Z")


def clock(at: datetime) -> str:
    """The time of day alone, of something that is near: `01:30:00-02:30`."""
    return moment(at).partition(" ")[2]
