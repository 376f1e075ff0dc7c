"""Who follows the feed of changes sees every change of the catalogue, in the order of the commits, and misses none."""

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta

import psycopg
import pytest
from psycopg.types.json import Jsonb

from geo_assets.database.migrate import migrate, redeploy
from geo_assets.errors import GeoAssetsError
from geo_assets.ledger.changes import NOW
from geo_assets.ledger.ledger import Ledger
from geo_assets.stac.collection import Described
from geo_assets.stac.locks import queue_up
from geo_assets.stac.pgstac import (
    create_collection,
    delete_collection,
    delete_items,
    load_items,
    read_collection,
    read_items,
    refresh_collection,
)
from geo_assets_tests.databases import before_migration
from geo_assets_tests.stac.test_retries import item
from geo_assets_tests.waiting import until

FAR = 1000


@pytest.fixture
def changes(settings):
    with Ledger(settings) as ledger:
        yield ledger.changes


@pytest.fixture
def connect(settings):
    """Opens connections of the pipeline's that end with the test."""
    opened = []

    def open_one():
        opened.append(psycopg.connect(settings.dsn("pipeline")))
        return opened[-1]

    yield open_one
    for conn in opened:
        conn.close()


def load(settings, *items):
    load_items(settings, items[0]["collection"], items, guard=lambda conn: None, record=lambda conn: None)


def told(found):
    return [(change.op, change.collection, change.id) for change in found]


def insert(conn, collection, identity):
    """A new item, in a transaction that stays open."""
    conn.execute("set local search_path to pgstac, public")
    conn.execute("select create_item(%s)", (Jsonb(item(identity, collection)),))


def test_creations_updates_and_deletions_are_told_once_and_what_stays_the_same_is_not(settings, changes, connect):
    _, start = changes.since(NOW, limit=FAR)
    load(settings, item("a", "told"), item("b", "told"))
    load(settings, item("a", "told"), item("b", "told"))
    load(settings, item("a", "told"), {**item("b", "told"), "bbox": [5.0, 50.0, 5.5, 50.0]})
    refresh_collection(settings, "told", Described(title="Told"))
    refresh_collection(settings, "told", Described(title="Told"))
    with connect() as conn:
        queue_up(conn, "told")
        delete_items(conn, "told", ["a", "b", "no such item"])
        delete_collection(conn, "told")
    found, end = changes.since(start, limit=FAR)
    assert told(found[:1]) == [("create", "told", "told")]
    assert found[0].type == "collection"
    assert sorted(told(found[1:3])) == [("create", "told", "a"), ("create", "told", "b")]
    assert told(found[3:5]) == [("update", "told", "b"), ("update", "told", "told")]
    assert sorted(told(found[5:7])) == [("delete", "told", "a"), ("delete", "told", "b")]
    assert told(found[7:]) == [("delete", "told", "told")]
    assert {change.type for change in found[5:7]} == {"item"}
    assert changes.since(end, limit=FAR) == ([], end)
    page, then = changes.since(start, limit=3)
    assert [*page, *changes.since(then, limit=FAR)[0]] == found


def test_what_is_rolled_back_is_not_told(settings, changes, connect):
    load(settings, item("kept", "undone"))
    _, start = changes.since(NOW, limit=FAR)

    def record(conn):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        load_items(settings, "undone", [item("lost", "undone")], guard=lambda conn: None, record=record)
    conn = connect()
    delete_items(conn, "undone", ["kept"])
    conn.rollback()
    assert changes.since(start, limit=FAR)[0] == []


def test_who_began_first_and_commits_last_is_told_last(settings, changes, connect):
    for name in ("slow", "fast"):
        load(settings, item("there", name))
    _, cursor = changes.since(NOW, limit=FAR)
    slow, fast = connect(), connect()
    insert(slow, "slow", "first")
    insert(fast, "fast", "second")
    fast.commit()
    found, cursor = changes.since(cursor, limit=FAR)
    assert told(found) == [("create", "fast", "second")]
    slow.commit()
    assert told(changes.since(cursor, limit=FAR)[0]) == [("create", "slow", "first")]


def test_nobody_overtakes_a_change_that_has_its_number_and_is_not_committed(settings, changes, connect):
    for name in ("held", "waits"):
        load(settings, item("there", name))
    _, cursor = changes.since(NOW, limit=FAR)
    holding, other = connect(), connect()
    insert(holding, "held", "first")
    holding.execute("set constraints all immediate")  # as the commit does
    insert(other, "waits", "second")
    committing = threading.Thread(target=other.commit)
    committing.start()
    committing.join(0.5)
    assert committing.is_alive()
    assert changes.since(cursor, limit=FAR) == ([], cursor)
    holding.commit()
    committing.join(30)
    assert told(changes.since(cursor, limit=FAR)[0]) == [("create", "held", "first"), ("create", "waits", "second")]


