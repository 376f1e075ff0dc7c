"""The command that the benchmark of the catalogue compares with `pypgstac load`: items are registered as a job does it.

Here: reading them, batches under the job's lease, each in one commit with the account of its tasks. Not here: measuring
(`stac.py`).

    python -m benchmarks.registration FILE COLLECTION JOB_ID BATCH [--validate] [--account]

It imports no more than it needs, and reads lines as `pypgstac` does. A job pays for neither: it is a fork of a process
that has everything, and builds its items.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import orjson

from geo_assets.database.connections import KeptConnection
from geo_assets.file_stages import COGS
from geo_assets.ledger.lease import assert_lease
from geo_assets.ledger.ledger import Ledger
from geo_assets.outcomes import Outputs
from geo_assets.settings import Settings
from geo_assets.stac.pgstac import load_items
from geo_assets.stac.validation import validated
from geo_assets.text import batched


def register(file: Path, collection: str, job_id: str, size: int, *, validate: bool, account: bool) -> None:
    """Read items and register them as the stage does; the run of the job is named as the collection."""
    settings = Settings()
    with Ledger(settings) as ledger, KeptConnection(settings) as kept, file.open("rb") as lines:
        for batch in batched(map(orjson.loads, lines), size):
            made = [validated(item) for item in batch] if validate else list(batch)
            publish = partial(
                ledger.published.publish_many,
                job_id=job_id,
                run_id=collection,
                done=[(COGS, item["id"], Outputs(stac_item=f"{collection}/{item['id']}")) for item in made],
                contents={f"{collection}/{item['id']}": "content" for item in made},
            )
            load_items(
                settings,
                collection,
                made,
                guard=partial(assert_lease, job_id=job_id, run_id=collection),
                record=publish if account else _nothing,
                kept=kept,
            )


def _nothing(conn: object) -> None:
    """Record nothing."""


if __name__ == "__main__":
    register(
        Path(sys.argv[1]),
        *sys.argv[2:4],
        int(sys.argv[4]),
        validate="--validate" in sys.argv,
        account="--account" in sys.argv,
    )
