"""The `dagster.yaml` of a home: the project's, what Celery needs more, and what its owner adds.

Here: its text, and the variables that it reads beside the database's. Not here: who writes it (`stack.py`,
`commands/worker.py`); that of an installation on several machines (`deploy/`).
"""

from __future__ import annotations

from geo_assets.home import project_file
from geo_assets.settings import Settings

#: A run that was launched may wait in the queue until a worker is free; after this time Dagster calls it dead.
_STARTS_AT_ONCE, _STARTS_FROM_A_QUEUE = "start_timeout_seconds: 60 ", "start_timeout_seconds: 3600 "

#: What a step prints is in the log of its worker. Dagster's copy in a folder of that machine is read by no webserver,
#: and costs four processes a step.
_NO_COPIES_OF_OUTPUT = """
compute_logs:
  module: dagster._core.storage.noop_compute_log_manager
  class: NoOpComputeLogManager
"""


def instance_config(settings: Settings) -> str:
    """The text of `dagster.yaml` for executor and launcher of the settings."""
    text = project_file("dagster.yaml").read_text(encoding="utf-8")
    if "celery" in {settings.executor, settings.run_launcher}:
        text += _NO_COPIES_OF_OUTPUT
    if settings.run_launcher == "celery":
        if _STARTS_AT_ONCE not in text:
            msg = f"dagster.yaml has no line with {_STARTS_AT_ONCE!r}"
            raise ValueError(msg)
        launcher = project_file("deploy/celery/run_launcher.yaml").read_text(encoding="utf-8")
        text = f"{text.replace(_STARTS_AT_ONCE, _STARTS_FROM_A_QUEUE)}\n{launcher}"
    if settings.dagster_yaml:
        text += f"\n{settings.dagster_yaml.read_text(encoding='utf-8')}"
    return text


def celery_exports(settings: Settings) -> dict[str, str]:
    """What the lines of the launcher read; nothing without a broker."""
    broker, backend = settings.celery_urls
    return {"GEO_ASSETS_CELERY_BROKER": broker, "GEO_ASSETS_CELERY_BACKEND": backend} if broker else {}
