"""When will it have ended? What jobs say of themselves while they run, against when they did end: `make bench-eta`.

Here: a stack, mixed containers, jobs that are looked at while they run, the report. Not here: the estimate
(`geo_assets/ledger/estimates.py`).

    make bench-eta                                          # about ten minutes
    python -m benchmarks.eta --large 0.1 --rounds 1         # a look; writes no report

Each container has one large raster and many small ones. The first job meets a machine of which nothing was measured.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from benchmarks.many import write_rasters
from benchmarks.measure import exit_if_missed, machine
from benchmarks.mixed import write_large
from benchmarks.pages import publish
from benchmarks.stack import stack, told
from geo_assets.ledger.ledger import Ledger
from geo_assets.ledger.models import JobRecord
from geo_assets.settings import load_settings

#: What is wanted: the relative error at half time, in the median of the jobs.
MOST = 0.25

#: Shares of the way at which the report says how wrong it was.
_AT = (0.1, 0.25, 0.5, 0.75, 0.9)

#: Seconds between two looks.
_EVERY = 0.5

#: Gigabytes of the large raster (times `--large`), and how many small ones there are.
_CONTAINERS = ((1.0, 200), (0.4, 600), (2.0, 60), (1.0, 400), (0.6, 100))


@dataclass(frozen=True, slots=True)
class Look:
    """What a job said at a time: seconds since its run began, and until its end."""

    at: float
    remaining: float
    low: float
    high: float


@dataclass(slots=True)
class Watched:
    """A job, and what it said."""

    name: str
    looks: list[Look] = field(default_factory=list)
    seconds: float = 0.0

    def error(self, part: float) -> float:
        """How wrong it was at a part of its way, of what was left."""
        look = min(self.looks, key=lambda look: abs(look.at - part * self.seconds))
        return abs(look.remaining - (self.seconds - look.at)) / (self.seconds - look.at)

    @property
    def inside(self) -> float:
        """The share of looks at which the end was within what it said."""
        return sum(look.low <= self.seconds - look.at <= look.high for look in self.looks) / len(self.looks)

    def row(self) -> str:
        """Of the report."""
        errors = " | ".join(f"{self.error(part):.0%}" for part in _AT)
        return f"| {self.name} | {self.seconds:.0f} | {errors} | {self.inside:.0%} |"


def watched(ledger: Ledger, container: str, collection: str, name: str) -> Watched:
    """Run a job, and look at it until it ends.

    Raises:
        RuntimeError: it did not complete.
    """
    parameters = ["--param", f"container={container}", "--param", f"collection={collection}"]
    job_id = told("submit", "ingest_container", *parameters)["job_id"]
    job, said = ledger.jobs.find(job_id), list[JobRecord]()
    while not job.status.is_final:
        said.append(job)
        time.sleep(_EVERY)
        job = ledger.jobs.find(job_id)
    if job.status != "completed" or job.started_at is None or job.ended_at is None:
        msg = f"the job is {job.status}"
        raise RuntimeError(msg)
    begun, made = job.started_at, Watched(name, seconds=(job.ended_at - job.started_at).total_seconds())
    for now in (record.progress for record in said):
        if now and now.at and now.remaining_seconds is not None:
            low, high = now.remaining_seconds_low or 0.0, now.remaining_seconds_high or 0.0
            made.looks.append(Look((now.at - begun).total_seconds(), now.remaining_seconds, low, high))
    return made


def main() -> None:
    """Measure, write the report, and fail where half of the jobs were wrong by more than is wanted."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--large", type=float, default=0.5, help="times the gigabytes of the large rasters")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks/eta.md"))
    asked = parser.parse_args()
    before, jobs = machine(), list[Watched]()
    with stack() as home, Ledger(load_settings()) as ledger:
        for number, (size, small) in enumerate(_CONTAINERS):
            folder = home / "containers" / f"mixed{number}"
            folder.mkdir(parents=True)
            write_rasters(folder, small)
            write_large(folder / "zz_last_by_its_name.tif", size * asked.large)
        for turn in range(asked.rounds):
            for number, (size, small) in enumerate(_CONTAINERS):
                name = f"{size * asked.large:.2f} GB and {small} small, {turn + 1}"
                jobs.append(watched(ledger, f"mixed{number}", f"turn{turn}x{number}", name))
                print(jobs[-1].row(), flush=True)
    half = median(job.error(0.5) for job in jobs)
    medians = " | ".join(f"**{median(job.error(part) for job in jobs):.0%}**" for part in _AT)
    inside = sum(job.inside for job in jobs) / len(jobs)
    rows = "\n".join(job.row() for job in jobs)
    heads = " | ".join(f"{part:.0%}" for part in _AT)
    report = f"""# When a job will have ended, as it says itself

`make bench-eta` wrote this. {before}. Containers of one large raster and many of 300 x 300 x 3, uint8. The first job met a machine of
which nothing was measured; the second time a container is another collection, and all is converted again.

The error of `remaining_seconds` at a part of the job's way, relative to what was left then: a job that said 20 s and took 25 s was wrong by 20 %. Wanted
at half of the way, in the median: at most {MOST:.0%}. `within`: the share of looks at which the end was between `remaining_seconds_low` and `…_high`.

| job | seconds | {heads} | within |
|---|---|{"---|" * len(_AT)}---|
{rows}
| median | | {medians} | {inside:.0%} |
"""
    print(report)
    if (asked.large, asked.rounds) == (parser.get_default("large"), parser.get_default("rounds")):
        publish(asked.out, report)
    exit_if_missed({f"half of the jobs were wrong by {half:.0%} at half of their way": half <= MOST})


if __name__ == "__main__":
    main()
