"""How a raster is drawn where the client does not say: which asset, which bands, between which values.

Without limits a library stretches a float raster over the whole range of its type, which is flat grey, and draws the
numbers of classes as greys that nobody can tell from black.
Here: from a query and the metadata to a complete query. Not here: where the metadata come from (`tiles.py`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from geo_assets.stac.collection import colours_of
from geo_assets.stac.item import OVERVIEW

Query = list[tuple[str, str]]
Limits = tuple[float, float]

#: With these the client says itself what becomes of the values.
_OWN_WAYS = frozenset({"rescale", "expression", "algorithm", "color_formula", "colormap"})

#: As many standard deviations around the mean hold 96 % of normally distributed values.
_SIGMAS = 2.05


def completed(query: Query, assets: Sequence[Mapping[str, Any]], drawn: Mapping[str, Limits]) -> Query:
    """Return a query with assets, bands, and limits or colours.

    Args:
        query: as the client gave it.
        assets: of each item that describes what is drawn, its assets by key; the first has them all.
        drawn: asset -> limits of its first band, where these are known for all items at once.
    """
    given = {name for name, _ in query}
    if "expression" in given or not assets:
        return query
    query = with_asset(query, assets)
    names = [value for name, value in query if name == "assets"]
    rasters = [assets[0].get(name.partition("|")[0]) for name in names]
    if not names or any(asset is None or not asset.get("bands") for asset in rasters):
        return query
    bands = [_bands(name, asset or {}) for name, asset in zip(names, rasters, strict=True)]
    if len(names) == 1 and "|" not in names[0] and len(bands[0]) != len((rasters[0] or {})["bands"]):
        numbers = ",".join(str(number) for number in bands[0])
        query = [(n, f"{v}|bidx={numbers}" if n == "assets" else v) for n, v in query]
    if _OWN_WAYS & given:
        return query
    if bands == [[1]] and "colormap_name" not in given:
        name = names[0].partition("|")[0]
        if colours := colours_of([a[name] for a in assets if name in a]):
            return [*query, ("colormap", json.dumps(colours, separators=(",", ":")))]
    return query + _rescale([n.partition("|")[0] for n in names], bands, assets, drawn)


def with_asset(query: Query, assets: Sequence[Mapping[str, Any]]) -> Query:
    """Return a query that names an asset: where it does not, and computes nothing, the raster that the thumbnail of the
    first item shows.
    """
    if {"assets", "expression"} & {name for name, _ in query} or not assets:
        return query
    rasters = {k: a["roles"] for k, a in assets[0].items() if "data" in a.get("roles", ()) and a.get("bands")}
    shown = next((key for key, roles in rasters.items() if OVERVIEW in roles), next(iter(rasters), None))
    return [*query, ("assets", shown)] if shown else query


def _bands(name: str, asset: Mapping[str, Any]) -> list[int]:
    """The numbers of the bands that are drawn, from 1: those that are named, else three of a picture, else one."""
    _, _, options = name.partition("|")
    for option in options.split("|"):
        key, _, value = option.partition("=")
        if key in {"bidx", "indexes"} and all(part.isdigit() for part in value.split(",")):
            return [int(part) for part in value.split(",")]
    count = len(asset.get("bands", ()))
    return [1, 2, 3] if count == 3 or (count > 3 and "visual" in asset.get("roles", ())) else [1]


def _rescale(
    names: list[str], bands: list[list[int]], assets: Sequence[Mapping[str, Any]], drawn: Mapping[str, Limits]
) -> Query:
    limits: list[Limits] = []
    for name, numbers in zip(names, bands, strict=True):
        for number in numbers:
            told = [a[name]["bands"][number - 1] for a in assets if len(a.get(name, {}).get("bands", ())) >= number]
            if all(band.get("data_type") == "uint8" for band in told):
                return []  # as they are
            known = drawn.get(name) if number == 1 else None
            pair = known or _limits([band.get("statistics", {}) for band in told])
            if pair is None:
                return []
            limits.append(pair)
    return [("rescale", f"{low},{high}") for low, high in limits]


def _limits(statistics: Sequence[Mapping[str, Any]]) -> Limits | None:
    """The values between which most of several bands lie; None without statistics, or if all values are the same."""
    pairs = []
    for told in statistics:
        if not {"minimum", "maximum"} <= told.keys():
            continue
        low, high = float(told["minimum"]), float(told["maximum"])
        if {"mean", "stddev"} <= told.keys():
            mean, spread = float(told["mean"]), _SIGMAS * float(told["stddev"])
            low, high = max(low, mean - spread), min(high, mean + spread)
        pairs.append((low, high))
    if not pairs:
        return None
    low, high = min(pair[0] for pair in pairs), max(pair[1] for pair in pairs)
    return (low, high) if low < high else None
