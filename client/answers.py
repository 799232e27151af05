"""What a site answers: one request in, one reply out, and a refusal with a reason where it can't.

The reasons are numbers. What exactly went wrong stays in the site's log, for its operator; an error's text can
hold a path, a file name or a value, and none of these may leave.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from client import adapting
from client.delivered import Delivered, ForbiddenError, NotDeliveredError
from client.freshness import StaleError
from client.outbox import Outbox
from client.site import Joined, Site, check_base
from protos import messages_pb2 as pb
from protos import signing, update_pb2
from protos.errors import (
    AdaptationError,
    BaseMismatchError,
    ConfigurationError,
    DataError,
    ModelFileError,
    OnebasinError,
    StorageError,
    UpdateRefusedError,
)
from protos.flower import PARAMETERS
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
    (ForbiddenError, pb.Refusal.REASON_RULES),
    (NotDeliveredError, pb.Refusal.REASON_NOT_DELIVERED),
    (StaleError, pb.Refusal.REASON_STALE),
    (UpdateRefusedError, pb.Refusal.REASON_UPDATE),
    (ModelFileError, pb.Refusal.REASON_UPDATE),
    (AdaptationError, pb.Refusal.REASON_NOT_READY),
    (ConfigurationError, pb.Refusal.REASON_CONFIGURATION),
]
_STATES = {
    "idle": pb.Progress.STATE_IDLE,
    "adapting": pb.Progress.STATE_ADAPTING,
    "ready": pb.Progress.STATE_READY,
    "failed": pb.Progress.STATE_FAILED,
    "stopped": pb.Progress.STATE_STOPPED,
}


class RefusedRequestError(OnebasinError):
    """The site does not answer this request, for a reason that the coordinator may know."""

    def __init__(self, what: str, reason: pb.Refusal.Reason) -> None:
        super().__init__(what)
        self.reason = reason


def answer(site: Site, request: pb.Request, node_id: int, sets: Sets) -> Answer:
    """Answer a request. Never raises: whatever goes wrong becomes a refusal and a line in the log."""
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
    return pb.Reply(refusal=pb.Refusal(reason=reason_for(error), site=site.name, tensor=tensor)), {}


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
    kind = request.WhichOneof("what")
    if kind == "hello":
        return pb.Reply(hello=_hello(joined, request.hello, node_id)), {}
    if kind == "adapt":
        adapting.start(joined)
        return pb.Reply(progress=progress(joined)), {}
    if kind == "progress":
        return pb.Reply(progress=progress(joined)), {}
    if kind == "submit":
        return _submit(joined, request.submit)
    if kind == "evaluate":
        return pb.Reply(evaluation=_evaluate(joined, request.evaluate)), {}
    if kind == "deliver":
        return pb.Reply(delivered=_deliver(joined, request.deliver, sets)), {}
    raise RefusedRequestError(f"a request of unknown kind {kind}", pb.Refusal.REASON_REQUEST)


def progress(joined: Joined) -> pb.Progress:
    """Return what a coordinator may know of how far this site is."""
    status = adapting.status(joined)
    found = pb.Progress(
        state=_STATES[status.state],
        phase=adapting.PHASES.get(status.phase, pb.PHASE_UNSPECIFIED),
        step=status.step,
        steps=status.steps,
        eta_seconds=status.eta,
    )
    if status.state == "ready":
        found.update_digest = Outbox(joined).digest()
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
    outbox = Outbox(joined)
    if not outbox.ready:
        raise RefusedRequestError("there is no update yet", pb.Refusal.REASON_NOT_READY)
    log.info("sending %d parameters of the update", len(request.parameters))
    reply = pb.Reply(header=outbox.envelope()) if request.header else pb.Reply(parameters=pb.Parameters())
    return reply, {PARAMETERS: outbox.parameters(request.parameters)}


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
    delivered.clear()
    return signing.signed(signing.EVALUATION, reply, joined.site.signing_key)


def _known_tensor(joined: Joined, name: str) -> str:
    """Return a tensor's or layer's name if the base has it: what the coordinator knows already may be said."""
    try:
        with TensorFile(joined.base) as base:
            return name if name in base.manifest.tensors or name in base.manifest.layers else ""
    except ModelFileError:
        return ""
