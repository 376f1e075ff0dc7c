"""The composition root: everything that Dagster loads, put together once.

The assets of a module of `defs/` are found by themselves; the job of a job type is made of the assets of its group.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType
from typing import Any

import dagster as dg

from geo_assets import __version__
from geo_assets import defs as package
from geo_assets.defs.executors import build_executor
from geo_assets.defs.io_manager import contract_io_manager
from geo_assets.defs.lines import build_console, write_by_default
from geo_assets.defs.reconcile import build_reconcile
from geo_assets.defs.resources import JOB_TAGS, Stages
from geo_assets.defs.retention import build_retention
from geo_assets.defs.sensors import build_alerts, build_janitor, build_submissions_sensor
from geo_assets.parameters import JOB_TYPES
from geo_assets.settings import Settings, load_settings
from geo_assets.submissions.size import may_be_large, size_tags

#: Modules of `defs/` that are processes of their own, of an extra, or that Dagster loads by its configuration: too
#: heavy to import for assets that they do not have.
_NO_ASSETS = frozenset({"broker", "celery_app", "celery_launcher", "code_server", "runs", "storage", "webserver"})


def build_defs(settings: Settings, resource_overrides: Mapping[str, Any] | None = None) -> dg.Definitions:
    """All definitions of one stack: their runs use these settings, whatever those of the process are.

    Args:
        settings: of the stack.
        resource_overrides: resources in place of ours, by name.
    """
    owners = list(settings.owners)
    found = dg.load_assets_from_modules(_modules())
    assets = [_signed(asset, owners) for asset in found if isinstance(asset, dg.AssetsDefinition)]
    executor = build_executor(settings)
    jobs = [_asset_job(settings, job_type, executor) for job_type in JOB_TYPES]
    console = build_console(settings)
    write_by_default(console)
    resources = {
        "stages": Stages(settings=settings),
        "io_manager": contract_io_manager,
        **(resource_overrides or {}),
    }
    return dg.Definitions(
        assets=assets,
        jobs=jobs,
        schedules=[build_reconcile(settings), build_retention(settings)],
        sensors=[build_submissions_sensor(settings, jobs), build_janitor(settings), build_alerts(settings)],
        resources=resources,
        executor=executor,
        loggers={"console": console},
    )


def _modules() -> Iterator[ModuleType]:
    """The modules of `defs/` that may have assets."""
    for module in iter_modules(package.__path__):
        if module.name not in _NO_ASSETS:
            yield import_module(f"{package.__name__}.{module.name}")


def _signed(assets: dg.AssetsDefinition, owners: list[str]) -> dg.AssetsDefinition:
    """Add owners, and the release as code version, which each partition keeps. Owners of jobs and sensors are in beta
    (Dagster 1.13), and each load would warn of it.
    """
    return assets.map_asset_specs(lambda spec: spec.replace_attributes(owners=owners, code_version=__version__))


def _asset_job(settings: Settings, job_type: str, executor: dg.ExecutorDefinition) -> Any:
    """The job of a job type: its assets, for one partition."""
    return dg.define_asset_job(
        job_type,
        selection=dg.AssetSelection.groups(job_type),
        executor_def=executor,
        tags={**JOB_TAGS, **size_tags(settings, large=may_be_large(job_type))},
        description=JOB_TYPES[job_type].summary,
    )


defs = build_defs(load_settings())
