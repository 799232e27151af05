"""The feed of images on disk: however it is read, a step's batch depends on the seed and the step alone."""

from __future__ import annotations

import dataclasses
import multiprocessing
import pickle
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from client.data import disk, listing
from client.data.datasets import UnlabelledImages
from client.data.disk import DiskFeed
from client.data.opening import open_feed
from client.data.settings import FolderData, ImageFolder, RareClasses
from protos.errors import DataError

RARE = RareClasses(min_pixels=20)


@pytest.fixture
def settings(data_set):
    source = ImageFolder("gta", str(data_set("gta", number=6)), resize=(80, 40))
    target = ImageFolder("cityscapes", str(data_set("cityscapes", "train", number=5)), "train", (64, 32))
    return FolderData(source, target, crop=32, workers=0, rare_classes=RARE)


@pytest.fixture
def opened(tmp_path):
    def feed(settings: FolderData, batch: int = 2, seed: int = 0) -> DiskFeed:
        found = open_feed(settings, tmp_path, batch=batch, seed=seed)
        assert isinstance(found, DiskFeed)
        return found

    return feed


def content(batches) -> list[bytes]:
    return [b"".join(t.numpy().tobytes() for t in (b.source, b.labels, b.target)) for b in batches]


def test_a_batch_is_bytes_of_the_crops_size(settings, opened):
    (batch,) = opened(settings).batches(0, 1)
    assert batch.source.shape == batch.target.shape == (2, 3, 32, 32)
    assert batch.labels.shape == (2, 32, 32)
    assert {batch.source.dtype, batch.labels.dtype, batch.target.dtype} == {torch.uint8}
    assert batch.source.is_contiguous()
    assert set(batch.labels.unique().tolist()) <= {*range(19), 255}


def test_processes_do_not_matter(settings, opened, monkeypatch):
    monkeypatch.setattr(disk, "cores", lambda: 2)
    alone = content(opened(settings).batches(0, 6))
    together = content(opened(dataclasses.replace(settings, workers=2)).batches(0, 6))
    assert alone == together
    assert len(set(alone)) == 6
    assert not multiprocessing.active_children()


def test_starting_later_gives_the_same(settings, opened, monkeypatch):
    monkeypatch.setattr(disk, "cores", lambda: 2)
    feed = opened(dataclasses.replace(settings, workers=2))
    assert content(feed.batches(4, 7)) == content(islice(opened(settings).batches(0, 9), 4, 7))
    assert not multiprocessing.active_children()


def test_closing_early_ends_the_processes(settings, opened, monkeypatch):
    monkeypatch.setattr(disk, "cores", lambda: 2)
    batches = opened(dataclasses.replace(settings, workers=2)).batches(0, 1000)
    next(batches)
    assert len(multiprocessing.active_children()) == 2
    batches.close()
    assert not multiprocessing.active_children()


def test_no_more_processes_than_cores(settings, opened, monkeypatch):
    monkeypatch.setattr(disk, "cores", lambda: 1)
    batches = opened(dataclasses.replace(settings, workers=8)).batches(0, 1000)
    next(batches)
    assert len(multiprocessing.active_children()) == 1
    batches.close()


def test_processes_are_divided_among_gpus(settings, opened, monkeypatch):
    monkeypatch.setattr(disk, "cores", lambda: 2)
    batches = opened(dataclasses.replace(settings, workers=8)).share(1, 2).batches(0, 1000)
    next(batches)
    assert len(multiprocessing.active_children()) == 1
    batches.close()


def test_a_feed_can_be_sent_to_another_process(settings, opened):
    feed = opened(settings)
    sent = pickle.loads(pickle.dumps(feed))
    assert sent.fingerprint == feed.fingerprint
    assert content(sent.batches(0, 2)) == content(feed.batches(0, 2))


def test_shares_together_are_the_whole(settings, opened):
    feed = opened(settings, batch=4)
    (whole,) = feed.batches(3, 4)
    parts = [next(iter(feed.share(rank, 2).batches(3, 4))) for rank in range(2)]
    assert torch.equal(torch.cat([part.source for part in parts]), whole.source)
    assert torch.equal(torch.cat([part.labels for part in parts]), whole.labels)
    assert torch.equal(torch.cat([part.target for part in parts]), whole.target)
    assert feed.share(1, 2).fingerprint == feed.fingerprint


@pytest.mark.parametrize("workers", [0, 1])
def test_global_random_state_is_neither_read_nor_changed(settings, opened, workers):
    feed = opened(dataclasses.replace(settings, workers=workers))
    torch.manual_seed(1)
    np.random.seed(1)
    before, expected = content(feed.batches(0, 2)), (float(torch.rand(1)), np.random.random())
    torch.manual_seed(1)
    np.random.seed(1)
    assert content(feed.batches(0, 2)) == before
    torch.manual_seed(1)
    np.random.seed(1)
    assert (float(torch.rand(1)), np.random.random()) == expected


