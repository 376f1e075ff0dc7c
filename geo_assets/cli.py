"""`geo-assets …`: a thin skin over the package.

Here: arguments, what is printed, exit codes. Not here: anything that decides.

Standard output carries the result alone (with `--json`, one JSON document); progress and logs go to standard error.
An error is one line and a hint; a traceback only with `--debug`.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.markup import escape

from geo_assets import __version__
from geo_assets.commands import raster, vector
from geo_assets.commands.console import (
    JsonFlag,
    err,
    human_bytes,
    out,
    print_json,
    print_json_error,
    print_table,
)
from geo_assets.errors import ERRORS, GeoAssetsError
from geo_assets.hints import program, runnable
from geo_assets.text import one_line

app = typer.Typer(
    name="geo-assets",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help=(
        "A container of geospatial files becomes validated COGs, a STAC catalogue and PostGIS tables, with an exact"
        " account of every file."
    ),
    epilog=(
        "First evening: `geo-assets demo`. Then `geo-assets upload FOLDER default/landing` and `geo-assets submit"
        " ingest_container --param container=landing --wait`."
    ),
)

JobId = Annotated[str, typer.Argument(help="A job's id, or its first characters (6 at least).")]


#: What a shell gives a program that Ctrl-C ends, and the parser returns where it met it.
_INTERRUPTED = 130


class _State:
    debug = False


app.add_typer(raster.app, name="cog")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def _root(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    version: Annotated[  # noqa: ARG001  (typer calls back)
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    _State.debug = debug


def main() -> None:
    """The entry point: runs the command; turns errors into one line, a hint and an exit code."""
    for ending in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(ending) is signal.SIG_DFL:  # what is under way is undone, as by Ctrl-C
            signal.signal(ending, _end)
    try:
        code = app(standalone_mode=False)
    except GeoAssetsError as error:
        if _State.debug:
            raise
        _die(error)
    except BrokenPipeError:
        sys.exit(0)
    except Exception as error:
        if hasattr(error, "format_message"):  # of the parser of the command line
            _refuse_usage(error)
        if _State.debug:
            raise
        _die(_as_ours(error))
    if code == _INTERRUPTED:
        _die(GeoAssetsError("INTERRUPTED", "interrupted by Ctrl-C"), code=code)
    sys.exit(code if isinstance(code, int) else 0)


def _as_ours(error: Exception) -> GeoAssetsError:
    if _is_no_text(error):
        return GeoAssetsError(
            "INVALID_PARAMETERS", "a parameter holds bytes that are no text", remedy="write it in UTF-8, without NUL"
        )
    message = f"{type(error).__name__}: {error}".splitlines()[0]
    if _is_away(error):
        return GeoAssetsError("DATABASE_UNAVAILABLE", f"the database went away: {message}")
    return GeoAssetsError("INTERNAL", message, remedy=f"see where: geo-assets --debug {shlex.join(sys.argv[1:])}")


def _is_no_text(error: Exception) -> bool:
    """Whether the database refuses a value of the command line: bytes that are not UTF-8 come from there as lone
    surrogates.
    """
    import psycopg

    return isinstance(error, UnicodeEncodeError | psycopg.DataError)


def _is_away(error: Exception) -> bool:
    """Whether the database does not answer, or no longer."""
    from geo_assets.database.connections import TRANSIENT

    return isinstance(error, TRANSIENT)


def _end(number: int, _: object) -> NoReturn:
    signal.signal(number, signal.SIG_IGN)  # asked once is enough
    sys.exit(128 + number)


def _die(error: GeoAssetsError, *, code: int = 1, severity: str = "error") -> NoReturn:
    message, remedy = one_line(error.message), runnable(one_line(error.remedy))
    print_json_error({"code": error.code, "message": message, "remedy": remedy})
    err.print(f"{severity}: {message}", style="red", markup=False, soft_wrap=True)
    err.print(f"{'hint:':<{len(severity) + 1}} {remedy}", markup=False, soft_wrap=True)
    sys.exit(code)


def _refuse_usage(error: Any) -> NoReturn:
    """An option or argument that the command line does not have."""
    context = getattr(error, "ctx", None)
    message = error.format_message()
    if context is not None and type(error).__name__ == "NoArgsIsHelpError":
        print(message)  # the help, unless it has printed itself in making the error
        sys.exit(error.exit_code)
    command = context.command_path if context is not None else "geo-assets"
    _die(
        GeoAssetsError(
            "INVALID_PARAMETERS", message, remedy=f"geo-assets {command.partition(' ')[2]} --help".replace("  ", " ")
        ),
        code=error.exit_code,
    )


def _log(message: str) -> None:
    err.print(runnable(message), style="dim", markup=False, soft_wrap=True)


# -- the local stack ---------------------------------------------------------------------------------------------------


@app.command()
def up(
    database_only: Annotated[
        bool, typer.Option("--database-only", help="PostgreSQL alone, for `dagster dev` in a checkout.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Start the local stack: PostgreSQL, migrations, Dagster's webserver, daemon and code location. Harmless
    to repeat.
    """
    from geo_assets.local.stack import Stack

    stack = Stack()
    settings = stack.up(_log, database_only=database_only)
    facts = {
        "home": str(stack.home),
        "dagster": settings.webserver_url,
        "api": f"{settings.api_url}/docs",
        "postgres": (
            f"postgresql://{settings.pipeline_user}@{settings.pg_host}:{settings.pg_port}/{settings.pg_database}"
        ),
        "containers": str(stack.home / "containers"),
    }
    if as_json:
        print_json(facts)
        return
    for name, value in facts.items():
        out.print(f"{name:<12}{value}", soft_wrap=True)
    out.print(f'for a shell: eval "$({program()} env)"', markup=False, soft_wrap=True)


