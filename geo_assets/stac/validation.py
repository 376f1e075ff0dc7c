"""Validation of items and collections against JSON schemas, without a network.

Here: STAC 1.1.0 and the extensions that a document names, from `schemas/`, compiled once per process; where in a
document the fault is. Not here: whether a document agrees with its assets, building documents (`item.py`).

Where the schemas come from, and which of them are ours: `schemas/README.md`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from geo_assets.errors import GeoAssetsError

if TYPE_CHECKING:
    from jsonschema_rs import Registry, ValidationError, Validator

_CORE = "https://schemas.stacspec.org/v1.1.0"
_EXTENSIONS = "https://stac-extensions.github.io"

#: `type` of a document -> its schema.
_CORES = {
    "Feature": f"{_CORE}/item-spec/json-schema/item.json",
    "Collection": f"{_CORE}/collection-spec/json-schema/collection.json",
}

#: What `stac_extensions` may name -> its file.
_NAMED = {
    f"{_EXTENSIONS}/projection/v2.0.0/schema.json": "extensions/projection-2.0.0.json",
    f"{_EXTENSIONS}/file/v2.1.0/schema.json": "extensions/file-2.1.0.json",
    f"{_EXTENSIONS}/storage/v2.0.0/schema.json": "extensions/storage-2.0.0.json",
    f"{_EXTENSIONS}/table/v1.2.0/schema.json": "extensions/table-1.2.0.json",
    f"{_EXTENSIONS}/render/v2.0.0/schema.json": "extensions/render-2.0.0.json",
    f"{_EXTENSIONS}/classification/v2.0.0/schema.json": "extensions/classification-2.0.0.json",
    f"{_EXTENSIONS}/eo/v2.0.0/schema.json": "ours/eo-2.0.0.json",
    f"{_EXTENSIONS}/raster/v2.0.0/schema.json": "ours/raster-2.0.0.json",
    f"{_EXTENSIONS}/processing/v1.2.0/schema.json": "ours/processing-1.2.0.json",
    f"{_EXTENSIONS}/alternate-assets/v1.2.0/schema.json": "ours/alternate-assets-1.2.0.json",
}

#: All that schemas refer to, by URL.
_FILES = {
    **_NAMED,
    _CORES["Feature"]: "core/item.json",
    _CORES["Collection"]: "core/collection.json",
    f"{_CORE}/catalog-spec/json-schema/catalog.json": "core/catalog.json",
    **{
        f"{_CORE}/item-spec/json-schema/{name}.json": f"core/{name}.json"
        for name in (
            "bands",
            "basics",
            "common",
            "data-values",
            "datetime",
            "instrument",
            "licensing",
            "provider",
        )
    },
    "https://geojson.org/schema/Feature.json": "core/geojson-feature.json",
    "https://geojson.org/schema/Geometry.json": "core/geojson-geometry.json",
    "https://proj.org/schemas/v0.7/projjson.schema.json": "extensions/projjson-0.7.json",
    **{
        f"{_EXTENSIONS}/storage/v2.0.0/platforms/{name}.json": f"extensions/storage-2.0.0-{name}.json"
        for name in ("aws-s3", "custom-s3", "ms-azure")
    },
}

#: A summary of a collection may be a JSON schema. That it is an object is checked, not that it is such a schema.
_META = ("http://json-schema.org/draft-07/schema", {"type": ["object", "boolean"]})

#: Characters of a validator's sentence: it may quote half the document.
_LONGEST = 300


def validated(document: dict[str, Any]) -> dict[str, Any]:
    """Return an item or collection that conforms to STAC 1.1.0 and to each extension that it names, and whose hrefs
    carry no secret, as it is stored: a number of more than 64 bits becomes a float.

    An item as pgstac stores it has no link to its collection; the schema asks for one only where the API adds it.

    Raises:
        GeoAssetsError: STAC_INVALID, with the JSON pointer of the fault.
    """
    name = str(document.get("id"))
    try:
        whole: dict[str, Any] = _storable(document)
    except _UnfitError as unfit:
        raise _invalid(name, _pointer(unfit.path), unfit.sentence) from None
    extensions = whole.get("stac_extensions") or []
    for number, url in enumerate(extensions):
        if url not in _NAMED:
            raise _invalid(name, f"/stac_extensions/{number}", f"the schema of {url} is not known")
    if whole.get("type") not in _CORES:
        raise _invalid(name, "/type", f"{whole.get('type')!r} is neither an item nor a collection")
    validator = _validator(_CORES[whole["type"]], tuple(extensions))
    completed = _with_link(whole) if whole["type"] == "Feature" else whole
    if not validator.is_valid(completed):
        fault = _fault(validator.iter_errors(completed))
        raise _invalid(name, _pointer(fault.instance_path), fault.message)
    return whole


def _invalid(name: str, pointer: str, sentence: str) -> GeoAssetsError:
    more = "…" if len(sentence) > _LONGEST else ""
    return GeoAssetsError("STAC_INVALID", f"{name} is not valid at {pointer or '/'}: {sentence[:_LONGEST]}{more}")


def _with_link(item: dict[str, Any]) -> dict[str, Any]:
    link = {"rel": "collection", "href": f"./{item.get('collection')}.json"}
    return {**item, "links": [*item.get("links", ()), link]}


@cache
def _registry() -> Registry:
    from jsonschema_rs import Registry

    folder = files("geo_assets.stac") / "schemas"
    return Registry([_META, *((url, json.loads((folder / file).read_text("utf-8"))) for url, file in _FILES.items())])


@cache
def _validator(core: str, extensions: tuple[str, ...]) -> Validator:
    """One validator for all schemas of a kind of document: it is converted for Rust once, not once per schema."""
    from jsonschema_rs import validator_for

    schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "allOf": [{"$ref": url} for url in (core, *extensions)],
    }
    formats = {"iri-reference": _is_href}
    return validator_for(schema, registry=_registry(), validate_formats=True, formats=formats, offline=True)


def _is_href(text: str) -> bool:
    """Whether a client can open it: a URL; the path of a local file stands in it as it is, since GDAL decodes none."""
    return text.isprintable() and (text.startswith("file://") or " " not in text)


def _fault(errors: Iterable[ValidationError]) -> ValidationError:
    """The error that tells most: the deepest one, and of alternatives (an item or a collection; one of the geometries)
    those of the one that fits best.
    """
    fault = max(errors, key=_depth)
    while branches := [branch for branch in getattr(fault.kind, "context", ()) if branch]:
        best = max(branches, key=lambda branch: (min(map(_depth, branch)), -len(branch)))
        fault = max(best, key=_depth)
    return fault


def _depth(error: ValidationError) -> int:
    return len(error.instance_path)


def _pointer(path: Iterable[str | int]) -> str:
    """A JSON pointer (RFC 6901)."""
    return "".join(f"/{str(step).replace('~', '~0').replace('/', '~1')}" for step in path)


class _UnfitError(Exception):
    """What no schema refuses; its path is known when it has left the document, so that good ones cost no pointers."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.path: list[str | int] = []


