"""How an asset of a job type is made: its key, its inputs, its partitions and its checks, by one rule.

Here: the decorator of every asset that is a graph of ops, and the check that they share. Not here: the ops
(`container_inventory.py`, `cogs.py`, …), what they show in the UI (`metadata.py`), owners and versions
(`definitions.py`).
"""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

import dagster as dg

from geo_assets.defs.partitions import PARTITIONS, key_of
from geo_assets.errors import GeoAssetsError
from geo_assets.hints import runnable
from geo_assets.stages.checks import Verdict, nothing_looked_at
from geo_assets.stages.context import StageContext
from geo_assets.stages.contracts import JobRef
from geo_assets.task_status import BAD_INPUT, TaskStatus

#: How a file ends of which nothing new is made, for the questions of checks.
OTHERWISE = f"{TaskStatus.SKIPPED}, {BAD_INPUT} or {TaskStatus.FAILED}"

#: The check of every stage that files go through, and of the job.
NO_BAD_FILES = {
    "no_bad_files": (
        "Is every file good? If one is bad, the run itself has succeeded, but somebody has to look at the file."
    )
}


def pipeline_asset(
    job_type: str,
    *,
    kinds: set[str],
    checks: Mapping[str, str] | None = None,
    table: str | None = None,
    takes: Sequence[str] | None = None,
) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """A decorator: the graph of ops below it is the asset of a job type that has its name.

    Its parameters are assets of the same job type, by their names; `takes` names them for one that has them as
    keywords. With checks it returns the outputs of an op that
    `outputs` declared: what it makes, then a verdict for each check.

    Args:
        job_type: whose asset it is; its group and the first part of its key.
        kinds: what it is made of, as the UI shows it.
        checks: their names, each with the question that it answers.
        table: where its rows are, as `schema.table`, if they are always in the same one.
        takes: the assets that it takes, where its own parameters do not name them.
    """

    def decorate(compose: Callable[..., Any]) -> dg.AssetsDefinition:
        key = key_of(job_type, compose.__name__)
        inputs = list(takes or inspect.signature(compose).parameters)
        specs = [dg.AssetCheckSpec(name, asset=key, description=question) for name, question in (checks or {}).items()]

        @wraps(compose)
        def graph(**given: Any) -> Any:
            made = compose(**given)
            if not specs:
                return made
            result, *verdicts = made
            named = zip(specs, verdicts, strict=True)
            return {"result": result, **{spec.get_python_identifier(): verdict for spec, verdict in named}}

        # Dagster reads the names of inputs from the signature
        named = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in inputs]
        graph.__signature__ = inspect.Signature(named)  # type: ignore[attr-defined]
        return dg.graph_asset(
            key=key,
            ins={name: dg.AssetIn(key=key_of(job_type, name)) for name in inputs},
            partitions_def=PARTITIONS[job_type],
            kinds=kinds,
            group_name=job_type,
            check_specs=specs,
            metadata={"dagster/table_name": table} if table else None,
        )(graph)

    return decorate


def outputs(made: type, checks: Iterable[str]) -> dict[str, dg.Out]:
    """The outputs of the op that ends an asset with checks; it yields `dg.Output(…, "result")`, then their results."""
    return {"result": dg.Out(made), **{name: dg.Out(dg.Nothing) for name in checks}}


def check_results(
    context: StageContext, job: JobRef, asset: str, verdicts: Mapping[str, Verdict]
) -> list[dg.AssetCheckResult]:
    """Verdicts as Dagster's. A run that had nothing to look at has passed nothing."""
    nothing = nothing_looked_at(context, job)
    home, key = context.settings.home, key_of(job.job_type, asset)
    failed = [f"{name}: {v.description}" for name, v in verdicts.items() if not (nothing or v.passed) and v.serious]
    if failed:
        context.alert(job, GeoAssetsError("CHECK_FAILED", f"{asset}: {'; '.join(failed)}"))
    return [_check_result(home, key, name, nothing or verdict) for name, verdict in verdicts.items()]


def _check_result(home: Path, asset: dg.AssetKey, name: str, verdict: Verdict) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        passed=verdict.passed,
        asset_key=asset,
        check_name=name,
        metadata=verdict.metadata,
        severity=dg.AssetCheckSeverity.ERROR if verdict.serious else dg.AssetCheckSeverity.WARN,
        description=runnable(verdict.description, home),
    )
