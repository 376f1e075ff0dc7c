"""What steps pass to each other: the newest in its place, and for how long it is kept."""

from datetime import timedelta

import psycopg
import pytest

from geo_assets.ledger import retention
from geo_assets.ledger.ledger import Ledger


@pytest.fixture
def contracts(settings):
    with Ledger(settings) as ledger:
        yield ledger.contracts


def age(settings, place: str, days: int) -> None:
    with psycopg.connect(settings.dsn("pipeline")) as conn:
        conn.execute("update geo.contracts set written_at = now() - %s where place = %s", (timedelta(days), place))


def test_a_step_that_is_tried_again_replaces_what_it_passed_on(contracts):
    contracts.write("run/step/result", '{"index": 1}', run_id="run")
    contracts.write("run/step/result", '{"index": 2}', run_id="run")
    assert contracts.read("run/step/result") == '{"index": 2}'
    assert contracts.read("run/other/result") is None


def test_what_a_run_passed_on_is_forgotten_and_what_an_asset_is_stays(settings, contracts):
    contracts.write("old/step/result", "{}", run_id="old")
    contracts.write("new/step/result", "{}", run_id="new")
    contracts.write("list_container/container_inventory/key", "{}", run_id=None)
    for place in ("old/step/result", "list_container/container_inventory/key"):
        age(settings, place, 31)
    with psycopg.connect(settings.dsn("pipeline")) as conn:
        assert retention.count_contracts(conn, timedelta(days=30)).count == 1
        assert retention.delete_contracts(conn, timedelta(days=30)).count == 1
    assert contracts.read("old/step/result") is None
    assert contracts.read("new/step/result") == "{}"
    assert contracts.read("list_container/container_inventory/key") == "{}"
