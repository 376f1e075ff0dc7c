"""What is done with one source, in the parent.

Here: what the engine is asked, and what was made. Not here: opening a file (`engine.py`); fetching, uploading, the
account and the catalogue are geo_assets' own.
"""

from geo_assets.stages.added import Files, Task

from geo_assets_stage_name.job import Settings, StageName
from geo_assets_stage_name.models import Report, Request


def make(task: Task[StageName]) -> Files:
    """Make the histogram of a raster."""
    result = task.folder / "histogram.json"
    request = Request(
        source=str(task.source),
        destination=str(result),
        bins=task.parameters.bins,
        max_pixels=task.settings(Settings).max_pixels,
    )
    report = task.call("geo_assets_stage_name.engine:measure", request, Report)
    return Files({result: "application/json"}, bbox_4326=report.bbox_4326, software=report.software)
