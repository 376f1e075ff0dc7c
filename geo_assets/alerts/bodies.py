"""An alert as it is posted: JSON for a program, a message of Slack or of Teams.

Here: these forms. Not here: what is said (`compose.py`). Names of files are anybody's: in a message they are plain
text, which makes no link and calls nobody.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from geo_assets import __version__
from geo_assets.alerts.compose import Alert

#: What Slack takes for the begin of a link or of a name to be called (https://docs.slack.dev, Formatting message text).
_SLACK = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})

#: Characters of a text in Slack.
_SLACK_MOST = 2900


def body_of(alert: Alert, form: str) -> dict[str, Any]:
    """The body of a request, in the form that the settings name."""
    return _FORMS[form](alert)


def _json(alert: Alert) -> dict[str, Any]:
    return {
        "id": alert.event,
        "kind": alert.kind,
        "severity": alert.severity,
        "at": alert.at.isoformat(),
        "subject": alert.title,
        "text": alert.text,
        "reasons": [asdict(reason) for reason in alert.reasons],
        "link": alert.link,
        "job": alert.job,
        "correlation_id": alert.correlation_id,
        "repeated": alert.repeated,
        "sender": f"geo_assets {__version__}",
    }


def _slack(alert: Alert) -> dict[str, Any]:
    text = "\n".join([alert.title, *alert.lines])[:_SLACK_MOST]
    link = f"<{alert.link.translate(_SLACK)}|where to look>"
    return {
        "text": alert.title.translate(_SLACK),
        "blocks": [
            {"type": "section", "text": {"type": "plain_text", "text": text, "emoji": False}},
            {"type": "context", "elements": [{"type": "mrkdwn", "text": link}]},
        ],
    }


def _teams(alert: Alert) -> dict[str, Any]:
    colour = "attention" if alert.severity == "error" else "warning"
    title = {"type": "TextRun", "text": alert.title, "weight": "bolder", "color": colour}
    lines = [[title], *([{"type": "TextRun", "text": line}] for line in alert.lines)]
    card = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": [{"type": "RichTextBlock", "inlines": line} for line in lines],
        "actions": [{"type": "Action.OpenUrl", "title": "Where to look", "url": alert.link}],
    }
    return {
        "type": "message",
        "summary": alert.title,
        "attachments": [{"contentType": "application/vnd.microsoft.card.adaptive", "content": card}],
    }


_FORMS: dict[str, Callable[[Alert], dict[str, Any]]] = {"json": _json, "slack": _slack, "teams": _teams}
