"""`geo-assets load` and `geo-assets vector …`: one vector file into PostGIS, a look at it, and the way back.

Here: arguments, what is printed. Not here: loading (`stages/vector_load.py`), the engine (`vector/`).

The file is read by the same sandboxed children as in the pipeline; the database is the stack's.
"""

from __future__ import annotations

import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from geo_assets.commands.console import JsonFlag, err, out, print_json
from geo_assets.errors import GeoAssetsError
from geo_assets.lean import leave_out
from geo_assets.text import one_line

if TYPE_CHECKING:
    from geo_assets.sandbox.pool import SandboxPool
    from geo_assets.settings import Settings
    from geo_assets.stages.vector_load import Loaded, LoadOptions
    from geo_assets.vector.models import InspectReport, InspectRequest, LayerPlan

_SCHEMA = "vector"

#: What a child needs for the call that is about to come; it imports them while we are busy with ours.
_PRELOAD = (
    "geo_assets.vector.reader.inspect",
    "geo_assets.vector.reader.stream",
    "pyarrow",
    "shapely",
    "pyproj",
    "pyogrio.raw",
)

Source = Annotated[
    Path,
    typer.Argument(
        metavar="FILE",
        help=(
            "A vector file, with its other parts beside it; or a folder that is a FileGDB or a table of Parquet files."
        ),
    ),
]
SourceCrs = Annotated[str | None, typer.Option("--source-crs", help="CRS of layers that carry none, as EPSG:code.")]
TargetCrs = Annotated[str | None, typer.Option("--target-crs", help="Transform to this CRS, as EPSG:code.")]
Accuracy = Annotated[
    float | None, typer.Option("--max-transform-accuracy-m", help="Refuse a transformation that is less accurate.")
]
Where = Annotated[
    str | None, typer.Option("--where", help="A condition, for example: \"population > 1000 AND name LIKE 'A%'\"")
]
Columns = Annotated[
    list[str] | None, typer.Option("--columns", metavar="A,B", help="Only these columns; may be repeated.")
]
BoxOption = Annotated[str | None, typer.Option("--bbox", metavar="W,S,E,N", help="Only features that touch this box.")]
BoxCrs = Annotated[str, typer.Option("--bbox-crs", help="The CRS of --bbox.")]
Layers = Annotated[list[str] | None, typer.Option("--layer", help="Only this layer; may be repeated.")]
Mixed = Annotated[str, typer.Option("--mixed", help="A layer of points, lines and polygons: split, generic or reject.")]
Nulls = Annotated[str, typer.Option("--null-geometry", help="Features without geometry: keep or reject.")]
Attributes = Annotated[bool, typer.Option("--attribute-tables", help="Also layers without geometry.")]
Trust = Annotated[
    bool, typer.Option("--trust-geometry", help="Do not look for invalid geometry: faster, at your own risk.")
]

Override = Annotated[
    bool, typer.Option("--override-crs", help="--source-crs counts also where the file says something else.")
]
Encoding = Annotated[
    str | None,
    typer.Option("--encoding", help="Of text, where the file says nothing or something wrong, e.g. windows-1252."),
]
GeometryColumn = Annotated[
    str | None, typer.Option("--geometry-column", help="Of plain Parquet: the column of WKB or WKT.")
]
XColumn = Annotated[
    str | None, typer.Option("--x", help="Of tables without geometry: the column of longitude or easting.")
]
YColumn = Annotated[str | None, typer.Option("--y", help="The column of latitude or northing.")]
WktColumn = Annotated[str | None, typer.Option("--wkt", help="The column of WKT, EWKT, hexadecimal WKB or GeoJSON.")]
Delimiter = Annotated[str | None, typer.Option("--delimiter", help="Of CSV: one character; \\t is a tabulator.")]
Decimal = Annotated[
    str | None, typer.Option("--decimal", help="What parts the decimals of coordinates in text: . or ,")
]

