"""The outlines of a collection's items as vector tiles in one file, PMTiles: a map of 20,000 of them at once.

Here: tiles, by PostGIS, and the file. Not here: where the file lies (`stages/export.py`).

The same items give the same bytes.
"""

from __future__ import annotations

import gzip
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
from psycopg import sql

#: The media type of PMTiles.
PMTILES = "application/vnd.pmtiles"

#: The name of the one layer.
LAYER = "footprints"

#: The last zoom is the one at which the average part of a footprint is this share of a tile, of 4,096 steps; above it
#: clients enlarge. A tile of zoom 12 is 10 km wide.
_SHARE, _DEEPEST = 1 / 16, 12

#: No further zoom is made once the parts of footprints in tiles are more than this for each item, and this many more.
_SPREAD, _ANYWAY = 4, 2_000

#: Metres from the middle of Web Mercator to its edge; degrees of latitude there.
_EDGE, _LATITUDE = 20037508.342789244, 85.05112877980659

#: Each part of each footprint, in Web Mercator.
_GATHER = """
create temporary table {table} as
select id, content->'properties'->>'title' as title, content->'properties'->>'datetime' as datetime, (st_dump(
           st_transform(st_clipbybox2d(geometry, st_makeenvelope(-180, {south}, 180, {north}, 4326)), 3857))).*
  from pgstac.items where collection = {collection}
"""

#: The tiles that each part touches. What is smaller than a step is drawn as a point.
_RANGES = """
with ranges as (
    select *, greatest(0, floor((st_xmin(geom) + {edge}) / (2 * {edge}) * n)::int) as west,
           least(n - 1, floor((st_xmax(geom) + {edge}) / (2 * {edge}) * n)::int) as east,
           greatest(0, floor(({edge} - st_ymax(geom)) / (2 * {edge}) * n)::int) as north,
           least(n - 1, floor(({edge} - st_ymin(geom)) / (2 * {edge}) * n)::int) as south
      from {table}, (select (2 ^ {zoom})::int as n) tiles where not st_isempty(geom))
"""

_SIZE = "select avg(greatest(st_xmax(geom) - st_xmin(geom), st_ymax(geom) - st_ymin(geom))) from {table}"

_COUNT = """
select coalesce(sum((east - west + 1) * (south - north + 1)), 0), count(distinct id) from ranges
"""

_TILES = """,
drawn as (
    select x, y, id, path, title, datetime,
           coalesce(st_asmvtgeom(geom, st_tileenvelope({zoom}, x, y)),
                    st_asmvtgeom(st_centroid(geom), st_tileenvelope({zoom}, x, y))) as geom
      from ranges, generate_series(west, east) x, generate_series(north, south) y)
select x, y, st_asmvt(feature, {layer}, 4096, 'geom' order by drawn.id collate "C", path)
  from drawn, lateral (select drawn.id, title, datetime, drawn.geom) as feature
 where drawn.geom is not null group by x, y
"""

_BOUNDS = """
with box as (select st_transform(st_setsrid(st_extent(geom)::geometry, 3857), 4326) as b from {table})
select st_xmin(b), st_ymin(b), st_xmax(b), st_ymax(b) from box
"""


def gather_footprints(conn: psycopg.Connection[Any], collection: str) -> str:
    """Copy the footprints of a collection's items into a temporary table of the connection; return its name."""
    table = f"footprints_{uuid4().hex}"
    conn.execute(
        sql.SQL(_GATHER).format(
            table=sql.Identifier(table), collection=sql.Literal(collection), south=-_LATITUDE, north=_LATITUDE
        )
    )
    return table


def write_footprints(conn: psycopg.Connection[Any], table: str, name: str, path: Path) -> int:
    """Write footprints that were gathered; returns how many tiles. Without any, no file is written.

    Args:
        conn: that gathered them; not in a transaction.
        table: where they are.
        name: for people.
        path: of the file, which is made.
    """
    from pmtiles.tile import Compression, TileType
    from pmtiles.writer import write

    with conn.transaction():
        tiles = list(_tiles(conn, table))
        ((west, south, east, north),) = conn.execute(sql.SQL(_BOUNDS).format(table=sql.Identifier(table))).fetchall()
    if not tiles:
        return 0
    with write(path) as writer:
        for number, tile in sorted(tiles):
            writer.write_tile(number, tile)
        writer.finalize(
            {
                "tile_type": TileType.MVT,
                "tile_compression": Compression.GZIP,
                **{f"min_{name}_e7": round(value * 10_000_000) for name, value in (("lon", west), ("lat", south))},
                **{f"max_{name}_e7": round(value * 10_000_000) for name, value in (("lon", east), ("lat", north))},
                "center_zoom": 0,
                "center_lon_e7": round((west + east) / 2 * 10_000_000),
                "center_lat_e7": round((south + north) / 2 * 10_000_000),
            },
            {
                "name": name,
                "vector_layers": [{"id": LAYER, "fields": dict.fromkeys(("id", "title", "datetime"), "String")}],
            },
        )
    return len(tiles)


def _tiles(conn: psycopg.Connection[Any], table: str) -> Iterator[tuple[int, bytes]]:
    """Yield the number of each tile, as PMTiles orders them, and the tile."""
    from pmtiles.tile import zxy_to_tileid

    ((size,),) = conn.execute(sql.SQL(_SIZE).format(table=sql.Identifier(table))).fetchall()
    deepest = math.ceil(math.log2(2 * _EDGE * _SHARE / size)) if size else _DEEPEST
    for zoom in range(max(0, min(deepest, _DEEPEST)) + 1):
        values = {"table": sql.Identifier(table), "zoom": zoom, "edge": _EDGE, "layer": LAYER}
        ((parts, items),) = conn.execute(sql.SQL(_RANGES + _COUNT).format(**values)).fetchall()
        if zoom and parts > _SPREAD * items + _ANYWAY:
            return
        for x, y, tile in conn.execute(sql.SQL(_RANGES + _TILES).format(**values)):
            yield zxy_to_tileid(zoom, x, y), gzip.compress(tile, mtime=0)
