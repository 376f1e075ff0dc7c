"""How an asset of a job type is made: its key, its inputs, its partitions and its checks, by one rule.

Here: the decorator of every asset that is a graph of ops, and the table of checks. Not here: the ops
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
from geo_assets.hints import runnable
from geo_assets.stages.checks import Verdict, nothing_looked_at
from geo_assets.stages.context import StageContext
from geo_assets.stages.contracts import JobRef

#: Every check by its name, with the question that it answers.
CHECKS = {
    "no_bad_files": (
        "Is every file good? If one is bad, the run itself has succeeded, but somebody has to look at the file."
    ),
    "every_raster_accounted_for": (
        "Does every listed raster have a final status: converted, skipped, quarantined or failed?"
    ),
    "cogs_readable": "Is every COG at the place recorded in the ledger, with a TIFF header?",
    "every_vector_accounted_for": (
        "Does every listed vector have a final status: loaded, skipped, quarantined or failed?"
    ),
    "tables_sound": (
        "Does every table have the number of rows recorded in the ledger, a primary key, a declared type, an SRID and a"
        " GiST index?"
    ),
    "every_feature_accounted_for": (
        "Is every feature of every file either loaded, rejected with a reason, or filtered?"
    ),
    "every_item_found": "Does a search in the catalogue find the item of every finished file?",
    "every_file_accounted_for": "Does every file of the submission have a final status?",
}


def pipeline_asset(
    job_type: str, *, kinds: set[str], checks: Sequence[str] = (), table: str | None = None
) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """A decorator: the graph of ops below it is the asset of a job type that has its name.

    Its parameters are assets of the same job type, by their names. With checks it returns the outputs of an op that
    `outputs` declared: what it makes, then a verdict for each check.

    Args:
        job_type: whose asset it is; its group and the first part of its key.
        kinds: what it is made of, as the UI shows it.
        checks: their names in `CHECKS`.
        table: where its rows are, as `schema.table`, if they are always in the same one.
    """

    def decorate(compose: Callable[..., Any]) -> dg.AssetsDefinition:
        key = key_of(job_type, compose.__name__)
        specs = [dg.AssetCheckSpec(name, asset=key, description=CHECKS[name]) for name in checks]

        @wraps(compose)
        def graph(**inputs: Any) -> Any:
            made = compose(**inputs)
            if not specs:
                return made
            result, *verdicts = made
            named = zip(specs, verdicts, strict=True)
            return {"result": result, **{spec.get_python_identifier(): verdict for spec, verdict in named}}

        return dg.graph_asset(
            key=key,
            ins={name: dg.AssetIn(key=key_of(job_type, name)) for name in inspect.signature(compose).parameters},
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
