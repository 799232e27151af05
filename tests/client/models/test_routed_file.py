import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from client.data.images import normalise
from client.models import build, norms
from client.models.routed import RoutedModel
from client.models.routed_file import PREFIX, load_routed, save_routed
from client.recalibration import recalibrate
from protos.errors import ModelFileError
from protos.tensorfile import TensorFile, write_arrays


def pictures(number, light, contrast, seed=0):
    noise = torch.randn(number, 3, 32, 64, generator=torch.Generator().manual_seed(seed))
    return (light + contrast * noise).clamp(0, 255).to(torch.uint8)


@pytest.fixture(scope="module")
def routed():
    network = build("tiny-resnet", 5)
    sets = {
        "night": recalibrate(network, [pictures(6, 40, 10)]),
        "dusty-2": recalibrate(network, [pictures(6, 200, 9)]),
    }
    pooled = recalibrate(network, [torch.cat([pictures(6, 40, 10), pictures(6, 200, 9)])])
    return RoutedModel.from_sets(network, pooled, sets, limit=0.375)


@pytest.fixture
def path(routed, tmp_path):
    save_routed(tmp_path / "routed.safetensors", routed, model="tiny-resnet", classes=5)
    return tmp_path / "routed.safetensors"


def test_the_file_gives_back_the_same_model(routed, path):
    again = load_routed(path)
    assert again.names == ("night", "dusty-2") and again.limit == 0.375
    images = normalise(torch.cat([pictures(2, 200, 9, 1), pictures(1, 128, 60, 1), pictures(1, 40, 10, 1)]))
    with torch.no_grad():
        (wanted, chosen), (logits, choices) = routed.explained(images), again.explained(images)
    assert torch.equal(logits, wanted)
    assert choices.tolist() == chosen.tolist() == [2, 2, 0, 1]
    assert {name: {layer: one.count for layer, one in found.items()} for name, found in again.sets.items()} == {
        name: {layer: one.count for layer, one in found.items()} for name, found in routed.sets.items()
    }
    save_routed(path.with_name("second.safetensors"), again, model="tiny-resnet", classes=5)
    assert path.with_name("second.safetensors").read_bytes() == path.read_bytes()


def test_who_ignores_the_sets_gets_the_plain_pooled_model(routed, path):
    state = {name: value for name, value in load_file(path).items() if not name.startswith(PREFIX)}
    plain = build("tiny-resnet", 5, seed=1)
    plain.load_state_dict(state)
    wanted = routed.network.state_dict()
    assert state.keys() == wanted.keys() and all(torch.equal(state[name], wanted[name]) for name in state)


def test_a_set_takes_kilobytes(path):
    with TensorFile(path) as file:
        each = sum(spec.nbytes for name, spec in file.manifest.tensors.items() if name.startswith("sets.night."))
        assert file.manifest.layers["sets.night.backbone.stem.bn"] == 24
    assert each < 10_000


def rewritten(path, change):
    """Read a file, let its tensors or metadata be changed, and write it again."""
    with TensorFile(path) as file:
        arrays, metadata = {name: file.tensor(name) for name in file.manifest.tensors}, dict(file.metadata)
    change(arrays, metadata)
    write_arrays(path, arrays, metadata)
    return path


KEY = "sets.night.backbone.stem.bn."


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda a, m: m.pop("sets"), "without sets of statistics"),
        (lambda a, m: m.update(sets="night"), "doesn't say which sets"),
        (lambda a, m: m.update(sets=json.dumps(["night", "night"])), "doesn't say which sets"),
        (lambda a, m: m.update(sets=json.dumps({"night": 1})), "doesn't say which sets"),
        (lambda a, m: m.update(limit="nan"), "doesn't say which sets"),
        (lambda a, m: m.update(sets=json.dumps(["night", "fog"])), "has no sets.fog.backbone"),
        (
            lambda a, m: [a.pop(KEY + part) for part in ("running_mean", "running_var", "num_batches_tracked")],
            "has no",
        ),
        (
            lambda a, m: a.update({KEY + "running_mean": np.full(24, np.nan, np.float32)}),
            "night's statistics have values",
        ),
        (lambda a, m: a.update({KEY + "running_var": np.full(24, -1, np.float32)}), "negative variance"),
        (lambda a, m: a.pop("decode_head.conv_seg.bias"), "has no decode_head.conv_seg.bias"),
        (lambda a, m: a.update(more=np.zeros(3, np.float32)), "unknown more"),
        (lambda a, m: m.update(classes="6"), "another shape of"),
    ],
)
def test_files_that_are_no_routed_model_are_refused(path, change, said):
    with pytest.raises(ModelFileError, match=said):
        load_routed(rewritten(path, change))


def test_an_incomplete_set_is_refused(path):
    with pytest.raises(ModelFileError, match="no num_batches_tracked"):
        load_routed(rewritten(path, lambda a, m: a.pop(KEY + "num_batches_tracked")))


def test_a_file_with_one_set_routes_too(routed, tmp_path):
    one = RoutedModel.from_sets(routed.network, norms.statistics(routed.network), {"night": routed.sets["night"]})
    save_routed(tmp_path / "one.safetensors", one, model="tiny-resnet", classes=5)
    with torch.no_grad():
        _, chosen = load_routed(tmp_path / "one.safetensors").explained(normalise(pictures(2, 40, 10, 3)))
    assert chosen.tolist() == [1, 1]
