"""What a submission says of its collection, and how it is unpublished and published again: by the stages themselves."""

from datetime import timedelta

import numpy as np

from geo_assets.parameters import Job, validate_parameters
from geo_assets.stac.pgstac import read_collection
from geo_assets.stages.claim import claim_job
from geo_assets.stages.reconcile import reconcile
from geo_assets.stages.retire import retire
from geo_assets.stages.stac_setup import check_catalogue
from geo_assets.stages.unpublish import unpublish_item, unpublish_job
from geo_assets.submissions.boundary import handle
from geo_assets_tests.intake.messages import raw
from geo_assets_tests.raster.test_cog import write
from geo_assets_tests.stages.test_catalogue import raster, world  # noqa: F401 - the fixture

SAID = {
    "title": "Heights",
    "description": "Of everything.",
    "license": "odbl-1.0",
    "providers": ["Example Agency (licensor) https://agency.example"],
    "keywords": ["dem", "heights"],
}


def collection(world):  # noqa: F811
    return read_collection(world.context.settings, world.name)


def cogs_of(world):  # noqa: F811
    folder = world.context.settings.home / "containers" / "cogs"
    return {path.name.rpartition("_")[0] for path in folder.rglob("*.tif") if world.name in path.parts}


def differences(world):  # noqa: F811
    found = reconcile(world.context.settings, collections=[world.name], grace=timedelta(0))
    return {str(difference.kind) for difference in found.differences}


def test_a_collection_says_what_its_submission_said_and_how_its_rasters_are_drawn(world):  # noqa: F811
    values = np.random.default_rng(5).normal(1000, 50, (1, 80, 80)).astype("float32")
    write(world.folder / "dem.tif", values)
    world.ingest(**SAID)
    stored = collection(world)
    assert (stored["title"], stored["description"], stored["license"]) == ("Heights", "Of everything.", "ODbL-1.0")
    assert stored["providers"] == [{"name": "Example Agency", "roles": ["licensor"], "url": "https://agency.example"}]
    assert stored["keywords"] == ["dem", "heights"]
    low, high = stored["renders"]["data"]["rescale"][0]
    assert np.allclose((low, high), np.percentile(values, (2, 98)), atol=5), "the values are normally distributed"
    assert stored["item_assets"]["data"]["bands"][0]["data_type"] == "float32"
    (item,) = world.items().values()
    assert stored["extent"]["spatial"]["bbox"] == [item["bbox"]]


def test_a_later_submission_that_says_nothing_leaves_what_was_said(world):  # noqa: F811
    raster(world, "a.tif")
    world.ingest(**SAID)
    raster(world, "b.tif")
    world.ingest()
    assert (collection(world)["title"], len(world.items())) == ("Heights", 2)


def test_a_collection_of_which_nothing_is_said_is_named_after_its_container(world):  # noqa: F811
    raster(world, "a.tif")
    world.ingest()
    assert collection(world)["title"] == f"default/{world.name}: rasters"


def test_the_extent_shrinks_when_a_job_only_retires(world):  # noqa: F811
    for name in ("a.tif", "b.tif", "c.tif"):
        raster(world, name)
    world.ingest(deleted="retire", max_retire_percent=100)
    wide = collection(world)["extent"]["spatial"]["bbox"][0]
    (world.folder / "c.tif").unlink()

    def withdraw(job):
        assert retire(world.context, job)[0] == 1

    _, registered = world.ingest(deleted="retire", max_retire_percent=100, before=withdraw)
    assert registered.items == 0
    narrow = collection(world)["extent"]["spatial"]["bbox"][0]
    assert narrow[2] < wide[2]
    assert narrow[2] == max(item["bbox"][2] for item in world.items().values())


def test_a_job_that_was_unpublished_leaves_no_rest_and_publishes_again_when_it_is_submitted_again(world):  # noqa: F811
    for name in ("a.tif", "b.tif"):
        raster(world, name)
    job, _ = world.ingest()
    before = world.items()
    assert (differences(world), cogs_of(world)) == (set(), {"a", "b"})
    done = unpublish_job(world.context.settings, world.submitter.jobs, job.job_id, by="cli")
    assert (done.items, done.left) == (2, ())
    assert done.files == 4, "two COGs and their thumbnails"
    assert (world.items(), cogs_of(world)) == ({}, set())
    assert differences(world) == set()
    world.ingest()
    again = world.items()
    assert {title: item["id"] for title, item in again.items()} == {t: item["id"] for t, item in before.items()}
    assert differences(world) == set()


def test_one_item_that_was_unpublished_leaves_the_others_of_its_job_as_they_are(world):  # noqa: F811
    for name in ("a.tif", "b.tif"):
        raster(world, name)
    job, _ = world.ingest()
    gone = world.items()["a.tif"]
    unpublish_item(world.context.settings, f"{world.name}/{gone['id']}", by="cli")
    assert world.items().keys() == world.tasks(job).keys() == {"b.tif"}
    assert differences(world) == set()


def test_the_check_of_the_catalogue_counts_collections_and_leaves_none(world):  # noqa: F811
    raster(world, "a.tif")
    world.ingest()
    submitted = handle(world.submitter, raw({"job_type": "stac_setup", "parameters": {}})).submitted
    asked = Job.of(validate_parameters("stac_setup", {}))
    run_id = world.dagster.run(asked, "STARTED")
    job = claim_job(
        world.context,
        partition_key=submitted.partition_key,
        run_id=run_id,
        attempt=1,
        job_types=frozenset({"stac_setup"}),
        options={},
    )
    ((before,),) = world.rows("select count(*) from collections")
    assert check_catalogue(world.context, job).collections == before > 0
    assert world.rows("select count(*) from collections") == [(before,)]
