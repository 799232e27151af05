"""What all tests share. The builders are in ``support``, a module for each kind of thing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest_plugins = ("random_models", "worlds", "secure_sums", "fake_flower", "region_trees")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--mutations", type=int, default=4000, help="damaged messages of a kind that tests/attacks tries"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what runs real processes: it takes longest, and is shared better between two workers so."""
    items.sort(key=lambda item: item.get_closest_marker("e2e") is None)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Keep PyTorch on one thread: small networks are no faster on two, and far slower on cores in use."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