@pytest.mark.parametrize("workers", [0, 1])
def test_a_file_that_became_unreadable_is_named(settings, opened, workers):
    feed = opened(dataclasses.replace(settings, workers=workers))
    for path in feed.target.images:
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match=r"leftImg8bit\.png is cut short") as caught:
        list(feed.batches(0, 3))
    assert "copy it again" in caught.value.fix
    assert not multiprocessing.active_children()


def test_wrong_ids_end_the_run_and_are_named(settings, opened, sets):
    plain = dataclasses.replace(settings, rare_classes=RareClasses(on=False))
    feed = opened(plain)
    for path in feed.source.labels:
        sets.write(path, np.full(sets.SIZE, 99, np.uint8))
    with pytest.raises(DataError, match=r"no Cityscapes ids: 99 \(2,048 pixels\)"):
        list(feed.batches(0, 1))


def test_images_smaller_than_the_crop_are_enlarged(data_set, opened):
    root = str(data_set("folder", number=2, size=(16, 40)))
    part = ImageFolder("folder", root)
    (batch,) = opened(FolderData(part, part, crop=48, workers=0, rare_classes=RareClasses(on=False))).batches(0, 1)
    assert batch.source.shape == (2, 3, 48, 48)


def test_images_labels_and_mirroring_stay_together(data_set, sets, opened):
    root = data_set("folder", number=2, size=(32, 32))
    ramp = np.tile(np.arange(32, dtype=np.uint8) // 2, (32, 1))
    for at in range(2):
        sets.write(root / f"images/{at:03}.png", np.repeat(ramp[..., None], 3, -1))
        sets.write(root / f"labels/{at:03}.png", ramp)
    part = ImageFolder("folder", str(root))
    base = FolderData(part, part, crop=20, workers=0, rare_classes=RareClasses(on=False))
    both = list(opened(base, batch=1).batches(0, 60))
    assert all(torch.equal(batch.source[:, 0], batch.labels) for batch in both)
    mirrored = [bool(batch.labels[0, 0, 0] > batch.labels[0, 0, -1]) for batch in both]
    assert 15 < sum(mirrored) < 45
    straight = opened(dataclasses.replace(base, flip=False), batch=1).batches(0, 20)
    assert all(batch.labels[0, 0, 0] < batch.labels[0, 0, -1] for batch in straight)
    other = [bool(batch.target[0, 0, 0, 0] > batch.target[0, 0, 0, -1]) for batch in both]
    assert 15 < sum(other) < 45
    assert other != mirrored


def test_rare_classes_are_drawn_more_often(settings, opened, data_set, sets):
    root = Path(settings.source.folder)
    for at in range(6):  # one image of six has a bicycle (18), in a tenth of its pixels
        labels = np.zeros(sets.SIZE, np.uint8)
        labels[:, 32:] = 1
        if at == 3:
            labels[8:24, 20:34] = 18
        sets.write(root / f"labels/{at:03}_labelTrainIds.png", labels)
    share = []
    for rare in (RareClasses(on=False), RARE):
        feed = opened(dataclasses.replace(settings, rare_classes=rare), batch=4)
        share.append(np.mean([(labels == 18).any() for b in feed.batches(0, 40) for labels in b.labels]))
    assert share[0] < 0.3
    assert share[1] > 0.9


def test_the_fingerprint_follows_what_batches_depend_on(settings, opened):
    before = opened(settings).fingerprint
    assert set(before) == {"source", "target", "feed"}
    for other in (
        dataclasses.replace(settings, flip=False),
        dataclasses.replace(settings, crop=16),
        dataclasses.replace(settings, target=dataclasses.replace(settings.target, resize=(128, 64))),
        dataclasses.replace(settings, rare_classes=RareClasses(min_pixels=21)),
        dataclasses.replace(settings, rare_classes=RareClasses(on=False)),
    ):
        assert opened(other).fingerprint["feed"] != before["feed"]
        assert opened(other).fingerprint["source"] == before["source"]
    assert opened(settings, seed=1).fingerprint != before
    assert opened(dataclasses.replace(settings, workers=2)).fingerprint == before


def test_no_label_of_the_target_can_be_reached_from_a_feed(settings, opened):
    feed = opened(settings)
    assert type(feed.target) is listing.UnlabelledFiles
    assert "gtFine" not in repr(feed.target)
    assert [field.name for field in dataclasses.fields(UnlabelledImages)] == ["images"]
