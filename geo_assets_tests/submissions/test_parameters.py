import json
from encodings.aliases import aliases
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rasterio.enums import Resampling

from geo_assets.errors import GeoAssetsError
from geo_assets.parameter_types import provider_fields
from geo_assets.parameters import ADDED_LATER, IngestContainer, Job, stored_parameters, validate_parameters
from geo_assets.storage.blobs import BlobRef
from geo_assets.submissions.messages import read_message, read_parameters_of
from geo_assets.vector.encodings import find_codec, usual_name


def test_an_explicit_default_is_the_same_job():
    short = validate_parameters("ingest_container", {"container": "landing"})
    explicit = validate_parameters(
        "ingest_container",
        {"container": "landing", "collection": "landing", "account": "default", "on_error": "continue"},
    )
    assert Job.of(short) == Job.of(explicit)


@pytest.mark.parametrize(
    ("job_type", "data", "job_id"),
    [
        ("hello_world", {"n": 30, "message": "hi"}, "4d5bf38f3e98f1171cc6e2de8b12e84b2c76a47e2fcce52979ee577c40525718"),
        (
            "ingest_container",
            {"container": "landing"},
            "0678be24e7599b0eea3a4bbaf2cefc5661b45ffaf5d14dce67238af5d7b4e82a",
        ),
        (
            "stage_raster",
            {"container": "landing", "prefix": "a/", "target_crs": "EPSG:3857"},
            "e1aab1d0a81ef98715bff650bff72979eaa55f45606f9ba1379fb60347b767dc",
        ),
        (
            "stage_vector",
            {"container": "landing", "mode": "upsert", "key": ["id"]},
            "2b641865987c2473e19fd16d0a2a0df28324db557d30a319ab0753417fc6c6c8",
        ),
        (
            "list_container",
            {"container": "landing", "limit": 5},
            "0787ba275c2c77dd6b8462ff93c84657bffcacfb8d359d33bef54da0f1605ecd",
        ),
        ("stac_setup", {}, "e14afa36be4035a8f11eb0ccbed91b69b237b6b774323db5acf83e05e8f35ed5"),
    ],
)
def test_a_request_that_was_made_before_parameters_were_added_is_still_the_same_job(job_type, data, job_id):
    assert Job.of(validate_parameters(job_type, data)).job_id == job_id


def test_a_parameter_that_was_added_later_says_its_default_in_one_voice():
    fields = {
        **validate_parameters("stac_setup", {}).model_dump(mode="json"),
        **IngestContainer.model_validate({"container": "landing"}).model_dump(mode="json"),
    }
    assert {name: fields[name] for name in ADDED_LATER} == ADDED_LATER


@pytest.mark.parametrize("job_type", ["ingest_container", "stage_vector"])
def test_lists_in_a_message_or_an_http_body_are_read_as_on_the_command_line(job_type):
    parameters = {
        "container": "landing",
        "include": ["*.gpkg", "a/*"],
        "exclude": ["b/*"],
        "columns": ["id", "name"],
        "bbox": [7, 51, 8.5, 52],
        "mode": "upsert",
        "key": ["id"],
    }
    expected = validate_parameters(job_type, {**parameters, "bbox": "7,51,8.5,52"})
    assert isinstance(expected, IngestContainer)
    assert (expected.include, expected.bbox) == (("*.gpkg", "a/*"), (7, 51, 8.5, 52))
    assert read_parameters_of(job_type, json.dumps(parameters).encode()) == expected
    message = {"job_type": job_type, "parameters": parameters}
    assert read_message(json.dumps(message).encode()).parameters == expected


def test_a_container_whose_name_is_no_id_of_a_collection_needs_one_to_be_named():
    long = "a-" * 40 + "b"  # 81 characters; an id has at most 63
    with pytest.raises(GeoAssetsError) as caught:
        validate_parameters("ingest_container", {"container": long})
    assert caught.value.code == "INVALID_PARAMETERS"
    assert "collection" in caught.value.message
    assert IngestContainer(container=long, collection="named").collection == "named"


@pytest.mark.parametrize("collection", [None, "", "landing"])
def test_a_collection_that_is_left_out_or_empty_is_the_containers(collection):
    body = json.dumps({"container": "landing", "collection": collection}).encode()
    assert read_parameters_of("ingest_container", body) == validate_parameters(
        "ingest_container", {"container": "landing"}
    )


@pytest.mark.parametrize("container", [5, "BAD!", None])
def test_a_wrong_container_is_named_as_such(container):
    with pytest.raises(GeoAssetsError, match=r"^ingest_container: container: [^;]*$"):
        read_parameters_of("ingest_container", json.dumps({"container": container}).encode())


def test_another_parameter_is_another_job():
    assert Job.of(validate_parameters("hello_world", {"n": 1})) != Job.of(validate_parameters("hello_world", {"n": 2}))


