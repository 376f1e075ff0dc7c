"""A published file is never overwritten with other bytes, whatever made them other: the source or the software."""

import hashlib
import io
import zipfile
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import numpy as np
import pytest

from geo_assets.parameters import asked_of
from geo_assets.sandbox.pool import SandboxPool
from geo_assets.stages import catalogue, cogs, files
from geo_assets.stages.context import StageContext
from geo_assets.stages.orphans import sweep_orphans
from geo_assets.stages.reconcile import reconcile
from geo_assets_tests.raster.test_cog import write
from geo_assets_tests.stages.test_deltas import Deliveries, Killed


class Readers(Deliveries):
    """Those who follow what the catalogue says, while files are delivered."""

    def put_zip(self, name, **values):
        """A zip of rasters: name -> the value of its pixels."""
        made = io.BytesIO()
        with zipfile.ZipFile(made, "w") as zipped:
            for member, value in values.items():
                path = write(self.folder / "member.tif", np.full((1, 30, 30), value, "uint8"))
                zipped.writestr(f"{member}.tif", path.read_bytes())
                path.unlink()
        (self.folder / name).write_bytes(made.getvalue())

    def read(self):
        """Href -> bytes of every COG and thumbnail in the catalogue; each COG is the one that its item describes."""
        found = {}
        for item in self.items().values():
            for asset in item["assets"].values():
                content = Path(url2pathname(urlsplit(asset["href"]).path)).read_bytes()
                checksum = f"1220{hashlib.sha256(content).hexdigest()}"
                assert asset.get("file:checksum", checksum) == checksum
                found[asset["href"]] = content
        return found

    def files(self):
        """Files below the output containers -> what changes when one is written, even with the same bytes."""
        home = self.context.settings.home / "containers"
        found = [p for kind in ("cogs", "thumbnails") for p in (home / kind / self.name).rglob("*") if p.is_file()]
        return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in found}

    def differences(self):
        return reconcile(self.context.settings, collections=[self.name], grace=timedelta(0)).differences


@pytest.fixture
def world(context, submitter, dagster):
    return Readers(context, submitter, dagster)


@pytest.fixture
def upgrade(monkeypatch):
    """From now on the software compresses otherwise, as after an upgrade of a codec: nobody asked for it."""
    return lambda: monkeypatch.setattr(
        cogs, "asked_of", lambda asked, engine: {**asked_of(asked, engine), "profile": "analysis"}
    )


@pytest.mark.parametrize("step", ["", "one uploaded", "half registered", "loaded"])
def test_newer_software_that_makes_other_bytes_leaves_readers_the_old_file_until_the_item_has_moved(
    world, upgrade, step
):
    for name in ("a.tif", "b.tif", "c.tif"):
        world.put(name)
    world.put_zip("d.zip", one=1, two=2)
    job = world.deliver()
    before, seen = world.read(), []
    assert len(before) == 10
    upload, clear = files.upload_output, catalogue._clear_superseded

    def uploaded(*args):
        upload(*args)
        seen.append(world.read())
        if step == "one uploaded":
            raise Killed

    def loaded(*args):
        if step == "loaded":
            raise Killed
        clear(*args)

    upgrade()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cogs, "upload_output", uploaded)
        patch.setattr(catalogue, "_clear_superseded", loaded)
        world.deliver(force=True, killed=step)
    assert seen
    assert all(found == before for found in seen), "nothing has moved yet"
    if step:
        moved = world.read().keys() - before.keys()
        assert bool(moved) == (step in {"half registered", "loaded"})
        with StageContext(world.context.settings) as world.context:
            assert world.go_on(job) == job
    now = world.read()
    assert len(now) == 10
    assert not [href for href in now.keys() & before.keys() if href.endswith(".tif")]
    sweep_orphans(world.context.settings, grace=timedelta(0))
    assert world.differences() == ()
    assert len(world.files()) == 10


def test_what_is_made_again_with_the_same_bytes_is_not_uploaded_again_and_its_item_stays(world):
    world.put("a.tif")
    world.put_zip("b.zip", one=1, two=2)
    world.deliver()
    items, files = world.items(), world.files()
    world.put("a.tif")
    world.deliver()
    assert (world.items(), world.files()) == (items, files)
    world.deliver(force=True)
    assert (world.items(), world.files()) == (items, files)
    assert world.differences() == ()


def test_a_published_file_that_was_damaged_is_mended_under_its_name_by_making_it_again(world):
    world.put("a.tif")
    world.deliver()
    before = world.read()
    for path in world.files():
        content = bytearray(path.read_bytes())
        content[-20] ^= 1
        path.write_bytes(content)
    world.deliver(force=True)
    assert world.read() == before


def test_the_cogs_of_two_rasters_in_a_zip_that_swap_their_contents_have_other_names(world):
    world.put_zip("a.zip", one=1, two=2)
    world.deliver()
    before = world.read()
    world.put_zip("a.zip", one=2, two=1)
    world.deliver()
    assert not [href for href in world.read().keys() & before.keys() if href.endswith(".tif")]
    assert len(world.files()) == 4


def test_other_thumbnails_of_the_same_cogs_have_other_names_and_the_cogs_keep_theirs(world, monkeypatch):
    world.put("a.tif")
    world.deliver()
    before, take = world.read(), SandboxPool.take

    def newer(pool, made, *args, **kwargs):
        taken = take(pool, made, *args, **kwargs)
        if taken.suffix == ".png":
            with taken.open("ab") as file:
                file.write(b"made by a newer encoder")
        return taken

    monkeypatch.setattr(SandboxPool, "take", newer)
    world.deliver(force=True)
    (cog,) = world.read().items() & before.items()
    assert cog[0].endswith(".tif")
    assert len(world.read()) == len(world.files()) == 2
    assert world.differences() == ()
