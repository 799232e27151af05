"""How far apart models are, told from their tensors alone: no data needed."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from coordinator.merge.state import blocks
from protos.boundary import BatchNorm
from protos.checkpoints.reader import ModelReader

_SMALL = 1e-12
"""Added to variances: a channel that never varied would be infinitely far from every other."""


@dataclass(frozen=True)
class Products:
    """Inner products of two runs of values a and b, in float64: a·a, b·b, a·b and (a − b)·(a − b).

    They add up over tensors. The last is kept by itself: taken from the others it would cancel.
    """

    aa: float = 0.0
    bb: float = 0.0
    ab: float = 0.0
    apart: float = 0.0

    def __add__(self, other: Products) -> Products:
        return Products(self.aa + other.aa, self.bb + other.bb, self.ab + other.ab, self.apart + other.apart)

    @property
    def relative(self) -> float:
        """‖a − b‖ / ‖b‖; 0 if both are zero."""
        return 0.0 if not self.apart else math.sqrt(self.apart / self.bb) if self.bb else math.inf

    @property
    def cosine(self) -> float:
        """The cosine of the angle between a and b; NaN if one of them is zero."""
        norm = math.sqrt(self.aa) * math.sqrt(self.bb)
        return self.ab / norm if norm else math.nan


def products(a: ModelReader, b: ModelReader, name: str) -> Products:
    """Return a parameter's inner products, read block by block."""
    total, dtype = Products(), b.manifest.tensors[name].dtype
    for start, stop in blocks(b.manifest.tensors[name].size):
        mine = dtype.widen(a.read(name, start, stop)).astype(np.float64)
        its = dtype.widen(b.read(name, start, stop)).astype(np.float64)
        apart = mine - its
        total += Products(_dot(mine, mine), _dot(its, its), _dot(mine, its), _dot(apart, apart))
    return total


def _dot(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> float:
    """Return the inner product without BLAS, whose own threads would fight with the caller's."""
    return float(np.einsum("i,i->", a, b))


def relative_distance(model: ModelReader, base: ModelReader, names: Iterable[str] | None = None) -> float:
    """Return ‖θ − θ₀‖ / ‖θ₀‖ over the base's parameters, or some of them."""
    wanted = base.manifest.parameters if names is None else names
    return sum((products(model, base, name) for name in wanted), Products()).relative


def symmetric_kl(a: BatchNorm, b: BatchNorm) -> float:
    """Return the mean over channels of KL(a‖b) + KL(b‖a) between a layer's Gaussians, in nats.

    For two Gaussians that is ½ (σa²/σb² + σb²/σa² − 2) + ½ (μa − μb)² (1/σa² + 1/σb²).
    """
    va, vb = a.var.astype(np.float64) + _SMALL, b.var.astype(np.float64) + _SMALL
    gap = (a.mean.astype(np.float64) - b.mean) ** 2
    return float(np.mean(0.5 * (va / vb + vb / va - 2.0 + gap * (1.0 / va + 1.0 / vb))))
