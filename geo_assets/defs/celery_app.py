"""Celery: how tasks are sent and taken, and the application of the workers (`celery -A geo_assets.defs.celery_app`).

Here: settings of Celery, each with its reason, and Dagster's three tasks. Not here: what a step does, the executor
(`executors.py`), the command that starts a worker (`commands/worker.py`).

Nothing of this makes sure that work is done once, or at all: the ledger does
(docs/decisions/0036-celery-workers-may-die.md). Celery carries a step to a worker.
"""

from typing import Any

from celery import Celery
from celery.signals import worker_process_shutdown
from dagster_celery.make_app import make_app
from dagster_celery.tasks import create_execute_job_task, create_resume_job_task, create_task

from geo_assets.settings import Settings, load_settings
from geo_assets.stages.kept_children import end_kept_children, keep_children

CONFIG: dict[str, Any] = {
    # A worker takes a step when it has a process for it: a step that waits behind another one would wait although
    # another worker is free, and would be lost for an hour if its worker were killed.
    "worker_prefetch_multiplier": 1,
    "worker_disable_prefetch": True,
    # A step is off the queue when it has begun. Sent a second time while the first worker is only slow, it would be
    # done by both; one whose worker died is found by the silence of the step (`geo.steps`).
    "task_acks_late": False,
    "task_track_started": True,
    # What a worker took and had not begun when it was killed comes back to the queue after that many seconds.
    "broker_transport_options": {
        "visibility_timeout": 120,
        "max_retries": 3,
        "interval_step": 0.2,
        "interval_max": 0.5,
    },
    "broker_connection_retry_on_startup": True,
    # Events of a step, some kB: the plan has read them within a second.
    "result_expires": 6 * 3600,
    "task_default_queue": "dagster",
    "task_default_priority": 5,
    # Lines of a step are in Dagster's log; those of the worker are as Celery prints them.
    "worker_hijack_root_logger": False,
    # Memory that libraries keep ends with the process.
    "worker_max_tasks_per_child": 500,
}


def app_args(settings: Settings) -> dict[str, Any]:
    """Broker, backend and settings of Celery, as Dagster's executor takes them."""
    broker, backend = settings.celery_urls
    return {"broker": broker, "backend": backend, "include": [], "config_source": dict(CONFIG)}


def build_app(settings: Settings) -> Celery:
    """The application of a worker, with Dagster's tasks."""
    app = make_app(app_args(settings))
    create_task(app)
    create_execute_job_task(app)
    create_resume_job_task(app)
    return app


def _end_children(**_: object) -> None:
    end_kept_children()


def __getattr__(name: str) -> Celery:
    """`app`, for Celery's command line, made when a worker asks for it; others import what is above."""
    if name != "app":
        raise AttributeError(name)
    from importlib import import_module

    from geo_assets.defs.preloaded import PRELOADED

    for module in PRELOADED:  # before the worker forks its processes: each would import them again
        import_module(module)
    keep_children()
    worker_process_shutdown.connect(_end_children, weak=False)
    return build_app(load_settings())
