"""One request tells what a blob begins with, and how long it is; every store answers the same."""

from geo_assets.storage.blobs import FirstBytes
from geo_assets.storage.containers import Container, open_container


def insist_on_first_bytes(container: Container, tmp_path) -> None:
    """Of a long blob, a short one, an empty one and one that is not there."""
    for name, data in {"long": b"II*\x00data", "short": b"II", "empty": b""}.items():
        (tmp_path / name).write_bytes(data)
        container.upload(tmp_path / name, f"2026/{name}")
    assert container.first_bytes("2026/long", 4) == FirstBytes(b"II*\x00", 8)
    assert container.first_bytes("2026/short", 4) == FirstBytes(b"II", 2)
    assert container.first_bytes("2026/empty", 4) == FirstBytes(b"", 0)
    assert container.first_bytes("2026/none", 4) is None


def test_the_first_bytes_of_a_file_come_with_its_size(settings, tmp_path):
    container = open_container(settings, "default", "begins")
    container.ensure()
    insist_on_first_bytes(container, tmp_path)
