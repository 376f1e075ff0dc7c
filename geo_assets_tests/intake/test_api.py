import json
import re
import time
from datetime import timedelta

import jwt
import pytest
import schemathesis
from cryptography.hazmat.primitives.asymmetric import rsa
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings

from geo_assets.api.app import create_app
from geo_assets.api.auth import refuse_open_door
from geo_assets.errors import GeoAssetsError
from geo_assets.parameters import JOB_TYPES
from geo_assets.submissions.boundary import handle
from geo_assets.submissions.submit import Submitter
from geo_assets.web.guard import is_loopback
from geo_assets_tests.intake.messages import hello, raw
from geo_assets_tests.intake.test_boundary import CORPUS


@pytest.fixture(scope="module")
def api(settings):
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        yield client


@pytest.fixture(scope="module")
def guarded(settings):
    with TestClient(create_app(settings, require_auth=True), raise_server_exceptions=False) as client:
        yield client


def assert_problem(response, status=None):
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert {"type", "title", "status", "detail", "remedy"} <= body.keys()
    assert body["status"] == response.status_code
    if status:
        assert response.status_code == status
    return body


def test_a_submission_is_accepted_and_every_url_in_the_answer_resolves(api):
    answer = api.post("/api/jobs/submit/hello_world", json={"n": 2, "message": "api"})
    assert answer.status_code == 202
    body = answer.json()
    assert body["duplicate"] is False
    status = api.get(body["status_url"])
    assert status.json()["status"] == "queued"
    again = api.post("/api/jobs/submit/hello_world", json={"message": "api", "n": 2}).json()
    assert (again["job_id"], again["duplicate"]) == (body["job_id"], True)


def asked(dagster, job_id) -> tuple:
    """The options of the newest attempt, and which it is."""
    query = (
        "select attempt, force, allow_mass_retire, verify_sources from geo.attempts where job_id = %s order by attempt"
        " desc limit 1"
    )
    return dagster.conn.execute(query, (job_id,)).fetchone()


def test_what_may_be_asked_of_one_attempt_may_be_asked_over_http(api, settings, dagster):
    (settings.home / "containers" / "asked-http").mkdir(parents=True)
    body = {"container": "asked-http", "deleted": "retire", "verify_sources": True}
    answer = api.post("/api/jobs/submit/ingest_container", json=body, params={"force": True, "allow_mass_retire": True})
    assert answer.status_code == 202
    assert asked(dagster, answer.json()["job_id"]) == (1, True, True, True)


def test_what_may_be_asked_of_one_attempt_may_be_asked_in_a_message_and_of_a_run_that_is_launched_by_hand(
    settings, submitter, dagster
):
    (settings.home / "containers" / "asked").mkdir(parents=True)
    options = {"force": True, "allow_mass_retire": True}
    body = {
        "job_type": "ingest_container",
        "parameters": {"container": "asked", "deleted": "retire", "verify_sources": True},
    }
    outcome = handle(submitter, raw({**body, **options}))
    assert asked(dagster, outcome.submitted.job_id) == (1, True, True, True)
    job = submitter.jobs.find(outcome.submitted.job_id)
    by_hand = {**options, "verify_sources": True}
    # the first does what the message asks for, which nobody has launched yet
    for attempt, wanted, does in ((1, {}, True), (2, {}, False), (3, by_hand, True)):
        claim = submitter.jobs.claim(job.partition_key, dagster.run(job, "STARTED"), None, options=wanted)
        assert asked(dagster, job.job_id) == (attempt, *[does] * 3)
        assert (claim.force, claim.allow_mass_retire) == (does, does)
        submitter.jobs.end_attempt(job.job_id, "failed", GeoAssetsError("INTERNAL", "ended"))


def test_a_submission_over_http_can_insist_on_the_plan_that_was_looked_at(api, settings):
    folder = settings.home / "containers" / "planned-http"
    folder.mkdir(parents=True)
    (folder / "a.geojson").write_text("{}")
    body = {"container": "planned-http"}
    plan = api.post("/api/jobs/plan/list_container", json=body).json()["plan_hash"]
    (folder / "b.geojson").write_text("{}")
    submit = "/api/jobs/submit/list_container"
    assert assert_problem(api.post(submit, json=body, params={"plan_hash": plan}), 409)["title"] == "PLAN_CHANGED"
    (folder / "b.geojson").unlink()
    assert api.post(submit, json=body, params={"plan_hash": plan}).status_code == 202


