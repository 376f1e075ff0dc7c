"""What a question to the database is, and the metrics that it answers.

Here: their form. Not here: the questions (`measurements.py`, `measurements_of_dagster.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, LiteralString

Kind = Literal["gauge", "counter", "histogram"]


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric: one column of the rows of a question."""

    name: str  # of a counter without `_total`, of a histogram without `_bucket`
    kind: Kind
    column: str  # of a histogram: the prefix of `_le`, `_count` up to there, and `_sum`
    help: str


@dataclass(frozen=True, slots=True)
class Question:
    """A statement whose columns are labels and values of metrics; a value that is null is left out."""

    metrics: tuple[Metric, ...]
    sql: LiteralString
    labels: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()  # tables without which it is not asked: Dagster's may be elsewhere
