"""The pages of measurements: below each table a chart of it, and one page that leads to all.

Here: finding the tables of a page and what to draw of them. Not here: drawing (`drawing.py`), measuring.

    python -m benchmarks.pages         # draws the charts of the pages that are there again, and writes the first page
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.drawing import write_bars
from benchmarks.measure import machine

PAGES = Path("docs/benchmarks")
CHARTS = "charts"
FIRST = "README.md"

#: The columns that are drawn, the first that a table has; several beside each other, where a table compares in a row.
_DRAWN = (
    ("ours, median", "bare, median"),
    ("wall s",),
    ("CPU, s",),
    ("ms a file",),
    ("seconds",),
    ("median, s",),
    ("s",),
    ("median between two pictures",),
)

_FIGURE = re.compile(r"-?[\d,]*\.?\d+")

#: The line of a chart, which is written again.
_SHOWN = re.compile(r"\n!\[[^\]]*\]\(charts/[^)]*\)\n")


@dataclass(frozen=True, slots=True)
class Table:
    """A table of a page: the heading that it is below, its columns, its rows, and where it ends in the page's lines."""

    heading: str
    columns: list[str]
    rows: list[list[str]]
    end: int

    def drawn(self) -> tuple[str, ...]:
        """The columns that are drawn of it; none where it is no table of times."""
        return next((columns for columns in _DRAWN if set(columns) <= set(self.columns)), ())


def publish(page: Path, text: str) -> None:
    """Write a page, with a chart below each of its tables of times."""
    lines = _SHOWN.sub("", text).splitlines()
    charts = page.parent / CHARTS
    for old in charts.glob(f"{page.stem}-*.svg"):
        old.unlink()
    found = [table for table in tables(lines) if table.drawn() and len(table.rows) > 1]
    for number, table in reversed(list(enumerate(found, start=1))):
        charts.mkdir(exist_ok=True)
        name = f"{page.stem}-{number}.svg"
        draw(table, charts / name)
        lines[table.end : table.end] = ["", f"![{table.heading}, {' and '.join(table.drawn())}]({CHARTS}/{name})"]
    page.write_text("\n".join(lines) + "\n", encoding="utf-8")


def draw(table: Table, place: Path) -> None:
    """Draw the chart of a table; what is no number in it is left out. Rows of one name are told by the next column."""
    columns, several = table.drawn(), len({row[0] for row in table.rows}) < len(table.rows)
    rows = [
        (
            f"{row[0]}, {row[1]} {table.columns[1]}" if several else row[0],
            [_number(row[table.columns.index(column)]) for column in columns],
        )
        for row in table.rows
    ]
    kept = [(name, [value for value in values if value is not None]) for name, values in rows if None not in values]
    names, values = [name for name, _ in kept], [each for _, each in kept]
    write_bars(place, f"{table.heading}: {', '.join(columns)}", names, columns, values)


def tables(lines: list[str]) -> Iterator[Table]:
    """The tables of a page of Markdown."""
    heading, begin = "", None
    for number, line in enumerate([*lines, ""]):
        if line.startswith("|"):
            begin = number if begin is None else begin
            continue
        if begin is not None and number - begin > 2:  # more than the two lines of its head
            rows = [_cells(each) for each in lines[begin:number]]
            yield Table(heading, rows[0], rows[2:], number)
        begin = None
        heading = line.lstrip("# ") if line.startswith("#") else heading


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")] if line.strip() != "|" else []


def _number(cell: str) -> float | None:
    found = _FIGURE.match(cell)
    return float(found[0].replace(",", "")) if found else None


def write_first(folder: Path, where: str = "") -> None:
    """Write the page that leads to all others: the title and the first chart of each.

    Args:
        folder: of the pages.
        where: the machine on which all of them were measured together; empty where each was for itself.
    """
    parts = [
        "# Measured",
        (
            "Each page is written by its benchmark, and says on which machine and beside which load it was measured;"
            " ratios are to the peer in the same run, on the same bytes. `make bench` runs all of them, which takes"
            " some hours, and `make bench-gate` looks in some minutes whether we are still ahead of the peers."
        ),
        *([f"All of these were measured in one go: {where}."] if where else []),
    ]
    for page in sorted(folder.glob("*.md")):
        if page.name != FIRST:
            text = page.read_text(encoding="utf-8")
            chart = re.search(r"!\[[^\]]*\]\(charts/[^)]*\)", text)
            parts += [f"## [{text.splitlines()[0].lstrip('# ')}]({page.name})", *([chart[0]] if chart else [])]
    (folder / FIRST).write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def main() -> None:
    """Draw the charts of all pages again."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--together", action="store_true", help="say that all pages were measured on this machine now")
    together = parser.parse_args().together
    for page in sorted(PAGES.glob("*.md")):
        if page.name != FIRST:
            publish(page, page.read_text(encoding="utf-8"))
    write_first(PAGES, machine() if together else "")
    print(f"{len(list((PAGES / CHARTS).glob('*.svg')))} charts", file=sys.stderr)


if __name__ == "__main__":
    main()
