"""`geo-assets purge`: what is old enough goes.

Here: arguments, what is printed. Not here: what goes (`retention/`), the daily schedule (`defs/retention.py`).
"""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from geo_assets.commands.console import JsonFlag, log, out, print_json, print_table
from geo_assets.hints import program
from geo_assets.text import how_many, human_bytes

if TYPE_CHECKING:
    from geo_assets.retention.purge import Purged

PURGE_EXAMPLE = (
    "Examples: `geo-assets purge` (what would go), `geo-assets purge --yes`, `geo-assets purge runs logs"
    " --older-than 7 --yes`"
)


def purge(
    kinds: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KIND",
            help="runs, logs, contracts, messages, blobs, tables, steps, uploads, scratch, container_apps;"
            " all by default.",
        ),
    ] = None,
    older_than: Annotated[
        float | None,
        typer.Option(
            "--older-than", metavar="DAYS", help="For runs, logs, contracts, messages: not the settings' age."
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Delete it. Without this, nothing is changed.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Show what is old enough to be deleted, or delete it: runs in Dagster, logs, the bytes of messages, and what
    killed processes left.

    Jobs, their accounts and receipts, and what was published are kept; so is what Dagster tells of assets. Others may
    go on working. A schedule in Dagster does this once a day.
    """
    from geo_assets.retention.purge import purge as run
    from geo_assets.settings import load_settings

    done = run(
        load_settings(),
        kinds or [],
        older_than_days=older_than,
        dry_run=not yes,
        tell=lambda kind: log(f"{kind.name}: {kind.holds}"),
    )
    if as_json:
        print_json({"dry_run": not yes, "kinds": [_as_json(each) for each in done]})
        return
    print_table(("kind", "kept for", "gone" if yes else "would go", "size"), [_row(each) for each in done])
    total = sum(each.extent.count for each in done)
    if total and not yes:
        again = f"{program()} {shlex.join(sys.argv[1:])} --yes"
        out.print(f"nothing was changed; to delete it: {again}", markup=False, soft_wrap=True)


def _row(each: Purged) -> tuple[str, ...]:
    kept = "–" if each.days is None else how_many(round(each.days), "day")
    size = "–" if each.extent.bytes is None else human_bytes(each.extent.bytes)
    return each.kind.name, kept, f"{each.extent.count:,}", size


def _as_json(each: Purged) -> dict[str, object]:
    return {
        "kind": each.kind.name,
        "days": each.days,
        "count": each.extent.count,
        "bytes": each.extent.bytes,
    }
