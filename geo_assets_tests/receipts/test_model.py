"""A receipt is one JSON document to everybody, and lines to us; one that is not whole is noticed."""

import gzip
import hashlib
import json
import tracemalloc

import pytest

from geo_assets.errors import GeoAssetsError
from geo_assets.receipts.model import ROWS, Head, Stored, lines_of, number_of


def head(**changes):
    values = {
        "written_at": "2026-01-02T03:04:05+00:00",
        "software": {"geo_assets": "1"},
        "status": "completed",
        "job": {"job_id": "a" * 64, "job_type": "ingest_container"},
        "attempts": [],
        "counts": {"cogs": {"succeeded": 2}},
    }
    return Head.model_validate({**values, **changes})


def written(tmp_path, lists, opener=open):
    path = tmp_path / "receipt"
    with opener(path, "wb") as out:
        out.writelines(line.encode() for line in lines_of(head(), lists))
    return path


ODD = [{"task_key": "ü ]}\n],\n"}, {"task_key": '"tasks": ['}]


@pytest.mark.parametrize("opener", [open, gzip.open])
def test_a_receipt_is_one_json_document_and_is_read_by_lines(tmp_path, opener):
    lists = [("tasks", [json.dumps(record) for record in ODD]), ("published", []), ("later", ['{"x": 1}'])]
    path = written(tmp_path, lists, opener)
    with opener(path, "rb") as file:
        document = json.loads(file.read())
    assert document["tasks"] == ODD
    assert document["receipt"]["job"]["job_id"] == "a" * 64
    stored = Stored(path, "default/cogs/x")
    assert stored.head == head()
    assert [list(stored.records(name)) for name in ("tasks", "published", "later", "unknown")] == [
        ODD, [], [{"x": 1}], [],
    ]  # fmt: skip


@pytest.mark.parametrize("opener", [open, gzip.open])
def test_a_receipt_that_is_cut_off_is_not_read_as_a_shorter_one(tmp_path, opener):
    lists = [("tasks", (json.dumps({"task_key": str(n), "more": "x" * 200}) for n in range(300)))]
    path = written(tmp_path, lists, opener)
    data = path.read_bytes()
    for share in (0.2, 0.5, 0.99):
        path.write_bytes(data[: int(len(data) * share)])
        with pytest.raises(GeoAssetsError) as refused:
            list(Stored(path, "x").records("tasks"))
        assert refused.value.code == "RECEIPT_UNREADABLE"


@pytest.mark.parametrize(
    "text",
    ["", "{}", '{"receipt": {"version": 2}}', '{"receipt": {"version": 1}}', '{"receipt": 1}', "PK\x03\x04", "[1]"],
)
def test_what_is_no_receipt_is_called_damaged(tmp_path, text):
    path = tmp_path / "receipt"
    path.write_text(text)
    with pytest.raises(GeoAssetsError, match="it is damaged") as refused:
        Stored(path, "x")
    assert refused.value.code == "RECEIPT_UNREADABLE"


def test_of_a_receipt_of_another_version_it_is_said_which_release_reads_it(tmp_path):
    path = written(tmp_path, [("tasks", [])])
    path.write_text(path.read_text().replace('"version": 1', '"version": 2').replace('"1"', '"9.8"'))
    with pytest.raises(GeoAssetsError, match=r"is of geo_assets 9\.8, in version 2") as refused:
        Stored(path, "x")
    assert refused.value.code == "RECEIPT_OF_NEWER_RELEASE"


def test_a_receipt_of_100_000_tasks_is_written_and_read_in_little_memory(tmp_path):
    record = json.dumps({"task_key": "x" * 40, "outputs": {"cog": "y" * 100}})
    tracemalloc.start()
    path = written(tmp_path, [(name, (record for _ in range(100_000))) for name in ROWS[:1]], gzip.open)
    assert sum(1 for _ in Stored(path, "x").records("tasks")) == 100_000
    assert tracemalloc.get_traced_memory()[1] < 10e6
    tracemalloc.stop()


def test_the_number_of_a_receipt_is_in_its_name():
    assert number_of("000012-0123456789ab.json") == 12
    assert number_of("1000000-0123456789ab.json.gz") == 1_000_000
    assert [number_of(name) for name in ("12.json", "000012-0123456789ab.json#1", "x")] == [None, None, None]


@pytest.mark.parametrize("opener", [open, gzip.open])
def test_a_receipt_with_one_flipped_bit_is_not_what_was_written(tmp_path, opener):
    lists = [("tasks", (json.dumps({"task_key": str(n), "more": "x" * 200}) for n in range(300)))]
    path = written(tmp_path, lists, opener)
    data = path.read_bytes()
    with opener(path, "rb") as file:
        digest = hashlib.sha256(file.read()).hexdigest()
    label = f"default/cogs/_receipts/a/000001-{digest[:12]}.json"
    Stored(path, label).check()
    for at in range(40, len(data), max(1, len(data) // 40)):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        with pytest.raises(GeoAssetsError) as refused:
            Stored(path, label).check()
        assert refused.value.code == "RECEIPT_UNREADABLE"