@pytest.mark.parametrize("what", CORPUS)
def test_a_hostile_body_is_a_plain_problem_with_a_record(api, what):
    answer = api.post(
        "/api/jobs/submit/hello_world", content=CORPUS[what], headers={"content-type": "application/json"}
    )
    body = assert_problem(answer)
    assert 400 <= answer.status_code < 500
    assert api.get(body["type"]).json()["code"] == body["title"]
    recorded = api.get("/api/db/messages", params={"limit": 1}).json()["messages"][0]
    assert recorded["correlation_id"] == body["correlation_id"]
    assert recorded["state"] == "rejected"
    assert recorded["size_bytes"] == len(CORPUS[what])


@pytest.mark.parametrize(
    ("fault", "status", "title"),
    [(GeoAssetsError("STORAGE_UNAVAILABLE", "away"), 503, "STORAGE_UNAVAILABLE"), (KeyError("ours"), 500, "INTERNAL")],
)
def test_a_submission_that_meets_a_fault_is_rejected_and_does_not_wait_for_anybody(
    api, settings, submitter, monkeypatch, fault, status, title
):
    def fails(*_):
        raise fault

    (settings.home / "containers" / "faulty").mkdir(parents=True, exist_ok=True)
    monkeypatch.setattr("geo_assets.api.submissions.insist_on_plan", fails)
    answer = api.post("/api/jobs/submit/list_container", json={"container": "faulty"}, params={"plan_hash": "x"})
    body = assert_problem(answer, status)
    assert body["title"] == title
    (record,) = submitter.messages.list(source="http", limit=1)
    assert (record.state, record.error_code, record.correlation_id) == ("rejected", title, body["correlation_id"])
    assert submitter.messages.list(source="http", state="received") == []


def test_a_submission_whose_process_is_killed_before_its_answer_is_rejected_after_a_while(submitter):
    waits, killed = (submitter.messages.record(raw(hello(), source=source)) for source in ("blob:a/b", "http"))
    submitter.messages.reject_unanswered(timedelta(minutes=5))
    assert submitter.messages.body(killed.message_id)[0].state == "received"
    submitter.messages.reject_unanswered(timedelta(0))
    states = [submitter.messages.body(each.message_id)[0].state for each in (waits, killed)]
    assert states == ["received", "rejected"]
    assert [e.code for e in submitter.messages.errors(message_id=killed.message_id)] == ["INTERRUPTED"]


def test_unknown_things_are_404(api):
    assert_problem(api.post("/api/jobs/submit/no_such_job", json={}), 404)
    assert_problem(api.get("/api/jobs/status/" + "0" * 64), 404)
    assert_problem(api.get("/no/such/route"), 404)
    assert_problem(api.delete("/api/jobs"), 405)


@pytest.mark.parametrize("mistyped", ["UNREADABEL", "unreadable"])
@pytest.mark.parametrize(("path", "name"), [("/api/db/messages", "error_code"), ("/api/db/errors", "code")])
def test_a_filter_by_a_code_that_there_is_not_is_refused_with_those_that_there_are(api, path, name, mistyped):
    body = assert_problem(api.get(path, params={name: mistyped}), 422)
    assert body["title"] == "INVALID_PARAMETERS"
    assert body["remedy"].startswith("one of: UNREADABLE, ")
    assert api.get(path, params={name: "UNREADABLE"}).status_code == 200


def test_the_description_of_a_code_that_there_is_not_is_not_found_and_the_nearest_is_named(api):
    body = assert_problem(api.get("/api/errors/UNREADABEL"), 404)
    assert (body["title"], body["remedy"].partition(", ")[0]) == ("INVALID_PARAMETERS", "one of: UNREADABLE")


def test_a_container_that_is_not_there_is_refused(api):
    assert (
        assert_problem(api.post("/api/jobs/submit/ingest_container", json={"container": "nowhere"}), 422)["title"]
        == "CONTAINER_NOT_FOUND"
    )


def test_jobs_are_paged_by_key_and_the_next_url_goes_on_where_the_page_ended(api):
    for i in range(5):
        api.post("/api/jobs/submit/hello_world", json={"n": 1, "message": f"page {i}"})
    first = api.get("/api/jobs", params={"limit": 2}).json()
    second = api.get(first["next"]).json()
    ids = [j["job_id"] for j in first["jobs"] + second["jobs"]]
    assert len(set(ids)) == 4


