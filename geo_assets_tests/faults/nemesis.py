"""A storm of faults, by a seed: several at once, again and again, while jobs are submitted.

    make nemesis                                  # seeds 1, 2 and 3: 200 submissions and ten minutes each
    make nemesis SEEDS=7 MINUTES=2 SUBMISSIONS=40

Here: the faults, the submissions, and who looks for what is half visible. Not here: what must hold afterwards
(`test_nemesis.py`), faults one at a time (the other tests of this folder).

What a seed decides is which faults come, in which order and with which pauses, and what is submitted by which way; what
they hit is whatever runs then, so a run is repeated only as far as the machine repeats itself.
"""

import json
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
import psycopg

from geo_assets_tests.faults.test_killed_run import connect, run_workers, started
from geo_assets_tests.faults.test_terminate import graphql
from geo_assets_tests.processes import children, command
from geo_assets_tests.raster.test_cog import write

#: Rasters of a container; beside them there is one file that is none.
RASTERS = 4

#: Seconds after which a sender gives up: a part that dies again and again within a minute is started again after pauses of up to a
#: minute, and the API needs a PostgreSQL that does the same.
PATIENCE = 600

#: Parts of a stack that its supervisor starts again, and the supervisor's own whole.
PARTS = ("daemon", "code_server", "webserver", "api")

_DELETE = "mutation ($id: String!) { deletePipelineRun(runId: $id) { __typename } }"
_TERMINATE = """mutation ($id: String!) { terminateRun(runId: $id, terminatePolicy: SAFE_TERMINATE) { __typename } }"""


@dataclass(slots=True)
class Submitted:
    """What was asked for; the job of what came by a message is known only later."""

    job_type: str
    parameters: dict[str, object]
    way: str
    job_id: str = ""


@dataclass(slots=True)
class Told:
    """What happened during a storm."""

    submitted: list[Submitted] = field(default_factory=list)
    malformed: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    half_visible: list[str] = field(default_factory=list)
    looks: int = 0


def kill(pid: int, sent: signal.Signals = signal.SIGKILL) -> None:
    """Send a signal to a process, if it is still there."""
    with suppress(ProcessLookupError):
        os.kill(pid, sent)


def below(pid: int) -> list[int]:
    """A process and all below it."""
    return [pid, *(deeper for child in children(pid) for deeper in below(child))]


class Faults:
    """What can be done to a stack; each answers whether it found anything to do it to."""

    def __init__(self, cli, chance: random.Random) -> None:
        self._cli, self._chance = cli, chance
        self._frozen: list[threading.Timer] = []

    def all(self) -> dict[str, Callable[[], bool]]:
        """Name -> fault."""
        return {
            "a run's process killed": self._run_killed,
            "a run's process frozen": self._run_frozen,
            "a sandboxed child killed": self._child_killed,
            "a child frozen": self._child_frozen,
            **{f"{part} killed": lambda part=part: self._part_killed(part) for part in PARTS},
            "PostgreSQL crashed": self._postgres_crashed,
            "PostgreSQL stopped": self._postgres_stopped,
            "sessions of the database ended": self._sessions_ended,
            "a run terminated in Dagster": lambda: self._told_dagster(_TERMINATE),
            "a run deleted in Dagster": lambda: self._told_dagster(_DELETE),
        }

    def thaw(self) -> None:
        """What is frozen goes on."""
        for timer in self._frozen:
            timer.join()

    def _one(self, pids: list[int]) -> int | None:
        return self._chance.choice(sorted(pids)) if pids else None

    def _run_killed(self) -> bool:
        worker = self._one(run_workers(self._cli))
        if worker:
            kill(worker)
        return bool(worker)

    def _run_frozen(self) -> bool:
        worker = self._one(run_workers(self._cli))
        return bool(worker) and self._freeze(below(worker), self._chance.uniform(5, 45))

    def _children(self) -> list[int]:
        return [
            pid
            for worker in run_workers(self._cli)
            for pid in below(worker)
            if "geo_assets.sandbox.child" in command(pid)
        ]

    def _child_killed(self) -> bool:
        child = self._one(self._children())
        if child:
            kill(child)
        return bool(child)

    def _child_frozen(self) -> bool:
        child = self._one(self._children())
        return bool(child) and self._freeze([child], self._chance.uniform(2, 15))

    def _freeze(self, pids: list[int], seconds: float) -> bool:
        for pid in pids:
            kill(pid, signal.SIGSTOP)
        timer = threading.Timer(seconds, lambda: [kill(pid, signal.SIGCONT) for pid in pids])
        timer.start()
        self._frozen.append(timer)
        return True

    def _part_killed(self, part: str) -> bool:
        pid = started(self._cli).get(part, {}).get("pid")
        if pid:
            kill(pid)
        return bool(pid)

    def _postmaster(self) -> int | None:
        with suppress(OSError, ValueError):
            return int((self._cli.home / "postgres" / "postmaster.pid").read_text().splitlines()[0])
        return None

    def _postgres_crashed(self) -> bool:
        """A session's process dies without a word: PostgreSQL ends all others and recovers from its log."""
        postmaster = self._postmaster()
        session = self._one([p for p in children(postmaster) if " geo_" in command(p)]) if postmaster else None
        if session:
            kill(session)
        return bool(session)

    def _postgres_stopped(self) -> bool:
        """At once, without a checkpoint; the supervisor starts it again."""
        postmaster = self._postmaster()
        if postmaster:
            kill(postmaster, signal.SIGQUIT)
        return bool(postmaster)

    def _sessions_ended(self) -> bool:
        with suppress(psycopg.Error), connect(self._cli) as db:
            db.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where usename = current_user"
                " and pid <> pg_backend_pid() and random() < 0.5"
            )
            return True
        return False

    def _told_dagster(self, what: str) -> bool:
        with suppress(psycopg.Error, httpx.HTTPError, ValueError, AssertionError), connect(self._cli) as db:
            query = "select run_id from dagster.runs where status in ('STARTED', 'QUEUED') order by random() limit 1"
            if row := db.execute(query).fetchone():
                graphql(self._cli, what, id=row[0])
                return True
        return False


