"""Blobs that may be named by nobody: entered before they are uploaded and when they lose their name, and deleted from here alone.

Here: statements on `geo.loose_blobs`. Not here: which store they are in (`stages/leftovers.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import psycopg

from geo_assets.database.connections import DictConnection

#: Blobs that are locked at a time: an upload of one of them waits until all are deleted.
_BATCH = 50


def announce(conn: DictConnection, blobs: Sequence[str], run_id: str) -> None:
    """Say that these are about to be uploaded; waits while somebody deletes one of them."""
    conn.execute(
        """insert into geo.loose_blobs (blob, run_id) select unnest(%s::text[]), %s
           on conflict (blob) do update set since = now(), run_id = excluded.run_id""",
        (sorted(blobs), run_id),
    )


def sweep(
    conn: psycopg.Connection[Any],
    delete: Callable[[str], bool],
    *,
    grace: timedelta,
    only: Sequence[str] | None = None,
    limit: int = 1000,
) -> int:
    """Delete what nobody names; returns how many.

    Args:
        conn: not in a transaction; of tuples.
        delete: deletes a blob; false where it could not: it is tried again another time.
        grace: how long a blob may be without a name.
        only: of these, and not where a run is about to upload one; then without grace.
        limit: most that are looked at.
    """
    seen, deleted, after = 0, 0, ""
    while seen < limit:
        with conn.transaction():
            rows = conn.execute(
                """select blob, geo.is_named(blob) from geo.loose_blobs
                    where blob > %(after)s and case when %(only)s::text[] is null then since <= now() - %(grace)s
                                                    else blob = any(%(only)s) and run_id is null end
                    order by blob limit %(batch)s for update skip locked""",
                {"after": after, "only": list(only) if only is not None else None, "grace": grace, "batch": _BATCH},
            ).fetchall()
            gone = [blob for blob, named in rows if not named and delete(blob)]
            settled = [*gone, *(blob for blob, named in rows if named)]
            conn.execute("delete from geo.loose_blobs where blob = any(%s)", (settled,))
        if not rows:
            break
        seen, deleted, after = seen + len(rows), deleted + len(gone), rows[-1][0]
    return deleted
