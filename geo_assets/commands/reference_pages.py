"""The pages of reference that are made from the code: settings, parameters of the job types, error codes.

Here: models and registries as Markdown. Not here: writing them (`reference.py`; `make renew` for our own
documentation), what they describe.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from geo_assets import plugins
from geo_assets.accounts import AzureAccount, GcsAccount, LocalAccount, S3Account
from geo_assets.errors import ERRORS, ErrorClass, ErrorKind
from geo_assets.file_stages import FILE_STAGES, FileStage
from geo_assets.parameters import JOB_TYPES, IngestContainer, Parameters
from geo_assets.settings import Settings

T = TypeVar("T")

_WRITTEN = "*Written by `make renew` from {source}; a test compares it.*\n"

_CLASSES = {
    ErrorClass.INVALID: "the input is bad: the file is quarantined or the request refused; never retried automatically",
    ErrorClass.TRANSIENT: "a dependency did not answer: retried automatically",
    ErrorClass.RESOURCE: "too little memory, disk or time, or missing software on this machine",
    ErrorClass.INTERNAL: "a bug in geo-assets",
}


def pages(*, added: bool = True) -> dict[str, str]:
    """File name -> text; with what other distributions add, or without."""

    def of(registry: plugins.Registry[T]) -> Mapping[str, T]:
        return registry if added else registry.own

    return {
        "settings.md": settings_page(of(FILE_STAGES)),
        "parameters.md": parameters_page(of(JOB_TYPES)),
        "errors.md": errors_page(of(ERRORS)),
    }


def settings_page(stages: Mapping[str, FileStage]) -> str:
    """The settings, those of stages, and the fields of a storage account."""
    rows = [f"| `GEO_ASSETS_{name.upper()}` {_row(field)}" for name, field in Settings.model_fields.items()]
    return "\n".join(
        [
            "# Settings\n",
            _WRITTEN.format(source="`geo_assets/settings.py`"),
            "Environment variables; they win over the `stack.env` that `geo-assets up` writes into its home.\n",
            _head("variable"),
            *rows,
            "\n## A storage account\n",
            (
                '`GEO_ASSETS_ACCOUNTS` is JSON: `{"ALIAS": {"kind": …, …}}`. The alias `default` is a directory unless'
                " it is defined.\n"
            ),
            *_account("local", LocalAccount),
            *_account("azure", AzureAccount),
            *_account("s3", S3Account),
            *_account("gcs", GcsAccount),
            *(line for name, stage in stages.items() for line in _of_stage(name, stage)),
            "",
        ]
    )


def _of_stage(name: str, stage: FileStage) -> Iterable[str]:
    if stage.settings:
        prefix = stage.settings.model_config.get("env_prefix")
        yield f"## Stage {name} of {plugins.distribution_of(plugins.STAGES, name)}\n"
        yield _head("variable")
        yield from (f"| `{prefix}{field.upper()}` {_row(told)}" for field, told in stage.settings.model_fields.items())
        yield ""


def parameters_page(job_types: Mapping[str, type[Parameters]]) -> str:
    """The parameters of each job type."""
    parts = [
        "# Parameters of the job types\n",
        _WRITTEN.format(source="`geo_assets/parameters.py`"),
        (
            "`geo-assets submit JOB_TYPE --param NAME=VALUE`, or the JSON body of `POST /api/jobs/submit/JOB_TYPE`;"
            " `geo-assets job-types` prints the same.\n"
        ),
    ]
    for name, model in job_types.items():
        whose = plugins.distribution_of(plugins.JOB_TYPES, name)
        parts.append(f"## {name}\n\n{model.summary}{f' (of {whose})' if whose else ''}\n")
        if model.model_fields.keys() == IngestContainer.model_fields.keys() and model is not IngestContainer:
            parts.append(f"Those of `{IngestContainer.job_type}`, except those for other kinds of files.\n")
        elif model.model_fields:
            parts += [_head("parameter"), *(f"| `{n}` {_row(f)}" for n, f in model.model_fields.items()), ""]
    return "\n".join(parts)


def errors_page(errors: Mapping[str, ErrorKind]) -> str:
    """The codes by class."""
    parts = [
        "# Error codes\n",
        _WRITTEN.format(source="`geo_assets/errors.py`"),
        (
            "A code is the same on the command line, over HTTP, in the ledger and in Dagster. The message says what is"
            " wrong with which file; the remedy is the one listed here unless the message has a more specific one.\n"
        ),
    ]
    for error_class, meaning in _CLASSES.items():
        parts += [f"## {error_class}: {meaning}\n", "| code | what to do |\n|---|---|"]
        parts += [f"| `{code}` | {_cell(e.remedy)} |" for code, e in errors.items() if e.error_class is error_class]
        parts.append("")
    return "\n".join(parts)


def _account(kind: str, model: type[BaseModel]) -> list[str]:
    rows = [f"| `{name}` {_row(field)}" for name, field in model.model_fields.items() if name != "kind"]
    return [f'`"kind": "{kind}"`\n', _head("field"), *rows, ""]


def _head(name: str) -> str:
    return f"| {name} | default | meaning |\n|---|---|---|"


def _row(field: FieldInfo) -> str:
    return f"| {_default(field)} | {_cell(field.description or '')}{_allowed(field)} |"


def _default(field: FieldInfo) -> str:
    value: Any = field.default
    if field.is_required():
        return "required"
    if value is PydanticUndefined:
        return "depends on the machine" if field.default_factory is not dict else ""
    if isinstance(value, SecretStr) or value in (None, "", ()):
        return ""
    return f"`{json.dumps(value).strip(chr(34))}`"


def _allowed(field: FieldInfo) -> str:
    """The values of a closed choice."""
    for kind in (field.annotation, *get_args(field.annotation)):
        if get_origin(kind) is Literal:
            return f": {', '.join(f'`{value}`' for value in get_args(kind))}"
    return ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")
