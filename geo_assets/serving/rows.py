"""A published table as tipg asks for it: which rows are meant, in which order, and how their values are told.

tipg compares boxes and geometries in the table's own coordinate system, numbers as doubles, leaves out the end of an
interval, and reads a page of any size into memory. These are answered here in its place.
Here: one table. Not here: which tables there are (`tables.py`), SQL of places (`places.py`).
"""

from __future__ import annotations

import re
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import ContextVar
from decimal import Decimal
from typing import Any

import asyncpg
import orjson
from ciso8601 import parse_rfc3339
from cql2 import Expr
from morecantile import Tile, TileMatrixSet
from pyproj import CRS
from tipg.collections import Column, Feature, PgCollection, geojson_schema
from tipg.errors import InvalidDatetimeColumnName, InvalidPropertyName, NotFound, TiPgError
from tipg.model import Extent, Spatial
from tipg.resources.enums import MediaType
from tipg.settings import FeaturesSettings

from geo_assets.longitudes import stretch_of_many
from geo_assets.serving.filters import is_beyond_double
from geo_assets.serving.places import SPATIAL, Placed, answered, identifier, in_box, literal, spatial, stored

#: How the request is answered: of a page of GeoJSON the next one is told, of other formats all is wanted.
answered_as: ContextVar[MediaType] = ContextVar("answered_as", default=MediaType.geojson)

#: Most bytes of the values of one answer.
MOST_BYTES = 32 * 2**20

#: Rows that are asked for at once, at first and at most.
_FIRST_ROWS = 4
_MOST_ROWS = 1000

#: Stands for a geometry that alone is larger than an answer may be.
_TOO_LARGE = "too large"

#: Name of a value in the statement: none of a column, after which rows may be sorted.
_VALUE = "geo_assets value "

_WHOLE_TYPES = frozenset({"smallint", "integer", "bigint"})
_WHOLE = re.compile(r"[+-]?\d{1,40}", re.ASCII)

#: Types whose values Python and JSON have as PostgreSQL has them.
_PLAIN = frozenset({*_WHOLE_TYPES, "real", "float8", "boolean", "text", "uuid"})
_TIMES = frozenset({"date", "timestamp", "timestamptz"})

#: Coordinate systems in which a box of a tile is one of degrees too.
_MERCATOR = frozenset({3857, 3395})


class TooLargeError(TiPgError):  # type: ignore[misc]
    """An answer is larger than it may be."""


