"""Which files make a scene, which asset each of them is, and what is wrong with a scene."""

import time

import pytest

from geo_assets.storage.kinds import Kind
from geo_assets.storage.scenes import Scenes, check, normalized
from geo_assets.storage.sources import Member, sorted_sources


def grouped(scenes: Scenes, *paths: str, metadata: bool = True) -> dict[str, list[str]]:
    """Source -> its files."""
    sources = sorted_sources(Member(path=path, size=1, etag="e") for path in paths)
    return {s.path: [m.path for m in s.members] for s in scenes.grouped(sources, metadata=metadata)}


def fault(scenes: Scenes, *paths: str) -> tuple[str, str] | None:
    sources = sorted_sources(Member(path=path, size=1, etag="e") for path in paths)
    (scene,) = (s for s in scenes.grouped(sources) if s.kind is Kind.SCENE)
    error = scenes.fault(scene)
    return (error.code, error.message) if error else None


def test_the_bands_of_a_scene_are_one_source_with_their_sidecars_wherever_they_lie():
    scenes = Scenes(r"(?P<id>S\d)_B", {"B04": "*_B04.tif", "B03": "*_B03.tif"})
    files = ["10m/S1_B04.tif", "10m/S1_B04.tfw", "10m/S1_B04.tif.aux.xml", "20m/S1_B03.tif", "S2_B04.tif", "other.tif"]
    assert grouped(scenes, *files) == {
        "S1": ["10m/S1_B04.tfw", "10m/S1_B04.tif", "10m/S1_B04.tif.aux.xml", "20m/S1_B03.tif"],
        "S2": ["S2_B04.tif"],
        "other.tif": ["other.tif"],
    }


def test_what_no_glob_names_and_what_is_no_raster_goes_on_as_before():
    scenes = Scenes(r"(?P<id>S\d)_", {"B04": "*_B04.tif"})
    files = ["S1_B04.tif", "S1_mask.tif", "S1_roads.gpkg", "S1_readme.txt"]
    assert grouped(scenes, *files) == {
        "S1": ["S1_B04.tif"],
        **{name: [name] for name in ("S1_mask.tif", "S1_readme.txt", "S1_roads.gpkg")},
    }


def test_the_metadata_of_a_product_are_read_with_the_scene_and_remain_companions():
    landsat = "LC08_L2SP_198024_20230821_20230826_02_T1"
    scenes = Scenes(r"(?P<id>LC08_\w+_T1)_", {"red": "*_SR_B4.TIF"})
    files = [f"{landsat}_SR_B4.TIF", f"{landsat}_MTL.txt"]
    assert grouped(scenes, *files) == {landsat: files, files[1]: [files[1]]}
    assert grouped(scenes, *files, metadata=False)[landsat] == files[:1]
    sentinel = "S2A_MSIL2A_20240101T101411_N0510_R022_T32ULC_20240101T131414"
    scenes = Scenes(rf"(?P<id>{sentinel})\.SAFE/", {"B04": "*_B04_10m.jp2"})
    files = [f"{sentinel}.SAFE/GRANULE/L2A/T32ULC_20240101T101411_B04_10m.jp2", f"{sentinel}.SAFE/MTD_MSIL2A.xml"]
    assert grouped(scenes, *files)[sentinel] == files


def test_without_globs_the_expression_names_the_asset_or_else_the_file_does():
    by_group = Scenes(r"(?P<id>S\d)_(?P<asset>B\d+)")
    assert [f.key for f in by_group.files([Member(path="a/S1_B04.tif", size=1, etag="")])] == ["B04"]
    by_name = Scenes(r"(?P<id>S\d)_")
    assert [f.key for f in by_name.files([Member(path="a/S1_B 04.tif", size=1, etag="")])] == ["S1_B_04"]


def test_a_scene_whose_name_is_that_of_another_source_is_called_differently():
    assert grouped(Scenes(r"(?P<id>a\.gpkg)_x", {"B": "*.tif"}), "a.gpkg", "a.gpkg_x.tif").keys() == {
        "a.gpkg",
        "a.gpkg/",
    }


def test_what_is_wrong_with_a_scene_is_said_with_its_files():
    scenes = Scenes(r"(?P<id>S\d)_", {"B1": "*_B1*.tif", "B10": "*_B10.tif", "thumbnail": "*_small.jpg"})
    assert fault(scenes, "S1_B1.tif") is None
    assert fault(scenes, "S1_B10.tif") == ("SCENE_AMBIGUOUS", "S1_B10.tif is B1 and B10 of the scene S1")
    assert fault(scenes, "S1_B1.tif", "a/S1_B1.tif") == (
        "SCENE_AMBIGUOUS",
        "S1_B1.tif, a/S1_B1.tif are all B1 of the scene S1",
    )
    assert fault(scenes, "S1_small.jpg") == ("SCENE_INCOMPLETE", "the scene S1 has nothing but a thumbnail")
    whole = Scenes(r"(?P<id>S\d)_", {"B2": "*_B2.tif", "B3": "*_B3.tif", "B4": "*_B4.tif"}, needs_all=True)
    assert fault(whole, "S1_B3.tif") == ("SCENE_INCOMPLETE", "the scene S1 has no file for B2, B4")
    assert fault(whole, "S1_B2.tif", "S1_B3.tif", "S1_B4.tif") is None


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (r"S2A_[^_]+", r"(?P<id>S2A_[^_]+)"),
        (r"(S2A_\w+)_B\d+", r"(?P<id>S2A_\w+)_B\d+"),
        (r"\((a)\)", r"\((?P<id>a)\)"),
        (r"[(](a)", r"[(](?P<id>a)"),
        (r"(?:a|b)(c)", r"(?:a|b)(?P<id>c)"),
        (r"(?P<id>a)_(?P<asset>b)", r"(?P<id>a)_(?P<asset>b)"),
    ],
)
def test_an_expression_may_leave_its_only_group_without_a_name(typed, meant):
    check(typed)
    assert normalized(typed) == meant


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("(((", "missing )"),
        ("(?=x)y", "invalid perl operator"),
        (r"(S\d)_(\d+)", "has a group without a name beside others: write (?P<id>…)"),
        ("(?P<id>a)(b)", "has a group without a name beside others: write (?P<id>…)"),
        ("(?P<id>a)(?P<band>b)", "has a group 'band'; there are id and asset"),
        ("(?P<asset>b)", "has no group for the id"),
        ("(?P<id>(?:a{900}){900})", "repetition"),
    ],
)
def test_an_expression_that_is_none_is_refused_in_one_line(wrong, said):
    with pytest.raises(ValueError, match=r".") as refused:
        check(wrong)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_an_expression_that_would_take_other_engines_for_ever_takes_no_time():
    began = time.monotonic()
    evil = Scenes(r"(?P<id>(?:(?:a+)+)+)$", {"x": "*.tif"})
    assert grouped(evil, *(f"{'a' * 1000}{n}!.tif" for n in range(200)))
    assert time.monotonic() - began < 2
