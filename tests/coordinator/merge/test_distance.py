"""Distances between models, against PyTorch's and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence

from coordinator.merge import state
from coordinator.merge.distance import Products, products, relative_distance, symmetric_kl
from protos.boundary import BatchNorm
from protos.tensorfile import TensorFile


def test_symmetric_kl_is_that_of_pytorch_averaged_over_channels():
    rng = np.random.default_rng(2)
    a, b = (
        BatchNorm(rng.normal(size=8).astype(np.float32), rng.gamma(2, size=8).astype(np.float32), 1)
        for _ in range(2)
    )
    p, q = (
        Normal(torch.from_numpy(x.mean).double(), torch.from_numpy(x.var).double().sqrt(), validate_args=False)
        for x in (a, b)
    )
    wanted = (kl_divergence(p, q) + kl_divergence(q, p)).mean().item()
    assert symmetric_kl(a, b) == pytest.approx(wanted, rel=1e-9)
    assert symmetric_kl(b, a) == pytest.approx(symmetric_kl(a, b))
    assert symmetric_kl(a, a) == 0


def test_a_channel_that_never_varied_is_far_but_not_infinitely_far():
    still = BatchNorm(np.zeros(1, np.float32), np.zeros(1, np.float32), 1)
    alive = BatchNorm(np.zeros(1, np.float32), np.ones(1, np.float32), 1)
    assert 1e6 < symmetric_kl(still, alive) < math.inf


@pytest.mark.parametrize("block", [1 << 18, 5])
def test_relative_distance_is_over_all_parameters_and_no_statistics(tmp_path, saved, monkeypatch, block):
    monkeypatch.setattr(state, "BLOCK", block)
    base = {
        "a": np.asarray([3, 0, 0, 0, 0, 0], np.float32),
        "n.running_mean": np.zeros(1, np.float32),
        "n.running_var": np.ones(1, np.float32),
        "n.num_batches_tracked": np.asarray(1),
        "z": np.asarray([4], np.float32),
    }
    other = {**base, "z": np.asarray([14], np.float32), "n.running_mean": np.full(1, 99, np.float32)}
    with (
        TensorFile(saved(tmp_path / "base", base)) as origin,
        TensorFile(saved(tmp_path / "other", other)) as model,
    ):
        assert relative_distance(model, origin) == pytest.approx(2.0)
        assert relative_distance(origin, origin) == 0


def test_anything_is_infinitely_far_from_a_base_of_zeros_but_zeros_are_not(tmp_path, saved):
    with (
        TensorFile(saved(tmp_path / "zero", {"a": np.zeros(3, np.float32)})) as zero,
        TensorFile(saved(tmp_path / "one", {"a": np.ones(3, np.float32)})) as one,
    ):
        assert relative_distance(one, zero) == math.inf
        assert relative_distance(zero, zero) == 0
        assert math.isnan(products(one, zero, "a").cosine)


def test_inner_products_are_those_of_numpy_and_add_up(tmp_path, model, saved):
    a, b = model(1), model(2)
    with TensorFile(saved(tmp_path / "a", a)) as first, TensorFile(saved(tmp_path / "b", b)) as second:
        total = sum((products(first, second, name) for name in first.manifest.parameters), Products())
        x, y = (np.concatenate([m[n].ravel() for n in first.manifest.parameters]).astype(float) for m in (a, b))
    assert total.relative == pytest.approx(np.linalg.norm(x - y) / np.linalg.norm(y), rel=1e-12)
    assert total.cosine == pytest.approx(x @ y / np.linalg.norm(x) / np.linalg.norm(y), rel=1e-12)
