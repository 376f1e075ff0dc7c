"""A migrated database without Dagster, and new ones beside it."""

import pytest

from geo_assets_tests.receipts.builders import clear


@pytest.fixture(scope="module")
def empty(databases, settings):
    """Makes settings of a new database, in which nothing is, for the same containers."""
    return lambda: databases.make(settings.home)


@pytest.fixture
def nothing_before(settings):
    clear(settings)
