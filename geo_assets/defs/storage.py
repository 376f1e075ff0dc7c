"""Dagster's own storage in PostgreSQL, on connections that are kept.

dagster-postgres opens a connection for each statement: more than half of the cost of a small job, and most of the cost
of an idle stack. Only its webserver has a pool, without a check that the connections still work. Here: one pool for
runs, events and schedules of a process. Not here: what is stored, or where (`dagster.yaml`).
"""

from functools import partial
from typing import Any

from dagster._core.storage.config import PostgresStorageConfig
from dagster._serdes import ConfigurableClassData
from dagster_postgres import DagsterPostgresStorage
from dagster_postgres.auth import PgTokenProvider
from dagster_postgres.utils import (
    create_pg_engine,
    get_token_provider_from_config,
    pg_url_from_config,
    set_pg_statement_timeout,
)
from sqlalchemy import Engine, event, make_url

from geo_assets.settings import CONNECTION_LIMITS, Settings, load_settings

#: Connections that a process keeps, and how many more it may open, each for as long as a statement lasts.
_KEPT, _BESIDE = 2, 30

#: Seconds; firewalls forget a connection that is much older.
_OLDEST = 1800


class _Tokens(PgTokenProvider):
    """The tokens that all other connections of the process have, kept in one place."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self._settings = settings

    def get_token(self) -> str:
        """Return a token that is valid now."""
        return self._settings.credentials("pipeline")[1]

    def _fetch_token(self) -> tuple[str, float]:
        raise NotImplementedError  # `get_token` keeps none of its own


def _limit_statements(engine: Engine, statement_timeout: int, **_pool: int) -> None:
    """What Dagster's webserver asks of its storages: no statement takes longer than so many milliseconds. The pool
    stays ours, whatever it asks for.
    """

    def limit(connection: Any, _record: object) -> None:
        set_pg_statement_timeout(connection, statement_timeout)

    event.listen(engine, "connect", limit)
    engine.dispose()  # what is open has no limit


def _limits_beside(url: str) -> dict[str, int]:
    """The limits of a connection that its URL does not give itself."""
    return {name: limit for name, limit in CONNECTION_LIMITS.items() if name not in make_url(url).query}


class PooledPostgresStorage(DagsterPostgresStorage):
    """As its parent, with a pool. A connection that the server closed (a restart, a failover) is replaced before it is
    used.
    """

    def __init__(
        self,
        postgres_url: str,
        should_autocreate_tables: bool = True,
        inst_data: ConfigurableClassData | None = None,
        token_provider: PgTokenProvider | None = None,
    ) -> None:
        settings = load_settings()
        if settings.pg_auth != "password":
            token_provider = _Tokens(settings)
        super().__init__(postgres_url, should_autocreate_tables, inst_data, token_provider)
        engine = create_pg_engine(
            postgres_url,
            token_provider,
            isolation_level="AUTOCOMMIT",
            pool_pre_ping=True,
            pool_size=_KEPT,
            max_overflow=_BESIDE,
            pool_recycle=_OLDEST,
            connect_args=_limits_beside(postgres_url),
        )
        optimize = partial(_limit_statements, engine)
        for storage in (self._run_storage, self._event_log_storage, self._schedule_storage):
            storage._engine = engine  # noqa: SLF001  (no public way; a test holds it)
            storage.optimize_for_webserver = optimize  # type: ignore[method-assign]  # theirs is a pool without a check

    @classmethod
    def from_config_value(  # type: ignore[override]  # the config is a mapping; its entries have no declared type
        cls, inst_data: ConfigurableClassData | None, config_value: PostgresStorageConfig
    ) -> "PooledPostgresStorage":
        """Called by Dagster with the `storage` block of `dagster.yaml`."""
        return cls(
            pg_url_from_config(config_value),
            bool(config_value.get("should_autocreate_tables", True)),
            inst_data,
            get_token_provider_from_config(config_value),
        )
