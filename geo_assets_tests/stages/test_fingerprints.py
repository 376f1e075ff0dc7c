"""Fingerprints: what is done stays done from one release to the next."""

import json
from dataclasses import fields

import pytest

from geo_assets.file_stages import COGS, TABLES, Engine
from geo_assets.outcomes import FetchedFile
from geo_assets.parameter_rules import shaping
from geo_assets.parameters import (
    IngestContainer,
    Job,
    asked_of,
    shaping_values,
    validate_parameters,
    without_later_defaults,
)
from geo_assets.raster.models import ConvertRequest
from geo_assets.stages.container_inventory import task_input
from geo_assets.stages.contracts import JobRef
from geo_assets.stages.files import fingerprint_of_bytes, fingerprint_of_members, fingerprints
from geo_assets.storage.kinds import Kind
from geo_assets.storage.sources import Member, Source
from geo_assets.vector.models import InspectRequest

SOURCE = Source(
    path="a/b.tif",
    kind=Kind.RASTER,
    members=(Member(path="a/b.tif", size=12, etag="e1"), Member(path="a/b.tfw", size=3, etag="e2")),
)

#: Job type, parameters, job id, fingerprint as a COG, as tables: as they were before parameters became models.
PINNED = [
    (
        "ingest_container",
        {"container": "landing"},
        "0678be24e7599b0eea3a4bbaf2cefc5661b45ffaf5d14dce67238af5d7b4e82a",
        "e7def91a2b752fd169c7c99a9b8a20a82fad009054f15bdfbe4732bbd70f54b4",
        "3b383990f05081438bef5e9f1311f177e721ac7691ece9bd8c4426d156ae9c1a",
    ),
    (
        "ingest_container",
        {
            "container": "landing",
            "source_crs": "EPSG:25832",
            "override_crs": True,
            "target_crs": "EPSG:3857",
            "profile": "dem",
            "resolution": 2.5,
            "resampling": "cubic",
            "web_tiles": True,
            "datetime": "2020-01-01/2020-02-01",
            "datetime_regex": "%Y%m%d",
            "where": "population > 1000",
            "columns": ["a", "b"],
            "bbox": [1, 2, 3, 4.5],
            "mixed_geometry": "generic",
            "null_geometry": "reject",
            "attribute_tables": True,
            "max_transform_accuracy_m": 1.5,
            "mode": "upsert",
            "key": ["id"],
            "encoding": "GBK",
            "geometry_column": "g",
            "delimiter": ";",
            "decimal": ",",
        },
        "fb864832de12ae9fcaedd84b32d3474fe485ffc4aafe498c837f85a5f39fd91b",
        "f981eba2907c373244a83da331efd1763bf717574e46d1bd33684abb84f2437f",
        "6a1f500361b93666f26563cc151e7ab68a2a57af2543f9f603dec0f6cdbf273b",
    ),
    (
        "ingest_container",
        {
            "container": "landing",
            "x": "lon",
            "y": "lat",
            "bbox_crs": "EPSG:3857",
            "collection": "c",
            "verify_sources": True,
            "deleted": "retire",
            "limit": 3,
            "prefix": "a/",
            "include": ["*.tif"],
            "keep_versions": 2,
            "schema_drift": "refuse",
            "on_error": "fail",
        },
        "8ceabe96208f1f209da1430593b7a0f24dc89e755a2b79de82226f341beae54c",
        "e33bdb12683daf771e89a7e45fb3c0aa2c9276e2383e38342d18c8faffae51cf",
        "b65c191aaa9be245a6d761018a457f6005c8fbd59f660063a1ac6aa77ac4a719",
    ),
    (
        "stage_raster",
        {"container": "landing", "target_crs": "EPSG:3857"},
        "0355f4ffbac23be8ef6b6c4f8677e65566f20bd543eed06be9d3fec2b34b4a29",
        "1a5602ba2dba2e64a566a5adda74431fa82d29fe89ecb383f4fdafaed0f9f9dc",
        "c8b428133102a22d868b718a182aa61934f3cf22f95222a31cb9639270af656a",
    ),
    (
        "stage_vector",
        {"container": "landing", "mode": "upsert", "key": ["id"], "wkt": "w"},
        "2ec4ef6c2506f5f0fac84968edba35759661221230bece602e745fa6c080a976",
        "e7def91a2b752fd169c7c99a9b8a20a82fad009054f15bdfbe4732bbd70f54b4",
        "9d4dcf50dab27bcbff2235a6710ae62eec3a4e5f17fc1a8f33437a62db16c4bf",
    ),
]


