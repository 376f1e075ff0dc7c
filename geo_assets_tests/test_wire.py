import json
from dataclasses import dataclass, fields, make_dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from geo_assets.raster import models as rasters
from geo_assets.raster import variables_models as variables
from geo_assets.sandbox.protocol import Call, Reply, Terms
from geo_assets.vector import models as vectors
from geo_assets.wire import Message, built, checked, json_of, told

_MESSAGES = [
    Call,
    Reply,
    Terms,
    *(
        kind
        for module in (rasters, variables)
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, Message) and kind is not Message
    ),
    vectors.LayerOptions,
    vectors.InspectRequest,
    vectors.Found,
    vectors.StreamReport,
]

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=4,
)

st.register_type_strategy(float, st.floats(allow_nan=False, allow_infinity=False))


def crossed(message: Message) -> Any:
    """What arrives on the other side."""
    return json.loads(json.dumps(message, default=told))


_BAND = st.builds(rasters.BandReport, datetime=st.none() | st.just("2026-12-01T00:00:00Z"))


def without_limits(kind: type[Message]) -> dict[str, Any]:
    """Strategies for fields whose values have more limits than a type."""
    known = {
        "max_transform_accuracy_m": st.none() | st.floats(0.001, 1e9),
        "delimiter": st.sampled_from([None, ";", "|", "\t", " "]),
        "max_unpacked_bytes": st.integers(min_value=1),
        "rows": st.integers(min_value=0),
        "filtered": st.integers(min_value=0),
        "said": st.lists(st.text(), max_size=20).map(tuple),
        **dict.fromkeys(("width", "height"), st.integers(1, 2**31 - 1)),
        **dict.fromkeys(
            ("datetime", "end_datetime"), st.none() | st.datetimes().map(lambda when: when.isoformat() + "Z")
        ),
        "bbox_4326": st.none() | st.just((179.0, -1.0, -179.0, 90.0)),
        "bytes": st.integers(min_value=0),
        "sha256": st.just("0f" * 32),
        **dict.fromkeys(("x", "y", "wkt", "encoding"), st.none()),
        **dict.fromkeys(("request", "projjson", "footprint"), st.dictionaries(st.text(), _JSON, max_size=3)),
        "override_crs": st.just(value=False),
        "result": st.none() | st.dictionaries(st.text(), _JSON, max_size=3),
    }
    if kind is rasters.ConvertReport:
        known |= {"count": st.just(1), "dtypes": st.tuples(st.text()), "bands": st.tuples(_BAND)}
    return {each.name: known[each.name] for each in fields(kind) if each.name in known}


st.register_type_strategy(rasters.CogHeader, st.builds(rasters.CogHeader, **without_limits(rasters.CogHeader)))


@settings(max_examples=15, suppress_health_check=list(HealthCheck))
@given(data=st.data())
@pytest.mark.parametrize("kind", _MESSAGES)
def test_a_message_is_the_same_on_the_other_side(kind, data):
    message = data.draw(st.builds(kind, **without_limits(kind)))
    assert checked(kind, crossed(message)) == message
    if "Report" not in kind.__name__:  # no child gets one
        assert built(kind, crossed(message)) == message


_PLAN = vectors.LayerPlan(
    driver="GPKG",
    columns=(
        vectors.ColumnPlan(position=0, source_name="A b", name="a_b", arrow_type="int32", sql_type="integer"),
        vectors.ColumnPlan(position=1, source_name="ü", name="u", arrow_type="string", sql_type="text"),
    ),
    geometry_type="MULTIPOLYGON",
    srid=25832,
    feature_count=3,
    rejected_by_reason={"ring not closed": 1},
    changed=(1, 2),
    options=vectors.LayerOptions(columns=("A b",), bbox=(0.0, 1.5, 2.0, 3.0)),
    bbox_4326=(179.0, -1.0, -179.0, 1.0),
    footprint={"type": "MultiPolygon", "coordinates": []},
)


_CONVERTED: dict[str, Any] = {
    "driver": "GTiff", "profile": "web", "kind": "imagery", "georeferencing": "transform", "width": 1, "height": 1, "count": 1,
    "dtypes": ["uint8"], "nodata": None, "epsg": 4326, "crs_wkt2": None, "projjson": None,
    "transform": [1, 0, 0, 0, -1, 0], "bbox": [0, -1, 1, 0], "footprint": None, "bbox_4326": [0, -1, 1, 0],
    "bands": [{
        "name": "b1", "description": None, "unit": None, "scale": 1, "offset": 0, "colorinterp": "gray", "minimum": 0,
        "maximum": 1, "mean": 0.5, "stddev": 0, "valid_percent": 100,
    }],
    "resolution": [1, 1], "gsd": None, "datetime": "2026-12-01T00:00:00Z", "bytes": 1, "sha256": "0f" * 32,
    "pixels_sha256": "0f" * 32, "warnings": [], "seconds": 0, "software": {},
}  # fmt: skip


