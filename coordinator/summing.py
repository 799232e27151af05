"""Summing: the conversation of a secure sum, from the members' keys to the merge state.

Each stage asks some sites one thing; it ends when all have answered or were given up, and the sum goes on with
those that answered. A site that is away is waited for as long as the campaign's patience says. If too few are
left, the attempt is given up, with nothing revealed, and another one is made without those that spoiled it. Once
shares are revealed there is no other attempt: whose are missing then is waited for, in another run if need be.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

from flwr.app import Message

from coordinator import summed
from coordinator.arrivals import MaskedArrival
from coordinator.attempt import Attempt
from coordinator.campaign_folder import CampaignFolder
from coordinator.courier import PER_SITE, Answer, Courier, kind_of
from coordinator.members import Member, State, refusal
from coordinator.pacing import pause
from protos import messages_pb2 as pb
from protos import signing
from protos.assembly import parts
from protos.errors import ModelFileError, QuorumError, SecureSumError, SignatureError, UpdateRefusedError
from protos.manifest import Manifest
from protos.securesum.coordinator import Confirming, Masking, Revealing
from protos.securesum.layout import layout, specs
from protos.update_pb2 import Signed

ATTEMPTS = 3
"""How often a sum is tried in one run."""
TRIES = 3
"""How often a site may fail to answer at a stage."""
_PASSING = (pb.Refusal.REASON_STORAGE, pb.Refusal.REASON_NOT_READY)
"""Refusals that another attempt may do without."""
_STAGE_TTL = 300.0
"""Seconds for a site's answer. One that takes longer is asked again, and says what it said."""
_PART_TTL = 3600.0


@dataclass
class _Turn:
    """What one site is asked at a stage.

    Attributes:
        member: Who.
        until: How long it may be away (monotonic seconds), counted from when it was last connected.
        node: The node that was asked; another if the site came back as another.
        requests: What is under way to it: an answer to anything else comes too late.
        asked: Whether the question is under way, or answered.
        failures: How often a request came to nothing.
        due: When to go on asking it (monotonic seconds).
        arrival: Its masked values, arriving.
        envelope: What it signed for them.
        parts: Those that are still to be asked for.

    """

    member: Member
    until: float
    node: int | None = None
    requests: list[pb.Request] = field(default_factory=list)
    asked: bool = False
    failures: int = 0
    due: float = 0.0
    arrival: MaskedArrival | None = None
    envelope: Signed | None = None
    parts: list[list[str]] = field(default_factory=list)


