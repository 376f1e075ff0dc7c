"""STAC 1.1 collections: what people say of one, and what follows from its items.

Here: building and validating the JSON of a collection. Not here: reading its items and storing it (`pgstac.py`).

Extents and summaries are exact. `item_assets` and `renders` describe a sample of the items, and where they differ only
what they share.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field

from geo_assets.longitudes import stretch_of_many
from geo_assets.parameter_types import OTHER_LICENSE, CollectionId, License, Provider, Text, provider_fields
from geo_assets.parameters import PublishContainer
from geo_assets.stac.validation import validated

_PROJECTION = "https://stac-extensions.github.io/projection/v2.0.0/schema.json"
_RENDER = "https://stac-extensions.github.io/render/v2.0.0/schema.json"

_WORLD = [-180.0, -90.0, 180.0, 90.0]

#: An asset is described if at least this share of the sampled items have it; a table is the asset of one item.
_COMMON = 0.1

#: Standard deviations from the mean within which lie 2 to 98 % of normally distributed values.
_SIGMAS = 2.0537

#: What the bands of an asset are described by, where all items say the same.
_BAND_FIELDS = ("name", "description", "data_type", "unit")


class Described(BaseModel):
    """What people say of a collection; what is None or empty they leave as it is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: Text | None = Field(None, min_length=1, max_length=300)
    description: Text | None = Field(None, min_length=1, max_length=10_000, description="Markdown")
    license: License | None = Field(None, description="an SPDX identifier, or other")
    providers: tuple[Provider, ...] = Field((), max_length=50, description="each as NAME (ROLE, …) URL")
    keywords: tuple[Text, ...] = Field((), max_length=100)

    @classmethod
    def of(cls, asked: PublishContainer) -> Self:
        """What a submission says of its collections."""
        return cls(**{name: getattr(asked, name) for name in cls.model_fields})

    def fields(self) -> dict[str, Any]:
        """The fields of the collection that it names."""
        said = {**self.model_dump(), "providers": [provider_fields(text) for text in self.providers]}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in said.items() if value}


class NewCollection(Described):
    """A collection to be made; its extents and summaries come with its items."""

    id: CollectionId

    def described(self) -> Described:
        """What is said of it."""
        return Described(**self.model_dump(exclude={"id"}))


@dataclass(frozen=True, slots=True)
class Holdings:
    """What the items of a collection say together."""

    items: int
    stretches: tuple[tuple[float, float], ...] = ()  # of longitudes that have a footprint; west <= east
    latitudes: tuple[float, float] | None = None
    times: tuple[datetime, datetime] | None = None  # UTC, naive; None: unknown
    codes: tuple[str, ...] = ()  # of projections
    gsd: tuple[float, float] | None = None  # metres; least and most
    sample: tuple[dict[str, Any], ...] = ()  # whole items


def new_collection(identity: str) -> dict[str, Any]:
    """Return an empty collection; its extents come from its items."""
    return {
        "type": "Collection",
        "stac_version": "1.1.0",
        "id": identity,
        "description": "Made from ingested files.",
        "license": OTHER_LICENSE,
        "links": [],
        "extent": _extent(Holdings(0)),
    }


def renewed(stored: Mapping[str, Any], said: Described, holdings: Holdings, *, title: str | None) -> dict[str, Any]:
    """Return a collection with what was said of it and what its items say now; anything else in it stays.

    Args:
        stored: the collection as it is.
        said: by whoever changes it.
        holdings: of its items.
        title: where it has none, and none is said.

    Raises:
        GeoAssetsError: STAC_INVALID.
    """
    default = {"title": title} if title else {}
    summaries = {k: v for k, v in stored.get("summaries", {}).items() if k not in {"proj:code", "gsd"}}
    if holdings.codes:
        summaries["proj:code"] = list(holdings.codes)
    if holdings.gsd:
        summaries["gsd"] = {"minimum": holdings.gsd[0], "maximum": holdings.gsd[1]}
    assets = _item_assets(holdings.sample)
    renders = _renders(holdings.sample, assets)
    derived = {"summaries": summaries, "item_assets": assets, "renders": renders}
    extensions = [e for e in stored.get("stac_extensions", []) if e not in {_PROJECTION, _RENDER}]
    extensions += [_PROJECTION] * bool(holdings.codes) + [_RENDER] * bool(renders)
    whole = {
        **default,
        **{name: value for name, value in stored.items() if name not in {*derived, "stac_extensions"}},
        **said.fields(),
        "extent": _extent(holdings),
        **{name: value for name, value in derived.items() if value},
        **({"stac_extensions": extensions} if extensions else {}),
    }
    return validated(whole)


