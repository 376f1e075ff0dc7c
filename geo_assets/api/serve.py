"""Serving the API with uvicorn.

Here: the refusal of an open door, the port. Not here: the application (`app.py`), slow clients (`web/serve.py`).
"""

from __future__ import annotations

import sys

from geo_assets import logs, spans
from geo_assets.api.app import create_app
from geo_assets.api.auth import refuse_open_door
from geo_assets.settings import load_settings
from geo_assets.submissions.submit import Submitter


def serve(host: str, port: int) -> None:
    """Serve until told to stop.

    Raises:
        GeoAssetsError: INVALID_PARAMETERS, it would be open to the network, or the port is taken; STACK_NOT_RUNNING.
    """
    from geo_assets.web.serve import refuse_taken
    from geo_assets.web.serve import serve as serve_with_uvicorn

    refuse_taken(host, port)
    settings = load_settings()
    logs.configure_process(settings)
    spans.configure(settings)
    with Submitter(settings) as submitter:
        required = refuse_open_door(settings, submitter.tokens, host)
    serve_with_uvicorn(create_app(settings, require_auth=required), host, port)


if __name__ == "__main__":
    serve("127.0.0.1", int(sys.argv[1]))
