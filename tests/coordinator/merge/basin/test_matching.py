"""Matching finds what was permuted, and nothing where nothing was."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from client.models import build
from coordinator.merge.basin.architectures import table_of
from coordinator.merge.basin.matching import _from_anchors, _Pair, align, assign
from coordinator.merge.basin.permutations import Permutations
from protos.errors import ModelFileError


def test_it_finds_the_identity_for_models_of_one_base(tiny, opened, with_noise):
    a, b = (opened(with_noise(tiny, seed, share=0.3)) for seed in (1, 2))
    found = align(a, b)
    assert found.is_identity
    assert found.share == 1.0
    assert not found.orders


@pytest.mark.parametrize("name", ["tiny-resnet", "segformer-mitb0"])
@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_it_recovers_an_order_exactly(
    name, noise, make_lively, in_arrays, specs_in, shuffled, reordered, opened, with_noise
):
    arrays = in_arrays(make_lively(build(name, 19, seed=1)))
    orders = shuffled(table_of(specs_in(arrays)), 7)
    found = align(opened(arrays), opened(reordered(with_noise(arrays, 1, noise), orders)))
    for group in found.table.groups:
        assert np.array_equal(orders.order(group)[found.order(group)], np.arange(len(orders.order(group)))), group


def test_one_pass_from_the_anchors_recovers_an_order(tiny, tiny_table, shuffled, reordered, opened, with_noise):
    orders = shuffled(tiny_table, 7)
    other = opened(reordered(with_noise(tiny, 1), orders))
    found = _from_anchors(_Pair(opened(tiny), other, tiny_table))
    assert all((orders.order(g)[found.order(g)] == np.arange(n.size)).all() for g, n in tiny_table.groups.items())


def test_it_needs_no_norms_and_statistics(tiny, tiny_table, shuffled, reordered, opened):
    """A network as it was initialised has the same norms in all channels: only weights tell them apart."""
    plain = {name: np.ones_like(array) if array.ndim == 1 else array for name, array in tiny.items()}
    orders = shuffled(tiny_table, 8)
    found = align(opened(plain), opened(reordered(plain, orders)))
    assert all((orders.order(g)[found.order(g)] == np.arange(n.size)).all() for g, n in tiny_table.groups.items())


def test_few_moved_channels_are_found_among_many_in_place(tiny, tiny_table, reordered, opened, with_noise):
    order = np.arange(48)
    order[[3, 20, 31]] = [20, 31, 3]
    orders = Permutations(tiny_table, {"backbone.layer2": order})
    found = align(opened(tiny), opened(reordered(with_noise(tiny, 1), orders)))
    assert found.orders.keys() == {"backbone.layer2"}
    assert found.in_place("backbone.layer2") == 45 / 48
    assert found.in_place("backbone.layer1") == 1.0


def test_strangers_share_hardly_a_channel_and_get_nearer(tiny, stranger, opened):
    found = align(opened(tiny), opened(stranger))
    assert found.share < 0.15
    weights = [name for name in tiny if tiny[name].ndim == 4]
    before, after = (
        sum(float(np.vdot(tiny[name], other(name))) for name in weights)
        for other in (stranger.__getitem__, lambda name: found.apply(name, stranger[name]))
    )
    assert after > before + 100


def test_it_is_reproducible(tiny, stranger, opened):
    first, again = (align(opened(tiny), opened(stranger)) for _ in range(2))
    assert first.orders.keys() == again.orders.keys()
    assert all(np.array_equal(first.orders[group], again.orders[group]) for group in first.orders)


def test_dead_channels_stay(tiny, opened, with_noise):
    """Channels without weights are as good in one place as in another; that is no move."""
    dead = slice(4, 20)

    def kill(arrays, residue: float):
        dice = np.random.default_rng(1)
        found = {name: array.copy() for name, array in arrays.items()}
        for name in ("conv1.weight", "bn1.weight", "bn1.bias"):
            part = found[f"backbone.layer2.0.{name}"]
            part[dead] = residue * dice.normal(size=part[dead].shape)
        part = found["backbone.layer2.0.conv2.weight"]
        part[:, dead] = residue * dice.normal(size=part[:, dead].shape)
        return found

    assert align(opened(kill(tiny, 0.0)), opened(kill(with_noise(tiny, 1), 0.0))).is_identity
    assert align(opened(kill(tiny, 1e-12)), opened(kill(with_noise(tiny, 1), 1e-12))).is_identity


@pytest.mark.parametrize("bad", [np.nan, np.inf, 3e38])
def test_values_that_cant_be_compared_are_refused_by_name(tiny, opened, bad):
    broken = {
        **tiny,
        "decode_head.project.conv.weight": np.full_like(tiny["decode_head.project.conv.weight"], bad),
    }
    with pytest.raises(ModelFileError, match=r"decode_head\.project\.conv\.weight has values that are"):
        align(opened(broken), opened(broken))


def test_heads_are_assigned_as_wholes():
    """Against all orders of two heads of two channels, in two groups that share how heads change places."""
    dice = np.random.default_rng(0)
    for _ in range(20):
        matrices = [dice.normal(size=(4, 4)) for _ in range(2)]
        now = [np.arange(4)] * 2

        def value(orders, matrices=matrices):
            return sum(m[np.arange(4), list(order)].sum() for m, order in zip(matrices, orders, strict=True))

        inner = [
            [2 * head + place for head, places in zip(heads, order, strict=True) for place in places]
            for heads in itertools.permutations(range(2))
            for order in itertools.product(itertools.permutations(range(2)), repeat=2)
        ]
        alike = [(a, b) for a in inner for b in inner if [x // 2 for x in a] == [x // 2 for x in b]]
        best = max(map(value, alike))
        found = assign([m.copy() for m in matrices], now, heads=2)
        assert value(found) == pytest.approx(best, abs=1e-4)
        assert [x // 2 for x in found[0]] == [x // 2 for x in found[1]]


def test_an_assignment_is_the_best_of_all():
    dice = np.random.default_rng(1)
    for _ in range(20):
        matrix = dice.normal(size=(5, 5))
        (found,) = assign([matrix.copy()], [np.arange(5)])
        best = max(matrix[np.arange(5), list(order)].sum() for order in itertools.permutations(range(5)))
        assert matrix[np.arange(5), found].sum() == pytest.approx(best, abs=1e-4)
