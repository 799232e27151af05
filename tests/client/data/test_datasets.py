import dataclasses
import gc

import numpy as np
import pytest
import torch

from client.data import datasets
from client.data.datasets import LabelledImages, UnlabelledImages, scene_evaluation, scene_source, scene_target
from client.data.scenes import Scene, render
from client.data.settings import SceneData
from protos.errors import DataError

FEW = SceneData("dusty", seed=3, source_images=3, target_images=4, evaluation_images=2, height=32, width=64)


def test_shapes_and_dtypes():
    source, target, evaluation = scene_source(FEW), scene_target(FEW), scene_evaluation(FEW)
    assert source.images.shape == (3, 3, 32, 64)
    assert target.images.shape == (4, 3, 32, 64)
    assert evaluation.labels.shape == (2, 32, 64)
    assert (len(source), len(target), len(evaluation)) == (3, 4, 2)
    assert {t.dtype for t in (source.images, source.labels, target.images, evaluation.labels)} == {torch.uint8}


def test_source_is_the_source_domain_and_target_is_the_sites():
    size = (FEW.height, FEW.width)
    source, target = scene_source(FEW), scene_target(FEW)
    assert np.array_equal(source.images[1].permute(1, 2, 0), render("source", 3, 1, size).image)
    assert np.array_equal(source.labels[1], render("source", 3, 1, size).labels)
    assert np.array_equal(target.images[1].permute(1, 2, 0), render("dusty", 3, 1, size).image)


def test_no_scene_is_both_adapted_on_and_judged_on():
    adapted_on = {image.numpy().tobytes() for image in scene_target(FEW).images}
    judged_on = {image.numpy().tobytes() for image in scene_evaluation(FEW).images}
    assert len(adapted_on) == 4
    assert not adapted_on & judged_on


def test_unlabelled_images_have_nowhere_to_keep_labels():
    target = scene_target(FEW)
    assert [field.name for field in dataclasses.fields(UnlabelledImages)] == ["images"]
    assert [name for name in dir(target) if not name.startswith("__")] == ["images"]
    with pytest.raises(dataclasses.FrozenInstanceError):
        target.labels = torch.zeros(4, 32, 64)


def test_no_label_can_be_reached_from_a_target():
    """Follow every reference from the object: nothing but the images' own bytes has a label map's size."""
    target = scene_target(FEW)
    seen, todo, arrays = set(), [target.__dict__], []
    while todo:
        thing = todo.pop()
        if id(thing) in seen or isinstance(thing, type) or callable(thing):
            continue
        seen.add(id(thing))
        if isinstance(thing, torch.Tensor | np.ndarray | bytes | Scene):
            arrays.append(thing)
        todo += gc.get_referents(thing)
    assert len(arrays) == 1
    assert arrays[0] is target.images
    assert target.images.untyped_storage().nbytes() == target.images.numel()


def test_target_images_do_not_depend_on_labels(monkeypatch):
    clean = scene_target(FEW)

    def with_garbage(*arguments):
        scene = render(*arguments)
        return Scene(scene.image, np.full_like(scene.labels, 255))

    monkeypatch.setattr(datasets, "render", with_garbage)
    assert torch.equal(scene_target(FEW).images, clean.images)


@pytest.mark.parametrize("builder", [scene_source, scene_target, scene_evaluation])
def test_no_images_is_an_error(builder):
    nothing = dataclasses.replace(FEW, source_images=0, target_images=0, evaluation_images=0)
    with pytest.raises(DataError, match="no images"):
        builder(nothing)


@pytest.mark.parametrize(
    "images",
    [
        torch.zeros(2, 3, 4, 4),
        torch.zeros(2, 4, 4, 3, dtype=torch.uint8),
        torch.zeros(0, 3, 4, 4, dtype=torch.uint8),
    ],
)
def test_images_of_another_kind_are_refused(images):
    with pytest.raises(DataError, match="uint8"):
        UnlabelledImages(images)


@pytest.mark.parametrize("labels", [torch.zeros(2, 4, 4), torch.zeros(2, 4, 5, dtype=torch.uint8)])
def test_labels_that_do_not_fit_are_refused(labels):
    with pytest.raises(DataError, match="Labels are"):
        LabelledImages(torch.zeros(2, 3, 4, 4, dtype=torch.uint8), labels)
