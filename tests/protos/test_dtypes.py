"""Dtypes against PyTorch's conversions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from protos import dtypes
from protos import update_pb2 as pb
from protos.errors import ModelFileError

FLOATING = ("float32", "float16", "bfloat16")


def test_every_bfloat16_pattern_widens_as_in_pytorch():
    raw = np.arange(1 << 16, dtype=np.uint16)
    ours = dtypes.by_name("bfloat16").widen(raw)
    theirs = torch.from_numpy(raw.copy()).view(torch.bfloat16).float().numpy()
    assert ours.dtype == np.float32
    np.testing.assert_array_equal(ours.view(np.uint32), theirs.view(np.uint32))


def test_every_finite_bfloat16_pattern_survives_widening_and_narrowing():
    dtype, raw = dtypes.by_name("bfloat16"), np.arange(1 << 16, dtype=np.uint16)
    finite = raw[np.isfinite(dtype.widen(raw))]
    assert finite.size == 2 * 255 * 128
    np.testing.assert_array_equal(dtype.narrow(dtype.widen(finite)), finite)


def test_every_finite_float16_pattern_survives_widening_and_narrowing():
    dtype, raw = dtypes.by_name("float16"), np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    finite = raw[np.isfinite(raw)]
    again = dtype.narrow(dtype.widen(finite))
    np.testing.assert_array_equal(again.view(np.uint16), finite.view(np.uint16))


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_float32_rounds_as_in_pytorch(name):
    rng = np.random.default_rng(1)
    anything = rng.integers(0, 1 << 32, 200_000, dtype=np.uint32).view(np.float32)
    largest = float(torch.finfo(getattr(torch, name)).max)
    values = anything[np.isfinite(anything) & (np.abs(anything) < largest)]
    # Exactly between two neighbours, where ties must go to the even one.
    halves = (rng.integers(0, 0x7F00, 10_000, dtype=np.uint32) << 16 | 0x8000).view(np.float32)
    if name == "float16":
        halves = (1 + (2 * np.arange(1024, dtype=np.float32) + 1) / 2048).astype(np.float32)
    for given in (values, halves, -halves):
        ours = dtypes.by_name(name).narrow(given)
        theirs = torch.from_numpy(given.copy()).to(getattr(torch, name)).view(torch.uint16).numpy()
        np.testing.assert_array_equal(ours.view(np.uint16), theirs)


def test_float64_means_narrow_to_the_nearest_float32():
    values = np.random.default_rng(3).normal(size=1000)
    narrowed = dtypes.by_name("float32").narrow(values)
    np.testing.assert_array_equal(narrowed, torch.from_numpy(values).float().numpy())


@pytest.mark.parametrize("name", FLOATING)
def test_a_parameters_dtype_is_found_by_each_of_its_names(name):
    dtype = dtypes.by_name(name)
    assert dtypes.by_code(dtype.code) is dtype
    assert dtypes.by_wire(dtype.wire) is dtype
    assert dtype.floating
    assert dtype.storage.itemsize == getattr(torch, name).itemsize


@pytest.mark.parametrize("name", ["float64", "int64", "int32", "int16", "int8", "uint8", "bool"])
def test_other_dtypes_are_known_but_are_no_parameters(name):
    dtype = dtypes.by_name(name)
    assert dtype.wire == pb.DTYPE_UNSPECIFIED
    assert not dtype.floating
    assert dtype.storage.itemsize == getattr(torch, name).itemsize


def test_an_unknown_dtype_is_refused_with_what_is_known():
    with pytest.raises(ModelFileError, match="dtype F8_E4M3 is not known") as caught:
        dtypes.by_code("F8_E4M3")
    assert "BF16" in caught.value.fix
    with pytest.raises(ModelFileError):
        dtypes.by_name("complex64")
    assert dtypes.by_wire(0) is None
    assert dtypes.by_wire(77) is None
