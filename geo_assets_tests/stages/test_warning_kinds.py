"""Warnings are counted by kind: the same fault of two files is one kind, whatever columns and numbers its sentences
name.
"""

import pytest

from geo_assets.ledger.outputs import warnings
from geo_assets.ledger.warnings import OTHER, counted, kind_of
from geo_assets.outcomes import TableOutputs
from geo_assets.vector.reader import conversion, dbf, findings, sqlite_values, text_values
from geo_assets.vector.reader.batches import EMPTY_ROWS
from geo_assets.vector.reader.findings import Findings
from geo_assets_tests.stages.builders import table

FAULTS = {
    dbf.NO_BOOLEAN: "values made NULL",
    findings.FAULTY: "values changed",
    sqlite_values.NO_INTEGER: "values made NULL",
    sqlite_values.NO_NUMBER: "values made NULL",
    sqlite_values.NO_BOOLEAN: "values made NULL",
    sqlite_values.NO_DATE: "values made NULL",
    sqlite_values.TIME_DROPPED: "values changed",
    text_values.NO_MOMENT: "values made NULL",
    text_values.NO_ZONE: "values made NULL",
    text_values.NO_ZONE_TEXT: "times without a zone",
    text_values.TAKEN_FOR_UTC: "times without a zone",
    conversion.NUL_REMOVED: "values changed",
    conversion.NOT_UTF8: "values changed",
    conversion.NOT_JSON: "values changed",
}


@pytest.mark.parametrize(("fault", "kind"), FAULTS.items())
def test_a_fault_of_values_has_one_kind_whatever_the_column_and_the_number(fault, kind):
    findings = Findings()
    findings.add("d", fault, ["08.09.2022"])
    findings.add("CRS left out", fault, ["x"] * 7)
    findings.add("other", fault, [])
    assert {kind_of(sentence) for sentence in findings.warnings()} == {kind}
    assert kind_of(f"3 values are {fault}") == kind_of(f"1 value is {fault}") == kind


@pytest.mark.parametrize(
    ("sentence", "kind"),
    [
        (f"2 {EMPTY_ROWS}", "left out"),
        ("left out: layer 'sketch' of a.gpkg does not say which CRS its coordinates are in", "left out"),
        ("a TIFF cannot hold its attribute table; left out", "metadata not kept"),
        ("dop/a.tif: its CRS is that of a.prj: EPSG:25833", "CRS"),
        (
            "its heights are 'NAP height' (EPSG:5709), which the vertical half of its CRS says and EPSG:28992 does not",
            "heights",
        ),
        ("its .cpg says '1252', but its text is UTF-8, and was read as that", "text encoding"),
        ("it loses detail in EPSG:3857: a pixel of 500 is 3.1 times as long as the source's", "coarser pixels"),
        ("its colours are CMYK: they were turned into RGBA without a colour profile", "colours"),
        ("vector.roads: column 'a' is new: text", "columns of the table"),
        ("1 curve became lines, whose chords are at most 0.10 % of the radius off", "geometry"),
        ("PROJ knows no transformation from 'NAD27' to 'WGS 84' for where it lies: longitudes", "transformation"),
        ("its geometries that name no SRID were taken for EPSG:25832, which most name", "CRS"),
        ("1 geometry is wider than half the globe: what crosses the antimeridian must be cut there", "geometry"),
        ("1 geometry lies beyond longitude and latitude: is its CRS right, and longitude first?", "geometry"),
        ("1 geometry has M values, which were dropped", "heights"),
        ("the repair of 1 geometry changed its area by more than 1 %", "geometries repaired"),
        ("doc.kml links to 1 file that is not followed: a.kml", "left out"),
        ("1 row of its DBF has no shape and was left out", "left out"),
        ("keep_lossy does not keep its blocks: they are strips, where a COG has tiles", "profile"),
        ("something that nobody foresaw", OTHER),
    ],
)
def test_a_sentence_is_of_the_kind_that_it_tells_of(sentence, kind):
    assert kind_of(sentence) == kind


def test_files_are_counted_once_for_each_kind_the_commonest_first():
    null = "'d': 3 values not a date, now NULL: '08.09.2022'"
    files = [
        [null, "'t': 1 value not a time, now NULL: 'x'"],
        [null],
        ["its colours are CMYK: they were turned into RGB"],
        [],
    ]
    assert list(counted(files).items()) == [("values made NULL", 2), ("colours", 1)]


def test_features_that_were_rejected_or_repaired_are_warned_of():
    a = table("vector.a", 2, rejected={"no geometry": 1, "empty geometry": 3}, repaired={"Self-intersection": 1200})
    said = warnings(TableOutputs(tables=(a, table("vector.b", 1)), warnings=("a remark",)))
    assert said == [
        "a remark",
        "vector.a: 4 features were rejected: empty geometry (3), no geometry (1); they are in vector.a__rejects",
        "vector.a: 1,200 geometries were repaired: Self-intersection (1,200)",
    ]
    assert [kind_of(sentence) for sentence in said] == [OTHER, "features rejected", "geometries repaired"]
