"""What the stage and its engine say to each other, as JSON: a child may have been taken over by a file."""

from geo_assets.vector.models import BoundingBox
from pydantic import BaseModel, ConfigDict, Field


class Request(BaseModel):
    """Make the histogram of one raster."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    destination: str = Field(description="the JSON file")
    bins: int
    max_pixels: int


class Report(BaseModel):
    """What was made."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bbox_4326: BoundingBox = Field(description="west, south, east, north of the valid pixels")
    software: dict[str, str]
