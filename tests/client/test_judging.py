"""Judging model files, and pictures of what they predict; through the command line as well."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from client import evaluation, judging, models
from client.data.datasets import scene_evaluation
from client.data.settings import SceneData
from client.models import norms
from client.models.opening import open_network
from client.models.routed import RoutedModel
from client.models.routed_file import save_routed
from protos.boundary import BatchNorm
from protos.errors import ConfigurationError, DataError, ModelFileError

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def network():
    return models.build("tiny-resnet", 19, 3).eval()


@pytest.fixture
def model(tmp_path, network):
    path = tmp_path / "model.safetensors"
    save_file(network.state_dict(), path, {"model": "tiny-resnet", "classes": "19"})
    return path


@pytest.fixture
def folder(tmp_path):
    """Three labelled images of two sizes."""
    root = tmp_path / "own"
    dice = np.random.default_rng(0)
    for part in ("images", "labels"):
        (root / part).mkdir(parents=True)
    for i, size in enumerate([(32, 64), (48, 64), (32, 64)]):
        cv2.imwrite(str(root / "images" / f"{i}.png"), dice.integers(0, 255, (*size, 3), dtype=np.uint8))
        cv2.imwrite(str(root / "labels" / f"{i}.png"), dice.integers(0, 5, size, dtype=np.uint8))
    return root


def test_a_model_file_becomes_the_network_it_was(model, network):
    images = torch.randint(0, 255, (2, 3, 32, 64), dtype=torch.uint8)
    assert torch.equal(evaluation.predict(open_network(model), images), evaluation.predict(network, images))


def test_a_checkpoint_needs_its_architectures_name_and_then_counts_its_own_classes(tmp_path):
    made = models.build("deeplabv2red-r50", 7, 1)
    torch.save({"meta": {}, "state_dict": made.state_dict()}, tmp_path / "m.pth")
    with pytest.raises(ConfigurationError, match=r"m.pth doesn't say which architecture it is"):
        open_network(tmp_path / "m.pth")
    found = open_network(tmp_path / "m.pth", name="deeplabv2red-r50")
    assert all(torch.equal(value, found.state_dict()[key]) for key, value in made.state_dict().items())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s.pop("head.weight", None) or s.pop(sorted(s)[0]), "has no"),
        (lambda s: s.update(more=torch.zeros(1)), "has an unknown more"),
        (lambda s: s.update({sorted(s)[0]: torch.zeros(2, 2)}), "has another shape of"),
    ],
)
def test_a_file_of_another_architecture_names_a_tensor(tmp_path, network, change, said):
    state = network.state_dict()
    change(state)
    save_file(state, tmp_path / "m.safetensors", {"model": "tiny-resnet", "classes": "19"})
    with pytest.raises(ModelFileError, match=said):
        open_network(tmp_path / "m.safetensors")


def test_a_file_with_several_sets_of_statistics_is_judged_as_one_model(tmp_path, network):
    images = torch.randint(0, 255, (2, 3, 32, 64), dtype=torch.uint8)
    found = norms.statistics(network)
    shifted = {name: BatchNorm(one.mean + 1, one.var, one.count) for name, one in found.items()}
    made = RoutedModel.from_sets(network, found, {"night": shifted}, limit=1e9)
    save_routed(tmp_path / "m.safetensors", made, model="tiny-resnet", classes=19)
    opened = open_network(tmp_path / "m.safetensors")
    assert torch.equal(evaluation.predict(opened, images), evaluation.predict(made, images))


def test_sets_are_judged_one_by_one_and_together(model, network, folder):
    said = []
    found = judging.evaluate(
        model, ["night", str(folder)], scenes=3, device="cpu", say=lambda *done: said.append(done)
    )
    night = scene_evaluation(SceneData("night", evaluation_images=3))
    counts = evaluation.confusion(network, night)
    assert found.data["night"].confusion == counts.tolist()
    assert found.data["night"].miou == pytest.approx(100 * evaluation.miou(counts)[0])
    assert (found.data["own"].images, sum(map(sum, found.data["own"].confusion))) == (3, 2 * 32 * 64 + 48 * 64)
    a, b = (one.miou for one in found.data.values())
    assert found.h == pytest.approx(2 * a * b / (a + b) if a and b else 0)
    assert said[-1] == ("own", 3, 3)


def test_conventions_and_missing_classes(model, folder):
    plain = judging.evaluate(model, [str(folder)])
    zero = judging.evaluate(model, [str(folder)], convention="cityscapes-19", missing=0.0)
    assert zero.data["own"].miou == pytest.approx(plain.data["own"].miou * 5 / 19)
    with pytest.raises(ConfigurationError, match="no convention"):
        judging.evaluate(model, [str(folder)], convention="city")


@pytest.mark.parametrize(
    ("data", "error", "said"),
    [
        ([], ConfigurationError, "nothing to judge on"),
        (["moon"], ConfigurationError, "no folder of labelled images"),
        (["cityscapes:/nowhere:val"], DataError, "nowhere"),
        (["night", "night"], ConfigurationError, "same name"),
    ],
)
def test_data_that_are_not_there(model, data, error, said):
    with pytest.raises(error, match=said):
        judging.evaluate(model, data, scenes=1)


def test_a_device_that_is_not_there(model):
    with pytest.raises(ConfigurationError, match="can't be used"):
        judging.evaluate(model, ["night"], scenes=1, device="nonsense")


def test_what_a_model_sees_is_written_beside_the_image_it_saw(model, network, folder, tmp_path):
    image = folder / "images" / "1.png"
    (written,) = judging.show(model, [image], tmp_path / "out")
    pixels = cv2.imread(str(image))[..., ::-1].copy()
    expected = evaluation.predict(network, torch.from_numpy(pixels).permute(2, 0, 1)[None])[0].numpy()
    assert np.array_equal(cv2.imread(str(tmp_path / "out" / "1.labels.png"), cv2.IMREAD_UNCHANGED), expected)
    assert cv2.imread(str(written)).shape == pixels.shape


def test_windows_of_the_images_size_change_nothing(model, folder, tmp_path):
    image = folder / "images" / "0.png"
    for name, windows in (("a", None), ("b", evaluation.Windows(64, 64))):
        list(judging.show(model, [image], tmp_path / name, windows=windows))
    assert (tmp_path / "a" / "0.labels.png").read_bytes() == (tmp_path / "b" / "0.labels.png").read_bytes()


def test_two_images_of_one_name_and_an_image_that_is_none(model, folder, tmp_path):
    image = folder / "images" / "0.png"
    with pytest.raises(ConfigurationError, match="same name"):
        list(judging.show(model, [image, image], tmp_path / "out"))
    bad = tmp_path / "bad.png"
    bad.write_bytes(image.read_bytes()[:50])
    with pytest.raises(DataError, match=r"bad\.png"):
        list(judging.show(model, [bad], tmp_path / "out"))