def _storable(value: Any, key: str | int = "") -> Any:
    """Make large integers floats: a nodata value of 1e37 returns from the ledger's jsonb as an integer of 38 digits,
    which pypgstac cannot write.

    Raises:
        _UnfitError: a number is not finite; an href may carry a secret.
    """
    if isinstance(value, str):
        return _plain(value) if key == "href" else value
    if isinstance(value, dict):
        return {inner: _at(inner, value[inner]) for inner in value}
    if isinstance(value, Sequence):
        return [_at(number, inner) for number, inner in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        raise _UnfitError(f"{value} is not finite")
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return float(value)
    return value


def _at(key: str | int, value: Any) -> Any:
    try:
        return _storable(value, key)
    except _UnfitError as fault:
        fault.path.insert(0, key)
        raise


def _plain(href: str) -> str:
    """An href that carries no secret: no user, no password, no query string, as a SAS is. That of a table names it in a
    query string, and nothing else. The sentence does not repeat the href.

    Raises:
        _UnfitError: it may carry one.
    """
    scheme, _, rest = href.partition("://")
    if scheme != "file" and rest:
        place, _, query = rest.partition("?")
        if "@" in place.partition("/")[0]:
            raise _UnfitError("an href may not name a user or a password")
        if query and not (scheme == "postgresql" and query.startswith("table=") and "&" not in query):
            raise _UnfitError("an href may not have a query string: a secret would be in it")
    return href
