"""Vectors: all that is merged, each number wide enough for any sum of it."""

from __future__ import annotations

import numpy as np
import pytest

from protos import dtypes, fixedpoint
from protos.boundary import BatchNorm
from protos.errors import MergeRangeError
from protos.manifest import Manifest, TensorSpec
from protos.securesum.layout import layout, total_bytes
from protos.statistics import StatisticSums


@pytest.fixture
def manifest(manifest_for, model):
    return manifest_for(model(0))


def test_all_that_is_merged_has_one_vector_and_buffers_have_none(manifest):
    found = layout(manifest)
    parts = ("count", "mean", "square")
    wanted = [f"sum:{name}" for name in manifest.parameters]
    assert list(found) == wanted + [f"{part}:{layer}" for layer in manifest.layers for part in parts]
    assert [vector.stream for vector in found.values()] == list(range(len(found)))
    assert all(vector.key == key for key, vector in found.items())


def test_sizes_are_those_of_the_merge_state(manifest):
    found = layout(manifest)
    assert {key: (vector.size, vector.width) for key, vector in found.items() if "norm" in key} == {
        **{f"sum:norm.{name}": (4, 1) for name in ("bias", "weight")},
        **{f"sum:xnorm.deep.{name}": (3, 1) for name in ("bias", "weight")},
        "count:norm": (1, 2),
        "mean:norm": (4, 6),
        "square:norm": (4, 10),
        "count:xnorm.deep": (1, 2),
        "mean:xnorm.deep": (3, 6),
        "square:xnorm.deep": (3, 10),
    }
    parameters = sum(spec.size for spec in manifest.parameters.values())
    assert total_bytes(found) == 8 * parameters + 128 * 7 + 16 * 2


@pytest.mark.parametrize("sign", [1, -1])
def test_the_largest_sums_of_statistics_fit_their_widths(sign):
    """As many sites as there may be, each with the largest values that the formats hold."""
    top = np.finfo(np.float32).max
    one = StatisticSums.of(BatchNorm(np.array([sign * top]), np.array([top]), (1 << 63) - 1))
    many = fixedpoint.MAX_MODELS
    total = StatisticSums(one.count * many, one.mean * many, one.square * many)
    assert StatisticSums.from_bytes(total.to_bytes()).square.tolist() == total.square.tolist()
    assert abs(total.mean[0]) < 1 << 354
    assert total.square[0] < 1 << 632


def test_the_largest_sum_of_a_parameter_fits_a_word():
    top = np.nextafter(np.float32(fixedpoint.LIMIT), np.float32(0))
    sums = int(fixedpoint.quantise(np.array([top, -top]))[0]) * fixedpoint.MAX_MODELS
    assert abs(sums) < 1 << 63


def test_a_tensor_longer_than_a_keystream_is_refused():
    huge = Manifest({"huge": TensorSpec(dtypes.FLOAT32, (1 << 36,))})
    with pytest.raises(MergeRangeError, match="huge has 68719476736 numbers, too many"):
        layout(huge)
