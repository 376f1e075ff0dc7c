"""`geo-assets receipt`, `verify` and `rebuild`: the account of a job, whether it still holds, and a lost database made
again from it.

Here: arguments, progress, what is printed. Not here: what is compared or made (`receipts/`).
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from geo_assets.commands.console import JsonFlag, log, out, print_json
from geo_assets.commands.shared import JobId, open_submitter
from geo_assets.errors import GeoAssetsError
from geo_assets.hints import runnable
from geo_assets.text import how_many, human_bytes, one_line

if TYPE_CHECKING:
    from geo_assets.receipts.verify import Fault

RECEIPT_EXAMPLE = "Example: `geo-assets receipt 3fa9c1d2 > receipt.json`"
VERIFY_EXAMPLE = "Examples: `geo-assets verify 3fa9c1d2`, `geo-assets verify --collection landing --deep`"
REBUILD_EXAMPLE = "Example: `geo-assets rebuild --from default/cogs`"


def receipt(
    job_id: JobId,
    write: Annotated[bool, typer.Option("--write", help="Also write it beside the COGs now.")] = False,
    as_json: JsonFlag = False,  # noqa: ARG001 - it is always JSON
) -> None:
    """Print what a job did as one JSON document: its parameters, attempts and tasks, and the items that it has in the
    catalogue.

    The same document lies beside the COGs since the job ended.
    """
    from geo_assets.receipts.write import print_receipt, write_now
    from geo_assets.settings import load_settings

    settings = load_settings()
    with open_submitter() as submitter:
        record = submitter.jobs.find(job_id)
    if write:
        if not record.status.is_final:
            raise GeoAssetsError("STILL_AT_WORK", f"job {record.job_id[:12]} is {record.status}")
        log(f"written: {write_now(settings, record.job_id)}")
    for line in print_receipt(settings, record.job_id):
        sys.stdout.write(line)


def verify(
    job_id: Annotated[str | None, typer.Argument(metavar="JOB_ID", help="What this job has in the catalogue.")] = None,
    collection: Annotated[
        str | None, typer.Option("--collection", help="This collection, its tables, and those of other bands.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Everything.")] = False,
    deep: Annotated[
        bool, typer.Option("--deep", help="Also compare items with receipts and with the headers of COGs.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Verify that what was published is still as it was published: the bytes of every file, every item, the rows of
    every table, the account of tasks. Exit code 1 if something is not; each fault has a line.
    """
    from geo_assets.commands.progress import counting
    from geo_assets.receipts.verify import Scope, count
    from geo_assets.receipts.verify import verify as run
    from geo_assets.settings import load_settings

    if [job_id is not None, collection is not None, every].count(True) != 1:
        raise GeoAssetsError(
            "INVALID_PARAMETERS",
            "verify takes one of JOB_ID, --collection and --all",
            remedy="for example: geo-assets verify --all",
        )
    settings = load_settings()
    scope = Scope()
    if job_id is not None:
        with open_submitter() as submitter:
            scope = Scope(job_id=submitter.jobs.find(job_id).job_id)
    elif collection is not None:
        scope = Scope.of_collection(settings, collection)
    with counting("verified", count(settings, scope)) as tell:
        done = run(settings, scope, deep=deep, tell=tell)
    if as_json:
        print_json(done.model_dump(mode="json"))
    else:
        _show(done.faults)
        elsewhere = (
            f"; {how_many(done.superseded, 'item is', 'items are')} later jobs' now (superseded)"
            if done.superseded
            else ""
        )
        elsewhere += f"; {done.withdrawn:,} were withdrawn" if done.withdrawn else ""
        out.print(
            f"{'faults: ' + format(len(done.faults), ',') if done.faults else 'all is as it was published'}:"
            f" {how_many(done.items, 'item')}, {how_many(done.files, 'file')} ({human_bytes(done.bytes)}),"
            f" {how_many(done.tables, 'table')} of {how_many(done.jobs, 'job')}{elsewhere}",
            markup=False,
            soft_wrap=True,
        )
    if done.faults:
        raise typer.Exit(1)


def rebuild(
    place: Annotated[str, typer.Option("--from", metavar="ALIAS/CONTAINER", help="The container of the COGs.")],
    as_json: JsonFlag = False,
) -> None:
    """Make ledger and catalogue again from the receipts beside the COGs, after the database was lost. Exit code 1 if
    something could not be made again; each has a line.

    Tables are loaded again from their sources. May be repeated: what is there stays, and jobs of which this database
    knows all that their receipts tell are left alone.
    """
    from geo_assets.commands.progress import counting
    from geo_assets.receipts.rebuild import rebuild as run
    from geo_assets.settings import load_settings

    with counting("made again", None) as tell:
        done = run(load_settings(), place, tell=tell)
    if as_json:
        print_json(done.model_dump(mode="json"))
    else:
        _show(done.missing)
        alone = (
            f"; {how_many(done.left_alone, 'job was there and is', 'jobs were there and are')} left alone"
            if done.left_alone
            else ""
        )
        rest = (
            f"; of {how_many(done.incomplete, 'job')} something is missing: mend it and repeat"
            if done.incomplete
            else ""
        )
        out.print(
            f"made again: {how_many(done.jobs, 'job')}, {how_many(done.items, 'item')},"
            f" {how_many(done.tables, 'table')}{alone}{rest}",
            markup=False,
            soft_wrap=True,
        )
        out.print(f"to see that all is well: {runnable('geo-assets verify --all')}", markup=False, soft_wrap=True)
    if done.missing:
        raise typer.Exit(1)


def _show(faults: tuple[Fault, ...]) -> None:
    for fault in faults:
        out.print(one_line(str(fault)), style="red", markup=False, soft_wrap=True)
        out.print(f"  → {runnable(one_line(fault.remedy))}", markup=False, soft_wrap=True)
