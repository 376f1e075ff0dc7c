"""What is litter is the same wherever it lies."""

import tarfile
import zipfile

import pytest

from geo_assets.accounts import LocalAccount
from geo_assets.archives import unpack
from geo_assets.commands.source import members_of
from geo_assets.litter import is_litter
from geo_assets.storage.containers import Container
from geo_assets.storage.sources import is_taken, sorted_sources
from geo_assets.storage.zips import contents

SUBMITTED = {
    "city_thumbs.shp", "city_thumbs.shx", "city_thumbs.dbf", "city_thumbs.prj", ".data/x.tif", ".hidden.tif", "a.gpkg-wal",
    "deep/my__macosx/y.tif", "not_thumbs.db", "desktop.ini.tif", "a/.git.tif",
}  # fmt: skip
LEFT_BEHIND = {
    "Thumbs.db", "a/thumbs.db", ".DS_Store", "a/.DS_Store", "__MACOSX/._city_thumbs.shp", "deep/__MACOSX/x.tif", "._x.tif",
    "a/._x", "desktop.ini", "a/~$places.xlsx", ".~lock.places.xlsx#", ".git/objects/x.tif", "$RECYCLE.BIN/x.tif",
    ".Trashes/x.tif", "a/System Volume Information/x.tif", ".gitignore", "a/x.gpkg-shm",
}  # fmt: skip


@pytest.mark.parametrize("path", sorted(SUBMITTED))
def test_what_somebody_submitted_is_no_litter(path):
    assert not is_litter(path)


@pytest.mark.parametrize("path", sorted(LEFT_BEHIND))
def test_what_a_system_or_a_program_left_behind_is_litter(path):
    assert is_litter(path)


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "delivery"
    for name in SUBMITTED | LEFT_BEHIND:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    return folder


def in_a_container(folder):
    container = Container("default", folder.name, LocalAccount(root=folder.parent))
    return {blob.path for page in container.list() for blob in page if is_taken(blob.path, (), ())}


def in_a_zip(folder):
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as archive:
        for file in folder.rglob("*"):
            archive.write(file, file.relative_to(folder))
    return {str(member) for member in unpack(path, folder.with_name("unzipped"), max_bytes=10_000, name="a.zip")}


def in_a_tar(folder):
    path = folder.with_suffix(".tar")
    with tarfile.open(path, "w") as archive:
        archive.add(folder, "")
    return {str(member) for member in unpack(path, folder.with_name("untarred"), max_bytes=10_000, name="a.tar")}


def in_the_directory_of_a_zip(folder):
    found = contents(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return {*found.rasters, *found.vectors, *found.others}


def in_a_folder(folder):
    return {place.relative_to(folder.name).as_posix() for place in members_of(folder)}


@pytest.mark.parametrize("look", [in_a_container, in_a_zip, in_a_tar, in_a_folder])
def test_the_same_files_are_taken_of_a_container_an_archive_and_a_folder(folder, look):
    assert look(folder) == SUBMITTED


def test_the_sources_of_a_zip_are_told_by_its_directory_as_they_are_in_a_container(folder):
    from geo_assets.storage.sources import Member

    taken = [Member(path=path, size=1, etag="") for path in in_a_container(folder)]
    assert in_the_directory_of_a_zip(folder) == {source.path for source in sorted_sources(taken)}
