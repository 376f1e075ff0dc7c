"""The job type and its stage.

Here: what a command needs to offer them. It is loaded for `geo-assets job-types`, so it imports nothing large.
Not here: the work (`stage.py`), what opens files (`engine.py`).
"""

from typing import ClassVar

from pydantic import Field

from geo_assets.file_stages import Engine, FileStage, Makes
from geo_assets.parameters import PublishContainer


class Terrain(PublishContainer):
    """Hillshade and slope of each elevation model of a container. With another parameter they are made again."""

    job_type: ClassVar[str] = "terrain"
    summary: ClassVar[str] = "hillshade and slope of each elevation model, as COGs"
    stages: ClassVar[tuple[str, ...]] = ("terrain",)

    azimuth: float = Field(315, ge=0, le=360, description="where the light comes from, in degrees clockwise from north")
    altitude: float = Field(45, ge=0, le=90, description="how high it stands, in degrees above the horizon")
    z_factor: float = Field(1, gt=0, allow_inf_nan=False, description="metres of one unit of height: 0.3048 for feet")


STAGE = FileStage(
    Engine.RASTER,
    made="hillshades and slopes",
    makes=Makes.COGS,
    work="geo_assets_terrain.stage:make",
    how="hillshade and slope by the gradient of Horn (1981)",
    kinds=("cog",),
)
