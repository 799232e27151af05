"""Where the page listens, who can reach it there, and what is said if it can't."""

from __future__ import annotations

import ssl
import stat
import threading
import urllib.error
import urllib.request
from contextlib import contextmanager

import pytest

from coordinator.page import access
from coordinator.page.serving import Place, Server, is_loopback
from protos.errors import ConfigurationError


@contextmanager
def running(server: Server):
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield
    finally:
        server.stop()
        thread.join(20)
        assert not thread.is_alive()


def get(address: str | urllib.request.Request, context: ssl.SSLContext | None = None):
    handlers = [urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)]
    with urllib.request.build_opener(*handlers).open(address, timeout=20) as answer:
        return answer.status, dict(answer.headers), answer.read().decode()


def test_on_loopback_it_is_served_plainly_and_nothing_is_said_of_the_server(world):
    server = Server(world.home, Place(port=0))
    assert server.address.startswith("http://127.0.0.1:")
    with running(server):
        status, headers, body = get(server.address)
        with pytest.raises(urllib.error.HTTPError, match="421"):
            get(urllib.request.Request(server.address, headers={"Host": "evil.example"}))
    assert (status, "Log in" in body, headers.get("server")) == (200, True, None)
    assert headers["x-frame-options"] == "DENY"


def test_elsewhere_it_is_served_over_tls_with_the_coordinators_certificate(world):
    server = Server(world.home, Place("0.0.0.0", 0))
    assert server.address.startswith("https://")
    port = server.address.rstrip("/").rpartition(":")[2]
    context = ssl.create_default_context(cafile=str(world.home.keys / "ca.crt"))
    with running(server):
        status, headers, _ = get(f"https://localhost:{port}/login", context)
        assert (status, "Secure" in headers["set-cookie"]) == (200, True)
        with pytest.raises(OSError):
            get(f"http://localhost:{port}/login")


def test_another_certificate_can_be_given_with_its_key(world):
    keys = world.home.keys
    place = Place(port=0, certificate=keys / "server.pem", key=keys / "server.key")
    server = Server(world.home, place)
    assert server.address.startswith("https://127.0.0.1:")
    server._socket.close()
    for certificate, key in (("ca.crt", "server.key"), ("server.pem", "signing.pem"), ("none", "server.key")):
        with pytest.raises(ConfigurationError, match="no certificate that can be served"):
            Server(world.home, Place(port=0, certificate=keys / certificate, key=keys / key))
    for only in ({"certificate": keys / "server.pem"}, {"key": keys / "server.key"}):
        with pytest.raises(ConfigurationError, match="give both"):
            Server(world.home, Place(port=0, **only))


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        *((host, True) for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost")),
        *((host, False) for host in ("0.0.0.0", "::", "10.0.0.1", "localhost.example", "", "2130706433")),
    ],
)
def test_only_loopback_counts_as_loopback(host, loopback):
    assert is_loopback(host) is loopback


def test_the_token_is_made_once_and_is_its_owners_alone(world, tmp_path):
    path = tmp_path / "page.token"
    first = access.token(path)
    assert len(first) == 43
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert access.token(path) == first
    assert access.token(path, anew=True) != first
    path.chmod(0o640)
    with pytest.raises(ConfigurationError, match="can be read by others"):
        access.token(path)
    path.chmod(0o600)
    path.write_text("short\n")
    with pytest.raises(ConfigurationError, match="is too short"):
        access.token(path)
