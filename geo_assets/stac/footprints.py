"""The outlines of a collection's items as vector tiles in one file, PMTiles: a map of 20,000 of them at once.

Here: tiles, by PostGIS, and the file. Not here: where the file lies (`stages/export.py`).

The same items give the same bytes.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg

#: The media type of PMTiles.
PMTILES = "application/vnd.pmtiles"

#: The name of the one layer.
LAYER = "footprints"

#: Zooms; above the last, clients enlarge. A tile of zoom 12 is 10 km wide, and has 4,096 steps.
_DEEPEST = 12

#: No further zoom is made once the parts of footprints in tiles are more than this for each item, and this many more.
_SPREAD, _ANYWAY = 4, 2_000

#: Metres from the middle of Web Mercator to its edge; degrees of latitude there.
_EDGE, _LATITUDE = 20037508.342789244, 85.05112877980659

#: Each part of each footprint, and the range of tiles that it touches. What is smaller than a step is drawn as a point.
_PARTS = """
with parts as (
    select id, content, (st_dump(st_transform(st_clipbybox2d(geometry,
               st_makeenvelope(-180, -%(latitude)s, 180, %(latitude)s, 4326)), 3857))).*
      from pgstac.items where collection = %(collection)s),
ranges as (
    select *, greatest(0, floor((st_xmin(geom) + %(edge)s) / (2 * %(edge)s) * n)::int) as west,
           least(n - 1, floor((st_xmax(geom) + %(edge)s) / (2 * %(edge)s) * n)::int) as east,
           greatest(0, floor((%(edge)s - st_ymax(geom)) / (2 * %(edge)s) * n)::int) as north,
           least(n - 1, floor((%(edge)s - st_ymin(geom)) / (2 * %(edge)s) * n)::int) as south
      from parts, (select (2 ^ %(zoom)s)::int as n) tiles where not st_isempty(geom))
"""

_COUNT = f"""{_PARTS}
select coalesce(sum((east - west + 1) * (south - north + 1)), 0), count(distinct id) from ranges
"""  # noqa: S608 - of constants alone

_TILES = f"""{_PARTS},
drawn as (
    select x, y, id, path, content->'properties'->>'title' as title, content->'properties'->>'datetime' as datetime,
           coalesce(st_asmvtgeom(geom, st_tileenvelope(%(zoom)s, x, y)),
                    st_asmvtgeom(st_centroid(geom), st_tileenvelope(%(zoom)s, x, y))) as geom
      from ranges, generate_series(west, east) x, generate_series(north, south) y)
select x, y, st_asmvt(feature, %(layer)s, 4096, 'geom' order by drawn.id, path)
  from drawn, lateral (select drawn.id, title, datetime, drawn.geom) as feature
 where drawn.geom is not null group by x, y
"""  # noqa: S608 - of constants alone


def write_footprints(conn: psycopg.Connection[Any], collection: str, path: Path) -> int:
    """Write the footprints of a collection's items; returns how many tiles. Without any, no file is written.

    Args:
        conn: in whose transaction the items are read.
        collection: its id.
        path: of the file, which is made.
    """
    from pmtiles.tile import Compression, TileType
    from pmtiles.writer import write

    tiles = list(_tiles(conn, collection))
    if not tiles:
        return 0
    ((west, south, east, north),) = conn.execute(
        """select min(st_xmin(geometry)), min(st_ymin(geometry)), max(st_xmax(geometry)), max(st_ymax(geometry))
             from pgstac.items where collection = %s""",
        (collection,),
    ).fetchall()
    with write(path) as writer:
        for number, tile in sorted(tiles):
            writer.write_tile(number, tile)
        writer.finalize(
            {
                "tile_type": TileType.MVT,
                "tile_compression": Compression.GZIP,
                **{f"min_{name}_e7": int(value * 10_000_000) for name, value in (("lon", west), ("lat", south))},
                **{f"max_{name}_e7": int(value * 10_000_000) for name, value in (("lon", east), ("lat", north))},
                "center_zoom": 0,
                "center_lon_e7": int((west + east) / 2 * 10_000_000),
                "center_lat_e7": int((south + north) / 2 * 10_000_000),
            },
            {
                "name": collection,
                "vector_layers": [{"id": LAYER, "fields": dict.fromkeys(("id", "title", "datetime"), "String")}],
            },
        )
    return len(tiles)


def _tiles(conn: psycopg.Connection[Any], collection: str) -> Iterator[tuple[int, bytes]]:
    """Yield the number of each tile, as PMTiles orders them, and the tile."""
    from pmtiles.tile import zxy_to_tileid

    for zoom in range(_DEEPEST + 1):
        values = {"collection": collection, "zoom": zoom, "edge": _EDGE, "latitude": _LATITUDE, "layer": LAYER}
        ((parts, items),) = conn.execute(_COUNT, values).fetchall()
        if zoom and parts > _SPREAD * items + _ANYWAY:
            return
        for x, y, tile in conn.execute(_TILES, values):
            yield zxy_to_tileid(zoom, x, y), gzip.compress(tile, mtime=0)
