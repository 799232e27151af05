"""The coordinator's side: one class for each stage. It takes in what sites say, and closes the stage.

A state is a frozen value; `take` returns the next, so a message that is refused changes nothing. Each stage is
closed when all have answered or patience is over, and not with fewer sites than the threshold. All that was taken
in, in its order, leads to the same state again: whoever keeps that can go on after the process has ended.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from protos import securesum_pb2 as pb
from protos.digest import DIGEST_BYTES
from protos.errors import SecureSumError
from protos.securesum import keys as derive
from protos.securesum import roster as rosters
from protos.securesum import sharing
from protos.securesum.agreement import Agreement
from protos.securesum.keystream import Mask
from protos.securesum.layout import Layout
from protos.securesum.messages import enough, hear, same_roster
from protos.securesum.roster import Roster
from protos.securesum.site import pair_sign
from protos.update_pb2 import Signed

V = TypeVar("V")
_SEALED_BYTES = derive.sealed_bytes(2 * sharing.SHARE_BYTES)


@dataclass(frozen=True)
class Advertising:
    """Stage 0: taking in keys."""

    agreement: Agreement
    said: Mapping[str, Signed] = field(default_factory=dict)

    def take(self, site: str, envelope: Signed) -> Advertising:
        """Take in a site's `Keys`.

        Raises:
            SecureSumError: The site is no member, said so before, or its keys are for another sum.
            SignatureError: They were not signed by it.

        """
        rosters.check_keys(hear(envelope, pb.Keys, self.agreement, site))
        return replace(self, said=_with(self.said, site, envelope))

    def close(self) -> tuple[Sharing, pb.Roster]:
        """Fix the roster; it goes to each site on it.

        Raises:
            SecureSumError: Too few sites are on it, or two have the same key.

        """
        roster = rosters.check(pb.Roster(keys=_listed(self.said)), self.agreement)
        return Sharing(self.agreement, roster), roster.message


@dataclass(frozen=True)
class Sharing:
    """Stage 1: taking in encrypted shares."""

    agreement: Agreement
    roster: Roster
    sealed: Mapping[str, Mapping[str, bytes]] = field(default_factory=dict, repr=False)

    def take(self, site: str, envelope: Signed) -> Sharing:
        """Take in a site's `Shares`.

        Raises:
            SecureSumError: They are not for all others on this roster, or came before.
            SignatureError: They were not signed by the site.

        """
        shares = hear(envelope, pb.Shares, self.agreement, site)
        same_roster(shares.roster, self.roster.digest, site)
        wanted = [other for other in self.roster.sites if other != site]
        if [sealed.site for sealed in shares.sealed] != wanted or any(
            len(sealed.content) != _SEALED_BYTES for sealed in shares.sealed
        ):
            raise SecureSumError(f"site {site}: its shares are not for the sites on the roster", _OTHER, site=site)
        found = {sealed.site: sealed.content for sealed in shares.sealed}
        return replace(self, sealed=_with(self.sealed, site, found))

    def close(self) -> tuple[Masking, dict[str, pb.Delivery]]:
        """Fix who shares masks, and sort the shares by whom they are for.

        Raises:
            SecureSumError: Too few sites shared.

        """
        sharers = _settled(self.sealed, self.agreement, "shared their secrets")
        deliveries = {
            to: pb.Delivery(
                sealed=[pb.Sealed(site=site, content=self.sealed[site][to]) for site in sharers if site != to]
            )
            for to in sharers
        }
        return Masking(self.agreement, self.roster, sharers), deliveries


@dataclass(frozen=True)
class Masking:
    """Stage 2: taking in what goes with masked values. The values themselves are for a `MaskedSum`."""

    agreement: Agreement
    roster: Roster
    sharers: tuple[str, ...]
    arrived: Mapping[str, pb.Masked] = field(default_factory=dict, repr=False)

    def take(self, site: str, envelope: Signed, layout: Layout) -> Masking:
        """Take in a site's `Masked`, once all of its masked values are there.

        Raises:
            SecureSumError: It is not about this roster, these sharers or these vectors, or came before.
            SignatureError: It was not signed by the site.

        """
        masked = self.check(site, envelope, layout)
        return replace(self, arrived=_with(self.arrived, site, masked))

    def check(self, site: str, envelope: Signed, layout: Layout) -> pb.Masked:
        """Check a site's `Masked`, whose digests the masked values are then compared with; raises as `take`."""
        masked = hear(envelope, pb.Masked, self.agreement, site)
        same_roster(masked.roster, self.roster.digest, site)
        if tuple(masked.sharers) != self.sharers or site not in self.sharers:
            raise SecureSumError(f"site {site} masked its values for other sites than these", _OTHER, site=site)
        if [vector.key for vector in masked.vectors] != list(layout) or any(
            len(vector.sha256) != DIGEST_BYTES for vector in masked.vectors
        ):
            raise SecureSumError(f"site {site}: its masked vectors are not the base's", _OTHER, site=site)
        return masked

    def close(self) -> tuple[Confirming, pb.Survivors]:
        """Fix whose values are summed.

        Raises:
            SecureSumError: Too few masked values arrived.

        """
        survivors = _settled(self.arrived, self.agreement, "sent their masked values")
        state = Confirming(self.agreement, self.roster, self.sharers, survivors)
        return state, pb.Survivors(sites=survivors)


