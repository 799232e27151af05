"""How far apart models are, told from what was sent: no data needed."""

from __future__ import annotations

import math

import numpy as np

from coordinator.merge.state import blocks
from protos.boundary import BatchNorm
from protos.tensorfile import TensorFile

_SMALL = 1e-12
"""Added to variances: a channel that never varied would be infinitely far from every other."""


def symmetric_kl(a: BatchNorm, b: BatchNorm) -> float:
    """Return the mean over channels of KL(a‖b) + KL(b‖a) between a layer's Gaussians, in nats.

    For two Gaussians that is ½ (σa²/σb² + σb²/σa² − 2) + ½ (μa − μb)² (1/σa² + 1/σb²).
    """
    va, vb = a.var.astype(np.float64) + _SMALL, b.var.astype(np.float64) + _SMALL
    gap = (a.mean.astype(np.float64) - b.mean) ** 2
    return float(np.mean(0.5 * (va / vb + vb / va - 2.0 + gap * (1.0 / va + 1.0 / vb))))


def relative_distance(model: TensorFile, base: TensorFile) -> float:
    """Return ‖θ − θ₀‖ / ‖θ₀‖ over all of the base's parameters, read chunk by chunk."""
    apart = norm = 0.0
    for name, spec in base.manifest.parameters.items():
        for start, stop in blocks(spec.size):
            origin = spec.dtype.widen(base.read(name, start, stop)).astype(np.float64)
            values = spec.dtype.widen(model.read(name, start, stop))
            norm += float(origin @ origin)
            origin -= values
            apart += float(origin @ origin)
    return math.sqrt(apart / norm) if norm else math.inf
