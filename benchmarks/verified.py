"""What `geo-assets verify --deep` costs, beside `sha256sum` of the same files.

Here: measuring on a job that has published. Not here: making one (`stack.py`), the report.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from benchmarks.raster import BIN
from benchmarks.with_server import Run, measure

#: Least bytes a CPU second, as a share of what `sha256sum` reads in one.
BUDGET = 0.8


def verified(job_id: str, files: Sequence[str], postmaster: int, rounds: int) -> dict[str, list[Run]]:
    """Verify a job and hash its files, in turns.

    Args:
        job_id: of the job.
        files: all that it published.
        postmaster: of its database, whose seconds count too.
        rounds: how often.
    """
    commands = {
        "sha256sum": ["sha256sum", *files],
        "geo-assets verify --deep": [str(BIN / "geo-assets"), "verify", job_id, "--deep", "--json"],
    }
    results: dict[str, list[Run]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            results[name].append(measure([command], os.environ, postmaster))
    return results
