"""The tables of backbones: ResNets (He et al., 2016) and Mix Transformers (MiT; Xie et al., 2021, SegFormer).

Names are mmsegmentation's, which are those of the official checkpoints.
"""

from __future__ import annotations

from dataclasses import dataclass

from coordinator.merge.basin.table import KEPT, Channels, Draft, Group, UnknownLayerError


@dataclass(frozen=True)
class Features:
    """What heads may read of a backbone.

    Attributes:
        stem: What its first layers write; nothing if no head reads that.
        stages: What each of its stages writes, the finest first.

    """

    stem: Channels
    stages: tuple[Channels, ...]


def backbone(draft: Draft, root: str) -> Features | None:
    """Write down the backbone whose tensors' names begin with `root`.

    Returns:
        What it hands to the heads; None if there is no backbone that is known here.

    Raises:
        UnknownLayerError: It is a known one with an unknown layer.

    """
    if draft.has(f"{root}layer1.0.conv1"):
        return _resnet(draft, root)
    if draft.has(f"{root}patch_embed1"):
        return _mit(draft, root)
    return None


def _resnet(draft: Draft, root: str) -> Features:
    """Write down a ResNet with a plain stem, V1c's deep one (three convolutions) or tiny-resnet's."""
    if draft.has(f"{root}conv1"):
        stream = draft.weight(f"{root}conv1", KEPT, (f"{root}conv1",))
        draft.norm(f"{root}bn1", stream)
    elif draft.has(f"{root}stem.conv"):
        stream = draft.module(f"{root}stem", KEPT)
    else:
        stream = _sequence(draft, f"{root}stem", KEPT)
    stem = stream
    stages: list[Channels] = []
    while blocks := draft.numbered(f"{root}layer{len(stages) + 1}"):
        for place, block in enumerate(blocks):
            stream = _block(draft, block, stream, f"{root}layer{len(stages) + 1}" if place == 0 else block)
        stages.append(stream)
    return Features(stem, tuple(stages))


def _block(draft: Draft, block: str, stream: Channels, name: str) -> Channels:
    """Write down a basic block (two convolutions) or a bottleneck (three).

    Returns:
        The stream that it adds to, which is a new one where it has a `downsample`.

    """
    out = stream
    if draft.has(f"{block}.downsample"):
        out = _sequence(draft, f"{block}.downsample", stream, (name,))
    deep = draft.has(f"{block}.conv3")
    hidden = draft.weight(f"{block}.conv1", stream, (f"{block}.conv1",))
    draft.norm(f"{block}.bn1", hidden)
    if not deep:
        draft.weight(f"{block}.conv2", hidden, out)
        draft.norm(f"{block}.bn2", out)
        return out
    inner: Channels = (f"{block}.conv2",)
    if draft.shape(f"{block}.conv2.weight")[1] == draft.width(hidden):
        draft.weight(f"{block}.conv2", hidden, inner)
    else:
        # Within each group of a grouped convolution (ResNeXt) inputs have an order of their own, which one
        # permutation of an axis can't say. Nothing outside of the block sees these channels.
        draft.weight(f"{block}.conv2", KEPT, inner)
        draft.fix((*hidden, *inner), "grouped convolution")
    draft.norm(f"{block}.bn2", inner)
    draft.weight(f"{block}.conv3", inner, out)
    draft.norm(f"{block}.bn3", out)
    return out


def _sequence(draft: Draft, layer: str, into: Channels, out: Channels | None = None) -> Channels:
    """Write down numbered convolutions and norms in a row; layers without weights leave gaps in the numbers."""
    stream = into
    for child in draft.numbered(layer):
        if len(draft.shape(f"{child}.weight")) > 1:
            stream = draft.weight(child, stream, (child,) if out is None else out)
        else:
            draft.norm(child, stream)
    if stream is into:
        raise UnknownLayerError(f"{layer}.0.weight")
    return stream


def _mit(draft: Draft, root: str) -> Features:
    """Write down a Mix Transformer, B0 to B5: each stage is a residual stream of its own, with norms along it."""
    stream, stages = KEPT, list[Channels]()
    while draft.has(embed := f"{root}patch_embed{len(stages) + 1}"):
        stage = len(stages) + 1
        stream = draft.weight(f"{embed}.proj", stream, (embed,))
        draft.norm(f"{embed}.norm", stream)
        # No tensor tells the number of heads. All variants have one in the first stage, and heads of one width.
        width = draft.width(stages[0] if stages else stream)
        for block in draft.numbered(f"{root}block{stage}"):
            draft.norm(f"{block}.norm1", stream)
            _attention(draft, f"{block}.attn", stream, width)
            draft.norm(f"{block}.norm2", stream)
            hidden = draft.weight(f"{block}.mlp.fc1", stream, (f"{block}.mlp.fc1",))
            draft.depthwise(f"{block}.mlp.dwconv.dwconv", hidden)
            draft.weight(f"{block}.mlp.fc2", hidden, stream)
        draft.norm(f"{root}norm{stage}", stream)
        stages.append(stream)
    return Features(KEPT, tuple(stages))


def _attention(draft: Draft, layer: str, stream: Channels, width: int) -> None:
    """Write down attention with spatial reduction.

    A score is a sum over a head's channels of query times key, so these two share an order, and values share one
    with what `proj` reads. The layer `kv` writes keys, then values.
    """
    size = draft.width(stream)
    if size % width:
        raise UnknownLayerError(f"{layer}.q.weight")
    scores, values = (f"{layer}.q",), (f"{layer}.v",)
    for name in (*scores, *values):
        draft.groups[name] = Group(size, heads=size // width, tied=layer)
    draft.weight(f"{layer}.q", stream, scores)
    seen = stream
    if draft.has(f"{layer}.sr"):
        seen = draft.weight(f"{layer}.sr", stream, (f"{layer}.sr",))
        draft.norm(f"{layer}.norm", seen)
    draft.weight(f"{layer}.kv", seen, scores + values)
    draft.weight(f"{layer}.proj", values, stream)
