"""The drill of whoever is on call: something breaks, an alert names it within two minutes, and the commands of its
chapter in the runbook, pasted, end it.

    make drill    # prints for each incident: seconds to the alert, what it says, what was typed, seconds to green

With a real stack, a real Prometheus and the rules of deploy/monitoring. What a person does beside pasting is said in
each test: the names that stand in capitals in the runbook. Not here: when each rule fires (`test_alerts.py`).
"""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from geo_assets.local.postgresql import find_binaries
from geo_assets_tests.azure.conftest import sas_token
from geo_assets_tests.azurite import ACCOUNTS
from geo_assets_tests.conftest import a_stack
from geo_assets_tests.faults.test_killed_run import started
from geo_assets_tests.local.test_supervisor import postgresql
from geo_assets_tests.monitoring.rules import ALERTS
from geo_assets_tests.monitoring.test_alerts import RUNBOOK
from geo_assets_tests.own_mounts import CliIn, OwnMounts
from geo_assets_tests.prometheus_server import Prometheus
from geo_assets_tests.raster.test_cog import write
from geo_assets_tests.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

#: Seconds from the incident to its alert.
WITHIN = 120

#: What stands for a name in the commands of the runbook.
TO_FILL_IN = re.compile(r"\b(JOB_ID|MESSAGE_ID|FOLDER|NOT_NEEDED|ALIAS/CONTAINER)\b")


