"""Whole items, as clients get them: what is made of real files by the real engines, compared with JSON in the repository.

What follows from the versions of encoders is fixed: bytes and checksum of a COG.
"""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from rasterio.transform import from_origin
from shapely.geometry import shape

from geo_assets.accounts import AzureAccount
from geo_assets.longitudes import footprint
from geo_assets.raster.cog import convert
from geo_assets.raster.models import ConvertRequest
from geo_assets.stac.item import CogAsset, FileAsset, cog_item, file_item, item_id, table_item
from geo_assets.stac.places import with_places
from geo_assets.stac.provenance import SourceFile, cog_steps, file_steps, table_steps, with_provenance
from geo_assets.stac.validation import validated
from geo_assets.storage import azure
from geo_assets.vector.models import InspectRequest
from geo_assets.vector.reader.inspect import inspect
from geo_assets_tests.golden import assert_golden
from geo_assets_tests.raster.test_cog import write

REGISTERED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

DELIVERY = {
    "type": "FeatureCollection",
    "features": [
        {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": [[[5, 50], [7, 50], [7, 52], [5, 52], [5, 50]]]},
            "properties": {"name": "Maastricht", "people": 120000, "founded": "1204-05-06", "density": 2.5},
        },
        {"type": "Feature", "geometry": {"type": "Point", "coordinates": [8, 49]}, "properties": {"name": "a well"}},
    ],
}


SOURCES = [
    SourceFile(path="a/b 1.tif", href="https://example.org/landing/a/b%201.tif", size=4412, sha256="cd" * 32),
    SourceFile(path="a/b 1.tfw", href="https://example.org/landing/a/b%201.tfw", size=88, sha256="ef" * 32),
]
SOFTWARE = {"geo_assets": "1.2.3", "gdal": "3.9.3"}


def golden(name: str, item: dict, steps: str) -> None:
    """As it is stored."""
    item = validated(with_provenance(item, sources=SOURCES, steps=steps, software=SOFTWARE))
    text = json.dumps(item, indent=2, ensure_ascii=False, sort_keys=True)
    assert_golden(Path(__file__).parent / "items" / f"{name}.json", f"{text}\n")


def cog(folder: Path, name: str, pixels: np.ndarray, *, key: str = "", title: str | None = None, **profile) -> CogAsset:
    source = write(folder / f"{name}.tif", pixels, **profile)
    request = ConvertRequest(
        source=str(source), destination=str(folder / f"{name}.cog.tif"), datetime_regex="%Y%m%d", known_as=f"{name}.tif"
    )
    report = replace(convert(request), bytes=12345, sha256="ab" * 32)
    href = f"https://example.org/cogs/{name}.tif"
    return CogAsset(key=key, title=title, href=href, thumbnail=href.replace("tif", "png"), report=report)


def ramp(dtype: str, bands: int = 1) -> np.ndarray:
    return np.arange(bands * 40 * 50).reshape(bands, 40, 50).astype(dtype)


def item_of(path: str, cogs: list[CogAsset], **more) -> dict:
    identity = item_id("default", "landing", path)
    return cog_item(identity=identity, collection="landing", title=path, modified=REGISTERED, cogs=cogs, **more)


def test_the_item_of_a_cog(tmp_path):
    made = cog(tmp_path, "height_20240131", ramp("float32"), nodata=0, transform=from_origin(5e5, 4e6, 10, 10))
    item = item_of("a/height_20240131.tif", [made], warnings=["the nodata value is also a height"])
    golden("cog", item, cog_steps([made.report], reprojected=False))


def test_the_item_of_a_cog_in_three_colours_without_a_time(tmp_path):
    made = cog(tmp_path, "scan", ramp("uint8", 3), photometric="rgb", crs="EPSG:3857")
    golden("cog_rgb", item_of("scan.tif", [made]), cog_steps([made.report], reprojected=True))


def test_the_item_of_a_cog_in_azure_storage(tmp_path):
    made = cog(tmp_path, "scan", ramp("uint8"), crs="EPSG:3857")
    places = {made.href: azure.place(AzureAccount(kind="azure", account_name="surveydata"), "cogs", "a/scan.tif")}
    golden("cog_azure", with_places(item_of("scan.tif", [made]), places), cog_steps([made.report], reprojected=False))


