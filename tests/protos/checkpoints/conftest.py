"""Checkpoints as torch writes them, in its present format and in the one from before 1.6."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch


def numpy_of(tensor: torch.Tensor) -> np.ndarray:
    """Return a tensor's values as they are stored: bfloat16 as uint16."""
    plain = tensor.detach().contiguous()
    return (plain.view(torch.uint16) if plain.dtype == torch.bfloat16 else plain).numpy()


@pytest.fixture(scope="session")
def stored() -> Callable[[torch.Tensor], np.ndarray]:
    """Return `numpy_of`."""
    return numpy_of


@pytest.fixture
def zipped(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that saves something in the present format."""

    def save(content: object, name: str = "model.pth", **options: object) -> Path:
        torch.save(content, tmp_path / name, **options)
        return tmp_path / name

    return save


@pytest.fixture(params=[True, False], ids=["zip", "legacy"])
def saved_by_torch(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Path]:
    """Return a function that saves something in either format."""

    def save(content: object, name: str = "model.pth", **options: object) -> Path:
        torch.save(content, tmp_path / name, _use_new_zipfile_serialization=request.param, **options)
        return tmp_path / name

    return save
