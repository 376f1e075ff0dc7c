"""The route that compares containers, ledger, catalogue, tables and runs; it only reads.

Here: HTTP. Not here: the comparison (`stages/reconcile.py`). Repairs, and reading every COG, are the command line's:
both may take hours.
"""

from typing import Annotated

from fastapi import APIRouter, Query

from geo_assets.api.dependencies import TheSettings, scope
from geo_assets.stages.reconcile import ReconcileReport, collections_asked
from geo_assets.stages.reconcile import reconcile as compare

#: It lists whole containers: not for everybody who may read.
router = APIRouter(tags=["ledger"], dependencies=[scope("admin")])


@router.get("/api/reconcile")
def reconcile(
    settings: TheSettings,
    collection: Annotated[
        str | None, Query(min_length=1, max_length=255, description="as jobs name it; all where left out")
    ] = None,
) -> ReconcileReport:
    """Compare what containers hold, the ledger says, the catalogue and the tables show and Dagster runs."""
    asked = None if collection is None else collections_asked(settings, collection)
    return compare(settings, collections=asked).report()
