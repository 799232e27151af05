"""A network's BatchNorm layers, and their statistics as what crosses a site's boundary has them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from protos.boundary import BatchNorm, Statistics
from protos.errors import ConfigurationError, ModelFileError
from protos.manifest import COUNT, MEAN, VAR, join


def batch_norms(network: nn.Module) -> dict[str, _BatchNorm]:
    """Return a network's BatchNorm layers that keep statistics, by name in ascending order.

    Raises:
        ConfigurationError: There are none.

    """
    found = {
        name: layer
        for name, layer in network.named_modules()
        if isinstance(layer, _BatchNorm) and layer.running_mean is not None
    }
    if not found:
        raise ConfigurationError(
            "The model has no BatchNorm layer, so it has no statistics that could be its domain's.",
            "Use a model with BatchNorm, or this model as it is.",
        )
    return dict(sorted(found.items()))


def statistics(network: nn.Module) -> dict[str, BatchNorm]:
    """Read a network's statistics by layer: float32 of shape (channels,), copied to the CPU.

    Raises:
        ConfigurationError: The network has no BatchNorm layer.

    """
    found = {}
    for name, layer in batch_norms(network).items():
        assert layer.running_mean is not None and layer.running_var is not None
        mean, var = (
            part.detach().cpu().float().numpy().copy() for part in (layer.running_mean, layer.running_var)
        )
        found[name] = BatchNorm(mean, var, int(layer.num_batches_tracked or 0))
    return found


def load(network: nn.Module, found: Statistics) -> None:
    """Replace a network's statistics in place; its parameters stay as they are.

    Raises:
        ConfigurationError: The network has no BatchNorm layer.
        ModelFileError: The statistics don't fit it, see :func:`check`. Nothing was changed then.

    """
    layers = batch_norms(network)
    check(layers, found, "the statistics")
    with torch.no_grad():
        for name, layer in layers.items():
            assert layer.running_mean is not None and layer.running_var is not None
            assert layer.num_batches_tracked is not None
            layer.running_mean.copy_(torch.from_numpy(found[name].mean))
            layer.running_var.copy_(torch.from_numpy(found[name].var))
            layer.num_batches_tracked.fill_(found[name].count)


def check(layers: Mapping[str, _BatchNorm], found: Statistics, what: str) -> None:
    """Check that statistics are those of these layers.

    Args:
        layers: From :func:`batch_norms`.
        found: The statistics.
        what: What to call them in messages.

    Raises:
        ModelFileError: A layer is missing or unknown, has another number of channels, or a value is NaN, infinite
            or a negative variance.

    """
    again = "take the statistics from a model of the same architecture"
    for name in sorted(layers.keys() ^ found.keys()):
        said = "have no layer" if name in layers else "have an unknown layer"
        raise ModelFileError(f"{what} {said} {name}", again)
    for name, layer in layers.items():
        for part, values in ((MEAN, found[name].mean), (VAR, found[name].var)):
            if values.shape != (layer.num_features,):
                raise ModelFileError(
                    f"{what} have {join(name, part)} of shape {list(values.shape)}, "
                    f"the layer has {layer.num_features} channels",
                    again,
                )
            if not np.isfinite(values).all():
                raise ModelFileError(
                    f"{what} have values in {join(name, part)} that are NaN or infinite", "make them again"
                )
        if (found[name].var < 0).any():
            raise ModelFileError(f"{what} have a negative variance in {join(name, VAR)}", "make them again")
        if not 0 <= found[name].count < 1 << 63:
            raise ModelFileError(
                f"{what} have {found[name].count} as {join(name, COUNT)}, which is no count", "make them again"
            )
