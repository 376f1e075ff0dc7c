"""What a picture may cost, and how many are drawn at once.

A library reads every band of every pixel that is asked for into memory before it draws. Here: the parameters of
pictures, their pixels times their bands, and the queue in front of the drawing. Not here: how a raster is drawn where
the client does not say (`drawing.py`), the application (`tiles.py`).
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any

import orjson
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from geo_assets.serving.answers import problem
from geo_assets.serving.questions import (
    COORDINATES,
    MOST_PIXELS,
    YES_OR_NO,
    ZOOM,
    Parameter,
    Query,
    matching,
    numbers,
    one_of,
    real,
    structure,
    text,
    whole,
)

#: Bands over all that a client may name, in assets and in expressions.
MOST_BANDS = 16

#: Pixels times bands: three bands and a mask of the largest picture. A mosaic holds one for each raster that is read.
_MOST_VALUES = 4 * MOST_PIXELS**2
_MOST_VALUES_OF_MOSAIC = 4 * 2048**2

#: On the longer side of a picture for which no size is asked: a library would read some as they are.
_PIXELS = 1024
_TILE_PIXELS = 512

#: Pictures that are drawn at once, and among them those of more values than a map's tiles have.
_AT_ONCE = 4
_MANY_VALUES = 4 * 1024**2

#: Seconds that a picture waits to be drawn.
_PATIENCE = 20.0

#: Words, numbers and operators. Powers and shifts of plain numbers would be computed without a limit.
_EXPRESSION = re.compile(
    r"(?>[A-Za-z]\w{0,63}(?!\w)|\d{1,9}(?:\.\d{0,9})?(?!\d)|\*\*\s*\d(?:\.\d{1,4})?(?!\d|\s*\*\*)|\*(?!\*)"
    r"|[-+/%<>=!&|^~(),;\s])*+",
    re.ASCII,
)
_LONGEST_EXPRESSION = 500
_MOST_POWERS = 4

_ASSET_OPTIONS = frozenset({"bidx", "indexes", "expression"})


def fault_of_expression(expression: str) -> str | None:
    """Say why a calculation with bands is refused, or None."""
    if len(expression) > _LONGEST_EXPRESSION or not _EXPRESSION.fullmatch(expression):
        return f"an expression has at most {_LONGEST_EXPRESSION} characters: bands, numbers, operators, functions"
    if "<<" in expression or ">>" in expression or expression.count("**") > _MOST_POWERS:
        return f"an expression has no shifts and at most {_MOST_POWERS} powers, each of one digit"
    return None


def _expression(given: str) -> str | None:
    return None if fault_of_expression(given) else given


def _asset(given: str) -> str | None:
    """`name`, or `name|bidx=1,2`, or `name|expression=b1*2`."""
    name, *options = given.split("|")
    for option in options:
        key, _, value = option.partition("=")
        is_list = re.fullmatch(r"\d{1,5}(?:,\d{1,5})*", value, re.ASCII) is not None
        if key not in _ASSET_OPTIONS or not (is_list if key != "expression" else _expression(value)):
            return None
    return given if name and len(given) <= _LONGEST_EXPRESSION else None


def _colours(given: str) -> str | None:
    """`{value: colour}`, or `[[[low, high], colour]]`; a colour is three or four bytes, or #rrggbb."""
    read = structure(8000).read(given)
    content = orjson.loads(read) if read else None
    if isinstance(content, dict):
        fits = all(re.fullmatch(r"-?\d{1,18}", key, re.ASCII) and _is_colour(of) for key, of in content.items())
    else:
        fits = isinstance(content, list) and all(
            isinstance(part, list) and len(part) == 2 and _is_interval(part[0]) and _is_colour(part[1])
            for part in content
        )
    return read if content and fits else None


def _is_interval(content: Any) -> bool:
    return isinstance(content, list) and len(content) == 2 and all(type(end) in {int, float} for end in content)


