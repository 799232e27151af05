"""Merging files: what comes out, in which form, whatever form goes in."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from coordinator.offline.inputs import names
from protos.boundary import BatchNorm
from protos.checkpoints import DigestingReader
from protos.digest import file_digest
from protos.errors import ConfigurationError
from protos.statistics import StatisticSums
from protos.tensorfile import TensorFile

from .conftest import META

FORMS = ("safetensors", "pth", "plain", "sharded")
LAYERS = ("norm", "xnorm.deep")


def reference(states, shares):
    """Merge by the paper's formulas in float64."""
    result = {}
    for name in states[0]:
        if name.endswith("num_batches_tracked"):
            result[name] = sum(int(s[name]) for s in states)
        elif not name.endswith(("running_mean", "running_var", "table")):
            result[name] = sum(share * s[name].double() for share, s in zip(shares, states, strict=True))
    for layer in LAYERS:
        counts = [float(s[f"{layer}.num_batches_tracked"]) for s in states]
        n = sum(counts)
        means = [s[f"{layer}.running_mean"].double() for s in states]
        variances = [s[f"{layer}.running_var"].double() for s in states]
        mean = sum(c * m for c, m in zip(counts, means, strict=True)) / n
        result[f"{layer}.running_mean"] = mean
        result[f"{layer}.running_var"] = (
            sum(c * (v + (m - mean) ** 2) for c, v, m in zip(counts, variances, means, strict=True)) / n
        )
    return result


def state_of(path) -> dict[str, torch.Tensor]:
    if path.suffix == ".json":
        return {**load_file(path.parent / "a.safetensors"), **load_file(path.parent / "b.safetensors")}
    if path.suffix == ".safetensors":
        return load_file(path)
    found = torch.load(path, weights_only=True)
    return found.get("state_dict", found)


def check(found, expected):
    for name, value in expected.items():
        if isinstance(value, int):
            assert int(found[name]) == value
        else:
            np.testing.assert_allclose(found[name].double(), value, rtol=2e-7, atol=2**-40)


@pytest.mark.parametrize("count", [2, 3, 5, 17])
@pytest.mark.parametrize("form", FORMS)
def test_any_number_of_models_in_any_form_merge_by_the_papers_formulas(made, merged, form, count):
    paths = made(count, form)
    (output,) = merged(paths)
    found = load_file(output.path)
    check(found, reference([state_of(path) for path in paths], [1 / count] * count))
    assert torch.equal(found["table"], torch.arange(6).reshape(2, 3))


def test_forms_can_be_mixed_and_make_no_difference(tmp_path, made, merged):
    results = set()
    for forms in (("safetensors", "pth"), ("pth", "safetensors"), ("plain", "sharded")):
        paths = [made(2, form)[i] for i, form in enumerate(forms)]
        results.add(merged(paths, f"{'-'.join(forms)}.safetensors")[0].digest)
        for path in tmp_path.glob("site*/*"):
            path.unlink()
        for path in tmp_path.glob("site?"):
            path.rmdir()
    assert len(results) == 1


def test_the_order_and_the_number_of_threads_make_no_difference_to_a_bit(made, merged):
    paths = made(5)
    results = {
        merged(order, f"{i}.safetensors", threads=threads)[0].path.read_bytes()
        for i, (order, threads) in enumerate(
            [(paths, 1), (paths, 4), (paths[::-1], 1), (paths[2:] + paths[:2], 3)]
        )
    }
    assert len(results) == 1


def test_the_digest_is_that_of_the_file(made, merged):
    (output,) = merged(made(2))
    with TensorFile(output.path) as file:
        assert file_digest(file) == output.digest


@pytest.mark.parametrize(("text", "shares"), [("0.3,0.7", (0.3, 0.7)), ("9,1", (0.9, 0.1)), ("0,1", (0.0, 1.0))])
def test_weights_weigh_parameters_and_leave_buffers_alone(made, merged, text, shares):
    paths = made(2)
    (output,) = merged(paths, weights=text)
    check(load_file(output.path), reference([state_of(path) for path in paths], shares))


