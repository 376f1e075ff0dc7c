"""`geo-assets load` and `geo-assets vector …`: one vector file into PostGIS, a look at it, and the way back.

Here: arguments, what is printed. Not here: options that both commands have (`vector_options.py`), loading
(`stages/vector_load.py`), the engine (`vector/`).

The file is read by the same sandboxed children as in the pipeline; the database is the stack's.
"""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from geo_assets.commands.console import JsonFlag, out, print_json, warn
from geo_assets.commands.own_file import own_file
from geo_assets.commands.source import lay_out, members_of
from geo_assets.commands.vector_options import (
    listed,
    load_options,
    reads_vector,
    request_of,
    table_name,
)
from geo_assets.lean import leave_out
from geo_assets.text import how_many, one_line
from geo_assets.wire import json_of

if TYPE_CHECKING:
    from geo_assets.kept import Kept
    from geo_assets.sandbox.pool import SandboxPool
    from geo_assets.settings import Settings
    from geo_assets.stages.load_database import LoadDatabase
    from geo_assets.stages.vector_load import Loaded, LoadOptions
    from geo_assets.vector.models import InspectReport, InspectRequest, LayerPlan
    from geo_assets.vector.tables.session import Session

#: What a child needs for the call that follows; it imports them while we import ours.
_PRELOAD = (
    "geo_assets.vector.reader.inspect",
    "geo_assets.vector.reader.stream",
    "pyarrow",
    "shapely",
    "pyproj",
    "pyogrio.raw",
)

_SOURCE = "A vector file, with its other parts beside it; or a folder that is a FileGDB or a table of Parquet files."

LOAD_EXAMPLE = (
    "Example: `geo-assets load roads.gpkg --table vector.roads --target-crs EPSG:3857 --where \"class = 'motorway'\"`"
)

app = typer.Typer(no_args_is_help=True, help="Inspect a vector file; restore a replaced table.")


