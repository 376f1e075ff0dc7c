"""A private PostgreSQL cluster: found, initialised, started on loopback, stopped.

Here: binaries and the cluster. Not here: getting the binaries (`debian_packages.py`), what is in the database
(`database/`).

PostgreSQL refuses to run as root: if we are root, the server runs as an unprivileged user.
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
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from psycopg.pq import PGconn, Ping

from geo_assets.errors import GeoAssetsError
from geo_assets.local.debian_packages import UNPACKED, Log, install, missing_libraries, run, unpacked_environment

#: The extensions that the project needs, by the names of their control files.
_EXTENSIONS = ("postgis", "btree_gist", "unaccent")

#: Sized for a laptop or a small server (4-24 GB). Durability stays on: committed data are not lost.
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
    """Return PostgreSQL with PostGIS on this machine: the system's, newest first, then the `pg_config` on PATH, then
    the one unpacked in `home`.

    If `home` has a cluster already, only the major version that made it can be used: another cannot read its files.
    """
    wanted = cluster_version(home)
    for binaries, share in _candidates(home):
        complete = (binaries.bin / "initdb").exists() and all(
            (share / f"extension/{name}.control").exists() for name in _EXTENSIONS
        )
        if complete and wanted in {None, binaries.version}:
            return binaries
    return None


def cluster_version(home: Path) -> int | None:
    """Return the PostgreSQL major version of the cluster of `home`; None if there is no cluster."""
    try:
        return int((usable_data_dir(home) / "PG_VERSION").read_text())
    except (OSError, ValueError):
        return None


def _candidates(home: Path) -> Iterator[tuple[Binaries, Path]]:
    """Yield installations to check, with their share directories."""
    yield from _debian_layout(Path("/"), {})
    with suppress(GeoAssetsError, OSError):  # missing, or Debian's wrapper without a server
        version, folder, share = (
            run(["pg_config", option]).strip() for option in ("--version", "--bindir", "--sharedir")
        )
        if number := re.search(r"\d+", version):
            yield Binaries(Path(folder), int(number[0])), Path(share)
    unpacked = home / UNPACKED
    if unpacked.is_dir() and not missing_libraries(
        unpacked
    ):  # an upgrade of the machine can remove libraries that it needs
        yield from _debian_layout(unpacked, unpacked_environment(unpacked))


def _debian_layout(root: Path, environment: Mapping[str, str]) -> Iterator[tuple[Binaries, Path]]:
    versions = [int(folder.name) for folder in root.glob("usr/lib/postgresql/*") if folder.name.isdigit()]
    for version in sorted(versions, reverse=True):
        yield (
            Binaries(root / f"usr/lib/postgresql/{version}/bin", version, environment),
            root / f"usr/share/postgresql/{version}",
        )


def ensure_binaries(home: Path, log: Log) -> Binaries:
    """As `find_binaries`; missing programs are installed or unpacked first.

    Raises:
        GeoAssetsError: POSTGRES_NOT_FOUND.
    """
    found = find_binaries(home)
    if found is None:
        started = time.monotonic()
        install(home, log, cluster_version(home))
        log(f"PostgreSQL and PostGIS: {time.monotonic() - started:.0f} s")
        found = find_binaries(home)
    if found is None:
        raise GeoAssetsError(
            "POSTGRES_NOT_FOUND", "PostgreSQL was installed, but is not usable or lacks PostGIS, btree_gist or unaccent"
        )
    return found


def usable_data_dir(home: Path) -> Path:
    """Return `<home>/postgres`, or a directory under /var/lib if the server's user cannot reach that (a home below
    /root).

    A cluster stays where it was created: if the permissions of `home` change later, an empty one elsewhere would look
    like lost data.
    """
    inside = home / "postgres"
    elsewhere = Path("/var/lib/geo_assets") / hashlib.sha256(str(home).encode()).hexdigest()[:12] / "postgres"
    if os.geteuid() != 0:
        return inside
    for made in (inside, elsewhere):
        if (made / "PG_VERSION").exists():
            return made
    return inside if _may_traverse(home, _server_user(inside)) else elsewhere


class Account(NamedTuple):
    """The user that a process runs as."""

    uid: int
    gid: int


def _server_user(data_dir: Path) -> Account | None:
    """Return the server's user: ourselves; if we are root, the owner of the cluster, or for a new one `postgres` or
    `nobody`.
    """
    if os.geteuid() != 0:
        return None
    if (data_dir / "PG_VERSION").exists():
        owner = data_dir.stat()
        return Account(owner.st_uid, owner.st_gid)
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            found = pwd.getpwnam(name)
            return Account(found.pw_uid, found.pw_gid)
    raise GeoAssetsError(
        "POSTGRES_START_FAILED", "PostgreSQL refuses to run as root, and there is neither a user postgres nor nobody"
    )


def _identity(user: Account | None) -> dict[str, Any]:
    """Return arguments of `subprocess.run` to run as `user`; None: as ourselves."""
    return {"user": user.uid, "group": user.gid, "extra_groups": []} if user else {}


def _may_traverse(folder: Path, user: Account | None) -> bool:
    existing = next(p for p in (folder, *folder.parents) if p.exists())
    return subprocess.run(["test", "-x", str(existing)], check=False, cwd="/", **_identity(user)).returncode == 0


def free_port(preferred: int | None = None) -> int:
    """Return a free loopback port; the preferred one if possible."""
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
        """Return the superuser's connection string."""
        return f"postgresql://postgres:{self.password}@127.0.0.1:{self.port}/{database}"

    def init(self) -> None:
        """Create the data directory, completely or not at all.

        Raises:
            GeoAssetsError: POSTGRES_START_FAILED with the output of initdb.
        """
        if self._is_initialised():
            return
        self.data_dir.parent.mkdir(parents=True, exist_ok=True)
        if self.data_dir.exists() and any(self.data_dir.iterdir()):
            raise GeoAssetsError(
                "POSTGRES_START_FAILED",
                f"{self.data_dir} is not empty and no PostgreSQL cluster",
                remedy="move it away",
            )
        for left_by_a_killed_run in self.data_dir.parent.glob("initdb-*"):  # contains the password
            shutil.rmtree(left_by_a_killed_run, ignore_errors=True)
        work = Path(tempfile.mkdtemp(prefix="initdb-", dir=self.data_dir.parent))
        self._give_to_server(work)
        password_file = work / "password"
        password_file.write_text(self.password, encoding="utf-8")
        self._give_to_server(password_file)
        try:
            access = ["-U", "postgres", "-A", "scram-sha-256", "--pwfile", str(password_file)]
            content = ["-E", "UTF8", "--locale", "C.UTF-8", "--data-checksums", "--no-instructions"]
            done = self._run([str(self.binaries.bin / "initdb"), "-D", str(work / "data"), *access, *content])
            if done.returncode:
                raise GeoAssetsError("POSTGRES_START_FAILED", f"initdb failed: {_tail(done.stdout + done.stderr)}")
            (work / "data").rename(self.data_dir)
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def start(self) -> None:
        """Start the server and wait until it answers; it outlives this process.

        Raises:
            GeoAssetsError: POSTGRES_START_FAILED with the end of its log.
        """
        if not self._is_initialised():
            raise GeoAssetsError("POSTGRES_START_FAILED", f"there is no PostgreSQL cluster in {self.data_dir}")
        if self._answers_soon():
            return
        self._forget_dead_server()
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        self.log_file.touch()
        self._give_to_server(self.log_file)
        settings = {**_SETTINGS, "port": str(self.port), **self.extra_settings}
        options = " ".join(f"-c {key}='{value}'" for key, value in settings.items())
        command = [
            str(self.binaries.bin / "pg_ctl"),
            "start",
            "-w",
            "-t",
            str(_START_SECONDS),
            "-D",
            str(self.data_dir),
            "-o",
            options,
        ]
        with self.log_file.open("ab") as log:  # the server inherits the open file: it need not have access to the path
            begin = log.seek(0, os.SEEK_END)
            done = self._run(command, stdout=log, stderr=log)
        if done.returncode and self.pid() is not None:
            raise self._not_ready_in_time()
        if done.returncode:
            said = self.log_file.read_bytes()[begin:].decode(errors="replace")
            raise GeoAssetsError("POSTGRES_START_FAILED", f"PostgreSQL did not start ({self.log_file}): {_tail(said)}")

    def stop(self, mode: str = "fast") -> bool:
        """Stop the server if it is ours and runs; return whether it ran.

        Raises:
            GeoAssetsError: POSTGRES_START_FAILED, it did not stop.
        """
        if self.pid() is None:
            return False
        done = self._run(
            [
                str(self.binaries.bin / "pg_ctl"),
                "stop",
                "-w",
                "-t",
                str(_START_SECONDS),
                "-m",
                mode,
                "-D",
                str(self.data_dir),
            ]
        )
        if done.returncode and self.pid() is not None:
            raise GeoAssetsError(
                "POSTGRES_START_FAILED",
                f"PostgreSQL did not stop ({self.log_file}): {_tail(done.stdout + done.stderr)}",
            )
        return True

    def pid(self) -> int | None:
        """Return the server's pid if it runs and is ours: after a reboot a stale pid file can name another process."""
        try:
            pid = int((self.data_dir / "postmaster.pid").read_text().splitlines()[0])
            command = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
        except (OSError, ValueError, IndexError):
            return None
        return pid if str(self.data_dir) in command.split("\0") else None

    def _is_initialised(self) -> bool:
        try:
            return (self.data_dir / "PG_VERSION").exists()
        except PermissionError as error:
            owner = self.data_dir.stat().st_uid
            message = f"the cluster in {self.data_dir} belongs to another user (uid {owner})"
            raise GeoAssetsError(
                "POSTGRES_START_FAILED", message, remedy="call this as that user, or as root"
            ) from error

    def answers(self) -> bool:
        """Whether the server runs and accepts connections: it does not while it starts, recovers from a crash, or
        stops.

        Its pid file is no proof: during recovery from a crash of one of its processes it still says "ready".
        """
        conninfo = f"host=127.0.0.1 port={self.port} dbname=postgres sslmode=disable connect_timeout=2"
        return self.pid() is not None and PGconn.ping(conninfo.encode()) == Ping.OK

    def _answers_soon(self) -> bool:
        """Whether the server runs already; wait while it does not accept connections yet, or is about to end."""
        deadline = time.monotonic() + _START_SECONDS
        while self.pid() is not None:
            if self.answers():
                return True
            if time.monotonic() > deadline:
                raise self._not_ready_in_time()
            time.sleep(0.05)
        return False

    def _not_ready_in_time(self) -> GeoAssetsError:
        return GeoAssetsError(
            "POSTGRES_START_FAILED",
            f"PostgreSQL runs, but has taken no connection within {_START_SECONDS} s",
            remedy=f"it may be recovering still, which {self.log_file} says: wait, then: geo-assets up",
        )

    def _forget_dead_server(self) -> None:
        """Remove a pid file whose process is gone but seems alive to PostgreSQL.

        That is a zombie (a container whose process 1 does not reap), or another program that now has the pid. If it is
        a postgres, it stays: PostgreSQL knows whether its processes still use the data, and a live server that loses
        its file ends itself.
        """
        pid_file = self.data_dir / "postmaster.pid"
        with suppress(OSError, ValueError, IndexError):
            pid = int(pid_file.read_text().splitlines()[0])
            if b"postgres" not in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0]:
                pid_file.unlink()

    def _run(self, command: list[str], **streams: Any) -> subprocess.CompletedProcess[str]:
        identity = _identity(_server_user(self.data_dir))
        env = {"PATH": os.defpath, "LC_ALL": "C.UTF-8", "HOME": "/", **self.binaries.environment}
        if not streams:
            streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.run(
            command,
            env=env,
            text=True,
            check=False,
            cwd="/",
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            **identity,
            **streams,
        )

    def _give_to_server(self, path: Path) -> None:
        user = _server_user(self.data_dir)
        if user:
            os.chown(path, user.uid, user.gid)


def _tail(text: str, lines: int = 5) -> str:
    return re.sub(r"\s*\n\s*", " / ", "\n".join(text.strip().splitlines()[-lines:]))
