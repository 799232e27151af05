"""Classification with disjoint classes: each site knows half of the digits, and the merged model all of them.

The paper cuts CIFAR-100 into two halves and fine-tunes two ResNet-50 from one pretrained base. Here scikit-learn's
digits (1,797 images of 8 × 8) serve: the base learns to tell how an image was turned (rotation pretext, Gidaris et
al., ICLR 2018), then each site fine-tunes on five digits of its own with a head for all ten.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

HALVES = ((0, 1, 2, 3, 4), (5, 6, 7, 8, 9))
State = Mapping[str, Tensor]
Merge = Callable[[Sequence[Path], str], State]


def network(seed: int) -> nn.Sequential:
    """Return a small convolutional network with BatchNorm: (N, 1, 8, 8) → (N, 10)."""
    torch.manual_seed(seed)

    def block(inside: int, outside: int) -> list[nn.Module]:
        convolution = nn.Conv2d(inside, outside, 3, padding=1, bias=False)
        return [convolution, nn.BatchNorm2d(outside), nn.ReLU()]

    layers = [*block(1, 32), *block(32, 64), nn.MaxPool2d(2), *block(64, 128), nn.AdaptiveAvgPool2d(1)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(128, 10))


def load(seed: int) -> tuple[TensorDataset, TensorDataset]:
    """Return training and held-out images, split at random: four to one."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    order = np.random.default_rng(seed).permutation(len(digits.images))
    images = torch.from_numpy(digits.images[order]).float()[:, None] / 16
    labels = torch.from_numpy(digits.target[order])
    cut = len(images) * 4 // 5
    return TensorDataset(images[:cut], labels[:cut]), TensorDataset(images[cut:], labels[cut:])


def train(model: nn.Sequential, images: Tensor, labels: Tensor, steps: int, lr: float, seed: int) -> nn.Sequential:
    """Train with Adam on batches of 64, in place."""
    dice = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr)
    model.train()
    for _ in range(steps):
        chosen = torch.randint(len(images), (64,), generator=dice)
        loss = F.cross_entropy(model(images[chosen]), labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


def turned(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return images turned by 0, 90, 180 and 270 degrees, and by how many right angles."""
    parts = [torch.rot90(images, k, (2, 3)) for k in range(4)]
    return torch.cat(parts), torch.arange(4).repeat_interleave(len(images))


def accuracy(state: State, held_out: TensorDataset) -> float:
    """Return the share of images of all ten digits that are told right, in per cent."""
    model = network(0)
    model.load_state_dict(dict(state))
    images, labels = held_out.tensors
    with torch.inference_mode():
        return 100 * float((model.eval()(images).argmax(1) == labels).float().mean())


def run(folder: Path, seed: int, merge: Merge, steps: int) -> dict[str, list[float]]:
    """Judge pairs of models, of one base and of unrelated starts, each of which knows half of the digits.

    Args:
        folder: Where models are put.
        seed: Of everything.
        merge: Merges two files by a rule for buffers.
        steps: Of each fine-tuning; the base has four times as many.

    Returns:
        Accuracies on all ten digits: of the better parent, and merged with averaged and with pooled buffers.

    """
    training, held_out = load(seed)
    images, labels = training.tensors

    def base(start: int) -> State:
        model = train(network(start), *turned(images), 4 * steps, 1e-3, start)
        # A new head, the same for all: the pretext's has learned that it is never one of the last six.
        head = model[-1]
        assert isinstance(head, nn.Linear)
        torch.manual_seed(start)
        head.reset_parameters()
        return {name: value.clone() for name, value in model.state_dict().items()}

    def site(start: State, digits: Sequence[int], name: str) -> Path:
        model = network(0)
        model.load_state_dict(dict(start))
        mine = torch.isin(labels, torch.tensor(digits))
        train(model, images[mine], labels[mine], steps, 3e-4, seed)
        path = folder / f"{name}.safetensors"
        save_file(model.state_dict(), path)
        return path

    folder.mkdir(parents=True, exist_ok=True)
    shared, other = base(seed), base(seed + 100)
    first, second = (site(shared, half, f"digits{place}") for place, half in enumerate(HALVES))
    stranger = site(other, HALVES[1], "stranger")
    found = {}
    for name, pair in (("one base", (first, second)), ("unrelated initialisations", (first, stranger))):
        parents = max(accuracy(load_file(path), held_out) for path in pair)
        merged = [accuracy(merge(pair, rule), held_out) for rule in ("uniform", "pooled")]
        found[name] = [parents, *merged]
    return found
