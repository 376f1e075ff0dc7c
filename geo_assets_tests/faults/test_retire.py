"""Only what a listing proves to be gone is retired, whatever else befell the source or the store."""

import shutil

import geopandas as gpd
import numpy as np
import psycopg
import pytest
from shapely.geometry import box

from geo_assets.stages.context import StageContext
from geo_assets.stages.contracts import JobRef
from geo_assets.stages.orphans import sweep_orphans
from geo_assets.stages.reconcile import Class
from geo_assets.stages.retire import retire
from geo_assets_tests.faults.test_killed_run import connect
from geo_assets_tests.integration.test_publication import ingest, items, upload
from geo_assets_tests.oracle import differences, settings_of
from geo_assets_tests.raster.test_cog import write
from geo_assets_tests.vector.builders import hive, points
from geo_assets_tests.vector.builders import write as write_vector
from geo_assets_tests.waiting import until

pytestmark = pytest.mark.faults


@pytest.fixture
def container(cli, tmp_path, request):
    """A container of six small rasters; its name is the parameter."""
    for i in range(6):
        write(tmp_path / f"t{i}.tif", np.full((1, 20, 20), i, "uint8"))
    upload(cli, tmp_path, request.param)
    return request.param


def remove(cli, container, *names):
    for name in names:
        (cli.home / "containers" / container / name).unlink()


@pytest.mark.parametrize("container", ["kept-retired"], indirect=True)
def test_what_a_job_that_keeps_published_is_retired_by_one_that_retires(cli, container):
    kept, _ = ingest(cli, container)
    remove(cli, container, "t0.tif")
    job, tasks = ingest(cli, container, "deleted=retire")
    assert job["status"] == "completed"
    assert len(items(cli, container)) == len(tasks) == 5
    assert {t["task_key"] for t in cli.json("tasks", kept["job_id"])} == set(tasks), (
        "the first job still says that it is published"
    )


@pytest.mark.parametrize("container", ["limited"], indirect=True)
def test_files_beyond_a_limit_are_not_taken_for_gone(cli, container):
    ingest(cli, container, "limit=6", "deleted=retire")
    shutil.copy(cli.home / "containers" / container / "t0.tif", cli.home / "containers" / container / "a.tif")
    job, _ = ingest(cli, container, "limit=6", "deleted=retire")
    assert job["status"] == "completed"
    assert len(items(cli, container)) == 7


@pytest.mark.slow
@pytest.mark.parametrize("container", ["elsewhere"], indirect=True)
def test_what_another_prefix_or_glob_or_collection_published_is_left_alone(cli, container):
    ingest(cli, container)
    ingest(cli, container, "collection=elsewhere-too")
    remove(cli, container, "t0.tif")
    ingest(cli, container, "deleted=retire", "include=t1*")
    assert len(items(cli, container)) == 6
    ingest(cli, container, "deleted=retire")
    assert (len(items(cli, container)), len(items(cli, "elsewhere-too"))) == (5, 6)


@pytest.mark.parametrize("container", ["emptied"], indirect=True)
def test_a_container_that_suddenly_looks_empty_retires_nothing_unless_that_is_allowed(cli, container):
    before, _ = ingest(cli, container, "deleted=retire")
    published = items(cli, container)
    remove(cli, container, *(f"t{i}.tif" for i in range(6)))
    job, _ = ingest(cli, container, "deleted=retire")
    assert (job["job_id"], job["status"], job["error_code"]) == (before["job_id"], "failed", "MASS_RETIRE")
    assert items(cli, container) == published
    assert differences(cli, container) == {Class.MISSING_SOURCE: 6}
    request = ("submit", "ingest_container", "--param", f"container={container}", "--param", "deleted=retire")
    allowed = cli.json(*request, "--allow-mass-retire", "--wait")
    assert (allowed["job_id"], allowed["status"]) == (before["job_id"], "completed")
    assert items(cli, container) == {}
    assert not differences(cli, container)


@pytest.mark.parametrize("container", ["turned-bad"], indirect=True)
def test_a_source_that_is_there_and_became_bad_keeps_what_was_published_of_it(cli, container):
    ingest(cli, container, "deleted=retire")
    (cli.home / "containers" / container / "t0.tif").write_bytes(b"II*\x00 no longer a raster")
    _, tasks = ingest(cli, container, "deleted=retire")
    assert tasks["t0.tif"]["status"] == "quarantined"
    assert len(items(cli, container)) == 6
    assert not differences(cli, container)


@pytest.mark.parametrize("container", ["came-later"], indirect=True)
def test_a_source_that_came_after_the_listing_and_that_another_job_published_meanwhile_is_not_retired(cli, container):
    listed, _ = ingest(cli, container, "deleted=retire")
    remove(cli, container, "t0.tif")  # after the listing: it is not among those that are proved to be gone
    shutil.copy(cli.home / "containers" / container / "t1.tif", cli.home / "containers" / container / "later.tif")
    ingest(cli, container)
    published = items(cli, container)
    assert len(published) == 7
    assert retired_by(cli, listed) == 0, "with the listing from before"
    assert items(cli, container) == published
    remove(cli, container, "later.tif")
    assert retired_by(cli, listed) == 1
    assert len(items(cli, container)) == 6


