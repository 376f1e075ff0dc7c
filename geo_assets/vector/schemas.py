"""Schemas of the two streams that a child sends for a layer: its features, and the features that were rejected.

Here: Arrow schemas made of a plan's columns. The parent takes a stream only if it has this schema to the letter.
Not here: the types of single columns (`types.py`), the framing of the streams (`ipc.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from geo_assets.vector.models import ColumnPlan
from geo_assets.vector.types import GEOMETRY_COLUMN, arrow_type

if TYPE_CHECKING:
    import pyarrow as pa

#: The columns of a rejected feature: wire types by name.
REJECT_COLUMNS = {"src_fid": "int64", "reason": "string", "geom_wkb": "binary", "attributes": "json"}


def wire_schema(columns: Sequence[ColumnPlan], *, geometry: bool = True) -> pa.Schema:
    """Return the schema of a layer's stream: the columns in order, then `geom`, plain WKB in a binary column."""
    import pyarrow as pa

    fields = [pa.field(column.name, arrow_type(column.arrow_type)) for column in columns]
    return pa.schema([*fields, pa.field(GEOMETRY_COLUMN, pa.binary())] if geometry else fields)


def reject_schema() -> pa.Schema:
    """Return the schema of the stream of rejected features."""
    import pyarrow as pa

    return pa.schema([pa.field(name, arrow_type(wire)) for name, wire in REJECT_COLUMNS.items()])
