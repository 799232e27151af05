"""What the coordinator knows of each member, and what it wants of it next."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from protos import messages_pb2 as pb
from protos import update_pb2
from protos.errors import (
    BaseMismatchError,
    MergeRangeError,
    OnebasinError,
    SignatureError,
    UpdateRefusedError,
)

if TYPE_CHECKING:  # it brings Flower, which commands that only look need not wait for
    from coordinator.arrivals import Arrival


PHASES = {
    pb.PHASE_UNSPECIFIED: "starting",
    pb.PHASE_DATA: "data",
    pb.PHASE_ADAPT: "adapt",
    pb.PHASE_UPDATE: "update",
}
"""What a member that adapts is at, in a word."""


class State(Enum):
    """How far a member is. The last five are final for a run: nothing more comes of them in it."""

    ABSENT = "absent"
    CONNECTED = "connected"
    ADAPTING = "adapting"
    READY = "ready"
    SUBMITTING = "submitting"
    FOLDING = "folding"
    MERGED = "merged"
    REFUSED = "refused"
    MISSING = "missing"
    WITHDRAWN = "withdrawn"
    CANCELLED = "cancelled"

    @property
    def owner(self) -> str:
        """Who has to move next; empty if nobody has."""
        return _OWNERS[self]

    @property
    def final(self) -> bool:
        """Whether the member has nothing more to do before the merge."""
        return self in (State.MERGED, State.REFUSED, State.MISSING, State.WITHDRAWN, State.CANCELLED)


_OWNERS = {
    State.ABSENT: "site",  # to connect
    State.CONNECTED: "coordinator",  # to ask it to adapt
    State.ADAPTING: "site",
    State.READY: "coordinator",  # to ask for the update
    State.SUBMITTING: "site",
    State.FOLDING: "coordinator",
    State.MERGED: "",
    State.REFUSED: "operator of the site",  # to mend it, for the next run
    State.MISSING: "operator of the site",
    State.WITHDRAWN: "",
    State.CANCELLED: "",
}


@dataclass
class Member:
    """A member in a run.

    Attributes:
        site: Its name.
        state: How far it is.
        node: Flower's id of its node, once it has proved who it is.
        heard: When it last answered (monotonic seconds).
        due: When to ask it next.
        failures: How often in a row it didn't answer.
        restarts: How often its adapting process was found dead and started again.
        arrival: Its update, arriving.
        parts: Parts of it that are still to be asked for.
        header: The header of its update, once merged; None if it was dropped after an earlier run.
        digest: The update's digest.
        models: How many sites' models are in it; 0 if it isn't here.
        seconds: Time from the start of the run until it was merged.
        reason: Why it is refused, missing or withdrawn.

    """

    site: str
    heard: float
    state: State = State.ABSENT
    node: int | None = None
    due: float = 0.0
    failures: int = 0
    restarts: int = 0
    arrival: Arrival | None = None
    parts: list[list[str]] = field(default_factory=list)
    header: update_pb2.UpdateHeader | None = None
    digest: bytes = b""
    models: int = 0
    seconds: float = 0.0
    reason: str = ""


REASONS = {
    pb.Refusal.REASON_INTERNAL: "had an unexpected error",
    pb.Refusal.REASON_CAMPAIGN: "has joined another campaign, or none",
    pb.Refusal.REASON_BASE: "has not the campaign's base, or a damaged copy",
    pb.Refusal.REASON_NOT_READY: "has no update yet",
    pb.Refusal.REASON_REQUEST: "does not understand the request; it may run another version",
    pb.Refusal.REASON_DATA: "has no images to evaluate on, or can't read them",
    pb.Refusal.REASON_STORAGE: "can't write to its disk",
    pb.Refusal.REASON_RULES: "may not do this by the campaign's rules",
    pb.Refusal.REASON_UPDATE: "holds a model that may not leave or can't be merged",
    pb.Refusal.REASON_CONFIGURATION: "is not configured correctly",
    pb.Refusal.REASON_NOT_DELIVERED: "has not the models that it is to judge, or not whole",
    pb.Refusal.REASON_NOT_ACCEPTED: "has not accepted the campaign, or its policy forbids it "
    "(there: onebasin site accept)",
    pb.Refusal.REASON_UNSIGNED: "was asked something that this coordinator did not sign, or not for it",
    pb.Refusal.REASON_SUM: "can't do this stage of the secure sum, or not again",
    pb.Refusal.REASON_CLEARED: "was merged already, and has removed its update since",
    pb.Refusal.REASON_STALE: "was asked too late or twice; compare the clocks of both machines",
}
"""What a refusal's number says, after "site X"."""


_ERRORS: tuple[tuple[type[OnebasinError], str], ...] = (
    (SignatureError, "signature"),
    (MergeRangeError, "range"),
    (BaseMismatchError, "base"),
    (UpdateRefusedError, "update"),
)
WORDS = frozenset(
    {name.removeprefix("REASON_").lower() for name in pb.Refusal.Reason.keys()}  # noqa: SIM118  # protobuf's
    | {word for _, word in _ERRORS}
    | {"adaptation", "code", "other"}
)
"""One word each for why a member is refused, where sentences would be too many to count by."""


def refusal_word(found: pb.Refusal) -> str:
    """Return the word for a site's refusal."""
    return found.Reason.Name(found.reason).removeprefix("REASON_").lower() if found.reason in REASONS else "other"


def error_word(error: OnebasinError) -> str:
    """Return the word for what is wrong with what a site sent."""
    return next((word for kind, word in _ERRORS if isinstance(error, kind)), "other")


def refusal(site: str, found: pb.Refusal) -> str:
    """Put a site's refusal into words."""
    said = REASONS.get(found.reason, "refused for an unknown reason")
    tensor = f" (tensor {found.tensor})" if found.tensor else ""
    return f"site {site} {said}{tensor}; site.log in the site's folder says more"
