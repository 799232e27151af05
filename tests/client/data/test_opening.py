"""From settings to what training is fed and what models are judged on."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from client.data.datasets import scene_target
from client.data.memory import MemoryFeed
from client.data.opening import FileEvaluation, SceneEvaluation, open_evaluation, open_feed, unlabelled_batches
from client.data.scenes import render
from client.data.settings import FolderData, ImageFolder, RareClasses, SceneData
from protos.errors import DataError

FEW = SceneData("dusty", source_images=3, target_images=4, evaluation_images=2, height=32, width=64)


def folders(root, **changes) -> FolderData:
    part = ImageFolder("folder", str(root))
    return FolderData(part, part, **{"crop": 16, "rare_classes": RareClasses(on=False), "workers": 0, **changes})


def test_scenes_are_fed_from_memory(tmp_path):
    feed = open_feed(FEW, tmp_path, batch=2, seed=0)
    assert isinstance(feed, MemoryFeed)
    (batch,) = feed.batches(0, 1)
    assert batch.source.shape == (2, 3, 32, 64)
    assert not list(tmp_path.iterdir())


def test_class_statistics_are_kept_in_the_sites_folder(data_set, tmp_path):
    home = tmp_path / "site"
    home.mkdir()
    open_feed(folders(data_set("folder"), rare_classes=RareClasses(min_pixels=10)), home, batch=2, seed=0)
    assert [path.parent.name for path in home.rglob("*.safetensors")] == ["statistics"]


def test_scenes_are_judged_on_at_once(tmp_path):
    found = open_evaluation(FEW, tmp_path)
    assert isinstance(found, SceneEvaluation)
    assert len(found) == 2
    (part,) = found
    assert len(part) == 2
    assert torch.equal(found[1].images, part.images[1:])


def test_files_are_judged_on_one_by_one_in_their_own_size(data_set, tmp_path):
    part = ImageFolder("folder", str(data_set("folder")))
    found = open_evaluation(folders(data_set("folder"), evaluation=part), tmp_path)
    assert isinstance(found, FileEvaluation)
    assert len(found) == len(list(found)) == len(list(found)) == 3
    for at, one in enumerate(found):
        scene = render("source", 0, at, (32, 64))
        assert np.array_equal(one.images[0].permute(1, 2, 0), scene.image)
        assert np.array_equal(one.labels[0], scene.labels)


def test_what_is_judged_on_can_be_resized(data_set, tmp_path):
    part = ImageFolder("folder", str(data_set("folder")), resize=(32, 16))
    found = open_evaluation(folders(data_set("folder"), evaluation=part), tmp_path)
    assert found[2].images.shape == (1, 3, 16, 32)
    assert found[2].labels.shape == (1, 16, 32)


def test_a_site_may_have_nothing_to_judge_on(data_set, tmp_path):
    with pytest.raises(DataError, match="no held-out labelled images") as caught:
        open_evaluation(folders(data_set("folder")), tmp_path)
    assert "[data.evaluation]" in caught.value.fix


def test_unlabelled_scenes_come_mixed():
    settings = SceneData("night", target_images=10, height=32, width=64)
    every = scene_target(settings).images
    batches = list(unlabelled_batches(settings, Path(), most=5, batch=2))
    assert [len(part) for part in batches] == [2, 2, 1]
    found = torch.cat(batches)
    numbers = [next(i for i, image in enumerate(every) if torch.equal(image, one)) for one in found]
    assert sorted(numbers) == [0, 1, 2, 3, 4]
    assert numbers != sorted(numbers)
    assert len(torch.cat(list(unlabelled_batches(settings, Path(), most=99, batch=4)))) == 10


def test_unlabelled_files_come_one_by_one_as_they_are_judged(tmp_path):
    (tmp_path / "images").mkdir()
    for at, size in enumerate([(32, 64), (48, 64)]):
        cv2.imwrite(str(tmp_path / f"images/{at}.png"), np.full((*size, 3), 40 * at, np.uint8))
    part = ImageFolder("folder", str(tmp_path))
    plain = list(unlabelled_batches(FolderData(part, part), Path(), most=9, batch=4))
    assert sorted(tuple(one.shape) for one in plain) == [(1, 3, 32, 64), (1, 3, 48, 64)]
    judged = ImageFolder("folder", str(tmp_path), resize=(32, 32))
    assert len(list(unlabelled_batches(FolderData(part, part), Path(), most=1, batch=4))) == 1
    small = list(unlabelled_batches(FolderData(part, part, judged), Path(), most=9, batch=4))
    assert sorted(tuple(one.shape) for one in small) == [(1, 3, 16, 32), (1, 3, 24, 32)]
