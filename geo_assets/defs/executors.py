"""What the steps of a run run on: this process, processes of this machine, Celery, Kubernetes.

Here: the one executor of all jobs, whose configuration names one of Dagster's own, and the lease that is kept meanwhile
(docs/decisions/0035-steps-that-run-anywhere.md). Not here: which packages these need (`extras.py`), launchers of whole
runs (`dagster.yaml`).
"""

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, cast

import dagster as dg

from geo_assets.defs.preloaded import PRELOADED
from geo_assets.defs.runs import Runs
from geo_assets.extras import insist_on_extras
from geo_assets.settings import Settings
from geo_assets.stages.crew import steps_here
from geo_assets.stages.cutting import Steps
from geo_assets.stages.kept_lease import kept_lease

_log = logging.getLogger(__name__)

#: How often Celery's executor looks for steps that have ended: a small job has ten of them, one after the other, and
#: Dagster's second is most of its time.
_TICK_SECONDS = 0.2

#: What an API server of Kubernetes answers that has too much to do. Dagster asks again after 500, 503 and 504, three
#: times and 10 s apart; this one, if it was the answer to a new step, ended the run and the steps at work.
_TOO_MANY_REQUESTS = 429

#: How long a plan that is to end may wait for its steps: a step finds within a heartbeat that its job is gone.
_LAST_SECONDS = 30.0


def build_executor(settings: Settings) -> dg.ExecutorDefinition:
    """The executor of all jobs: that of the settings, unless the configuration of a run names another one.

    `in_process` and `multiprocess` can always be named; those of extras only where the settings name them, so that no
    other installation imports their packages.

    Raises:
        GeoAssetsError: EXTRA_NOT_INSTALLED, INVALID_SETTINGS.
    """
    insist_on_extras(settings)
    kinds = {name: kind for name, kind in _KINDS.items() if not kind.of_extra or name == settings.executor}
    named = {name: kind.definition() for name, kind in kinds.items()}

    def requirements(config: Mapping[str, object]) -> Any:
        return [] if "in_process" in config else dg.multiple_process_executor_requirements()

    fields = {name: _config_of(name, executor) for name, executor in named.items()}

    @dg.executor(
        name="geo_assets",
        config_schema=dg.Field(
            dg.Selector(fields),  # type: ignore[no-untyped-call]
            default_value={settings.executor: {}},
            description="What the steps of this run run on.",
        ),
        requirements=requirements,
    )
    def executor(context: dg.InitExecutorContext) -> dg.Executor:
        """One of Dagster's executors, which keeps the lease of the run's job while it executes the plan."""
        ((name, asked),) = context.executor_config.items()
        chosen, config = named[name], kinds[name].completed(settings, cast("Any", asked))
        create = chosen.executor_creation_fn
        if create is None:
            msg = f"the executor {name} cannot be created"
            raise TypeError(msg)
        made = create(context._replace(executor_def=chosen, executor_config=config))
        return kinds[name].framed(settings, _with_lease(settings, made, is_here=name == "in_process"))

    return executor


def _config_of(name: str, executor: dg.ExecutorDefinition) -> Any:
    """What a run may say of an executor. Of Celery, retries alone: the URL of a broker holds a password, and the
    configuration of a run is shown.
    """
    field = executor.get_config_field()
    if name != "celery":
        return field
    return dg.Field({"retries": field.config_type.fields["retries"]})  # type: ignore[attr-defined]


def _as_it_is(_: Settings, config: Any) -> Any:
    return config


def _as_made(_: Settings, executor: dg.Executor) -> dg.Executor:
    return executor


def _with_sizes(settings: Settings, executor: dg.Executor) -> dg.Executor:
    from geo_assets.defs.pods import with_sizes

    return with_sizes(settings, executor)  # type: ignore[no-any-return]


def _with_broker(settings: Settings, config: Any) -> dict[str, Any]:
    from geo_assets.defs.celery_app import app_args

    return {**config, **app_args(settings)}


def _forked(settings: Settings, config: Any) -> dict[str, Any]:
    """What a run does not say of `multiprocess`: how many steps at a time, and that each is a fork of a process that
    has imported everything.
    """
    return {
        **config,
        "max_concurrent": config.get("max_concurrent") or settings.steps_at_once,
        "start_method": config.get("start_method") or {"forkserver": {"preload_modules": list(PRELOADED)}},
    }


