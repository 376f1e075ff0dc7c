"""Formats other than GeoTIFF, under their usual names and with the files beside them: pixels, place and CRS are those
that were written.
"""

import io
import logging
import shutil
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from rasterio.transform import from_origin

from geo_assets.errors import GeoAssetsError
from geo_assets.raster import gdal
from geo_assets.raster.cog import convert
from geo_assets.raster.models import ConvertRequest
from geo_assets.sandbox.pool import SandboxPool
from geo_assets.stages.container_inventory import refused_by_name
from geo_assets.stages.raster_conversion import ConvertedSource, Converter
from geo_assets.storage.kinds import Kind, kind_of
from geo_assets.storage.sources import Member, sorted_sources
from geo_assets.vector.models import InspectReport, InspectRequest
from geo_assets_tests.raster.test_cog import write
from geo_assets_tests.raster.test_profiles import field
from geo_assets_tests.vector.builders import points
from geo_assets_tests.vector.builders import write as write_vector

UTM = 'PROJCS["ETRS_1989_UTM_Zone_33N",GEOGCS["GCS_ETRS_1989",DATUM["D_ETRS_1989",SPHEROID["GRS_1980",6378137.0,298.257222101]],PRIMEM["Greenwich",0.0],UNIT["Degree",0.0174532925199433]],PROJECTION["Transverse_Mercator"],PARAMETER["False_Easting",500000.0],PARAMETER["False_Northing",0.0],PARAMETER["Central_Meridian",15.0],PARAMETER["Scale_Factor",0.9996],PARAMETER["Latitude_Of_Origin",0.0],UNIT["Meter",1.0]]'  # fmt: skip
WORLD = "10\n0\n0\n-10\n250005\n5886995\n"
PLACE = {"crs": "EPSG:25833", "transform": from_origin(250000, 5887000, 10, 10)}


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    with SandboxPool(tmp_path_factory.mktemp("pool"), timeout_seconds=30) as pool:
        yield pool


@pytest.fixture
def converted(pool):
    """Converts the only source of a directory, grouped as in an ingestion: alone with its sidecars."""

    def convert(folder: Path, **options) -> ConvertedSource:
        names = [p.name for p in folder.iterdir()]
        (source,) = sorted_sources(Member(path=name, size=0, etag="") for name in names)
        assert source.kind in {Kind.RASTER, Kind.ZIP}
        assert {m.path for m in source.members} == set(names)
        with pool.workspace() as private:
            here = private / "in"
            here.mkdir()
            for name in names:
                (here / name).write_bytes((folder / name).read_bytes())
            converter = Converter(pool, private, options)
            result = (
                converter.archive(here / source.path)
                if source.kind is Kind.ZIP
                else converter.source(here / source.path)
            )
            for part in result.made:
                part.cog.rename(folder.with_name(f"{part.stem}.cog.tif"))
        return result

    return convert


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


def pixels(count: int = 1, dtype: str = "float32") -> np.ndarray:
    return (field(count, 200, 300) * 250).astype(dtype)


def copied(path: Path, driver: str, values: np.ndarray, place: dict | None = None, **options) -> None:
    """Written by GDAL's driver of this name, which may only copy."""
    plain = write(path.with_name("plain.tif"), values, **(PLACE if place is None else place))
    with rasterio.open(plain) as dataset:
        rasterio.shutil.copy(dataset, path, driver=driver, **options)
    plain.unlink()


def assert_is(folder: Path, result: ConvertedSource, values: np.ndarray, epsg: int = 25833) -> None:
    (part,) = result.made
    assert part.report.epsg == epsg
    assert part.report.transform == pytest.approx((10, 0, 250000, 0, -10, 5887000))
    with rasterio.open(next(folder.parent.glob("*.cog.tif"))) as cog:
        np.testing.assert_array_equal(cog.read(), values)


