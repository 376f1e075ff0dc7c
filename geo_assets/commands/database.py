"""`geo-assets migrate`: the database of an installation that no `geo-assets up` looks after.

Here: arguments, the order. Not here: the statements (`database/`).
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Annotated

import typer

from geo_assets.commands.console import JsonFlag, log, out, print_json
from geo_assets.commands.shared import a_number
from geo_assets.errors import GeoAssetsError

#: Of a week.
_MOST_SECONDS = 7 * 86_400

MIGRATE_EXAMPLE = (
    "Example, once and after each upgrade: `GEO_ASSETS_ADMIN_URL=postgresql://ADMIN:PASSWORD@HOST/postgres geo-assets"
    " migrate`, with GEO_ASSETS_PG_HOST, GEO_ASSETS_MIGRATOR_PASSWORD, GEO_ASSETS_PIPELINE_PASSWORD and"
    " GEO_ASSETS_READER_PASSWORD set."
)


def migrate(
    admin_url: Annotated[
        str | None,
        typer.Option(
            envvar="GEO_ASSETS_ADMIN_URL",
            help="An administrator's URL of any database of the server: makes database, roles and extensions first.",
        ),
    ] = None,
    dagster: Annotated[
        bool,
        typer.Option(help="Dagster's tables too, where DAGSTER_HOME is set; --no-dagster for a team's own Dagster."),
    ] = True,
    wait: Annotated[
        float,
        typer.Option(
            min=0,
            max=_MOST_SECONDS,
            callback=a_number,
            help="Seconds to wait for jobs that are at work; nothing is launched meanwhile.",
        ),
    ] = 0,
    as_json: JsonFlag = False,
) -> None:
    """Bring the database up to date: roles and extensions (with an administrator's URL), pgstac, the ledger, Dagster's
    tables. Repeating it is harmless. While jobs are at work nothing is changed below them. The local stack does this by
    itself.
    """
    from psycopg import Error

    from geo_assets.database.bootstrap import bootstrap
    from geo_assets.database.migrate import migrate as apply
    from geo_assets.database.migrate import up_to_date
    from geo_assets.ledger.pause import nothing_at_work
    from geo_assets.settings import load_settings
    from geo_assets.text import one_line

    settings = load_settings()
    try:
        if admin_url:
            log("database, roles, extensions")
            bootstrap(admin_url, settings)
        applied: list[str] = []
        if not up_to_date(settings):
            with nothing_at_work(settings, wait, log, "the database is being migrated"):
                log("pgstac, ledger")
                applied = apply(settings)
    except Error as error:
        raise GeoAssetsError("DATABASE_UNAVAILABLE", one_line(str(error))[:500]) from None
    if dagster:
        _migrate_dagster()
    if as_json:
        print_json({"applied": applied})
    else:
        out.print(f"applied: {', '.join(applied)}" if applied else "nothing was to be applied")


def _migrate_dagster() -> None:
    """Dagster's own tables, in the schema that its configuration names; left out where there is none."""
    if not os.environ.get("DAGSTER_HOME"):
        log("Dagster's tables: not without DAGSTER_HOME; they are made at its first start")
        return
    log("Dagster's tables")
    command = [sys.executable, "-m", "dagster", "instance", "migrate"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        tail = " / ".join(done.stderr.strip().splitlines()[-3:])[-500:]
        raise GeoAssetsError("DATABASE_UNAVAILABLE", f"dagster instance migrate failed: {tail}")
