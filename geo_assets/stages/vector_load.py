"""One vector source becomes published tables: what the pipeline's stage and `geo-assets load` share.

Here: inspect and stage through the sandbox, publish under a fence, the record of the load. Not here: where a source
comes from and what its tables are called (`vector_tables.py`, `commands/vector.py`), the engine (`vector/`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Any, Literal

import psycopg
from psycopg import sql

from geo_assets.database.connections import connect
from geo_assets.errors import GeoAssetsError
from geo_assets.ledger.vector_loads import Load, forget_keys, now, record
from geo_assets.outcomes import TableEntry
from geo_assets.sandbox.pool import SandboxPool
from geo_assets.settings import Settings
from geo_assets.stages.load_database import LoadDatabase
from geo_assets.vector.models import InspectReport, InspectRequest, LayerPlan, StreamReport, StreamRequest
from geo_assets.vector.tables.introspection import SCHEMA, find
from geo_assets.vector.tables.load import StageOptions, stage_table
from geo_assets.vector.tables.merge import Mode, merge
from geo_assets.vector.tables.publish import PublishedTable, in_one_commit, publish, rehearse, rollback
from geo_assets.vector.tables.session import Session
from geo_assets.vector.tables.staging import StagedTable, discard
from geo_assets.vector.where import find_column

#: Called in the transaction that publishes the layers of a source, with their tables in the order of the layers.
Settle = Callable[[psycopg.Connection[Any], Sequence[PublishedTable]], None]

#: Each is a table of its own; an archive with more is a collection, and should be loaded as files.
MAX_LAYERS = 200


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """What happens to a table that exists already."""

    mode: Mode = "replace"
    key: tuple[str, ...] = ()  # columns of the source, for upsert
    schema_drift: Literal["allow", "refuse"] = "refuse"
    keep_versions: int = 0
    stage: StageOptions = field(default_factory=StageOptions)
    accept_superseded: bool = False  # treat a table that a later load has replaced as success, not as SUPERSEDED


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a load comes from."""

    source: str  # for people and the record
    suffix: str  # of its staged tables: 1-10 of a-z and 0-9, no other attempt's
    submitted_at: datetime
    load_keys: tuple[str, ...] = ()  # the name of its input, then those that earlier releases gave it
    fence: Callable[[psycopg.Connection[Any]], None] | None = None  # called in the publishing transaction


@dataclass(frozen=True, slots=True)
class Part:
    """One layer of a source, staged."""

    plan: LayerPlan
    staged: StagedTable
    key: tuple[str, ...]  # as the table calls its columns


@dataclass(frozen=True, slots=True)
class Loaded:
    """The result of one layer."""

    plan: LayerPlan
    staged: StagedTable
    published: PublishedTable

    def entry(self) -> TableEntry:
        """The account of the table, for people and programs."""
        report, published = self.staged.report, self.published
        return TableEntry(
            table=published.table,
            rows=published.rows,
            features=self.staged.features,
            loaded=self.staged.rows,
            filtered=report.filtered,
            rejected=report.rejected,
            repaired=report.repaired,
            layer=self.plan.label,
            geometry_type=self.plan.geometry_type,
            updated=published.updated,
            drift=published.drift,
            version=published.version,
        )


def load_source(
    database: LoadDatabase,
    sandbox: SandboxPool,
    request: InspectRequest,
    origin: Origin,
    options: LoadOptions,
    names_of: Callable[[Sequence[LayerPlan]], list[str]],
    inspected: Callable[[], InspectReport] | None = None,
) -> tuple[InspectReport, list[Loaded]]:
    """Load a source: all its tables are published in one commit or none, and nothing staged is left over.

    Args:
        database: where to.
        sandbox: opens the source.
        request: the source and what is wanted of it.
        origin: who asks.
        options: what happens to tables that exist already.
        names_of: names the tables of the layers, in their order.
        inspected: waits for the report of `inspect_source`, if it was requested already.

    Raises:
        GeoAssetsError: what the engine raises.
    """
    with staged_source(database, sandbox, request, origin, options, names_of, inspected) as (report, parts):
        published = publish_parts(database, origin, options, parts)
    return report, loaded_of(parts, published)


def loaded_of(parts: Sequence[Part], published: Sequence[PublishedTable]) -> list[Loaded]:
    """The results of the layers of a source."""
    return [Loaded(part.plan, part.staged, done) for part, done in zip(parts, published, strict=True)]