@pytest.mark.parametrize("message", [vectors.StreamRequest(source="/s", plan=_PLAN), _PLAN], ids=["request", "plan"])
def test_messages_within_messages_are_the_same_too(message):
    assert built(type(message), crossed(message)) == message
    assert checked(type(message), crossed(message)) == message


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (rasters.StripReport, {"width": 1}),
        (rasters.StripReport, {"width": 1, "height": 2, "depth": 3}),
        (rasters.StripReport, {"width": "wide", "height": 2}),
        (rasters.StripReport, {"width": 1.5, "height": 2}),
        (rasters.StripReport, [1, 2]),
        (rasters.ConvertReport, {"bbox_4326": [500, 500, -500, -900]}),
        (rasters.ConvertReport, {"bbox_4326": [8, 91, 9, 95]}),
        (rasters.ConvertReport, {"datetime": "yesterday"}),
        (rasters.ConvertReport, {"bands": [], "count": 0, "dtypes": []}),
        (rasters.ConvertReport, {"count": 2}),
        (rasters.ConvertReport, {"width": -1}),
        (rasters.ConvertReport, {"bytes": -1}),
        (rasters.ConvertReport, {"sha256": "../../../x"}),
        (variables.Variable, {"name": "a", "scale": float("nan")}),
        (variables.Variable, {"name": "a", "offset": float("inf")}),
        (variables.Variable, {"name": "a", "bands": [{"description": "", "datetime": None, "dimensions": {"t": 1}}]}),
        (rasters.CogHeader, None),
        (vectors.StreamReport, {"rows": -1}),
        (vectors.StreamReport, {"rows": 1, "found": {"geometry_type": "CURVE"}}),
        (Reply, {"said": ["again and again"] * 21}),
        (Reply, {"error": {"code": 1}}),
    ],
)
def test_a_report_that_is_none_is_refused(kind, said):
    if kind is rasters.ConvertReport:
        assert checked(kind, _CONVERTED)
        said = _CONVERTED | said
    with pytest.raises(ValueError, match=kind.__name__):
        checked(kind, said)


def test_what_people_see_has_no_fields_that_say_nothing():
    band = rasters.BandReport(
        name="b1", description=None, unit=None, scale=1, offset=0, colorinterp="gray", minimum=0, maximum=1, mean=0.5,
        stddev=0.5, valid_percent=100,
    )  # fmt: skip
    assert "colours" not in json_of(band)
    assert json_of(vectors.StreamReport(rows=1), exclude={"rows"})["filtered"] == 0


class OfPydantic(BaseModel):
    """The request of an engine of another distribution."""

    source: str
    inner: rasters.StripReport | None = None


def test_a_model_of_pydantics_is_a_message_too():
    message = OfPydantic(source="a", inner=rasters.StripReport(width=1, height=2))
    assert built(OfPydantic, crossed(message)) == message
    assert checked(OfPydantic, crossed(message)) == message
    with pytest.raises(ValueError, match="source"):
        checked(OfPydantic, {})


@dataclass(frozen=True)
class Older(Message):
    """A request before a field was added."""

    source: str


def test_a_request_with_a_field_too_many_or_too_few_is_an_error():
    with pytest.raises(TypeError, match="source"):
        built(Older, {})
    with pytest.raises(KeyError, match="more"):
        built(Older, {"source": "a", "more": 1})


class _Kind(StrEnum):
    A = "a"


@dataclass(frozen=True, kw_only=True)
class _Inner(Message):
    n: int


@pytest.mark.parametrize("field", [Path, _Kind, list[_Inner], dict[str, _Inner], set[int]])
def test_a_request_with_fields_that_would_arrive_as_something_else_is_refused(field):
    kind = make_dataclass("Request", [("field", field)], bases=(Message,), frozen=True, kw_only=True)
    with pytest.raises(TypeError, match="a request has no"):
        built(kind, {"field": None})


def test_a_tuple_of_different_types_arrives_as_that():
    kind = make_dataclass("Request", [("field", tuple[int, _Inner])], bases=(Message,), frozen=True, kw_only=True)
    message = kind(field=(1, _Inner(n=2)))
    assert built(kind, crossed(message)) == message
