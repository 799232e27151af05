"""``merge --align`` and ``basin``: models whose channels are in another order."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file

from client.models import build
from coordinator.merge.basin.architectures import table_of
from coordinator.merge.basin.permutations import Permutations, permuted
from coordinator.offline.basin import examine
from onebasin import cli
from protos.errors import ModelFileError
from protos.tensorfile import TensorFile


def network_file(path: Path, seed: int, noise: int | None = None) -> Path:
    """Write a tiny-resnet with lively statistics; with `noise`, moved a little as adaptation does."""
    dice = torch.Generator().manual_seed(seed if noise is None else noise)
    state = build("tiny-resnet", 19, seed).state_dict()
    for name, tensor in state.items():
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(100 + (noise or 0))
        elif tensor.dim() == 1:
            state[name] = tensor + torch.rand(tensor.shape, generator=dice) * 0.1
        else:
            state[name] = tensor + tensor.std() * 0.2 * torch.randn(tensor.shape, generator=dice)
    save_file({n: t.contiguous() for n, t in state.items()}, path, {"model": "tiny-resnet", "classes": "19"})
    return path


def reordered(path: Path, to: Path, seed: int) -> Path:
    """Write a model with all its channels in another order."""
    dice = np.random.default_rng(seed)
    with TensorFile(path) as file:
        table = table_of(file.manifest.tensors)
        orders = {name: dice.permutation(table.groups[name].size) for family in table.families for name in family}
        moved = permuted(file, Permutations(table, orders))
        state = {name: torch.from_numpy(moved.tensor(name).copy()) for name in file.manifest.tensors}
        save_file(state, to, dict(file.metadata))
    return to


@pytest.fixture
def pair(tmp_path) -> tuple[Path, Path]:
    return network_file(tmp_path / "a.safetensors", 1, 10), network_file(tmp_path / "b.safetensors", 1, 11)


def test_aligning_undoes_another_order_to_the_bit(tmp_path, pair, merged):
    a, b = pair
    moved = reordered(b, tmp_path / "moved.safetensors", 3)
    expected = merged([a, b], "plain.safetensors")[0].digest
    assert merged([a, moved], "apart.safetensors")[0].digest != expected
    (output,) = merged([a, moved], "aligned.safetensors", align=True, threads=3)
    assert output.digest == expected
    assert output.receipt["inputs"][1]["channels_in_place"] < 0.2


def test_models_of_one_base_are_merged_as_without_aligning(pair, merged):
    plain = merged(list(pair), "plain.safetensors")[0].digest
    (output,) = merged(list(pair), "aligned.safetensors", align=True)
    assert output.digest == plain
    assert output.receipt["inputs"][1]["channels_in_place"] == 1


def test_an_aligned_mid_point_is_a_half_of_each(tmp_path, pair, merged):
    """The published script's re-basin falls through into the linear merge, and gives ¾ A + ¼ π(B)."""
    a, _ = pair
    moved = reordered(a, tmp_path / "moved.safetensors", 4)
    found, first = load_file(merged([a, moved], align=True)[0].path), load_file(a)
    for name, tensor in first.items():
        if not name.endswith("num_batches_tracked"):
            np.testing.assert_allclose(found[name], tensor, rtol=1e-6, atol=2**-40)


def test_statistics_and_the_heads_inputs_move_with_the_channels_and_colours_never(tmp_path, pair):
    """The published script's re-basin leaves statistics and heads, and permutes the image's colours."""
    a, _ = pair
    moved, first = load_file(reordered(a, tmp_path / "moved.safetensors", 5)), load_file(a)
    images = torch.rand(2, 3, 32, 64)
    outputs = []
    for state in (first, moved):
        network = build("tiny-resnet", 19).eval()
        network.load_state_dict(state)
        with torch.inference_mode():
            outputs.append(network(images))
    torch.testing.assert_close(*outputs, rtol=1e-4, atol=1e-5)
    stem = "backbone.stem.conv.weight"
    assert not torch.equal(first[stem], moved[stem])
    # Whatever the order of the filters, each one's colours are in place.
    colours = [sorted(map(tuple, state[stem].sum((2, 3)).tolist())) for state in (first, moved)]
    np.testing.assert_allclose(colours[0], colours[1], rtol=1e-5)


def test_an_architecture_that_is_not_known_cannot_be_aligned(made, merged):
    with pytest.raises(ModelFileError) as caught:
        merged(made(2), align=True)
    assert caught.value.fix


def text(found) -> str:
    console = Console(file=io.StringIO(), width=300)
    for part in found.as_text():
        console.print(part)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_models_of_one_base_lie_in_one_basin(tmp_path, pair):
    found = examine(*pair, base=network_file(tmp_path / "base.safetensors", 1, 12))
    back = json.loads(json.dumps(found.as_json()))
    assert back["verdict"] == "one-basin"
    assert back["share"] == 1
    assert back["as_they_are"]["cosine"] > 0.9
    assert back["unrelated"]["cosine"] < 0.2
    said = text(found)
    assert "a.safetensors and b.safetensors lie in one basin" in said
    assert "100 %" in said
    assert "Both come from base.safetensors" in said


def test_models_of_two_initialisations_do_not(tmp_path, pair):
    found = examine(pair[0], network_file(tmp_path / "other.safetensors", 2, 11))
    assert found.as_json()["verdict"] == "apart"
    assert found.evidence.share < 0.2
    said = text(found)
    assert "do not share a base" in said
    assert "--align" in said


def test_the_same_model_in_another_order_is_recognised(tmp_path, pair):
    found = examine(pair[0], reordered(pair[0], tmp_path / "moved.safetensors", 6))
    assert found.as_json()["verdict"] == "one-basin-when-aligned"
    assert found.evidence.aligned.cosine == pytest.approx(1)
    assert "Merge them with --align" in text(found)


def test_a_foreign_base_is_pointed_out(tmp_path, pair):
    found = examine(*pair, base=network_file(tmp_path / "foreign.safetensors", 7, 1))
    assert "were not adapted from foreign.safetensors" in text(found)


def test_it_can_be_typed(tmp_path, pair, monkeypatch, capsys):
    for arguments, said in ((["--json"], '"verdict": "one-basin"'), ([], "lie in one basin")):
        monkeypatch.setattr(sys, "argv", ["onebasin", "basin", *map(str, pair), *arguments])
        with pytest.raises(SystemExit) as end:
            cli.app()
        assert not end.value.code
        assert said in capsys.readouterr().out
