"""Small random models: what is proved is how updates travel, and that does not depend on what is in them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from protos.manifest import COUNT, MEAN, VAR
from protos.tensorfile import write_arrays

LAYERS, CHANNELS, TENSORS = 4, 64, 24


def random_model(seed: int, parameters: int) -> dict[str, np.ndarray]:
    """Make a model of so many float32 parameters in 24 tensors, and four BatchNorm layers; seed 0 is the base."""
    dice = np.random.default_rng(seed)
    arrays: dict[str, np.ndarray] = {}
    size = max(1, parameters // TENSORS)
    for i in range(TENSORS):
        arrays[f"backbone.layer{i:02d}.weight"] = dice.standard_normal(size, dtype=np.float32) * np.float32(0.05)
    for i in range(LAYERS):
        arrays[f"backbone.bn{i}.{MEAN}"] = dice.standard_normal(CHANNELS, dtype=np.float32)
        arrays[f"backbone.bn{i}.{VAR}"] = dice.random(CHANNELS, dtype=np.float32) + np.float32(0.1)
        arrays[f"backbone.bn{i}.{COUNT}"] = np.array(1000 + seed)
    return arrays


def write_base(path: Path, parameters: int) -> Path:
    """Write the model of seed 0 as a base."""
    write_arrays(path, random_model(0, parameters), {"model": "random", "classes": "19"})
    return path
