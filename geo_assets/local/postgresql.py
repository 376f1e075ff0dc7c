"""A private PostgreSQL cluster: found, initialised, started on loopback, stopped.

Here: binaries and the cluster. Not here: getting the binaries (`debian_packages.py`), what is in the database (`database/`).

PostgreSQL refuses to run as root: called by root, everything of the server runs as an unprivileged user.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from geo_assets.errors import GeoAssetsError
from geo_assets.local.debian_packages import UNPACKED, Log, install

#: What the project needs of a server; the names of their control files.
_EXTENSIONS = ("postgis", "btree_gist", "unaccent")

#: Sized for a laptop or a small server (4-24 GB). Durability stays on: nothing that is acknowledged is lost.
_SETTINGS: dict[str, str] = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "256MB",
    "maintenance_work_mem": "256MB",
    "max_wal_size": "2GB",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %u@%d ",
}

_START_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Binaries:
    """Where the server's programs are, and the environment that they need."""

    bin: Path
    version: int
    environment: Mapping[str, str] = field(default_factory=dict)


def find_binaries(home: Path) -> Binaries | None:
    """PostgreSQL with PostGIS on this machine: the system's, newest first, else the one unpacked in `home`."""
    for root, environment in (Path("/"), {}), (home / UNPACKED, _unpacked_environment(home / UNPACKED)):
        folders = sorted(root.glob("usr/lib/postgresql/*/bin"), key=lambda p: int(p.parent.name), reverse=True)
        for folder in folders:
            version = int(folder.parent.name)
            controls = root / f"usr/share/postgresql/{version}/extension"
            if (folder / "initdb").exists() and all((controls / f"{name}.control").exists() for name in _EXTENSIONS):
                return Binaries(folder, version, environment)
    return None


def _unpacked_environment(root: Path) -> dict[str, str]:
    libraries = sorted(
        {str(p.parent) for p in root.glob("usr/lib/*-linux-*/*.so*")} | {str(p.parent) for p in root.glob("lib/*-linux-*/*.so*")}
    )
    return {"LD_LIBRARY_PATH": ":".join(libraries), "PROJ_DATA": str(root / "usr/share/proj"), "PROJ_LIB": str(root / "usr/share/proj")}


def ensure_binaries(home: Path, log: Log) -> Binaries:
    """As `find_binaries`; what is missing is installed or unpacked first.

    Raises:
        GeoAssetsError: POSTGRES_NOT_FOUND.
    """
    found = find_binaries(home)
    if found is None:
        started = time.monotonic()
        install(home, log)
        log(f"PostgreSQL and PostGIS: {time.monotonic() - started:.0f} s")
        found = find_binaries(home)
    if found is None:
        raise GeoAssetsError("POSTGRES_NOT_FOUND", "PostgreSQL was installed, but without PostGIS, btree_gist or unaccent")
    return found


def usable_data_dir(home: Path) -> Path:
    """`<home>/postgres`, or a place under /var/lib where the server's user cannot reach that (a home below /root)."""
    user = _server_user()
    if user is None or _may_traverse(home, user):
        return home / "postgres"
    return Path("/var/lib/geo_assets") / hashlib.sha256(str(home).encode()).hexdigest()[:12] / "postgres"


