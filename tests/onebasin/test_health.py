"""Both sides' health, as it is typed, against servers and processes that are real but small."""

from __future__ import annotations

import http.server
import json
import socket
import ssl
import subprocess
import sys
import threading
import time

import pytest

from coordinator.home import Home


class Quiet(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_error(404)

    def log_message(self, *_: object) -> None:
        pass


def served(server: http.server.HTTPServer, home: Home):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(home.keys / "server.pem", home.keys / "server.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()


@pytest.fixture
def superlink(tmp_path):
    """Return a coordinator, and its two ports open as its SuperLink's would be."""
    control, fleet = (http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) for _ in range(2))
    home = Home.init(
        tmp_path / "coordinator",
        hosts=("merge.example",),
        control_port=control.server_port,
        fleet_address=f"0.0.0.0:{fleet.server_port}",
    )
    for server in (control, fleet):
        served(server, home)
    yield home, control, fleet
    for server in (control, fleet):
        server.shutdown()
        server.server_close()


def states(out: str) -> dict[str, str]:
    return {finding["what"]: finding["state"] for finding in json.loads(out)["findings"]}


def test_a_superlink_that_answers_and_lets_sites_in_is_well(onebasin, superlink):
    home, *_ = superlink
    code, out, _ = onebasin("coordinator", "health", home.folder, "--json")
    assert code == 0
    assert states(out) == dict.fromkeys(("SuperLink", "reachable", "TLS", "server certificate"), "ok")
    code, out, _ = onebasin("coordinator", "health", home.folder)
    assert code == 0
    assert "SuperLink: ok" in out


def test_one_that_lets_no_site_in_is_alive_but_not_well(onebasin, superlink):
    home, _, fleet = superlink
    fleet.shutdown()
    fleet.server_close()
    code, out, err = onebasin("coordinator", "health", home.folder)
    assert code == 15
    assert "reachable: bad" in out
    assert "→" in out
    assert "the coordinator is not ready: reachable" in err
    code, out, _ = onebasin("coordinator", "health", home.folder, "--live", "--json")
    assert (code, states(out)) == (0, {"SuperLink": "ok"})


def test_a_superlink_with_another_certificate_than_sites_trust_is_not_well(onebasin, superlink):
    from coordinator import certificates

    home, *_ = superlink
    for name in ("ca.crt", "ca.key", "server.pem", "server.key"):
        (home.keys / name).unlink()
    certificates.make(home.keys, ["localhost", "127.0.0.1"])
    code, out, _ = onebasin("coordinator", "health", home.folder, "--json")
    assert code == 15
    assert states(out) == {"SuperLink": "bad", "reachable": "ok", "TLS": "bad"}


def test_a_port_that_is_open_but_silent_is_not_an_answer(onebasin, superlink, monkeypatch):
    from coordinator import health

    home, *_ = superlink
    monkeypatch.setattr(health, "TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        text = home.settings_path.read_text()
        port = silent.getsockname()[1]
        home.settings_path.write_text(text.replace(str(home.settings.control_port), str(port)))
        code, out, _ = onebasin("coordinator", "health", home.folder, "--live", "--json")
    assert (code, states(out)) == (15, {"SuperLink": "bad"})


def test_no_coordinator_and_no_site_are_errors_of_their_own(onebasin, tmp_path):
    for side in ("coordinator", "site"):
        code, _, err = onebasin(side, "health", tmp_path)
        assert code == 3
        assert "init" in err


_NODE = """
import socket, sys, time
if int(sys.argv[3]):
    held = socket.create_connection(("127.0.0.1", int(sys.argv[3])))
print("up", flush=True)
time.sleep(60)
"""


@pytest.fixture
def node(world):
    """Start what looks like the SuperNode of a site: its command line, and its connection if a port is given."""
    started = []

    def start(site: str, port: int) -> None:
        command = [
            sys.executable,
            "-c",
            _NODE,
            "client.flower_supernode",
            str(world.sites[site].folder),
            str(port),
        ]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture
def fog(world):
    """Return a site that is told to connect to a port of loopback that listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        site, port = world.sites["fog"], listener.getsockname()[1]
        text = site.settings_path.read_text()
        lines = [line for line in text.splitlines() if not line.startswith("address")]
        if "[superlink]" in lines:
            lines.insert(lines.index("[superlink]") + 1, f'address = "127.0.0.1:{port}"')
        else:
            lines += ["[superlink]", f'address = "127.0.0.1:{port}"']
        site.settings_path.write_text("\n".join(lines))
        yield site, port


def test_a_supernode_that_runs_and_is_connected_is_well(onebasin, fog, node):
    site, port = fog
    node("fog", port)
    code, out, _ = onebasin("site", "health", site.folder, "--json")
    assert (code, states(out)) == (0, {"SuperNode": "ok", "connection": "ok"})


def test_one_without_a_connection_is_alive_but_not_well(onebasin, fog, node):
    site, _ = fog
    node("fog", 0)
    code, out, _ = onebasin("site", "health", site.folder)
    assert code == 15
    assert "connection: bad" in out
    code, out, _ = onebasin("site", "health", site.folder, "--live", "--json")
    assert (code, states(out)) == (0, {"SuperNode": "ok"})


def test_another_sites_supernode_does_not_count(onebasin, fog, node, world):
    site, port = fog
    node(next(name for name in world.sites if name != "fog"), port)
    code, out, _ = onebasin("site", "health", site.folder, "--json")
    assert (code, states(out)) == (15, {"SuperNode": "bad"})


def test_one_can_wait_until_all_is_well(onebasin, fog, node, monkeypatch):
    from protos import health

    site, port = fog
    slept = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        node("fog", port)

    monkeypatch.setattr(health, "time", type("Clock", (), {"monotonic": time.monotonic, "sleep": sleep}))
    code, _, _ = onebasin("site", "health", site.folder, "--wait", "60")
    assert (code, len(slept)) == (0, 1)
