"""Metadata beyond the default domain: it goes along, or a note says that it does not."""

import numpy as np
import pytest
import rasterio

from geo_assets_tests.raster.test_cog import write
from geo_assets_tests.raster.test_profiles import field, made

DOMAINS = {
    "SURVEY": {"A": "1", "B": "x=y\nz"},
    "IMAGERY": {"CLOUDCOVER": "3", "SATELLITEID": "WV02"},
    "xml:NOTES": {"xml:NOTES": '<?xml version="1.0"?><a b="c">d</a>'},
}


def tagged(path, pixels: np.ndarray, domains=DOMAINS, band: dict | None = None, mask: bool = False, **profile):
    """With metadata in these domains, and of its first band in another if `band` is given."""
    write(path, pixels, **profile)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK="YES"), rasterio.open(path, "r+") as dataset:
        for name, items in domains.items():
            key, _, value = items.get(name, "").partition("=")  # rasterio writes XML as a pair, which GDAL takes as one
            dataset.update_tags(ns=name, **({key: value} if key else items))
        if band:
            dataset.update_tags(1, ns="LENS", **band)
        if mask:
            dataset.write_mask(np.tri(*pixels.shape[1:]) > 0)
    return path


def bytes_of(count: int = 1) -> np.ndarray:
    return (field(count) * 250).astype("uint8")


STAGED = {
    "as it is": ({}, {}),
    "reprojected, with nodata": ({"nodata": 0}, {"target_crs": "EPSG:3857"}),
    "reprojected, by a mask": ({}, {"target_crs": "EPSG:3857"}),
    "reprojected, from a mask and nodata": ({"nodata": 0, "mask": True}, {"target_crs": "EPSG:3857"}),
    "on web tiles": ({}, {"web_tiles": True}),
    "with a CRS that is given": ({"crs": None}, {"source_crs": "EPSG:32618"}),
    "with a CRS that is given, reprojected": ({"crs": None}, {"source_crs": "EPSG:32618", "target_crs": "EPSG:3857"}),
    "in many bands": ({"count": 17}, {"target_crs": "EPSG:3857"}),
}


@pytest.mark.parametrize("name", STAGED)
def test_domains_of_metadata_go_along_whatever_is_done(tmp_path, name):
    profile, request_ = STAGED[name]
    profile = dict(profile)
    source = tagged(tmp_path / "in.tif", bytes_of(profile.pop("count", 1)), band={"F": "50 mm"}, **profile)
    report = made(source, **request_)
    assert not [w for w in report.warnings if "carried over" in w]
    with rasterio.open(tmp_path / "out.tif") as dataset:
        assert {name: dataset.tags(ns=name) for name in DOMAINS} == DOMAINS
        assert dataset.tags(1, ns="LENS") == {"F": "50 mm"}


def test_domains_go_along_where_the_nodata_value_is_mended(tmp_path):
    source = write(tmp_path / "in.tif", field().astype("float32"))
    (tmp_path / "in.tif.aux.xml").write_text(
        '<PAMDataset><Metadata domain="SURVEY"><MDI key="A">1</MDI></Metadata>'
        '<PAMRasterBand band="1"><NoDataValue>-9999.9</NoDataValue></PAMRasterBand></PAMDataset>'
    )
    report = made(source)
    assert report.nodata == np.float32(-9999.9)
    with rasterio.open(tmp_path / "out.tif") as dataset:
        assert dataset.tags(ns="SURVEY") == {"A": "1"}


def test_domains_go_along_where_a_world_file_is_taken(tmp_path):
    rasterio.shutil.copy(write(tmp_path / "plain.tif", bytes_of(3)), tmp_path / "in.bmp", driver="BMP")
    (tmp_path / "plain.tif").unlink()
    (tmp_path / "in.bmp.aux.xml").write_text(
        '<PAMDataset><Metadata domain="SURVEY"><MDI key="A">1</MDI></Metadata></PAMDataset>'
    )
    (tmp_path / "in.wld").write_text("10\n0\n0\n-10\n250005\n5886995\n")
    made(tmp_path / "in.bmp", source_crs="EPSG:25833")
    with rasterio.open(tmp_path / "out.tif") as dataset:
        assert dataset.tags(ns="SURVEY") == {"A": "1"}


def test_a_domain_about_the_former_grid_does_not_go_along_with_a_reprojection_and_is_named(tmp_path):
    domains = {
        "SURVEY": {"A": "1"},
        "ENVI": {"map_info": "{UTM, 1, 1}"},
        "TRE": {"BLOCKA": "01"},
        "json:X": {'{"a"': "1}"},
    }
    source = tagged(tmp_path / "in.tif", bytes_of(), domains)
    assert not [w for w in made(source).warnings if "carried over" in w]
    told = [w for w in made(source, target_crs="EPSG:3857").warnings if "carried over" in w]
    assert told == ["metadata domains are not carried over: ENVI, TRE, json:X"]
    with rasterio.open(tmp_path / "out.tif") as dataset:
        assert dataset.tags(ns="SURVEY") == {"A": "1"}
        assert not {"ENVI", "TRE", "json:X"} & set(dataset.tag_namespaces())


@pytest.mark.parametrize("request_", [{}, {"target_crs": "EPSG:3857"}], ids=str)
def test_domains_beside_metadata_of_bands_are_named(tmp_path, request_):
    source = tagged(tmp_path / "in.tif", bytes_of())
    with rasterio.open(source, "r+") as dataset:
        dataset.update_tags(1, FILTER="red")
    (told,) = [w for w in made(source, **request_).warnings if "carried over" in w]
    assert told == "metadata domains are not carried over: IMAGERY, SURVEY, xml:NOTES"
    with rasterio.open(tmp_path / "out.tif") as dataset:
        assert dataset.tags(1)["FILTER"] == "red"