@reads_vector
def load(
    source: Annotated[Path, typer.Argument(metavar="SRC", help=_SOURCE)],
    table: Annotated[str, typer.Option("--table", help="vector.name; several layers become vector.name_layer.")],
    reading: dict[str, Any],
    trust_geometry: Annotated[
        bool, typer.Option("--trust-geometry", help="Do not look for invalid geometry: faster, at your own risk.")
    ] = False,
    mode: Annotated[str, typer.Option("--mode", help="replace, append, or upsert by --key.")] = "replace",
    key: Annotated[
        list[str] | None, typer.Option("--key", metavar="A,B", help="The columns that identify a row.")
    ] = None,
    allow_drift: Annotated[bool, typer.Option("--allow-drift", help="Allow the table's columns to change.")] = False,
    keep_versions: Annotated[
        int, typer.Option("--keep-versions", min=0, max=100, help="How many replaced tables are kept.")
    ] = 0,
    index: Annotated[str, typer.Option("--index", help="gist, spgist (points) or brin (with --cluster).")] = "gist",
    cluster: Annotated[
        bool, typer.Option("--cluster", help="Store rows in Hilbert curve order: for tables that serve tiles.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Load a vector file into PostGIS: validated, typed, indexed, and published in one commit or not at all."""
    from geo_assets.settings import load_settings

    settings = load_settings()
    with own_file(source, raster=False), _sandbox(settings) as sandbox:
        sandbox.warm_up()  # it imports its libraries while we import ours
        request = request_of(source, reading, trust_geometry=trust_geometry)
        with (
            _session(settings) as session,
            _inspected(sandbox, source, request) as (request, inspected),
            _database(settings, session) as database,
        ):
            name = table_name(table)
            options = load_options(
                mode,
                listed(key) or (),
                allow_drift=allow_drift,
                keep_versions=keep_versions,
                index=index,
                cluster=cluster,
            )
            warnings, loaded = _load(database, sandbox, source, request, name, options, inspected)
            sandbox.abort()  # its child dies while its files are removed
    if as_json:
        print_json({"tables": [_row(table) for table in loaded], "warnings": warnings})
    else:
        _print_loaded(loaded)
        warn(warnings)


@app.command("inspect")
@reads_vector
def inspect(
    source: Annotated[Path, typer.Argument(metavar="FILE", help=_SOURCE)],
    reading: dict[str, Any],
    as_json: JsonFlag = False,
) -> None:
    """Show what a file holds and the tables it would become. Nothing is loaded; no database is needed."""
    from geo_assets.settings import load_settings

    request = request_of(source, reading)
    with (
        own_file(source, raster=False),
        _sandbox(load_settings()) as sandbox,
        _private_copy(sandbox, source) as copy,
    ):
        report = _inspect(sandbox, replace(request, source=str(copy)))
    if as_json:
        print_json(json_of(report, exclude={"layers": {"__all__": {"changed"}}}))
        return
    for plan in report.layers:
        _print_plan(plan)
    warn(report.warnings)


@app.command("rollback")
def rollback(
    table: Annotated[str, typer.Argument(metavar="TABLE", help="vector.name, loaded with --keep-versions.")],
    as_json: JsonFlag = False,
) -> None:
    """Restore the newest kept version of a table and drop the current one. Views are moved to the restored table."""
    from geo_assets.settings import load_settings
    from geo_assets.stages.vector_load import roll_back

    done = roll_back(load_settings(), table_name(table))
    if as_json:
        print_json({"table": done.table, "rows": done.rows, "drift": list(done.drift)})
        return
    out.print(f"{done.table}  {how_many(done.rows, 'row')}", markup=False)
    for difference in done.drift:
        out.print(f"  {one_line(difference)}", markup=False, soft_wrap=True)


def _load(
    database: LoadDatabase,
    sandbox: SandboxPool,
    source: Path,
    request: InspectRequest,
    name: str,
    options: LoadOptions,
    inspected: Callable[[], InspectReport],
) -> tuple[list[str], list[Loaded]]:
    """Load through the sandbox; returns the warnings and the tables."""
    leave_out("pandas", "numpy")  # pyarrow loads them where they are
    import pyarrow  # noqa: F401, ICN001 - while the child looks at the file

    from geo_assets.ledger.table_names import claim_name
    from geo_assets.ledger.vector_loads import now
    from geo_assets.stages.vector_load import Origin, load_source
    from geo_assets.vector.names import table_names

    def names(layers: Sequence[LayerPlan]) -> list[str]:
        labels = [layer.label for layer in layers]
        return [name] if len(labels) == 1 else table_names("", name, labels)

    with database.connection() as conn:
        origin = Origin(source=str(source), suffix=secrets.token_hex(4), submitted_at=now(conn))
    report, loaded = load_source(database, sandbox, request, origin, options, names, inspected)
    owners = []
    for done in loaded:
        with database.connection() as conn:
            owners.append(claim_name(conn, done.staged.table, str(source)))
    warnings = list(
        dict.fromkeys(
            [
                *report.warnings,
                *(warning for done in loaded for warning in (*done.plan.warnings, *done.staged.report.warnings)),
            ]
        )
    )
    warnings += [
        f"{done.published.table}: {'; '.join(done.published.drift)}" for done in loaded if done.published.drift
    ]
    warnings += [done.published.superseded for done in loaded if done.published.superseded]
    warnings += [
        f"{done.published.table} is the table of {owner}: the next run of that job replaces it"
        for done, owner in zip(loaded, owners, strict=True)
        if owner
    ]
    return warnings, loaded


def _print_loaded(loaded: Sequence[Loaded]) -> None:
    for done in loaded:
        row = _row(done)
        counts = ", ".join(
            f"{row[what]:,} {what}" for what in ("rejected", "filtered", "repaired", "updated") if row.get(what)
        )
        out.print(
            f"{row['table']}  {how_many(row['rows'], 'row')}" + (f" ({counts})" if counts else ""),
            markup=False,
            soft_wrap=True,
        )
        if reasons := row.get("rejected_by_reason"):
            reason, count = max(reasons.items(), key=lambda found: found[1])
            place = f"; all rows: {row['rejects']}" if row.get("rejects") else ""
            out.print(f"  rejected   {count:,} {one_line(reason)}{place}", markup=False, soft_wrap=True)
        if way := _way(done.plan):
            out.print(f"  transform  {one_line(way)}", markup=False, soft_wrap=True)


def _row(done: Loaded) -> dict[str, Any]:
    """One table of the JSON document. Counts are features; `rows` are those of this load."""
    report = done.staged.report
    row: dict[str, Any] = {
        "table": done.published.table,
        "layer": done.plan.label or done.plan.layer,
        "rows": done.staged.rows,
        "rejected": sum(report.rejected.values()),
        "filtered": report.filtered,
        "repaired": sum(report.repaired.values()),
        "features": done.staged.features,
        "geometry_type": done.plan.geometry_type,
        "srid": done.plan.srid or None,
    }
    extra = {
        "rejected_by_reason": report.rejected,
        "repaired_by_reason": report.repaired,
        "rejects": f"{done.published.table}__rejects" if done.staged.rejects_name else None,
        "updated": done.published.updated,
        "table_rows": done.published.rows if done.published.rows != done.staged.rows else None,
        "transform": done.plan.transform_name,
        "drift": list(done.published.drift),
        "version": done.published.version,
        "superseded": bool(done.published.superseded),
    }
    known = done.plan.transform_accuracy_m
    exact_or_not = {} if known is None else {"transform_accuracy_m": known}
    return row | {key: value for key, value in extra.items() if value} | exact_or_not


def _print_plan(plan: LayerPlan) -> None:
    kind = (
        "attributes"
        if plan.geometry_type is None
        else f"{plan.geometry_type}{' Z' if plan.has_z else ''}, {plan.crs_code}"
    )
    layer = one_line(plan.label or plan.layer or "one layer")
    out.print(
        f"{layer}  {plan.driver}, {how_many(plan.feature_count, 'feature')}, {kind}",
        markup=False,
        soft_wrap=True,
    )
    facts: dict[str, Any] = {
        "crs": plan.crs_name,
        "transform": _way(plan),
        "bounds": plan.bounds and ", ".join(f"{number:.9g}" for number in plan.bounds),
        "encoding": plan.encoding,
        "null": plan.null_geometries,
        "filtered": plan.filtered,
        "rejected": ", ".join(f"{count:,} {reason}" for reason, count in sorted(plan.rejected_by_reason.items())),
        "repaired": ", ".join(f"{count:,} {reason}" for reason, count in sorted(plan.repaired_by_reason.items())),
    }
    for name, fact in facts.items():
        if fact:
            out.print(f"  {name:<10} {one_line(str(fact))}", markup=False, soft_wrap=True)
    for column in plan.columns:
        renamed = "" if column.name == column.source_name else f"  (was {one_line(column.source_name)})"
        out.print(f"  {column.name:<24} {column.sql_type}{renamed}", markup=False, soft_wrap=True)
    warn(plan.warnings, before="  warning: ")


def _way(plan: LayerPlan) -> str | None:
    """The transformation and how good it is; None where coordinates are kept."""
    if plan.transform_name is None:
        return None
    known = plan.transform_accuracy_m
    how_good = "of unknown accuracy" if known is None else f"to {known:g} m" if known else "exact"
    return f"{plan.transform_name} ({how_good})"


def _sandbox(settings: Settings) -> SandboxPool:
    from geo_assets.sandbox.pool import SandboxPool

    return SandboxPool(settings.home / "scratch", preload=_PRELOAD, only_ours=True, **settings.sandbox_limits)


def _inspect(sandbox: SandboxPool, request: InspectRequest) -> InspectReport:
    """Inspect a private copy: `inspect_source` of the stages, without the imports of its module."""
    from geo_assets.vector.models import InspectReport

    return sandbox.call("geo_assets.vector.reader.inspect:inspect", request, InspectReport)


@contextmanager
def _inspected(
    sandbox: SandboxPool, source: Path, request: InspectRequest
) -> Iterator[tuple[InspectRequest, Callable[[], InspectReport]]]:
    """Inspect a private copy of the source while the caller prepares the rest; yields the request for that copy, and a
    function that waits for the report.
    """
    with ThreadPoolExecutor(1) as background, _private_copy(sandbox, source) as copy:
        own = replace(request, source=str(copy), thorough=False)
        asked = background.submit(_inspect, sandbox, own)
        yield own, asked.result


@contextmanager
def _session(settings: Settings) -> Iterator[Kept[Session]]:
    """Sessions of the database, the first of which is opened while the caller imports the rest: each takes 40 ms."""
    from geo_assets.vector.tables.session import kept_sessions

    with kept_sessions(settings) as sessions:
        sessions.ahead()
        yield sessions


@contextmanager
def _database(settings: Settings, session: Kept[Session]) -> Iterator[LoadDatabase]:
    """The database, not by `Ledger`: its pool waits 10 s for one that does not answer, and importing it takes 0.1 s."""
    from geo_assets.stages.load_database import LoadDatabase

    with LoadDatabase(settings, session) as database:
        yield database


@contextmanager
def _private_copy(sandbox: SandboxPool, source: Path) -> Iterator[Path]:
    """The source and its sidecars in a directory of their own, by hard link if possible."""
    with sandbox.workspace() as workspace:
        folder = Path(tempfile.mkdtemp(dir=workspace))
        lay_out(members_of(source), folder)
        yield folder / source.name
