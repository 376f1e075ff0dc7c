"""Makes geo_assets/demo_data from what the development dependencies ship.

Run: uv run scripts/make_demo_data.py

Elevation: matplotlib's sample data (SRTM, NASA/USGS, public domain). Countries: Natural Earth (public domain), in
pyogrio's wheel.
"""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path

import geopandas as gpd
import numpy as np
import pyogrio
import rasterio
from matplotlib import cbook, colormaps
from matplotlib.colors import LightSource
from rasterio.crs import CRS
from rasterio.transform import from_origin
from rasterio.warp import Resampling, calculate_default_transform, reproject

OUT = Path(__file__).resolve().parent.parent / "geo_assets" / "demo_data"
UTM16 = CRS.from_epsg(32616)


def main() -> None:
    """Write every file of the demo."""
    warnings.simplefilter("ignore")
    OUT.mkdir(exist_ok=True)
    with cbook.get_sample_data("jacksboro_fault_dem.npz") as data:
        dem, dx, xmin, ymax = (
            data["elevation"],
            float(data["dx"]),
            float(data["xmin"]),
            max(float(data["ymin"]), float(data["ymax"])),
        )
    transform = from_origin(xmin, ymax, dx, dx)
    write("jacksboro/elevation.tif", dem[None], CRS.from_epsg(4326), transform, description="elevation", unit="metre")
    shade = LightSource(315, 45).hillshade(dem, vert_exag=0.05)
    write("jacksboro/hillshade.tif", (shade * 254 + 1).astype("uint8")[None], CRS.from_epsg(4326), transform, nodata=0)
    relief = (
        colormaps["gist_earth"]((dem - dem.min()) / np.ptp(dem))[..., :3] * (0.4 + 0.6 * shade[..., None]) * 254 + 1
    ).astype("uint8")
    rgb, grid = to_utm(np.moveaxis(relief, 2, 0), transform)
    write("jacksboro/relief_utm.tif", rgb, UTM16, grid, nodata=0, photometric="RGB")
    classes = np.digitize(dem, [350, 500, 650, 800]).astype("uint8")[None] + 1
    palette = {
        0: (0, 0, 0, 0),
        1: (61, 122, 77, 255),
        2: (143, 176, 93, 255),
        3: (222, 204, 122, 255),
        4: (176, 128, 79, 255),
        5: (240, 240, 240, 255),
    }
    write("jacksboro/height_classes.tif", classes, CRS.from_epsg(4326), transform, palette=palette)
    scan("jacksboro/relief_scan.jpg", relief[::2, ::2], transform)
    whole = (OUT / "jacksboro/elevation.tif").read_bytes()
    (OUT / "damaged_upload.tif").write_bytes(whole[: len(whole) // 2])
    vectors()


def to_utm(pixels: np.ndarray, transform: object) -> tuple[np.ndarray, object]:
    """Bands warped to UTM, so that the demo has a projected raster with nodata corners."""
    count, height, width = pixels.shape
    left, top = transform.c, transform.f
    grid, w, h = calculate_default_transform(
        "EPSG:4326", UTM16, width, height, left, top - height * transform.a, left + width * transform.a, top
    )
    out = np.zeros((count, h, w), "uint8")
    for band in range(count):
        reproject(
            pixels[band],
            out[band],
            src_transform=transform,
            src_crs="EPSG:4326",
            dst_transform=grid,
            dst_crs=UTM16,
            resampling=Resampling.bilinear,
        )
    return out, grid


def scan(name: str, picture: np.ndarray, transform: object) -> None:
    """Half as many pixels as a JPEG, which a world file places and an `.aux.xml` gives its CRS."""
    path = OUT / name
    height, width, _ = picture.shape
    with rasterio.open(
        path, "w", driver="JPEG", count=3, height=height, width=width, dtype="uint8", quality=70
    ) as jpeg:
        jpeg.write(np.moveaxis(picture, 2, 0))
    size = 2 * transform.a
    world = (size, 0.0, 0.0, -size, transform.c + size / 2, transform.f - size / 2)
    path.with_suffix(".jgw").write_text("".join(f"{number:.12f}\n" for number in world), encoding="ascii")
    xml = '<PAMDataset>\n  <SRS dataAxisToSRSAxisMapping="2,1">EPSG:4326</SRS>\n</PAMDataset>\n'
    path.with_name(f"{path.name}.aux.xml").write_text(xml, encoding="ascii")


def write(
    name: str,
    pixels: np.ndarray,
    crs: CRS,
    transform: object,
    *,
    description: str = "",
    unit: str = "",
    palette: dict | None = None,
    **profile: object,
) -> None:
    """One striped, uncompressed-looking GeoTIFF as an instrument would deliver it."""
    path = OUT / name
    path.parent.mkdir(exist_ok=True)
    count, height, width = pixels.shape
    base = {
        "driver": "GTiff",
        "count": count,
        "height": height,
        "width": width,
        "dtype": pixels.dtype,
        "crs": crs,
        "transform": transform,
        "compress": "lzw",
    }
    with rasterio.open(path, "w", **base, **profile) as dataset:
        dataset.write(pixels)
        if description:
            dataset.set_band_description(1, description)
        if unit:
            dataset.units = [unit]
        if palette:
            dataset.write_colormap(1, palette)


def vectors() -> None:
    """Countries in the formats that people send."""
    source = Path(pyogrio.__file__).parent / "tests/fixtures/naturalearth_lowres/naturalearth_lowres.shp"
    countries = gpd.read_file(source)
    (OUT / "world").mkdir(exist_ok=True)
    countries.to_file(OUT / "world/countries.gpkg", layer="countries", driver="GPKG")
    countries[countries.continent == "Oceania"].to_file(OUT / "world/oceania.geojson", driver="GeoJSON")
    points = countries[["name", "continent", "pop_est"]].assign(
        lon=countries.representative_point().x.round(4), lat=countries.representative_point().y.round(4)
    )
    points.to_csv(OUT / "world/country_points.csv", index=False)
    folder = OUT / "_shp"
    folder.mkdir(exist_ok=True)
    countries[countries.continent == "South America"].to_file(folder / "south_america.shp")
    with zipfile.ZipFile(OUT / "world/south_america.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for part in sorted(folder.iterdir()):
            archive.write(part, part.name)
            part.unlink()
    folder.rmdir()
    (OUT / "world/sites_without_coordinates.csv").write_text("site,owner\nA1,Smith\nA2,Jones\n", encoding="utf-8")


if __name__ == "__main__":
    main()
