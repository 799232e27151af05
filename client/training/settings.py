"""Every number that training depends on. A method is a set of them; what a site's settings name comes first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Final

from client.training.presets import MEMORY, METHODS, chosen
from protos.errors import ConfigurationError

PRECISIONS: Final = ("32", "bf16-mixed", "16-mixed")
"""What passes are computed in. Weights, their averages and the optimizer are float32 in all of them."""

_RESULT_IS_THE_SAME: Final = ("checkpoint_every", "tensorboard", "memory", "method", "encoder")
"""Settings that a run may change half-way. Presets count by their numbers, the encoder's file by its content."""


@dataclass(frozen=True)
class BaseSettings:
    """How the base is trained on labelled source images. The defaults are the demo's: 64 × 128 on one core."""

    steps: int = 1000
    """Optimizer steps."""
    batch: int = 8
    """Images for each step."""
    lr: float = 3e-3
    """Peak learning rate of AdamW; falls linearly to zero."""
    weight_decay: float = 0.01
    """AdamW's decoupled weight decay."""
    seed: int = 0
    """Seed of batches, augmentation and dropout."""
    warmup: int = 50
    """Steps over which the learning rate rises linearly."""
    jitter: float = 0.5
    """Strength of the colour jitter, 0…1; strong, so that the base survives in unseen domains."""
    jitter_share: float = 0.9
    """Share of images that are jittered."""
    blur_share: float = 0.5
    """Share of images that are blurred."""
    flip: bool = True
    """Mirror half of the images."""

    def __post_init__(self) -> None:
        _check(self)


def _preset() -> Any:
    """Mark a number that the presets give unless it is named."""
    return field(default=None)


@dataclass(frozen=True)
class AdaptSettings:
    """How a site adapts the base to its unlabelled images.

    Numbers that aren't named are those of ``memory``, if it is named and has them, else those of ``method``
    (``client.training.presets`` lists both). Made settings hold a number for each key, so a checkpoint or a log
    says all of them; ``dataclasses.replace`` keeps them, too: to change the method, make new settings.

    Raises:
        ConfigurationError: There is no such preset (a similar one is suggested), or a number can't be meant.

    """

    method: str = "demo"
    """A preset of ``presets.METHODS``: "demo", "dacs", "daformer", "hrda", "mic", "advent" or "source"."""
    memory: str = ""
    """A preset of ``presets.MEMORY`` for GPUs with that much memory: "8GB", "16GB" or "24GB"; none by default."""
    seed: int = 0
    """Seed of batches, mixing, masks, augmentation and dropout."""

    # What a step is.
    steps: int = _preset()
    """Optimizer steps."""
    batch: int = _preset()
    """Source images, and as many target images, that pass at once, on all devices together."""
    accumulate: int = _preset()
    """Batches whose gradients are averaged for one optimizer step."""

    # Optimizer.
    lr: float = _preset()
    """Peak learning rate of AdamW; falls linearly to zero (polynomial decay of power 1)."""
    head_lr: float = _preset()
    """By how much the decode head's learning rate is larger."""
    weight_decay: float = _preset()
    """AdamW's decoupled weight decay."""
    decay_norms: bool = _preset()
    """Whether weight decay also acts on the encoder's norm layers and position blocks."""
    warmup: int = _preset()
    """Steps over which the learning rate rises linearly."""
    clip: float = _preset()
    """Largest norm of a step's gradient, which is scaled down to it; 0 = any."""

    # Self-training (DACS).
    ema: float = _preset()
    """The teacher's momentum: its parameters follow the student's by (1 − ema) a step."""
    mixed: float = _preset()
    """Weight of the loss on mixed images; 0 = there are none."""
    threshold: float = _preset()
    """Confidence from which a pseudo-label counts as sure."""
    mix: float = _preset()
    """Share of a source image's classes that are pasted into a target image."""
    source_jitter: float = _preset()
    """Strength of the source images' colour jitter, 0…1. The papers have none. In the demo a site without it
    unlearns what made the base robust: every single model, and the merged one with them, falls below the base
    elsewhere."""
    jitter: float = _preset()
    """Strength of the mixed and masked images' colour jitter, 0…1."""
    jitter_share: float = _preset()
    """Share of source, mixed and masked images that are jittered."""
    blur_share: float = _preset()
    """Share of mixed and masked images that are blurred."""

    # Feature distance (DAFormer).
    feature_distance: float = _preset()
    """Weight λ of the distance to the frozen encoder's features; 0 = there is none. Needs a model with an encoder
    of ``client.models.network``."""
    feature_classes: tuple[int, ...] = _preset()
    """Classes at whose pixels features are compared."""
    feature_ratio: float = _preset()
    """Share of a feature's pixels that have to be of one such class; above one half."""
    encoder: str = ""
    """File with the ImageNet encoder that features are compared with (``client.models.pretrained``); by default
    the base's own, which is the same where the base came from ImageNet."""

    # Masked consistency (MIC).
    masked: float = _preset()
    """Weight of the loss on masked target images; 0 = there are none."""
    mask_block: int = _preset()
    """Side of the patches that are masked, in pixels."""
    mask_ratio: float = _preset()
    """Probability of a patch to be masked."""

    # Entropy minimisation (ADVENT).
    entropy: float = _preset()
    """Weight of the entropy of predictions on target images; 0 = it isn't minimised."""

    # The machine.
    precision: str = _preset()
    """What passes are computed in: "32", "bf16-mixed" or "16-mixed"."""
    compile: bool = False
    """Compile the networks with ``torch.compile``: minutes at the start of each process, and steps that may be
    quicker (on a CPU they weren't). Needs a C++ compiler, or Triton on a GPU."""
    devices: int = 1
    """GPUs that train together; each takes its share of ``batch``, which has to be a multiple of this."""
    checkpoint_every: int = 100
    """Steps between checkpoints, if a checkpoint file is named."""
    tensorboard: bool = True
    """Write logs for TensorBoard, if a folder for them is named."""

    def __post_init__(self) -> None:
        for name, value in chosen(self.method, self.memory).items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        object.__setattr__(self, "feature_classes", tuple(self.feature_classes))
        _check(self)

    def identity(self) -> dict[str, Any]:
        """Return the settings that a run's result depends on."""
        return {key: value for key, value in asdict(self).items() if key not in _RESULT_IS_THE_SAME}