def test_with_all_weight_on_one_model_its_parameters_come_back(made, merged):
    paths = made(3)
    found, second = load_file(merged(paths, weights="0,1,0")[0].path), state_of(paths[1])
    for name in ("stem.weight", "head.bias", "scale"):
        np.testing.assert_allclose(found[name], second[name], rtol=6e-8, atol=2**-41)


def test_uniform_buffers_are_plain_averages_with_the_counts_added_up(made, merged):
    paths = made(3)
    found, states = load_file(merged(paths, buffers="uniform")[0].path), [state_of(path) for path in paths]
    for layer in LAYERS:
        for part in ("running_mean", "running_var"):
            mean = sum(s[f"{layer}.{part}"].double() for s in states) / 3
            np.testing.assert_allclose(found[f"{layer}.{part}"].double(), mean, rtol=1e-7)
        assert int(found[f"{layer}.num_batches_tracked"]) == sum(
            int(s[f"{layer}.num_batches_tracked"]) for s in states
        )


@pytest.mark.parametrize("name", ["2", "site2", "site2.safetensors"])
def test_buffers_can_be_one_models(made, merged, name):
    paths = made(3)
    found, second = load_file(merged(paths, buffers=f"from:{name}")[0].path), state_of(paths[1])
    for layer in LAYERS:
        for part in ("running_mean", "running_var", "num_batches_tracked"):
            assert torch.equal(found[f"{layer}.{part}"], second[f"{layer}.{part}"])
    check(found, {"stem.weight": sum(state_of(p)["stem.weight"].double() for p in paths) / 3})


def test_pooled_buffers_are_the_exact_sums_rounded_once(made, merged):
    paths = made(4)
    found, states = load_file(merged(paths)[0].path), [state_of(path) for path in paths]
    total = StatisticSums.zero(4)
    for s in states:
        parts = s["norm.running_mean"].numpy(), s["norm.running_var"].numpy()
        total = total.plus(StatisticSums.of(BatchNorm(*parts, int(s["norm.num_batches_tracked"]))))
    pooled = total.pooled("norm")
    assert found["norm.running_mean"].numpy().tobytes() == pooled.mean.tobytes()
    assert found["norm.running_var"].numpy().tobytes() == pooled.var.tobytes()


def test_separate_heads_share_the_encoder_and_keep_their_own_head_with_its_buffers(made, merged):
    paths = made(3)
    outputs = merged(paths, "heads", separate=("head.*", "xnorm.*"))
    assert [o.path.name for o in outputs] == ["site1.safetensors", "site2.safetensors", "site3.safetensors"]
    expected = reference([state_of(path) for path in paths], [1 / 3] * 3)
    for path, output in zip(paths, outputs, strict=True):
        mine, found = state_of(path), load_file(output.path)
        for name, value in found.items():
            if name.startswith(("head.", "xnorm.")):
                assert torch.equal(value, mine[name]), name
            elif name in expected:
                check(found, {name: expected[name]})
    first = load_file(outputs[0].path)
    assert all(torch.equal(first["stem.weight"], load_file(o.path)["stem.weight"]) for o in outputs)


def test_heads_of_different_classes_may_stay_separate(made, merged):
    paths = made(2, head__weight=lambda i: np.ones((4 + i, 4), np.float32), head__bias=lambda i: np.ones(4 + i))
    outputs = merged(paths, "heads", separate=("head.*",))
    assert [load_file(o.path)["head.weight"].shape[0] for o in outputs] == [5, 6]


def test_files_of_one_name_in_several_folders_get_numbers(tmp_path, made, merged):
    paths = []
    for i, path in enumerate(made(2), 1):
        (tmp_path / f"run{i}").mkdir()
        paths.append(path.rename(tmp_path / f"run{i}" / "iter_40000.safetensors"))
    assert names(paths) == ["run1/iter_40000.safetensors", "run2/iter_40000.safetensors"]
    outputs = merged(paths, "out", separate=("head.*",))
    assert [o.path.name for o in outputs] == ["1-iter_40000.safetensors", "2-iter_40000.safetensors"]


def test_a_torch_checkpoint_comes_out_as_the_tools_of_mmsegmentation_load_it(made, merged):
    paths = made(2, "pth")
    (output,) = merged(paths, "merged.pth")
    for weights_only in (True, False):
        found = torch.load(output.path, weights_only=weights_only)
        assert found["meta"]["CLASSES"] == META["CLASSES"]
        assert found["meta"]["PALETTE"] == META["PALETTE"]
        check(found["state_dict"], reference([state_of(path) for path in paths], [0.5, 0.5]))
    assert list(found["state_dict"]) == sorted(found["state_dict"])


