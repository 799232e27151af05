"""Bases for images of one's own: what is in them, and what can't become one."""

from __future__ import annotations

import pytest
import torch
from data_sets import make
from safetensors.torch import load_file, save_file

from client.base_making import CHECKPOINT, Training, from_encoder, from_model, trained
from client.data.settings import ImageFolder
from client.models import build
from client.training.settings import AdaptSettings
from protos.digest import file_digest
from protos.errors import AdaptationError, ConfigurationError, DataError, ModelFileError
from protos.tensorfile import TensorFile


@pytest.fixture(autouse=True)
def one_thread_each(one_thread):
    """Run every test here on one thread."""


@pytest.fixture
def output(tmp_path):
    return tmp_path / "made" / "base.safetensors"


@pytest.fixture
def encoder(tmp_path):
    """Write what ImageNet left in an encoder, as it were, with a classifier; return the file."""
    state = build("segformer-mitb0", 5, seed=3).backbone.state_dict()
    torch.save({**state, "head.weight": torch.zeros(1000, 256)}, tmp_path / "mit_b0.pth")
    return tmp_path / "mit_b0.pth"


def metadata(path):
    with TensorFile(path) as file:
        return file.metadata


# ------------------------------------------------------------------- an encoder


def test_a_base_of_an_encoder_has_its_weights_and_a_head_that_the_seed_makes(output, encoder):
    digest = from_encoder(output, "segformer-mitb0", encoder, 7, seed=5)
    state, own = load_file(output), build("segformer-mitb0", 7, seed=5).state_dict()
    pretrained = torch.load(encoder)
    assert state.keys() == own.keys()
    for name, tensor in state.items():
        wanted = pretrained[name.removeprefix("backbone.")] if name.startswith("backbone.") else own[name]
        assert torch.equal(tensor, wanted), name
    with TensorFile(output) as file:
        assert file_digest(file) == digest
        assert (file.metadata["model"], file.metadata["classes"]) == ("segformer-mitb0", "7")


def test_the_same_seed_makes_the_same_base(output, encoder, tmp_path):
    digests = {
        from_encoder(tmp_path / f"{n}.st", "segformer-mitb0", encoder, 7, seed) for n, seed in enumerate((5, 5, 6))
    }
    assert len(digests) == 2


def test_an_encoder_of_another_model_is_refused_and_nothing_is_written(output, encoder):
    with pytest.raises(ModelFileError, match=r"mit_b0\.pth"):
        from_encoder(output, "segformer-mitb1", encoder, 7)
    assert not output.exists()


def test_a_model_without_such_an_encoder_is_refused(output, encoder):
    with pytest.raises(ConfigurationError, match="encoder can't be loaded"):
        from_encoder(output, "tiny-resnet", encoder, 7)


def test_an_unknown_model_is_refused_with_the_nearest(output):
    with pytest.raises(ConfigurationError) as caught:
        from_encoder(output, "segformer-mit-b0", None, 7)
    assert "segformer-mitb0" in caught.value.fix


def test_a_base_is_not_overwritten(output):
    from_encoder(output, "tiny-resnet", None, 5)
    before = output.read_bytes()
    for again in (
        lambda: from_encoder(output, "tiny-resnet", None, 5),
        lambda: from_model(output, output),
        lambda: trained(output, output, Training(ImageFolder("gta", "-"), 32, 0, AdaptSettings()), lambda _: None),
    ):
        with pytest.raises(ConfigurationError, match="there is a file at"):
            again()
    assert output.read_bytes() == before


# ----------------------------------------------------------------------- a model


def test_a_checkpoint_with_student_and_teacher_becomes_the_base_of_the_copy_that_is_named(output, tmp_path):
    copies = {copy: build("segformer-mitb0", 19, seed) for seed, copy in enumerate(("model", "ema_model"))}
    state = {f"{copy}.{name}": t for copy, network in copies.items() for name, t in network.state_dict().items()}
    torch.save({"state_dict": state, "meta": {}}, tmp_path / "latest.pth")
    from_model(output, tmp_path / "latest.pth", "segformer-mitb0", "ema")
    assert metadata(output)["classes"] == "19"
    wanted = copies["ema_model"].state_dict()
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in load_file(output).items())


