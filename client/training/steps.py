"""What every training loop needs at each step: its own dice, and a loss that is a number."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from protos.errors import AdaptationError

_FIX = "Lower the learning rate, and check that the base and the images hold sensible numbers."


def step_generator(seed: int, step: int, rank: int = 0) -> torch.Generator:
    """Return the random numbers of one step, a function of (seed, step) alone, or of the process too.

    So a resumed run draws what an uninterrupted one would have, and no global state is read or changed.
    """
    return torch.Generator().manual_seed(_seed(seed, step, *([rank] if rank else [])))


@contextmanager
def own_global_state(device: torch.device) -> Iterator[None]:
    """Put PyTorch's global random state back afterwards, that of the CPU and of the device.

    Dropout and stochastic depth have no generator of their own; see :func:`seed_global_state`.
    """
    devices = [device.index or 0] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        yield


def seed_global_state(device: torch.device, seed: int, step: int, rank: int = 0) -> None:
    """Seed the global generators for one step, with other numbers than :func:`step_generator`'s."""
    number = _seed(seed, step, rank, 1)
    # torch.manual_seed would also seed GPUs that aren't used, which takes longer than all the rest of this.
    torch.default_generator.manual_seed(number)
    if device.type == "cuda":
        torch.cuda.manual_seed(number)


def require_finite(loss: Tensor | float, step: int) -> float:
    """Return the loss as a number.

    Raises:
        AdaptationError: It is infinite or not a number.

    """
    value = float(loss)
    if not math.isfinite(value):
        raise AdaptationError(f"The loss is {value} at step {step}.", _FIX)
    return value


def require_finite_weights(network: nn.Module, step: int) -> None:
    """Check that all parameters are numbers, before they are kept or sent.

    Raises:
        AdaptationError: One is infinite or not a number; it is named.

    """
    for name, parameter in network.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            raise AdaptationError(f"{name} is not finite any more after step {step}.", _FIX)


def _seed(*numbers: int) -> int:
    state = np.random.SeedSequence(numbers).generate_state(2, np.uint32)
    return int(state[0]) << 31 | int(state[1]) >> 1