@pytest.mark.parametrize(
    ("job_type", "data", "named"),
    [
        ("ingest_container", {}, "container"),
        ("ingest_container", {"container": "samples", "limit": -1}, "limit"),
        ("ingest_container", {"container": "samples", "colour": "blue"}, "colour"),
        ("ingest_container", {"container": "../../etc"}, "container"),
        ("ingest_container", {"container": "samples", "prefix": "a/../../b"}, "prefix"),
        ("ingest_container", {"container": "samples", "target_crs": "http://example.org"}, "target_crs"),
        ("hello_world", {"n": 0}, "n"),
        ("hello_world", {"n": 1001}, "n"),
        ("hello_world", {"message": "a\x00b"}, "message"),
        ("hello_world", {"message": "\ud800"}, "message"),
    ],
)
def test_a_bad_parameter_is_named_in_one_line(job_type, data, named):
    with pytest.raises(GeoAssetsError) as caught:
        validate_parameters(job_type, data)
    assert caught.value.code == "INVALID_PARAMETERS"
    assert f"{named}:" in caught.value.message
    assert "\n" not in caught.value.message


def test_an_unknown_job_type_is_refused_with_the_known_ones():
    with pytest.raises(GeoAssetsError, match="hello_world"):
        validate_parameters("no_such_job", {})


@given(
    st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=200),
    st.integers(1, 1000),
)
def test_any_message_gives_a_legal_key_and_survives_unchanged(message, n):
    job = Job.of(validate_parameters("hello_world", {"n": n, "message": message}))
    assert job.parameters.model_dump()["message"] == message
    assert len(job.job_id) == 64
    assert len(job.partition_key) <= 63
    assert set(job.partition_key) <= set("abcdefghijklmnopqrstuvwxyz0123456789_")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"where": "1=1; drop table x"}, "where"),
        ({"bbox": "1,2,3"}, "bbox"),
        ({"bbox": [0, 5, 1, 4]}, "bbox"),
        ({"bbox": ["nan", 0, 1, 1]}, "bbox"),
        ({"mode": "upsert"}, "key"),
        ({"key": ["id"]}, "key"),
        ({"mixed_geometry": "x"}, "mixed_geometry"),
        ({"keep_versions": -1}, "keep_versions"),
        ({"max_transform_accuracy_m": 0}, "max_transform_accuracy_m"),
    ],
)
def test_what_is_asked_of_vectors_is_checked_at_the_boundary(wrong, said):
    with pytest.raises(GeoAssetsError, match=said):
        validate_parameters("stage_vector", {"container": "abc", **wrong})


def test_the_order_in_which_assets_are_named_is_part_of_the_request_and_kept():
    def asked(assets):
        return validate_parameters("ingest_container", {"container": "landing", "id_regex": r"S\d", "assets": assets})

    first = asked({"red": "*_4.tif", "nir": "*_5.tif"})
    assert first.stored()["assets"] == ["red=*_4.tif", "nir=*_5.tif"]
    assert list(asked(first.stored()["assets"]).assets) == ["red", "nir"]
    assert Job.of(first).job_id == Job.of(asked(["red=*_4.tif", "nir=*_5.tif"])).job_id
    assert Job.of(first).job_id != Job.of(asked({"nir": "*_5.tif", "red": "*_4.tif"})).job_id


def test_a_box_may_be_typed_as_text_and_is_the_same_job():
    one = validate_parameters("stage_vector", {"container": "abc", "bbox": "166,-48,179,-34", "where": "n > 1"})
    two = validate_parameters("stage_vector", {"container": "abc", "bbox": [166, -48, 179, -34], "where": "n > 1"})
    assert Job.of(one).job_id == Job.of(two).job_id


def test_rasters_alone_take_nothing_for_vectors():
    with pytest.raises(GeoAssetsError, match="where is for vectors"):
        validate_parameters("stage_raster", {"container": "abc", "where": "n > 1"})


def test_vectors_alone_take_nothing_for_rasters():
    for name, value in {"profile": "web", "web_tiles": True, "resampling": "cubic", "one_collection": True}.items():
        with pytest.raises(GeoAssetsError, match=f"{name} is for rasters, which this job type leaves alone"):
            validate_parameters("stage_vector", {"container": "abc", name: value})


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"resolution": 1}, "resolution needs target_crs"),
        ({"web_tiles": True, "target_crs": "EPSG:4326"}, "web_tiles are in EPSG:3857: leave target_crs out"),
    ],
)
def test_what_no_raster_could_be_made_with_is_refused_at_once_but_is_read_of_a_job_that_was_accepted(asked, said):
    with pytest.raises(GeoAssetsError, match=said):
        validate_parameters("ingest_container", {"container": "abc", **asked})
    assert stored_parameters("ingest_container", {"container": "abc", **asked})


@pytest.mark.parametrize("name", ["resolution", "max_transform_accuracy_m", "max_retire_percent"])
@pytest.mark.parametrize("value", ["1e400", "-1e400"])
def test_a_number_beyond_all_numbers_is_refused_by_name(name, value):
    body = f'{{"container": "abc", "target_crs": "EPSG:3857", "{name}": {value}}}'
    with pytest.raises(GeoAssetsError, match=f"{name}: must be ") as refused:
        read_parameters_of("ingest_container", body.encode())
    assert refused.value.code == "INVALID_PARAMETERS"
    with pytest.raises(GeoAssetsError, match=f"{name}: must be "):
        validate_parameters("ingest_container", {"container": "abc", name: "inf"})


