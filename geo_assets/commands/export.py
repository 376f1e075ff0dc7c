"""`geo-assets export`: a collection as a static catalogue, with its data.

Here: arguments, progress, what is printed. Not here: what is exported (`stages/export.py`).
"""

from __future__ import annotations

from typing import Annotated

import typer

from geo_assets.commands.console import JsonFlag, err, human_bytes, out, print_json
from geo_assets.errors import GeoAssetsError

EXPORT_EXAMPLE = "Example: `geo-assets export landing /media/disk/landing`"


def export(
    collection: Annotated[str, typer.Argument(metavar="COLLECTION", help="A collection's id.")],
    to: Annotated[str, typer.Argument(metavar="FOLDER|ALIAS/CONTAINER[/PATH]", help="Must be empty, or is made.")],
    alone: Annotated[bool, typer.Option("--alone", help="This collection and no other.")] = False,
    copy: Annotated[bool, typer.Option("--copy", help="Copy files, and compare their hashes (default).")] = False,
    link: Annotated[bool, typer.Option("--link", help="Hard links to files, where possible.")] = False,
    no_data: Annotated[bool, typer.Option("--no-data", help="Leave files and tables where they are.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Write a static STAC catalogue that opens without a network: items, COGs, tables as GeoParquet, a map.

    What else the same submissions published, such as COLLECTION-vector with their tables, comes along.
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
            load_settings(), collection, to, alone=alone, data=data, told=lambda _: progress.advance(bar)
        )
    if as_json:
        print_json(made.model_dump(mode="json"))
        return
    held = ", ".join(f"{count:,} items of {name}" for name, count in made.collections.items())
    out.print(f"{held}: {made.files:,} files, {human_bytes(made.bytes)}, in {made.to}", markup=False, soft_wrap=True)