@pytest.mark.slow
def test_a_folder_that_is_one_source_and_came_back_after_the_listing_is_not_retired(cli, tmp_path):
    write_vector(points(3), tmp_path / "places.gdb")
    hive(tmp_path / "sites", year=[2023, 2024])
    hive(tmp_path, month=[1, 2])
    upload(cli, tmp_path, "folders-back")
    job, tasks = ingest(cli, "folders-back", "deleted=retire")
    assert set(tasks) == {"places.gdb", "sites", "month="}
    there, aside = cli.home / "containers" / "folders-back", cli.home / "folders-aside"
    aside.mkdir()
    for folder in ("places.gdb", "sites", "month=1", "month=2"):
        (there / folder).rename(aside / folder)
    with psycopg.connect(settings_of(cli).dsn("pipeline"), autocommit=True) as db:
        db.execute("delete from geo.inventory where job_id = %s", (job["job_id"],))  # as if it had been listed now
    for folder in ("places.gdb", "month=2"):
        (aside / folder).rename(there / folder)
    assert retired_by(cli, job, allow_mass_retire=True) == 1, "the store has the others"
    assert sorted(identity.rpartition("-")[0] for identity in items(cli, "folders-back-vector")) == [
        "month",
        "places-gdb",
    ]
    assert retired(cli, "folders-back")["status"] == "completed"


def retired_by(cli, job, **asked) -> int:
    """How many a job that listed earlier retires, if it comes to that now."""
    settings = settings_of(cli)
    with psycopg.connect(settings.dsn("pipeline"), autocommit=True) as db:
        held = "update geo.jobs set lease_run_id = %s, lease_heartbeat = now() where job_id = %s"
        db.execute(held, ("late", job["job_id"]))
        try:
            with StageContext(settings) as context:
                record = context.jobs.find(job["job_id"])
                ref = {name: getattr(record, name) for name in ("job_id", "job_type", "partition_key", "parameters")}
                return retire(context, JobRef(**ref, run_id="late", owner_run_id="late", **asked))[0]
        finally:
            db.execute(
                "update geo.jobs set lease_run_id = null, lease_heartbeat = null where job_id = %s", (job["job_id"],)
            )


def vectors(cli, tmp_path, container, *parameters):
    """A container of two vectors, ingested; task key -> its table."""
    for i, name in enumerate(("gone.gpkg", "stays.gpkg")):
        gpd.GeoDataFrame({"n": [i]}, geometry=[box(i, 0, i + 1, 1)], crs=4326).to_file(tmp_path / name)
    upload(cli, tmp_path, container)
    job, tasks = ingest(cli, container, *parameters)
    assert job["status"] == "completed"
    return {key: task["outputs"]["tables"][0]["table"] for key, task in tasks.items()}


def retired(cli, container, *parameters):
    """The account of a job that may take back as much as it likes."""
    given = [part for p in (f"container={container}", "deleted=retire", *parameters) for part in ("--param", p)]
    return cli.json("submit", "ingest_container", *given, "--allow-mass-retire", "--wait")


def test_a_view_over_the_table_of_a_source_that_is_gone_does_not_fail_the_job(cli, tmp_path):
    tables = vectors(cli, tmp_path, "viewed-gone", "deleted=retire")
    with psycopg.connect(settings_of(cli).dsn("pipeline"), autocommit=True) as db:
        db.execute(f"create view public.over_what_is_gone as select * from {tables['gone.gpkg']}")
        remove(cli, "viewed-gone", "gone.gpkg")
        job = retired(cli, "viewed-gone")
        assert job["status"] == "completed"
        assert len(items(cli, "viewed-gone-vector")) == 2, "what is kept is kept whole"
        said = db.execute(
            "select severity, message from geo.errors where job_id = %s order by 2", (job["job_id"],)
        ).fetchall()
        assert [severity for severity, message in said if "over_what_is_gone depends on" in message] == ["warning"]
        (remark,) = job["remarks"]
        assert "over_what_is_gone depends on" in remark
        assert "drop what depends on it" in remark
        db.execute("drop view public.over_what_is_gone")
        assert retired(cli, "viewed-gone")["status"] == "completed"
        assert len(items(cli, "viewed-gone-vector")) == 1
        assert db.execute("select to_regclass(%s)", (tables["gone.gpkg"],)).fetchone() == (None,)


