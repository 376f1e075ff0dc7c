"""Containers in Azure, against the emulator: the same as local ones, and what only Azure has."""

import time

import pytest

from geo_assets.accounts import AzureAccount
from geo_assets.errors import GeoAssetsError
from geo_assets.storage.blobs import blob_path
from geo_assets.storage.containers import Container
from geo_assets_tests.storage.test_first_bytes import insist_on_first_bytes


@pytest.fixture
def account(azurite):
    return AzureAccount.model_validate(azurite.account().settings)


@pytest.fixture
def fresh(account):
    """A container that was just made."""
    container = Container("azure", f"made-{time.monotonic_ns()}", account)
    assert not container.exists()
    assert container.ensure()
    assert not container.ensure()
    return container


@pytest.fixture
def sdk(azurite, fresh):
    from azure.storage.blob import ContainerClient

    return ContainerClient.from_connection_string(azurite.account().connection, fresh.name)


def code_of(ask) -> str:
    with pytest.raises(GeoAssetsError) as caught:
        ask()
    return caught.value.code


def test_the_first_bytes_of_a_blob_on_azure_come_with_its_size(fresh, tmp_path):
    insist_on_first_bytes(fresh, tmp_path)


def test_containers_on_azure_work_as_local_ones_do(fresh, tmp_path):
    source = tmp_path / "a.tif"
    source.write_bytes(b"II*\x00data")
    fresh.upload(source, "2026/a.tif")
    ((blob,),) = fresh.list("2026/")
    assert (blob.path, blob.size) == ("2026/a.tif", 8)
    fresh.download("2026/a.tif", tmp_path / "back", etag=blob.etag)
    assert (tmp_path / "back").read_bytes() == source.read_bytes()
    assert code_of(lambda: fresh.download("2026/a.tif", tmp_path / "back", etag='"0x0"')) == "INPUT_CHANGED"
    assert code_of(lambda: fresh.download("2026/b.tif", tmp_path / "back")) == "SOURCE_GONE"
    assert fresh.move("2026/a.tif", "done/a.tif")
    assert not fresh.move("2026/a.tif", "done/b.tif")
    fresh.upload(source, "2026/a.tif")
    assert not fresh.move("2026/a.tif", "done/a.tif")
    fresh.delete("done/a.tif")
    fresh.delete("done/a.tif")
    assert fresh.head("done/a.tif") is None
    assert "sig=" not in fresh.href("done/a.tif")


def test_an_output_carries_its_media_type_and_how_long_it_may_be_kept(fresh, sdk, tmp_path):
    (tmp_path / "a").write_bytes(b"x")
    fresh.upload(tmp_path / "a", "a", media_type="image/png", cache_control="max-age=1")
    told = sdk.get_blob_client("a").get_blob_properties().content_settings
    assert (told.content_type, told.cache_control) == ("image/png", "max-age=1")


def test_no_name_of_a_blob_ends_a_listing(fresh, sdk, tmp_path):
    names = ["0first.tif", "a//b.tif", "line\nbreak.tif", "tab\t.tif", "d/", "z/last.tif", "ünï.tif", "y" * 900]
    for name in names:
        sdk.upload_blob(name, b"x")
    listed = {blob.path for page in fresh.list() for blob in page}
    assert listed >= set(names) - {"d/"}
    assert len(listed) == len(names)
    assert {b.path for page in fresh.list(exact=True) for b in page} == set(names)
    for path in listed - {"d"}:
        try:
            blob_path(path)
        except GeoAssetsError:
            continue  # refused with a reason, when the job gets to it
        assert fresh.download(path, tmp_path / "back")


def test_an_account_that_does_not_answer_a_missing_container_and_a_refused_key_are_told_apart(account, fresh, tmp_path):
    (tmp_path / "a").write_bytes(b"x")
    nowhere = account.model_copy(update={"endpoint": f"http://127.0.0.1:9/{account.account_name}"})
    stranger = account.model_copy(update={"account_key": type(account.account_key)("a2V5")})
    for broken, code, name in (
        (nowhere, "STORAGE_UNAVAILABLE", fresh.name),
        (stranger, "STORAGE_FORBIDDEN", fresh.name),
        (account, "CONTAINER_NOT_FOUND", "missing"),
    ):
        container = Container("azure", name, broken, hasty=True)
        asked = {
            "list": lambda c=container: list(c.list()),
            "download": lambda c=container: c.download("a", tmp_path / "b"),
            "upload": lambda c=container: c.upload(tmp_path / "a", "a"),
            "delete": lambda c=container: c.delete("a"),
            "read_range": lambda c=container: c.read_range("a", 0, 1),
            "first_bytes": lambda c=container: c.first_bytes("a", 1),
        }
        assert {
            what: code_of(ask) for what, ask in asked.items() if (what, code) != ("delete", "CONTAINER_NOT_FOUND")
        } == {what: code for what in asked if (what, code) != ("delete", "CONTAINER_NOT_FOUND")}
    assert code_of(Container("azure", "not-made", stranger).ensure) == "STORAGE_FORBIDDEN"
