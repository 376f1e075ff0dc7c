"""A scrape after real jobs has all that rules and dashboard name, and the numbers of the jobs."""

import json
import re

import httpx
from prometheus_client.parser import text_string_to_metric_families

from geo_assets.ledger.measurements import QUESTIONS
from geo_assets_tests.monitoring.rules import ALERTS, Expression, rules
from geo_assets_tests.waiting import until

#: What the samples of a metric are called.
ENDINGS = {"gauge": "", "counter": "_total", "histogram": "_bucket"}

#: Metrics in an expression of the dashboard.
NAMES = re.compile(r"\b(?:geo_assets|dagster|http)_[a-z_]+\b")

#: There where an account has a SAS, which none of this stack has.
OF_SAS = {"geo_assets_sas_expires_timestamp_seconds"}


def api(cli) -> str:
    return cli.exports["GEO_ASSETS_API_URL"]


def scrape(cli) -> list:
    text = httpx.get(f"{api(cli)}/metrics", timeout=30).raise_for_status().text
    return [sample for family in text_string_to_metric_families(text) for sample in family.samples]


def value(found, name, **labels) -> float:
    """The sum of the samples with these labels."""
    return sum(s.value for s in found if s.name == name and labels.items() <= s.labels.items())


def test_after_real_jobs_everything_that_rules_and_dashboard_name_is_scraped_and_the_numbers_are_right(cli):
    until(lambda: value(scrape(cli), "geo_assets_last_reconcile_timestamp_seconds") > 1.7e9)  # its schedule is there
    before = scrape(cli)
    (cli.home / "containers" / "scraped").mkdir(parents=True)
    (cli.home / "containers" / "scraped" / "damaged.tif").write_bytes(b"II*\x00 and no more")
    good = cli.json("submit", "hello_world", "--param", "n=3", "--param", "message=scraped", "--wait")
    bad = cli.json("submit", "ingest_container", "--param", "container=scraped", "--wait")
    assert (good["status"], bad["status"]) == ("completed", "completed_with_errors")
    assert httpx.post(f"{api(cli)}/api/jobs/submit/hello_world", json={"n": -1}).status_code == 422
    after = scrape(cli)

    def more(name, **labels):
        return value(after, name, **labels) - value(before, name, **labels)

    assert more("geo_assets_jobs", type="hello_world", status="completed") == 1
    assert more("geo_assets_jobs", type="ingest_container", status="completed_with_errors") == 1
    assert more("geo_assets_files_total", stage="greetings", outcome="succeeded") == 3
    assert more("geo_assets_files_total", stage="cogs", outcome="quarantined") == 1
    assert more("geo_assets_attempts_ended_total", outcome="completed") == 2
    assert more("geo_assets_messages_total", channel="http", outcome="rejected") == 1
    route = "/api/jobs/submit/{job_type}"
    assert more("http_request_duration_seconds_count", method="POST", route=route, status="422") == 1
    assert value(after, "geo_assets_scrape_ok") == 1
    for daemon in ("SENSOR", "QUEUED_RUN_COORDINATOR"):
        assert value(after, "dagster_daemon_healthy", daemon=daemon) == 1
    for sensor in ("submissions", "janitor"):
        assert value(after, "dagster_sensor_last_tick_timestamp_seconds", sensor=sensor) > 1.7e9

    scraped = {sample.name for sample in after}
    in_rules = {name for rule in rules().values() for name in Expression(rule["expr"]).metrics}
    board = json.loads((ALERTS.parent / "dashboard.json").read_text(encoding="utf-8"))
    asked = [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]
    in_dashboard = {name for expression in asked for name in NAMES.findall(expression)}
    assert (in_rules | in_dashboard) - scraped == OF_SAS
    promised = {f"{m.name}{ENDINGS[m.kind]}" for question in QUESTIONS for m in question.metrics}
    assert promised - scraped == set()
