"""Every hostile file of `hostile.py` has its documented outcome, and affects no other file."""

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio

from geo_assets.errors import ERRORS, GeoAssetsError
from geo_assets.raster.drivers import driver_of
from geo_assets.raster.models import ConvertReport, ConvertRequest
from geo_assets.sandbox.pool import SandboxPool
from geo_assets.wire import told
from geo_assets_tests.raster.hostile import (
    CONVERTED,
    KINDS,
    SHORT,
    Hostile,
    Trap,
    disguises,
    encoded,
    raw_tiff,
    striped,
)

CONVERT = "geo_assets.raster.cog:convert"

#: The limits of one file here. A bomb must be refused long before.
MEMORY_MB, FILE_MB, SECONDS = 2048, 64, 10

SEED = 4

DOCUMENTATION = Path(__file__).parents[2] / "docs" / "hostile-rasters.md"


#: Kinds whose files try to open others: they must fail even without the sandbox's walls.
REACHING = (
    "another format in disguise",
    "metadata that names another file",
    "overviews or a mask beside it that are something else",
    "sidecars that lie",
    "a CRS that sends PROJ elsewhere",
    "a name that could be taken for something else",
    "a container of variables, or its magic and noise",
    "raw pixels whose header names other files",
    "a NITF that is damaged or names other files",
    "tiles of SQLite with odd contents",
)


#: Known faults that are not fixed yet.


class Canary:
    """A server that counts its requests."""

    def __init__(self) -> None:
        self.visits = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                connection.settimeout(1)
                self.visits.append("")
                self.visits[-1] = connection.recv(200).decode("ascii", "replace")
                connection.sendall(b"HTTP/1.0 404 Not Found\r\nContent-Length: 0\r\n\r\n")

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()


@pytest.fixture
def canary():
    canary = Canary()
    yield canary
    canary.close()


@pytest.fixture
def trap(canary, tmp_path):
    secret = tmp_path / "trap" / "secret.tif"
    (tmp_path / "trap" / "victim").mkdir(parents=True)
    secret.write_bytes(striped("NONE"))
    return Trap(secret, tmp_path / "trap" / "victim", canary.port)


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    limits = {"memory_mb": MEMORY_MB, "file_mb": FILE_MB, "timeout_seconds": SECONDS}
    with SandboxPool(tmp_path_factory.mktemp("pool"), **limits) as pool:
        assert (
            outcome(pool, Hostile("warm.tif", striped("NONE"))) == CONVERTED
        )  # libraries are loaded once, in no file's time
        yield pool


def submit(folder: Path, hostile: Hostile) -> ConvertRequest:
    """The file and its sidecars in a directory of their own, as the stage fetches them."""
    (folder / "source").mkdir()
    for name, content in {hostile.name: hostile.content, **hostile.sidecars}.items():
        (folder / "source" / name).write_bytes(content)
    request = {
        "source": str(folder / "source" / hostile.name),
        "destination": str(folder / "out.tif"),
        "thumbnail": str(folder / "out.png"),
    }
    return ConvertRequest(**request, **hostile.options)


def outcome(pool: SandboxPool, hostile: Hostile) -> str:
    """The code of the error, or CONVERTED where the COG equals what was put in; anything else is described."""
    with pool.workspace() as folder:
        request = submit(folder, hostile)
        before = tree(folder)
        try:
            pool.call(CONVERT, request, ConvertReport)
        except GeoAssetsError as error:
            left = tree(folder) ^ before
            if (
                error.code == "UNREADABLE"
                and len(re.findall(rf"{re.escape(hostile.name)}(?!\.?\w)", error.message)) > 1
            ):
                return f"named twice: {error.message}"
            return f"left behind: {left}" if left else error.code
        left = tree(folder) ^ before
        if {Path(path).name for path, *_ in left} != {"out.tif", "out.png"}:
            return f"left behind: {left}"
        return CONVERTED if faithful(request, hostile) else "pixels differ"


def faithful(request: ConvertRequest, hostile: Hostile) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        source = Path(request.source)
        with rasterio.open(source, driver=driver_of(source)) as a, rasterio.open(request.destination) as b:
            expected = a.read() if hostile.pixels is None else hostile.pixels
            same = request.target_crs is not None or b.read().tobytes() == expected.tobytes()
            return same or (b.dtypes[0].startswith("float") and np.array_equal(b.read(), expected, equal_nan=True))


def tree(folder: Path) -> set[tuple[str, int, int]]:
    """Every file below a folder, with its size and time of change."""
    return {
        (str(p.relative_to(folder)), s.st_size, s.st_mtime_ns)
        for p in folder.rglob("*")
        if p.is_file() and (s := p.stat())
    }


def made(kind: str, trap: Trap) -> list[Hostile]:
    return list(KINDS[kind].make(np.random.default_rng(SEED), trap))


def documented(kind: str, hostile: Hostile) -> tuple[str, ...]:
    return hostile.outcomes or KINDS[kind].outcomes