def test_a_base_is_a_model_too(output, tmp_path):
    first = from_encoder(tmp_path / "first.safetensors", "tiny-resnet", None, 5)
    assert from_model(output, tmp_path / "first.safetensors") == first


def test_a_file_that_does_not_say_what_it_is_must_be_named(output, tmp_path):
    save_file(build("tiny-resnet", 5).state_dict(), tmp_path / "m.safetensors")
    with pytest.raises(ConfigurationError, match="doesn't say which architecture"):
        from_model(output, tmp_path / "m.safetensors")


def test_a_model_with_what_is_no_number_is_refused_by_name(output, tmp_path):
    state = build("tiny-resnet", 5).state_dict()
    name = next(name for name in state if name.endswith("running_var"))
    state[name][1] = float("nan")
    save_file(state, tmp_path / "m.safetensors", {"model": "tiny-resnet", "classes": "5"})
    with pytest.raises(ModelFileError, match=name):
        from_model(output, tmp_path / "m.safetensors")
    assert not output.exists()


def test_a_model_with_several_sets_of_statistics_is_refused(output, tmp_path, monkeypatch):
    from client import base_making

    from_encoder(tmp_path / "m.safetensors", "tiny-resnet", None, 5)
    monkeypatch.setattr(base_making, "SETS", "model")  # as if the file said so
    with pytest.raises(ConfigurationError, match="statistics of several sites"):
        from_model(output, tmp_path / "m.safetensors")


# ---------------------------------------------------------------------- training


@pytest.fixture
def training(tmp_path):
    """Return how to train for three steps on three images in GTA's layout."""
    make(tmp_path / "gta", "gta", size=(48, 64))
    settings = AdaptSettings(method="source", steps=3, batch=2, warmup=1, lr=1e-3, checkpoint_every=1)
    part = ImageFolder("gta", str(tmp_path / "gta"), resize=(64, 48))
    return Training(part, crop=32, workers=0, settings=settings, device="cpu")


@pytest.fixture
def start(tmp_path):
    path = tmp_path / "start.safetensors"
    from_encoder(path, "tiny-resnet", None, 19)
    return path


def stop_at(step):
    def report(progress):
        if progress.step == step:
            raise KeyboardInterrupt

    return report


def test_training_learns_the_labels(output, start, training):
    from dataclasses import replace

    losses = []
    longer = replace(training, settings=replace(training.settings, steps=25, checkpoint_every=100))
    trained(output, start, longer, lambda progress: losses.append(progress.loss))
    assert len(losses) == 25
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
    assert metadata(output)["model"] == "tiny-resnet"
    # It saw images: its statistics are no longer the start's, and count what it saw.
    counts = [int(t) for name, t in load_file(output).items() if name.endswith("num_batches_tracked")]
    assert set(counts) == {25}


def test_an_interrupted_training_goes_on_to_the_same_bits(output, start, training, tmp_path):
    whole = trained(tmp_path / "whole.safetensors", start, training, lambda progress: None)
    with pytest.raises(KeyboardInterrupt):
        trained(output, start, training, stop_at(2))
    assert not output.exists()
    assert output.with_name(output.name + CHECKPOINT).exists()
    steps = []
    assert trained(output, start, training, lambda progress: steps.append(progress.step)) == whole
    assert steps == [3]
    assert not output.with_name(output.name + CHECKPOINT).exists()


def test_a_checkpoint_of_another_training_is_not_continued(output, start, training):
    from dataclasses import replace

    with pytest.raises(KeyboardInterrupt):
        trained(output, start, training, stop_at(2))
    with pytest.raises(AdaptationError, match="lr"):
        trained(output, start, replace(training, settings=replace(training.settings, lr=0.5)), lambda _: None)


def test_images_without_labels_are_named(output, start, training, tmp_path):
    (tmp_path / "gta" / "labels" / "001.png").unlink()
    with pytest.raises(DataError, match="001"):
        trained(output, start, training, lambda progress: None)


def test_a_base_with_too_few_classes_for_the_labels_is_refused(output, training, tmp_path):
    from_encoder(tmp_path / "few.safetensors", "tiny-resnet", None, 2)
    with pytest.raises(DataError, match="there are 2 classes"):
        trained(output, tmp_path / "few.safetensors", training, lambda progress: None)
