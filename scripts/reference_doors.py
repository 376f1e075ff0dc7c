"""Write docs/reference/: every command, every route of the HTTP API and every metric, as the code has them. `make renew` runs
it.

Here: the pages, from the commands, the OpenAPI document and the questions of the metrics. A test fails where a page and the
code differ. Not here: settings, parameters and errors (`reference.py`); `ledger.md`, which needs a database
(`geo_assets_tests/ledger/test_page.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import typer.main
from typer.core import TyperArgument, TyperOption

from geo_assets.api.app import create_app
from geo_assets.api.metrics import registry_of
from geo_assets.api.traffic import durations
from geo_assets.cli import app as commands
from geo_assets.ledger.measurements import QUESTIONS
from geo_assets.parameters import JOB_TYPES
from geo_assets.settings import Settings

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "reference"

_WRITTEN = "*Written by `make renew` from {source}; a test compares it.*\n"


def pages() -> dict[str, str]:
    """File name -> text."""
    return {"commands.md": commands_page(), "http.md": http_page(), "metrics.md": metrics_page()}


def commands_page() -> str:
    """The commands with their arguments, options and examples."""
    root = typer.main.get_command(commands)
    parts = [
        "# Commands\n",
        _WRITTEN.format(source="`geo_assets/commands/`"),
        (
            "Standard output has the result alone, progress and logs go to standard error. With `--json` the result is one"
            " JSON document, and so is an error. The exit code is 0 only if all is well. `--debug`, before the command,"
            " shows tracebacks; `--help` after any command shows what is here.\n"
        ),
    ]
    for path, command in _leaves(root, "geo-assets"):
        parts += [f"## {path}\n", f"{_prose(command.help)}\n"]
        arguments = [p for p in command.params if isinstance(p, TyperArgument)]
        options = [p for p in command.params if isinstance(p, TyperOption) and not p.hidden and p.name != "help"]
        usage = " ".join([path, *(_metavar(a) for a in arguments), *(["[OPTIONS]"] if options else [])])
        parts.append(f"```\n{usage}\n```\n")
        rows = [f"| `{_metavar(a)}` | {_cell(_prose(getattr(a, 'help', '')))} |" for a in arguments]
        rows += [f"| `{'`, `'.join(_flags(o))}` | {_cell(_prose(o.help))} |" for o in options]
        parts += ["| argument | meaning |\n|---|---|", *rows, ""] if rows else []
        parts += [f"{_prose(command.epilog)}\n"] if command.epilog else []
    return "\n".join(parts)


def http_page() -> str:
    """The routes of the HTTP API by subject, and the models of what they take and answer."""
    with TemporaryDirectory() as home:
        app = create_app(Settings(home=Path(home)))
    document = app.openapi()
    by_subject: dict[str, list[str]] = {}
    for path, methods in document["paths"].items():
        for method, route in methods.items():
            by_subject.setdefault(route.get("tags", ["others"])[0], []).extend(_route(method, path, route))
    parts = [
        "# HTTP API\n",
        _WRITTEN.format(source="the OpenAPI document"),
        (
            "`GET /openapi.json` is the document itself, `/docs` the same to try. What is wrong is `application/problem+json`"
            " with `code` and `remedy` ([all codes](errors.md)). Parameters of jobs: [parameters.md](parameters.md). Who"
            " may ask for what: [authentication.md](../authentication.md).\n"
        ),
    ]
    for subject, routes in by_subject.items():
        parts += [f"## {subject}\n", *routes]
    parts.append("## Models\n")
    for name, model in document["components"]["schemas"].items():
        if name in _OF_JOBS:
            continue
        parts += [f"### {name}\n", f"{_prose(model.get('description'))}\n" if model.get("description") else ""]
        if "properties" not in model:
            parts.append(f"{_type(model)}\n")
            continue
        rows = [
            f"| `{field}` | {_cell(_type(schema))} | {_cell(_prose(schema.get('description')))} |"
            for field, schema in model["properties"].items()
        ]
        parts += ["| field | type | meaning |\n|---|---|---|", *rows, ""]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(parts))


def metrics_page() -> str:
    """The metrics by name, labels and help."""
    asked = {m.name: (m.kind, q.labels, m.help) for q in QUESTIONS for m in q.metrics}
    with (
        TemporaryDirectory() as home,
        registry_of(Settings(home=Path(home), pg_port=1), lambda: (0, 0), durations()) as registry,  # no database
    ):
        own = {f.name: (f.type, _LABELS.get(f.name, ()), f.documentation) for f in registry.collect()}
    rows = [
        f"| `{name}{_SUFFIXES.get(kind, '')}` | {kind} | {', '.join(labels)} | {_cell(text)} |"
        for name, (kind, labels, text) in sorted({**own, **asked}.items())
    ]
    return "\n".join(
        [
            "# Metrics\n",
            _WRITTEN.format(source="`geo_assets/ledger/measurements.py` and `geo_assets/api/metrics.py`"),
            "`GET /metrics`; [monitoring.md](../monitoring.md) says how they are meant and asked for.\n",
            "| metric | kind | labels | what |\n|---|---|---|---|",
            *rows,
            "",
        ]
    )


#: Of metrics that the database is not asked for.
_LABELS = {
    "geo_assets_free_disk_bytes": ("place",),
    "geo_assets_queue_messages": ("queue",),
    "geo_assets_queue_oldest_message_age_seconds": ("queue",),
    "geo_assets_db_retries": ("reason",),
    "geo_assets_sas_expires_timestamp_seconds": ("account",),
    "http_request_duration_seconds": ("method", "route", "status"),
}

_SUFFIXES = {"counter": "_total", "info": "_info"}

#: Models that parameters.md has.
_OF_JOBS = {model.__name__ for model in JOB_TYPES.values()}


def _leaves(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Commands that do something, with what is typed for each."""
    if subcommands := getattr(command, "commands", {}):
        for name, sub in subcommands.items():
            yield from _leaves(sub, f"{path} {name}")
    elif not command.hidden:
        yield path, command


