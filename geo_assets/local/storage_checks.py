"""Storage accounts, output containers and queues: whether they answer, whether those written to exist, and creating
missing ones.

Here: one finding each, for `doctor` and `up`. Not here: what their errors mean (`storage/faults.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from geo_assets.errors import GeoAssetsError
from geo_assets.settings import Settings
from geo_assets.storage.containers import open_container

#: A container name that is never used: requesting it shows whether the account answers and gives us access. It is asked
#: only where names are the account's own: elsewhere it may be a stranger's.
_PROBE = "geo-assets-probe"


class StorageCheck(NamedTuple):
    """The name of a check, and its function: it returns what was found, or raises a GeoAssetsError that says what is
    wrong.
    """

    what: str
    look: Callable[[], str]


def storage_checks(settings: Settings, *, make: bool) -> Iterator[StorageCheck]:
    """Yield checks of everything that a job may need of storage.

    Args:
        settings: accounts, outputs, queue.
        make: create what is missing; otherwise it is reported.
    """
    for alias in sorted(settings.storage_accounts):
        yield StorageCheck(f"account {alias}", partial(_account, settings, alias))
    for name in settings.output_containers:
        yield StorageCheck(f"output {settings.output_account}/{name}", partial(_output, settings, name, make=make))
    if settings.queue_connection_string or settings.queue_url:
        yield StorageCheck(f"queue {settings.queue_name}", lambda: _queues(settings, make=make))


def _account(settings: Settings, alias: str) -> str:
    account = settings.storage_accounts[alias]
    name = _ours(settings, alias) if account.names_are_global else _PROBE
    if name is None:
        return "no bucket of it is known: one is asked when a job names it"
    try:
        open_container(settings, alias, name, hasty=True).exists()
    except GeoAssetsError as error:
        if error.code == "STORAGE_FORBIDDEN" and account.kind == "azure" and account.sas_token:
            return f"{account.account_name} answers; its SAS does not open every container"
        raise
    if account.kind == "local":
        return f"{account.root} is there"
    return f"{account.account_name if account.kind == 'azure' else account.endpoint or account.kind} answers"


def _ours(settings: Settings, alias: str) -> str | None:
    """Return the name of a container that is certainly ours; None where no setting names one."""
    if alias == settings.output_account:
        return settings.cog_container
    return settings.inbox_container if alias == settings.inbox_account else None


def _output(settings: Settings, name: str, *, make: bool) -> str:
    container = open_container(settings, settings.output_account, name, hasty=True)
    if make:
        return "made" if container.ensure() else "there"
    return "there" if container.exists() else "not there yet: up, or the first job, makes it"


def _queues(settings: Settings, *, make: bool) -> str:
    from geo_assets.submissions.inboxes.queue import QueueInbox

    inbox = QueueInbox(settings)
    if make:
        made = inbox.ensure()
        return f"made {' and '.join(made)}" if made else "there, and its poison queue"
    missing = inbox.missing()
    return f"not there yet: {' and '.join(missing)}; up makes them" if missing else "there, and its poison queue"
