"""The line between two models: its points are those of the merge, and a dip shows as a barrier."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from client import models
from coordinator.offline.plan import Options
from coordinator.offline.plan import make as plan
from coordinator.offline.write import write
from onebasin.sweep import Step, Sweep, plot, sweep
from protos.errors import ConfigurationError, DataError, ModelFileError


def model_file(path: Path, seed: int, **changes) -> Path:
    state = {**models.build("tiny-resnet", 19, seed).state_dict(), **changes}
    for name, tensor in state.items():
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(10 + seed)
        elif name.endswith("running_mean"):
            state[name] = tensor + seed
    save_file(
        {name: tensor.contiguous() for name, tensor in state.items()},
        path,
        {"model": "tiny-resnet", "classes": "19"},
    )
    return path


@pytest.fixture
def pair(tmp_path) -> tuple[Path, Path]:
    return model_file(tmp_path / "a.safetensors", 1), model_file(tmp_path / "b.safetensors", 2)


@pytest.fixture
def folder(tmp_path) -> Path:
    """Two labelled images of different sizes."""
    root = tmp_path / "own"
    for part in ("images", "labels"):
        (root / part).mkdir(parents=True)
    dice = np.random.default_rng(0)
    for i, size in enumerate([(32, 64), (48, 64)]):
        cv2.imwrite(str(root / "images" / f"{i}.png"), dice.integers(0, 255, (*size, 3), dtype=np.uint8))
        cv2.imwrite(str(root / "labels" / f"{i}.png"), dice.integers(0, 19, size, dtype=np.uint8))
    return root


def test_the_line_is_judged_in_every_domain(pair, folder):
    seen: list[float] = []
    found = sweep(pair, ["clear", str(folder)], steps=3, images=2, say=lambda step: seen.append(step.share))
    assert seen == [0, 0.5, 1]
    assert [step.share for step in found.steps] == seen
    assert all(set(step.miou) == {"clear", "own"} for step in found.steps)
    assert (found.a, found.b) == ("a.safetensors", "b.safetensors")


@pytest.mark.parametrize("rule", ["pooled", "uniform", "from:1"])
def test_each_point_is_what_merge_writes_with_these_weights(tmp_path, pair, folder, monkeypatch, rule):
    from contextlib import ExitStack

    from coordinator.offline.inputs import open_inputs
    from onebasin import sweep as module

    loaded: list[dict[str, torch.Tensor]] = []

    def keep(network, _) -> float:
        loaded.append({name: tensor.clone() for name, tensor in network.state_dict().items()})
        return 50.0

    monkeypatch.setattr(module, "_miou", keep)
    sweep(pair, [str(folder)], steps=4, rule=rule)
    for step, state in enumerate(loaded):
        with ExitStack() as opened:
            options = Options(weights=f"{3 - step},{step}", buffers=rule)
            made = plan(open_inputs(pair, None, opened, 1), options, tmp_path / f"{step}.safetensors")
            (output,) = write(made)
        merged = load_file(output.path)
        assert all(torch.equal(state[name], merged[name]) for name in merged)


def curve(*values: float) -> Sweep:
    last = len(values) - 1
    return Sweep("a", "b", "pooled", [Step(i / last, {"x": value}, value) for i, value in enumerate(values)])


def test_a_hill_has_no_barrier_and_a_dip_has_its_depth():
    assert curve(40, 45, 42).barrier == 0
    assert curve(40, 45, 42).best.share == 0.5
    assert curve(40, 40, 40).best.share == 0.5
    assert curve(40, 10, 50).barrier == pytest.approx(35)
    assert curve(0, 0, 0).barrier == 0
    assert json.loads(json.dumps(curve(40, 10, 50).as_json()))["barrier"] == pytest.approx(35)


@pytest.mark.parametrize("name", ["line.png", "line.svg", "line.pdf"])
def test_the_curve_is_drawn(tmp_path, name):
    plot(curve(40, 45, 42), tmp_path / name)
    assert (tmp_path / name).stat().st_size > 1000
    assert not list(tmp_path.glob(".*"))


def test_an_unknown_kind_of_picture_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match=r"no plot can be written to line\.xyz"):
        plot(curve(40, 45, 42), tmp_path / "line.xyz")


@pytest.mark.parametrize("steps", [0, 1, 20_000])
def test_a_line_has_two_ends(pair, steps):
    with pytest.raises(ConfigurationError, match="make no line"):
        sweep(pair, ["clear"], steps=steps)


def test_data_that_is_nowhere_is_refused(pair):
    with pytest.raises(ConfigurationError, match="no folder of labelled images"):
        sweep(pair, ["atlantis"])


def test_an_architecture_that_nobody_names_is_asked_for(tmp_path, pair):
    plain = tmp_path / "plain.safetensors"
    save_file(load_file(pair[0]), plain)
    with pytest.raises(ConfigurationError, match="doesn't say which architecture"):
        sweep((plain, pair[1]), ["clear"], images=1)
    assert sweep((plain, pair[1]), ["clear"], images=1, steps=2, model="tiny-resnet").steps


def test_models_of_two_architectures_are_refused(tmp_path, pair):
    other = tmp_path / "other.safetensors"
    save_file({"w": torch.ones(1)}, other)
    with pytest.raises(ModelFileError, match="not of one architecture"):
        sweep((pair[0], other), ["clear"], images=1)


def damage(folder: Path, how: str) -> None:
    image, label = folder / "images" / "1.png", folder / "labels" / "1.png"
    if how == "no labels/":
        for path in (folder / "labels").iterdir():
            path.unlink()
        (folder / "labels").rmdir()
    elif how == "no images":
        for path in (folder / "images").iterdir():
            path.unlink()
    elif how == "no label":
        label.unlink()
    elif how == "cut short":
        image.write_bytes(image.read_bytes()[:50])
    elif how == "three channels":
        cv2.imwrite(str(label), np.zeros((48, 64, 3), np.uint8))
    elif how == "16 bits":
        cv2.imwrite(str(label), np.zeros((48, 64), np.uint16))
    elif how == "another size":
        cv2.imwrite(str(label), np.zeros((48, 60), np.uint8))


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("no labels/", "has no labels/"),
        ("no images", "no images in"),
        ("no label", "1.png has no labels"),
        ("cut short", "1.png is cut short"),
        ("three channels", "with 3 channels"),
        ("16 bits", "is uint16"),
        ("another size", "60 × 48, its image 64 × 48"),
    ],
)
def test_a_folder_that_is_not_right_is_refused_by_name(pair, folder, how, said):
    damage(folder, how)
    with pytest.raises(DataError, match=said) as caught:
        sweep(pair, [str(folder)], steps=2)
    assert caught.value.fix


def test_a_data_set_is_opened_by_its_layout(pair, folder):
    (folder / "leftImg8bit" / "val").mkdir(parents=True)
    (folder / "gtFine" / "val").mkdir(parents=True)
    for path in (folder / "images").iterdir():
        path.rename(folder / "leftImg8bit" / "val" / f"{path.stem}_leftImg8bit.png")
    for path in (folder / "labels").iterdir():
        path.rename(folder / "gtFine" / "val" / f"{path.stem}_gtFine_labelTrainIds.png")
    found = sweep(pair, [f"cityscapes:{folder}:val"], steps=2)
    assert set(found.steps[0].miou) == {"own:val"}
    with pytest.raises(ConfigurationError, match="needs a split"):
        sweep(pair, [f"cityscapes:{folder}"], steps=2)


def test_labels_outside_the_classes_are_refused(pair, folder):
    cv2.imwrite(str(folder / "labels" / "0.png"), np.full((32, 64), 33, np.uint8))
    with pytest.raises(DataError, match="33"):
        sweep(pair, [str(folder)], steps=2)
