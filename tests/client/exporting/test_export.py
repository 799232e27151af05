"""``onebasin export``'s work: from a result to a file for others."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from worlds import build_world

from client.data.labels import CLASSES
from client.exporting.export import Options, export, size_of
from client.models import build
from client.models.routed_file import load_routed
from client.tensors import raw_state
from protos.checkpoints import open_model
from protos.digest import file_digest
from protos.errors import ConfigurationError, ModelFileError
from protos.rules import Rules
from protos.tensorfile import TensorFile, write_arrays


def same(found, wanted) -> bool:
    return found.keys() == wanted.keys() and all(torch.equal(found[key], wanted[key]) for key in wanted)


@pytest.mark.parametrize("suffix", [".pth", ".pt"])
def test_a_plain_state_dict_is_opened_without_pickle_and_loads(plain, tmp_path, suffix):
    found = export(plain, tmp_path / f"out{suffix}", Options())
    state = torch.load(found.file, weights_only=True)
    assert same(state, load_file(plain / "merged.safetensors"))
    build("tiny-resnet", 19).load_state_dict(state)
    assert (found.model, found.classes, found.statistics) == ("tiny-resnet", 19, "its own")
    with TensorFile(plain / "merged.safetensors") as file:
        assert found.digest == file_digest(file).hex()


def test_a_wrapped_one_says_its_classes_as_mmsegmentation_does(plain, tmp_path):
    export(plain, tmp_path / "out.pth", Options(wrap="state_dict"))
    found = torch.load(tmp_path / "out.pth", weights_only=True)
    assert found.keys() == {"meta", "state_dict"}
    assert found["meta"]["CLASSES"] == CLASSES
    assert found["meta"]["PALETTE"][0] == [128, 64, 128]
    assert same(found["state_dict"], load_file(plain / "merged.safetensors"))


def test_our_own_reader_takes_back_what_was_exported(plain, tmp_path):
    for name in ("out.pth", "out.safetensors"):
        export(plain, tmp_path / name, Options())
        with open_model(tmp_path / name) as found, open_model(plain / "merged.safetensors") as wanted:
            assert file_digest(found) == file_digest(wanted)


@pytest.mark.parametrize(("chosen", "place"), [("pooled", None), ("night", "night"), ("dusty", "dusty")])
def test_one_set_of_a_routed_model_is_a_plain_model(routed, tmp_path, chosen, place):
    found = export(routed, tmp_path / "out.safetensors", Options(statistics=chosen))
    assert found.statistics == chosen
    state, whole = load_file(found.file), load_routed(routed)
    build("tiny-resnet", 19).load_state_dict(state)
    layer = "backbone.stem.bn"
    means = state[f"{layer}.running_mean"].numpy()
    wanted = whole.network.state_dict()[f"{layer}.running_mean"].numpy() if place is None else None
    assert np.array_equal(means, whole.sets[place][layer].mean if place else wanted)
    assert not any(name.startswith("sets.") for name in state)
    with TensorFile(found.file) as file:
        assert "sets" not in file.metadata and file.metadata["statistics"] == chosen


@pytest.mark.parametrize(("rule", "noted"), [("recalibrated", True), ("own", True), ("pooled", False)])
def test_the_coordinators_file_is_not_taken_for_a_sites(plain, tmp_path, rule, noted):
    """Under some rules each site's model has statistics that only that site knows."""
    world = build_world(tmp_path / "world", rules=Rules(buffers=rule), store=False)
    merged = world.folder.path / "merged"
    merged.mkdir()
    metadata = {"model": "tiny-resnet", "classes": "19", "campaign": world.campaign.digest.hex()}
    write_arrays(merged / "merged.safetensors", raw_state(build("tiny-resnet", 19).state_dict()), metadata)
    found = export(merged, tmp_path / "out.pth", Options())
    assert bool(found.note) == noted
    assert any("export its own" in line for line in found.as_text()) == noted
    other = {**metadata, "campaign": "00" * 32}
    write_arrays(merged / "merged.safetensors", raw_state(build("tiny-resnet", 19).state_dict()), other)
    assert not export(merged, tmp_path / "again.pth", Options()).note


def test_a_routed_model_is_not_squeezed_into_a_state_dict(routed, tmp_path):
    with pytest.raises(ConfigurationError, match="2 sets of statistics") as caught:
        export(routed, tmp_path / "out.pth", Options())
    assert "--statistics pooled" in caught.value.fix and "night" in caught.value.fix
    assert not (tmp_path / "out.pth").exists()


