"""Answers that only a real account gives, from a server on loopback: the emulators have no archive tier, one region and
pages of 5,000.
"""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

import jwt
import pytest
import rasterio
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from geo_assets import extras
from geo_assets.accounts import Account, AzureAccount, GcsAccount, S3Account
from geo_assets.errors import ErrorClass, GeoAssetsError
from geo_assets.settings import Settings
from geo_assets.storage import containers, gcs
from geo_assets.storage.containers import Container
from geo_assets.submissions.inboxes.queue import QueueInbox

_PAGE = 2


class Answers(BaseHTTPRequestHandler):
    """Lists `names`, a few at a time; a blob is two bytes, or the conflict that `conflicts` has for it. `missing` is
    not there.
    """

    protocol_version = "HTTP/1.1"
    server: "Store"

    def do_HEAD(self):
        code = self.server.conflicts.get(unquote(urlsplit(self.path).path).rpartition("/")[2])
        status = code[0] if isinstance(code, tuple) else 403
        self._answer(status, b"", **{"x-amz-bucket-region": "eu-west-3"})

    def do_GET(self):
        self.server.asked.append((self.path, dict(self.headers)))
        url = urlsplit(self.path)
        query = parse_qs(url.query)
        if missing := self.server.missing.get(unquote(url.path).rpartition("/")[2]):
            return self._refuse(404, missing)
        if isinstance(code := self.server.conflicts.get("list"), tuple) and "list" in url.query:
            return self._answer(code[0], code[1].encode())
        if query.get("comp") == ["list"]:
            return self._answer(200, self._listing(query.get("prefix", [""])[0], int(query.get("marker", ["0"])[0])))
        code = self.server.conflicts.get(unquote(url.path).rpartition("/")[2])
        if isinstance(code, tuple):
            status, body = code
            return self._answer(status, body.encode())
        if code is None:
            return self._answer(200, b"II", **{"ETag": '"1"', "Last-Modified": "Thu, 26 Nov 2026 00:00:00 GMT"})
        return self._refuse(409, code)

    def do_POST(self):
        self.server.asked.append((self.path, dict(self.headers)))
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(200, b'{"access_token": "OURS", "token_type": "Bearer", "expires_in": 3600}')

    def do_PUT(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        code = self.server.conflicts[unquote(urlsplit(self.path).path).rpartition("/")[2]]
        if isinstance(code, tuple):
            status, body = code
            self._answer(status, body.encode())
        else:
            self._refuse(409, code)

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
    conflicts: dict[str, str | tuple[int, str] | None]
    missing: dict[str, str]
    asked: list[tuple[str, dict[str, str]]]


@pytest.fixture
def server():
    server = Store(("127.0.0.1", 0), Answers)
    server.daemon_threads = True
    server.names, server.conflicts, server.missing, server.asked = [], {}, {}, []
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


def code_of(ask) -> GeoAssetsError:
    with pytest.raises(GeoAssetsError) as caught:
        ask()
    return caught.value


@pytest.fixture(scope="module")
def service_key():
    key = rsa.generate_private_key(65537, 2048)
    coding = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    told = {"type": "service_account", "client_email": "geo@example.iam", "private_key_id": "1"}
    return key.public_key(), json.dumps(told | {"private_key": key.private_bytes(*coding).decode()})


@pytest.fixture
def accounts(server, service_key) -> dict[str, Account]:
    """An account of each kind that has a key, all at one server."""
    here = f"http://127.0.0.1:{server.server_port}"
    return {
        "azure": AzureAccount(
            kind="azure", account_name="surveydata", account_key="a2V5", endpoint=f"{here}/surveydata"
        ),
        "sas": AzureAccount(
            kind="azure", account_name="surveydata", sas_token="?sv=1&sig=ours%3D", endpoint=f"{here}/surveydata"
        ),
        "s3": S3Account(kind="s3", access_key_id="OURS", secret_access_key="b", endpoint=here),
        "gcs": GcsAccount(kind="gcs", service_account_key=service_key[1], endpoint=here),
    }


#: What the clients take from the environment of a machine on which somebody works with another account.
FOREIGN = {
    "AWS_ACCESS_KEY_ID": "FOREIGN",
    "AWS_SECRET_ACCESS_KEY": "FOREIGN",
    "AWS_SESSION_TOKEN": "FOREIGN",
    "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
    "AWS_SKIP_SIGNATURE": "true",
    "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "true",
    "AZURE_STORAGE_TOKEN": "FOREIGN",
    "AZURE_STORAGE_ACCOUNT_KEY": "Rk9SRUlHTg==",
    "AZURE_STORAGE_SAS_TOKEN": "sv=1&sig=FOREIGN",
    "AZURE_STORAGE_ENDPOINT": "http://127.0.0.1:9",
    "AZURE_SKIP_SIGNATURE": "true",
    "GOOGLE_BEARER_TOKEN": "FOREIGN",
    "GOOGLE_SKIP_SIGNATURE": "true",
}


@pytest.mark.parametrize("kind", ["azure", "sas", "s3", "gcs"])
def test_a_configured_key_stands_alone_whatever_the_environment_holds(
    server, accounts, service_key, tmp_path, monkeypatch, kind
):
    for name, value in FOREIGN.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT_KEY", service_key[1].replace("geo@", "FOREIGN@"))
    Container(kind, "landing", accounts[kind]).download("a.tif", tmp_path / "a.tif")
    ((path, headers),) = server.asked
    said = {name.lower(): value for name, value in headers.items()}
    assert "FOREIGN" not in path + str(said)
    assert "x-amz-security-token" not in said
    if kind == "gcs":
        token = jwt.decode(said["authorization"].removeprefix("Bearer "), service_key[0], ["RS256"])
        assert token["iss"] == "geo@example.iam"
        return
    begins = {"azure": "SharedKey surveydata:", "s3": "AWS4-HMAC-SHA256 Credential=OURS/", "sas": ""}[kind]
    assert said.get("authorization", "").startswith(begins)
    assert ("sig=ours%3D" in path) == (kind == "sas")


def test_gdal_asks_google_for_a_token_of_the_accounts_key_and_takes_nothing_of_the_environment(
    server, accounts, monkeypatch
):
    for name in ("GS_ACCESS_KEY_ID", "GS_SECRET_ACCESS_KEY", "GS_OAUTH2_REFRESH_TOKEN"):
        monkeypatch.setenv(name, "FOREIGN")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nonexistent")
    path, options = gcs.gdal(accounts["gcs"], "landing", "a.tif")
    with (
        rasterio.Env(**options, GO2A_AUD=f"http://127.0.0.1:{server.server_port}/token"),
        pytest.raises(rasterio.RasterioIOError),  # there is no such raster
    ):
        rasterio.open(path)
    (token, _), *others = server.asked
    assert token == "/token"
    assert others
    assert {headers["Authorization"] for _, headers in others} == {"Bearer OURS"}


@pytest.mark.parametrize("kind", ["azure", "s3", "gcs"])
@pytest.mark.parametrize(
    ("status", "code", "told"),
    [
        (400, "ExpiredToken", "STORAGE_FORBIDDEN"),
        (400, "InvalidAuthenticationInfo", "STORAGE_FORBIDDEN"),
        (403, "AccessDenied", "STORAGE_FORBIDDEN"),
        (403, "InvalidObjectState", "SOURCE_ARCHIVED"),
        (400, "KeyTooLongError", "UNSAFE_PATH"),
        (400, "InvalidUri", "UNSAFE_PATH"),
        (409, "ConditionalRequestConflict", "STORAGE_UNAVAILABLE"),
        (409, "OperationAborted", "STORAGE_UNAVAILABLE"),
        (400, "RequestTimeout", "STORAGE_UNAVAILABLE"),
        (503, "SlowDown", "STORAGE_UNAVAILABLE"),
        (429, "", "STORAGE_UNAVAILABLE"),
        (400, "InvalidArgument", "INTERNAL"),
    ],
)
def test_what_a_service_answers_has_the_same_meaning_wherever_it_is_asked(
    server, accounts, tmp_path, kind, status, code, told
):
    server.conflicts["a.tif"] = (status, f"<Error>{code and f'<Code>{code}</Code>'}</Error>")
    container = Container(kind, "landing", accounts[kind], hasty=True)
    (tmp_path / "a.tif").write_bytes(b"II")
    for ask in (
        lambda: container.download("a.tif", tmp_path / "back"),
        lambda: container.upload(tmp_path / "a.tif", "a.tif"),
    ):
        error = code_of(ask)
        assert error.code == told
        assert "landing/a.tif" in error.message


@pytest.mark.parametrize("kind", ["azure", "s3", "gcs"])
def test_the_reason_of_a_refusal_without_a_body_is_found(server, accounts, kind):
    refused = (400, "<Error><Code>ExpiredToken</Code></Error>")
    server.conflicts = {"a.tif": refused, "list": refused}
    assert code_of(lambda: Container(kind, "landing", accounts[kind]).head("a.tif")).code == "STORAGE_FORBIDDEN"


def test_without_the_extra_a_listing_that_needs_it_says_how_it_is_installed(accounts, monkeypatch):
    monkeypatch.setattr(extras, "find_spec", lambda _: None)
    error = code_of(lambda: list(Container("s3", "landing", accounts["s3"]).list(exact=True)))
    assert error.code == "EXTRA_NOT_INSTALLED"
    assert error.message == "listing names as a//b, /a or a/: the package boto3 is not installed"
    assert "geo_assets[s3]" in error.remedy


@pytest.mark.parametrize(
    ("status", "body", "region"),
    [
        (301, "<Error><Code>PermanentRedirect</Code><Endpoint>b.s3.amazonaws.com</Endpoint></Error>", "eu-west-3"),
        (400, "<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-west-1</Region></Error>", "eu-west-1"),
        (400, "<Error><Code>AuthorizationHeaderMalformed</Code></Error>", "eu-west-3"),
    ],
)
def test_a_bucket_of_another_region_is_a_setting_to_be_corrected_to_the_region_that_is_told(
    server, accounts, tmp_path, status, body, region
):
    server.conflicts["a.tif"] = (status, body)
    error = code_of(lambda: Container("lake", "landing", accounts["s3"]).download("a.tif", tmp_path / "a.tif"))
    assert error.code == "INVALID_SETTINGS"
    assert f"lake.region: the bucket of lake/landing is in the region {region}" in error.message
    assert f'"region": "{region}"' in error.remedy


@pytest.mark.parametrize("key", ["no json", "[]", '{"client_email": "a"}'])
def test_what_is_no_key_of_a_service_account_is_refused(key):
    with pytest.raises(ValueError, match="service account"):
        GcsAccount(kind="gcs", service_account_key=key)
