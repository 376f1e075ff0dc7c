"""What lies in a directory and is no file: none of it is read, and none of it is missing from the account."""

import os

import pytest

from geo_assets.accounts import LocalAccount
from geo_assets.storage.containers import Container
from geo_assets.storage.uploads import upload_tree

REASONS = {
    "a.tif": None,
    "loose.tif": "a link, which is not followed",
    "folder": "a link, which is not followed",
    "pipe.tif": "a pipe, socket or device",
    "b.tif#1": "perhaps still being uploaded, by its name and age",
}


@pytest.fixture
def odd(tmp_path):
    """A directory with a file, links, a pipe and what may be an upload in progress; as a container too."""
    folder = tmp_path / "odd"
    folder.mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "c.tif").write_bytes(b"x")
    (folder / "a.tif").write_bytes(b"x")
    (folder / "b.tif#1").write_bytes(b"x")
    (folder / "loose.tif").symlink_to("a.tif")
    (folder / "folder").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(folder / "pipe.tif")
    return Container("default", "odd", LocalAccount(root=tmp_path))


def test_links_pipes_and_uploads_in_progress_are_not_among_the_files(odd):
    assert [b.path for page in odd.list() for b in page] == ["a.tif"]


def test_an_account_of_everything_names_them_with_the_reason(odd):
    assert {b.path: b.ignored for page in odd.list(everything=True) for b in page} == REASONS


def test_an_upload_tells_of_links_and_pipes_and_takes_the_files(odd, tmp_path):
    (tmp_path / "taken").mkdir()
    refused = {}
    container = Container("default", "taken", LocalAccount(root=tmp_path))
    (tmp_path / "odd" / "b.tif#1").unlink()
    done = list(upload_tree(container, tmp_path / "odd", "", lambda file, error: refused.update({file.name: error})))
    assert [path for _, path, _ in done] == ["a.tif"]
    assert {name: error.message for name, error in refused.items()} == {
        name: f"{name} is {REASONS[name]}" for name in ("folder", "loose.tif", "pipe.tif")
    }
