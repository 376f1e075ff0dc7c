"""Each rule fires when it should and not before; what it names is there."""

import json
import re
import shutil
import subprocess
from dataclasses import dataclass, field

import pytest
import yaml

from geo_assets.database.connections import connect
from geo_assets_tests.commands.test_remedies import typed
from geo_assets_tests.monitoring.rules import ALERTS, Expression, World, firing, rules
from geo_assets_tests.pages import blocks
from geo_assets_tests.prometheus_server import find_promtool

RUNBOOK = ALERTS.parents[2] / "docs" / "runbook.md"
RULES = rules()

PROMTOOL = find_promtool()

needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="promtool is not here")


@dataclass
class Case:
    """Series, a minute at which the rule is quiet, a later one at which it fires, and with which labels."""

    series: dict[str, str]
    quiet: int
    fires: int
    labels: dict[str, str] = field(default_factory=dict)


def files(outcome):
    return f'geo_assets_files_ended_total{{outcome="{outcome}"}}'


def attempts(outcome):
    return f'geo_assets_attempts_ended_total{{outcome="{outcome}"}}'


SENSOR = 'dagster_sensor_last_tick_timestamp_seconds{sensor="janitor"}'
DAEMON = 'dagster_daemon_last_heartbeat_timestamp_seconds{daemon="SENSOR"}'
QUEUED = 'dagster_oldest_active_run_age_seconds{status="QUEUED"}'

