"""Reference routes: job types with their parameters, error codes with their remedies. They need no token.

Here: what the code knows by itself. Not here: what went wrong (`ledger.py`), the codes (`errors.py`).
"""

from typing import Any

from fastapi import APIRouter, Request

from geo_assets.api.problems import descriptions, problem
from geo_assets.errors import GeoAssetsError, known_code
from geo_assets.parameters import JOB_TYPES

router = APIRouter()


@router.get("/api/job-types", tags=["jobs"])
def job_types() -> dict[str, Any]:
    """The job types and the JSON schema of their parameters."""
    return {name: model.model_json_schema() for name, model in JOB_TYPES.items()}


@router.get("/api/errors/{code}", tags=["errors"], name="error_description")
def error_description(request: Request, code: str) -> dict[str, str]:
    """What an error code means and what to do."""
    try:
        known_code(code)
    except GeoAssetsError as error:
        return problem(request, error, status=404)  # type: ignore[return-value]
    return descriptions()[code]


@router.get("/api/errors", tags=["errors"])
def error_descriptions() -> list[dict[str, str]]:
    """All error codes."""
    return list(descriptions().values())
