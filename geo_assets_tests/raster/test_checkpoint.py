"""The conversion of a large raster resumes after a kill, and the COG is the same."""

import os
import signal
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geo_assets.raster import onepass
from geo_assets.raster.models import ConvertReport, ConvertRequest
from geo_assets.sandbox.pool import SandboxPool
from geo_assets_tests.processes import children, command
from geo_assets_tests.raster.test_cog import write
from geo_assets_tests.raster.test_onepass import values
from geo_assets_tests.raster.test_profiles import made


class Killed(BaseException):
    """An exception that is never caught, like SIGKILL."""


@contextmanager
def killed_after(strips: int):
    """Ends conversions after this number of strips of the full resolution."""
    hand_out = onepass.Pyramid._hand_out

    def counted(pyramid, level, rows):
        if level.number == 0 and level.done == strips:
            raise Killed
        hand_out(pyramid, level, rows)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onepass.Pyramid, "_hand_out", counted)
        yield


def resumed(folder: Path, source: Path, strips: int, chunk: int, **options) -> ConvertReport:
    with killed_after(strips), pytest.raises(Killed):
        made(source, kept=str(folder / "kept"), chunk_pixels=chunk, **options)
    return made(source, kept=str(folder / "kept"), chunk_pixels=chunk, **options)


@pytest.mark.parametrize("profile", ["web", "analysis"])
@pytest.mark.parametrize(
    ("dtype", "nodata", "count"), [("uint8", None, 3), ("float32", -9999.0, 1), ("float64", float("nan"), 1)]
)
def test_a_conversion_that_was_killed_goes_on_from_its_last_checkpoint_to_the_same_bytes(
    tmp_path, dtype, nodata, count, profile
):
    source = write(tmp_path / "in.tif", values(count, 5001, 1101, dtype, nodata), nodata=nodata)
    whole = made(source, profile=profile)
    expected = (tmp_path / "out.tif").read_bytes()
    report = resumed(tmp_path, source, strips=7, chunk=2 * 512 * 1101, profile=profile)
    assert report.resumed == pytest.approx(6 * 512 / 5001)
    assert (tmp_path / "out.tif").read_bytes() == expected
    assert report.bands == whole.bands


@settings(deadline=None, max_examples=15)
@given(height=st.integers(1100, 4000), width=st.integers(513, 1600), after=st.integers(1, 7), every=st.integers(1, 3))
def test_wherever_it_was_killed(tmp_path_factory, height, width, after, every):
    folder = tmp_path_factory.mktemp("resumed")
    source = write(
        folder / "in.tif", np.random.default_rng(height * width).integers(0, 255, (1, height, width)).astype("uint8")
    )
    made(source)
    expected = (folder / "out.tif").read_bytes()
    options = {"kept": str(folder / "kept"), "chunk_pixels": every * 512 * width}
    with killed_after(after), suppress(Killed):  # a short one is done before
        made(source, **options)
    made(source, **options)
    assert (folder / "out.tif").read_bytes() == expected


def test_a_conversion_that_was_killed_in_its_proof_does_not_read_the_source_again(tmp_path, monkeypatch):
    from geo_assets.raster import cog

    def killed(*_):
        raise Killed

    source = write(tmp_path / "in.tif", values(1, 3000, 1100, "uint8", None))
    options = {"kept": str(tmp_path / "kept"), "chunk_pixels": 512 * 1100}
    with monkeypatch.context() as patch:
        patch.setattr(cog, "not_as_written", killed)
        with pytest.raises(Killed):
            made(source, **options)
    assert made(source, **options).resumed == 1


@pytest.mark.parametrize("damage", ["cut blocks", "cut state", "no state", "another source", "another profile"])
def test_what_does_not_fit_together_is_not_believed(tmp_path, damage):
    source = write(tmp_path / "in.tif", values(1, 5001, 1101, "uint8", None))
    options = {"kept": str(tmp_path / "kept"), "chunk_pixels": 512 * 1101}
    with killed_after(5), pytest.raises(Killed):
        made(source, **options)
    kept = tmp_path / "kept"
    if damage == "cut blocks":
        os.truncate(kept / "level-0.blocks", 1000)
    elif damage == "cut state":
        os.truncate(kept / "state.npz", 1000)
    elif damage == "no state":
        (kept / "state.npz").unlink()
    elif damage == "another source":
        write(source, np.random.default_rng(0).integers(0, 255, (1, 5001, 1100)).astype("uint8"))
    else:
        options["profile"] = "analysis"
    report = made(source, **options)
    assert report.resumed == 0
    assert made(source, profile=options.get("profile")).sha256 == report.sha256


def test_a_small_raster_leaves_nothing_to_go_on_from(tmp_path):
    made(write(tmp_path / "in.tif", values(1, 1100, 1100, "uint8", None)), kept=str(tmp_path / "kept"))
    assert not (tmp_path / "kept").exists()


@pytest.fixture
def large(tmp_path):
    """Takes a second or two, with a checkpoint after each strip."""
    source = tmp_path / "in" / "in.tif"
    source.parent.mkdir()
    write(source, np.random.default_rng(0).integers(0, 255, (3, 12_000, 3000)).astype("uint8"), photometric="RGB")
    return source


def request(source: Path, workspace: Path, kept: Path) -> ConvertRequest:
    return ConvertRequest(
        source=str(source), destination=str(workspace / "out.tif"), kept=str(kept), chunk_pixels=512 * 3000
    )


def until_there(path: Path) -> None:
    deadline = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_child_that_is_killed_is_followed_by_one_that_goes_on(tmp_path, large):
    with SandboxPool(tmp_path / "scratch", readable=[large.parent]) as pool, pool.workspace() as workspace:
        kept = pool.kept(workspace, "large")

        def kill() -> None:
            until_there(kept / "state.npz")
            for pid in children(os.getpid()):
                if "geo_assets.sandbox.child" in command(pid):
                    os.kill(pid, signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        report = pool.call("geo_assets.raster.cog:convert", request(large, workspace, kept), ConvertReport)
        killer.join()
    assert 0 < report.resumed < 1


def test_what_was_done_when_the_whole_process_was_killed_is_found_by_the_next(tmp_path, large):
    scratch = tmp_path / "scratch"
    pid = os.fork()
    if pid == 0:
        with SandboxPool(scratch, readable=[large.parent]) as pool, pool.workspace() as workspace:
            pool.call(
                "geo_assets.raster.cog:convert", request(large, workspace, pool.kept(workspace, "large")), ConvertReport
            )
        os._exit(0)
    deadline = time.monotonic() + 30
    while not list(scratch.glob("run-*/*/*/kept-large/state.npz")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    time.sleep(0.5)  # its child dies with it
    with SandboxPool(scratch, readable=[large.parent]) as pool, pool.workspace() as workspace:
        assert len(list(scratch.glob("run-*"))) == 1
        report = pool.call(
            "geo_assets.raster.cog:convert", request(large, workspace, pool.kept(workspace, "large")), ConvertReport
        )
        assert 0 < report.resumed < 1
    assert not list((scratch / "kept").iterdir())
