"""What a model file holds, said truly."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from coordinator.offline.inspecting import as_text, inspect
from protos.digest import file_digest
from protos.errors import ModelFileError
from protos.tensorfile import TensorFile

from .conftest import store, torch_state


def text(found) -> str:
    return "\n".join(map(str, as_text(found)))


@pytest.mark.parametrize("form", ["safetensors", "pth", "plain", "sharded"])
def test_the_same_model_reads_the_same_in_every_form(made, form):
    reference = inspect(made(1)[0], None, None, 1)
    path = made(1, form)[0] if form != "safetensors" else made(1)[0]
    found = inspect(path, None, None, 2)
    assert found.digest == reference.digest
    assert (found.parameters, found.parameter_tensors) == (reference.parameters, reference.parameter_tensors)
    assert found.layers == {"norm": 4, "xnorm.deep": 3}
    assert found.batches == reference.batches
    assert found.buffers == ("table",)
    assert found.not_finite == {}


def test_the_digest_is_the_canonical_one(made):
    (path,) = made(1)
    with TensorFile(path) as file:
        assert inspect(path, None, None, 1).digest == file_digest(file).hex()


def test_parameters_are_counted(made):
    found = inspect(made(1)[0], None, None, 1)
    assert found.parameters == 5 + 20 + 4 + 4 + 1 + 108 + 0 + 3 + 3
    assert found.parameter_tensors == 9


def test_values_that_are_not_finite_are_counted_by_tensor(made):
    weights = np.float32([np.nan, np.inf, -np.inf, 1])
    found = inspect(made(1, norm__weight=weights)[0], None, None, 1)
    assert found.not_finite == {"norm.weight": 3}
    assert "norm.weight has 3 values that are NaN or infinite: it can't be merged" in text(found)


def test_the_distance_from_a_base_is_relative_to_it(tmp_path, made, model):
    (base,) = made(1)
    with TensorFile(base) as file:
        content = {name: file.tensor(name) for name in file.manifest.tensors}
    for name in content:
        if content[name].dtype == np.float32:
            content[name] = content[name] * np.float32(1.25)
    found = inspect(store(tmp_path / "moved", content, "pth"), None, base, 1)
    assert found.distance == pytest.approx(0.25, rel=1e-6)
    assert inspect(base, None, base, 1).distance == 0
    assert "distance from the base: 0.2500" in text(found)


def test_a_base_of_another_architecture_is_refused(tmp_path, made):
    other = store(tmp_path / "other", {"w": np.ones(3, np.float32)}, "safetensors")
    with pytest.raises(ModelFileError, match="not of one architecture"):
        inspect(made(1)[0], None, other, 1)


def test_of_a_student_and_its_teacher_the_student_is_shown_unless_asked(tmp_path, model):
    state = {f"{prefix}{n}": t for prefix in ("model.", "ema_model.") for n, t in torch_state(model(3)).items()}
    state["ema_model.scale"] = torch.tensor(9.0)
    torch.save({"meta": {"CLASSES": ("road", "car")}, "state_dict": state}, tmp_path / "m.pth")
    found = inspect(tmp_path / "m.pth", None, None, 1)
    assert (found.copies, found.copy) == (("student", "ema"), "student")
    assert "copies: student, ema; what follows is about student" in text(found)
    assert "classes: road, car" in text(found)
    assert inspect(tmp_path / "m.pth", "ema", None, 1).digest != found.digest


def test_counts_of_zero_are_pointed_out(made):
    found = inspect(made(1, norm__num_batches_tracked=np.asarray(0))[0], None, None, 1)
    assert "no batches were counted in norm" in text(found)


def test_tied_tensors_are_named(tmp_path):
    shared = torch.ones(3)
    torch.save({"a": shared, "b": shared}, tmp_path / "m.pth")
    assert "b is the same tensor as a" in text(inspect(tmp_path / "m.pth", None, None, 1))


def test_what_it_says_is_json(made):
    found = inspect(made(1, "pth", norm__weight=np.full(4, np.nan, np.float32))[0], None, None, 1)
    assert json.loads(json.dumps(found.as_json()))["kind"] == found.kind


def test_a_file_that_is_no_model_is_refused(tmp_path):
    (tmp_path / "m").write_text("<!doctype html><title>Not found</title>")
    with pytest.raises(ModelFileError, match="web page"):
        inspect(tmp_path / "m", None, None, 1)
