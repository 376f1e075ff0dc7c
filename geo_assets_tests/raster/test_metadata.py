"""Metadata beyond the default domain: it goes along, or a note says that it does not."""

import base64
import functools
import struct

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo
from rio_cogeo.cogeo import cog_validate

from geo_assets.raster import cogfile
from geo_assets.raster.validate import validate_cog
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


def test_the_stamp_of_a_cog_of_ours_is_no_metadata_that_another_one_has_lost(tmp_path):
    made(tagged(tmp_path / "in.tif", bytes_of(), {"SURVEY": {"A": "1"}}))
    (tmp_path / "out.tif").rename(tmp_path / "ours.tif")
    for how in ({"profile": "archive"}, {"target_crs": "EPSG:3857"}):
        assert not [w for w in made(tmp_path / "ours.tif", **how).warnings if "carried over" in w]


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


@functools.cache  # it holds the time at which it was made
def icc(space: bytes = b"RGB ", size: int = 600) -> bytes:
    """Of RGB a colour profile; of others what begins as one does."""
    if space == b"RGB " and size == 600:
        return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()  # libpng looks at it
    head = struct.pack(">I", size).ljust(12, b"\0") + b"mntr" + space + b"XYZ "
    return (head.ljust(36, b"\0") + b"acsp").ljust(size, b"\1")


XMP = '<?xpacket begin="\ufeff"?><x:xmpmeta xmlns:x="adobe:ns:meta/"><a b="ä"/></x:xmpmeta>'


def embedding(path, profile: bytes, xmp: str | None, pixels: np.ndarray):
    """A TIFF, or a picture with a world file, that has a colour profile and XMP."""
    modes = {1: "L", 3: "RGB", 4: "CMYK"}
    image = Image.fromarray(np.moveaxis(pixels, 0, -1).squeeze(), modes[len(pixels)])
    told, chunks = (xmp or "").encode(), PngInfo()
    chunks.add_itxt("XML:com.adobe.xmp", told)
    image.save(path, icc_profile=profile, tiffinfo={700: told} if told else {}, xmp=told, pnginfo=chunks)
    path.with_suffix(".wld").write_text("10\n0\n0\n-10\n500005\n3999995\n")
    return path


@pytest.mark.parametrize(
    "request_",
    [{}, {"profile": "archive"}, {"profile": "visual"}, {"target_crs": "EPSG:32619"}, {"web_tiles": True}],
    ids=str,
)
@pytest.mark.parametrize(
    ("name", "count", "space"),
    [("in.tif", 3, b"RGB "), ("in.tif", 1, b"GRAY"), ("in.jpg", 3, b"RGB "), ("in.png", 3, b"RGB ")],
)
def test_a_colour_profile_and_xmp_go_along(tmp_path, name, count, space, request_):
    source = embedding(tmp_path / name, icc(space), XMP, bytes_of(count))
    report = made(source, source_crs="EPSG:32618", **request_)
    assert not [w for w in report.warnings if "not kept" in w]
    assert_holds(tmp_path / "out.tif", icc(space), XMP)


def assert_holds(cog, profile: bytes, xmp: str) -> None:
    assert validate_cog(cog) == []
    assert cog_validate(cog, strict=True)[0]
    with rasterio.open(cog) as dataset:
        assert base64.b64decode(dataset.tags(ns="COLOR_PROFILE")["SOURCE_ICC_PROFILE"]) == profile
        assert dataset.tags(ns="xml:XMP")["xml:XMP"] == xmp
    full, *others = cogfile.read_header(cog)[0].images
    assert (full.fields[34675].data, full.fields[700].data) == (profile, xmp.encode())
    assert others
    assert not [image for image in others if {34675, 700} & image.fields.keys()]
    with Image.open(cog) as image:
        assert image.info["icc_profile"] == profile


@pytest.mark.parametrize("how", [{}, {"keep_lossy": True}], ids=str)
def test_a_colour_profile_goes_along_with_domains_of_metadata_and_with_blocks_that_are_kept(tmp_path, how):
    profile = {"tiled": True, "compress": "jpeg", "photometric": "ycbcr", "jpeg_quality": 90}
    encoded = base64.b64encode(icc()).decode()
    source = write(tmp_path / "in.tif", bytes_of(3), SOURCE_ICC_PROFILE=encoded, **profile)
    with rasterio.open(source, "r+") as dataset:
        dataset.update_tags(ns="xml:XMP", **dict([XMP.split("=", 1)]))
        if not how:
            dataset.update_tags(ns="SURVEY", A="1")
    report = made(source, **how)
    assert bool(report.kept_blocks) == bool(how)
    assert_holds(tmp_path / "out.tif", icc(), XMP)


@pytest.mark.parametrize(
    ("profile", "xmp", "count", "told"),
    [
        (icc(b"CMYK"), None, 4, ["its colour profile is not kept: it is not one of its colours"]),
        (icc(b"GRAY"), None, 3, ["its colour profile is not kept: it is not one of its colours"]),
        (b"no profile", XMP, 3, ["its colour profile is not kept: it is not one of its colours"]),
        (
            icc(size=1_100_000),
            None,
            3,
            ["its colour profile is not kept: it has 1,100,000 bytes, the limit is 1,048,576"],
        ),
        (icc(), XMP.ljust(1_100_000), 3, ["its XMP is not kept: it has 1,100,003 bytes, the limit is 1,048,576"]),
    ],
    ids=["CMYK", "grey", "none", "large", "large XMP"],
)
def test_a_colour_profile_or_xmp_that_is_not_kept_is_told(tmp_path, profile, xmp, count, told):
    source = embedding(tmp_path / "in.tif", profile, xmp, bytes_of(count))
    report = made(source, source_crs="EPSG:32618")
    assert [w for w in report.warnings if "not kept" in w] == told


def test_xmp_that_is_no_text_is_told(tmp_path):
    source = embedding(tmp_path / "in.tif", icc(), XMP, bytes_of(3))
    source.write_bytes(source.read_bytes().replace("ä".encode(), b"\xff\xfe"))
    assert "its XMP is not kept: it is not UTF-8" in made(source, source_crs="EPSG:32618").warnings
