"""`geo-assets up`: what it says of the stack is what runs."""

import pytest

from geo_assets.local.stack import can_serve
from geo_assets_tests.conftest import Cli
from geo_assets_tests.databases import link_postgresql


@pytest.fixture
def new_cli(open_folder, postgres_home):
    """A home in which nothing was started yet; what a test starts in it is stopped."""
    cli = Cli(open_folder())
    link_postgresql(postgres_home, cli.home)
    yield cli
    cli.run("down")


@pytest.mark.stack
def test_with_the_database_alone_only_its_address_is_printed(new_cli):
    told = new_cli.json("up", "--database-only")
    assert told.keys() == {"home", "postgres", "containers"}
    shown = new_cli.run("up", "--database-only")
    assert shown.returncode == 0, shown.stderr
    assert "postgresql://" in shown.stdout
    assert "http://" not in shown.stdout


@pytest.mark.stack
def test_with_the_whole_stack_the_addresses_of_dagster_and_the_api_are_printed(cli):
    all_of_it = Cli(cli.home, GEO_ASSETS_UP_SERVES="true")
    for told in (all_of_it.json("up"), cli.json("up", "--database-only")):
        pages = {"page"} if can_serve() else set()
        assert told.keys() == {"home", "dagster", "api", "postgres", "containers"} | pages
