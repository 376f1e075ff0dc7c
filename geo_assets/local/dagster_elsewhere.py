"""Checks of somebody's own Dagster, into which geo_assets was installed: asked by its webserver's GraphQL.

Here: what has to be so, what is only advised (docs/bring-your-own-dagster.md gives the reasons). Not here: processes of
the local stack, and how findings are shown (`doctor.py`).
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from geo_assets.errors import GeoAssetsError
from geo_assets.settings import Settings
from geo_assets.submissions.launch import ask, location_is_loaded, repository_of

PAGE = "docs/bring-your-own-dagster.md"

_ABOUT = """{
  version
  instance {
    runQueueConfig { tagConcurrencyLimitsYaml }
    daemonHealth { allDaemonStatuses { daemonType required healthy } } } }"""

_SENSORS_OF = """query ($selector: RepositorySelector!) {
  sensorsOrError(repositorySelector: $selector) { ... on Sensors { results { name sensorState { status } } } } }"""

_ENTRY = """query ($name: String!) { workspaceLocationEntryOrError(name: $name) {
  ... on WorkspaceLocationEntry { locationOrLoadError { __typename ... on PythonError { message className } } } } }"""

#: A webserver that lost a code server, or began before it, looks for it every second, and after ten seconds every ten
#: (`dagster/_grpc/server_watcher.py` of Dagster 1.13); and a code server needs half a minute on a busy machine.
_LOADING_SECONDS = 60

#: Of the errors of a code location the one that passes when its code server is there.
_UNREACHABLE = "DagsterUserCodeUnreachableError"

#: Without them nothing is launched that was not launched at once, and nobody finds dead runs.
_SENSORS = ("janitor", "submissions")


@dataclass(frozen=True, slots=True)
class DagsterElsewhere:
    """What a webserver says of its instance, and of our code location in it."""

    url: str
    code_location: str
    version: str
    not_loaded: str  # why the code location is not loaded; empty: it is
    sensors: dict[str, str]
    daemons: dict[str, dict[str, bool]]
    tag_limits: str

    @classmethod
    def asked(cls, settings: Settings) -> DagsterElsewhere:
        """Ask the webserver of the settings, and wait for a code location that is on its way.

        Raises:
            GeoAssetsError: LAUNCH_FAILED, it does not answer.
        """
        url, name = settings.dagster_url, settings.code_location
        try:
            told, not_loaded = ask(url, _ABOUT), _not_loaded(url, name)
            sensors = {} if not_loaded else _sensors(url, name)
        except GeoAssetsError as error:
            raise GeoAssetsError(
                error.code, error.message, remedy="start it, or correct GEO_ASSETS_WEBSERVER_URL"
            ) from None
        instance: dict[str, Any] = told["instance"]
        return cls(
            url,
            name,
            str(told["version"]),
            not_loaded,
            sensors,
            {each["daemonType"]: each for each in instance["daemonHealth"]["allDaemonStatuses"]},
            (instance["runQueueConfig"] or {}).get("tagConcurrencyLimitsYaml") or "",
        )

    @property
    def found(self) -> str:
        """In a line."""
        return f"Dagster {self.version} at {self.url}, code location {self.code_location}"

    def faults(self) -> dict[str, str]:
        """What does not work, and what to do about it."""
        if self.not_loaded:
            remedy = "look at Deployment in its UI; GEO_ASSETS_CODE_LOCATION is its name there"
            return {f"{self.found} is not loaded: {self.not_loaded}": remedy}
        stopped = [name for name in _SENSORS if self.sensors.get(name) != "RUNNING"]
        faults = (
            {f"the sensors {' and '.join(stopped)} are off": "switch them on: Automation in its UI"} if stopped else {}
        )
        if not self.daemons.get("SENSOR", {}).get("healthy"):
            faults["its daemon does not run the sensors"] = "start dagster-daemon, which `dagster dev` does by itself"
        return faults

    def advice(self) -> list[str]:
        """What its dagster.yaml lacks, without which everything is as exact, and slower."""
        lacks = []
        if not self.daemons.get("MONITORING", {}).get("required"):
            lacks.append("run_monitoring (a run whose process never came is found after ten minutes)")
        if "dagster/partition" not in self.tag_limits:
            lacks.append(
                "a limit of one run for each dagster/partition (a second run of a job starts, and stands aside)"
            )
        return lacks


def _not_loaded(url: str, code_location: str) -> str:
    """Why our definitions are not in a code location, or nothing if they are.

    Whoever looks just after a start would be told of a fault that ends by itself.
    """
    deadline = time.monotonic() + _LOADING_SECONDS
    while True:
        entry = ask(url, _ENTRY, {"name": code_location})["workspaceLocationEntryOrError"]
        if not entry:
            return "there is none of this name"
        found = entry["locationOrLoadError"] or {"className": _UNREACHABLE, "message": "it is still being loaded"}
        if found.get("__typename") == "RepositoryLocation":
            return "" if location_is_loaded(url, code_location) else "it has other definitions"
        if found["className"] != _UNREACHABLE or time.monotonic() > deadline:
            return str(found["message"]).strip().splitlines()[0]
        time.sleep(1)


def _sensors(url: str, code_location: str) -> dict[str, str]:
    """Name and status of the sensors of a code location that is loaded."""
    told = ask(url, _SENSORS_OF, {"selector": repository_of(code_location)})["sensorsOrError"]
    return {each["name"]: each["sensorState"]["status"] for each in told.get("results", ())}