def last_lines(logs: Path) -> str:
    """What the processes of a stack said last."""
    return "\n".join(
        "\n".join([f"--- {log.name}", *log.read_text(encoding="utf-8", errors="replace").splitlines()[-40:]])
        for log in sorted(logs.glob("*.log"))
    )


class Submissions:
    """Jobs by several ways; what was not acknowledged is submitted again, as its sender would."""

    def __init__(self, cli, seed: int, told: Told) -> None:
        self._cli, self._seed, self._chance, self._told = cli, seed, random.Random(seed + 2), told
        self._inbox = cli.home / "containers" / "submissions" / "inbox"
        self._inbox.mkdir(parents=True, exist_ok=True)

    def one(self, number: int) -> None:
        """Submit another job, or what was submitted before once more, or something that is no message."""
        lot = self._chance.random()
        if lot < 0.05:
            self._drop(f"malformed-{number}", b"{ no message " + str(number).encode())
            self._told.malformed += 1
            return
        if lot < 0.15 and self._told.submitted:
            self._send(self._chance.choice(self._told.submitted))
            return
        if lot < 0.6:
            job = Submitted("hello_world", {"n": 3, "message": f"nemesis {self._seed} {number}"}, self._way())
        else:
            container = f"nemesis-{self._seed}-{number}"
            self._fill(self._cli.home / "containers" / container, number)
            job = Submitted("ingest_container", {"container": container}, self._way())
        self._send(job)
        self._told.submitted.append(job)

    def _way(self) -> str:
        return self._chance.choice(("http", "inbox"))

    def _fill(self, folder: Path, number: int) -> None:
        folder.mkdir(parents=True)
        for i in range(RASTERS):
            noise = np.random.default_rng(100 * number + i).integers(0, 255, (1, 256, 256)).astype("uint8")
            write(folder / f"tile_{i}.tif", noise)
        (folder / "bad.tif").write_bytes(b"II*\0 nothing")

    def _send(self, job: Submitted) -> None:
        if job.way == "inbox":
            body = {"job_type": job.job_type, "parameters": job.parameters}
            self._drop(f"message-{self._chance.randrange(2**40)}", json.dumps(body).encode())
            return
        url = f"{self._cli.exports['GEO_ASSETS_API_URL']}/api/jobs/submit/{job.job_type}"
        began, heard = time.monotonic(), list[str]()
        while time.monotonic() < began + PATIENCE:
            try:
                answer = httpx.post(url, json=job.parameters, timeout=30, trust_env=False)
            except httpx.HTTPError as error:
                heard.append(f"{time.monotonic() - began:.0f} s: {error!r}")
            else:
                if answer.status_code < 300:
                    job.job_id = answer.json()["job_id"]
                    return
                heard.append(f"{time.monotonic() - began:.0f} s: {answer.text}")
                assert answer.status_code >= 500 or answer.status_code == 429, answer.text
            time.sleep(1)
        lines = [f"{job} was not accepted for {PATIENCE} seconds:", *heard, last_lines(self._cli.home / "logs")]
        raise AssertionError("\n".join(lines))

    def _drop(self, name: str, body: bytes) -> None:
        part = self._inbox.parent / f".{name}.json"
        part.write_bytes(body)
        part.rename(self._inbox / f"{name}.json")


def look(cli, told: Told, over: threading.Event) -> None:
    """Until a storm is over: each COG that an item in the catalogue names is there, whole."""
    query = """select i.id, a.value->>'href', a.value->>'file:size' from pgstac.items i,
                 jsonb_each(i.content->'assets') a where i.collection like 'nemesis-%' and a.value->>'href' like '%.tif'"""
    while not over.wait(0.5):
        with suppress(psycopg.Error):
            with connect(cli) as db:
                rows = db.execute(query).fetchall()
            told.looks += 1
            for item, href, size in rows:
                cog = Path(href.removeprefix("file://"))
                if not cog.is_file() or (size and cog.stat().st_size != int(size)):
                    told.half_visible.append(f"{item} names {href}, which is not whole")


def storm(cli, seed: int, minutes: float, submissions: int) -> Told:
    """Submit jobs while faults come, until time and submissions are over; what is frozen goes on then."""
    chance, told, over = random.Random(seed), Told(), threading.Event()
    faults, sent = Faults(cli, random.Random(seed + 1)), Submissions(cli, seed, told)

    def submit_all() -> None:
        began = time.monotonic()
        for number in range(submissions):
            time.sleep(max(0.0, began + 60 * minutes * number / submissions - time.monotonic()))
            sent.one(number)

    ends = time.monotonic() + 60 * minutes
    with ThreadPoolExecutor(2) as pool:
        looker, submitter = pool.submit(look, cli, told, over), pool.submit(submit_all)
        try:
            while time.monotonic() < ends and not (submitter.done() and submitter.exception()):
                for name in chance.sample(sorted(faults.all()), chance.randint(2, 5)):
                    told.faults[name] += faults.all()[name]()
                time.sleep(chance.uniform(3, 20))
        finally:
            faults.thaw()
            wait((submitter,))
            over.set()
        submitter.result()
        looker.result()
    return told