def ref(job: Job, **changes) -> JobRef:
    return JobRef.model_validate({**job.model_dump(), "run_id": "r", "owner_run_id": "r", **changes})


@pytest.mark.parametrize(("job_type", "data", "job_id", "as_cog", "as_tables"), PINNED)
def test_what_was_requested_and_made_before_is_the_same_request_and_is_not_redone(
    job_type, data, job_id, as_cog, as_tables
):
    job = Job.of(validate_parameters(job_type, data))
    assert job.job_id == job_id
    stored = ref(job, parameters=json.loads(json.dumps(job.parameters.stored())))
    for of in (job, stored, JobRef.model_validate_json(stored.model_dump_json())):
        assert (fingerprints(of, COGS)(SOURCE), fingerprints(of, TABLES)(SOURCE)) == (as_cog, as_tables)


def test_a_job_that_was_stored_before_parameters_were_added_gets_their_defaults_and_the_same_fingerprints():
    job_type, data, _, as_cog, as_tables = PINNED[0]
    job = Job.of(validate_parameters(job_type, data))
    old = ref(job, parameters=without_later_defaults(job.parameters.stored()))
    assert old.parameters == job.parameters
    assert (fingerprints(old, COGS)(SOURCE), fingerprints(old, TABLES)(SOURCE)) == (as_cog, as_tables)


def test_the_fingerprint_of_bytes_alone_is_the_same():
    assert fingerprint_of_members(task_input(SOURCE)) == "ceb3ba7ce55c1944"
    fetched = [FetchedFile(path="a.shp", size=1, etag=etag, sha256="0" * 64) for etag in ("one", "two")]
    assert {fingerprint_of_bytes([file]) for file in fetched} == {"06fd3aa3a0d7a033"}


def test_a_contract_holds_the_parameters_as_json_as_they_are_stored():
    job = Job.of(IngestContainer(container="landing", verify_sources=True))
    written = json.loads(ref(job).model_dump_json())["parameters"]
    assert written == job.parameters.stored()
    assert "verify_sources" not in written


def test_an_engine_is_asked_for_what_the_job_was_asked_for_and_nothing_else():
    asked = IngestContainer(container="landing", mixed_geometry="generic", key=("id",), mode="upsert", datetime="2020")
    assert asked_of(asked, Engine.VECTOR) == {
        "override_crs": False,
        "bbox_crs": "EPSG:4326",
        "mixed": "generic",
        "null_geometry": "keep",
        "attribute_tables": False,
    }
    flags = {"keep_lossy": False, "override_crs": False, "web_tiles": False}
    assert asked_of(asked, Engine.RASTER) == {**flags, "datetime": "2020"}


def test_rasters_whose_blocks_shall_be_kept_are_another_request_and_made_again_and_tables_are_not():
    plain, same, kept = (
        Job.of(IngestContainer(container="landing", **asked))
        for asked in ({}, {"keep_lossy": False}, {"keep_lossy": True})
    )
    assert plain.job_id == same.job_id != kept.job_id
    ours, theirs = ([shaping_values(job.parameters, stage) for stage in (COGS, TABLES)] for job in (plain, kept))
    assert (ours[0] == theirs[0], ours[1] == theirs[1]) == (False, True)


@pytest.mark.parametrize("bad", [{}, {"container": "landing", "colour": "blue"}])
def test_parameters_that_are_not_those_of_the_job_type_are_no_contract(bad):
    job = Job.of(validate_parameters("ingest_container", {"container": "landing"}))
    with pytest.raises(ValueError, match="ingest_container: "):
        ref(job, parameters=bad)


@pytest.mark.parametrize(("engine", "request_of"), [(Engine.RASTER, ConvertRequest), (Engine.VECTOR, InspectRequest)])
def test_every_parameter_that_shapes_is_one_that_the_request_of_its_engine_takes(engine, request_of):
    asked = {
        shapes.asked_as or name
        for name, shapes in shaping(IngestContainer)
        if engine in shapes.engines and shapes.asked
    }
    assert asked <= {each.name for each in fields(request_of)}
