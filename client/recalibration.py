"""New BatchNorm statistics for given parameters, from unlabelled images: forward passes only, nothing is learned.

A merged model's activations are nobody's: no site's statistics describe them. One pass over a site's own images
does (AdaBN, Li et al., arXiv 1603.04779; for averaged weights also Izmailov et al., UAI 2018, arXiv 1803.05407,
and REPAIR, Jordan et al., ICLR 2023, arXiv 2211.08403).

Each layer normalises by its batch while the pass runs, as in training, and the batches' moments are pooled over
all values: n = Σ nᵢ,  μ = Σ nᵢμᵢ / n,  σ² = Σ nᵢ(σᵢ² + (μᵢ − μ)²) / (n − 1), with the biased σᵢ². PyTorch's
cumulative average (``momentum=None``) leaves out the term between batches, which matters when batches aren't
mixed: a sequence in its order, one weather after another. Two other ways were measured on the scenes and are no
better: all images as one batch gives the same mIoU within 0.1 where batches are mixed; passes in evaluation mode
with the last pass's statistics, again and again, drift away from that instead of towards it, because every layer
is measured behind layers that change in the same pass. So: one pass, and mixed batches if there is a choice.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from client.data.images import normalise
from client.models.norms import batch_norms, statistics
from protos.boundary import BatchNorm
from protos.errors import DataError, ModelFileError


def recalibrate(model: nn.Module, batches: Iterable[Tensor]) -> dict[str, BatchNorm]:
    """Measure what the statistics of a model's BatchNorm layers are on these images.

    The model itself isn't changed, neither its parameters nor its statistics nor its mode; to use the result,
    ``client.models.norms.load(model, result)``. Dropout and stochastic depth are off. The same batches give the
    same bits (on one machine, with the same number of threads).

    Args:
        model: One of ``client.models``, on any device, float32.
        batches: Unlabelled images, uint8 (N, 3, H, W), RGB; sizes may differ from batch to batch. Mixed ones of
            about 16 serve well.

    Returns:
        Statistics by layer: mean and unbiased variance, float32 of shape (channels,). The count is the number of
        batches that the layer saw, as PyTorch counts them.

    Raises:
        DataError: There are no images, they are no uint8 RGB images, or too small to have a variance.
        ConfigurationError: The model has no BatchNorm layer.
        ModelFileError: The model makes values of the images that are NaN or infinite; the layer is named.

    """
    network = copy.deepcopy(model).eval().requires_grad_(False)
    layers = batch_norms(network)
    moments = {name: _Moments(layer.num_features) for name, layer in layers.items()}
    for name, layer in layers.items():
        layer.train()
        layer.reset_running_stats()
        # With momentum 1 the statistics after each call are that call's alone, so they cost nothing extra.
        layer.momentum = 1.0
        layer.register_forward_pre_hook(_require_several)
        layer.register_forward_hook(_reader(moments[name]))
    device = next(network.parameters()).device
    seen = 0
    with torch.inference_mode():
        for images in batches:
            if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
                raise DataError(
                    f"Images are {images.dtype} of shape {tuple(images.shape)}, "
                    "not torch.uint8 of shape (N, 3, H, W).",
                    "Give RGB images with 8 bits for each channel.",
                )
            if len(images):
                network(normalise(images.to(device)))
                seen += len(images)
    if not seen:
        raise DataError("There are no images to recalibrate on.", "Give at least one batch of the site's images.")
    kept = statistics(model)
    # A layer that no pass reaches keeps what it has.
    return {name: found.pooled(name) if found.calls else kept[name] for name, found in moments.items()}


class _Moments:
    """Moments of all values that a layer was given, per channel, in float64."""

    def __init__(self, channels: int) -> None:
        self.calls, self.values = 0, 0
        self.mean = np.zeros(channels)
        self.squares = np.zeros(channels)
        """Σ (x − mean)²."""

    def add(self, values: int, mean: Tensor, var: Tensor) -> None:
        """Add a call's: values for each channel, their mean, their unbiased variance (Chan et al., 1979)."""
        found, spread = mean.double().cpu().numpy(), var.double().cpu().numpy() * (values - 1)
        total = self.values + values
        step = found - self.mean
        self.squares += spread + step**2 * (self.values * values / total)
        self.mean += step * (values / total)
        self.values = total
        self.calls += 1

    def pooled(self, layer: str) -> BatchNorm:
        """Return the statistics of all calls."""
        with np.errstate(over="ignore"):
            mean, var = self.mean.astype(np.float32), (self.squares / (self.values - 1)).astype(np.float32)
        if not (np.isfinite(mean).all() and np.isfinite(var).all()):
            raise ModelFileError(
                f"what the model makes of the images is NaN or infinite at its layer {layer}",
                "check the model file: its parameters are damaged, or its training diverged",
            )
        return BatchNorm(mean, var, self.calls)


def _require_several(layer: nn.Module, given: tuple[Tensor, ...]) -> None:
    assert isinstance(layer, _BatchNorm)
    if given[0].numel() <= layer.num_features:
        raise DataError("One value has no variance: the images are too small.", "Give larger images, or several.")


def _reader(moments: _Moments) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
    def read(layer: nn.Module, given: tuple[Tensor, ...], _: Tensor) -> None:
        assert isinstance(layer, _BatchNorm)
        assert layer.running_mean is not None and layer.running_var is not None
        values = given[0].numel() // layer.num_features
        moments.add(values, layer.running_mean, layer.running_var)

    return read
