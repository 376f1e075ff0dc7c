"""The contents of a GeoPackage are read from its list of contents, by ranges; SQLite itself is not used."""

import random
import sqlite3

import pytest

from geo_assets.accounts import LocalAccount
from geo_assets.storage.containers import Container
from geo_assets.storage.geopackages import kinds_in
from geo_assets.storage.kinds import Kind
from geo_assets.storage.sources import Member
from geo_assets.storage.zips import look_into

RASTER, VECTOR = Kind.RASTER, Kind.VECTOR


@pytest.fixture
def written(tmp_path):
    def write(*contents, page=4096, before=0, filler=0):
        """A database with tables of these kinds of data, after so many others, and bytes of rows between them."""
        path = tmp_path / "a.gpkg"
        path.unlink(missing_ok=True)
        with sqlite3.connect(path) as db:
            db.execute(f"pragma page_size = {page}")
            db.execute("create table filler (a blob)")
            db.execute("insert into filler values (zeroblob(?))", (filler,))
            for number in range(before):
                db.execute(f"create table t{number} (a text default '{'x' * 200}')")
            db.execute(
                "create table gpkg_contents (table_name text not null primary key, data_type text not null, identifier"
                " text unique)"
            )
            db.executemany(
                "insert into gpkg_contents values (?, ?, ?)",
                [(f"n{i}", kind, f"n{i}") for i, kind in enumerate(contents)],
            )
        db.close()
        return path.read_bytes()

    return write


def held(content: bytes, asked: list | None = None):
    def read(start, count):
        if asked is not None:
            asked.append((start, count))
        return content[start : start + count]

    return kinds_in(read, len(content))


@pytest.mark.parametrize("page", [512, 4096, 65536])
@pytest.mark.parametrize(
    ("contents", "kinds"),
    [
        (["features"], (VECTOR,)),
        (["tiles"], (RASTER,)),
        (["features", "2d-gridded-coverage"], (RASTER, VECTOR)),
        (["attributes"], (VECTOR,)),
        (["features"] * 500 + ["Tiles"], (RASTER, VECTOR)),
        ([], (VECTOR,)),
    ],
)
def test_tables_of_tiles_and_of_features_are_told_apart(written, contents, kinds, page):
    assert held(written(*contents, page=page)) == kinds


def test_the_list_of_contents_is_found_among_many_tables_and_behind_much_data(written):
    asked = []
    content = written("tiles", before=400, filler=3_000_000)
    assert held(content, asked) == (RASTER,)
    assert sum(count for _, count in asked) < 500_000 < len(content)


def test_what_is_no_geopackage_or_is_damaged_is_not_known_and_no_error(written):
    content = written("tiles", "features", before=30)
    assert held(b"") is None
    assert held(b"no database" * 1000) is None
    assert held(content[:5000]) is None
    random.seed(5)
    for _ in range(3000):
        bad = bytearray(content)
        for _ in range(random.randint(1, 30)):
            bad[random.randrange(len(bad) if random.random() < 0.3 else 4096)] = random.randrange(256)
        assert held(bytes(bad)) in {None, (), (RASTER,), (VECTOR,), (RASTER, VECTOR)}


def test_pages_that_point_at_each_other_are_not_followed_for_ever(written):
    content = bytearray(written("tiles", before=400))
    assert content[100] == 5  # the list of tables is a tree
    asked = []
    content[108:112] = (1).to_bytes(4, "big")  # whose last branch is its root
    assert held(bytes(content), asked) is None
    assert len(asked) < 1000


def test_a_geopackage_of_a_container_is_looked_into(written, tmp_path):
    (tmp_path / "some").mkdir()
    (tmp_path / "some" / "A.GPKG").write_bytes(content := written("tiles"))
    members = [Member(path=path, size=len(content), etag="") for path in ("A.GPKG", "gone.gpkg", "../up.gpkg")]
    seen = look_into(Container("default", "some", LocalAccount(root=tmp_path)), members)
    assert [m.holds for m in seen] == [(RASTER,), None, None]