@pytest.mark.parametrize(
    ("name", "driver", "count", "dtype", "options"),
    [
        ("in.bil", "EHdr", 1, "float32", {}),
        ("in.flt", "EHdr", 1, "float32", {}),
        ("IN.BIL", "EHdr", 2, "int16", {}),
        ("in.dat", "ENVI", 3, "uint8", {"INTERLEAVE": "BIP"}),
        ("in.bsq", "ENVI", 4, "uint16", {}),
        ("in.img", "ENVI", 1, "int32", {}),
        ("in", "ENVI", 2, "float64", {"INTERLEAVE": "BIL"}),
        ("in.raw", "ENVI", 1, "uint8", {"SUFFIX": "ADD"}),
        ("in.img", "HFA", 1, "float32", {"USE_SPILL": "YES"}),
        ("in.gpkg", "GPKG", 3, "uint8", {"TILE_FORMAT": "PNG"}),
    ],
)
def test_pixels_place_and_crs_come_from_the_file_and_what_belongs_to_it(
    folder, converted, name, driver, count, dtype, options
):
    values = pixels(count, dtype)
    copied(folder / name, driver, values, **options)
    if driver == "GPKG":  # by name a vector, as most are
        assert kind_of(name) is Kind.VECTOR
        (folder / name).rename(folder / "in.mbtiles")
    assert_is(folder, converted(folder), values)


def test_a_nitf_keeps_its_pixels(folder, converted):
    values = pixels(3, "uint8")
    copied(folder / "in.ntf", "NITF", values, {**PLACE, "crs": "EPSG:32633"}, ICORDS="N")
    result = converted(folder)
    (part,) = result.made
    assert part.report.epsg == 32633
    assert part.report.transform == pytest.approx((10, 0, 250000, 0, -10, 5887000), abs=1)
    with rasterio.open(next(folder.parent.glob("*.cog.tif"))) as cog:
        np.testing.assert_array_equal(cog.read(), values)


@pytest.mark.parametrize(
    ("said", "datetime"),
    [({"IDATIM": "20230821101031"}, "2023-08-21T10:10:31Z"), ({"IDATIM": "20230821------"}, None), ({}, None)],
)
def test_a_nitf_says_when_it_was_taken_and_what_gdal_writes_by_itself_is_no_time(folder, converted, said, datetime):
    copied(folder / "in.ntf", "NITF", pixels(1, "uint8"), {**PLACE, "crs": "EPSG:32633"}, ICORDS="N", **said)
    with rasterio.open(folder / "in.ntf") as dataset:
        assert dataset.tags()["NITF_IDATIM"] == said.get("IDATIM", "20021216151629")
    (part,) = converted(folder).made
    assert part.report.datetime == datetime


@pytest.mark.parametrize(
    ("name", "driver", "count"),
    [("in.webp", "WEBP", 3), ("in.bmp", "BMP", 3), ("in.gif", "GIF", 1), ("in.png", "PNG", 3), ("IN.PNG", "PNG", 3)],
)
def test_pictures_have_their_place_from_a_world_file_and_their_crs_from_a_prj(folder, converted, name, driver, count):
    values = pixels(count, "uint8")
    copied(folder / name, driver, values, {}, **({"LOSSLESS": "YES"} if driver == "WEBP" else {}))
    for leftover in folder.glob("*.xml"):
        leftover.unlink()
    stem, capitals = name.rpartition(".")[0], name.isupper()
    (folder / f"{stem}{'.PGW' if capitals else '.wld'}").write_text(WORLD)
    (folder / f"{stem}{'.PRJ' if capitals else '.prj'}").write_text(UTM)
    result = converted(folder)
    assert_is(folder, result, values)
    assert any("its CRS is that of" in w for w in result.warnings())


@pytest.mark.parametrize(
    ("encoding", "mark"),
    [("utf-8-sig", ""), ("utf-16", ""), ("utf-16-be", "\ufeff"), ("utf-16-be", ""), ("utf-16-le", "")],
)
def test_a_prj_is_read_in_whatever_encoding_windows_saved_it(folder, converted, encoding, mark):
    write(folder / "in.tif", pixels(1, "uint8"), **{**PLACE, "crs": None})
    (folder / "in.prj").write_bytes(f"{mark}{UTM}".encode(encoding))
    result = converted(folder)
    assert any("its CRS is that of in.prj" in w for w in result.warnings())


def test_a_prj_is_for_a_tiff_without_a_crs_alone_and_goes_before_source_crs(folder, converted):
    values = pixels(3, "uint8")
    write(folder / "in.tif", values, **{**PLACE, "crs": None})
    (folder / "in.prj").write_text(UTM)
    result = converted(folder, source_crs="EPSG:32633")
    assert_is(folder, result, values)
    assert any("is not used" in w for w in result.warnings())
    write(folder / "in.tif", values, **{**PLACE, "crs": "EPSG:32633"})
    result = converted(folder)
    assert_is(folder, result, values, 32633)
    assert result.warnings() == []