class Table(PgCollection):  # type: ignore[misc]
    """A table, a view or a materialized view."""

    #: As `pg_class.relkind` has it.
    kind: str = "r"

    @property
    def extent(self) -> Extent | None:
        """Where it has rows, as far as that is known."""
        boxes = [box for column in self._placed() if (box := column.geographic)]
        if not boxes:
            return None
        west, east = stretch_of_many((box[0], box[2]) for box in boxes)
        around = [west, min(box[1] for box in boxes), east, max(box[3] for box in boxes)]
        return Extent(spatial=Spatial(bbox=[around, *(map(list, boxes) if len(boxes) > 1 else ())]))

    @property
    def bounds(self) -> list[float] | None:
        """The same as one box for maps of tiles, which do not go across 180°; the world where it is not known."""
        if not self.geometry_columns:
            return None
        if (extent := self.extent) is None or extent.spatial is None:
            return [-180.0, -90.0, 180.0, 90.0]
        west, south, east, north = extent.spatial.bbox[0]
        return [west, south, east, north] if west <= east else [-180.0, south, 180.0, north]

    @property
    def queryables(self) -> dict[str, dict[str, str]]:
        """What may be asked for: the kind of each geometry, the type of each other column."""
        told = {}
        for column in self.properties:
            kind = re.sub(r"(?i)(?<=.)Z?M?$", "", column.geometry_type or "").upper()
            if column.is_geometry:
                told[column.name] = {"$ref": geojson_schema.get(kind, geojson_schema["GEOMETRY"])}
            else:
                told[column.name] = {"name": column.name, "type": column.json_type}
                if column.type == "bytea":
                    told[column.name]["contentEncoding"] = "base64"
        return told

    def _placed(self) -> Iterator[Placed]:
        return (column for column in self.geometry_columns if isinstance(column, Placed))

    # ---- which rows

    def cql_where(
        self,
        ids: list[str] | None = None,
        datetime: list[str] | None = None,
        bbox: list[float] | None = None,
        properties: list[tuple[str, Any]] | None = None,
        cql: Any = None,
        geom: str | None = None,
        dt: str | None = None,
        tile: Tile | None = None,
        tms: TileMatrixSet | None = None,
    ) -> str | None:
        """The condition for the rows that a request means, as SQL; None for all. See tipg for the arguments.

        Raises:
            NotFound: an id that none can be.
            TiPgError: what there is no column for.
        """
        geometry = self.get_geometry_column(geom)
        asked = [
            self._of_filter(cql) if cql is not None else None,
            self._of_ids(ids) if ids else None,
            *(self._of_property(name, value) for name, value in properties or ()),
            in_box(geometry, bbox) if bbox and geometry is not None else None,
            self._of_time(datetime, dt) if datetime else None,
            self._of_tile(tile, tms, geometry) if tile and tms and geometry is not None else None,
        ]
        return " AND ".join(f"({condition})" for condition in asked if condition) or None

    @staticmethod
    def _where_clause(where: str | None) -> str:
        return f"WHERE {where or 'TRUE'}"

    def _of_property(self, name: str, value: str) -> str:
        if not self.get_column(name):
            raise InvalidPropertyName(f"there is no column {name!r}")
        return f"{identifier(name)} = {literal(value)}"

    def _of_ids(self, ids: list[str]) -> str:
        column = self.id_column
        if column is None:
            return "FALSE"
        if column.type not in _WHOLE_TYPES:
            return f"{identifier(column.name)} IN ({', '.join(map(literal, ids))})"
        if wrong := next((each for each in ids if not _WHOLE.fullmatch(each)), None):
            raise NotFound(f"there is no {wrong!r}: ids of {self.id} are whole numbers")
        return f"{identifier(column.name)} IN ({', '.join(str(int(each)) for each in ids)})"

    def _of_time(self, interval: list[str], named: str | None) -> str | None:
        """Both ends of an interval count. A table without a column of times is answered whole: nothing is compared."""
        if not self.datetime_columns:
            return None
        column = self.get_datetime_column(named)
        if column is None:
            raise InvalidDatetimeColumnName(f"there is no column {named!r} of times")
        start, end = interval if len(interval) == 2 else (interval[0], interval[0])
        sides = [(" >= ", start), (" <= ", end)]
        return " AND ".join(identifier(column.name) + how + _moment(at, column) for how, at in sides if at not in OPEN)

    def _of_tile(self, tile: Tile, tms: TileMatrixSet, geometry: Column) -> str | None:
        system = CRS(tms.crs.to_wkt())
        if system.is_geographic or system.to_epsg() in _MERCATOR:
            return in_box(geometry, tms.bounds(tile))
        condition = super().cql_where(geom=geometry.name, tile=tile, tms=tms)
        return condition.to_sql() if condition is not None else None

    def _of_filter(self, tree: Any) -> str:
        """A filter as SQL. What CQL2's library would not say as it is meant is a mark in its tree, and replaced in
        its statement: columns by their names as they are, numbers with all their digits, places.
        """
        token = f"m{secrets.token_hex(8)}_"
        marked: list[str] = []

        def mark(statement: str) -> dict[str, str]:
            marked.append(statement)
            return {"property": f"{token}{len(marked) - 1}_"}

        statement = Expr(self._with_marks(tree, mark)).to_sql()
        return re.sub(rf'"?{token}(\d+)_"?', lambda found: marked[int(found[1])], statement)

    def _with_marks(self, node: Any, mark: Callable[[str], dict[str, str]]) -> Any:
        if isinstance(node, list):
            return [self._with_marks(part, mark) for part in node]
        if isinstance(node, int | Decimal) and not isinstance(node, bool):
            return mark(str(node)) if is_beyond_double(node) else node
        if not isinstance(node, dict):
            return node
        if "property" in node:
            return mark(identifier(node["property"]))
        if (operator := str(node.get("op", "")).lower()) in SPATIAL and len(node["args"]) == 2:
            return mark(f"({spatial(operator, *map(self._operand, node['args']))})")
        return {**node, "args": self._with_marks(node["args"], mark)} if "op" in node else node

    def _operand(self, side: Any) -> Any:
        """A column, or a geometry."""
        if isinstance(side, dict) and "property" in side:
            column = self.get_column(side["property"])
            if column is None:
                raise InvalidPropertyName(f"there is no column {side['property']!r}")
            return column
        if isinstance(side, dict) and ({"bbox", "type"} & side.keys()):
            return _floats(side)
        raise ValueError("a spatial operator has two geometries")

    # ---- in which order

    def _sortby(self, sortby: str | None) -> str:
        """Rows that are equal by what they are sorted by need an order too, or pages have some twice and some never."""
        sorts = [statement for _, statement in self._sort_expressions(sortby)] if sortby else []
        if self.id_column is not None:
            sorts.append(identifier(self.id_column.name))
        elif self.kind == "v":
            sorts.append(f"CAST({identifier(self.table)} AS text)")
        else:
            sorts += ["tableoid", "ctid"]
        return "ORDER BY " + ", ".join(sorts)

    # ---- how values are told

    def _select(
        self,
        properties: list[str] | None,
        geometry_column: Column | None,
        bbox_only: bool | None,
        simplify: float | None,
        geom_as_wkt: bool = False,
    ) -> str:
        names = self.columns(properties)
        told = [f"{_value(self.get_column(name))} AS {identifier(_VALUE + str(n))}" for n, name in enumerate(names)]
        geometry = "CAST(NULL AS text)"
        if geometry_column is not None:
            shape = answered(geometry_column)
            if bbox_only:
                shape = f"ST_Envelope({shape})"
            elif simplify:
                shape = f"ST_SnapToGrid(ST_SimplifyPreserveTopology({shape}, {simplify}), {simplify})"
            geometry = f"{'ST_AsEWKT' if geom_as_wkt else 'ST_AsGeoJSON'}({shape})"
            if not (bbox_only or simplify):
                large = f"pg_column_size({stored(geometry_column)}) > {MOST_BYTES}"
                geometry = f"CASE WHEN {large} THEN {literal(_TOO_LARGE)} ELSE {geometry} END"
        return "SELECT " + ", ".join([*told, self._select_id(), f"{geometry} AS tipg_geom"])

    async def _features_query(
        self,
        conn: asyncpg.Connection[Any],
        *,
        where: str | None = None,
        sortby: str | None = None,
        properties: list[str] | None = None,
        geom: str | None = None,
        limit: int | None = None,
        offset: int | None = None,
        bbox_only: bool | None = None,
        simplify: float | None = None,
        geom_as_wkt: bool = False,
        function_parameters: dict[str, str] | None = None,
    ) -> AsyncIterator[Feature]:
        """The rows of a page as features; of GeoJSON fewer than the limit, if these are as large as an answer may be.

        Raises:
            TooLargeError: see `MOST_BYTES`.
        """
        statement = " ".join(
            [
                self._select(properties, self.get_geometry_column(geom), bbox_only, simplify, geom_as_wkt),
                self._from(function_parameters, []),
                self._where_clause(where),
                self._sortby(sortby),
                f"LIMIT {int(limit or FeaturesSettings().default_features_limit)} OFFSET {int(offset or 0)}",
            ]
        )
        told = [(name, _telling(self.get_column(name))) for name in self.columns(properties)]
        async for row in _page(conn, statement):
            *values, identity, geometry = row.values()
            if geometry == _TOO_LARGE:
                raise TooLargeError(
                    f"a geometry of {self.id} alone is larger than the {MOST_BYTES // 2**20} MB of an answer: ask with"
                    " simplify, with bbox-only, or by another geom-column (none)"
                )
            yield Feature(
                type="Feature",
                geometry=geometry if geometry is None or geom_as_wkt else orjson.Fragment(geometry),
                id=identity,
                properties={name: tell(value) for (name, tell), value in zip(told, values, strict=True)},
            )


