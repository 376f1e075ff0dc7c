"""What a killed upload leaves in a directory: nobody takes it for a file, and the next attempt deletes it."""

import os
import signal
import subprocess
import sys
import threading
import time
from datetime import timedelta

import pytest

from geo_assets.accounts import LocalAccount
from geo_assets.errors import GeoAssetsError
from geo_assets.settings import Settings
from geo_assets.stages import cogs, files
from geo_assets.stages.context import StageContext
from geo_assets.stages.orphans import sweep_orphans
from geo_assets.storage.containers import open_container
from geo_assets.storage.local import entries_below
from geo_assets_tests.stages.test_deltas import Killed
from geo_assets_tests.stages.test_output_names import Readers
from geo_assets_tests.waiting import until

#: Long enough that it is seen before it is whole.
BYTES = 500_000_000

_UPLOAD = """
import sys
from pathlib import Path
from obstore.store import LocalStore
from geo_assets.storage.whole import upload_whole
upload_whole(LocalStore(prefix=sys.argv[1]), "x.tif", Path(sys.argv[2]), {})
"""


@pytest.fixture
def container(tmp_path):
    """A container whose account's patience is as a run's: what passes is tried again."""
    (tmp_path / "share" / "cogs").mkdir(parents=True)
    settings = Settings(home=tmp_path / "home", accounts={"nas": LocalAccount(root=tmp_path / "share")})
    return open_container(settings, "nas", "cogs", patience=twice)


def twice(alias, ask):
    try:
        return ask()
    except GeoAssetsError:
        return ask()


@pytest.fixture
def large(tmp_path):
    file = tmp_path / "large.tif"
    with file.open("wb") as made:
        made.truncate(BYTES)
    return file


def names(folder):
    return {file.name for file in folder.iterdir()}


def old(file):
    """As if it had been written ten minutes ago."""
    file.touch()
    os.utime(file, (time.time() - 600, time.time() - 600))
    return file


def test_what_a_killed_upload_left_is_cleared_and_a_file_of_such_a_name_beside_it_stays(container, tmp_path, large):
    folder = tmp_path / "share" / "cogs"
    (folder / "y.tif#1").write_bytes(b"somebody's")
    for left in ("x.tif#1", "x.tif#2"):
        upload = subprocess.Popen([sys.executable, "-c", _UPLOAD, folder, large])
        until((folder / left).exists, every=0.001)
        os.kill(upload.pid, signal.SIGKILL)
        upload.wait()
    assert names(folder) == {"x.tif#1", "x.tif#2", "y.tif#1"}
    container.clear_unfinished("x.tif")
    assert names(folder) == {"y.tif#1"}
    container.clear_unfinished("x.tif")


def test_an_upload_whose_beginning_was_cleared_by_another_process_begins_anew(container, tmp_path, large):
    cleared = []

    def clear():
        until((tmp_path / "share" / "cogs" / "x.tif#1").exists, every=0.001)
        container.clear_unfinished("x.tif")
        cleared.append((tmp_path / "share" / "cogs" / "x.tif").exists())

    other = threading.Thread(target=clear)
    other.start()
    container.upload(large, "x.tif")
    other.join()
    assert cleared == [False]
    assert names(tmp_path / "share" / "cogs") == {"x.tif"}
    assert container.head("x.tif").size == BYTES


@pytest.fixture
def world(context, submitter, dagster):
    return Readers(context, submitter, dagster)


@pytest.fixture
def killed(world, monkeypatch):
    """A delivery of two rasters whose run died while it uploaded one of the COGs."""
    upload, left = files.upload_output, []

    def die(context, output, media_type):
        if not output.ref.path.rpartition("/")[2].startswith("b_") or media_type != cogs.COG:
            upload(context, output, media_type)
            return
        file = context.settings.home / "containers" / output.ref.container / f"{output.ref.path}#1"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(output.file.read_bytes()[:100])
        left.append(old(file))
        raise Killed

    for name in ("a.tif", "b.tif"):
        world.put(name)
    with monkeypatch.context() as patch:
        patch.setattr(cogs, "upload_output", die)
        world.job = world.deliver(killed="uploaded")
    assert [d.what for d in world.differences() if d.what.endswith("#1")]
    (world.left,) = left
    return world


def test_what_a_run_that_was_killed_while_it_uploaded_left_goes_with_the_next_attempt(killed):
    with StageContext(killed.context.settings) as killed.context:
        assert killed.go_on(killed.job) == killed.job
    assert len(killed.items()) == 2
    assert not killed.left.exists()
    assert killed.differences() == ()


def test_what_a_killed_upload_left_goes_with_the_orphan_that_it_was_to_be_when_nobody_goes_on(killed):
    assert killed.left.exists()
    sweep_orphans(killed.context.settings, grace=timedelta(0))
    assert not killed.left.exists()
    assert not [d for d in killed.differences() if d.what.endswith("#1")]


def test_what_may_be_an_upload_in_progress_is_not_listed_before_it_is_old(tmp_path):
    old(tmp_path / "x.tif#1")
    (tmp_path / "x.tif#2").write_bytes(b"now")
    assert [entry["path"] for entry in entries_below(tmp_path)] == ["x.tif#1"]
