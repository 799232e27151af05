"""Mix Transformers, the encoders of SegFormer: MiT-B0 to MiT-B5.

E. Xie et al., *SegFormer*, NeurIPS 2021. Keys are those of the authors' code, which DAFormer, HRDA and MIC kept
(``patch_embed1.proj.weight``, ``block1.0.attn.kv.weight``, ``block1.0.mlp.dwconv.dwconv.weight``).
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WIDTHS: Final = {"b0": (32, 64, 160, 256), **dict.fromkeys(("b1", "b2", "b3", "b4", "b5"), (64, 128, 320, 512))}
"""Channels that each stage puts out."""

DEPTHS: Final = {
    "b0": (2, 2, 2, 2),
    "b1": (2, 2, 2, 2),
    "b2": (3, 4, 6, 3),
    "b3": (3, 4, 18, 3),
    "b4": (3, 8, 27, 3),
    "b5": (3, 6, 40, 3),
}
"""Blocks of each stage."""

_HEADS = (1, 2, 5, 8)
_REDUCTIONS = (8, 4, 2, 1)
_DROP_PATH = 0.1
# The authors' blocks and stages end in LayerNorms with this epsilon; those inside have PyTorch's 1e-5.
_EPSILON = 1e-6


class DropPath(nn.Module):
    """Stochastic depth (Huang et al., ECCV 2016): in training, leaves a residual branch out for whole samples.

    Random numbers come from PyTorch's global generator, as dropout's do.

    Args:
        rate: Probability to leave out; what stays is divided by 1 − rate.

    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, branch: Tensor) -> Tensor:
        """(N, tokens, C) → the same shape."""
        if not self.training or self.rate == 0:
            return branch
        kept = branch.new_empty(len(branch), 1, 1).bernoulli_(1 - self.rate)
        return branch * (kept / (1 - self.rate))


class PatchEmbed(nn.Module):
    """A strided convolution whose patches overlap, and LayerNorm."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2)
        self.norm = nn.LayerNorm(outputs)

    def forward(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """(N, inputs, H, W) → tokens (N, height · width, outputs), and (height, width)."""
        patches: Tensor = self.proj(images)
        height, width = patches.shape[2:]
        return self.norm(_tokens(patches)), (height, width)


class Attention(nn.Module):
    """Self-attention whose keys and values come from an image made smaller by a strided convolution."""

    def __init__(self, width: int, heads: int, reduction: int) -> None:
        super().__init__()
        self.heads = heads
        self.reduction = reduction
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(width, 2 * width)
        self.proj = nn.Linear(width, width)
        if reduction > 1:
            self.sr = nn.Conv2d(width, width, reduction, reduction)
            self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor, size: tuple[int, int]) -> Tensor:
        """(N, height · width, C) → the same shape."""
        query = self.q(tokens).unflatten(2, (self.heads, -1)).transpose(1, 2)
        seen = tokens
        if self.reduction > 1:
            seen = self.norm(_tokens(self.sr(_image(tokens, size))))
        key, value = self.kv(seen).unflatten(2, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value)
        out: Tensor = self.proj(mixed.transpose(1, 2).flatten(2))
        return out


class DepthwiseConv(nn.Module):
    """A 3 × 3 convolution of each channel; its zero padding tells tokens where they are."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(width, width, 3, padding=1, groups=width)

    def forward(self, tokens: Tensor, size: tuple[int, int]) -> Tensor:
        """(N, height · width, C) → the same shape."""
        return _tokens(self.dwconv(_image(tokens, size)))


class MixFFN(nn.Module):
    """Two linear layers, with a depthwise convolution and GELU between them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.dwconv = DepthwiseConv(4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, tokens: Tensor, size: tuple[int, int]) -> Tensor:
        """(N, height · width, C) → the same shape."""
        out: Tensor = self.fc2(F.gelu(self.dwconv(self.fc1(tokens), size)))
        return out


class Block(nn.Module):
    """Attention and feed-forward network, each on normalised tokens and added to its input."""

    def __init__(self, width: int, heads: int, reduction: int, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, _EPSILON)
        self.attn = Attention(width, heads, reduction)
        self.drop_path = DropPath(drop_path)
        self.norm2 = nn.LayerNorm(width, _EPSILON)
        self.mlp = MixFFN(width)

    def forward(self, tokens: Tensor, size: tuple[int, int]) -> Tensor:
        """(N, height · width, C) → the same shape."""
        tokens = tokens + self.drop_path(self.attn(self.norm1(tokens), size))
        out: Tensor = tokens + self.drop_path(self.mlp(self.norm2(tokens), size))
        return out


class MixTransformer(nn.Module):
    """The encoder.

    Args:
        variant: "b0" to "b5".

    """

    def __init__(self, variant: str) -> None:
        super().__init__()
        widths, depths = WIDTHS[variant], DEPTHS[variant]
        for number, (inputs, width) in enumerate(zip((3, *widths[:-1]), widths, strict=True), 1):
            kernel, stride = (7, 4) if number == 1 else (3, 2)
            self.add_module(f"patch_embed{number}", PatchEmbed(inputs, width, kernel, stride))
        rates = iter(torch.linspace(0, _DROP_PATH, sum(depths), device="cpu").tolist())
        for number, (width, depth) in enumerate(zip(widths, depths, strict=True), 1):
            heads, reduction = _HEADS[number - 1], _REDUCTIONS[number - 1]
            blocks = [Block(width, heads, reduction, next(rates)) for _ in range(depth)]
            self.add_module(f"block{number}", nn.ModuleList(blocks))
            self.add_module(f"norm{number}", nn.LayerNorm(width, _EPSILON))
        self.apply(_initialise)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return features at 1/4, 1/8, 1/16 and 1/32 of the resolution (rounded up); sides from 29 pixels on."""
        stages = []
        features = images
        for number in range(1, 5):
            tokens, size = self.get_submodule(f"patch_embed{number}")(features)
            for block in self.get_submodule(f"block{number}").children():
                tokens = block(tokens, size)
            features = _image(self.get_submodule(f"norm{number}")(tokens), size)
            stages.append(features)
        return tuple(stages)


def _tokens(image: Tensor) -> Tensor:
    """(N, C, H, W) → (N, H · W, C)."""
    return image.flatten(2).transpose(1, 2)


def _image(tokens: Tensor, size: tuple[int, int]) -> Tensor:
    """(N, H · W, C) → (N, C, H, W), a view: tokens are an image with channels last in memory."""
    # `shape[0]` and not `len`, which would write the batch's size into an exported network.
    return tokens.transpose(1, 2).reshape(tokens.shape[0], -1, *size)


def _initialise(module: nn.Module) -> None:
    """Draw weights as the authors do: He et al. 2015 for convolutions.

    Their truncated normal for linear layers is cut at 100 standard deviations, so it is a normal, drawn faster.
    """
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.02)
    elif isinstance(module, nn.Conv2d):
        fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
        nn.init.normal_(module.weight, std=(2 / fan_out) ** 0.5)
    if isinstance(module, nn.Linear | nn.Conv2d) and module.bias is not None:
        nn.init.zeros_(module.bias)