vector = typer.Typer(no_args_is_help=True, help="Look into a vector file; call back a replaced table.")


def register(app: typer.Typer) -> None:
    """Add the commands to the root."""
    app.command(
        epilog=(
            'Example: `geo-assets load roads.gpkg --table vector.roads --target-crs EPSG:3857 --where "class ='
            " 'motorway'\"`"
        )
    )(load)
    app.add_typer(vector, name="vector")


def load(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SRC",
            help=(
                "A vector file, with its other parts beside it; or a folder that is a FileGDB or a table of Parquet"
                " files."
            ),
        ),
    ],
    table: Annotated[str, typer.Option("--table", help="vector.name; several layers become vector.name_layer.")],
    source_crs: SourceCrs = None,
    target_crs: TargetCrs = None,
    max_transform_accuracy_m: Accuracy = None,
    where: Where = None,
    columns: Columns = None,
    bbox: BoxOption = None,
    bbox_crs: BoxCrs = "EPSG:4326",
    layer: Layers = None,
    mixed: Mixed = "split",
    null_geometry: Nulls = "keep",
    override_crs: Override = False,
    encoding: Encoding = None,
    geometry_column: GeometryColumn = None,
    x: XColumn = None,
    y: YColumn = None,
    wkt: WktColumn = None,
    delimiter: Delimiter = None,
    decimal: Decimal = None,
    attribute_tables: Attributes = False,
    trust_geometry: Trust = False,
    mode: Annotated[str, typer.Option("--mode", help="replace, append, or upsert by --key.")] = "replace",
    key: Annotated[
        list[str] | None, typer.Option("--key", metavar="A,B", help="The columns that identify a row.")
    ] = None,
    allow_drift: Annotated[bool, typer.Option("--allow-drift", help="The table's columns may change.")] = False,
    keep_versions: Annotated[
        int, typer.Option("--keep-versions", min=0, max=100, help="How many replaced tables are kept.")
    ] = 0,
    index: Annotated[str, typer.Option("--index", help="gist, spgist (points) or brin (with --cluster).")] = "gist",
    cluster: Annotated[
        bool, typer.Option("--cluster", help="Store rows along Hilbert's curve: for tables that serve tiles.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Load a vector file into PostGIS: validated, typed, indexed, and there in one commit or not at all."""
    wanted = _wanted(
        columns, bbox, source_crs=source_crs, target_crs=target_crs, max_transform_accuracy_m=max_transform_accuracy_m, where=where,
        bbox_crs=bbox_crs, layers=layer, mixed=mixed, null_geometry=null_geometry, attribute_tables=attribute_tables,
        trust_geometry=trust_geometry, override_crs=override_crs, encoding=encoding, geometry_column=geometry_column, x=x, y=y, wkt=wkt,
        delimiter=delimiter, decimal=decimal,
    )  # fmt: skip
    from geo_assets.settings import load_settings

    settings = load_settings()
    with _sandbox(settings) as sandbox:
        sandbox.warm_up()  # it imports its libraries while we import ours
        request = _request(source, wanted)
        with _inspected(sandbox, source, request) as (request, inspected):
            name = _table_name(table)
            options = _options(
                mode,
                _listed(key) or (),
                allow_drift=allow_drift,
                keep_versions=keep_versions,
                index=index,
                cluster=cluster,
            )
            warnings, loaded = _load(settings, sandbox, source, request, name, options, inspected)
    if as_json:
        print_json({"tables": [_row(table) for table in loaded], "warnings": warnings})
        return
    for done in loaded:
        row = _row(done)
        counts = ", ".join(
            f"{row[what]:,} {what}" for what in ("rejected", "filtered", "repaired", "updated") if row.get(what)
        )
        out.print(
            f"{row['table']}  {row['rows']:,} rows" + (f" ({counts})" if counts else ""), markup=False, soft_wrap=True
        )
    for warning in warnings:
        err.print(f"warning: {one_line(warning)}", style="yellow", markup=False, soft_wrap=True)


@vector.command("inspect")
def inspect(
    source: Source,
    source_crs: SourceCrs = None,
    target_crs: TargetCrs = None,
    max_transform_accuracy_m: Accuracy = None,
    where: Where = None,
    columns: Columns = None,
    bbox: BoxOption = None,
    bbox_crs: BoxCrs = "EPSG:4326",
    layer: Layers = None,
    mixed: Mixed = "split",
    null_geometry: Nulls = "keep",
    override_crs: Override = False,
    encoding: Encoding = None,
    geometry_column: GeometryColumn = None,
    x: XColumn = None,
    y: YColumn = None,
    wkt: WktColumn = None,
    delimiter: Delimiter = None,
    decimal: Decimal = None,
    attribute_tables: Attributes = False,
    as_json: JsonFlag = False,
) -> None:
    """What a file holds and what its tables would be. Nothing is loaded; no database is needed."""
    from geo_assets.settings import load_settings
    from geo_assets.vector.models import InspectReport

    wanted = _wanted(
        columns, bbox, source_crs=source_crs, target_crs=target_crs, max_transform_accuracy_m=max_transform_accuracy_m, where=where,
        bbox_crs=bbox_crs, layers=layer, mixed=mixed, null_geometry=null_geometry, attribute_tables=attribute_tables,
        override_crs=override_crs, encoding=encoding, geometry_column=geometry_column, x=x, y=y, wkt=wkt, delimiter=delimiter, decimal=decimal,
    )  # fmt: skip
    request = _request(source, wanted)
    with _sandbox(load_settings()) as sandbox, _private_copy(sandbox, source) as copy:
        report = sandbox.call(
            "geo_assets.vector.reader.inspect:inspect", request.model_copy(update={"source": str(copy)}), InspectReport
        )
    if as_json:
        print_json(report.model_dump(mode="json", exclude={"layers": {"__all__": {"changed"}}}))
        return
    for plan in report.layers:
        _print_plan(plan)
    for warning in report.warnings:
        err.print(f"warning: {one_line(warning)}", style="yellow", markup=False, soft_wrap=True)


@vector.command("rollback")
def rollback(
    table: Annotated[str, typer.Argument(metavar="TABLE", help="vector.name, loaded with --keep-versions.")],
    as_json: JsonFlag = False,
) -> None:
    """Put the newest kept version of a table back in its place; the present one is dropped. Views follow."""
    from geo_assets.settings import load_settings
    from geo_assets.stages.vector_load import roll_back

    done = roll_back(load_settings(), _table_name(table))
    if as_json:
        print_json({"table": done.table, "rows": done.rows, "drift": list(done.drift)})
        return
    out.print(f"{done.table}  {done.rows:,} rows", markup=False)
    for difference in done.drift:
        out.print(f"  {difference}", markup=False, soft_wrap=True)


def _wanted(columns: list[str] | None, bbox: str | None, **options: Any) -> dict[str, Any]:
    """Options as `InspectRequest` has them."""
    if options.get("delimiter") == "\\t":  # as a shell passes it on
        options["delimiter"] = "\t"
    return {"columns": _listed(columns), "bbox": _box(bbox), **options}


def _listed(values: Sequence[str] | None) -> tuple[str, ...] | None:
    """`--columns A,B` and `--columns A --columns B` are the same."""
    if values is None:
        return None
    return tuple(part.strip() for value in values for part in value.split(",") if part.strip())


def _box(text: str | None) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) != 4:
        raise GeoAssetsError(
            "INVALID_PARAMETERS",
            f"{text!r} is not a box",
            remedy="west,south,east,north, for example --bbox=166,-48,179,-34",
        )
    return numbers


def _table_name(text: str) -> str:
    """The table's name in the one schema where tables are published."""
    from geo_assets.vector.tables.staging import check_table_name

    schema, dot, name = text.rpartition(".")
    if dot and schema != _SCHEMA:
        raise GeoAssetsError(
            "INVALID_PARAMETERS",
            f"tables are published in the schema {_SCHEMA}, not {schema[:63]!r}",
            remedy=f"--table {_SCHEMA}.{name}",
        )
    check_table_name(name)
    return name


def _request(source: Path, wanted: dict[str, Any]) -> InspectRequest:
    """The request, before anything is read.

    Raises:
        GeoAssetsError: SOURCE_GONE; INVALID_PARAMETERS; INVALID_FILTER; INVALID_CRS.
    """
    from pydantic import ValidationError

    from geo_assets.epsg import parse_code
    from geo_assets.errors import faults
    from geo_assets.vector.models import InspectRequest
    from geo_assets.vector.where import parse

    if not source.exists():
        raise GeoAssetsError("SOURCE_GONE", f"there is no {source}", remedy="check the path")
    try:
        request = InspectRequest(source=str(source), **wanted)
    except ValidationError as error:
        raise GeoAssetsError("INVALID_PARAMETERS", "; ".join(faults(error)), remedy="geo-assets load --help") from error
    for code in filter(None, (request.source_crs, request.target_crs, request.bbox and request.bbox_crs)):
        parse_code(code)
    if request.where is not None:
        parse(request.where)
    return request


def _options(
    mode: str, key: tuple[str, ...], *, allow_drift: bool, keep_versions: int, index: str, cluster: bool
) -> LoadOptions:
    from geo_assets.stages.vector_load import LoadOptions
    from geo_assets.vector.tables.load import StageOptions

    for what, value, allowed in (
        ("--mode", mode, ("replace", "append", "upsert")),
        ("--index", index, ("gist", "spgist", "brin")),
    ):
        if value not in allowed:
            raise GeoAssetsError(
                "INVALID_PARAMETERS",
                f"{what} {value[:40]!r} is none of {', '.join(allowed)}",
                remedy="geo-assets load --help",
            )
    if (mode == "upsert") != bool(key):
        raise GeoAssetsError(
            "INVALID_PARAMETERS", "--key and --mode upsert go together", remedy="--mode upsert --key id"
        )
    return LoadOptions(
        mode=mode,  # type: ignore[arg-type]
        key=key,
        schema_drift="allow" if allow_drift else "refuse",
        keep_versions=keep_versions,
        accept_superseded=True,
        stage=StageOptions(index=index, cluster=cluster),  # type: ignore[arg-type]
    )


def _load(
    settings: Settings,
    sandbox: SandboxPool,
    source: Path,
    request: InspectRequest,
    name: str,
    options: LoadOptions,
    inspected: Callable[[], InspectReport],
) -> tuple[list[str], list[Loaded]]:
    """Load through the sandbox; returns what is worth saying and the tables."""
    from geo_assets.database.connections import connect
    from geo_assets.ledger.table_names import claim_name
    from geo_assets.ledger.vector_loads import now
    from geo_assets.stages.vector_load import Origin, load_source
    from geo_assets.vector.names import table_names

    leave_out("pandas")
    with connect(settings, autocommit=True) as conn:
        origin = Origin(source=str(source), suffix=secrets.token_hex(4), submitted_at=now(conn))

    def names(layers: Sequence[LayerPlan]) -> list[str]:
        labels = [layer.label for layer in layers]
        return [name] if len(labels) == 1 else table_names("", name, labels)

    report, loaded = load_source(settings, sandbox, request, origin, options, names, inspected)
    with connect(settings, autocommit=True) as conn:
        owners = [claim_name(conn, done.staged.table, str(source)) for done in loaded]
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
        "transform_accuracy_m": done.plan.transform_accuracy_m,
        "drift": list(done.published.drift),
        "version": done.published.version,
        "superseded": bool(done.published.superseded),
    }
    return row | {key: value for key, value in extra.items() if value}


