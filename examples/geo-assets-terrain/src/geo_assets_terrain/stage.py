"""What is done with one source, in the parent.

Here: what the engine is asked, and what was made. Not here: opening a file (`engine.py`); the COGs that become of the
rasters, the account and the catalogue are geo_assets' own.
"""

from geo_assets.stages.added import Rasters, Task
from geo_assets_terrain.job import Terrain
from geo_assets_terrain.models import Report, Request


def make(task: Task[Terrain]) -> Rasters:
    """Make hillshade and slope of an elevation model."""
    made = {key: task.raster(key) for key in ("hillshade", "slope")}
    asked = task.parameters
    request = Request(
        source=str(task.source),
        azimuth=asked.azimuth,
        altitude=asked.altitude,
        z_factor=asked.z_factor,
        **{key: str(path) for key, path in made.items()},
    )
    report = task.call("geo_assets_terrain.engine:derive", request, Report)
    return Rasters(made, datetime=report.datetime)
