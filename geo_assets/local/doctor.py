"""Checks of the machine and the stack: what is present, what is missing, and what to do about it.

Here: one function per check. Not here: repairing anything.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import psycopg
from pydantic import BaseModel, ConfigDict

from geo_assets import plugins
from geo_assets.database.connections import connect
from geo_assets.database.migrate import PGSTAC_VERSION, pgstac_version, up_to_date
from geo_assets.errors import ERRORS, GeoAssetsError
from geo_assets.file_stages import FILE_STAGES
from geo_assets.ledger.alerts import unsent
from geo_assets.ledger.pause import current
from geo_assets.local.dagster_elsewhere import PAGE, DagsterElsewhere
from geo_assets.local.postgresql import find_binaries
from geo_assets.local.stack import Stack, listens
from geo_assets.local.storage_checks import StorageCheck, storage_checks
from geo_assets.local.supervisor import CRASH_LOOP, WELL_SECONDS, Account, Deaths
from geo_assets.machine import cores, memory_mb
from geo_assets.parameters import JOB_TYPES
from geo_assets.raster import tiles
from geo_assets.settings import Settings, load_settings
from geo_assets.stac.pgstac import count_collections
from geo_assets.text import how_many
from geo_assets.vector.reader import rings

#: With less free space a single drone mosaic can fill the disk.
_LOW_DISK_BYTES = 5 * 1024**3

#: Each collection of pgstac is a partition, which every search plans for; users report trouble at tens of thousands.
_MOST_COLLECTIONS = 1000


#: What makes the database of an installation that `geo-assets up` does not look after.
_MIGRATE = "geo-assets migrate --no-dagster"


class Finding(BaseModel):
    """The result of one check; `remedy` says what to do if it failed."""

    model_config = ConfigDict(frozen=True)
    what: str
    level: Literal["ok", "warning", "failure"]
    found: str
    remedy: str = ""


Check = tuple[str, Callable[[], Finding]]


def examine() -> list[Finding]:
    """Run every check; none raises."""
    settings, stack = load_settings(), Stack()
    elsewhere = settings.webserver_url is not None and not stack.is_made
    checks = [*_common_checks(settings, stack), *(_of_dagster(settings) if elsewhere else _of_stack(settings, stack))]
    start = _MIGRATE if elsewhere else "geo-assets up"
    found = [_safely(what, check, start) for what, check in checks]
    return [each.model_copy(update={"remedy": each.remedy.replace("geo-assets up", start)}) for each in found]


def _common_checks(settings: Settings, stack: Stack) -> list[Check]:
    checks: list[Check] = [
        ("database", lambda: _database(settings)),
        ("catalogue", lambda: _catalogue(settings)),
        ("time zone", lambda: _time_zone(settings)),
        ("migrations", lambda: _migrations(settings)),
        ("launches", lambda: _launches(settings)),
        ("alerts", lambda: _alerts(settings)),
        ("GDAL", lambda: _gdal(settings)),
        ("compiled code", _compiled),
        ("sandbox", lambda: _sandbox(settings)),
        ("disk", lambda: _disk(stack.home)),
        ("children", lambda: _children(settings)),
        ("added by others", _plugins),
        *((check.what, partial(_storage, check)) for check in storage_checks(settings, make=False)),
    ]
    return checks


def _of_stack(settings: Settings, stack: Stack) -> list[Check]:
    """The programs and processes of the local stack."""
    parts = ("code_server", "webserver", "daemon", "api", *(["serve"] if stack.serves(settings) else []), "supervisor")
    processes: list[Check] = [(f"process {name}", partial(_process, stack, name)) for name in parts]
    return [("PostgreSQL", lambda: _binaries(stack)), *processes]


def _of_dagster(settings: Settings) -> list[Check]:
    """Somebody's own Dagster, which is asked once."""
    asked = cache(lambda: DagsterElsewhere.asked(settings))
    return [("Dagster", lambda: _dagster(asked())), ("dagster.yaml", lambda: _dagster_yaml(asked()))]


def _dagster(dagster: DagsterElsewhere) -> Finding:
    faults = dagster.faults()
    if faults:
        return Finding(what="Dagster", level="failure", found="; ".join(faults), remedy="; ".join(faults.values()))
    return Finding(what="Dagster", level="ok", found=dagster.found)


def _dagster_yaml(dagster: DagsterElsewhere) -> Finding:
    lacks = dagster.advice()
    if lacks:
        found, remedy = f"without {'; without '.join(lacks)}", f"what each line is for: {PAGE}"
        return Finding(what="dagster.yaml", level="warning", found=found, remedy=remedy)
    return Finding(what="dagster.yaml", level="ok", found="as advised")


