from hypothesis import given, settings
from hypothesis import strategies as st

from geo_assets.storage.kinds import Kind
from geo_assets.storage.ordered import OrderedMembers
from geo_assets.storage.sources import Member, name_key

#: Names that are ordered otherwise by locale, by case or by UTF-16 than by code points, and names that only look odd.
ODD = [
    "b.tif",
    "A.tif",
    "a.TIF",
    "a.tfw",
    "ä/a.tif",
    "z/a.tif",
    "\ue000.tif",
    "😀.tif",
    "a b.tif",
    "a\n.tif",
    "x.gdb/a",
]
PATHS = st.lists(st.one_of(st.sampled_from(ODD), st.text(st.characters(exclude_categories=["Cs"]), min_size=1)))


@settings(deadline=None)
@given(PATHS)
def test_files_come_in_the_order_in_which_they_are_grouped(paths):
    files = [Member(path=path, size=number, etag=f'"{number}"') for number, path in enumerate(dict.fromkeys(paths))]
    with OrderedMembers() as ordered:
        for file in files:
            ordered.add([file])
        assert list(ordered) == sorted(files, key=lambda m: (*name_key(m.path), m.path))


def test_what_a_file_holds_is_kept_whether_that_is_known_something_or_nothing():
    files = [
        Member(path="a.zip", size=1, etag="", holds=None),
        Member(path="b.zip", size=2**40, etag="", holds=()),
        Member(path="c.zip", size=3, etag="", holds=(Kind.RASTER, Kind.VECTOR)),
    ]
    with OrderedMembers() as ordered:
        ordered.add(reversed(files))
        assert list(ordered) == files
