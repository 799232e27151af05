"""The coordinator's certificate authority vouches for its server, and for nothing else."""

from __future__ import annotations

import datetime
import socket
import ssl
import threading
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from coordinator import certificates
from protos import keyfiles
from protos.errors import ConfigurationError

HOSTS = ("merge.example", "127.0.0.1", "::1")


@pytest.fixture
def folder(tmp_path):
    certificates.make(tmp_path / "keys", HOSTS)
    return tmp_path / "keys"


def certificate(path):
    return x509.load_pem_x509_certificate(path.read_bytes())


def verify(folder, host, ca=None, when=None):
    store = Store([certificate((ca or folder) / "ca.crt")])
    builder = PolicyBuilder().store(store).time(when or datetime.datetime.now(datetime.UTC))
    name = x509.DNSName(host) if host[0].isalpha() else x509.IPAddress(ip_address(host))
    return builder.build_server_verifier(name).verify(certificate(folder / "server.pem"), [])


@pytest.mark.parametrize("host", HOSTS)
def test_the_server_certificate_holds_for_its_hosts(folder, host):
    assert len(verify(folder, host)) == 2


@pytest.mark.parametrize("host", ["other.example", "merge.example.evil", "127.0.0.2"])
def test_the_server_certificate_holds_for_no_other_host(folder, host):
    with pytest.raises(VerificationError):
        verify(folder, host)


def test_another_authority_does_not_vouch_for_it(folder, tmp_path):
    certificates.make(tmp_path / "other", HOSTS)
    with pytest.raises(VerificationError):
        verify(folder, HOSTS[0], ca=tmp_path / "other")


def test_it_holds_now_and_for_about_a_year(folder):
    now = datetime.datetime.now(datetime.UTC)
    verify(folder, HOSTS[0], when=now + datetime.timedelta(days=360))
    for when in (now + datetime.timedelta(days=370), now - datetime.timedelta(days=1)):
        with pytest.raises(VerificationError):
            verify(folder, HOSTS[0], when=when)


def test_the_server_certificate_cannot_sign_others(folder):
    server = certificate(folder / "server.pem")
    assert not server.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert not server.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    ca = certificate(folder / "ca.crt")
    assert ca.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length == 0


def test_renewing_changes_the_servers_certificate_and_not_the_authority(folder):
    before = {name: (folder / name).read_bytes() for name in ("ca.crt", "ca.key", "server.pem", "server.key")}
    certificates.renew(folder, ["new.example"])
    changed = {name for name, content in before.items() if (folder / name).read_bytes() != content}
    assert changed == {"server.pem", "server.key"}
    assert len(verify(folder, "new.example")) == 2
    assert (folder / "server.key").stat().st_mode & 0o777 == 0o600


def test_while_one_authority_takes_over_from_another_nobody_is_locked_out(folder, tmp_path):
    def trusted(content, pem):
        server = x509.load_pem_x509_certificate(pem)
        store = Store(x509.load_pem_x509_certificates(content))
        builder = PolicyBuilder().store(store).time(datetime.datetime.now(datetime.UTC))
        try:
            return bool(builder.build_server_verifier(x509.DNSName("merge.example")).verify(server, []))
        except VerificationError:
            return False

    old = (folder / "ca.crt").read_bytes()
    before = (folder / "server.pem").read_bytes()
    certificates.stage_authority(folder)
    both = (folder / "ca.crt").read_bytes()
    certificates.renew(folder, HOSTS)  # still by the old one
    staged = (folder / "server.pem").read_bytes()
    certificates.switch_authority(folder, HOSTS)
    new, after = (folder / "ca.crt").read_bytes(), (folder / "server.pem").read_bytes()
    assert [trusted(old, pem) for pem in (before, staged, after)] == [True, True, False]
    assert [trusted(both, pem) for pem in (before, staged, after)] == [True, True, True]
    assert [trusted(new, pem) for pem in (before, staged, after)] == [False, False, True]