def _plugins() -> Finding:
    """Job types, stages and codes of other distributions."""
    what, registries = "added by others", (JOB_TYPES, FILE_STAGES, ERRORS)
    broken = [str(each) for registry in registries for each in registry.broken.values()]
    if broken:
        return Finding(what=what, level="failure", found="; ".join(broken), remedy=ERRORS["PLUGIN_BROKEN"].remedy)
    added = [f"{name} ({plugins.distribution_of(plugins.JOB_TYPES, name)})" for name in JOB_TYPES.added]
    return Finding(what=what, level="ok", found=", ".join(added) or "nothing")


def _safely(what: str, check: Callable[[], Finding], start: str) -> Finding:
    try:
        return check()
    except (GeoAssetsError, OSError, psycopg.Error) as error:
        return Finding(
            what=what,
            level="failure",
            found=str(error).splitlines()[0],
            remedy=getattr(error, "remedy", start),
        )


def _binaries(stack: Stack) -> Finding:
    found = find_binaries(stack.home)
    if found is None:
        return Finding(
            what="PostgreSQL", level="failure", found="not found with PostGIS", remedy="bring it: geo-assets up"
        )
    return Finding(what="PostgreSQL", level="ok", found=f"{found.version} at {found.bin}")


def _database(settings: Settings) -> Finding:
    with psycopg.connect(settings.dsn("pipeline"), connect_timeout=5) as conn:
        postgis = conn.execute("select extversion from pg_extension where extname = 'postgis'").fetchone()
        pgstac = pgstac_version(conn)
    found = f"PostGIS {postgis[0] if postgis else 'missing'}, pgstac {pgstac or 'missing'}"
    if postgis is None or pgstac != PGSTAC_VERSION:
        return Finding(
            what="database", level="failure", found=found, remedy=f"bring pgstac {PGSTAC_VERSION}: geo-assets up"
        )
    return Finding(what="database", level="ok", found=found)


def _catalogue(settings: Settings) -> Finding:
    with psycopg.connect(settings.dsn("pipeline"), connect_timeout=5) as conn:
        count = count_collections(conn)
    if count > _MOST_COLLECTIONS:
        return Finding(
            what="catalogue",
            level="warning",
            found=f"{count:,} collections; more than {_MOST_COLLECTIONS:,} make every search slower",
            remedy="submit to fewer (--param collection=NAME), delete some; to list them: geo-assets collection list",
        )
    return Finding(what="catalogue", level="ok", found=how_many(count, "collection"))


def _launches(settings: Settings) -> Finding:
    with connect(settings, autocommit=True) as conn:
        now = current(conn)
    if now:
        found = f"nothing is launched until {now.until:%F %TZ}: {now.reason}"
        return Finding(what="launches", level="warning", found=found, remedy="geo-assets resume")
    return Finding(what="launches", level="ok", found="not paused")


def _alerts(settings: Settings) -> Finding:
    """Whether somebody hears of what fails. The address is a secret; its host is not."""
    if settings.alert_webhook is None:
        return Finding(what="alerts", level="ok", found="off: no GEO_ASSETS_ALERT_WEBHOOK (docs/alerts.md)")
    where = urlsplit(settings.alert_webhook.get_secret_value()).hostname
    with connect(settings, autocommit=True) as conn:
        waiting = unsent(conn)
    if waiting.since is None:
        return Finding(what="alerts", level="ok", found=f"to {where}, as {settings.alert_format}")
    found = f"{how_many(waiting.count, 'alert')} could not be sent since {waiting.since:%F %TZ}: {waiting.fault}"
    return Finding(
        what="alerts", level="warning", found=found, remedy="see whether it is taken: geo-assets alert --test"
    )


def _time_zone(settings: Settings) -> Finding:
    """Check the time zone of our connections and of Dagster's: run states are compared with times stored without a
    zone.
    """
    ours = settings.dsn("pipeline")
    dagsters = os.environ.get("GEO_ASSETS_DAGSTER_POSTGRES_URL", settings.dagster_postgres_url)
    zones = {}
    for who, url in (("ours", ours), ("Dagster's", dagsters.replace("postgresql+psycopg2://", "postgresql://", 1))):
        token = {} if settings.pg_auth == "password" else {"password": settings.credentials("pipeline")[1]}
        with psycopg.connect(url, connect_timeout=5, **token) as conn:  # type: ignore[arg-type]
            row = conn.execute("show timezone").fetchone()
            zones[who] = str(row[0]) if row else "unknown"
    found = ", ".join(f"{who} {zone}" for who, zone in zones.items())
    if set(zones.values()) != {"UTC"}:
        return Finding(
            what="time zone",
            level="failure",
            found=f"connections are not in UTC: {found}",
            remedy=(
                "let connections pass options=-ctimezone=UTC (a pooler may drop it), or: alter role geo_pipeline set"
                " timezone = 'UTC'"
            ),
        )
    return Finding(what="time zone", level="ok", found="UTC")


def _migrations(settings: Settings) -> Finding:
    if up_to_date(settings):
        return Finding(what="migrations", level="ok", found="applied")
    return Finding(what="migrations", level="failure", found="not all applied", remedy="geo-assets up")


