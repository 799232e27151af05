"""Between PyTorch's tensors and raw little-endian arrays."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from protos.boundary import Array
from protos.errors import ModelFileError
from protos.manifest import TensorSpec


def raw_state(state: Mapping[str, object]) -> dict[str, Array]:
    """Return a state's tensors as NumPy stores their dtypes; what is no tensor is left out."""
    return {name: raw(value) for name, value in state.items() if isinstance(value, torch.Tensor)}


def raw(tensor: torch.Tensor) -> Array:
    """Return a tensor as NumPy stores its dtype (bfloat16 as uint16)."""
    plain = tensor.detach().cpu().contiguous()
    if plain.dtype == torch.bfloat16:
        return plain.view(torch.uint16).numpy()
    return plain.numpy()


def from_raw(values: npt.NDArray[np.generic], spec: TensorSpec) -> torch.Tensor:
    """Return what :func:`raw` made an array of: flat or in its shape, and of the dtype that NumPy stores it as."""
    dtype: torch.dtype = getattr(torch, spec.dtype.name)
    return torch.from_numpy(values.copy()).view(dtype).reshape(spec.shape)


def load_state(path: Path) -> dict[str, torch.Tensor]:
    """Read a safetensors file into memory.

    Raises:
        ModelFileError: It is missing or damaged.

    """
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelFileError(f"can't read {path}: {error}", "copy it again from where it came") from error
