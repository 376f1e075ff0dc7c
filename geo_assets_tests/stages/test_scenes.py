"""Scenes from the container to the catalogue, by the stages themselves: several files, one task, one item."""

from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from geo_assets.errors import GeoAssetsError
from geo_assets.parameters import validate_parameters
from geo_assets.stages.accounting import listed_files
from geo_assets.stages.planning import make_plan
from geo_assets.stages.reconcile import reconcile
from geo_assets.stages.retire import retire
from geo_assets_tests.raster.test_cog import write
from geo_assets_tests.stages.test_catalogue import world  # noqa: F401 - the fixture

SENTINEL: dict[str, Any] = {
    "id_regex": r"(?P<id>T32UMC_\d{8})T",
    "assets": {name: f"*_{name}_10m.tif" for name in ("B02", "B03", "B04", "B08")},
}


def band(world, name, value=1, shape=(1, 40, 50), **profile):  # noqa: F811
    path = world.folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return write(path, np.random.default_rng(value).integers(0, 3000, shape).astype("uint16"), **profile)


def scene(world, day="20240101", *, names=("B02", "B03", "B04", "B08")):  # noqa: F811
    return [band(world, f"{day}/T32UMC_{day}T103421_{name}_10m.tif", n) for n, name in enumerate(names)]


def cogs_of(world):  # noqa: F811
    return sorted(
        p for p in (world.context.settings.home / "containers" / "cogs").rglob("*.tif") if world.name in p.parts
    )


def differences(world):  # noqa: F811
    return reconcile(world.context.settings, collections=[world.name], grace=timedelta(0)).differences


def test_the_bands_of_a_scene_in_separate_files_are_one_item_with_an_asset_for_each(world):  # noqa: F811
    scene(world)
    job, registered = world.ingest(**SENTINEL)
    assert registered.items == 1
    assert {key: status for key, (status, *_) in world.tasks(job).items()} == {"T32UMC_20240101": "succeeded"}
    (item,) = world.items().values()
    data = {key: asset for key, asset in item["assets"].items() if "data" in asset["roles"]}
    assert data.keys() == {"B02", "B03", "B04", "B08"}
    names = {key: asset["bands"][0]["eo:common_name"] for key, asset in data.items()}
    assert names == {"B02": "blue", "B03": "green", "B04": "red", "B08": "nir"}
    assert item["properties"]["datetime"] == "2024-01-01T10:34:21Z"
    assert data["B04"]["title"] == "20240101/T32UMC_20240101T103421_B04_10m.tif"
    assert {link["title"] for link in item["links"] if link["rel"] == "derived_from"} == {
        f"20240101/T32UMC_20240101T103421_{name}_10m.tif" for name in ("B02", "B03", "B04", "B08")
    }
    assert len(cogs_of(world)) == 4
    assert differences(world) == ()


@pytest.mark.parametrize("first", ["nir", "red"])
def test_what_was_named_first_is_what_the_thumbnail_shows_and_what_has_the_role_overview(world, first):  # noqa: F811
    scene(world)
    globs = {"nir": "*_B08_10m.tif", "red": "*_B04_10m.tif"}
    asked = {**SENTINEL, "assets": {key: globs[key] for key in sorted(globs, key=lambda key: key != first)}}
    job, _ = world.ingest(**asked)
    item = next(item for title, item in world.items().items() if title == "T32UMC_20240101")
    shown = [key for key, asset in item["assets"].items() if "overview" in asset["roles"]]
    assert shown == [first]
    assert item["assets"]["thumbnail"]["title"] == item["assets"][first]["title"]
    (kept,) = world.rows("select parameters->'assets' from geo.jobs where job_id = %s", job.job_id)
    assert kept[0] == [f"{key}={glob}" for key, glob in asked["assets"].items()]


def test_two_scenes_and_a_file_of_none_are_three_items_and_every_file_is_in_the_account_once(world):  # noqa: F811
    scene(world)
    scene(world, "20240111")
    band(world, "alone.tif")
    job, _ = world.ingest(**SENTINEL)
    assert world.items().keys() == {"T32UMC_20240101", "T32UMC_20240111", "alone.tif"}
    files = list(listed_files(world.context.inventory, world.submitter.jobs.find(job.job_id)))
    assert len({f.path for f in files}) == len(files) == 9
    assert {(f.role, f.of) for f in files if f.path != "alone.tif"} == {
        ("part", "T32UMC_20240101"),
        ("part", "T32UMC_20240111"),
    }


