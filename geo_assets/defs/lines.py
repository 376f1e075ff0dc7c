"""The lines that a run writes to standard error, beside its log in Dagster's database.

Here: Dagster's logger `console`, in the form of all our lines. Not here: that form (`geo_assets/logs.py`).
"""

import logging
from collections.abc import Mapping, Sequence
from functools import partial

import dagster as dg
from dagster import DagsterEventType
from dagster._core.execution import context_creation_job

from geo_assets import logs
from geo_assets.settings import Settings

#: Events that are information, though Dagster logs them, as all others, for debugging.
_MILESTONES = frozenset(
    {
        DagsterEventType.RUN_START,
        DagsterEventType.RUN_SUCCESS,
        DagsterEventType.RUN_CANCELED,
        DagsterEventType.STEP_START,
        DagsterEventType.STEP_SUCCESS,
    }
)


def build_console(settings: Settings) -> dg.LoggerDefinition:
    """The logger of all jobs, with the configuration of Dagster's own of that name. The first of a process lets our
    modules write lines, too.
    """

    @dg.logger(
        config_schema={
            "log_level": dg.Field(str, default_value="INFO", description="The least level that is written."),
            "name": dg.Field(str, default_value="dagster", description="The name of the logger in its lines."),
        },
        description="Lines on standard error, as GEO_ASSETS_LOG_FORMAT says.",
    )
    def console(context: dg.InitLoggerContext) -> logging.Logger:
        logs.configure(settings)
        config = context.logger_config
        made = logging.Logger(config["name"])  # noqa: LOG001 - the run's own, as Dagster's
        handler = logs.handler(settings)
        handler.addFilter(partial(_is_told, least=logging.getLevelNamesMapping()[config["log_level"].upper()]))
        made.addHandler(handler)
        return made

    return console


def write_by_default(console: dg.LoggerDefinition) -> None:
    """Let runs write by this logger whose configuration names none, as hardly any does. Dagster then takes a console of
    its own, whatever loggers the definitions have, without a setting for it (seen in its 1.13).
    """
    default: list[tuple[dg.LoggerDefinition, Mapping[str, object]]] = [
        (console, {"name": "dagster", "log_level": "INFO"})
    ]

    def loggers(instance: dg.DagsterInstance | None) -> Sequence[tuple[dg.LoggerDefinition, Mapping[str, object]]]:
        del instance  # which says the least level of lines in its database
        return default

    context_creation_job.default_system_loggers = loggers  # type: ignore[attr-defined]


def _is_told(record: logging.LogRecord, *, least: int) -> bool:
    event = getattr(record, "dagster_event", None)
    if event is not None and event.event_type in _MILESTONES:
        record.levelno, record.levelname = logging.INFO, "INFO"
    return record.levelno >= least
