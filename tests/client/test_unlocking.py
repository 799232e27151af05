"""Keys under a passphrase, while a SuperNode runs."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from cryptography.hazmat.primitives.serialization import load_ssh_private_key, load_ssh_public_key

from client import unlocking
from client.site import Site
from protos import keyfiles, signing
from protos.errors import ConfigurationError

SECRET = b"correct horse"


@pytest.fixture
def locked(tmp_path):
    return Site.init(tmp_path / "fog", "fog", domain="night", passphrase=SECRET)


@pytest.fixture
def named(tmp_path, monkeypatch):
    path = tmp_path / "passphrase"
    path.write_bytes(SECRET)
    path.chmod(0o600)
    monkeypatch.setenv(keyfiles.PASSPHRASE_FILE, str(path))


@pytest.fixture
def typed(monkeypatch):
    monkeypatch.delenv(keyfiles.PASSPHRASE_FILE, raising=False)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr(keyfiles.getpass, "getpass", lambda _: SECRET.decode())


def test_no_private_key_of_a_locked_site_is_in_the_clear(locked):
    for name in ("signing.pem", "agreement.pem", "node"):
        assert (locked.keys / name).read_bytes().startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")


def test_the_request_and_the_fingerprint_need_no_passphrase(locked, monkeypatch):
    monkeypatch.setattr(keyfiles, "passphrase", lambda _: pytest.fail("asked"))
    assert Site.open(locked.folder).request().site == "fog"


def test_a_child_reads_the_nodes_key_as_flower_does_and_nothing_stays_behind(locked, named):
    before = set(locked.folder.rglob("*"))
    program = "import pathlib, sys; sys.stdout.buffer.write(pathlib.Path(sys.argv[1]).expanduser().read_bytes())"
    with unlocking.node_key(locked) as (path, handed):
        done = subprocess.run([sys.executable, "-c", program, path], pass_fds=handed, capture_output=True)
    key = load_ssh_private_key(done.stdout, None)
    assert key.public_key() == load_ssh_public_key(locked.request().node_key.encode())
    assert set(locked.folder.rglob("*")) == before


def test_an_unlocked_node_key_is_read_from_its_file(tmp_path):
    site = Site.init(tmp_path / "fog", "fog", domain="night")
    with unlocking.node_key(site) as (path, handed):
        assert (path, handed) == (str(site.node_key), ())
    with unlocking.passphrase(site) as variables:
        assert not variables


@pytest.mark.skipif(sys.platform != "linux", reason="files without a name")
def test_a_typed_passphrase_reaches_a_childs_child_and_is_gone_afterwards(locked, typed):
    program = (
        "import pathlib, sys; from client.site import Site; from protos import signing; "
        "print(signing.public_bytes(Site(pathlib.Path(sys.argv[1])).signing_key).hex())"
    )
    nested = (
        f"import subprocess, sys; subprocess.run([sys.executable, '-c', {program!r}, sys.argv[1]], check=True)"
    )
    with unlocking.passphrase(locked) as variables:
        env = {**os.environ, **variables}
        done = subprocess.run(
            [sys.executable, "-c", nested, str(locked.folder)],
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        assert done.stdout.strip() == locked.request().signing_key.hex(), done.stderr
        assert SECRET.decode() not in str(variables)
    (path,) = variables.values()
    with pytest.raises(OSError):
        open(path).close()  # noqa: PTH123


def test_a_passphrase_file_is_handed_on_by_the_environment_as_it_is(locked, named):
    with unlocking.passphrase(locked) as variables:
        assert not variables
    assert signing.public_bytes(locked.signing_key) == locked.request().signing_key


def test_a_system_without_files_without_a_name_needs_a_passphrase_file(locked, typed, monkeypatch):
    monkeypatch.delattr(unlocking.os, "memfd_create", raising=False)
    with pytest.raises(ConfigurationError, match="can't be handed on"), unlocking.passphrase(locked):
        pass
