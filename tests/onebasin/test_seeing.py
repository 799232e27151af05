"""Metrics and the log's form, as they are typed; and that docs/metrics.md says what there is."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

import client.readings
import coordinator.readings
from onebasin import cli
from protos import logs, metrics
from protos.errors import ConfigurationError, QuorumError

ROOT = Path(__file__).parents[2]
TABLES = ((coordinator.readings.TABLE, "coordinator"), (client.readings.TABLE, "site"), (metrics.COMMON, "both"))


@pytest.fixture(autouse=True)
def form(monkeypatch):
    """Put back the form of lines that a test asks for."""
    monkeypatch.setenv(logs.VARIABLE, logs.TEXT)
    monkeypatch.delenv(logs.MARK, raising=False)
    monkeypatch.setattr(logs, "_about", {"campaign": "", "site": ""})


def rows() -> list[str]:
    """Return the lines of the table in the documentation."""
    found = ["| metric | kind | labels | at | what it says |", "|---|---|---|---|---|"]
    for table, side in TABLES:
        for metric in table:
            labels = ", ".join(f"`{label}`" for label in metric.labels)
            found.append(f"| `{metric.name}` | {metric.kind} | {labels} | {side} | {metric.help} |")
    return found


def alerts() -> list[str]:
    rules = yaml.safe_load((ROOT / "deploy" / "prometheus" / "onebasin.rules.yaml").read_text())
    found = ["| alert | severity | what to do |", "|---|---|---|"]
    for rule in rules["groups"][0]["rules"]:
        found.append(f"| `{rule['alert']}` | {rule['labels']['severity']} | {rule['annotations']['fix']} |")
    return found


@pytest.mark.parametrize(("name", "wanted"), [("table", rows), ("alerts", alerts)])
def test_the_documentation_lists_all_there_is(name, wanted):
    text = (ROOT / "docs" / "metrics.md").read_text()
    found = re.search(rf"<!-- {name} -->\n(.*?)\n?<!-- end of the {name} -->", text, re.DOTALL)
    assert found[1].splitlines() == wanted()


def test_names_are_as_prometheus_wants_them():
    names = [metric.name for table, _ in TABLES for metric in table]
    assert len(set(names)) == len(names)
    for table, _ in TABLES:
        for metric in table:
            assert re.fullmatch(r"onebasin_[a-z_]+", metric.name)
            assert (metric.kind == metrics.COUNTER) == metric.name.endswith("_total")
            assert not metric.help.endswith(".")
            assert not {"le", "quantile", "instance", "job"} & set(metric.labels)


@pytest.mark.parametrize("side", ["coordinator", "site"])
def test_metrics_can_be_printed(onebasin, world, side):
    folder = world.home.folder if side == "coordinator" else world.sites["fog"].folder
    code, out, err = onebasin(side, "metrics", folder, "--once")
    assert (code, err) == (0, "")
    assert "onebasin_up 1.0\n" in out


def test_what_a_command_prints_is_in_the_table(onebasin, world, tmp_path):
    world.folder.begin()
    listed = {metric.name: metric for table, _ in TABLES for metric in table}
    for side, folder in (("coordinator", world.home.folder), ("site", world.sites["fog"].folder)):
        path = tmp_path / f"{side}.prom"
        assert onebasin(side, "metrics", folder, "--textfile", path)[0] == 0
        found = {
            f"{family.name}_total" if family.type == "counter" else family.name: family
            for family in text_string_to_metric_families(path.read_text())
        }
        assert found.keys() <= listed.keys()
        assert len(found) > 12
        for name, family in found.items():
            assert family.type == listed[name].kind
            assert all(set(sample.labels) == set(listed[name].labels) for sample in family.samples)


def test_a_folder_without_a_coordinator_or_an_address_that_is_none_is_named(onebasin, world, tmp_path):
    assert onebasin("coordinator", "metrics", tmp_path / "nowhere")[0] == ConfigurationError.exit_code
    code, _, err = onebasin("site", "metrics", world.sites["fog"].folder, "--address", "9110")
    assert code == ConfigurationError.exit_code
    assert "'9110' is no address" in err


# ------------------------------------------------------------------------ logs


def test_an_error_is_a_line_too(onebasin, tmp_path):
    code, out, err = onebasin("--log-format", "json", "site", "show", tmp_path)
    assert (code, out) == (ConfigurationError.exit_code, "")
    found = json.loads(err)
    assert tuple(found)[: len(logs.FIRST)] == logs.FIRST
    assert (found["level"], found["event"], found["exit_code"]) == ("error", "error", code)
    assert found["message"] == f"there is no site in {tmp_path}"
    assert found["fix"] == "make one: onebasin site init"


@pytest.mark.parametrize("form", ["text", "json"])
def test_the_variable_and_the_option_do_the_same(onebasin, tmp_path, monkeypatch, form):
    monkeypatch.setenv(logs.VARIABLE, form)
    by_variable = onebasin("site", "show", tmp_path)[2]
    monkeypatch.setenv(logs.VARIABLE, "text" if form == "json" else "json")
    by_option = onebasin("--log-format", form, "site", "show", tmp_path)[2]
    assert by_variable.startswith("{") == by_option.startswith("{") == (form == "json")


def test_a_form_that_there_is_not_is_wrong_usage(onebasin, monkeypatch, tmp_path):
    monkeypatch.setenv(logs.VARIABLE, "xml")
    assert onebasin("site", "show", tmp_path)[0] == 2


def test_a_run_that_is_followed_says_campaign_and_site_in_every_line(onebasin, world):
    world.folder.begin()
    events = world.folder.log()
    events.note("started")
    events.note("connected", "fog", node=7)
    events.note("progress", "fog", state="adapting", phase="adapt", step=3, steps=9, eta=float("inf"))
    events.note("refused", "night", message="site night: no", reason="update")
    world.folder.end(ok=False, exit_code=QuorumError.exit_code, what="too few", fix="")
    code, out, err = onebasin("--log-format", "json", "coordinator", "watch", world.home.folder, "one")
    assert code == QuorumError.exit_code
    found = [json.loads(line) for line in (out + err).splitlines()]
    assert [line["event"] for line in found] == ["started", "connected", "progress", "refused", "error"]
    assert {line["campaign"] for line in found} == {"one"}
    assert [line["site"] for line in found] == ["", "fog", "fog", "night", ""]
    assert [line["level"] for line in found] == ["info", "info", "info", "warning", "error"]
    assert (found[2]["step"], found[2]["eta"]) == (3, None)
    assert found[3]["reason"] == "update"
    text = onebasin("--log-format", "text", "coordinator", "watch", world.home.folder, "one")[1]
    assert "fog: connected" in text
    assert "{" not in text


def test_the_options_forms_are_the_ones_that_there_are():
    assert {form.value for form in cli.LogFormat} == {logs.TEXT, logs.JSON}
