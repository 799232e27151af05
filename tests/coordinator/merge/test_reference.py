"""The merge against exact rational arithmetic that shares no code with it."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from coordinator.merge.midpoint import pooled_statistics
from coordinator.merge.state import MergeState
from coordinator.merge.sums import ParameterSum
from protos import fixedpoint
from protos.boundary import BatchNorm
from protos.errors import MergeRangeError
from protos.statistics import StatisticSums, uniform

values = st.floats(-511, 511, width=32)
columns = st.lists(values, min_size=1, max_size=9)
means = st.floats(-1e4, 1e4, width=32)
variances = st.floats(np.float32(1e-12).item(), 1e6, width=32)
counts = st.integers(1, 1 << 40)
gaussians = st.lists(st.tuples(counts, means, variances), min_size=1, max_size=8)


def ulp(value: float) -> Fraction:
    return Fraction(float(np.spacing(np.float32(abs(value)))))


@given(columns)
@settings(max_examples=300, deadline=None)
def test_the_midpoint_is_within_one_float32_step_of_the_exact_mean(column):
    exact = sum(map(Fraction, column)) / len(column)
    total = sum(fixedpoint.quantise(np.asarray([value], np.float32)) for value in column)
    found = np.float32(fixedpoint.mean(total, len(column))[0])
    error = abs(Fraction(float(found)) - exact)
    if abs(exact) >= Fraction(1, 2**16):
        assert error <= ulp(float(exact))
    else:
        assert error <= Fraction(1, 2**40)


def read_sum(state: MergeState, name: str, size: int) -> ParameterSum:
    total = ParameterSum(size)
    state.add(name, 0, size, total, 1)
    return total


def test_the_midpoint_of_whole_models_is_the_exact_mean(kitchen):
    state = kitchen.fold(kitchen.fresh(), *kitchen.updates)
    with MergeState(state) as found:
        for name, spec in kitchen.manifest.parameters.items():
            mean = read_sum(found, name, spec.size).mean(6).astype(np.float32)
            columns = np.stack([model[name].reshape(-1) for model in kitchen.models.values()], axis=1)
            for got, column in zip(mean.tolist(), columns.tolist(), strict=True):
                exact = sum(map(Fraction, column)) / 6
                assert abs(Fraction(got) - exact) <= max(ulp(float(exact)), Fraction(1, 2**40))


def pool(sites: list[tuple[int, float, float]]) -> tuple[int, Fraction, Fraction]:
    """Pool Gaussians by the formulas of the paper, exactly."""
    n = sum(count for count, _, _ in sites)
    mean = sum(count * Fraction(mu) for count, mu, _ in sites) / n
    var = sum(count * (Fraction(v) + (Fraction(mu) - mean) ** 2) for count, mu, v in sites) / n
    return n, mean, var


def one(count: int, mean: float, var: float) -> BatchNorm:
    return BatchNorm(np.asarray([mean], np.float32), np.asarray([var], np.float32), count)


def pooled(sites: list[tuple[int, float, float]]) -> BatchNorm:
    total = StatisticSums.zero(1)
    for site in sites:
        total = total.plus(StatisticSums.of(one(*site)))
    return total.pooled("layer")


def assert_close(found: BatchNorm, sites: list[tuple[int, float, float]]) -> None:
    n, mean, var = pool(sites)
    assert found.count == n
    assert found.mean.dtype == found.var.dtype == np.float32
    for got, exact in ((found.mean[0], mean), (found.var[0], var)):
        tiny = Fraction(1, 2**149)  # float32 has no smaller numbers
        assert abs(Fraction(float(got)) - exact) <= abs(exact) / 10**6 + tiny


@given(gaussians)
@settings(max_examples=300, deadline=None)
def test_pooled_statistics_are_the_exact_ones(sites):
    assert_close(pooled(sites), sites)


@pytest.mark.parametrize("mean", [1e4, -1e4, 3e3])
@pytest.mark.parametrize("var", [1e-12, 1e-6, 1.0])
def test_large_means_do_not_cancel_small_variances(mean, var):
    step = float(np.nextafter(np.float32(mean), np.float32(np.inf)))
    for sites in (
        [(1, mean, var), (1 << 40, mean, var)],
        [(3, mean, var), (5, step, var)],
        [(1 << 40, mean, var), (1, step, var)],
    ):
        assert_close(pooled(sites), sites)


def test_a_difference_of_float64_moments_would_not_have_passed():
    """Shows that the case above can fail: the textbook formula loses every digit."""
    mean, var = np.float64(np.float32(1e4)), np.float64(np.float32(1e-12))
    assert (var + mean**2) - mean**2 == 0.0
    assert pooled([(1, 1e4, 1e-12), (7, 1e4, 1e-12)]).var[0] == np.float32(1e-12)


@given(counts, means, variances, st.integers(1, 16))
@settings(max_examples=100, deadline=None)
def test_identical_sites_give_exactly_their_statistics_back(count, mean, var, sites):
    found = pooled([(count, mean, var)] * sites)
    assert found.mean[0] == np.float32(mean)
    assert found.var[0] == np.float32(var)
    assert found.count == count * sites


@given(st.integers(1, 1 << 40), st.floats(width=32, allow_nan=False, allow_infinity=False))
@settings(max_examples=300, deadline=None)
def test_every_finite_float32_mean_is_kept_exactly(count, mean):
    sums = StatisticSums.of(one(count, mean, 0.0))
    assert Fraction(int(sums.mean[0]), count * 2**149) == Fraction(mean)
    assert Fraction(int(sums.square[0]), count * 2**298) == Fraction(mean) ** 2


@given(gaussians)
@settings(max_examples=100, deadline=None)
def test_sums_survive_the_way_to_the_disk_and_back(sites):
    total = StatisticSums.zero(1)
    for site in sites:
        total = total.plus(StatisticSums.of(one(*site)))
    again = StatisticSums.from_bytes(total.to_bytes())
    assert (again.count, again.mean.tolist(), again.square.tolist()) == (
        total.count,
        total.mean.tolist(),
        total.square.tolist(),
    )


def test_the_largest_statistics_of_the_most_models_fit_on_the_disk():
    largest = float(np.finfo(np.float32).max)
    sums = StatisticSums.of(one((1 << 63) - 1, -largest, largest))
    most = StatisticSums(sums.count * 16_384, sums.mean * 16_384, sums.square * 16_384)
    assert StatisticSums.from_bytes(most.to_bytes()).square.tolist() == most.square.tolist()


def test_batch_counts_beyond_int64_are_refused_by_layer():
    sums = StatisticSums.of(one((1 << 63) - 1, 0.0, 1.0))
    with pytest.raises(MergeRangeError, match=r"norm\.deep add up to") as caught:
        sums.plus(sums).pooled("norm.deep")
    assert caught.value.tensor == "norm.deep"


def test_a_pooled_variance_beyond_float32_is_refused_by_layer():
    with pytest.raises(MergeRangeError, match="pooled variance of norm"):
        StatisticSums.of(one(1, 1e30, 1.0)).plus(StatisticSums.of(one(1, -1e30, 1.0))).pooled("norm")


@given(gaussians, gaussians)
@settings(max_examples=100, deadline=None)
def test_taking_away_is_the_exact_inverse_of_adding(stay, leave):
    total = base = StatisticSums.zero(1)
    for site in stay:
        base = base.plus(StatisticSums.of(one(*site)))
    total = base
    for site in leave:
        total = total.plus(StatisticSums.of(one(*site)))
    for site in leave:
        total = total.plus(StatisticSums.of(one(*site)), -1)
    assert (total.count, total.mean.tolist(), total.square.tolist()) == (
        base.count,
        base.mean.tolist(),
        base.square.tolist(),
    )


@given(gaussians)
@settings(max_examples=100, deadline=None)
def test_plain_averaging_leaves_the_difference_between_sites_out(sites):
    assume(len({mean for _, mean, _ in sites}) > 1)
    found = uniform([one(*site) for site in sites])
    exact = sum(Fraction(float(np.float32(var))) for _, _, var in sites) / len(sites)
    assert abs(Fraction(float(found.var[0])) - exact) <= exact / 10**6


def test_the_pooled_statistics_of_a_state_are_those_of_its_sites(kitchen):
    with MergeState(kitchen.fold(kitchen.fresh(), *kitchen.updates)) as state:
        found = pooled_statistics([(1, state)], kitchen.manifest)
    for layer, channels in kitchen.manifest.layers.items():
        for c in range(channels):
            sites = [
                (
                    int(model[f"{layer}.num_batches_tracked"]),
                    float(model[f"{layer}.running_mean"][c]),
                    float(model[f"{layer}.running_var"][c]),
                )
                for model in kitchen.models.values()
            ]
            assert_close(
                BatchNorm(found[layer].mean[c : c + 1], found[layer].var[c : c + 1], found[layer].count), sites
            )