def test_the_item_of_several_cogs(tmp_path):
    cogs = [
        cog(tmp_path, "rain_20240131", ramp("int16"), key="rain", title="rain"),
        cog(tmp_path, "wind_20240201", ramp("float64"), key="wind", title="wind"),
    ]
    golden("several_cogs", item_of("weather.nc", cogs), cog_steps([c.report for c in cogs], reprojected=False))


def test_the_item_of_tables(tmp_path):
    file = tmp_path / "places.geojson"
    file.write_text(json.dumps(DELIVERY))
    layers = list(inspect(InspectRequest(source=str(file))).layers)
    tables = [(f"vector.places_{layer.part}", layer.feature_count) for layer in layers]
    item = table_item(
        identity=item_id("default", "landing", "places.geojson"),
        collection="landing-vector",
        title="places.geojson",
        href="postgresql://db.example.org:5432/geo_assets",
        modified=REGISTERED,
        tables=tables,
        layers=layers,
        when="2024-01/2024-03",
    )
    golden("tables", item, table_steps(len(tables)))


def test_the_item_of_files_of_any_kind():
    item = file_item(
        identity=item_id("default", "landing", "places.geojson"),
        collection="landing-files",
        title="places.geojson",
        modified=REGISTERED,
        files=[
            FileAsset("https://example.org/files/places.json", "application/json", "ab" * 32),
            FileAsset("https://example.org/files/places.unknown"),
        ],
        box=(5.0, 50.0, 7.0, 52.0),
        when="2024-01",
        warnings=["odd axis"],
    )
    golden("files", item, file_steps(2))


@pytest.mark.parametrize(
    ("boxes", "bbox", "bounds"),
    [
        ([(5, 50, 7, 52), (8, 49, 8, 49)], [5, 49, 8, 52], (5, 48.999999, 8.000001, 52)),
        ([(170, -20, -170, -10), (175, -5, 179, 0)], [170, -20, -170, 0], (-180, -20, 180, 0)),
        ([(178, -20, 179, -10), (-179, -20, -178, -10)], [178, -20, -178, -10], (-179, -20, 179, -10)),
        ([(180, 90, 180, 90)], [180, 90, 180, 90], (179.999999, 89.999999, 180, 90)),
        ([(5, 50, 5, 52)], [5, 50, 5, 52], (4.999999, 50, 5.000001, 52)),
    ],
)
def test_the_extent_of_tables_is_the_smallest_one_around_all_layers_also_across_the_antimeridian(
    tmp_path, boxes, bbox, bounds
):
    file = tmp_path / "places.geojson"
    file.write_text(json.dumps(DELIVERY))
    layer = inspect(InspectRequest(source=str(file))).layers[0]
    layers = [replace(layer, bbox_4326=box, footprint=footprint(box)) for box in boxes]
    tables = [(f"vector.t{number}", 1) for number in range(len(layers))]
    item = validated(
        table_item(identity="i", collection="c", title="t", href="", modified=REGISTERED, tables=tables, layers=layers)
    )
    outline = shape(item["geometry"])
    assert item["bbox"] == bbox
    assert outline.bounds == pytest.approx(bounds, abs=1e-9)
    assert outline.is_valid
    assert all(part.exterior.is_ccw for part in getattr(outline, "geoms", [outline]))


def test_the_item_of_a_table_without_geometry_is_valid(tmp_path):
    file = tmp_path / "places.geojson"
    file.write_text(json.dumps(DELIVERY))
    layer = inspect(InspectRequest(source=str(file))).layers[0]
    plain = replace(layer, geometry_type=None, srid=0, bbox_4326=None, footprint=None)
    item = table_item(
        identity="i",
        collection="c",
        title="t",
        href="postgresql://db.example.org:5432/geo_assets",
        modified=REGISTERED,
        tables=[("vector.plain", 0)],
        layers=[plain],
    )
    assert validated(item)["bbox"] == [-180, -90, 180, 90]
    assert "proj:code" not in item["assets"]["plain"]
