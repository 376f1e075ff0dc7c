import pytest
from hypothesis import given
from hypothesis import strategies as st

from geo_assets.storage.kinds import Kind
from geo_assets.storage.products import is_product_metadata, with_metadata
from geo_assets.storage.sources import (
    Member,
    group_sources,
    is_source_taken,
    matches,
    name_key,
    path_within,
    sorted_sources,
)
from geo_assets.storage.zips import contents


def sources_of(*paths: str):
    members = sorted((Member(path=p, size=1, etag="e") for p in paths), key=lambda m: (*name_key(m.path), m.path))
    return {s.path: (s.kind, {m.path for m in s.members} - {s.path}) for s in group_sources(members)}


def test_the_parts_of_a_shapefile_are_one_source_in_any_case():
    found = sources_of("a/Roads.SHP", "a/roads.shx", "a/ROADS.dbf", "a/roads.prj", "a/roads.cpg", "a/roads.shp.xml")
    assert found == {
        "a/Roads.SHP": (Kind.VECTOR, {"a/roads.shx", "a/ROADS.dbf", "a/roads.prj", "a/roads.cpg", "a/roads.shp.xml"})
    }


def test_a_raster_takes_its_world_file_and_its_appended_sidecars():
    found = sources_of("RGB.byte.tif", "RGB.byte.tfw", "RGB.byte.tif.aux.xml", "RGB.byte.tif.ovr", "other.tif")
    assert found["RGB.byte.tif"] == (Kind.RASTER, {"RGB.byte.tfw", "RGB.byte.tif.aux.xml", "RGB.byte.tif.ovr"})
    assert found["other.tif"] == (Kind.RASTER, set())


def test_rpcs_in_a_text_file_belong_to_their_raster_and_to_nothing_else():
    found = sources_of("a/Scene.TIF", "a/Scene_RPC.TXT", "b/scene_rpc.txt", "c/roads.geojson", "c/roads_rpc.txt")
    assert found == {
        "a/Scene.TIF": (Kind.RASTER, {"a/Scene_RPC.TXT"}),
        "b/scene_rpc.txt": (Kind.COMPANION, set()),
        "c/roads.geojson": (Kind.VECTOR, set()),
        "c/roads_rpc.txt": (Kind.COMPANION, set()),
    }


def test_a_journal_belongs_to_its_sqlite_file_and_to_no_other_of_its_name():
    found = sources_of("a/Roads.GPKG", "a/Roads.GPKG-wal", "a/roads.geojson", "x.db", "x.db-journal", "lonely.gpkg-wal")
    assert found == {
        "a/Roads.GPKG": (Kind.VECTOR, {"a/Roads.GPKG-wal"}),
        "a/roads.geojson": (Kind.VECTOR, set()),
        "x.db": (Kind.VECTOR, {"x.db-journal"}),
        "lonely.gpkg-wal": (Kind.SIDECAR, set()),
    }
    assert matches("a/Roads.GPKG-wal", ["*.GPKG"], [])
    assert not matches("a/Roads.GPKG-wal", [], ["a/Roads.GPKG"])


def test_a_sidecar_without_an_owner_is_its_own_source():
    assert sources_of("lonely.tfw")["lonely.tfw"][0] is Kind.SIDECAR


def test_what_lies_beside_data_for_people_is_a_companion_and_what_is_missing_its_owner_is_not():
    names = (
        "README",
        "a/LICENSE.txt",
        "report.pdf",
        "x.qml",
        "x.lyr",
        "x.tif.md5",
        "c.tif.vat.dbf",
        "LC08_T1_MTL.json",
        "metadata.json",
        "meta.xml",
        "p.qgz",
    )
    assert {kind for kind, _ in sources_of(*names).values()} == {Kind.COMPANION}
    assert {kind for kind, _ in sources_of("lonely.tif.aux.xml", "alone.dbf").values()} == {Kind.SIDECAR}
    assert {kind for kind, _ in sources_of("plan.dwg", "noending").values()} == {Kind.UNSUPPORTED}


