import gzip
import io
import stat
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import rasterio

from geo_assets.errors import GeoAssetsError
from geo_assets.raster.archives import rasters
from geo_assets.raster.cog import convert
from geo_assets.raster.models import ConvertRequest
from geo_assets.raster.variables_models import UnpackReport, UnpackRequest
from geo_assets.sandbox.pool import SandboxPool
from geo_assets_tests.raster.hostile import WORLD, encoded, picture, striped


def archive(members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", compression) as zipped:
        for name, content in members.items():
            zipped.writestr(name, content)
    return made.getvalue()


@pytest.fixture
def unpacked(tmp_path):
    """Unpacks a zip, given as bytes, into a directory of its own."""

    def unpack(content: bytes, max_bytes: int = 1 << 30) -> UnpackReport:
        (tmp_path / "in.zip").write_bytes(content)
        (tmp_path / "out").mkdir()
        return rasters(
            UnpackRequest(
                archive=str(tmp_path / "in.zip"), folder=str(tmp_path / "out"), name="in.zip", max_bytes=max_bytes
            )
        )

    return unpack


def names_beside(path: str) -> set[str]:
    return {p.name for p in Path(path).parent.iterdir()}


def test_tiles_of_a_database_whose_journal_holds_changes_are_refused(unpacked):
    with pytest.raises(GeoAssetsError, match=r"t\.mbtiles is being written to: t\.mbtiles-wal holds changes"):
        unpacked(archive({"a/t.mbtiles": b"1", "a/t.mbtiles-wal": b"2"}))


def test_each_raster_lies_alone_with_its_own_sidecars(unpacked):
    report = unpacked(
        archive(
            {
                "a/one.tif": b"1",
                "a/one.tfw": b"w",
                "a/one.tif.aux.xml": b"x",
                "a/two.png": b"2",
                "a/two.pgw": b"w",
                "b/one.tif": b"3",
            }
        )
    )
    assert {r.name: names_beside(r.path) for r in report.rasters} == {
        "a/one.tif": {"one.tif", "one.tfw", "one.tif.aux.xml"},
        "a/two.png": {"two.png", "two.pgw"},
        "b/one.tif": {"one.tif"},
    }
    assert report.others == ()


def test_a_sidecar_of_two_rasters_lies_beside_both(unpacked):
    report = unpacked(archive({"one.tif": b"1", "one.asc": b"2", "one.prj": b"p"}))
    assert [names_beside(r.path) for r in report.rasters] == [{"one.asc", "one.prj"}, {"one.tif", "one.prj"}]


def test_what_is_no_raster_is_named(unpacked):
    report = unpacked(
        archive(
            {
                "in.tif": b"1",
                "read me.txt": b"2",
                "roads.shp": b"3",
                "roads.dbf": b"4",
                "deep.zip": b"5",
                "lost.tfw": b"6",
            }
        )
    )
    assert [r.name for r in report.rasters] == ["in.tif"]
    assert report.others == ("deep.zip", "lost.tfw", "read me.txt", "roads.dbf", "roads.shp")


def test_names_of_a_zip_that_are_said_to_be_utf8_need_no_note(unpacked):
    assert unpacked(archive({"ä.tif": b"1", "b.tif": b"2"})).notes == ()


def test_names_of_a_zip_whose_encoding_nobody_knows_are_told_of(unpacked):
    packed = archive({"abcd.tif": b"1", "b.tif": b"2"}).replace(b"abcd", "地図".encode("cp932"))
    (note,) = unpacked(packed).notes
    assert note == "names in in.zip are not said to be UTF-8 and were read as CP437: Ænΐ}.tif".replace(
        "Ænΐ}", "地図".encode("cp932").decode("cp437")
    )


def test_an_archive_without_rasters_is_not_refused_here(unpacked):
    assert unpacked(archive({"roads.geojson": b"{}"})).rasters == ()


def test_members_become_cogs_equal_to_themselves(unpacked, tmp_path):
    report = unpacked(archive({"a.tif": striped("LZW"), "b.png": encoded("PNG"), "b.wld": WORLD}))
    for raster in report.rasters:
        convert(ConvertRequest(source=raster.path, destination=str(tmp_path / "cog.tif"), source_crs="EPSG:32618"))
        with rasterio.open(tmp_path / "cog.tif") as cog:
            np.testing.assert_array_equal(cog.read(), picture())


def link(name: str, target: str) -> bytes:
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as zipped:
        zipped.writestr(info, target)
    return made.getvalue()


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (archive({"../out.tif": b"1"}), "UNSAFE_ARCHIVE"),
        (archive({"/etc/out.tif": b"1"}), "UNSAFE_ARCHIVE"),
        (archive({"..\\out.tif": b"1"}), "UNSAFE_ARCHIVE"),
        (archive({"C:/out.tif": b"1"}), "UNSAFE_ARCHIVE"),
        (archive({"a\nb.tif": b"1"}), "UNSAFE_ARCHIVE"),
        (archive({"a": b"1", "a/b.tif": b"1"}), "UNSAFE_ARCHIVE"),
        (link("in.tif", "/etc/passwd"), "UNSAFE_ARCHIVE"),
        (archive({"in.tif": bytes(32 << 20)}), "UNSAFE_ARCHIVE"),
        (archive({f"{n}.tif": b"" for n in range(10_001)}, zipfile.ZIP_STORED), "UNSAFE_ARCHIVE"),
        (archive({"in.tif": b"1" * 5000}, zipfile.ZIP_STORED), "TOO_LARGE"),
        (archive({"folder/": b""}), "EMPTY_ARCHIVE"),
        (archive({"in.tif": striped("NONE")})[:5000], "UNREADABLE"),
        (archive({"in.tif": striped("NONE")}).replace(b"in.tif", b"on.tif", 1), "UNREADABLE"),
        (b"PK\x03\x04 and nothing more", "UNREADABLE"),
    ],
    ids=[
        "up",
        "root",
        "backslashes",
        "drive",
        "newline",
        "file and folder",
        "link",
        "bomb",
        "many",
        "large",
        "empty",
        "cut off",
        "renamed",
        "noise",
    ],
)
def test_an_archive_that_no_honest_program_makes_is_refused_and_leaves_nothing(unpacked, tmp_path, content, code):
    before = {p for p in tmp_path.parent.rglob("*") if tmp_path not in p.parents}
    with pytest.raises(GeoAssetsError) as caught:
        unpacked(content, max_bytes=4000 if code == "TOO_LARGE" else 1 << 30)
    assert caught.value.code == code
    assert not list((tmp_path / "out").iterdir())
    assert {p for p in tmp_path.parent.rglob("*") if tmp_path not in p.parents} == before


