"""The description of a service for people: a page that runs nothing, as no page of a service may (`app.py`).

Here: from an OpenAPI document to HTML. Not here: the document.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Any

from fastapi import FastAPI
from starlette.responses import HTMLResponse


def add_page(app: FastAPI, path: str) -> None:
    """Add the page to an application that has none, under the name by which libraries link to theirs."""

    def page() -> HTMLResponse:
        return HTMLResponse("\n".join(_lines(app.openapi())))

    app.add_api_route(path, page, name="swagger_ui_html", include_in_schema=False)


def _lines(document: dict[str, Any]) -> Iterator[str]:
    title = escape(document["info"]["title"])
    yield f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title><h1>{title}</h1>"
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            yield f"<h2>{escape(method.upper())} {escape(path)}</h2><p>{escape(operation.get('summary', ''))}</p>"
            parameters = operation.get("parameters", ())
            if parameters:
                yield "<dl>"
            for parameter in parameters:
                yield f"<dt><code>{escape(parameter['name'])}</code> ({escape(parameter['in'])})</dt>"
                yield f"<dd>{escape(parameter.get('description', ''))}</dd>"
            if parameters:
                yield "</dl>"
    yield "</html>"
