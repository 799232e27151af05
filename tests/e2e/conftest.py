"""One federation for all end-to-end tests of a worker; the coordinator's keys have a passphrase."""

import os
from contextlib import ExitStack
from pathlib import Path

import pytest

from chaos import federation as federations
from chaos.federation import Federation
from protos import keyfiles

PASSPHRASE = b"correct horse"

_running = ExitStack()
_found: list[Federation] = []


@pytest.fixture
def federation(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    """Start a SuperLink and three SuperNodes, unless an earlier test did."""
    if not _found:
        folder = tmp_path_factory.mktemp("federation")
        _found.append(_running.enter_context(federations.federation(folder, passphrase=_named(folder))))
    return _found[0]


def _named(folder: Path) -> bytes:
    """Have this process, and all that it starts until the federation ends, find the passphrase; return it."""
    secret = folder / "passphrase"
    secret.write_bytes(PASSPHRASE)
    secret.chmod(0o600)
    os.environ[keyfiles.PASSPHRASE_FILE] = str(secret)
    _running.callback(os.environ.pop, keyfiles.PASSPHRASE_FILE, None)
    return PASSPHRASE


def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """End the federation after the last end-to-end test: thousands of tests that need none may follow."""
    if nextitem is None or nextitem.get_closest_marker("e2e") is None:
        _found.clear()
        _running.close()


def pytest_unconfigure() -> None:
    """End it however the tests ended."""
    _running.close()
