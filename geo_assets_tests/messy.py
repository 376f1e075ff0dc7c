"""A delivery as offices send them: 77 files in folders, good and bad, with sidecars, zips, copies and what lay beside
them.

Here: making it from nothing but the libraries at hand, and what is to become of each file. Not here: the ways in
(`test_messy_delivery.py`).
"""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import geopandas as gpd
import numpy as np
import shapely
from shapely.geometry import box

from geo_assets_tests.raster.netcdf import grid
from geo_assets_tests.raster.test_cog import write as write_raster
from geo_assets_tests.vector.builders import points, shapefile_parts, write, zipped

#: Files of the delivery.
COUNT = 77

#: Left behind by operating systems: listed, and left alone.
LITTER = {
    ".DS_Store",
    ".gitkeep",
    "ortho/.DS_Store",
    "ortho/._tile_0.tif",
    "admin/Thumbs.db",
    "desktop.ini",
    "__MACOSX/admin/._roads.gpkg",
}

#: Lies beside the data for people and other programs: stays where it is.
BESIDE = {
    "README.txt",
    "docs/licence.pdf",
    "docs/Bericht_final_v2 (Kopie).docx",
    "project.qgz",
    "admin/districts.qml",
    "admin/legend.lyr",
}

#: What is bad, and how it is called.
BAD = {
    # by its name
    "ortho/tile_0.tif.bak": "UNSUPPORTED_FORMAT",
    "ortho/lost.tfw": "ORPHAN_SIDECAR",
    "admin/lost.dbf": "ORPHAN_SIDECAR",
    # by what is in it
    "ortho/truncated.tif": "UNREADABLE",
    "ortho/empty.tif": "UNREADABLE",
    "ortho/login_page.tif": "UNSUPPORTED_FORMAT",
    "ortho/no_crs.tif": "RASTER_NO_CRS",
    "ortho/photo.png": "RASTER_NO_CRS",
    "ortho/mosaic.vrt": "UNSUPPORTED_FORMAT",
    "admin/broken.gpkg": "UNREADABLE",
    "admin/half.shp": "INCOMPLETE_SHAPEFILE",
    "admin/no_crs.shp": "VECTOR_NO_CRS",
    "tables/prices.csv": "VECTOR_NO_GEOMETRY",
    "tables/fields.csv": "VECTOR_NO_CRS",
    "tables/package.json": "VECTOR_UNSUPPORTED",
    "tables/empty.geojson": "UNREADABLE",
    "zips/only_notes.zip": "VECTOR_NO_LAYERS",
    "zips/way_out.zip": "UNSAFE_ARCHIVE",
    "zips/cut_off.zip": "UNREADABLE",
}

#: Files that are parts of another, by their owner. Everything else is good and for itself.
PARTS = {
    "ortho/tile_0.tif": {"ortho/tile_0.tfw", "ortho/tile_0.tif.aux.xml"},
    "ortho/SCAN.TIF": {"ortho/SCAN.TFW"},
    "ortho/dem.asc": {"ortho/dem.prj"},
    "ortho/photo.png": {"ortho/photo.pgw"},
    "admin/districts.shp": {f"admin/districts.{part}" for part in ("shx", "dbf", "prj", "cpg", "shp.xml")},
    "admin/WARDS.SHP": {f"admin/WARDS.{part}" for part in ("SHX", "DBF", "PRJ", "CPG")},
    "admin/no_crs.shp": {"admin/no_crs.shx", "admin/no_crs.dbf", "admin/no_crs.cpg"},
}


#: Of the zips, those that hold rasters and vectors: a task of either stage.
TWICE = {"zips/both.zip"}


def with_samples(folder: Path, samples: Path) -> Path:
    """The delivery and, below it, the real files of `samples` and what lies beside it in `cases`."""
    for source in (samples, samples.parent / "cases"):
        if source.is_dir():
            shutil.copytree(source, folder / source.name)
    return folder


def messy_delivery(folder: Path) -> Path:
    """Make the delivery in a folder; returns it."""
    work = folder.with_name(f"{folder.name}-parts")
    for path in (
        folder,
        work,
        *(
            folder / name
            for name in ("ortho/2023", "ortho/Übersicht", "admin", "docs", "tables", "zips", "__MACOSX/admin")
        ),
    ):
        path.mkdir(parents=True)
    _rasters(folder / "ortho")
    _vectors(folder / "admin")
    _tables(folder / "tables")
    _zips(folder, work)
    _beside(folder)
    shutil.rmtree(work)
    return folder


def _pixels(seed: int, dtype: str = "uint8", bands: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 200, (bands, 40, 50)).astype(dtype)


