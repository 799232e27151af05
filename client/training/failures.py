"""What a GPU's failures mean, and what to do about them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from client.training.settings import AdaptSettings
from protos.errors import AdaptationError

_LOST = ("CUDA error", "cuDNN error", "CUBLAS_STATUS", "NCCL error", "HIP error")
_FULL = ("can't allocate memory", "not enough memory")


class Place:
    """How far the run is, to be named when something fails.

    Attributes:
        step: The step that runs, from 1.
        size: The images' (height, width); None before the first.

    """

    def __init__(self) -> None:
        self.step = 0
        self.size: tuple[int, int] | None = None


@contextmanager
def explained(settings: AdaptSettings, place: Place) -> Iterator[None]:
    """Turn a device's failures inside into errors that say what to do.

    Raises:
        AdaptationError: Memory ran out, or the GPU failed or disappeared.

    """
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        raise AdaptationError(
            f"The GPU's memory ran out at step {place.step}: {_size(settings, place)}, precision "
            f"{settings.precision!r}.",
            _less(settings),
        ) from error
    except RuntimeError as error:
        text = str(error)
        if any(word in text for word in _FULL):
            raise AdaptationError(
                f"The machine's memory ran out at step {place.step}: {_size(settings, place)}.",
                "Lower adapt.batch or the data's crop, or choose a smaller model.",
            ) from error
        if isinstance(error, torch.AcceleratorError) or any(word in text for word in _LOST):
            raise AdaptationError(
                f"The GPU failed at step {place.step}: {text.splitlines()[0]}",
                "Check it (nvidia-smi, dmesg), then start again: the run continues from its last checkpoint.",
            ) from error
        raise


def _size(settings: AdaptSettings, place: Place) -> str:
    size = f" of {place.size[0]} × {place.size[1]} pixels" if place.size else ""
    return f"adapt.batch = {settings.batch}{size}"


def _less(settings: AdaptSettings) -> str:
    """Return what to try next, the first thing first."""
    advice = []
    if settings.batch > settings.devices:
        advice.append(
            f"adapt.batch = {settings.devices} with adapt.accumulate = "
            f"{settings.accumulate * settings.batch // settings.devices}"
        )
    if settings.precision == "32":
        advice.append('adapt.precision = "bf16-mixed"')
    if settings.feature_distance:
        advice.append("adapt.feature_distance = 0")
    advice.append("a smaller crop of the data")
    smaller = {"": "24GB", "24GB": "16GB", "16GB": "8GB"}.get(settings.memory)
    first = f'Set adapt.memory = "{smaller}", or one of: ' if smaller else "Set one of: "
    return f"{first}{'; '.join(advice)}. A run that has begun starts over then."
