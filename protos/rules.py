"""How a campaign goes: the rules that all members agree to, and what can't go together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from protos import campaign_pb2 as pb
from protos.errors import ConfigurationError

COPIES = {"student": pb.COPY_STUDENT, "teacher": pb.COPY_TEACHER}
BUFFERS = {
    "pooled": pb.BUFFERS_POOLED,
    "own": pb.BUFFERS_OWN,
    "recalibrated": pb.BUFFERS_RECALIBRATED,
    "pooled-recalibrated": pb.BUFFERS_POOLED_RECALIBRATED,
    "routed": pb.BUFFERS_ROUTED,
}
"""Which statistics the merged model has in the end, by the rule's name."""
KEPT_AT_SITES = frozenset({"own", "recalibrated"})
"""Rules under which each site's merged model has statistics that only that site knows."""
MEASURED = frozenset({"pooled-recalibrated", "routed"})
"""Rules under which statistics that sites measure for the merged model leave them."""
PRIVACY = {"sealed": pb.PRIVACY_SEALED, "secure-sum": pb.PRIVACY_SECURE_SUM}
"""What the coordinator learns of one site, in the order of strength. On the way, all is sealed in any case."""
SECURE_SUM = "secure-sum"
AT_DEADLINE = {"merge": pb.AT_DEADLINE_MERGE, "fail": pb.AT_DEADLINE_FAIL, "wait": pb.AT_DEADLINE_WAIT}
"""What happens when the deadline passes before every member has delivered or was given up."""
WEIGHING = {"sites": pb.WEIGHING_SITES, "members": pb.WEIGHING_MEMBERS}
"""What counts once in the mid-point of the parameters: each site, or each member, be it a site or a region."""
FEWEST_IN_REGION = 2
"""Sites that a region must stand for: the sum of one is that site's model."""
MOST_IN_REGION = 1 << 14
"""Sites that a region may stand for at most: the room of a sum (`protos.fixedpoint.MAX_MODELS`)."""
MOST_SITES = 64
"""Sites that a region may stand for where the rules don't say."""
FEWEST_SUMMED = 3
"""Members that a secure sum needs: in the sum of two each site finds the other's model."""
DAY = 86_400

_CHOICES: Mapping[str, tuple[Mapping[str, int], str, str]] = {
    "copy": (COPIES, "copy", "which copy sites send"),
    "buffers": (BUFFERS, "rule for buffers", "which buffers the merged model has"),
    "privacy": (PRIVACY, "privacy mode", "in which privacy mode it runs"),
    "at_deadline": (AT_DEADLINE, "rule for the deadline", "what happens at the deadline"),
    "weighing": (WEIGHING, "rule for weighing", "what counts once in the mid-point (weighing)"),
}
"""Rules that are one of several words: these, what a word is, and what is left unsaid without it."""


@dataclass(frozen=True)
class Rules:
    """How a campaign goes; part of its digest.

    Attributes:
        minimum_sites: Updates needed for a merge; 0 means that all members must deliver. In a secure sum, the
            threshold below which nothing is revealed: more than half of the members.
        deadline_seconds: Time from the start of the first run until it must have them.
        patience_seconds: How long a site may stay silent before it is given up; 0 means a seventh of the deadline,
            at least a minute and at most a day.
        compare_single_models: Whether a site's model may travel to the others, to be compared there.
        copy: ``"student"`` or ``"teacher"``: whose parameters and statistics sites send.
        evaluate: Whether sites judge the merged model on their own held-out labelled images.
        buffers: Which statistics the merged model has in the end, a key of :data:`BUFFERS`. With ``pooled`` (the
            paper's) and ``own`` no others leave a site than those of its update; with ``recalibrated`` those that
            it measures for the merged model stay there; with ``pooled-recalibrated`` the coordinator sees them,
            with ``routed`` all members do.
        deliver: Whether the sites that are merged get the merged model.
        privacy: One of `PRIVACY`: what the coordinator learns of a single site's update.
        code_digest: SHA-256 of the bundle that Flower ships to the sites, hexadecimal; see `protos.code`.
        at_deadline: A key of `AT_DEADLINE`. With ``merge`` those present are merged at the deadline if they are
            enough, with ``fail`` nothing is merged then, with ``wait`` they are merged as soon as they are enough.
        required: Members without which nothing is merged, however many the others are, ascending.
        weighing: A key of `WEIGHING`: what counts once in the mid-point.
        most_sites: How many sites a region may stand for; 0 if no member is a region.
        send_on: Whether the sum of all updates may be sent on to a coordinator above this one.

    """

    minimum_sites: int = 0
    deadline_seconds: int = 7 * DAY
    patience_seconds: int = 0
    compare_single_models: bool = False
    copy: str = "student"
    evaluate: bool = True
    buffers: str = "pooled"
    deliver: bool = True
    privacy: str = "sealed"
    code_digest: str = ""
    at_deadline: str = "merge"
    required: tuple[str, ...] = ()
    weighing: str = "sites"
    most_sites: int = 0
    send_on: bool = False

    @classmethod
    def of(cls, message: pb.Rules, members: int) -> Self:
        """Return what a checked message says: 0 sites are all, 0 seconds of patience follow from the deadline."""
        return cls(
            minimum_sites=message.minimum_sites or members,
            deadline_seconds=message.deadline_seconds,
            patience_seconds=message.patience_seconds or patience(message.deadline_seconds),
            compare_single_models=message.compare_single_models,
            evaluate=message.evaluate,
            deliver=message.deliver,
            code_digest=message.code_digest.hex(),
            required=tuple(message.required),
            most_sites=message.most_sites,
            send_on=message.send_on,
            **{rule: _word(message, rule) for rule in _CHOICES},
        )

    def message(self, *, regions: bool) -> pb.Rules:
        """Return them as a message.

        Args:
            regions: Whether a member is a region; it may stand for `MOST_SITES` then, unless they say otherwise.

        Raises:
            ConfigurationError: A word is none of its rule's.

        """
        words: dict[str, Any] = {}
        for rule, (known, what, _) in _CHOICES.items():
            said = getattr(self, rule)
            if said not in known:
                raise ConfigurationError(f"there is no {what} {said!r}", f"it is one of {', '.join(known)}")
            words[rule] = known[said]
        return pb.Rules(
            minimum_sites=self.minimum_sites,
            deadline_seconds=self.deadline_seconds,
            patience_seconds=self.patience_seconds,
            compare_single_models=self.compare_single_models,
            evaluate=self.evaluate,
            deliver=self.deliver,
            code_digest=bytes.fromhex(self.code_digest),
            required=sorted(self.required),
            most_sites=self.most_sites or (MOST_SITES if regions else 0),
            send_on=self.send_on,
            **words,
        )


