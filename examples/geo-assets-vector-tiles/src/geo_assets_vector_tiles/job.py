"""The job type, its stage and its settings.

Here: what a command needs to offer them. It is loaded for `geo-assets job-types`, so it imports nothing large.
Not here: the work (`stage.py`), the tiles (`tiles.py`).
"""

from typing import ClassVar, Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from geo_assets.file_stages import TABLES, Engine, FileStage
from geo_assets.parameters import StageVector
from geo_assets.settings import StageSettings


class VectorTiles(StageVector):
    """`stage_vector`, and each table as vector tiles."""

    job_type: ClassVar[str] = "vector_tiles"
    summary: ClassVar[str] = "vectors to PostGIS tables, and each table to vector tiles in one PMTiles file"
    stages: ClassVar[tuple[str, ...]] = (TABLES, "vector_tiles")

    max_zoom: int = Field(12, ge=0, le=16, description="the last zoom of the tiles; clients enlarge them")
    on_error: Literal["continue"] = Field(
        "continue", description="continue with the other files if one is bad: tiles are made of published tables"
    )


class Settings(StageSettings):
    """Of the machine, not of a job."""

    model_config = SettingsConfigDict(env_prefix="GEO_ASSETS_VECTOR_TILES_")

    most_parts: int = Field(
        2_000_000, ge=1, description="features of all tiles of one zoom together; deeper zooms are not made"
    )


STAGE = FileStage(
    Engine.VECTOR,
    made="vector tiles",
    work="geo_assets_vector_tiles.stage:make",
    how="each table drawn as vector tiles by PostGIS",
    opens=False,
    after=(TABLES,),
    kinds=("pmtiles",),
    settings=Settings,
)
