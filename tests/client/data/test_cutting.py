"""Resizing and cropping are mmsegmentation's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.data.cutting import (
    any_window,
    fitted,
    mixed_window,
    resized,
    resized_labels,
    window_with,
)


@pytest.mark.parametrize(
    ("size", "box", "expected"),
    [
        ((1052, 1914), (1280, 720), (704, 1280)),  # GTA, as DAFormer's and HRDA's configurations resize it
        ((1052, 1914), (2560, 1440), (1407, 2560)),
        ((760, 1280), (1280, 760), (760, 1280)),
        ((1024, 2048), (1024, 512), (512, 1024)),
        ((1080, 1920), (960, 540), (540, 960)),
        ((2048, 1024), (1024, 512), (1024, 512)),  # upright
        ((7, 9), None, (7, 9)),
    ],
)
def test_an_image_keeps_its_shape_in_the_box(size, box, expected):
    assert fitted(size, box) == expected


@given(
    st.tuples(st.integers(1, 3000), st.integers(1, 3000)),
    st.none() | st.tuples(st.integers(1, 3000), st.integers(1, 3000)),
    st.integers(0, 1024),
)
def test_what_comes_out_covers_the_crop(size, box, crop):
    height, width = fitted(size, box, crop)
    assert min(height, width) >= max(crop, 1)
    if box is not None and min(fitted(size, box)) >= crop:
        assert (height, width) == fitted(size, box)


def test_labels_are_not_blended():
    labels = np.zeros((8, 8), np.uint8)
    labels[:, 4:] = 200
    assert set(np.unique(resized_labels(labels, (13, 17)))) == {0, 200}
    image = np.repeat(labels[..., None], 3, -1)
    assert len(np.unique(resized(image, (13, 17)))) > 2


def test_every_window_can_be_drawn_and_lies_inside():
    dice = np.random.default_rng(0)
    drawn = {(w.top, w.left) for w in (any_window((10, 12), 8, dice) for _ in range(500))}
    assert drawn == {(top, left) for top in range(3) for left in range(5)}
    assert any_window((8, 8), 8, dice).of(np.zeros((8, 8), np.uint8)).shape == (8, 8)


def test_a_mixed_window_avoids_what_one_class_fills():
    labels = np.zeros((64, 128), np.uint8)
    labels[:, 100:] = np.tile(np.array([1, 2], np.uint8), 14)
    shares = []
    for seed in range(200):
        found = mixed_window(labels, 32, np.random.default_rng(seed)).of(labels)
        shares.append(np.bincount(found.reshape(-1)).max() / found.size)
    alone = [any_window((64, 128), 32, np.random.default_rng(seed)).of(labels) for seed in range(200)]
    assert np.mean([share < 0.75 for share in shares]) > 0.85
    assert np.mean([np.bincount(found.reshape(-1)).max() / found.size < 0.75 for found in alone]) < 0.4


def test_ignored_pixels_do_not_count_as_a_class():
    labels = np.full((32, 32), 255, np.uint8)
    labels[0, 0], labels[0, 1] = 1, 2
    state = np.random.default_rng(0)
    mixed_window(labels, 32, state)
    other = np.random.default_rng(0)
    any_window((32, 32), 32, other)  # one draw was enough: half of the labelled pixels are 1
    assert state.integers(1 << 30) == other.integers(1 << 30)


def test_a_window_holds_enough_of_the_wanted_class():
    labels = np.tile(np.array([0, 1], np.uint8), (64, 64))
    labels[:16, :48] = 7
    found = [window_with(labels, 32, np.random.default_rng(seed), 7, 20).of(labels) for seed in range(100)]
    assert np.mean([(part == 7).sum() > 20 for part in found]) > 0.8
    plain = [mixed_window(labels, 32, np.random.default_rng(seed)).of(labels) for seed in range(100)]
    assert np.mean([(part == 7).sum() > 20 for part in plain]) < 0.4
