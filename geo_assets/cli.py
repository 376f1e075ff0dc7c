"""`geo-assets …`: a thin layer over the package.

Here: the app, which module has which command, and what happens on an error. Not here: the commands (`commands/`),
anything that decides.

Standard output carries the result alone (with `--json`, one JSON document); progress and logs go to standard error.
An error is one line and a hint; a traceback only with `--debug`.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from typing import Annotated, NoReturn

import typer
from typer.main import get_command_name
from typer.models import CommandInfo

from geo_assets import __version__
from geo_assets.commands import (
    alerts,
    api,
    backup,
    catalogue,
    containers,
    database,
    export,
    jobs,
    messages,
    new,
    pause,
    purge,
    raster,
    receipts,
    reconcile,
    reference,
    serving,
    stack,
    submissions,
    top,
    vector,
    worker,
)
from geo_assets.commands.failures import INTERRUPTED, as_ours, die, refuse_usage
from geo_assets.commands.times import shows_times
from geo_assets.errors import GeoAssetsError

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
        "Start with: `geo-assets demo`. Then `geo-assets upload FOLDER default/landing` and `geo-assets submit"
        " ingest_container --param container=landing --wait`."
    ),
)


class _State:
    debug = False
    ended_by = 0  # the signal that asked this process to end


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


# In the order in which help lists them.
app.command()(stack.up)
app.command()(stack.down)
app.command()(stack.env)
app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(stack.psql)
app.command()(stack.doctor)
app.command()(stack.demo)
app.command(epilog=containers.UPLOAD_EXAMPLE)(containers.upload)
app.command(epilog=submissions.SUBMIT_EXAMPLES)(shows_times(submissions.submit))
app.command()(submissions.job_types)
app.command()(reference.reference)
app.command()(shows_times(jobs.jobs))
app.command()(shows_times(jobs.job))
app.command(epilog=jobs.WATCH_EXAMPLE)(shows_times(jobs.watch))
app.command(epilog=top.TOP_EXAMPLE)(top.top)
app.command()(jobs.tasks)
app.command(epilog=jobs.FILES_EXAMPLE)(jobs.files)
app.command(epilog=jobs.DELTA_EXAMPLE)(jobs.delta)
app.command()(submissions.plan)
app.command()(shows_times(jobs.cancel))
app.command()(shows_times(jobs.retry))
app.command(epilog=export.EXPORT_EXAMPLE)(export.export)
catalogue.collections.command(epilog=export.EXPORT_EXAMPLE)(export.export)
app.command(epilog=receipts.RECEIPT_EXAMPLE)(receipts.receipt)
app.command(epilog=receipts.VERIFY_EXAMPLE)(receipts.verify)
app.command(epilog=reconcile.RECONCILE_EXAMPLE)(reconcile.reconcile)
app.command(epilog=receipts.REBUILD_EXAMPLE)(receipts.rebuild)
app.command(epilog=backup.BACKUP_EXAMPLE)(backup.backup)
app.command(epilog=backup.RESTORE_EXAMPLE)(backup.restore)
app.command(epilog=purge.PURGE_EXAMPLE)(purge.purge)
app.command(epilog=catalogue.UNPUBLISH_EXAMPLE)(catalogue.unpublish)
app.command(epilog=vector.LOAD_EXAMPLE)(vector.load)
app.command(epilog=alerts.ALERT_EXAMPLE)(shows_times(alerts.alert))
app.command()(api.api)
app.command(epilog=serving.SERVE_EXAMPLE)(serving.serve)
app.command(epilog=database.MIGRATE_EXAMPLE)(database.migrate)
app.command(epilog=pause.PAUSE_EXAMPLE)(shows_times(pause.pause))
app.command()(pause.resume)
app.command(epilog=worker.WORKER_EXAMPLE)(worker.worker)
app.add_typer(raster.app, name="cog")
app.add_typer(catalogue.collections, name="collection")
app.add_typer(messages.app, name="poison")
app.add_typer(new.app, name="new")
app.add_typer(vector.app, name="vector")
app.add_typer(api.tokens, name="token")


def main() -> None:
    """The entry point: runs the command; turns errors into one line, a hint and an exit code."""
    for ending in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(ending) is signal.SIG_DFL:  # what is under way is undone, as by Ctrl-C
            signal.signal(ending, _end)
    try:
        _run()
    except BaseException:
        if _State.ended_by:  # whatever broke on the way out: it was the signal
            sys.exit(128 + _State.ended_by)
        raise


def _forget_the_others(words: Sequence[str]) -> None:
    """Keep the command that a command line names, if it names one: to build them all takes as long as a small file.

    Args:
        words: what follows the program's name.
    """
    asked = next((word for word in words if word != "--debug"), None)  # any other option is not about one command
    commands = [each for each in app.registered_commands if asked == _name_of(each)]
    groups = [each for each in app.registered_groups if asked == each.name]
    if commands or groups:
        app.registered_commands, app.registered_groups = commands, groups


def _name_of(command: CommandInfo) -> str:
    return command.name or get_command_name(command.callback.__name__ if command.callback else "")


def _run() -> NoReturn:
    _forget_the_others(sys.argv[1:])
    try:
        code = app(standalone_mode=False, prog_name="geo-assets")
    except BrokenPipeError:
        sys.exit(0)
    except Exception as error:
        if hasattr(error, "format_message"):  # of the parser of the command line
            refuse_usage(error)
        if _State.debug or _State.ended_by:
            raise
        die(error if isinstance(error, GeoAssetsError) else as_ours(error))
    if code == INTERRUPTED:
        die(GeoAssetsError("INTERRUPTED", "interrupted by Ctrl-C"), code=code)
    sys.exit(code if isinstance(code, int) else 0)


def _end(number: int, _: object) -> NoReturn:
    signal.signal(number, signal.SIG_IGN)  # asked once is enough
    _State.ended_by = number
    sys.exit(128 + number)


if __name__ == "__main__":
    main()
