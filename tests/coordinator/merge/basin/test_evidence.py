"""What is measured between two models, against NumPy and against what is known of them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from coordinator.merge.basin.evidence import gather
from coordinator.merge.basin.verdict import CHANCE, IN_PLACE, NEAR
from protos.errors import ModelFileError


def weights(arrays) -> np.ndarray:
    return np.concatenate([arrays[n].ravel() for n in sorted(arrays) if arrays[n].ndim > 1]).astype(np.float64)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_models_of_one_base(tiny, opened, with_noise):
    a, b = with_noise(tiny, 1), with_noise(tiny, 2)
    found = gather(opened(a), opened(b), opened(tiny))
    x, y, z = map(weights, (a, b, tiny))
    assert found.share == 1.0
    assert found.as_they_are.cosine == pytest.approx(cosine(x, y), rel=1e-12)
    assert found.as_they_are.relative == pytest.approx(np.linalg.norm(x - y) / np.linalg.norm(y), rel=1e-12)
    assert found.aligned.cosine == pytest.approx(found.as_they_are.cosine, rel=1e-12)
    assert found.parts[0].name == "backbone"
    assert found.base is not None
    assert found.base.a.cosine == pytest.approx(cosine(x, z))
    assert found.base.b.relative == pytest.approx(np.linalg.norm(y - z) / np.linalg.norm(z))
    assert found.base.changes == pytest.approx(cosine(x - z, y - z), rel=1e-5)
    assert abs(found.base.changes) < 0.02  # both are noise


def test_norms_and_statistics_do_not_count(tiny, opened):
    other = {
        name: array + 1 if array.ndim == 1 and array.dtype == np.float32 else array for name, array in tiny.items()
    }
    found = gather(opened(tiny), opened(other))
    assert found.as_they_are.relative == 0.0
    assert found.as_they_are.cosine == pytest.approx(1.0)


def test_the_shuffled_model_stands_for_another_initialisation(tiny, stranger, opened, with_noise):
    near = gather(opened(tiny), opened(with_noise(tiny, 1)))
    far = gather(opened(tiny), opened(stranger))
    assert abs(near.unrelated.cosine - far.as_they_are.cosine) < 0.03 < CHANCE
    assert near.unrelated.relative == pytest.approx(math.sqrt(2), abs=0.05)
    assert near.as_they_are.cosine > NEAR
    assert far.share < 0.15 < IN_PLACE
    assert far.aligned.cosine > far.as_they_are.cosine + 0.05


def test_it_is_reproducible(tiny, stranger, opened):
    assert gather(opened(tiny), opened(stranger)) == gather(opened(tiny), opened(stranger))


def test_groups_that_moved_most_come_first(tiny, tiny_table, stranger, opened):
    found = gather(opened(tiny), opened(stranger))
    shares = [one.in_place for one in found.groups]
    assert shares == sorted(shares)
    assert {one.name: one.channels for one in found.groups} == {n: g.size for n, g in tiny_table.groups.items()}
    total = sum(one.channels for one in found.groups)
    assert found.share == pytest.approx(sum(one.in_place * one.channels for one in found.groups) / total)


def test_parts_are_told_apart(tiny, stranger, opened, with_noise):
    """One base for the backbone, heads that began anew."""
    a, b = with_noise(tiny, 1), with_noise(tiny, 2)
    b |= {name: array for name, array in stranger.items() if name.startswith("decode_head.")}
    found = gather(opened(a), opened(b))
    parts = {part.name: part for part in found.parts}
    assert parts.keys() == {"backbone", "decode_head"}
    assert parts["backbone"].closeness.cosine > NEAR
    assert parts["backbone"].share == 1.0
    assert abs(parts["decode_head"].closeness.cosine) < CHANCE
    assert parts["decode_head"].share < 0.2


def test_a_part_that_no_table_describes_is_said(tiny, opened):
    odd = {n: v for n, v in tiny.items() if n.startswith("backbone.")} | {"head.mix": np.ones((3, 4), np.float32)}
    found = gather(opened(odd), opened(odd))
    assert found.unknown == ("head",)
    assert {part.name: part.share for part in found.parts} == {"backbone": 1.0, "head": None}
    assert "backbone.layer3" not in {one.name for one in found.groups}


def test_one_that_is_the_base_changed_nothing(tiny, opened, with_noise):
    found = gather(opened(tiny), opened(with_noise(tiny, 1)), opened(tiny))
    assert found.base is not None
    assert found.base.changes is None


@pytest.mark.parametrize("place", range(3))
def test_a_model_of_zeros_is_refused(tiny, opened, place):
    zero = {name: np.zeros_like(array) for name, array in tiny.items()}
    models = [opened(zero if i == place else tiny) for i in range(3)]
    with pytest.raises(ModelFileError, match="has no weights, or all of them are zero") as caught:
        gather(*models)
    assert str(models[place].path) in caught.value.what


def test_values_that_are_nan_are_refused(tiny, opened):
    broken = {**tiny, "decode_head.skip.conv.weight": np.full((24, 32, 1, 1), np.nan, np.float32)}
    for models in ((tiny, broken), (tiny, tiny, broken)):
        with pytest.raises(ModelFileError, match=r"decode_head\.skip\.conv\.weight has values that are NaN"):
            gather(*map(opened, models))
