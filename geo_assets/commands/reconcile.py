"""`geo-assets reconcile`: do containers, ledger, catalogue, tables and runs agree, and what does not is mended.

Here: arguments, progress, what is printed. Not here: what is compared (`stages/reconcile.py`) or mended
(`stages/repair.py`).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from geo_assets.commands.console import JsonFlag, log, out, print_json
from geo_assets.commands.shared import follow_job, open_submitter
from geo_assets.hints import runnable
from geo_assets.text import one_line

if TYPE_CHECKING:
    from geo_assets.settings import Settings
    from geo_assets.stages.reconcile import Reconciliation
    from geo_assets.stages.repair import Repaired

RECONCILE_EXAMPLE = (
    "Examples: `geo-assets reconcile`, `geo-assets reconcile --collection landing --deep`,"
    " `geo-assets reconcile --repair`"
)


def reconcile(
    collection: Annotated[
        str | None, typer.Option("--collection", help="Only what jobs made that name this collection.")
    ] = None,
    deep: Annotated[bool, typer.Option("--deep", help="Also read every COG, and compare its SHA-256.")] = False,
    repair: Annotated[
        bool, typer.Option("--repair", help="Mend what can be mended, wait for it, then compare again.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Compare what containers hold, the ledger says, the catalogue and the tables show and Dagster runs. Exit code 1 if
    something disagrees that must not; each difference has a line.

    Others may go on working meanwhile: what a job has not finished is no difference.
    """
    from geo_assets.settings import load_settings
    from geo_assets.stages.reconcile import collections_asked

    settings = load_settings()
    collections_asked(settings, collection)
    compare = partial(_compare, settings, collection, deep=deep)
    done = _repaired(settings, compare) if repair else None
    found = done.after if done else compare()
    if as_json:
        print_json((done or found).report().model_dump(mode="json", by_alias=True))
    else:
        if done:
            _show_steps(done)
        _show(found)
    if found.faults:
        raise typer.Exit(1)


def _compare(settings: Settings, collection: str | None, *, deep: bool) -> Reconciliation:
    from geo_assets.commands.progress import counting
    from geo_assets.stages.reconcile import collections_asked, count_published
    from geo_assets.stages.reconcile import reconcile as run

    asked = collections_asked(settings, collection)
    with counting("compared", count_published(settings, asked)) as tell:
        return run(settings, collections=None if collection is None else asked, deep=deep, tell=tell)


def _repaired(settings: Settings, compare: partial[Reconciliation]) -> Repaired:
    from geo_assets.receipts.newer import why_orphans_stay
    from geo_assets.stages.repair import Repair

    with open_submitter() as submitter:
        done = Repair(
            settings,
            submitter,
            compare=compare,
            follow=partial(follow_job, submitter),
            why_orphans_stay=partial(why_orphans_stay, settings),
        ).run()
        if submitter.warning:
            log(submitter.warning)
    return done


def _show(found: Reconciliation) -> None:
    for difference in found.differences:
        style = "red" if difference.kind.is_fault else "yellow"
        out.print(one_line(str(difference)), style=style, markup=False, soft_wrap=True)
        out.print(f"  → {runnable(one_line(difference.remedy))}", markup=False, soft_wrap=True)
    faults, others = _counted(found, faults=True), _counted(found, faults=False)
    told = f"faults: {len(found.faults):,} ({faults})" if faults else "no fault"
    told += f"; differences that are no faults: {others}" if others else ""
    out.print(told if found.differences else "all agrees", markup=False, soft_wrap=True)


def _counted(found: Reconciliation, *, faults: bool) -> str:
    counts = [(kind, count) for kind, count in found.counts.items() if count and kind.is_fault is faults]
    return ", ".join(f"{count:,} {kind}" for kind, count in counts)


def _show_steps(done: Repaired) -> None:
    for said, style, steps in (("mended", "green", done.done), ("left alone", "yellow", done.left)):
        for step in steps:
            line = runnable(one_line(f"{said}: {step.kind}: {step.what}: {step.said}"))
            out.print(line, style=style, markup=False, soft_wrap=True)
