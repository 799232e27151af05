"""The compose files: what is confined, what is open, and that their commands exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from coordinator.home import Home
from coordinator.settings import CoordinatorSettings
from protos import keyfiles

FOLDER = Path(__file__).parents[2] / "deploy" / "compose"
FILES = sorted(path.name for path in FOLDER.glob("*.yaml"))
WHOLE = ["coordinator.yaml", "site.yaml"]
SERVICES = [
    (name, service) for name in WHOLE for service in yaml.safe_load((FOLDER / name).read_text())["services"]
]
NEVER = {"privileged", "cap_add", "devices", "pid", "ipc", "userns_mode", "build", "env_file"}
FORBIDDEN = re.compile(r"docker\.sock|/proc|/sys|:/$|unconfined|https?://")


def opened(name: str) -> dict:
    return yaml.safe_load((FOLDER / name).read_text())


def test_all_files_are_known_here():
    assert FILES == [
        "coordinator.passphrase.yaml",
        "coordinator.yaml",
        "site.gpu.yaml",
        "site.passphrase.yaml",
        "site.yaml",
    ]


@pytest.mark.parametrize("name", FILES)
def test_a_file_has_no_key_that_loosens_anything(name):
    content = opened(name)
    assert set(content) <= {"name", "services", "secrets", "x-confined"}
    for service in content["services"].values():
        assert not NEVER & set(service)
        assert service.get("network_mode") in (None, "none", "service:superlink")
    assert not FORBIDDEN.search((FOLDER / name).read_text())


@pytest.mark.parametrize(("name", "service"), SERVICES)
def test_a_service_is_confined(name, service):
    found = opened(name)["services"][service]
    assert found["read_only"] is True
    assert found["cap_drop"] == ["ALL"]
    assert found["security_opt"] == ["no-new-privileges:true"]
    assert found["user"] == "10001:10001"
    assert found["image"].startswith("${ONEBASIN_IMAGE:?")  # nothing runs by a name that somebody forgot
    for limit in ("mem_limit", "cpus", "pids_limit"):
        assert found[limit]
    assert all(mount.startswith("/tmp:rw,nosuid,nodev,size=") for mount in found["tmpfs"])
    assert found["logging"]["options"]["max-size"]


@pytest.mark.parametrize(("name", "service"), SERVICES)
def test_the_commands_of_a_service_exist(understood, name, service):
    found = opened(name)["services"][service]
    entry, command = found.get("entrypoint", ["onebasin"]), found.get("command", ["autumn"])
    assert entry[0] == "onebasin"
    understood([*entry[1:], *command])
    check = found["healthcheck"]
    if "test" in check:
        assert check["test"][:2] == ["CMD", "onebasin"]
        understood(check["test"][2:])
    else:
        assert check == {"disable": True}
        assert found["profiles"]  # a job, not a server


def test_only_the_fleet_api_is_published():
    published = {(name, service): opened(name)["services"][service].get("ports", []) for name, service in SERVICES}
    assert published.pop(("coordinator.yaml", "superlink")) == ["${ONEBASIN_LISTEN:-0.0.0.0}:9092:9092"]
    assert not any(published.values())


def test_a_campaign_reaches_the_control_api_over_the_superlinks_own_loopback():
    services = opened("coordinator.yaml")["services"]
    assert services["campaign"]["network_mode"] == "service:superlink"
    assert services["campaign"]["volumes"] == services["superlink"]["volumes"]  # the run's folder has one name


def test_adapting_has_no_network():
    assert opened("site.yaml")["services"]["adapt"]["network_mode"] == "none"


@pytest.mark.parametrize("name", ["site.gpu.yaml", "site.passphrase.yaml", "coordinator.passphrase.yaml"])
def test_what_is_added_fits_the_file_that_it_is_added_to(name):
    to = f"{name.partition('.')[0]}.yaml"
    assert set(opened(name)["services"]) == set(opened(to)["services"])


@pytest.mark.parametrize("name", ["site.passphrase.yaml", "coordinator.passphrase.yaml"])
def test_the_passphrase_is_a_file_that_the_code_reads(name):
    content = opened(name)
    for service in content["services"].values():
        assert service["environment"] == {keyfiles.PASSPHRASE_FILE: "/run/secrets/passphrase"}
        assert service["secrets"] == ["passphrase"]
    assert list(content["secrets"]["passphrase"]) == ["file"]


def test_folders_in_the_commands_lie_on_the_volume():
    for name, service in SERVICES:
        found = opened(name)["services"][service]
        words = [*found.get("entrypoint", []), *found.get("command", []), *found["healthcheck"].get("test", [])]
        folders = {word for word in words if word.startswith("/")}
        assert folders
        assert all(folder.startswith("/data/") for folder in folders)
        assert any(volume.endswith(":/data") for volume in found["volumes"])


def test_the_published_port_is_the_one_that_a_coordinator_listens_on(tmp_path):
    from typer.testing import CliRunner

    from onebasin.cli import app

    assert CliRunner().invoke(app, ["coordinator", "init", str(tmp_path / "made")]).exit_code == 0
    settings: CoordinatorSettings = Home.open(tmp_path / "made").settings
    (port,) = opened("coordinator.yaml")["services"]["superlink"]["ports"]
    assert port.endswith(f":{settings.fleet_address.rpartition(':')[2]}")
    assert not port.endswith(f":{settings.control_port}")
