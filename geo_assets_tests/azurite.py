"""Azurite, Microsoft's emulator of Azure Storage: one process with several accounts, none of which holds anything at
first.

Here: bringing it from npm, starting, stopping and freezing it. Not here: what is tested against it.
"""

import contextlib
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from geo_assets.home import default_home
from geo_assets.local.postgresql import free_port

#: The key that Microsoft publishes for its emulator; every account here has it.
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="

#: One for tests that make what they need, two for stacks that find nothing but the account: a queue has one reader.
ACCOUNTS = ("devstoreaccount1", "freshaccount", "jobsaccount")

#: Seconds. It writes what it knows every five seconds, and when it is told to end.
_SAVES_WITHIN = 8


@dataclass(frozen=True)
class Account:
    """How an account is reached."""

    name: str
    blob_endpoint: str
    queue_endpoint: str
    key: str = KEY

    @property
    def connection(self) -> str:
        """The connection string that Azure's SDKs take."""
        return (
            f"DefaultEndpointsProtocol=http;AccountName={self.name};AccountKey={self.key};"
            f"BlobEndpoint={self.blob_endpoint};QueueEndpoint={self.queue_endpoint};"
        )

    @property
    def settings(self) -> dict[str, str]:
        """An entry of GEO_ASSETS_ACCOUNTS."""
        return {"kind": "azure", "account_name": self.name, "account_key": self.key, "endpoint": self.blob_endpoint}


class Azurite:
    """One emulator on free ports of loopback, its data in a folder: what is stopped and started again is what
    it was.
    """

    def __init__(self, program: Path, folder: Path) -> None:
        self._program, self._folder = program, folder
        self.ports = {name: free_port() for name in ("blob", "queue", "table")}
        self._process: subprocess.Popen[bytes] | None = None

    def account(self, name: str = ACCOUNTS[0]) -> Account:
        """One of `ACCOUNTS`."""
        assert name in ACCOUNTS
        return Account(name, *(f"http://127.0.0.1:{self.ports[service]}/{name}" for service in ("blob", "queue")))

    def start(self) -> None:
        """Start it and wait until it answers."""
        arguments = ["--location", str(self._folder), "--skipApiVersionCheck", "--disableTelemetry", "--silent"]
        for name, port in self.ports.items():
            arguments += [f"--{name}Host", "127.0.0.1", f"--{name}Port", str(port)]
        accounts = ";".join(f"{name}:{KEY}" for name in ACCOUNTS)
        self._process = subprocess.Popen(
            [str(self._program), *arguments],
            cwd=self._folder,
            env={**os.environ, "NODE_OPTIONS": "", "AZURITE_ACCOUNTS": accounts},
            stdout=subprocess.DEVNULL,
            start_new_session=True,  # the `node` of PyPI is a program that starts another
        )
        deadline = time.monotonic() + 60
        while not all(_listens(self.ports[name]) for name in ("blob", "queue")):
            assert self._process.poll() is None, "azurite ended"
            assert time.monotonic() < deadline, "azurite does not answer"
            time.sleep(0.1)

    def stop(self) -> None:
        """End it: connections are refused from now on."""
        if self._process is None:
            return
        group = self._process.pid
        os.killpg(group, signal.SIGCONT)
        os.killpg(group, signal.SIGTERM)
        deadline = time.monotonic() + _SAVES_WITHIN
        with contextlib.suppress(ProcessLookupError):
            while time.monotonic() < deadline:  # the first ends at once, the one that it started saves
                self._process.poll()
                os.killpg(group, 0)
                time.sleep(0.1)
            os.killpg(group, signal.SIGKILL)  # it waits for a client that keeps its connection
        self._process.wait(10)
        self._process = None

    def freeze(self) -> None:
        """Connections are taken from now on, and nothing is answered."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """It answers again."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGCONT)


def find_azurite() -> Path | None:
    """The program: the machine's, that of the checkout's home, or brought by npm now; None where there is no npm
    either.
    """
    program = Path(shutil.which("azurite") or default_home() / "azurite/node_modules/.bin/azurite")
    if program.exists():
        return program
    if not shutil.which("npm"):
        return None
    folder = default_home() / "azurite"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:  # several processes of tests begin at once
        fcntl.flock(lock, fcntl.LOCK_EX)
        if program.exists():
            return program
        command = ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(folder), "azurite@3"]
        cache = ["--cache", str(folder / "cache")]  # the user's home may belong to somebody else
        subprocess.run([*command, *cache], check=True, capture_output=True, timeout=280)
    return program


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
