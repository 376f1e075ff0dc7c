"""The job type, its stage and its settings.

Here: what a command needs to offer them. It is loaded for `geo-assets job-types`, so it imports nothing large.
Not here: the work (`stage.py`), what opens files (`engine.py`).
"""

from typing import ClassVar

from geo_assets.file_stages import Engine, FileStage
from geo_assets.parameters import PublishContainer
from geo_assets.settings import StageSettings
from pydantic import Field
from pydantic_settings import SettingsConfigDict


class StageName(PublishContainer):
    """A histogram of each raster of a container. With another value of a parameter, it is made again."""

    job_type: ClassVar[str] = "stage_name"
    summary: ClassVar[str] = "a histogram of each raster"
    stages: ClassVar[tuple[str, ...]] = ("stage_name",)

    bins: int = Field(10, ge=1, le=1000, description="how many bins a histogram has")


class Settings(StageSettings):
    """Of the machine, not of a job: outputs do not depend on them."""

    model_config = SettingsConfigDict(env_prefix="GEO_ASSETS_STAGE_NAME_")

    max_pixels: int = Field(100_000_000, ge=1, description="rasters with more pixels are quarantined")


STAGE = FileStage(
    Engine.RASTER,
    made="histograms",
    work="geo_assets_stage_name.stage:make",
    how="the values of the first band counted in bins of equal width",
    kinds=("json",),
    settings=Settings,
)