@contextmanager
def staged_source(
    database: LoadDatabase,
    sandbox: SandboxPool,
    request: InspectRequest,
    origin: Origin,
    options: LoadOptions,
    names_of: Callable[[Sequence[LayerPlan]], list[str]],
    inspected: Callable[[], InspectReport] | None = None,
) -> Iterator[tuple[InspectReport, list[Part]]]:
    """Stage all layers of a source; what is neither published nor set aside meanwhile is dropped. Arguments as
    `load_source`.
    """
    report = inspected() if inspected is not None else inspect_source(sandbox, request)
    layers = _layers(report, origin, options, names_of)
    database.sweep()
    stage = partial(_staged, database, sandbox, request.source, origin, options)
    # the session keeps what is staged from being swept
    with database.session() as session, ExitStack() as undo:
        staged = [stage(session, undo, plan, name) for plan, name, _ in layers]
        if not all(map(_fits, report.layers, staged)):
            undo.close()
            report = inspect_source(sandbox, replace(request, look_first=True))
            layers = _layers(report, origin, options, names_of)
            staged = [stage(session, undo, plan, name) for plan, name, _ in layers]
            if not all(map(_fits, report.layers, staged)):
                raise GeoAssetsError("UNREADABLE", f"{origin.source} is not what it was when it was looked at")
        yield (
            report,
            [
                Part(_as_found(plan, each.report), each, key)
                for (plan, _, key), each in zip(layers, staged, strict=True)
            ],
        )


def _layers(
    report: InspectReport, origin: Origin, options: LoadOptions, names_of: Callable[[Sequence[LayerPlan]], list[str]]
) -> list[tuple[LayerPlan, str, tuple[str, ...]]]:
    """The plan of each layer, the name of its table, and its key."""
    if len(report.layers) > MAX_LAYERS:
        raise GeoAssetsError(
            "TOO_LARGE",
            f"{origin.source} holds {len(report.layers):,} layers; {MAX_LAYERS} are allowed",
            remedy=f"name at most {MAX_LAYERS} of them (layers), or split it",
        )
    keys = [_key_columns(options, plan) for plan in report.layers]
    return list(zip(report.layers, names_of(report.layers), keys, strict=True))


def _staged(
    database: LoadDatabase,
    sandbox: SandboxPool,
    source: str,
    origin: Origin,
    options: LoadOptions,
    session: Session,
    undo: ExitStack,
    plan: LayerPlan,
    name: str,
) -> StagedTable:
    """Stage a layer, and have it dropped at the end."""
    with sandbox.stream("geo_assets.vector.reader.stream:stream", StreamRequest(source=source, plan=plan)) as stream:
        staged = stage_table(
            session,
            plan,
            name,
            stream.file,
            lambda: stream.report(StreamReport),
            staging_suffix=origin.suffix,
            source=origin.source,
            options=replace(options.stage, reader_role=database.settings.reader_user),
        )
    undo.callback(_discard, database, staged)
    return staged


def _fits(plan: LayerPlan, staged: StagedTable) -> bool:
    """Whether the table is what its layer needs, as far as that was looked at while it was sent."""
    sent = staged.report
    return sent.as_planned and (sent.found is None or sent.found.fits(plan))


def _as_found(plan: LayerPlan, sent: StreamReport) -> LayerPlan:
    """The plan with what is known of its geometries since they were sent."""
    return sent.found.in_place(plan) if sent.found is not None and plan.looked_at_later else plan


def inspect_source(sandbox: SandboxPool, request: InspectRequest) -> InspectReport:
    """Look at a source before it is loaded, without the counts that the load makes anyway.

    Raises:
        GeoAssetsError: what the engine raises.
    """
    return sandbox.call("geo_assets.vector.reader.inspect:inspect", replace(request, thorough=False), InspectReport)


def _key_columns(options: LoadOptions, plan: LayerPlan) -> tuple[str, ...]:
    """The key columns by their names in the table."""
    sources = [column.source_name for column in plan.columns]
    return tuple(
        plan.columns[find_column(name, sources, "the key", plan.label or "the source")].name for name in options.key
    )


