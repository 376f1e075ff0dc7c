import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from geo_assets.database import connections
from geo_assets.errors import GeoAssetsError
from geo_assets.local.postgresql import free_port
from geo_assets.submissions.inboxes import blobs
from geo_assets.submissions.inboxes.base import drain
from geo_assets.submissions.inboxes.blobs import BlobInbox
from geo_assets.submissions.inboxes.intake import drain_inboxes, waiting
from geo_assets.submissions.inboxes.queue import QueueInbox
from geo_assets.submissions.submit import Submitter
from geo_assets_tests.intake.messages import hello


@pytest.fixture
def inbox(settings, monkeypatch):
    """Whose files count as written long ago."""
    monkeypatch.setattr(blobs, "_QUIET_SECONDS", 0)
    monkeypatch.setattr(blobs, "_EMPTY_SECONDS", 0)
    folder = settings.home / "containers" / "submissions"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "inbox").mkdir(parents=True)
    return folder


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []


def test_good_manifests_go_to_done_and_bad_ones_to_poison_under_the_id_of_their_record(settings, submitter, inbox):
    (inbox / "inbox" / "good.json").write_text(json.dumps(hello()))
    (inbox / "inbox" / "bad.json").write_text("{")
    (inbox / "inbox" / "empty.json").write_bytes(b"")
    counts = drain(BlobInbox(settings), submitter, limit=10, seconds=10)
    assert counts == {"accepted": 1, "poison": 2}
    assert names(inbox / "inbox") == names(inbox / "claimed") == []
    assert [n.rpartition("_")[2] for n in names(inbox / "done")] == ["good.json"]
    poisoned = {m.message_id for m in submitter.messages.list(state="poison", source=BlobInbox(settings).name)}
    assert {n.partition("_")[0] for n in names(inbox / "poison")} <= poisoned


def test_a_manifest_that_is_being_written_is_left_until_it_is_whole(settings, submitter, inbox, monkeypatch):
    monkeypatch.undo()
    manifest, source = inbox / "inbox" / "job.json", BlobInbox(settings)
    whole = json.dumps(hello())

    def drained(seconds_ago):
        os.utime(manifest, (time.time() - seconds_ago,) * 2)
        return drain(source, submitter, limit=10, seconds=10)

    with manifest.open("w") as writer:  # as cp and scp do
        assert drained(0) == drained(5) == {}
        writer.write(whole[:20])
        writer.flush()
        assert drained(0) == drained(-1) == {}  # by a clock that is ahead, too
        writer.write(whole[20:])
    assert drained(3) == {"accepted": 1}
    manifest.touch()
    assert drained(100) == {"poison": 1}


def test_a_batch_is_bounded(settings, submitter, inbox):
    for i in range(5):
        (inbox / "inbox" / f"{i}.json").write_text(json.dumps(hello()))
    assert drain(BlobInbox(settings), submitter, limit=2, seconds=10) == {"accepted": 2}
    assert len(names(inbox / "inbox")) == 3


def test_an_abandoned_claim_is_taken_up_again(settings, submitter, inbox):
    (inbox / "claimed").mkdir()
    (inbox / "claimed" / f"{int(time.time()) - 1000}_abc_left.json").write_text(json.dumps(hello()))
    (inbox / "claimed" / f"{int(time.time())}_abc_busy.json").write_text(json.dumps(hello()))
    assert drain(BlobInbox(settings), submitter, limit=10, seconds=10) == {"accepted": 1}
    assert [n.rpartition("_")[2] for n in names(inbox / "claimed")] == ["busy.json"]


#: Names at the limits: 255 bytes of a file name, of one and of several bytes a character.
LONG = [
    "m" * 175 + ".json",
    "m" * 230 + ".json",
    "m" * 250 + ".json",
    "ж" * 118 + ".json",
    "ж" * 125 + ".json",
    "🌍" * 62 + ".json",
]


