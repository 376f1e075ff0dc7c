"""What is wrong with values that people write, in plain words.

Here: from what pydantic finds to sentences that name a field as people know it. Not here: the codes of errors
(`errors.py`), the form of names (`patterns.py`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from geo_assets.errors import GeoAssetsError
from geo_assets.patterns import IN_WORDS

if TYPE_CHECKING:
    from pydantic import ValidationError

#: Kinds of faults that pydantic finds, or how they begin -> what a value must be.
_KINDS = {
    "literal_error": "{expected}",
    "enum": "{expected}",
    "int": "a whole number",
    "float": "a number",
    "finite": "a finite number",
    "bool": "true or false",
    "string_type": "text",
    "greater_than": "greater than {gt}",
    "less_than": "less than {lt}",
    "greater_than_equal": "at least {ge}",
    "less_than_equal": "at most {le}",
}


#: What is wrong with a field itself.
_OF_FIELDS = {"missing": "is required", "extra_forbidden": "is not a known field"}


def wrong_parameters(what: str, error: ValidationError, known: Iterable[str] = ()) -> GeoAssetsError:
    """INVALID_PARAMETERS for a job type or a message: one sentence that names the fields at fault, 20 at most, and for
    one that is unknown the most similar of those that there are.
    """
    return GeoAssetsError(
        "INVALID_PARAMETERS",
        f"{what}: {'; '.join(faults(error, known=known)[:20])}",
        remedy="correct it; the parameters of each job type: geo-assets job-types",
    )


def faults(error: ValidationError, called: Mapping[str, str] | None = None, known: Iterable[str] = ()) -> list[str]:
    """Each fault that pydantic found, as `field: what is wrong (got value)`.

    Args:
        error: what pydantic says.
        called: field -> what people call it, where that is another name: an option.
        known: the fields that there are.
    """
    sentences = []
    for fault in error.errors(include_url=False):
        field = ".".join(str(part) for part in fault["loc"]) or "parameters"
        field = (called or {}).get(field.partition(".")[0], field)
        got = "" if fault["type"] == "missing" else f" (got {_shown(fault['input'])})"
        unknown = f"is not a parameter of this job type{did_you_mean(field, known)}"
        message = unknown if fault["type"] == "extra_forbidden" else in_words(fault)
        sentences.append(f"{field}: {message}{got}")
    return sentences


def in_words(fault: Mapping[str, Any]) -> str:
    """What pydantic says of a field in words of ours, with the form of a name instead of a regular expression."""
    context, kind = fault.get("ctx", {}), str(fault["type"])
    if kind in _OF_FIELDS:
        return _OF_FIELDS[kind]
    if words := IN_WORDS.get(str(context.get("pattern"))) or _KINDS.get(kind, _KINDS.get(kind.partition("_")[0])):
        return f"must be {words.format(**context) if '{' in words else words}"
    return str(fault["msg"]).removeprefix("Value error, ")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of a sentence about a word that is none of those that are known: the one that is most like it."""
    from difflib import get_close_matches

    close = get_close_matches(word[:64], list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _shown(value: Any, limit: int = 80) -> str:
    text = json.dumps(value, ensure_ascii=True, default=repr)
    return text if len(text) <= limit else text[:limit] + "…"
