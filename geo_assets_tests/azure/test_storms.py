"""An account that is overloaded, and blobs that are written while they are read."""

import contextlib
import threading
import time

import pytest
from azure.storage.blob import ContainerClient

from geo_assets.accounts import AzureAccount
from geo_assets.errors import GeoAssetsError
from geo_assets.stages.patience import StoragePatience
from geo_assets.storage import azure
from geo_assets.storage.azure_blocks import LARGE
from geo_assets.storage.containers import Container
from geo_assets_tests.azure.test_large_blobs import patterned
from geo_assets_tests.storms import before, later

pytestmark = pytest.mark.azure

MIB = 1024 * 1024


@pytest.fixture
def storms(azurite):
    with before(azurite.account().blob_endpoint) as storms:
        yield storms


@pytest.fixture
def told():
    """What the patience reported."""
    return []


@pytest.fixture
def fresh(azurite, storms, told):
    """A container that was just made, behind the proxy, and is waited for."""
    account = AzureAccount.model_validate(azurite.account().settings | {"endpoint": storms.endpoint})
    patience = StoragePatience(lambda _: contextlib.nullcontext(), seconds=120, keep=lambda: True, tell=told.append)
    container = Container("azure", f"storm-{time.monotonic_ns()}", account, patience=patience)
    assert container.ensure()
    return container


@pytest.fixture
def sdk(azurite, fresh):
    return ContainerClient.from_connection_string(azurite.account().connection, fresh.name)


@pytest.mark.parametrize(("status", "code"), [(503, "ServerBusy"), (429, "TooManyRequests"), (500, "InternalError")])
def test_a_short_storm_is_outlasted_by_the_transport_and_nobody_hears_of_it(
    fresh, storms, told, tmp_path, status, code
):
    (tmp_path / "a").write_bytes(b"x" * MIB)
    storm = storms.begin(status, code, Retry_After="1")
    later(0.5, storms.end)
    fresh.upload(tmp_path / "a", "a")
    assert storm.refused
    assert not told
    fresh.download("a", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == b"x" * MIB


def test_where_the_transport_gives_up_the_patience_goes_on_until_the_storm_is_over(fresh, storms, told, tmp_path):
    (tmp_path / "a").write_bytes(b"x" * MIB)
    fresh.upload(tmp_path / "a", "a")
    storm = storms.begin(503, Retry_After="3")
    later(20, storms.end)
    begun = time.monotonic()
    fresh.download("a", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == b"x" * MIB
    assert [error.code for error in told] == ["STORAGE_UNAVAILABLE"]
    assert time.monotonic() - begun < 20 + 15
    assert len(storm.refused) < 60  # it is not beaten


def test_an_upload_in_blocks_leaves_the_store_alone_for_as_long_as_it_says(fresh, storms, told, tmp_path, monkeypatch):
    monkeypatch.setitem(azure._CLIENT, "retry_total", 0)  # the SDK's own tries would take its own pauses
    source = patterned(tmp_path / "big", LARGE)
    storm = storms.begin(503, methods=("PUT",), Retry_After="6")
    done = threading.Thread(target=fresh.upload, args=(source, "big"), daemon=True)
    done.start()
    deadline = time.monotonic() + 30
    while not told:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert told[0].retry_after == 6
    first = len(storm.refused)
    time.sleep(4.5)
    assert len(storm.refused) == first
    storms.end()
    done.join(60)
    assert not done.is_alive()
    fresh.download("big", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == source.read_bytes()


def test_a_blob_that_is_written_anew_while_it_is_read_is_either_whole_or_said_to_have_changed(
    fresh, storms, sdk, tmp_path
):
    """The first bytes are on their way when it is replaced: what arrives is never of both."""
    first, second = patterned(tmp_path / "first", 96 * MIB), b"second" * MIB
    fresh.upload(first, "big")
    etag, replaced = fresh.head("big").etag, threading.Event()

    def replace(path, _):
        if "/big" in path and not replaced.is_set():
            replaced.set()
            sdk.upload_blob("big", second, overwrite=True)

    storms.sent = replace
    changed = False
    try:
        fresh.download("big", tmp_path / "back", etag=etag)
    except GeoAssetsError as error:
        changed = error.code == "INPUT_CHANGED"
    assert changed or (tmp_path / "back").read_bytes() == first.read_bytes()
    assert replaced.is_set()
    with pytest.raises(GeoAssetsError) as caught:
        fresh.download("big", tmp_path / "back", etag=etag)
    assert caught.value.code == "INPUT_CHANGED"
    fresh.download("big", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == second


@pytest.mark.parametrize(
    ("meanwhile", "code"),
    [
        ("nothing", None),
        ("written anew", "INPUT_CHANGED"),
        ("deleted", "INPUT_CHANGED"),  # Azurite looks at the condition first
    ],
)
def test_a_download_that_was_cut_goes_on_with_the_same_blob_or_says_what_became_of_it(
    fresh, storms, sdk, tmp_path, meanwhile, code
):
    first, left = patterned(tmp_path / "first", 48 * MIB), [16 * MIB]
    fresh.upload(first, "big")
    etag = fresh.head("big").etag
    befall = {
        "nothing": lambda: None,
        "written anew": lambda: sdk.upload_blob("big", b"second" * 8 * MIB, overwrite=True),
        "deleted": lambda: sdk.delete_blob("big"),
    }[meanwhile]

    def cut(path, count):
        if "/big" in path and left:
            left[0] -= count
            if left[0] <= 0:
                left.clear()
                befall()
                raise ConnectionAbortedError

    storms.sent = cut
    if code is None:
        fresh.download("big", tmp_path / "back", etag=etag)
        assert (tmp_path / "back").read_bytes() == first.read_bytes()
    else:
        with pytest.raises(GeoAssetsError) as caught:
            fresh.download("big", tmp_path / "back", etag=etag)
        assert caught.value.code == code
    assert not left
