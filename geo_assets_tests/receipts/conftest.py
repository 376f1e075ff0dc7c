"""A migrated database without Dagster, as in `intake/`."""

from geo_assets_tests.intake.conftest import cluster, settings, submitter  # noqa: F401 - the fixtures
