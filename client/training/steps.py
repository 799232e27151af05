"""What every training loop needs at each step: its own dice, its learning rate, a loss that is a number."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from protos.errors import AdaptationError


def step_generator(seed: int, step: int) -> torch.Generator:
    """Return the random numbers of one step, a function of (seed, step) alone.

    So a resumed run draws what an uninterrupted one would have, and no global state is read or changed.
    """
    state = np.random.SeedSequence((seed, step)).generate_state(2, np.uint32)
    return torch.Generator().manual_seed(int(state[0]) << 31 | int(state[1]) >> 1)


def set_rate(optimizer: Optimizer, peak: float, step: int, steps: int, warmup: int) -> None:
    """Set the learning rate of step 0…steps − 1: a linear rise, then linear decay to zero."""
    rise = min(1.0, (step + 1) / (warmup + 1))
    for group in optimizer.param_groups:
        group["lr"] = peak * rise * (1 - step / steps)


def require_finite(loss: Tensor, step: int) -> float:
    """Return the loss as a number.

    Raises:
        AdaptationError: It is infinite or not a number.

    """
    value = float(loss)
    if not math.isfinite(value):
        raise AdaptationError(
            f"The loss is {value} at step {step}.",
            "Lower the learning rate, and check that the base and the images hold sensible numbers.",
        )
    return value
