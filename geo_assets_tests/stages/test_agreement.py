"""The asset that says whether all agrees: it is red where something does not, and its metadata say what."""

import psycopg
from dagster import AssetCheckKey, DagsterInstance
from dagster._serdes import serialize_value

from geo_assets.definitions import build_defs
from geo_assets.defs.reconcile import KEY
from geo_assets.ledger.measurements_of_dagster import DIFFERENCES
from geo_assets_tests.stages.test_catalogue import raster, world  # noqa: F401 - the fixture


def materialized(settings):
    """(metadata, whether it agrees) of a run of the job."""
    done = build_defs(settings).resolve_job_def("reconcile").execute_in_process()
    (made,) = done.get_asset_materialization_events()
    (check,) = done.get_asset_check_evaluations()
    metadata = made.step_materialization_data.materialization.metadata
    return {key: value.value for key, value in metadata.items()}, check.passed


def test_the_newest_report_is_the_metadata_of_the_asset_and_a_fault_makes_its_check_red(world):  # noqa: F811
    settings = world.context.settings
    raster(world, "a.tif")
    world.ingest()
    assert materialized(settings) == ({"faults": 0, "differences": 0}, True)
    with psycopg.connect(settings.dsn("pipeline")) as conn:
        conn.execute("delete from pgstac.items where collection = %s", (world.name,))
    metadata, agrees = materialized(settings)
    assert (metadata["faults"], metadata["MISSING_ITEM"], agrees) == (1, 1, False)
    assert "reconcile --repair" in metadata["first"]


def test_the_differences_of_the_newest_report_can_be_asked_for_by_class(world):  # noqa: F811
    settings = world.context.settings
    raster(world, "b.tif")
    world.ingest()
    with psycopg.connect(settings.dsn("pipeline")) as conn:
        conn.execute("delete from pgstac.items where collection = %s", (world.name,))
    with DagsterInstance.ephemeral() as instance:
        build_defs(settings).resolve_job_def("reconcile").execute_in_process(instance=instance)
        check = AssetCheckKey(KEY, "agrees")
        (kept,) = instance.event_log_storage.get_asset_check_execution_history(check, limit=1)
    with psycopg.connect(settings.dsn("pipeline")) as conn:
        conn.execute(
            """create table dagster.asset_check_executions (id bigserial, asset_key text, check_name text,
                 execution_status text, evaluation_event text)"""
        )
        before = dict(conn.execute(DIFFERENCES).fetchall())
        conn.execute(
            """insert into dagster.asset_check_executions (asset_key, check_name, execution_status, evaluation_event)
               values (%s, 'agrees', 'FAILED', %s)""",
            (KEY.to_string(), serialize_value(kept.event)),
        )
        after = dict(conn.execute(DIFFERENCES).fetchall())
    assert set(before.values()) == {0}
    assert {kind: count for kind, count in after.items() if count} == {"MISSING_ITEM": 2}
