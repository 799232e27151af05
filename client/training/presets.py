"""The numbers of each method, and of each size of GPU.

A method's numbers are those of its authors' configurations; every one can be overridden in a site's settings.

============  ===================================================================================================
``demo``      DACS with numbers found for the demo: the tiny model, small scenes, few steps, one core.
``dacs``      Self-training on mixed images. Tranheden et al., WACV 2021; optimizer and schedule are DAFormer's.
``daformer``  … and features of things kept near ImageNet's, slower teacher. Hoyer et al., CVPR 2022.
``hrda``      … on crops with twice the resolution, for the ``hrda-…`` models. Hoyer et al., ECCV 2022. Its numbers
              are DAFormer's: what is new is in the model, and in ``crop = 1024`` of the data.
``mic``       … and consistency of masked images with whole ones. Hoyer et al., CVPR 2023.
``advent``    Source images and the entropy of target images, directly ("MinEnt"): the cheapest, no mixing, no
              discriminator. Vu et al., CVPR 2019; optimizer and schedule are DAFormer's.
``source``    Source images alone: how a base is trained. At a site, the row "source only" of the papers' tables.
============  ===================================================================================================

How large crops are, and which source images a batch has (DAFormer's rare-class sampling), the data's settings say.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from protos.errors import ConfigurationError

_THINGS = (6, 7, 11, 12, 13, 14, 15, 16, 17, 18)
"""Traffic lights, signs, people and vehicles: the classes that ImageNet knows."""

_PAPER: dict[str, Any] = {
    "steps": 40_000,
    "batch": 2,
    "accumulate": 1,
    "lr": 6e-5,
    "head_lr": 10.0,
    "weight_decay": 0.01,
    "decay_norms": False,
    "warmup": 1500,
    "clip": 0.0,
    "ema": 0.99,
    "mixed": 1.0,
    "threshold": 0.968,
    "mix": 0.5,
    "source_jitter": 0.0,
    "jitter": 0.2,
    "jitter_share": 0.8,
    "blur_share": 0.5,
    "feature_distance": 0.0,
    "feature_classes": _THINGS,
    "feature_ratio": 0.75,
    "masked": 0.0,
    "mask_block": 64,
    "mask_ratio": 0.7,
    "entropy": 0.0,
    "precision": "32",
}
_DAFORMER = {**_PAPER, "ema": 0.999, "feature_distance": 0.005}

METHODS: Final[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
    {
        "demo": {
            **_PAPER,
            "steps": 450,
            "batch": 4,
            "lr": 4e-3,  # high, for a tiny network and few steps
            "head_lr": 1.0,
            "decay_norms": True,
            "warmup": 20,
            "threshold": 0.8,
            "source_jitter": 0.5,
            "jitter": 0.4,
        },
        "dacs": _PAPER,
        "daformer": _DAFORMER,
        "hrda": _DAFORMER,
        "mic": {**_DAFORMER, "masked": 1.0},
        "advent": {**_PAPER, "mixed": 0.0, "entropy": 0.001},
        "source": {**_PAPER, "mixed": 0.0},
    }
)
"""Each method's numbers."""

CROPS: Final[Mapping[str, int]] = MappingProxyType(
    {"dacs": 512, "daformer": 512, "hrda": 1024, "mic": 1024, "advent": 512}
)
"""Side in pixels of the crops for which the authors chose a method's numbers."""

_SMALL = {"batch": 1, "accumulate": 2, "precision": "bf16-mixed"}

MEMORY: Final[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
    {
        "24GB": _SMALL,
        "16GB": {**_SMALL, "feature_distance": 0.0},
        "8GB": {**_SMALL, "feature_distance": 0.0},
    }
)
"""What to change where a GPU has less memory than the papers' numbers need.

Steps keep their two images, but one after the other, in bfloat16. Smaller ones also leave out the feature
distance, and "8GB" has smaller crops (``MAX_CROPS``). **These choices have not been measured on a GPU yet**: they
follow from the authors' 29 GB with and 15 GB without feature distance, for two images of 1024² in float32.
``benchmarks/adaptation.py --memory`` measures them.
"""

MAX_CROPS: Final[Mapping[str, int]] = MappingProxyType({"8GB": 512})
"""Side in pixels of the largest crops that a memory preset leaves a folder's images."""


def chosen(method: str, memory: str) -> dict[str, Any]:
    """Return the numbers of a method, with those of a memory preset in their place.

    Args:
        method: A key of ``METHODS``.
        memory: A key of ``MEMORY``, or nothing.

    Raises:
        ConfigurationError: There is no such preset; a similar one is suggested.

    """
    numbers = dict(_find(METHODS, method, "adaptation method"))
    if memory:
        numbers.update(_find(MEMORY, memory, "memory preset"))
    return numbers


def _find(presets: Mapping[str, Mapping[str, Any]], name: str, what: str) -> Mapping[str, Any]:
    if name not in presets:
        near = difflib.get_close_matches(name, presets, n=1, cutoff=0.4)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        raise ConfigurationError(f"There is no {what} {name!r}.", f"{hint}Known: {', '.join(presets)}.")
    return presets[name]
