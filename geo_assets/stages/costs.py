"""What a source is expected to cost: the seconds for which it keeps a child busy.

Here: a first guess by form and bytes, and how what was measured corrects it. Not here: where measurements are kept
(`ledger/work.py`), cutting chunks by cost (`cutting.py`).

A guess need not be right in seconds: who is longest, and by how much, decides over chunks. So a source costs what the
guess says of its bytes, times by how much the guess was wrong for the sources of the same form whose size is nearest;
for a form that was never met, times by how much it was wrong on the whole.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import NamedTuple

from geo_assets.file_stages import FILE_STAGES, Engine
from geo_assets.ledger.models import Work
from geo_assets.ledger.work import Cost
from geo_assets.parameters import IngestContainer, OfJobType
from geo_assets.storage.kinds import Kind
from geo_assets.storage.sources import Source

#: The most milliseconds that a task is said to cost: a week.
MOST_MS = 7 * 24 * 3_600_000


class Guess(NamedTuple):
    """Before anything was measured: fixed seconds of a file, and bytes a second."""

    seconds: float
    bytes_a_second: float


#: By engine: a small file, and the bytes of a typical one (docs/benchmarks).
_GUESSES = {Engine.RASTER: Guess(0.06, 80e6), Engine.VECTOR: Guess(0.2, 20e6)}

#: What is denser than others has fewer bytes for the same work: by how much a byte of it costs more.
_DENSER = {
    **dict.fromkeys((".jp2", ".j2k", ".jpx", ".jpf", ".j2c", ".jpc"), 20.0),
    **dict.fromkeys((".jpg", ".jpeg", ".webp"), 8.0),
    **dict.fromkeys((".png", ".gif", ".mbtiles"), 4.0),
    **dict.fromkeys((".nc", ".nc4", ".h5", ".hdf5", ".he5", ".hdf", ".grib", ".grib2", ".grb", ".grb2"), 3.0),
    **dict.fromkeys((".asc", ".xyz"), 4.0),  # numbers as text
    **dict.fromkeys((".zip", ".gz", ".kmz", ".parquet", ".geoparquet", ".xlsx"), 4.0),
    **dict.fromkeys((".gml", ".kml", ".geojson", ".json"), 2.0),
}

#: Of reprojection, and its word in a form.
_WARPED, _REPROJECTED = 3.0, "reprojected"

#: Characters of an ending; a longer one is part of a name.
_LONGEST_ENDING = 12

#: Measured files that the guess counts as much as: one file says little of others. Of those of its own size it says
#: much: a guess is often wrong by a factor of five, two files of a form and size hardly are. And at how many octaves
#: from it a file says as little as any.
_TRUST, _TRUST_AT_ITS_SIZE, _OCTAVES = 2.0, 0.2, 4.0

#: Files of a form and size of which a chunk keeps the seconds.
_SAMPLES = 200


@dataclass(frozen=True, slots=True)
class Costs:
    """What the sources of a stage cost. Equal measurements give equal costs."""

    stage: str
    options: str  # the parameters of the job that decide over the cost
    measured: Sequence[Cost] = ()
    _by_form: dict[str, list[Cost]] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        for cost in self.measured:
            self._by_form.setdefault(cost.form, []).append(cost)

    @classmethod
    def of(cls, job: OfJobType, stage: str, measured: Iterable[Cost] = ()) -> Costs:
        """For a stage of a job, with what was measured in that stage."""
        return cls(stage, _options(job, stage), tuple(measured))

    def form(self, task: Source | Work) -> str:
        """What decides over the cost of a source besides its bytes: its kind, its format by its name, the options."""
        path, members = (task.path, task.members) if isinstance(task, Source) else (task.task_key, task.input.members)
        name = members[0].path if task.kind == Kind.SCENE and members else path.rstrip("/")
        return " ".join(part for part in (str(task.kind), _ending(name), self.options) if part)

    def milliseconds(self, source: Source) -> int:
        """The milliseconds for which a source is expected to keep a child busy, 1 at least."""
        form, size = self.form(source), source.size
        wrong = self._correction(form, size)
        return max(1, min(MOST_MS, round(1000 * self._guess(form, size) * wrong)))

    def _correction(self, form: str, size: int) -> float:
        """Measured seconds / guessed ones, of what is most like it."""
        if like := self._by_form.get(form):
            octaves = {cost: abs(cost.log_bytes - math.log(size + 1)) / math.log(2) for cost in like}
            nearest = min(like, key=lambda cost: (octaves[cost], cost.size))
            far = min(1.0, octaves[nearest] / _OCTAVES)
            trust = _TRUST_AT_ITS_SIZE + (_TRUST - _TRUST_AT_ITS_SIZE) * far
            return math.exp(self._log_wrong(nearest) * nearest.files / (nearest.files + trust))
        files = sum(cost.files for cost in self.measured)
        together = sum(self._log_wrong(cost) * cost.files for cost in self.measured)
        return math.exp(together / (files + _TRUST)) if files else 1.0

    def _log_wrong(self, cost: Cost) -> float:
        return cost.log_seconds - math.log(self._guess(cost.form, math.exp(cost.log_bytes)))

    def _guess(self, form: str, size: float) -> float:
        """Seconds by form and bytes alone."""
        guess = _GUESSES[FILE_STAGES[self.stage].engine]
        denser = next((factor for part in form.split(" ") if (factor := _DENSER.get(part))), 1.0)
        warped = _WARPED if form.endswith(_REPROJECTED) else 1.0
        return (guess.seconds + size * denser / guess.bytes_a_second) * warped


def _options(job: OfJobType, stage: str) -> str:
    """How rasters are written and whether they are reprojected; of vectors nothing that costs much."""
    asked = job.parameters
    if not isinstance(asked, IngestContainer) or FILE_STAGES[stage].engine is not Engine.RASTER:
        return ""
    kept, warped = "keep_lossy" * asked.keep_lossy, _REPROJECTED if asked.target_crs else ""
    return " ".join(part for part in (asked.profile or "", kept, warped) if part)


def _ending(path: str) -> str:
    """The ending of a file's name, by which formats are told apart before a file is opened."""
    name = path.rpartition("/")[2].lower()
    stem, dot, ending = name.rpartition(".")
    return f".{ending}" if dot and stem and ending.isalnum() and len(ending) <= _LONGEST_ENDING else ""


class Samples:
    """How long the sources of a chunk took, some of each form and size."""

    def __init__(self, costs: Costs) -> None:
        self.seconds = self.longest = 0.0  # of all together, of one
        self._costs = costs
        self._seen: dict[tuple[str, int], int] = defaultdict(int)
        self._logs: dict[tuple[str, int], list[tuple[float, float]]] = defaultdict(list)

    def add(self, work: Work, seconds: float, *, is_good: bool = True) -> None:
        """Note that a source took so long. How long a bad one takes says nothing of others."""
        self.seconds, self.longest = self.seconds + seconds, max(self.longest, seconds)
        if not is_good:
            return
        size = sum(member.size for member in work.input.members)
        key = (self._costs.form(work), size.bit_length())
        self._seen[key] += 1
        if len(self._logs[key]) < _SAMPLES:
            self._logs[key].append((math.log(max(seconds, 0.001)), math.log(size + 1)))

    def costs(self) -> list[Cost]:
        """What they took, in the median of each form and size."""
        return [
            Cost(
                form=form,
                size=size,
                files=self._seen[form, size],
                log_seconds=median(seconds for seconds, _ in logs),
                log_bytes=median(size for _, size in logs),
            )
            for (form, size), logs in sorted(self._logs.items())
        ]
