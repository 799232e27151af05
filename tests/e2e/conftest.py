"""One federation for all end-to-end tests of a worker."""

from contextlib import ExitStack

import pytest

from chaos import federation as federations
from chaos.federation import Federation

_running = ExitStack()
_found: list[Federation] = []


@pytest.fixture
def federation(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    """Start a SuperLink and three SuperNodes, unless an earlier test did."""
    if not _found:
        _found.append(_running.enter_context(federations.federation(tmp_path_factory.mktemp("federation"))))
    return _found[0]


def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """End the federation after the last end-to-end test: thousands of tests that need none may follow."""
    if nextitem is None or nextitem.get_closest_marker("e2e") is None:
        _found.clear()
        _running.close()


def pytest_unconfigure() -> None:
    """End it however the tests ended."""
    _running.close()
