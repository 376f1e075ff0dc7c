"""What a repair asks for, and what it leaves alone: the account of one job, without a stack."""

import os
import shutil
from datetime import timedelta
from functools import partial

import geopandas as gpd
import pytest
from shapely.geometry import box

from geo_assets.errors import GeoAssetsError
from geo_assets.parameters import Job, validate_parameters
from geo_assets.stages.reconcile import Class, reconcile
from geo_assets.stages.repair import Repair, Repaired
from geo_assets.submissions.boundary import handle
from geo_assets_tests.intake.messages import raw
from geo_assets_tests.intake.test_lifecycle import age_lease, at_work
from geo_assets_tests.stages.test_catalogue import World, raster, world  # noqa: F401 - the fixture


def compared(world: World):  # noqa: F811
    return reconcile(world.context.settings, collections=[world.name], grace=timedelta(0))


def repaired(world: World) -> Repaired:  # noqa: F811
    """A repair; what it waits for is done meanwhile."""

    def follow(job_id):
        world.work(Job.of(world.submitter.jobs.parameters(job_id)))

    compare = lambda: compared(world)  # noqa: E731
    return Repair(world.context.settings, world.submitter, compare, follow, why_orphans_stay=str).run()


def lose_cogs(world: World, *sources):  # noqa: F811
    lost = world.rows(
        "select outputs->>'cog' from geo.tasks where task_key = any(%s) and outputs->>'stac_item' ^@ %s",
        list(sources),
        world.name,
    )
    for (cog,) in lost:
        (world.context.settings.home / "containers" / cog.removeprefix("default/")).unlink()


def attempts(world: World, job) -> int:  # noqa: F811
    return world.rows("select count(*) from geo.attempts where job_id = %s", job.job_id)[0][0]


def told(steps):
    return [(step.kind, step.said) for step in steps]


def test_only_what_was_lost_is_made_again(world):  # noqa: F811
    for name in ("a.tif", "b.tif"):
        raster(world, name)
    job, _ = world.ingest()
    lose_cogs(world, "a.tif")
    done = repaired(world)
    assert told(done.done) == [(Class.MISSING_COG, f"made again by attempt 2 of job {job.job_id[:12]}")]
    assert (done.left, done.after.differences) == ((), ())
    assert {key: task[0] for key, task in world.tasks(job).items()} == {"a.tif": "succeeded", "b.tif": "skipped"}


def test_the_file_of_a_collections_items_is_made_again_without_an_attempt(world):  # noqa: F811
    raster(world, "a.tif")
    job, _ = world.ingest()
    folder = world.context.settings.home / "containers" / "cogs" / "_collections" / world.name
    (lost,) = folder.rglob("*.parquet")
    lost.unlink()
    done = repaired(world)
    assert told(done.done) == [(Class.MISSING_COG, "made again")]
    assert (lost.exists(), attempts(world, job), done.after.differences) == (True, 1, ())


@pytest.mark.parametrize("damage", ["drop table {}", "insert into {0} (geom) select geom from {0}"])
def test_a_table_that_is_appended_to_is_left_alone(world, damage):  # noqa: F811
    gpd.GeoDataFrame(geometry=[box(0, 0, 1, 1)], crs=4326).to_file(world.folder / "a.gpkg")
    job, _ = world.ingest(mode="append")
    (outputs,) = world.context.ledger.tasks.records(job.job_id, stage="vector_tables")
    world.rows(damage.format(outputs.outputs.all_tables[0].table))
    done = repaired(world)
    assert (done.done, attempts(world, job)) == ((), 1)
    assert "mode=append" in done.left[0].said
    assert len(done.after.faults) == 1


def test_what_was_appended_to_a_table_that_is_gone_can_be_appended_again(world):  # noqa: F811
    gpd.GeoDataFrame(geometry=[box(0, 0, 1, 1)], crs=4326).to_file(world.folder / "a.gpkg")
    job, _ = world.ingest(mode="append")
    (task,) = world.context.ledger.tasks.records(job.job_id, stage="vector_tables")
    (table,) = task.outputs.all_tables
    world.rows(f"drop table {table.table}")
    world.ingest(mode="append", force=True)
    assert world.rows(f"select count(*) from {table.table}") == [(1,)]
    assert compared(world).differences == ()


def test_tables_that_nobody_needs_are_swept_at_once_and_one_that_somebody_may_need_is_left(world):  # noqa: F811
    gpd.GeoDataFrame(geometry=[box(0, 0, 1, 1)], crs=4326).to_file(world.folder / "a.gpkg")
    job, _ = world.ingest()
    (task,) = world.context.ledger.tasks.records(job.job_id, stage="vector_tables")
    name = task.outputs.all_tables[0].table.removeprefix("vector.")
    world.rows(f"create table vector_staging.{name}__deadbeef ()")
    world.rows(
        "insert into geo.table_names values ('stranger', 'default', 'x', 'x', '', %s)",
        world.name,
    )
    world.rows("create table vector.stranger ()")
    done = repaired(world)
    assert [step.kind for step in done.done] == [Class.STAGING_LEFTOVER]
    assert told(done.left) == [(Class.ORPHAN_TABLE, "drop it, if nobody needs it")]
    assert [d.kind for d in done.after.differences] == [Class.ORPHAN_TABLE]
    world.rows("drop table vector.stranger")


