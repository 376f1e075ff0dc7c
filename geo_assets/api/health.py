"""Whether the components that the API depends on answer, and how fast.

Here: one small question to each. Not here: checks of the machine (`local/doctor.py`), routes (`probes.py`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import httpx

from geo_assets.database.migrate import up_to_date
from geo_assets.settings import Settings
from geo_assets.storage.containers import open_container
from geo_assets.submissions.submit import Submitter

#: A component that takes longer counts as not answering.
_SECONDS = 2.0


def report(settings: Settings, submitter: Submitter) -> dict[str, Any]:
    """Every component: ok or not, latency in milliseconds. Without the database nothing works; without Dagster work
    only waits.
    """
    components = {
        "database": _ask(submitter.ping, critical=True),
        "dagster": _ask(lambda: _dagster(settings), critical=False),
        "storage": _ask(
            lambda: open_container(settings, settings.output_account, settings.cog_container, hasty=True).exists(),
            critical=False,
        ),
    }
    if components["database"]["status"] == "ok":
        components |= {
            f"circuit {name}": {"status": "ok" if state == "closed" else "degraded", "state": state, "critical": False}
            for name, state in submitter.circuits.states().items()
        }
    bad = [c for c in components.values() if c["status"] != "ok"]
    status = "critical" if any(c["critical"] for c in bad) else "degraded" if bad else "ok"
    return {"status": status, "components": components}


def readiness(settings: Settings, submitter: Submitter) -> dict[str, Any]:
    """Ready: the database answers and every migration is applied."""
    database = _ask(submitter.ping, critical=True)
    migrated = database["status"] == "ok" and up_to_date(settings)
    return {
        "status": "ready" if migrated else "not ready",
        "database": database["status"],
        "migrations": "applied" if migrated else "unknown or missing",
    }


def _ask(question: Callable[[], object], *, critical: bool) -> dict[str, Any]:
    started = time.monotonic()
    try:
        question()
        status = "ok"
    except Exception as error:  # noqa: BLE001 - whatever it is, the component does not answer
        status = f"away: {type(error).__name__}"
    return {"status": status, "latency_ms": round(1000 * (time.monotonic() - started), 1), "critical": critical}


def _dagster(settings: Settings) -> None:
    httpx.get(f"{settings.dagster_url}/server_info", timeout=_SECONDS, trust_env=False).raise_for_status()