#: How an interval says that it has no beginning or no end.
OPEN = frozenset({"", ".."})


def fault_of_time(given: str) -> str | None:
    """Say why a moment or an interval is refused, or None."""
    sides = given.split("/")
    try:
        times = [parse_rfc3339(side) if side not in OPEN else None for side in sides]
    except ValueError:
        times = []
    if not any(times) or len(times) > 2:
        return "datetime is a time as 2024-01-31T12:00:00Z, or two of them with / between, .. for an open end"
    start, end = times[0], times[-1]
    return "datetime begins after it ends" if start and end and start > end else None


def _moment(given: str, column: Column) -> str:
    """A moment as SQL, for a column of days the day that it is in."""
    moment = f"CAST({literal(parse_rfc3339(given).isoformat())} AS timestamptz)"
    return f"CAST({moment} AS date)" if column.type == "date" else moment


def _floats(geometry: Any) -> Any:
    """A geometry whose numbers are doubles, as PostGIS has them."""
    if isinstance(geometry, dict):
        return {name: _floats(part) for name, part in geometry.items()}
    if isinstance(geometry, list | tuple):
        return [_floats(part) for part in geometry]
    return float(geometry) if isinstance(geometry, int | Decimal) else geometry


def _value(column: Column) -> str:
    """A value as SQL. What neither Python nor JSON has as PostgreSQL does is text, or JSON that PostgreSQL makes."""
    name = identifier(column.name)
    if column.type in _PLAIN:
        return name
    if column.type == "numeric":
        return f"CAST({name} AS text)"
    if column.type in _TIMES:
        return f"to_json({name}) #>> '{{}}'"
    if column.type == "bytea":
        return f"translate(encode({name}, 'base64'), E'\\n', '')"
    return f"CAST(to_json({name}) AS text)"