def _metavar(argument: TyperArgument) -> str:
    name = argument.metavar or (argument.name or "").upper()
    many = "…" if argument.nargs != 1 else ""
    return f"{name}{many}" if argument.required else f"[{name}{many}]"


def _flags(option: TyperOption) -> list[str]:
    value = "" if option.is_flag else f" {option.metavar or (option.name or '').upper()}"
    return [f"{flag}{value}" for flag in (*option.opts, *option.secondary_opts)]


def _prose(text: str | None) -> str:
    """One paragraph as one line."""
    paragraphs = (text or "").replace("\b", "").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs).strip()


def _route(method: str, path: str, route: dict[str, Any]) -> list[str]:
    """A route: what it does, what it takes, what it answers."""
    described = _prose(route.get("description") or route.get("summary"))
    parts = [f"### {method.upper()} {path}\n", f"{described}\n"]
    rows = [
        f"| `{p['name']}` | {p['in']} | {_cell(_type(p['schema']))} |"
        f" {_cell(_prose(p.get('description') or p['schema'].get('description')))} |"
        for p in route.get("parameters", [])
    ]
    parts += ["| parameter | in | type | meaning |\n|---|---|---|---|", *rows, ""] if rows else []
    body = route.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    parts += [f"Body: {_type(body)}.\n"] if body else []
    for status, answer in route["responses"].items():
        if status.startswith("2"):
            kinds = ", ".join(f"`{kind}`" for kind in answer.get("content", {}))
            schema = answer.get("content", {}).get("application/json", {}).get("schema", {})
            parts.append(f"Answer: {status}{f', {kinds}' if kinds else ''}{f', {_type(schema)}' if schema else ''}.\n")
    return parts


def _type(schema: dict[str, Any]) -> str:
    """A JSON schema in a word or two."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](parameters.md)" if name in _OF_JOBS else f"[{name}](#{name.lower()})"
    if options := schema.get("anyOf") or schema.get("oneOf"):
        return " or ".join(dict.fromkeys(_type(option) for option in options))
    if values := schema.get("enum"):
        return ", ".join(f"`{value}`" for value in values)
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    return str(schema.get("format") or schema.get("type") or "any")


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def main() -> None:
    """Write what differs."""
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