@app.command()
def down(as_json: JsonFlag = False) -> None:
    """Stop exactly what `up` started. Data stays."""
    from geo_assets.local.stack import Stack

    stopped = Stack().down()
    if as_json:
        print_json({"stopped": stopped})
    else:
        out.print(f"stopped: {', '.join(stopped)}" if stopped else "nothing was running")


@app.command()
def env(
    reader: Annotated[
        bool, typer.Option("--reader", help="The role that may only look: published tables, items, the ledger.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Print `export` lines, so that psql, ogr2ogr and dagster work against the stack: `eval "$(geo-assets env)"`."""
    from geo_assets.local.stack import Stack, export_lines
    from geo_assets.settings import load_settings

    exports = Stack().exports(load_settings(), "reader" if reader else "pipeline")
    if as_json:
        print_json(exports)
    else:
        print(export_lines(exports), end="")


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def psql(context: typer.Context) -> None:
    """Open psql on the stack's database, as the role that only reads; takes what psql takes."""
    from geo_assets.local.stack import Stack
    from geo_assets.settings import load_settings

    path, environment = Stack().psql(load_settings())
    os.execve(path, [path, *context.args], environment)  # noqa: S606 - it becomes psql, with its terminal and its signals


@app.command()
def doctor(as_json: JsonFlag = False) -> None:
    """Check every prerequisite and say what to do about each failure."""
    from geo_assets.local.doctor import examine

    findings = examine()
    if as_json:
        print_json([f.model_dump() for f in findings])
    else:
        for finding in findings:
            mark, style = {"ok": ("ok  ", "green"), "warning": ("warn", "yellow"), "failure": ("FAIL", "red")}[
                finding.level
            ]
            out.print(f"[{style}]{mark}[/] {finding.what:<22} {finding.found}", soft_wrap=True)
            if finding.remedy:
                out.print(f"     → {runnable(finding.remedy)}", markup=False, soft_wrap=True)
    if any(f.level == "failure" for f in findings):
        raise typer.Exit(1)


@app.command()
def demo(as_json: JsonFlag = False) -> None:
    """Run the main job on the bundled data: real rasters and vectors, and two bad files. Starts the stack if it is not
    running.
    """
    from geo_assets.commands import demo as the_demo
    from geo_assets.local.stack import Stack
    from geo_assets.parameters import validate_parameters
    from geo_assets.submissions.submit import Submitter

    stack = Stack()
    settings = stack.up(_log)
    count = the_demo.upload_demo(settings)
    _log(f"uploaded {count} files to default/{the_demo.CONTAINER}; submitting ingest_container")
    with Submitter(settings) as submitter:
        submitted = submitter.submit(
            validate_parameters("ingest_container", {"container": the_demo.CONTAINER}), submitted_by="demo"
        )
        record = _follow(submitter, submitted.job_id)
        records = submitter.tasks.records(record.job_id)
    looks = {tool: runnable(how) for tool, how in the_demo.hints(settings, record, records).items()}
    if as_json:
        print_json(
            {
                "job": record.model_dump(mode="json"),
                "tasks": [r.model_dump(mode="json") for r in records],
                "look": looks,
            }
        )
    else:
        _print_demo(list(the_demo.rows(records)), looks, as_meant=not the_demo.unexpected(records))
    wrong = the_demo.unexpected(records)
    if record.status != "completed_with_errors" or wrong:
        reasons = "".join(f"; {sentence}" for sentence in wrong)
        raise GeoAssetsError(
            "INTERNAL", f"the demo's job ended as {record.status}{reasons}", remedy=f"see {looks['Dagster']}"
        )


def _print_demo(rows: list[tuple[str, str, str]], looks: dict[str, str], *, as_meant: bool) -> None:
    width = max(len(file) for file, _, _ in rows) + 2
    for file, became, where in rows:
        style = "yellow" if ":" in became else "green"
        out.print(f"[{style}]{became:<32}[/]{escape(f'{file:<{width}}{where}')}", soft_wrap=True)
    if as_meant:
        out.print("\nTwo of the files are bad on purpose: they are quarantined with a reason, and the rest goes on.")
    out.print("\nLook at it:")
    for tool, how in looks.items():
        out.print(f"  {tool:<18} {how}", markup=False, soft_wrap=True)


# -- containers and jobs -----------------------------------------------------------------------------------------------


@app.command(epilog="Example: `geo-assets upload scans/ survey.gpkg default/landing/2026`")
def upload(
    arguments: Annotated[
        list[str], typer.Argument(metavar="PATH… ALIAS/CONTAINER[/PREFIX]", help="Files or folders, then where to.")
    ],
    as_json: JsonFlag = False,
) -> None:
    """Put files or folders into a container, which is made if it is not there. Exit code 1 if any file was left out."""
    from geo_assets.settings import load_settings
    from geo_assets.storage.containers import BlobRef, open_container
    from geo_assets.storage.uploads import upload_tree

    if len(arguments) < 2:
        raise GeoAssetsError(
            "INVALID_PARAMETERS",
            "upload needs at least one PATH and a destination",
            remedy="geo-assets upload scans/ default/landing",
        )
    *paths, destination = arguments
    target = BlobRef.parse(destination, path_required=False)
    sources = [Path(p) for p in paths]
    missing = [str(p) for p in sources if not p.exists()]
    if missing:
        raise GeoAssetsError("SOURCE_GONE", f"there is no {missing[0]}", remedy="check the path")
    _refuse_doubles(sources)
    settings = load_settings()
    container = open_container(settings, target.alias, target.container)
    container.ensure()
    refused: list[dict[str, str]] = []
    uploaded = _with_progress(
        sources,
        lambda source: upload_tree(
            container,
            source,
            target.path,
            lambda file, error: refused.append({"file": ascii(str(file))[1:-1], **error.to_dict()}),
        ),
    )
    if as_json:
        files = [{"path": p, "bytes": n} for _, p, n in uploaded]
        print_json({"container": f"{target.alias}/{target.container}", "files": files, "refused": refused})
    else:
        out.print(
            f"{len(uploaded)} files, {human_bytes(sum(n for _, _, n in uploaded))}, in"
            f" {target.alias}/{target.container}"
        )
        for entry in refused:
            err.print(f"left out: {entry['message']}; {entry['remedy']}", style="yellow", markup=False, soft_wrap=True)
    if refused:
        raise typer.Exit(1)


def _refuse_doubles(sources: list[Path]) -> None:
    """Two files that would become one blob: the second would silently replace the first."""
    from geo_assets.storage.uploads import files_of

    seen: dict[str, Path] = {}
    for source in sources:
        for file, relative in files_of(source):
            if relative in seen:
                raise GeoAssetsError(
                    "INVALID_PARAMETERS",
                    f"{seen[relative]} and {file} would both become {relative}",
                    remedy="upload them one after the other, with different prefixes",
                )
            seen[relative] = file


def _with_progress(sources: list[Path], upload_one: Any) -> list[tuple[Path, str, int]]:
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    total = sum(
        p.stat().st_size
        for s in sources
        for p in ([s] if s.is_file() else s.rglob("*"))
        if p.is_file() and not p.is_symlink()
    )
    done = []
    with Progress(
        TextColumn("uploading"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), console=err, transient=True
    ) as progress:
        bar = progress.add_task("upload", total=total)
        for source in sources:
            for entry in upload_one(source):
                done.append(entry)
                progress.advance(bar, entry[2])
    return done


_SUBMIT_EXAMPLES = """Examples:

`geo-assets submit ingest_container --param container=landing --wait`

`geo-assets submit ingest_container --param container=landing --param prefix=2026/ --param 'include=*.tif' --param target_crs=EPSG:3857`

`geo-assets submit hello_world --param n=30 --param message=hi --wait`

Parameters of each job type: `geo-assets job-types`"""


@app.command(epilog=_SUBMIT_EXAMPLES)
def submit(
    job_type: Annotated[
        str,
        typer.Argument(help="ingest_container, stage_raster, stage_vector, list_container, hello_world, stac_setup"),
    ],
    param: Annotated[
        list[str] | None, typer.Option("--param", "-p", metavar="KEY=VALUE", help="A parameter; repeat a list's.")
    ] = None,
    params_file: Annotated[Path | None, typer.Option("--params-file", help="A JSON object of parameters.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Follow to the end; exit 0 only if completed.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Redo also what is done already.")] = False,
    allow_empty: Annotated[
        bool, typer.Option("--allow-empty", help="A prefix or globs that match nothing are no error.")
    ] = False,
    allow_mass_retire: Annotated[
        bool,
        typer.Option("--allow-mass-retire", help="With deleted=retire: take back also more than max_retire_percent."),
    ] = False,
    verify_sources: Annotated[
        bool,
        typer.Option(
            "--verify-sources", help="Hash files that seem unchanged: for directories, whose etag is time and size."
        ),
    ] = False,
    plan_hash: Annotated[
        str | None, typer.Option("--plan-hash", help="Submit only if `plan` still says the same.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Validate, record and start a job. The same request is the same job: what is done already is not done again."""
    from geo_assets.settings import load_settings
    from geo_assets.stages.planning import insist_on_plan
    from geo_assets.submissions.cli_parameters import read_parameters
    from geo_assets.submissions.submit import Submitter

    asked = [
        f"{name}=true" for name, wanted in (("allow_empty", allow_empty), ("verify_sources", verify_sources)) if wanted
    ]
    parameters = read_parameters(job_type, [*(param or []), *asked], params_file)
    with Submitter(load_settings()) as submitter:
        if plan_hash:
            insist_on_plan(load_settings(), submitter.tasks, parameters, plan_hash)
        submitted = submitter.submit(parameters, submitted_by="cli", force=force, allow_mass_retire=allow_mass_retire)
        if submitter.warning:
            _log(submitter.warning)
        if not wait:
            _show_job(submitter.jobs.find(submitted.job_id), as_json=as_json)
            return
        record = _follow(submitter, submitted.job_id)
        if record.status == "failed" and submitted.attempt is None:
            # it was at work when we came and has died since: what we asked for is not done yet
            submitter.submit(parameters, submitted_by="cli", force=force, allow_mass_retire=allow_mass_retire)
            record = _follow(submitter, submitted.job_id)
        _show_job(record, as_json=as_json)
    if record.status != "completed":
        raise typer.Exit(1)


def _follow(submitter: Any, job_id: str) -> Any:
    from geo_assets.commands.progress import follow

    try:
        return follow(submitter.jobs, job_id, err)
    except KeyboardInterrupt:
        record = submitter.jobs.find(job_id)
        goes_on = "has ended" if record.status.is_final else "goes on without this terminal"
        if not record.status.is_final:
            _log(f"to end it: geo-assets cancel {job_id[:12]}")
        error = GeoAssetsError(
            "INTERRUPTED",
            f"job {job_id[:12]} is {record.status} and {goes_on}",
            remedy=f"see how it is: geo-assets job {job_id[:12]}",
        )
        _die(error, code=_INTERRUPTED, severity="interrupted")


@app.command("job-types")
def job_types(as_json: JsonFlag = False) -> None:
    """The job types and their parameters."""
    from geo_assets.parameters import JOB_TYPES

    if as_json:
        print_json({name: model.model_json_schema() for name, model in JOB_TYPES.items()})
        return
    for name, model in JOB_TYPES.items():
        out.print(f"[bold]{name}[/]  {model.summary}")
        width = max(map(len, model.model_fields), default=0) + 2
        for field, schema in model.model_json_schema().get("properties", {}).items():
            out.print(
                f"    {field:<{width}}{_described(schema, required=model.model_fields[field].is_required())}",
                markup=False,
                soft_wrap=True,
            )


def _described(schema: dict[str, Any], *, required: bool) -> str:
    """A parameter as a person wants to know it: what it is, what it may be, what it is where it is left out."""
    variants = [schema, *schema.get("anyOf", [])]
    allowed: list[str] = next((variant["enum"] for variant in variants if "enum" in variant), [])
    text = schema.get("description", "") + (f": {', '.join(allowed)}" if allowed else "")
    default = schema.get("default")
    if required:
        return f"{text} (required)"
    if isinstance(default, list) and "prefixItems" not in schema:
        return f"{text} (may be repeated)"
    return text if default in (None, "") else f"{text} (default {json.dumps(default).strip(chr(34))})"


@app.command()
def jobs(
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 50,
    status: Annotated[str | None, typer.Option(help="Only jobs in this status.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """The newest jobs."""
    with _submitter() as submitter:
        records = submitter.jobs.newest(limit=limit, status=_job_status(status))
    if as_json:
        print_json([r.model_dump(mode="json") for r in records])
        return
    rows = []
    for r in records:
        done, total = sum(s.succeeded + s.skipped for s in r.stages), sum(s.total for s in r.stages)
        bad = sum(s.quarantined + s.failed for s in r.stages)
        rows.append(
            (
                r.job_id[:12],
                r.job_type,
                r.status,
                r.partition_key,
                f"{done}/{total}",
                str(bad),
                f"{r.created_at:%Y-%m-%d %H:%M:%S}",
            )
        )
    print_table(("job", "type", "status", "partition", "done", "bad", "submitted"), rows)


def _job_status(text: str | None) -> Any:
    from geo_assets.ledger.models import JobStatus

    if text is None:
        return None
    try:
        return JobStatus(text)
    except ValueError:
        raise GeoAssetsError(
            "INVALID_PARAMETERS", f"there is no status {text!r}", remedy=f"one of: {', '.join(JobStatus)}"
        ) from None


@app.command()
def job(job_id: JobId, as_json: JsonFlag = False) -> None:
    """One job: its status and the account of each stage."""
    with _submitter() as submitter:
        _show_job(submitter.jobs.find(job_id), as_json=as_json)


@app.command()
def tasks(
    job_id: JobId,
    stage: Annotated[str | None, typer.Option(help="Only this stage.")] = None,
    status: Annotated[list[str] | None, typer.Option(help="Only tasks in this status; may be repeated.")] = None,
    warned: Annotated[bool, typer.Option("--warned", help="Only tasks with warnings.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """The tasks of a job: one line a file, then where it went and what is worth knowing of it, or why it is bad and
    what to do.
    """
    from geo_assets.ledger.models import TaskStatus
    from geo_assets.ledger.outputs import warnings
    from geo_assets.settings import load_settings

    if unknown := set(status or ()) - set(TaskStatus):
        raise GeoAssetsError(
            "INVALID_PARAMETERS", f"there is no status {unknown.pop()!r}", remedy=f"one of: {', '.join(TaskStatus)}"
        )
    with _submitter() as submitter:
        record = submitter.jobs.find(job_id)
        stages = [s.stage for s in record.stages]
        if stage and stage not in stages:
            raise GeoAssetsError(
                "INVALID_PARAMETERS", f"this job has no stage {stage!r}", remedy=f"one of: {', '.join(stages)}"
            )
        records = [r for r in submitter.tasks.records(record.job_id, stage=stage) if not status or r.status in status]
        records = [r for r in records if not warned or warnings(r.outputs)]
    if as_json:
        print_json([r.model_dump(mode="json") for r in records])
        return
    settings = load_settings()
    for r in records:
        style = {"succeeded": "green", "skipped": "dim", "quarantined": "yellow", "failed": "red"}.get(r.status, "")
        out.print(f"{r.status:<12}{r.stage:<21}{one_line(r.task_key)}", style=style, markup=False, soft_wrap=True)
        for line in _what_became(settings, r):
            out.print(f"{'':<12}{line}", markup=False, soft_wrap=True)


def _what_became(settings: Any, task: Any) -> list[str]:
    from geo_assets.ledger.outputs import results, warnings
    from geo_assets.storage.containers import place

    if task.error_message:
        return [f"{task.error_code}: {one_line(task.error_message)}", f"→ {runnable(one_line(task.remedy or ''))}"]
    made = [
        f"{what}: {place(settings, where) if what == 'COG' else one_line(where)}"
        for what, where in results(task.outputs)
    ]
    return made + [f"warning: {one_line(warning)}" for warning in warnings(task.outputs)]


@app.command(epilog="Example: `geo-assets files 3fa9c1d2 --role ignored`")
def files(
    job_id: JobId,
    role: Annotated[
        str | None, typer.Option(help="Only files of this role: source, part, companion, ignored, beyond_limit.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Every file that the job found in its container: a source, a part of one, a companion, or left alone, and why."""
    from geo_assets.stages.accounting import Role, listed_files

    if role is not None and role not in set(Role):
        raise GeoAssetsError("INVALID_PARAMETERS", f"there is no role {role!r}", remedy=f"one of: {', '.join(Role)}")
    with _submitter() as submitter:
        record = submitter.jobs.find(job_id)
        found = [file for file in listed_files(submitter.inventory, record) if role is None or file.role == role]
    if as_json:
        print_json([file.model_dump(mode="json", exclude_none=True) for file in found])
        return
    for file in found:
        more = f"  of {file.of}" if file.of else f"  {file.reason}" if file.reason else ""
        out.print(f"{file.role:<13}{file.path}{more}", markup=False, soft_wrap=True)


@app.command()
def plan(
    job_type: Annotated[str, typer.Argument(help="as for `submit`")],
    param: Annotated[list[str] | None, typer.Option("--param", "-p", metavar="KEY=VALUE")] = None,
    params_file: Annotated[Path | None, typer.Option("--params-file")] = None,
    as_json: JsonFlag = False,
) -> None:
    """What a submission would do now: creates, changes, skips, and a hash that `submit --plan-hash` can insist on."""
    from geo_assets.settings import load_settings
    from geo_assets.stages.planning import make_plan
    from geo_assets.submissions.cli_parameters import read_parameters

    parameters = read_parameters(job_type, param or [], params_file)
    with _submitter() as submitter:
        made = make_plan(load_settings(), submitter.tasks, parameters)
    if as_json:
        print_json(made.model_dump(mode="json"))
        return
    for source in made.sources:
        out.print(
            f"{source.action:<12}{source.kind:<12}{source.stage:<15}{source.path}  {source.reason}",
            markup=False,
            soft_wrap=True,
        )
    counts = ", ".join(f"{n} {what}" for what, n in sorted(made.counts.items())) or "nothing to list"
    out.print(
        f"{counts}; {made.expected_tasks} tasks, {human_bytes(made.bytes)} to work on\nplan hash {made.plan_hash}"
    )


@app.command()
def cancel(job_id: JobId, as_json: JsonFlag = False) -> None:
    """End a job that is queued or processing. Nothing of it is half published; submitting it again goes on where it
    was.
    """
    with _submitter() as submitter:
        record = submitter.jobs.find(job_id)
        if not submitter.cancel(record.job_id):
            _log(f"nothing to cancel: the job is {record.status}")
        if submitter.warning:
            _log(submitter.warning)
        _show_job(submitter.jobs.find(record.job_id), as_json=as_json)


@app.command()
def retry(
    job_id: JobId,
    only_failed: Annotated[bool, typer.Option("--only-failed", help="Do the failed tasks anew.")] = False,
    quarantined: Annotated[bool, typer.Option("--quarantined", help="Do the quarantined tasks anew.")] = False,
    error_code: Annotated[
        str | None, typer.Option("--error-code", help="Do the tasks anew that ended with this code.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Follow to the end.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Run a job again that has ended. Without a choice, failed tasks are done anew; what is done stays."""
    statuses = [
        name
        for name, chosen in (("failed", only_failed or not (quarantined or error_code)), ("quarantined", quarantined))
        if chosen
    ]
    if error_code:
        statuses = ["failed", "quarantined"]
    with _submitter() as submitter:
        record = submitter.jobs.find(job_id)
        submitter.retry(record.job_id, requested_by="cli", statuses=tuple(statuses), error_code=error_code)
        record = _follow(submitter, record.job_id) if wait else submitter.jobs.find(record.job_id)
        _show_job(record, as_json=as_json)
    if wait and record.status != "completed":
        raise typer.Exit(1)


poison = typer.Typer(
    no_args_is_help=True, help="Messages that could not be accepted: look at them, replay or discard them."
)
app.add_typer(poison, name="poison")


@poison.command("list")
def poison_list(
    error_code: Annotated[str | None, typer.Option("--error-code", help="Only messages with this code.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 1000,
    as_json: JsonFlag = False,
) -> None:
    """The messages in poison, newest first."""
    with _submitter() as submitter:
        records = submitter.messages.list(state="poison", error_code=_known_code(error_code), limit=limit)
    if as_json:
        print_json([r.model_dump(mode="json") for r in records])
        return
    if not records:
        _log("no message is in poison")
    for r in records:
        out.print(
            f"{r.message_id[:8]}  {r.received_at:%Y-%m-%d %H:%M:%S} "
            f" {r.source:<28}{r.error_code:<20}{one_line(r.error_message or '')}",
            markup=False,
            soft_wrap=True,
        )


@poison.command("show")
def poison_show(message_id: str, as_json: JsonFlag = False) -> None:
    """One message: its record, its body (escaped) and its errors."""
    from geo_assets.text import escaped

    with _submitter() as submitter:
        record, body = submitter.messages.body(message_id)
        errors = submitter.messages.errors(message_id=record.message_id)
    shown = {
        **record.model_dump(mode="json"),
        "body": escaped(body, len(body)),
        "errors": [e.model_dump(mode="json") for e in errors],
    }
    if as_json:
        print_json(shown)
        return
    for key, value in shown.items():
        if key != "errors":
            out.print(f"{key:<16}{value}", markup=False, soft_wrap=True)
    for e in errors:
        remedy = runnable(one_line(e.remedy or "").replace(" ID", f" {record.message_id[:8]}"))
        out.print(
            f"{e.at:%H:%M:%S} {e.severity} {e.code}: {one_line(e.message)}\n         → {remedy}",
            markup=False,
            soft_wrap=True,
        )


@poison.command("replay")
def poison_replay(
    message_id: Annotated[str | None, typer.Argument(help="One message; or use --error-code.")] = None,
    error_code: Annotated[str | None, typer.Option("--error-code", help="All messages with this code.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Read messages again, as they came; what is accepted now leaves poison."""
    from geo_assets.submissions.poison import replay

    with _submitter() as submitter:
        outcomes = [replay(submitter, m) for m in _chosen(submitter, message_id, error_code)]
    _print_outcomes(outcomes, as_json=as_json)


@poison.command("discard")
def poison_discard(
    message_id: Annotated[str | None, typer.Argument(help="One message; or use --error-code.")] = None,
    error_code: Annotated[str | None, typer.Option("--error-code", help="All messages with this code.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Take messages out of poison for good; their records stay."""
    with _submitter() as submitter:
        chosen = _chosen(submitter, message_id, error_code)
        for m in chosen:
            submitter.messages.set_state(m, "discarded")
    _print_outcomes([{"message_id": m, "state": "discarded"} for m in chosen], as_json=as_json)


def _known_code(code: str | None) -> str | None:
    if code is not None and code not in ERRORS:
        raise GeoAssetsError(
            "INVALID_PARAMETERS", f"there is no error code {code!r}", remedy=f"one of: {', '.join(sorted(ERRORS))}"
        )
    return code


def _chosen(submitter: Any, message_id: str | None, error_code: str | None) -> list[str]:
    if (message_id is None) == (error_code is None):
        raise GeoAssetsError("INVALID_PARAMETERS", "name one message, or --error-code", remedy="geo-assets poison list")
    if message_id is not None:
        return [submitter.messages.body(message_id)[0].message_id]
    return [
        r.message_id for r in submitter.messages.list(state="poison", error_code=_known_code(error_code), limit=10_000)
    ]


def _print_outcomes(outcomes: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        print_json(outcomes)
        return
    for outcome in outcomes:
        out.print("  ".join(f"{v}" for v in outcome.values() if v), markup=False, soft_wrap=True)


vector.register(app)


@app.command()
def api(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.")] = 8000,
) -> None:
    """Serve the HTTP API in the foreground. Beyond loopback it starts only with authentication."""
    from geo_assets.api.serve import serve

    serve(host, port)


tokens = typer.Typer(no_args_is_help=True, help="Named tokens of the HTTP API; stored hashed, shown once.")
app.add_typer(tokens, name="token")


@tokens.command("create")
def token_create(
    name: str,
    scope: Annotated[list[str], typer.Option("--scope", help="submit, read or admin; repeat for several.")],
    as_json: JsonFlag = False,
) -> None:
    """Make a token and print it, this once."""
    with _submitter() as submitter:
        token = submitter.tokens.create(name, scope)
    if as_json:
        print_json({"name": name, "scopes": scope, "token": token})
    else:
        print(token)


@tokens.command("revoke")
def token_revoke(name: str) -> None:
    """A revoked token is refused from now on."""
    with _submitter() as submitter:
        submitter.tokens.revoke(name)


def _submitter() -> Any:
    from geo_assets.settings import load_settings
    from geo_assets.submissions.submit import Submitter

    return Submitter(load_settings())


def _show_job(record: Any, *, as_json: bool) -> None:
    if as_json:
        print_json(record.model_dump(mode="json"))
        return
    out.print(
        f"job        {record.job_id}\ntype       {record.job_type}\nstatus     {record.status}\npartition "
        f" {record.partition_key}",
        soft_wrap=True,
    )
    if record.error_message:
        out.print(f"reason     {record.error_code}: {one_line(record.error_message)}", markup=False, soft_wrap=True)
        if record.error_code in ERRORS:
            remedy = ERRORS[record.error_code].remedy.replace("JOB_ID", record.job_id[:12])
            out.print(f"           → {runnable(remedy)}", markup=False, soft_wrap=True)
    if record.run_id:
        from geo_assets.settings import load_settings

        out.print(f"run        {load_settings().webserver_url}/runs/{record.run_id}", soft_wrap=True)
    if record.stages:
        rows = [
            (s.stage, str(s.total), str(s.succeeded), str(s.skipped), str(s.quarantined), str(s.failed))
            for s in record.stages
        ]
        print_table(("stage", "total", "succeeded", "skipped", "quarantined", "failed"), rows)
    if record.warnings:
        print_table(("warning", "files"), [(kind, f"{count:,}") for kind, count in record.warnings.items()])
        out.print(
            f"the warnings of each file: {program()} tasks {record.job_id[:12]} --warned", markup=False, soft_wrap=True
        )
    if any(s.quarantined or s.failed for s in record.stages):
        out.print(
            f"why: {program()} tasks {record.job_id[:12]} --status quarantined --status failed",
            markup=False,
            soft_wrap=True,
        )
    elif record.status == "completed" and not sum(s.total for s in record.stages):
        out.print(
            f"nothing was found to work on; what the container holds: {_listing(record)}", markup=False, soft_wrap=True
        )
    elif record.status == "completed":
        out.print(f"what was made: {program()} tasks {record.job_id[:12]}", markup=False, soft_wrap=True)


def _listing(record: Any) -> str:
    p = record.parameters
    return f"{program()} submit list_container --param account={p['account']} --param container={p['container']} --wait"


if __name__ == "__main__":
    main()