def _extent(holdings: Holdings) -> dict[str, Any]:
    """The extents in space (west > east across the antimeridian, RFC 7946) and time; without items they are open."""
    bbox = _WORLD
    interval: list[str | None] = [None, None]
    if holdings.stretches and holdings.latitudes:
        west, east = stretch_of_many(holdings.stretches)
        south, north = holdings.latitudes
        bbox = [west, south, east, north]
    if holdings.times:
        interval = [f"{moment.isoformat()}Z" for moment in holdings.times]
    return {"spatial": {"bbox": [bbox]}, "temporal": {"interval": [interval]}}


def _item_assets(sample: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What the assets of the same key have in common, for the keys that many items have."""
    counts = Counter(key for item in sample for key in item.get("assets", {}))
    kept = sorted(key for key, count in counts.items() if count >= _COMMON * len(sample))
    described = {key: _in_common([i["assets"][key] for i in sample if key in i.get("assets", {})]) for key in kept}
    return {key: fields for key, fields in described.items() if len(fields) > 1}  # STAC asks for two at least


def _in_common(assets: Sequence[dict[str, Any]]) -> dict[str, Any]:
    fields = {name: assets[0][name] for name in ("title", "type") if _same(asset.get(name) for asset in assets)}
    roles = [role for role in assets[0].get("roles", ()) if all(role in asset.get("roles", ()) for asset in assets)]
    if roles:
        fields["roles"] = roles
    if _same(tuple(band.get("name") for band in asset.get("bands", ())) for asset in assets) and assets[0].get("bands"):
        columns = list(zip(*(asset["bands"] for asset in assets), strict=True))
        fields["bands"] = [
            {name: bands[0][name] for name in _BAND_FIELDS if _same(band.get(name) for band in bands)}
            for bands in columns
        ]
    return fields


def _same(values: Iterable[Any]) -> bool:
    """Whether there is one value, the same everywhere."""
    first, *others = values
    return first is not None and all(other == first for other in others)


def _renders(sample: Sequence[dict[str, Any]], assets: Mapping[str, Any]) -> dict[str, Any]:
    """How to draw the assets that are rasters with the same bands everywhere: a picture as it is, what has a table of
    colours by that; of anything else the first band, between where 2 and 98 % of normally distributed values would lie.
    """
    drawn: dict[str, dict[str, Any]] = {}
    for key, asset in assets.items():
        bands = asset.get("bands", [])
        if "visual" in asset.get("roles", ()) and len(bands) >= 3:
            drawn[key] = {"title": "as it looks", "assets": [key], "bidx": [1, 2, 3]}
        elif bands and (colours := colours_of([i["assets"][key] for i in sample if key in i["assets"]])):
            drawn[key] = {"title": "its table of colours", "assets": [key], "bidx": [1], "colormap": colours}
        elif bands:
            limits = _stretch([i["assets"][key] | _shape(i, key) for i in sample if key in i["assets"]])
            if limits:
                title = bands[0].get("description") or bands[0].get("name") or key
                drawn[key] = {"title": title, "assets": [key], "bidx": [1], "rescale": [limits]}
    return drawn


def colours_of(assets: Sequence[Mapping[str, Any]]) -> dict[str, list[int]]:
    """Value -> red, green, blue, alpha of the first bands' tables of colours; empty where one has none, or two
    contradict each other.
    """
    colours: dict[str, list[int]] = {}
    for asset in assets:
        classes = asset["bands"][0].get("classification:classes", []) if asset.get("bands") else []
        found = {str(c["value"]): [*bytes.fromhex(c["color_hint"]), 255] for c in classes if "color_hint" in c}
        if not found or any(colours.get(value, colour) != colour for value, colour in found.items()):
            return {}
        colours |= found
    return dict(sorted(colours.items(), key=lambda pair: int(pair[0])))


def _shape(item: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {"shape": item["assets"][key].get("proj:shape") or item.get("properties", {}).get("proj:shape") or [1, 1]}


def _stretch(assets: Sequence[dict[str, Any]]) -> list[float] | None:
    """Lower and upper limit of the first band's values in all assets, from the statistics of each; None without any.

    Each counts by its valid pixels: mean and variance of the whole follow from those of the parts exactly.
    """
    told = [(a["bands"][0].get("statistics", {}), math.prod(a["shape"])) for a in assets]
    parts = [
        (pixels * float(s.get("valid_percent", 100)), float(s["mean"]), float(s["stddev"]), s["minimum"], s["maximum"])
        for s, pixels in told
        if {"mean", "stddev", "minimum", "maximum"} <= s.keys()
    ]
    weight = math.fsum(w for w, *_ in parts)
    if not weight:
        return None
    mean = math.fsum(w * m for w, m, *_ in parts) / weight
    spread = math.sqrt(math.fsum(w * (s * s + (m - mean) ** 2) for w, m, s, *_ in parts) / weight)
    low = max(float(min(p[3] for p in parts)), mean - _SIGMAS * spread)
    high = min(float(max(p[4] for p in parts)), mean + _SIGMAS * spread)
    return [low, high] if low < high and math.isfinite(low) and math.isfinite(high) else None
