"""How the coordinator starts Flower's programs and talks to them."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from coordinator import roster, superlink
from coordinator.home import Home
from protos import code
from protos.errors import ConfigurationError, FederationError


@pytest.fixture
def taken():
    """A port of loopback that is in use."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def free() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def home(tmp_path):
    def made(fleet: str | None = None, control: int | None = None) -> Home:
        return Home.init(
            tmp_path / "coordinator",
            hosts=("127.0.0.1",),
            control_port=control or free(),
            fleet_address=fleet or f"127.0.0.1:{free()}",
        )

    return made


def test_the_superlink_speaks_tls_knows_its_nodes_and_installs_nothing(home):
    found = home()
    command = superlink.superlink_command(found)
    assert command[:3] == [sys.executable, "-m", "coordinator.flower_superlink"]
    assert "--insecure" not in command
    assert {"--enable-supernode-auth", "--disable-runtime-dependency-installation"} <= set(command)
    for option, name in (
        ("--ssl-ca-certfile", "ca.crt"),
        ("--ssl-certfile", "server.pem"),
        ("--ssl-keyfile", "server.key"),
    ):
        assert Path(command[command.index(option) + 1]) == found.keys / name
    assert command[command.index("--host") + 1] == "127.0.0.1"  # the Control API has no accounts


def test_a_fleet_port_in_use_is_named(home, taken):
    with pytest.raises(FederationError, match=rf"port {taken} of 127\.0\.0\.1, which sites connect to"):
        superlink.superlink_command(home(fleet=f"127.0.0.1:{taken}"))


def test_a_control_port_in_use_is_named(home, taken):
    with pytest.raises(FederationError, match=f"port {taken} .*control_port"):
        superlink.superlink_command(home(control=taken))


@pytest.mark.parametrize("address", ["nowhere", "127.0.0.1:", "127.0.0.1:http", "127.0.0.1:99999"])
def test_an_address_that_is_none_is_a_configuration_error(home, address):
    with pytest.raises(ConfigurationError, match="is no address"):
        superlink.superlink_command(home(fleet=address))


def test_a_superlink_that_is_up_is_waited_for_no_longer(home, taken):
    superlink.wait(home(control=taken), lambda: pytest.fail("looked once more"), Path("superlink.log"))


def test_a_superlink_that_does_not_come_up_is_an_error_that_names_its_log(home, monkeypatch):
    monkeypatch.setattr(superlink, "_UP", 0.3)
    looked = []
    with pytest.raises(FederationError, match="did not come up") as caught:
        superlink.wait(home(), lambda: looked.append(1), Path("logs/superlink.log"))
    assert caught.value.fix == "see logs/superlink.log"
    assert looked


def test_what_goes_wrong_while_a_superlink_is_waited_for_is_not_waited_out(home):
    def check():
        raise FederationError("it ended")

    with pytest.raises(FederationError, match="it ended"):
        superlink.wait(home(), check, Path("superlink.log"))


def test_flwr_is_told_where_the_superlink_is(home):
    found = home()
    superlink.write_connection(found)
    written = tomllib.loads((found.flower / "config.toml").read_text())["superlink"]
    connection = written[written["default"]]
    assert connection["address"] == f"127.0.0.1:{found.settings.control_port}"
    assert Path(connection["root-certificates"]).exists()
    assert "insecure" not in connection


@pytest.fixture
def flwr(monkeypatch):
    """Replace the `flwr` program; returns its command lines."""
    calls = []

    def answering(stdout: str = '{"success": true}', code: int = 0, stderr: str = ""):
        def run(command, **options):
            calls.append(command)
            return subprocess.CompletedProcess(command, code, stdout, stderr)

        monkeypatch.setattr(superlink.subprocess, "run", run)
        return calls

    return answering


def test_a_run_is_submitted_with_its_campaigns_folder(world, flwr):
    calls = flwr('some words before\n{"success": true, "run-id": "123"}\n')
    assert superlink.submit(world.folder) == "123"
    command = calls[0]
    assert command[:2] == ["flwr", "run"]
    assert Path(command[2]).name == "bundle"
    setting = command[command.index("--run-config") + 1]
    assert tomllib.loads(setting) == {"campaign-folder": str(world.folder.path)}


def test_a_site_that_is_registered_already_is_fine(world, flwr):
    flwr('{"success": false, "error-message": "Public key ALREADY in use"}', 1)
    superlink.register(world.home, world.sites["fog"].request())
    kept = (world.home.folder / "sites" / "fog" / "node.pub").read_text()
    assert kept.strip() == world.sites["fog"].request().node_key


@pytest.mark.parametrize(
    ("stdout", "code", "stderr", "said"),
    [
        ('{"success": false, "error-message": "no such run"}', 0, "", "no such run"),
        ("", 1, "connection refused", "connection refused"),
        ("nonsense", 0, "", "nonsense"),
        ("{broken", 1, "", "{broken"),
    ],
)
def test_what_flwr_says_when_it_fails_is_passed_on(world, flwr, stdout, code, stderr, said):
    flwr(stdout, code, stderr)
    with pytest.raises(FederationError, match="flwr stop 7 failed") as caught:
        superlink.stop_run(world.home, "7")
    assert said in caught.value.what
    assert "onebasin coordinator superlink" in caught.value.fix


def test_flwr_that_does_not_answer_is_a_federation_error(world, monkeypatch):
    def run(command, **options):
        raise subprocess.TimeoutExpired(command, options["timeout"])

    monkeypatch.setattr(superlink.subprocess, "run", run)
    with pytest.raises(FederationError, match="flwr list did not answer within 120 s"):
        superlink.run_status(world.home, "7")


@pytest.mark.parametrize(("runs", "status"), [([{"status": "running"}], "running"), ([], "unknown")])
def test_a_runs_status_is_flowers(world, flwr, runs, status):
    flwr(json.dumps({"success": True, "runs": runs}))
    assert superlink.run_status(world.home, "7") == status


def test_a_campaign_whose_code_is_another_is_not_submitted(world, flwr, monkeypatch):
    calls = flwr()
    monkeypatch.setattr(code, "installed_digest", lambda: "0" * 64)
    with pytest.raises(
        ConfigurationError, match="the bundle of this onebasin is not the one that campaign one names"
    ):
        superlink.submit(world.folder)
    assert not calls


def test_a_registered_nodes_number_is_kept_and_used_to_take_it_back(world, flwr):
    calls = flwr('{"success": true, "node-id": 4711}')
    superlink.register(world.home, world.sites["fog"].request())
    assert roster.site_of(world.home, 4711) == "fog"
    assert roster.site_of(world.home, 12) == ""
    superlink.unregister(world.home, "fog")
    assert calls[-1][:4] == ["flwr", "supernode", "unregister", "4711"]
    assert roster.site_of(world.home, 4711) == ""
    superlink.unregister(world.home, "fog")
    assert len(calls) == 2
