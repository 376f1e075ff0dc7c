"""The asset that says whether all agrees: it is red where something does not, and its metadata say what."""

import psycopg

from geo_assets.definitions import build_defs
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
