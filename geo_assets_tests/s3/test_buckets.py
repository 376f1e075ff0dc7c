"""Buckets of S3 are containers as any other."""

import time
from concurrent.futures import ThreadPoolExecutor

import boto3
import numpy as np
import pytest
import rasterio

from geo_assets.accounts import S3Account
from geo_assets.errors import GeoAssetsError
from geo_assets.local import storage_checks
from geo_assets.settings import Settings
from geo_assets.storage import s3
from geo_assets.storage.containers import Container
from geo_assets_tests.raster.test_cog import write
from geo_assets_tests.s3.conftest import KEY, SECRET
from geo_assets_tests.storage.test_first_bytes import insist_on_first_bytes
from geo_assets_tests.storms import before

pytestmark = pytest.mark.s3


@pytest.fixture
def fresh(account):
    """A bucket that was just made."""
    container = Container("lake", f"made-{time.monotonic_ns()}", account)
    assert not container.exists()
    assert container.ensure()
    assert not container.ensure()
    return container


@pytest.fixture
def sdk(account):
    return boto3.client(
        "s3",
        endpoint_url=account.endpoint,
        region_name=account.region,
        aws_access_key_id=KEY,
        aws_secret_access_key=SECRET,
    )


def code_of(ask) -> str:
    with pytest.raises(GeoAssetsError) as caught:
        ask()
    return caught.value.code


def test_the_first_bytes_of_an_object_come_with_its_size(fresh, tmp_path):
    insist_on_first_bytes(fresh, tmp_path)


def test_buckets_work_as_directories_do(fresh, tmp_path):
    source = tmp_path / "a.tif"
    source.write_bytes(b"II*\x00data")
    fresh.upload(source, "2026/a.tif", media_type="image/tiff")
    ((blob,),) = fresh.list("2026/")
    assert (blob.path, blob.size) == ("2026/a.tif", 8)
    fresh.download("2026/a.tif", tmp_path / "back", etag=blob.etag)
    assert (tmp_path / "back").read_bytes() == source.read_bytes()
    assert code_of(lambda: fresh.download("2026/a.tif", tmp_path / "back", etag='"0x0"')) == "INPUT_CHANGED"
    assert code_of(lambda: fresh.download("2026/b.tif", tmp_path / "back")) == "SOURCE_GONE"
    assert fresh.move("2026/a.tif", "done/a.tif")
    assert not fresh.move("2026/a.tif", "done/b.tif")
    fresh.delete("done/a.tif")
    fresh.delete("done/a.tif")
    assert fresh.head("done/a.tif") is None


def test_a_bucket_that_is_not_there_is_said_to_be_missing(account, tmp_path):
    missing = Container("lake", f"missing-{time.monotonic_ns()}", account)
    assert not missing.exists()
    assert code_of(lambda: list(missing.list(""))) == "CONTAINER_NOT_FOUND"


