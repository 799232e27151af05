"""The same sums on a GPU, with the same bits: integers are the same everywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from protos import fixedpoint
from protos.errors import ConfigurationError

if TYPE_CHECKING:
    import torch

BLOCK = 1 << 22
"""Elements that are added up at a time: enough to keep a GPU busy between two copies."""


class DeviceSum:
    """A `BlockSum` whose values are quantised and added up by PyTorch on a device.

    Args:
        size: Elements in a block, at most.
        device: Where, as PyTorch names it.

    """

    def __init__(self, size: int, device: str) -> None:
        import torch

        self._torch = torch
        self._device = device
        self._memory = torch.empty(size, dtype=torch.int64, device=device)
        self.start(size)

    def start(self, size: int) -> None:
        """Begin at zero with a block of so many elements."""
        self._total = self._memory[:size].zero_()

    def add_values(self, values: npt.NDArray[np.float32], weight: int) -> None:
        """Quantise values and add them."""
        found = self._torch.from_numpy(values).to(self._device).double()
        # torch.round rounds ties to even, as NumPy's rint does.
        found.mul_(float(1 << fixedpoint.FRACTION_BITS)).round_()
        self._total.add_(found.long(), alpha=weight)

    def add_ints(self, sums: fixedpoint.Ints, weight: int) -> None:
        """Add fixed-point sums."""
        self._total.add_(self._torch.from_numpy(sums).to(self._device), alpha=weight)

    def ints(self) -> fixedpoint.Ints:
        """Return the sum in fixed point."""
        found: fixedpoint.Ints = self._total.cpu().numpy()
        return found

    def mean(self, models: int) -> npt.NDArray[np.float64]:
        """Return the sum as the mean of so many models, float64."""
        found: torch.Tensor = self._total.double() / (float(1 << fixedpoint.FRACTION_BITS) * models)
        return found.cpu().numpy()


def check_device(device: str) -> None:
    """Make sure that PyTorch can use a device.

    Raises:
        ConfigurationError: It can't.

    """
    import torch

    try:
        torch.zeros(1, dtype=torch.float64, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigurationError(
            f"device {device!r} can't be used: {str(error).splitlines()[0]}",
            "leave --device out: the processor gives the same bits",
        ) from error
