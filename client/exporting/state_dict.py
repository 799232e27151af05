"""A model as a plain state dict: no PyTorch needed, nothing rounded, names as mmsegmentation has them."""

from __future__ import annotations

from pathlib import Path

from client.exporting.described import meaning
from client.exporting.source import POOLED, Source
from protos.checkpoints import write_torch
from protos.digest import model_digest
from protos.errors import ConfigurationError
from protos.merged import LIMIT_KEY, SETS
from protos.tensorfile import write_tensors

TORCH, SAFETENSORS = (".pth", ".pt"), ".safetensors"
WRAP = "state_dict"
"""The one way to wrap a state dict: as mmsegmentation does, beside the names and colours of the classes."""


def write(source: Source, path: Path, *, classes: int, wrap: str = "") -> bytes:
    """Write a model's parameters and buffers under their own names, atomically.

    Args:
        source: The model.
        path: Where to; the suffix says which format.
        classes: How many classes it tells apart.
        wrap: `WRAP`, or nothing.

    Returns:
        The canonical digest of what was written, 32 bytes.

    Raises:
        ConfigurationError: The model has several sets of statistics and none is chosen.
        MergeRangeError: A statistic is more than the network's dtype holds.
        StorageError: The disk is full.

    """
    if source.routes:
        raise ConfigurationError(
            f"{source.file.path} holds {len(source.names)} sets of statistics beside the pooled ones, and a state "
            "dict has room for one",
            f"choose one: --statistics {POOLED}, or one of {', '.join(source.names)}; ONNX takes all of them",
        )
    chosen = source.statistics()
    specs = source.tensors
    if path.suffix == SAFETENSORS:
        kept = {key: value for key, value in source.file.metadata.items() if key not in (SETS, LIMIT_KEY)}
        said = {**kept, "format": "pt", **({"statistics": source.chosen} if source.chosen else {})}
        digests = write_tensors(path, specs, lambda name: source.content(name, chosen), dict(sorted(said.items())))
    else:
        found = meaning(source.file, classes)
        notes = {
            **source.file.meta,
            **({"CLASSES": found.classes} if found.classes else {}),
            **({"PALETTE": [list(colour) for colour in found.palette]} if found.palette else {}),
        }
        digests = write_torch(path, specs, lambda name: source.content(name, chosen), notes, wrapped=bool(wrap))
    return model_digest(specs, digests)
