"""What is done with one source, in the parent: its tables were published by the stage before, and are read from there.

Here: which tables, and what was made. Not here: tiles (`tiles.py`); uploading, the account and the catalogue are
geo_assets' own.
"""

from pathlib import Path

from geo_assets.errors import GeoAssetsError
from geo_assets.file_stages import TABLES
from geo_assets.longitudes import shortest_stretch
from geo_assets.stages.added import Files, Task
from geo_assets_vector_tiles.job import Settings, VectorTiles
from geo_assets_vector_tiles.tiles import PMTILES, Box, write_tiles


def make(task: Task[VectorTiles]) -> Files:
    """Draw each table of a source that has geometry.

    Raises:
        GeoAssetsError: NOTHING_TO_DRAW.
    """
    made: dict[Path, str] = {}
    boxes: list[Box] = []
    warnings = []
    with task.database() as conn:
        version = conn.execute("select postgis_lib_version()").fetchone()
        for table in (entry.table for entry in task.outputs(TABLES).all_tables if entry.geometry_type):
            name = table.partition(".")[2]
            file = task.folder / f"{name}.pmtiles"
            most = task.settings(Settings).most_parts
            written = write_tiles(conn, name, file, max_zoom=task.parameters.max_zoom, most_parts=most)
            if written is None:
                continue
            made[file] = PMTILES
            boxes.append(written.box)
            if written.zoom < task.parameters.max_zoom:
                warnings.append(f"{name}: tiles end at zoom {written.zoom}; the next has more than {most:,} features")
    if not made:
        raise GeoAssetsError("NOTHING_TO_DRAW", f"of {task.path} there is no table with geometry")
    west, east = shortest_stretch([(box[0], box[2]) for box in boxes])
    bounds = west, min(box[1] for box in boxes), east, max(box[3] for box in boxes)
    return Files(made, bbox_4326=bounds, software={"postgis": str(version and version[0])}, warnings=warnings)
