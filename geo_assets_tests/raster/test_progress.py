"""Which part of a conversion is done, as it is told while it runs."""

import os
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from geo_assets.raster import progress as progress_module
from geo_assets.raster.cog import convert
from geo_assets.raster.models import ConvertRequest
from geo_assets.raster.progress import Progress, written_by_driver
from geo_assets_tests.raster.test_cog import write

#: Decoded bytes that take a second to prove.
_A_SECOND = 130_000_000


@pytest.fixture
def clock(monkeypatch):
    """Time that passes when it is told to."""

    class Clock:
        now = 100.0

    monkeypatch.setattr("geo_assets.raster.progress.time.monotonic", lambda: Clock.now)
    return Clock


def told(path: Path) -> float:
    return float(path.read_text())


def test_the_part_is_one_of_the_time_that_writing_and_proving_take(tmp_path, clock):
    progress = Progress(tmp_path / "told", 2 * _A_SECOND)  # two seconds of proof
    progress.written(0.0)
    clock.now += 4.0
    progress.written(0.5)  # so writing takes eight
    assert told(tmp_path / "told") == pytest.approx(0.4)
    clock.now += 4.0
    progress.written(1.0)
    assert told(tmp_path / "told") == pytest.approx(0.8)
    progress.proven(0.5)
    assert told(tmp_path / "told") == pytest.approx(0.9)
    progress.proven(1.0)
    assert told(tmp_path / "told") == 1.0


def test_what_comes_before_writing_is_a_part_of_it(tmp_path, clock):
    progress = Progress(tmp_path / "told", _A_SECOND)
    clock.now += 4.0  # it is reprojected
    progress.written(0.0)
    clock.now += 2.5
    progress.written(0.5)
    assert told(tmp_path / "told") == pytest.approx(6.5 / 10)


def test_what_an_earlier_process_wrote_says_nothing_of_how_fast_this_one_is(tmp_path, clock):
    progress = Progress(tmp_path / "told", _A_SECOND)
    progress.written(0.8)
    clock.now += 1.0
    progress.written(0.9)  # a tenth a second: all of it would have taken ten, and the proof takes one
    assert told(tmp_path / "told") == pytest.approx(0.9 * 10 / 11, abs=1e-4)


def test_it_never_goes_back_and_is_never_read_by_halves(tmp_path, clock):
    progress, seen = Progress(tmp_path / "told", 100 * _A_SECOND), []
    for part in (0.1, 0.2, 0.9, 0.3, 1.0):
        clock.now += 1
        progress.written(part)
        seen.append(told(tmp_path / "told"))
    assert seen == sorted(seen)
    assert (tmp_path / "told").stat().st_size == len("0.1234")


def test_nobody_asked_and_nothing_is_written(tmp_path):
    progress = Progress(None, _A_SECOND)
    with progress.by_driver(tmp_path / "cog.tif"):
        pass
    progress.proven(1.0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("files", "part"),
    [
        ({}, None),
        ({"cog.tif.ovr.tmp": 1000}, None),  # it still makes overviews
        ({"cog.tif.ovr.tmp": 1000, "cog.tif": 2000}, 0.5),
        ({"cog.tif.ovr.tmp": 900, "cog.tif.msk.ovr.tmp": 100, "cog.tif": 1000}, 0.25),
        ({"cog.tif.ovr.tmp": 1000, "cog.tif": 9000}, 0.98),  # a guess that was wrong
        ({"staged.tif": 800, "staged.tif.ovr": 200, "cog.tif": 500}, 0.5),
        ({"cog.tif": 500}, None),
    ],
)
def test_how_far_the_driver_is_shows_in_what_it_has_written(tmp_path, files, part):
    for name, size in files.items():
        (tmp_path / name).write_bytes(bytes(size))
    assert written_by_driver(tmp_path / "cog.tif") == part


def test_overviews_may_lie_in_the_directory_for_temporary_files(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    (tmp_path / "tmp" / f"cog_{os.getpid()}_1.ovr.tmp").write_bytes(bytes(100))
    (tmp_path / "tmp" / "cog_1_1.ovr.tmp").write_bytes(bytes(1000))  # of another process
    (tmp_path / "cog.tif").write_bytes(bytes(100))
    assert written_by_driver(tmp_path / "cog.tif") == 0.25


@pytest.mark.parametrize("temporary", [True, False], ids=["TMPDIR", "no TMPDIR"])
def test_a_raster_that_gdal_writes_tells_how_far_it_is_while_it_is_written(tmp_path, monkeypatch, temporary):
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.delenv("TMPDIR", raising=False)
    if temporary:
        monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(progress_module, "_LOOK_EVERY", 0.01)
    pixels = np.random.default_rng(0).integers(0, 3, (1, 4000, 4000)) + np.linspace(0, 90, 4000)[None, None]
    source = write(tmp_path / "smooth.tif", pixels.astype("uint8"))
    seen, over = [0.0], threading.Event()

    def look():
        while not over.wait(0.01):
            if (tmp_path / "told").exists():
                seen.append(told(tmp_path / "told"))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        began = time.monotonic()
        convert(
            ConvertRequest(
                source=str(source),
                destination=str(tmp_path / "out.tif"),
                progress=str(tmp_path / "told"),
                profile="visual",
            )
        )
        assert time.monotonic() - began > 0.2, "long enough to be looked at"
    finally:
        over.set()
        thread.join()
    assert seen == sorted(seen)
    assert told(tmp_path / "told") == 1.0
    assert len({part for part in seen if 0.1 < part < 0.8}) >= 5
