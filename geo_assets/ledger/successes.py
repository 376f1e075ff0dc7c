"""Tasks that succeed, many in one statement.

Here: the statement, for the transaction of a caller: published outputs and the tasks that made them are one commit
(docs/decisions/0024-publication-is-one-commit.md). Not here: every other change of a task (`tasks.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from geo_assets.ledger.lease import assert_lease, lease_lost
from geo_assets.outcomes import Outputs


def succeed_many(
    conn: psycopg.Connection[Any] | psycopg.Cursor[Any],
    job_id: str,
    run_id: str,
    done: Sequence[tuple[str, str, Outputs]],
) -> None:
    """As `Tasks.succeed_many`, in the caller's transaction.

    Raises:
        GeoAssetsError: LEASE_LOST.
    """
    rows: dict[str, dict[str, Any]] = {}
    for stage, key, outputs in done:
        rows.setdefault(stage, {})[key] = outputs.stored()
    assert_lease(conn, job_id, run_id)
    changed = conn.execute(  # one value: a planner without statistics compares each row with every other
        """update geo.tasks set status = 'succeeded',
                  outputs = outputs || (%(rows)s::jsonb #> array[stage, task_key]),
                  started_at = coalesce(started_at, now()), finished_at = now()
            where job_id = %(job)s and run_id = %(run)s and task_key = any(%(keys)s)
              and %(rows)s::jsonb #> array[stage, task_key] is not null""",
        {"rows": Jsonb(rows), "job": job_id, "run": run_id, "keys": [key for _, key, _ in done]},
    ).rowcount
    if changed != len(done):
        raise lease_lost(job_id, run_id)
