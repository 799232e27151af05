"""A model that is read through permutations is a model like any other."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from client.models import build
from coordinator.merge.basin.architectures import table_of
from coordinator.merge.basin.permutations import Permutations, permuted
from coordinator.merge.midpoint import merged_content
from coordinator.merge.state import Update
from protos import dtypes, tensorfile
from protos.checkpoints import ModelReader
from protos.errors import ModelFileError


def test_it_reads_whole_tensors_ranges_and_chunks(monkeypatch, tiny, tiny_table, shuffled, reordered, opened):
    monkeypatch.setattr(tensorfile, "CHUNK", 1000)
    orders = shuffled(tiny_table, 1)
    moved = reordered(tiny, orders)
    reader: ModelReader = permuted(opened(tiny), orders)
    assert reader.manifest == opened(moved).manifest
    for name, array in moved.items():
        assert np.array_equal(reader.tensor(name), array)
        assert np.array_equal(reader.read(name), array.reshape(-1))
        assert np.array_equal(
            reader.read(name, array.size // 3, array.size // 2 + 1),
            array.reshape(-1)[array.size // 3 : array.size // 2 + 1],
        )
        assert b"".join(reader.chunks(name)) == array.tobytes()


def test_what_is_read_is_the_readers_own(tiny, tiny_table, shuffled, opened):
    reader = permuted(opened(tiny), shuffled(tiny_table, 1))
    name = "decode_head.project.conv.weight"
    first = reader.read(name, 0, 10)
    first[:] = 0
    assert reader.read(name, 0, 10).any()


def test_several_threads_read_several_tensors(tiny, tiny_table, shuffled, reordered, opened):
    orders = shuffled(tiny_table, 2)
    reader, moved = permuted(opened(tiny), orders), reordered(tiny, orders)
    names = [name for name in tiny if tiny[name].ndim == 4] * 5
    with ThreadPoolExecutor(4) as pool:
        for name, found in zip(names, pool.map(reader.tensor, names), strict=True):
            assert np.array_equal(found, moved[name])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_values_of_any_dtype_move_untouched(dtype, tiny, tiny_table, shuffled, reordered, opened):
    narrow = dtypes.by_name(dtype).narrow
    small = {n: narrow(v).reshape(v.shape) if v.dtype == np.float32 else v for n, v in tiny.items()}
    orders = shuffled(tiny_table, 3)
    reader = permuted(opened(small), orders)
    for name, array in reordered(small, orders).items():
        assert reader.tensor(name).tobytes() == array.tobytes()


def test_the_mid_point_of_a_model_and_its_permuted_copy_is_the_model(
    tiny, tiny_table, shuffled, reordered, opened
):
    """What the official script's re-basin does not do: 0.75 A + 0.25 π(B) instead of the mid-point."""
    orders = shuffled(tiny_table, 4)
    back = Permutations(tiny_table, {group: np.argsort(order) for group, order in orders.orders.items()})
    base = opened(tiny)
    other = permuted(opened(reordered(tiny, orders)), back)
    terms = [(1, Update(model, {}, bytes([place]) * 32, "x")) for place, model in enumerate((base, other))]
    content = merged_content(base, terms, {})
    for name, spec in base.manifest.parameters.items():
        merged = np.frombuffer(b"".join(content(name)), np.float32).reshape(spec.shape)
        assert np.abs(merged - tiny[name]).max(initial=0) < 1e-6  # of the sums' fixed point


def test_the_identity_reads_straight_through(tiny, tiny_table, opened):
    file = opened(tiny)
    with permuted(file, Permutations(tiny_table)) as reader:
        assert (reader.path, reader.metadata) == (file.path, file.metadata)
        assert b"".join(reader.chunks("backbone.stem.conv.weight")) == tiny["backbone.stem.conv.weight"].tobytes()
    with pytest.raises(ValueError, match="closed"):
        file.read("backbone.stem.conv.weight")


def test_permutations_of_another_architecture_are_refused(tiny, tiny_table, opened):
    more = {**tiny, "decode_head.extra": np.zeros(3, np.float32)}
    with pytest.raises(ModelFileError, match=r"decode_head\.extra differs"):
        permuted(opened(more), Permutations(tiny_table))
    wider = {**tiny, "decode_head.conv_seg.bias": np.zeros((19, 1), np.float32)}
    with pytest.raises(ModelFileError, match=r"decode_head\.conv_seg\.bias differs"):
        permuted(opened(wider), Permutations(tiny_table))


def test_only_permutations_are_taken(tiny_table):
    for order in (np.zeros(24, int), np.arange(23), np.arange(1, 25)):
        with pytest.raises(ValueError, match="no permutation of its 24 channels"):
            Permutations(tiny_table, {"backbone.stem": order})


def test_heads_of_attention_may_not_be_torn_apart(in_arrays, specs_in, shuffled):
    table = table_of(specs_in(in_arrays(build("segformer-mitb0", 19))))
    good = shuffled(table, 6)
    queries, values = "backbone.block4.1.attn.q", "backbone.block4.1.attn.v"
    for wrong in (np.roll(np.arange(256), 1), np.roll(np.arange(256), 32)):
        with pytest.raises(ValueError, match="tears heads apart"):
            good.changed({queries: wrong})
    both = good.changed({queries: np.roll(np.arange(256), 32), values: np.roll(np.arange(256), 32)})
    assert both.in_place(queries) == 0.0
    with pytest.raises(ValueError, match="tears heads apart"):
        both.changed({queries: np.arange(256)})


def test_fixed_groups_stay(specs_in, tiny):
    shapes = specs_in({n: v for n, v in tiny.items() if n.startswith("backbone.")} | {"head.x": np.zeros((2, 2))})
    table = table_of(shapes)
    with pytest.raises(ValueError, match="read by head, which is not known here"):
        Permutations(table, {"backbone.stem": np.arange(24)[::-1]})
    assert Permutations(table, {"backbone.stem": np.arange(24)}).is_identity
