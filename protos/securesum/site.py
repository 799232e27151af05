"""A site's side: one class for each stage, each of which can do nothing but go on to the next.

A state is a frozen value. Flower starts a new process for each message, so it is written down between two of them
(`dump`, `load`); it holds secrets, so the file must be the site's own. The rules for whoever keeps it:

- Write the new state durably *before* the reply leaves, and the reply with it. If it is lost, it may be said again
  to who asks the very same; no stage is done twice, whether the same is asked or something else.
- Keep one state for each campaign, under a lock, and hand it to `begin` at the next attempt. Nonces are not used
  twice, and a site reveals once for a campaign: two sums of almost the same sites would differ by one's update.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from protos import securesum_pb2 as pb
from protos.digest import DIGEST_BYTES
from protos.errors import SecureSumError
from protos.securesum import keys as derive
from protos.securesum import roster as rosters
from protos.securesum import sharing
from protos.securesum.agreement import Agreement
from protos.securesum.keys import Secrets
from protos.securesum.keystream import Mask
from protos.securesum.layout import Layout
from protos.securesum.masking import Masker
from protos.securesum.messages import LIED, ascending, enough, hear, same_roster, say
from protos.securesum.roster import Roster
from protos.update_pb2 import Signed

_AGAIN = "a site takes part in each stage once: start another secure sum"


@dataclass(frozen=True)
class Held:
    """A site's shares of some site's seed and mask key, 32 bytes each."""

    seed: bytes = field(repr=False)
    mask_key: bytes = field(repr=False)


@dataclass(frozen=True)
class _State:
    agreement: Agreement
    site: str
    spent: tuple[bytes, ...]


@dataclass(frozen=True)
class Advertised(_State):
    """Stage 0 is done: the keys are out. The roster comes next."""

    secrets: Secrets

    def share(self, message: pb.Roster, key: Ed25519PrivateKey) -> tuple[Shared, Signed]:
        """Check the roster and share the two secrets among all on it.

        Args:
            message: The roster.
            key: The site's signing key.

        Returns:
            The next state, and `Shares` for the coordinator.

        Raises:
            SecureSumError: The roster is too short or forged, or this site's keys on it are not the ones it made.
            SignatureError: A member's keys were not signed by it.

        """
        roster = rosters.check(message, self.agreement)
        own = roster.keys.get(self.site)
        if own is None or own != _keys(self):
            raise SecureSumError(f"site {self.site}: the roster doesn't hold the keys that this site made", LIED)
        made = {
            secret: sharing.split(getattr(self.secrets, secret), self.agreement.threshold, self.agreement.sites)
            for secret in ("seed", "mask_key")
        }
        reply = pb.Shares(agreement=self.agreement.digest, site=self.site, roster=roster.digest)
        for site, theirs in roster.keys.items():
            if site != self.site:
                content = made["seed"][site] + made["mask_key"][site]
                sealed = derive.seal(
                    content, self.secrets.share_key, theirs.share_key, roster.digest, self.site, site
                )
                reply.sealed.add(site=site, content=sealed)
        held = Held(made["seed"][self.site], made["mask_key"][self.site])
        return Shared(self.agreement, self.site, self.spent, self.secrets, roster, held), say(reply, key)


@dataclass(frozen=True)
class Shared(_State):
    """Stage 1 is done: the secrets are shared. The others' shares come next."""

    secrets: Secrets
    roster: Roster
    held: Held

    def receive(self, delivery: pb.Delivery, update: bytes) -> Masked:
        """Take in the others' shares, which fixes with whom masks are shared, and settle on the update.

        Args:
            delivery: Their shares.
            update: Digest of the update that will be masked, 32 bytes. Another one under the same masks would
                give away the difference, so it is a part of the state.

        Raises:
            SecureSumError: Too few sites shared, one is not on the roster, or its shares don't open, as when it
                was told another roster.

        """
        assert len(update) == DIGEST_BYTES
        senders = ascending((sealed.site for sealed in delivery.sealed), "the delivery")
        if strangers := [s for s in senders if s not in self.roster.keys or s == self.site]:
            raise SecureSumError(
                f"site {self.site}: shares came from {strangers[0]}, which is not another on the roster", LIED
            )
        enough((*senders, self.site), self.agreement, "shared their secrets")
        held = {self.site: self.held}
        for sealed in delivery.sealed:
            content = derive.unseal(
                sealed.content,
                self.secrets.share_key,
                self.roster.keys[sealed.site].share_key,
                self.roster.digest,
                sealed.site,
                self.site,
            )
            if len(content) != 2 * sharing.SHARE_BYTES:
                raise SecureSumError(f"site {sealed.site} sent shares of a wrong length", site=sealed.site)
            held[sealed.site] = Held(content[: sharing.SHARE_BYTES], content[sharing.SHARE_BYTES :])
        shares = {site: held[site] for site in sorted(held)}
        return Masked(self.agreement, self.site, self.spent, self.secrets, self.roster, shares, update)


