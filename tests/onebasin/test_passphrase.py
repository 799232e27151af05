"""A coordinator whose keys have a passphrase: who is asked for it, who isn't, and how it is handed on."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from coordinator import strategy
from coordinator.home import Home
from coordinator.strategy import OneShotMerge
from protos import keyfiles, signing
from protos.errors import ConfigurationError, FederationError
from protos.rules import Rules

SECRET = b"correct horse"
PRIVATE = ("signing.pem", "agreement.pem", "ca.key")


@pytest.fixture(autouse=True)
def nobody(monkeypatch):
    """Nobody is there to type it, and what a command puts into the environment is gone afterwards."""
    monkeypatch.setenv(keyfiles.PASSPHRASE_FILE, "")
    monkeypatch.delenv(keyfiles.PASSPHRASE_FILE)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False)


@pytest.fixture
def locked(make_world, make_grid, clock, monkeypatch):
    """A coordinator with a campaign that is over, whose keys have got a passphrase."""
    monkeypatch.setattr(strategy, "write_report", lambda *_: None)
    world = make_world(rules=Rules(minimum_sites=2, evaluate=False))
    OneShotMerge(world.folder).start(make_grid(world))
    world.folder.end(ok=True, exit_code=0)
    for name in PRIVATE:
        path = world.home.keys / name
        key = keyfiles.load_pem_private_key(path.read_bytes(), None)
        path.unlink()
        keyfiles.write(path, key, SECRET)
    return world


@pytest.fixture
def secret(tmp_path):
    """Return a file with the passphrase."""
    path = tmp_path / "secret"
    path.write_bytes(SECRET + b"\n")
    path.chmod(0o600)
    return path


@pytest.fixture
def executed(monkeypatch):
    """Return the environments of what this process would have become."""
    seen = []
    monkeypatch.setattr(os, "execvpe", lambda file, words, env: seen.append((words, env)))
    monkeypatch.setattr("coordinator.superlink._check_free", lambda *_: None)
    return seen


@pytest.mark.parametrize(
    "words",
    [
        *(["coordinator", command, "FOLDER"] for command in ("fingerprint", "preflight")),
        *(["coordinator", command, "FOLDER", "one"] for command in ("status", "watch", "digest")),
        ["coordinator", "metrics", "FOLDER", "--once"],
        ["coordinator", "health", "FOLDER", "--live"],
        ["audit", "verify", "FOLDER"],
        ["audit", "show", "FOLDER"],
    ],
    ids=" ".join,
)
def test_who_only_looks_is_not_asked(locked, onebasin, monkeypatch, words):
    monkeypatch.setattr(keyfiles, "passphrase", lambda _: pytest.fail("asked"))
    code, _, err = onebasin(*(str(locked.home.folder) if word == "FOLDER" else word for word in words))
    assert code in (0, 15), err  # the SuperLink is not running


def test_to_run_a_campaign_needs_none_for_the_superlink_has_it(locked, onebasin):
    code, _, err = onebasin("coordinator", "run", locked.home.folder, "one")
    assert code == FederationError.exit_code
    assert "is the SuperLink running?" in err


@pytest.mark.parametrize("command", ["superlink", "serve"])
def test_what_needs_it_later_asks_at_the_start(locked, onebasin, executed, command):
    code, _, err = onebasin("coordinator", command, locked.home.folder)
    assert code == ConfigurationError.exit_code
    assert "signing.pem has a passphrase, and there is no terminal to ask for it" in err
    assert "--passphrase-file FILE after onebasin site or onebasin coordinator" in err
    assert not executed


def test_a_wrong_one_starts_nothing(locked, onebasin, executed, secret):
    secret.write_text("wrong horse")
    code, _, err = onebasin("coordinator", "--passphrase-file", secret, "superlink", locked.home.folder)
    assert code == ConfigurationError.exit_code
    assert "the passphrase of" in err
    assert "is wrong" in err
    assert not executed


def test_its_file_is_handed_on(locked, onebasin, executed, secret):
    assert onebasin("coordinator", "--passphrase-file", secret, "superlink", locked.home.folder)[0] == 0
    ((_, env),) = executed
    assert env[keyfiles.PASSPHRASE_FILE] == str(secret)


@pytest.mark.skipif(sys.platform != "linux", reason="files without a name")
def test_one_that_is_typed_is_handed_on_in_memory(locked, onebasin, monkeypatch, executed):
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    asked = []
    monkeypatch.setattr(keyfiles.getpass, "getpass", lambda said: asked.append(said) or SECRET.decode())
    monkeypatch.setattr(
        os, "execvpe", lambda _, __, env: executed.append(Path(env[keyfiles.PASSPHRASE_FILE]).read_bytes())
    )
    assert onebasin("coordinator", "superlink", locked.home.folder)[0] == 0
    assert executed == [SECRET]
    assert len(asked) == 1


def test_a_coordinator_is_made_with_one(onebasin, tmp_path, secret):
    code, out, err = onebasin("coordinator", "--passphrase-file", secret, "init", tmp_path / "c", "--passphrase")
    assert (code, err) == (0, "")
    home = Home(tmp_path / "c")
    assert home.fingerprint in out
    assert all(keyfiles.is_locked(home.keys / name) for name in PRIVATE)
    assert home.public_key == signing.public_bytes(home.signing_key)


def test_one_that_nobody_can_type_makes_nothing(onebasin, tmp_path):
    code, _, err = onebasin("coordinator", "init", tmp_path / "c", "--passphrase")
    assert code == ConfigurationError.exit_code
    assert "there is no terminal to ask for a passphrase" in err
    assert not (tmp_path / "c").exists()