@pytest.mark.parametrize("name", LONG, ids=lambda name: f"{len(name)} characters, {len(name.encode())} bytes")
def test_two_messages_under_one_long_name_are_both_handled_and_a_third_after_them(settings, submitter, inbox, name):
    jobs = []
    for text in ("first", "second"):
        body = hello(message=f"{text} {name[:3]} {len(name)} {time.monotonic_ns()}")
        (inbox / "inbox" / name).write_text(json.dumps(body))
        (inbox / "inbox" / f"zz {text}.json").write_text(json.dumps(hello()))
        assert drain(BlobInbox(settings), submitter, limit=10, seconds=10) == {"accepted": 2}
        jobs.append(body["parameters"]["message"])
    (inbox / "inbox" / name).write_text("{")
    assert drain(BlobInbox(settings), submitter, limit=10, seconds=10) == {"poison": 1}
    assert {j.parameters["message"] for j in submitter.jobs.newest(limit=10)} >= set(jobs)
    assert names(inbox / "inbox") == names(inbox / "claimed") == []
    assert len(names(inbox / "done")) == 4


def test_names_that_differ_only_where_they_are_shortened_are_different_messages(settings, submitter, inbox):
    for letter in "ab":
        (inbox / "inbox" / f"{letter}{'m' * 240}.json").write_text(json.dumps(hello()))
    (inbox / "inbox" / "a").mkdir()
    for name in ("a/b.json", "a~b.json"):
        (inbox / "inbox" / name).write_text(json.dumps(hello()))
    assert drain(BlobInbox(settings), submitter, limit=10, seconds=10) == {"accepted": 4}
    assert len(names(inbox / "done")) == 4


@pytest.mark.parametrize("name", [b"new\nline.json", b"back\\slash.json", b"\xff\xfe.json", b"upload#7"])
def test_a_name_that_cannot_be_asked_for_has_a_record_and_stops_no_other_message(settings, submitter, inbox, name):
    odd = os.fsencode(inbox / "inbox") + b"/" + name
    Path(os.fsdecode(odd)).write_text(json.dumps(hello()))
    os.utime(odd, (1, 1))
    (inbox / "inbox" / "zz.json").write_text(json.dumps(hello()))
    assert drain(BlobInbox(settings), submitter, limit=10, seconds=10) == {"accepted": 1, "poison": 1}
    assert drain(BlobInbox(settings), submitter, limit=10, seconds=10) == {"poison": 1}
    newest = submitter.messages.list(source=BlobInbox(settings).name, state="poison", limit=1)[0]
    assert (newest.error_code, newest.deliveries) == ("UNSAFE_PATH", 2)
    assert len(submitter.messages.errors(message_id=newest.message_id)) == 1


def test_a_message_that_is_given_back_keeps_its_record(settings, submitter, inbox, monkeypatch):
    import psycopg

    (inbox / "inbox" / f"{'ж' * 120}.json").write_text(json.dumps(hello()))

    def away(*_, **__):
        raise psycopg.OperationalError

    with monkeypatch.context() as m:
        m.setattr(submitter.jobs, "submit", away)  # recorded, and then the database goes away
        with pytest.raises(psycopg.OperationalError):
            drain(BlobInbox(settings), submitter, limit=10, seconds=10)
    before = {r.message_id for r in submitter.messages.list(source=BlobInbox(settings).name, state="received")}
    assert drain(BlobInbox(settings), submitter, limit=10, seconds=10) == {"accepted": 1}
    after = {r.message_id for r in submitter.messages.list(source=BlobInbox(settings).name, state="received")}
    assert len(before - after) == 1


def test_a_message_that_meets_a_fault_of_ours_holds_up_no_other_and_is_poison_after_a_few_tries(
    settings, submitter, inbox, monkeypatch
):
    (inbox / "inbox" / "a.json").write_text(json.dumps(hello(message="breaks")))
    (inbox / "inbox" / "b.json").write_text(json.dumps(hello()))
    real = submitter.submit

    def submit(parameters, **options):
        if getattr(parameters, "message", "") == "breaks":
            raise KeyError("a fault of ours")
        return real(parameters, **options)

    monkeypatch.setattr(submitter, "submit", submit)
    counts = [drain(BlobInbox(settings), submitter, limit=10, seconds=10) for _ in range(6)]
    assert counts == [{"accepted": 1, "to be tried again": 1}, *[{"to be tried again": 1}] * 3, {"poison": 1}, {}]
    newest = submitter.messages.list(source=BlobInbox(settings).name, state="poison", limit=1)[0]
    assert (newest.error_code, newest.deliveries) == ("INTERNAL", 5)
    assert len(submitter.messages.errors(message_id=newest.message_id)) == 5


