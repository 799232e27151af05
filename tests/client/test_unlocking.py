"""The node's key under a passphrase, while a SuperNode runs."""

from __future__ import annotations

import subprocess
import sys

import pytest
from cryptography.hazmat.primitives.serialization import load_ssh_private_key, load_ssh_public_key

from client import unlocking
from client.site import Site
from protos import keyfiles

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
