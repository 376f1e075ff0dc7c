"""Sending alerts: those that are due, once each, whoever is killed meanwhile.

Here: the order of taking, posting and recording, and one request. Not here: what is said (`compose.py`), the statements
(`ledger/alerts.py`), when it is called (`defs/sensors.py`).

An alert is taken before it is posted, and recorded as sent after the answer. A sender that dies before the request
delays the alert; one that dies between the answer and its record, a moment, sends it again, with the same id and the
remark that it may have come before: a lost alert would be worse.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import chain

import httpx

from geo_assets.alerts.bodies import body_of
from geo_assets.alerts.compose import Alert, Composer
from geo_assets.crash import crash_point
from geo_assets.errors import GeoAssetsError
from geo_assets.ledger.alerts import AlertRecord
from geo_assets.ledger.ledger import Ledger
from geo_assets.settings import Settings
from geo_assets.text import how_many

#: Alerts that are taken at once; and requests for them: beyond that they are one digest.
_TAKEN, _MOST_REQUESTS = 1000, 5

#: Seconds for each step of a request: connecting, sending, the answer.
_PATIENCE = 5.0

#: Statuses after which the next alert would fare no better.
_TOO_MANY, _SERVER_FAULT = 429, 500

_log = logging.getLogger(__name__)


def send_due(settings: Settings, ledger: Ledger) -> str:
    """Send what is due; returns a sentence about it. Without a webhook nothing is taken."""
    if settings.alert_webhook is None:
        return "GEO_ASSETS_ALERT_WEBHOOK is not set"
    records = ledger.alerts.take(_TAKEN)
    crash_point("alerts.taken")
    waiting, sent = _grouped(records), 0
    composer = Composer(settings, ledger)
    if len(waiting) > _MOST_REQUESTS:
        messages = [(composer.digest(waiting), records)]
    else:
        messages = [(_of_group(composer, group), group) for group in waiting]
    for number, (alert, group) in enumerate(messages):
        try:
            post(settings, alert)
        except GeoAssetsError as error:
            goes_on = error.code == "ALERT_REFUSED"
            behind = group if goes_on else list(chain.from_iterable(g for _, g in messages[number:]))
            ledger.alerts.failed(behind, error.message, pause=error.retry_after)
            _log.warning("alert not sent", extra={**_ids(alert), "code": error.code, "reason": error.message})
            if goes_on:
                continue
            return f"{error.message}; {how_many(len(behind), 'alert waits', 'alerts wait')}"
        crash_point("alerts.posted")
        ledger.alerts.sent(group)
        _log.info("alert sent", extra=_ids(alert))
        sent += len(group)
    return f"{how_many(sent, 'alert')} sent" if messages else "there is nothing to tell"


def post(settings: Settings, alert: Alert) -> None:
    """Post one alert to the webhook.

    Raises:
        GeoAssetsError: INVALID_SETTINGS, there is none; WEBHOOK_UNAVAILABLE; ALERT_REFUSED. None names the address,
            which is a secret.
    """
    if settings.alert_webhook is None:
        raise GeoAssetsError("INVALID_SETTINGS", "GEO_ASSETS_ALERT_WEBHOOK is not set", remedy=_HOW_TO)
    url, headers = settings.alert_webhook.get_secret_value(), {"Idempotency-Key": alert.event}
    try:
        with httpx.stream(
            "POST", url, json=body_of(alert, settings.alert_format), headers=headers, timeout=_PATIENCE
        ) as answer:
            status, pause = answer.status_code, answer.headers.get("Retry-After", "")
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        raise GeoAssetsError(
            "WEBHOOK_UNAVAILABLE", f"the webhook of alerts does not answer: {type(error).__name__}"
        ) from None  # its text may name the address
    if 200 <= status < 300:
        return
    if status == _TOO_MANY or status >= _SERVER_FAULT:
        away = GeoAssetsError("WEBHOOK_UNAVAILABLE", f"the webhook of alerts answers {status}")
        away.retry_after = float(pause) if pause.isdecimal() and len(pause) < 6 else 0.0
        raise away
    raise GeoAssetsError("ALERT_REFUSED", f"the webhook of alerts refuses an alert: it answers {status}")


_HOW_TO = "set it to the address of a webhook: docs/alerts.md"


def _grouped(records: Sequence[AlertRecord]) -> list[list[AlertRecord]]:
    """The events of one alert each: messages in poison are told of together."""
    poison = [record for record in records if record.kind == "poison"]
    return [[record] for record in records if record.kind != "poison"] + ([poison] if poison else [])


def _of_group(composer: Composer, group: Sequence[AlertRecord]) -> Alert:
    return composer.of_messages(group) if group[0].kind == "poison" else composer.of(group[0])


def _ids(alert: Alert) -> dict[str, str | int | None]:
    return {"correlation_id": alert.correlation_id, "alert": alert.event, "kind": alert.kind, **alert.job}