def _print_plan(plan: LayerPlan) -> None:
    kind = (
        "attributes"
        if plan.geometry_type is None
        else f"{plan.geometry_type}{' Z' if plan.has_z else ''}, {plan.crs_code}"
    )
    out.print(
        f"{plan.label or plan.layer or 'one layer'}  {plan.driver}, {plan.feature_count:,} features, {kind}",
        markup=False,
        soft_wrap=True,
    )
    facts: dict[str, Any] = {
        "crs": plan.crs_name,
        "transform": plan.transform_name and f"{plan.transform_name} ({_accuracy(plan)})",
        "bounds": plan.bounds and ", ".join(f"{number:.9g}" for number in plan.bounds),
        "encoding": plan.encoding,
        "null": plan.null_geometries,
        "filtered": plan.filtered,
        "rejected": ", ".join(f"{count:,} {reason}" for reason, count in plan.rejected_by_reason.items()),
        "repaired": ", ".join(f"{count:,} {reason}" for reason, count in plan.repaired_by_reason.items()),
    }
    for name, fact in facts.items():
        if fact:
            out.print(f"  {name:<10} {one_line(str(fact))}", markup=False, soft_wrap=True)
    for column in plan.columns:
        renamed = "" if column.name == column.source_name else f"  (was {one_line(column.source_name)})"
        out.print(f"  {column.name:<24} {column.sql_type}{renamed}", markup=False, soft_wrap=True)
    for warning in plan.warnings:
        err.print(f"  warning: {one_line(warning)}", style="yellow", markup=False, soft_wrap=True)


