"""Private keys on disk: for their owner only, and under a passphrase if wanted."""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from protos import keyfiles, signing
from protos.errors import ConfigurationError

KINDS = {
    "Ed25519": (Ed25519PrivateKey, Ed25519PrivateKey.generate),
    "X25519": (X25519PrivateKey, X25519PrivateKey.generate),
    "P-384": (ec.EllipticCurvePrivateKey, lambda: ec.generate_private_key(ec.SECP384R1())),
}


@pytest.fixture
def secret(tmp_path, monkeypatch):
    """Write a passphrase file and name it in the environment; returns the passphrase."""
    path = tmp_path / "passphrase"
    path.write_text("correct horse\n")
    path.chmod(0o600)
    monkeypatch.setenv(keyfiles.PASSPHRASE_FILE, str(path))
    return b"correct horse"


@pytest.fixture
def no_terminal(monkeypatch):
    monkeypatch.delenv(keyfiles.PASSPHRASE_FILE, raising=False)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("locked", [False, True])
def test_a_key_survives_its_file(tmp_path, secret, kind, locked):
    wanted, make = KINDS[kind]
    key, path = make(), tmp_path / "key.pem"
    keyfiles.write(path, key, secret if locked else None)
    found = keyfiles.read(path, wanted)
    assert found.public_key() == key.public_key()
    assert path.stat().st_mode & 0o777 == 0o600
    assert keyfiles.is_locked(path) == locked == (b"ENCRYPTED" in path.read_bytes())


def test_a_key_of_another_kind_is_refused(tmp_path):
    keyfiles.write(tmp_path / "key.pem", X25519PrivateKey.generate())
    with pytest.raises(ConfigurationError, match="is not an Ed25519 key"):
        signing.load_key(tmp_path / "key.pem")


def test_a_wrong_passphrase_is_told_from_a_damaged_file(tmp_path, secret):
    keyfiles.write(tmp_path / "key.pem", Ed25519PrivateKey.generate(), b"another")
    with pytest.raises(ConfigurationError, match=r"the passphrase of .* is wrong"):
        signing.load_key(tmp_path / "key.pem")


def test_without_a_terminal_the_message_says_how_to_give_a_passphrase(tmp_path, no_terminal):
    keyfiles.write(tmp_path / "key.pem", Ed25519PrivateKey.generate(), b"x")
    with pytest.raises(ConfigurationError, match="there is no terminal to ask for it") as caught:
        signing.load_key(tmp_path / "key.pem")
    assert keyfiles.PASSPHRASE_FILE in caught.value.fix
    with pytest.raises(ConfigurationError, match="no terminal"):
        keyfiles.new_passphrase()


def test_a_passphrase_is_asked_for_once(tmp_path, monkeypatch):
    asked = []
    monkeypatch.delenv(keyfiles.PASSPHRASE_FILE, raising=False)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr(keyfiles.getpass, "getpass", lambda prompt: asked.append(prompt) or "typed")
    for name in ("a", "b"):
        keyfiles.write(tmp_path / name, Ed25519PrivateKey.generate(), b"typed")
        signing.load_key(tmp_path / name)
    assert len(asked) == 1
    assert str(tmp_path) in asked[0]


def test_a_new_passphrase_is_typed_twice(monkeypatch):
    monkeypatch.delenv(keyfiles.PASSPHRASE_FILE, raising=False)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    for typed, good in ((["one", "one"], True), (["one", "two"], False), (["", ""], False)):
        answers = iter(typed)
        monkeypatch.setattr(keyfiles.getpass, "getpass", lambda _, answers=answers: next(answers))
        if good:
            assert keyfiles.new_passphrase() == b"one"
        else:
            with pytest.raises(ConfigurationError, match="differ, or are empty"):
                keyfiles.new_passphrase()


@pytest.mark.parametrize(("content", "mode"), [("secret", 0o644), ("secret", 0o640), ("\n", 0o600)])
def test_a_passphrase_file_that_others_read_or_that_is_empty_is_refused(tmp_path, monkeypatch, content, mode):
    (tmp_path / "p").write_text(content)
    (tmp_path / "p").chmod(mode)
    monkeypatch.setenv(keyfiles.PASSPHRASE_FILE, str(tmp_path / "p"))
    with pytest.raises(ConfigurationError):
        keyfiles.new_passphrase()


