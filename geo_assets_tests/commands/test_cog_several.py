"""`geo-assets cog` for a source that holds several rasters."""

import json

import numpy as np
import rasterio

from geo_assets_tests.commands.test_cog import cog, home, rgb
from geo_assets_tests.raster.hostile import striped
from geo_assets_tests.raster.test_archives import archive, tar
from geo_assets_tests.raster.test_several import climate, numbers, ragged, write_bytes

__all__ = ["home"]  # the fixture


def pixels(path):
    with rasterio.open(path) as dataset:
        return dataset.read()


def test_every_variable_becomes_a_cog_in_the_directory(tmp_path, home):
    source = write_bytes(tmp_path / "in.nc", climate(tas=numbers(3, 4, 5), pr=numbers(4, 5)))
    done = cog(source, tmp_path / "cogs", "--json", home=home)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert [(c["name"], c["cog"]) for c in told["cogs"]] == [
        (n, str(tmp_path / "cogs" / f"{n}.tif")) for n in ("tas", "pr")
    ]
    assert {"profile", "bytes", "sha256"} <= told["cogs"][0].keys()
    np.testing.assert_array_equal(pixels(tmp_path / "cogs" / "tas.tif"), numbers(3, 4, 5))


def test_a_file_for_several_is_refused_and_the_hint_says_how(tmp_path, home):
    source = write_bytes(tmp_path / "in.nc", climate(tas=numbers(4, 5), pr=numbers(4, 5)))
    done = cog(source, tmp_path / "out.tif", home=home)
    assert done.returncode != 0
    assert "in.nc holds 2 rasters: tas, pr" in done.stderr
    assert "--variable NAME" in done.stderr
    assert not (tmp_path / "out.tif").exists()


def test_one_variable_may_be_picked_and_a_name_that_is_not_there_is_told(tmp_path, home):
    source = write_bytes(tmp_path / "in.nc", climate(tas=numbers(4, 5), pr=numbers(4, 5) + 1))
    done = cog(source, tmp_path / "out.tif", "--variable", "pr", "--json", home=home)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["bytes"] == (tmp_path / "out.tif").stat().st_size
    np.testing.assert_array_equal(pixels(tmp_path / "out.tif")[0], numbers(4, 5) + 1)
    done = cog(source, tmp_path / "other.tif", "--variable", "nothing", home=home)
    assert done.returncode != 0
    assert "in.nc holds no raster 'nothing'; it holds: tas, pr" in done.stderr


def test_a_container_of_one_variable_becomes_the_file(tmp_path, home):
    done = cog(write_bytes(tmp_path / "in.nc", climate(tas=numbers(4, 5))), tmp_path / "out.tif", home=home)
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(pixels(tmp_path / "out.tif")[0], numbers(4, 5))


def test_what_is_left_out_is_told_with_its_reason(tmp_path, home):
    done = cog(write_bytes(tmp_path / "in.nc", ragged()), tmp_path / "cogs", "--json", home=home)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert [c["name"] for c in told["cogs"]] == ["good"]
    (left_out,) = told["left_out"]
    assert (left_out["name"], left_out["code"]) == ("bad", "RASTER_UNSUPPORTED")


def test_a_zip_is_taken_apart_and_a_member_may_be_picked(tmp_path, home):
    source = write_bytes(
        tmp_path / "in.zip", archive({"a.tif": striped("LZW"), "b.nc": climate(tas=numbers(4, 5), pr=numbers(4, 5))})
    )
    done = cog(source, tmp_path / "cogs", home=home)
    assert done.returncode == 0, done.stderr
    assert {p.name for p in (tmp_path / "cogs").iterdir()} == {"a.tif", "b_tas.tif", "b_pr.tif"}
    for name in ("a.tif", "b.nc:pr"):
        assert cog(source, tmp_path / "one.tif", "--variable", name, home=home).returncode == 0
    done = cog(source, tmp_path / "two.tif", "--variable", "b.nc", home=home)
    assert done.returncode != 0
    assert "b.nc holds 2 rasters" in done.stderr


def test_one_raster_goes_into_a_directory_under_its_own_name_but_never_over_itself(tmp_path, home):
    source = rgb(tmp_path / "in.tif")
    (tmp_path / "cogs").mkdir()
    assert cog(source, tmp_path / "cogs", home=home).returncode == 0
    assert (tmp_path / "cogs" / "in.tif").is_file()
    before = source.read_bytes()
    done = cog(source, tmp_path, home=home)
    assert done.returncode != 0
    assert "is the source itself" in done.stderr
    assert source.read_bytes() == before


def test_vectors_in_a_tar_are_told_of_beside_its_rasters_and_a_tar_of_vectors_is_to_be_a_zip(tmp_path, home):
    roads, raster = ("roads.geojson", b"{}", {}), ("a.tif", striped("LZW"), {})
    source = write_bytes(tmp_path / "in.tar", tar(raster, roads))
    done = cog(source, tmp_path / "cogs", home=home)
    assert done.returncode == 0, done.stderr
    assert "vectors in a tar are left out; put them into a zip: roads.geojson" in " ".join(done.stderr.split())
    done = cog(write_bytes(tmp_path / "vec.tar", tar(roads)), tmp_path / "cogs", home=home)
    assert done.returncode != 0
    assert "put its vectors into a zip: roads.geojson" in " ".join(done.stderr.split())
