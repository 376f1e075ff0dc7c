"""`geo-assets serve`: the catalogue, tiles, features, files and the page for clients.

Here: arguments, what is printed. Not here: the server (`geo_assets/serving/`), its process in the stack
(`local/stack.py`).
"""

from __future__ import annotations

from typing import Annotated

import typer

from geo_assets.commands.console import JsonFlag, log, out, print_json
from geo_assets.errors import GeoAssetsError

SERVE_EXAMPLE = "Example: `geo-assets serve --detach --json`, then open the `page` that it prints."


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.")] = 8080,
    detach: Annotated[
        bool, typer.Option("--detach", help="Leave it to the stack, as a part of it, and print the addresses.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Serve what was published: STAC API, map tiles, features, files and a page to look at them. In the foreground,
    unless it is left to the stack. On other addresses than loopback it requires authentication.
    """
    from geo_assets.local.stack import Stack, insist_on_serving

    insist_on_serving()
    if not detach:
        _serve_here(host, port, as_json=as_json)
        return
    if host != "127.0.0.1":
        raise GeoAssetsError(
            "INVALID_PARAMETERS",
            "--detach serves on loopback alone",
            remedy=f"serve in the foreground: geo-assets serve --host {host}",
        )
    _tell(Stack().serve(log).served, as_json=as_json)


def _serve_here(host: str, port: int, *, as_json: bool) -> None:
    from geo_assets.local.postgresql import free_port
    from geo_assets.serving.serve import serve as serve_until_stopped
    from geo_assets.settings import load_settings

    port = port or free_port()
    name = f"[{host}]" if ":" in host else host
    settings = load_settings()
    served = settings if settings.public_url else settings.model_copy(update={"public_url": f"http://{name}:{port}"})
    serve_until_stopped(host, port, lambda: _tell(served.served, as_json=as_json))


def _tell(addresses: dict[str, str], *, as_json: bool) -> None:
    if as_json:
        print_json(addresses)
    else:
        for name, address in addresses.items():
            below = "/ALIAS/CONTAINER/PATH" if name == "files" else ""  # by itself it answers nothing
            out.print(f"{name:<12}{address}{below}", soft_wrap=True)
