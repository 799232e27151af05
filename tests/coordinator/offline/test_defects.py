"""Each known defect of the method's published merge script, and that it is not one here."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from coordinator.offline.inputs import names
from protos.errors import ConfigurationError, ModelFileError

from .conftest import store, torch_state


def states(paths):
    return [load_file(path) for path in paths]


def test_buffers_never_come_silently_from_the_first_model(made, merged):
    paths = made(2)
    found = load_file(merged(paths)[0].path)
    for state in states(paths):
        for name in ("norm.running_mean", "norm.running_var", "norm.num_batches_tracked"):
            assert not torch.equal(found[name], state[name])


def test_no_other_copy_of_the_first_model_stays_in_the_output(tmp_path, model, merged):
    paths = []
    for i in (1, 2):
        state = {}
        for k, prefix in enumerate(("model.", "ema_model.", "imnet_model.")):
            content = {**model(10 * k + i), "table": np.zeros(3, np.int64)}
            state |= {prefix + name: tensor for name, tensor in torch_state(content).items()}
        torch.save({"meta": {}, "state_dict": state}, tmp_path / f"{i}.pth")
        paths.append(tmp_path / f"{i}.pth")
    found = torch.load(merged(paths, "out.pth", copy="ema")[0].path, weights_only=True)["state_dict"]
    assert found.keys() == {*model(1)}


@pytest.mark.parametrize("count", [2, 3, 4, 7])
def test_weights_of_any_number_of_models_sum_to_one(made, merged, planned, count):
    same = made(count, stem__weight=np.ones((4, 3, 3, 3), np.float32))
    text = ",".join(str(i) for i in range(1, count + 1))
    found = load_file(merged(same, weights=text)[0].path)
    assert torch.equal(found["stem.weight"], torch.ones(4, 3, 3, 3))
    with pytest.raises(ConfigurationError, match=f"1 weights for {count} models"):
        planned(same, weights="0.25")


def test_counts_of_zero_give_an_error_not_nan(made, planned, merged):
    with pytest.raises(ModelFileError, match="is 0 in every model"):
        merged(made(2, norm__num_batches_tracked=np.asarray(0)))


def test_counts_stay_whole_numbers(made, merged):
    paths = made(3)
    found = load_file(merged(paths)[0].path)["norm.num_batches_tracked"]
    assert found.dtype == torch.int64
    assert int(found) == sum(int(state["norm.num_batches_tracked"]) for state in states(paths))


def test_a_buffer_that_is_no_statistic_is_no_key_error(made, merged):
    assert load_file(merged(made(2))[0].path)["table"].tolist() == [[0, 1, 2], [3, 4, 5]]


def test_tensors_are_paired_by_name_not_by_order(tmp_path, model, merged):
    content = {**model(1), "table": np.zeros(3, np.int64)}
    other = {**model(2), "table": np.zeros(3, np.int64)}
    shuffled = dict(reversed(other.items()))
    results = {
        merged(
            [store(tmp_path / "a", content, "plain"), store(tmp_path / f"b{i}", b, "plain")], f"{i}.safetensors"
        )[0].digest
        for i, b in enumerate((other, shuffled))
    }
    assert len(results) == 1


def test_roles_do_not_depend_on_what_a_layer_is_called(made, planned):
    roles = {action.name: action.role for action in planned(made(2)).actions}
    assert roles["xnorm.deep.running_mean"] == "statistic"  # no "bn" in it
    assert roles["norm.weight"] == "parameter"


def test_a_parameter_with_bn_in_its_name_is_a_parameter(tmp_path, merged):
    paths = [store(tmp_path / str(i), {"carbn.weight": np.full(3, i, np.float32)}, "safetensors") for i in (1, 2)]
    assert load_file(merged(paths)[0].path)["carbn.weight"].tolist() == [1.5] * 3


@pytest.mark.parametrize("stem", ["cityscapes_mitb5", "idd-r101", "x"])
def test_file_names_mean_nothing(tmp_path, made, merged, stem):
    paths = made(2)
    expected = merged(paths, "plain.safetensors")[0].digest
    renamed = [path.rename(tmp_path / f"{stem}{i}.safetensors") for i, path in enumerate(paths)]
    assert merged(renamed, "renamed.safetensors")[0].digest == expected
    assert names(renamed) == [f"{stem}0.safetensors", f"{stem}1.safetensors"]
