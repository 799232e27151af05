"""``onebasin basin`` as someone types it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner, Result

from client.models import build
from coordinator.offline.basin import basin, examine
from protos.errors import ModelFileError

app = typer.Typer()
app.command()(basin)


def run(*words: object) -> Result:
    return CliRunner().invoke(app, list(map(str, words)))


def write(path: Path, seed: int, noise: int | None = None, **changes: np.ndarray) -> Path:
    """Write a tiny-resnet, or one that is near it."""
    dice = np.random.default_rng(noise)
    state = {}
    for name, tensor in build("tiny-resnet", 19, seed=seed).state_dict().items():
        if noise is not None and tensor.dim() > 1:
            tensor = tensor + 0.1 * tensor.std() * torch.from_numpy(dice.normal(size=tensor.shape)).float()
        state[name] = tensor
    state |= {name.replace("__", "."): torch.from_numpy(value) for name, value in changes.items()}
    torch.save({"state_dict": {f"model.{name}": tensor for name, tensor in state.items()}}, path)
    return path


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    found = {name: write(folder / f"{name}.pth", 1, noise=i) for i, name in enumerate(("fog", "night"))}
    return {**found, "base": write(folder / "base.pth", 1), "stranger": write(folder / "stranger.pth", 2)}


def test_models_of_one_base(models):
    result = run(models["fog"], models["night"], "--base", models["base"])
    assert result.exit_code == 0, result.output
    assert "fog.pth and night.pth lie in one basin: 100 % of the channels" in result.output
    assert "fog.pth and base base.pth" in result.output
    assert "Both come from base.pth" in result.output
    assert "channels of" not in result.output  # no group moved


def test_models_of_different_bases_are_an_answer_too(models):
    result = run(models["fog"], models["stranger"], "--base", models["base"])
    assert result.exit_code == 0, result.output
    assert "fog.pth and stranger.pth do not share a base" in result.output
    assert "stranger.pth was not adapted from base.pth" in result.output
    lines = result.output.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("channels of"))
    shown = [float(line.split()[-2]) for line in lines[start + 1 : start + 11]]
    assert shown == sorted(shown)
    assert lines[start + 11].endswith("more groups; --json lists them")


def test_json_has_all_of_it(models):
    result = run(models["fog"], models["stranger"], "--base", models["base"], "--json")
    assert result.exit_code == 0
    found = json.loads(result.output, parse_constant=pytest.fail)
    assert found["verdict"] == "apart"
    assert [(one["role"], one["name"]) for one in found["models"]] == [
        ("a", "fog.pth"),
        ("b", "stranger.pth"),
        ("base", "base.pth"),
    ]
    assert {one["copy"] for one in found["models"]} == {"student"}
    assert found["share"] < 0.2
    assert sum(one["channels"] for one in found["groups"]) == 624
    assert {part["name"] for part in found["parts"]} == {"backbone", "decode_head"}
    assert set(found["aligned"]) == {"relative", "cosine"}
    assert found["base"]["b"]["cosine"] < 0.1
    assert "was not adapted" in found["about_base"]


def test_without_a_base_nothing_is_said_about_one(models):
    found = json.loads(run(models["fog"], models["night"], "--json").output)
    assert found["base"] is None
    assert found["about_base"] is None
    assert len(found["models"]) == 2


def test_a_model_and_itself(models):
    result = run(models["fog"], models["fog"], "--base", models["fog"])
    assert result.exit_code == 0
    assert "hold the same model" in result.output
    assert "is fog.pth still" in result.output


def test_names_are_no_markup(tmp_path, models):
    odd = write(tmp_path / "[red]fog.pth", 1, noise=3)
    result = run(odd, models["night"])
    assert "[red]fog.pth and night.pth lie in one basin" in result.output
    assert result.output.count("[red]fog.pth") == 2


def test_different_architectures_are_told_apart(tmp_path, models):
    other = write(tmp_path / "other.pth", 1, extra__weight=np.ones((2, 2), np.float32))
    with pytest.raises(ModelFileError, match=r"tensor extra\.weight only in other\.pth"):
        examine(models["fog"], other)
    with pytest.raises(ModelFileError, match=r"fog\.pth and other\.pth are not of one architecture"):
        examine(models["fog"], models["night"], other)


def test_an_unknown_architecture_is_refused_by_a_tensors_name(made):
    with pytest.raises(ModelFileError, match=r"no table tells which channels head\.bias has"):
        examine(*made(2))


def test_an_unknown_head_is_pointed_out(tmp_path):
    paths = [
        write(tmp_path / f"{n}.pth", 1, noise=n, decode_head__own=np.ones((2, 3), np.float32)) for n in (1, 2)
    ]
    result = run(*paths)
    assert result.exit_code == 0, result.output
    assert "note: decode_head is not known here" in result.output
    assert "lie in one basin" in result.output
