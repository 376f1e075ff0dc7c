"""`geo-assets pause` and `resume`: nothing is launched for a while.

Here: arguments, what is printed. Not here: the pause (`ledger/pause.py`).
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

import typer

from geo_assets.commands.console import JsonFlag, out, print_json
from geo_assets.commands.shared import a_number
from geo_assets.commands.times import moment
from geo_assets.text import how_many

#: Of 31 days.
_MOST_MINUTES = 31 * 24 * 60

PAUSE_EXAMPLE = 'Example: `geo-assets pause --minutes 30 --reason "new disk"`, then `geo-assets resume`'


def pause(
    minutes: Annotated[
        float,
        typer.Option(
            min=0.1, max=_MOST_MINUTES, callback=a_number, help="After that it is over by itself; a month at most."
        ),
    ] = 60,
    reason: Annotated[str, typer.Option(help="Told to whoever asks why nothing starts.")] = "asked for",
    as_json: JsonFlag = False,
) -> None:
    """Launch no job for a while. What is at work goes on; what is submitted meanwhile is recorded and waits."""
    from geo_assets.database.connections import connect
    from geo_assets.ledger import pause as pauses
    from geo_assets.settings import load_settings

    with connect(load_settings(), autocommit=True) as conn:
        made = pauses.pause(conn, timedelta(minutes=minutes), reason)
        still = pauses.at_work(conn)
    answer: dict[str, Any] = {"until": made.until.isoformat(), "reason": made.reason, "at_work": still}
    if as_json:
        print_json(answer)
    else:
        out.print(f"nothing is launched until {moment(made.until)}; at work: {how_many(len(still), 'job')}")


def resume(as_json: JsonFlag = False) -> None:
    """Launch again what waits."""
    from geo_assets.database.connections import connect
    from geo_assets.ledger import pause as pauses
    from geo_assets.settings import load_settings

    with connect(load_settings(), autocommit=True) as conn:
        was = pauses.resume(conn)
    if as_json:
        print_json({"was_paused": was})
    else:
        out.print("jobs are launched again" if was else "there was no pause")
