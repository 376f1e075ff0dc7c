"""Files during whose work a process died: counted across runs, attempts, jobs and hosts.

Here: counting, asking, forgetting. Not here: what is done with such a file (`stages/chunks.py`).

A process that ends in order ends its steps, whatever it came to. When another run takes the job over, it notes what
the processes of steps that are left had in work; those that are silent after that are dead, and what they had in work
is counted. An error of a child, also of the class `resource`, ends a task and counts nothing.
"""

from __future__ import annotations

from typing import LiteralString

from geo_assets.database.connections import DictConnection

#: Deaths after which a file is not tried any more. After the first it is worked on alone: the second is its own.
MOST_DEATHS = 2

#: What is longer ago does not count: memory was added, a library mended.
REMEMBERED: LiteralString = "interval '30 days'"

#: The key of a task `t` of a job `j`.
KEY: LiteralString = "geo.file_key(j.job_id, j.parameters, t.stage, t.task_key, t.input)"

#: A process that finds its job lost ends its step within a heartbeat (10 s).
SILENT_SECONDS = 12

_NOTE: LiteralString = (
    "update geo.steps s set in_work = array(select "  # noqa: S608
    + KEY
    + """ from geo.tasks t join geo.jobs j using (job_id)
           where t.job_id = s.job_id and t.listed and t.status = 'running' and t.receipt is null
             and t.process = s.process)
     where s.job_id = %s and s.run_id is distinct from %s and s.in_work is null"""
)

_BURY: LiteralString = (
    """with dead as (
           delete from geo.steps where job_id = %(job)s and in_work is not null
              and heartbeat < now() - make_interval(secs => %(silent)s)
           returning process, in_work),
       fatal as (
           select distinct on (file) file, process from dead, unnest(in_work) file)
       insert into geo.fatal_files as old (file, deaths, process, job_id)
       select file, 1, process, %(job)s from fatal
           on conflict (file) do update set
              deaths = case when old.died_at > now() - """  # noqa: S608
    + REMEMBERED
    + """ then old.deaths + 1 else 1 end, process = excluded.process, job_id = excluded.job_id, died_at = now()"""
)


def note_in_work(conn: DictConnection, job_id: str, run_id: str | None) -> None:
    """Note what the processes of other runs of a job had in work. In a transaction of the caller's, with the job's row
    locked.
    """
    conn.execute(_NOTE, (job_id, run_id))
    conn.execute("delete from geo.steps where job_id = %s and in_work = '{}'", (job_id,))


def bury(conn: DictConnection, job_id: str) -> bool:
    """Count what silent processes had in work, and forget their steps; false if some may still be about to end."""
    if conn.execute("select from geo.steps where job_id = %s and in_work is not null", (job_id,)).fetchone() is None:
        return True
    conn.execute(_BURY, {"job": job_id, "silent": SILENT_SECONDS})
    left = conn.execute("select from geo.steps where job_id = %s and in_work is not null", (job_id,)).fetchone()
    return left is None


def survive(conn: DictConnection, job_id: str, stage: str, task_key: str) -> None:
    """Forget a file whose work has come to an end without a death."""
    conn.execute(
        "delete from geo.fatal_files f using geo.tasks t join geo.jobs j using (job_id) where f.file = "  # noqa: S608
        + KEY
        + " and t.job_id = %s and t.stage = %s and t.task_key = %s",
        (job_id, stage, task_key),
    )


def forgive(conn: DictConnection, job_id: str) -> None:
    """Have the files of a job that were given up tried again, as somebody asked for."""
    conn.execute(
        "delete from geo.fatal_files f using geo.tasks t join geo.jobs j using (job_id) where f.file = "  # noqa: S608
        + KEY
        + " and t.job_id = %s and t.error_code = 'FATAL_FILE'",
        (job_id,),
    )
