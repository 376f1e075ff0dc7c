"""The catalogue at full size: writers at once, a mirror through kills, and that nothing is touched without need."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress

import psycopg
import pytest
from fastapi.testclient import TestClient
from psycopg.types.json import Jsonb

from geo_assets.api.app import create_app
from geo_assets.stac.collection import Described
from geo_assets.stac.pgstac import create_collection, read_collection, read_items, refresh_collection
from geo_assets_tests.databases import environment
from geo_assets_tests.stac.test_collections import load
from geo_assets_tests.stac.test_partitioned import monthly  # noqa: F401 - the fixture
from geo_assets_tests.stac.workers import items_of_writer, like_ours

WRITERS, EACH = 4, 2000


def start(settings, *words):
    env = {**os.environ, **environment(settings)}
    command = [sys.executable, "-m", "geo_assets_tests.stac.workers", *map(str, words)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, env=env, text=True, **pipes)


class Searcher(threading.Thread):
    """Somebody who searches as clients do, until told to stop."""

    def __init__(self, settings, collection):
        super().__init__(daemon=True)
        self.settings, self.collection = settings, collection
        self.over, self.seconds, self.fault = threading.Event(), [], None

    def run(self):
        body = {"collections": [self.collection], "bbox": [-170, -60, 0, 0], "datetime": "2020-03-01T00:00:00Z/.."}
        try:
            with psycopg.connect(self.settings.dsn("reader"), autocommit=True) as conn:
                conn.execute("set search_path to pgstac, public")
                while not self.over.is_set():
                    began = time.monotonic()
                    conn.execute("select search(%s)", (Jsonb({**body, "limit": 50}),)).fetchone()
                    self.seconds.append(time.monotonic() - began)
        except psycopg.Error as error:
            self.fault = error


def write_at_once(settings, collection):
    """All writers begin at the same moment; returns what each delivered, and the seconds that it took."""
    writers = [start(settings, "write", collection, writer, EACH) for writer in range(WRITERS)]
    for writer in writers:
        assert writer.stdout.readline() == "ready\n", writer.stderr.read()
    began = time.monotonic()
    for writer in writers:
        writer.stdin.write("go\n")
        writer.stdin.flush()
    said = [writer.communicate(timeout=600) for writer in writers]
    assert [(writer.returncode, err) for writer, (_, err) in zip(writers, said, strict=True)] == [(0, "")] * WRITERS
    return [json.loads(out) for out, _ in said], time.monotonic() - began


def versions(settings, collection):
    """Every row of a collection and its version."""
    with psycopg.connect(settings.dsn("pipeline")) as conn:
        return dict(
            conn.execute("select id, xmin::text from pgstac.items where collection = %s", (collection,)).fetchall()
        )


@pytest.mark.slow
def test_four_processes_write_8000_items_of_one_monthly_collection_while_two_search(settings, monthly):  # noqa: F811
    name = monthly("full-size")
    searchers = [Searcher(settings, name) for _ in range(2)]
    for searcher in searchers:
        searcher.start()
    deltas, seconds = write_at_once(settings, name)
    for searcher in searchers:
        searcher.over.set()
        searcher.join(60)
    assert [searcher.fault for searcher in searchers] == [None, None]
    assert deltas == [{"new": EACH, "changed": 0, "gone": 0, "unchanged": 0}] * WRITERS
    wanted = [item for writer in range(WRITERS) for item in items_of_writer(name, writer, EACH)]
    rows = versions(settings, name)
    assert rows.keys() == {item["id"] for item in wanted}
    with psycopg.connect(settings.dsn("pipeline")) as conn:
        query = "select count(*) from geo.published where stac_item ^@ %s"
        assert conn.execute(query, (f"{name}/",)).fetchone() == (WRITERS * EACH,)
    boxes = list(zip(*(item["bbox"] for item in wanted), strict=True))
    extent = read_collection(settings, name)["extent"]
    assert extent["spatial"]["bbox"][0] == pytest.approx([*map(min, boxes[:2]), *map(max, boxes[2:])], abs=1e-9)
    times = [item["properties"] for item in wanted]
    assert extent["temporal"]["interval"] == [
        [min(t["start_datetime"] for t in times), max(t["end_datetime"] for t in times)]
    ]
    asked = sorted(second for searcher in searchers for second in searcher.seconds)
    print(
        f"\n{WRITERS} x {EACH} items in {seconds:.1f} s; {len(asked)} searches meanwhile,"
        f" p95 {asked[int(len(asked) * 0.95)] * 1000:.0f} ms, at most {asked[-1] * 1000:.0f} ms"
    )

    deltas, seconds = write_at_once(settings, name)  # all again, at once
    assert deltas == [{"new": 0, "changed": 0, "gone": 0, "unchanged": EACH}] * WRITERS
    assert versions(settings, name) == rows, "what is the same is not written"
    print(f"the same again in {seconds:.1f} s: no row of an item was written")


class Mirror:
    """A copy of the catalogue that knows nothing but the feed over HTTP, and reads what the feed says was changed."""

    def __init__(self, api, conn):
        self.api, self.conn = api, conn
        self.items, self.collections, self.seen = {}, {}, 0
        self.cursor = self._ask("now")["next"]

    def _ask(self, since):
        answer = self.api.get("/api/stac/changes", params={"since": since, "limit": 100})
        assert answer.status_code == 200, answer.text
        return answer.json()

    def follow(self):
        while (page := self._ask(self.cursor))["changes"]:
            for change in page["changes"]:
                self._apply(change)
            self.cursor, self.seen = page["next"], self.seen + len(page["changes"])

    def _apply(self, change):
        name, identity = change["collection"], change["id"]
        copy, key = (self.items, (name, identity)) if change["type"] == "item" else (self.collections, name)
        there = None
        if change["op"] != "delete":
            there = item_now(self.conn, name, identity) if change["type"] == "item" else collection_now(self.conn, name)
        if there is None:
            copy.pop(key, None)
        else:
            copy[key] = there


def item_now(conn, collection, identity):
    return conn.execute("select get_item(%s, %s)", (identity, collection)).fetchone()[0]


def collection_now(conn, collection):
    row = conn.execute("select content from collections where id = %s", (collection,)).fetchone()
    return row and row[0]


def catalogue_now(conn, names):
    items = conn.execute(
        "select collection, id, get_item(id, collection) from items where collection = any(%s)", (names,)
    ).fetchall()
    found = {name: collection_now(conn, name) for name in names}
    return {(name, identity): item for name, identity, item in items}, {n: c for n, c in found.items() if c}


@contextmanager
def doer(settings):
    """Has deeds done by processes; a deed is told how long its process may live."""
    process = start(settings, "obey")

    def do(deed, killed_after=None):
        process.stdin.write(json.dumps(deed) + "\n")
        process.stdin.flush()
        pid = int(process.stdout.readline())
        if killed_after is not None:
            time.sleep(killed_after)
            with suppress(ProcessLookupError):  # it had done its deed
                os.kill(pid, signal.SIGKILL)
        return int(process.stdout.readline())

    try:
        yield do
    finally:
        process.stdin.close()
        process.wait(60)
        process.stdout.close()
        faults = process.stderr.read()
        process.stderr.close()
        assert faults == ""


def random_deed(chance, names):
    name, numbers = chance.choice(names), sorted({chance.randrange(40) for _ in range(chance.randrange(1, 6))})
    deed = chance.choices(("put", "remove", "unpublish", "describe", "create", "drop"), (50, 12, 12, 14, 8, 4))[0]
    more = {
        "put": {"numbers": numbers, "version": chance.randrange(4)},
        "remove": {"numbers": numbers},
        "unpublish": {"number": numbers[0]},
        "describe": {"title": f"Title {chance.randrange(3)}"},
    }
    return {"deed": deed, "collection": name, **more.get(deed, {})}


@pytest.mark.slow
def test_a_mirror_equals_the_catalogue_after_1000_deeds_and_a_hundred_kills(settings, monthly):  # noqa: F811
    chance, names, killed, codes = random.Random(13), ["mirror-whole", monthly("mirror-monthly"), "mirror-third"], 0, []
    with (
        TestClient(create_app(settings)) as api,
        psycopg.connect(settings.dsn("reader"), autocommit=True) as conn,
        doer(settings) as do,
    ):
        conn.execute("set search_path to pgstac, public")
        mirror = Mirror(api, conn)
        mirror.items, mirror.collections = catalogue_now(conn, names)
        for number in range(1, 1001):
            lives = chance.random() * 0.08 if chance.randrange(5) == 0 else None
            codes.append(do(random_deed(chance, names), lives))
            if chance.randrange(6) == 0:
                mirror.follow()
            if number % 100 == 0:
                until_nobody_writes(settings)
                mirror.follow()
                assert (mirror.items, mirror.collections) == catalogue_now(conn, names), f"after {number} deeds"
        killed = codes.count(-signal.SIGKILL)
        assert set(codes) <= {0, -signal.SIGKILL}, "no deed failed"
        assert killed > 100
        assert mirror.items
        print(f"\n1000 deeds, {killed} of them killed; {mirror.seen} changes followed, {len(mirror.items)} items there")


def until_nobody_writes(settings):
    """The server goes on with the last statement of a client that was killed."""
    deadline = time.monotonic() + 30
    with psycopg.connect(settings.dsn("pipeline"), autocommit=True) as conn:
        query = """select count(*) from pg_stat_activity where datname = current_database() and state <> 'idle'
                      and pid <> pg_backend_pid() and usename = 'geo_pipeline'"""
        while conn.execute(query).fetchone() != (0,):
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_a_collection_that_was_edited_between_two_loads_exports_the_items_that_a_search_finds(
    settings,
):
    name = "edited-between"
    create_collection(settings, name, Described())
    load(settings, *(like_ours(name, f"first-{n}", n) for n in range(40)))
    refresh_collection(settings, name, Described(title="Edited", keywords=("dem",)))
    with psycopg.connect(settings.dsn("pipeline"), autocommit=True) as conn:
        conn.execute("set search_path to pgstac, public")
        (edited,) = conn.execute("select content from collections where id = %s", (name,)).fetchone()
        edited["item_assets"]["data"] |= {"raster:spatial_resolution": 99.0, "description": "by hand"}
        conn.execute("select update_collection(%s)", (Jsonb(edited),))
        load(settings, *(like_ours(name, f"second-{n}", n) for n in range(40)))
        del edited["item_assets"]
        conn.execute("select update_collection(%s)", (Jsonb(edited),))
        load(settings, *(like_ours(name, f"first-{n}", n, version=2) for n in range(0, 40, 2)))
        (page,) = conn.execute("select search(%s)", (Jsonb({"collections": [name], "limit": 1000}),)).fetchone()
    found = {item["id"]: without_nulls(item) for item in page["features"]}
    assert len(found) == 80
    assert {item["id"]: without_nulls(item) for item in read_items(settings, name)} == found
    loaded = {i["id"]: i for i in (like_ours(name, f"second-{n}", n) for n in range(40))}
    assert {i["id"]: i for i in read_items(settings, name) if i["id"] in loaded} == loaded


def without_nulls(item):
    """As pgstac's functions return an item: without nulls, and without links to itself."""
    if isinstance(item, dict):
        return {key: without_nulls(value) for key, value in item.items() if value is not None}
    return [without_nulls(value) for value in item] if isinstance(item, list) else item
