"""`geo-assets upload`: files and folders into a container.

Here: arguments, progress, what is printed. Not here: containers and uploading (`storage/containers.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated

import typer

from geo_assets.commands.console import JsonFlag, err, out, print_json, warn
from geo_assets.errors import GeoAssetsError
from geo_assets.text import how_many, human_bytes

UPLOAD_EXAMPLE = "Example: `geo-assets upload scans/ survey.gpkg default/landing/2026`"


def upload(
    arguments: Annotated[
        list[str],
        typer.Argument(metavar="PATH… ALIAS/CONTAINER[/PREFIX]", help="Files or folders, then the destination."),
    ],
    as_json: JsonFlag = False,
) -> None:
    """Upload files or folders to a container, which is created if needed. Exit code 1 if any file was left out."""
    from geo_assets.settings import load_settings
    from geo_assets.storage.blobs import BlobRef
    from geo_assets.storage.containers import open_container
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
            f"{how_many(len(uploaded), 'file')}, {human_bytes(sum(n for _, _, n in uploaded))}, in"
            f" {str(target).rstrip('/')}",
            markup=False,
            soft_wrap=True,
        )
        for entry in refused:
            warn([f"{entry['message']}; {entry['remedy']}"], before="left out: ")
    if refused:
        raise typer.Exit(1)


def _refuse_doubles(sources: list[Path]) -> None:
    """Refuse two files that would become one blob: the second would silently replace the first."""
    from geo_assets.storage.uploads import files_of

    seen: dict[str, Path] = {}
    for source in sources:
        for file, relative, _ in files_of(source):
            if relative in seen:
                raise GeoAssetsError(
                    "INVALID_PARAMETERS",
                    f"{seen[relative]} and {file} would both become {relative}",
                    remedy="upload them one after the other, with different prefixes",
                )
            seen[relative] = file


def _with_progress(
    sources: list[Path], upload_one: Callable[[Path], Iterable[tuple[Path, str, int]]]
) -> list[tuple[Path, str, int]]:
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
