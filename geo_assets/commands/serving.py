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
        from geo_assets.serving.serve import serve as serve_here

        serve_here(host, port)
        return
    if host != "127.0.0.1":
        raise GeoAssetsError(
            "INVALID_PARAMETERS",
            "--detach serves on loopback alone",
            remedy=f"serve in the foreground: geo-assets serve --host {host}",
        )
    settings = Stack().serve(log)
    addresses = settings.served
    if as_json:
        print_json(addresses)
    else:
        for name, address in addresses.items():
            out.print(f"{name:<12}{address}", soft_wrap=True)
