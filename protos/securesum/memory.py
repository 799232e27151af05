"""A site's state, as bytes: what it remembers from one message to the next."""

from __future__ import annotations

import hashlib
from typing import TypeVar

from protos import securesum_pb2 as pb
from protos import signing
from protos.digest import DIGEST_BYTES
from protos.errors import SecureSumError, UpdateRefusedError
from protos.securesum import roster as rosters
from protos.securesum.agreement import Agreement
from protos.securesum.keys import Secrets
from protos.securesum.site import Advertised, AnyState, Confirmed, Held, Masked, Revealed, Shared

S = TypeVar("S", Advertised, Shared, Masked, Confirmed, Revealed)

_STAGES: dict[type[AnyState], pb.SiteState.Stage] = {
    Advertised: pb.SiteState.STAGE_ADVERTISED,
    Shared: pb.SiteState.STAGE_SHARED,
    Masked: pb.SiteState.STAGE_MASKED,
    Confirmed: pb.SiteState.STAGE_CONFIRMED,
    Revealed: pb.SiteState.STAGE_REVEALED,
}
_NAMES = {kind: kind.__name__.lower() for kind in _STAGES}


def dump(state: AnyState) -> bytes:
    """Write a state down, after a digest of it. It holds secrets: only the site may read it (mode 0600)."""
    message = pb.SiteState(
        stage=_STAGES[type(state)], agreement=state.agreement.message(), site=state.site, spent=state.spent
    )
    if isinstance(state, Advertised | Shared | Masked):
        own = state.secrets
        message.mask_secret, message.share_secret, message.seed = own.mask_key, own.share_key, own.seed
    if isinstance(state, Shared | Masked | Confirmed):
        message.roster.CopyFrom(state.roster.message)
        every = {state.site: state.held} if isinstance(state, Shared) else state.held
        for site, held in every.items():
            message.held.add(site=site, seed=held.seed, mask_key=held.mask_key)
    if isinstance(state, Masked):
        message.update = state.update
    if isinstance(state, Confirmed):
        message.survivors.extend(state.survivors)
    payload = signing.encode(message)
    return hashlib.sha256(payload).digest() + payload


def load(content: bytes) -> AnyState:
    """Read what `dump` wrote.

    Raises:
        SecureSumError: It is damaged, or no state of this version.

    """
    seal, payload = content[:DIGEST_BYTES], content[DIGEST_BYTES:]
    if hashlib.sha256(payload).digest() != seal:
        raise SecureSumError("the secure sum's state is not as it was written", _DAMAGED)
    try:
        message = signing.decode(payload, pb.SiteState, "the secure sum's state")
    except UpdateRefusedError as error:
        raise SecureSumError(error.what, _DAMAGED) from None
    agreement, site, spent = Agreement.read(message.agreement), message.site, tuple(message.spent)
    if message.stage == pb.SiteState.STAGE_REVEALED:
        return Revealed(agreement, site, spent)
    secrets = Secrets(message.mask_secret, message.share_secret, message.seed)
    if message.stage == pb.SiteState.STAGE_ADVERTISED:
        return Advertised(agreement, site, spent, secrets)
    roster = rosters.check(message.roster, agreement)
    held = {one.site: Held(one.seed, one.mask_key) for one in message.held}
    match message.stage:
        case pb.SiteState.STAGE_SHARED if site in held:
            return Shared(agreement, site, spent, secrets, roster, held[site])
        case pb.SiteState.STAGE_MASKED:
            return Masked(agreement, site, spent, secrets, roster, held, message.update)
        case pb.SiteState.STAGE_CONFIRMED:
            return Confirmed(agreement, site, spent, roster, held, tuple(message.survivors))
    raise SecureSumError("the secure sum's state is of no known stage", _DAMAGED)


def expect(state: AnyState | None, kind: type[S], agreement: Agreement) -> S:
    """Return a state if it is of the stage, and of the sum, that a request is about.

    Raises:
        SecureSumError: It is not: the request is of another sum, was answered before, or comes too early.

    """
    if state is None or state.agreement != agreement:
        raise SecureSumError("this site takes part in another secure sum, or in none", "advertise keys first")
    if not isinstance(state, kind):
        raise SecureSumError(
            f"site {state.site} is at stage {_NAMES[type(state)]} of this secure sum, not {_NAMES[kind]}",
            "a stage is done once and in its turn: a request was played back, or came too late",
            site=state.site,
        )
    return state


_DAMAGED = "it is damaged or of another version: start another secure sum"