def test_the_steps_of_an_authoritys_renewal_are_not_taken_out_of_order(folder):
    with pytest.raises(ConfigurationError, match="no new authority is on its way"):
        certificates.switch_authority(folder, HOSTS)
    certificates.stage_authority(folder)
    with pytest.raises(ConfigurationError, match="is on its way already"):
        certificates.stage_authority(folder)


def test_a_certificate_without_its_key_is_named(folder, tmp_path):
    certificates.make(tmp_path / "other", HOSTS)
    (folder / "ca.crt").write_bytes((tmp_path / "other" / "ca.crt").read_bytes())
    with pytest.raises(ConfigurationError, match="has no certificate for"):
        certificates.renew(folder, HOSTS)


def test_keys_belong_to_their_certificates_and_to_their_owner(folder):
    for key, name in (("ca.key", "ca.crt"), ("server.key", "server.pem")):
        private = load_pem_private_key((folder / key).read_bytes(), None)
        assert private.public_key() == certificate(folder / name).public_key()
        assert (folder / key).stat().st_mode & 0o777 == 0o600


def test_a_client_with_the_authority_can_shake_hands_by_address(folder):
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / "server.pem", folder / "server.key")
    client = ssl.create_default_context(cafile=folder / "ca.crt")
    ours, theirs = socket.socketpair()

    def serve() -> None:
        with server.wrap_socket(theirs, server_side=True) as connection:
            connection.sendall(b"hello")

    thread = threading.Thread(target=serve)
    thread.start()
    with client.wrap_socket(ours, server_hostname="127.0.0.1") as connection:
        assert connection.recv(5) == b"hello"
    thread.join()


def test_an_authority_whose_taking_over_was_cut_short_takes_over(folder, monkeypatch):
    certificates.stage_authority(folder)
    replace = Path.replace

    def dying(self, target):
        if self.name == "next-ca.key":
            raise KeyboardInterrupt
        return replace(self, target)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "replace", dying)
        certificates.switch_authority(folder, HOSTS)
    certificates.switch_authority(folder, HOSTS)
    authority = x509.load_pem_x509_certificate((folder / "ca.crt").read_bytes())
    server = x509.load_pem_x509_certificate((folder / "server.pem").read_bytes())
    server.verify_directly_issued_by(authority)
    assert not list(folder.glob("next-*"))


@pytest.fixture
def locked(tmp_path, monkeypatch):
    """Return the folder of an authority whose key has a passphrase, and name a file that holds it."""
    (tmp_path / "passphrase").write_text("correct horse\n")
    (tmp_path / "passphrase").chmod(0o600)
    monkeypatch.setenv(keyfiles.PASSPHRASE_FILE, str(tmp_path / "passphrase"))
    certificates.make(tmp_path / "locked", HOSTS, b"correct horse")
    return tmp_path / "locked"


def test_an_authority_under_a_passphrase_renews_and_is_followed_by_one_under_the_same(locked):
    certificates.renew(locked, ["new.example"])
    verify(locked, "new.example")
    certificates.stage_authority(locked)
    assert keyfiles.is_locked(locked / "ca.key")
    assert keyfiles.is_locked(locked / "next-ca.key")
    certificates.switch_authority(locked, HOSTS)
    verify(locked, HOSTS[0])
    assert keyfiles.is_locked(locked / "ca.key")
    assert not keyfiles.is_locked(locked / "server.key")  # Flower reads it


@pytest.mark.parametrize("change", [lambda f: certificates.renew(f, HOSTS), certificates.stage_authority])
def test_with_a_wrong_passphrase_an_authority_changes_nothing(locked, tmp_path, change):
    before = {path.name: path.read_bytes() for path in locked.iterdir()}
    (tmp_path / "passphrase").write_text("wrong horse\n")
    with pytest.raises(ConfigurationError, match=r"the passphrase of .*ca.key is wrong"):
        change(locked)
    assert {path.name: path.read_bytes() for path in locked.iterdir()} == before


def test_an_authority_is_not_overwritten(folder):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(ConfigurationError, match="there is a key already"):
        certificates.make(folder, HOSTS)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
