"""Logs: one line for each event, as JSON or for people, with the ids by which it is found and without secrets.

Here: the form of a line, and who writes it. Not here: which ids there are (`correlation.py`), what a secret looks like
(`redaction.py`), Dagster's log of a run, which is in its database; lines of Dagster's own servers, which Dagster writes
in the same form (`dagster_format`).

Modules log by `logging`, with what belongs to an event as `extra`. A library, the command line and the children of the
sandbox configure nothing: structlog is imported by processes that write logs.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, MutableMapping
from typing import Any

from geo_assets import redaction
from geo_assets.correlation import ids
from geo_assets.settings import Settings
from geo_assets.text import spelt_out

#: The logger of all our modules.
_OURS = "geo_assets"

#: Fields of a line, in their order; then the others.
_FIRST = ("timestamp", "level", "event", "logger")

#: Characters of a field: of a traceback, say. Collectors cut lines of 64 KiB and more into pieces.
_LONGEST = 20_000

#: Tags of a run (`defs/claim.py`) that are ids of its lines.
_TAGS = {"geo_assets/correlation_id": "correlation_id", "geo_assets/job_id": "job_id"}

#: Attributes that others give their records, and that say nothing more.
_NO_FIELDS = ("color_message", "dagster_event", "dagster_event_batch_metadata")


def configure(settings: Settings) -> None:
    """Let our modules write lines to standard error, in a process that others share: Dagster's. Who has configured
    logging already is left alone.
    """
    ours = logging.getLogger(_OURS)
    if not logging.getLogger().handlers and not ours.handlers:
        ours.addHandler(handler(settings))
        ours.setLevel(logging.INFO)


def configure_process(settings: Settings) -> None:
    """Let everything in this process, a server of ours, write lines to standard error."""
    logging.basicConfig(handlers=[handler(settings)], level=logging.WARNING, force=True)
    logging.getLogger(_OURS).setLevel(logging.INFO)


def handler(settings: Settings) -> logging.Handler:
    """What writes lines in the form of the settings to standard error."""
    made = logging.StreamHandler()
    made.setFormatter(formatter(settings))
    return made


def formatter(settings: Settings) -> logging.Formatter:
    """What makes a line of a record."""
    import structlog
    from structlog.stdlib import ProcessorFormatter

    redaction.know(settings.secrets)
    return ProcessorFormatter(
        foreign_pre_chain=[
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.stdlib.ExtraAdder(),
        ],
        processors=[
            ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            _of_dagster,
            _with_ids,
            _cleaned,
            _as_json if settings.log_format == "json" else _as_text,
        ],
    )


def dagster_format(settings: Settings) -> str:
    """The form of the lines of Dagster's own servers, as their option `--log-format` names it."""
    return "json" if settings.log_format == "json" else "colored"


def _of_dagster(_: Any, __: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A record of a run: its ids as fields, and its text without them."""
    meta: Mapping[str, Any] = fields.pop("dagster_meta", None) or {}
    event = meta.get("dagster_event")
    for name in _NO_FIELDS:
        fields.pop(name, None)
    if not meta:
        return fields
    tags = meta.get("job_tags") or {}
    named = {name: tags[tag] for tag, name in _TAGS.items() if tag in tags}
    told = {name: meta[name] for name in ("run_id", "job_name", "step_key") if meta.get(name)}
    kind = {"event_type": event.event_type_value} if event else {}
    return {**fields, "event": _said(fields, meta), **named, **told, **kind}


def _said(fields: Mapping[str, Any], meta: Mapping[str, Any]) -> str:
    """What a record of a run says; of a failure with its cause, which Dagster appends to its own form of the text."""
    said, whole = str(meta.get("orig_message") or ""), str(fields["event"])
    _, found, cause = whole.partition(said) if said else ("", "", "")
    return f"{said}{cause}" if found else said or whole


def _with_ids(_: Any, __: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """What the event itself says counts before what its process is at work for."""
    whole = {**ids(), **fields}
    return {name: whole[name] for name in (*_FIRST, *(each for each in whole if each not in _FIRST)) if name in whole}


def _cleaned(_: Any, __: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return {name: _without_secrets(value) for name, value in fields.items()}


def _without_secrets(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, list | tuple):
        return [_without_secrets(each) for each in value]
    if not isinstance(value, str) and isinstance(value, Mapping):
        return {str(name): _without_secrets(each) for name, each in value.items()}
    text = redaction.redacted(str(value)[: 2 * _LONGEST])
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _as_json(_: Any, __: str, fields: MutableMapping[str, Any]) -> str:
    """One line of ASCII, whatever a file is called."""
    return json.dumps(fields)


def _as_text(_: Any, __: str, fields: MutableMapping[str, Any]) -> str:
    """`TIME LEVEL what happened  name=value …`. Only the lines of a traceback follow, each behind a bar."""
    more = {name: value for name, value in fields.items() if name not in (*_FIRST, "exception")}
    said = "  ".join([spelt_out(str(fields["event"])), *(f"{name}={_value(value)}" for name, value in more.items())])
    lines = [f"{fields['timestamp']} {str(fields['level']).upper():<8} {said}"]
    lines += [f"    | {spelt_out(line)}" for line in str(fields.get("exception") or "").split("\n") if line]
    return "\n".join(lines)


def _value(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return spelt_out(json.dumps(text, ensure_ascii=False) if " " in text or not text else text)
