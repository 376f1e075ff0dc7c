"""The types of parameters' values, each with its check and the message if it fails.

Here: one value at a time; a check raises ValueError with a sentence. Not here: which parameters there are and what goes
together (`parameters.py`).
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer

from geo_assets.capture import pattern, plain_time, taken
from geo_assets.epsg import parse_code
from geo_assets.errors import GeoAssetsError
from geo_assets.patterns import ACCOUNT_ALIAS, COLLECTION_ID, CONTAINER_NAME, CONTAINER_NAME_IN_WORDS, EPSG_CODE, whole
from geo_assets.text import strict_json


def _plain_text(value: str) -> str:
    """Refuse NUL, which PostgreSQL text and jsonb refuse, and lone surrogates, which UTF-8 refuses. JSON parsers accept
    both.
    """
    if "\x00" in value:
        msg = "must not contain NUL"
        raise ValueError(msg)
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        msg = "must not contain lone surrogates"
        raise ValueError(msg) from None
    return value


def _safe_path(value: str) -> str:
    """A blob path or prefix: opaque, but it never leads out of its container."""
    value = _plain_text(value)
    if (
        value.startswith("/")
        or "\\" in value
        or ".." in value.split("/")
        or any(unicodedata.category(c) == "Cc" for c in value)
    ):
        msg = "must be a plain blob path: no leading '/', no '..', no backslash, no control character"
        raise ValueError(msg)
    return value


@lru_cache(maxsize=100)  # contracts between steps are checked again and again
def _known_crs(value: str) -> str:
    """Accept only EPSG codes: PROJ's free-text form also takes URLs and files."""
    value = value.upper()
    value = re.sub(r"(?<=EPSG:)0+(?=\d)", "", value)  # of two spellings of a request, one
    if not EPSG_CODE.fullmatch(value):
        msg = "must be EPSG:code, for example EPSG:3857"
        raise ValueError(msg)
    try:
        parse_code(value)
    except GeoAssetsError as error:
        raise ValueError(error.message) from None
    return value


def _condition(value: str) -> str:
    """Check the grammar of a condition; its columns are checked when a file is opened."""
    from geo_assets.vector.where import parse

    try:
        parse(_plain_text(value))
    except GeoAssetsError as error:
        raise ValueError(error.message) from None
    return value


def _numbers(value: Any) -> Any:
    """Read `west,south,east,north`, as a person types it, or a list of JSON; strict validation takes only a tuple."""
    numbers = value.split(",") if isinstance(value, str) else value
    return tuple(numbers) if isinstance(numbers, list) else numbers


def _is_box(value: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    if value[1] > value[3]:
        msg = "must be west,south,east,north"
        raise ValueError(msg)
    west, south, east, north = value
    return west + 0.0, south + 0.0, east + 0.0, north + 0.0  # no -0.0


def _time(value: str) -> str:
    if taken(_plain_text(value), "datetime") is None:
        msg = (
            "must be a time, a date, a month or a year as ISO 8601, or two with a slash between, the earlier one first"
        )
        raise ValueError(msg)
    return plain_time(value)


def _encoding(value: str) -> str:
    """In its usual spelling; what is no encoding is refused with the other parameters (`parameter_rules.py`)."""
    from geo_assets.vector.encodings import usual_name

    return usual_name(value) or value


def _time_pattern(value: str) -> str:
    pattern(_plain_text(value))
    return value


def _scene_pattern(value: str) -> str:
    from geo_assets.storage.scenes import check

    check(_plain_text(value))
    return value


def _pairs(value: Any) -> Any:
    """Read `KEY=GLOB`, as a person types each, a JSON object, or its text."""
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list | tuple):
        return value
    if len(value) == 1 and isinstance(value[0], str) and value[0].lstrip().startswith("{"):
        return strict_json(value[0])
    pairs: dict[str, str] = {}
    for text in value:
        key, equals, glob = text.partition("=") if isinstance(text, str) else ("", "", "")
        if not equals or key in pairs:
            msg = f"must be KEY=GLOB, each key once, for example B04=*_B04.tif; not {text!r}"
            raise ValueError(msg)
        pairs[key] = glob
    return pairs


def _asset_globs(value: dict[str, str]) -> dict[str, str]:
    from geo_assets.storage.scenes import check_key

    for key in value:
        check_key(key)
    if len({key.lower() for key in value}) < len(value):
        msg = "has two keys that differ in upper and lower case only"
        raise ValueError(msg)
    return value


