"""`geo-assets top`: what every run, process and child does right now.

Here: arguments, the table, drawing it again. Not here: the question (`ledger/at_work.py`).
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from geo_assets.commands.console import JsonFlag, log, out, print_json, table_lines
from geo_assets.commands.shared import open_submitter
from geo_assets.text import human_bytes, human_seconds, one_line

if TYPE_CHECKING:
    from geo_assets.ledger.at_work import AtWork, FileNow, StepNow

TOP_EXAMPLE = "Example: `geo-assets top --once`"

#: Seconds between two looks.
_EVERY = 2.0

#: A process gives a sign of life every ten seconds; one that has been silent for longer is told of.
_SILENT_SECONDS = 15.0

_HEADS = ("host", "process", "job", "step", "file", "for", "memory", "done")


def top(
    once: Annotated[bool, typer.Option("--once", help="Print it once, also on a terminal.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Show what every run, process and sandboxed child does right now, on whichever machine: step, file, since when,
    memory. On a terminal again and again, until Ctrl-C.
    """
    with open_submitter() as submitter:
        at_work = submitter.ledger.at_work
        if as_json:
            print_json([step.model_dump(mode="json") for step in at_work.now()])
        elif once or not out.is_terminal:
            if steps := at_work.now():
                out.print("\n".join(_lines(steps)), markup=False, soft_wrap=True)
            else:
                log("no run is at work")
        else:
            with suppress(KeyboardInterrupt):
                _again_and_again(at_work)


def _again_and_again(at_work: AtWork) -> None:
    from rich.live import Live
    from rich.text import Text

    with Live(console=out, auto_refresh=False, vertical_overflow="crop") as live:
        while True:
            steps = at_work.now()
            live.update(
                Text("\n".join(_lines(steps)) if steps else "no run is at work", no_wrap=True, overflow="ellipsis"),
                refresh=True,
            )
            time.sleep(_EVERY)


def _lines(steps: list[StepNow]) -> list[str]:
    """A line for each step, and below it one for each of its files."""
    rows = []
    for step in steps:
        rows.append(_step_row(step))
        rows += [_file_row(step, file) for file in step.files]
    return table_lines(_HEADS, rows)


def _step_row(step: StepNow) -> tuple[str, ...]:
    silent = step.silent_seconds or 0.0
    return (
        step.host or "-",
        str(step.pid or "-"),
        f"{step.job_id[:12]} {step.job_type}",
        step.doing or "between two steps",
        f"silent for {human_seconds(silent)}" if silent > _SILENT_SECONDS else "",
        "" if step.seconds is None else human_seconds(step.seconds),
        "" if step.memory_bytes is None else human_bytes(step.memory_bytes),
        "",
    )


def _file_row(step: StepNow, file: FileNow) -> tuple[str, ...]:
    return (
        step.host or "-",
        str(file.child or "-"),
        step.job_id[:12],
        file.stage,
        one_line(file.file),
        human_seconds(file.seconds),
        "" if file.memory_bytes is None else human_bytes(file.memory_bytes),
        "" if file.part is None else f"{file.part:.0%}",
    )