@pytest.mark.parametrize(
    ("usual", "others"),
    [
        ({"source_crs": "EPSG:4326"}, [{"source_crs": "EPSG:04326"}, {"source_crs": "epsg:4326"}]),
        ({"max_retire_percent": 0}, [{"max_retire_percent": -0.0}]),
        ({"bbox": [0, 0, 1, 1]}, [{"bbox": [-0.0, 0, 1, 1]}]),
        ({"encoding": "UTF-8"}, [{"encoding": "utf8"}, {"encoding": "65001"}]),
        ({"encoding": "windows-1252"}, [{"encoding": "cp1252"}, {"encoding": "ANSI 1252"}]),
        ({"encoding": "ISO-8859-15"}, [{"encoding": "8859_15"}]),
        (
            {"datetime": "2024-01-01T00:00:00Z"},
            [{"datetime": "2024-01-01T00:00:00+00:00"}, {"datetime": "2024-01-01T01:00+01:00"}],
        ),
        ({"datetime": "2024-01-01"}, [{"datetime": "20240101"}]),
        ({"datetime": "2024/2025-06"}, [{"datetime": " 2024 / 2025-06 "}]),
        ({"include": ["b", "a"]}, [{"include": ["b", "a", "b"]}]),
    ],
)
def test_a_request_that_is_spelt_otherwise_is_the_same_job_and_its_usual_spelling_is_kept(usual, others):
    first = validate_parameters("ingest_container", {"container": "abc", **usual})
    assert {name: first.stored()[name] for name in usual} == usual
    assert "-0.0" not in json.dumps(first.stored())
    for other in others:
        assert Job.of(validate_parameters("ingest_container", {"container": "abc", **other})) == Job.of(first)


def test_the_usual_name_of_every_encoding_is_that_encoding():
    for name in {*aliases.values(), "utf-8", "1252", "8859_15"}:
        if codec := find_codec(name):
            assert find_codec(usual_name(name) or "") == codec


def test_a_key_twice_is_refused_in_the_text_of_assets_too():
    text = '{"a": "*", "a": "b"}'
    with pytest.raises(GeoAssetsError, match="assets: it names a key twice: 'a'"):
        validate_parameters("ingest_container", {"container": "abc", "id_regex": "x", "assets": text})


def test_every_profile_and_resampling_that_may_be_asked_for_is_one_that_the_engine_has():
    from geo_assets.raster.models import ResamplingName
    from geo_assets.raster.profiles import DEFAULT, PROFILES
    from geo_assets.raster.reproject import RESAMPLING

    asked = IngestContainer.model_json_schema()["properties"]["profile"]["anyOf"][0]["enum"]
    assert DEFAULT in PROFILES
    assert asked == list(PROFILES)
    assert set(RESAMPLING) == set(get_args(ResamplingName)) <= set(Resampling.__members__)


@pytest.mark.parametrize(
    ("name", "is_one"), [("landing-2024", True), ("a", False), ("a--b", False), ("Landing", False)]
)
def test_a_container_is_called_alike_wherever_it_is_named(name, is_one):
    def taken(ask, *arguments) -> bool:
        try:
            ask(*arguments)
        except (GeoAssetsError, ValueError):
            return False
        return True

    by_parameter = taken(validate_parameters, "list_container", {"container": name})
    assert (by_parameter, taken(BlobRef.parse, f"default/{name}/a.tif")) == (is_one, is_one)


@pytest.mark.parametrize(
    ("said", "means"),
    [
        ("cc-by-4.0", "CC-BY-4.0"),
        ("mit", "MIT"),
        ("LicenseRef-Ours", "LicenseRef-Ours"),
        ("Other", "other"),
    ],
)
def test_a_license_is_kept_in_the_spelling_of_spdx(said, means):
    assert IngestContainer(container="landing", license=said).license == means


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"license": "proprietary"}, "'proprietary' is no SPDX identifier"),
        ({"license": "CC-BY-5.0"}, "'CC-BY-5.0' is no SPDX identifier"),
        ({"license": "MIT OR Apache-2.0"}, "'MIT OR Apache-2.0' is no SPDX identifier"),
        ({"providers": ["Agency (owner)"]}, "the roles are licensor, producer, processor, host"),
        ({"providers": ["Agency https://me:secret@agency.example"]}, "must be NAME (ROLE, …) URL without credentials"),
        ({"title": ""}, "title: "),
    ],
)
def test_what_cannot_be_said_of_a_collection_is_refused_by_name(said, reason):
    with pytest.raises(GeoAssetsError) as refused:
        validate_parameters("ingest_container", {"container": "landing", **said})
    assert reason in refused.value.message


def test_a_provider_has_a_name_roles_and_an_address():
    assert provider_fields("Example Agency (producer, licensor) https://agency.example/a") == {
        "name": "Example Agency",
        "roles": ["producer", "licensor"],
        "url": "https://agency.example/a",
    }
    assert provider_fields("Somebody") == {"name": "Somebody"}
