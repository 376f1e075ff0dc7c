"""What the steps of a run run on: this process, processes of this machine, Celery, Kubernetes.

Here: the one executor of all jobs, whose configuration names one of Dagster's own, and the lease that is kept meanwhile
(docs/decisions/0035-steps-that-run-anywhere.md). Not here: which packages these need (`extras.py`), launchers of whole
runs (`dagster.yaml`).
"""

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from typing import Any, cast

import dagster as dg

from geo_assets.defs.code_server import PRELOADED
from geo_assets.extras import insist_on_extras
from geo_assets.settings import Settings
from geo_assets.stages.crew import steps_here
from geo_assets.stages.cutting import Steps
from geo_assets.stages.kept_lease import kept_lease


def build_executor(settings: Settings) -> dg.ExecutorDefinition:
    """The executor of all jobs: that of the settings, unless the configuration of a run names another one.

    `in_process` and `multiprocess` can always be named; those of extras only where the settings name them, so that no
    other installation imports their packages.

    Raises:
        GeoAssetsError: EXTRA_NOT_INSTALLED, INVALID_SETTINGS.
    """
    insist_on_extras(settings)
    named = {"in_process": dg.in_process_executor, "multiprocess": dg.multiprocess_executor}
    if settings.executor in _OF_EXTRAS:
        named[settings.executor] = _OF_EXTRAS[settings.executor]()

    def requirements(config: Mapping[str, object]) -> Any:
        return [] if "in_process" in config else dg.multiple_process_executor_requirements()

    fields = {name: executor.get_config_field() for name, executor in named.items()}

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
        chosen, config = named[name], _forked(settings, asked) if name == "multiprocess" else cast("Any", asked)
        create = chosen.executor_creation_fn
        if create is None:
            msg = f"the executor {name} cannot be created"
            raise TypeError(msg)
        made = create(context._replace(executor_def=chosen, executor_config=config))
        return _framed(settings, made, is_here=name == "in_process")

    return executor


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
    return _STEPS.get(name, Steps())


def _framed(settings: Settings, executor: dg.Executor, *, is_here: bool) -> dg.Executor:
    """The same object, for Dagster's executors look at their own class; only what it does is put in a frame: the lease
    of the run's job is kept, and the steps know if this process executes all of them.
    """
    execute, lost = executor.execute, _nothing if is_here else _interrupt

    def framed(plan_context: Any, execution_plan: Any) -> Iterator[Any]:
        run_id = plan_context.run_id
        with kept_lease(settings, run_id, lost), steps_here(run_id) if is_here else nullcontext():
            yield from execute(plan_context, execution_plan)

    executor.execute = framed  # type: ignore[method-assign]
    return executor


def _nothing() -> None:
    """A step in this process stops by itself when the job is lost."""


def _interrupt() -> None:
    """End the plan as if somebody had terminated the run: it may wait for a step that nobody works on any more."""
    os.kill(os.getpid(), signal.SIGINT)


def _celery() -> dg.ExecutorDefinition:
    from dagster_celery import celery_executor

    return celery_executor  # type: ignore[no-any-return]


def _kubernetes() -> dg.ExecutorDefinition:
    from dagster_k8s import k8s_job_executor

    return k8s_job_executor  # type: ignore[no-any-return]


#: Nobody here knows how many workers there are; a step waits for a process that loads the code, or for a pod.
_STEPS = {"celery": Steps(at_once=None), "k8s": Steps(at_once=None, least_seconds=30)}

_OF_EXTRAS: dict[str, Callable[[], dg.ExecutorDefinition]] = {"celery": _celery, "k8s": _kubernetes}