def test_sidecars_of_a_scenes_files_count(world):  # noqa: F811
    (path,) = scene(world, names=("B02",))
    bare = write(path, np.ones((1, 4, 4), "uint16") * 7, crs=None, transform=None)
    bare.with_suffix(".tfw").write_text("10\n0\n0\n-10\n500005\n3999995\n")
    bare.with_name(f"{bare.name}.aux.xml").write_text("<PAMDataset><SRS>EPSG:32633</SRS></PAMDataset>")
    world.ingest(**SENTINEL)
    (item,) = world.items().values()
    assert (item["properties"]["proj:code"], item["properties"]["proj:shape"]) == ("EPSG:32633", [4, 4])
    assert item["assets"]["B02"]["bands"][0]["eo:common_name"] == "blue", "its key counts also where it is the only one"


def test_a_scene_without_all_its_files_is_taken_as_it_is_or_refused_by_what_is_missing(world):  # noqa: F811
    scene(world, names=("B02", "B04"))
    job, registered = world.ingest(**SENTINEL)
    assert registered.items == 1
    (warned,) = world.context.ledger.tasks.records(job.job_id, stage="cogs", limit=10)
    assert warned.outputs.warnings == ("the scene has no file for B03, B08",)
    strict, _ = world.ingest(**SENTINEL, missing_assets="refuse")
    assert world.tasks(strict) == {
        "T32UMC_20240101": [
            "quarantined",
            "SCENE_INCOMPLETE",
            "the scene T32UMC_20240101 has no file for B03, B08",
        ]
    }
    scene(world)
    world.ingest(**SENTINEL, missing_assets="refuse")
    (item,) = world.items().values()
    assert {"B02", "B03", "B04", "B08"} <= item["assets"].keys()
    assert differences(world) == ()


def test_a_bad_band_is_named_and_left_out_or_refuses_the_scene(world):  # noqa: F811
    paths = scene(world)
    paths[1].write_bytes(paths[1].read_bytes()[:600])
    job, registered = world.ingest(**SENTINEL)
    assert registered.items == 1
    (told,) = world.context.ledger.tasks.records(job.job_id, stage="cogs", limit=10)
    assert any("T32UMC_20240101T103421_B03_10m.tif" in warning for warning in told.outputs.warnings)
    strict, _ = world.ingest(**SENTINEL, missing_assets="refuse")
    status, code, message = world.tasks(strict)["T32UMC_20240101"]
    assert (status, code) == ("quarantined", "SCENE_INCOMPLETE")
    assert "T32UMC_20240101T103421_B03_10m.tif" in message


def test_two_files_for_one_asset_are_refused_when_planned_and_in_the_plan(world):  # noqa: F811
    scene(world)
    band(world, "again/T32UMC_20240101T103421_B04_10m.tif")
    job, _ = world.ingest(**SENTINEL)
    status, code, message = world.tasks(job)["T32UMC_20240101"]
    assert (status, code) == ("quarantined", "SCENE_AMBIGUOUS")
    assert message == (
        "20240101/T32UMC_20240101T103421_B04_10m.tif, again/T32UMC_20240101T103421_B04_10m.tif are all B04 of the scene"
        " T32UMC_20240101"
    )
    with make_plan(world.context.settings, world.submitter.tasks, job.parameters) as plan:
        assert [(s.kind, s.action) for s in plan.sources] == [("scene", "unsupported")]


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"id_regex": r"(?P<id>T33UUU_\d{8})T", "assets": {}}, r"id_regex '(?P<id>T33UUU_\\d{8})T'; there is"),
        ({"assets": {"B02": "*_B2_*.tif"}}, r"id_regex '(?P<id>T32UMC_\\d{8})T' and a glob of assets; there is"),
    ],
)
def test_patterns_that_make_a_scene_of_no_raster_are_an_error_that_says_so_in_the_plan_too(world, changed, named):  # noqa: F811
    paths = scene(world, names=("B02",))
    asked = {**SENTINEL, **changed}
    parameters = validate_parameters("ingest_container", {"container": world.name, **asked})
    said = f"no raster in default/{world.name} matches {named} {paths[0].relative_to(world.folder)}, for example"
    for do in (
        lambda: make_plan(world.context.settings, world.submitter.tasks, parameters),
        lambda: world.ingest(**asked),
    ):
        with pytest.raises(GeoAssetsError) as refused:
            do()
        assert (refused.value.code, refused.value.message) == ("NOTHING_MATCHED", said)
    assert world.items() == {}
    world.ingest(**asked, allow_empty=True)
    assert len(world.items()) == 1


