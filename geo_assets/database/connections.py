"""Connections to the one database, with the limits that keep a stuck one from stopping the rest.

Here: a pool per process and role, a single connection, and the retry of what a restart of PostgreSQL breaks.
Not here: statements.
"""

from __future__ import annotations

import json
import logging
import select
import socket
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial, wraps
from threading import Lock
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import psycopg
from psycopg.rows import dict_row
from psycopg.types.json import set_json_dumps, set_json_loads
from psycopg_pool import ConnectionPool, PoolClosed, PoolTimeout

from geo_assets.errors import ERRORS, GeoAssetsError
from geo_assets.kept import Kept
from geo_assets.settings import Role, Settings
from geo_assets.text import one_line

if TYPE_CHECKING:
    from tenacity import RetryCallState, Retrying

_log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

#: Its warnings would repeat our own message on standard error.
logging.getLogger("psycopg.pool").addHandler(logging.NullHandler())
logging.getLogger("psycopg.pool").propagate = False

DictConnection = psycopg.Connection[dict[str, object]]

#: Errors of a restart, a fail-over or a lost lock: safe to try again because each call is one transaction.
TRANSIENT = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg.errors.SerializationFailure,
    psycopg.errors.DeadlockDetected,
    psycopg.errors.IdleInTransactionSessionTimeout,  # psycopg counts it as an internal error
    PoolTimeout,
)

#: How long a pool waits for a database that does not answer.
_ANSWER_SECONDS = 10


def open_pool(settings: Settings, role: Role = "pipeline", *, max_size: int = 8) -> ConnectionPool[DictConnection]:
    """A pool of connections whose rows are dicts. Close it.

    Raises:
        GeoAssetsError: DATABASE_UNAVAILABLE after `_ANSWER_SECONDS` without an answer, or without a token.
    """
    settings.credentials(role)  # where there is no token, its reason is the error
    pool: ConnectionPool[DictConnection] = ConnectionPool(
        partial(settings.dsn, role),  # for each connection: a token expires
        min_size=1,
        max_size=max_size,
        timeout=_ANSWER_SECONDS,
        open=False,
        check=check_not_ended,
        configure=_python_json,
        kwargs={"row_factory": dict_row},
    )
    try:
        pool.open(wait=True, timeout=_ANSWER_SECONDS)
    except PoolTimeout as error:
        pool.close()
        raise away(settings) from error
    return pool


def connect(settings: Settings, role: Role = "pipeline", *, autocommit: bool = False) -> psycopg.Connection:
    """One connection, for work that holds a transaction open for long.

    Raises:
        GeoAssetsError: DATABASE_UNAVAILABLE.
    """
    try:
        conn = psycopg.connect(settings.dsn(role), autocommit=autocommit)
    except psycopg.OperationalError as error:
        raise away(settings) from error
    _python_json(conn)
    return conn


def refuses(settings: Settings) -> bool:
    """Whether nothing listens where PostgreSQL is to be: known at once, while it may take long not to answer."""
    try:
        socket.create_connection((settings.pg_host, settings.pg_port), timeout=1).close()
    except ConnectionRefusedError:
        return True
    except OSError:  # it may only be slow, or far away
        return False
    return False


def away(settings: Settings) -> GeoAssetsError:
    """DATABASE_UNAVAILABLE; where nothing listens, with the command that starts it."""
    return GeoAssetsError(
        "DATABASE_UNAVAILABLE",
        f"PostgreSQL at {settings.pg_host}:{settings.pg_port} does not answer",
        remedy=ERRORS["STACK_NOT_RUNNING"].remedy if refuses(settings) else None,
    )


