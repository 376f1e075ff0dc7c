"""What the stage and its engine say to each other, as JSON: a child may have been taken over by a file."""

from dataclasses import dataclass

from geo_assets.vector.models import BoundingBox
from geo_assets.wire import Message


@dataclass(frozen=True, kw_only=True)
class Request(Message):
    """Make the histogram of one raster."""

    source: str
    destination: str  # the JSON file
    bins: int
    max_pixels: int


@dataclass(frozen=True, kw_only=True)
class Report(Message):
    """What was made."""

    bbox_4326: BoundingBox  # west, south, east, north of the valid pixels
    software: dict[str, str]
