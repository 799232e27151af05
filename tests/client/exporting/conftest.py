"""Networks that are small, but have every kind of layer that the large ones have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from client.models import build, mit, norms, resnet
from client.models.routed import RoutedModel
from client.models.routed_file import save_routed
from client.recalibration import recalibrate
from client.tensors import raw_state
from protos.tensorfile import write_arrays


@pytest.fixture(autouse=True)
def one_thread_each(one_thread):
    """Run every test here on one thread."""


@pytest.fixture
def shallow(monkeypatch):
    """Have encoders with one block in each stage."""
    for depths in (mit.DEPTHS, resnet.DEPTHS):
        for variant in list(depths):
            monkeypatch.setitem(depths, variant, (1, 1, 1, 1))


@pytest.fixture
def trained() -> Callable[..., torch.nn.Module]:
    """Make networks by name; see `_trained`."""
    return _trained


def _trained(name: str, classes: int = 19) -> torch.nn.Module:
    """Return a network whose BatchNorm layers are not those of a new one, so that one that is lost shows."""
    network = build(name, classes).eval()
    dice = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, torch.nn.BatchNorm2d):
                layer.running_mean.normal_(0, 0.1, generator=dice)
                layer.running_var.uniform_(0.5, 1.5, generator=dice)
                layer.weight.uniform_(0.5, 1, generator=dice)
                layer.num_batches_tracked.fill_(7)
    return network


@pytest.fixture
def plain(tmp_path) -> Path:
    """A folder with the result of a merge: one model with one set of statistics."""
    folder = tmp_path / "merged"
    folder.mkdir()
    metadata = {"format": "pt", "model": "tiny-resnet", "classes": "19", "base": "ba5e", "campaign": "ca4"}
    write_arrays(folder / "merged.safetensors", raw_state(_trained("tiny-resnet").state_dict()), metadata)
    return folder


def pictures(light: float, contrast: float) -> torch.Tensor:
    noise = torch.randn(6, 3, 32, 64, generator=torch.Generator().manual_seed(0))
    return (light + contrast * noise).clamp(0, 255).to(torch.uint8)


@pytest.fixture
def routed_model() -> RoutedModel:
    """A network with statistics of two sites and pooled ones."""
    network = _trained("tiny-resnet")
    sets = {"night": recalibrate(network, [pictures(40, 10)]), "dusty": recalibrate(network, [pictures(170, 20)])}
    return RoutedModel.from_sets(network, norms.statistics(network), sets)


@pytest.fixture
def routed(tmp_path, routed_model) -> Path:
    """A file with that model."""
    path = tmp_path / "routed.safetensors"
    save_routed(path, routed_model, model="tiny-resnet", classes=19)
    return path
