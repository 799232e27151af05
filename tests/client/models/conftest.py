import pytest


@pytest.fixture(autouse=True)
def one_thread_each(one_thread):
    """Run every test here on one thread."""