def test_patterns_for_scenes_that_match_only_beyond_the_limit_or_meet_no_raster_are_no_error(world):  # noqa: F811
    (world.folder / "notes.txt").write_text("no raster")
    _, registered = world.ingest(**SENTINEL)
    assert registered.items == 0
    band(world, "A_first.tif")
    scene(world, names=("B02",))
    world.ingest(**SENTINEL, limit=1)
    assert world.items().keys() == {"A_first.tif"}


@pytest.mark.parametrize("asked", [{"prefix": "nosuch/"}, {"include": ["*.gpkg"]}, {"exclude": ["*"]}])
def test_the_plan_of_what_matches_nothing_is_the_error_that_the_job_would_end_with(world, asked):  # noqa: F811
    band(world, "a.tif")
    parameters = {"container": world.name, **asked}
    with pytest.raises(GeoAssetsError, match=f"nothing in default/{world.name} matches") as refused:
        make_plan(world.context.settings, world.submitter.tasks, validate_parameters("list_container", parameters))
    assert refused.value.code == "NOTHING_MATCHED"
    allowed = validate_parameters("list_container", {**parameters, "allow_empty": True})
    with make_plan(world.context.settings, world.submitter.tasks, allowed) as plan:
        assert list(plan.sources) == []


def test_a_scene_is_made_again_when_one_of_its_files_changes_and_only_then(world):  # noqa: F811
    paths = scene(world)
    scene(world, "20240111")
    world.ingest(**SENTINEL)
    before = world.items()
    _job, registered = world.ingest(**SENTINEL)
    assert registered.items == 0
    band(world, str(paths[2].relative_to(world.folder)), 99)
    _, registered = world.ingest(**SENTINEL)
    assert registered.items == 1
    now = world.items()
    assert now["T32UMC_20240111"] == before["T32UMC_20240111"]
    changed = {k for k, a in now["T32UMC_20240101"]["assets"].items() if a != before["T32UMC_20240101"]["assets"][k]}
    assert "B04" in changed
    assert now["T32UMC_20240101"]["id"] == before["T32UMC_20240101"]["id"]
    assert len(cogs_of(world)) == 8
    assert differences(world) == ()


def test_a_scene_is_retired_when_all_its_files_are_gone_and_not_before(world):  # noqa: F811
    paths = scene(world)
    scene(world, "20240111")
    asked = {**SENTINEL, "deleted": "retire", "max_retire_percent": 100}
    world.ingest(**asked)
    paths[0].unlink()
    withdrawn = []
    world.ingest(**asked, before=lambda job: withdrawn.append(retire(world.context, job)[0]))
    assert withdrawn == [0]
    assert "B02" not in world.items()["T32UMC_20240101"]["assets"]
    for path in paths[1:]:
        path.unlink()
    world.ingest(**asked, before=lambda job: withdrawn.append(retire(world.context, job)[0]))
    assert withdrawn == [0, 1]
    assert world.items().keys() == {"T32UMC_20240111"}
    assert differences(world) == ()


def test_a_limit_counts_a_scene_as_one(world):  # noqa: F811
    scene(world)
    scene(world, "20240111")
    _job, _ = world.ingest(**SENTINEL, limit=1)
    assert world.items().keys() == {"T32UMC_20240101"}


def test_scenes_whose_bands_are_the_same_share_a_collection_of_their_own_beside_other_rasters(world):  # noqa: F811
    scene(world)
    scene(world, "20240111", names=("B02",))
    for n in range(3):
        band(world, f"height_{n}.tif", n)
    world.ingest(**SENTINEL)
    rows = dict(world.rows("select collection, count(*) from items where collection ^@ %s group by 1", world.name))
    assert rows == {world.name: 3, f"{world.name}-several": 2}