def _probe(settings: Settings, action: Literal["libraries", "walls"]) -> dict[str, str]:
    """Return what a sandboxed child reports about itself; also one that would refuse to work."""
    from geo_assets.sandbox.pool import SandboxPool
    from geo_assets.sandbox.scratch import leave, of_this_user
    from geo_assets.sandbox.selftest import ProbeReport, ProbeRequest

    limits = {**settings.sandbox_limits, "timeout_seconds": 60, "permissive": True}
    try:
        with SandboxPool(scratch := of_this_user(), **limits) as pool:
            return pool.call("geo_assets.sandbox.selftest:probe", ProbeRequest(action=action), ProbeReport).facts
    finally:
        leave(scratch)


def _sandbox(settings: Settings) -> Finding:
    walls = _probe(settings, "walls")
    found = walls["standing"] + (f"; without a namespace of {walls['without']}" if walls["without"] else "")
    if not walls["missing"]:
        return Finding(what="sandbox", level="ok", found=found)
    return Finding(
        what="sandbox",
        level="warning" if settings.sandbox == "permissive" else "failure",
        found=f"missing: {walls['missing']}; standing: {found or 'none'}",
        remedy=(
            "a newer kernel, or a container that may use Landlock and seccomp; GEO_ASSETS_SANDBOX=permissive opens"
            " files without, which is for files that you trust"
        ),
    )


def _gdal(settings: Settings) -> Finding:
    facts = _probe(settings, "libraries")
    missing = facts.pop("missing drivers")
    if missing:
        return Finding(
            what="GDAL",
            level="failure",
            found=f"without {missing}",
            remedy="install the wheels of rasterio and pyogrio: make setup",
        )
    return Finding(what="GDAL", level="ok", found=", ".join(f"{name} {version}" for name, version in facts.items()))


def _compiled() -> Finding:
    slower = []
    if not tiles.are_compiled():
        slower.append("rasters are computed by NumPy alone: a conversion takes up to half as long again")
    if not rings.are_compiled():
        slower.append("polygons are checked by GEOS alone: a load of 500,000 takes a third longer")
    if not slower:
        return Finding(what="compiled code", level="ok", found="for rasters and polygons")
    return Finding(
        what="compiled code",
        level="warning",
        found="; ".join(slower),
        remedy=(
            "install the wheel for this processor; in a checkout: uv sync --inexact --reinstall-package geo_assets;"
            " there is code for Linux on x86_64 and aarch64"
        ),
    )


def _storage(check: StorageCheck) -> Finding:
    return Finding(what=check.what, level="ok", found=check.look())


def _disk(home: Path) -> Finding:
    free = shutil.disk_usage(next(p for p in (home, *home.parents) if p.exists())).free
    found = f"{free / 1024**3:.1f} GiB free at {home}"
    if free < _LOW_DISK_BYTES:
        return Finding(what="disk", level="warning", found=found, remedy="free some space, or move GEO_ASSETS_HOME")
    return Finding(what="disk", level="ok", found=found)


def _children(settings: Settings) -> Finding:
    """Check what sandboxed children may use together against what there is."""
    found = (
        f"at most {settings.host_children} at a time on this host, with {settings.host_memory_mb:,} MB together"
        f" ({settings.sandbox_memory_mb:,} MB each); {cores()} cores, {memory_mb():,} MB;"
        f" shared in {settings.host_folder}"
    )
    if settings.host_memory_mb > memory_mb() or settings.sandbox_memory_mb > settings.host_memory_mb:
        return Finding(
            what="children",
            level="warning",
            found=f"{found}: more than there is",
            remedy="lower GEO_ASSETS_HOST_MEMORY_MB or GEO_ASSETS_SANDBOX_MEMORY_MB, or unset both",
        )
    return Finding(what="children", level="ok", found=found)


def _process(stack: Stack, name: str) -> Finding:
    process = stack.state().processes.get(name)
    what = name.replace("_", " ")
    if process is None:
        return Finding(what=what, level="failure", found="not started", remedy="geo-assets up")
    deaths = Account.of(stack.home).deaths.get(name, Deaths())
    if deaths.count >= CRASH_LOOP and (deaths.waiting or time.time() - deaths.next_start < WELL_SECONDS):
        return Finding(
            what=what,
            level="failure",
            found=f"in a crash loop: died {deaths.count} times in a row, each time within a minute",
            remedy=f"read {stack.log_file(name)}; it is tried again every minute",
        )
    if not process.alive:
        return Finding(
            what=what,
            level="failure",
            found=f"pid {process.pid} is gone",
            remedy=f"read {stack.log_file(name)}, then: geo-assets up",
        )
    port = stack.state().ports.get(name)
    if port and not listens(port):
        return Finding(
            what=what,
            level="failure",
            found=f"pid {process.pid} runs, port {port} does not answer",
            remedy="end and start it: geo-assets down && geo-assets up",
        )
    return Finding(what=what, level="ok", found=f"pid {process.pid}" + (f", port {port}" if port else ""))
