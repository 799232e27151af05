"""Data sets to read."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import cv2
import pytest
import torch
from data_sets import PLACES, SIZE, known, make, palette_png, raw, write


@pytest.fixture(autouse=True)
def one_thread():
    before, cv = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
    cv2.setNumThreads(cv)


@pytest.fixture
def sets() -> SimpleNamespace:
    """What the tests write files with."""
    return SimpleNamespace(SIZE=SIZE, PLACES=PLACES, known=known, raw=raw, write=write, palette_png=palette_png)


@pytest.fixture
def data_set(tmp_path):
    """Make a data set in a folder that is named after its layout."""

    def made(layout: str, split: str = "", number: int = 3, size: tuple[int, int] = SIZE) -> Path:
        return make(tmp_path / layout, layout, split, number, size)

    return made
