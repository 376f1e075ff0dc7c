"""A table as vector tiles in one PMTiles file.

Here: cutting and encoding, by PostGIS, and the file, by the package pmtiles. Not here: which tables (`stage.py`).
Sources: Mapbox Vector Tile specification 2.1; PMTiles specification, version 3.
"""

import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

Box = tuple[float, float, float, float]

#: The media type of PMTiles.
PMTILES = "application/vnd.pmtiles"

#: Metres from the middle of Web Mercator to its edge; degrees of latitude there.
_EDGE, _LATITUDE = 20037508.342789244, 85.05112877980659

#: Features of one tile above the last zoom, the largest first: what a client draws in a moment.
_MOST_IN_A_TILE = 20_000

#: Each row with its geometry in Web Mercator, cut where that ends, and the tiles that it touches at a zoom.
_TOUCHED = """
with drawn as materialized (
    select gid, st_transform(st_clipbybox2d(st_transform(geom, 4326),
               st_makeenvelope(-180, -{latitude}, 180, {latitude}, 4326)), 3857) as shape
      from vector.{table} where geom is not null),
touched as (
    select gid, shape, greatest(st_xmax(shape) - st_xmin(shape), st_ymax(shape) - st_ymin(shape)) as size,
           greatest(0, floor((st_xmin(shape) + {edge}) / (2 * {edge}) * n)::int) as west,
           least(n - 1, floor((st_xmax(shape) + {edge}) / (2 * {edge}) * n)::int) as east,
           greatest(0, floor(({edge} - st_ymax(shape)) / (2 * {edge}) * n)::int) as north,
           least(n - 1, floor(({edge} - st_ymin(shape)) / (2 * {edge}) * n)::int) as south
      from drawn, (select (2 ^ {zoom})::int as n) tiles where not st_isempty(shape))
"""

_PARTS = "select coalesce(sum((east - west + 1)::bigint * (south - north + 1)), 0) from touched"

#: What is smaller than a step of a tile's grid has no shape left there; at the last zoom it is drawn as a point.
_TILES = """,
cut as (
    select x, y, gid, size, coalesce(st_asmvtgeom(shape, st_tileenvelope({zoom}, x, y)),
               case when {is_last} then st_asmvtgeom(st_centroid(shape), st_tileenvelope({zoom}, x, y)) end) as geom
      from touched, generate_series(west, east) x, generate_series(north, south) y),
ranked as (
    select *, row_number() over (partition by x, y order by size desc, gid) as place from cut where geom is not null)
select x, y, st_asmvt(feature, {layer}, 4096, 'geom' order by ranked.gid)
  from ranked join vector.{table} rows using (gid),
       lateral (select {columns} ranked.geom) as feature
 where {is_last} or place <= {most} group by x, y
"""

_BOUNDS = """
select min(st_xmin(b)), min(st_ymin(b)), max(st_xmax(b)), max(st_ymax(b))
  from (select box2d(st_transform(geom, 4326)) as b from vector.{table} where geom is not null) boxes
"""

_COLUMNS = """
select attname::text, format_type(atttypid, atttypmod) from pg_attribute
 where attrelid = format('vector.%%I', %s::text)::regclass and attnum > 0 and not attisdropped and attname <> 'geom'
 order by attnum
"""


@dataclass(frozen=True, slots=True)
class Written:
    """What a file holds: its last zoom, and the west, south, east and north of its table."""

    zoom: int
    box: Box


def write_tiles(
    conn: psycopg.Connection[Any], table: str, path: Path, *, max_zoom: int, most_parts: int
) -> Written | None:
    """Write the tiles of a table, down to the last zoom or the first whose tiles would hold too much together.

    Args:
        conn: on which the table is read.
        table: in the schema of published tables, with its key `gid` and its geometry `geom`.
        path: of the file, which is made.
        max_zoom: the last zoom.
        most_parts: features of all tiles of a zoom together.

    Returns:
        What was written; None, and no file, where no row has a geometry.
    """
    from pmtiles.tile import Compression, TileType
    from pmtiles.writer import write

    conn.execute("set statement_timeout = 0")
    columns = dict(conn.execute(_COLUMNS, (table,)).fetchall())
    last = _last_zoom(conn, table, max_zoom, most_parts)
    (bounds,) = conn.execute(sql.SQL(_BOUNDS).format(table=sql.Identifier(table))).fetchall()
    tiles = sorted(_tiles(conn, table, list(columns), last))
    if not tiles:
        return None
    west, south, east, north = bounds
    with write(path) as writer:
        for number, tile in tiles:
            writer.write_tile(number, tile)
        writer.finalize(
            {
                "tile_type": TileType.MVT,
                "tile_compression": Compression.GZIP,
                "min_lon_e7": _e7(west),
                "min_lat_e7": _e7(max(south, -_LATITUDE)),
                "max_lon_e7": _e7(east),
                "max_lat_e7": _e7(min(north, _LATITUDE)),
                "center_zoom": 0,
                "center_lon_e7": _e7((west + east) / 2),
                "center_lat_e7": _e7((south + north) / 2),
            },
            {"name": table, "vector_layers": [{"id": table, "fields": _fields(columns)}]},
        )
    return Written(last, (west, south, east, north))


def _last_zoom(conn: psycopg.Connection[Any], table: str, max_zoom: int, most_parts: int) -> int:
    """The last zoom whose tiles do not hold too much; 0 at least."""
    for zoom in range(1, max_zoom + 1):
        (parts,) = conn.execute(_query(_TOUCHED + _PARTS, table, zoom)).fetchone() or (0,)
        if parts > most_parts:
            return zoom - 1
    return max_zoom


def _tiles(conn: psycopg.Connection[Any], table: str, columns: list[str], last: int) -> Iterator[tuple[int, bytes]]:
    """Yield the number of each tile, as PMTiles orders them, and the tile."""
    from pmtiles.tile import zxy_to_tileid

    chosen = sql.SQL("").join(sql.SQL("rows.{}, ").format(sql.Identifier(name)) for name in columns)
    for zoom in range(last + 1):
        query = _query(_TOUCHED + _TILES, table, zoom, is_last=zoom == last, columns=chosen, most=_MOST_IN_A_TILE)
        for x, y, tile in conn.execute(query):
            yield zxy_to_tileid(zoom, x, y), gzip.compress(tile, mtime=0)


def _query(text: str, table: str, zoom: int, **values: Any) -> sql.Composed:
    return sql.SQL(text).format(
        table=sql.Identifier(table),
        layer=sql.Literal(table),
        zoom=sql.Literal(zoom),
        edge=sql.Literal(_EDGE),
        latitude=sql.Literal(_LATITUDE),
        **values,
    )


def _fields(columns: dict[str, str]) -> dict[str, str]:
    """The types of attributes as the metadata of tiles name them."""
    numbers = ("smallint", "integer", "bigint", "real", "double precision", "numeric")
    return {
        name: "Boolean" if kind == "boolean" else "Number" if kind.startswith(numbers) else "String"
        for name, kind in columns.items()
    }


def _e7(degrees: float) -> int:
    return round(degrees * 10_000_000)
