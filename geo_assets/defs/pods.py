"""Steps in pods of Kubernetes: how large each pod is.

Here: cores, memory and ephemeral storage of a step, by what its chunk is expected to cost. Not here: launching pods,
which is Dagster's (`dagster-k8s`); everything else of a pod, which the launcher's configuration says (`deploy/helm/`).
"""

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg
from dagster._core.execution.plan.inputs import FromStepOutput
from dagster._core.executor.step_delegating import CheckStepHealthResult, StepHandler, StepHandlerContext

from geo_assets.ledger.ledger import Ledger
from geo_assets.settings import Settings
from geo_assets.stages.contracts import Chunk

#: The tag by which dagster-k8s takes what is particular to a step.
_TAG = "dagster-k8s/config"

_MIB = 1024**2

#: What the process of a step takes itself, with Dagster, pgstac's loader and its connections: 330 MiB were measured.
_STEP_MIB = 512

#: What a child takes with a small file, and for each byte of a large one: it reads and writes in stripes and tiles.
_CHILD_MIB, _CHILD_MIB_PER_SOURCE_MIB = 384, 0.5

#: Scratch: the source, its COG while it is written, and what GDAL keeps beside it, each about as large as the source.
_SCRATCH_FACTOR, _SCRATCH_MIB = 4, 1024


def resources_of(settings: Settings, chunk: Chunk | None) -> dict[str, dict[str, str]]:
    """Requests and limits of the pod of a step, in the notation of Kubernetes.

    Memory is limited to what the children may take at most, so that the limit of a child, which names the file, is met
    before that of the pod, which kills all of it.

    Args:
        settings: children of a step, and the memory of each.
        chunk: that the step works through; None for a step that plans, counts or registers.
    """
    if chunk is None:
        return _pod(cores=0.25, mib=_STEP_MIB, most_mib=2 * _STEP_MIB, scratch_mib=_SCRATCH_MIB)
    children = min(settings.workers, chunk.size)
    largest = chunk.largest_bytes / _MIB
    child = min(_CHILD_MIB + _CHILD_MIB_PER_SOURCE_MIB * largest, settings.sandbox_memory_mb)
    at_once = min(chunk.bytes / _MIB, children * largest)
    return _pod(
        cores=children,
        mib=_STEP_MIB + children * child,
        most_mib=2 * _STEP_MIB + children * settings.sandbox_memory_mb,
        scratch_mib=_SCRATCH_MIB + _SCRATCH_FACTOR * at_once,
    )


def _pod(*, cores: float, mib: float, most_mib: float, scratch_mib: float) -> dict[str, dict[str, str]]:
    scratch = f"{math.ceil(scratch_mib)}Mi"
    requests = {"cpu": f"{round(cores * 1000)}m", "memory": f"{math.ceil(mib)}Mi", "ephemeral-storage": scratch}
    return {"requests": requests, "limits": {"memory": f"{math.ceil(most_mib)}Mi", "ephemeral-storage": scratch}}


class SizedSteps(StepHandler):
    """Dagster's handler of steps, which is told how large each pod is. What the configuration of a run says of a step
    (`per_step_k8s_config`) wins.
    """

    def __init__(self, settings: Settings, handler: StepHandler) -> None:
        self._settings, self._handler = settings, handler

    @property
    def name(self) -> str:
        """As Dagster's."""
        return self._handler.name

    def launch_step(self, step_handler_context: StepHandlerContext) -> Iterator[dg.DagsterEvent]:
        """Create the job of a step."""
        return self._handler.launch_step(_Sized(step_handler_context, self._size_of(step_handler_context)))

    def check_step_health(self, step_handler_context: StepHandlerContext) -> CheckStepHealthResult:
        """Whether the job of a step is there and has not failed."""
        return self._handler.check_step_health(step_handler_context)

    def terminate_step(self, step_handler_context: StepHandlerContext) -> Iterator[dg.DagsterEvent]:
        """Delete the job of a step."""
        return self._handler.terminate_step(step_handler_context)

    def _size_of(self, context: StepHandlerContext) -> dict[str, dict[str, str]]:
        (key,) = context.execute_step_args.step_keys_to_execute or ("",)
        place = _place_of_chunk(context, key)
        if place is None:
            return resources_of(self._settings, None)
        with Ledger(self._settings, connections=1) as ledger:
            contract = ledger.contracts.read(place)
        return resources_of(self._settings, Chunk.model_validate_json(contract) if contract else None)


def _place_of_chunk(context: StepHandlerContext, key: str) -> str | None:
    """Where the chunk of a mapped step is recorded, as `io_manager.py` names it; None of other steps."""
    step = context.get_step_context(key).step
    for given in step.step_inputs:
        source = given.source
        if isinstance(source, FromStepOutput) and source.step_output_handle.mapping_key:
            made = source.step_output_handle
            return f"{context.execute_step_args.run_id}/{made.step_key}/{made.output_name}/{made.mapping_key}"
    return None


class _Sized(StepHandlerContext):
    """The same context, with one tag more."""

    def __init__(self, context: StepHandlerContext, resources: dict[str, dict[str, str]]) -> None:
        self.__dict__.update(context.__dict__)
        self._resources = resources

    @property
    def step_tags(self) -> Mapping[str, Mapping[str, str]]:
        """Tags of the steps; a tag that the step has already stays."""
        sized = json.dumps({"container_config": {"resources": self._resources}})
        return {key: {_TAG: sized, **tags} for key, tags in super().step_tags.items()}


def with_sizes(settings: Settings, executor: Any) -> Any:
    """The same executor of dagster-k8s, each of whose pods is as large as its step needs."""
    # there is no other way in (Dagster 1.13)
    executor._step_handler = SizedSteps(settings, executor._step_handler)  # noqa: SLF001
    return executor
