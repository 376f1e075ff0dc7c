"""The route that recreates the schema.

Here: when it is refused. Not here: migrations (`database/migrate.py`).
"""

from fastapi import APIRouter
from pydantic import BaseModel, Field

from geo_assets.api.dependencies import TheSettings, scope
from geo_assets.errors import GeoAssetsError

router = APIRouter(tags=["admin"], dependencies=[scope("admin")])


class Redeploy(BaseModel):
    """The confirmation that the schema may be dropped and recreated."""

    confirm: str = Field(description="the name of the database", examples=["geo_assets"])


@router.post("/api/db/schema/redeploy")
def redeploy(body: Redeploy, settings: TheSettings) -> dict[str, list[str]]:
    """Drop the ledger and the published tables, and recreate the schema. Refused unless it is enabled."""
    from geo_assets.database.migrate import redeploy as run

    if not settings.allow_schema_redeploy:
        raise GeoAssetsError(
            "FORBIDDEN",
            "redeploying the schema is not enabled",
            remedy="set GEO_ASSETS_ALLOW_SCHEMA_REDEPLOY=true where that is meant",
        )
    if body.confirm != settings.pg_database:
        raise GeoAssetsError(
            "INVALID_PARAMETERS",
            "confirm must be the name of the database",
            remedy="read it again: every job and table is lost",
        )
    return {"applied": run(settings)}
