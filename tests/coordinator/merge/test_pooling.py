"""Pooling in float64 gives the bits of pooling in exact integers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.merge import pooling
from protos.boundary import BatchNorm
from protos.errors import MergeRangeError
from protos.statistics import StatisticSums, uniform

LARGE = 2.0**100
counts = st.one_of(st.integers(0, 40), st.integers(0, 1 << 28), st.integers(0, 1 << 40))
means = st.one_of(
    st.floats(-1e4, 1e4, width=32),
    st.floats(-LARGE, LARGE, width=32),
    st.sampled_from([0.0, -0.0, 1.0, 1.0000001192092896, 2.0**-149, -(2.0**-149)]),
)
variances = st.one_of(
    st.floats(0, 1e6, width=32), st.floats(0, LARGE, width=32), st.sampled_from([0.0, 1.0, 2.0**-149, 1e-12])
)


@st.composite
def layers(draw) -> list[BatchNorm]:
    channels = draw(st.integers(1, 6))
    models = draw(st.integers(1, 6))
    same = draw(counts)
    equal = draw(st.booleans())

    def values(of) -> np.ndarray:
        return np.asarray(draw(st.lists(of, min_size=channels, max_size=channels)), np.float32)

    return [BatchNorm(values(means), values(variances), same if equal else draw(counts)) for _ in range(models)]


def exactly(found: list[BatchNorm]) -> BatchNorm:
    total = StatisticSums.zero(len(found[0].mean))
    for one in found:
        total = total.plus(StatisticSums.of(one))
    return total.pooled("bn")


def bits(found: BatchNorm) -> tuple[bytes, bytes, int]:
    return found.mean.tobytes(), found.var.tobytes(), found.count


@given(layers())
@settings(max_examples=1500, deadline=None)
def test_pooling_gives_the_exact_bits(found):
    try:
        expected = exactly(found)
    except MergeRangeError as error:
        with pytest.raises(MergeRangeError) as caught:
            pooling.pool(found, "bn")
        assert caught.value.what == error.what
        return
    assert bits(pooling.pool(found, "bn")) == bits(expected)


@given(layers())
@settings(max_examples=500, deadline=None)
def test_averaging_gives_the_exact_bits(found):
    assert bits(pooling.average(found)) == bits(uniform(found))


def scenes(models: int, *, equal: bool, apart: float = 0.1) -> list[BatchNorm]:
    """Statistics as networks have them."""
    dice = np.random.default_rng(models)
    mean = dice.standard_normal(4096)
    return [
        BatchNorm(
            (mean + apart * dice.standard_normal(4096)).astype(np.float32),
            np.exp(dice.standard_normal(4096)).astype(np.float32),
            40_000 if equal else int(dice.integers(1000, 100_000)),
        )
        for _ in range(models)
    ]


@pytest.mark.parametrize("equal", [True, False])
@pytest.mark.parametrize("models", [1, 2, 3, 16])
def test_few_channels_need_the_exact_way(models, equal, monkeypatch):
    """Among them are means that lie right between two float32, as half of them do with two equal counts."""
    again = []
    monkeypatch.setattr(pooling, "_exact", lambda found, layer: again.append(len(found[0].mean)) or exactly(found))
    found = scenes(models, equal=equal)
    assert bits(pooling.pool(found, "bn")) == bits(exactly(found))
    assert sum(again) < 10


def test_a_small_variance_beside_a_large_mean_takes_the_exact_way_where_it_must():
    found = [BatchNorm(one.mean * 0 + 1e4, one.var * 1e-12, one.count) for one in scenes(3, equal=False)]
    found[1] = BatchNorm(np.nextafter(found[1].mean, np.float32(np.inf)), found[1].var, found[1].count)
    assert bits(pooling.pool(found, "bn")) == bits(exactly(found))


def test_identical_models_give_back_the_same_bits():
    found = scenes(1, equal=True) * 7
    pooled = pooling.pool(found, "bn")
    assert pooled.mean.tobytes() == found[0].mean.tobytes()
    assert pooled.var.tobytes() == found[0].var.tobytes()
    assert pooled.count == 7 * found[0].count