@pytest.mark.parametrize("kind", KINDS)
def test_a_hostile_file_has_its_documented_outcome_and_harms_nothing_else(kind, pool, trap, canary):
    before, wrong = tree(trap.secret.parent), []
    for hostile in made(kind, trap):
        started = time.monotonic()
        found = outcome(pool, hostile)
        if found not in documented(kind, hostile) or time.monotonic() - started > SECONDS:
            wrong.append(f"{hostile.name!r}: {found} after {time.monotonic() - started:.1f} s")
    assert not wrong
    assert outcome(pool, Hostile("good.tif", striped("NONE"))) == CONVERTED
    assert tree(trap.secret.parent) == before
    assert not canary.visits


#: Converts files without any sandbox; the first conversion warps, which registers the VRT driver permanently.
_BARE = """
import json, sys
from geo_assets.errors import GeoAssetsError
from geo_assets.raster.cog import convert
from geo_assets.raster.models import ConvertRequest
for line in sys.stdin:
    try:
        convert(ConvertRequest(**json.loads(line)))
        print("CONVERTED", flush=True)
    except GeoAssetsError as error:
        print(error.code, flush=True)
"""

#: Opens files as a naive reader does.
_NAIVE = """
import json, sys
import rasterio
for line in sys.stdin:
    try:
        with rasterio.open(json.loads(line)["source"]) as dataset:
            print(dataset.driver, dataset.read().sum(), flush=True)
    except Exception as error:
        print("refused", flush=True)
"""


def run_bare(program: str, requests: list[ConvertRequest], folder: Path) -> list[str]:
    """A program's answers to requests, in a process with a network, an empty environment and no driver skipped."""
    lines = "".join(f"{json.dumps(request, default=told)}\n" for request in requests)
    environment = {"PATH": os.defpath, "LANG": "C.UTF-8", "HOME": str(folder), "TMPDIR": str(folder)}
    command = [sys.executable, "-W", "ignore", "-c", program]
    done = subprocess.run(
        command, input=lines, capture_output=True, text=True, env=environment, cwd=folder, timeout=120, check=False
    )
    assert len(done.stdout.splitlines()) == len(requests), done.stderr
    return done.stdout.splitlines()


def test_the_choice_of_drivers_alone_keeps_files_from_the_network_and_from_other_files(trap, canary, tmp_path):
    warping = Hostile("good.tif", striped("NONE"), options={"target_crs": "EPSG:3857"}, outcomes=(CONVERTED,))
    cases = [("", warping), *((kind, hostile) for kind in REACHING for hostile in made(kind, trap))]
    requests = []
    for number, (_, hostile) in enumerate(cases):
        (tmp_path / str(number)).mkdir()
        requests.append(submit(tmp_path / str(number), hostile))
    before, inputs = tree(trap.secret.parent), {path for path, *_ in tree(tmp_path)}
    answers = run_bare(_BARE, requests, tmp_path)
    wrong = {h.name: a for (kind, h), a in zip(cases, answers, strict=True) if a not in documented(kind, h)}
    assert not wrong
    assert tree(trap.secret.parent) == before
    assert {Path(path).name for path, *_ in tree(tmp_path)} - {Path(path).name for path in inputs} <= {
        "out.tif",
        "out.png",
    }
    assert not canary.visits


def test_the_disguises_are_real_a_naive_reader_calls_reads_and_writes(trap, canary, tmp_path):
    requests = []
    for name, content in disguises(trap).items():
        (tmp_path / name).mkdir()
        requests.append(submit(tmp_path / name, Hostile(f"{name}.tif", content)))
    before = tree(trap.secret.parent)
    answers = dict(zip(disguises(trap), run_bare(_NAIVE, requests, tmp_path), strict=True))
    assert canary.visits
    assert answers["vrt"].startswith("VRT")
    assert tree(trap.secret.parent) != before


def test_what_is_documented_is_what_is_tested():
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \| [^|]+ \|$", DOCUMENTATION.read_text("utf-8"), re.MULTILINE)[1:]
    assert {kind: set(re.findall(r"`(\w+)`", codes)) for kind, codes in rows} == {
        name: set(kind.outcomes) for name, kind in KINDS.items()
    }
    assert {code for kind in KINDS.values() for code in kind.outcomes} - {CONVERTED} <= set(ERRORS)


def test_stale_overviews_of_a_small_raster_are_not_passed_on(pool, tmp_path):
    source = tmp_path / "in.tif"
    source.write_bytes(striped("NONE"))
    with rasterio.open(source, "r+") as dataset:
        dataset.build_overviews([2])
    with rasterio.open(source, "r+") as dataset:
        dataset.write(np.full((3, 160, 160), 255, "uint8"))
    with pool.workspace() as folder:
        request = submit(folder, Hostile("in.tif", source.read_bytes()))
        pool.call(CONVERT, request, ConvertReport)
        with rasterio.open(request.destination) as cog:
            assert not cog.overviews(1)


def test_a_single_band_that_says_it_is_red_is_converted(pool):
    assert outcome(pool, Hostile("in.tif", raw_tiff({262: (SHORT, [2])}))) == CONVERTED


def test_a_one_bit_raster_with_nodata_is_converted(pool):
    assert outcome(pool, Hostile("in.tif", encoded(count=1, nbits=1, nodata=0))) == CONVERTED
