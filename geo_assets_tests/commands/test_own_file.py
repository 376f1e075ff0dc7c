"""Commands on a file of one's own: their hints name their options, and no upload and no submission that there was not."""

import json
from pathlib import Path

import numpy as np
import pytest

from geo_assets.commands.own_file import in_words_of_commands
from geo_assets.errors import ERRORS
from geo_assets_tests.conftest import Cli
from geo_assets_tests.raster.test_cog import write as raster
from geo_assets_tests.vector.builders import frame
from geo_assets_tests.vector.builders import write as vectors


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Files that a command does not read, for one reason or another."""
    folder = tmp_path_factory.mktemp("my files")
    (folder / "readme.txt").write_text("hello")
    (folder / "broken.tif").write_bytes(b"II*\x00\x08\x00\x00\x00" + bytes(2000))
    (folder / "places.csv").write_text("name,x,y\na,500000,5800000\nb,500010,5800010\n")
    (folder / "places.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": []}))
    (folder / "wide.csv").write_text(f"x,y,{','.join(f'c{i}' for i in range(1600))}\n")
    vectors(frame("POINT (1 2)"), folder / "survey.gpkg")
    vectors(frame("POINT (500000 5800000)", crs=None), folder / "roads.shp")
    raster(folder / "photo.jpg", np.zeros((3, 40, 40), "uint8"), driver="JPEG", crs=None, transform=None)
    return folder


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("cog broken.tif x.tif", "check that the file is complete"),
        ("cog readme.txt x.tif", "convert it to a supported format (docs/formats.md)"),
        ("cog survey.gpkg x.tif", "if it holds vectors: geo-assets load 'FOLDER/survey.gpkg' --table vector.NAME"),
        ("cog places.csv x.tif", "if it holds vectors: geo-assets load 'FOLDER/places.csv' --table vector.NAME"),
        ("cog photo.jpg x.tif --target-crs EPSG:1", "look for its code, for example at https://epsg.org"),
        ("cog photo.jpg x.tif --target-crs EPSG:999999", "look for its code, for example at https://epsg.org"),
        ("vector inspect readme.txt", "convert it to GeoPackage"),
        ("vector inspect wide.csv", "load some of its columns: --columns A,B"),
        ("vector inspect photo.jpg", "if it is a raster: geo-assets cog 'FOLDER/photo.jpg' OTHER.tif"),
        ("vector inspect places.csv --x x --y y", "name the CRS that it has: --source-crs EPSG:25832"),
        (
            "vector inspect roads.shp",
            "add the .prj, or name the CRS that it has: --source-crs EPSG:25832",
        ),
        ("vector inspect survey.gpkg --target-crs EPSG:1", "look for its code, for example at https://epsg.org"),
        ("vector inspect survey.gpkg --target-crs utm", "name the CRS as EPSG:code"),
    ],
)
def test_the_hint_of_a_command_on_a_file_is_what_can_be_done_with_that_command(files, tmp_path, line, hint):
    words = [str(files / word) if (files / word).exists() else word for word in line.split()]
    words = [str(tmp_path / word) if word == "x.tif" else word for word in words]
    done = Cli(tmp_path / "home").run(*words, "--json")
    assert done.returncode == 1, done.stdout
    said = json.loads(done.stdout)["error"]
    shown = said["remedy"].replace(str(files), "FOLDER").replace(str(Path(__file__).parents[2]) + "/", "")
    program = hint.partition("geo-assets")[0] + "geo-assets" if "geo-assets" in hint else ""
    assert shown == hint or (program and shown.endswith(hint.removeprefix(program))), said
    assert "it not recognized" not in said["message"]
    assert "CRS of the form" not in said["message"] or "utm" in line


def test_no_remedy_for_a_file_of_ones_own_speaks_of_an_upload_or_a_parameter():
    for code in ("UNREADABLE", "UNSUPPORTED_FORMAT", "ORPHAN_SIDECAR", "INCOMPLETE_SHAPEFILE", "UNSAFE_ARCHIVE",
                 "EMPTY_ARCHIVE", "RASTER_NO_CRS", "RASTER_UNSUPPORTED", "VECTOR_NO_CRS", "VECTOR_NO_LAYERS",
                 "VECTOR_NO_GEOMETRY", "VECTOR_UNSUPPORTED", "RESOLUTION_LOST", "SCHEMA_DRIFT"):  # fmt: skip
        said = in_words_of_commands(ERRORS[code].remedy)
        assert not [word for word in ("upload", "submit", "--param", "_crs") if word in said], said