def test_a_passphrase_stands_in_no_error(tmp_path, secret):
    keyfiles.write(tmp_path / "key.pem", Ed25519PrivateKey.generate(), b"another")
    with pytest.raises(ConfigurationError) as caught:
        signing.load_key(tmp_path / "key.pem")
    assert "correct horse" not in str(caught.value)


@pytest.mark.parametrize(
    ("owner", "mode", "reader", "fine"),
    [
        (0, 0o440, 10001, True),  # as systemd and Kubernetes hand it over
        (0, 0o400, 10001, True),
        (0, 0o444, 10001, False),
        (0, 0o460, 10001, False),
        (0, 0o440, 0, False),  # root needs nobody to lend it its own
        (10001, 0o440, 10001, False),
    ],
)
def test_root_may_lend_a_passphrase_to_a_group_but_not_to_everybody(
    tmp_path, secret, monkeypatch, owner, mode, reader, fine
):
    found = SimpleNamespace(st_uid=owner, st_mode=0o100000 | mode)
    system = SimpleNamespace(fstat=lambda _: found, geteuid=lambda: reader, environ=os.environ)
    monkeypatch.setattr(keyfiles, "os", system)
    if fine:
        assert keyfiles.passphrase(tmp_path / "key") == secret
    else:
        with pytest.raises(ConfigurationError, match="can be read by others"):
            keyfiles.passphrase(tmp_path / "key")
    if mode & 0o077:  # a private key is lent to nobody
        with pytest.raises(ConfigurationError, match="can be read by others"):
            keyfiles.owned(tmp_path / "passphrase")


@pytest.fixture
def typed(monkeypatch):
    monkeypatch.delenv(keyfiles.PASSPHRASE_FILE, raising=False)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr(keyfiles.getpass, "getpass", lambda _: "typed")
    keyfiles._asked.cache_clear()
    yield b"typed"
    keyfiles._asked.cache_clear()


OPEN = (
    "import pathlib, sys; from protos import signing; signing.load_key(pathlib.Path(sys.argv[1])); print('opened')"
)
NESTED = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {OPEN!r}, sys.argv[1]], check=True)"
"""Opens a key in a child."""


def run(program, path, **options):
    words = [sys.executable, "-c", program, str(path)]
    return subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, **options)


@pytest.mark.skipif(sys.platform != "linux", reason="files without a name")
def test_a_typed_passphrase_reaches_a_childs_child_and_is_gone_afterwards(tmp_path, typed):
    path = tmp_path / "key.pem"
    signing.new_key(path, typed)
    with keyfiles.handed_on(path, "a child") as variables:
        done = run(NESTED, path, env={**os.environ, **variables})
        assert done.stdout == "opened\n", done.stderr
        assert "typed" not in str(variables)
    (named,) = variables.values()
    with pytest.raises(OSError):
        open(named).close()  # noqa: PTH123


@pytest.mark.skipif(sys.platform != "linux", reason="files without a name")
def test_a_typed_passphrase_outlives_an_exec(tmp_path, typed):
    path = tmp_path / "key.pem"
    signing.new_key(path, typed)
    program = f"""
import os, pathlib, sys
from protos import keyfiles
keyfiles.passphrase = lambda _: b"typed"
with keyfiles.handed_on(pathlib.Path(sys.argv[1]), "what this becomes") as variables:
    os.execve(sys.executable, [sys.executable, "-c", {NESTED!r}, sys.argv[1]], {{**os.environ, **variables}})
"""
    done = run(program, path)
    assert done.stdout == "opened\n", done.stderr


def test_a_passphrase_file_is_handed_on_by_the_environment_as_it_is(tmp_path, secret):
    signing.new_key(tmp_path / "key.pem", secret)
    with keyfiles.handed_on(tmp_path / "key.pem", "a child") as variables:
        assert not variables


def test_nothing_is_handed_on_for_a_key_without_a_passphrase(tmp_path, no_terminal):
    signing.new_key(tmp_path / "key.pem")
    with keyfiles.handed_on(tmp_path / "key.pem", "a child") as variables:
        assert not variables


def test_a_system_without_files_without_a_name_needs_a_passphrase_file(tmp_path, typed, monkeypatch):
    signing.new_key(tmp_path / "key.pem", typed)
    monkeypatch.delattr(keyfiles.os, "memfd_create", raising=False)
    wanted = pytest.raises(ConfigurationError, match="can't be handed on to the SuperLink")
    with wanted, keyfiles.handed_on(tmp_path / "key.pem", "the SuperLink"):
        pass
