"""The tables of decode heads, by mmsegmentation's names: what each reads of the backbone, and its own channels."""

from __future__ import annotations

from coordinator.merge.basin.backbones import Features
from coordinator.merge.basin.table import KEPT, Channels, Draft, UnknownLayerError


def head(draft: Draft, root: str, features: Features) -> None:
    """Write down the head whose tensors' names begin with `root` and a dot.

    Raises:
        UnknownLayerError: It is none that is known here, or has an unknown layer.

    """
    for mark, write in _HEADS.items():
        if draft.has(f"{root}.{mark}"):
            write(draft, root, features)
            return
    raise UnknownLayerError(next(name for name in draft.specs if name.startswith(f"{root}.")))


def _hrda(draft: Draft, root: str, features: Features) -> None:
    """HRDA (Hoyer et al., ECCV 2022): one head for both resolutions, and one that weighs them by class."""
    head(draft, f"{root}.head", features)
    head(draft, f"{root}.scale_attention", features)


def _daformer(draft: Draft, root: str, features: Features) -> None:
    """DAFormer (Hoyer et al., CVPR 2022): embeds every stage, and fuses them with an ASPP or one convolution."""
    embedded = KEPT
    for layer, into in _by_stage(draft, f"{root}.embed_layers", features):
        embedded += draft.weight(f"{layer}.proj", into, (layer,))
    fuse = f"{root}.fuse_layer"
    _classes(
        draft,
        root,
        _aspp(draft, fuse, embedded) if draft.has(f"{fuse}.bottleneck") else draft.module(fuse, embedded),
    )


def _aspp_head(draft: Draft, root: str, features: Features) -> None:
    """DeepLab: version 2 adds its branches' logits up, version 3 joins its branches."""
    into = features.stages[-1]
    if draft.has(f"{root}.bottleneck"):
        _classes(draft, root, _aspp(draft, root, into))
    else:
        for branch in draft.numbered(f"{root}.aspp_modules"):
            draft.module(branch, into, KEPT)


def _segformer(draft: Draft, root: str, features: Features) -> None:
    """SegFormer (Xie et al., NeurIPS 2021), as DAFormer's code names it, or as its authors' does."""
    if draft.numbered(f"{root}.linear_c"):
        layers = list(_by_stage(draft, f"{root}.linear_c", features))
    else:  # the authors' code joins the coarsest stage first
        layers = [(f"{root}.linear_c{place}", into) for place, into in enumerate(features.stages, 1)][::-1]
    joined = KEPT
    for layer, into in layers:
        joined += draft.weight(f"{layer}.proj", into, (layer,))
    draft.weight(f"{root}.linear_pred", draft.module(f"{root}.linear_fuse", joined), KEPT)
    if draft.has(f"{root}.conv_seg"):  # every head inherits one, and this one doesn't use it
        draft.weight(f"{root}.conv_seg", KEPT, KEPT)


def _mm_segformer(draft: Draft, root: str, features: Features) -> None:
    """SegFormer as mmsegmentation names it."""
    joined = KEPT
    for layer, into in _by_stage(draft, f"{root}.convs", features):
        joined += draft.module(layer, into)
    _classes(draft, root, draft.module(f"{root}.fusion_conv", joined))


def _fcn(draft: Draft, root: str, features: Features) -> None:
    """Convolutions in a row on one stage; mmsegmentation's auxiliary head."""
    first, *rest = draft.numbered(f"{root}.convs")
    wanted = draft.shape(f"{first}.conv.weight")[1]
    found = [into for into in features.stages if draft.width(into) == wanted]
    if len(found) != 1:  # no tensor tells which stage it reads but by its width
        raise UnknownLayerError(f"{first}.conv.weight")
    stream = draft.module(first, found[0])
    for layer in rest:
        stream = draft.module(layer, stream)
    if draft.has(f"{root}.conv_cat"):
        stream = draft.module(f"{root}.conv_cat", found[0] + stream)
    _classes(draft, root, stream)


def _tiny(draft: Draft, root: str, features: Features) -> None:
    """Tiny-resnet's head: an ASPP, joined with stage 1, and details from the stem."""
    context = KEPT
    for branch in draft.numbered(f"{root}.aspp"):
        context += draft.module(branch, features.stages[-1])
    context = draft.module(f"{root}.project", context)
    skip = draft.module(f"{root}.skip", features.stages[0])
    _classes(draft, root, draft.module(f"{root}.bottleneck", context + skip))
    draft.weight(f"{root}.conv_detail", draft.module(f"{root}.detail", features.stem), KEPT)


def _aspp(draft: Draft, layer: str, into: Channels) -> Channels:
    """Atrous spatial pyramid pooling (DeepLab v3), with or without separable convolutions."""
    joined = KEPT
    if draft.has(f"{layer}.image_pool"):
        joined += draft.module(f"{layer}.image_pool.1", into)
    for branch in draft.numbered(f"{layer}.aspp_modules"):
        if draft.has(f"{branch}.depthwise_conv"):
            draft.depthwise(f"{branch}.depthwise_conv.conv", into)
            draft.norm(f"{branch}.depthwise_conv.bn", into)
            joined += draft.module(f"{branch}.pointwise_conv", into)
        else:
            joined += draft.module(branch, into)
    return draft.module(f"{layer}.bottleneck", joined)


def _classes(draft: Draft, root: str, into: Channels) -> None:
    draft.weight(f"{root}.conv_seg", into, KEPT)


def _by_stage(draft: Draft, layer: str, features: Features) -> list[tuple[str, Channels]]:
    """Pair numbered layers with the stages that they read; a number is a stage's."""
    found = draft.numbered(layer)
    places = [int(child.rpartition(".")[2]) for child in found]
    if any(place >= len(features.stages) for place in places):
        raise UnknownLayerError(f"{found[-1]}.weight")
    return [(child, features.stages[place]) for child, place in zip(found, places, strict=True)]


_HEADS = {
    "scale_attention": _hrda,
    "embed_layers": _daformer,
    "linear_pred": _segformer,
    "fusion_conv": _mm_segformer,
    "aspp_modules": _aspp_head,
    "conv_detail": _tiny,
    "convs": _fcn,
}
"""A child that tells a head, and what writes it down; the first that is there counts."""
