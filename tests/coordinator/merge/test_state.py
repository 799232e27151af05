"""A merge is a sum: whichever way the updates travel, the same bits come out."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coordinator.merge import state as state_module
from coordinator.merge.state import MergeState, write_sum
from coordinator.merge.sums import ParameterSum
from protos import fixedpoint
from protos.errors import MergeRangeError, ModelFileError, StorageError, UpdateRefusedError
from protos.statistics import StatisticSums
from protos.tensorfile import write_tensors

BASE = bytes(range(32))
SITES = ("clear", "dusty", "fog", "night", "rain", "snow")
quick = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
orders = st.permutations(SITES)


@pytest.fixture(scope="module")
def at_once(kitchen):
    """The state and the merged model of all six sites, folded in one pass."""
    state = kitchen.fold(kitchen.fresh(), *SITES)
    return state.read_bytes(), kitchen.merged(state)


@given(order=orders)
@quick
def test_any_order_one_at_a_time_gives_the_bits_of_all_at_once(kitchen, at_once, order):
    state = kitchen.fresh()
    for site in order:
        kitchen.fold(state, site)
    assert (state.read_bytes(), kitchen.merged(state)) == at_once


@given(order=orders, cuts=st.sets(st.integers(1, 5)))
@quick
def test_any_batches_give_the_same_bits(kitchen, at_once, order, cuts):
    state, edges = kitchen.fresh(), [0, *sorted(cuts), 6]
    for start, stop in itertools.pairwise(edges):
        kitchen.fold(state, *order[start:stop])
    assert (state.read_bytes(), kitchen.merged(state)) == at_once


@given(order=orders, cuts=st.sets(st.integers(1, 5)))
@quick
def test_regions_added_up_give_the_same_bits(kitchen, at_once, order, cuts):
    edges = [0, *sorted(cuts), 6]
    regions = [kitchen.fold(kitchen.fresh(), *order[start:stop]) for start, stop in itertools.pairwise(edges)]
    state = kitchen.union(regions)
    assert (state.read_bytes(), kitchen.merged(state)) == at_once


@given(order=orders)
@quick
def test_regions_of_regions_give_the_same_bits(kitchen, at_once, order):
    pairs = [kitchen.fold(kitchen.fresh(), *order[i : i + 2]) for i in (0, 2, 4)]
    state = kitchen.union([pairs[2], kitchen.union(pairs[:2])])
    assert (state.read_bytes(), kitchen.merged(state)) == at_once


@given(order=orders, kept=st.integers(1, 5))
@quick
def test_a_withdrawn_site_was_never_there(kitchen, order, kept):
    stay, leave = order[:kept], order[kept:]
    never = kitchen.fold(kitchen.fresh(), *sorted(stay))
    state = kitchen.fresh()
    for site in (*leave, *stay):
        kitchen.fold(state, site)
    for site in leave:
        kitchen.withdraw(state, site)
    assert state.read_bytes() == never.read_bytes()
    assert kitchen.merged(state) == kitchen.merged(never)


def test_a_region_can_be_withdrawn_as_a_whole(kitchen):
    region = kitchen.fold(kitchen.fresh(), "fog", "rain")
    state = kitchen.fold(kitchen.fresh(), "clear", "fog", "rain")
    with MergeState(region) as found:
        kitchen.add(state, [(-1, found)])
    assert state.read_bytes() == kitchen.fold(kitchen.fresh(), "clear").read_bytes()


@pytest.mark.parametrize("block", [1, 3, 7])
def test_chunks_of_any_size_give_the_same_bits(kitchen, at_once, monkeypatch, block):
    monkeypatch.setattr(state_module, "BLOCK", block)
    state = kitchen.fold(kitchen.fresh(), *SITES)
    assert (state.read_bytes(), kitchen.merged(state)) == at_once


def test_a_state_remembers_how_many_models_and_which_updates_are_inside(kitchen):
    with MergeState(kitchen.fold(kitchen.fresh(), "fog", "night")) as state:
        assert state.models == 2
        assert state.digests == kitchen.updates["fog"].digests | kitchen.updates["night"].digests


def test_states_of_different_updates_differ(kitchen):
    first, second = (kitchen.fold(kitchen.fresh(), "clear", site) for site in ("fog", "night"))
    assert first.read_bytes() != second.read_bytes()
    assert kitchen.merged(first) != kitchen.merged(second)


@pytest.mark.parametrize("sites", [1, 2, 3, 7, 64])
def test_identical_sites_give_their_model_back_with_their_batches_added_up(
    kitchen, tmp_path, model, update, sites
):
    same = model(3, exact=True)
    terms = [(1, update(same, f"site-{i}-of-{sites}")) for i in range(sites)]
    write_sum(path := tmp_path / "state.safetensors", kitchen.manifest, BASE, terms)
    merged = _read(kitchen, path)
    for name, before in same.items():
        if name.endswith("num_batches_tracked"):
            assert merged[name] == before * sites
        elif name != "table":
            assert merged[name].dtype == before.dtype
            # Zeros may lose their sign; everything else comes back bit for bit.
            np.testing.assert_array_equal(merged[name], before, strict=True)


def test_identical_sites_give_back_every_float32_down_to_two_to_the_minus_17(
    tmp_path, model, update, manifest_for
):
    rng = np.random.default_rng(5)
    signs, exponents = rng.choice([-1.0, 1.0], 4096), rng.integers(-17, 9, 4096)
    values = (signs * (1 + rng.integers(0, 2**23, 4096) / 2**23) * 2.0**exponents).astype(np.float32)
    one = {"theta": np.append(values, np.float32([0.0, 2.0**-17, -(2.0**-17)]))}
    terms = [(1, update(one, f"exact-{i}")) for i in range(3)]
    write_sum(path := tmp_path / "state.safetensors", manifest_for(one), BASE, terms)
    with MergeState(path) as state:
        total = ParameterSum(one["theta"].size)
        state.add("theta", 0, one["theta"].size, total, 1)
        mean = total.mean(3)
    np.testing.assert_array_equal(mean.astype(np.float32), one["theta"], strict=True)


# ------------------------------------------------------------------ refusals


def test_an_update_that_is_inside_already_is_refused(kitchen):
    state = kitchen.fold(kitchen.fresh(), "clear", "fog")
    before = state.read_bytes()
    with pytest.raises(UpdateRefusedError, match="is in the merge already"):
        kitchen.fold(state, "fog")
    assert state.read_bytes() == before


def test_the_same_update_twice_in_one_pass_is_refused(kitchen):
    with pytest.raises(UpdateRefusedError, match="is in the merge already"):
        kitchen.fold(path := kitchen.fresh(), "fog", "fog")
    assert not path.exists()


def test_two_regions_that_share_a_site_are_refused(kitchen):
    regions = [kitchen.fold(kitchen.fresh(), "fog", site) for site in ("clear", "night")]
    with pytest.raises(UpdateRefusedError, match="is in the merge already"):
        kitchen.union(regions)


def test_withdrawing_an_update_that_is_not_inside_is_refused(kitchen):
    state = kitchen.fold(kitchen.fresh(), "clear", "fog")
    before = state.read_bytes()
    with pytest.raises(UpdateRefusedError, match="is not in the merge"):
        kitchen.withdraw(state, "night")
    assert state.read_bytes() == before


class Crowd:
    """A term that says that it stands for very many models."""

    def __init__(self, models: int) -> None:
        self.models = models
        self.digests = frozenset([f"crowd-{models}"])
        self.sites = frozenset[str]()

    def add(self, name: str, start: int, stop: int, to: ParameterSum, weight: int) -> None:
        to.add_ints(np.zeros(stop - start, np.int64), weight)

    def statistics(self, layer: str) -> StatisticSums:
        return StatisticSums.zero({"norm": 4, "xnorm.deep": 3}[layer])


def test_more_models_than_a_sum_has_room_for_are_refused(kitchen, tmp_path):
    path = tmp_path / "state.safetensors"
    write_sum(path, kitchen.manifest, BASE, [(1, Crowd(16_383)), (1, kitchen.updates["fog"])])
    before = path.read_bytes()
    with pytest.raises(MergeRangeError, match="16385 models are more than the 16384"), MergeState(path) as full:
        write_sum(path, kitchen.manifest, BASE, [(1, full), (1, kitchen.updates["night"])])
    assert path.read_bytes() == before


def test_the_largest_values_of_the_most_models_fit_into_a_sum():
    largest = np.nextafter(np.float32(512), np.float32(0))
    for value in (largest, -largest):
        one = int(fixedpoint.quantise(np.asarray([value], np.float32))[0])
        assert -(1 << 63) <= one * fixedpoint.MAX_MODELS < 1 << 63


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (512.0, MergeRangeError),
        (-512.0, MergeRangeError),
        (1e30, MergeRangeError),
        (np.nan, UpdateRefusedError),
        (np.inf, UpdateRefusedError),
        (-np.inf, UpdateRefusedError),
    ],
)
@pytest.mark.parametrize("place", [0, 57, 107])
def test_a_value_that_cannot_be_merged_is_refused_by_name_and_leaves_the_state(
    kitchen, model, update, monkeypatch, value, kind, place
):
    monkeypatch.setattr(state_module, "BLOCK", 16)
    state = kitchen.fold(kitchen.fresh(), "clear", "fog")
    before, beside = state.read_bytes(), set(state.parent.iterdir())
    bad = model(40)
    bad["stem.weight"].flat[place] = value
    with pytest.raises(kind) as caught:
        kitchen.add(state, [(1, update(bad, "harbour"))])
    assert (caught.value.site, caught.value.tensor) == ("harbour", "stem.weight")
    assert "harbour" in caught.value.what
    assert "stem.weight" in caught.value.what
    assert state.read_bytes() == before
    assert set(state.parent.iterdir()) == beside


# ------------------------------------------------------------ a failing disk


@pytest.mark.parametrize("call", ["write", "fsync"])
def test_a_disk_that_fails_leaves_the_old_state_and_no_other_file(kitchen, tmp_path, monkeypatch, call):
    state = kitchen.fold(tmp_path / "state.safetensors", "clear")
    before = state.read_bytes()

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        if call == "fsync":
            patched.setattr(os, "fsync", full)
        else:
            patched.setattr(os, "pwrite", _failing(os.pwrite, full))
        with pytest.raises(StorageError, match="No space left"):
            kitchen.fold(state, "fog")
    assert state.read_bytes() == before
    assert list(tmp_path.iterdir()) == [state]


def test_a_file_size_limit_leaves_the_old_state_and_no_other_file(kitchen, tmp_path):
    state = kitchen.fold(tmp_path / "state.safetensors", "clear")
    before = state.read_bytes()
    program = textwrap.dedent(
        f"""
        import resource, signal, sys
        from pathlib import Path
        from coordinator.merge.state import MergeState, write_sum
        from protos.errors import StorageError
        from protos.tensorfile import TensorFile

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        state = Path({str(state)!r})
        with TensorFile(Path({str(kitchen.base)!r})) as base, MergeState(state) as before:
            try:
                write_sum(state, base.manifest, before.base, [(1, before)])
            except StorageError as error:
                print(error.what)
                sys.exit(error.exit_code)
        """
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=Path.cwd())
    assert done.returncode == StorageError.exit_code, done.stderr
    assert "File too large" in done.stdout
    assert state.read_bytes() == before
    assert list(tmp_path.iterdir()) == [state]


def test_an_interruption_while_writing_leaves_the_old_state(kitchen, tmp_path):
    state = kitchen.fold(tmp_path / "state.safetensors", "clear")
    before = state.read_bytes()

    class Interrupting(Crowd):
        def add(self, name: str, start: int, stop: int, to: ParameterSum, weight: int) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        kitchen.add(state, [(1, Interrupting(1))])
    assert state.read_bytes() == before
    assert list(tmp_path.iterdir()) == [state]


def test_a_disk_without_room_is_found_before_anything_is_added_up(kitchen, tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    class Never(Crowd):
        def add(self, name: str, start: int, stop: int, to: ParameterSum, weight: int) -> None:
            raise AssertionError("added up")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(StorageError, match="No space left"):
        kitchen.add(tmp_path / "state.safetensors", [(1, Never(1))])
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------ damaged states


def test_a_flipped_bit_anywhere_breaks_the_seal(kitchen, tmp_path):
    whole = kitchen.fold(kitchen.fresh(), "clear", "fog").read_bytes()
    path = tmp_path / "state.safetensors"
    path.write_bytes(whole)
    with MergeState(path) as state:
        state.check()
    for position in range(8, len(whole), 37):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        with pytest.raises(ModelFileError), MergeState(path) as state:
            state.check()


def test_a_state_whose_seal_was_taken_off_is_refused(kitchen, tmp_path):
    path = kitchen.fold(kitchen.fresh(), "clear", "fog")
    with MergeState(path) as state:
        specs = {n: s for n, s in state._file.manifest.tensors.items() if n != "seal"}
        write_tensors(tmp_path / "bare", specs, state._file.chunks, state._file.metadata)
    with MergeState(tmp_path / "bare") as state, pytest.raises(ModelFileError, match="contradicts its seal"):
        state.check()


def test_states_of_two_bases_are_not_added_up(kitchen, tmp_path):
    path = kitchen.fold(kitchen.fresh(), "clear")
    with (
        MergeState(path) as state,
        pytest.raises(ModelFileError, match="of base 000102030405, not of 787878787878"),
    ):
        write_sum(tmp_path / "sum.safetensors", kitchen.manifest, b"x" * 32, [(1, state)])
    assert list(tmp_path.iterdir()) == []


def test_when_all_are_withdrawn_there_is_nothing_to_merge(kitchen):
    state = kitchen.fold(kitchen.fresh(), "clear", "fog")
    kitchen.withdraw(state, "fog", "clear")
    with pytest.raises(MergeRangeError, match="nothing to merge"):
        kitchen.merged(state)


def test_a_state_cut_short_anywhere_is_refused(kitchen, tmp_path):
    whole = kitchen.fold(kitchen.fresh(), "clear", "fog").read_bytes()
    path = tmp_path / "state.safetensors"
    for length in [0, 1, 7, 8, 9, 100, len(whole) // 2, len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(ModelFileError):
            MergeState(path)


@pytest.mark.parametrize(
    "where",
    [
        b'"sum:stem',
        b"stem.weight",
        b'"I64"',
        b'"dtype"',
        b'"shape"',
        b'"data_offsets"',
        b'"mean:norm',
        b'"square:x',
        b"onebasin-merge-state",
        b'"models"',
        b'"digests"',
        b"{",
    ],
)
def test_a_flipped_bit_in_the_header_of_a_state_is_found(kitchen, tmp_path, where):
    whole = kitchen.fold(kitchen.fresh(), "clear", "fog").read_bytes()
    path = tmp_path / "state.safetensors"
    for offset in range(len(where)):
        for bit in (0, 3, 6):
            damaged = bytearray(whole)
            damaged[whole.index(where) + offset] ^= 1 << bit
            path.write_bytes(damaged)
            with pytest.raises(ModelFileError), MergeState(path) as state:
                write_sum(tmp_path / "sum.safetensors", kitchen.manifest, BASE, [(1, state)])


def test_a_flipped_bit_in_the_length_of_the_header_is_found(kitchen, tmp_path):
    whole = kitchen.fold(kitchen.fresh(), "clear", "fog").read_bytes()
    path = tmp_path / "state.safetensors"
    for bit in range(64):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises(ModelFileError):
            MergeState(path)


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"format": "onebasin-merge-state/0", "models": "1", "digests": "[]"},
        {"format": "onebasin-merge-state/3", "base": "", "models": "many", "digests": "[]", "sites": "[]"},
        {"format": "onebasin-merge-state/2", "models": "1", "digests": "[]"},
        {"format": "onebasin-merge-state/3", "base": "x", "models": "1", "digests": "[]", "sites": "[]"},
        {"format": "onebasin-merge-state/3", "models": "1", "digests": "[]", "sites": "[]"},
        {"format": "onebasin-merge-state/3", "base": "", "models": "1", "digests": "[", "sites": "[]"},
        {"format": "onebasin-merge-state/3", "base": "", "models": "1", "digests": "7", "sites": "[]"},
        {"format": "onebasin-merge-state/3", "base": "", "models": "1", "sites": "[]"},
        {"format": "onebasin-merge-state/3", "base": "", "models": "1", "digests": "[]"},
    ],
)
def test_a_file_that_is_no_state_is_refused(tmp_path, model, saved, metadata):
    path = saved(tmp_path / "state.safetensors", model(1), metadata)
    with pytest.raises(ModelFileError, match="not a merge state"):
        MergeState(path)


def test_a_state_of_another_base_is_refused(kitchen, tmp_path, manifest_for):
    path = kitchen.fold(kitchen.fresh(), "clear")
    other = manifest_for({"elsewhere": np.zeros(3, np.float32)})
    with MergeState(path) as state, pytest.raises(ModelFileError, match="no sum of elsewhere"):
        write_sum(tmp_path / "sum.safetensors", other, BASE, [(1, state)])


def test_a_missing_state_is_refused(tmp_path):
    with pytest.raises(ModelFileError, match="there is no file"):
        MergeState(tmp_path / "state.safetensors")


def test_the_digests_stand_in_ascending_order_in_the_file(kitchen):
    with MergeState(kitchen.fold(kitchen.fresh(), *reversed(SITES))) as state:
        listed = json.loads(state._file.metadata["digests"])
    assert listed == sorted(listed)
    assert len(listed) == len(SITES)


def _read(kitchen, state: Path) -> dict[str, np.ndarray]:
    from protos.tensorfile import TensorFile

    path = kitchen.fresh()
    path.write_bytes(kitchen.merged(state))
    with TensorFile(path) as file:
        return {name: file.tensor(name) for name in file.manifest.tensors}


def _failing(pwrite, full):
    """Return a `pwrite` that takes the first thousand bytes only."""
    left = 1000

    def short(descriptor, content, position):
        nonlocal left
        left -= len(content)
        if left < 0:
            full()
        return pwrite(descriptor, content, position)

    return short