def test_it_runs_in_the_sandbox(tmp_path):
    with SandboxPool(tmp_path / "pool", timeout_seconds=60) as pool, pool.workspace() as folder:
        (folder / "in.zip").write_bytes(archive({"in.tif": b"1"}))
        (folder / "out").mkdir()
        request = UnpackRequest(
            archive=str(folder / "in.zip"), folder=str(folder / "out"), name="in.zip", max_bytes=1000
        )
        report = pool.call("geo_assets.raster.archives:rasters", request, UnpackReport)
        assert [r.name for r in report.rasters] == ["in.tif"]


def tar(*members: tuple[str, bytes, dict], mode: str = "w") -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode=mode) as archive:
        for name, content, more in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            for field, value in more.items():
                setattr(info, field, value)
            archive.addfile(info, io.BytesIO(content))
    return made.getvalue()


def test_the_rasters_of_a_tar_lie_as_those_of_a_zip(unpacked):
    report = unpacked(
        tar(
            ("a/one.tif", b"1", {}),
            ("a/one.tfw", b"w", {}),
            ("./b.tif", b"2", {}),
            ("a", b"", {"type": tarfile.DIRTYPE}),
            ("x.txt", b"", {}),
        )
    )
    assert {r.name: names_beside(r.path) for r in report.rasters} == {
        "a/one.tif": {"one.tif", "one.tfw"},
        "b.tif": {"b.tif"},
    }
    assert report.others == ("x.txt",)


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (tar(("../out.tif", b"1", {})), "UNSAFE_ARCHIVE"),
        (tar(("/etc/out.tif", b"1", {})), "UNSAFE_ARCHIVE"),
        (tar(("a/../../out.tif", b"1", {})), "UNSAFE_ARCHIVE"),
        (tar(("in.tif", b"", {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"})), "UNSAFE_ARCHIVE"),
        (tar(("in.tif", b"", {"type": tarfile.LNKTYPE, "linkname": "../secret.tif"})), "UNSAFE_ARCHIVE"),
        (tar(("a", b"", {"type": tarfile.SYMTYPE, "linkname": "/tmp"}), ("a/in.tif", b"1", {})), "UNSAFE_ARCHIVE"),
        (tar(("in.tif", b"", {"type": tarfile.FIFOTYPE})), "UNSAFE_ARCHIVE"),
        (tar(("in.tif", b"", {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 5})), "UNSAFE_ARCHIVE"),
        (tar(("in.tif", b"1", {}), ("in.tif", b"2", {})), "UNSAFE_ARCHIVE"),
        (tar(("in.tif", b"1", {}), ("in.tif/b.tif", b"2", {})), "UNSAFE_ARCHIVE"),
        (tar(("a/b.tif", b"1", {}), ("a", b"2", {})), "UNSAFE_ARCHIVE"),
        (tar(("in.tif", bytes(64 << 20), {}), mode="w:gz"), "UNSAFE_ARCHIVE"),
        (tar(*((f"{n}.tif", b"", {}) for n in range(10_001)), mode="w:gz"), "UNSAFE_ARCHIVE"),
        (tar(("in.tif", b"1" * 5000, {}))[:3000], "UNREADABLE"),
        (tar(("in.tif", b"1" * 5000, {}), mode="w:gz")[:-20], "UNREADABLE"),
        (b"\x1f\x8b" + b"noise" * 100, "UNREADABLE"),
        (tar(), "UNREADABLE"),
        (tar(("a", b"", {"type": tarfile.DIRTYPE})), "EMPTY_ARCHIVE"),
    ],
    ids=[
        "climbs out",
        "absolute",
        "climbs out of a folder",
        "symbolic link",
        "hard link",
        "through a linked folder",
        "fifo",
        "device",
        "a name twice",
        "a file as folder",
        "a folder as file",
        "zeros",
        "too many",
        "cut off",
        "cut off, compressed",
        "noise",
        "empty",
        "folders only",
    ],
)
def test_a_tar_that_no_honest_program_makes_is_refused_and_nothing_of_it_remains(unpacked, tmp_path, content, code):
    with pytest.raises(GeoAssetsError) as error:
        unpacked(content)
    assert error.value.code == code
    assert list((tmp_path / "out").iterdir()) == []
    assert {p.name for p in tmp_path.iterdir()} == {"in.zip", "out"}


def damaged(at: int, how: bytes) -> bytes:
    """A tar of two rasters with other bytes somewhere: the second header begins at 1024, the end marker at 2048."""
    whole = tar(("a.tif", b"1", {}), ("b.tif", b"2", {}))
    return whole[:at] + how + whole[at + len(how) :]


@pytest.mark.parametrize("pack", [lambda content: content, gzip.compress], ids=["tar", "tar.gz"])
@pytest.mark.parametrize(
    ("content", "why"),
    [
        (damaged(1024 + 3, b"\x01"), "the header of a member is damaged"),
        (damaged(0, b"")[:1024], "may be cut off"),
        (damaged(0, b"")[: 1024 + 100], "the header of a member is damaged"),
        (damaged(0, b"")[:2048], "may be cut off"),
        (damaged(1024, bytes(512)), "more follows the mark of its end"),
    ],
    ids=["a bit flipped", "cut between", "cut within a header", "no end", "a hole of zeros"],
)
def test_a_damaged_tar_is_refused_and_not_taken_up_to_the_damage(unpacked, pack, content, why):
    with pytest.raises(GeoAssetsError, match=why) as error:
        unpacked(pack(content))
    assert error.value.code == "UNREADABLE"


def test_a_compressed_tar_with_other_bytes_than_were_packed_is_refused(unpacked):
    packed = bytearray(gzip.compress(tar(("a.tif", b"1", {})), compresslevel=0))
    packed[packed.index(b"1" + bytes(400))] ^= 1
    with pytest.raises(GeoAssetsError, match="CRC") as error:
        unpacked(bytes(packed))
    assert error.value.code == "UNREADABLE"


@pytest.mark.parametrize("tail", [512, 1024, 10_240], ids=["a lone block", "two blocks", "a record"])
def test_a_tar_may_end_with_any_number_of_zeros(unpacked, tail):
    report = unpacked(damaged(0, b"")[:2048] + bytes(tail))
    assert [r.name for r in report.rasters] == ["a.tif", "b.tif"]


@pytest.mark.parametrize(
    "pack", [lambda name: archive({name: b"1"}), lambda name: tar((name, b"1", {}))], ids=["zip", "tar"]
)
@pytest.mark.parametrize(
    "long",
    ["n" * 300 + ".tif", "n" * 300 + "/in.tif", "\N{HIRAGANA LETTER A}" * 100 + ".tif"],
    ids=["file", "folder", "bytes"],
)
def test_a_member_whose_name_no_file_system_takes_is_refused_by_name(unpacked, pack, long):
    with pytest.raises(GeoAssetsError, match="longer than the 255 bytes") as error:
        unpacked(pack(long))
    assert error.value.code == "UNSAFE_ARCHIVE"


@pytest.mark.parametrize(
    "pack", [lambda name: archive({name: b"1"}), lambda name: tar((name, b"1", {}))], ids=["zip", "tar"]
)
def test_a_member_with_a_name_of_255_bytes_is_unpacked(unpacked, pack):
    assert len(unpacked(pack("\N{HIRAGANA LETTER A}" * 83 + "ab.tif")).rasters) == 1