def test_an_outage_does_not_make_a_good_message_poison_however_often_it_was_delivered(
    settings, submitter, inbox, monkeypatch
):
    import psycopg

    (inbox / "inbox" / "a.json").write_text(json.dumps(hello()))

    def failing(error):
        def submit(*_, **__):
            raise error

        return submit

    with monkeypatch.context() as m:
        for away in (
            psycopg.OperationalError("the database is away"),
            GeoAssetsError("STORAGE_UNAVAILABLE", "the store is away"),
        ) * 4:
            m.setattr(submitter, "submit", failing(away))
            with pytest.raises(type(away)):
                drain(BlobInbox(settings), submitter, limit=10, seconds=10)
        m.setattr(submitter, "submit", failing(KeyError("a fault of ours")))
        assert drain(BlobInbox(settings), submitter, limit=10, seconds=10) == {"to be tried again": 1}
    assert drain(BlobInbox(settings), submitter, limit=10, seconds=10) == {"accepted": 1}
    newest = submitter.messages.list(source=BlobInbox(settings).name, limit=1)[0]
    assert (newest.state, newest.deliveries) == ("accepted", 10)


def test_two_drains_at_once_take_each_manifest_once(settings, inbox):
    from concurrent.futures import ThreadPoolExecutor

    for i in range(30):
        (inbox / "inbox" / f"{i}.json").write_text(json.dumps(hello()))

    def run(_):
        with Submitter(settings, launches=False) as submitter:
            return drain(BlobInbox(settings), submitter, limit=100, seconds=20)["accepted"]

    with ThreadPoolExecutor(3) as pool:
        assert sum(pool.map(run, range(3))) == 30


@pytest.fixture
def impatient(monkeypatch):
    """Nobody waits ten seconds for a database that is away."""
    monkeypatch.setattr(connections, "_ANSWER_SECONDS", 0.5)


def test_while_the_database_is_away_a_manifest_stays_in_the_inbox(settings, inbox, impatient):
    (inbox / "inbox" / "bad.json").write_text("{")
    away = settings.model_copy(update={"pg_port": free_port()})
    with pytest.raises(GeoAssetsError) as caught:
        Submitter(away)
    assert caught.value.code == "STACK_NOT_RUNNING"
    assert names(inbox / "inbox") == ["bad.json"]


@pytest.mark.slow
def test_an_inbox_that_is_away_opens_its_circuit_and_says_so(settings, submitter):
    nobody = "DefaultEndpointsProtocol=http;AccountName=a;AccountKey=a2V5;QueueEndpoint=http://127.0.0.1:9/a;"
    broken = settings.model_copy(update={"queue_connection_string": type(settings.pipeline_password)(nobody)})
    said = [drain_inboxes(broken, submitter, limit=1, seconds=1)[-1] for _ in range(4)]
    assert "queue" in said[0]
    assert "tried again" in said[-1]
    assert submitter.circuits.states()["queue"] == "open"


# -- the Azure queue, against Azurite ----------------------------------------------------------------------------------


@pytest.fixture
def queue(settings, azurite):
    from azure.storage.queue import QueueClient

    name = f"jobs-{time.monotonic_ns()}"
    configured = settings.model_copy(
        update={
            "queue_connection_string": type(settings.pipeline_password)(azurite.account().connection),
            "queue_name": name,
        }
    )
    QueueInbox(configured).ensure()
    return configured, QueueClient.from_connection_string(
        azurite.account().connection, name, message_encode_policy=None, message_decode_policy=None
    )