def test_a_reader_that_never_stops_reading_misses_no_writer(settings, changes, connect):
    names = [f"many{n}" for n in range(4)]
    for name in names:
        load(settings, item("there", name))
    _, cursor = changes.since(NOW, limit=FAR)
    seen, pause = [], random.Random(7)

    def write(name, conn):
        for number in range(40):
            insert(conn, name, f"i{number}")
            time.sleep(pause.random() / 200)
            conn.rollback() if number % 5 == 4 else conn.commit()

    writers = [threading.Thread(target=write, args=(name, connect())) for name in names]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        found, cursor = changes.since(cursor, limit=7)
        seen += told(found)
    while page := changes.since(cursor, limit=7):
        if not page[0]:
            break
        seen, cursor = seen + told(page[0]), page[1]
    for name in names:
        assert [i for op, collection, i in seen if collection == name] == [f"i{n}" for n in range(40) if n % 5 != 4], (
            "in the order in which they were written"
        )
    assert len(seen) == 4 * 32


class Mirror:
    """A copy of the catalogue that knows nothing but the feed, and reads what the feed says was changed."""

    def __init__(self, settings, changes, names):
        self.settings, self.changes, self.names = settings, changes, names
        self.items, self.collections, self.cursor = {}, {}, changes.since(NOW, limit=1)[1]

    def follow(self):
        found, self.cursor = self.changes.since(self.cursor, limit=FAR)
        now = {name: {i["id"]: i for i in read_items(self.settings, name)} for name in self.names}
        for change in found:
            if change.type == "item":
                there = None if change.op == "delete" else now[change.collection].get(change.id)
                self._put(self.items, (change.collection, change.id), there)
                continue
            try:
                there = read_collection(self.settings, change.id)
            except GeoAssetsError:
                there = None
            self._put(self.collections, change.id, None if change.op == "delete" else there)

    @staticmethod
    def _put(copy, key, there):
        if there is None:
            copy.pop(key, None)
        else:
            copy[key] = there


class Deeds:
    """What may happen to a catalogue of two small collections."""

    def __init__(self, settings, connect, chance):
        self.settings, self.connect, self.chance = settings, connect, chance
        self.names = ["mirrored-a", "mirrored-b"]

    def there(self, name):
        return sorted(i["id"] for i in read_items(self.settings, name))

    def put(self, name):
        made = item(f"i{self.chance.randrange(8)}", name)
        load(self.settings, {**made, "bbox": [5.0, 50.0, 5.0 + self.chance.randrange(3), 50.0]})

    put_again = put_once_more = put

    def remove(self, name):
        with self.connect() as conn:
            delete_items(conn, name, [f"i{self.chance.randrange(8)}"])

    def describe(self, name):
        try:
            refresh_collection(self.settings, name, Described(title=f"Title {self.chance.randrange(3)}"))
        except GeoAssetsError:
            create_collection(self.settings, name, Described())

    def empty(self, name):
        if self.chance.randrange(3) == 0:
            with self.connect() as conn:
                delete_items(conn, name, self.there(name))
                conn.execute("delete from pgstac.collections where id = %s", (name,))

    def be_killed(self, name):
        victim = self.connect()
        delete_items(victim, name, self.there(name))
        with self.connect() as other:
            other.execute("select pg_terminate_backend(%s)", (victim.info.backend_pid,))

    def stored(self):
        known = {}
        for name in self.names:
            with suppress(GeoAssetsError):
                known[name] = read_collection(self.settings, name)
        return known


def test_a_mirror_that_only_follows_the_feed_equals_the_catalogue_whatever_was_done_and_killed(
    settings,
    changes,
    connect,
):
    chance = random.Random(13)
    deeds = Deeds(settings, connect, chance)
    mirror = Mirror(settings, changes, deeds.names)
    ways = (deeds.put, deeds.put_again, deeds.put_once_more, deeds.remove, deeds.describe, deeds.empty, deeds.be_killed)
    for _ in range(100):
        chance.choice(ways)(chance.choice(deeds.names))
        if chance.randrange(6) == 0:
            mirror.follow()
    mirror.follow()
    assert mirror.items == {(name, i["id"]): i for name in deeds.names for i in read_items(settings, name)}
    assert mirror.items
    assert mirror.collections == deeds.stored()


