"""`geo-assets cog`, as a person calls it: a process, without a stack."""

import fcntl
import json
import os
import shlex
import signal
import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import rasterio
from rio_cogeo.cogeo import cog_validate

from geo_assets.commands.raster import _note
from geo_assets.commands.source import members_of, unchanged
from geo_assets.errors import GeoAssetsError
from geo_assets_tests.conftest import geo_assets
from geo_assets_tests.raster.test_cog import write
from geo_assets_tests.raster.test_kept_blocks import blocks, jpeg
from geo_assets_tests.raster.test_profiles import field
from geo_assets_tests.waiting import until


def cog(*arguments, home: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    command = geo_assets("cog", *map(str, arguments))
    environment = {**os.environ, "TMPDIR": str(home), "GEO_ASSETS_HOME": str(home / "nothing-here"), **variables}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture
def home(tmp_path):
    folder = tmp_path / "home"
    folder.mkdir()
    yield folder
    assert list(folder.iterdir()) == [], "nothing is left in the directory for temporary files"


def rgb(path: Path, **profile) -> Path:
    return write(path, (field(3) * 250).astype("uint8"), photometric="RGB", **profile)


def test_a_raster_becomes_a_cog_and_the_json_says_what_it_is(tmp_path, home):
    done = cog(rgb(tmp_path / "in.tif"), tmp_path / "out.tif", "--json", home=home)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert {"profile", "seconds", "bytes", "sha256", "warnings"} <= report.keys()
    assert (report["profile"], report["bytes"]) == ("web", (tmp_path / "out.tif").stat().st_size)
    assert cog_validate(tmp_path / "out.tif", strict=True)[0]
    assert cog("validate", tmp_path / "out.tif", home=home).returncode == 0


def test_the_output_has_the_rights_of_any_new_file(tmp_path, home):
    cog(rgb(tmp_path / "in.tif"), tmp_path / "out.tif", home=home)
    (tmp_path / "other").touch()
    assert (tmp_path / "out.tif").stat().st_mode == (tmp_path / "other").stat().st_mode


@pytest.mark.parametrize(
    ("options", "wrong"),
    [
        (("--resolution", "-1", "--target-crs", "EPSG:3857"), "--resolution -1 is no size of a pixel"),
        (("--resolution", "nan", "--target-crs", "EPSG:3857"), "--resolution nan is no size of a pixel"),
        (("--datetime", "202106"), "--datetime '202106' is no time"),
        (("--datetime", "2021-13-45"), "--datetime '2021-13-45' is no time"),
    ],
)
def test_an_option_that_cannot_be_meant_is_refused_with_a_remedy(tmp_path, home, options, wrong):
    done = cog(rgb(tmp_path / "in.tif"), tmp_path / "out.tif", *options, "--json", home=home)
    error = json.loads(done.stdout)["error"]
    assert (done.returncode, error["code"], error["message"]) == (1, "INVALID_PARAMETERS", wrong)
    assert error["remedy"]
    assert not (tmp_path / "out.tif").exists()


def test_a_destination_in_a_directory_that_is_not_there_is_refused_with_the_command_that_makes_it(tmp_path, home):
    done = cog(rgb(tmp_path / "in.tif"), tmp_path / "not here" / "out.tif", home=home)
    assert done.returncode == 1
    assert f"mkdir -p '{tmp_path / 'not here'}'" in done.stderr


@pytest.mark.parametrize("name", ["pipe", "pipe.tif", "link.tif"])
def test_a_pipe_or_a_device_is_not_replaced_by_a_cog(tmp_path, home, name):
    pipe = tmp_path / ("pipe" if name == "link.tif" else name)
    os.mkfifo(pipe)
    if name == "link.tif":
        (tmp_path / name).symlink_to(pipe)
    done = cog(rgb(tmp_path / "in.tif"), tmp_path / name, "--json", home=home)
    error = json.loads(done.stdout)["error"]
    assert (done.returncode, error["code"]) == (1, "INVALID_PARAMETERS")
    assert "is neither a file nor a directory" in error["message"]
    assert pipe.is_fifo()


def test_what_a_child_says_moves_no_cursor_and_begins_no_line(capsys):
    _note(SimpleNamespace(warnings=lambda: ["red \x1b[31m and\nerror: none \u202e"]))
    assert capsys.readouterr().err == "note: red [31m and error: none\n"


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_bytes(path.read_bytes() + b"more"),
        lambda path: path.with_suffix(".new").rename(path),
        Path.unlink,
        lambda path: path.with_suffix(".tfw").unlink(),
    ],
)
@pytest.mark.parametrize("fails", [False, True])
def test_what_is_made_of_a_source_that_somebody_writes_to_is_refused(tmp_path, change, fails):
    for name in ("a.tif", "a.new", "a.tfw"):
        (tmp_path / name).write_bytes(b"data")

    def read():
        with unchanged(members_of(tmp_path / "a.tif").values()):
            change(tmp_path / "a.tif")
            if fails:
                raise FileNotFoundError

    with pytest.raises(GeoAssetsError, match="was changed while it was read"):
        read()
    with pytest.raises(ZeroDivisionError), unchanged([rgb(tmp_path / "b.tif")]):
        raise ZeroDivisionError
    with unchanged([tmp_path / "b.tif"]):
        pass


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_that_cannot_be_written_to_is_told_before_any_work(tmp_path, home):
    (tmp_path / "closed").mkdir(mode=0o500)
    done = cog(rgb(tmp_path / "in.tif"), tmp_path / "closed" / "out.tif", "--json", home=home)
    assert json.loads(done.stdout)["error"]["message"] == f"{tmp_path / 'closed'} cannot be written to"


