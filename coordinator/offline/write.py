"""Carrying a plan out: the merged files, and a receipt and a model card beside each."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from coordinator.merge import device
from coordinator.merge.midpoint import merged_content
from coordinator.merge.state import Update
from coordinator.offline import buffers
from coordinator.offline.card import card
from coordinator.offline.inputs import Input
from coordinator.offline.plan import Plan
from coordinator.offline.weights import shares
from protos import boundary, files
from protos.checkpoints import open_model, write_torch
from protos.digest import model_digest
from protos.errors import ConfigurationError
from protos.manifest import TensorSpec
from protos.receipts import BUFFER_RULE
from protos.tensorfile import write_tensors

TORCH = (".pth", ".pt", ".bin")
Content = Callable[[str], Iterator[bytes | memoryview]]


@dataclass(frozen=True)
class Output:
    """A file that was written.

    Attributes:
        path: Where.
        digest: The model's canonical digest.
        receipt: What went in and by which rule; also in ``<name>.receipt.json``.

    """

    path: Path
    digest: bytes
    receipt: dict[str, Any]


def check_free(plan: Plan, *, force: bool) -> None:
    """Refuse to write over what is there.

    Raises:
        ConfigurationError: An output exists, or is one of the inputs.

    """
    read = {path.resolve() for i in plan.inputs for path in i.file.files}
    for path in plan.outputs:
        if path.resolve() in read:
            raise ConfigurationError(f"{path} is one of the inputs", "write to another file")
        if path.exists() and not force:
            raise ConfigurationError(f"{path} is there already", "choose another name, or write over it: --force")


def write(plan: Plan, progress: Callable[[int], None] = lambda _: None) -> list[Output]:
    """Write all outputs of a plan.

    Args:
        plan: What to do.
        progress: Called with the number of bytes written since the last call, from several threads.

    Raises:
        ModelFileError: A model holds what can't be merged, e.g. NaN.
        MergeRangeError: A value is out of range.
        StorageError: The disk is full; no partial file stays behind.

    """
    merged = _merged(plan)
    written: list[Output] = []
    with ExitStack() as opened:
        for path, i in zip(plan.outputs, plan.inputs, strict=False):
            files.make_folder(path.parent)
            content = _counted(_either(plan.own, i.reader.chunks, merged), progress)
            written.append(_beside(plan, path, i, _write(plan, path, i, content)))
            if len(written) == 1 and len(plan.outputs) > 1:  # the others share what has been merged
                merged = opened.enter_context(open_model(path, None)).chunks
    return written


def _either(own: Callable[[str], bool], mine: Content, merged: Content) -> Content:
    return lambda name: (mine if own(name) else merged)(name)


def _merged(plan: Plan) -> Content:
    layers = [layer for layer in plan.manifest.layers if not plan.own(f"{layer}.running_mean")]
    statistics = buffers.merged(plan.inputs, layers, plan.buffer_rule, plan.buffer_source)
    terms = [
        (weight, Update(i.reader, {}, b"", i.name))
        for weight, i in zip(plan.weights, plan.inputs, strict=True)
        if weight
    ]
    if plan.device == "cpu":
        return merged_content(plan.inputs[0].file, terms, statistics)
    device.check_device(plan.device)
    adder = partial(device.DeviceSum, device=plan.device)
    return merged_content(plan.inputs[0].file, terms, statistics, adder, device.BLOCK)


def _write(plan: Plan, path: Path, i: Input, content: Content) -> bytes:
    specs: Mapping[str, TensorSpec] = i.file.manifest.tensors
    if path.suffix in TORCH:
        digests = write_torch(path, specs, content, _meta(plan), threads=plan.threads, durable=False)
    else:
        digests = write_tensors(path, specs, content, _metadata(plan), threads=plan.threads, durable=False)
    return model_digest(specs, digests)


def _metadata(plan: Plan) -> dict[str, str]:
    """Return what all inputs say of themselves, and how they were merged."""
    first, *others = [i.file.metadata for i in plan.inputs]
    same = {key: value for key, value in first.items() if all(other.get(key) == value for other in others)}
    same.pop("campaign", None)
    found = {**same, "format": "pt", "merged_by": "onebasin", "buffers": plan.buffer_rule.value}
    return dict(sorted(found.items()))  # in the files of the safetensors library they stand in any order


def _meta(plan: Plan) -> Mapping[str, Any]:
    """Return the first checkpoint's meta that has classes: mmsegmentation's tools need them."""
    metas = [i.file.meta for i in plan.inputs]
    return next((meta for meta in metas if "CLASSES" in meta), metas[0])


def _beside(plan: Plan, path: Path, i: Input, digest: bytes) -> Output:
    receipt = {
        "created_unix": int(time.time()),
        "inputs": [
            {
                "name": one.name,
                "file": str(one.file.path),
                "copy": one.file.copy,
                "digest": one.digest_text,
                "weight": weight,
                "share": share,
                "batches": batches,
                "channels_in_place": None if one.order is None else one.order.share,
            }
            for one, weight, share, batches in zip(
                plan.inputs, plan.weights, shares(plan.weights), plan.batches, strict=True
            )
        ],
        "parameter_rule": plan.parameter_rule,
        "buffer_rule": {"pooled": BUFFER_RULE}.get(plan.buffer_rule.value, plan.buffer_rule.value),
        "buffers_from": plan.buffer_source.name if plan.buffer_source else None,
        "own_tensors_of": i.name if len(plan.outputs) > 1 else None,
        "own_tensors": sorted(name for name in i.file.manifest.tensors if plan.own(name)),
        "merged": {"file": path.name, "digest": digest.hex(), "bytes": path.stat().st_size},
        "signed": False,
        "versions": {entry.name: entry.version for entry in boundary.versions()},
    }
    files.write(path.with_name(f"{path.stem}.receipt.json"), json.dumps(receipt, indent=1) + "\n")
    files.write(path.with_name(f"{path.stem}.README.md"), card(plan, path, i, digest))
    return Output(path, digest, receipt)


def _counted(content: Content, progress: Callable[[int], None]) -> Content:
    def counted(name: str) -> Iterator[bytes | memoryview]:
        for chunk in content(name):
            yield chunk
            progress(len(chunk))

    return counted
