"""`geo-assets export`: a collection as a static catalogue, with its data.

Here: arguments, progress, what is printed. Not here: what is exported (`stages/export.py`).
"""

from __future__ import annotations

from typing import Annotated

import typer

from geo_assets.commands.console import JsonFlag, err, out, print_json, warn
from geo_assets.errors import GeoAssetsError
from geo_assets.hints import runnable
from geo_assets.text import how_many, human_bytes

EXPORT_EXAMPLE = "Example: `geo-assets export landing /media/disk/landing`"


def export(
    collection: Annotated[str, typer.Argument(metavar="COLLECTION", help="A collection's id.")],
    to: Annotated[str, typer.Argument(metavar="FOLDER|ALIAS/CONTAINER[/PATH]", help="Must be empty, or is made.")],
    alone: Annotated[bool, typer.Option("--alone", help="This collection and no other.")] = False,
    copy: Annotated[bool, typer.Option("--copy", help="Copy files, and compare their hashes (default).")] = False,
    link: Annotated[bool, typer.Option("--link", help="Hard links to files, where possible.")] = False,
    no_data: Annotated[bool, typer.Option("--no-data", help="Leave files and tables where they are.")] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="End with an error, and leave nothing, if a file would be left out.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Write a static STAC catalogue that opens without a network: items, COGs, tables as GeoParquet, a map.

    What else the same submissions published, such as COLLECTION-vector with their tables, comes along. A file that is
    gone, or is not the one that was published, is left out and named on standard error: its item is there without it.
    """
    from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from geo_assets.settings import load_settings
    from geo_assets.stages.export import Data
    from geo_assets.stages.export import export as export_collections

    if [copy, link, no_data].count(True) > 1:
        raise GeoAssetsError(
            "INVALID_PARAMETERS", "--copy, --link and --no-data exclude each other", remedy="give one of them, or none"
        )
    data = Data.LINK if link else Data.NONE if no_data else Data.COPY
    columns = (SpinnerColumn(), TextColumn("exporting"), MofNCompleteColumn(), TextColumn("items"), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True) as progress:
        bar = progress.add_task("export", total=None)
        made = export_collections(
            load_settings(),
            collection,
            to,
            alone=alone,
            data=data,
            strict=strict,
            told=lambda _: progress.advance(bar),
        )
    for left in made.left_out:
        warn([str(left)], before="left out: ")
        warn([runnable(left.remedy)], before="  → ")
    if as_json:
        print_json(made.model_dump(mode="json"))
        return
    held = ", ".join(f"{how_many(count, 'item')} of {name}" for name, count in made.collections.items())
    left_out = f"; left out: {len(made.left_out):,}" if made.left_out else ""
    out.print(
        f"{held}: {how_many(made.files, 'file')}, {human_bytes(made.bytes)}, in {made.to}{left_out}",
        markup=False,
        soft_wrap=True,
    )
