"""`geo-assets poison …`: messages that could not be accepted.

Here: arguments, what is printed. Not here: messages (`ledger/messages.py`), reading them again
(`submissions/poison.py`).
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from geo_assets.commands.console import JsonFlag, log, out, print_json
from geo_assets.commands.shared import open_submitter
from geo_assets.commands.times import moment, shows_times
from geo_assets.errors import GeoAssetsError, known_code
from geo_assets.hints import runnable
from geo_assets.text import one_line

if TYPE_CHECKING:
    from geo_assets.submissions.submit import Submitter


app = typer.Typer(no_args_is_help=True, help="Messages that could not be accepted: list, show, replay or discard them.")


@app.command("list")
@shows_times
def poison_list(
    error_code: Annotated[str | None, typer.Option("--error-code", help="Only messages with this code.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many at most.")] = 1000,
    as_json: JsonFlag = False,
) -> None:
    """List the messages in poison, newest first."""
    from geo_assets.ledger.models import MessageState

    with open_submitter() as submitter:
        records = submitter.messages.list(state=MessageState.POISON, error_code=known_code(error_code), limit=limit)
    if as_json:
        print_json([r.model_dump(mode="json") for r in records])
        return
    if not records:
        log("no message is in poison")
    for r in records:
        out.print(
            f"{r.message_id[:8]}  {moment(r.received_at)} "
            f" {r.source:<28}{r.error_code:<20}{one_line(r.error_message or '')}",
            markup=False,
            soft_wrap=True,
        )


@app.command("show")
@shows_times
def poison_show(message_id: str, as_json: JsonFlag = False) -> None:
    """Show one message: its record, its body (escaped) and its errors."""
    from geo_assets.text import escaped

    with open_submitter() as submitter:
        record, body = submitter.messages.body(message_id)
        errors = submitter.messages.errors(message_id=record.message_id)
    whole = escaped(body, len(body))
    if as_json:
        told = {**record.model_dump(mode="json"), "body": whole, "errors": [e.model_dump(mode="json") for e in errors]}
        print_json(told)
        return
    for key, value in {**record.model_dump(), "body": whole}.items():
        text = moment(value) if isinstance(value, datetime) else value
        out.print(f"{key:<16}{text}", markup=False, soft_wrap=True)
    for e in errors:
        remedy = runnable(one_line(e.remedy or "").replace(" ID", f" {record.message_id[:8]}"))
        out.print(
            f"{moment(e.at)} {e.severity} {e.code}: {one_line(e.message)}\n         → {remedy}",
            markup=False,
            soft_wrap=True,
        )


@app.command("replay")
def poison_replay(
    message_id: Annotated[str | None, typer.Argument(help="One message; or use --error-code.")] = None,
    error_code: Annotated[str | None, typer.Option("--error-code", help="All messages with this code.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Process messages again as they were received; those that are accepted now leave poison. Fails unless all are."""
    from geo_assets.submissions.poison import replay

    with open_submitter() as submitter:
        outcomes = [replay(submitter, m) for m in _chosen(submitter, message_id, error_code)]
    _print_outcomes(outcomes, as_json=as_json)
    if any("error_code" in outcome for outcome in outcomes):
        raise typer.Exit(1)


@app.command("discard")
def poison_discard(
    message_id: Annotated[str | None, typer.Argument(help="One message; or use --error-code.")] = None,
    error_code: Annotated[str | None, typer.Option("--error-code", help="All messages with this code.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Take messages out of poison for good; their records stay."""
    from geo_assets.submissions.poison import discard

    with open_submitter() as submitter:
        outcomes = [discard(submitter, m) for m in _chosen(submitter, message_id, error_code)]
    _print_outcomes(outcomes, as_json=as_json)


def _chosen(submitter: Submitter, message_id: str | None, error_code: str | None) -> list[str]:
    from geo_assets.ledger.models import MessageState

    if (message_id is None) == (error_code is None):
        raise GeoAssetsError("INVALID_PARAMETERS", "name one message, or --error-code", remedy="geo-assets poison list")
    if message_id is not None:
        return [message_id]
    return [
        r.message_id
        for r in submitter.messages.list(state=MessageState.POISON, error_code=known_code(error_code), limit=10_000)
    ]


def _print_outcomes(outcomes: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        print_json(outcomes)
        return
    for outcome in outcomes:
        out.print("  ".join(f"{v}" for v in outcome.values() if v), markup=False, soft_wrap=True)