def test_a_raster_without_a_crs_is_copied_and_the_warning_says_so(tmp_path, home):
    done = cog(rgb(tmp_path / "in.tif", crs=None), tmp_path / "out.tif", "--json", home=home)
    assert any("no CRS" in warning for warning in json.loads(done.stdout)["warnings"])
    given = cog(tmp_path / "in.tif", tmp_path / "given.tif", "--source-crs", "EPSG:32618", "--json", home=home)
    assert json.loads(given.stdout)["epsg"] == 32618


def test_a_raster_that_lies_nowhere_is_copied(tmp_path, home):
    source = tmp_path / "in.tif"
    with rasterio.open(source, "w", driver="GTiff", width=50, height=40, count=1, dtype="uint8") as dataset:
        dataset.write(np.arange(2000, dtype="uint8").reshape(1, 40, 50))
    assert cog(source, tmp_path / "out.tif", home=home).returncode == 0
    with rasterio.open(source) as a, rasterio.open(tmp_path / "out.tif") as b:
        assert np.array_equal(a.read(), b.read())


def test_a_world_file_beside_the_source_is_used_and_a_strangers_is_not(tmp_path, home):
    with rasterio.open(tmp_path / "in.png", "w", driver="PNG", width=50, height=40, count=1, dtype="uint8") as dataset:
        dataset.write(np.zeros((1, 40, 50), "uint8"))
    (tmp_path / "in.pgw").write_text("10\n0\n0\n-10\n500005\n3999995\n")
    (tmp_path / "other.pgw").write_text("1\n0\n0\n-1\n0\n0\n")
    done = cog(tmp_path / "in.png", tmp_path / "out.tif", "--source-crs", "EPSG:32618", "--json", home=home)
    assert json.loads(done.stdout)["transform"] == [10, 0, 500_000, 0, -10, 4_000_000]


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "is empty"), (b"not a raster", "none of the formats"), (b"<VRTDataset/>", "none of the formats")],
)
def test_what_is_no_raster_is_refused_in_one_line_with_a_hint_and_nothing_is_left(tmp_path, home, content, words):
    (tmp_path / "in.tif").write_bytes(content)
    done = cog(tmp_path / "in.tif", tmp_path / "out.tif", home=home)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert words in done.stderr
    assert "\nhint:  " in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out.tif").exists()


def test_a_bad_source_leaves_the_old_output_alone(tmp_path, home):
    (tmp_path / "out.tif").write_text("precious")
    (tmp_path / "in.tif").write_text("not a raster")
    assert cog(tmp_path / "in.tif", tmp_path / "out.tif", home=home).returncode == 1
    assert (tmp_path / "out.tif").read_text() == "precious"


def test_the_jpeg_blocks_of_a_picture_are_kept_where_it_is_asked_for(tmp_path, home):
    source = jpeg(tmp_path / "in.tif")
    done = cog(source, tmp_path / "out.tif", "--keep-lossy", home=home)
    assert "JPEG blocks kept" in done.stdout
    assert blocks(tmp_path / "out.tif") == blocks(source)
    assert cog("validate", tmp_path / "out.tif", home=home).returncode == 0
    told = cog(source, tmp_path / "out.tif", "--keep-lossy", "--json", home=home)
    assert json.loads(told.stdout)["kept_blocks"] == "with loss"


def test_a_file_that_is_not_there_is_named(tmp_path, home):
    done = cog(tmp_path / "no.tif", tmp_path / "out.tif", home=home)
    assert (done.returncode, "no.tif" in done.stderr) == (1, True)


def test_the_validator_names_what_is_wrong_and_fails(tmp_path, home):
    cog(rgb(tmp_path / "in.tif"), tmp_path / "out.tif", home=home)
    data = bytearray((tmp_path / "out.tif").read_bytes())
    data[-2000:-1000] = bytes(1000)
    (tmp_path / "out.tif").write_bytes(data)
    done = cog("validate", tmp_path / "out.tif", "--json", home=home)
    assert done.returncode == 1
    assert json.loads(done.stdout)["problems"]
    assert "is not a valid COG" in done.stderr
    assert "from its source" in done.stderr


