"""Tokens of an identity provider: which are refused, and what is told when the provider itself does not answer."""

import base64
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

pytest.importorskip("tipg")

from geo_assets_tests.serving.test_doors import at

RSA, EC = rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP256R1())
KEYS = [
    {**json.loads(RSAAlgorithm.to_jwk(RSA.public_key())), "kid": "r", "use": "sig"},
    {**json.loads(ECAlgorithm.to_jwk(EC.public_key())), "kid": "e", "use": "sig"},
]


class Provider(BaseHTTPRequestHandler):
    body = b""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_):
        pass


@pytest.fixture
def issuer():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Provider)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Provider.body = json.dumps({"keys": KEYS}).encode()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def asked(ingested, issuer):
    """What is answered to a token, of a service and of the HTTP API."""
    settings = ingested.settings.model_copy(update={"oidc_issuer": issuer, "oidc_audience": "geo"})
    with at(settings, require_auth=True) as client:
        yield lambda token: [
            client.get(path, headers={"Authorization": f"Bearer {token}"}) for path in ("/stac/", "/api/jobs")
        ]


def part(content):
    text = content if isinstance(content, str) else json.dumps(content)
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


def claims(issuer, **more):
    return {"iss": issuer, "aud": "geo", "sub": "bob", "exp": int(time.time()) + 600, "scp": "read", **more}


@pytest.mark.parametrize(("key", "algorithm", "kid"), [(RSA, "RS256", "r"), (EC, "ES256", "e")])
def test_a_token_that_the_provider_signed_opens_both(asked, issuer, key, algorithm, kid):
    token = jwt.encode(claims(issuer), key, algorithm, headers={"kid": kid})
    assert [answer.status_code for answer in asked(token)] == [200, 200]


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "RS256", "kid": "e"},
        {"alg": "ES256", "kid": "r"},
        {"alg": "HS256", "kid": "r"},
        {"alg": "none", "kid": "r"},
        {"alg": ["RS256"], "kid": "r"},
        {"alg": "RS256", "kid": ["r"]},
        "[" * 9000,
        "5",
    ],
)
def test_a_token_that_nobody_signed_is_refused_whatever_its_header_says(asked, issuer, header):
    for answer in asked(f"{part(header)}.{part(claims(issuer))}.{part('x')}"):
        assert answer.status_code == 401, answer.text
        assert answer.headers["www-authenticate"] == "Bearer"


def test_a_scope_that_is_none_gives_no_right(asked, issuer):
    token = jwt.encode(claims(issuer, scp=5), RSA, "RS256", headers={"kid": "r"})
    assert [answer.status_code for answer in asked(token)] == [403, 403]


@pytest.mark.parametrize("body", [b"<html>", b'{"keys":[]}', None])
def test_a_provider_that_does_not_answer_is_no_fault_of_the_token(ingested, issuer, body):
    Provider.body = body or b""
    address = issuer if body else "http://127.0.0.1:1"
    token = jwt.encode(claims(address), RSA, "RS256", headers={"kid": "r"})
    settings = ingested.settings.model_copy(update={"oidc_issuer": address, "oidc_audience": "geo"})
    with at(settings, require_auth=True) as client:
        for path in ("/stac/", "/tiles/", "/features/", "/files/default/cogs/x.tif", "/api/jobs"):
            answer = client.get(path, headers={"Authorization": f"Bearer {token}"})
            assert answer.status_code == 503, answer.text
            assert answer.json()["title"] == "IDENTITY_PROVIDER_UNAVAILABLE"
            assert answer.headers["retry-after"]
