"""Regions as terms: whatever way sites are grouped, the sums are the same."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_models import digest_of, manifest_of, random_model, save, statistics_of

from coordinator.merge.region import RegionUpdate, check_room, weighted, weights
from coordinator.merge.state import MergeState, Term, Update, block_sums, statistic_sum, write_sum
from protos import fixedpoint, regions
from protos import update_pb2 as pb
from protos.errors import MergeRangeError, UpdateRefusedError
from protos.regions import Standing
from protos.rules import MOST_IN_REGION
from protos.tensorfile import TensorFile, write_tensors

SITES = ("clear", "dusty", "fog", "night", "rain", "snow")
BASE = digest_of("base")
MANIFEST = manifest_of(random_model(0))
quick = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
orders = st.permutations(SITES)


class Kitchen:
    """Where sites' updates, states and what regions send of them are made; each in a file of its own."""

    def __init__(self, folder: Path, opened: ExitStack) -> None:
        self._folder, self._opened, self._numbers = folder, opened, itertools.count()
        self.models = {site: random_model(i + 1) for i, site in enumerate(SITES)}
        self.updates: dict[str, Term] = {
            site: opened.enter_context(
                Update(
                    TensorFile(save(self.fresh(), model)),
                    statistics_of(model),
                    digest_of(site),
                    site,
                    frozenset([regions.token(BASE, digest_of(site))]),
                )
            )
            for site, model in self.models.items()
        }

    def fresh(self) -> Path:
        return self._folder / f"{next(self._numbers)}.safetensors"

    def state(self, *batches: list[Term], weighing: str = "sites") -> Path:
        """Fold batches of terms, one after the other."""
        path, before = self.fresh(), None
        for batch in batches:
            write_sum(path, MANIFEST, BASE, weighted(before, batch, weighing))
            before = self._opened.enter_context(MergeState(path))
        return path

    def sent(self, path: Path, name: str) -> RegionUpdate:
        """Make of a state what arrives of it above: raw integers, and a header's packed sums."""
        with MergeState(path) as found:
            terms, specs = [(1, found)], regions.sum_specs(MANIFEST)

            def content(parameter: str) -> Iterator[bytes]:
                for total in block_sums(terms, parameter, specs[parameter].size):
                    yield total.ints().tobytes()

            file = self.fresh()
            write_tensors(file, specs, content)
            header = pb.UpdateHeader()
            for layer, channels in MANIFEST.layers.items():
                packed = statistic_sum(terms, layer, channels).to_bytes()
                header.layer_sums.add(layer=layer, **{part: raw.tobytes() for part, raw in packed.items()})
            standing = Standing(found.models, found.sites)
        term = RegionUpdate(TensorFile(file), regions.layer_sums(header), digest_of(name), standing)
        return self._opened.enter_context(term)

    def region(self, *sites: str) -> RegionUpdate:
        return self.sent(self.state([self.updates[site] for site in sites]), "+".join(sites))


@pytest.fixture(scope="module")
def kitchen(tmp_path_factory) -> Iterator[Kitchen]:
    with ExitStack() as opened:
        yield Kitchen(tmp_path_factory.mktemp("regions"), opened)


def content(path: Path) -> tuple[object, ...]:
    """Return what a state says, without how the updates in it are named."""
    with TensorFile(path) as file, MergeState(path) as state:
        tensors = {name: file.tensor(name).tobytes() for name in file.manifest.tensors if name != "seal"}
        return state.models, state.sites, tensors


def grown(kitchen: Kitchen, sites: list[str], draw: Callable[[st.SearchStrategy[int]], int]) -> Path:
    """Make a state of sites, some of which are in regions, some of them in regions of these, and so on."""
    terms: list[Term] = []
    left = list(sites)
    while left:
        size = draw(st.integers(1, max(1, len(left) - (not terms))))
        group, left = left[:size], left[size:]
        if size == 1:
            terms.append(kitchen.updates[group[0]])
        else:
            terms.append(kitchen.sent(grown(kitchen, group, draw), "+".join(group)))
    return kitchen.state(terms)


@given(order=orders, data=st.data())
@quick
def test_a_tree_of_regions_of_any_shape_gives_the_sums_of_a_flat_merge(kitchen, order, data):
    flat = kitchen.state([kitchen.updates[site] for site in SITES])
    assert content(grown(kitchen, order, data.draw)) == content(flat)


@given(order=st.permutations(range(3)), cut=st.integers(0, 3))
@quick
def test_members_that_count_once_do_so_in_any_order(kitchen, order, cut):
    members = [kitchen.updates["clear"], kitchen.region("dusty", "fog"), kitchen.region("night", "rain", "snow")]
    at_once = kitchen.state(members, weighing="members")
    shuffled = [members[i] for i in order]
    batches = [batch for batch in (shuffled[:cut], shuffled[cut:]) if batch]
    found = kitchen.state(*batches, weighing="members")
    assert content(found) == content(at_once)


def test_members_that_count_once_are_a_mean_of_means_exactly(kitchen):
    groups = [("clear",), ("dusty", "fog"), ("night", "rain", "snow")]
    members = [kitchen.updates["clear"], *(kitchen.region(*sites) for sites in groups[1:])]
    path = kitchen.state(members, weighing="members")
    with MergeState(path) as state:
        assert state.models == 18
        for name, spec in MANIFEST.parameters.items():
            ints = {s: fixedpoint.quantise(m[name].reshape(-1)).tolist() for s, m in kitchen.models.items()}
            for total in block_sums([(1, state)], name, spec.size):
                for i, value in enumerate(total.ints().tolist()):
                    means = [Fraction(sum(ints[site][i] for site in sites), len(sites)) for sites in groups]
                    assert Fraction(value, state.models) == sum(means) / 3
    # Statistics have their batches, whoever is in which region.
    flat = kitchen.state([kitchen.updates[site] for site in SITES])
    with MergeState(path) as one, MergeState(flat) as other:
        for layer, channels in MANIFEST.layers.items():
            sums = [statistic_sum([(1, state)], layer, channels).to_bytes() for state in (one, other)]
            assert all(np.array_equal(sums[0][part], sums[1][part]) for part in sums[0])


def test_a_site_in_two_regions_is_added_once(kitchen):
    with pytest.raises(UpdateRefusedError, match=r"site .* is in the merge already"):
        kitchen.state([kitchen.region("clear", "fog"), kitchen.region("fog", "night")])
    with pytest.raises(UpdateRefusedError, match=r"site .* is in the merge already"):
        kitchen.state([kitchen.updates["fog"]], [kitchen.region("fog", "night")])


def test_a_region_is_taken_away_as_it_came(kitchen):
    region = kitchen.region("fog", "night")
    path = kitchen.state([kitchen.updates["clear"], region])
    left = kitchen.fresh()
    with MergeState(path) as state:
        write_sum(left, MANIFEST, BASE, [(1, state), (-1, region)])
    assert left.read_bytes() == kitchen.state([kitchen.updates["clear"]]).read_bytes()


def test_weights_make_all_members_equal():
    assert weights([1, 2, 3]) == [6, 3, 2]
    assert weights([4, 4]) == [1, 1]


def test_a_sum_has_room_for_so_many_models_and_no_more():
    assert MOST_IN_REGION == fixedpoint.MAX_MODELS
    check_room([MOST_IN_REGION - 1, 1], "sites")
    check_room([3, 3, 3], "members")
    with pytest.raises(MergeRangeError, match="would be 16385 models in one sum"):
        check_room([MOST_IN_REGION, 1], "sites")
    with pytest.raises(MergeRangeError, match="weigh by sites"):
        check_room([97, 89, 83], "members")
