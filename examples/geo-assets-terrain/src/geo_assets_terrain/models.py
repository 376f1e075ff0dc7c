"""What the stage and its engine say to each other, as JSON: a child may have been taken over by a file."""

from pydantic import BaseModel, ConfigDict, Field


class Request(BaseModel):
    """Make the derivatives of one elevation model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    hillshade: str = Field(description="the GeoTIFF of the shade")
    slope: str = Field(description="the GeoTIFF of the slope")
    azimuth: float
    altitude: float
    z_factor: float


class Report(BaseModel):
    """What is known of the model besides its pixels."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    datetime: str | None = Field(None, description="when it was taken, or START/END, as its metadata say")