def test_onnx_of_one_set_answers_with_it_and_carries_what_one_needs_to_use_it(routed, tmp_path):
    onnx = pytest.importorskip("onnx", reason="the extra `export` is not installed")
    onnxruntime = pytest.importorskip("onnxruntime")
    found = export(routed, tmp_path / "out.onnx", Options(statistics="night", size=(64, 96), fixed=True))
    model = onnx.load(found.file)
    said = {entry.key: entry.value for entry in model.metadata_props}
    assert model.opset_import[0].version == found.opset == 18
    assert (said["digest"], said["model"], said["statistics"]) == (found.digest, "tiny-resnet", "night")
    assert (said["channel_order"], json.loads(said["classes"])) == ("RGB", list(CLASSES))
    assert "sets" not in said
    assert "opset 18" in found.as_text()[2]
    assert found.as_json()["tried"][0]["shape"] == (1, 64, 96)
    export(routed, tmp_path / "out.pth", Options(statistics="night"))
    network = build("tiny-resnet", 19).eval()
    network.load_state_dict(torch.load(tmp_path / "out.pth", weights_only=True))
    images = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(5))
    session = onnxruntime.InferenceSession(found.file, providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"images": images.numpy()})
    with torch.inference_mode():
        assert torch.allclose(torch.from_numpy(logits), network(images), atol=1e-4)


@pytest.mark.parametrize(
    ("options", "name", "said"),
    [
        (Options(), "out.bin", "says no format"),
        (Options(), "out", "says no format"),
        (Options(size=(64, 64)), "out.pth", "images of any size"),
        (Options(fixed=True), "out.pth", "images of any size"),
        (Options(fixed=True), "out.onnx", "none is named"),
        (Options(wrap="model"), "out.pth", "no wrapping 'model'"),
        (Options(wrap="state_dict"), "out.safetensors", "nothing to be wrapped in"),
        (Options(statistics="pooled"), "out.pth", "one set of statistics"),
        (Options(model="tiny"), "out.pth", "no model 'tiny'"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_written(plain, tmp_path, options, name, said):
    with pytest.raises(ConfigurationError, match=said):
        export(plain, tmp_path / name, options)
    assert not (tmp_path / name).exists()


def test_another_architecture_is_refused(plain, tmp_path):
    with pytest.raises(ModelFileError, match=r"merged\.safetensors has no"):
        export(plain, tmp_path / "out.pth", Options(model="segformer-mitb0"))


def test_a_set_that_there_is_not_is_refused(routed, tmp_path):
    with pytest.raises(ConfigurationError, match="'fog'") as caught:
        export(routed, tmp_path / "out.pth", Options(statistics="fog"))
    assert "pooled, night, dusty" in caught.value.fix


def test_a_site_that_is_called_pooled_is_not_mistaken(routed_model, tmp_path):
    from client.models.routed import RoutedModel
    from client.models.routed_file import save_routed

    sets = {"pooled": routed_model.sets["night"]}
    network = build("tiny-resnet", 19)
    model = RoutedModel.from_sets(network, routed_model.sets["dusty"], sets)
    save_routed(tmp_path / "in.safetensors", model, model="tiny-resnet", classes=19)
    with pytest.raises(ConfigurationError, match="called 'pooled' alone"):
        export(tmp_path / "in.safetensors", tmp_path / "out.pth", Options(statistics="pooled"))


def test_nothing_is_written_over_unless_it_is_meant(plain, tmp_path):
    (tmp_path / "out.pth").write_text("mine")
    with pytest.raises(ConfigurationError, match="there already"):
        export(plain, tmp_path / "out.pth", Options())
    assert (tmp_path / "out.pth").read_text() == "mine"
    export(plain, tmp_path / "out.pth", Options(force=True))
    assert torch.load(tmp_path / "out.pth", weights_only=True)
    with pytest.raises(ConfigurationError, match="the model itself"):
        export(plain, plain / "merged.safetensors", Options(force=True))


def test_a_folder_without_a_result_is_named(tmp_path):
    with pytest.raises(ModelFileError, match=r"no merged\.safetensors") as caught:
        export(tmp_path, tmp_path / "out.pth", Options())
    assert "campaigns/NAME/merged" in caught.value.fix


def test_a_damaged_model_is_refused(plain, tmp_path):
    path = plain / "merged.safetensors"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ModelFileError):
        export(plain, tmp_path / "out.pth", Options())


@pytest.mark.parametrize("text", ["64", "64x", "x64", "63x64", "64x64x3", "-64x64", "1e3x64", "64 x 64"])
def test_a_size_that_is_none_is_refused(text):
    with pytest.raises(ConfigurationError, match="no size"):
        size_of(text)


def test_sizes_are_height_and_width():
    assert size_of("64x128") == (64, 128)
    assert size_of("") is None