def test_without_a_token_every_guarded_route_is_401(guarded):
    public = {"/livez", "/readyz", "/api/health", "/api/job-types", "/api/errors", "/api/errors/{code}"}
    for path, methods in guarded.get("/openapi.json").json()["paths"].items():
        for method in methods:
            if path not in public:
                url = path.replace("{job_type}", "hello_world").replace("{job_id}", "0" * 64)
                answer = guarded.request(method, url, json={"confirm": "x"})
                assert_problem(answer, 401)
                assert answer.headers["www-authenticate"] == "Bearer"


def test_a_token_opens_its_scopes_only_and_nothing_once_it_is_revoked(guarded, settings):
    with Submitter(settings) as submitter:
        token = submitter.tokens.create("reader", ["read"])
        header = {"Authorization": f"Bearer {token}"}
        assert guarded.get("/api/jobs", headers=header).status_code == 200
        assert_problem(guarded.post("/api/jobs/submit/hello_world", json={}, headers=header), 403)
        submitter.tokens.revoke("reader")
        assert_problem(guarded.get("/api/jobs", headers=header), 401)


def test_tokens_are_listed_and_one_that_was_revoked_gives_its_name_to_another(guarded, settings):
    with Submitter(settings, launches=False) as submitter:
        old = submitter.tokens.create("turned", ["read"])
        with pytest.raises(GeoAssetsError) as refused:
            submitter.tokens.create("turned", ["read"])
        assert refused.value.remedy.endswith("geo-assets token revoke turned")
        submitter.tokens.revoke("turned")
        for name, why in (("turned", "was revoked before"), ("nobody", "there is no token")):
            with pytest.raises(GeoAssetsError, match=why) as refused:
                submitter.tokens.revoke(name)
            assert refused.value.remedy.endswith("geo-assets token list")
        (revoked,) = (token for token in submitter.tokens.all() if token.name == "turned")
        assert revoked.revoked_at > revoked.created_at
        new = submitter.tokens.create("turned", ["read", "submit"])
        (valid,) = (token for token in submitter.tokens.all() if token.name == "turned")
    assert (valid.scopes, valid.revoked_at, valid.created_at > revoked.created_at) == (("read", "submit"), None, True)
    answers = [guarded.get("/api/jobs", headers={"Authorization": f"Bearer {token}"}) for token in (old, new)]
    assert [answer.status_code for answer in answers] == [401, 200]


def test_tokens_are_stored_hashed(settings, dagster):
    with Submitter(settings) as submitter:
        token = submitter.tokens.create("hashed", ["read", "submit"])
    stored = dagster.conn.execute("select sha256 from geo.api_tokens where name = 'hashed'").fetchone()[0]
    assert token not in stored
    assert len(stored) == 64


def test_the_door_stays_shut_beyond_loopback_without_authentication(settings, dagster):
    dagster.conn.execute("update geo.api_tokens set revoked_at = now()")
    with Submitter(settings) as submitter:
        assert refuse_open_door(settings, submitter.tokens, "127.0.0.1") is False
        with pytest.raises(GeoAssetsError, match="authentication"):
            refuse_open_door(settings, submitter.tokens, "0.0.0.0")
        submitter.tokens.create("opener", ["read"])
        assert refuse_open_door(settings, submitter.tokens, "0.0.0.0") is True


def test_only_loopback_is_loopback():
    assert is_loopback("127.0.0.1")
    assert is_loopback("::1")
    assert is_loopback("localhost")
    assert not is_loopback("0.0.0.0")
    assert not is_loopback("192.168.1.1")
    assert not is_loopback("example.org")


def test_redeploying_the_schema_is_refused_unless_enabled(api):
    assert_problem(api.post("/api/db/schema/redeploy", json={"confirm": "geo_assets"}), 403)


def test_health_says_what_answers_and_readiness_that_it_is_migrated(api):
    health = api.get("/api/health").json()
    assert health["components"]["database"]["status"] == "ok"
    assert api.get("/livez").status_code == 200
    assert api.get("/readyz").json()["status"] == "ready"


def test_statistics_count_and_no_poison_is_without_a_record(api):
    stats = api.get("/api/db/stats").json()
    assert stats["jobs"]["queued"] >= 1
    assert stats["poison"] == {"without_record": 0}


