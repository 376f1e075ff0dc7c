"""Which parameters of an ingestion go together, and which requests cannot do what they ask.

Here: the sentence that says what is wrong, for several parameters at once. Not here: one value alone
(`parameter_types.py`), which parameters there are (`parameters.py`, whose `IngestContainer` is what is asked).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from geo_assets.file_stages import Engine, Shapes
from geo_assets.raster.models import WEB_CRS

#: Parameters that are of no use without files of a kind, and shape no output of one.
_BESIDES = {Engine.RASTER: ("one_collection",), Engine.VECTOR: ("schema_drift", "keep_versions")}


def shaping(model: type[BaseModel]) -> Iterator[tuple[str, Shapes]]:
    """The parameters of a model that shape the output of a source."""
    for name, field in model.model_fields.items():
        yield from ((name, mark) for mark in field.metadata if isinstance(mark, Shapes))


def contradiction(asked: Any) -> str | None:
    """What contradicts itself in a request, of any age."""
    from geo_assets.vector.encodings import find_codec

    return _first(
        {
            "key and mode=upsert go together": (asked.mode == "upsert") != bool(asked.key),
            "assets needs id_regex, which tells the files of a scene": asked.assets and asked.id_regex is None,
            "missing_assets=refuse needs assets": asked.missing_assets == "refuse" and not asked.assets,
            f"{asked.encoding!r} is no encoding; for example UTF-8, windows-1252, ISO-8859-15, GBK": (
                asked.encoding is not None and find_codec(asked.encoding) is None
            ),
            "override_crs needs source_crs": asked.override_crs and asked.source_crs is None,
            "x and y go together, and not with wkt": (
                (asked.x is None) != (asked.y is None) or (asked.wkt is not None and asked.x is not None)
            ),
        }
    )


def in_vain(asked: Any) -> str | None:
    """What a request asks for in vain: every file would be refused for it, or no file can be of that kind. Requests of
    older releases, which were accepted, may have it.
    """
    found = _first(
        {
            "resolution needs target_crs, in whose units it is": (
                asked.resolution is not None and asked.target_crs is None and not asked.web_tiles
            ),
            f"web_tiles are in {WEB_CRS}: leave target_crs out": (
                asked.web_tiles and asked.target_crs not in {None, WEB_CRS}
            ),
        }
    )
    return found or (_of_others(asked, asked.alone) if asked.alone else None)


def _of_others(asked: Any, engine: Engine) -> str | None:
    """A parameter for files that this engine does not read."""
    (other,) = set(Engine) - {engine}
    shapes = (name for name, mark in shaping(type(asked)) if engine not in mark.engines)
    fields = type(asked).model_fields
    names = (name for name in (*shapes, *_BESIDES[other]) if getattr(asked, name) != fields[name].default)
    return next((f"{name} is for {other}s, which this job type leaves alone" for name in names), None)


def _first(wrong: Mapping[str, object]) -> str | None:
    return next((message for message, is_wrong in wrong.items() if is_wrong), None)
