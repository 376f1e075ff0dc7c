"""Purging: one kind after the other.

Here: which kinds, how old, what is told of each. Not here: the kinds (`kinds.py`), the command (`commands/purge.py`),
the daily schedule (`defs/retention.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

from geo_assets.errors import GeoAssetsError, closest_first
from geo_assets.ledger.retention import Extent
from geo_assets.retention.kinds import KINDS, Kind
from geo_assets.settings import MOST_DAYS, Settings


@dataclass(frozen=True, slots=True)
class Purged:
    """What goes, or has gone, of a kind."""

    kind: Kind
    extent: Extent
    days: float | None  # how long it is kept; None: what it is decides


def purge(
    settings: Settings,
    names: Sequence[str] = (),
    *,
    older_than_days: float | None = None,
    dry_run: bool,
    tell: Callable[[Kind], None] | None = None,
) -> list[Purged]:
    """Delete what is old enough; returns what has gone of each kind, or would go.

    Args:
        settings: the database, the accounts, and how long what is kept.
        names: of the kinds; all where none is named.
        older_than_days: instead of the settings, for the kinds that have an age.
        dry_run: delete nothing.
        tell: called with each kind before its turn.

    Raises:
        GeoAssetsError: INVALID_PARAMETERS, there is no such kind or no such age.
    """
    chosen = list(_chosen(names))
    if older_than_days is not None and not 0 <= older_than_days <= MOST_DAYS:  # also nan
        raise GeoAssetsError(
            "INVALID_PARAMETERS",
            f"--older-than takes days from 0 to {MOST_DAYS:,} (got {older_than_days})",
            remedy="for example: geo-assets purge --older-than 7",
        )
    purged = []
    for kind in chosen:
        if tell:
            tell(kind)
        age = _age(kind, settings, older_than_days)
        do = kind.count if dry_run else kind.purge
        days = None if age is None else age / timedelta(days=1)
        purged.append(Purged(kind, do(settings, age or timedelta(0)), days))
    return purged


def _chosen(names: Sequence[str]) -> Iterator[Kind]:
    known = {kind.name: kind for kind in KINDS}
    for name in names:
        if name not in known:
            raise GeoAssetsError(
                "INVALID_PARAMETERS",
                f"there is no kind {name[:64]!r} of what is purged",
                remedy=f"one of: {', '.join(closest_first(name, list(known)))}",
            )
    yield from (kind for kind in KINDS if not names or kind.name in names)


def _age(kind: Kind, settings: Settings, older_than_days: float | None) -> timedelta | None:
    if kind.age is None:
        return None
    return kind.age(settings) if older_than_days is None else timedelta(days=older_than_days)
