"""Each kind of thing that goes after some time: how much of it there is, and how it goes.

Here: the kinds, by name, and their ages. Not here: statements (`ledger/retention.py`), what the janitor deletes by the
minute and what is asked for from here too (`stages/orphans.py`), the order (`purge.py`).

Whoever deletes may be killed at any moment, and there may be several: each batch is one commit, or one file, and what
is left is found again. Nothing of a job at work is any kind's.
"""

from __future__ import annotations

import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg

from geo_assets.accounts import LocalAccount
from geo_assets.database.connections import connect
from geo_assets.ledger import retention as ledger
from geo_assets.ledger.retention import Extent
from geo_assets.retention import container_apps
from geo_assets.sandbox import scratch
from geo_assets.settings import Settings
from geo_assets.stages import orphans
from geo_assets.storage.local import abandoned_uploads, account_root
from geo_assets.submissions.launch import repository_label

#: Seconds for which the folder of a run that Dagster does not know must have been left alone: it may be at work still.
_SILENT_SECONDS = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of thing that goes."""

    name: str
    holds: str  # what it is, in words
    count: Callable[[Settings, timedelta], Extent]
    purge: Callable[[Settings, timedelta], Extent]
    #: How long it is kept; None: what it is decides.
    age: Callable[[Settings], timedelta] | None = None


def _age_of_runs(settings: Settings) -> timedelta:
    return timedelta(days=settings.keep_runs_days)


def _age_of_messages(settings: Settings) -> timedelta:
    return timedelta(days=settings.keep_messages_days)


def _asked(
    question: Callable[..., Extent], *needs: Callable[[Settings], Any]
) -> Callable[[Settings, timedelta], Extent]:
    """One question of the database, with the age and what else it needs."""

    def ask(settings: Settings, age: timedelta) -> Extent:
        with connect(settings) as conn:
            return question(conn, age, *(need(settings) for need in needs))

    return ask


def _repeated(
    batch: Callable[..., Extent], *needs: Callable[[Settings], Any]
) -> Callable[[Settings, timedelta], Extent]:
    """One batch after the other, until there is none."""

    def repeat(settings: Settings, age: timedelta) -> Extent:
        gone = Extent()
        with connect(settings) as conn:
            while (more := batch(conn, age, *(need(settings) for need in needs))).count:
                gone += more
        return gone

    return repeat


def _repository(settings: Settings) -> str:
    return repository_label(settings.code_location)


# -- what steps printed ------------------------------------------------------------------------------------------------


def _count_logs(settings: Settings, age: timedelta) -> Extent:
    return sum((Extent(1, _size(folder)) for folder in _logs(settings, age, with_ended=True)), Extent())


def _delete_logs(settings: Settings, age: timedelta) -> Extent:
    gone = Extent()
    for folder in _logs(settings, age, with_ended=False):
        gone += Extent(1, _size(folder))
        shutil.rmtree(folder, ignore_errors=True)  # what is left of it is found again
    return gone


def _logs(settings: Settings, age: timedelta, *, with_ended: bool) -> Iterator[Path]:
    """The folders of runs that Dagster does not have; with those that it has no longer once `runs` are purged."""
    with connect(settings, autocommit=True) as conn:
        if not ledger.has_dagster(conn):
            return
        folders = {path.name: path for path in (settings.dagster_home / "storage").glob("*") if _is_of_run(path)}
        known = ledger.known_runs(conn, folders)
        ended = ledger.ended_runs(conn, age, _repository(settings)) if with_ended else set()
        purged = ledger.purged_runs(conn, folders)
    for name, path in sorted(folders.items()):
        if name in ended or (name not in known and (name in purged or _is_left(path))):
            yield path


def _is_of_run(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink() and (path / "compute_logs").is_dir()


def _is_left(path: Path) -> bool:
    newest = max((status.st_mtime for status in _statuses(path)), default=0.0)
    return time.time() - newest > _SILENT_SECONDS


def _size(folder: Path) -> int:
    return sum(status.st_size for status in _statuses(folder) if stat.S_ISREG(status.st_mode))


def _statuses(folder: Path) -> Iterator[os.stat_result]:
    """Of a folder and all that is below it, and that nobody else has deleted meanwhile."""
    for place, _, names in os.walk(folder):
        for name in (".", *names):
            with suppress(OSError):
                yield (Path(place) / name).lstat()


# -- what killed processes left ----------------------------------------------------------------------------------------


def _count_scratch(settings: Settings, _: timedelta) -> Extent:
    return sum((Extent(1, _size(folder)) for folder in scratch.left(settings.home / "scratch")), Extent())


def _sweep_scratch(settings: Settings, age: timedelta) -> Extent:
    before = _count_scratch(settings, age)
    scratch.sweep(settings.home / "scratch")
    return before


def _abandoned_uploads(settings: Settings) -> Iterator[tuple[Path, int]]:
    account = settings.storage_accounts.get(settings.output_account)
    if isinstance(account, LocalAccount):
        for name in settings.output_containers:
            yield from abandoned_uploads(account_root(account) / name)


def _count_uploads(settings: Settings, _: timedelta) -> Extent:
    return sum((Extent(1, size) for _, size in _abandoned_uploads(settings)), Extent())


def _sweep_uploads(settings: Settings, _: timedelta) -> Extent:
    swept = Extent()
    for file, size in _abandoned_uploads(settings):
        file.unlink(missing_ok=True)
        swept += Extent(1, size)
    return swept


def _without_age(question: Callable[[psycopg.Connection[Any]], Extent]) -> Callable[[Settings, timedelta], Extent]:
    return _asked(lambda conn, _: question(conn))


def _count_blobs(settings: Settings, _: timedelta) -> Extent:
    return Extent(orphans.count_blobs(settings), None)


def _sweep_blobs(settings: Settings, _: timedelta) -> Extent:
    return Extent(orphans.sweep_old_blobs(settings), None)


def _count_tables(settings: Settings, _: timedelta) -> Extent:
    return Extent(orphans.count_tables(settings), None)


def _sweep_tables(settings: Settings, _: timedelta) -> Extent:
    return Extent(orphans.sweep_tables(settings), None)


#: In the order in which they go: the logs of a run after the run; its contracts before it, or they would go along with
#: it, uncounted.
KINDS = (
    Kind(
        "contracts",
        "what the steps of a run passed to each other",
        _asked(ledger.count_contracts),
        _asked(ledger.delete_contracts),
        _age_of_runs,
    ),
    Kind(
        "runs",
        "runs that ended, in Dagster, with their events; what these say of assets stays",
        _asked(ledger.count_runs, _repository),
        _repeated(ledger.delete_runs, _repository),
        _age_of_runs,
    ),
    Kind(
        "logs", "what the steps of such runs printed, in files of this machine", _count_logs, _delete_logs, _age_of_runs
    ),
    Kind(
        "messages",
        "the bytes of messages that were dealt with; their records stay",
        _asked(ledger.count_messages),
        _repeated(ledger.archive_messages),
        _age_of_messages,
    ),
    Kind("blobs", "outputs to which nothing refers, after their grace period", _count_blobs, _sweep_blobs),
    Kind("tables", "tables that are loaded or published, and no task refers to any more", _count_tables, _sweep_tables),
    Kind(
        "steps",
        "steps of dead processes, of jobs that have ended",
        _without_age(ledger.count_steps),
        _without_age(ledger.delete_steps),
    ),
    Kind("uploads", "uploads of outputs into directories that were killed a day ago", _count_uploads, _sweep_uploads),
    Kind("scratch", "files that killed processes left on this machine", _count_scratch, _sweep_scratch),
    Kind(
        "container_apps",
        "jobs of Azure's Container Apps whose run ended",
        container_apps.count_jobs,
        container_apps.delete_jobs,
    ),
)
