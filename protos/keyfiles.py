"""Files of private keys: PEM, readable by their owner only, and under a passphrase if the owner wants one.

A passphrase is read from the file that the environment names, or asked for on the terminal. Nothing that onebasin
does writes one down.
"""

from __future__ import annotations

import functools
import getpass
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
    load_ssh_private_key,
)

from protos import files
from protos.errors import ConfigurationError

PASSPHRASE_FILE = "ONEBASIN_PASSPHRASE_FILE"  # noqa: S105  # a name, not a passphrase
"""The environment variable that names a file with the passphrase."""

Key = Ed25519PrivateKey | X25519PrivateKey | EllipticCurvePrivateKey
K = TypeVar("K", bound=Key)

_NAMES = {Ed25519PrivateKey: "an Ed25519 key", X25519PrivateKey: "an X25519 key"}


def write(path: Path, key: Key, passphrase: bytes | None = None) -> None:
    """Write a key as PKCS#8, encrypted if there is a passphrase.

    Raises:
        ConfigurationError: There is a key already.
        StorageError: It can't be written.

    """
    if path.exists():
        raise ConfigurationError(f"there is a key already at {path}", "it is not overwritten: move it away first")
    lock: KeySerializationEncryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    files.write(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, lock), mode=0o600)


def read(path: Path, kind: type[K]) -> K:
    """Read a key, with the passphrase if it has one.

    Raises:
        ConfigurationError: The file is missing, is no key of this kind, can be read by others, or its passphrase
            is wrong or not to be had.

    """
    content = owned(path)
    load = load_ssh_private_key if b"OPENSSH" in content.partition(b"\n")[0] else load_pem_private_key
    try:
        try:
            key = load(content, None)
        except TypeError:  # it has a passphrase
            key = load(content, passphrase(path))
    except ValueError as error:
        if b"ENCRYPTED" in content.partition(b"\n")[0]:
            raise ConfigurationError(f"the passphrase of {path} is wrong", "try again") from None
        raise ConfigurationError(f"{path} is no private key ({error})") from error
    if not isinstance(key, kind):
        wanted = _NAMES.get(kind, "an elliptic-curve key")
        raise ConfigurationError(f"{path} is not {wanted}", "make one with `onebasin site init`")
    return key


def owned(path: Path, *, lent: bool = False) -> bytes:
    """Read a file that nobody else may read.

    Args:
        path: The file.
        lent: Whether it may also be root's, who lets this process's group read it: so do systemd and Kubernetes
            hand a secret to a process that is not root.

    Raises:
        ConfigurationError: It is missing, or others may.

    """
    try:
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            content = file.read()
    except OSError as error:
        raise ConfigurationError(f"can't read the key {path}: {error.strerror}") from error
    forbidden = 0o037 if lent and found.st_uid == 0 and os.geteuid() != 0 else 0o077
    if found.st_mode & forbidden:
        raise ConfigurationError(f"the key {path} can be read by others", f"chmod 600 {path}")
    return content


def is_locked(path: Path) -> bool:
    """Tell whether a key has a passphrase, without asking for it."""
    try:
        with path.open("rb") as file:
            return b"ENCRYPTED" in file.readline()
    except OSError:
        return False


def passphrase(path: Path) -> bytes:
    """Return the passphrase of a key: from the file that the environment names, or asked for on the terminal once.

    Raises:
        ConfigurationError: There is neither, or the file can be read by others or is empty.

    """
    named = os.environ.get(PASSPHRASE_FILE)
    if named:
        return _from_file(Path(named))
    if not sys.stdin.isatty():
        raise ConfigurationError(
            f"the key {path} has a passphrase, and there is no terminal to ask for it",
            f"name a file that holds it: {PASSPHRASE_FILE}=FILE, or --passphrase-file FILE after onebasin site or "
            "onebasin coordinator",
        )
    return _asked(path.parent)


@contextmanager
def handed_on(path: Path, to: str) -> Iterator[dict[str, str]]:
    """Give the variables by which the processes of this one find a key's passphrase; none if none are needed.

    One that is typed here stands in memory meanwhile, in a file that has no name on any disk. It also outlives an
    exec, with this process.

    Args:
        path: The key.
        to: Whom it is handed to, for messages.

    Raises:
        ConfigurationError: It is not to be had, or this system has no files without a name.

    """
    if os.environ.get(PASSPHRASE_FILE) or not is_locked(path):
        yield {}
        return
    found = passphrase(path)
    if not hasattr(os, "memfd_create"):  # not on macOS
        raise ConfigurationError(
            f"on this system a passphrase that was typed can't be handed on to {to}",
            f"name a file that holds it: {PASSPHRASE_FILE}=FILE",
        )
    memory = os.memfd_create("onebasin", 0)
    try:
        os.fchmod(memory, 0o600)
        os.write(memory, found)
        yield {PASSPHRASE_FILE: f"/proc/{os.getpid()}/fd/{memory}"}
    finally:
        os.close(memory)


def new_passphrase() -> bytes:
    """Return the passphrase for keys that are about to be made: from the file, or asked for twice on the terminal.

    Raises:
        ConfigurationError: There is neither, or what was typed differs or is empty.

    """
    named = os.environ.get(PASSPHRASE_FILE)
    if named:
        return _from_file(Path(named))
    if not sys.stdin.isatty():
        raise ConfigurationError(
            "there is no terminal to ask for a passphrase", f"name a file that holds it: {PASSPHRASE_FILE}=FILE"
        )
    first, second = (getpass.getpass(f"{which} passphrase of the new keys: ") for which in ("the", "again, the"))
    if not first or first != second:
        raise ConfigurationError("the two passphrases differ, or are empty", "try again")
    return first.encode()


def _from_file(path: Path) -> bytes:
    found = owned(path, lent=True).rstrip(b"\r\n")
    if not found:
        raise ConfigurationError(f"the passphrase file {path} is empty", "write the passphrase into it")
    return found


@functools.cache
def _asked(folder: Path) -> bytes:
    return getpass.getpass(f"passphrase of the keys in {folder}: ").encode()