def _accuracy(plan: LayerPlan) -> str:
    return "of unknown accuracy" if plan.transform_accuracy_m is None else f"to {plan.transform_accuracy_m:g} m"


def _sandbox(settings: Settings) -> SandboxPool:
    from geo_assets.sandbox.pool import SandboxPool

    return SandboxPool(settings.home / "scratch", preload=_PRELOAD, **settings.sandbox_limits)


@contextmanager
def _inspected(
    sandbox: SandboxPool, source: Path, request: InspectRequest
) -> Iterator[tuple[InspectRequest, Callable[[], InspectReport]]]:
    """Have a private copy of the source looked at, while the caller prepares the rest; the request for that copy, and
    what waits for the answer.
    """
    from geo_assets.vector.models import InspectReport

    with ThreadPoolExecutor(1) as background, _private_copy(sandbox, source) as copy:
        own = request.model_copy(
            update={"source": str(copy), "thorough": False}
        )  # `inspect_source` without the imports of its module
        asked = background.submit(sandbox.call, "geo_assets.vector.reader.inspect:inspect", own, InspectReport)
        yield own, asked.result


@contextmanager
def _private_copy(sandbox: SandboxPool, source: Path) -> Iterator[Path]:
    """The source and its sidecars in a directory of their own, by hard link where that is possible."""
    with sandbox.workspace() as workspace:
        folder = Path(tempfile.mkdtemp(dir=workspace))
        if source.is_dir():
            for member in _files_below(source):
                to = folder / source.name / member.relative_to(source)
                to.parent.mkdir(parents=True, exist_ok=True)
                _link_or_copy(member, to)
        else:
            for member in _members(source):
                _link_or_copy(member, folder / member.name)
        yield folder / source.name


def _files_below(folder: Path) -> Iterator[Path]:
    """Plain files, also behind a link; links to directories may form a circle and are not followed."""
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def _members(source: Path) -> list[Path]:
    """A file and what belongs to it, by the rules of the inventory."""
    from geo_assets.storage.sources import siblings

    journal = source.with_name(f"{source.name}-wal")
    if journal.exists() and journal.stat().st_size:
        raise GeoAssetsError(
            "UNREADABLE",
            f"{source.name} is being written to: {journal.name} holds changes",
            remedy="close the program that has it open",
        )
    return siblings(source)


def _link_or_copy(path: Path, to: Path) -> None:
    try:
        to.hardlink_to(path.resolve())
    except OSError:  # another file system, or one without links
        shutil.copyfile(path, to)
