"""The conversion of a large raster resumes after a kill, and the COG is the same."""

import os
import shutil
import signal
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geo_assets.raster import block_buffer, cog, cog_driver, onepass
from geo_assets.raster.models import ConvertReport, ConvertRequest
from geo_assets.sandbox.pool import SandboxPool
from geo_assets.stages.raster_conversion import Converter
from geo_assets_tests.processes import children, command
from geo_assets_tests.raster.test_cog import write
from geo_assets_tests.raster.test_onepass import a_mask, classes, masked, values
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


def killed_in_its_proof(source: Path, **options) -> None:
    def killed(*_):
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cog, "not_as_written", killed)
        with pytest.raises(Killed):
            made(source, **options)


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


@pytest.mark.parametrize("profile", ["web", "archive"])
@pytest.mark.parametrize("what", ["classes", "palette", "mask"])
def test_so_does_one_of_classes_or_with_a_mask_and_one_that_is_to_be_as_small_as_can_be(tmp_path, what, profile):
    colours = {"photometric": "palette"} if what == "palette" else {}
    if what == "mask":
        source = masked(tmp_path / "in.tif", values(1, 4001, 1101, "uint8", None), a_mask(4001, 1101))
    else:
        source = write(tmp_path / "in.tif", classes(4001, 1101, "uint8", 0), nodata=0, **colours)
    made(source, profile=profile)
    expected = (tmp_path / "out.tif").read_bytes()
    assert resumed(tmp_path, source, strips=7, chunk=2 * 512 * 1101, profile=profile).resumed > 0.7
    assert (tmp_path / "out.tif").read_bytes() == expected


def test_the_progress_of_a_wide_sparse_raster_takes_no_room_beside_its_cog(tmp_path):
    pixels = np.zeros((1, 2000, 20_000), np.uint8)
    pixels[:, 600:728] = values(1, 128, 20_000, "uint8", None)
    source = write(tmp_path / "in.tif", pixels, nodata=0)
    options = {"kept": str(tmp_path / "kept"), "chunk_pixels": 512 * 20_000}
    with killed_after(3), pytest.raises(Killed):
        made(source, **options)
    kept = sum(path.stat().st_size for path in (tmp_path / "kept").iterdir())
    assert made(source, **options).resumed > 0
    assert kept < 1.1 * (tmp_path / "out.tif").stat().st_size  # a strip of the first overview alone has five megabytes


@settings(deadline=None, max_examples=15)
@given(
    height=st.integers(1100, 4000),
    width=st.integers(513, 1600),
    after=st.integers(1, 7),
    every=st.integers(1, 3),
    wide=st.booleans(),
)
def test_wherever_it_was_killed(tmp_path_factory, height, width, after, every, wide):
    folder = tmp_path_factory.mktemp("resumed")
    source = write(
        folder / "in.tif", np.random.default_rng(height * width).integers(0, 255, (1, height, width)).astype("uint8")
    )
    made(source)
    expected = (folder / "out.tif").read_bytes()
    options = {"kept": str(folder / "kept"), "chunk_pixels": every * 512 * width}
    with pytest.MonkeyPatch.context() as patch:
        if wide:
            patch.setattr(onepass, "_TILES_A_THREAD", 0)
        with killed_after(after), suppress(Killed):  # a short one is done before
            made(source, **options)
        made(source, **options)
    assert (folder / "out.tif").read_bytes() == expected


def test_a_conversion_that_was_killed_in_its_proof_does_not_read_the_source_again(tmp_path):
    source = write(tmp_path / "in.tif", values(1, 3000, 1100, "uint8", None))
    options = {"kept": str(tmp_path / "kept"), "chunk_pixels": 512 * 1100}
    killed_in_its_proof(source, **options)
    assert made(source, **options).resumed == 1


@settings(deadline=None, max_examples=15)
@given(pieces=st.integers(0, 60), before=st.booleans())
def test_wherever_it_was_killed_while_its_blocks_were_moved_into_the_cog(tmp_path_factory, pieces, before):
    folder = tmp_path_factory.mktemp("moved")
    source = write(folder / "in.tif", np.random.default_rng(3).integers(0, 255, (1, 1500, 1100)).astype("uint8"))
    made(source)
    expected, left = (folder / "out.tif").read_bytes(), [pieces]

    def copied(one, other, length):
        if before:  # killed before a piece is written, or before it is cut off where it was
            end_at_zero()
        shutil.copyfileobj(one, other, length)
        end_at_zero()

    def end_at_zero() -> None:
        left[0] -= 1
        if left[0] < 0:
            raise Killed

    options = {"kept": str(folder / "kept"), "chunk_pixels": 512 * 1100}
    with pytest.MonkeyPatch.context() as patch, suppress(Killed):
        patch.setattr(block_buffer, "_MOVED_MOST", 1 << 16)
        patch.setattr(block_buffer, "shutil", SimpleNamespace(copyfileobj=copied))
        made(source, **options)
    again = made(source, **options)
    assert (folder / "out.tif").read_bytes() == expected
    assert again.resumed == (1 if left[0] < 0 else 0)  # there are some 35 pieces