@pytest.mark.parametrize(
    "text",
    [
        "Projection UTM\nZone 33\n",
        "+proj=utm +zone=33",
        "https://example.org/crs",
        UTM.replace(
            'UNIT["Meter",1.0]]', 'UNIT["Meter",1.0],EXTENSION["PROJ4","+proj=utm +zone=33 +nadgrids=/etc/passwd"]]'
        ),
        'PROJCS["x"',
        "\x00\xff" * 100,
    ],
)
def test_a_prj_that_is_no_wkt_is_not_used(folder, converted, text):
    write(folder / "in.tif", pixels(), **{**PLACE, "crs": None})
    (folder / "in.prj").write_text(text)
    with pytest.raises(GeoAssetsError) as error:
        converted(folder)
    assert error.value.code == "RASTER_NO_CRS"


def hgt() -> bytes:
    heights = np.arange(1201 * 1201).reshape(1201, 1201) % 3000
    return heights.astype(">i2").tobytes()


def test_a_tile_of_srtm_is_placed_by_its_name_also_within_a_zip(folder, converted):
    (folder / "N45E007.hgt").write_bytes(hgt())
    (part,) = converted(folder).made
    assert (part.report.epsg, part.report.width, part.report.bbox_4326[0]) == (4326, 1201, pytest.approx(7, abs=1e-3))
    (folder / "N45E007.hgt").unlink()
    with zipfile.ZipFile(folder / "N45E007.SRTMGL1.hgt.zip", "w") as zipped:
        zipped.writestr("N45E007.hgt", hgt())
    (part,) = converted(folder).made
    assert (part.report.width, part.report.bbox_4326[1]) == (1201, pytest.approx(45, abs=1e-3))


def test_points_on_a_grid_are_a_raster_and_a_word_among_them_is_none(folder, converted):
    rows = [f"{250005 + 10 * c} {5886995 - 10 * r} {r * 7 + c}" for r in range(6) for c in range(7)]
    (folder / "in.xyz").write_text("\n".join(rows) + "\n")
    converted(folder, source_crs="EPSG:25833")
    with rasterio.open(next(folder.parent.glob("*.cog.tif"))) as cog:
        np.testing.assert_array_equal(cog.read(1), np.arange(42).reshape(6, 7))
    (folder / "in.xyz").write_text("\n".join(rows).replace(" 8", " N/A"))
    with pytest.raises(GeoAssetsError) as error:
        converted(folder, source_crs="EPSG:25833")
    assert error.value.code == "UNREADABLE"


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_points_on_a_grid_that_lack_some_are_refused_where_no_value_says_so(folder, converted, end):
    rows = [f"{250005 + 10 * c} {5886995 - 10 * r} {r * 7 + c}" for r in range(6) for c in range(7)]
    del rows[10], rows[17]
    (folder / "in.xyz").write_bytes(end.join(["x y z", *rows]).encode())
    with pytest.raises(GeoAssetsError, match="has 40 points for the 42 places of its grid") as error:
        converted(folder, source_crs="EPSG:25833")
    assert (error.value.code, bool(error.value.remedy)) == ("RASTER_UNSUPPORTED", True)


def test_tiles_of_a_map_are_one_raster(folder, converted):
    values = pixels(3, "uint8")
    copied(folder / "in.mbtiles", "MBTiles", values, {**PLACE, "crs": "EPSG:3857"}, TILE_FORMAT="PNG")
    (part,) = converted(folder).made
    with rasterio.open(folder / "in.mbtiles") as a, rasterio.open(next(folder.parent.glob("*.cog.tif"))) as b:
        np.testing.assert_array_equal(a.read(), b.read())
        assert part.report.epsg == 3857


def test_tiles_of_a_map_are_read_by_a_child_that_has_read_a_vector_before(folder, tmp_path):
    """Either library learns at its first use which drivers there are, from one environment."""
    values = pixels(3, "uint8")
    copied(folder / "in.mbtiles", "MBTiles", values, {**PLACE, "crs": "EPSG:3857"}, TILE_FORMAT="PNG")
    with SandboxPool(tmp_path / "pool", timeout_seconds=30) as fresh, fresh.workspace() as private:
        write_vector(points(2), private / "a.gpkg")
        report = fresh.call(
            "geo_assets.vector.reader.inspect:inspect", InspectRequest(source=str(private / "a.gpkg")), InspectReport
        )
        assert len(report.layers) == 1
        shutil.copyfile(folder / "in.mbtiles", private / "in.mbtiles")
        (part,) = Converter(fresh, private, {}).source(private / "in.mbtiles").made
        assert part.report.epsg == 3857


