"""The role of every blob of a listing: a source, a part of one, a companion, or ignored, and why.

Here: the account of names. Not here: what became of a source (its tasks), the listing itself
(`container_inventory.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from geo_assets.ledger.inventory import Inventory
from geo_assets.ledger.models import JobRecord
from geo_assets.parameters import ListContainer, stored_parameters
from geo_assets.stages.scenes import scenes_of, sources_in
from geo_assets.storage.kinds import Kind
from geo_assets.storage.sources import Member, Source, name_key


class Role(StrEnum):
    """The role of a blob in a job."""

    SOURCE = "source"  # it has a task of its own, or is of a kind that this job type leaves alone
    PART = "part"  # of a source: a sidecar, a file of a shapefile or a geodatabase
    COMPANION = "companion"  # a README, a style, a checksum: stays where it is
    IGNORED = "ignored"
    BEYOND_LIMIT = "beyond_limit"


class ListedFile(BaseModel):
    """One blob of a listing."""

    model_config = ConfigDict(frozen=True)
    path: str
    bytes: int
    role: Role
    of: str | None = None  # part: the source's path
    reason: str | None = None  # ignored: why


def listed_files(inventory: Inventory, job: JobRecord) -> Iterator[ListedFile]:
    """Every blob that the newest listing of a job found, each once; a part of two sources is named with the first.

    Args:
        inventory: the listings.
        job: of a type that reads a container; another has no files.
    """
    asked = stored_parameters(job.job_type, job.parameters)
    limit = asked.limit if isinstance(asked, ListContainer) else None
    sources, group, told = 0, None, set[str]()
    grouped = scenes_of(asked) is not None
    for source in sources_in(inventory.members(job.job_id), asked):
        if not grouped and (key := name_key(source.members[0].path)) != group:
            group, told = key, set()
        sources += source.kind is not Kind.COMPANION
        beyond = limit is not None and sources > limit
        for member in source.members:
            if member.path not in told:
                told.add(member.path)
                role = _role(source, member, beyond=beyond)
                yield ListedFile(
                    path=member.path, bytes=member.size, role=role, of=source.path if role is Role.PART else None
                )
    for path, size, reason in inventory.ignored(job.job_id):
        yield ListedFile(path=path, bytes=size, role=Role.IGNORED, reason=reason)


def _role(source: Source, member: Member, *, beyond: bool) -> Role:
    if source.kind is Kind.COMPANION:
        return Role.COMPANION
    if beyond:
        return Role.BEYOND_LIMIT
    return Role.SOURCE if member.path == source.path else Role.PART