def _server_user() -> pwd.struct_passwd | None:
    """Whom the server runs as: ourselves, unless we are root."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return pwd.getpwnam("nobody")


def _may_traverse(folder: Path, user: pwd.struct_passwd) -> bool:
    existing = next(p for p in (folder, *folder.parents) if p.exists())
    probe = subprocess.run(["test", "-x", str(existing)], user=user.pw_uid, group=user.pw_gid, extra_groups=[], check=False)
    return probe.returncode == 0


def free_port(preferred: int | None = None) -> int:
    """A loopback port that nobody listens on; the preferred one if it is free."""
    for port in (preferred, 0) if preferred else (0,):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    msg = "no loopback port is free"
    raise OSError(msg)


@dataclass(frozen=True)
class Cluster:
    """One cluster: its directory, port and the superuser's password. Every method may be repeated."""

    binaries: Binaries
    data_dir: Path
    log_file: Path
    port: int
    password: str
    extra_settings: Mapping[str, str] = field(default_factory=dict)

    def dsn(self, database: str = "postgres") -> str:
        """The superuser's connection."""
        return f"postgresql://postgres:{self.password}@127.0.0.1:{self.port}/{database}"

    def init(self) -> None:
        """Make the data directory, whole or not at all.

        Raises:
            GeoAssetsError: POSTGRES_START_FAILED with what initdb said.
        """
        if (self.data_dir / "PG_VERSION").exists():
            return
        self.data_dir.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self.data_dir, ignore_errors=True)
        work = Path(tempfile.mkdtemp(prefix="initdb-", dir=self.data_dir.parent))
        self._give_to_server(work)
        password_file = work / "password"
        password_file.write_text(self.password, encoding="utf-8")
        self._give_to_server(password_file)
        try:
            done = self._run(
                [
                    str(self.binaries.bin / "initdb"),
                    "-D",
                    str(work / "data"),
                    "-U",
                    "postgres",
                    "-A",
                    "scram-sha-256",
                    "--pwfile",
                    str(password_file),
                    "-E",
                    "UTF8",
                    "--locale",
                    "C.UTF-8",
                    "--data-checksums",
                    "--no-instructions",
                ]
            )
            if done.returncode:
                raise GeoAssetsError("POSTGRES_START_FAILED", f"initdb failed: {_tail(done.stderr)}")
            (work / "data").rename(self.data_dir)
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def start(self) -> None:
        """Start the server and wait until it answers; it outlives this process.

        Raises:
            GeoAssetsError: POSTGRES_START_FAILED with the end of its log.
        """
        if self.pid() is not None:
            return
        (self.data_dir / "postmaster.pid").unlink(missing_ok=True)  # of a server that is gone: pid() looked
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        self.log_file.touch()
        self._give_to_server(self.log_file)
        settings = {**_SETTINGS, "port": str(self.port), **self.extra_settings}
        options = " ".join(f"-c {key}='{value}'" for key, value in settings.items())
        command = [str(self.binaries.bin / "pg_ctl"), "start", "-w", "-t", str(_START_SECONDS), "-D", str(self.data_dir), "-o", options]
        with self.log_file.open("ab") as log:  # the server writes to the handle it inherits: it need not reach the path
            done = self._run(command, stdout=log, stderr=log)
        if done.returncode:
            raise GeoAssetsError(
                "POSTGRES_START_FAILED", f"PostgreSQL did not start ({self.log_file}): {_tail(self.log_file.read_text(errors='replace'))}"
            )

    def stop(self, mode: str = "fast") -> bool:
        """Stop the server if it is ours and runs; returns whether it ran.

        Raises:
            GeoAssetsError: POSTGRES_START_FAILED, it did not stop.
        """
        if self.pid() is None:
            return False
        done = self._run([str(self.binaries.bin / "pg_ctl"), "stop", "-w", "-t", str(_START_SECONDS), "-m", mode, "-D", str(self.data_dir)])
        if done.returncode and self.pid() is not None:
            raise GeoAssetsError("POSTGRES_START_FAILED", f"PostgreSQL did not stop: {_tail(done.stderr)}")
        return True

    def pid(self) -> int | None:
        """The server's pid if it runs and is ours: a stale pid file can name a stranger after a reboot."""
        try:
            pid = int((self.data_dir / "postmaster.pid").read_text().splitlines()[0])
            command = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
        except (OSError, ValueError, IndexError):
            return None
        return pid if str(self.data_dir) in command else None

    def _run(self, command: list[str], **streams: Any) -> subprocess.CompletedProcess[str]:
        user = _server_user()
        identity: dict[str, Any] = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if user else {}
        env = {"PATH": os.defpath, "LC_ALL": "C.UTF-8", "HOME": "/", **self.binaries.environment}
        if not streams:
            streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.run(
            command, env=env, text=True, check=False, cwd="/", stdin=subprocess.DEVNULL, start_new_session=True, **identity, **streams
        )

    def _give_to_server(self, path: Path) -> None:
        user = _server_user()
        if user:
            os.chown(path, user.pw_uid, user.pw_gid)


def _tail(text: str, lines: int = 5) -> str:
    return re.sub(r"\s*\n\s*", " / ", "\n".join(text.strip().splitlines()[-lines:]))
