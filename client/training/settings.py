"""Every number that training depends on, with the defaults of the demo: 19 classes at 64 × 128 on one core."""

from __future__ import annotations

from dataclasses import dataclass, fields

from protos.errors import ConfigurationError


@dataclass(frozen=True)
class BaseSettings:
    """How the base is trained on labelled source images."""

    steps: int = 1000
    """Optimizer steps."""
    batch: int = 8
    """Images for each step."""
    lr: float = 3e-3
    """Peak learning rate of AdamW; falls linearly to zero."""
    weight_decay: float = 0.01
    """AdamW's decoupled weight decay."""
    seed: int = 0
    """Seed of batches and augmentation."""
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


@dataclass(frozen=True)
class AdaptSettings:
    """How a site adapts the base to its unlabelled images."""

    method: str = "dacs"
    """The method of unsupervised domain adaptation; "dacs" is the only one so far."""
    steps: int = 450
    """Optimizer steps."""
    batch: int = 4
    """Source images, and as many target images, for each step."""
    lr: float = 4e-3
    """Peak learning rate of AdamW; falls linearly to zero. High, for a tiny network and few steps."""
    weight_decay: float = 0.01
    """AdamW's decoupled weight decay."""
    warmup: int = 20
    """Steps over which the learning rate rises linearly."""
    ema: float = 0.99
    """The teacher's momentum: its parameters follow the student's by (1 − ema) a step."""
    threshold: float = 0.8
    """Confidence from which a pseudo-label counts as sure; the paper's large models use 0.968."""
    source_jitter: float = 0.5
    """Strength of the source images' colour jitter, 0…1. The paper has none. Here a site without it unlearns what
    made the base robust: every single model, and the merged one with them, falls below the base elsewhere."""
    jitter: float = 0.4
    """Strength of the mixed images' colour jitter, 0…1."""
    jitter_share: float = 0.8
    """Share of source and of mixed images that are jittered."""
    blur_share: float = 0.5
    """Share of mixed images that are blurred."""
    mix: float = 0.5
    """Share of a source image's classes that are pasted into a target image."""
    seed: int = 0
    """Seed of batches, mixing and augmentation."""
    checkpoint_every: int = 100
    """Steps between checkpoints, if a checkpoint file is named."""

    def __post_init__(self) -> None:
        if self.method != "dacs":
            raise ConfigurationError(f"There is no adaptation method {self.method!r}.", "Use 'dacs'.")
        _check(self)


def _check(settings: BaseSettings | AdaptSettings) -> None:
    """Refuse numbers that can't be meant, naming the first."""
    shares = {"jitter", "source_jitter", "jitter_share", "blur_share", "mix", "ema", "threshold"}
    counts = {"steps", "batch", "checkpoint_every"}
    for name in (field.name for field in fields(settings)):
        value = getattr(settings, name)
        if name in shares and not 0 <= value <= 1:
            raise ConfigurationError(f"{name} = {value} is not a share.", "Give a number from 0 to 1.")
        if name in counts and value < 1:
            raise ConfigurationError(f"{name} = {value} is too small.", "Give 1 or more.")
        if name in {"lr", "weight_decay", "warmup", "seed"} and not value >= 0:
            raise ConfigurationError(f"{name} = {value} is negative.", "Give 0 or more.")