def _is_colour(content: Any) -> bool:
    if isinstance(content, str):
        return re.fullmatch(r"#(?:[0-9a-fA-F]{3,4}){1,2}", content) is not None
    fits = isinstance(content, list) and len(content) in {3, 4}
    return fits and all(type(part) is int and 0 <= part <= 255 for part in content)


_IMAGES = one_of("png", "npy", "tif", "tiff", "jpeg", "jpg", "jp2", "webp", "pngraw")
_SIDE = whole(1, MOST_PIXELS)
_WORD = matching(r"[A-Za-z][\w-]{0,40}", "a word")

#: All that is asked of pictures, tiles, values and their descriptions.
PARAMETERS: dict[str, Parameter] = {
    "algorithm": _WORD,
    "algorithm_params": matching(r"\{[^{}]*\}", "a JSON object of at most 500 characters"),
    "asset_as_band": YES_OR_NO,
    "assets": Parameter(_asset, "a name, perhaps with |bidx=1,2 or |expression=b1*2", many=True),
    "buffer": real(0.5, 128),
    "c": numbers(64, many=True),
    "categorical": YES_OR_NO,
    "color_formula": text(200),
    "colormap": Parameter(_colours, '{"value": [r, g, b, a]} or [[[low, high], [r, g, b, a]]] in JSON'),
    "colormap_name": _WORD,
    "coord_crs": COORDINATES,
    "cover_scale": whole(1, 100),
    "crs": COORDINATES,
    "dst_crs": COORDINATES,
    "exitwhenfull": YES_OR_NO,
    "expression": Parameter(
        _expression,
        f"bands, numbers, operators and functions, at most {_LONGEST_EXPRESSION} characters, powers of one digit",
    ),
    "f": _WORD,
    "format": _IMAGES,
    "height": _SIDE,
    "histogram_bins": Parameter(
        lambda given: (
            given if (whole(1, 1024).read(given) if "," not in given else numbers(1024).read(given)) else None
        ),
        "a whole number up to 1024, or at most 1024 edges",
    ),
    "histogram_range": numbers(2),
    "items_limit": whole(1, 10_000),
    "max_size": _SIDE,
    "maxzoom": ZOOM,
    "minzoom": ZOOM,
    "nodata": matching(r"nan|-?inf|[-+]?\d+(?:\.\d*)?(?:e[-+]?\d{1,3})?", "a number, nan or inf", 40),
    "orientation": one_of("vertical", "horizontal"),
    "p": numbers(MOST_BANDS, 0, 100, many=True),
    "padding": whole(1, 128),
    "pixel_selection": one_of("first", "highest", "lowest", "mean", "count"),
    "reproject": _WORD,
    "resampling": _WORD,
    "rescale": numbers(2 * MOST_BANDS, -1e300, 1e300, many=True),
    "return_mask": YES_OR_NO,
    "scan_limit": whole(1, 10_000),
    "skipcovered": YES_OR_NO,
    "tile_format": _IMAGES,
    "tilesize": _SIDE,
    "time_limit": whole(1, 60),
    "unscale": YES_OR_NO,
    "use_epsg": YES_OR_NO,
    "width": _SIDE,
    "zooms": matching(
        r"(?:\*|\w{1,60})::[0-3]?\d,[0-3]?\d", "a tiling scheme and two zooms: WebMercatorQuad::0,12", many=True
    ),
    # clients of WMTS ask so, whatever the address is
    **dict.fromkeys(("SERVICE", "service", "REQUEST", "request", "VERSION", "version"), text(40)),
}

_TILE = re.compile(r"/tiles/[^/]+/\d+/\d+/[^/]+$")
_SIZED = re.compile(r"/(\d+)x(\d+)(?:\.\w+)?$")
_DRAWN = re.compile(
    r"/(?:tiles/[^/]+/\d+/\d+/[^/]+|preview[^/]*|bbox/[^/]+|bbox/[^/]+/[^/]*x[^/]*|\w*statistics|point/[^/]+)$"
)
_DESCRIPTION = re.compile(r"/(?:WMTSCapabilities\.xml|[^/]+/tilejson\.json)$")