def _as_typed(value: dict[str, str]) -> list[str]:
    """Each as `KEY=GLOB`: their order counts, and an object of jsonb has none."""
    return [f"{key}={glob}" for key, glob in value.items()]


#: STAC's word for a license that SPDX does not know.
OTHER_LICENSE = "other"

#: What a provider may be of a collection, as STAC has it.
_PROVIDER_ROLES = ("licensor", "producer", "processor", "host")

_PROVIDER = re.compile(r"\s*(?P<name>[^()<>]+?)\s*(?:\((?P<roles>[^()]*)\))?\s*(?P<url>https?://\S+)?\s*")


def _license(value: str) -> str:
    """An SPDX identifier in SPDX's spelling, or `other`: STAC's schema of collections takes no expression."""
    from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

    if value.strip().lower() == OTHER_LICENSE:
        return OTHER_LICENSE
    try:
        known: str | None = canonicalize_license_expression(_plain_text(value))
    except InvalidLicenseExpression:
        known = None
    if known is None or {" ", "("} & set(known):
        msg = f"{value!r} is no SPDX identifier (https://spdx.org/licenses), for example CC-BY-4.0; or: other"
        raise ValueError(msg)
    return known


def _provider(value: str) -> str:
    provider_fields(_plain_text(value))
    return value


def provider_fields(text: str) -> dict[str, Any]:
    """The provider that a text names, as STAC has it: `Example Agency (producer, licensor) https://agency.example`.

    Raises:
        ValueError: it is none.
    """
    found = _PROVIDER.fullmatch(text)
    roles = [role.strip() for role in (found["roles"] or "").split(",") if role.strip()] if found else []
    if found is None or not set(roles) <= set(_PROVIDER_ROLES) or "@" in (found["url"] or ""):
        msg = (
            "must be NAME (ROLE, …) URL without credentials; roles and URL may be left out, the roles are"
            f" {', '.join(_PROVIDER_ROLES)}"
        )
        raise ValueError(msg)
    fields = {"name": found["name"], "roles": roles, "url": found["url"]}
    return {name: value for name, value in fields.items() if value}


#: Properties of items that clients filter by; their schemas are in `stac/queryables.py`.
Searched = Literal[
    "title",
    "proj:code",
    "gsd",
    "eo:cloud_cover",
    "start_datetime",
    "created",
    "updated",
    "processing:lineage",
    "geo_assets:datetime_from",
]
Text = Annotated[str, AfterValidator(_plain_text)]
Globs = Annotated[tuple[Text, ...], AfterValidator(lambda value: tuple(dict.fromkeys(value)))]
BlobPath = Annotated[str, Field(max_length=1024), AfterValidator(_safe_path)]
Crs = Annotated[str, AfterValidator(_known_crs)]
ContainerName = Annotated[
    str,
    Field(
        pattern=whole(CONTAINER_NAME),
        description=f"the container to read; names are {CONTAINER_NAME_IN_WORDS}",
    ),
]
Where = Annotated[str, Field(min_length=1), AfterValidator(_condition)]
Encoding = Annotated[Text, AfterValidator(_encoding)]
_Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[_Finite, Field(gt=0)]
Percent = Annotated[_Finite, Field(ge=0, le=100), AfterValidator(lambda value: value + 0.0)]  # no -0.0
Time = Annotated[str, AfterValidator(_time)]
TimePattern = Annotated[str, AfterValidator(_time_pattern)]
ScenePattern = Annotated[str, Field(min_length=1, max_length=300), AfterValidator(_scene_pattern)]
AssetGlobs = Annotated[
    dict[str, Annotated[str, Field(min_length=1, max_length=300), AfterValidator(_plain_text)]],
    Field(max_length=100),
    BeforeValidator(_pairs),
    AfterValidator(_asset_globs),
    PlainSerializer(_as_typed, return_type=list[str], when_used="json"),
]
Box = Annotated[tuple[_Finite, _Finite, _Finite, _Finite], BeforeValidator(_numbers), AfterValidator(_is_box)]
Alias = Annotated[str, Field(pattern=whole(ACCOUNT_ALIAS))]
License = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_license)]
Provider = Annotated[str, Field(max_length=1000), AfterValidator(_provider)]
CollectionId = Annotated[str, Field(pattern=whole(COLLECTION_ID))]
