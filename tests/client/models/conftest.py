import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread():
    """Small networks are no faster on two threads, and far slower where others use the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
