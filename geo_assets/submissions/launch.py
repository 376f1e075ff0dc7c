"""Starting the run of an attempt at once, over the webserver's GraphQL: the short way beside the sensor.

Here: three GraphQL calls. Not here: who may launch (`ledger/jobs.py` lets exactly one), what a run does (`defs/`).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import cache
from typing import Any

import httpx

from geo_assets.errors import GeoAssetsError
from geo_assets.ledger.attempts import DAGSTER_ANSWER_SECONDS
from geo_assets.ledger.jobs import Jobs
from geo_assets.ledger.models import Attempt
from geo_assets.settings import Settings
from geo_assets.submissions.size import Sizes

#: Tags of a run.
ATTEMPT_TAG, JOB_TAG = "geo_assets/attempt", "geo_assets/job_id"
CORRELATION_TAG, TRACEPARENT_TAG = "geo_assets/correlation_id", "geo_assets/traceparent"

_log = logging.getLogger(__name__)

#: The name that Dagster gives to definitions that have none.
_REPOSITORY = "__repository__"

_ADD_PARTITION = """mutation ($selector: RepositorySelector!, $def: String!, $key: String!) {
  addDynamicPartition(repositorySelector: $selector, partitionsDefName: $def, partitionKey: $key) {
    __typename ... on PythonError { message } ... on UnauthorizedError { message } } }"""

_LAUNCH = """mutation ($params: ExecutionParams!) { launchRun(executionParams: $params) {
    __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
    ... on InvalidSubsetError { message } ... on PipelineNotFoundError { message }
    ... on RunConfigValidationInvalid { errors { message } } } }"""


_TERMINATE = """mutation ($id: String!) { terminateRun(runId: $id, terminatePolicy: MARK_AS_CANCELED_IMMEDIATELY) {
    __typename ... on TerminateRunFailure { message } ... on RunNotFoundError { message }
    ... on PythonError { message } } }"""

_LOADED = (
    """query ($selector: RepositorySelector!) { repositoryOrError(repositorySelector: $selector) { __typename } }"""
)


def location_is_loaded(webserver_url: str, code_location: str) -> bool:
    """Whether a webserver has loaded our code location.

    Raises:
        GeoAssetsError: LAUNCH_FAILED, it does not answer.
    """
    found = ask(webserver_url, _LOADED, {"selector": repository_of(code_location)})
    return bool(found["repositoryOrError"]["__typename"] == "Repository")


def launch(jobs: Jobs, settings: Settings, attempt: Attempt, sizes: Sizes) -> str | None:
    """Launch an attempt unless somebody else does; returns the run id, or None.

    Raises:
        GeoAssetsError: LAUNCH_FAILED; the attempt stays recorded, and the sensor launches it.
    """
    taken = jobs.take_launch(attempt.job_id, attempt.attempt)
    return launch_taken(jobs, settings, taken, sizes) if taken else None


def launch_taken(jobs: Jobs, settings: Settings, attempt: Attempt, sizes: Sizes) -> str:
    """Launch an attempt that the caller took; returns the run id.

    Raises:
        GeoAssetsError: LAUNCH_FAILED; the attempt is given back, and the sensor launches it.
    """
    ids = {"correlation_id": attempt.correlation_id, "job_id": attempt.job_id, "attempt": attempt.attempt}
    try:
        run_id = _start_run(settings, attempt, sizes.tags(attempt))
    except GeoAssetsError as error:
        jobs.give_back_launch(attempt.job_id, attempt.attempt)
        _log.info("run not launched", extra={**ids, "code": error.code, "reason": error.message})
        raise
    _log.info("run launched", extra={**ids, "run_id": run_id})
    return run_id


def tags_of(attempt: Attempt) -> dict[str, str]:
    """The tags of a run that say which attempt it is, and by which ids it is found."""
    ids = {CORRELATION_TAG: attempt.correlation_id, JOB_TAG: attempt.job_id, TRACEPARENT_TAG: attempt.traceparent}
    return {ATTEMPT_TAG: str(attempt.attempt), **{tag: value for tag, value in ids.items() if value}}


def attempt_of(tags: Mapping[str, str]) -> int | None:
    """The attempt that a run was launched for, by its tags; None: somebody launched it by hand, whatever it says."""
    told = tags.get(ATTEMPT_TAG, "")
    return int(told) if told.isdecimal() and len(told) < 10 else None  # an integer of PostgreSQL


def terminate(webserver_url: str, run_id: str) -> None:
    """End a run: its process is asked to stop, its state is cancelled at once.

    Raises:
        GeoAssetsError: LAUNCH_FAILED, the webserver does not answer or refuses.
    """
    answer = ask(webserver_url, _TERMINATE, {"id": run_id})["terminateRun"]
    if answer["__typename"] != "TerminateRunSuccess":
        raise GeoAssetsError(
            "LAUNCH_FAILED", f"Dagster did not end the run: {answer.get('message', answer['__typename'])}"[:800]
        )


def _start_run(settings: Settings, attempt: Attempt, size: Mapping[str, str]) -> str:
    location = repository_of(settings.code_location)
    partition = {
        "selector": location,
        "def": attempt.job_type,
        "key": attempt.partition_key,
    }  # a set a job type (defs/partitions.py)
    added = ask(settings.dagster_url, _ADD_PARTITION, partition)["addDynamicPartition"]
    if added["__typename"] not in {"AddDynamicPartitionSuccess", "DuplicateDynamicPartitionError"}:
        raise GeoAssetsError(
            "LAUNCH_FAILED", f"Dagster refused the partition: {added.get('message', added['__typename'])}"
        )
    tags = {"dagster/partition": attempt.partition_key, **tags_of(attempt), **size}
    params = {
        "selector": {**location, "pipelineName": attempt.job_type},
        "runConfigData": {},
        "mode": "default",
        "executionMetadata": {"tags": [{"key": key, "value": value} for key, value in tags.items()]},
    }
    launched = ask(settings.dagster_url, _LAUNCH, {"params": params})["launchRun"]
    if launched["__typename"] != "LaunchRunSuccess":
        raise GeoAssetsError(
            "LAUNCH_FAILED", f"Dagster refused the run: {launched.get('message', launched['__typename'])}"[:800]
        )
    return str(launched["run"]["runId"])


def repository_label(code_location: str) -> str:
    """How Dagster's tags of runs name what a code location has."""
    return f"{_REPOSITORY}@{code_location}"


