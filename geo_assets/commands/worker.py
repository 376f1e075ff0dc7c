"""`geo-assets worker`: a worker of Celery on this machine.

Here: arguments, checks before the start. Not here: settings of Celery (`defs/celery_app.py`), what a worker executes.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from geo_assets.commands.console import log

if TYPE_CHECKING:
    from geo_assets.settings import Settings

WORKER_EXAMPLE = (
    "Example: `GEO_ASSETS_CELERY_BROKER=redis://:PASSWORD@broker:6379/0 geo-assets worker --steps 2`, with the database"
    " and the accounts of the installation in GEO_ASSETS_ variables. deploy/celery has a service for systemd."
)


def worker(
    steps: Annotated[
        int, typer.Option(min=1, help="Steps, or runs, at a time. Each has GEO_ASSETS_WORKERS sandboxed children.")
    ] = 1,
    name: Annotated[str, typer.Option(help="Its name; two on one machine need two.")] = "geo_assets",
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "info",
) -> None:
    """Take steps, or whole runs, from the queue of Celery and execute them on this machine. SIGTERM ends it when what
    has begun is done. Whatever kills it, the work goes on elsewhere.
    """
    from geo_assets.database.migrate import insist_on_release
    from geo_assets.extras import insist_on_celery
    from geo_assets.settings import load_settings

    settings = load_settings()
    insist_on_celery(settings)
    insist_on_release(settings)
    log(f"worker {name}: {steps} at a time, each with {settings.workers} sandboxed children")
    command = [
        *(sys.executable, "-m", "celery", "--app", "geo_assets.defs.celery_app", "worker"),
        *("--concurrency", str(steps), "--hostname", f"{name}@%h", "--loglevel", log_level),
        *("--without-gossip", "--without-mingle"),
    ]
    # signals of who started us are Celery's
    os.execve(sys.executable, command, _environment(settings))  # noqa: S606 - no shell is wanted


def _environment(settings: Settings) -> dict[str, str]:
    """That of a stack's processes. A machine without a stack gets a `dagster.yaml`, for whole runs."""
    from geo_assets.local.instance import instance_config
    from geo_assets.local.stack import Stack

    home = Path(os.environ.get("DAGSTER_HOME") or settings.dagster_home)
    if not (home / "dagster.yaml").exists():
        home.mkdir(parents=True, exist_ok=True)
        (home / "dagster.yaml").write_text(instance_config(settings), encoding="utf-8")
    return {**Stack().environment(settings), "DAGSTER_HOME": str(home)}