def test_the_hint_of_the_validator_for_a_file_that_is_no_cog_makes_one_and_leaves_the_file_alone(tmp_path, home):
    plain = write(tmp_path / "plain dem.tif", np.ones((1, 600, 600), "uint8"), tiled=False)
    before = plain.read_bytes()
    done = cog("validate", plain, home=home)
    assert done.returncode == 1
    words = shlex.split(done.stderr.partition("/geo-assets ")[2])
    words = [str(tmp_path / word) if word == "OTHER.tif" else word for word in words]
    assert words == ["cog", str(plain), str(tmp_path / "OTHER.tif")]
    assert cog(*words[1:], home=home).returncode == 0
    assert cog("validate", words[-1], home=home).returncode == 0
    assert plain.read_bytes() == before


def test_of_a_published_cog_that_is_damaged_its_collection_is_named_and_no_command_that_writes_there(tmp_path, home):
    published = tmp_path / "stack" / "containers" / "cogs" / "landing" / "default" / "landing" / "a_1f2e3d4c.tif"
    published.parent.mkdir(parents=True)
    cog(rgb(tmp_path / "in.tif"), published, home=home)
    published.write_bytes(published.read_bytes()[:-1000])
    done = cog("validate", published, home=home, GEO_ASSETS_HOME=str(tmp_path / "stack"))
    assert done.returncode == 1
    assert "geo-assets verify --collection landing" in done.stderr
    assert "OTHER.tif" not in done.stderr


def test_help_has_examples(home):
    assert "geo-assets cog validate" in cog("--help", home=home).stdout
    assert "--target-crs" in cog("convert", "--help", home=home).stdout


def test_the_version_is_told_without_a_command():
    done = subprocess.run(geo_assets("--version"), capture_output=True, text=True, check=True)
    assert done.stdout.strip()


@pytest.fixture
def small_disk(tmp_path):
    """Another file system, of 1.2 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1200k", "tmpfs", folder], capture_output=True, check=False
    ).returncode:
        pytest.skip("no right to mount")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_onto_another_file_system_a_cog_comes_whole(tmp_path, home, small_disk):
    done = cog(rgb(tmp_path / "in.tif"), small_disk / "out.tif", home=home)
    assert done.returncode == 0, done.stderr
    assert cog("validate", small_disk / "out.tif", home=home).returncode == 0
    assert [p.name for p in small_disk.iterdir()] == ["out.tif"]
    assert (small_disk / "out.tif").stat().st_uid == os.geteuid()


def test_a_full_target_keeps_the_good_old_file_and_says_so(tmp_path, home, small_disk):
    assert cog(rgb(tmp_path / "in.tif"), small_disk / "out.tif", home=home).returncode == 0
    old = (small_disk / "out.tif").read_bytes()
    noise = np.random.default_rng(0).integers(0, 255, (3, 1000, 1000)).astype("uint8")
    done = cog(write(tmp_path / "large.tif", noise), small_disk / "out.tif", home=home)
    assert done.returncode == 1
    assert done.stderr.startswith("error: no room for")
    assert "left as it is" in done.stderr
    assert "free disk space" in done.stderr
    assert (small_disk / "out.tif").read_bytes() == old
    assert [p.name for p in small_disk.iterdir()] == ["out.tif"]


def test_what_a_killed_copy_left_beside_the_destination_is_swept_by_the_next(tmp_path, home, small_disk):
    left, at_work = small_disk / ".geo-assets-left", small_disk / ".geo-assets-at-work"
    for path in (left, at_work):
        path.write_bytes(b"half")
        os.utime(path, (0, 0))
    with at_work.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert cog(rgb(tmp_path / "in.tif"), small_disk / "out.tif", home=home).returncode == 0
    assert {p.name for p in small_disk.iterdir()} == {"out.tif", at_work.name}


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_a_conversion_that_is_ended_leaves_nothing_that_stays(tmp_path, home, ending):
    large = write(tmp_path / "large.tif", np.random.default_rng(0).integers(0, 255, (3, 9000, 3000)).astype("uint8"))
    command = geo_assets("cog", str(large), str(tmp_path / "out.tif"))
    with subprocess.Popen(command, env={**os.environ, "TMPDIR": str(home)}, stderr=subprocess.DEVNULL) as process:
        until(
            lambda: (
                any(p.suffix == ".tif" and p.stat().st_size > 1_000_000 for p in home.rglob("*") if p.is_file())
                or process.poll() is not None
            )
        )
        assert process.poll() is None
        process.send_signal(ending)
        status = process.wait(20)
    if ending == signal.SIGKILL:
        assert list(home.rglob("run-*"))
        assert cog(rgb(tmp_path / "in.tif"), tmp_path / "out.tif", home=home).returncode == 0  # the next one sweeps
    else:
        assert status == 128 + ending
        assert not (tmp_path / "out.tif").exists()
    # the fixture looks whether anything is left