def landsat(name: str, band: str) -> bytes:
    with rasterio.io.MemoryFile() as memory:
        with memory.open(driver="GTiff", count=1, height=200, width=300, dtype="float32", **PLACE) as dataset:
            dataset.write(pixels())
        return memory.read()


@pytest.mark.parametrize(("ending", "mode"), [(".tar", "w"), (".tar.gz", "w:gz"), (".tgz", "w:gz")])
def test_a_scene_of_landsat_in_a_tar_has_the_time_of_its_metadata(folder, converted, ending, mode):
    name = "LC08_L2SP_193024_20230821_20230826_02_T1"
    mtl = b'DATE_ACQUIRED = 2023-08-21\n SCENE_CENTER_TIME = "09:58:02.1234560Z"\n'
    with tarfile.open(folder / f"{name}{ending}", mode) as tar:
        for member, content in {
            f"{name}_SR_B4.TIF": landsat(name, "B4"),
            f"{name}_QA_PIXEL.TIF": landsat(name, "QA"),
            f"{name}_MTL.txt": mtl,
        }.items():
            info = tarfile.TarInfo(member)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    result = converted(folder)
    assert {p.stem for p in result.made} == {f"{name}_SR_B4", f"{name}_QA_PIXEL"}
    assert {p.report.datetime for p in result.made} == {"2023-08-21T09:58:02.123456Z"}
    assert result.others == (f"{name}_MTL.txt",)


def test_a_safe_product_is_its_bands_by_their_names_the_true_colour_image_first_and_no_masks(folder, converted):
    product = "S2A_MSIL2A_20230821T101031_N0509_R022_T33UUU_20230821T161359"
    copied(
        folder / "image.jp2",
        "JP2OpenJPEG",
        pixels(1, "uint8"),
        {**PLACE, "crs": "EPSG:32633"},
        QUALITY="100",
        REVERSIBLE="YES",
    )
    image = (folder / "image.jp2").read_bytes()
    for leftover in folder.iterdir():
        leftover.unlink()
    inside = f"{product}.SAFE/GRANULE/L2A_T33UUU_A0_20230821T101031"
    members = {
        **{
            f"{inside}/IMG_DATA/R60m/T33UUU_20230821T101031_{band}_60m.jp2": image
            for band in ("B01", "B8A", "SCL", "TCI")
        },
        f"{inside}/QI_DATA/MSK_CLDPRB_60m.jp2": image,
        f"{product}.SAFE/{product}-ql.jpg": b"\xff\xd8\xff",
        f"{product}.SAFE/MTD_MSIL2A.xml": b"<PRODUCT_START_TIME>2023-08-21T10:10:31.024Z</PRODUCT_START_TIME>",
    }
    with zipfile.ZipFile(folder / f"{product}.zip", "w") as zipped:
        for name, content in members.items():
            zipped.writestr(name, content)
    result = converted(folder)
    assert [p.stem for p in result.made] == ["TCI_60m", "B01_60m", "B8A_60m", "SCL_60m"]
    assert {p.report.datetime for p in result.made} == {"2023-08-21T10:10:31.024000Z"}
    assert any("MSK_CLDPRB_60m.jp2" in w for w in result.warnings())


def test_elevation_in_dted_is_placed_by_its_header(folder, converted):
    heights = (np.arange(1201 * 1201).reshape(1, 1201, 1201) % 3000).astype("int16")
    half = 1 / 2400  # its pixels lie on whole degrees
    copied(
        folder / "n45_e007.dt1",
        "DTED",
        heights,
        {"crs": "EPSG:4326", "transform": from_origin(7 - half, 46 + half, 1 / 1200, 1 / 1200)},
    )
    for leftover in folder.glob("*.xml"):
        leftover.unlink()
    (part,) = converted(folder).made
    assert (part.report.epsg, part.report.bbox_4326) == (4326, pytest.approx((7, 45, 8, 46), abs=1e-3))
    with rasterio.open(next(folder.parent.glob("*.cog.tif"))) as cog:
        np.testing.assert_array_equal(cog.read(), heights)


