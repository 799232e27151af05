"""AdamW as the papers use it, and its learning rate: a linear rise, then polynomial decay of power 1."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from client.training.settings import AdaptSettings, BaseSettings

_HEAD = "decode_head."
_SPARED = ("norm", "pos_block")


def make_optimizer(network: nn.Module, settings: AdaptSettings | BaseSettings) -> torch.optim.AdamW:
    """Return AdamW over a network's parameters.

    The rules are those of the authors' configurations, which go by names: parameters of the decode head learn
    ``head_lr`` times as fast; of the others, those with "norm" or "pos_block" in their names (layers of MiT;
    BatchNorm layers are called ``bn``) have no weight decay unless ``decay_norms`` is set.

    Args:
        network: One of ``client.models``.
        settings: Rates and decay.

    """
    head_lr, decay_norms = 1.0, True
    if isinstance(settings, AdaptSettings):
        head_lr, decay_norms = settings.head_lr, settings.decay_norms
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        head = name.startswith(_HEAD)
        spared = not head and not decay_norms and any(word in name for word in _SPARED)
        key = (head_lr if head else 1.0, 0.0 if spared else settings.weight_decay)
        groups.setdefault(key, []).append(parameter)
    listed: list[dict[str, Any]] = [
        {"params": parameters, "factor": factor, "weight_decay": decay}
        for (factor, decay), parameters in groups.items()
    ]
    return torch.optim.AdamW(listed, lr=settings.lr, weight_decay=settings.weight_decay)


def set_rate(optimizer: Optimizer, peak: float, step: int, steps: int, warmup: int) -> float:
    """Set the learning rate of step 0…steps − 1: a linear rise, then linear decay to zero.

    Args:
        optimizer: A group's "factor", if it has one, multiplies its rate.
        peak: The largest rate.
        step: Which step.
        steps: How many there are.
        warmup: Steps of the rise.

    Returns:
        The rate that groups without a factor have.

    """
    rise = min(1.0, (step + 1) / (warmup + 1))
    rate = peak * rise * (1 - step / steps)
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("factor", 1.0)
    return rate
