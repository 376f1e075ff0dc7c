"""What the raster engine is asked and what it answers. Cheap to import: pydantic alone."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Contract(BaseModel):
    """Immutable, complete, nothing extra."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ConvertRequest(Contract):
    """One raster to convert; `source` lies alone with its sidecars in a private directory."""

    source: str
    destination: str
    threads: int = Field(1, ge=1)


class ConvertReport(Contract):
    """What was made."""

    driver: str
    width: int
    height: int
    count: int
    dtypes: tuple[str, ...]
    epsg: int | None
    crs_wkt: str
    transform: tuple[float, float, float, float, float, float]
    bbox: tuple[float, float, float, float] = Field(description="bounds in the raster's CRS: left, bottom, right, top")
    bytes: int
    sha256: str
    pixels_sha256: str = Field(description="of the level-0 pixels, band by band, row by row, little endian")