@dataclass(frozen=True)
class Masked(_State):
    """Stage 2: masks are settled, values may leave under them. Who survived comes next."""

    secrets: Secrets
    roster: Roster
    held: Mapping[str, Held]
    update: bytes

    @property
    def sharers(self) -> tuple[str, ...]:
        """With whom it shares masks, itself included; ascending."""
        return tuple(self.held)

    def masker(self, layout: Layout, update: bytes) -> Masker:
        """Return what masks the update.

        Args:
            layout: The base's vectors.
            update: The update's digest.

        Raises:
            SecureSumError: It is not the update that this sum was begun with.

        """
        if update != self.update:
            raise SecureSumError(
                f"site {self.site}: the update changed since its masks were made",
                "two updates under one mask would give away their difference: start another secure sum",
            )
        return Masker(self._masks(), layout, self.site)

    def statement(self, digests: Mapping[str, bytes], key: Ed25519PrivateKey) -> Signed:
        """Return `Masked`, signed: what vouches for the masked values.

        Args:
            digests: SHA-256 of each vector's masked words by key, in the layout's order.
            key: The site's signing key.

        """
        vectors = [pb.Vector(key=name, sha256=digest) for name, digest in digests.items()]
        return say(
            pb.Masked(
                agreement=self.agreement.digest,
                site=self.site,
                roster=self.roster.digest,
                sharers=self.sharers,
                vectors=vectors,
            ),
            key,
        )

    def confirm(self, message: pb.Survivors, key: Ed25519PrivateKey) -> tuple[Confirmed, Signed]:
        """Sign for the survivors as this site was told them.

        Returns:
            The next state, and `Confirmation` for the coordinator.

        Raises:
            SecureSumError: They are too few, one didn't share its secrets, or this site is not among them.

        """
        survivors = ascending(message.sites, "the list of survivors")
        if strangers := [site for site in survivors if site not in self.held]:
            raise SecureSumError(
                f"site {self.site}: {strangers[0]} can't have survived, it never shared its secrets", LIED
            )
        if self.site not in survivors:
            raise SecureSumError(
                f"site {self.site}: this site is said to have dropped out, so it reveals nothing", _AGAIN
            )
        enough(survivors, self.agreement, "sent their masked values")
        reply = pb.Confirmation(
            agreement=self.agreement.digest,
            site=self.site,
            roster=self.roster.digest,
            sharers=self.sharers,
            survivors=survivors,
        )
        state = Confirmed(self.agreement, self.site, self.spent, self.roster, self.held, survivors)
        return state, say(reply, key)

    def _masks(self) -> list[Mask]:
        roster, own = self.roster, self.secrets
        masks = [Mask(derive.self_mask(own.seed, roster.digest, self.site), 1)]
        for site in self.sharers:
            if site != self.site:
                pair = derive.pair_mask(own.mask_key, roster.keys[site].mask_key, roster.digest, (self.site, site))
                masks.append(Mask(pair, pair_sign(self.site, site)))
        return masks


