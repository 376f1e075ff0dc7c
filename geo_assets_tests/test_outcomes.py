"""What tasks of this and of earlier releases left in the ledger, read as models."""

from typing import Any

import pytest
from pydantic import ValidationError

from geo_assets.file_stages import COGS, TABLES
from geo_assets.ledger.models import TaskRecord
from geo_assets.ledger.outputs import results
from geo_assets.outcomes import (
    GREETINGS,
    INVENTORY,
    CogOutputs,
    FileOutputs,
    Outputs,
    TableOutputs,
    TaskInput,
    is_readable,
    read_outputs,
    read_receipt,
)

#: As they were written before there were models.
ONE = {"cog": "default/cogs/a.tif", "sha256": "ab", "thumbnail": "default/thumbnails/a.png", "stac_item": "c/a"}
SEVERAL: dict[str, Any] = {
    **{k: v for k, v in ONE.items() if k != "stac_item"},
    "cogs": [{**ONE, "name": "tas"}, {**ONE, "name": "pr", "cog": "default/cogs/pr.tif"}],
    "warnings": ["odd axis"],
}
for cog in SEVERAL["cogs"]:
    del cog["stac_item"]
TABLE = {
    "table": "vector.a",
    "rows": 2,
    "features": 4,
    "loaded": 2,
    "filtered": 1,
    "rejected": {"no geometry": 1},
    "repaired": {},
    "geometry_type": "POINT",
}
LAYER = {"driver": "GPKG", "columns": [], "geometry_type": None, "feature_count": 4}
INPUT = [{"path": "a.gpkg", "size": 1, "etag": "e", "sha256": "ab"}]
RECEIPT = {"input": INPUT, "layers": [LAYER], "software": {"GDAL": "3.10"}}


@pytest.mark.parametrize(
    ("stage", "stored"),
    [
        (COGS, ONE),
        (COGS, SEVERAL),
        (TABLES, {"tables": [TABLE], "stac_item": "c-vector/a"}),
        (TABLES, {"warnings": ["odd axis"]}),
        (INVENTORY, {"files": 3, "bytes": 10, "sources": {"raster": 1}, "ignored": 0}),
        (GREETINGS, {"greeting": "hello (greeting 0)"}),
        ("catalogue", {"pgstac_version": "0.10.0", "collections": 0}),
        (COGS, {}),
    ],
)
def test_outputs_are_shown_with_the_keys_with_which_they_were_stored(stage, stored):
    task = TaskRecord(stage=stage, task_key="a", kind="k", status="succeeded", outputs=stored)
    assert task.model_dump(mode="json")["outputs"] == stored
    assert is_readable(stage, stored, None) is bool(stored)


def test_what_a_later_release_adds_to_outputs_is_shown_and_does_not_hide_the_rest():
    outputs = read_outputs(COGS, {**ONE, "overviews": 3})
    assert isinstance(outputs, CogOutputs)
    assert outputs.stored() == {**ONE, "overviews": 3}


def test_outputs_that_are_not_understood_are_shown_as_they_are_and_name_nothing():
    outputs = read_outputs(COGS, {"cog": 7, "place": "here"})
    assert results(outputs) == [("cog", "7"), ("place", "here")]
    assert outputs.all_blobs == frozenset()
    assert not is_readable(COGS, outputs.stored(), None)


def test_every_blob_of_several_rasters_is_named():
    assert read_outputs(COGS, SEVERAL).all_blobs == {
        "default/cogs/a.tif",
        "default/cogs/pr.tif",
        "default/thumbnails/a.png",
    }


def test_a_cog_without_a_thumbnail_names_the_cog_alone():
    outputs = read_outputs(COGS, {"cog": "default/cogs/a.tif", "sha256": "ab"})
    assert outputs.all_blobs == {"default/cogs/a.tif"}
    assert outputs.thumbnails == ()
    assert outputs.stored() == {"cog": "default/cogs/a.tif", "sha256": "ab"}


def test_files_of_another_kind_are_named_one_by_one():
    outputs = FileOutputs(blobs=("default/cogs/a.x", "default/cogs/b.x"))
    assert outputs.all_blobs == {"default/cogs/a.x", "default/cogs/b.x"}
    assert results(outputs) == [("file", "default/cogs/a.x"), ("file", "default/cogs/b.x")]


def test_an_item_is_added_without_touching_what_was_made():
    made = TableOutputs(tables=(TABLE,))
    assert {**made.stored(), **Outputs(stac_item="c/a").stored()} == {"tables": [TABLE], "stac_item": "c/a"}


def test_a_receipt_of_before_there_were_versions_is_the_first():
    receipt = read_receipt(TABLES, RECEIPT)
    assert receipt.version == 1
    assert receipt.stored()["version"] == 1
    assert "changed" not in receipt.stored()["layers"][0]
    assert is_readable(TABLES, {}, RECEIPT)


@pytest.mark.parametrize(
    "bad",
    [
        {**RECEIPT, "version": 2},
        {**RECEIPT, "version": "one"},
        {"input": INPUT, "software": {}},
        {**RECEIPT, "layers": [{"driver": "GPKG"}]},
        {**RECEIPT, "notes": "of a later release"},
    ],
)
def test_a_receipt_of_which_the_version_is_unknown_or_a_field_is_missing_or_unknown_is_not_used(bad):
    assert not is_readable(TABLES, {"tables": [TABLE]}, bad)
    with pytest.raises(ValidationError):
        read_receipt(TABLES, bad)


def test_a_raster_receipt_has_one_report_or_parts():
    assert not is_readable(COGS, ONE, {"input": INPUT})


@pytest.mark.parametrize("stored", [{}, {"members": [{"path": "a", "size": 1, "etag": "e"}]}, {"index": 0}])
def test_the_input_of_a_task_is_stored_as_before(stored):
    assert TaskInput.model_validate(stored).model_dump(mode="json") == stored
