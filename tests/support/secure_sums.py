"""The parties of a secure sum, without a campaign around them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from random_models import Model, digest_of, manifest_of, random_model, statistics_of

from protos import securesum_pb2, signing
from protos.securesum import coordinator as collecting
from protos.securesum import memory
from protos.securesum import site as securesum
from protos.securesum.agreement import Agreement, default_threshold
from protos.securesum.layout import Layout, layout
from protos.securesum.total import MaskedSum, Read
from protos.update_pb2 import Signed

S = TypeVar("S", bound=securesum.AnyState)


@dataclass
class SecureSum:
    """A coordinator and the sites of one secure sum. Between messages each site is written down and read again.

    Attributes:
        agreement: Whom and how many it takes.
        keys: The sites' signing keys.
        models: The sites' models.
        states: What each site remembers.
        words: What each site sent, masked.

    """

    agreement: Agreement
    keys: dict[str, Ed25519PrivateKey]
    models: dict[str, Model]
    states: dict[str, bytes] = field(default_factory=dict)
    words: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)

    @classmethod
    def of(cls, models: Mapping[str, Model], threshold: int = 0, nonce: bytes = b"n" * 16) -> SecureSum:
        """Begin among sites with fixed keys and these models."""
        keys = {site: Ed25519PrivateKey.from_private_bytes(digest_of(site)) for site in sorted(models)}
        members = {site: signing.public_bytes(key) for site, key in keys.items()}
        agreement = Agreement(digest_of("the campaign"), nonce, members, threshold or default_threshold(len(keys)))
        return cls(agreement, keys, dict(models))

    @property
    def layout(self) -> Layout:
        return layout(manifest_of(next(iter(self.models.values()))))

    def update(self, site: str) -> bytes:
        return digest_of(f"update of {site}")

    def at(self, site: str, stage: type[S]) -> S:
        return memory.expect(memory.load(self.states[site]), stage, self.agreement)

    def keep(self, site: str, done: tuple[securesum.AnyState, Signed]) -> Signed:
        self.states[site] = memory.dump(done[0])
        return done[1]

    # What a site does when it is asked.

    def begin(self, site: str) -> Signed:
        return self.keep(site, securesum.begin(self.agreement, site, self.keys[site]))

    def share(self, site: str, roster: securesum_pb2.Roster) -> Signed:
        return self.keep(site, self.at(site, securesum.Advertised).share(roster, self.keys[site]))

    def mask(self, site: str, delivery: securesum_pb2.Delivery) -> tuple[Signed, dict[str, np.ndarray]]:
        self.states[site] = memory.dump(self.at(site, securesum.Shared).receive(delivery, self.update(site)))
        return self.masked(site)

    def masked(self, site: str) -> tuple[Signed, dict[str, np.ndarray]]:
        """Mask a site's model, in pieces; the state stays as it is."""
        state = self.at(site, securesum.Masked)
        masker, model = state.masker(self.layout, self.update(site)), self.models[site]
        manifest, found = manifest_of(model), {}
        for name, spec in manifest.parameters.items():
            values, half = spec.dtype.widen(model[name]).reshape(-1), spec.size // 2
            pieces = [masker.parameter(name, 0, values[:half]), masker.parameter(name, half, values[half:])]
            found[f"sum:{name}"] = np.concatenate(pieces)
        for layer, statistics in statistics_of(model).items():
            found |= masker.statistics(layer, statistics)
        digests = {key: hashlib.sha256(found[key]).digest() for key in self.layout}
        return state.statement(digests, self.keys[site]), found

    def confirm(self, site: str, survivors: securesum_pb2.Survivors) -> Signed:
        return self.keep(site, self.at(site, securesum.Masked).confirm(survivors, self.keys[site]))

    def reveal(self, site: str, confirmations: securesum_pb2.Confirmations) -> Signed:
        return self.keep(site, self.at(site, securesum.Confirmed).reveal(confirmations, self.keys[site]))

    # What the coordinator does; each stage with those that answer, in their order.

    def sharing(self, sites: Iterable[str]) -> tuple[collecting.Sharing, securesum_pb2.Roster]:
        state = collecting.Advertising(self.agreement)
        for site in sites:
            state = state.take(site, self.begin(site))
        return state.close()

    def masking(
        self, state: collecting.Sharing, roster: securesum_pb2.Roster, sites: Iterable[str]
    ) -> tuple[collecting.Masking, dict[str, securesum_pb2.Delivery]]:
        for site in sites:
            state = state.take(site, self.share(site, roster))
        return state.close()

    def confirming(
        self,
        state: collecting.Masking,
        deliveries: Mapping[str, securesum_pb2.Delivery],
        sites: Iterable[str],
    ) -> tuple[collecting.Confirming, securesum_pb2.Survivors]:
        for site in sites:
            header, self.words[site] = self.mask(site, deliveries[site])
            state = state.take(site, header, self.layout)
        return state.close()

    def revealing(
        self, state: collecting.Confirming, survivors: securesum_pb2.Survivors, sites: Iterable[str]
    ) -> tuple[collecting.Revealing, securesum_pb2.Confirmations]:
        for site in sites:
            state = state.take(site, self.confirm(site, survivors))
        return state.close()

    def summed(self, state: collecting.Revealing) -> MaskedSum:
        """Take the masks away."""
        return MaskedSum(self.layout, self.reads(state.survivors), state.close())

    def reads(self, sites: Iterable[str]) -> list[Read]:
        """Return what reads sites' masked words where they lie."""
        return [
            lambda vector, start, stop, words=self.words[site]: words[vector.key][
                start * vector.width : stop * vector.width
            ]
            for site in sites
        ]

    def run(self, *answering: Iterable[str]) -> tuple[MaskedSum, tuple[str, ...]]:
        """Play all five stages, each with those that answer in it; return the sum and whose it is."""
        stages = [list(sites) for sites in answering or [self.agreement.sites] * 5]
        masking, deliveries = self.masking(*self.sharing(stages[0]), stages[1])
        confirming, survivors = self.confirming(masking, deliveries, stages[2])
        state, confirmations = self.revealing(confirming, survivors, stages[3])
        for site in stages[4]:
            state = state.take(site, self.reveal(site, confirmations))
        return self.summed(state), state.survivors


@pytest.fixture(scope="session")
def secure_sum() -> Callable[..., SecureSum]:
    """Return a function that begins a secure sum: of named models, or of so many random ones."""

    def make(models: int | Mapping[str, Model] = 3, threshold: int = 0, **options: bytes) -> SecureSum:
        if isinstance(models, int):
            models = {f"site-{i}": random_model(i) for i in range(models)}
        return SecureSum.of(models, threshold, **options)

    return make