def test_what_is_kept_of_a_large_raster_takes_no_disk_space_twice(tmp_path, monkeypatch):
    source = write(tmp_path / "in.tif", np.random.default_rng(3).integers(0, 255, (3, 3000, 3000)).astype("uint8"))
    used = [0]

    def copied(one, other, length):
        shutil.copyfileobj(one, other, length)
        other.flush()
        names = [*(tmp_path / "kept").iterdir(), *tmp_path.glob(".cog-*/*")]
        used[0] = max(used[0], sum({(s := name.stat()).st_ino: s.st_blocks * 512 for name in names}.values()))

    monkeypatch.setattr(block_buffer, "shutil", SimpleNamespace(copyfileobj=copied))
    made(source, kept=str(tmp_path / "kept"), chunk_pixels=512 * 3000)
    size = (tmp_path / "out.tif").stat().st_size
    assert size > 20_000_000
    assert 0 < used[0] < 1.05 * size


def test_a_cog_that_was_begun_behind_another_header_is_made_from_the_beginning(tmp_path):
    source = write(tmp_path / "in.tif", values(1, 3000, 1100, "uint8", None))
    options = {"kept": str(tmp_path / "kept"), "chunk_pixels": 512 * 1100}
    killed_in_its_proof(source, **options)
    with (tmp_path / "kept" / "cog.tif").open("r+b") as there:
        there.write(b"MM")
    assert made(source, **options).resumed == 0


@pytest.mark.parametrize("gone", ["cog.tif", "the end of cog.tif"])
def test_blocks_that_were_moved_into_a_cog_that_is_gone_are_made_again(tmp_path, gone):
    source = write(tmp_path / "in.tif", values(1, 3000, 1100, "uint8", None))
    options = {"kept": str(tmp_path / "kept"), "chunk_pixels": 512 * 1100}
    killed_in_its_proof(source, **options)
    there = tmp_path / "kept" / "cog.tif"
    if gone == "cog.tif":
        there.unlink()
    else:
        os.truncate(there, there.stat().st_size // 2)
    assert made(source, **options).resumed == 0


def test_a_large_raster_that_goes_on_is_a_plain_file_with_one_name_when_the_child_hands_it_over(tmp_path):
    source = tmp_path / "in" / "in.tif"
    source.parent.mkdir()
    write(source, np.random.default_rng(0).integers(0, 255, (1, 1500, 1100)).astype("uint8"))
    options = {"chunk_pixels": 512 * 1100}
    with SandboxPool(tmp_path / "scratch", readable=[source.parent]) as pool, pool.workspace() as workspace:
        converter = Converter(pool, workspace, options, thumbnails=False, known_as="in.tif", kept="large")
        (part,) = converter.source(source).made
        assert part.cog.stat().st_nlink == 1


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


def test_blocks_that_have_rotted_since_they_were_kept_are_made_again(tmp_path):
    source = write(tmp_path / "in.tif", values(1, 5001, 1101, "uint8", None))
    options = {"kept": str(tmp_path / "kept"), "chunk_pixels": 512 * 1101}
    with killed_after(5), pytest.raises(Killed):
        made(source, **options)
    flip(tmp_path / "kept" / "level-0.blocks", 2000)
    report = made(source, **options)
    assert (report.resumed, report.warnings) == (0, ())
    assert made(source).sha256 == report.sha256


def flip(path: Path, offset: int) -> None:
    """Change some bytes of a file, without its size."""
    with path.open("r+b") as file:
        file.seek(offset)
        there = file.read(64)
        file.seek(offset)
        file.write(bytes(255 - byte for byte in there))


@pytest.fixture
def by_gdal(tmp_path):
    """A picture that GDAL's driver writes, as WebP; its categories, which a TIFF has no place for, are beside it."""
    source = write(tmp_path / "in.tif", values(3, 1500, 1100, "uint8", None), photometric="RGB")
    source.with_name("in.tif.aux.xml").write_text(
        '<PAMDataset><PAMRasterBand band="1"><CategoryNames><Category>none</Category></CategoryNames></PAMRasterBand>'
        "</PAMDataset>"
    )
    return source


def killed_in_its_comparison(source: Path, **options) -> None:
    def killed(*_, **__):
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cog, "compare", killed)
        with pytest.raises(Killed):
            made(source, **options)


