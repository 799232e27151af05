"""Rare-class sampling against its formula and by statistics."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.data.rare import RareClassSampler, probabilities
from client.data.settings import RareClasses
from protos.errors import DataError


def reference(pixels: list[int], temperature: float) -> list[float]:
    """Do the softmax over classes that occur in Python's floats, shifted so that nothing overflows."""
    total = sum(pixels)
    there = [n for n in pixels if n]
    top = max((1 - n / total) / temperature for n in there)
    weight = [math.exp((1 - n / total) / temperature - top) if n else 0.0 for n in pixels]
    return [w / math.fsum(weight) for w in weight]


@given(
    st.lists(st.integers(0, 10**10), min_size=1, max_size=19).filter(any),
    st.sampled_from([0.001, 0.01, 0.5, 10.0]),
)
def test_the_chances_are_the_formulas(pixels, temperature):
    found = probabilities(pixels, temperature)
    np.testing.assert_allclose(found, reference(pixels, temperature), rtol=1e-9, atol=1e-300)
    assert found.sum() == pytest.approx(1)


def test_rarer_classes_are_likelier():
    chances = probabilities([1000, 100, 10, 0], 0.01)
    assert chances[2] > chances[1] > chances[0] > 0 == chances[3]
    even = probabilities([1000, 100, 10, 0], 1e6)
    np.testing.assert_allclose(even[:3], 1 / 3, rtol=1e-5)


def test_no_pixels_have_no_chances():
    assert probabilities([0, 0], 0.01).tolist() == [0, 0]


def test_draws_follow_the_chances_and_only_images_with_enough_are_drawn():
    counts = np.zeros((6, 19), np.int32)
    counts[:, 0] = 50_000
    counts[:2, 5] = 3001
    counts[2, 5] = 3000  # not more than 3000
    counts[4, 18] = 9000
    counts[5, 7] = 100  # occurs, but no image has enough
    sampler = RareClassSampler.of(counts, RareClasses(temperature=0.05))
    assert sampler.classes.tolist() == [0, 5, 18]
    chances = probabilities(counts.sum(0), 0.05)[[0, 5, 18]]
    np.testing.assert_allclose(sampler.chances, chances / chances.sum())
    dice = np.random.default_rng(0)
    drawn = [sampler.draw(dice) for _ in range(4000)]
    for at, train_id in enumerate(sampler.classes):
        share = np.mean([c == train_id for c, _ in drawn])
        sigma = math.sqrt(sampler.chances[at] * (1 - sampler.chances[at]) / 4000)
        assert abs(share - sampler.chances[at]) < 4 * sigma + 1e-9
    images = [image for c, image in drawn if c == 5]
    assert set(images) == {0, 1}
    assert np.mean(images) == pytest.approx(0.5, abs=0.06)
    assert {image for c, image in drawn if c == 18} == {4}


def test_too_few_pixels_everywhere_is_an_error():
    with pytest.raises(DataError, match="more than 3000 pixels of any class") as caught:
        RareClassSampler.of(np.full((3, 19), 100, np.int32), RareClasses())
    assert "min_pixels" in caught.value.fix
