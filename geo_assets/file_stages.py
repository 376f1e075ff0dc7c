"""The stages that make something of each source of a container: what each takes, what it makes, where its items go.

Here: a row for each stage, ours and those that other distributions add (docs/extend.md). Not here: the work
(`stages/`), job types and their parameters (`parameters.py`), what tasks leave in the ledger (`outcomes.py`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from geo_assets import plugins

if TYPE_CHECKING:
    from pydantic_settings import BaseSettings


class Engine(StrEnum):
    """The engines that process sources."""

    RASTER = "raster"
    VECTOR = "vector"


class Shapes:
    """Marks a parameter that shapes the output of an engine: with another value the output is made again."""

    def __init__(self, *engines: Engine, asked_as: str = "", asked: bool = True) -> None:
        """Mark.

        Args:
            engines: that take it.
            asked_as: what the engine's request calls it, where that is another name.
            asked: whether it is part of the engine's request at all.
        """
        self.engines = frozenset(engines)
        self.asked_as = asked_as
        self.asked = asked


class Makes(StrEnum):
    """What the tasks of a stage put out, which decides what becomes of it in the catalogue."""

    COGS = "cogs"  # each an asset of the source's item, with bands, statistics and a thumbnail
    TABLES = "tables"
    FILES = "files"  # of any kind, each an asset of the source's item


@dataclass(frozen=True, slots=True)
class FileStage:
    """A stage that makes something of each source of a container; each has an asset of the same name.

    What follows `makes` is for stages that other distributions add; these are given their suffix.
    """

    engine: Engine  # it takes what this engine reads; the parameters that shape its outputs are those of this engine
    made: str  # what its items stand for, in the title of their collection
    suffix: str = ""  # of that collection's id
    makes: Makes = Makes.FILES
    work: str = ""  # `module:function(Task) -> Files | Rasters`, which is called for each source (`stages/added.py`)
    how: str = ""  # what it does with a source, for the lineage of its item
    opens: bool = True  # the source is fetched for it; archives are refused, as nobody takes them apart for it
    recipe: int = 1  # raised where its output changes: everything is then made again
    after: tuple[str, ...] = ()  # the stages of the same job that have to be done before
    kinds: tuple[str, ...] = ()  # what it is made of, as the UI shows it
    settings: type[BaseSettings] | None = None  # its own (`settings.StageSettings`)

    def collection(self, asked: str) -> str:
        """The id of the STAC collection of its items, for the `collection` that a job was asked for."""
        return f"{asked}{self.suffix}"


#: The names of our stages, in the ledger and as assets.
COGS, TABLES = "cogs", "vector_tables"

#: Rasters and tables go to collections of their own: a mosaic over a collection breaks on an item without a raster.
_OURS: dict[str, FileStage] = {
    COGS: FileStage(Engine.RASTER, made="rasters", makes=Makes.COGS),
    TABLES: FileStage(Engine.VECTOR, made="tables", suffix="-vector", makes=Makes.TABLES),
}

#: A name that can be one of an op, an asset, a job and a set of partitions.
NAME = re.compile("[a-z][a-z0-9_]{2,39}")

#: Names of what every job that processes files has; of what the ledger calls the stages of others; `vector` would share
#: the collections of tables.
RESERVED = frozenset(
    {"container_inventory", "stac_items", "stac_collection", "submission_report", "catalogue", "greetings", "replies"}
    | {"vector"}
)


def _accepted(name: str, found: object) -> FileStage:
    """A stage that another distribution adds. Its collections carry its name, so no two stages share one."""
    if not isinstance(found, FileStage):
        msg = "it is no FileStage"
        raise TypeError(msg)
    wrong = {
        f"a stage's name is 3 to 40 of a-z, 0-9 and _, and none of {', '.join(sorted(RESERVED))}": (
            not NAME.fullmatch(name) or name in RESERVED
        ),
        "its work is no module:function": not re.fullmatch(r"[\w.]+:\w+", found.work),
        f"its settings have not the prefix GEO_ASSETS_{name.upper()}_": (
            found.settings is not None
            and found.settings.model_config.get("env_prefix") != f"GEO_ASSETS_{name.upper()}_"
        ),
        "without a source of its own it has to come after another stage": not found.opens and not found.after,
        "tables are made by geo_assets alone": found.makes is Makes.TABLES,
    }
    if msg := next((msg for msg, is_wrong in wrong.items() if is_wrong), ""):
        raise ValueError(msg)
    return replace(found, suffix=f"-{name.replace('_', '-')}")


#: Stage -> what it takes and makes.
FILE_STAGES = plugins.Registry(_OURS, plugins.STAGES, _accepted)


def fault_of(stages: Sequence[str]) -> str:
    """What is wrong with the stages of a job type, in their order; empty if nothing is."""
    for place, stage in enumerate(stages):
        if stage not in FILE_STAGES:
            return str(FILE_STAGES.broken.get(stage, f"there is no stage {stage}"))
        if missing := [each for each in FILE_STAGES[stage].after if each not in stages[:place]]:
            return f"its stage {stage} has to come after {', '.join(missing)}"
    return "" if stages else "it has no stages"