def test_what_gdals_driver_has_written_is_not_written_again_if_it_was_killed_in_its_proof(
    tmp_path, by_gdal, monkeypatch
):
    options = {"profile": "visual", "kept": str(tmp_path / "kept"), "chunk_pixels": 512 * 1100}
    whole = made(by_gdal, profile="visual")
    expected = (tmp_path / "out.tif").read_bytes()
    killed_in_its_comparison(by_gdal, **options)
    monkeypatch.setattr(cog_driver, "copy", lambda *_: pytest.fail("it was written again"))
    report = made(by_gdal, **options)
    assert report.resumed == 1
    assert (tmp_path / "out.tif").read_bytes() == expected
    assert report.warnings == whole.warnings == ("a TIFF cannot hold the names of its categories; left out",)


@pytest.mark.parametrize(
    "damage",
    ["cut", "rotten", "rotten overview", "rotten header", "zeros", "no state", "another source", "another profile"],
)
def test_of_what_gdals_driver_has_written_what_cannot_be_proven_is_written_again(tmp_path, by_gdal, damage):
    options = {"profile": "visual", "kept": str(tmp_path / "kept"), "chunk_pixels": 512 * 1100}
    killed_in_its_comparison(by_gdal, **options)
    there = tmp_path / "kept" / "driver.tif"
    size = there.stat().st_size
    if damage == "cut":
        os.truncate(there, size // 2)
    elif damage.startswith("rotten"):  # the smallest overview comes first
        flip(there, {"rotten": size - 3000, "rotten overview": 3000, "rotten header": 8}[damage])
    elif damage == "zeros":
        there.write_bytes(bytes(size))
    elif damage == "no state":
        (tmp_path / "kept" / "driver.json").unlink()
    elif damage == "another source":
        write(by_gdal, values(3, 1500, 1101, "uint8", None), photometric="RGB")
    else:
        options["profile"] = "archive"
    report = made(by_gdal, **options)
    assert report.resumed == 0
    assert made(by_gdal, profile=options["profile"]).sha256 == report.sha256


def test_a_lossy_profile_that_does_not_suit_is_tried_once_whatever_is_killed_after_it(tmp_path, monkeypatch):
    noise = np.random.default_rng(0).integers(0, 255, (3, 3000, 1100)).astype("uint8")
    source = write(tmp_path / "in.tif", noise, photometric="RGB")
    options = {"profile": "visual", "kept": str(tmp_path / "kept"), "chunk_pixels": 512 * 1100}
    with killed_after(4), pytest.raises(Killed):
        made(source, **options)
    assert not (tmp_path / "kept" / "driver.tif").exists()
    monkeypatch.setattr(cog_driver, "copy", lambda *_: pytest.fail("it was tried again"))
    report = made(source, **options)
    assert report.resumed > 0.5
    assert "the profile visual does not suit its pixels" in report.warnings[0]


def test_a_crs_that_was_given_is_not_written_into_a_copy_where_the_cog_is_kept(tmp_path, monkeypatch):
    source = write(tmp_path / "in.tif", values(3, 1500, 1100, "uint8", None), photometric="RGB", crs=None)
    options = {"profile": "visual", "kept": str(tmp_path / "kept"), "chunk_pixels": 512 * 1100}
    killed_in_its_comparison(source, source_crs="EPSG:32633", **options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cog, "_with_crs", lambda *_: pytest.fail("a copy was made"))
        killed_in_its_comparison(source, source_crs="EPSG:32633", **options)
    other = made(source, source_crs="EPSG:32634", **options)
    assert (other.epsg, other.resumed) == (32634, 0)


def test_a_child_that_is_killed_in_the_proof_of_what_gdals_driver_wrote_is_followed_by_one_that_proves_it(
    tmp_path, large
):
    write(large, values(3, 4000, 3000, "uint8", None), photometric="RGB")
    with SandboxPool(tmp_path / "scratch", readable=[large.parent]) as pool, pool.workspace() as workspace:
        kept = pool.kept(workspace, "large")
        asked = replace(request(large, workspace, kept), profile="visual")
        killer = killing_when_there(kept / "driver.json")
        report = pool.call("geo_assets.raster.cog:convert", asked, ConvertReport)
        killer.join()
    assert report.resumed == 1


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


def killing_when_there(path: Path) -> threading.Thread:
    """Begin to wait for a file, to kill the children of the sandbox then."""

    def kill() -> None:
        until_there(path)
        for pid in children(os.getpid()):
            if "geo_assets.sandbox.child" in command(pid):
                os.kill(pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    return killer


def test_a_child_that_is_killed_is_followed_by_one_that_goes_on(tmp_path, large):
    with SandboxPool(tmp_path / "scratch", readable=[large.parent]) as pool, pool.workspace() as workspace:
        kept = pool.kept(workspace, "large")
        killer = killing_when_there(kept / "state.npz")
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