TAKE_PARAMETERS = [f"/api/jobs/{verb}/{{job_type}}" for verb in ("submit", "plan")]


@pytest.mark.parametrize("path", TAKE_PARAMETERS)
def test_openapi_lists_the_job_types_and_the_parameters_of_each(api, path):
    document = api.get("/openapi.json").json()
    operation = document["paths"][path]["post"]
    (job_type,) = [p for p in operation["parameters"] if p["name"] == "job_type"]
    assert job_type["schema"]["enum"] == list(JOB_TYPES)
    body = operation["requestBody"]["content"]["application/json"]["schema"]
    schemas = document["components"]["schemas"]
    bodies = [schemas[choice["$ref"].removeprefix("#/components/schemas/")] for choice in body["anyOf"]]
    assert [schema["title"] for schema in bodies] == list(JOB_TYPES)
    for schema, model in zip(bodies, JOB_TYPES.values(), strict=True):
        described = {name: field["description"] for name, field in schema.get("properties", {}).items()}
        assert described == {name: field.description for name, field in model.model_fields.items()}
        assert schema["additionalProperties"] is False
    references = set(re.findall(r'"\$ref": "([^"]*)"', json.dumps(document)))
    assert {r.removeprefix("#/components/schemas/") for r in references} <= schemas.keys()


@pytest.mark.parametrize("job_type", JOB_TYPES)
def test_the_example_of_each_body_in_openapi_is_accepted(api, settings, job_type):
    (settings.home / "containers" / "landing").mkdir(parents=True, exist_ok=True)
    operation = api.get("/openapi.json").json()["paths"]["/api/jobs/submit/{job_type}"]["post"]
    body = operation["requestBody"]["content"]["application/json"]["examples"][job_type]["value"]
    answer = api.post(f"/api/jobs/submit/{job_type}", json=body)
    assert answer.status_code == 202, answer.text


def test_a_job_type_that_openapi_does_not_list_is_refused_as_before(api):
    assert assert_problem(api.post("/api/jobs/submit/no_such", json={}), 404)["title"] == "UNKNOWN_JOB_TYPE"


