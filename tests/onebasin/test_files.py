"""``onebasin merge``, ``inspect`` and ``diff`` as someone types them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from protos.errors import ConfigurationError, ModelFileError, UpdateRefusedError


@pytest.fixture
def files(tmp_path, model, saved, monkeypatch):
    """Three models of one architecture, in the folder where commands are typed."""
    monkeypatch.chdir(tmp_path)
    for i in (1, 2, 3):
        content = {**model(i), "table": np.arange(6).reshape(2, 3)}
        content["norm.num_batches_tracked"] = np.asarray(100)
        content["xnorm.deep.num_batches_tracked"] = np.asarray(100 + i)
        saved(tmp_path / f"{i}.safetensors", content)
    return tmp_path


def test_merging_says_what_went_in_and_what_came_out(files, onebasin):
    code, out, err = onebasin("merge", "1.safetensors", "2.safetensors", "-o", "out.safetensors")
    assert (code, err) == (0, "")
    for said in (
        "1.safetensors",
        "50.0%",
        "9 parameters: mid-point",
        "6 statistics: pooled",
        "wrote out.safetensors",
    ):
        assert said in out
    assert {path.name for path in files.iterdir()} >= {"out.safetensors", "out.receipt.json", "out.README.md"}


def test_json_holds_what_the_receipt_holds(files, onebasin):
    code, out, _ = onebasin(
        "merge", "1.safetensors", "3.safetensors", "-o", "out.pth", "--weights", "1,3", "--json"
    )
    found = json.loads(out)
    assert code == 0
    assert [i["share"] for i in found["inputs"]] == [0.25, 0.75]
    assert found["written"] == [json.loads((files / "out.receipt.json").read_text())]
    assert torch.load(files / "out.pth", weights_only=True)["state_dict"].keys() == {
        t["name"] for t in found["tensors"]
    }


def test_a_plan_names_every_tensor_and_writes_nothing(files, onebasin):
    before = set(files.iterdir())
    code, out, _ = onebasin(
        "merge", "1.safetensors", "2.safetensors", "-o", "heads", "--separate", "head.*", "--plan"
    )
    assert code == 0
    assert set(files.iterdir()) == before
    for said in (
        "stem.weight",
        "float32[4, 3, 3, 3]",
        "each its own",
        "would write heads/2.safetensors",
        "of memory",
    ):
        assert said in out


def test_what_is_there_is_not_written_over_unless_asked(files, onebasin):
    command = ("merge", "1.safetensors", "2.safetensors", "-o", "out.safetensors")
    assert onebasin(*command)[0] == 0
    before = (files / "out.safetensors").read_bytes()
    code, _, err = onebasin("merge", "1.safetensors", "3.safetensors", "-o", "out.safetensors")
    assert code == ConfigurationError.exit_code
    assert "out.safetensors is there already" in err
    assert "--force" in err
    assert (files / "out.safetensors").read_bytes() == before
    assert onebasin("merge", "1.safetensors", "3.safetensors", "-o", "out.safetensors", "--force")[0] == 0
    assert (files / "out.safetensors").read_bytes() != before


def test_an_input_is_never_written_over(files, onebasin):
    code, _, err = onebasin("merge", "1.safetensors", "2.safetensors", "-o", "./1.safetensors", "--force")
    assert code == ConfigurationError.exit_code
    assert "is one of the inputs" in err


def test_counts_that_differ_much_are_warned_of(files, onebasin, model, saved):
    content = {**model(9), "table": np.arange(6).reshape(2, 3)}
    content["norm.num_batches_tracked"] = np.asarray(40_000)
    saved(files / "long.safetensors", content)
    code, _, err = onebasin("merge", "1.safetensors", "long.safetensors", "-o", "out.safetensors")
    assert code == 0
    assert "warning: batch counts differ: 1.safetensors has 101, long.safetensors" in err


@pytest.mark.parametrize(
    ("arguments", "kind", "said"),
    [
        (("merge", "1.safetensors", "-o", "out.safetensors"), ConfigurationError, "two models or more"),
        (("merge", "1.safetensors", "gone.pth", "-o", "o.safetensors"), ModelFileError, "gone.pth"),
        (("merge", "1.safetensors", "nan.safetensors", "-o", "o.safetensors"), UpdateRefusedError, "NaN"),
        (("inspect", "gone.pth"), ModelFileError, "gone.pth"),
        (("diff", "1.safetensors", "page.pth"), ModelFileError, "web page"),
    ],
)
def test_each_kind_of_error_has_its_exit_code_and_no_traceback(
    files, onebasin, model, saved, arguments, kind, said
):
    content = {**model(9), "table": np.arange(6).reshape(2, 3)}
    content["head.bias"] = np.full(5, np.nan, np.float32)
    saved(files / "nan.safetensors", content)
    (files / "page.pth").write_text("<!doctype html>")
    code, out, err = onebasin(*arguments)
    assert code == kind.exit_code
    assert said in err
    assert "→" in err
    assert "Traceback" not in out + err
    assert not Path("o.safetensors").exists()


def test_a_model_is_inspected_and_compared(files, onebasin):
    code, out, _ = onebasin("inspect", "1.safetensors", "--base", "2.safetensors")
    assert code == 0
    for said in (
        "148 parameters in 9 tensors",
        "2 BatchNorm layers",
        "all values are finite",
        "distance from the base",
    ):
        assert said in out
    code, out, _ = onebasin("inspect", "1.safetensors", "--json")
    assert json.loads(out)["batches"] == {"norm": 100, "xnorm.deep": 101}
    code, out, _ = onebasin("diff", "1.safetensors", "2.safetensors", "--layers", "2")
    assert code == 0
    assert "the layers that differ most" in out
    code, out, _ = onebasin("diff", "1.safetensors", "2.safetensors", "--json")
    assert len(json.loads(out)["layers"]) == 6