def test_both_forms_hold_the_same_model(made, merged):
    paths = made(2, "pth")
    assert merged(paths, "a.pth")[0].digest == merged(paths, "b.safetensors")[0].digest


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_dtypes_come_back(tmp_path, model, merged, dtype):
    paths = []
    for i in (1, 2):
        state = {
            name: tensor.to(dtype) if tensor.is_floating_point() else tensor
            for name, tensor in ((n, torch.from_numpy(np.array(a))) for n, a in model(i).items())
        }
        torch.save(state, tmp_path / f"{i}.pth")
        paths.append(tmp_path / f"{i}.pth")
    (output,) = merged(paths)
    found, states = load_file(output.path), [state_of(path) for path in paths]
    for name in ("stem.weight", "norm.running_var"):
        assert found[name].dtype == dtype
    mean = sum(s["stem.weight"].double() for s in states) / 2
    step = torch.finfo(dtype).eps
    np.testing.assert_allclose(found["stem.weight"].double(), mean, rtol=step / 2 * 1.001, atol=2**-24)


def test_tied_tensors_stay_equal(tmp_path, merged):
    paths = []
    for i in (1, 2):
        shared = torch.full((3, 2), float(i))
        torch.save({"embedding.weight": shared, "head.weight": shared}, tmp_path / f"{i}.pth")
        paths.append(tmp_path / f"{i}.pth")
    found = load_file(merged(paths)[0].path)
    assert torch.equal(found["embedding.weight"], torch.full((3, 2), 1.5))
    assert torch.equal(found["embedding.weight"], found["head.weight"])


def test_a_receipt_and_a_card_lie_beside_the_model(made, merged):
    (output,) = merged(made(2), weights="1,3")
    receipt = json.loads(output.path.with_name("merged.receipt.json").read_text())
    assert receipt == output.receipt
    assert [i["share"] for i in receipt["inputs"]] == [0.25, 0.75]
    assert receipt["parameter_rule"] == "weighted-midpoint"
    assert receipt["buffer_rule"] == "gaussian-pooled"
    assert receipt["merged"]["digest"] == output.digest.hex()
    card = output.path.with_name("merged.README.md").read_text()
    assert card.startswith("---\nlicense:")
    assert output.digest.hex() in card
    assert "site1" in card


def test_without_digests_the_model_is_the_same_and_no_input_is_hashed(made, merged, monkeypatch):
    paths = made(2)
    (named,) = merged(paths)
    hashed = []
    monkeypatch.setattr(DigestingReader, "digest", lambda self: hashed.append(self))
    (output,) = merged(paths, output="quick.safetensors", digests=False)
    assert output.digest == named.digest
    assert not hashed
    assert [i["digest"] for i in output.receipt["inputs"]] == [None, None]
    card = output.path.with_name("quick.README.md").read_text()
    assert "not computed" in card
    assert named.receipt["inputs"][0]["digest"] not in card


def test_without_digests_a_model_given_twice_is_still_refused(made, merged):
    with pytest.raises(ConfigurationError, match="hold the same model"):
        merged([*made(1), *made(1, "pth")], digests=False)


def test_what_all_inputs_say_of_themselves_is_kept(made, merged):
    (output,) = merged(made(2))
    with TensorFile(output.path) as file:
        assert file.metadata["model"] == "tiny-resnet"
        assert file.metadata["classes"] == "5"


def test_the_plan_names_each_tensors_role_and_what_becomes_of_it(made, planned):
    plan = planned(made(2), separate=("head.*",), take=("table",))
    actions = {action.name: (action.role, action.rule) for action in plan.actions}
    assert actions["stem.weight"] == ("parameter", "mid-point")
    assert actions["head.weight"] == ("parameter", "each its own")
    assert actions["norm.running_var"] == ("statistic", "pooled")
    assert actions["table"] == ("buffer", "from the first")
    assert plan.peak_bytes < 256 << 20
    assert not any(path.exists() for path in plan.outputs)
