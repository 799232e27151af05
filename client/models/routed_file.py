"""A routed model as one safetensors file, which is also the plain model's: see :mod:`protos.merged`."""

from __future__ import annotations

import json
import math
from pathlib import Path

from client.models import norms
from client.models.opening import fill, network_of
from client.models.routed import RoutedModel
from client.tensors import raw_state
from protos.boundary import BatchNorm
from protos.checkpoints import ModelFile, open_model
from protos.errors import ModelFileError
from protos.manifest import STATISTICS
from protos.merged import LIMIT_KEY, PREFIX, SETS, further_key, further_values, sets_metadata
from protos.tensorfile import write_arrays


def save_routed(path: Path, routed: RoutedModel, *, model: str, classes: int) -> None:
    """Write a routed model, atomically.

    Args:
        path: Where to.
        routed: The model.
        model: Its network's name, one of ``client.models.MODELS``.
        classes: Its number of classes.

    Raises:
        StorageError: The file can't be written.

    """
    arrays = raw_state(routed.network.state_dict())
    for name, layers in routed.sets.items():
        for layer, found in layers.items():
            for part in STATISTICS:
                arrays[further_key(name, layer, part)] = further_values(found, part)
    described = {"format": "pt", "model": model, "classes": str(classes)}
    write_arrays(path, arrays, {**described, **sets_metadata(list(routed.names), routed.limit)})


def load_routed(path: Path) -> RoutedModel:
    """Read what :func:`save_routed` wrote; see :func:`routed`."""
    with open_model(path) as file:
        return routed(file)


def routed(file: ModelFile) -> RoutedModel:
    """Read a routed model from an open file.

    Returns:
        The model, on the CPU.

    Raises:
        ModelFileError: The file is damaged or holds no routed model, or its tensors don't fit its architecture or
            each other.
        ConfigurationError: There is no such architecture.

    """
    names, limit = described_sets(file)
    network = network_of(file, file.path.name)
    fill(network, file, {name for name in file.manifest.tensors if not name.startswith(PREFIX)})
    pooled = norms.statistics(network)
    found = {name: {layer: read_set(file, name, layer) for layer in pooled} for name in names}
    return RoutedModel.from_sets(network, pooled, found, limit=limit)


def described_sets(file: ModelFile) -> tuple[list[str], float]:
    """Read the names of the sets and the limit of the choice from the metadata.

    Raises:
        ModelFileError: The file holds no sets, or doesn't say which.

    """
    if SETS not in file.metadata:
        raise ModelFileError(f"{file.path} holds one model without sets of statistics", "open it as a plain model")
    try:
        names = json.loads(file.metadata[SETS])
        limit = float(file.metadata[LIMIT_KEY])
    except (ValueError, KeyError):
        names, limit = None, math.nan
    strings = isinstance(names, list) and all(isinstance(name, str) for name in names)
    if not strings or len(set(names)) != len(names) or not limit > 0:
        raise ModelFileError(f"{file.path} doesn't say which sets of statistics it holds", "write it again")
    return names, limit


def read_set(file: ModelFile, name: str, layer: str) -> BatchNorm:
    """Read a layer's statistics of one of the sets.

    Raises:
        ModelFileError: They are not all there.

    """
    keys = [further_key(name, layer, part) for part in STATISTICS]
    tensors = file.manifest.tensors
    missing = [key for key in keys if key not in tensors]
    if missing:
        raise ModelFileError(f"{file.path} has no {missing[0]}", "write it again with whole sets of statistics")
    mean, var = (tensors[key].dtype.widen(file.tensor(key)) for key in keys[:2])
    return BatchNorm(mean, var, int(file.read(keys[2])[0]))