def repository_of(code_location: str) -> dict[str, str]:
    """How GraphQL names what a code location has."""
    return {"repositoryLocationName": code_location, "repositoryName": _REPOSITORY}


@cache
def _client() -> httpx.Client:
    """One for the process, which threads share: making one reads all certificates, and takes as long as an answer. A
    connection is given up before the webserver closes it, five seconds after its last answer.
    """
    return httpx.Client(timeout=DAGSTER_ANSWER_SECONDS, trust_env=False, limits=httpx.Limits(keepalive_expiry=2))


def ask(webserver_url: str, query: str, variables: dict[str, Any] | None = None) -> dict[str, Any]:
    """Ask Dagster's GraphQL.

    Raises:
        GeoAssetsError: LAUNCH_FAILED, the webserver does not answer, or not this question.
    """
    try:
        response = _client().post(f"{webserver_url}/graphql", json={"query": query, "variables": variables or {}})
        response.raise_for_status()
        body = response.json()
    except (httpx.HTTPError, ValueError) as error:
        raise GeoAssetsError("LAUNCH_FAILED", f"the Dagster webserver at {webserver_url} does not answer") from error
    if body.get("errors"):
        raise GeoAssetsError("LAUNCH_FAILED", f"Dagster: {body['errors'][0].get('message', 'unknown error')}"[:800])
    data: dict[str, Any] = body["data"]
    return data
