"""A directory that is a share: not mounted, unmounted, full, forbidden. None of this means that a file is gone."""

import os
import shutil
import subprocess
import sys

import pytest

from geo_assets.accounts import LocalAccount
from geo_assets.errors import GeoAssetsError
from geo_assets.settings import Settings
from geo_assets.storage.containers import open_container


@pytest.fixture
def share(tmp_path):
    """Settings with an account `nas` outside of our home, which holds one container with one file."""
    settings = Settings(home=tmp_path / "home", accounts={"nas": LocalAccount(root=tmp_path / "nas")})
    (tmp_path / "nas" / "landing").mkdir(parents=True)
    (tmp_path / "nas" / "landing" / "a.tif").write_bytes(b"x")
    return settings


def code_of(ask) -> str:
    with pytest.raises(GeoAssetsError) as caught:
        ask()
    return caught.value.code


def asked(container, tmp_path):
    return {
        "exists": container.exists,
        "list": lambda: list(container.list()),
        "head": lambda: container.head("a.tif"),
        "download": lambda: container.download("a.tif", tmp_path / "back"),
        "read_range": lambda: container.read_range("a.tif", 0, 1),
        "first_bytes": lambda: container.first_bytes("a.tif", 1),
        "upload": lambda: container.upload(tmp_path / "local", "b.tif"),
        "move": lambda: container.move("a.tif", "c.tif"),
        "delete": lambda: container.delete("a.tif"),
    }


@pytest.mark.parametrize("left", ["nothing", "the mount point"])
@pytest.mark.parametrize("seen", [True, False])
def test_a_share_that_is_not_mounted_is_away_and_nothing_is_written_beneath_it(share, tmp_path, left, seen):
    (tmp_path / "local").write_bytes(b"y")
    container = open_container(share, "nas", "landing")
    if seen:
        assert container.exists()
    shutil.move(tmp_path / "nas", tmp_path / "elsewhere")
    if left == "the mount point":
        (tmp_path / "nas").mkdir()
    assert {what: code_of(ask) for what, ask in asked(container, tmp_path).items()} == dict.fromkeys(
        asked(container, tmp_path), "STORAGE_UNAVAILABLE"
    )
    assert not (tmp_path / "nas" / "landing").exists()
    if left == "the mount point":
        (tmp_path / "nas").rmdir()
    shutil.move(tmp_path / "elsewhere", tmp_path / "nas")
    assert container.download("a.tif", tmp_path / "back")


def test_a_file_that_is_gone_and_a_container_that_never_was_are_not_taken_for_an_outage(share, tmp_path):
    container = open_container(share, "nas", "landing")
    assert code_of(lambda: container.download("b.tif", tmp_path / "back")) == "SOURCE_GONE"
    assert container.head("b.tif") is None
    assert not open_container(share, "nas", "never").exists()
    assert not open_container(share, "default", "never").exists()
    assert code_of(lambda: list(open_container(share, "default", "never").list())) == "CONTAINER_NOT_FOUND"


def test_a_folder_that_may_not_be_read_is_refused_access_and_not_passed_over(share, tmp_path):
    """Root may read everything: another user looks."""
    if os.getuid():
        pytest.skip("only root can look as somebody else")
    (tmp_path / "nas" / "landing" / "shut").mkdir(mode=0o700)
    (tmp_path / "nas" / "landing" / "shut" / "b.tif").write_bytes(b"x")
    program = f"""
import os
from geo_assets.errors import GeoAssetsError
from geo_assets.accounts import LocalAccount
from geo_assets.settings import Settings
from geo_assets.storage.containers import open_container
from pathlib import Path
settings = Settings(home=Path("/nonexistent"), accounts={{"nas": LocalAccount(root=Path({str(tmp_path / "nas")!r}))}})
container = open_container(settings, "nas", "landing")
os.setuid(65534)
for ask in (lambda: list(container.list()), lambda: container.read_range("shut/b.tif", 0, 1), lambda: container.upload(Path("/etc/hostname"), "c")):
    try:
        ask()
    except GeoAssetsError as error:
        print(error.code)
"""
    _look_as_nobody(tmp_path, program, ["STORAGE_FORBIDDEN"] * 3)


def test_an_account_whose_directory_may_not_be_entered_is_refused_access(share, tmp_path):
    if os.getuid():
        pytest.skip("only root can look as somebody else")
    (tmp_path / "nas").chmod(0o700)
    program = f"""
import os
from geo_assets.errors import GeoAssetsError
from geo_assets.accounts import LocalAccount
from geo_assets.settings import Settings
from geo_assets.storage.containers import open_container
from pathlib import Path
settings = Settings(home=Path("/nonexistent"), accounts={{"nas": LocalAccount(root=Path({str(tmp_path / "nas")!r}))}})
os.setuid(65534)
for ask in ("exists", "ensure"):
    try:
        getattr(open_container(settings, "nas", "landing"), ask)()
    except GeoAssetsError as error:
        print(error.code)
"""
    _look_as_nobody(tmp_path, program, ["STORAGE_FORBIDDEN"] * 2)


def _look_as_nobody(tmp_path, program: str, codes: list[str]) -> None:
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == 0 and "pytest" in folder.name:
            folder.chmod(0o755)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout.split() == codes, done.stderr
