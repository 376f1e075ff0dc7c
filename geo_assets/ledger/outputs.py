"""What a task put out, as people want to know it: where it went, and what is worth knowing of it.

Here: reading `TaskRecord.outputs`. Not here: writing them (`stages/`), printing.
"""

from __future__ import annotations

from typing import Any

#: Results named in one sentence.
_NAMED = 3

#: What became of features, as `warnings` puts it.
_FATES = {
    "rejected": ("1 feature was rejected", "{:,} features were rejected"),
    "repaired": ("1 geometry was repaired", "{:,} geometries were repaired"),
}


def cogs_of(outputs: dict[str, Any]) -> list[dict[str, Any]]:
    """The COGs that a task put out: `{cog, sha256, thumbnail}` each, and a name where its source holds several."""
    return list(outputs.get("cogs") or ([outputs] if "cog" in outputs else []))


def results(outputs: dict[str, Any]) -> list[tuple[str, str]]:
    """(what, where) of everything that was made of a file; of a task without files, what it says."""
    made = [("COG", str(cog["cog"])) for cog in cogs_of(outputs)]
    made += [("table", f"{table['table']} ({table['rows']:,} rows)") for table in outputs.get("tables", [])]
    if made and "stac_item" in outputs:
        made.append(("item", str(outputs["stac_item"])))
    return made or [(key.replace("_", " "), str(value)) for key, value in outputs.items() if key != "warnings"]


def sentence(outputs: dict[str, Any]) -> str:
    """What was made, in one line."""
    made = [f"{what} {where}" for what, where in results(outputs) if what != "item"]
    return ", ".join(made[:_NAMED]) + (f" and {len(made) - _NAMED} more" if len(made) > _NAMED else "")


def warnings(outputs: dict[str, Any]) -> list[str]:
    """What is worth knowing of a file that is good: what the engines said, and what became of features that could not
    be kept as they are.
    """
    said = [str(warning) for warning in outputs.get("warnings", [])]
    for table in outputs.get("tables", []):
        for fate, (of_one, of_several) in _FATES.items():
            if counts := table.get(fate):
                total = sum(counts.values())
                told = of_one if total == 1 else of_several.format(total)
                where = f"; they are in {table['table']}__rejects" if fate == "rejected" else ""
                said.append(f"{table['table']}: {told}: {_reasons(counts)}{where}")
    return said


def _reasons(counts: dict[str, int]) -> str:
    told = [f"{reason} ({count:,})" for reason, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]
    return ", ".join(told[:_NAMED]) + (f" and {len(told) - _NAMED} more reasons" if len(told) > _NAMED else "")