def is_drawn(path: str) -> bool:
    """Whether pixels are read for an answer."""
    return _DRAWN.search(path) is not None


def is_description(path: str) -> bool:
    """Whether an answer says how tiles are asked for, with which assets among others."""
    return _DESCRIPTION.search(path) is not None


def sized(query: Query, path: str, bands: int, *, mosaic: bool) -> tuple[Query, int, str | None]:
    """Return a query with a size, how many values it takes, and why it is refused, or None.

    Args:
        query: with values as `PARAMETERS` lets them be.
        path: what is asked for.
        bands: that are read and drawn for each pixel.
        mosaic: whether it is made of several rasters.
    """
    most = _MOST_VALUES_OF_MOSAIC if mosaic else _MOST_VALUES
    given = {name: value for name, value in query if value}
    if "/point/" in path:
        pixels = 1
    elif _TILE.search(path):
        around = math.ceil(float(given.get("buffer", 0))) + int(given.get("padding", 0))
        pixels = (int(given.get("tilesize", _TILE_PIXELS)) + 2 * around) ** 2
    elif found := _SIZED.search(path):
        pixels = int(found[1]) * int(found[2])
    elif {"width", "height"} <= given.keys():
        pixels = int(given["width"]) * int(given["height"])
        query = [(name, value) for name, value in query if name != "max_size"]
    else:
        # one side alone would leave the other to the shape of the raster
        sides = [int(given[name]) for name in ("width", "height", "max_size") if name in given]
        side = min(sides, default=min(_PIXELS, math.isqrt(most // max(1, bands))))
        pixels = side**2
        query = [(name, value) for name, value in query if name not in {"width", "height", "max_size"}]
        query.append(("max_size", str(side)))
    values = pixels * max(1, bands)
    if values > most:
        side = math.isqrt(most // max(1, bands))
        return query, values, f"a picture of {bands} bands has at most as many pixels as one of {side} by {side}"
    return query, values, None


def bands_of(query: Query, assets: Sequence[Mapping[str, Any]]) -> tuple[int, str | None]:
    """Return how many bands are read and drawn, and why these are too many, or None.

    Args:
        query: with the assets that are drawn.
        assets: of each item that describes what is drawn, its assets by key.
    """
    named = own = 0
    for name, value in query:
        if name == "expression":
            named += value.count(";") + 1
        if name != "assets":
            continue
        key, *options = value.split("|")
        values = [option.partition("=") for option in options]
        asked = sum(1 + value.count(";" if way == "expression" else ",") for way, _, value in values)
        named += asked or 1
        own += 0 if asked else max([len(of[key].get("bands", ())) - 1 for of in assets if key in of], default=0)
    if named > MOST_BANDS:
        return named, f"a picture is made of at most {MOST_BANDS} bands"
    return named + max(0, own), None


class Queue:
    """Draws some pictures at once, and of large ones one; the others wait."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._all = asyncio.Semaphore(_AT_ONCE)
        self._large = asyncio.Semaphore(1)

    async def answer(self, values: int, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request when it is its turn. A picture is complete before its first byte is sent."""
        async with AsyncExitStack() as turn:
            try:
                async with asyncio.timeout(_PATIENCE):
                    for queue in (self._large, self._all) if values > _MANY_VALUES else (self._all,):
                        await turn.enter_async_context(queue)
            except TimeoutError:
                busy = problem(503, "too many pictures are asked for", headers={"Retry-After": "10"})
                await busy(scope, receive, send)
                return

            async def done(message: Message) -> None:
                if message["type"] == "http.response.start":
                    await turn.aclose()
                await send(message)

            await self._app(scope, receive, done)
