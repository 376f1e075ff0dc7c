"""Outcomes of tasks, for tests that are about something else."""

from geo_assets.outcomes import TableEntry


def table(name: str, rows: int, **more) -> TableEntry:
    """The entry of a table with these rows, all of which were loaded."""
    counts = {"features": rows, "loaded": rows, "filtered": 0, "rejected": {}, "repaired": {}}
    return TableEntry(table=name, rows=rows, **{**counts, **more})
