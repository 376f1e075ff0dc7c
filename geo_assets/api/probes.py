"""Health probes of the server: alive, ready, and the state of each component. They need no token.

Here: HTTP statuses. Not here: the questions (`health.py`).
"""

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from geo_assets.api import health
from geo_assets.api.dependencies import TheSettings, TheSubmitter

router = APIRouter(tags=["health"])


@router.get("/livez")
async def livez() -> dict[str, str]:
    """Whether this process answers; it looks at nothing else."""
    return {"status": "alive"}


@router.get("/readyz")
def readyz(submitter: TheSubmitter, settings: TheSettings) -> JSONResponse:
    """Whether submissions can be taken: the database answers and is migrated."""
    report = health.readiness(settings, submitter)
    return JSONResponse(report, status_code=200 if report["status"] == "ready" else 503)


@router.get("/api/health")
def api_health(submitter: TheSubmitter, settings: TheSettings) -> JSONResponse:
    """Each component and its latency; 503 when a critical one is away."""
    report = health.report(settings, submitter)
    return JSONResponse(report, status_code=200 if report["status"] != "critical" else 503)