def test_a_cursor_of_changes_that_are_gone_is_one_clear_error(settings, changes):
    _, old = changes.since(NOW, limit=FAR)
    load(settings, item("a", "pruned"), item("b", "pruned"))
    assert changes.forget(timedelta(hours=1)) == 0
    _, end = changes.since(old, limit=FAR)
    load(settings, item("c", "pruned"))
    time.sleep(0.1)
    assert changes.forget(timedelta(milliseconds=50)) > 0
    for cursor, reason in ((old, f"since: the changes after {old} are not"), (None, "the first changes are not kept")):
        with pytest.raises(GeoAssetsError, match=reason) as refused:
            changes.since(cursor, limit=FAR)
        assert refused.value.code == "CURSOR_TOO_OLD"
    with pytest.raises(GeoAssetsError, match="are not kept any more"):
        changes.since(end, limit=FAR)
    _, newest = changes.since(NOW, limit=FAR)
    load(settings, item("d", "pruned"))
    assert told(changes.since(newest, limit=FAR)[0]) == [("create", "pruned", "d")]


@pytest.mark.parametrize(
    ("cursor", "code"),
    [
        ("yesterday", "INVALID_PARAMETERS"),
        ("00000000-", "INVALID_PARAMETERS"),
        ("00000000-5", "CURSOR_TOO_OLD"),
        ("{feed}-999999999999999999", "CURSOR_TOO_OLD"),
    ],
)
def test_what_is_no_cursor_of_this_catalogue_is_refused(changes, cursor, code):
    feed, _ = changes.since(NOW, limit=1)[1].split("-")
    with pytest.raises(GeoAssetsError) as refused:
        changes.since(cursor.format(feed=feed), limit=FAR)
    assert refused.value.code == code


def test_what_was_there_before_there_was_a_feed_is_what_it_begins_with(settings, cluster, tmp_path):
    older = before_migration("0021", cluster, settings, tmp_path)
    load(older, item("a", "early"), item("b", "early"))
    assert "0021_changes.sql" in migrate(older)
    with Ledger(older) as ledger:
        found, _ = ledger.changes.since(None, limit=FAR)
    assert [(c.op, c.type, c.id) for c in found] == [
        ("create", "collection", "early"),
        ("create", "item", "a"),
        ("create", "item", "b"),
    ]


def test_to_make_the_ledger_anew_is_done_or_not_done_wherever_it_is_killed(settings, databases):
    anew = databases.make(settings.home)
    with psycopg.connect(anew.dsn("migrator")) as other, ThreadPoolExecutor(1) as beside:
        other.execute("lock table public.geo_migrations in access exclusive mode")
        killed = beside.submit(redeploy, anew)
        with psycopg.connect(anew.dsn("migrator"), autocommit=True) as watching:
            waits = "select pid from pg_stat_activity where wait_event_type = 'Lock' and query ~ '^delete from public'"
            pid = until(lambda: watching.execute(waits).fetchone())
            watching.execute("select pg_terminate_backend(%s)", pid)
        with pytest.raises(psycopg.OperationalError):
            killed.result()
    with psycopg.connect(anew.dsn("migrator")) as conn:
        assert conn.execute("select to_regclass('geo.jobs')").fetchone() == ("geo.jobs",)
    assert redeploy(anew)


def test_a_cursor_from_before_the_ledger_was_made_anew_is_too_old_and_the_feed_goes_on(settings, databases):
    anew = databases.make(settings.home)
    load(anew, item("a", "stays"))
    with Ledger(anew) as ledger:
        _, old = ledger.changes.since(None, limit=FAR)
    redeploy(anew)
    load(anew, item("b", "stays"))
    with Ledger(anew) as ledger:
        with pytest.raises(GeoAssetsError, match="was made anew") as refused:
            ledger.changes.since(old, limit=FAR)
        found, _ = ledger.changes.since(None, limit=FAR)
    assert refused.value.code == "CURSOR_TOO_OLD"
    assert told(found) == [("create", "stays", "stays"), ("create", "stays", "a"), ("create", "stays", "b")]


def test_only_the_catalogue_writes_the_feed(connect):
    for statement in (
        "insert into geo.changes (op, collection) values ('create', 'x')",
        "update geo.changes set collection = 'x'",
        "insert into geo.change_feed (is_one) values (true)",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege), connect() as conn:
            conn.execute(statement)
