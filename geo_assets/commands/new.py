"""`geo-assets new stage`: a package with a job type and a stage of one's own.

Here: copying the template (`templates/stage/`) under the names of the stage. Not here: what such a package is
(docs/extend.md).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from geo_assets.commands.console import out
from geo_assets.errors import GeoAssetsError

NEW_EXAMPLE = """Example:

`geo-assets new stage histogram`

What to do then: docs/extend.md"""

app = typer.Typer(no_args_is_help=True, help="Make a package that extends geo-assets.", epilog=NEW_EXAMPLE)


@app.callback()
def _new() -> None:
    """Make a package that extends geo-assets."""


@app.command(epilog=NEW_EXAMPLE)
def stage(
    name: Annotated[str, typer.Argument(help="of the job type and its stage: 3 to 40 of a-z, 0-9 and _")],
    out_folder: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Where the folder of the package is made.")
    ] = Path(),
) -> None:
    """Write a package with a job type and a stage: parameters, an engine for the sandbox, settings, errors, tests."""
    from geo_assets.file_stages import FILE_STAGES, NAME, RESERVED
    from geo_assets.parameters import JOB_TYPES

    if not NAME.fullmatch(name) or name in {*RESERVED, *FILE_STAGES.own, *JOB_TYPES.own}:
        raise GeoAssetsError(
            "INVALID_PARAMETERS",
            f"{name[:60]!r} cannot be the name of a stage",
            remedy="choose 3 to 40 of a-z, 0-9 and _, beginning with a letter; names of stages and job types are taken",
        )
    folder = out_folder / f"geo-assets-{name.replace('_', '-')}"
    if folder.exists():
        raise GeoAssetsError(
            "INVALID_PARAMETERS", f"{folder} is there already", remedy="remove it, or name another --out"
        )
    for path in write_package(name, folder):
        out.print(str(path), markup=False, soft_wrap=True)


def write_package(name: str, folder: Path) -> list[Path]:
    """Write the template under the names of a stage; returns its files."""
    from geo_assets.home import project_file

    template = project_file("templates") / "stage"
    words = {
        "stage_name": name,
        "stage-name": name.replace("_", "-"),
        "StageName": "".join(word.capitalize() for word in name.split("_")),
        "STAGE_NAME": name.upper(),
    }
    made = []
    for source in sorted(template.rglob("*")):
        if source.is_dir() or "__pycache__" in source.parts:
            continue
        path = folder / _named(str(source.relative_to(template)), words)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_named(source.read_text(encoding="utf-8"), words), encoding="utf-8")
        made.append(path)
    return made


def _named(text: str, words: dict[str, str]) -> str:
    for word, instead in words.items():
        text = text.replace(word, instead)
    return text
