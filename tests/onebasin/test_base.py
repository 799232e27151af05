"""Making bases, as someone types it."""

from __future__ import annotations

import pytest
import torch
from data_sets import make

from client.models import build
from protos.errors import ConfigurationError, DataError, ModelFileError
from protos.tensorfile import TensorFile


@pytest.fixture(autouse=True)
def one_thread_each(one_thread):
    """Run every test here on one thread."""


def test_from_an_encoder_over_labelled_images_to_a_base(onebasin, tmp_path):
    torch.save(build("segformer-mitb0", 5).backbone.state_dict(), tmp_path / "mit_b0.pth")
    first, second, third = (tmp_path / f"{name}.safetensors" for name in ("first", "second", "third"))
    words = ("base", "init", "-o", first, "--model", "segformer-mitb0", "--encoder", tmp_path / "mit_b0.pth")
    code, out, err = onebasin(*words)
    assert (code, err) == (0, "")
    assert out.splitlines()[1] == f"written to {first}"

    make(tmp_path / "gta", "gta")
    numbers = ("--steps", 2, "--crop", 64, "--workers", 0, "--device", "cpu", "--batch", 1)
    data = ("--data", f"gta:{tmp_path / 'gta'}", "--start", first)
    code, out, err = onebasin("base", "train", "-o", second, *data, *numbers)
    assert (code, err) == (0, "")
    assert "step 2 of 2, loss" in out
    assert "target" not in out

    code, out, err = onebasin("base", "take", second, "-o", third)
    assert (code, err) == (0, "")
    with TensorFile(third) as file:
        assert file.metadata["model"] == "segformer-mitb0"


def test_an_encoder_with_random_weights_is_pointed_out(onebasin, tmp_path):
    code, out, _ = onebasin("base", "init", "-o", tmp_path / "b.safetensors", "--model", "tiny-resnet")
    assert code == 0
    assert "its encoder has random weights" in out


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["init", "--model", "daformer-mitb9"], ConfigurationError, "Did you mean"),
        (["init", "--model", "segformer-mitb0", "--encoder", "nowhere.pth"], ModelFileError, "nowhere.pth"),
        (["take", "nowhere.pth"], ModelFileError, "nowhere.pth"),
        (["train", "--data", "gta:/nowhere"], ConfigurationError, "give both --data and --start"),
        (["train", "--start", "base.safetensors"], ConfigurationError, "give both --data and --start"),
        (["train", "--data", "nowhere", "--start", "START"], ConfigurationError, "no folder of labelled images"),
        (["train", "--data", "gta:nowhere", "--start", "START"], DataError, "nowhere"),
        (["train", "--data", "acdc:nowhere", "--start", "START"], ConfigurationError, "needs a split"),
    ],
)
def test_what_cannot_be_a_base_is_said_and_nothing_is_written(onebasin, tmp_path, monkeypatch, words, code, said):
    monkeypatch.chdir(tmp_path)
    start = tmp_path / "start.safetensors"
    onebasin("base", "init", "-o", start, "--model", "tiny-resnet")
    words = [str(start) if word == "START" else word for word in words]
    found, _, err = onebasin("base", *words, "-o", tmp_path / "out.safetensors")
    assert found == code.exit_code, err
    assert said in err
    assert {path.name for path in tmp_path.iterdir()} == {"start.safetensors"}
