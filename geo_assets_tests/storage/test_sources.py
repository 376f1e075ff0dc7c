from hypothesis import given
from hypothesis import strategies as st

from geo_assets.storage.sources import Kind, Member, group_sources, name_key


def sources_of(*paths: str):
    members = sorted((Member(path=p, size=1, etag="e") for p in paths), key=lambda m: (*name_key(m.path), m.path))
    return {s.path: (s.kind, {m.path for m in s.members} - {s.path}) for s in group_sources(members)}


def test_the_parts_of_a_shapefile_are_one_source_in_any_case():
    found = sources_of("a/Roads.SHP", "a/roads.shx", "a/ROADS.dbf", "a/roads.prj", "a/roads.cpg", "a/roads.shp.xml")
    assert found == {"a/Roads.SHP": (Kind.VECTOR, {"a/roads.shx", "a/ROADS.dbf", "a/roads.prj", "a/roads.cpg", "a/roads.shp.xml"})}


def test_a_raster_takes_its_world_file_and_its_appended_sidecars():
    found = sources_of("RGB.byte.tif", "RGB.byte.tfw", "RGB.byte.tif.aux.xml", "RGB.byte.tif.ovr", "other.tif")
    assert found["RGB.byte.tif"] == (Kind.RASTER, {"RGB.byte.tfw", "RGB.byte.tif.aux.xml", "RGB.byte.tif.ovr"})
    assert found["other.tif"] == (Kind.RASTER, set())


def test_a_sidecar_without_an_owner_is_its_own_source():
    assert sources_of("lonely.tfw")["lonely.tfw"][0] is Kind.SIDECAR


def test_the_same_stem_in_two_folders_is_two_sources():
    assert set(sources_of("a/x.tif", "b/x.tif", "b/x.tfw")) == {"a/x.tif", "b/x.tif"}


def test_a_file_geodatabase_folder_is_one_unsupported_source():
    found = sources_of("d/x.gdb/a0001.gdbtable", "d/x.gdb/a0001.gdbindexes", "d/y.tif")
    assert found["d/x.gdb"][0] is Kind.UNSUPPORTED
    assert found["d/y.tif"][0] is Kind.RASTER


@given(
    st.lists(
        st.text(alphabet="ab./tifshpxzgdbTFW", min_size=1, max_size=14).filter(lambda p: not p.endswith("/") and not p.startswith("/")),
        unique=True,
        max_size=12,
    )
)
def test_every_file_belongs_to_exactly_one_source(paths):
    members = sorted((Member(path=p, size=1, etag="e") for p in paths), key=lambda m: (*name_key(m.path), m.path))
    grouped = [m.path for s in group_sources(members) for m in s.members]
    assert sorted(grouped) == sorted(paths)