@dataclass(frozen=True)
class Confirming:
    """Stage 3: taking in signatures for the set of survivors."""

    agreement: Agreement
    roster: Roster
    sharers: tuple[str, ...]
    survivors: tuple[str, ...]
    said: Mapping[str, Signed] = field(default_factory=dict)

    def take(self, site: str, envelope: Signed) -> Confirming:
        """Take in a survivor's `Confirmation`.

        Raises:
            SecureSumError: It is about other sets, or came before.
            SignatureError: It was not signed by the site.

        """
        found = hear(envelope, pb.Confirmation, self.agreement, site)
        same_roster(found.roster, self.roster.digest, site)
        sets = (tuple(found.sharers), tuple(found.survivors))
        if sets != (self.sharers, self.survivors) or site not in self.survivors:
            raise SecureSumError(f"site {site} confirmed other survivors than these", _OTHER, site=site)
        return replace(self, said=_with(self.said, site, envelope))

    def close(self) -> tuple[Revealing, pb.Confirmations]:
        """Gather the signatures; they go to each site that confirmed.

        Raises:
            SecureSumError: Too few survivors confirmed.

        """
        _settled(self.said, self.agreement, "confirmed the survivors")
        state = Revealing(self.agreement, self.roster, self.sharers, self.survivors)
        return state, pb.Confirmations(confirmations=_listed(self.said))


@dataclass(frozen=True)
class Revealing:
    """Stage 4: taking in shares, until the masks that are left in the sum can be computed."""

    agreement: Agreement
    roster: Roster
    sharers: tuple[str, ...]
    survivors: tuple[str, ...]
    shares: Mapping[str, Mapping[str, bytes]] = field(default_factory=dict, repr=False)

    @property
    def dropped(self) -> tuple[str, ...]:
        """Sites whose masks are in the sum, but not their values."""
        return tuple(site for site in self.sharers if site not in self.survivors)

    def take(self, site: str, envelope: Signed) -> Revealing:
        """Take in a survivor's `Reveal`.

        Raises:
            SecureSumError: It holds other shares than were asked for, or came before.
            SignatureError: It was not signed by the site.

        """
        found = hear(envelope, pb.Reveal, self.agreement, site)
        same_roster(found.roster, self.roster.digest, site)
        owners = tuple(share.site for share in found.seeds), tuple(share.site for share in found.mask_keys)
        every = [*found.seeds, *found.mask_keys]
        if (
            site not in self.survivors
            or owners != (self.survivors, self.dropped)
            or any(len(share.share) != sharing.SHARE_BYTES for share in every)
        ):
            raise SecureSumError(
                f"site {site} revealed other shares than those that are needed", _OTHER, site=site
            )
        return replace(self, shares=_with(self.shares, site, {share.site: share.share for share in every}))

    def close(self) -> tuple[Mask, ...]:
        """Put the secrets together: return the masks that are in the sum of the survivors' masked values.

        Of pairwise masks between survivors one adds what the other takes away. What stays is each survivor's own
        mask, and those that survivors share with sites that dropped out.

        Raises:
            SecureSumError: Too few revealed, or shares don't fit what their owner committed to.

        """
        _settled(self.shares, self.agreement, "revealed their shares")
        masks = [Mask(derive.self_mask(self._seed(site), self.roster.digest, site), 1) for site in self.survivors]
        for dropped in self.dropped:
            private = self._mask_key(dropped)
            for site in self.survivors:
                pair = derive.pair_mask(
                    private, self.roster.keys[site].mask_key, self.roster.digest, (site, dropped)
                )
                masks.append(Mask(pair, pair_sign(site, dropped)))
        return tuple(masks)

    def _seed(self, owner: str) -> bytes:
        wanted, agreement = self.roster.keys[owner].commitment, self.agreement.digest
        return self._combined(
            owner, lambda seed: derive.commitment(seed, agreement, owner) == wanted, "the seed of site"
        )

    def _mask_key(self, owner: str) -> bytes:
        wanted = self.roster.keys[owner].mask_key
        return self._combined(owner, lambda private: derive.public(private) == wanted, "the mask key of site")

    def _combined(self, owner: str, right: Callable[[bytes], bool], what: str) -> bytes:
        shares = {site: found[owner] for site, found in self.shares.items()}
        return sharing.combine(shares, self.agreement.threshold, self.agreement.sites, right, f"{what} {owner}")


_OTHER = "the site and the coordinator disagree: start another secure sum, without this site if it happens again"


def _with(found: Mapping[str, V], site: str, value: V) -> dict[str, V]:
    if site in found:
        raise SecureSumError(f"site {site} answered this stage before", "each site is heard once", site=site)
    return {**found, site: value}


def _settled(found: Mapping[str, object], agreement: Agreement, what: str) -> tuple[str, ...]:
    sites = tuple(sorted(found))
    enough(sites, agreement, what)
    return sites


def _listed(said: Mapping[str, Signed]) -> list[pb.Said]:
    return [pb.Said(site=site, envelope=said[site]) for site in sorted(said)]
