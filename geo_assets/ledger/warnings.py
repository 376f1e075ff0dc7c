"""Warnings by kind: how many files of a job have which kind, whatever the columns and numbers in their sentences.

Here: the table of kinds, and what the tasks of a job have. Not here: the sentences themselves, which the engines write
about a file (`raster/`, `vector/`), and how they are kept (`outputs.py`).

A sentence that no pattern fits is counted as `other`: a new sentence is never lost, but should find its kind here.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from functools import lru_cache
from itertools import islice

import psycopg

from geo_assets.ledger.models import WarnedTask
from geo_assets.ledger.outputs import warnings
from geo_assets.outcomes import Outputs, read_outputs

OTHER = "other"

#: The first that fits. Below each: patterns of its sentences.
_KINDS: tuple[tuple[str, str], ...] = (
    ("features rejected", r"features? (?:was|were) rejected"),
    ("geometries repaired", r"geometr(?:y|ies) (?:was|were) repaired|^the repair of "),
    ("values made NULL", r", now NULL\b"),
    ("values changed", r"NUL characters|faulty bytes|kept as a JSON string|does not have: |time of day, which"),
    ("times without a zone", r"offset from UTC"),
    ("text encoding", r"UTF-8|Windows-1252|text was read as "),
    ("metadata not kept", r"not carried over|a TIFF cannot hold|statistics that band"),
    (
        "left out",
        (
            r"\bleft out\b|(?:are|is) not converted|also holds what |that (?:are|is) not followed|coordinates that"
            r" are a single number"
        ),
    ),
    ("heights", r"heights are |no height and got 0|M values, which were dropped"),
    (
        "geometry",
        (
            r"curves? became lines|wider than half the globe|is a second geometry|its edges are |beyond longitude and"
            r" latitude"
        ),
    ),
    ("coarser pixels", r"loses detail|its grid goes on beyond it"),
    ("colours", r"its colours are "),
    ("time of capture", r"datetime_regex finds|no moment in UTC"),
    ("transformation", r"the best transformation to |it was transformed to |PROJ knows no transformation "),
    ("place", r"its place is approximate|bytes more than its header declares"),
    ("CRS", r"\bCRS\b|\bSRID\b|source_crs|it was read as '.*', as was asked|says that it is in|is not used: PROJ"),
    ("profile", r"the profile \S+ does not suit|keep_lossy does not keep"),
    ("columns of the table", r"^\w+\.\w+: "),
    ("attributes alone", r"it has no geometry: a table of attributes"),
    ("orientation", r"its orientation \("),
    ("nothing valid", r"no pixel is valid"),
    ("remark of GDAL", r"warnings? of GDAL"),
)
_PATTERNS = tuple((kind, re.compile(pattern)) for kind, pattern in _KINDS)


@lru_cache(maxsize=10_000)
def kind_of(sentence: str) -> str:
    """The kind of a warning, in plain words."""
    return next((kind for kind, pattern in _PATTERNS if pattern.search(sentence)), OTHER)


def counted(files: Iterable[Iterable[str]]) -> dict[str, int]:
    """How many files have a warning of each kind, the commonest first.

    Args:
        files: the warnings of each.
    """
    counts = Counter(kind for sentences in files for kind in {kind_of(sentence) for sentence in sentences})
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def of_tasks(
    conn: psycopg.Connection[dict[str, object]], job_id: str, stage: str | None = None
) -> Iterator[tuple[str, list[str]]]:
    """(task key, warnings) of the tasks of a job, or of one of its stages, that have some."""
    for _, key, _, said in _warned(conn, job_id, stage=stage):
        yield key, said


def of_kind(
    conn: psycopg.Connection[dict[str, object]], job_id: str, kind: str, *, after: tuple[str, str], limit: int | None
) -> list[WarnedTask]:
    """The tasks of a job that have a warning of a kind, each with those of that kind, in (stage, key) order."""
    with closing(_warned(conn, job_id, after=after)) as tasks:
        of_all = (
            (stage, key, made, [text for text in said if kind_of(text) == kind]) for stage, key, made, said in tasks
        )
        return [
            WarnedTask(stage=stage, task_key=key, stac_item=made.stac_item, warnings=tuple(said))
            for stage, key, made, said in islice((task for task in of_all if task[-1]), limit)
        ]


def _warned(
    conn: psycopg.Connection[dict[str, object]],
    job_id: str,
    *,
    stage: str | None = None,
    after: tuple[str, str] = ("", ""),
) -> Generator[tuple[str, str, Outputs, list[str]], None, None]:
    with conn.cursor("warned") as cursor:
        cursor.itersize = 2000
        cursor.execute(
            """select stage, task_key, outputs
                 from geo.tasks
                where job_id = %(job)s and listed and (%(stage)s::text is null or stage = %(stage)s)
                  and outputs ?| array['warnings', 'tables'] and (stage, task_key) > (%(after_stage)s, %(after)s)
                order by stage, task_key""",
            {"job": job_id, "stage": stage, "after_stage": after[0], "after": after[1]},
        )
        for row in cursor:
            made = read_outputs(str(row["stage"]), row["outputs"])  # type: ignore[arg-type]
            if said := warnings(made):
                yield str(row["stage"]), str(row["task_key"]), made, said
