"""The state of the ledger at one moment, to be compared with stores, tables and items.

Here: reading jobs, tasks, listings and what is published, whole collections at a time, on one connection. Not here: the
comparison (`stages/reconcile.py`), which also begins and ends the transaction that all is read in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, LiteralString

import psycopg
from psycopg.rows import dict_row, scalar_row, tuple_row

from geo_assets.errors import GeoAssetsError
from geo_assets.ledger.lease import LEASE_SECONDS
from geo_assets.ledger.models import JobStatus, PublishedTask
from geo_assets.outcomes import Outputs, read_outputs
from geo_assets.parameters import PublishContainer, stored_parameters
from geo_assets.storage.sources import Member
from geo_assets.task_status import TaskStatus


@dataclass(frozen=True, slots=True)
class JobNow:
    """A job, and whether a run holds it."""

    job_id: str
    job_type: str
    asked: PublishContainer | None  # None: an earlier release accepted these parameters, and this one does not
    status: JobStatus
    run_id: str | None
    is_live: bool  # its lease was renewed in time
    is_old: bool  # it was started, or has ended, several leases ago
    newest_run_id: str | None  # of the run that Dagster has of it
    run_status: str | None  # Dagster's, of that run

    @property
    def is_over(self) -> bool:
        """Whether no run works on it, or will."""
        return self.status.is_final


@dataclass(frozen=True, slots=True)
class TaskNow:
    """A task, and the STAC item that it names."""

    stage: str
    task_key: str
    status: TaskStatus
    stac_item: str | None
    listed: bool


@dataclass(frozen=True, slots=True)
class Unregistered:
    """The outputs that a task made and has not published yet."""

    job_id: str
    stage: str
    task_key: str
    outputs: Outputs


def _asked(job_type: str, stored: dict[str, Any]) -> PublishContainer | None:
    try:
        asked = stored_parameters(job_type, stored)
    except GeoAssetsError:
        return None
    return asked if isinstance(asked, PublishContainer) else None


class Snapshot:
    """The ledger, read on a connection of the caller's."""

    def __init__(self, conn: psycopg.Connection[Any]) -> None:
        self._conn = conn

    def _dicts(self, query: LiteralString, **values: Any) -> list[dict[str, Any]]:
        with self._conn.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(query, values).fetchall()

    def _scalars(self, query: LiteralString, **values: Any) -> list[Any]:
        with self._conn.cursor(row_factory=scalar_row) as cursor:
            return cursor.execute(query, values).fetchall()

    def _pairs(self, query: LiteralString, **values: Any) -> list[tuple[Any, ...]]:
        with self._conn.cursor(row_factory=tuple_row) as cursor:
            return cursor.execute(query, values).fetchall()

    def collections(self) -> list[str]:
        """The collections that jobs name."""
        return self._scalars(
            "select distinct parameters->>'collection' from geo.jobs where parameters ? 'collection' order by 1"
        )

    def holding(self, collection: str) -> list[str]:
        """The collections of pgstac in which jobs of a collection have items, also by stages that are not installed."""
        return self._scalars(
            """select distinct split_part(stac_item, '/', 1) from geo.published join geo.jobs using (job_id)
                where parameters->>'collection' = %(name)s""",
            name=collection,
        )

    def count_published(self, collections: Sequence[str]) -> int:
        """How many items jobs of these collections have published."""
        return int(
            self._scalars(
                """select count(*) from geo.published join geo.jobs using (job_id)
                    where parameters->>'collection' = any(%(names)s)""",
                names=list(collections),
            )[0]
        )

    def poison_without_record(self) -> list[tuple[str, str]]:
        """(message id, state) of messages that were set aside and have no record of why."""
        rows = self._pairs(
            """select message_id::text, state::text from geo.messages m where state in ('poison', 'rejected')
                  and not exists (select from geo.errors e where e.message_id = m.message_id)"""
        )
        return [(str(message), str(state)) for message, state in rows]

    def jobs(self, collection: str) -> list[JobNow]:
        """The jobs of a collection, the oldest first."""
        rows = self._dicts(
            """select s.job_id, s.job_type, s.parameters, s.status, s.run_id,
                          coalesce(j.lease_heartbeat > now() - make_interval(secs => %(lease)s), false) as is_live,
                          coalesce(coalesce(s.ended_at, s.started_at) < now() - make_interval(secs => %(old)s), false)
                            as is_old,
                          r.run_id as newest_run_id, r.run_status
                     from geo.job_status s join geo.jobs j using (job_id)
                     left join lateral geo.newest_run(s.partition_key) r on true
                    where s.parameters->>'collection' = %(collection)s order by s.created_at""",
            collection=collection,
            lease=LEASE_SECONDS,
            old=4 * LEASE_SECONDS,
        )
        return [
            JobNow(asked=_asked(row["job_type"], row.pop("parameters")), status=JobStatus(row.pop("status")), **row)
            for row in rows
        ]

    def published(self, job_ids: Sequence[str], collections: Sequence[str]) -> list[PublishedTask]:
        """The published outputs of these jobs in these collections of pgstac."""
        rows = self._dicts(
            """select stac_item, job_id, stage, task_key, outputs, at from geo.published
                where job_id = any(%(jobs)s) and split_part(stac_item, '/', 1) = any(%(collections)s)""",
            jobs=list(job_ids),
            collections=list(collections),
        )
        return [PublishedTask.model_validate(row) for row in rows]

    def published_among(self, items: Sequence[str]) -> set[str]:
        """Those of these items that are published."""
        query: LiteralString = "select stac_item from geo.published where stac_item = any(%(items)s)"
        return set(self._scalars(query, items=list(items)))

    def unregistered(self, job_ids: Sequence[str]) -> list[Unregistered]:
        """The outputs that these jobs made and have not published yet."""
        rows = self._dicts(
            """select job_id, stage, task_key, outputs from geo.tasks
                where job_id = any(%(jobs)s) and listed and receipt is not null
                  and status in ('pending', 'running', 'cancelled')""",
            jobs=list(job_ids),
        )
        return [Unregistered(**{**row, "outputs": read_outputs(row["stage"], row["outputs"])}) for row in rows]

    def tasks(self, job_id: str) -> list[TaskNow]:
        """Every task of a job, listed or not."""
        rows = self._dicts(
            """select stage, task_key, status::text, outputs->>'stac_item' as stac_item, listed
                 from geo.tasks where job_id = %(job)s""",
            job=job_id,
        )
        return [TaskNow(**{**row, "status": TaskStatus(row["status"])}) for row in rows]

    def etags(self, job_id: str) -> dict[str, str]:
        """Path -> etag of the files that a job's newest listing holds."""
        query: LiteralString = "select path, etag from geo.inventory where job_id = %(job)s and ignored is null"
        return dict(self._pairs(query, job=job_id))

    def taken(self, job_id: str) -> dict[str, str]:
        """Path -> etag of the files that a job's listed tasks took."""
        query: LiteralString = """
            select file->>'path', file->>'etag' from geo.tasks, jsonb_path_query(input, '$.members[*]') as file
             where job_id = %(job)s and listed"""
        return dict(self._pairs(query, job=job_id))

    def members(self, job_id: str) -> list[Member]:
        """The files that a job's newest listing holds; a source and its sidecars are neighbours."""
        rows = self._dicts(
            "select path, size, etag, holds from geo.inventory where job_id = %(job)s and ignored is null"
            ' order by folder collate "C", stem collate "C", path collate "C"',
            job=job_id,
        )
        return [Member.model_validate(row) for row in rows]

    def rows_loaded(self, table: str) -> int | None:
        """The rows that the newest load left in a table; None if no load is recorded."""
        query: LiteralString = (
            "select table_rows from geo.vector_loads where table_name = %(table)s order by load_id desc limit 1"
        )
        return next(iter(self._scalars(query, table=table)), None)

    def table_names(self, collection: str) -> set[str]:
        """The names of tables that sources have in a collection."""
        query: LiteralString = (
            "select table_name from geo.table_names where collection = %(collection)s and account <> ''"
        )
        return set(self._scalars(query, collection=collection))

    def loose_tables(self) -> set[str]:
        """Abandoned published tables, as schema.name."""
        return set(self._scalars("select table_name from geo.loose_tables"))

    def leaving_blobs(self, grace: timedelta) -> set[str]:
        """Blobs that are to be uploaded or deleted, of which that was recorded within this time."""
        return set(self._scalars("select blob from geo.loose_blobs where since > now() - %(grace)s", grace=grace))

    def waiting_tables(self) -> set[str]:
        """Tables that wait for their job's gate."""
        return set(self._scalars("select table_name from geo.waiting_tables"))
