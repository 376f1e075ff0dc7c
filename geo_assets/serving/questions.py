"""What a client may ask of the libraries: the parameters of each, and the values that they may have.

The libraries take more than is good for a server: coordinate systems that are addresses or files, numbers without a
limit, the same parameter twice. What is not listed here is refused before a library sees it, with one sentence.
Here: single values, in the query and in the path. Not here: what several of them cost together (`pictures.py`),
filters (`filters.py`), which table has which columns (`tables.py`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode

import orjson
from starlette.types import ASGIApp, Receive, Scope, Send

from geo_assets.serving.answers import problem
from geo_assets.serving.filters import is_deeper

Query = list[tuple[str, str]]

#: Most pixels on a side of a picture.
MOST_PIXELS = 4096

#: Most parameters of one request, and most characters of one value.
_MOST_PARAMETERS = 200
_LONGEST = 16_000

_DEEPEST_ZOOM = 30

#: Degrees of a longitude: some count from 0 to 360.
_MOST_LONGITUDE = 360

#: Most levels of JSON in a parameter or a body: a collection of polygons in a feature has nine.
DEEPEST_JSON = 40

#: A raster or a table in a path, below the address of its service.
_OF = r"/collections/[^/]+(?:/items/[^/]+)?"

_EPSG = re.compile(
    r"(?:EPSG:|urn:ogc:def:crs:EPSG:[\d.]*:|https?://www\.opengis\.net/def/crs/EPSG/[\d.]+/)(\d{1,6})", re.IGNORECASE
)
_CRS84 = re.compile(
    r"(?:OGC:|urn:ogc:def:crs:OGC:[\d.]*:|https?://www\.opengis\.net/def/crs/OGC/[\d.]+/)CRS84", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Parameter:
    """How a value may be: what becomes of it (None if it is refused), and how that is told."""

    read: Callable[[str], str | None]
    says: str
    many: bool = False


def crs_for_libraries(given: str) -> str | None:
    """Return a coordinate system as `EPSG:n` or `OGC:CRS84`; None for anything else that a library would open.

    Args:
        given: one of these, with or without square brackets, as a URN of the OGC or as its address at opengis.net.
    """
    plain = given[1:-1] if given.startswith("[") and given.endswith("]") else given
    if found := _EPSG.fullmatch(plain):
        return f"EPSG:{found[1]}"
    return "OGC:CRS84" if _CRS84.fullmatch(plain) else None


def whole(low: int, high: int) -> Parameter:
    """A whole number."""

    def read(given: str) -> str | None:
        text = given.strip()
        fits = re.fullmatch(r"[+-]?\d{1,18}", text, re.ASCII) and low <= int(text) <= high
        return text.removeprefix("+") if fits else None

    return Parameter(read, f"a whole number from {low} to {high}")


def real(low: float, high: float) -> Parameter:
    """A number."""

    def read(given: str) -> str | None:
        number = _number(given)
        return given.strip() if number is not None and low <= number <= high else None

    return Parameter(read, f"a number from {low} to {high}")


def numbers(most: int, low: float = -1e12, high: float = 1e12, *, many: bool = False) -> Parameter:
    """Numbers with commas between them."""

    def read(given: str) -> str | None:
        found = [_number(part.strip("[]() ")) for part in given.split(",")]
        fits = len(found) <= most and all(n is not None and low <= n <= high for n in found)
        return given if fits else None

    return Parameter(read, f"at most {most} numbers with commas between them, from {low:g} to {high:g}", many)


def text(longest: int = 500, *, many: bool = False) -> Parameter:
    """Any text of some length."""
    return Parameter(lambda given: given if len(given) <= longest else None, f"of at most {longest} characters", many)


def one_of(*values: str) -> Parameter:
    """One of some words."""
    return Parameter(lambda given: given if given in values else None, f"one of: {', '.join(values)}")


def matching(pattern: str, says: str, longest: int = 500, *, many: bool = False) -> Parameter:
    """A text of a form."""
    form = re.compile(pattern, re.ASCII)
    return Parameter(lambda given: given if len(given) <= longest and form.fullmatch(given) else None, says, many)


def structure(longest: int) -> Parameter:
    """JSON of some size and depth."""

    def read(given: str) -> str | None:
        try:
            content = orjson.loads(given)  # which takes no NaN, no 1e400 and no half of a character
        except orjson.JSONDecodeError:
            return None
        fits = len(given) <= longest and not is_deeper(content, DEEPEST_JSON) and not has_nul(content)
        return given if fits else None

    return Parameter(read, f"JSON of at most {longest} characters and {DEEPEST_JSON} levels")


def has_nul(content: Any) -> bool:
    """Whether a text in JSON has the character that PostgreSQL does not keep."""
    if isinstance(content, str):
        return "\0" in content
    parts = [*content.keys(), *content.values()] if isinstance(content, dict) else content
    return isinstance(content, dict | list) and any(has_nul(part) for part in parts)


YES_OR_NO = Parameter(
    lambda given: given if given.lower() in {"true", "false", "1", "0", "yes", "no", "on", "off", "t", "f"} else None,
    "true or false",
)
COORDINATES = Parameter(
    crs_for_libraries, "EPSG:number, OGC:CRS84, or one of these as the OGC's URN or address at www.opengis.net"
)
ZOOM = whole(0, _DEEPEST_ZOOM)


def _number(given: str) -> float | None:
    try:
        number = float(given)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def checked(
    query: Query, parameters: Mapping[str, Parameter], others: Collection[str] = ()
) -> tuple[Query, str | None]:
    """Return a query as the libraries get it, and why it is refused, or None.

    Args:
        query: as the client gave it.
        parameters: those that there are.
        others: names that may be asked for too, with any text.
    """
    answer: Query = []
    seen: set[str] = set()
    if len(query) > _MOST_PARAMETERS:
        return query, f"a request has at most {_MOST_PARAMETERS} parameters"
    for name, value in query:
        parameter = parameters.get(name) or (text() if name in others else None)
        if parameter is None:
            return query, f"there is no parameter {name[:60]!r} here"
        if name in seen and not parameter.many:
            return query, f"{name} is asked for twice"
        seen.add(name)
        read = None if len(value) > _LONGEST or "\0" in value else parameter.read(value)
        if read is None:
            return query, f"{name} is not {parameter.says}: {value[:60]!r}"
        answer.append((name, read))
    return answer, None


def fault_of_path(path: str) -> str | None:
    """Say why a path is refused, or None: numbers in it are such, and no tile is beyond any map."""
    if "\0" in path:
        return "there is no such path"
    if found := re.match(rf"{_OF}/tiles/[^/]+/([^/]+)/([^/]+)/([^/.@]+)", path):
        zoom, column, row = (ZOOM.read(found[1]), *(whole(0, 2**_DEEPEST_ZOOM).read(found[n]) for n in (2, 3)))
        if zoom is None or column is None or row is None:
            return f"a tile is three whole numbers from 0, the first at most {_DEEPEST_ZOOM}"
    if found := re.match(rf"{_OF}/(?:bbox|point)/([^/]+)", path):
        sides = [_number(part) for part in _without_ending(found[1]).split(",")]
        if any(side is None or abs(side) > 1e9 for side in sides):
            return "a place is numbers with commas between them"
        if len(sides) == 4 and not (sides[0] < sides[2] and sides[1] < sides[3]):  # type: ignore[operator]
            return "a box is west,south,east,north, with west < east and south < north"
    if found := re.match(rf"{_OF}/(?:preview|bbox/[^/]+)/(\d+)x(\d+)(?:\.\w+)?$", path):
        side = whole(1, MOST_PIXELS)
        if not all(side.read(n) for n in found.groups()):
            return f"a picture has at least one and at most {MOST_PIXELS} pixels on a side"
    return None


def fault_of_place(path: str, query: Query) -> str | None:
    """Say why a place in a path is refused, or None: in degrees, unless another system is named, it is on the Earth."""
    found = re.match(rf"{_OF}/(?:bbox|point)/([^/]+)", path)
    if not found or any(name == "coord_crs" and value not in {"EPSG:4326", "OGC:CRS84"} for name, value in query):
        return None
    sides = [float(part) for part in _without_ending(found[1]).split(",")]
    if all(abs(x) <= _MOST_LONGITUDE for x in sides[::2]) and all(abs(y) <= 90 for y in sides[1::2]):
        return None
    return f"a place is longitude,latitude in degrees, up to {_MOST_LONGITUDE} and 90; other systems need coord_crs"


def _without_ending(place: str) -> str:
    """`1,2,3,4.png` without its last part, but not `1,2,3,4.5` without it."""
    return re.sub(r"\.[A-Za-z]\w*$", "", place)


class Asked:
    """Refuses what may not be asked, and passes on the rest.

    Args:
        app: a library's application.
        parameters: those that it is asked with.
    """

    def __init__(self, app: ASGIApp, parameters: Mapping[str, Parameter]) -> None:
        self._app = app
        self._parameters = parameters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http":
            given = query_of(scope)
            query, fault = checked(given, self._parameters)
            if fault := fault_of_path(scope["path"].removeprefix(scope["root_path"])) or fault:
                await problem(400, fault, remedy="see the API's description: api")(scope, receive, send)
                return
            if query != given:
                scope = with_query(scope, query)
        await self._app(scope, receive, send)


def query_of(scope: Scope) -> Query:
    """The parameters of a request."""
    return parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)


def with_query(scope: Scope, query: Query) -> Scope:
    """A request with other parameters."""
    return {**scope, "query_string": urlencode(query).encode()}
