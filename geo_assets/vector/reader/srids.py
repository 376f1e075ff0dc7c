"""The SRID that geometries of a table name, as EWKT and EWKB do, and that of the layer.

Here: which one a layer has, by some of its geometries. Not here: reading it from a geometry (`placing.py`, `wkb.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

ANOTHER_SRID = "another SRID than the other rows"


def srid_of_most(srids: Iterable[int]) -> tuple[int, tuple[str, ...]]:
    """Return the SRID that most geometries of a sample name, 0 where most name none; and a note where others do not
    name it.

    Args:
        srids: of each geometry; 0 where it names none.
    """
    counts = Counter(srids)
    silent = counts.pop(0, 0)
    if not counts or counts.total() < silent:
        return 0, ()
    srid = counts.most_common(1)[0][0]
    note = f"its geometries that name no SRID were taken for EPSG:{srid}, which most name"
    return srid, (note,) if silent else ()
