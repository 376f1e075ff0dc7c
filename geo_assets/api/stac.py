"""Routes of the catalogue: its collections, withdrawing what was published, the feed of changes.

Here: HTTP. Not here: what a collection says (`stac/collection.py`), statements (`stac/pgstac.py`,
`ledger/changes.py`), withdrawing (`stages/unpublish.py`), the search of STAC clients.
"""

from typing import Annotated, Any, Self

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from geo_assets.api.dependencies import Limit, TheSettings, TheSubmitter, scope
from geo_assets.ledger.changes import NOW, Change
from geo_assets.receipts.write import AT_A_DOOR, write_due
from geo_assets.stac import pgstac
from geo_assets.stac.collection import Described, NewCollection
from geo_assets.stages.unpublish import (
    Unpublished,
    remove_collection,
    unpublish_collection,
    unpublish_item,
    unpublish_job,
)

router = APIRouter(tags=["catalogue"])

#: The id of a collection that is there, whoever made it.
_Collection = Annotated[str, Path(max_length=255)]
_BY = "api"


def _named(value: Any) -> Any:
    """A switch that is named without a value, `?cascade`, is on."""
    return value if value != "" else True


class Collections(BaseModel):
    """All collections, by id."""

    collections: list[dict[str, Any]] = Field(description="STAC collections")
    items: dict[str, int] = Field(description="collection -> items")


class ChangePage(BaseModel):
    """Changes in the order of their commits."""

    changes: list[Change]
    next: str = Field(description="the cursor for what comes after them", examples=["3f2a9c11-1042"])


class Target(BaseModel):
    """What to withdraw: exactly one of these."""

    model_config = ConfigDict(extra="forbid")
    job: str | None = Field(
        None,
        min_length=6,
        max_length=64,
        pattern=r"^[0-9a-f]+$",
        description="what the job published and no later one replaced; its id, or its first characters",
    )
    item: str | None = Field(None, pattern=r"^[^/]+/.+$", max_length=1000, description="COLLECTION/ITEM")
    collection: str | None = Field(None, min_length=1, max_length=255, description="with all its items")

    @model_validator(mode="after")
    def _one(self) -> Self:
        if sum(value is not None for value in (self.job, self.item, self.collection)) != 1:
            msg = "name one of job, item and collection"
            raise ValueError(msg)
        return self


@router.get("/api/stac/collections", dependencies=[scope("read")])
def collections(settings: TheSettings) -> Collections:
    """List the collections, each with the number of its items."""
    found = pgstac.list_collections(settings)
    return Collections(collections=[c for c, _ in found], items={str(c["id"]): count for c, count in found})


@router.post("/api/stac/collections", status_code=201, dependencies=[scope("submit")])
def create(settings: TheSettings, body: NewCollection) -> dict[str, Any]:
    """Make an empty collection."""
    return pgstac.create_collection(settings, body.id, body.described())


@router.get("/api/stac/collections/{collection}", dependencies=[scope("read")])
def read(settings: TheSettings, collection: _Collection) -> dict[str, Any]:
    """Return a collection as it is stored."""
    return pgstac.read_collection(settings, collection)


@router.patch("/api/stac/collections/{collection}", dependencies=[scope("submit")])
def update(settings: TheSettings, collection: _Collection, body: Described) -> dict[str, Any]:
    """Change what is said of a collection; what the body leaves out stays. Extents and summaries are renewed."""
    return pgstac.refresh_collection(settings, collection, body)


@router.delete("/api/stac/collections/{collection}", dependencies=[scope("admin")])
def delete(
    settings: TheSettings,
    collection: _Collection,
    cascade: Annotated[bool, BeforeValidator(_named), Query(description="with its items, files and tables")] = False,
) -> Unpublished:
    """Delete a collection."""
    done = remove_collection(settings, collection, cascade=cascade, by=_BY)
    write_due(settings, seconds=AT_A_DOOR)
    return done


@router.post("/api/stac/unpublish", dependencies=[scope("admin")])
def unpublish(settings: TheSettings, submitter: TheSubmitter, body: Target) -> Unpublished:
    """Withdraw items, then delete the files and tables that they led to. May be repeated."""
    if body.job is not None:
        done = unpublish_job(settings, submitter.jobs, body.job, by=_BY)
    elif body.item is not None:
        done = unpublish_item(settings, body.item, by=_BY)
    else:
        done = unpublish_collection(settings, body.collection or "", by=_BY)
    write_due(settings, seconds=AT_A_DOOR)
    return done


@router.get("/api/stac/changes", dependencies=[scope("read")])
def changes(
    submitter: TheSubmitter,
    limit: Limit = 1000,
    since: Annotated[
        str | None, Query(max_length=64, description=f"the `next` of an answer, or `{NOW}`; all changes where left out")
    ] = None,
) -> ChangePage:
    """What was created, updated and deleted after a cursor, in the order of the commits."""
    found, after = submitter.ledger.changes.since(since, limit=limit)
    return ChangePage(changes=found, next=after)