def _load_of(origin: Origin, options: LoadOptions, plan: LayerPlan, staged: StagedTable) -> Load:
    report = staged.report
    return Load(
        table=f"vector.{staged.table}",
        source=origin.source,
        layer=plan.label or "",
        mode=options.mode,
        submitted_at=origin.submitted_at,
        features=staged.features,
        loaded=staged.rows,
        rejected=sum(report.rejected.values()),
        filtered=report.filtered,
        repaired=sum(report.repaired.values()),
        load_keys=tuple(f"{key}/{plan.label or ''}" for key in origin.load_keys),
    )


def rehearse_parts(
    database: LoadDatabase, origin: Origin, options: LoadOptions, parts: Sequence[Part]
) -> list[PublishedTable]:
    """Try the publication of the staged layers of a source and undo it; returns what they would be.

    Raises:
        GeoAssetsError: as `publish_parts`.
    """
    with database.connection() as conn:
        return rehearse(conn, _staged_of(parts), partial(_publish, conn, origin, options, parts))


def publish_parts(
    database: LoadDatabase,
    origin: Origin,
    options: LoadOptions,
    parts: Sequence[Part],
    *,
    settle: Settle | None = None,
) -> list[PublishedTable]:
    """Publish the staged layers of a source in one commit; `settle` is called in the transaction, last.

    Raises:
        GeoAssetsError: what the engine raises.
    """
    with database.connection() as conn:
        return in_one_commit(conn, _staged_of(parts), partial(_publish, conn, origin, options, parts, settle))


def _staged_of(parts: Sequence[Part]) -> list[StagedTable]:
    return [part.staged for part in parts]


def _publish(
    conn: psycopg.Connection[Any],
    origin: Origin,
    options: LoadOptions,
    parts: Sequence[Part],
    settle: Settle | None = None,
) -> list[PublishedTable]:
    done = [_publish_one(conn, origin, options, part) for part in parts]
    if origin.fence is not None:
        origin.fence(conn)
    if settle is not None:
        settle(conn, done)
    return done


def _publish_one(conn: psycopg.Connection[Any], origin: Origin, options: LoadOptions, part: Part) -> PublishedTable:
    """Publish a layer and record its load; a table that has it already, or a later one, stays as it is."""
    staged = part.staged
    try:
        with conn.transaction():
            is_new = find(conn, SCHEMA, staged.table) is None
            if options.mode == "replace":
                done = publish(conn, staged, keep_versions=options.keep_versions, schema_drift=options.schema_drift)
            else:
                if is_new:  # what was appended to a table that is gone may be appended again
                    forget_keys(conn, f"{SCHEMA}.{staged.table}")
                done = merge(conn, staged, options.mode, key=part.key, schema_drift=options.schema_drift)
            record(conn, _load_of(origin, options, part.plan, staged), rows=done.rows, drift=done.drift, is_new=is_new)
    except GeoAssetsError as error:
        if error.code == "ALREADY_LOADED":
            discard(conn, staged)  # also one that waited: it is off the record then
            return _as_it_is(conn, staged)
        if error.code == "SUPERSEDED" and options.accept_superseded:
            return replace(_as_it_is(conn, staged), superseded=error.message)
        raise
    return done


def _as_it_is(conn: psycopg.Connection[Any], staged: StagedTable) -> PublishedTable:
    """The table as another load left it, or as an attempt of this load did that failed after its commit."""
    row = conn.execute(sql.SQL("select count(*) from {}").format(sql.Identifier("vector", staged.table))).fetchone()
    return PublishedTable(
        f"vector.{staged.table}", row[0] if row else 0, staged.srid, staged.geometry_type, staged.has_z
    )


def _discard(database: LoadDatabase, staged: StagedTable) -> None:
    """Drop what was staged and not published; does nothing if it was published."""
    with database.connection() as conn:
        discard(conn, staged)


def roll_back(settings: Settings, table: str) -> PublishedTable:
    """Restore the newest kept version of `vector.<table>`.

    Raises:
        GeoAssetsError: NO_VERSION; what `publish` raises.
    """
    with connect(settings) as conn:
        with conn.transaction():
            asked = now(conn)

        def before_commit(conn: psycopg.Connection[Any], done: PublishedTable) -> None:
            load = Load(done.table, "an earlier version", "", "rollback", asked, features=done.rows, loaded=done.rows)
            record(conn, load, rows=done.rows, drift=done.drift)

        return rollback(conn, table, before_commit=before_commit)
