"""Checks of somebody's own Dagster, into which geo_assets was installed: asked by its webserver's GraphQL.

Here: what has to be so, what is only advised (docs/bring-your-own-dagster.md gives the reasons). Not here: processes of
the local stack, and how findings are shown (`doctor.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from geo_assets.errors import GeoAssetsError
from geo_assets.settings import Settings
from geo_assets.submissions.launch import ask, repository_of

PAGE = "docs/bring-your-own-dagster.md"

_ABOUT = """query ($selector: RepositorySelector!) {
  version
  instance {
    runQueueConfig { tagConcurrencyLimitsYaml }
    daemonHealth { allDaemonStatuses { daemonType required healthy } } }
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
        name = settings.code_location
        try:
            told = ask(settings.dagster_url, _ABOUT, {"selector": repository_of(name)})
        except GeoAssetsError as error:
            raise GeoAssetsError(
                error.code, error.message, remedy="start it, or correct GEO_ASSETS_WEBSERVER_URL"
            ) from None
        instance: dict[str, Any] = told["instance"]
        sensors = told["sensorsOrError"].get("results")
        return cls(
            settings.dagster_url,
            name,
            str(told["version"]),
            None if sensors is None else {each["name"]: each["sensorState"]["status"] for each in sensors},
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