CASES = {
    "GeoAssetsAbsent": Case({"geo_assets_scrape_ok": "1+0x9 _x20"}, 13, 16),
    "GeoAssetsScrapeFailing": Case({"geo_assets_scrape_ok": "1+0x4 0+0x20"}, 5, 6),
    "GeoAssetsDiskSpace": Case(
        {'geo_assets_free_disk_bytes{place="scratch"}': "11e9+0x4 9e9+0x20"}, 5, 6, {"place": "scratch"}
    ),
    "GeoAssetsDbConnections": Case(
        {
            'geo_assets_db_connections{state="idle"}': "70+0x4 75+0x20",
            'geo_assets_db_connections{state="active"}': "8+0x30",
            "geo_assets_db_connections_max": "100+0x30",
        },
        9,
        10,
    ),
    "GeoAssetsIdleInTransaction": Case({"geo_assets_db_longest_idle_transaction_seconds": "0+60x20"}, 10, 11),
    "GeoAssetsPoisonWithoutRecord": Case({"geo_assets_poison_without_record": "0+0x4 1+0x5"}, 4, 5),
    "GeoAssetsUnhandledPoison": Case({"geo_assets_unhandled_poison_total": "3+0x4 4+0x30"}, 4, 5),
    "GeoAssetsMessagesWait": Case(
        {'geo_assets_oldest_message_age_seconds{channel="blob"}': "0+60x40"}, 20, 21, {"channel": "blob"}
    ),
    "GeoAssetsPoisonWaits": Case({"geo_assets_poison_messages": "0+0x4 2+0x90"}, 64, 65),
    "GeoAssetsAllFilesBad": Case({"geo_assets_jobs_all_bad": "0+0x4 1+0x5"}, 4, 5),
    "GeoAssetsJobStuck": Case({"geo_assets_oldest_lease_age_seconds": "0+60x20"}, 10, 11),
    "GeoAssetsJobsWaitLong": Case(
        {'geo_assets_oldest_job_age_seconds{status="queued"}': "0+60x120"}, 90, 91, {"status": "queued"}
    ),
    "GeoAssetsRunsDie": Case({attempts("died"): "7+0x4 8 9 10 11 12 13"}, 5, 10, {"outcome": "died"}),
    "GeoAssetsAttemptFailureRate": Case(
        {attempts("failed"): "0+0x60 2+2x60", attempts("completed"): "0+1x121"}, 80, 121
    ),
    "GeoAssetsFilesFailFast": Case({files("failed"): "0+0x60 2+2x60", files("succeeded"): "0+8x121"}, 60, 110),
    "GeoAssetsFilesFail": Case({files("failed"): "0+0x60 2+2x400", files("succeeded"): "0+38x461"}, 60, 460),
    "GeoAssetsStorageRefused": Case({"geo_assets_storage_refused": "0+0x4 1+0x5"}, 4, 5),
    "GeoAssetsSasExpires": Case(
        {'geo_assets_sas_expires_timestamp_seconds{account="partner"}': "259500+0x20"}, 5, 6, {"account": "partner"}
    ),
    "GeoAssetsCircuitOpen": Case(
        {'geo_assets_circuit_state{dependency="storage default"}': "0+0x4 2+0x20"},
        9,
        10,
        {"dependency": "storage default"},
    ),
    "GeoAssetsDaemonQuiet": Case({DAEMON: "0+60x5 300+0x30"}, 6, 7, {"daemon": "SENSOR"}),
    "GeoAssetsDaemonHeartbeatStale": Case({DAEMON: "0+60x5 300+0x30"}, 20, 21, {"daemon": "SENSOR"}),
    "GeoAssetsSensorStale": Case({SENSOR: "0+60x5 300+0x30"}, 20, 21, {"sensor": "janitor"}),
    "GeoAssetsTickFailures": Case(
        {'dagster_sensor_failed_ticks{sensor="submissions"}': "5+0x4 6+0x60"}, 34, 35, {"sensor": "submissions"}
    ),
    "GeoAssetsQueuedRunStuck": Case(
        {
            QUEUED: "1000+60x60",
            'dagster_active_runs{status="STARTED"}': "1+0x10 0+0x60",
            'dagster_active_runs{status="STARTING"}': "0+0x70",
        },
        25,
        26,
    ),
    "GeoAssetsOrphansStay": Case({"geo_assets_oldest_loose_blob_age_seconds": "172700+60x100"}, 61, 62),
    "GeoAssetsWithdrawnStays": Case({"geo_assets_withdrawn_not_gone": "0+0x4 1+0x1500"}, 1444, 1445),
    "GeoAssetsReceiptsLate": Case({"geo_assets_oldest_due_receipt_age_seconds": "172700+60x100"}, 61, 62),
    "GeoAssetsReconcileRed": Case({"geo_assets_reconcile_agrees": "1+0x4 0+0x5"}, 4, 5),
    "GeoAssetsReconcileStale": Case({"geo_assets_last_reconcile_timestamp_seconds": "60+0x1600"}, 1561, 1562),
}


def test_every_rule_has_a_test_of_when_it_fires():
    assert CASES.keys() == RULES.keys()


@pytest.mark.parametrize("alert", CASES)
def test_a_rule_fires_when_it_should_and_not_before(alert):
    case = CASES[alert]
    world = World.of(case.series)
    assert firing(RULES[alert], world, case.quiet) == []
    assert firing(RULES[alert], world, case.fires) == [case.labels]


@pytest.mark.parametrize("alert", CASES)
def test_a_rule_says_how_urgent_it_is_and_what_to_do(alert):
    rule = RULES[alert]
    assert rule["labels"]["severity"] in {"page", "warn"}
    assert rule["annotations"].keys() == {"summary", "runbook_url"}
    page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
    headings = re.findall(r"^#+ (.+)$", RUNBOOK.read_text(encoding="utf-8"), re.MULTILINE)
    assert page == "docs/runbook.md"
    assert [heading for heading in headings if heading.lower() == anchor] == [alert]


def test_the_runbook_has_no_chapter_of_an_alert_that_there_is_not():
    named = set(re.findall(r"^#+ (GeoAssets\w+)$", RUNBOOK.read_text(encoding="utf-8"), re.MULTILINE))
    assert named == RULES.keys()


def commands_of_the_runbook():
    """Every line of a block of commands."""
    return [re.sub(r" {2,}# .*", "", line) for block in blocks("docs/runbook.md") for line in block.text.splitlines()]


