"""The outputs of a task as text for people: where they are, and the warnings.

Here: sentences about outputs. Not here: what outputs are (`outcomes.py`), writing them (`stages/`), printing.
"""

from __future__ import annotations

from geo_assets.outcomes import Outputs, TableEntry
from geo_assets.text import how_many

#: Results named in one sentence.
_NAMED = 3

#: The words of `warnings` for what happened to features.
_REJECTED = ("feature was rejected", "features were rejected")
_REPAIRED = ("geometry was repaired", "geometries were repaired")


def results(outputs: Outputs) -> list[tuple[str, str]]:
    """(what, where) of each output of a file; of a task without files, its message."""
    made = [("COG", cog.cog) for cog in outputs.all_cogs]
    made += [("file", blob) for blob in outputs.all_files]
    made += [("table", told(table)) for table in outputs.all_tables]
    if made and outputs.stac_item:
        made.append(("item", outputs.stac_item))
    return made or [(key.replace("_", " "), str(value)) for key, value in outputs.stored().items() if key != "warnings"]


def told(table: TableEntry) -> str:
    """A table and its number of rows."""
    return f"{table.table} ({how_many(table.rows, 'row')})"


def sentence(outputs: Outputs) -> str:
    """The outputs in one line."""
    made = [f"{what} {where}" for what, where in results(outputs) if what != "item"]
    return ", ".join(made[:_NAMED]) + (f" and {len(made) - _NAMED} more" if len(made) > _NAMED else "")


def warnings(outputs: Outputs) -> list[str]:
    """The warnings of a good file: those of the engines, and about features that could not be kept as they are."""
    said = list(outputs.warnings)
    for table in outputs.all_tables:
        for counts, words, where in (
            (table.rejected, _REJECTED, f"; they are in {table.table}__rejects"),
            (table.repaired, _REPAIRED, ""),
        ):
            if counts:
                said.append(f"{table.table}: {how_many(sum(counts.values()), *words)}: {_reasons(counts)}{where}")
    return said


def _reasons(counts: dict[str, int]) -> str:
    told = [f"{reason} ({count:,})" for reason, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]
    return ", ".join(told[:_NAMED]) + (f" and {len(told) - _NAMED} more reasons" if len(told) > _NAMED else "")
