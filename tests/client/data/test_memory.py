"""The feed of images in memory: each step's batch is a function of the seed and the step alone."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
import torch

from client.data.datasets import LabelledImages, UnlabelledImages
from client.data.memory import MemoryFeed
from protos.errors import ConfigurationError


@pytest.fixture
def feed():
    numbers = torch.arange(11, dtype=torch.uint8).view(-1, 1, 1, 1)
    source = LabelledImages(numbers.expand(-1, 3, 4, 4).contiguous(), numbers[:, 0].expand(-1, 4, 4).contiguous())
    return MemoryFeed(source, UnlabelledImages((numbers[:7] + 100).expand(-1, 3, 4, 4).contiguous()), 4, 0)


def content(batches) -> list[bytes]:
    return [b"".join(t.numpy().tobytes() for t in (b.source, b.labels, b.target)) for b in batches]


def test_a_batch_pairs_images_with_their_labels(feed):
    (batch,) = feed.batches(3, 4)
    assert batch.source.shape == (4, 3, 4, 4)
    assert batch.target.shape == (4, 3, 4, 4)
    assert torch.equal(batch.source[:, 0], batch.labels)
    assert (batch.target >= 100).all()


def test_every_image_is_drawn_as_often_as_any_other(feed):
    batches = list(feed.batches(0, 1000))
    for images, number in (
        ([b.labels[:, 0, 0] for b in batches], 11),
        ([b.target[:, 0, 0, 0] for b in batches], 7),
    ):
        drawn = torch.cat(images).numpy()
        _, counts = np.unique(drawn, return_counts=True)
        assert len(counts) == number
        expected = 4000 / number
        assert abs(counts - expected).max() < 5 * expected**0.5


def test_starting_later_gives_the_same(feed):
    assert content(feed.batches(5, 9)) == content(islice(feed.batches(0, 20), 5, 9))


def test_another_seed_gives_others(feed):
    other = MemoryFeed(feed.source, feed.target, 4, 1)
    assert content(feed.batches(0, 3)) != content(other.batches(0, 3))
    assert feed.fingerprint != other.fingerprint


def test_shares_together_are_the_whole(feed):
    (whole,) = feed.batches(6, 7)
    parts = [next(iter(feed.share(rank, 2).batches(6, 7))) for rank in range(2)]
    assert torch.equal(torch.cat([part.source for part in parts]), whole.source)
    assert torch.equal(torch.cat([part.target for part in parts]), whole.target)
    assert feed.share(1, 2).fingerprint == feed.fingerprint


def test_a_batch_that_cannot_be_shared_is_refused(feed):
    with pytest.raises(ConfigurationError, match="4 images can't be divided among 3") as caught:
        feed.share(0, 3)
    assert "multiple of 3" in caught.value.fix


def test_global_random_state_is_neither_read_nor_changed(feed):
    torch.manual_seed(1)
    before = content(feed.batches(0, 2))
    expected = torch.rand(1)
    torch.manual_seed(1)
    assert content(feed.batches(0, 2)) == before
    assert torch.equal(torch.rand(1), expected)


def test_the_fingerprint_follows_the_bytes(feed):
    before = feed.fingerprint
    feed.source.labels[0, 0, 0] = 9
    assert feed.fingerprint["source"] != before["source"]
    assert feed.fingerprint["target"] == before["target"]