def test_every_command_of_the_runbook_can_be_typed():
    found = [line.removeprefix("geo-assets ") for line in commands_of_the_runbook() if line.startswith("geo-assets ")]
    assert len(found) > 40
    for words in found:
        typed(words)


def test_every_question_of_the_runbook_is_answered_to_whom_it_is_put(settings, dagster):
    asked = re.compile(r'(geo-assets )?psql -c "(.+)"')
    found = [match.groups() for line in commands_of_the_runbook() if (match := asked.fullmatch(line))]
    assert len(found) > 20
    for reader, statement in found:
        with connect(settings, "reader" if reader else "pipeline") as conn:
            conn.execute(statement)


@pytest.mark.parametrize("wrong", ["geo_assets_jobs >", "sum(geo_assets_jobs", "rate(geo_assets_jobs[5m]) > 0", "a b"])
def test_an_expression_that_is_not_well_formed_is_noticed(wrong):
    with pytest.raises((AssertionError, KeyError)):
        Expression(wrong)


@needs_promtool
def test_promtool_says_the_same_of_every_rule(tmp_path):
    shutil.copy(ALERTS, tmp_path)
    (tmp_path / "tests.yaml").write_text(
        yaml.safe_dump(
            {
                "rule_files": [ALERTS.name],
                "evaluation_interval": "1m",
                "tests": [promtool_test(alert, case) for alert, case in CASES.items()],
            }
        )
    )
    promtool(tmp_path, "check", "rules", ALERTS.name)
    promtool(tmp_path, "test", "rules", "tests.yaml")


@needs_promtool
def test_promtool_understands_every_expression_of_the_dashboard(tmp_path):
    board = json.loads((ALERTS.parent / "dashboard.json").read_text(encoding="utf-8"))
    asked = [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]
    rules = [{"record": "asked", "expr": expression.replace("$__rate_interval", "5m")} for expression in asked]
    assert len(rules) > 40
    groups = [{"name": str(number), "rules": [rule]} for number, rule in enumerate(rules)]
    (tmp_path / "asked.yaml").write_text(yaml.safe_dump({"groups": groups}))
    promtool(tmp_path, "check", "rules", "asked.yaml")


def promtool(folder, *command):
    done = subprocess.run([PROMTOOL, *command], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def promtool_test(alert, case):
    rule = RULES[alert]
    told = {
        name: re.sub(r"{{ \$labels\.(\w+) }}", lambda label: case.labels[label[1]], text)
        for name, text in rule["annotations"].items()
    }
    fires = {"exp_labels": {**case.labels, **rule["labels"]}, "exp_annotations": told}
    return {
        "name": alert,
        "interval": "1m",
        "input_series": [{"series": name, "values": notation} for name, notation in case.series.items()],
        "alert_rule_test": [
            {"eval_time": f"{case.quiet}m", "alertname": alert, "exp_alerts": []},
            {"eval_time": f"{case.fires}m", "alertname": alert, "exp_alerts": [fires]},
        ],
    }


def test_the_dashboard_has_its_rows_and_asks_the_source_that_is_chosen():
    board = json.loads((ALERTS.parent / "dashboard.json").read_text(encoding="utf-8"))
    panels = board["panels"]
    assert [panel["title"] for panel in panels if panel["type"] == "row"] == [
        "Overview",
        "Intake",
        "Work",
        "Dependencies",
        "Dagster",
        "Integrity",
    ]
    asked = [panel for panel in panels if panel["type"] != "row"]
    assert {source["uid"] for p in asked for source in [p["datasource"], *(t["datasource"] for t in p["targets"])]} == {
        "${DS_PROMETHEUS}"
    }
    assert [variable["name"] for variable in board["templating"]["list"]] == ["DS_PROMETHEUS"]
    assert len({panel["id"] for panel in panels}) == len(panels)
