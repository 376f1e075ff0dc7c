"""Large blobs on Azurite: memory stays flat, a cut costs only what was not there yet."""

import asyncio
import json
import subprocess
import sys
import textwrap
import time

import obstore
import pytest
from azure.core.exceptions import HttpResponseError
from azure.storage.blob import ContainerClient

from geo_assets.accounts import AzureAccount
from geo_assets.errors import GeoAssetsError
from geo_assets.storage.azure_blocks import LARGE, upload_in_blocks
from geo_assets.storage.containers import Container

pytestmark = pytest.mark.azure

MIB = 1024 * 1024
BIG = 256 * MIB


@pytest.fixture
def account(azurite):
    return AzureAccount.model_validate(azurite.account().settings)


@pytest.fixture
def fresh(account):
    container = Container("azure", f"large-{time.monotonic_ns()}", account)
    container.ensure()
    return container


@pytest.fixture
def sdk(azurite, fresh):
    return ContainerClient.from_connection_string(azurite.account().connection, fresh.name, retry_total=0)


def patterned(path, size):
    """A file of which no two blocks are equal."""
    with path.open("wb") as file:
        for number in range(size // MIB):
            file.write(number.to_bytes(4, "big") * (MIB // 4))
    return path


class Cut:
    """A client of a blob whose connection breaks after some blocks."""

    def __init__(self, client, after):
        self._client, self._left, self.sent = client, after, 0

    def stage_block(self, *args, **kwargs):
        if self._left == 0:
            raise HttpResponseError("cut")
        self._left -= 1
        self._client.stage_block(*args, **kwargs)
        self.sent += 1

    def __getattr__(self, name):
        return getattr(self._client, name)


def test_an_upload_that_was_cut_goes_on_with_the_blocks_that_are_missing(sdk, fresh, tmp_path):
    source = patterned(tmp_path / "big", LARGE + MIB)
    blob = sdk.get_blob_client("a/big.tif")
    cut = Cut(blob, after=5)
    with pytest.raises(HttpResponseError):
        upload_in_blocks(cut, source, {})
    assert cut.sent == 5
    assert fresh.head("a/big.tif") is None  # nothing of it is to be seen
    assert upload_in_blocks(blob, source, {"Content-Type": "image/tiff"}) == 9 - 5
    fresh.download("a/big.tif", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == source.read_bytes()
    assert blob.get_blob_properties().content_settings.content_type == "image/tiff"


def test_blocks_of_other_bytes_are_not_taken_for_ours(sdk, fresh, tmp_path):
    first, second = patterned(tmp_path / "first", LARGE), tmp_path / "second"
    second.write_bytes(first.read_bytes()[::-1])
    with pytest.raises(HttpResponseError):
        upload_in_blocks(Cut(sdk.get_blob_client("big"), after=3), first, {})
    assert upload_in_blocks(sdk.get_blob_client("big"), second, {}) == 8
    fresh.download("big", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == second.read_bytes()


def test_a_large_blob_that_was_written_anew_after_it_was_listed_is_said_to_have_changed(sdk, fresh, tmp_path):
    fresh.upload(patterned(tmp_path / "big", LARGE), "big")
    etag = fresh.head("big").etag
    sdk.upload_blob("big", b"other", overwrite=True)
    with pytest.raises(GeoAssetsError) as caught:
        fresh.download("big", tmp_path / "back", etag=etag)
    assert caught.value.code == "INPUT_CHANGED"


PROGRAM = """
    import json, resource, sys
    from pathlib import Path
    from geo_assets.accounts import AzureAccount
    from geo_assets.storage.containers import Container

    container = Container("azure", sys.argv[1], AzureAccount.model_validate_json(sys.argv[2]))
    folder = Path(sys.argv[3])
    small, big = folder / "small", folder / "big"
    used = []
    for file in (small, big):
        container.upload(file, file.name)
        container.download(file.name, folder / "back")
        used.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
    print(json.dumps(used))
"""


@pytest.mark.parametrize("size", [BIG, pytest.param(2 * 1024 * MIB, marks=pytest.mark.slow)])
def test_memory_is_flat_for_a_large_blob_up_and_down(azurite, fresh, tmp_path, size):
    patterned(tmp_path / "small", LARGE)
    patterned(tmp_path / "big", size)
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM), fresh.name, json.dumps(azurite.account().settings), tmp_path],
        capture_output=True,
        text=True,
        check=True,
    )
    small, big = json.loads(done.stdout)
    print(f"most memory: {small} MB after 64 MB, {big} MB after {size // MIB} MB")
    assert big - small < 64
    assert (tmp_path / "back").stat().st_size == size


@pytest.mark.slow
@pytest.mark.timeout(900)  # Azurite takes some minutes to be filled
def test_20_000_blobs_are_listed_in_seconds_and_little_of_the_processor(fresh):
    count, at_once = 20_000, asyncio.Semaphore(32)

    async def put(number: int) -> None:
        async with at_once:
            await obstore.put_async(fresh._store, f"{number % 20:02}/{number:05}.tif", b"x" * 64)

    async def fill() -> None:
        await asyncio.gather(*(put(number) for number in range(count)))

    asyncio.run(fill())
    begun, worked = time.monotonic(), time.process_time()
    listed = {blob.path for page in fresh.list() for blob in page}
    print(f"{count} blobs: {time.monotonic() - begun:.1f} s, {time.process_time() - worked:.2f} s of the processor")
    assert len(listed) == count
    assert time.process_time() - worked < 2