@dataclass
class Drill:
    """A stack that is watched, and what was done to it."""

    cli: CliIn
    prometheus: Prometheus
    typed: list[str] = field(default_factory=list)
    said: str = ""

    def has_alert(self, name: str, since: float, *words: str) -> None:
        """Wait for an alert that says these words, and print when it came."""
        self.typed, self.said = [], ""
        alert = seen(lambda: self.prometheus.firing().get(name), WITHIN - (time.monotonic() - since))
        told = f"{alert['annotations']['summary']} ({', '.join(sorted(alert['labels'].values()))})"
        print(f"\n{time.monotonic() - since:4.0f} s to {name} ({alert['labels']['severity']}): {told}")
        assert [word for word in words if word not in told] == []

    def paste(self, name: str, *, instead=None, **names: str) -> None:
        """Type the commands of an alert's chapter, one after the other.

        Args:
            name: of the alert.
            instead: program -> what is called where this machine has no such program.
            names: what stands for the words in capitals; a job that is named was told by a command before.
        """
        for line in commands(name):
            program = line.split()[0]
            if instead and program in instead:
                instead[program]()
                continue
            self._type(TO_FILL_IN.sub(partial(self._named, names), line))

    def _named(self, names, found) -> str:
        word = found[1].replace("/", "_")
        if word == "JOB_ID":
            assert names[word] in self.said, "no command has told which job"
        return names[word]

    def _type(self, line: str) -> None:
        env = {**self.cli.env, **self.cli.exports}  # eval "$(geo-assets env)"
        paths = (Path(sys.executable).parent, find_binaries(self.cli.home).bin)
        env["PATH"] = os.pathsep.join([*map(str, paths), env["PATH"]])
        done = subprocess.run(
            [*self.cli.mounts.prefix, "bash", "-c", line],
            env=env,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        self.typed.append(line)
        self.said += done.stdout + done.stderr
        print(f"      $ {line[:150]}")

    def is_green(self, name: str, since: float) -> None:
        """Wait until an alert is over."""
        try:
            seen(lambda: name not in self.prometheus.firing(), 90)
        except AssertionError:
            print(self.said)
            raise
        print(f"{time.monotonic() - since:4.0f} s to green")

    def fires(self, name: str) -> bool:
        return name in self.prometheus.firing()

    def kill_with_supervisor(self, pid: int, sent: signal.Signals = signal.SIGKILL) -> None:
        """End a part of the stack, and first of all who would start it again at once."""
        os.kill(started(self.cli)["supervisor"]["pid"], signal.SIGKILL)
        os.kill(pid, sent)


def seen(condition, seconds: float):
    """As `until`, but for what changes every five seconds."""

    def looked():
        time.sleep(0.5)
        return condition()

    return until(looked, seconds)


def commands(alert: str) -> list[str]:
    """The lines of the block of code in an alert's chapter."""
    text = RUNBOOK.read_text(encoding="utf-8")
    chapter = re.search(rf"^### {alert}\n(.*?)(?=^##|\Z)", text, re.MULTILINE | re.DOTALL)
    block = chapter and re.search(r"^```sh\n(.*?)^```$", chapter[1], re.MULTILINE | re.DOTALL)
    assert block, f"no commands for {alert}"
    return [re.sub(r" {2,}# .*", "", line) for line in block[1].splitlines()]


@pytest.fixture(scope="module")
def drill(open_folder, postgres_home):
    """The stack writes its results to an account that is a directory of 64 MB."""
    home, folder = open_folder(), open_folder()
    archive = home / "archive"
    archive.mkdir()
    accounts = {"archive": {"kind": "local", "root": str(archive)}}
    with OwnMounts() as mounts:
        mounts.mount(archive, 64)
        cli = CliIn(mounts, home, GEO_ASSETS_ACCOUNTS=json.dumps(accounts), GEO_ASSETS_OUTPUT_ACCOUNT="archive")
        stack = a_stack(cli, postgres_home)
        next(stack)
        try:
            # deploy/monitoring/README.md: the number to change first is that of a disk
            rules = ALERTS.read_text(encoding="utf-8").replace("10e9", "10e6")
            prometheus = Prometheus(folder, rules, cli.exports["GEO_ASSETS_API_URL"].removeprefix("http://"))
            try:
                prometheus.start()
                yield Drill(cli, prometheus)
            finally:
                prometheus.stop()
        finally:
            next(stack, None)


def rasters(folder: Path) -> Path:
    """A folder with four small rasters."""
    folder.mkdir()
    for number in range(4):
        write(folder / f"tile_{number}.tif", np.full((1, 64, 64), number + 1, "uint8"))
    return folder


def upload(drill, folder: Path, container: str) -> None:
    assert drill.cli.run("upload", str(folder), f"default/{container}").returncode == 0


def submit(drill, container: str, *more: str) -> dict:
    return drill.cli.json("submit", "ingest_container", "--param", f"container={container}", *more)


def test_a_full_disk_is_named_and_what_was_not_done_is_done_when_there_is_room(drill, tmp_path):
    archive = drill.cli.home / "archive"
    upload(drill, rasters(tmp_path / "first"), "before")
    assert submit(drill, "before", "--wait")["status"] == "completed"
    upload(drill, rasters(tmp_path / "second"), "crowded")
    assert not drill.fires("GeoAssetsDiskSpace")
    exports = archive / "exports"
    since = time.monotonic()
    drill.cli.mounts.fill(exports / "of-last-year.parquet")
    job = submit(drill, "crowded", "--wait")
    assert job["status"] != "completed"
    drill.has_alert("GeoAssetsDiskSpace", since, "disk is nearly full", "account archive")
    since = time.monotonic()
    drill.paste("GeoAssetsDiskSpace", FOLDER=str(archive), NOT_NEEDED=str(exports), JOB_ID=job["job_id"])
    drill.is_green("GeoAssetsDiskSpace", since)
    assert completed(drill, job)


def completed(drill, job: dict) -> bool:
    return until(lambda: drill.cli.json("job", job["job_id"])["status"] == "completed", 120)


def test_a_container_of_bad_files_is_named_and_a_new_delivery_is_published(drill, tmp_path):
    chance, bad = random.Random(5), rasters(tmp_path / "bad")
    for file in sorted(bad.iterdir()):
        file.write_bytes(b"II*\0" + chance.randbytes(2000))
    upload(drill, bad, "poisoned")
    since = time.monotonic()
    job = submit(drill, "poisoned", "--wait")
    assert job["status"] == "completed_with_errors"
    drill.has_alert("GeoAssetsAllFilesBad", since, "container", "none is good")
    whole = rasters(tmp_path / "whole")
    since = time.monotonic()
    names = {"FOLDER": str(whole), "ALIAS_CONTAINER": "default/poisoned", "JOB_ID": job["job_id"]}
    drill.paste("GeoAssetsAllFilesBad", **names)
    drill.is_green("GeoAssetsAllFilesBad", since)
    assert completed(drill, job)


def test_a_dead_daemon_is_named_and_what_waited_is_launched(drill):
    since = time.monotonic()
    drill.kill_with_supervisor(started(drill.cli)["daemon"]["pid"])
    job = drill.cli.json("submit", "hello_world", "--param", "message=while the daemon is dead")
    drill.has_alert("GeoAssetsDaemonQuiet", since, "Dagster's daemon", "silent")
    since = time.monotonic()
    drill.paste("GeoAssetsDaemonQuiet")
    drill.is_green("GeoAssetsDaemonQuiet", since)
    assert completed(drill, job)


def test_a_database_that_is_away_is_named_and_comes_back(drill):
    since = time.monotonic()
    drill.kill_with_supervisor(postgresql(drill.cli), signal.SIGQUIT)
    drill.has_alert("GeoAssetsScrapeFailing", since, "database does not answer")
    since = time.monotonic()
    drill.paste("GeoAssetsScrapeFailing")
    drill.is_green("GeoAssetsScrapeFailing", since)
    assert drill.cli.json("submit", "hello_world", "--param", "message=afterwards", "--wait")["status"] == "completed"


def test_a_sas_that_ends_is_named_and_with_a_new_one_the_job_is_done(drill, azurite, tmp_path):
    name = ACCOUNTS[0]
    account = azurite.account(name)
    put_there(account, rasters(tmp_path / "delivery"))

    def use(token: str) -> None:
        accounts = json.loads(drill.cli.env["GEO_ASSETS_ACCOUNTS"])
        settings = {key: value for key, value in account.settings.items() if key != "account_key"}
        accounts["partner"] = {**settings, "sas_token": token}
        drill.cli.env["GEO_ASSETS_ACCOUNTS"] = json.dumps(accounts)

    ends = time.time() + 90
    use(sas_token(name, hours=90 / 3600))
    drill.cli.run("down")
    assert drill.cli.run("up").returncode == 0
    drill.cli.run("pause", "--minutes", "10")
    job = submit(drill, "drill", "--param", "account=partner")
    assert time.time() < ends, "this machine is too slow for a SAS of 90 s"
    time.sleep(ends + 1 - time.time())
    since = time.monotonic()
    drill.cli.run("resume")
    drill.has_alert("GeoAssetsStorageRefused", since, "SAS", "has expired")
    assert drill.prometheus.firing()["GeoAssetsSasExpires"]["labels"]["account"] == "partner"
    since = time.monotonic()
    # `az` talks to Azure alone; a new SAS has to be put into the settings by hand in any case
    new = {"az": lambda: use(sas_token(name, hours=24 * 30))}
    drill.paste("GeoAssetsStorageRefused", instead=new, JOB_ID=job["job_id"])
    drill.is_green("GeoAssetsStorageRefused", since)
    drill.is_green("GeoAssetsSasExpires", since)
    assert completed(drill, job)


def put_there(account, folder: Path) -> None:
    from azure.storage.blob import BlobServiceClient

    container = BlobServiceClient.from_connection_string(account.connection).create_container("drill")
    for file in folder.iterdir():
        container.upload_blob(file.name, file.read_bytes())