@pytest.mark.parametrize("name", ["in.jpx", "in.jpf", "IN.JPX"])
def test_jpeg_2000_is_read_under_its_other_names(folder, converted, name):
    values = pixels(3, "uint8")
    copied(folder / "in.jp2", "JP2OpenJPEG", values, QUALITY="100", REVERSIBLE="YES", YCBCR420="NO")
    (folder / "in.jp2").rename(folder / name)
    for leftover in folder.glob("*.xml"):
        leftover.unlink()
    assert_is(folder, converted(folder), values)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("in.ecw", "ECW"),
        ("IN.ECW", "ECW"),
        ("in.sid", "mrsidgeodecode"),
        ("in.tif.gz", "unpack it"),
        ("in.7z", "unpack it"),
        ("plan.dgn", "ogr2ogr -a_srs"),
        ("plan.dwg", "DXF"),
        ("cover.e00", "ogr2ogr"),
        ("berlin.osm.pbf", "ogr2ogr"),
        ("map.osm", "ogr2ogr"),
        ("US5NY1CM.000", "ogr2ogr"),
        ("world.topojson", "ogr2ogr"),
        ("table.xls", ".xlsx"),
        ("table.ods", ".xlsx"),
    ],
)
def test_a_name_that_no_stage_takes_is_refused_with_what_converts_it(name, words):
    (source,) = sorted_sources([Member(path=name, size=1, etag="")])
    task = refused_by_name(source)
    assert source.kind is Kind.UNSUPPORTED
    assert (task.error["code"], words in task.error["remedy"]) == ("UNSUPPORTED_FORMAT", True)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("in.hdf", b"\x0e\x03\x13\x01" + bytes(200), "h4toh5"),
        ("in.img", b"msid" + bytes(200), "mrsidgeodecode"),
        ("in.tif", b"%PDF-1.7\n" + bytes(200), "gdal_translate"),
    ],
)
def test_what_is_not_read_is_refused_with_what_converts_it(folder, converted, name, content, words):
    (folder / name).write_bytes(content)
    with pytest.raises(GeoAssetsError) as error:
        converted(folder)
    assert (error.value.code, words in error.value.remedy) == ("UNSUPPORTED_FORMAT", True)


def test_raw_pixels_that_are_fewer_than_declared_are_unreadable_and_more_are_noted(folder, converted):
    copied(folder / "in.bil", "EHdr", pixels())
    whole = (folder / "in.bil").read_bytes()
    (folder / "in.bil").write_bytes(whole + bytes(1200))
    assert any("more than its header declares" in w for w in converted(folder).warnings())
    (folder / "in.bil").write_bytes(whole[:-1])
    with pytest.raises(GeoAssetsError) as error:
        converted(folder)
    assert error.value.code == "UNREADABLE"


@pytest.mark.parametrize(
    ("layout", "gap", "bands"),
    [
        ("bil", "BANDROWBYTES 40", 1),
        ("bil", "TOTALROWBYTES 80", 2),
        ("bip", "TOTALROWBYTES 80", 2),
        ("bsq", "BANDGAPBYTES 8", 2),
    ],
)
def test_raw_pixels_with_bytes_between_them_are_refused_for_gdal_takes_them_for_pixels(
    folder, converted, layout, gap, bands
):
    (folder / "in.bil").write_bytes(bytes(range(40)) * 32 * bands)
    header = f"nrows 32\nncols 32\nnbands {bands}\nnbits 8\nlayout {layout}\nulxmap 5\nulymap 5\nxdim 1\nydim 1\n"
    (folder / "in.hdr").write_text(f"{header}{gap}\n")
    with pytest.raises(GeoAssetsError) as error:
        converted(folder, source_crs="EPSG:25833")
    assert (error.value.code, gap.split()[0] in error.value.message) == ("RASTER_UNSUPPORTED", True)
    usual = f"BANDROWBYTES {32}\nTOTALROWBYTES {32 * bands}\nBANDGAPBYTES 0\n"
    (folder / "in.hdr").write_text(header + usual)
    (folder / "in.bil").write_bytes(bytes(range(32)) * 32 * bands)
    assert converted(folder, source_crs="EPSG:25833").made


@pytest.mark.parametrize("elsewhere", ["../xx.ige", "sub/x.ige"])
def test_an_imagine_file_whose_pixels_lie_elsewhere_is_refused(folder, elsewhere):
    img, cog = folder / "out_a.img", folder / "cog.tif"
    copied(img, "HFA", pixels(), USE_SPILL="YES")
    convert(ConvertRequest(source=str(img), destination=str(cog)))
    content = img.read_bytes()
    assert content.count(b"out_a.ige") == 1
    img.write_bytes(content.replace(b"out_a.ige", elsewhere.encode()))
    (folder / elsewhere).parent.mkdir(exist_ok=True)
    (folder / "out_a.ige").rename(folder / elsewhere)
    with pytest.raises(GeoAssetsError, match=Path(elsewhere).name) as caught:
        convert(ConvertRequest(source=str(img), destination=str(cog)))
    climbs_and_gdal_says_so_itself = (
        caught.value.code == "UNREADABLE" and "Path traversal" in caught.value.message
    )  # GDAL 3.12
    assert climbs_and_gdal_says_so_itself or "names a file elsewhere as a part of it" in caught.value.message


