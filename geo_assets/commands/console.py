"""What every command prints with: two consoles, the `--json` flag, one line of text, human sizes.

Here: presentation alone. Not here: commands.

Standard output carries the result alone; progress and logs go to standard error.
"""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer
from rich.console import Console

out = Console(highlight=False, width=None if sys.stdout.isatty() else 200)
err = Console(stderr=True, highlight=False)

JsonFlag = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]


def one_line(text: str) -> str:
    """Text without anything that moves the cursor."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def print_json(value: Any) -> None:
    """The one JSON document of a command."""
    print(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def human_bytes(count: float) -> str:
    """`12.3 MB`."""
    for unit in ("bytes", "KB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
