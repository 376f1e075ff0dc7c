"""The single entry point to the ledger: a pool of connections, and the tables of schema `geo` by subject.

Here: opening, closing and asking whether the database answers. Not here: statements, which are in the module of their
subject.
"""

from __future__ import annotations

from typing import Self

from geo_assets.database.connections import open_pool
from geo_assets.ledger.alerts import Alerts
from geo_assets.ledger.at_work import AtWork
from geo_assets.ledger.changes import Changes
from geo_assets.ledger.circuits import Circuits
from geo_assets.ledger.contracts import Contracts
from geo_assets.ledger.deltas import Deltas
from geo_assets.ledger.inventory import Inventory
from geo_assets.ledger.jobs import Jobs
from geo_assets.ledger.messages import Messages
from geo_assets.ledger.pause import Pause, current
from geo_assets.ledger.published import Published
from geo_assets.ledger.raster_collections import RasterCollections
from geo_assets.ledger.statistics import last_day
from geo_assets.ledger.table_names import TableNames
from geo_assets.ledger.tallies import Tallies
from geo_assets.ledger.tasks import Tasks
from geo_assets.ledger.tokens import Tokens
from geo_assets.ledger.work import WorkRecords
from geo_assets.settings import Settings


class Ledger:
    """Everything that is recorded in schema `geo`. A context manager; threads may share it."""

    def __init__(self, settings: Settings, *, connections: int = 2) -> None:
        """Connect.

        Args:
            settings: where the database is.
            connections: most at a time.

        Raises:
            GeoAssetsError: DATABASE_UNAVAILABLE.
        """
        self._pool = open_pool(settings, max_size=connections)
        self.jobs = Jobs(self._pool)
        self.tasks = Tasks(self._pool)
        self.inventory = Inventory(self._pool)
        self.table_names = TableNames(self._pool)
        self.published = Published(self._pool)
        self.raster_collections = RasterCollections(self._pool)
        self.changes = Changes(self._pool)
        self.deltas = Deltas(self._pool)
        self.messages = Messages(self._pool)
        self.tokens = Tokens(self._pool)
        self.circuits = Circuits(self._pool)
        self.contracts = Contracts(self._pool)
        self.work = WorkRecords(self._pool)
        self.at_work = AtWork(self._pool)
        self.tallies = Tallies(self._pool)
        self.alerts = Alerts(self._pool)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._pool.close()

    def pause(self) -> Pause | None:
        """The pause that there is: nothing is launched meanwhile."""
        with self._pool.connection() as conn:
            return current(conn)

    def ping(self) -> None:
        """Ask the database something.

        Raises:
            psycopg.Error, PoolTimeout: it does not answer.
        """
        with self._pool.connection(timeout=2) as conn:
            conn.execute("select 1")

    def connections(self) -> tuple[int, int]:
        """Connections of this process at work, and how many wait for one."""
        stats = self._pool.get_stats()
        return stats["pool_size"] - stats["pool_available"], stats["requests_waiting"]

    def statistics(self) -> dict[str, dict[str, int]]:
        """Counts of the last 24 hours."""
        return {**last_day(self._pool), "poison": {"without_record": self.messages.poison_without_record()}}
