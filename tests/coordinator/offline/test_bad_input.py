"""What can't be merged is refused with one message that names it and says what to do; nothing is left behind."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch

from coordinator.offline.plan import Options
from protos.errors import (
    ConfigurationError,
    MergeRangeError,
    ModelFileError,
    OnebasinError,
    StorageError,
    UpdateRefusedError,
)

from .conftest import store, torch_state


def with_value(value: float):
    def change(i: int) -> np.ndarray:
        array = np.ones((4, 3, 3, 3), np.float32)
        if i == 2:
            array.flat[50] = value
        return array

    return change


@pytest.fixture
def refused(tmp_path, merged):
    """Return a function that merges, expects a refusal, and checks that no file was left behind."""

    def run(kind: type[OnebasinError], paths, **options) -> OnebasinError:
        before = set(tmp_path.rglob("*"))
        with pytest.raises(kind) as caught:
            merged(paths, **options)
        assert set(tmp_path.rglob("*")) == before
        assert caught.value.fix
        return caught.value

    return run


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite(made, refused, value):
    error = refused(UpdateRefusedError, made(3, stem__weight=with_value(value)))
    assert "site2.safetensors" in error.what
    assert "stem.weight has 1 values that are NaN or infinite" in error.what


def test_values_that_are_too_large(made, refused):
    error = refused(MergeRangeError, made(2, stem__weight=with_value(600.0)))
    assert "stem.weight has a value of magnitude 600" in error.what


@pytest.mark.parametrize("part", ["running_mean", "running_var"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_statistics_that_are_not_finite(made, refused, part, value):
    paths = made(2, **{f"norm__{part}": lambda i: np.full(4, value if i == 2 else 1.0, np.float32)})
    error = refused(ModelFileError, paths)
    assert f"site2.safetensors: norm.{part} has values that are NaN or infinite" in error.what


def test_a_negative_variance(made, refused):
    error = refused(ModelFileError, made(2, norm__running_var=lambda i: np.float32([1, 1, 1.5 - i, 1])))
    assert "site2.safetensors: norm.running_var has a negative value" in error.what


def test_a_negative_count(made, refused):
    error = refused(ModelFileError, made(2, norm__num_batches_tracked=lambda i: np.asarray(1 - i)))
    assert "site2.safetensors: norm.num_batches_tracked has a negative value" in error.what


def test_counts_that_are_all_zero_name_the_layer_and_what_uniform_would_do(made, refused, merged):
    paths = made(2, xnorm__deep__num_batches_tracked=np.asarray(0))
    error = refused(ModelFileError, paths)
    assert "xnorm.deep.num_batches_tracked is 0 in every model" in error.what
    assert "--buffers uniform would average means and variances with equal weights" in error.fix
    assert merged(paths, buffers="uniform")


def test_one_model_without_batches_has_no_say_in_the_buffers(made, merged):
    from safetensors.torch import load_file

    paths = made(2, norm__num_batches_tracked=lambda i: np.asarray(7 * (i - 1)))
    found, second = load_file(merged(paths)[0].path), load_file(paths[1])
    assert torch.equal(found["norm.running_mean"], second["norm.running_mean"])


def test_counts_that_differ_more_than_threefold_are_pointed_out(made, planned):
    plan = planned(
        made(
            2,
            norm__num_batches_tracked=np.asarray(1),
            xnorm__deep__num_batches_tracked=lambda i: np.asarray(10**i),
        )
    )
    (warning,) = plan.warnings
    assert "site1.safetensors has 10, site2.safetensors 100" in warning
    assert "91% of the buffers" in warning
    assert "--weights 10,100" in warning
    assert not planned(
        made(3, norm__num_batches_tracked=np.asarray(5), xnorm__deep__num_batches_tracked=np.asarray(5)),
        allow_duplicates=True,
    ).warnings


def test_the_same_model_twice(tmp_path, made, refused, merged):
    first, _ = made(2)
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(first.read_bytes())
    error = refused(ConfigurationError, [first, copy])
    assert "site1.safetensors and copy.safetensors hold the same model" in error.what
    assert "--allow-duplicates" in error.fix
    assert merged([first, copy], allow_duplicates=True)


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_models(made, refused, count):
    assert "two models or more" in refused(ConfigurationError, made(count)).fix


# ----------------------------------------------------- different architectures


def test_models_of_different_classes(made, refused):
    paths = made(2, head__weight=lambda i: np.ones((4 + i, 4), np.float32), head__bias=lambda i: np.ones(4 + i))
    error = refused(ModelFileError, paths)
    assert "head.bias (float64[5] and float64[6])" in error.what
    assert "5 and 6 classes" in error.fix
    assert "--separate" in error.fix


def test_a_deeper_model(made, refused, tmp_path, model):
    first, _ = made(2)
    deeper = {**model(9), "layer3.7.conv.weight": np.ones((2, 2), np.float32), "table": np.arange(6).reshape(2, 3)}
    error = refused(ModelFileError, [first, store(tmp_path / "deep", deeper, "safetensors")])
    assert "tensor layer3.7.conv.weight only in deep.safetensors" in error.what
    assert "deeper variant" in error.fix
    assert "layer3.7.conv" in error.fix


def test_names_behind_a_prefix(tmp_path, made, refused, model):
    first, _ = made(2)
    wrapped = {f"segmentor.{name}": array for name, array in model(9).items()}
    error = refused(ModelFileError, [first, store(tmp_path / "wrapped", wrapped, "safetensors")])
    assert "stand behind 'segmentor'" in error.fix


def test_other_dtypes(tmp_path, made, refused, model):
    first, _ = made(2)
    half = {n: a.astype(np.float16) if a.dtype == np.float32 else a for n, a in model(9).items()}
    error = refused(
        ModelFileError,
        [first, store(tmp_path / "half", {**half, "table": np.arange(6).reshape(2, 3)}, "safetensors")],
    )
    assert "only the dtypes differ (float16, float32)" in error.fix


def test_models_that_have_nothing_to_do_with_each_other(tmp_path, made, refused):
    first, _ = made(2)
    other = store(tmp_path / "other", {"lstm.weight": np.ones(3, np.float32)}, "safetensors")
    error = refused(ModelFileError, [first, other])
    assert "only in site1.safetensors" in error.what
    assert "lstm.weight only in other.safetensors" in error.what
    assert "the same base" in error.fix


def test_a_buffer_that_differs_must_be_named(made, refused, merged):
    from safetensors.torch import load_file

    paths = made(2, table=lambda i: np.full((2, 3), i))
    error = refused(ModelFileError, paths)
    assert "buffer table differs between site1.safetensors and site2.safetensors" in error.what
    assert "--take 'table'" in error.fix
    assert load_file(merged(paths, take=("tab*",))[0].path)["table"].unique().tolist() == [1]


def test_an_incomplete_triple(tmp_path, made, refused, model):
    first, _ = made(2)
    content = model(9)
    del content["norm.num_batches_tracked"]
    error = refused(ModelFileError, [first, store(tmp_path / "old", content, "safetensors")])
    assert "norm" in error.what
    assert "num_batches_tracked" in error.what


# ---------------------------------------------------------------- the options


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"buffers": "best"}, "is no rule"),
        ({"buffers": "from:"}, "is no rule"),
        ({"buffers": "from:4"}, "names no input: '4'"),
        ({"buffers": "from:site9"}, "names no input"),
        ({"weights": "1,2,3"}, "3 weights for 2 models"),
        ({"separate": ("decode_head.*",)}, "matches no tensor"),
        ({"separate": ("norm.running_var",)}, "keeps some statistics of norm and merges others"),
    ],
)
def test_options_that_make_no_sense(made, refused, options, said):
    assert said in refused(ConfigurationError, made(2), **options).what


@pytest.mark.parametrize("copies", [("model.", "ema_model."), ("model.", "ema_model.", "imnet_model.")])
def test_a_checkpoint_with_two_copies_needs_a_choice(tmp_path, model, refused, merged, copies):
    from safetensors.torch import load_file

    paths = []
    for i in (1, 2):
        state = {}
        for k, prefix in enumerate(copies):
            part = {**model(10 * k + i), "table": np.zeros(3, np.int64)}
            state |= {prefix + name: tensor for name, tensor in torch_state(part).items()}
        torch.save({"meta": {}, "state_dict": state}, tmp_path / f"{i}.pth")
        paths.append(tmp_path / f"{i}.pth")
    error = refused(ModelFileError, paths)
    assert "student" in str(error)
    assert "ema" in str(error)
    for copy, prefix in (("student", "model."), ("ema", "ema_model.")):
        found = load_file(merged(paths, f"{copy}.safetensors", copy=copy)[0].path)
        states = [torch.load(path, weights_only=True)["state_dict"] for path in paths]
        mean = sum(s[f"{prefix}stem.weight"].double() for s in states) / 2
        np.testing.assert_allclose(found["stem.weight"].double(), mean, rtol=2e-7, atol=2**-40)
        counts = sum(int(s[f"{prefix}norm.num_batches_tracked"]) for s in states)
        assert int(found["norm.num_batches_tracked"]) == counts


# ------------------------------------------------------------------- the files


@pytest.mark.parametrize("form", ["safetensors", "pth", "plain"])
def test_a_file_cut_short(made, refused, form):
    paths = made(2, form)
    whole = paths[1].read_bytes()
    for length in (0, 5, 100, len(whole) // 2, len(whole) - 1):
        paths[1].write_bytes(whole[:length])
        assert str(paths[1]) in refused(ModelFileError, paths).what


def test_a_pickle_with_code_is_not_run(tmp_path, made, refused):
    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'owned'}",)

    paths = made(2, "pth")
    torch.save({"state_dict": {"w": torch.ones(1)}, "hook": Evil()}, paths[1])
    error = refused(ModelFileError, paths)
    assert "system" in error.what
    assert not (tmp_path / "owned").exists()


def test_a_missing_file(tmp_path, made, refused):
    refused(ModelFileError, [made(1)[0], tmp_path / "gone.pth"])


def test_a_full_disk_leaves_nothing(made, refused, monkeypatch):
    paths = made(2)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    for call in ("posix_fallocate", "pwrite"):
        with monkeypatch.context() as patched:
            patched.setattr(os, call, full)
            assert "No space left on device" in refused(StorageError, paths).what


def test_a_device_that_is_not_there(made, refused):
    assert "device 'cuda:77' can't be used" in refused(ConfigurationError, made(2), device="cuda:77").what


def test_options_have_the_defaults_that_the_command_has():
    assert Options() == Options("pooled", "", (), (), align=False, allow_duplicates=False, threads=1, device="cpu")
