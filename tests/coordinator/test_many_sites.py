"""Two thousand sites, one after the other, through the coordinator's own path."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from coordinator.arrivals import Arrival
from coordinator.folding import fold
from coordinator.merge.midpoint import pooled_statistics, write_midpoint
from coordinator.merge.state import MergeState, write_sum
from protos import boundary, signing
from protos import campaign as campaigns
from protos.campaign import Keys
from protos.digest import file_digest
from protos.manifest import COUNT, MEAN, VAR
from protos.rules import Rules
from protos.tensorfile import TensorFile, write_arrays

SITES, BATCH, REGIONS = 2000, 50, 40
pytestmark = pytest.mark.timeout(200)


def model_of(number: int) -> dict[str, np.ndarray]:
    dice = np.random.default_rng(number)
    return {
        "head.weight": dice.standard_normal((3, 5)).astype(np.float32) * np.float32(10.0) ** dice.integers(-6, 2),
        f"norm.{COUNT}": np.array(dice.integers(1, 5000)),
        f"norm.{MEAN}": dice.standard_normal(3, dtype=np.float32),
        f"norm.{VAR}": dice.random(3, dtype=np.float32),
    }


def key_of(number: int) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"%d" % number).digest())


def keys_of(number: int) -> Keys:
    agreement = X25519PrivateKey.from_private_bytes(key_of(number).private_bytes_raw())
    return Keys(signing.public_bytes(key_of(number)), signing.public_bytes(agreement))


class Many:
    """A campaign of many sites, whose updates arrive when they are asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        base = folder / "base.safetensors"
        write_arrays(base, model_of(0), {"model": "random", "classes": "5"})
        self.base = TensorFile(base)
        self.digest = file_digest(self.base)
        keys = {self.name(i): keys_of(i) for i in range(1, SITES + 1)}
        self.campaign = campaigns.new_campaign(
            name="many",
            base_digest=self.digest,
            model="random",
            classes=5,
            members=keys,
            rules=Rules(),
            coordinator=keys_of(0),
        )

    @staticmethod
    def name(number: int) -> str:
        return f"site-{number:04d}"

    def arrivals(self, numbers: range) -> Iterator[Arrival]:
        for number in numbers:
            state, site = model_of(number), self.name(number)
            header = boundary.describe(state, self.base.manifest, self.campaign, site)
            envelope = signing.signed(signing.UPDATE, header, key_of(number))
            arrival = Arrival(self.folder / "arrivals" / site, self.campaign, self.base.manifest, site, envelope)
            names = list(self.base.manifest.parameters)
            arrival.take(b"".join(state[name].tobytes() for name in names), names)
            yield arrival

    def fold(self, state: Path, numbers: range) -> Path:
        waiting = self.arrivals(numbers)
        while batch := list(islice(waiting, BATCH)):
            fold(state, self.base.manifest, self.digest, batch)
            for arrival in batch:
                arrival.forget()
        return state

    def sum(self, target: Path, states: list[Path]) -> Path:
        opened = [MergeState(path) for path in states]
        write_sum(target, self.base.manifest, self.digest, [(1, state) for state in opened])
        for state in opened:
            state.close()
        return target

    def merged(self, path: Path) -> bytes:
        with MergeState(path) as state:
            terms = [(1, state)]
            target = path.with_suffix(".merged")
            write_midpoint(target, self.base, terms, pooled_statistics(terms, self.base.manifest), {})
        return target.read_bytes()


def test_2000_sites_are_folded_one_batch_at_a_time_into_the_bits_of_a_tree_of_regions(tmp_path):
    many = Many(tmp_path)
    share = SITES // REGIONS

    flat = many.fold(tmp_path / "flat", range(1, SITES + 1))
    regions = [
        many.fold(tmp_path / f"region-{i}", range(1 + i * share, 1 + (i + 1) * share)) for i in range(REGIONS)
    ]
    countries = [many.sum(tmp_path / f"country-{i}", regions[i::4]) for i in range(4)]
    tree = many.sum(tmp_path / "tree", countries)

    with MergeState(flat) as state:
        assert state.models == len(state.digests) == SITES
    assert tree.read_bytes() == flat.read_bytes()
    assert many.merged(tree) == many.merged(flat)
    assert not list((tmp_path / "arrivals").rglob("*.safetensors"))
    many.base.close()
