"""What a site answers: one request in, one reply out, and a refusal with a reason where it can't.

The reasons are numbers. What exactly went wrong stays in the site's log, for its operator; an error's text can
hold a path, a file name or a value, and none of these may leave.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from client import acceptance, adapting
from client.adopting import adopt
from client.delivered import Delivered, ForbiddenError, NotDeliveredError
from client.freshness import StaleError
from client.joined import Joined, check_base
from client.measuring import measured
from client.outbox import Outbox
from client.settings import SCHEDULED
from client.site import Site
from client.summing import Summing
from protos import boundary, signing, update_pb2
from protos import messages_pb2 as pb
from protos.digest import sha256
from protos.errors import (
    AdaptationError,
    BaseMismatchError,
    ConfigurationError,
    DataError,
    ModelFileError,
    OnebasinError,
    PolicyError,
    SecureSumError,
    StorageError,
    UpdateRefusedError,
)
from protos.flower import PARAMETERS
from protos.rules import MEASURED, SECURE_SUM
from protos.tensorfile import TensorFile

Sets = Callable[[str], bytes | memoryview]
"""Looks up a set of parameters that came with a request."""
Answer = tuple[pb.Reply, dict[str, bytes]]
"""A reply, and the sets of parameters that go with it."""

log = logging.getLogger("onebasin.site")

_REASONS: list[tuple[type[OnebasinError], pb.Refusal.Reason]] = [
    (BaseMismatchError, pb.Refusal.REASON_BASE),
    (DataError, pb.Refusal.REASON_DATA),
    (StorageError, pb.Refusal.REASON_STORAGE),
    (PolicyError, pb.Refusal.REASON_NOT_ACCEPTED),
    (ForbiddenError, pb.Refusal.REASON_RULES),
    (NotDeliveredError, pb.Refusal.REASON_NOT_DELIVERED),
    (StaleError, pb.Refusal.REASON_STALE),
    (SecureSumError, pb.Refusal.REASON_SUM),
    (UpdateRefusedError, pb.Refusal.REASON_UPDATE),
    (ModelFileError, pb.Refusal.REASON_UPDATE),
    (AdaptationError, pb.Refusal.REASON_NOT_READY),
    (ConfigurationError, pb.Refusal.REASON_CONFIGURATION),
]
_WAITING = 600.0
"""Seconds that a site which waits for its schedule is taken to have left, at least."""
_STATES = {
    "idle": pb.Progress.STATE_IDLE,
    "adapting": pb.Progress.STATE_ADAPTING,
    "ready": pb.Progress.STATE_READY,
    "failed": pb.Progress.STATE_FAILED,
    "stopped": pb.Progress.STATE_STOPPED,
    "cleared": pb.Progress.STATE_READY,  # nothing is left to be stopped
}


class RefusedRequestError(OnebasinError):
    """The site does not answer this request, for a reason that the coordinator may know."""

    def __init__(self, what: str, reason: pb.Refusal.Reason) -> None:
        super().__init__(what)
        self.reason = reason


def answer(site: Site, request: pb.Request, node_id: int, sets: Sets) -> Answer:
    """Answer a request. Never raises: whatever goes wrong becomes a refusal and a line in the log.

    Nothing but a refusal leaves that is not in the audit log.
    """
    received = 0

    def counted(name: str) -> bytes | memoryview:
        nonlocal received
        came = sets(name)
        received += len(came)
        return came

    reply, content = _tried(site, request, node_id, counted)
    try:
        _note(site, request, reply, content, received)
    except Exception as error:
        log.error("can't write the audit log: %s", error)
        return pb.Reply(refusal=pb.Refusal(reason=pb.Refusal.REASON_STORAGE, site=site.name)), {}
    return reply, content


def _note(site: Site, request: pb.Request, reply: pb.Reply, content: Mapping[str, bytes], received: int) -> None:
    """Write into the audit log what is about to leave, with sizes and digests; and how many bytes came."""
    raw = signing.encode(reply)
    fields: dict[str, Any] = {
        "campaign": request.campaign_digest.hex(),
        "request": request.WhichOneof("what"),
        "reply": reply.WhichOneof("what"),
        "bytes": len(raw),
        "sha256": sha256([raw]).hex(),
    }
    if reply.WhichOneof("what") == "refusal":
        fields["reason"] = pb.Refusal.Reason.Name(reply.refusal.reason).removeprefix("REASON_").lower()
    if reply.WhichOneof("what") == "header":
        fields["update"] = signing.digest(reply.header).hex()
    if reply.WhichOneof("what") == "measured":
        fields["measured"] = signing.digest(reply.measured).hex()
    if reply.WhichOneof("what") == "summed":
        fields["stage"] = request.sum.WhichOneof("given") or "keys"
    if request.submit.parameters:
        fields["parameters"] = len(request.submit.parameters)
    for name, sent in content.items():
        fields[f"{name}_bytes"], fields[f"{name}_sha256"] = len(sent), sha256([sent]).hex()
    if received:
        fields["received_bytes"] = received
    site.audit.note("refused" if "reason" in fields else "left", **fields)


def _tried(site: Site, request: pb.Request, node_id: int, sets: Sets) -> Answer:
    try:
        return _answer(site, request, node_id, sets)
    except Exception as error:
        return refused(site, request, error)


def refused(site: Site, request: pb.Request, error: Exception) -> Answer:
    """Refuse a request because of an error, which stays in the log."""
    if isinstance(error, OnebasinError):
        log.error("refused a request: %s", error)
    else:
        log.error("refused a request after an unexpected error", exc_info=error)
    tensor = ""
    if isinstance(error, UpdateRefusedError) and error.tensor:
        tensor = _known_tensor(site.joined(request.campaign_digest), error.tensor)
    member = error.site if isinstance(error, SecureSumError) else ""  # a name from the campaign
    found = pb.Refusal(reason=reason_for(error), site=site.name, tensor=tensor, member=member)
    return pb.Reply(refusal=found), {}


def reason_for(error: Exception) -> pb.Refusal.Reason:
    """Return the number that stands for an error."""
    if isinstance(error, RefusedRequestError):
        return error.reason
    return next((reason for kind, reason in _REASONS if isinstance(error, kind)), pb.Refusal.REASON_INTERNAL)


def _answer(site: Site, request: pb.Request, node_id: int, sets: Sets) -> Answer:
    try:
        joined = site.joined(request.campaign_digest)
    except ConfigurationError as error:
        raise RefusedRequestError(error.what, pb.Refusal.REASON_CAMPAIGN) from error
    acceptance.check(joined)
    kind = request.WhichOneof("what")
    if kind in ("adapt", "progress", "submit", "sum") and Outbox(joined).cleared:
        raise RefusedRequestError("the update was merged, and cleared since", pb.Refusal.REASON_CLEARED)
    if kind == "hello":
        return pb.Reply(hello=_hello(joined, request.hello, node_id)), {}
    if kind == "adapt":
        if joined.site.settings.resources.adapting != SCHEDULED and not joined.is_region:
            adapting.start(joined)
        return pb.Reply(progress=progress(joined)), {}
    if kind == "cancel":
        adapting.stop(joined)
        return pb.Reply(progress=progress(joined)), {}
    if kind == "progress":
        return pb.Reply(progress=progress(joined)), {}
    if kind == "submit":
        return _submit(joined, request.submit)
    if kind == "sum":
        return pb.Reply(summed=_sum(joined, request.sum)), {}
    if kind in ("evaluate", "measure") and joined.is_region:
        raise ForbiddenError(f"region {joined.site.name} has no images")
    if kind == "evaluate":
        return pb.Reply(evaluation=_evaluate(joined, request.evaluate)), {}
    if kind == "measure":
        return pb.Reply(measured=_measure(joined, request.measure)), {}
    if kind == "adopt":
        return pb.Reply(adopted=_adopt(joined, request.adopt)), {}
    if kind == "deliver":
        return pb.Reply(delivered=_deliver(joined, request.deliver, sets)), {}
    raise RefusedRequestError(f"a request of unknown kind {kind}", pb.Refusal.REASON_REQUEST)


def progress(joined: Joined) -> pb.Progress:
    """Return what a coordinator may know of how far this site is."""
    status = adapting.status(joined)
    state, eta = status.state, status.eta
    waits = joined.is_region or joined.site.settings.resources.adapting == SCHEDULED
    if state in ("idle", "stopped") and waits:
        # It waits for its hours, or for sites of its own. To the coordinator that is no crash, nor a reason to ask
        # every few seconds.
        state, eta = "adapting", max(eta, _WAITING)
    found = pb.Progress(
        state=_STATES[state],
        phase=adapting.PHASES.get(status.phase, pb.PHASE_UNSPECIFIED),
        step=status.step,
        steps=status.steps,
        eta_seconds=eta,
    )
    if status.state == "failed":
        found.tensor = _known_tensor(joined, status.tensor)
    return found


def _hello(joined: Joined, request: pb.Hello, node_id: int) -> update_pb2.Signed:
    check_base(joined.base, joined.campaign)
    if len(request.nonce) != 16:
        raise RefusedRequestError("a nonce that is not 16 bytes long", pb.Refusal.REASON_REQUEST)
    reply = pb.HelloReply(
        campaign_digest=joined.campaign.digest,
        base_digest=joined.campaign.message.base_digest,
        nonce=request.nonce,
        node_id=node_id,
        site=joined.site.name,
    )
    return signing.signed(signing.HELLO, reply, joined.site.signing_key)


def _submit(joined: Joined, request: pb.Submit) -> Answer:
    if joined.campaign.rules.privacy == SECURE_SUM:
        if request.header:
            raise ForbiddenError(f"site {joined.site.name}: by the campaign's rules no update leaves unmasked")
        log.info("sending %d masked vectors", len(request.parameters))
        return pb.Reply(parameters=pb.Parameters()), {PARAMETERS: Summing(joined).words(request.parameters)}
    outbox = Outbox(joined)
    if not outbox.ready:
        raise RefusedRequestError("there is no update yet", pb.Refusal.REASON_NOT_READY)
    log.info("sending %d parameters of the update", len(request.parameters))
    reply = pb.Reply(header=outbox.envelope()) if request.header else pb.Reply(parameters=pb.Parameters())
    return reply, {PARAMETERS: outbox.parameters(request.parameters)}


def _sum(joined: Joined, request: pb.SumStage) -> update_pb2.Signed:
    if joined.campaign.rules.privacy != SECURE_SUM:
        raise ForbiddenError(f"site {joined.site.name}: the campaign's rules know of no secure sum")
    if not Outbox(joined).ready:
        raise RefusedRequestError("there is no update yet", pb.Refusal.REASON_NOT_READY)
    return Summing(joined).answer(request)


def _deliver(joined: Joined, request: pb.Deliver, sets: Sets) -> pb.Delivered:
    with TensorFile(joined.base) as base:
        Delivered(joined, base.manifest).take(request.pieces, sets(PARAMETERS))
    return pb.Delivered()


def _evaluate(joined: Joined, request: pb.Evaluate) -> update_pb2.Signed:
    from client.judge import judge  # loads PyTorch

    with TensorFile(joined.base) as base:
        delivered = Delivered(joined, base.manifest)
    reply = pb.Evaluation(
        campaign_digest=joined.campaign.digest,
        nonce=request.nonce,
        site=joined.site.name,
        scores=judge(joined, request, delivered),
    )
    if not joined.campaign.rules.deliver:
        delivered.clear()
    return signing.signed(signing.EVALUATION, reply, joined.site.signing_key)


def _measure(joined: Joined, request: pb.Measure) -> update_pb2.Signed:
    if joined.campaign.rules.buffers not in MEASURED:
        raise ForbiddenError(f"site {joined.site.name}: by the campaign's rules no measured statistics leave")
    with TensorFile(joined.base) as base:
        found = measured(joined, base.manifest, Delivered(joined, base.manifest), request.digest)
    reply = pb.Measured(
        campaign_digest=joined.campaign.digest,
        nonce=request.nonce,
        site=joined.site.name,
        digest=request.digest,
        batch_norms=[boundary.wire_batch_norm(layer, found[layer]) for layer in sorted(found)],
    )
    boundary.check_batch_norms(reply.batch_norms, base.manifest, joined.site.name)
    return signing.signed(signing.MEASURED, reply, joined.site.signing_key)


def _adopt(joined: Joined, request: pb.Adopt) -> pb.Adopted:
    with TensorFile(joined.base) as base:
        delivered = Delivered(joined, base.manifest)
        adopt(joined, base, request, delivered)
    delivered.clear()
    return pb.Adopted()


def _known_tensor(joined: Joined, name: str) -> str:
    """Return a tensor's or layer's name if the base has it: what the coordinator knows already may be said."""
    try:
        with TensorFile(joined.base) as base:
            return name if name in base.manifest.tensors or name in base.manifest.layers else ""
    except ModelFileError:
        return ""