def test_generated_requests_never_break_a_route(api):
    schema = schemathesis.openapi.from_dict(api.get("/openapi.json").json())
    for result in schema.get_all_operations():
        operation = result.ok()

        @hypothesis_settings(max_examples=15, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(operation.as_strategy())
        def check(case):
            request = case.as_transport_kwargs(base_url="http://testserver")
            response = api.request(
                **{
                    k: v
                    for k, v in request.items()
                    if k in {"method", "url", "headers", "params", "json", "data", "content"}
                }
            )
            assert response.status_code < 500 or response.status_code == 503, (request, response.text[:500])

        check()


NUL_QUERIES = [
    ("/api/jobs", "job_type"),
    ("/api/db/jobs", "job_type"),
    ("/api/db/messages", "state"),
    ("/api/db/messages", "source"),
    ("/api/db/errors", "severity"),
    ("/api/jobs", "no_such_parameter"),
]


@pytest.mark.parametrize(("route", "parameter"), NUL_QUERIES)
def test_nul_in_a_filter_is_the_callers_error_and_is_named(api, route, parameter):
    body = assert_problem(api.get(route, params={parameter: "a\0b"}), 422)
    assert body["title"] == "INVALID_PARAMETERS"
    assert parameter in body["detail"]
    assert "NUL" in body["detail"]


def test_nul_is_refused_in_every_parameter_of_every_route(api):
    job = api.post("/api/jobs/submit/hello_world", json={"n": 1, "message": "nul"}).json()["job_id"]
    for path, methods in api.get("/openapi.json").json()["paths"].items():
        for method, operation in methods.items():
            names = [(p["in"], p["name"]) for p in operation.get("parameters", [])]
            for place, name in names:
                values = {
                    "job_type": "hello_world",
                    "job_id": job,
                    "code": "INTERNAL",
                    "collection": "any",
                    **({name: "%00"} if place == "path" else {}),
                }
                query = {name: "\0"} if place == "query" else {}
                answer = api.request(method, path.format(**values), params=query, json={} if method == "post" else None)
                assert_problem(answer, 422)


@pytest.mark.parametrize("before", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"])
def test_a_time_at_the_end_of_the_calendar_is_no_failure_of_the_database(api, before):
    assert api.get("/api/jobs", params={"before": before}).status_code in {200, 422}


def test_only_an_admin_compares_everything_and_only_what_jobs_name(api, guarded):
    assert_problem(guarded.get("/api/reconcile"), 401)
    assert api.get("/api/reconcile").json()["counts"].keys() >= {"MISSING_COG", "ORPHAN_ITEM"}
    body = assert_problem(api.get("/api/reconcile", params={"collection": "nowhere"}), 404)
    assert body["title"] == "COLLECTION_NOT_FOUND"


@pytest.mark.parametrize(
    ("route", "query"),
    [
        ("/api/db/messages", "state=weird"),
        ("/api/db/errors", "severity=weird"),
        ("/api/db/tasks/{job}", "status=weird"),
        ("/api/db/files/{job}", f"offset={10**30}"),
    ],
)
def test_a_filter_that_nothing_can_have_is_the_callers_error(api, route, query):
    job = api.post("/api/jobs/submit/hello_world", json={"n": 1, "message": "filters"}).json()["job_id"]
    assert assert_problem(api.get(f"{route.format(job=job)}?{query}"), 422)["title"] == "INVALID_PARAMETERS"


def test_a_query_parameter_that_there_is_not_is_refused_with_those_that_there_are(api):
    answer = api.post("/api/jobs/submit/hello_world?forse=true", json={"n": 1, "message": "misspelt"})
    body = assert_problem(answer, 422)
    assert "there is no query parameter 'forse' here; did you mean force?" in body["detail"]
    assert body["remedy"] == "there are: force, allow_mass_retire, plan_hash"
    for method, path in (("get", "/api/jobs"), ("get", "/api/db/stats"), ("post", "/api/jobs/plan/hello_world")):
        assert_problem(api.request(method, f"{path}?what=1"), 422)
    assert api.get("/livez?what=1").status_code == 200


def test_a_number_beyond_all_numbers_is_the_callers_error(api):
    body = '{"container": "abc", "max_transform_accuracy_m": 1e400}'
    for what in ("submit", "plan"):
        answer = api.post(f"/api/jobs/{what}/ingest_container", content=body)
        assert "max_transform_accuracy_m: must be a finite number" in assert_problem(answer, 422)["detail"]


def test_errors_of_a_job_are_found_by_the_first_characters_of_its_id(api, settings, submitter):
    job = api.post("/api/jobs/submit/hello_world", json={"n": 1, "message": "prefix"}).json()["job_id"]
    submitter.messages.note(GeoAssetsError("CANCELLED", "for a test"), severity="info", job_id=job)
    found = api.get("/api/db/errors", params={"job_id": job[:12]}).json()["errors"]
    assert [(error["job_id"], error["message"]) for error in found] == [(job, "for a test")]
    assert assert_problem(api.get("/api/db/errors", params={"job_id": "0" * 12}), 404)["title"] == "JOB_NOT_FOUND"


def test_an_error_that_nobody_foresaw_is_a_problem_too_and_tells_no_secret(api, monkeypatch):
    def broken(_):
        raise RuntimeError("password=hunter2")

    monkeypatch.setattr(Submitter, "statistics", broken)
    body = assert_problem(api.get("/api/db/stats"), 500)
    assert body["title"] == "INTERNAL"
    assert "hunter2" not in str(body)


def test_an_identity_provider_that_is_away_is_no_fault_of_the_token(settings):
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    issuer = "http://127.0.0.1:1"
    claims = {"sub": "a", "iss": issuer, "aud": "geo", "exp": time.time() + 600, "scp": "read"}
    token = jwt.encode(claims, key, "RS256", headers={"kid": "k"})
    with_oidc = settings.model_copy(update={"oidc_issuer": issuer, "oidc_audience": "geo"})
    with TestClient(create_app(with_oidc, require_auth=True), raise_server_exceptions=False) as api:
        answer = api.get("/api/jobs", headers={"Authorization": f"Bearer {token}"})
    assert assert_problem(answer, 503)["title"] == "IDENTITY_PROVIDER_UNAVAILABLE"


@pytest.mark.parametrize("route", ["/api/stac/collections", "/api/stac/unpublish"])
def test_a_body_beyond_all_measure_is_refused_before_it_is_read_and_its_sender_asked_for(guarded, route):
    answer = guarded.post(route, content=b'"' + b"x" * 2_000_000, headers={"content-type": "application/json"})
    assert "1,048,576 bytes" in assert_problem(answer, 413)["detail"]
