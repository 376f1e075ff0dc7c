"""A collection that is partitioned by month takes many writers at once, and has each item once."""

import threading

import psycopg
import pytest
from psycopg.types.json import Jsonb

from geo_assets.stac.collection import Described
from geo_assets.stac.pgstac import count_found, create_collection, load_items, refresh_collection
from geo_assets_tests.stac.test_collections import box_item


@pytest.fixture
def monthly(settings):
    """Makes a collection that is partitioned by month."""

    def make(name):
        create_collection(settings, name, Described())
        with psycopg.connect(settings.dsn("pipeline")) as conn:
            conn.execute("set local search_path to pgstac, public")
            conn.execute("update collections set partition_trunc = 'month' where id = %s", (name,))
        return name

    return make


def load(settings, *items):
    load_items(settings, items[0]["collection"], items, guard=lambda conn: None, record=lambda conn: None)


def test_an_item_that_moves_to_another_month_is_there_once(settings, monthly):
    name = monthly("moves")
    place = (name, 0.0, 0.0, 1.0, 1.0)
    load(settings, box_item("i", *place, "2020-01-31T23:59:59Z"), box_item("j", *place, "2020-02-01T00:00:00Z"))
    load(settings, box_item("i", *place, "2021-07-01T00:00:00Z"))
    with psycopg.connect(settings.dsn("pipeline")) as conn:
        rows = conn.execute(
            "select id, datetime at time zone 'UTC' from pgstac.items where collection = 'moves' order by id"
        ).fetchall()
    assert [(identity, f"{when:%Y-%m}") for identity, when in rows] == [("i", "2021-07"), ("j", "2020-02")]
    interval = refresh_collection(settings, name)["extent"]["temporal"]["interval"]
    assert interval == [["2020-02-01T00:00:00Z", "2021-07-01T00:00:00Z"]]


def test_four_writers_lose_nothing_while_two_search(settings, monthly):
    name, faults, done, searches = monthly("crowded"), [], threading.Event(), []

    def guarded(work):
        try:
            work()
        except Exception as error:  # noqa: BLE001 - told below
            faults.append(error)

    def write(writer):
        for start in range(0, 200, 50):
            load(
                settings,
                *(
                    box_item(
                        f"w{writer}-{n}",
                        name,
                        n / 2,
                        0.0,
                        n / 2 + 1.0,
                        writer + 1.0,
                        f"20{10 + n % 6}-0{writer + 1}-15T00:00:00Z",
                    )
                    for n in range(start, start + 50)
                ),
            )
            refresh_collection(settings, name)

    def search():
        with psycopg.connect(settings.dsn("reader"), autocommit=True) as conn:
            conn.execute("set search_path to pgstac, public")
            while not done.is_set():
                body = {
                    "collections": [name],
                    "bbox": [0, 0, 50, 2],
                    "datetime": "2012-01-01T00:00:00Z/..",
                    "limit": 20,
                }
                searches.append(conn.execute("select search(%s)", (Jsonb(body),)).fetchone())

    writers = [threading.Thread(target=guarded, args=(lambda n=n: write(n),)) for n in range(4)]
    searchers = [threading.Thread(target=guarded, args=(search,)) for _ in range(2)]
    for thread in (*writers, *searchers):
        thread.start()
    for thread in writers:
        thread.join(300)
    done.set()
    for thread in searchers:
        thread.join(60)
    assert faults == []
    assert len(searches) > 2
    assert count_found(settings, name, [f"w{w}-{n}" for w in range(4) for n in range(200)]) == 800
    extent = refresh_collection(settings, name)["extent"]
    assert extent["spatial"]["bbox"] == [[0.0, 0.0, 100.5, 4.0]]
    assert extent["temporal"]["interval"] == [["2010-01-15T00:00:00Z", "2015-04-15T00:00:00Z"]]
