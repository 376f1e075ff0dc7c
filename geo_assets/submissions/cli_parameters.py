"""Parameters as a person types them: `--param key=value` and a JSON file.

Here: turning text into the values that the model expects. Not here: the models (`geo_assets/parameters.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_origin

from geo_assets.errors import GeoAssetsError
from geo_assets.parameters import Parameters, parameters_type, validate_parameters
from geo_assets.text import strict_json


def read_parameters(job_type: str, pairs: Sequence[str], file: Path | None) -> Parameters:
    """The validated parameters; pairs win over the file. Lists take a repeated key.

    Raises:
        GeoAssetsError: UNKNOWN_JOB_TYPE; INVALID_PARAMETERS.
    """
    model = parameters_type(job_type)
    data = _from_file(file) if file else {}
    typed: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise GeoAssetsError(
                "INVALID_PARAMETERS", f"{pair!r} is not KEY=VALUE", remedy="for example --param container=landing"
            )
        field = model.model_fields.get(key)
        if field is not None and get_origin(field.annotation) in {tuple, dict}:
            typed.setdefault(key, []).append(value)
        elif key in typed:
            raise GeoAssetsError(
                "INVALID_PARAMETERS", f"{key} is given twice, and it is no list", remedy="give it once"
            )
        else:
            typed[key] = value
    return validate_parameters(job_type, {**data, **typed})


def _from_file(file: Path) -> dict[str, Any]:
    try:
        data = strict_json(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise GeoAssetsError(
            "INVALID_PARAMETERS", f"{file} cannot be read: {error.strerror}", remedy="check the path"
        ) from error
    except (ValueError, RecursionError) as error:
        raise GeoAssetsError(
            "INVALID_PARAMETERS",
            f"{file} is not JSON: {str(error).splitlines()[0]}",
            remedy="it must hold one JSON object of parameters",
        ) from error
    if not isinstance(data, dict):
        raise GeoAssetsError(
            "INVALID_PARAMETERS",
            f"{file} holds a {type(data).__name__}, not an object",
            remedy="it must hold one JSON object of parameters",
        )
    return data
