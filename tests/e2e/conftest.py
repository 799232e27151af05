"""One federation for all tests of the session."""

from collections.abc import Iterator

import pytest

from chaos import federation as federations
from chaos.federation import Federation


@pytest.fixture(scope="session")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """Start a SuperLink and three SuperNodes; all tests of the session share them."""
    with federations.federation(tmp_path_factory.mktemp("federation")) as found:
        yield found
