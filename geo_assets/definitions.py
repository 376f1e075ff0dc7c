"""The composition root: everything Dagster is told, put together once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg
from upath import UPath

from geo_assets import __version__
from geo_assets.defs.catalogue import stac_collection, stac_items, submission_report
from geo_assets.defs.cogs import cogs
from geo_assets.defs.container_inventory import container_inventory
from geo_assets.defs.hello_world import replies
from geo_assets.defs.io_manager import JsonContractIOManager
from geo_assets.defs.resources import JOB_TAGS, Stages
from geo_assets.defs.sensors import build_janitor, build_submissions_sensor
from geo_assets.defs.stac_setup import catalogue
from geo_assets.defs.vector_tables import vector_tables
from geo_assets.parameters import JOB_TYPES
from geo_assets.settings import Settings, load_settings

#: What makes the assets of a job type that ingests, in the order of the flow.
_INGEST = (container_inventory, cogs, vector_tables, stac_items, stac_collection, submission_report)


def build_defs(settings: Settings, resource_overrides: Mapping[str, Any] | None = None) -> dg.Definitions:
    """All definitions, of one stack: what runs of them uses these settings, whatever those of the process are.

    Args:
        settings: of the stack.
        resource_overrides: resources in place of ours, by name.
    """
    ingest = {name: [build(name) for build in _INGEST] for name in ("ingest_container", "stage_raster", "stage_vector")}
    assets = {
        "hello_world": [replies],
        **ingest,
        "list_container": [container_inventory("list_container")],
        "stac_setup": [catalogue],
    }
    owners = list(settings.owners)
    assets = {name: [_signed(asset, owners) for asset in made] for name, made in assets.items()}
    jobs = [_asset_job(name, made) for name, made in assets.items()]
    resources = {
        "stages": Stages(settings=settings),
        "io_manager": JsonContractIOManager(UPath(settings.dagster_home / "storage" / "contracts")),
        **(resource_overrides or {}),
    }
    return dg.Definitions(
        assets=[a for made in assets.values() for a in made],
        jobs=jobs,
        sensors=[build_submissions_sensor(settings, jobs), build_janitor(settings)],
        resources=resources,
    )


def _signed(assets: dg.AssetsDefinition, owners: list[str]) -> dg.AssetsDefinition:
    """With their owners, and with the release that makes them, which each partition keeps. Owners of jobs and sensors
    are in beta (Dagster 1.13), and each load would warn of it.
    """
    return assets.map_asset_specs(lambda spec: spec.replace_attributes(owners=owners, code_version=__version__))


def _asset_job(name: str, assets: Sequence[dg.AssetsDefinition]) -> Any:
    """The job of a job type: these assets, in one process, for one partition."""
    return dg.define_asset_job(
        name,
        selection=list(assets),
        executor_def=dg.in_process_executor,
        tags=JOB_TAGS,
        description=JOB_TYPES[name].summary,
    )


defs = build_defs(load_settings())