def test_without_a_listing_a_source_is_new_only_if_its_tasks_took_another(world):  # noqa: F811
    for name in ("a.tif", "b.tif"):
        raster(world, name)
    (world.folder / "readme.txt").write_text("for people")
    (world.folder / "x.docx").write_text("not ours")
    gpd.GeoDataFrame(geometry=[box(0, 0, 1, 1)], crs=4326).to_file(world.folder / "c.shp")
    job, _ = world.ingest()
    before = compared(world).differences
    world.rows("delete from geo.inventory where job_id = %s", job.job_id)  # as after a rebuild
    assert compared(world).differences == before == ()
    os.utime(world.folder / "b.tif", (1, 1))
    raster(world, "d.tif")
    told = [(d.kind, d.what.rpartition("/")[2]) for d in compared(world).differences]
    assert told == [(Class.NOT_INGESTED, "b.tif"), (Class.NOT_INGESTED, "d.tif")]


def test_a_file_that_the_janitor_is_about_to_delete_is_no_orphan_yet(world):  # noqa: F811
    raster(world, "a.tif")
    world.ingest()
    (cog,) = (world.context.settings.home / "containers" / "cogs" / world.name).rglob("*.tif")
    replaced = cog.with_name("replaced.tif")
    shutil.copyfile(cog, replaced)
    os.utime(replaced, (0, 0))
    name = f"default/cogs/{replaced.relative_to(world.context.settings.home / 'containers' / 'cogs')}"
    find = partial(reconcile, world.context.settings, collections=[world.name])
    assert [d.kind for d in find().differences] == [Class.ORPHAN_COG]
    world.rows("insert into geo.loose_blobs (blob) values (%s)", name)
    assert find().differences == ()
    world.rows("update geo.loose_blobs set since = since - interval '2 days', run_id = 'killed' where blob = %s", name)
    assert [d.kind for d in find().differences] == [Class.ORPHAN_COG]
    assert told(repaired(world).done) == [(Class.ORPHAN_COG, "deleted")]
    assert not replaced.exists()


def test_sources_in_an_account_that_is_no_longer_defined_are_not_looked_at(world):  # noqa: F811
    raster(world, "a.tif")
    job, _ = world.ingest()
    moved = "update geo.jobs set parameters = jsonb_set(parameters, '{account}', '\"moved\"') where job_id = %s"
    world.rows(moved, job.job_id)
    assert compared(world).differences == ()
    lose_cogs(world, "a.tif")
    done = repaired(world)
    assert (done.done, len(done.after.faults)) == ((), 1)
    assert "there is no storage account 'moved'" in done.left[0].said


def test_a_job_that_somebody_cancelled_is_left_alone(world):  # noqa: F811
    raster(world, "a.tif")
    job, _ = world.ingest()
    lose_cogs(world, "a.tif")
    world.submitter.retry(job.job_id, requested_by="test")
    world.submitter.jobs.end_attempt(job.job_id, "cancelled", GeoAssetsError("CANCELLED", "on request"))
    done = repaired(world)
    assert (done.done, attempts(world, job)) == ((), 2)
    assert f"geo-assets retry {job.job_id[:12]}" in done.left[0].said


def test_a_job_that_would_withdraw_what_has_lost_its_source_is_left_alone(world):  # noqa: F811
    for name in ("a.tif", "b.tif"):
        raster(world, name)
    job, _ = world.ingest(deleted="retire", max_retire_percent=100)
    lose_cogs(world, "a.tif", "b.tif")
    (world.folder / "a.tif").unlink()
    done = repaired(world)
    assert (done.done, attempts(world, job)) == ((), 1)
    assert ["its source is gone" in done.left[0].said, "deleted=retire" in done.left[1].said] == [True, True]
    assert world.items().keys() == {"a.tif", "b.tif"}


def test_a_silent_job_gets_its_new_attempt_at_once(world):  # noqa: F811
    raster(world, "a.tif")
    body = {"job_type": "ingest_container", "parameters": {"container": world.name}}
    job, _, _ = at_work(world.submitter, world.dagster, body)
    age_lease(world.dagster, job, 300)
    done = repaired(world)
    assert told(done.done) == [(Class.STUCK_JOB, "what the janitor does: mark_dead_and_rescue")]
    assert done.after.differences == ()
    assert world.items().keys() == {"a.tif"}


def test_a_run_that_goes_on_after_its_job_is_ended_in_dagster_or_it_is_said_why_not(world):  # noqa: F811
    body = {"job_type": "ingest_container", "parameters": {"container": world.name}}
    job, run_id, _ = at_work(world.submitter, world.dagster, body)
    world.submitter.jobs.end_attempt(job.job_id, "failed", GeoAssetsError("INTERNAL", "x"), run_id=run_id)
    assert compared(world).differences == (), "it has just ended"
    world.rows("update geo.attempts set ended_at = now() - interval '1 hour' where job_id = %s", job.job_id)
    (difference,) = compared(world).differences
    assert (difference.kind, difference.owner.run_id) == (Class.RUN_STATE_DRIFT, run_id)
    done = repaired(world)
    assert "webserver" in done.left[0].said


def test_a_file_that_was_rewritten_behind_its_etag_and_taken_again_is_no_difference(world):  # noqa: F811
    file, other = raster(world, "a.tif", 1), raster(world, "b.tif", 2)
    rewritten = other.read_bytes()
    other.unlink()
    world.ingest()
    before = file.stat()
    with file.open("r+b") as opened:
        opened.write(rewritten)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    body = {"job_type": "ingest_container", "parameters": {"container": world.name, "verify_sources": True}}
    assert handle(world.submitter, raw(body)).submitted.attempt == 2
    asked = Job.of(validate_parameters(body["job_type"], body["parameters"]))
    job, _ = world.work(asked)
    assert world.tasks(job)["a.tif"][0] == "succeeded"
    assert compared(world).differences == ()
