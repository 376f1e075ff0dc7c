"""`geo-assets reference`: settings, parameters and error codes of this installation as Markdown.

Here: the command. Not here: the pages (`reference_pages.py`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from geo_assets.commands.console import out


def reference(
    out_folder: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the pages are written.")] = Path(),
) -> None:
    """Write every setting, parameter and error code as Markdown, with those that other distributions add."""
    from geo_assets.commands.reference_pages import pages

    out_folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (out_folder / name).write_text(text, encoding="utf-8")
        out.print(str(out_folder / name), markup=False, soft_wrap=True)