@pytest.mark.parametrize("profile", ["web", "archive"])
def test_black_and_white_in_one_bit_is_grey_in_a_png_and_a_palette_of_the_same_two_in_a_cog(folder, profile):
    values = np.random.default_rng(0).integers(0, 2, (1, 300, 400)).astype("uint8")
    with rasterio.open(
        folder / "in.png", "w", driver="PNG", width=400, height=300, count=1, dtype="uint8", nbits=1
    ) as png:
        png.write(values)
    convert(
        ConvertRequest(
            source=str(folder / "in.png"), destination=str(folder / "out.tif"), profile=profile, require_crs=False
        )
    )
    with rasterio.open(folder / "out.tif") as dataset:
        assert np.array_equal(dataset.read(), values)
        assert dataset.colormap(1) == {0: (0, 0, 0, 255), 1: (255, 255, 255, 255)}


@pytest.mark.parametrize("profile", ["web", "archive"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("nodata", [None, 77])
def test_a_scan_in_which_zero_is_white_shows_white_at_zero(folder, dtype, profile, nodata):
    values = pixels(dtype=dtype)
    copied(folder / "in.tif", "GTiff", values, {**PLACE, "nodata": nodata}, photometric="MINISWHITE")
    convert(ConvertRequest(source=str(folder / "in.tif"), destination=str(folder / "out.tif"), profile=profile))
    with rasterio.open(folder / "out.tif") as dataset:
        assert np.array_equal(dataset.read(), values)
        colours = dataset.colormap(1)
    last = np.iinfo(dtype).max
    assert (colours[0], colours[last]) == ((255, 255, 255, 255), (0, 0, 0, 255))
    assert colours[last // 2][:3] == pytest.approx((127, 127, 127), abs=1)


def test_values_without_a_colour_in_a_clr_are_black_and_a_note_says_so(folder):
    values = np.random.default_rng(0).integers(0, 6, (1, 300, 400)).astype("uint8")
    copied(folder / "in.bil", "EHdr", values)
    (folder / "in.clr").write_text("0 255 0 0\n1 0 255 0\n5 0 0 255\n")
    report = convert(ConvertRequest(source=str(folder / "in.bil"), destination=str(folder / "out.tif")))
    with rasterio.open(folder / "out.tif") as dataset:
        assert np.array_equal(dataset.read(), values)
        found = [dataset.colormap(1)[value][:3] for value in range(6)]
    assert found == [(255, 0, 0), (0, 255, 0), (0, 0, 0), (0, 0, 0), (0, 0, 0), (0, 0, 255)]
    assert any("no colour" in note for note in report.warnings)


def test_the_report_of_a_raster_without_a_place_does_not_say_that_it_has_one(tmp_path):
    write(tmp_path / "in.tif", pixels(1, "uint8"), crs=None, transform=None)
    request = {"source": str(tmp_path / "in.tif"), "destination": str(tmp_path / "out.tif"), "require_crs": False}
    report = convert(ConvertRequest(**request))
    assert (report.georeferencing, report.bbox_4326) == (None, None)
    assert any("its place is unknown" in warning for warning in report.warnings)


def test_colours_that_are_multiplied_by_alpha_are_kept_and_that_is_said(folder, converted):
    values = pixels(4, "uint8")
    write(folder / "in.tif", values, **PLACE, photometric="RGB", alpha="PREMULTIPLIED")
    with rasterio.open(folder / "in.tif") as source:
        if "ALPHA" not in source.tags(4, ns="IMAGE_STRUCTURE"):
            pytest.skip("this GDAL does not tell")
    result = converted(folder)
    assert_is(folder, result, values)
    assert any("multiplied by its alpha" in warning for warning in result.warnings())


def test_what_gdal_warns_of_is_kept_without_the_folders_of_the_file():
    with gdal.session() as log:
        logging.getLogger("rasterio").warning(
            "CPLE_AppDefined in /scratch/run-x1/0/scan.tif: see https://gdal.org/x/y (m/s)"
        )
    assert log.messages == ["scan.tif: see https://gdal.org/x/y (m/s)"]
