"""A migrated database without Dagster, as in `intake/`, and new ones beside it."""

from itertools import count

import psycopg
import pytest

from geo_assets.database.bootstrap import bootstrap
from geo_assets.database.migrate import migrate
from geo_assets_tests.intake.conftest import DAGSTER_TABLES, cluster, settings, submitter  # noqa: F401 - the fixtures
from geo_assets_tests.receipts.builders import clear

_NUMBERS = count()


@pytest.fixture(scope="module")
def empty(cluster, settings):  # noqa: F811
    """Makes settings of a new database, in which nothing is, for the same containers."""

    def make():
        made = settings.model_copy(update={"pg_database": f"lost_{next(_NUMBERS)}"})
        bootstrap(cluster.dsn(), made)
        migrate(made)
        with psycopg.connect(made.dsn("pipeline")) as conn:
            conn.execute(DAGSTER_TABLES)
        return made

    return make


@pytest.fixture
def nothing_before(settings):  # noqa: F811
    clear(settings)