@dataclass(frozen=True)
class Confirmed(_State):
    """Stage 3 is done: this site signed for a set of survivors. The others' signatures come next.

    Its own secrets are gone from here on: others hold the shares of them.
    """

    roster: Roster
    held: Mapping[str, Held]
    survivors: tuple[str, ...]

    def reveal(self, message: pb.Confirmations, key: Ed25519PrivateKey) -> tuple[Revealed, Signed]:
        """Check that enough survivors were told the same, and reveal shares: one secret of each site, never both.

        Returns:
            The last state, and `Reveal` for the coordinator.

        Raises:
            SecureSumError: Too few confirmed, or one was told something else.
            SignatureError: A confirmation was not signed by its site.

        """
        sites = ascending((said.site for said in message.confirmations), "the list of confirmations")
        for said in message.confirmations:
            found = hear(said.envelope, pb.Confirmation, self.agreement, said.site)
            same_roster(found.roster, self.roster.digest, said.site)
            if (tuple(found.sharers), tuple(found.survivors)) != (tuple(self.held), self.survivors):
                raise SecureSumError(
                    f"site {said.site} was told other survivors than site {self.site}; nothing was revealed",
                    LIED,
                    site=said.site,
                )
            if said.site not in self.survivors:
                raise SecureSumError(f"site {said.site} confirmed, but is no survivor", LIED, site=said.site)
        enough(sites, self.agreement, "confirmed the survivors")
        reply = pb.Reveal(agreement=self.agreement.digest, site=self.site, roster=self.roster.digest)
        for site, held in self.held.items():
            if site in self.survivors:
                reply.seeds.add(site=site, share=held.seed)
            else:
                reply.mask_keys.add(site=site, share=held.mask_key)
        return Revealed(self.agreement, self.site, self.spent), say(reply, key)


@dataclass(frozen=True)
class Revealed(_State):
    """The end: nothing secret is left, and this campaign's sum is done for this site."""


AnyState = Advertised | Shared | Masked | Confirmed | Revealed


def begin(
    agreement: Agreement, site: str, key: Ed25519PrivateKey, before: AnyState | None = None
) -> tuple[Advertised, Signed]:
    """Stage 0: draw secrets for a new sum, and advertise the public keys.

    Args:
        agreement: From the campaign that the site joined, and the coordinator's nonce.
        site: This site.
        key: Its signing key.
        before: Its state of the campaign's last attempt, if there was one.

    Returns:
        The first state, and `Keys` for the coordinator.

    Raises:
        SecureSumError: The site is no member, or the nonce was used before, or the site revealed shares for this
            campaign already.

    """
    if site not in agreement.members:
        raise SecureSumError(
            f"site {site} is no member of the campaign", "join it to a campaign that lists it", site=site
        )
    spent: tuple[bytes, ...] = ()
    if before is not None:
        if before.agreement.campaign != agreement.campaign or before.site != site:
            raise SecureSumError(f"site {site}: the state of the last secure sum is of another campaign or site")
        spent = (*before.spent, before.agreement.nonce)
        if isinstance(before, Revealed):
            raise SecureSumError(
                f"site {site} revealed its shares for this campaign already",
                "a second sum of almost the same sites would give away the difference: create a new campaign",
                site=site,
            )
        if agreement.nonce in spent:
            raise SecureSumError(f"site {site}: this secure sum was begun before", _AGAIN, site=site)
    state = Advertised(agreement, site, spent, Secrets.draw())
    return state, say(_keys(state), key)


def pair_sign(site: str, other: str) -> int:
    """Return whether a site adds (+1) or takes away (−1) the mask that it shares with another."""
    return 1 if site < other else -1


def _keys(state: Advertised) -> pb.Keys:
    own = state.secrets
    return pb.Keys(
        agreement=state.agreement.digest,
        site=state.site,
        mask_key=derive.public(own.mask_key),
        share_key=derive.public(own.share_key),
        commitment=derive.commitment(own.seed, state.agreement.digest, state.site),
    )
