"""What is wrong with parameters, in words of ours and not of a library, and what may have been meant."""

import pytest
from fastapi.testclient import TestClient

from geo_assets.api.app import create_app
from geo_assets.errors import GeoAssetsError
from geo_assets.parameters import validate_parameters
from geo_assets.submissions.messages import read_parameters_of

LANDING = {"container": "landing"}


@pytest.mark.parametrize(
    ("job_type", "parameters", "said"),
    [
        ("ingest_container", {"profile": "webb"}, "profile: must be 'web', "),
        ("ingest_container", {"limit": "many"}, "limit: must be a whole number (got"),
        ("ingest_container", {"limit": 0}, "limit: must be at least 1 (got"),
        ("ingest_container", {"override_crs": "perhaps"}, "override_crs: must be true or false (got"),
        ("ingest_container", {"resolution": "fine"}, "resolution: must be a number (got"),
        (
            "ingest_container",
            {"target_crss": "EPSG:3857"},
            "is not a parameter of this job type; did you mean target_crs?",
        ),
        ("hello_world", {"n": 5000}, "n: must be at most 1000 (got 5000)"),
        ("helo_world", {}, "; did you mean hello_world?"),
    ],
)
def test_a_fault_of_a_parameter_is_said_in_plain_words(job_type, parameters, said):
    data = parameters if "hel" in job_type else {**LANDING, **parameters}
    with pytest.raises(GeoAssetsError) as refused:
        validate_parameters(job_type, data)
    assert said in refused.value.message
    assert "Input should" not in refused.value.message
    assert "unable to parse" not in refused.value.message


def test_a_body_of_http_is_told_what_may_have_been_meant_too():
    with pytest.raises(GeoAssetsError, match="did you mean container"):
        read_parameters_of("list_container", b'{"conteiner": "landing"}')


def test_the_http_api_names_routes_where_the_command_line_has_commands(settings):
    with TestClient(create_app(settings), raise_server_exceptions=False) as api:
        unknown = api.post("/api/jobs/submit/hello", json={}).json()
        assert unknown["remedy"] == "list the job types with: GET /api/job-types"
        wrong = api.post("/api/jobs/submit/hello_world", json={"n": 0}).json()
        assert "GET /api/job-types" in wrong["remedy"]
        assert "GET /api/jobs" in api.get("/api/jobs/abcdef").json()["remedy"]
        said = api.get("/api/jobs/nothere").json()["detail"]
        assert said == "job_id: must be the id of a job, of 0-9 and a-f, or its beginning"
