"""Which images a site uses, as its settings name them. No PyTorch here: settings are read by every command."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SceneData:
    """Which procedural scenes to render, and how many."""

    domain: str
    """The target domain: one of ``client.data.scenes.DOMAINS``."""
    seed: int = 0
    """Which world; two sites of one domain should have different seeds."""
    source_images: int = 600
    """Labelled images of the source domain."""
    target_images: int = 400
    """Unlabelled images of the target domain, to adapt on."""
    evaluation_images: int = 120
    """Held-out labelled images of the target domain, to judge models on."""
    height: int = 64
    """Pixels."""
    width: int = 128
    """Pixels."""