def test_the_same_stem_in_two_folders_is_two_sources():
    assert set(sources_of("a/x.tif", "b/x.tif", "b/x.tfw")) == {"a/x.tif", "b/x.tif"}


def test_a_file_geodatabase_folder_is_one_vector_source():
    found = sources_of("d/x.gdb/a0001.gdbtable", "d/x.gdb/a0001.gdbindexes", "d/y.tif")
    assert found["d/x.gdb"] == (Kind.VECTOR, {"d/x.gdb/a0001.gdbtable", "d/x.gdb/a0001.gdbindexes"})
    assert found["d/y.tif"][0] is Kind.RASTER


def test_the_parquet_files_below_a_folder_of_partitions_are_one_source():
    parts = {"a/q/year=2023/b=1/p.parquet", "a/q/year=2024/b=2/p.parquet", "a/q/year=2024/b=2/q.geoparquet"}
    spark = {"s.parquet/part-0.snappy.parquet", "s.parquet/_SUCCESS"}
    found = sources_of(*parts, *spark, "a/q.csv", "a/q/year=2024/readme.txt", "a/q/_SUCCESS", "a=b.parquet")
    assert found == {
        "a/q": (Kind.VECTOR, parts),
        "s.parquet": (Kind.VECTOR, spark),
        "a/q.csv": (Kind.VECTOR, set()),
        "a/q/year=2024/readme.txt": (Kind.COMPANION, set()),
        "a/q/_SUCCESS": (Kind.COMPANION, set()),
        "a=b.parquet": (Kind.VECTOR, set()),
    }


def test_partitions_in_the_root_of_a_container_are_one_source_of_their_columns_name():
    parts = {"year=2023/p.parquet", "year=2024/p.parquet"}
    assert sources_of(*parts) == {"year=": (Kind.VECTOR, parts)}
    assert {path_within(p, "year=") for p in parts} == parts
    assert (
        path_within("a/q/year=2024/p.parquet", "a/q")
        == path_within("a/q/year=2024/p.parquet", "a/q/")
        == "year=2024/p.parquet"
    )


def test_mapinfo_and_gml_take_their_parts_along():
    found = sources_of("f4.TAB", "f4.dat", "F4.MAP", "f4.id", "f4.ind", "g.mif", "g.mid", "h.gml", "h.xsd", "h.gfs")
    assert found == {
        "f4.TAB": (Kind.VECTOR, {"f4.dat", "F4.MAP", "f4.id", "f4.ind"}),
        "g.mif": (Kind.VECTOR, {"g.mid"}),
        "h.gml": (Kind.VECTOR, {"h.xsd", "h.gfs"}),
    }


def test_a_tab_beside_an_image_says_where_that_lies_unless_it_has_rows():
    assert sources_of("map.tif", "map.tab") == {"map.tif": (Kind.RASTER, {"map.tab"})}
    assert sources_of("map.tif", "map.tab", "map.dat")["map.tab"] == (Kind.VECTOR, {"map.dat"})


def test_vector_files_of_one_part_are_known_packed_or_not():
    for name in (
        "a.gpx",
        "a.sqlite",
        "a.sqlite3",
        "a.db",
        "a.xlsx",
        "a.geojson.gz",
        "a.CSV.GZ",
        "a.gml.gz",
        "a.gpkg.gz",
    ):
        assert sources_of(name) == {name: (Kind.VECTOR, set())}, name
    for name in ("a.shp.gz", "a.tif.gz", "a.gz", "a.tab.gz"):
        assert sources_of(name)[name][0] is Kind.UNSUPPORTED, name
    assert sources_of("thumbs.db.tar.gz")["thumbs.db.tar.gz"][0] is Kind.ZIP


def test_a_zipped_geodatabase_under_its_usual_name_is_a_zip_and_not_a_folder():
    found = sources_of(
        "roads.gdb.zip", "d/Roads.GDB.zip", "roads.gdb/gdb", "roads.gdb/a0001.gdbtable", "x.gdb", ".gdb", "ok.tif"
    )
    assert {path: kind for path, (kind, _) in found.items()} == {
        "roads.gdb.zip": Kind.ZIP,
        "d/Roads.GDB.zip": Kind.ZIP,
        "roads.gdb": Kind.VECTOR,
        "x.gdb": Kind.UNSUPPORTED,
        ".gdb": Kind.UNSUPPORTED,
        "ok.tif": Kind.RASTER,
    }
    assert found["roads.gdb"][1] == {"roads.gdb/gdb", "roads.gdb/a0001.gdbtable"}