def test_what_waits_in_a_queue_is_told_and_nothing_is_taken(queue):
    settings, client = queue
    assert waiting(settings)["queue"] == (0, 0)
    for _ in range(3):
        client.send_message(json.dumps(hello()))
    time.sleep(1.1)  # the service's clock has seconds
    count, oldest = waiting(settings)["queue"]
    assert count == 3
    assert 1 <= oldest < 60
    assert len(list(QueueInbox(settings).receive(10))) == 3


def test_an_inbox_that_does_not_answer_is_left_out_of_what_waits(queue, inbox):
    settings, _ = queue
    away = (
        f"DefaultEndpointsProtocol=http;AccountName=a;AccountKey=YQ==;QueueEndpoint=http://127.0.0.1:{free_port()}/a;"
    )
    changed = settings.model_copy(update={"queue_connection_string": type(settings.pipeline_password)(away)})
    assert waiting(changed) == {"blob inbox": (0, 0)}


def test_queue_messages_plain_and_base64_become_jobs_and_bad_ones_poison_with_a_record(submitter, queue):
    import base64

    settings, client = queue
    client.send_message(json.dumps(hello()))
    client.send_message(base64.b64encode(json.dumps(hello()).encode()).decode())
    client.send_message('{"job_type": ')
    client.send_message("not json at all")
    inbox = QueueInbox(settings)
    assert drain(inbox, submitter, limit=32, seconds=20) == {"accepted": 2, "poison": 2}
    assert client.get_queue_properties().approximate_message_count == 0
    assert inbox.poisoned() == 2
    records = submitter.messages.list(state="poison", source=inbox.name)
    assert len(records) == 2
    assert all(submitter.messages.errors(message_id=r.message_id) for r in records)


def test_while_the_database_is_away_nothing_is_dequeued_and_poison_stays_empty(submitter, queue, impatient):
    settings, client = queue
    for _ in range(3):
        client.send_message("{")
    with pytest.raises(GeoAssetsError):
        Submitter(settings.model_copy(update={"pg_port": free_port()}))
    inbox = QueueInbox(settings)
    assert inbox.poisoned() == 0
    assert {m.dequeue_count for m in client.peek_messages(10)} <= {0, None}
    assert drain(inbox, submitter, limit=10, seconds=10) == {"poison": 3}


def test_a_database_that_goes_away_in_mid_message_gives_it_back(submitter, queue, monkeypatch):
    import psycopg

    settings, client = queue
    client.send_message(json.dumps(hello()))

    def away(_):
        raise psycopg.OperationalError

    inbox = QueueInbox(settings)
    with monkeypatch.context() as m:
        m.setattr(submitter.messages, "record", away)
        with pytest.raises(psycopg.OperationalError):
            drain(inbox, submitter, limit=1, seconds=10)
    deadline = time.monotonic() + 20
    done = {}
    while not done and time.monotonic() < deadline:
        done = drain(inbox, submitter, limit=1, seconds=5)
        time.sleep(0.5)
    assert done == {"accepted": 1}


def test_a_message_that_waits_long_for_its_turn_is_kept_in_hand(submitter, queue, monkeypatch):
    from geo_assets.submissions.inboxes import queue as queue_inbox

    settings, client = queue
    client.send_message(json.dumps(hello()))
    monkeypatch.setattr(queue_inbox, "_VISIBILITY_SECONDS", 2)
    (delivery,) = QueueInbox(settings).receive(1)
    for _ in range(4):
        time.sleep(1.2)
        delivery.keep()
        assert list(QueueInbox(settings).receive(1)) == []
    delivery.done()
    assert client.get_queue_properties().approximate_message_count == 0


