"""DAFormer's feature distance: features of things stay near those of the encoder as it came from ImageNet.

L. Hoyer, D. Dai, L. Van Gool, *DAFormer*, CVPR 2022, section 3.3. ImageNet teaches to tell a bus from a train;
training on synthetic images alone forgets that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from client.data.labels import IGNORE
from client.models import build
from client.models.network import EncoderDecoder
from client.models.pretrained import load_encoder
from protos.errors import ConfigurationError


def thing_mask(labels: Tensor, classes: Sequence[int], ratio: float, height: int, width: int) -> Tensor:
    """Find the features that show one class of things (equations 7 and 8).

    A feature shows class c if at least ``ratio`` of the pixels in its square have that label. As ``ratio`` is
    above one half, it is at most one class.

    Args:
        labels: Integers (N, H, W); 255 = ignore.
        classes: The things' train ids.
        ratio: Share of pixels, above 0.5.
        height: The features' height, h.
        width: Their width, w.

    Returns:
        bool (N, h, w).

    """
    # Encoders' strides are powers of two, and their sizes are rounded up: what lacks is ignored.
    side = 1
    while side * width < labels.shape[2]:
        side *= 2
    lacking = (0, side * width - labels.shape[2], 0, side * height - labels.shape[1])
    squares = F.pad(labels, lacking, value=IGNORE)
    found = torch.zeros(len(labels), height, width, dtype=torch.bool, device=labels.device)
    for number in classes:
        share = F.avg_pool2d((squares == number).float().unsqueeze(1), side)
        found |= share[:, 0] >= ratio
    return found


def feature_distance(features: Tensor, reference: Tensor, mask: Tensor) -> Tensor:
    """Return the Euclidean distance of features, averaged over a mask (equations 6 and 9); 0 where it is empty.

    Args:
        features: The student's, float (N, C, h, w).
        reference: The frozen encoder's, likewise.
        mask: bool (N, h, w).

    """
    distance: Tensor = torch.linalg.vector_norm(features.float() - reference.float(), dim=1)
    return (distance * mask).sum() / mask.sum().clamp(min=1)


class FrozenEncoder(nn.Module):
    """The encoder that doesn't learn, in evaluation mode.

    Args:
        model_name: One of ``client.models.MODELS`` that has an encoder.
        classes: The model's number of classes.
        state: State dict of the base.
        encoder: File of the ImageNet encoder; if there is none, the base's is taken.

    Raises:
        ConfigurationError: The model has no features to compare.
        ModelFileError: The encoder's file can't be read, or doesn't fit.

    """

    def __init__(self, model_name: str, classes: int, state: Mapping[str, Tensor], encoder: Path | None) -> None:
        super().__init__()
        network = build(model_name, classes)
        if not isinstance(network, EncoderDecoder):
            raise ConfigurationError(
                f"{model_name} gives no features that could be compared with those of ImageNet.",
                "Set feature_distance = 0, or choose a model with a ResNet or MiT encoder.",
            )
        network.load_state_dict(dict(state))
        if encoder is not None:
            load_encoder(network, encoder)
        network.decode_head = nn.Identity()  # its weights would only take memory
        self.network = network.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> FrozenEncoder:
        """Stay in evaluation mode, whoever asks."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Return the last features (N, C, h, w) of normalised images (N, 3, H, W)."""
        network = self.network
        assert isinstance(network, EncoderDecoder)
        features: Tensor = network.features(images)[-1]
        return features