def _telling(column: Column) -> Callable[[Any], Any]:
    """How a value of a column is answered. JSON has numbers of any length, and none that is not finite."""
    is_csv = answered_as.get() == MediaType.csv
    if is_csv or column.type in _PLAIN | _TIMES | {"bytea"}:
        return lambda value: value
    if column.type == "numeric":
        return lambda value: orjson.Fragment(value) if value is not None and value[-1].isdigit() else None
    return lambda value: orjson.Fragment(value) if value is not None else None


async def _page(conn: asyncpg.Connection[Any], statement: str) -> AsyncIterator[Any]:
    """The rows of a statement, as many as an answer may hold, read a few at a time."""
    taken = largest = 0
    most = _FIRST_ROWS
    async with conn.transaction(readonly=True):
        # a statement that the connection remembers would be of the table's former columns
        cursor = await (await conn.prepare(statement)).cursor()
        while rows := await cursor.fetch(most):
            for row in rows:
                size = sum(len(value) for value in row.values() if isinstance(value, str))
                if taken and taken + size > MOST_BYTES:
                    if answered_as.get() == MediaType.geojson:  # which tells where the next page begins
                        return
                    raise TooLargeError(
                        f"the answer would be larger than {MOST_BYTES // 2**20} MB: ask for fewer rows at a time with"
                        " limit and offset, or for GeoJSON, whose pages end before that"
                    )
                taken, largest = taken + size, max(largest, size)
                yield row
            most = max(1, min(4 * most, _MOST_ROWS, (MOST_BYTES - taken) // (largest or 1)))
