"""`geo-assets api` and `geo-assets token …`: the HTTP API in the foreground, and who may use it.

Here: arguments, what is printed. Not here: the API (`geo_assets/api/`), how tokens are kept (`ledger/tokens.py`).
"""

from __future__ import annotations

from typing import Annotated

import typer

from geo_assets.commands.console import JsonFlag, log, print_json, print_table
from geo_assets.commands.shared import open_submitter
from geo_assets.commands.times import moment

tokens = typer.Typer(no_args_is_help=True, help="Named tokens of the HTTP API; stored hashed, shown once.")


def api(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.")] = 8000,
) -> None:
    """Serve the HTTP API in the foreground. On other addresses than loopback it requires authentication."""
    from geo_assets.api.serve import serve

    serve(host, port)


@tokens.command("create")
def token_create(
    name: str,
    scope: Annotated[list[str], typer.Option("--scope", help="submit, read or admin; repeat for several.")],
    as_json: JsonFlag = False,
) -> None:
    """Create a token and print it; it cannot be shown again."""
    with open_submitter() as submitter:
        token = submitter.tokens.create(name, scope)
    if as_json:
        print_json({"name": name, "scopes": scope, "token": token})
    else:
        print(token)


@tokens.command("list")
def token_list(as_json: JsonFlag = False) -> None:
    """List the tokens: name, scopes, when each was created, and when it was revoked if it was."""
    with open_submitter() as submitter:
        known = submitter.tokens.all()
    if as_json:
        print_json([token.model_dump(mode="json") for token in known])
        return
    rows = [
        (t.name, " ".join(t.scopes), moment(t.created_at), moment(t.revoked_at) if t.revoked_at else "") for t in known
    ]
    if rows:
        print_table(("token", "scopes", "created", "revoked"), rows)
    else:
        log("there is no token")


@tokens.command("revoke")
def token_revoke(name: str) -> None:
    """Revoke a token: it is refused from now on. Its name may be given to a new one."""
    with open_submitter() as submitter:
        submitter.tokens.revoke(name)
