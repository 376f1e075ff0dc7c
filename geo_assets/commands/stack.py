"""`geo-assets up`, `down`, `env`, `psql`, `doctor` and `demo`: the local stack, and a first look at what it does.

Here: arguments, what is printed. Not here: the stack (`local/`), the demo's files and hints (`demo.py`).
"""

from __future__ import annotations

import os
from typing import Annotated

import typer
from rich.markup import escape

from geo_assets.commands.console import JsonFlag, log, out, print_json
from geo_assets.commands.shared import follow_job, settings_of_running
from geo_assets.errors import GeoAssetsError
from geo_assets.hints import program, runnable
from geo_assets.task_status import BAD_INPUT
from geo_assets.text import how_many


def up(
    database_only: Annotated[
        bool, typer.Option("--database-only", help="Start only PostgreSQL, for `dagster dev` in a checkout.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Start the local stack: PostgreSQL, migrations, Dagster's webserver, daemon and code location. Does
    nothing if it is running.
    """
    from geo_assets.local.stack import Stack

    stack = Stack()
    settings = stack.up(log, database_only=database_only)
    pages = {
        "webserver": ("dagster", settings.stack_webserver_url),
        "api": ("api", f"{settings.api_url}/docs"),
        "serve": ("page", f"{settings.serve_url}/"),
    }
    running = {name for name, process in stack.state().processes.items() if process.alive}
    facts = {
        "home": str(stack.home),
        **dict(page for part, page in pages.items() if part in running),
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


def down(as_json: JsonFlag = False) -> None:
    """Stop exactly what `up` started. Data stays."""
    from geo_assets.local.stack import Stack

    at_work = _at_work()
    stopped = Stack().down()
    if as_json:
        print_json({"stopped": stopped, "at_work": at_work})
        return
    out.print(f"stopped: {', '.join(stopped)}" if stopped else "nothing was running")
    if stopped and at_work:
        goes = "it goes" if len(at_work) == 1 else "they go"
        log(f"{how_many(len(at_work), 'job is', 'jobs are')} at work: {goes} on after: geo-assets up")


def _at_work() -> list[str]:
    """The jobs that stopping interrupts; none where the database cannot tell."""
    import psycopg

    from geo_assets.database.connections import connect
    from geo_assets.ledger import pause as pauses
    from geo_assets.settings import load_settings

    try:
        with connect(load_settings(), autocommit=True) as conn:
            return pauses.at_work(conn)
    except (GeoAssetsError, psycopg.Error):
        return []


def env(
    reader: Annotated[
        bool, typer.Option("--reader", help="The read-only role: published tables, items, the ledger.")
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


def psql(context: typer.Context) -> None:
    """Open psql on the stack's database with the read-only role; accepts the arguments of psql."""
    from geo_assets.local.stack import Stack

    path, environment = Stack().psql(settings_of_running())
    # it becomes psql, with its terminal and its signals
    os.execve(path, [path, *context.args], environment)  # noqa: S606


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


def demo(as_json: JsonFlag = False) -> None:
    """Run the main job on the bundled data: real rasters and vectors, and two bad files. Starts the stack if it is not
    running.
    """
    from geo_assets.commands import demo as the_demo
    from geo_assets.ledger.models import JobStatus
    from geo_assets.local.stack import Stack
    from geo_assets.parameters import validate_parameters
    from geo_assets.submissions.submit import Submitter

    stack = Stack()
    settings = stack.up(log)
    count = the_demo.upload_demo(settings)
    log(f"uploaded {count} files to default/{the_demo.CONTAINER}; submitting ingest_container")
    with Submitter(settings) as submitter:
        submitted = submitter.submit(
            validate_parameters("ingest_container", {"container": the_demo.CONTAINER}), submitted_by="demo"
        )
        record = follow_job(submitter, submitted.job_id)
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
    if record.status is not JobStatus.COMPLETED_WITH_ERRORS or wrong:
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
        out.print(f"\nTwo of the files are bad on purpose: they are {BAD_INPUT} with a reason, and the rest goes on.")
    out.print("\nLook at it:")
    for tool, how in looks.items():
        out.print(f"  {tool:<18} {how}", markup=False, soft_wrap=True)