class KeptConnection(Kept[psycopg.Connection]):
    """A connection for several pieces of work, one after the other; where threads work at the same time, one for each.

    A new one costs the server 25 ms of CPU in a load of items: it reads the catalogue of tables and compiles the
    functions anew. Close it.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__(partial(_unprepared, settings), psycopg.Connection.close, tidy=_tidied, answers=_answers)


def _unprepared(settings: Settings) -> psycopg.Connection:
    """A connection that plans each statement for its values, as a new one does."""
    conn = connect(settings)
    conn.prepare_threshold = None
    return conn


def _tidied(conn: psycopg.Connection) -> bool:
    """Commit what a piece of work left open, as a connection does at its end."""
    if not conn.closed:
        conn.commit()
        conn.autocommit = False
    return not conn.closed


def _answers(conn: psycopg.Connection[Any]) -> bool:
    """Whether the server has said nothing since the last statement: its last words are that it ends the session."""
    if conn.closed:
        return False
    looked = select.poll()
    looked.register(conn.fileno(), select.POLLIN)
    return not looked.poll(0)


def check_not_ended(conn: psycopg.Connection[Any]) -> None:
    """The check of a pool, without a round trip.

    Raises:
        psycopg.OperationalError: the server has ended the session.
    """
    if not _answers(conn):
        conn.close()  # a pool drops only what libpq calls lost; it has read nothing yet
        raise psycopg.OperationalError("the server has ended the session")


def cancel_statements(settings: Settings) -> None:
    """Cancel the statements that this process has under way in the database; each ends as cancelled for its caller.

    Raises:
        GeoAssetsError: DATABASE_UNAVAILABLE.
    """
    with connect(settings, autocommit=True) as conn:
        conn.execute(
            """select pg_cancel_backend(pid) from pg_stat_activity
                where usename = current_user and application_name = current_setting('application_name')
                  and state = 'active' and pid <> pg_backend_pid()"""
        )


def _python_json(conn: psycopg.Connection[Any]) -> None:
    """Use JSON of the standard library, whatever was imported: pypgstac makes orjson the default of all connections of
    a process, and orjson refuses keys of an enumeration and numbers beyond 64 bits.
    """
    set_json_dumps(json.dumps, conn)
    set_json_loads(json.loads, conn)


_tries: Counter[str] = Counter({"OperationalError": 0})
_tries_lock = Lock()


def tried_again() -> dict[str, int]:
    """How often a statement of this process failed in a way that is worth another try, by the kind of error."""
    with _tries_lock:
        return dict(_tries)


def _worth_another_try(error: BaseException) -> bool:
    """Whether to retry: not what was cancelled, because its time was up or somebody ended the run."""
    return isinstance(error, TRANSIENT) and not isinstance(error, psycopg.errors.QueryCanceled | PoolClosed)


@dataclass(frozen=True, slots=True)
class Backoff:
    """How often a statement is tried, and how long: each wait about twice as long as the one before, with jitter."""

    attempts: int = 5  # the first included
    total_seconds: float = 20.0  # once they have passed, no other try is made
    first_wait_seconds: float = 0.2
    longest_wait_seconds: float = 5.0


def retrying(function: Callable[P, T]) -> Callable[P, T]:
    """Retry a function that is one transaction, as often as `Backoff` says."""
    return retrying_also_on()(function)


def retrying_also_on(
    *errors: type[Exception], backoff: Backoff | None = None
) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """As `retrying`, also after these errors: those that a dependency is known to raise when others work beside it.

    Args:
        errors: that are worth another try.
        backoff: how often; as any other statement where not given.
    """
    times = backoff or Backoff()

    def worth_it(error: BaseException) -> bool:
        again = isinstance(error, errors) or _worth_another_try(error)
        if again:
            with _tries_lock:
                _tries[type(error).__name__] += 1
        return again

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        @cache
        def retrier() -> Retrying:
            import tenacity  # takes longer to import than most statements to run

            return tenacity.Retrying(
                retry=tenacity.retry_if_exception(worth_it),
                stop=tenacity.stop_after_attempt(times.attempts) | tenacity.stop_after_delay(times.total_seconds),
                wait=tenacity.wait_exponential_jitter(
                    multiplier=times.first_wait_seconds, max=times.longest_wait_seconds
                ),
                before_sleep=log_try,
                reraise=True,
            )

        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            return retrier().copy()(function, *args, **kwargs)

        return call

    return decorate


def log_try(state: RetryCallState) -> None:
    """Log what is tried again: not its arguments (a token, the body of a message), nor the detail of PostgreSQL's error
    (a row).
    """
    said = str(state.outcome and state.outcome.exception()).partition("\n")[0]
    told = {
        "statement": getattr(state.fn, "__qualname__", ""),
        "error": one_line(said),
        "wait_seconds": round(state.upcoming_sleep, 2),
    }
    _log.info("statement tried again", extra=told)
