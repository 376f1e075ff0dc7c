"""Checks of somebody's own Dagster, into which geo_assets was installed: asked by its webserver's GraphQL.

Here: what has to be so, what is only advised (docs/bring-your-own-dagster.md gives the reasons). Not here: processes of
the local stack, and how findings are shown (`doctor.py`).
"""

from __future__ import annotations

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

#: Without them nothing is launched that was not launched at once, and nobody finds dead runs.
_SENSORS = ("janitor", "submissions")


@dataclass(frozen=True, slots=True)
class DagsterElsewhere:
    """What a webserver says of its instance, and of our code location in it."""

    url: str
    code_location: str
    version: str
    sensors: dict[str, str] | None  # None: the code location is not loaded
    daemons: dict[str, dict[str, bool]]
    tag_limits: str

    @classmethod
    def asked(cls, settings: Settings) -> DagsterElsewhere:
        """Ask the webserver of the settings.

        Raises:
            GeoAssetsError: LAUNCH_FAILED, it does not answer.
        """
        url, name = settings.dagster_url, settings.code_location
        try:
            told, sensors = ask(url, _ABOUT), _sensors(url, name)
        except GeoAssetsError as error:
            raise GeoAssetsError(
                error.code, error.message, remedy="start it, or correct GEO_ASSETS_WEBSERVER_URL"
            ) from None
        instance: dict[str, Any] = told["instance"]
        return cls(
            url,
            name,
            str(told["version"]),
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
        if self.sensors is None:
            remedy = "look at Deployment in its UI; GEO_ASSETS_CODE_LOCATION is its name there"
            return {f"{self.found} is not loaded": remedy}
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


def _sensors(url: str, code_location: str) -> dict[str, str] | None:
    """Name and status of the sensors of a code location; None if there is none that is loaded: GraphQL refuses a
    question about it then.
    """
    if not location_is_loaded(url, code_location):
        return None
    told = ask(url, _SENSORS_OF, {"selector": repository_of(code_location)})["sensorsOrError"]
    return {each["name"]: each["sensorState"]["status"] for each in told.get("results", ())}