@pytest.mark.parametrize("point", ["inbox.handled", "inbox.finished"])
@pytest.mark.parametrize("kind", ["good", "bad"])
def test_a_process_killed_between_the_record_and_the_queue_loses_and_doubles_nothing(submitter, queue, point, kind):
    settings, client = queue
    body = hello(message=f"{point} {kind}")
    client.send_message(json.dumps(body) if kind == "good" else "{")
    program = f"""
from geo_assets.settings import Settings
from geo_assets.submissions.inboxes import queue
from geo_assets.submissions.inboxes import blobs
from geo_assets.submissions.inboxes.base import drain
from geo_assets.submissions.submit import Submitter
queue._VISIBILITY_SECONDS = 2
settings = Settings(home={str(settings.home)!r}, pg_port={settings.pg_port}, pg_database={settings.pg_database!r},
                    pipeline_password="p",
                    queue_connection_string={settings.queue_connection_string.get_secret_value()!r}, queue_name={settings.queue_name!r})
with Submitter(settings, launches=False) as submitter:
    drain(queue.QueueInbox(settings), submitter, limit=1, seconds=10)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], env={"GEO_ASSETS_CRASH": point, "PATH": "/usr/bin:/bin"}, check=False
    )
    assert done.returncode == -9
    inbox, deadline = QueueInbox(settings), time.monotonic() + 10
    while client.get_queue_properties().approximate_message_count and time.monotonic() < deadline:
        drain(inbox, submitter, limit=1, seconds=5)
        time.sleep(0.3)
    (record,) = submitter.messages.list(source=inbox.name)
    assert record.state == ("accepted" if kind == "good" else "poison")
    if kind == "good":
        assert submitter.jobs.life(record.job_id).attempt == 1
    else:
        assert len(submitter.messages.errors(message_id=record.message_id)) == 1
        assert inbox.poisoned() >= 1


def test_names_of_any_length_that_azure_takes_are_each_handled(settings, submitter, azurite):
    from azure.storage.blob import BlobServiceClient

    from geo_assets.accounts import AzureAccount

    account = azurite.account()
    client = BlobServiceClient.from_connection_string(account.connection).create_container(
        f"inbox-{time.monotonic_ns()}"
    )
    given = {name: getattr(settings, name) for name in settings.model_fields_set}
    accounts = {"azure": AzureAccount.model_validate(account.settings)}
    azure = type(settings)(
        **{**given, "accounts": accounts, "inbox_account": "azure", "inbox_container": client.container_name}
    )
    long = ["m" * 1018, "ж" * 1018, "图" * 1018, "🌍" * 500, "a/b/" * 250 + "c.json", "short.json"]
    for _ in range(2):
        for name in long:
            client.upload_blob(f"inbox/{name}", json.dumps(hello()))
        assert drain(BlobInbox(azure), submitter, limit=100, seconds=60) == {"accepted": len(long)}
    client.upload_blob(f"inbox/{long[0]}", "{")
    assert drain(BlobInbox(azure), submitter, limit=100, seconds=60) == {"poison": 1}
    folders = Counter(blob.name.partition("/")[0] for blob in client.list_blobs())
    assert folders == {"done": 2 * len(long), "poison": 1}


def test_a_bad_message_leaves_the_queue_also_where_both_queues_had_to_be_made(settings, submitter, azurite):
    from azure.storage.queue import QueueClient

    name = f"fresh-{time.monotonic_ns()}"
    connection = azurite.account().connection
    configured = settings.model_copy(
        update={"queue_connection_string": type(settings.pipeline_password)(connection), "queue_name": name}
    )
    assert QueueInbox(configured).missing() == [name, f"{name}-poison"]
    assert drain(QueueInbox(configured), submitter, limit=1, seconds=5) == {}
    client, poison = (QueueClient.from_connection_string(connection, n) for n in (name, f"{name}-poison"))
    assert QueueInbox(configured).missing() == [f"{name}-poison"]
    client.send_message("{")
    assert drain(QueueInbox(configured), submitter, limit=1, seconds=5) == {"poison": 1}
    assert client.get_queue_properties().approximate_message_count == 0
    assert poison.get_queue_properties().approximate_message_count == 1
    assert QueueInbox(configured).ensure() == []


def test_an_inbox_whose_store_is_away_is_said_to_be_and_stops_nothing_else(settings, submitter):
    away = {"kind": "azure", "account_name": "away", "account_key": "a2V5", "endpoint": "http://127.0.0.1:9/away"}
    broken = type(settings).model_validate(
        {**settings.model_dump(), "accounts": {"away": away}, "inbox_account": "away"}
    )
    (said,) = drain_inboxes(broken, submitter, limit=1, seconds=1)
    assert "does not answer" in said
