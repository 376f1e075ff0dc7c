"""Whole runs on workers of Celery: Dagster's launcher, by which a termination is recorded too.

Here: that one call. Not here: anything else of the launcher; settings of Celery (`celery_app.py`,
`deploy/celery/run_launcher.yaml`).
"""

from dagster import DagsterRunStatus
from dagster_celery.launcher import CeleryRunLauncher


class RecordingCeleryRunLauncher(CeleryRunLauncher):  # type: ignore[misc]
    """Dagster's launcher interrupts the run, but does not say who wished it, and the run then ends as failed
    (dagster-celery 0.29).
    """

    def terminate(self, run_id: str) -> bool:
        """Interrupt a run, which ends as cancelled; one that no worker has begun does so at once."""
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            return False
        self._instance.report_run_canceling(run)
        sent = bool(super().terminate(run_id))
        if run.status in {DagsterRunStatus.NOT_STARTED, DagsterRunStatus.STARTING}:
            self._instance.report_run_canceled(run)
        return sent
