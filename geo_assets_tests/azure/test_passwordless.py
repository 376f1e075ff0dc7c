"""PostgreSQL without passwords: every connection is opened with a token, which expires while a job runs."""

import json
import secrets
import shlex
import time
import urllib.request

import numpy as np
import psycopg
import pytest
from psycopg import sql

from geo_assets_tests.conftest import Cli, own_ports
from geo_assets_tests.databases import link_postgresql
from geo_assets_tests.raster.test_cog import write
from geo_assets_tests.waiting import until

pytestmark = pytest.mark.azure

FILES = 24
ROLES = ("geo_migrator", "geo_pipeline", "geo_reader")


class Identity:
    """Issues one token at a time, which PostgreSQL checks as it checks passwords; the one before is refused."""

    def __init__(self, cli: Cli) -> None:
        self._cli, self.token = cli, ""
        self.file = cli.home / "token.json"

    def issue(self) -> str:
        """A new token; returns the expired one."""
        expired, self.token = self.token, f"eyJ0/{secrets.token_urlsafe(600)}+=%@:"
        with self.superuser() as db:
            for role in ROLES:
                db.execute(sql.SQL("alter role {} password {}").format(sql.Identifier(role), sql.Literal(self.token)))
        written = self.file.with_suffix(".new")
        written.write_text(json.dumps({"accessToken": self.token, "expires_on": time.time() + 60}))
        written.rename(self.file)
        return expired

    def superuser(self) -> psycopg.Connection:
        stack = json.loads((self._cli.home / "stack.json").read_text())
        own = {"port": stack["ports"]["postgres"], "password": stack["passwords"]["superuser"]}
        return psycopg.connect(host="127.0.0.1", user="postgres", dbname="geo_assets", autocommit=True, **own)


@pytest.fixture(scope="module")
def identified(open_folder, postgres_home):
    """A stack, and what it is known by: its database was made with passwords, of which none is right any more."""
    cli = Cli(open_folder(), GEO_ASSETS_WORKERS="1", GEO_ASSETS_UP_SERVES="true")
    link_postgresql(postgres_home, cli.home)
    own_ports(cli.home)
    made = cli.run("up", "--database-only")
    assert made.returncode == 0, made.stderr
    identity = Identity(cli)
    identity.issue()
    cli.env |= {
        "GEO_ASSETS_PG_AUTH": "command",
        "GEO_ASSETS_PG_TOKEN_COMMAND": f"cat {shlex.quote(str(identity.file))}",
    }
    started = cli.run("up")
    yield cli, identity, started
    cli.run("down")


def opened(cli, password: str) -> bool:
    port = json.loads((cli.home / "stack.json").read_text())["ports"]["postgres"]
    try:
        psycopg.connect(
            host="127.0.0.1", port=port, user="geo_pipeline", dbname="geo_assets", password=password, connect_timeout=5
        ).close()
    except psycopg.OperationalError as error:
        return "password authentication failed" not in str(error)
    return True


def served(cli) -> int:
    port = json.loads((cli.home / "stack.json").read_text())["ports"]["serve"]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/stac/collections", timeout=30) as answer:
        return answer.status


def test_a_stack_starts_and_a_job_ends_although_its_token_expires_in_its_midst(identified, tmp_path):
    cli, identity, started = identified
    assert started.returncode == 0, started.stderr
    (cli.home / "containers" / "tokens").mkdir(parents=True)
    for i in range(FILES):
        pixels = np.random.default_rng(i).integers(0, 255, (3, 700, 700)).astype("uint8")
        write(cli.home / "containers" / "tokens" / f"{i:02}.tif", pixels)
    assert served(cli) == 200
    job = cli.json("submit", "ingest_container", "--param", "container=tokens")["job_id"]
    with identity.superuser() as db:

        def converted():
            return db.execute(
                "select count(*) from geo.tasks where job_id = %s and receipt is not null", (job,)
            ).fetchone()[0]

        until(lambda: converted() >= 3, 60)
        expired = identity.issue()
        assert not opened(cli, expired)
        assert opened(cli, identity.token)
        ended = db.execute(
            "select count(pg_terminate_backend(pid)) from pg_stat_activity where usename in ('geo_pipeline', 'geo_reader')"
        ).fetchone()
        assert ended[0] > 3
        assert converted() < FILES
        until(lambda: cli.json("job", job)["status"] == "completed", 120)
        assert cli.json("job", job)["attempt"] == 1
        assert db.execute("select count(*) from pgstac.items where collection = 'tokens'").fetchone() == (FILES,)
    assert served(cli) == 200
    assert {f["level"] for f in cli.json("doctor") if f["what"] in {"database", "time zone", "migrations"}} == {"ok"}


def test_no_token_is_in_the_database_or_in_a_log(identified):
    cli, identity, _ = identified
    with identity.superuser() as db:
        for table, text in (
            ("runs", "run_body"),
            ("run_tags", "value"),
            ("event_logs", "event"),
            ("job_ticks", "tick_body"),
        ):
            found = db.execute(f"select count(*) from dagster.{table} where {text} like '%eyJ0%'").fetchone()
            assert found == (0,), table
    for log in (*(cli.home / "logs").glob("*"), *(cli.home / "dagster").rglob("*")):
        assert not log.is_file() or b"eyJ0" not in log.read_bytes(), log


def test_without_a_token_it_is_said_in_a_line_why(identified, tmp_path):
    cli, *_ = identified
    for program, why in (("false", "ended with 1"), ("/nowhere/is", "could not be run"), ("true", "printed nothing")):
        lost = Cli(cli.home, **{k: v for k, v in cli.env.items() if k.startswith("GEO_ASSETS_")})
        lost.env["GEO_ASSETS_PG_TOKEN_COMMAND"] = program
        said = lost.run("jobs")
        assert said.returncode != 0
        assert why in said.stderr
        assert "Traceback" not in said.stderr
