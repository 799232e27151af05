"""The dashboard, the alerts and the scrape configuration: well-formed, and about metrics that there are."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

import client.metrics
import client.readings
import coordinator.metrics
import coordinator.readings
from protos import metrics
from protos.validity import DAYS

DEPLOY = Path(__file__).parents[2] / "deploy"
BOARD = json.loads((DEPLOY / "grafana" / "onebasin.json").read_text())
RULES = yaml.safe_load((DEPLOY / "prometheus" / "onebasin.rules.yaml").read_text())
ALERTS = [rule for group in RULES["groups"] for rule in group["rules"]]
TABLE = (*metrics.COMMON, *coordinator.readings.TABLE, *client.readings.TABLE)
LABELS = {name: set(metric.labels) for metric in TABLE for name in metric.series}
GIVEN = {"instance", "job"}  # by Prometheus itself
VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
NAME = re.compile(r"\bonebasin_\w+")


def expressions() -> list[str]:
    """Return all queries of the dashboard and of the alerts."""
    panels = [target["expr"] for panel in BOARD["panels"] for target in panel.get("targets", [])]
    variables = [one["query"]["query"] for one in BOARD["templating"]["list"] if one["type"] == "query"]
    return [*panels, *variables, *(alert["expr"] for alert in ALERTS)]


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is not on this machine: rules and queries are not verified")
    return subprocess.run([program, *arguments], capture_output=True, text=True, timeout=60)


def test_every_metric_that_is_asked_for_is_one_that_is_exported():
    for expression in expressions():
        assert set(NAME.findall(expression)) <= LABELS.keys(), expression


def test_every_metric_can_be_seen_somewhere():
    """One that neither dashboard nor alert uses is there for people's own queries; these few only."""
    used = {name for expression in expressions() for name in NAME.findall(expression)}
    unused = {metric.name for metric in TABLE if not used & set(metric.series)}
    assert unused == {
        "onebasin_build_info",
        "onebasin_journal_size_bytes",
        "onebasin_member_connected",
        "onebasin_site_audit_lines_total",
        "onebasin_site_left_seconds",
        "onebasin_site_outbox_bytes",
        "onebasin_site_phase",
    }


@pytest.mark.parametrize("expression", expressions())
def test_labels_in_a_selector_are_ones_that_its_metric_has(expression):
    for name, selector in re.findall(r"\b(onebasin_\w+)\{([^}]*)\}", expression):
        asked = set(re.findall(r"(\w+)\s*(?:=~|!=|!~|=)", selector))
        assert asked <= LABELS[name] | GIVEN, (name, asked)


def test_panels_have_ids_and_places_of_their_own():
    panels = BOARD["panels"]
    ids = [panel["id"] for panel in panels]
    assert len(set(ids)) == len(ids) > 10
    assert all(isinstance(number, int) for number in ids)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert max(x for x, _ in cells) < 24
        assert not taken & cells, panel["title"]
        taken |= cells
    titles = [panel["title"] for panel in panels if panel["type"] != "row"]
    assert len(set(titles)) == len(titles)


def test_the_data_source_is_chosen_by_whoever_loads_it():
    names = {one["name"] for one in BOARD["templating"]["list"]}
    assert names == {"datasource", "instance", "campaign", "site"}
    for panel in BOARD["panels"]:
        if panel["type"] != "row":
            sources = [panel["datasource"], *(target["datasource"] for target in panel["targets"])]
            assert all(source == {"type": "prometheus", "uid": "${datasource}"} for source in sources)
            references = [target["refId"] for target in panel["targets"]]
            assert len(set(references)) == len(references) > 0
    used = {first or second for pair in VARIABLE.findall(json.dumps(BOARD)) for first, second in [pair]}
    assert used - {"__all"} == names
    assert BOARD["uid"] == BOARD["title"] == "onebasin"
    assert BOARD["schemaVersion"] >= 36  # Grafana 10 takes it as it is
    assert "id" not in BOARD  # the one who loads it gives it one
    assert "__inputs" not in BOARD


def test_colours_of_certificates_change_when_the_command_line_warns():
    (panel,) = [panel for panel in BOARD["panels"] if panel["title"] == "Certificates end in"]
    assert panel["fieldConfig"]["defaults"]["thresholds"]["steps"][-1]["value"] == DAYS * 86_400
    (alert,) = [alert for alert in ALERTS if alert["alert"] == "OnebasinCertificateExpiring"]
    assert alert["expr"].endswith(f"< {DAYS} * 86400")


def test_an_alert_says_what_is_wrong_and_what_to_do():
    names = [alert["alert"] for alert in ALERTS]
    assert len(set(names)) == len(names)
    for alert in ALERTS:
        assert alert["labels"]["severity"] in ("warning", "critical")
        assert set(alert["annotations"]) == {"summary", "fix"}
        asked = set(re.findall(r"\$labels\.(\w+)", alert["annotations"]["summary"]))
        known = set().union(*(LABELS.get(name, set()) for name in NAME.findall(alert["expr"])))
        assert asked <= known | GIVEN


def test_states_that_are_asked_for_are_ones_that_there_are():
    from coordinator.members import State

    states = {state.value for state in State}
    known = {
        "onebasin_campaign_state": set(coordinator.readings.STATES),
        "onebasin_campaign_members": states,
        "onebasin_member_state": states,
        "onebasin_site_state": set(client.readings.STATES),
        "onebasin_site_outbox_updates": {"pending", "receipted", "cleared"},
    }
    found = 0
    for expression in expressions():
        for name, selector in re.findall(r"\b(onebasin_\w+)\{([^}]*)\}", expression):
            for value in re.findall(r'\bstate=~?"([^"]*)"', selector):
                assert set(value.split("|")) <= known[name], expression
                found += 1
    assert found > 5


def test_prometheus_scrapes_where_exporters_listen():
    path = DEPLOY / "prometheus" / "prometheus.yaml"
    content = yaml.safe_load(path.read_text())
    targets = [
        target for job in content["scrape_configs"] for one in job["static_configs"] for target in one["targets"]
    ]
    assert targets == [coordinator.metrics.ADDRESS, client.metrics.ADDRESS]
    assert all((path.parent / name).exists() for name in content["rule_files"])


def test_prometheus_understands_rules_and_configuration():
    for kind, name in (("rules", "onebasin.rules.yaml"), ("config", "prometheus.yaml")):
        done = promtool("check", kind, str(DEPLOY / "prometheus" / name))
        assert done.returncode == 0, done.stderr


def test_alerts_fire_when_they_should_and_not_before(tmp_path):
    path = tmp_path / "tests.yaml"
    series = (Path(__file__).parent / "alerts.yaml").read_text()
    path.write_text(series.replace("[RULES]", f"[{DEPLOY}/prometheus/onebasin.rules.yaml]"))
    done = promtool("test", "rules", str(path))
    assert done.returncode == 0, done.stdout + done.stderr
