"""What every method has in common: images go through a network, and what it says is compared with labels."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from client.data.labels import IGNORE
from client.models.hrda import ALIGNED, HRDA, Sizes
from client.models.network import EncoderDecoder, Lesson, View
from client.models.windows import cut
from client.training.advent import entropy


def pixel_loss(logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the cross-entropy, averaged over all pixels: one that is ignored counts, as 0.

    So a crop without any label gives 0 and no NaN, and a pixel weighs the same in every batch. The authors of
    DAFormer do the same.

    Args:
        logits: float (N, classes, H, W).
        labels: Integers (N, H, W); 255 = ignore.
        weights: float (N, H, W), each pixel's weight; 1 by default.

    """
    truth = labels.long()
    if weights is None:
        return F.cross_entropy(logits, truth, ignore_index=IGNORE, reduction="sum") / truth.numel()
    return (F.cross_entropy(logits, truth, ignore_index=IGNORE, reduction="none") * weights).mean()


def lesson_loss(lesson: Lesson, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return Σ weight · cross-entropy over a lesson's views, each with its part of the labels.

    For HRDA these are the fused logits (1 − λ_d) and the detail's own (λ_d): its equation 10, and 11 where labels
    are a teacher's.
    """
    losses = [
        view.weight
        * pixel_loss(view.logits, cut(labels, view.box), None if weights is None else cut(weights, view.box))
        for view in lesson.views
    ]
    return torch.stack(losses).sum() if len(losses) > 1 else losses[0]


def lesson_of(network: nn.Module, images: Tensor, generator: torch.Generator) -> Lesson:
    """Run any of our networks as training does.

    Args:
        network: One of ``client.models``, in training mode.
        images: Normalised float32 (N, 3, H, W).
        generator: Random numbers for networks that choose a detail.

    """
    if isinstance(network, EncoderDecoder):
        return network.forward_train(images, generator)
    height, width = images.shape[2:]
    return Lesson((View(network(images), (0, height, 0, width), 1.0),), ())


def fit_details(network: nn.Module, height: int, width: int) -> None:
    """Set HRDA's detail to half of the training images, which are one window; other networks stay as they are.

    The paper's numbers, 512 and 1024, come out for crops of 1024 pixels.
    """
    if isinstance(network, HRDA):
        detail = max(ALIGNED, min(height, width) // 2 // ALIGNED * ALIGNED)
        window = max(height, width)
        network.sizes = Sizes(detail=detail, window=window, stride=max(1, window // 2))


def compile_parts(network: nn.Module) -> None:
    """Have an encoder and a decode head compiled where they are first called; names of parameters stay.

    What lies between them chooses details and draws random numbers, which a compiler can't look into.
    """
    for part in (network.backbone, network.decode_head):
        assert isinstance(part, nn.Module)
        part.compile()
    head = getattr(network.decode_head, "head", None)
    if isinstance(head, nn.Module):  # HRDA's, which it also calls for details by itself
        head.compile()


class Task:
    """What a learner is asked to learn.

    It is no tuple and no dataclass, so that Fabric and DDP hand it on as it is: of what they know, mixed precision
    would round the images and weights before the network sees them.

    Attributes:
        images: Normalised float32 (N, 3, H, W).
        generator: Random numbers for networks that choose a detail.
        labels: Integers (N, H, W); 255 = ignore. Without labels the loss is the predictions' entropy.
        weights: float32 (N, H, W), each label's weight; 1 by default.

    """

    def __init__(
        self,
        images: Tensor,
        generator: torch.Generator,
        labels: Tensor | None = None,
        weights: Tensor | None = None,
    ) -> None:
        self.images = images
        self.generator = generator
        self.labels = labels
        self.weights = weights


class Learner(nn.Module):
    """A network with its loss, from images to a number: what DDP and ``torch.compile`` wrap as one.

    Args:
        network: One of ``client.models``.

    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, task: Task) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the loss, and the encoder's features, finest first (none of the tiny network)."""
        lesson = lesson_of(self.network, task.images, task.generator)
        if task.labels is None:
            return entropy(lesson.views[0].logits), lesson.features
        return lesson_loss(lesson, task.labels, task.weights), lesson.features
