import random
import zipfile

import pytest

from geo_assets.accounts import LocalAccount
from geo_assets.storage.containers import Container
from geo_assets.storage.kinds import Kind
from geo_assets.storage.sources import Member
from geo_assets.storage.zips import contents, look_into
from geo_assets_tests.raster.test_archives import archive

RASTER, VECTOR = Kind.RASTER, Kind.VECTOR


@pytest.mark.parametrize(
    ("names", "holds"),
    [
        (["a.tif", "a.tfw", "read me.txt"], (RASTER,)),
        (["roads.shp", "roads.shx", "roads.dbf", "roads.prj"], (VECTOR,)),
        (["a.tif", "roads.gpkg"], (RASTER, VECTOR)),
        (["d/x.gdb/a0001.gdbtable"], (VECTOR,)),
        (["q/year=2024/part-0.parquet", "t.tab", "t.dat"], (VECTOR,)),
        (["read me.txt", "deep.zip"], ()),
        (["__MACOSX/._a.tif", "a.gpkg"], (VECTOR,)),
        (["roads.shp", "roads.dbf", "roads.shx", "preview.png"], (VECTOR,)),
        (["roads.gpkg", "scan.png", "scan.pgw"], (RASTER, VECTOR)),
        (["scan.png"], (RASTER,)),
        (["scene.tif", "metadata.json"], (RASTER,)),
        (["places.json"], (VECTOR,)),
        ([], ()),
    ],
)
def test_what_a_zip_holds_is_told_by_its_names(names, holds):
    assert contents(names).holds == holds


@pytest.fixture
def holds(tmp_path):
    (tmp_path / "some").mkdir()

    def look(content: bytes, name: str = "a.zip"):
        (tmp_path / "some" / name).write_bytes(content)
        member = Member(path=name, size=len(content), etag="")
        (seen,) = look_into(Container("default", "some", LocalAccount(root=tmp_path)), [member])
        return seen.holds

    return look


def test_the_directory_is_read_wherever_it_lies(holds):
    assert holds(archive({"a.tif": b"1"})) == (RASTER,)
    noise = random.Random(1).randbytes(300_000)
    assert holds(archive({"a.tif": noise, "b.gpkg": noise})) == (RASTER, VECTOR)
    assert holds(archive({f"{'long' * 20}/{n}.tif": b"" for n in range(5000)}, zipfile.ZIP_STORED)) == (RASTER,)


def test_only_zips_are_looked_into(holds):
    assert holds(archive({"a.tif": b"1"}), "a.tif") is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x05\x06",
        b"no zip",
        archive({"a.tif": b"1"})[:-10],
        archive({f"{n}.tif": b"" for n in range(10_001)}, zipfile.ZIP_STORED),
        archive({"a.tif": b"1"}).replace(b"a.tif", b"a\x00tif"),
    ],
    ids=["empty", "end alone", "no zip", "cut off", "many", "nul"],
)
def test_one_that_cannot_be_listed_is_no_error(holds, content):
    assert holds(content) in {None, ()}


def test_a_directory_that_claims_to_be_huge_is_not_read(holds):
    zipped = archive({"a.tif": b"1"})
    end = zipped.rindex(b"PK\x05\x06")
    size = 6_000_000
    claimed = (
        bytes(size)
        + zipped[:end]
        + zipped[end : end + 12]
        + (size).to_bytes(4, "little")
        + (0).to_bytes(4, "little")
        + b"\0\0"
    )
    assert holds(claimed) is None


def test_a_file_that_is_gone_or_has_a_name_that_no_store_takes_is_no_error(tmp_path):
    (tmp_path / "some").mkdir()
    container = Container("default", "some", LocalAccount(root=tmp_path))
    members = [Member(path=path, size=100, etag="") for path in ("gone.zip", "new\nline.zip", "../up.zip")]
    assert [m.holds for m in look_into(container, members)] == [None, None, None]


def test_files_keep_their_order_whether_they_are_looked_into_or_not(tmp_path):
    (tmp_path / "some").mkdir()
    (tmp_path / "some" / "b.zip").write_bytes(archive({"a.tif": b"1"}))
    (tmp_path / "some" / "d.zip").write_bytes(archive({"a.gpkg": b"1"}))
    members = [Member(path=p, size=0, etag="") for p in ("a.tif", "b.zip", "c.tif", "d.zip", "e.tar", "f.csv")]
    members = [
        m.model_copy(update={"size": file.stat().st_size}) if (file := tmp_path / "some" / m.path).exists() else m
        for m in members
    ]
    seen = list(look_into(Container("default", "some", LocalAccount(root=tmp_path)), members))
    assert [m.path for m in seen] == [m.path for m in members]
    assert [m.holds for m in seen] == [None, (RASTER,), None, (VECTOR,), (RASTER,), None]
