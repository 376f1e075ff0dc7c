"""Our server and the bare libraries that it is made of, asked the same by one client.

Here: starting them, the questions, the time until an answer is there. Not here: what is in the catalogue (`stack.py`).

The bare STAC API is stac-fastapi-pgstac's own application with its defaults, as the same role on the same database; the
bare titiler is `bare.py`, with GDAL's options as our server has them. All of them are uvicorn with one process.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlencode

from benchmarks.stack import superuser
from geo_assets.local.postgresql import free_port
from geo_assets.serving.serve import _GDAL
from geo_assets.settings import Settings

#: Most that ours may cost, as a multiple of the bare library's.
BUDGET = 1.1

_UVICORN = (sys.executable, "-m", "uvicorn", "--log-level", "warning")

#: Asked before the clock runs.
_WARM = 30


@dataclass(frozen=True, slots=True)
class Compared:
    """Milliseconds of ours and of the bare library, and their ratios: each the median over rounds."""

    what: str
    ours: tuple[float, float]  # median, 95 %
    bare: tuple[float, float]
    ratio: tuple[float, float]


class Client:
    """One connection that is kept open, as clients do."""

    def __init__(self, port: int, accept: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self._headers = {"Accept-Encoding": accept, "Accept": "*/*"}

    def ask(self, path: str) -> tuple[float, bytes]:
        """Seconds, and the answer as it was sent."""
        began = time.perf_counter()
        self._connection.request("GET", path, headers=self._headers)
        answer = self._connection.getresponse()
        body = answer.read()
        seconds = time.perf_counter() - began
        if answer.status != 200:
            raise RuntimeError(f"{path}: {answer.status}, {body[:500]!r}")
        return seconds, body


@contextmanager
def servers(settings: Settings, home: Path) -> Iterator[dict[str, int]]:
    """Name -> port of those that are up."""
    user, password = settings.credentials("reader")
    with superuser(home) as conn:  # its pool asks for it whenever a connection is given back
        conn.execute(f"grant execute on function pg_advisory_unlock_all() to {user}")
    place = {"PGHOST": settings.pg_host, "PGPORT": str(settings.pg_port), "PGDATABASE": settings.pg_database}
    ports = {name: free_port() for name in ("ours", "stac", "titiler")}
    commands = {
        "ours": [sys.executable, "-m", "geo_assets.serving.serve", str(ports["ours"])],
        "stac": [*_UVICORN, "--factory", "--port", str(ports["stac"]), "stac_fastapi.pgstac.app:create_app"],
        "titiler": [*_UVICORN, "--port", str(ports["titiler"]), "benchmarks.bare:app"],
    }
    own = {"ours": {}, "stac": {**place, "PGUSER": user, "PGPASSWORD": password}, "titiler": _GDAL}
    running = [subprocess.Popen(command, env={**os.environ, **own[name]}) for name, command in commands.items()]
    try:
        for name, path in (("ours", "/livez"), ("stac", "/_mgmt/ping"), ("titiler", "/openapi.json")):
            _wait_for(ports[name], path)
        yield ports
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait()


def _wait_for(port: int, path: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            Client(port, "identity").ask(path)
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise RuntimeError(f"the server at {port} does not answer")


def searches(ports: dict[str, int], collection: str, rounds: int, questions: int) -> list[Compared]:
    """Searches by bbox: pages of ten and of a hundred, as they are and compressed."""
    compared = []
    for limit, accept in ((10, "identity"), (10, "gzip"), (100, "identity"), (100, "gzip")):
        paths = list(_boxes(collection, limit, questions))
        pairs = [(f"/stac{path}", path) for path in paths]
        ours, bare = Client(ports["ours"], accept), Client(ports["stac"], accept)
        if accept == "identity":
            for left, right in pairs:
                _insist_on_the_same_items(ours.ask(left)[1], bare.ask(right)[1])
        compared.append(_in_turns(f"search, {limit} items, {accept}", ours, bare, pairs, rounds))
    return compared


def _boxes(collection: str, limit: int, count: int) -> Iterator[str]:
    chance = random.Random(limit)
    for _ in range(count):
        west, south, side = chance.uniform(-170, 150), chance.uniform(-60, 60), chance.choice([2, 5, 10, 20])
        box = ",".join(f"{n:.4f}" for n in (west, south, west + side, south + side))
        yield f"/search?{urlencode({'bbox': box, 'collections': collection, 'limit': limit})}"


def _insist_on_the_same_items(ours: bytes, bare: bytes) -> None:
    left, right = ([item["id"] for item in json.loads(answer)["features"]] for answer in (ours, bare))
    if left != right:
        raise RuntimeError(f"not the same items: {left[:5]}, {right[:5]}")


def tiles(ports: dict[str, int], item: str, cog: str, places: Sequence[tuple[int, int, int]], rounds: int) -> Compared:
    """The tiles of one item, and those of its COG.

    Args:
        ports: of the servers.
        item: COLLECTION/ID.
        cog: its file.
        places: zoom, column and row of each.
        rounds: how often.
    """
    collection, _, identity = item.partition("/")
    left = f"/tiles/collections/{quote(collection)}/items/{quote(identity)}/tiles/WebMercatorQuad"
    ours, bare = Client(ports["ours"], "gzip"), Client(ports["titiler"], "gzip")
    pairs = []
    for place in places:
        tile = "/".join(map(str, place))
        pairs.append((f"{left}/{tile}.png", f"/tiles/WebMercatorQuad/{tile}.png?url={quote(cog)}"))
    for one, other in pairs:
        if ours.ask(one)[1] != bare.ask(other)[1]:
            raise RuntimeError(f"not the same picture: {one}, {other}")
    return _in_turns("tile of an item", ours, bare, pairs, rounds)


def places_of(cog: str) -> list[tuple[int, int, int]]:
    """Zoom, column and row of the tiles of a raster at its own resolution and at that of an overview."""
    import morecantile
    from rio_tiler.io import Reader

    grid = morecantile.tms.get("WebMercatorQuad")
    with Reader(cog) as raster:
        bounds, zoom = raster.get_geographic_bounds(grid.rasterio_geographic_crs), raster.maxzoom
    return [(tile.z, tile.x, tile.y) for z in (zoom, zoom - 2) for tile in grid.tiles(*bounds, [z])]


def _in_turns(what: str, ours: Client, bare: Client, pairs: Sequence[tuple[str, str]], rounds: int) -> Compared:
    """Each question to both, one after the other; who is asked first changes."""
    figures: list[tuple[tuple[float, float], tuple[float, float]]] = []
    for left, right in pairs[:_WARM]:
        ours.ask(left), bare.ask(right)
    for _ in range(rounds):
        mine, theirs = [], []
        for number, (left, right) in enumerate(pairs):
            if number % 2:
                theirs.append(bare.ask(right)[0])
                mine.append(ours.ask(left)[0])
            else:
                mine.append(ours.ask(left)[0])
                theirs.append(bare.ask(right)[0])
        figures.append((_told(mine), _told(theirs)))
    ratios = [tuple(a / b for a, b in zip(mine, theirs, strict=True)) for mine, theirs in figures]
    middle = [
        (statistics.median(one[0] for one in column), statistics.median(one[1] for one in column))
        for column in ([mine for mine, _ in figures], [theirs for _, theirs in figures], ratios)
    ]
    return Compared(what, *middle)


def _told(seconds: Sequence[float]) -> tuple[float, float]:
    """Median and 95 %, in milliseconds."""
    return statistics.median(seconds) * 1000, statistics.quantiles(seconds, n=20)[-1] * 1000
