"""`geo-assets backup` and `restore`.

Here: arguments, progress, what is printed. Not here: what is copied, and in which order (`backup/`).
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from geo_assets.commands.console import JsonFlag, log, out, print_json
from geo_assets.hints import program, program_alone
from geo_assets.text import how_many, human_bytes

if TYPE_CHECKING:
    from geo_assets.backup.folder import Manifest

BACKUP_EXAMPLE = (
    "Examples: `geo-assets backup /backups/monday`, `geo-assets backup /backups/monday --container default/landing`,"
    " `geo-assets backup /backups/monday --no-blobs --json`"
)
RESTORE_EXAMPLE = (
    "Example, in an empty home: `geo-assets up --database-only`, `geo-assets restore /backups/monday`, `geo-assets up`,"
    " `geo-assets reconcile`"
)

BlobsFlag = Annotated[
    bool, typer.Option("--blobs/--no-blobs", help="The files of COGs, thumbnails, tables and receipts, too.")
]


def backup(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that is empty, or not there yet.")],
    container: Annotated[
        list[str] | None, typer.Option("--container", help="Another one to copy, as ALIAS/CONTAINER; may be repeated.")
    ] = None,
    blobs: BlobsFlag = True,
    as_json: JsonFlag = False,
) -> None:
    """Back up the database as of one moment, and the files that it names. Others may go on working; meanwhile nothing
    that was replaced is deleted. Exit code 1 also if single files that it names are not there: the backup is made then,
    without them.
    """
    from geo_assets.backup.backup import back_up
    from geo_assets.commands.progress import counting
    from geo_assets.settings import load_settings

    began = time.monotonic()
    with counting("copied", None, in_bytes=True) as tell:
        made = back_up(load_settings(), folder.absolute(), containers=container or (), blobs=blobs, log=log, tell=tell)
    if as_json:
        print_json(
            {"folder": str(folder.absolute()), "seconds": round(time.monotonic() - began, 1), **made.model_dump()}
        )
    else:
        _show(folder, made)
    if made.missing:
        raise typer.Exit(1)


def _show(folder: Path, made: Manifest) -> None:
    out.print(
        f"{folder.absolute()}: the database ({human_bytes(made.database_bytes)}) and {how_many(made.blobs, 'blob')}"
        f" ({human_bytes(made.blob_bytes)}) of {', '.join(made.containers) or 'no container'}",
        markup=False,
        soft_wrap=True,
    )
    if made.left_out:
        out.print(f"left out: {how_many(made.left_out, 'file')} with a name that no store takes, see above")
    if made.missing:
        out.print(
            f"missing: {how_many(made.missing, 'file')} that the database names, see above; to make them again:"
            f" {program()} reconcile --repair, then another backup",
            style="red",
            markup=False,
            soft_wrap=True,
        )
    new = f"GEO_ASSETS_HOME=NEW_HOME {program_alone()}"
    out.print(
        f"to restore it, in an empty home: {new} up --database-only, then {new} restore"
        f" {shlex.quote(str(folder.absolute()))}",
        markup=False,
        soft_wrap=True,
    )


def restore(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of a backup.")],
    blobs: BlobsFlag = True,
    as_json: JsonFlag = False,
) -> None:
    """Restore a backup into a database that holds nothing. Start PostgreSQL alone before, and all of the stack after
    it. Repeating it after an interruption is harmless.
    """
    from geo_assets.backup.restore import restore as run
    from geo_assets.commands.progress import counting
    from geo_assets.settings import load_settings

    began = time.monotonic()
    with ExitStack() as bars:

        def tell(total: int) -> Callable[[int, int], None]:
            return bars.enter_context(counting("restored", total))

        made = run(load_settings(), folder.absolute(), blobs=blobs, log=log, tell=tell)
    if as_json:
        print_json(
            {"folder": str(folder.absolute()), "seconds": round(time.monotonic() - began, 1), **made.model_dump()}
        )
        return
    out.print(f"restored: the state of {made.made_at}, of release {made.release}", markup=False, soft_wrap=True)
    out.print(f"then: {program()} up, and {program()} reconcile", markup=False, soft_wrap=True)
