"""The file service: ranges, validators, and nothing outside the published containers."""

import os
from pathlib import Path
from urllib.parse import quote

import pytest

from geo_assets.settings import Settings
from geo_assets_tests.serving.asking import ask

pytest.importorskip("tipg")

from geo_assets.serving.files import Files
from geo_assets.serving.published import Published

BYTES = bytes(range(256)) * 4
SECRET = b"the password is CANARY"


@pytest.fixture
def home(tmp_path):
    for container in ("cogs", "thumbnails", "landing"):
        (tmp_path / "containers" / container / "a b").mkdir(parents=True)
    (tmp_path / "containers/cogs/a b/größe #1?.tif").write_bytes(BYTES)
    (tmp_path / "containers/cogs/empty.tif").write_bytes(b"")
    (tmp_path / "containers/landing/source.tif").write_bytes(SECRET)
    (tmp_path / "stack.env").write_bytes(SECRET)
    return tmp_path


@pytest.fixture
def get(home):
    files = Files(Published(Settings(home=home, _env_file=None)))
    return lambda path, **options: ask(files, f"/files/{path}", root_path="/files", **options)


TIF = "default/cogs/" + quote("a b/größe #1?.tif")


def test_a_file_is_answered_whole_with_its_type_and_validators(get):
    answer = get(TIF)
    assert (answer.status, answer.body) == (200, BYTES)
    assert answer.headers["content-type"] == "image/tiff; application=geotiff; profile=cloud-optimized"
    assert answer.headers["content-length"] == str(len(BYTES))
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["etag"].startswith('"')
    assert get("default/cogs/empty.tif").body == b""


def test_head_tells_what_get_would_without_the_bytes(get):
    whole, head = get(TIF), get(TIF, method="HEAD")
    assert (head.status, head.body) == (200, b"")
    assert head.headers == whole.headers


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [("0-1", 0, 2), ("1000-", 1000, 1024), ("-24", 1000, 1024), ("1000-9999", 1000, 1024), ("-5000", 0, 1024)],
)
def test_a_range_is_answered_with_its_bytes(get, asked, start, end):
    answer = get(TIF, range=f"bytes={asked}")
    assert (answer.status, answer.body) == (206, BYTES[start:end])
    assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/1024"
    assert answer.headers["content-length"] == str(end - start)


def test_several_ranges_are_answered_in_parts(get):
    answer = get(TIF, range="bytes=0-1, 10-11,-2")
    assert answer.status == 206
    assert int(answer.headers["content-length"]) == len(answer.body)
    boundary = answer.headers["content-type"].partition("boundary=")[2].encode()
    parts = answer.body.split(b"--" + boundary)[1:-1]
    assert [part.split(b"\r\n\r\n", 1)[1][:-2] for part in parts] == [BYTES[0:2], BYTES[10:12], BYTES[-2:]]
    assert b"Content-Range: bytes 10-11/1024" in parts[1]


@pytest.mark.parametrize("asked", ["1024-", "2000-3000", "-0", "0-5,3-9", ",".join(f"{n}-{n}" for n in range(17))])
def test_ranges_that_cannot_be_answered_and_abuse_are_refused(get, asked):
    answer = get(TIF, range=f"bytes={asked}")
    assert answer.status == 416
    assert answer.headers["content-range"] == "bytes */1024"


@pytest.mark.parametrize("asked", ["bytes=5-2", "bytes=a-b", "lines=1-2", "bytes", "bytes=--1", f"bytes={'9' * 5000}-"])
def test_a_range_that_is_none_is_ignored(get, asked):
    assert (get(TIF, range=asked).status, get(TIF, range=asked).body) == (200, BYTES)


def test_a_client_that_has_the_file_gets_no_bytes(get):
    whole = get(TIF)
    known = get(TIF, if_none_match=f'"other", {whole.headers["etag"]}')
    assert (known.status, known.body) == (304, b"")
    assert get(TIF, if_modified_since=whole.headers["last-modified"]).status == 304
    assert get(TIF, if_none_match='"other"', if_modified_since=whole.headers["last-modified"]).status == 200


def test_ranges_of_a_file_that_changed_are_answered_with_the_whole_file(get, home):
    etag = get(TIF).headers["etag"]
    assert get(TIF, range="bytes=0-1", if_range=etag).status == 206
    (home / "containers/cogs/a b/größe #1?.tif").write_bytes(BYTES + b"more")
    assert get(TIF, range="bytes=0-1", if_range=etag).status == 200
    assert get(TIF, range="bytes=0-1", if_range=f"W/{etag}").status == 200


OUTSIDE = [
    "../stack.env",
    "default/cogs/../../../stack.env",
    "default/cogs/%2e%2e/%2e%2e/stack.env",
    "default/cogs/..%2f..%2fstack.env",
    "default/cogs/..%5c..%5cstack.env",
    "default/cogs/a%20b/../../landing/source.tif",
    "default/cogs//etc/passwd",
    "default/cogs/%2fetc/passwd",
    "default/cogs//a%20b",
    "/etc/passwd",
    "default/landing/source.tif",
    "default/%63ogs/../landing/source.tif",
    "default/cogs/.",
    "default/cogs/",
    "default/cogs",
    "default",
    "",
    "default/cogs/a%20b",
    "default/cogs/a%20b/x%00.tif",
    "default/cogs/%ff%fe.tif",
    "other/cogs/empty.tif",
    "default//cogs/empty.tif",
]


@pytest.mark.parametrize("path", OUTSIDE)
def test_nothing_outside_the_published_containers_is_answered(get, path):
    answer = get(path)
    assert answer.status == 404
    assert SECRET not in answer.body
    assert b"containers" not in answer.body.replace(b"published container", b"")


def test_receipts_and_uploads_in_progress_are_not_published(get, home):
    cogs = home / "containers/cogs"
    for path in ("_receipts/job/receipt.json", "a b/new.tif#1", "a b/new.tif#23", "a b/_receipts/x.tif"):
        (cogs / path).parent.mkdir(parents=True, exist_ok=True)
        (cogs / path).write_bytes(BYTES)
    for path in ("_receipts/job/receipt.json", "a b/new.tif#1", "a b/new.tif#23"):
        assert get(f"default/cogs/{quote(path)}").status == 404, path
    assert get("default/cogs/a%20b/_receipts/x.tif").status == 200


def test_no_link_is_followed(get, home):
    cogs = home / "containers/cogs"
    (cogs / "link.tif").symlink_to(home / "stack.env")
    (cogs / "folder").symlink_to(home)
    (cogs / "inside.tif").symlink_to(cogs / "empty.tif")
    for path in ("link.tif", "folder/stack.env", "inside.tif"):
        assert get(f"default/cogs/{path}").status == 404


def test_what_is_no_regular_file_keeps_nobody_waiting(get, home):
    os.mkfifo(home / "containers/cogs/pipe.tif")
    assert get("default/cogs/pipe.tif").status == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_nothing_is_changed(get, home, method):
    answer = get(TIF, method=method)
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")
    assert (home / "containers/cogs/a b/größe #1?.tif").read_bytes() == BYTES


def test_open_files_are_closed_again(get):
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(20):
        get(TIF)
        get(TIF, method="HEAD")
        get(TIF, range="bytes=2000-")
        get(TIF, if_none_match="*")
        get("default/cogs/a%20b/")
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 1
