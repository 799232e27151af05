"""How two models differ, against NumPy in float64."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from rich.console import Console

from coordinator.merge.distance import symmetric_kl
from coordinator.offline.diffing import as_text, diff
from protos.boundary import BatchNorm
from protos.errors import ModelFileError
from protos.tensorfile import TensorFile

from .conftest import store


def text(found, most: int = 20) -> str:
    console = Console(file=io.StringIO(), width=200)
    for part in as_text(found, most):
        console.print(part)
    return console.file.getvalue()  # type: ignore[attr-defined]


def arrays(path) -> dict[str, np.ndarray]:
    with TensorFile(path) as file:
        return {name: file.tensor(name).astype(np.float64) for name in file.manifest.tensors}


@pytest.mark.parametrize("threads", [1, 4])
def test_distances_and_cosines_are_those_of_numpy(made, threads):
    paths = made(2)
    a, b = map(arrays, paths)
    found = diff((paths[0], paths[1]), None, threads)
    by_layer = {one.layer: one for one in found.layers}
    names = {"stem": ["stem.weight"], "head": ["head.weight", "head.bias"], "norm": ["norm.weight", "norm.bias"]}
    for layer, members in names.items():
        x, y = (np.concatenate([m[name].ravel() for name in members]) for m in (a, b))
        assert by_layer[layer].relative == pytest.approx(np.linalg.norm(x - y) / np.linalg.norm(y), rel=1e-12)
        assert by_layer[layer].cosine == pytest.approx(x @ y / np.linalg.norm(x) / np.linalg.norm(y), rel=1e-12)


def test_the_statistics_divergence_is_the_symmetric_one(made):
    paths = made(2)
    a, b = map(arrays, paths)
    gaussians = [
        BatchNorm(m["norm.running_mean"].astype(np.float32), m["norm.running_var"].astype(np.float32), 1)
        for m in (a, b)
    ]
    found = {one.layer: one.kl for one in diff((paths[0], paths[1]), None, 1).layers}
    assert found["norm"] == pytest.approx(symmetric_kl(*gaussians), rel=1e-12)
    assert found["stem"] is None


def test_the_layers_that_differ_most_come_first(made):
    found = diff(tuple(made(2)), None, 1)
    distances = [one.relative for one in found.layers]
    assert distances == sorted(distances, reverse=True)
    shown = text(found, 2)
    assert found.layers[0].layer in shown
    assert "BatchNorm layers whose statistics differ most" in shown


def test_the_same_model_in_two_files_is_said_to_be_the_same(tmp_path, made):
    (first,) = made(1)
    second = tmp_path / "copy.safetensors"
    second.write_bytes(first.read_bytes())
    found = diff((first, second), None, 1)
    assert found.relative == 0
    assert found.cosine == pytest.approx(1)
    assert all(one.kl in (None, 0) for one in found.layers)
    assert "hold the same model" in text(found)


def test_a_layer_of_zeros_has_no_angle_and_json_says_null(tmp_path, made):
    paths = made(2, stem__weight=lambda i: np.full((4, 3, 3, 3), i - 1, np.float32))
    back = json.loads(json.dumps(diff((paths[1], paths[0]), None, 1).as_json()))
    (stem,) = [one for one in back["layers"] if one["layer"] == "stem"]
    assert stem["cosine"] is None
    assert stem["relative"] is None


def test_models_of_two_architectures_are_refused(tmp_path, made):
    other = store(tmp_path / "other", {"w": np.ones(3, np.float32)}, "safetensors")
    with pytest.raises(ModelFileError, match="not of one architecture"):
        diff((made(1)[0], other), None, 1)
