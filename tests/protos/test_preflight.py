"""Looking before the start: what is wrong is found, and each finding says what to do."""

from __future__ import annotations

import datetime
import socket
import ssl
import threading
from contextlib import contextmanager, suppress

import pytest

from coordinator import certificates
from protos import preflight
from protos.errors import ConfigurationError, PreflightError
from protos.preflight import BAD, GOOD, WARNING, Finding


@pytest.fixture
def keys(tmp_path):
    certificates.make(tmp_path / "keys", ["localhost"])
    return tmp_path / "keys"


@contextmanager
def served(folder, *, tls: bool = True):
    """A server on loopback that shakes hands, or only accepts connections."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem", folder / "server.key")
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with listener.accept()[0] as connection:
                if not tls:
                    return
                with suppress(OSError):
                    context.wrap_socket(connection, server_side=True).close()

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"localhost:{listener.getsockname()[1]}"
        thread.join()


def states(found):
    return {finding.what: finding.state for finding in found}


def test_a_superlink_that_the_authority_vouches_for_is_reachable(keys):
    with served(keys) as address:
        found = list(preflight.reachable(address, keys / "ca.crt", "renew"))
    assert states(found) == {"reachable": GOOD, "TLS": GOOD, "server certificate": GOOD}


def test_a_man_in_the_middle_with_another_authority_is_found(keys, tmp_path):
    certificates.make(tmp_path / "eve", ["localhost"])
    with served(tmp_path / "eve") as address:
        found = list(preflight.reachable(address, keys / "ca.crt", "renew"))
    assert states(found) == {"reachable": GOOD, "TLS": BAD}
    assert "renew" in found[-1].fix


def test_a_certificate_for_another_host_is_found(keys):
    certificates.renew(keys, ["elsewhere.example"])
    with served(keys) as address:
        assert states(preflight.reachable(address, keys / "ca.crt", "x"))["TLS"] == BAD


def test_an_expired_certificate_is_found(keys, monkeypatch):
    monkeypatch.setattr(certificates, "_YEAR", datetime.timedelta(seconds=-60))
    certificates.renew(keys, ["localhost"])
    with served(keys) as address:
        _, handshake = preflight.reachable(address, keys / "ca.crt", "renew it")
    assert (handshake.state, handshake.fix) == (BAD, "renew it")
    assert "expired" in handshake.found
    assert states(preflight.certificate(keys / "server.pem", "server certificate", "renew it")) == {
        "server certificate": BAD
    }


@pytest.mark.parametrize(
    "address", ["127.0.0.1:1", "nowhere.invalid:1", "localhost:http", "localhost", "localhost:99999"]
)
def test_what_cannot_be_reached_is_bad_and_no_traceback(keys, address):
    (found,) = preflight.reachable(address, keys / "ca.crt", "x")
    assert (found.what, found.state) == ("reachable", BAD)
    assert found.fix


def test_a_server_that_speaks_no_tls_is_bad(keys):
    with served(keys, tls=False) as address:
        assert BAD in states(preflight.reachable(address, keys / "ca.crt", "x")).values()


def test_keys_that_others_read_or_that_are_missing_are_found(keys):
    names = ("ca.key", "server.key")
    assert states(preflight.keys(keys, names)) == {"keys": GOOD}
    (keys / "ca.key").chmod(0o644)
    (found,) = preflight.keys(keys, names)
    assert (found.what, found.state, found.fix) == ("permissions", BAD, f"chmod 600 {keys / 'ca.key'}")
    keys.chmod(0o755)
    (keys / "server.key").unlink()
    assert states(preflight.keys(keys, names)) == {"keys": BAD, "permissions": BAD}


def test_a_folder_of_keys_that_is_gone_is_found(keys):
    (found,) = preflight.keys(keys / "none", ("signing.pem", "node"))
    assert (found.what, found.state, found.found) == ("keys", BAD, "missing: signing.pem, node")


def test_a_disk_without_room_is_found(tmp_path):
    assert states(preflight.disk(tmp_path, 0)) == {"disk": GOOD}
    assert states(preflight.disk(tmp_path, 1 << 60)) == {"disk": BAD}


def test_a_clock_before_what_was_signed_is_found():
    now = datetime.datetime.now(datetime.UTC)
    assert states(preflight.not_before(now - datetime.timedelta(days=1), "it")) == {"clock": GOOD}
    assert states(preflight.not_before(now + datetime.timedelta(days=1), "it")) == {"clock": BAD}


def test_versions_that_onebasin_does_not_run_with_are_found(monkeypatch):
    assert states(preflight.versions()) == {"versions": GOOD}
    monkeypatch.setattr(preflight, "version", lambda _: "1.40.0")
    assert states(preflight.versions()) == {"versions": BAD}


def test_an_error_is_a_finding_and_the_next_look_follows():
    def fail():
        raise ConfigurationError("it broke", "mend it")
        yield

    found = list(preflight.findings([("first", fail), ("second", lambda: [Finding("second", WARNING, "x")])]))
    assert found == [Finding("first", BAD, "it broke", "mend it"), Finding("second", WARNING, "x")]
    assert preflight.as_json(found)["ready"] is False
    with pytest.raises(PreflightError, match="it is not ready: first"):
        preflight.check(found, "it")
    preflight.check(found[1:], "it")
