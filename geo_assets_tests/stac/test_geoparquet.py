"""items.parquet holds what the items say, for every reader, and is twice the same."""

import copy
import json
from datetime import UTC, datetime
from pathlib import Path

import geopandas as gpd
import pyarrow.parquet as pq
import pytest
import rustac

from geo_assets.stac.geoparquet import write_items

GOLDEN = [json.loads(path.read_text()) for path in sorted((Path(__file__).parent / "items").glob("*.json"))]


def items():
    """Items of every kind, each with an id of its own; one across the antimeridian, of unknown time."""
    found = [{**copy.deepcopy(item), "id": f"{number}-{item['id']}"} for number, item in enumerate(GOLDEN)]
    fiji = copy.deepcopy(GOLDEN[0])
    fiji["id"], fiji["bbox"] = "fiji", [179.0, -17.0, -179.0, -16.0]
    halves = [(179.0, 180.0), (-180.0, -179.0)]
    fiji["geometry"] = {
        "type": "MultiPolygon",
        "coordinates": [[[[w, -17.0], [e, -17.0], [e, -16.0], [w, -16.0], [w, -17.0]]] for w, e in halves],
    }
    unknown = "0001-01-01T00:00:00Z"
    fiji["properties"] |= {"datetime": None, "start_datetime": unknown, "end_datetime": unknown}
    return [*found, fiji]


def plain(value, name=""):
    """As clients see it: without nulls; a footprint as parts, a time in one spelling."""
    if name == "geometry" and value["type"] == "Polygon":
        value = {"type": "MultiPolygon", "coordinates": [value["coordinates"]]}
    if isinstance(value, dict):
        return {key: plain(inner, key) for key, inner in value.items() if inner is not None}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, str) and value.endswith("+00:00"):
        return value.replace("+00:00", "Z")
    return value


def write(folder, found, name="items.parquet"):
    assert write_items(iter(copy.deepcopy(found)), folder / name) == len(found)
    assert [path for path in folder.iterdir() if path.is_dir()] == []
    return folder / name


def test_rustac_reads_every_item_back(tmp_path):
    back = rustac.read_sync(str(write(tmp_path, items())))["features"]
    assert [plain(item) for item in back] == [plain(item) for item in items()]


def test_geopandas_reads_footprints_and_times_also_across_the_antimeridian_and_of_unknown_time(tmp_path):
    frame = gpd.read_parquet(write(tmp_path, items())).set_index("id")
    assert frame.loc["fiji"].geometry.bounds == (-180.0, -17.0, 180.0, -16.0)
    assert len(frame.loc["fiji"].geometry.geoms) == 2
    assert frame.datetime.isna()["fiji"]
    assert frame.start_datetime["fiji"].to_pydatetime() == datetime(1, 1, 1, tzinfo=UTC)
    assert frame.datetime.iloc[0].isoformat() == GOLDEN[0]["properties"]["datetime"].replace("Z", "+00:00")


def test_the_box_of_an_item_is_the_covering_of_its_footprint(tmp_path):
    path = write(tmp_path, items())
    table = pq.read_table(path)
    assert table["bbox"][-1].as_py() == {"xmin": 179.0, "ymin": -17.0, "xmax": -179.0, "ymax": -16.0}
    geo = json.loads(pq.read_metadata(path).metadata[b"geo"])["columns"]["geometry"]
    assert geo["covering"]["bbox"]["xmin"] == ["bbox", "xmin"]
    assert geo["geometry_types"] == ["MultiPolygon", "Polygon"]


def test_the_same_items_give_the_same_bytes_whatever_the_order_of_their_fields(tmp_path):
    def turned(value):
        if isinstance(value, dict):
            return {key: turned(value[key]) for key in reversed(value)}
        return [turned(inner) for inner in value] if isinstance(value, list) else value

    one = write(tmp_path, items(), "one.parquet").read_bytes()
    assert one == write(tmp_path, turned(items()), "two.parquet").read_bytes()


@pytest.mark.parametrize("group", [1, 2, 100])
def test_values_of_different_kinds_are_kept_whichever_batch_they_come_in(tmp_path, monkeypatch, group):
    monkeypatch.setattr("geo_assets.stac.geoparquet._GROUP", group)
    odd = [{"a": 1}, [1, "x"], "text", 5, [2, None], 2.5, None, True, {}, 2**63, 1e25]
    found = []
    for number, value in enumerate(odd):
        item = copy.deepcopy(GOLDEN[0])
        item["id"], item["properties"]["x:odd"] = str(number), value
        item["properties"]["x:number"] = [1, 2.5][number % 2]
        item["assets"]["data"]["bands"][0]["nodata"] = ["nan", 5, 1.5][number % 3]
        item["properties"]["x:always_null"] = None
        found.append(item)
    table = pq.read_table(write(tmp_path, found))
    told = table["x:odd"].to_pylist()
    assert [v if v is None or v == "text" else json.loads(v) for v in told] == odd
    assert table["x:number"].to_pylist() == ([1.0, 2.5] * 6)[: len(odd)]
    nodata = [row["data"]["bands"][0]["nodata"] for row in table["assets"].to_pylist()]
    assert [str(value) for value in nodata[:3]] == ["nan", "5.0", "1.5"]
    assert len(rustac.read_sync(str(tmp_path / "items.parquet"))["features"]) == len(odd)


def test_many_tables_that_each_have_a_key_of_their_own_make_no_column_for_each(tmp_path):
    (tables,) = (item for item in GOLDEN if "places_point" in item["assets"])
    found = []
    for number in range(150):
        item = copy.deepcopy(tables)
        item["id"] = f"{number:04}"
        item["assets"] = {f"{key}_{number}": asset for key, asset in item["assets"].items()}
        found.append(item)
    path = write(tmp_path, found)
    assert pq.read_metadata(path).num_columns < 100
    assert [plain(item["assets"]) for item in rustac.read_sync(str(path))["features"]] == [
        plain(item["assets"]) for item in found
    ]


def test_without_items_there_is_no_file(tmp_path):
    assert write_items(iter([]), tmp_path / "items.parquet") == 0
    assert list(tmp_path.iterdir()) == []
