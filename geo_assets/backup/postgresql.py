"""`pg_dump`, `pg_restore` and `psql`: found, and called as the role that owns the schema, which needs no administrator.

Here: these programs. Not here: when they are called (`backup.py`, `restore.py`).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from geo_assets.database.connections import connect
from geo_assets.errors import GeoAssetsError
from geo_assets.ledger.backup import RESTORING
from geo_assets.local.postgresql import find_binaries
from geo_assets.settings import Settings
from geo_assets.text import one_line

#: Tables that are being loaded are nobody's yet, and come and go; that a restoration was interrupted is of its own
#: database.
_NOT_DUMPED = ("--exclude-table=vector_staging.*", f"--exclude-schema={RESTORING}")

#: A table that is dropped between the look at the catalogue and its lock ends pg_dump; so often it is called anew.
_TRIES = 3

#: Entries of a dump that the new database has from its administrator (`database/bootstrap.py`), from `prepare`
#: (`ledger/backup.py`), or that come apart.
_NOT_RESTORED = re.compile(
    r"^\d+; \d+ \d+ ("
    r"EXTENSION |COMMENT - EXTENSION |ACL pg_catalog |COMMENT - SCHEMA public |TABLE DATA \S+ spatial_ref_sys "
    r"|SCHEMA - (public|geo|vector|vector_staging|vector_versions|vector_waiting) )"
)


#: Scripts of pg_dump name every object by its schema, and let functions find nothing else. Those of pgstac look for
#: their own and for PostGIS's without naming schemas, also where an index or a column is computed by them.
_NO_SEARCH_PATH = b"set_config('search_path', '', false)"
_SEARCH_PATH = b"set_config('search_path', 'pgstac, public', false)"

_PSQL = ("--no-psqlrc", "--quiet", "--no-password", "--set=ON_ERROR_STOP=1", "--output=/dev/null")


def server_version(settings: Settings) -> int:
    """The major version of the server."""
    with connect(settings, "migrator") as conn:
        return conn.info.server_version // 10000


def insist(settings: Settings) -> None:
    """Raise unless these programs are here, and can read and write what the server can.

    Raises:
        GeoAssetsError: PG_DUMP_NOT_FOUND.
    """
    for name in ("pg_dump", "pg_restore", "psql"):
        _program(settings, name)


def dump(settings: Settings, destination: Path) -> None:
    """Write the database as of one moment to a file.

    Raises:
        GeoAssetsError: PG_DUMP_NOT_FOUND; DISK_FULL; DATABASE_UNAVAILABLE, with what pg_dump says.
    """
    program, environment = _program(settings, "pg_dump")
    command = [program, "--format=custom", "--no-password", *_NOT_DUMPED, "--file", str(destination)]
    said = ""
    for _ in range(_TRIES):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if not done.returncode:
            return
        said = _reason(done.stderr)
        if "does not exist" not in said and "could not open relation" not in said:
            break
    full = "no space left" in said.lower()
    raise GeoAssetsError("DISK_FULL" if full else "DATABASE_UNAVAILABLE", f"pg_dump failed: {said}")


def restore(settings: Settings, source: Path) -> None:
    """Make all that is in a dump, in one transaction, in a database that has nothing of it.

    Raises:
        GeoAssetsError: PG_DUMP_NOT_FOUND; RESTORE_FAILED, with what the server says.
    """
    program, environment = _program(settings, "pg_restore")
    with tempfile.NamedTemporaryFile("w", suffix=".list") as chosen:
        entries = _output([program, "--list", str(source)], environment).splitlines(keepends=True)
        chosen.writelines(entry for entry in entries if not _NOT_RESTORED.match(entry))
        chosen.flush()
        script = [program, "--file=-", "--use-list", chosen.name, str(source)]
        _execute(script, [_program(settings, "psql")[0], *_PSQL], environment)
    _restore_spatial_references(
        settings, _output([program, "--data-only", "--table=spatial_ref_sys", "--file=-", str(source)], environment)
    )


def _execute(script: list[str], psql: list[str], environment: Mapping[str, str]) -> None:
    """Execute what a program writes, in one transaction: it is committed only once all was written, so that a kill of
    any of the processes leaves nothing.
    """
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen(script, env=environment, stdout=subprocess.PIPE, stderr=said) as reader,
    ):
        with subprocess.Popen(psql, env=environment, stdin=subprocess.PIPE, stderr=said) as writer:
            whole = _copied(reader, writer)
        if not whole or writer.returncode:
            said.seek(0)
            raise GeoAssetsError(
                "RESTORE_FAILED", f"the server refuses: {_reason(said.read().decode(errors='replace'))}"
            )


def _copied(reader: subprocess.Popen[bytes], writer: subprocess.Popen[bytes]) -> bool:
    """Pass on a script between `begin` and `commit`; whether it was whole."""
    if reader.stdout is None or writer.stdin is None:  # both are pipes
        return False
    try:
        writer.stdin.write(b"begin;\n")
        for line in reader.stdout:
            writer.stdin.write(line.replace(_NO_SEARCH_PATH, _SEARCH_PATH))
            if _NO_SEARCH_PATH in line:
                break
        shutil.copyfileobj(reader.stdout, writer.stdin)
        whole = reader.wait() == 0
        if whole:
            writer.stdin.write(b"commit;\n")
        writer.stdin.close()
    except BrokenPipeError:  # psql has ended: its reason is on standard error
        reader.kill()
        return False
    return whole


def _restore_spatial_references(settings: Settings, script: str) -> None:
    """Add the reference systems that PostGIS does not bring along; this database may have some of them."""
    found = re.search(r"^COPY \S+ \((.+?)\) FROM stdin;\n(.*?)^\\\.$", script, re.MULTILINE | re.DOTALL)
    if found is None or not found[2]:
        return
    with connect(settings, "migrator") as conn:
        conn.execute("create temporary table added (like spatial_ref_sys) on commit drop")
        with conn.cursor().copy(f"copy added ({found[1]}) from stdin") as copy:
            copy.write(found[2])
        conn.execute("insert into spatial_ref_sys select * from added on conflict do nothing")


def _program(settings: Settings, name: str) -> tuple[str, Mapping[str, str]]:
    """A program of PostgreSQL that is not older than the server, and its environment."""
    user, password = settings.credentials("migrator")
    database = {
        "PGHOST": settings.pg_host,
        "PGPORT": str(settings.pg_port),
        "PGUSER": user,
        "PGPASSWORD": password,
        "PGDATABASE": settings.pg_database,
    }
    binaries = find_binaries(settings.home)
    beside = binaries.bin / name if binaries else None
    own: Mapping[str, str] = binaries.environment if binaries else {}
    program = str(beside) if beside and beside.exists() else shutil.which(name)
    if program is None:
        raise GeoAssetsError("PG_DUMP_NOT_FOUND", f"{name} is not on this machine")
    environment = {**os.environ, "LC_ALL": "C.UTF-8", **own, **database}
    version, server = re.search(r"\d+", _output([program, "--version"], environment)), server_version(settings)
    if version is None or int(version[0]) < server:
        of = version[0] if version else "no known version"
        raise GeoAssetsError("PG_DUMP_NOT_FOUND", f"{program} is of PostgreSQL {of}, the server is of {server}")
    return program, environment


def _output(command: list[str], environment: Mapping[str, str]) -> str:
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise GeoAssetsError("RESTORE_FAILED", f"{Path(command[0]).name} failed: {_reason(done.stderr)}")
    return done.stdout


def _reason(said: str) -> str:
    """What a program says of its failure: it quotes the statement after it, which may be long."""
    lines = said.strip().splitlines()
    errors = [line for line in lines if "error:" in line.lower()]
    return one_line(" / ".join(errors[:2] or lines[-3:]))[:500]
