"""`geo-assets alert`: what somebody was, or is to be, told of.

Here: arguments, what is printed. Not here: alerts (`geo_assets/alerts/`).
"""

from __future__ import annotations

from typing import Annotated

import typer

from geo_assets.commands.console import JsonFlag, log, out, print_json
from geo_assets.commands.shared import open_submitter
from geo_assets.commands.times import moment
from geo_assets.text import one_line

ALERT_EXAMPLE = "Example: `GEO_ASSETS_ALERT_WEBHOOK=https://HOST/… geo-assets alert --test`"


def alert(
    test: Annotated[bool, typer.Option("--test", help="Post a sample to the webhook, now.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many at most.")] = 20,
    as_json: JsonFlag = False,
) -> None:
    """List the newest alerts, and whether they were sent; or see whether one arrives."""
    if test:
        _test(as_json=as_json)
        return
    with open_submitter() as submitter:
        records = submitter.ledger.alerts.newest(limit)
    if as_json:
        print_json([record.model_dump(mode="json") for record in records])
        return
    if not records:
        log("there was nothing to tell")
    for r in records:
        became = f"sent {moment(r.sent_at)}" if r.sent_at else f"waits: {r.fault or 'not tried yet'}"
        what = f"{(r.job_id or '')[:12]:<14}{r.error_code or ''} {one_line(r.error_message or '')[:80]}"
        out.print(f"{moment(r.at)}  {r.kind:<12}{what}  ({became})", markup=False, soft_wrap=True)


def _test(*, as_json: bool) -> None:
    from geo_assets.alerts.bodies import body_of
    from geo_assets.alerts.compose import sample
    from geo_assets.alerts.send import post
    from geo_assets.settings import load_settings

    settings = load_settings()
    told = sample(settings)
    post(settings, told)
    if as_json:
        print_json(body_of(told, settings.alert_format))
        return
    log("the webhook has taken it:")
    out.print(told.text, markup=False, soft_wrap=True)