def test_a_large_file_goes_up_and_comes_back_whole(fresh, tmp_path):
    source = tmp_path / "large.bin"
    source.write_bytes(bytes(range(256)) * 100_000)
    fresh.upload(source, "large.bin")
    fresh.download("large.bin", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == source.read_bytes()


def test_names_that_obstores_listing_refuses_are_listed_exactly(fresh, sdk):
    names = ["a/plain.tif", "we//ird.tif", "/lead.tif", "trail/", "x/../y.tif", "Ü ber/1.tif", "a+b%20c.tif"]
    for name in names:
        sdk.put_object(Bucket=fresh.name, Key=name, Body=b"1")
    assert sorted(blob.path for page in fresh.list("", exact=True) for blob in page) == sorted(names)


def test_of_several_who_take_a_message_one_gets_it(fresh, tmp_path):
    (tmp_path / "m.json").write_text("{}")
    fresh.upload(tmp_path / "m.json", "inbox/m.json")
    with ThreadPoolExecutor(4) as threads:
        got = list(threads.map(lambda n: fresh.move("inbox/m.json", "done/m.json"), range(4)))
    assert got.count(True) == 1
    assert fresh.head("done/m.json") is not None
    assert fresh.head("inbox/m.json") is None


def test_gdal_opens_what_is_there_with_our_key(fresh, account, tmp_path):
    fresh.upload(write(tmp_path / "r.tif", np.ones((1, 8, 8), "uint8")), "r s.tif")
    path, options = s3.gdal(account, fresh.name, "r s.tif")
    with rasterio.Env(**options), rasterio.open(path) as opened:
        assert opened.width


def test_what_the_environment_holds_for_gdal_is_not_mixed_with_a_key(fresh, account, tmp_path, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "FOREIGN")
    monkeypatch.setenv("AWS_S3_ENDPOINT", "127.0.0.1:9")
    with before(account.endpoint) as seen:
        behind = account.model_copy(update={"endpoint": seen.endpoint})
        fresh.upload(write(tmp_path / "r.tif", np.ones((1, 8, 8), "uint8")), "alone.tif")
        path, options = s3.gdal(behind, fresh.name, "alone.tif")
        with rasterio.Env(**options), rasterio.open(path) as opened:
            assert opened.width == 8
        names = [blob.path for page in Container("lake", fresh.name, behind).list(exact=True) for blob in page]
        assert names == ["alone.tif"]
        assert len(seen.said) > 1
        for headers in seen.said:
            assert KEY in headers["authorization"]
            assert "FOREIGN" not in str(headers)


@pytest.mark.parametrize(
    ("status", "code", "told"),
    [(503, "SlowDown", "STORAGE_UNAVAILABLE"), (403, "AccessDenied", "STORAGE_FORBIDDEN")],
)
def test_a_bucket_that_is_too_slow_is_waited_for_and_one_that_is_shut_is_not(
    fresh, account, tmp_path, status, code, told
):
    (tmp_path / "a").write_bytes(b"x" * 7_000_000)  # in parts
    with before(account.endpoint) as storms:
        container = Container("lake", fresh.name, account.model_copy(update={"endpoint": storms.endpoint}), hasty=True)
        storms.begin(status, code)
        for ask in (
            lambda: container.upload(tmp_path / "a", "a"),
            lambda: container.download("a", tmp_path / "back"),
            lambda: list(container.list()),
            lambda: list(container.list(exact=True)),
            container.exists,
        ):
            assert code_of(ask) == told
        storms.end()
        container.upload(tmp_path / "a", "a")
        container.download("a", tmp_path / "back")
        assert (tmp_path / "back").read_bytes() == b"x" * 7_000_000


def test_a_bucket_of_somebody_else_is_not_taken_for_one_that_we_made(account):
    with before(account.endpoint) as storms:
        container = Container("lake", "cogs-of-others", account.model_copy(update={"endpoint": storms.endpoint}))
        storms.begin(409, "BucketAlreadyExists", methods=("PUT",))
        assert code_of(container.ensure) == "CONTAINER_NOT_FOUND"


@pytest.mark.parametrize("given", [{"access_key_id": "a"}, {"secret_access_key": "b"}, {"session_token": "c"}])
def test_a_part_of_a_key_is_refused(given):
    with pytest.raises(ValueError, match="go together"):
        S3Account.model_validate({"kind": "s3", **given})


def test_the_href_of_amazon_and_of_others_names_no_key(account):
    amazon = S3Account(kind="s3", region="eu-west-1")
    assert Container("lake", "cogs", amazon).href("a b.tif") == "https://cogs.s3.eu-west-1.amazonaws.com/a%20b.tif"
    assert Container("lake", "cogs", account).href("a b.tif") == f"{account.endpoint}/cogs/a%20b.tif"


AMAZON = {"kind": "s3", "region": "eu-west-1"}


@pytest.mark.parametrize("account", [AMAZON, {"kind": "gcs"}])
def test_no_default_is_taken_as_the_name_of_a_bucket_that_may_be_a_strangers(account):
    for given in ({"output_account": "lake"}, {"inbox_account": "lake"}):
        with pytest.raises(ValueError, match="name a bucket of your own"):
            Settings(accounts={"lake": account}, **given)
    ours = {"cog_container": "ours-cogs", "thumbnail_container": "ours-thumbs", "inbox_container": "ours-inbox"}
    assert Settings(accounts={"lake": account}, output_account="lake", inbox_account="lake", **ours)
    assert Settings(accounts={"lake": account})


def test_doctor_asks_amazon_for_no_bucket_that_is_not_ours(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(storage_checks, "open_container", lambda _, alias, name, **how: asked.append(name) or Silent())
    told = {"home": tmp_path, "accounts": {"lake": AMAZON}}
    checks = {check.what: check.look for check in storage_checks.storage_checks(Settings(**told), make=False)}
    assert "no bucket of it is known" in checks["account lake"]()
    assert asked == []
    ours = {"cog_container": "ours-cogs", "thumbnail_container": "ours-thumbs", "output_account": "lake"}
    for check in storage_checks.storage_checks(Settings(**told, **ours), make=False):
        check.look()
    assert set(asked) == {"geo-assets-probe", "ours-cogs", "ours-thumbs"}  # the probe is of the local account


class Silent:
    """A container that is there."""

    def exists(self) -> bool:
        return True


def test_settings_do_not_show_a_secret(account):
    settings = Settings(accounts={"lake": account})
    assert SECRET not in repr(settings)
    assert SECRET not in str(settings.model_dump())