#: What file names are put together from, and what could be taken for something else.
_PIECES = st.sampled_from(
    [
        *(
            ".",
            "..",
            "/",
            "//",
            ".gdb",
            ".GDB",
            ".zip",
            ".shp",
            ".dbf",
            ".tif",
            ".tfw",
            ".aux.xml",
            ".xml",
            ".ovr",
            ".json",
            "a",
            "B",
        ),
        *("k=v", ".parquet", ".gz", ".tab", ".dat"),
        *(
            "é",
            "İ",
            "ß",
            " ",
            "#1",
            "%2F",
            "\\",
            "\n",
            "\t",
            "\x7f",
            "\u202e",
            "😀",
            "*",
            "[",
            "?",
            "'",
            '"',
            "__MACOSX/",
            "._",
            "~",
        ),
    ]
)
_NAMES = st.lists(st.lists(_PIECES, min_size=1, max_size=6).map("".join), unique=True, max_size=12)


@given(_NAMES)
def test_whatever_files_are_called_each_belongs_to_one_source_and_no_two_sources_share_a_name(paths):
    sources = sorted_sources(Member(path=p, size=1, etag="e") for p in paths)
    owned = [m.path for s in sources for m in s.members]
    owners = {s.path for s in sources}
    assert set(owned) == set(paths)
    assert len(owners) == len(sources)
    # only a sidecar may serve several: a .prj beside a shapefile and a grid of one name
    assert {p for p in paths if owned.count(p) > 1} <= {p for p in paths if p not in owners}


@given(_NAMES)
def test_whatever_the_files_of_a_zip_are_called_they_are_sorted(names):
    found = contents(names)
    sorted_names = [*found.rasters, *found.vectors, *found.others]
    assert len(sorted_names) == len(set(sorted_names))


@given(
    st.lists(
        st.text(alphabet="ab./tifshpxzgdbTFW", min_size=1, max_size=14).filter(
            lambda p: not p.endswith("/") and not p.startswith("/")
        ),
        unique=True,
        max_size=12,
    )
)
def test_every_file_belongs_to_exactly_one_source(paths):
    members = sorted((Member(path=p, size=1, etag="e") for p in paths), key=lambda m: (*name_key(m.path), m.path))
    grouped = [m.path for s in group_sources(members) for m in s.members]
    assert sorted(grouped) == sorted(paths)


def test_raw_pixels_and_the_header_that_describes_them_are_one_raster():
    found = sources_of(
        "a.bil",
        "a.hdr",
        "a.prj",
        "B.FLT",
        "B.HDR",
        "e.dat",
        "e.hdr",
        "f.dat",
        "f.dat.hdr",
        "g",
        "g.hdr",
        "h.img",
        "h.hdr",
    )
    assert found == {
        "a.bil": (Kind.RASTER, {"a.hdr", "a.prj"}),
        "B.FLT": (Kind.RASTER, {"B.HDR"}),
        "e.dat": (Kind.RASTER, {"e.hdr"}),
        "f.dat": (Kind.RASTER, {"f.dat.hdr"}),
        "g": (Kind.RASTER, {"g.hdr"}),
        "h.img": (Kind.RASTER, {"h.hdr"}),
    }


def test_a_header_makes_no_raster_of_what_it_does_not_describe():
    found = sources_of("a.tif", "a.hdr", "b.dat", "c.hdr")
    assert {path: kind for path, (kind, _) in found.items()} == {
        "a.tif": Kind.RASTER,
        "a.hdr": Kind.SIDECAR,
        "b.dat": Kind.UNSUPPORTED,
        "c.hdr": Kind.SIDECAR,
    }