def test_a_view_over_a_table_that_its_file_has_no_longer_keeps_it_until_the_view_goes(cli, tmp_path):
    source = tmp_path / "two.gpkg"
    for layer in ("kept", "dropped"):
        gpd.GeoDataFrame({"a": [1]}, geometry=[box(0, 0, 1, 1)], crs=4326).to_file(source, layer=layer)
    upload(cli, source, "layer-gone")
    _, tasks = ingest(cli, "layer-gone")
    (gone,) = (t["table"] for t in tasks["two.gpkg"]["outputs"]["tables"] if "dropped" in t["table"])
    source.unlink()
    gpd.GeoDataFrame({"a": [2]}, geometry=[box(0, 0, 1, 1)], crs=4326).to_file(source, layer="kept")
    upload(cli, source, "layer-gone")
    with connect(cli) as db:
        db.execute(f"create view public.over_a_layer as select * from {gone}")
        try:
            job, _ = ingest(cli, "layer-gone")
            assert job["status"] == "completed"
            (said,) = db.execute(
                "select message || ': ' || remedy from geo.errors where job_id = %s", (job["job_id"],)
            ).fetchone()
            assert f"{gone} is kept although its source no longer has it: view over_a_layer depends" in said
            assert said.endswith("drop what depends on it, and it is dropped automatically")
            assert differences(cli, "layer-gone") == {Class.LOOSE_TABLE: 1}
            sweep_orphans(settings_of(cli))
            assert differences(cli, "layer-gone") == {Class.LOOSE_TABLE: 1}
        finally:
            db.execute("drop view public.over_a_layer")
        until(
            lambda: sweep_orphans(settings_of(cli)) or not differences(cli, "layer-gone")
        )  # the stack's janitor does it, too
        assert db.execute("select to_regclass(%s)", (gone,)).fetchone() == (None,)
    assert differences(cli, "layer-gone") == {}


def test_a_source_of_an_append_job_that_was_retired_and_comes_back_has_its_table_again(cli, tmp_path):
    parameters = ("mode=append", "deleted=retire")
    tables = vectors(cli, tmp_path, "append-back", *parameters)
    source = cli.home / "containers" / "append-back" / "gone.gpkg"
    aside = source.rename(cli.home / "gone.gpkg")
    assert retired(cli, "append-back", "mode=append")["status"] == "completed"
    aside.rename(source)  # the very file: inode, time and size are its etag
    job, tasks = ingest(cli, "append-back", *parameters)
    assert job["status"] == "completed"
    assert tasks["gone.gpkg"]["outputs"]["tables"][0]["table"] == tables["gone.gpkg"]
    with psycopg.connect(settings_of(cli).dsn("pipeline")) as db:
        assert db.execute(f"select count(*) from {tables['gone.gpkg']}").fetchone() == (1,)


@pytest.mark.parametrize("container", ["disk-full"], indirect=True)
def test_a_store_without_room_is_disk_full_retires_nothing_and_leaves_no_thumbnail_behind(cli, container):
    _, before = ingest(cli, container, "deleted=retire")
    published = items(cli, container)
    write(cli.home / "containers" / container / "t0.tif", np.arange(400).reshape(1, 20, 20).astype("uint8"))
    folder = cli.home / "containers" / "cogs" / container / "default" / container
    with full(folder):
        job, tasks = ingest(cli, container, "deleted=retire")
    assert job["status"] == "completed_with_errors"
    assert (tasks["t0.tif"]["status"], tasks["t0.tif"]["error_code"]) == ("failed", "DISK_FULL")
    assert items(cli, container) == published
    assert differences(cli, container) == {Class.ORPHAN_COG: 1}, "the thumbnail that was there before its COG"
    sweep(cli)
    assert not differences(cli, container)
    again, tasks = ingest(cli, container, "deleted=retire")
    assert again["status"] == "completed"
    assert tasks["t0.tif"]["outputs"]["cog"] != before["t0.tif"]["outputs"]["cog"]


class full:  # noqa: N801 - reads as what it does: with full(folder)
    """A folder whose file system has no room: a small one of its own is mounted over a copy of it."""

    def __init__(self, folder):
        self.folder = folder

    def __enter__(self):
        import subprocess

        self.aside = self.folder.with_name(f"{self.folder.name}-aside")
        shutil.copytree(self.folder, self.aside)
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(self.folder)], check=False, capture_output=True
        )
        if mounted.returncode:
            shutil.rmtree(self.aside)
            pytest.skip("file systems cannot be mounted here")
        shutil.copytree(self.aside, self.folder, dirs_exist_ok=True)
        filler = self.folder / "filler"
        try:
            with filler.open("wb", buffering=0) as out:
                while True:
                    out.write(b"x" * 512)
        except OSError:
            return self

    def __exit__(self, *_):
        import subprocess

        subprocess.run(["umount", str(self.folder)], check=True)
        shutil.rmtree(self.aside)


def sweep(cli):
    from datetime import timedelta

    from geo_assets.stages.orphans import sweep_orphans

    return sweep_orphans(settings_of(cli), grace=timedelta(0))