def _word(message: pb.Rules, rule: str) -> str:
    return next(word for word, value in _CHOICES[rule][0].items() if value == getattr(message, rule))


def patience(deadline_seconds: int) -> int:
    """Return the seconds of silence after which a site is given up where the rules don't say.

    A seventh of the deadline, so that it could be silent several times: a minute at least, a day at most.
    """
    return min(max(deadline_seconds // 7, 60), DAY)


def problem(rules: pb.Rules, sites: Sequence[str], *, regions: bool) -> str:
    """Say why a campaign can't have such rules; nothing if it can.

    Args:
        rules: The rules.
        sites: Its members' names, ascending.
        regions: Whether one of them is a region.

    """
    unsaid = [said for rule, (known, _, said) in _CHOICES.items() if getattr(rules, rule) not in known.values()]
    return (
        f"doesn't say {unsaid[0]}"
        if unsaid
        else "leaves statistics of the merged model at the sites but doesn't deliver it to them"
        if not rules.deliver and rules.buffers in (BUFFERS[name] for name in KEPT_AT_SITES)
        else "has a digest of its code that is none"
        if len(rules.code_digest) not in (0, 32)
        else f"wants {rules.minimum_sites} sites but has {len(sites)}"
        if rules.minimum_sites > len(sites)
        else "has no deadline"
        if not rules.deadline_seconds
        else "requires sites twice, out of order, or that are no members"
        if list(rules.required) != sorted(set(rules.required) & set(sites))
        else "lets its sum be sent on, which is no sum of sites' updates if members count once (weighing)"
        if rules.send_on and rules.weighing != WEIGHING["sites"]
        else _unsummable(rules, len(sites))
        if rules.privacy == PRIVACY[SECURE_SUM] and not regions
        else ""
    ) or _regionless(rules, regions=regions)


def _unsummable(rules: pb.Rules, members: int) -> str:
    """Say what a secure sum can't go together with, or nothing."""
    needed = rules.minimum_sites or members
    return (
        f"has {members} members, a secure sum needs {FEWEST_SUMMED}"
        if members < FEWEST_SUMMED
        else f"wants {needed} of {members} sites, a secure sum needs more than half of them"
        if 2 * needed <= members
        else "shows single sites' models to the others (compare_single_models), which a secure sum hides"
        if rules.compare_single_models
        else "has sites send statistics that they measured (buffers), each of which a secure sum would hide"
        if rules.buffers in (BUFFERS[name] for name in MEASURED)
        else ""
    )


def _regionless(rules: pb.Rules, *, regions: bool) -> str:
    """Say what regions as members can't go together with, or nothing."""
    if not regions:
        return "says how many sites a region may stand for, but has no region" if rules.most_sites else ""
    return (
        f"lets a region stand for {rules.most_sites} sites, it must be {FEWEST_IN_REGION} to {MOST_IN_REGION}"
        if not FEWEST_IN_REGION <= rules.most_sites <= MOST_IN_REGION
        else "is a secure sum with a region as a member: have the region sum securely, and this campaign not"
        if rules.privacy == PRIVACY[SECURE_SUM]
        else "shows single sites' models to the others (compare_single_models), but a region has no single model"
        if rules.compare_single_models
        else "has buffers that each member measures or keeps, but a region has no images and no model of its own: "
        "with a region they are pooled"
        if rules.buffers != BUFFERS["pooled"]
        else ""
    )
