"""Output of every command: two consoles, the `--json` flag, tables.

Here: presentation alone. Not here: commands.

Standard output carries the result alone; progress and logs go to standard error.
"""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Console

from geo_assets.hints import runnable
from geo_assets.text import one_line

out = Console(highlight=False, width=None if sys.stdout.isatty() else 200)
err = Console(stderr=True, highlight=False)

JsonFlag = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]


class _Printed:
    json = False


def log(message: str) -> None:
    """Print progress, on standard error."""
    err.print(runnable(message), style="dim", markup=False, soft_wrap=True)


def warn(messages: Iterable[str], before: str = "warning: ") -> None:
    """Print warnings, a line each, on standard error."""
    for message in messages:
        err.print(f"{before}{one_line(message)}", style="yellow", markup=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """The one JSON document of a command."""
    _Printed.json = True
    print(json.dumps(value, indent=2, ensure_ascii=False, default=_plain))


def print_json_list(values: Iterable[Any]) -> None:
    """As `print_json`, of a list that is never held whole."""
    _Printed.json = True
    between = "[\n"
    for value in values:
        one = json.dumps(value, indent=2, ensure_ascii=False, default=_plain)
        print(between + textwrap.indent(one, "  "), end="")
        between = ",\n"
    print("[]" if between == "[\n" else "\n]")


def print_json_line(value: Any) -> None:
    """One of several JSON documents of a command, each on a line of its own, at once."""
    _Printed.json = True
    print(json.dumps(value, ensure_ascii=False, default=_plain), flush=True)


def _plain(value: Any) -> str:
    """What JSON has no word for; times are UTC, whoever looks."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return str(value)


def write_json(pieces: Iterable[bytes]) -> None:
    """As `print_json`, of a document that is made in pieces of UTF-8."""
    _Printed.json = True
    sys.stdout.flush()
    for piece in pieces:
        sys.stdout.buffer.write(piece)


def print_json_error(error: dict[str, Any]) -> None:
    """The JSON document of a command that fails, unless it has printed its own."""
    if "--json" in sys.argv and not _Printed.json:
        print_json({"error": error})


def print_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns as wide as their longest cell: a terminal that is narrower wraps lines, and no cell is cut."""
    for index, line in enumerate(table_lines(heads, rows)):
        out.print(line, style="bold" if index == 0 else None, markup=False, soft_wrap=True)


def table_lines(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table as lines, its heads first."""
    rows = [[cell if cell.isprintable() else one_line(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in [heads, *rows]) + 2 for i in range(len(heads))]
    return [
        "".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in [heads, *rows]
    ]
