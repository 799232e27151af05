"""From a model's tensors to its table: which architecture it is shows in names and shapes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from coordinator.merge.basin.backbones import Features, backbone
from coordinator.merge.basin.heads import head
from coordinator.merge.basin.table import KEPT, Draft, Table, UnknownLayerError
from protos.errors import ModelFileError
from protos.manifest import TensorSpec

_KNOWN = (
    "known are, by mmsegmentation's names, ResNet and MiT backbones with the heads DAFormer, HRDA, SegFormer, "
    "DeepLab and FCN, and tiny-resnet; `onebasin merge` without --align works for any architecture"
)


def table_of(specs: Mapping[str, TensorSpec]) -> Table:
    """Write down which axis of which tensor carries which channels.

    A head that is not known here keeps what it reads in order: nothing of a backbone but what its stages write is
    seen from outside, so these groups are fixed, and all others may still change.

    Args:
        specs: All tensors of a model.

    Raises:
        ModelFileError: The backbone is not known here, or has a layer that isn't; names the first such tensor.

    """
    draft = Draft(specs)
    try:
        features = backbone(draft, "backbone.") or backbone(draft, "")
    except UnknownLayerError as error:
        raise _unknown(error.tensor) from None
    if features is None:
        raise _unknown(min(specs))
    described = {_part(name) for name in draft.axes if specs[name].shape}
    unknown = []
    for part in _in_order(map(_part, specs)):
        if part not in described:
            tried = _with_head(draft, part, features)
            if tried is None:
                _fix_head(draft, part, features)
                unknown.append(part)
            else:
                draft = tried
    left = sorted(specs.keys() - draft.axes.keys())
    if left:
        raise _unknown(left[0])
    return draft.table(tuple(unknown))


def _with_head(draft: Draft, part: str, features: Features) -> Draft | None:
    """Return a draft with a head in it; None if not all of the head is known."""
    tried = draft.copy()
    try:
        if f"{part}.weight" in draft.specs:  # a single layer, as a classifier has after its last stage
            tried.weight(part, features.stages[-1], KEPT)
        else:
            head(tried, part, features)
    except UnknownLayerError:
        return None
    return tried if all(name in tried.axes for name in draft.specs if _part(name) == part) else None


def _fix_head(draft: Draft, part: str, features: Features) -> None:
    for channels in (features.stem, *features.stages):
        draft.fix(channels, f"read by {part}, which is not known here")
    for name in draft.specs:
        if _part(name) == part:
            draft.keep(name)


def _part(name: str) -> str:
    """Return the part of the model that a tensor belongs to: the backbone, a head."""
    return name.partition(".")[0]


def _in_order(parts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(parts))


def _unknown(tensor: str) -> ModelFileError:
    return ModelFileError(f"no table tells which channels {tensor} has", _KNOWN)
