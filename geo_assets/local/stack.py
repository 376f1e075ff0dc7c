"""The local stack: PostgreSQL, migrations, Dagster's code location, webserver and daemon, on loopback, in the
background.

Here: up, down, and the environment for a shell. Not here: checks of the machine (`doctor.py`), single programs
(`postgresql.py`, `processes.py`).

All files of a stack are in its home; two stacks with different homes run side by side.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shlex
import shutil
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

import psycopg
from pydantic import BaseModel, Field

from geo_assets import __version__
from geo_assets.errors import GeoAssetsError
from geo_assets.extras import insist_on_extras
from geo_assets.home import default_home, project_file
from geo_assets.local import processes
from geo_assets.local.instance import celery_exports, instance_config
from geo_assets.local.postgresql import Binaries, Cluster, ensure_binaries, find_binaries, free_port, usable_data_dir
from geo_assets.local.processes import Started
from geo_assets.logs import dagster_format
from geo_assets.sandbox.scratch import sweep
from geo_assets.settings import STACK_ENV_FILE, Role, Settings, load_settings

Log = Callable[[str], None]

STATE_FILE = "stack.json"

#: Preferred ports; a port that is taken is replaced by a free one, which is then remembered.
_PREFERRED_PORTS = {"postgres": 54320, "webserver": 3000, "code_server": 4266, "api": 8000, "serve": 8080}

#: A cold start compiles nothing but imports a lot; on a loaded two-core machine this has taken 40 s.
_ANSWER_SECONDS = 120


#: Seconds that `up` waits for runs of the release before, when it has to migrate.
_WAIT_FOR_JOBS = 600


class StackState(BaseModel):
    """What `up` found or chose, stored for the next time."""

    ports: dict[str, int] = Field(default_factory=dict)
    passwords: dict[str, str] = Field(default_factory=dict)
    processes: dict[str, Started] = Field(default_factory=dict)
    dagster_version: str = ""


class Stack:
    """The stack of one home."""

    def __init__(self, home: Path | None = None) -> None:
        self.home = home or default_home()
        self._state_path = self.home / STATE_FILE

    # -- state ---------------------------------------------------------------------------------------------------------

    def state(self) -> StackState:
        """Return the stored state of this home; empty before the first `up`."""
        try:
            return StackState.model_validate_json(self._state_path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return StackState()

    @property
    def is_made(self) -> bool:
        """Whether `up` has made a stack in this home."""
        return self._state_path.exists()

    def _save(self, state: StackState) -> None:
        _write_private(self._state_path, state.model_dump_json(indent=2))

    @contextmanager
    def _exclusively(self, *, wait: bool = True) -> Iterator[None]:
        """Allow one `up` or `down` of a home at a time; BlockingIOError if another is running and `wait` is false."""
        self.home.mkdir(parents=True, exist_ok=True)
        with (self.home / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            yield

    # -- up ------------------------------------------------------------------------------------------------------------

    def up(self, log: Log, *, database_only: bool = False) -> Settings:
        """Start what is not running, wait until each part answers. Repeating it is harmless.

        Args:
            log: called with a line for each part.
            database_only: all but Dagster's processes and the API, which `dagster dev` stands in for.

        Raises:
            GeoAssetsError: POSTGRES_NOT_FOUND, POSTGRES_START_FAILED, START_FAILED, each with the log to read;
                INVALID_SETTINGS, EXTRA_NOT_INSTALLED: nothing was started.
        """
        insist_on_extras(load_settings())
        with self._exclusively():
            state = self.state()
            for name in self.dead_parts():
                log(f"{name.replace('_', ' ')} was down ({self.log_file(name)})")
            binaries = ensure_binaries(self.home, log)
            with _alone_on_this_machine():
                self._start_postgres(state, binaries, log)
                settings = self._write_settings(state)
                self._migrate(state, settings, log)
                self._prepare_dagster(state, settings)
                if not database_only:
                    self._start_dagster(state, settings, log)
            if not database_only:
                self._ensure(state, "supervisor", ["-m", "geo_assets.local.supervisor"], self.environment(settings))
        _see_to_storage(settings, log)
        return settings

    def serve(self, log: Log) -> Settings:
        """Start the server of what was published as a part of the running stack, unless it runs already.

        Raises:
            GeoAssetsError: STACK_NOT_RUNNING, START_FAILED.
        """
        with self._exclusively():
            state = self.state()
            if (supervisor := state.processes.get("supervisor")) is None or not supervisor.alive:
                raise GeoAssetsError("STACK_NOT_RUNNING", f"the stack of {self.home} is not running")
            with _alone_on_this_machine():
                settings = self._write_settings(state)
                with _timed(log, "server"):
                    self._ensure(state, "serve", self._commands(settings)["serve"], self.environment(settings))
                    self._wait("serve", state, lambda: listens(settings.serve_port))
        return settings

    def serves(self, settings: Settings) -> bool:
        """Whether the server of what was published is a part of this stack: `up` starts it, or `serve` has."""
        return can_serve() and (settings.up_serves or "serve" in self.state().processes)

    # -- what the supervisor does --------------------------------------------------------------------------------------

    def dead_parts(self) -> list[str]:
        """Return the parts that `up` started and that no longer run."""
        state = self.state()
        dead = [name for name, process in state.processes.items() if not process.alive]
        binaries = find_binaries(self.home) if state.processes else None
        if binaries and self.cluster(state, binaries).pid() is None:
            dead.insert(0, "postgresql")
        return dead

    def is_supervised_by(self, pid: int) -> bool:
        """Whether this process is the supervisor of this home."""
        supervisor = self.state().processes.get("supervisor")
        return supervisor is not None and supervisor.pid == pid

    def start_again(self, name: str) -> bool:
        """Restart a part that has died, on its port; false if `up` or `down` is running, which has priority.

        Raises:
            GeoAssetsError: POSTGRES_START_FAILED; START_FAILED, another program has its port.
        """
        with (
            suppress(BlockingIOError),
            self._exclusively(wait=False),
        ):  # no machine-wide lock: no port is chosen here
            state, settings = self.state(), load_settings()
            commands = self._commands(settings)
            if name == "postgresql" and (binaries := find_binaries(self.home)) and state.processes:
                self.cluster(state, binaries).start()
            elif name in state.processes and name in commands and not state.processes[name].alive:
                port = state.ports.get(name)
                if port and free_port(port) != port:
                    raise GeoAssetsError(
                        "START_FAILED", f"another program has port {port}", remedy="choose another: geo-assets up"
                    )
                self._ensure(state, name, commands[name], self.environment(settings))
            return True
        return False

    def _commands(self, settings: Settings) -> dict[str, list[str]]:
        """Return the command for each part, in the order in which they depend on each other."""
        workspace = str(project_file("workspace.yaml"))
        commands = {
            "code_server": ["-m", "geo_assets.defs.code_server", "--port", str(settings.code_server_port)],
            "webserver": [
                "-m",
                "geo_assets.defs.webserver",
                "--port",
                str(settings.webserver_port),
                "--workspace",
                workspace,
            ],
            "api": ["-m", "geo_assets.api.serve", str(settings.api_port)],
            "daemon": ["-m", "dagster._daemon", "run", "-w", workspace, "--log-format", dagster_format(settings)],
        }
        if can_serve():
            commands["serve"] = ["-m", "geo_assets.serving.serve", str(settings.serve_port)]
        return commands

    def _start_postgres(self, state: StackState, binaries: Binaries, log: Log) -> None:
        for name in ("superuser", "migrator", "pipeline", "reader"):
            state.passwords.setdefault(name, secrets.token_urlsafe(18))
        cluster = self.cluster(state, binaries)
        if cluster.pid() is None:
            state.ports["postgres"] = free_port(state.ports.get("postgres", _PREFERRED_PORTS["postgres"]))
            cluster = self.cluster(state, binaries)
            self._save(state)  # before the data directory is created: its password must not be lost
            with _timed(log, "PostgreSQL"):
                cluster.init()
                cluster.start()
        elif not cluster.answers():
            with _timed(log, "PostgreSQL was starting or recovering"):
                cluster.start()

    def cluster(self, state: StackState, binaries: Binaries) -> Cluster:
        """Return this home's PostgreSQL."""
        return Cluster(
            binaries,
            usable_data_dir(self.home),
            self.home / "logs" / "postgresql.log",
            state.ports.get("postgres", 0),
            state.passwords.get("superuser", ""),
            extra_settings=json.loads(os.environ.get("GEO_ASSETS_POSTGRES_SETTINGS", "{}")),
        )

    def _write_settings(self, state: StackState) -> Settings:
        for name in ("webserver", "code_server", "api", "serve"):
            process = state.processes.get(name)
            if process is None or not process.alive:
                state.ports[name] = free_port(state.ports.get(name, _PREFERRED_PORTS[name]))
        self._save(state)
        lines = {
            "PG_PORT": state.ports["postgres"],
            "WEBSERVER_PORT": state.ports["webserver"],
            "CODE_SERVER_PORT": state.ports["code_server"],
            "API_PORT": state.ports["api"],
            "SERVE_PORT": state.ports["serve"],
            **{f"{role.upper()}_PASSWORD": state.passwords[role] for role in ("migrator", "pipeline", "reader")},
        }
        _write_private(
            self.home / STACK_ENV_FILE, "".join(f"GEO_ASSETS_{key}={value}\n" for key, value in lines.items())
        )
        (self.home / "containers").mkdir(exist_ok=True)
        return load_settings()

    def _migrate(self, state: StackState, settings: Settings, log: Log) -> None:
        from geo_assets.database.bootstrap import bootstrap
        from geo_assets.database.migrate import migrate, up_to_date
        from geo_assets.ledger.pause import nothing_at_work

        binaries = find_binaries(self.home)
        if binaries is None or up_to_date(settings):
            return
        with _timed(log, "roles, extensions, pgstac, migrations"):
            bootstrap(self.cluster(state, binaries).dsn(), settings)
            with nothing_at_work(settings, _WAIT_FOR_JOBS, log, "the database is being migrated"):
                migrate(settings)
        state.dagster_version = ""  # the database may be a new one, for which Dagster's schema has to be made, too

    def forget_dagster(self) -> None:
        """Have the next `up` bring Dagster's tables up to date: the database is another one."""
        if self.is_made:
            with self._exclusively():
                state = self.state()
                state.dagster_version = ""
                self._save(state)

    def _prepare_dagster(self, state: StackState, settings: Settings) -> None:
        """Prepare Dagster's home and its schema in the database."""
        from importlib.metadata import version

        home = settings.dagster_home
        home.mkdir(parents=True, exist_ok=True)
        (home / "dagster.yaml").write_text(instance_config(settings), encoding="utf-8")
        if state.dagster_version != version("dagster"):
            self._run_to_end(["-m", "dagster", "instance", "migrate"], self.environment(settings), "dagster-migrate")
            state.dagster_version = version("dagster")
            self._save(state)

    def _start_dagster(self, state: StackState, settings: Settings, log: Log) -> None:
        commands = self._commands(settings)
        env = self.environment(settings)
        with _timed(log, "Dagster"):
            fresh = self._ensure(state, "code_server", commands["code_server"], env)
            self._wait("code_server", state, lambda: listens(settings.code_server_port))
            if fresh:  # they are connected to the old code location
                processes.stop([p for name, p in state.processes.items() if name in {"webserver", "daemon"}])
            serves = self.serves(settings)
            for name in ("webserver", "api", "daemon", *(["serve"] if serves else [])):
                self._ensure(state, name, commands[name], env)
            self._wait("webserver", state, lambda: _location_is_loaded(settings))
            self._wait("api", state, lambda: listens(settings.api_port))
            self._wait("daemon", state, lambda: _daemon_beats(settings, state.processes["daemon"]))
            if serves:
                self._wait("serve", state, lambda: listens(settings.serve_port))

    def _ensure(self, state: StackState, name: str, arguments: list[str], env: dict[str, str]) -> bool:
        process = state.processes.get(name)
        if process is not None and process.alive:
            return False
        state.processes[name] = processes.start(
            [sys.executable, *arguments], env=env, log_file=self.log_file(name), cwd=self.home
        )
        self._save(state)
        return True

    def _run_to_end(self, arguments: list[str], env: dict[str, str], name: str) -> None:
        import subprocess

        self.log_file(name).parent.mkdir(parents=True, exist_ok=True)
        with self.log_file(name).open("ab") as out:
            done = subprocess.run(
                [sys.executable, *arguments], env=env, cwd=self.home, stdout=out, stderr=out, check=False
            )
        if done.returncode:
            raise self._start_failed(name)

    def _wait(self, name: str, state: StackState, answers: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _ANSWER_SECONDS
        while not answers():
            if not state.processes[name].alive or time.monotonic() > deadline:
                raise self._start_failed(name)
            time.sleep(0.2)

    def _start_failed(self, name: str) -> GeoAssetsError:
        log = self.log_file(name)
        tail = " / ".join(log.read_text(errors="replace").strip().splitlines()[-3:])[-600:]
        return GeoAssetsError("START_FAILED", f"{name.replace('_', ' ')} did not come up ({log}): {tail}")

    def log_file(self, name: str) -> Path:
        """Return the log file of a part of the stack."""
        return self.home / "logs" / f"{name}.log"

    # -- down ----------------------------------------------------------------------------------------------------------

    def down(self) -> list[str]:
        """Stop exactly what `up` started; return the names of the parts that ran."""
        if not self._state_path.exists():
            return []
        with self._exclusively():
            state = self.state()
            ran = [name for name, process in state.processes.items() if process.alive]
            processes.stop(list(state.processes.values()))
            state.processes = {}
            self._save(state)
            binaries = find_binaries(self.home)
            if binaries and self.cluster(state, binaries).stop():
                ran.append("postgresql")
            sweep(self.home / "scratch")  # a load from the command line may be using it
            return ran

    # -- what a shell needs --------------------------------------------------------------------------------------------

    def environment(self, settings: Settings) -> dict[str, str]:
        """Return the environment of the stack's processes: the caller's, without what slows Python down, plus the
        exports.
        """
        env = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
        return {**env, **self.exports(settings)}

    def exports(self, settings: Settings, role: Role = "pipeline") -> dict[str, str]:
        """Return what `geo-assets env` prints: for the pipeline enough for psql, ogr2ogr, dagster and geo-assets
        itself, else the database alone.
        """
        user, password = settings.credentials(role)
        database = {
            "PGHOST": settings.pg_host,
            "PGPORT": str(settings.pg_port),
            "PGUSER": user,
            "PGPASSWORD": password,
            "PGDATABASE": settings.pg_database,
        }
        if role != "pipeline":
            return database
        return {
            "GEO_ASSETS_HOME": str(self.home),
            **database,
            "DAGSTER_HOME": str(settings.dagster_home),
            "GEO_ASSETS_DAGSTER_POSTGRES_URL": settings.dagster_postgres_url,
            "GEO_ASSETS_CODE_SERVER_PORT": str(settings.code_server_port),
            "GEO_ASSETS_WEBSERVER_URL": settings.stack_webserver_url,
            "GEO_ASSETS_API_URL": settings.api_url,
            "DAGSTER_DISABLE_TELEMETRY": "1",
            "GEO_ASSETS_VERSION": __version__,
            **celery_exports(settings),
        }

    def psql(self, settings: Settings) -> tuple[str, dict[str, str]]:
        """Return the psql of this stack, with the read-only role: the program and its environment.

        Raises:
            GeoAssetsError: POSTGRES_NOT_FOUND.
        """
        own = self.exports(settings, "reader")
        binaries = find_binaries(self.home)
        if binaries is not None and (binaries.bin / "psql").exists():
            return str(binaries.bin / "psql"), {**os.environ, **binaries.environment, **own}
        if (found := shutil.which("psql")) is None:
            raise GeoAssetsError("POSTGRES_NOT_FOUND", "psql is not on this machine")
        return found, {**os.environ, **own}


def can_serve() -> bool:
    """Whether the packages of the extra `serve` are installed."""
    return all(find_spec(name) for name in ("stac_fastapi", "titiler", "tipg"))


def insist_on_serving() -> None:
    """Raise unless the packages of the extra `serve` are installed.

    Raises:
        GeoAssetsError: SERVING_NOT_INSTALLED.
    """
    if not can_serve():
        raise GeoAssetsError("SERVING_NOT_INSTALLED", "the packages that serve the catalogue are not installed")


def export_lines(exports: dict[str, str]) -> str:
    """`export` lines for a shell."""
    return "".join(f"export {key}={shlex.quote(value)}\n" for key, value in exports.items())


def _see_to_storage(settings: Settings, log: Log) -> None:
    """Create the containers and queues that are written to; report what is unavailable or missing. The stack is up
    nevertheless: a job waits.
    """
    from geo_assets.local.storage_checks import storage_checks

    for check in storage_checks(settings, make=True):
        try:
            check.look()
        except GeoAssetsError as error:
            log(f"warning: {check.what}: {error.code}: {error.message} (hint: {error.remedy})")


@contextmanager
def _timed(log: Log, what: str) -> Iterator[None]:
    started = time.monotonic()
    yield
    log(f"{what}: {time.monotonic() - started:.1f} s")


@contextmanager
def _alone_on_this_machine() -> Iterator[None]:
    """Let one stack at a time choose ports and start to listen: a port that was free a moment ago may be taken now, and
    gRPC even shares it silently.

    The lock is an abstract Unix socket: one name for a whole network namespace, like the ports, and gone with its
    holder.
    """
    deadline = time.monotonic() + _ANSWER_SECONDS
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as lock:
        while True:
            try:
                lock.bind("\0geo_assets-up")
                break
            except OSError:
                if time.monotonic() > deadline:
                    break  # a stack that takes this long has chosen its ports already
                time.sleep(0.2)
        yield


def _write_private(path: Path, text: str) -> None:
    """Write a file atomically, readable by its owner alone: it contains passwords."""
    temporary = path.with_suffix(".tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    temporary.replace(path)


def listens(port: int) -> bool:
    """Whether a process accepts connections on a loopback port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _location_is_loaded(settings: Settings) -> bool:
    from geo_assets.submissions.launch import location_is_loaded

    try:
        return location_is_loaded(settings.stack_webserver_url, "geo_assets")  # its name in our workspace.yaml
    except (GeoAssetsError, urllib.error.URLError, OSError):
        return False


def _daemon_beats(settings: Settings, daemon: Started) -> bool:
    """Whether a daemon has written a heartbeat since this one started."""
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    age = uptime - daemon.start_ticks / os.sysconf("SC_CLK_TCK")
    query = (
        "select count(*) from dagster.daemon_heartbeats where daemon_type in ('SENSOR', 'QUEUED_RUN_COORDINATOR',"
        " 'BACKFILL') and timestamp at time zone 'UTC' > now() - make_interval(secs => %s)"
    )
    try:
        with psycopg.connect(settings.dsn("pipeline")) as conn:
            row = conn.execute(query, (age + 1,)).fetchone()
    except psycopg.Error:
        return False
    return row is not None and row[0] >= 3
