"""The interactive page of the API, whose programs come from this server: it also works where there is no internet.

Here: the page, and the files of Swagger UI. Not here: the OpenAPI document that it shows (`app.py`).
"""

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.responses import HTMLResponse
from starlette.staticfiles import StaticFiles

PATH = "/docs"

_FILES = f"{PATH}/files"


def add_page(app: FastAPI) -> None:
    """Show the API under `/docs`; addresses are relative, so that a prefix before it does no harm."""
    app.mount(_FILES, StaticFiles(packages=[("fastapi_offline", "static")]))
    files = _FILES.removeprefix("/")
    page = get_swagger_ui_html(
        openapi_url="openapi.json",
        title=app.title,
        swagger_js_url=f"{files}/swagger-ui-bundle.js",
        swagger_css_url=f"{files}/swagger-ui.css",
        swagger_favicon_url=f"{files}/favicon.png",
        swagger_ui_parameters={"validatorUrl": "none"},  # by default another host may be asked about the document
    )

    @app.get(PATH, include_in_schema=False)
    def docs() -> HTMLResponse:
        return page