class Summing:
    """The conversation in which the members' updates are summed under masks.

    Args:
        folder: The campaign's folder.
        base: What updates consist of.
        members: The campaign's members: those that take part are `State.READY`, the others in a final state. In
            the end, they are all in a final state.
        courier: Who carries the requests.

    Attributes:
        done: Whether the sum is in the merge state.

    Raises:
        SecureSumError: The record of a sum that was begun in an earlier run is damaged.
        QuorumError: Too few members are ready.

    """

    def __init__(self, folder: CampaignFolder, base: Manifest, members: list[Member], courier: Courier) -> None:
        self.folder = folder
        self.campaign = folder.campaign
        self.events = folder.log()
        self._base = base
        self._vectors = layout(base)
        self._specs = specs(self._vectors)
        self._courier = courier
        self._submit = folder.home.settings.submit
        self._members = {member.site: member for member in members}
        self._ready = {member.site for member in members if member.state is State.READY}
        self._spoiled: set[str] = set()
        self._blamed: dict[str, set[str]] = {}
        self._tried = 0
        self.done = False
        self._begin()

    def messages(self, online: Collection[int]) -> Iterator[Message]:
        """Make the requests that are due.

        Args:
            online: The nodes that are connected.

        Raises:
            QuorumError: Too few sites are left.
            SecureSumError: What is left of the sum without its masks is no sum of updates.
            ModelFileError: Masked values that arrived can't be read any more.
            StorageError: The disk is full.

        """
        while not self._turns and not self.done:
            self._close()
        for site, turn in list(self._turns.items()):
            node = turn.member.node
            if node is None or node not in online:
                if time.monotonic() > turn.until:
                    self._drop(site, f"site {site} is not connected")
                continue
            turn.until = self._patience()
            if node != turn.node:
                turn.node, turn.requests, turn.asked = node, [], turn.arrival is not None
                turn.parts = self._parts(turn.arrival) if turn.arrival else []
            if time.monotonic() < turn.due:
                continue
            if not turn.asked:
                turn.asked = True
                yield self._message(turn, pb.Request(sum=self._attempt.given[site]), _STAGE_TTL)
        for per_site in range(1, PER_SITE + 1):
            yield from self._part_requests(online, per_site)

    def take(self, answer: Answer) -> None:
        """Take in what came of a request.

        Raises:
            StorageError: The disk is full.

        """
        turn = next((turn for turn in self._turns.values() if _is_in(answer.request, turn.requests)), None)
        if turn is None:
            return
        turn.requests = [request for request in turn.requests if request is not answer.request]
        site, reply = turn.member.site, answer.reply
        if reply is None:
            self._again(turn, answer.request, answer.problem)
        elif reply.WhichOneof("what") == "refusal":
            self._refused(site, reply.refusal)
        else:
            try:
                self._heard(turn, answer, reply)
            except SignatureError as error:
                if kind_of(answer.request) == "submit":  # not the site's doing: it was changed in between
                    self._again(turn, answer.request, error.what)
                else:
                    self._drop(site, error.what, spoiled=True)
            except (SecureSumError, UpdateRefusedError) as error:
                self._drop(site, error.what, spoiled=True)

    # ------------------------------------------------------------ one stage

    def _part_requests(self, online: Collection[int], per_site: int) -> Iterator[Message]:
        """Ask several sites for parts side by side, each until all are there.

        One site at a time would let cores and lines idle, and one that is asked only now and then stops looking
        for requests often.
        """
        for turn in self._turns.values():
            node = turn.node
            if node is None or node not in online or time.monotonic() < turn.due:
                continue
            while turn.parts and self._courier.room("submit", node, self._submit.at_once, per_site):
                submit = pb.Submit(parameters=turn.parts.pop(0))
                yield self._message(turn, pb.Request(submit=submit), _PART_TTL)

    def _heard(self, turn: _Turn, answer: Answer, reply: pb.Reply) -> None:
        site, kind = turn.member.site, reply.WhichOneof("what")
        if kind_of(answer.request) == "submit" and kind == "parameters":
            assert turn.arrival is not None and turn.envelope is not None
            wanted = list(answer.request.submit.parameters)
            turn.arrival.take(answer.parameters(f"site {site}"), wanted)
            turn.failures = 0
            if not turn.arrival.missing:
                turn.arrival.sync()
                self._attempt.hear(site, turn.envelope)
                self.events.note("arrived", site, digest=signing.digest(turn.envelope).hex(), bytes=self._bytes)
                del self._turns[site]
        elif kind_of(answer.request) == "sum" and kind == "summed":
            if isinstance(self._attempt.stage, Masking):
                statement = self._attempt.check_masked(site, reply.summed)
                turn.arrival = MaskedArrival(self.folder.arrivals / site, self._specs, site, statement)
                turn.envelope, turn.parts = reply.summed, self._parts(turn.arrival)
            else:
                self._attempt.hear(site, reply.summed)
                del self._turns[site]
        else:
            raise SecureSumError(f"site {site}: answered {kind} to {kind_of(answer.request)}", site=site)

    def _again(self, turn: _Turn, request: pb.Request, problem: str) -> None:
        turn.failures += 1
        turn.due = time.monotonic() + pause(turn.failures)
        self.events.note("no-answer", turn.member.site, to=kind_of(request), message=problem)
        if turn.failures >= TRIES:
            self._drop(turn.member.site, problem)
        elif kind_of(request) == "sum":
            turn.asked = False
        else:
            turn.parts.append(list(request.submit.parameters))

    def _drop(self, site: str, reason: str, *, spoiled: bool = False) -> None:
        """Go on without a site; one that spoiled this attempt isn't asked in the next."""
        del self._turns[site]
        self._members[site].reason = reason
        if spoiled:
            self._spoiled.add(site)
        self.events.note("dropped-out", site, stage=self._attempt.name, message=reason)

    def _refused(self, site: str, found: pb.Refusal) -> None:
        """Go on without a site that refuses, and take note of whom it blames.

        Who is blamed by several spoiled it. If it is one site's word against another's, one of the two lies: the
        next attempt does without both.
        """
        if found.member in self._members and found.member != site:
            self._blamed.setdefault(found.member, set()).add(site)
            self._drop(site, f"{refusal(site, found)} (it blames site {found.member})")
        else:
            self._drop(site, refusal(site, found), spoiled=found.reason not in _PASSING)

    def _message(self, turn: _Turn, request: pb.Request, ttl: float) -> Message:
        assert turn.node is not None
        request.campaign_digest = self.campaign.digest
        turn.requests.append(request)
        return self._courier.message(turn.node, request, ttl, site=turn.member.site)

    def _parts(self, arrival: MaskedArrival) -> list[list[str]]:
        missing = {key: self._specs[key] for key in self._specs if key in arrival.missing}
        return list(parts(missing, self._submit.part_mebibytes << 20))

    @property
    def _bytes(self) -> int:
        return sum(spec.nbytes for spec in self._specs.values())

    # ------------------------------------------------------ stage after stage

    def _begin(self) -> None:
        """Begin an attempt, or go on with the one that an earlier run began."""
        self._tried += 1
        sites = sorted(self._ready - self._spoiled)
        self._attempt = Attempt(self.folder.sum_record, self.campaign, self._vectors, sites)
        if self._attempt.resumed and not self._checked():
            return
        rules = self.campaign.rules
        enough = len(sites) >= rules.minimum_sites and set(rules.required) <= set(sites)
        if not self._attempt.resumed and not enough:
            required = f" with {', '.join(rules.required)} among them" if rules.required else ""
            raise QuorumError(
                f"campaign {self.campaign.name}: its secure sum needs {rules.minimum_sites} sites{required}, "
                f"{len(sites)} are left ({', '.join(sites)}); nothing was revealed. {self._reasons()}",
                "mend these sites and run the campaign again",
            )
        self._go_on()

    def _go_on(self) -> None:
        """Make the stage's questions, or write the sum if there are none left."""
        attempt, self._turns = self._attempt, {}
        if attempt.masks is not None:
            self._finish()
            return
        waiting = [site for site in attempt.given if site not in attempt.said]
        until = self._patience()
        self._turns = {site: _Turn(self._members[site], until) for site in waiting if site in self._ready}
        self.events.note("summing", stage=attempt.name, sites=waiting)

    def _patience(self) -> float:
        return time.monotonic() + self.campaign.rules.patience_seconds

    def _close(self) -> None:
        """End the stage with those that answered."""
        try:
            self._require()
            self._attempt.close()
        except SecureSumError as error:
            self._given_up(error)
        else:
            self._go_on()

    def _require(self) -> None:
        """Make sure that the members which the rules require are still in it, as long as nothing is revealed.

        Raises:
            SecureSumError: One isn't.

        """
        attempt = self._attempt
        if isinstance(attempt.stage, Confirming | Revealing):
            return  # their values are in the sum, whether they go on or not
        for site in self.campaign.rules.required:
            if site not in attempt.said:
                raise SecureSumError(f"site {site} is out, without which nothing is merged", site=site)

    def _finish(self) -> None:
        """Write the sum as the merge state."""
        attempt = self._attempt
        named = {site: signing.digest(attempt.masked[site]) for site in attempt.survivors}
        began = time.monotonic()
        summed.write(self.folder, self._base, self._vectors, attempt.masks or (), named)
        seconds = round((time.monotonic() - began) / len(named), 3)  # each one's share: they are folded at once
        for member in self._members.values():
            if member.site in named:
                member.state, member.digest, member.reason = State.MERGED, named[member.site], ""
                self.events.place(member)
                self.events.note("folded", member.site, digest=member.digest.hex(), seconds=seconds)
            elif not member.state.final:
                member.state = State.MISSING
                self.events.place(member)
                self.events.note("missing", member.site, message=member.reason)
        self.done = True

    def _checked(self) -> bool:
        """Look through the masked values of an earlier run; false if another attempt had to be begun.

        Raises:
            ModelFileError: They are damaged, and the masks may be known already.

        """
        attempt = self._attempt
        for site in attempt.masked:
            try:
                summed.check(self.folder, site, attempt.statement(site))
            except ModelFileError as error:
                if isinstance(attempt.stage, Revealing):
                    raise
                self._given_up(SecureSumError(error.what))
                return False
        return True

    def _given_up(self, error: SecureSumError) -> None:
        attempt = self._attempt
        self.events.note("sum-given-up", stage=attempt.name, message=error.what)
        if isinstance(attempt.stage, Revealing):
            missing = attempt.given.keys() - attempt.said
            raise QuorumError(
                f"campaign {self.campaign.name}: {error.what}. {self._reasons()}",
                "run the campaign again when these sites are back, what the others said is kept; "
                "if that doesn't help, create a new campaign"
                if missing
                else "create a new campaign: each site reveals its shares but once",
            ) from error
        if error.site:
            self._spoiled.add(error.site)
        for blamed, by in self._blamed.items():
            self._spoiled |= {blamed} if len(by) > 1 else {blamed, *by}
        self._blamed.clear()
        attempt.forget()
        if self._tried >= ATTEMPTS:
            raise QuorumError(
                f"campaign {self.campaign.name}: its secure sum was given up {self._tried} times, the last time "
                f"because {error.what}. {self._reasons()}",
                "mend these sites and run the campaign again",
            ) from error
        self._begin()

    def _reasons(self) -> str:
        return "; ".join(member.reason for member in self._members.values() if member.reason)


def _is_in(request: pb.Request, requests: Sequence[pb.Request]) -> bool:
    """Tell whether it is one of these very requests; another may ask the same."""
    return any(one is request for one in requests)
