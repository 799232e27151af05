"""The merged model's file: delivered or merged parameters, with the statistics that the campaign's rule names.

Both sides write it, from the same parts, and get the same digest.

With several sets of statistics, the file is also the plain model's: the network's tensors have their own names,
with the statistics for images like no site's; each set's are at ``sets.<name>.<layer>.running_mean``,
``….running_var`` and ``….num_batches_tracked``, in float32. The metadata name the sets in their order (``sets``, a
JSON list) and the limit of the choice (``limit``).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from protos.boundary import BatchNorm, Statistics
from protos.campaign import Campaign
from protos.dtypes import by_name
from protos.errors import MergeRangeError
from protos.manifest import COUNT, MEAN, STATISTICS, VAR, Manifest, TensorSpec, join
from protos.tensorfile import TensorFile, write_tensors

PREFIX: Final = "sets."
"""What the names of the sets' tensors begin with."""
SETS: Final = "sets"
LIMIT_KEY: Final = "limit"
LIMIT: Final = 0.25
"""How far an image may be from a set, as `client.models.routed` measures it."""


def metadata(campaign: Campaign) -> dict[str, str]:
    """Return what the header of a campaign's merged model says of it."""
    return {
        "format": "pt",
        "model": campaign.message.model,
        "classes": str(campaign.message.classes),
        "campaign": campaign.digest.hex(),
        "base": campaign.message.base_digest.hex(),
    }


def write(
    path: Path,
    base: TensorFile,
    parameters: TensorFile,
    statistics: Statistics,
    described: Mapping[str, str],
    sets: Mapping[str, Statistics] | None = None,
) -> tuple[Mapping[str, TensorSpec], dict[str, bytes]]:
    """Write a merged model, atomically.

    Args:
        path: Where to.
        base: What other buffers are taken from.
        parameters: Holds the parameters.
        statistics: Each BatchNorm layer's.
        described: For the file's header; what the sets need is added.
        sets: Further statistics, by site, among which the model chooses.

    Returns:
        The file's tensors, and the SHA-256 of each one's bytes.

    Raises:
        MergeRangeError: A statistic is more than the base's dtype holds.
        StorageError: The disk is full.

    """
    manifest, further = base.manifest, further_specs(base.manifest, sets or {})

    def content(name: str) -> Iterator[bytes | memoryview]:
        layer, _, part = name.rpartition(".")
        if name in further:
            site, _, layer = layer.removeprefix(PREFIX).partition(".")
            yield further_values((sets or {})[site][layer], part).tobytes()
        elif name in manifest.parameters:
            yield from parameters.chunks(name)
        elif part in STATISTICS:
            yield statistic(manifest, name, statistics[layer]).tobytes()
        else:
            yield from base.chunks(name)

    specs = dict(sorted({**manifest.tensors, **further}.items()))
    if sets:
        described = {**described, **sets_metadata(list(sets))}
    return specs, write_tensors(path, specs, content, described)


def statistic(manifest: Manifest, name: str, found: BatchNorm) -> npt.NDArray[np.generic]:
    """Return the values of one of a layer's tensors as a model of this manifest stores them.

    Raises:
        MergeRangeError: A value is more than the dtype holds.

    """
    part = name.rpartition(".")[2]
    if part == COUNT:
        return np.asarray(found.count, "<i8")
    dtype = manifest.tensors[name].dtype
    with np.errstate(over="ignore"):
        values = dtype.narrow({MEAN: found.mean, VAR: found.var}[part])
    if not np.isfinite(dtype.widen(values)).all():
        raise MergeRangeError(
            f"the merged {name} is more than {dtype.name} holds", "make a base in float32", tensor=name
        )
    return values


def further_key(site: str, layer: str, part: str) -> str:
    """Name a tensor of a set."""
    return f"{PREFIX}{site}.{join(layer, part)}"


def further_specs(base: Manifest, sets: Mapping[str, object]) -> dict[str, TensorSpec]:
    """Return the tensors that sets of statistics add to a model."""
    real, whole = by_name("float32"), by_name("int64")
    return {
        further_key(site, layer, part): TensorSpec(whole, ()) if part == COUNT else TensorSpec(real, (channels,))
        for site in sets
        for layer, channels in base.layers.items()
        for part in STATISTICS
    }


def further_values(found: BatchNorm, part: str) -> npt.NDArray[np.generic]:
    """Return the values of a set's tensor."""
    return np.asarray(found.count, "<i8") if part == COUNT else {MEAN: found.mean, VAR: found.var}[part]


def sets_metadata(names: list[str], limit: float = LIMIT) -> dict[str, str]:
    """Return what a file's header says of its sets."""
    return {SETS: json.dumps(names), LIMIT_KEY: repr(limit)}