def _rasters(ortho: Path) -> None:
    for i in range(6):
        write_raster(ortho / (f"tile_{i}.tif" if i < 4 else f"2023/tile_{i}.tif"), _pixels(i))
    (ortho / "tile_0.tfw").write_text("10\n0\n0\n-10\n500005\n3999995\n")
    (ortho / "tile_0.tif.aux.xml").write_text("<PAMDataset></PAMDataset>")
    write_raster(ortho / "SCAN.TIF", _pixels(20, bands=1), crs="EPSG:25833")
    (ortho / "SCAN.TFW").write_text("10\n0\n0\n-10\n500005\n3999995\n")
    write_raster(ortho / "Übersicht/Übersicht (alt).tif", _pixels(21, "int16", 1))
    write_raster(ortho / "heights.tif", _pixels(22, "float32", 1), nodata=-9999)
    write_raster(ortho / "landuse.img", _pixels(23, bands=1), driver="HFA")
    (ortho / "dem.asc").write_text(
        "ncols 3\nnrows 2\nxllcorner 500000\nyllcorner 5800000\ncellsize 10\nNODATA_value -9999\n1 2 3\n4 5 -9999\n"
    )
    (ortho / "dem.prj").write_text(gpd.GeoSeries(crs=25833).crs.to_wkt("WKT1_ESRI"))
    (ortho / "climate.nc").write_bytes(grid("tas", np.arange(12, dtype="f4").reshape(3, 4)))
    shutil.copyfile(ortho / "tile_1.tif", ortho / "tile_1 - Kopie.tif")
    # bad ones
    (ortho / "truncated.tif").write_bytes((ortho / "tile_2.tif").read_bytes()[:200])
    (ortho / "empty.tif").touch()
    (ortho / "login_page.tif").write_text("<!DOCTYPE html><html><body>Please sign in</body></html>")
    write_raster(ortho / "no_crs.tif", _pixels(30), crs=None)
    write_raster(ortho / "photo.png", _pixels(31), driver="PNG", crs=None)
    (ortho / "photo.png.aux.xml").unlink(missing_ok=True)
    (ortho / "photo.pgw").write_text("10\n0\n0\n-10\n500005\n3999995\n")
    (ortho / "mosaic.vrt").write_text('<VRTDataset rasterXSize="1" rasterYSize="1"></VRTDataset>')
    (ortho / "lost.tfw").write_text("1\n0\n0\n-1\n0\n0\n")
    shutil.copyfile(ortho / "tile_0.tif", ortho / "tile_0.tif.bak")


def _vectors(admin: Path) -> None:
    squares = gpd.GeoDataFrame({"name": ["a", "b", None]}, geometry=[box(i, 50, i + 1, 51) for i in range(3)], crs=4326)
    write(squares, admin / "districts.shp", encoding="UTF-8")
    (admin / "districts.shp.xml").write_text("<metadata/>")
    for part in shapefile_parts(write(squares, admin / "wards.shp", encoding="UTF-8")):
        part.rename(part.with_name(part.name.upper()))
    write(squares, admin / "roads.gpkg")
    shutil.copyfile(admin / "roads.gpkg", admin / "roads (2).gpkg")
    write(points(5), admin / "stops.geojson")
    write(points(6), admin / "trees.geojsonl")
    write(points(7), admin / "lamps.fgb")
    write(points(3), admin / "places.kml")
    points(4).to_parquet(admin / "wells.parquet")
    # bad ones
    (admin / "broken.gpkg").write_bytes((admin / "roads.gpkg").read_bytes()[:5000])
    shutil.copyfile(admin / "districts.shp", admin / "half.shp")
    shutil.copyfile(admin / "districts.dbf", admin / "lost.dbf")
    write(squares.set_crs(None, allow_override=True), admin / "no_crs.shp", encoding="UTF-8")


def _tables(tables: Path) -> None:
    (tables / "sites.csv").write_text("id,longitude,latitude\n1,13.4,52.5\n2,13.5,52.6\n")
    (tables / "stations.tsv").write_text("id\tlon\tlat\n1\t13.4\t52.5\n")
    (tables / "fields.csv").write_text(f'id;wkt\n1;"{shapely.to_wkt(box(0, 0, 1, 1))}"\n')
    (tables / "prices.csv").write_text("article,price\nmap,3\n")
    (tables / "package.json").write_text('{"name": "viewer", "version": "1.0.0"}')
    (tables / "empty.geojson").touch()


def _zips(folder: Path, work: Path) -> None:
    zips, ortho, admin = folder / "zips", folder / "ortho", folder / "admin"
    districts = shapefile_parts(admin / "districts.shp")
    zipped(zips / "districts.zip", *districts)
    zipped(zips / "tiles.zip", ortho / "tile_2.tif", ortho / "tile_3.tif")
    zipped(zips / "both.zip", ortho / "tile_2.tif", admin / "roads.gpkg", folder / "ortho/tile_0.tfw")
    zipped(work / "inner.zip", *districts)
    zipped(zips / "zip_in_zip.zip", work / "inner.zip")
    with zipfile.ZipFile(zips / "only_notes.zip", "w") as archive:
        archive.writestr("notes/README.txt", "see the other parcel")
    with zipfile.ZipFile(zips / "way_out.zip", "w") as archive:
        archive.writestr("../../outside.tif", b"II*\x00")
    (zips / "cut_off.zip").write_bytes((zips / "tiles.zip").read_bytes()[:900])


def _beside(folder: Path) -> None:
    (folder / "README.txt").write_text("please read\n")
    (folder / "project.qgz").write_bytes(b"PK\x03\x04")
    (folder / "docs/licence.pdf").write_bytes(b"%PDF-1.4\n%%EOF")
    (folder / "docs/Bericht_final_v2 (Kopie).docx").write_bytes(b"PK\x03\x04")
    (folder / "admin/districts.qml").write_text("<qgis/>")
    (folder / "admin/legend.lyr").write_bytes(b"\xd0\xcf\x11\xe0")
    for litter in LITTER:
        (folder / litter).write_bytes(b"\x00\x05\x16\x07")