def steps_of(settings: Settings, run_config: Mapping[str, Any]) -> Steps:
    """How the steps of a run are executed, by its configuration."""
    asked = (run_config.get("execution") or {}).get("config") or {settings.executor: {}}
    ((name, config),) = asked.items()
    if name == "multiprocess":
        return Steps(at_once=(config or {}).get("max_concurrent") or settings.steps_at_once)
    return _KINDS[name].steps if name in _KINDS else Steps()


#: What surrounds the execution of a plan.
_Frame = Callable[[Any], AbstractContextManager[object]]


def _in_frame(executor: dg.Executor, frame: _Frame) -> dg.Executor:
    """The same object, for Dagster's executors look at their own class; only what it does is put in a frame, which is
    given the plan's context.
    """
    execute = executor.execute

    def framed(plan_context: Any, execution_plan: Any) -> Iterator[Any]:
        with frame(plan_context):
            yield from execute(plan_context, execution_plan)

    executor.execute = framed  # type: ignore[method-assign]
    return executor


def _with_lease(settings: Settings, executor: dg.Executor, *, is_here: bool) -> dg.Executor:
    """The lease of the run's job is kept meanwhile, and the steps know if this process executes all of them."""
    lost = _nothing if is_here else _interrupt

    @contextmanager
    def frame(plan_context: Any) -> Iterator[None]:
        run_id = plan_context.run_id

        def waits() -> bool:
            try:
                return Runs(plan_context.instance).waits(run_id)
            except Exception as error:  # noqa: BLE001 - whatever keeps Dagster's events: a run is not dead for that
                _log.debug("Dagster does not tell of the steps of run %s: %r", run_id, error)
                return True

        with kept_lease(settings, run_id, lost, waits), steps_here(run_id) if is_here else nullcontext():
            yield

    return _in_frame(executor, frame)


def _nothing() -> None:
    """A step in this process stops by itself when the job is lost."""


def _watching_the_broker(settings: Settings, executor: dg.Executor) -> dg.Executor:
    """What it does ends if the broker was restarted: steps that waited there may be gone, and the plan would wait for
    them for ever.
    """
    from geo_assets.defs.broker import watched

    def frame(plan_context: Any) -> AbstractContextManager[object]:
        def lost(reason: str) -> None:
            plan_context.instance.report_run_failed(plan_context.dagster_run, reason)
            end_process()

        return watched(settings.celery_urls[0], lost)

    return _in_frame(executor, frame)


def _interrupt() -> None:
    """End the plan as if somebody had terminated the run, or else end its process: it may wait for a step that nobody
    works on any more, and Celery's executor waits for each step that has begun.
    """
    timer = threading.Timer(_LAST_SECONDS, end_process)
    timer.daemon = True
    timer.start()
    os.kill(os.getpid(), signal.SIGINT)


def end_process() -> None:
    """End this process, which executes a plan and nothing else, at once."""
    os._exit(1)


def _celery() -> dg.ExecutorDefinition:
    from dagster_celery import celery_executor, core_execution_loop

    core_execution_loop.TICK_SECONDS = _TICK_SECONDS
    return celery_executor  # type: ignore[no-any-return]


def _kubernetes() -> dg.ExecutorDefinition:
    from dagster_k8s import client, k8s_job_executor

    passing = client.WHITELISTED_TRANSIENT_K8S_STATUS_CODES
    passing += {_TOO_MANY_REQUESTS} - set(passing)
    return k8s_job_executor  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True)
class _Kind:
    """One of Dagster's executors.

    Attributes:
        definition: of it.
        completed: what a run says of it, with what it does not say.
        framed: what surrounds the execution of a plan, beside the lease.
        steps: how it executes the steps of a run.
        of_extra: only where the settings name it: no other installation imports its packages.
    """

    definition: Callable[[], dg.ExecutorDefinition]
    completed: Callable[[Settings, Any], Any] = _as_it_is
    framed: Callable[[Settings, dg.Executor], dg.Executor] = _as_made
    steps: Steps = field(default_factory=Steps)
    of_extra: bool = False


#: Nobody knows how many workers Celery has, or how many pods there may be; a step waits for a process that loads the
#: code, or for a pod.
_KINDS = {
    "in_process": _Kind(lambda: dg.in_process_executor),
    "multiprocess": _Kind(lambda: dg.multiprocess_executor, completed=_forked),
    "celery": _Kind(
        _celery, completed=_with_broker, framed=_watching_the_broker, steps=Steps(at_once=None), of_extra=True
    ),
    "k8s": _Kind(_kubernetes, framed=_with_sizes, steps=Steps(at_once=None, least_seconds=30), of_extra=True),
}
