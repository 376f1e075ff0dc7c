"""A Redis on a free port of loopback, for tests.

Here: bringing it (the machine's, or Debian's packages unpacked into the checkout's home, which needs no root), starting,
killing. Not here: what is tested with it.
"""

import fcntl
import os
import secrets
import shutil
import socket
import subprocess
import time
from pathlib import Path

from geo_assets.home import default_home
from geo_assets.local.debian_packages import unpack, unpacked_environment
from geo_assets.local.postgresql import free_port

#: Below the home.
UNPACKED = "redis-dist"


def find_redis() -> tuple[str, dict[str, str]]:
    """The program, and the environment that it needs more."""
    if found := shutil.which("redis-server"):
        return found, {}
    root = default_home() / UNPACKED
    root.parent.mkdir(parents=True, exist_ok=True)
    with root.with_name("redis.lock").open("w") as lock:  # sessions that run side by side unpack it once
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _unpacked(root)


def _unpacked(root: Path) -> tuple[str, dict[str, str]]:
    program = root / "usr" / "bin" / "redis-check-rdb"  # redis-server is a link to it, by an absolute path
    if not program.exists():
        unpack(root, lambda _: ["redis-server", "redis-tools"], print)
    server = root / "usr" / "bin" / "redis-server"
    if not server.exists():
        server.unlink(missing_ok=True)
        server.symlink_to(program.name)
    return str(server), unpacked_environment(root)


class Redis:
    """One server with a password, which keeps nothing on disk: started again it is empty."""

    def __init__(self, folder: Path) -> None:
        self._program, self._environment = find_redis()
        self._folder, self.port, self.password = folder, free_port(), secrets.token_urlsafe(12)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        self._process = subprocess.Popen(
            [
                self._program,
                "--bind",
                "127.0.0.1",
                "--port",
                str(self.port),
                "--save",
                "",
                "--requirepass",
                self.password,
            ],
            env={**os.environ, **self._environment},
            cwd=self._folder,
            stdout=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 20
        while not self._listens():
            assert self._process.poll() is None, "redis-server ended"
            assert time.monotonic() < deadline, "redis-server does not listen"
            time.sleep(0.05)

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()
