"""What the stage and its engine say to each other, as JSON: a child may have been taken over by a file."""

from dataclasses import dataclass

from geo_assets.wire import Message


@dataclass(frozen=True, kw_only=True)
class Request(Message):
    """Make the derivatives of one elevation model."""

    source: str
    hillshade: str  # the GeoTIFF of the shade
    slope: str  # the GeoTIFF of the slope
    azimuth: float
    altitude: float
    z_factor: float


@dataclass(frozen=True, kw_only=True)
class Report(Message):
    """What is known of the model besides its pixels."""

    datetime: str | None = None  # when it was taken, or START/END, as its metadata say