_SHARES = {
    "jitter",
    "source_jitter",
    "jitter_share",
    "blur_share",
    "mix",
    "ema",
    "threshold",
    "mask_ratio",
    "feature_ratio",
}
_COUNTS = {"steps", "batch", "accumulate", "checkpoint_every", "mask_block", "devices"}
_NOT_NEGATIVE = {
    "lr",
    "head_lr",
    "weight_decay",
    "warmup",
    "seed",
    "clip",
    "mixed",
    "feature_distance",
    "masked",
    "entropy",
}


def _check(settings: BaseSettings | AdaptSettings) -> None:
    """Refuse numbers that can't be meant, naming the first."""
    values: Mapping[str, Any] = {field.name: getattr(settings, field.name) for field in fields(settings)}
    for name, value in values.items():
        if name in _SHARES and not 0 <= value <= 1:
            raise ConfigurationError(f"{name} = {value} is not a share.", "Give a number from 0 to 1.")
        if name in _COUNTS and value < 1:
            raise ConfigurationError(f"{name} = {value} is too small.", "Give 1 or more.")
        if name in _NOT_NEGATIVE and not value >= 0:
            raise ConfigurationError(f"{name} = {value} is negative.", "Give 0 or more.")
    if isinstance(settings, AdaptSettings):
        if settings.feature_distance and settings.feature_ratio <= 0.5:
            raise ConfigurationError(
                f"feature_ratio = {settings.feature_ratio} lets two classes claim one feature.",
                "Give a number above 0.5, up to 1.",
            )
        if not all(0 <= number < 255 for number in settings.feature_classes):
            raise ConfigurationError(
                f"feature_classes = {list(settings.feature_classes)} are no classes.", "Give train ids, 0 to 254."
            )
        if settings.precision not in PRECISIONS:
            raise ConfigurationError(
                f"precision = {settings.precision!r} is none.", f"Give one of {', '.join(map(repr, PRECISIONS))}."
            )


__all__ = ["MEMORY", "METHODS", "PRECISIONS", "AdaptSettings", "BaseSettings"]
