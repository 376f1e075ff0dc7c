"""Answers that only a real account gives, from a server on loopback: the emulator has no archive tier, and pages of
5,000.
"""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from geo_assets.accounts import AzureAccount
from geo_assets.errors import ErrorClass, GeoAssetsError
from geo_assets.settings import Settings
from geo_assets.storage import containers
from geo_assets.storage.containers import Container
from geo_assets.submissions.inboxes.queue import QueueInbox

_PAGE = 2


class Answers(BaseHTTPRequestHandler):
    """Lists `names`, a few at a time; a blob is two bytes, or the conflict that `conflicts` has for it. `missing` is
    not there.
    """

    protocol_version = "HTTP/1.1"
    server: "Store"

    def do_GET(self):
        url = urlsplit(self.path)
        query = parse_qs(url.query)
        if missing := self.server.missing.get(unquote(url.path).rpartition("/")[2]):
            return self._refuse(404, missing)
        if query.get("comp") == ["list"]:
            return self._answer(200, self._listing(query.get("prefix", [""])[0], int(query.get("marker", ["0"])[0])))
        code = self.server.conflicts.get(unquote(url.path).rpartition("/")[2])
        if code is None:
            return self._answer(200, b"II", **{"ETag": '"1"', "Last-Modified": "Thu, 26 Nov 2026 00:00:00 GMT"})
        return self._refuse(409, code)

    def do_PUT(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self._refuse(409, self.server.conflicts[unquote(urlsplit(self.path).path).rpartition("/")[2]])

    def _refuse(self, status, code):
        body = f'<?xml version="1.0"?><Error>{code and f"<Code>{code}</Code>"}<Message>No.</Message></Error>'.encode()
        self._answer(status, body, **{"Content-Type": "application/xml"})

    def _listing(self, prefix, start):
        names = [n for n in self.server.names if n.startswith(prefix)]
        blobs = "".join(
            f"<Blob><Name>{n}</Name><Properties><Last-Modified>Thu, 26 Nov 2026 00:00:00"
            " GMT</Last-Modified><Etag>0x1</Etag>"
            "<Content-Length>2</Content-Length><Content-Type>a/b</Content-Type><BlobType>BlockBlob</BlobType></Properties></Blob>"
            for n in names[start : start + _PAGE]
        )
        more = start + _PAGE if start + _PAGE < len(names) else ""
        return (
            '<?xml version="1.0" encoding="utf-8"?><EnumerationResults ServiceEndpoint="http://127.0.0.1/"'
            f' ContainerName="landing"><Blobs>{blobs}</Blobs><NextMarker>{more}</NextMarker></EnumerationResults>'
        ).encode()

    def _answer(self, status, body, **headers):
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), "Content-Type": "application/xml", **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Store(ThreadingHTTPServer):
    """A store: its blobs, and the codes of its refusals."""

    names: list[str]
    conflicts: dict[str, str | None]
    missing: dict[str, str]


@pytest.fixture
def server():
    server = Store(("127.0.0.1", 0), Answers)
    server.daemon_threads = True
    server.names, server.conflicts, server.missing = [], {}, {}
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def container(server, monkeypatch):
    monkeypatch.setattr(containers, "LIST_PAGE", _PAGE)
    endpoint = f"http://127.0.0.1:{server.server_port}/surveydata"
    return Container(
        "azure", "landing", AzureAccount(kind="azure", account_name="surveydata", account_key="a2V5", endpoint=endpoint)
    )


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("BlobArchived", "SOURCE_ARCHIVED"),
        ("BlobBeingRehydrated", "SOURCE_ARCHIVED"),
        ("BlobImmutableDueToPolicy", "STORAGE_FORBIDDEN"),
        ("LeaseAlreadyPresent", "INTERNAL"),
        ("ContainerBeingDeleted", "STORAGE_UNAVAILABLE"),
        ("OperationTimedOut", "STORAGE_UNAVAILABLE"),
        ("", "STORAGE_UNAVAILABLE"),
    ],
)
def test_a_conflict_is_told_by_its_code_and_only_those_that_pass_are_waited_for(
    server, container, tmp_path, code, told
):
    server.conflicts["cold.tif"] = code
    with pytest.raises(GeoAssetsError) as caught:
        container.download("cold.tif", tmp_path / "cold.tif", etag='"1"')
    assert caught.value.code == told
    assert "cold.tif" in caught.value.message
    assert (caught.value.error_class is ErrorClass.TRANSIENT) == (told == "STORAGE_UNAVAILABLE")
    assert container.download("warm.tif", tmp_path / "warm.tif")


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("BlobImmutableDueToPolicy", "STORAGE_FORBIDDEN"),
        ("LeaseAlreadyPresent", "INTERNAL"),
        ("ContainerBeingDeleted", "STORAGE_UNAVAILABLE"),
        ("PendingCopyOperation", "STORAGE_UNAVAILABLE"),
        ("", "STORAGE_UNAVAILABLE"),
    ],
)
def test_a_blob_that_cannot_be_moved_is_not_taken_for_one_that_somebody_else_has_moved(server, container, code, told):
    server.conflicts = {"there.json": "BlobAlreadyExists", "b.json": code}
    assert container.move("a.json", "there.json") is False
    with pytest.raises(GeoAssetsError) as caught:
        container.move("a.json", "b.json")
    assert caught.value.code == told


@pytest.mark.parametrize(
    ("code", "told"), [("ContainerAlreadyExists", None), ("ContainerBeingDeleted", "STORAGE_UNAVAILABLE")]
)
def test_a_container_that_is_being_deleted_is_not_taken_for_one_that_was_made(server, container, code, told):
    server.conflicts, server.missing = {"landing": code}, {"landing": "ContainerNotFound"}
    if told is None:
        assert container.ensure()
        return
    with pytest.raises(GeoAssetsError) as caught:
        container.ensure()
    assert caught.value.code == told


def test_a_queue_that_is_being_deleted_is_not_taken_for_one_that_was_made(server, tmp_path):
    server.conflicts, server.missing = (
        {"jobs": "QueueBeingDeleted"},
        dict.fromkeys(("jobs", "jobs-poison"), "QueueNotFound"),
    )
    connection = (
        f"AccountName=surveydata;AccountKey=a2V5;QueueEndpoint=http://127.0.0.1:{server.server_port}/surveydata"
    )
    with pytest.raises(GeoAssetsError, match="QueueBeingDeleted") as caught:
        QueueInbox(Settings(home=tmp_path, queue_connection_string=connection, queue_name="jobs")).ensure()
    assert caught.value.code == "QUEUE_UNAVAILABLE"


@pytest.mark.parametrize("prefix", ["", "d/", "d/n"])
def test_a_refused_name_after_the_first_page_with_a_prefix_that_ends_within_a_name_does_not_end_the_listing(
    server, container, prefix
):
    server.names = ["d/a.tif", "d/b.tif", "d/k//x.tif", "d/m.tif", "d/n1.tif", "d/n2.tif"]
    told = [blob.path for page in container.list(prefix) for blob in page]
    assert told == [name for name in server.names if name.startswith(prefix)]


def test_a_listing_that_has_told_a_name_otherwise_than_it_is_goes_on_after_it(server, container):
    server.names = ["a.tif", "b/", "k//x.tif", "n.tif"]
    assert [blob.path for page in container.list() for blob in page] == ["a.tif", "b", "k//x.tif", "n.tif"]