def test_an_imagine_file_takes_its_pixels_and_pyramids_along():
    found = sources_of("a.img", "a.ige", "a.rrd", "a.rde", "a.img.aux.xml", "b.tif", "b.rrd", "b.aux")
    assert found == {
        "a.img": (Kind.RASTER, {"a.ige", "a.rrd", "a.rde", "a.img.aux.xml"}),
        "b.tif": (Kind.RASTER, {"b.rrd", "b.aux"}),
    }


def test_archives_of_two_endings_are_archives_and_a_prj_in_capitals_belongs_to_its_image():
    found = sources_of("x/LC08.tar", "x/LC09.tar.gz", "x/LC07.tgz", "SCAN.TIF", "SCAN.PRJ", "SCAN.TFW")
    assert {path: kind for path, (kind, _) in found.items()} == {
        "x/LC08.tar": Kind.ZIP,
        "x/LC09.tar.gz": Kind.ZIP,
        "x/LC07.tgz": Kind.ZIP,
        "SCAN.TIF": Kind.RASTER,
    }
    assert found["SCAN.TIF"][1] == {"SCAN.PRJ", "SCAN.TFW"}


def test_the_metadata_of_a_product_go_with_the_rasters_that_are_named_after_it():
    paths = [
        "p/LC08_T1_SR_B4.TIF",
        "p/LC08_T1_MTL.txt",
        "p/lc08_t1_mtl.json",
        "p/LC08_T10_SR_B4.TIF",
        "q/LC08_T1_SR_B4.TIF",
        "p/LC08_T1.gpkg",
    ]
    members = [Member(path=path, size=1, etag="") for path in paths]
    metadata = [m for m in members if is_product_metadata(m.path)]
    sources = {s.path: [m.path for m in s.members] for s in with_metadata(sorted_sources(members), metadata)}
    assert sources == {
        "p/LC08_T1_SR_B4.TIF": ["p/LC08_T1_SR_B4.TIF", "p/LC08_T1_MTL.txt", "p/lc08_t1_mtl.json"],
        **{path: [path] for path in paths[1:]},
    }


@pytest.mark.parametrize(
    ("path", "include", "exclude", "taken"),
    [
        ("d/roads.gdb/a00000001.gdbtable", ["*.gdb"], [], True),
        ("d/roads.gdb/a00000001.gdbtable", ["d/roads.gdb"], [], True),
        ("d/roads.gdb/gdb", ["*.gdbtable"], [], False),
        ("d/roads.gdb/gdb", [], ["*.gdb"], False),
        ("roads.parquet/part-0.parquet", ["roads.parquet"], [], True),
        ("roads.parquet/_SUCCESS", ["*.parquet"], [], True),
        ("sales/year=2024/part-0.parquet", ["*.parquet"], [], True),
        ("sales/year=2024/part-0.parquet", ["sales"], [], True),
        ("sales/year=2024/part-0.parquet", ["sales"], ["*/year=2024/*"], False),
        ("sales/year=2024/part-0.parquet", [], ["sales"], False),
        ("sales/year=2024/part-0.parquet", ["*.tif"], [], False),
        ("year=2024/part-0.parquet", ["year="], [], True),
        ("sales/readme.txt", ["sales"], [], False),
    ],
)
def test_a_folder_that_is_one_source_passes_the_globs_by_its_own_name_or_its_files(path, include, exclude, taken):
    assert matches(path, include, exclude) is taken


@pytest.mark.parametrize(
    ("source", "include", "exclude", "taken"),
    [
        ("sales", ["*.parquet"], [], True),
        ("sales", ["sales"], [], True),
        ("sales", ["sales/*"], [], True),
        ("sales", ["*.parquet"], ["sales"], False),
        ("sales", ["*.tif"], [], False),
        ("year=", ["*.parquet"], [], True),
        ("roads.gdb", ["*.gdb"], [], True),
        ("roads.gdb", ["*.parquet"], [], False),
        ("a.tif", ["*.parquet"], [], False),
        ("a.tif", ["*.tif"], [], True),
        ("roads.parquet", ["*.parquet"], [], True),
    ],
)
def test_a_published_folder_is_within_the_globs_that_its_files_passed(source, include, exclude, taken):
    assert is_source_taken(source, include, exclude) is taken
