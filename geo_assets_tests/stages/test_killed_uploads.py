"""What a killed upload leaves in a directory: nobody takes it for a file where only we write, and a purge deletes it."""

import os
import signal
import subprocess
import sys
import threading
import time

import psycopg
import pytest

from geo_assets.accounts import LocalAccount
from geo_assets.retention.purge import purge
from geo_assets.settings import Settings
from geo_assets.stages import cogs, files
from geo_assets.stages.context import StageContext
from geo_assets.storage.containers import open_container
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
def share(tmp_path):
    """Settings whose outputs go to a directory."""
    (tmp_path / "share" / "cogs").mkdir(parents=True)
    (tmp_path / "share" / "landing").mkdir()
    nas = {"nas": LocalAccount(root=tmp_path / "share")}
    return Settings(home=tmp_path / "home", accounts=nas, output_account="nas")


@pytest.fixture
def large(tmp_path):
    file = tmp_path / "large.tif"
    with file.open("wb") as made:
        made.truncate(BYTES)
    return file


def names(settings, container):
    return [blob.path for page in open_container(settings, "nas", container).list() for blob in page]


def old(file):
    """As if it had been written two days ago."""
    file.touch()
    os.utime(file, (time.time() - 172_800, time.time() - 172_800))
    return file


def test_what_a_killed_upload_left_is_no_output_and_is_purged_after_a_day(share, tmp_path, large):
    folder = tmp_path / "share" / "cogs"
    upload = subprocess.Popen([sys.executable, "-c", _UPLOAD, folder, large])
    until((folder / "x.tif#1").exists, every=0.001)
    os.kill(upload.pid, signal.SIGKILL)
    upload.wait()
    assert names(share, "cogs") == []
    assert purge(share, ["uploads"], dry_run=False)[0].extent.count == 0
    old(folder / "x.tif#1")
    assert names(share, "cogs") == []
    assert purge(share, ["uploads"], dry_run=True)[0].extent.count == 1
    assert (folder / "x.tif#1").exists()
    assert purge(share, ["uploads"], dry_run=False)[0].extent.count == 1
    assert not (folder / "x.tif#1").exists()


def test_a_file_of_such_a_name_in_somebodys_container_is_a_file_once_it_is_old_and_stays(share, tmp_path):
    file = old(tmp_path / "share" / "landing" / "y.tif#1")
    (tmp_path / "share" / "landing" / "z.tif#1").touch()
    assert names(share, "landing") == ["y.tif#1"]
    assert purge(share, ["uploads"], dry_run=False)[0].extent.count == 0
    open_container(share, "nas", "landing").delete("y.tif#1")
    assert not file.exists()


def test_a_source_with_a_name_that_no_upload_may_have_is_refused_and_the_others_are_published(
    context, submitter, dagster
):
    world = Readers(context, submitter, dagster)
    world.put("a.tif")
    (world.folder / "b.gdb").mkdir()
    (world.folder / "b.gdb" / "gdb").write_bytes(b"nothing")
    old(world.folder / "b.gdb" / "a00000001.gdbtable#1")
    job = world.deliver()
    assert len(world.items()) == 1
    with psycopg.connect(context.settings.dsn("pipeline")) as conn:
        query = "select task_key, error_code from geo.tasks where job_id = %s and error_code is not null"
        assert conn.execute(query, (job,)).fetchall() == [("b.gdb", "UNSAFE_PATH")]


def test_of_two_uploads_to_one_path_at_the_same_time_each_is_whole(share, tmp_path, large):
    container = open_container(share, "nas", "cogs")
    other = tmp_path / "other.tif"
    other.write_bytes(b"1" * 50_000_000)
    threads = [threading.Thread(target=container.upload, args=(file, "x.tif")) for file in (large, other)]
    for thread in threads:
        thread.start()
        time.sleep(0.05)
    sizes = set()
    while any(thread.is_alive() for thread in threads):
        if (tmp_path / "share" / "cogs" / "x.tif").exists():
            sizes.add((tmp_path / "share" / "cogs" / "x.tif").stat().st_size)
    sizes.add(container.head("x.tif").size)
    assert sizes <= {BYTES, 50_000_000}
    assert len(list((tmp_path / "share" / "cogs").iterdir())) == 1


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
    (world.left,) = left
    assert not [d for d in world.differences() if "#" in d.what]
    return world


def test_after_a_run_was_killed_while_it_uploaded_the_next_attempt_publishes_and_all_agrees(killed):
    with StageContext(killed.context.settings) as killed.context:
        assert killed.go_on(killed.job) == killed.job
    assert len(killed.items()) == 2
    assert killed.left.exists()
    assert killed.differences() == ()
