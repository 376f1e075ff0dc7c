"""`geo-assets collection …` and `geo-assets unpublish`: the collections of the catalogue, and withdrawing items.

Here: arguments, what is printed. Not here: what a collection says (`stac/collection.py`), statements
(`stac/pgstac.py`), withdrawing (`stages/unpublish.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from geo_assets.commands.console import JsonFlag, out, print_json, print_table, warn
from geo_assets.commands.shared import open_submitter
from geo_assets.errors import GeoAssetsError
from geo_assets.faults import faults
from geo_assets.text import how_many

if TYPE_CHECKING:
    from geo_assets.stac.collection import Described
    from geo_assets.stages.unpublish import Unpublished

collections = typer.Typer(no_args_is_help=True, help="The collections of the STAC catalogue.")

UNPUBLISH_EXAMPLE = "Example: `geo-assets unpublish --item landing/scan-0042-1f2e3d4c`"

_BY = "cli"

#: Field of a collection -> what the command line calls it.
_CALLED = {
    "id": "COLLECTION",
    "title": "--title",
    "description": "--description",
    "license": "--license",
    "providers": "--provider",
    "keywords": "--keyword",
}

Collection = Annotated[str, typer.Argument(metavar="COLLECTION", help="A collection's id.")]
Title = Annotated[str | None, typer.Option("--title", help="One line.")]
Description = Annotated[str | None, typer.Option("--description", help="As Markdown.")]
License = Annotated[str | None, typer.Option("--license", help="An SPDX identifier such as CC-BY-4.0, or other.")]
Providers = Annotated[
    list[str] | None, typer.Option("--provider", metavar="NAME (ROLE, …) URL", help="May be repeated.")
]
Keywords = Annotated[list[str] | None, typer.Option("--keyword", help="May be repeated.")]


@collections.command("list")
def collection_list(as_json: JsonFlag = False) -> None:
    """List the collections, each with the number of its items."""
    from geo_assets.settings import load_settings
    from geo_assets.stac.pgstac import list_collections

    found = list_collections(load_settings())
    if as_json:
        print_json([{**content, "items": count} for content, count in found])
        return
    print_table(
        ("collection", "items", "license", "title"),
        [(str(c["id"]), f"{count:,}", str(c.get("license", "")), str(c.get("title", ""))) for c, count in found],
    )


@collections.command("show")
def collection_show(collection: Collection) -> None:
    """Print a collection as JSON."""
    from geo_assets.settings import load_settings
    from geo_assets.stac.pgstac import read_collection

    print_json(read_collection(load_settings(), collection))


@collections.command("create")
def collection_create(
    collection: Annotated[str, typer.Argument(metavar="COLLECTION", help="Its id: a-z, 0-9, - and _.")],
    title: Title = None,
    description: Description = None,
    license_: License = None,
    provider: Providers = None,
    keyword: Keywords = None,
) -> None:
    """Create an empty collection and print it. A submission creates its own."""
    from geo_assets.settings import load_settings
    from geo_assets.stac.pgstac import create_collection

    said = _said(title, description, license_, provider, keyword, identity=collection)
    print_json(create_collection(load_settings(), collection, said))


@collections.command("update")
def collection_update(
    collection: Collection,
    title: Title = None,
    description: Description = None,
    license_: License = None,
    provider: Providers = None,
    keyword: Keywords = None,
) -> None:
    """Change what is said of a collection, renew its extents and summaries, and print it."""
    from geo_assets.settings import load_settings
    from geo_assets.stac.pgstac import refresh_collection

    said = _said(title, description, license_, provider, keyword)
    print_json(refresh_collection(load_settings(), collection, said))


@collections.command("delete")
def collection_delete(
    collection: Collection,
    cascade: Annotated[bool, typer.Option("--cascade", help="With its items, files and tables.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Delete a collection. Exit code 1 if something of it could not be deleted yet."""
    from geo_assets.receipts.write import AT_A_DOOR, write_due
    from geo_assets.settings import load_settings
    from geo_assets.stages.unpublish import remove_collection

    done = remove_collection(load_settings(), collection, cascade=cascade, by=_BY)
    write_due(load_settings(), seconds=AT_A_DOOR)
    _show(done, as_json=as_json)


def unpublish(
    job: Annotated[str | None, typer.Option("--job", help="What a job published and no later one replaced.")] = None,
    item: Annotated[str | None, typer.Option("--item", metavar="COLLECTION/ITEM", help="One item.")] = None,
    collection: Annotated[str | None, typer.Option("--collection", help="With all its items.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Withdraw items, then delete the files and tables that they led to. Exit code 1 if some are still there.

    May be repeated: what is withdrawn already stays so. The sources stay; the next submission publishes them again.
    """
    from geo_assets.receipts.write import AT_A_DOOR, write_due
    from geo_assets.settings import load_settings
    from geo_assets.stages.unpublish import unpublish_collection, unpublish_item, unpublish_job

    if [job, item, collection].count(None) != 2:
        raise GeoAssetsError(
            "INVALID_PARAMETERS",
            "unpublish takes one of --job, --item and --collection",
            remedy="for example: geo-assets unpublish --item COLLECTION/ITEM",
        )
    settings = load_settings()
    if job is not None:
        with open_submitter() as submitter:
            done = unpublish_job(settings, submitter.jobs, job, by=_BY)
    elif item is not None:
        done = unpublish_item(settings, item, by=_BY)
    else:
        done = unpublish_collection(settings, collection or "", by=_BY)
    write_due(settings, seconds=AT_A_DOOR)
    _show(done, as_json=as_json)


def _said(
    title: str | None,
    description: str | None,
    license_: str | None,
    providers: list[str] | None,
    keywords: list[str] | None,
    *,
    identity: str | None = None,
) -> Described:
    """What the options say; the id of a new collection is checked with them.

    Raises:
        GeoAssetsError: INVALID_PARAMETERS.
    """
    from pydantic import ValidationError

    from geo_assets.stac.collection import Described, NewCollection

    said: dict[str, Any] = {
        "title": title,
        "description": description,
        "license": license_,
        "providers": tuple(providers or ()),
        "keywords": tuple(keywords or ()),
    }
    try:
        return Described(**said) if identity is None else NewCollection(**said, id=identity).described()
    except ValidationError as error:
        remedy = "geo-assets collection update --help" if identity is None else "geo-assets collection create --help"
        raise GeoAssetsError("INVALID_PARAMETERS", "; ".join(faults(error, _CALLED)), remedy=remedy) from error


def _show(done: Unpublished, *, as_json: bool) -> None:
    if as_json:
        print_json(done.model_dump(mode="json"))
    else:
        deleted = "".join(f", the collection {name}" for name in done.collections)
        out.print(
            f"withdrawn: {how_many(done.items, 'item')}{deleted}; deleted: {how_many(done.files, 'file')},"
            f" {how_many(done.tables, 'table')}",
            markup=False,
            soft_wrap=True,
        )
        warn(done.left, before="left: ")
    if done.left:
        raise typer.Exit(1)
