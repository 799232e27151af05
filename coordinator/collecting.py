"""Collecting: what each member is asked next, and what its answers change, until each is merged or given up."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from coordinator import attempt
from coordinator.apart import check_apart
from coordinator.arrivals import Arrival, clear, kept_header
from coordinator.campaign_folder import CampaignFolder
from coordinator.courier import Answer, Courier, kind_of
from coordinator.folding import Folding
from coordinator.greeting import Greeted
from coordinator.members import PHASES, Member, State, error_word, refusal, refusal_word
from coordinator.merge.state import MergeState
from coordinator.merging import last_receipt
from coordinator.pacing import pause
from coordinator.quorum import Quorum
from protos import messages_pb2 as pb
from protos import regions, update_pb2
from protos.assembly import Specs, parts
from protos.errors import BaseMismatchError, SignatureError, UpdateRefusedError
from protos.manifest import Manifest
from protos.rules import SECURE_SUM

_WANTED = {True: "header", False: "parameters"}
MAX_RESTARTS = 3
"""How often an adapting process that died is started again."""
_LOOKING = 60.0
"""Seconds that a site which looks through its images is taken to have left, at least."""


@dataclass(frozen=True)
class Pace:
    """How often to ask: seconds between two looks at a site's progress, at least and at most."""

    least: float = 2.0
    most: float = 60.0


class Collecting:
    """The conversation in which members adapt and submit.

    Args:
        folder: The campaign's folder.
        base: What an update must consist of.
        courier: Who carries the requests.
        folding: Who folds what has arrived.
        pace: How often to ask for progress.

    """

    def __init__(
        self, folder: CampaignFolder, base: Manifest, courier: Courier, folding: Folding, pace: Pace
    ) -> None:
        self.campaign = folder.campaign
        self.rules = folder.campaign.rules
        self.members = {site: Member(site, time.monotonic()) for site in self.campaign.sites}
        self.quorum = Quorum(self.campaign, self.members, folder.begin().deadline or 0.0)
        self.events = folder.log()
        self._folder = folder
        self._base = base
        self._courier = courier
        self._folding = folding
        self._pace = pace
        self._submit = folder.home.settings.submit
        self._summed = self.rules.privacy == SECURE_SUM
        self._revealed: set[str] = set()
        self._keep = folder.home.settings.keep_updates or self.rules.compare_single_models

    def failures(self, site: str) -> int:
        """Return how often a site has failed to answer in a row."""
        return self.members[site].failures if site in self.members else 0

    def resume(self) -> None:
        """Find out what an earlier run folded already: its digests stand in the state itself.

        Whose they are says the update's header or, where that was dropped, the receipt. The journal is corrected
        by it. A secure sum that had come to its end but for some shares needs nothing but these.
        """
        merged_before = False
        if self._folder.state.exists():
            merged_before = self._resume()
        elif self._summed:
            self._resume_sum()
        self._correct()
        self.quorum.resume(merged_before=merged_before)

    def _resume(self) -> bool:
        """Take up a merge state, and tell whether there is a merged model of it."""
        with MergeState(self._folder.state) as state:
            state.check()
            inside = state.digests
        receipt = last_receipt(self._folder)
        listed = {entry.site: entry for entry in receipt.inputs} if receipt else {}
        named = {site: bytes.fromhex(entry.digest) for site, entry in listed.items()}
        if self._summed and receipt is None:
            named = attempt.digests(self._folder.sum_record)
        withdrawn = {entry.site for entry in receipt.withdrawn} if receipt else set()
        for member in self.members.values():
            kept = kept_header(self._arrival(member.site), self.campaign, member.site)
            header, digest = kept or (None, named.get(member.site, b""))
            if digest.hex() in inside:
                member.header, member.digest, member.state = header, digest, State.MERGED
                member.models = listed[member.site].models if member.site in listed else 1
                if header is not None:
                    member.models = regions.standing(header).models
                if not self._keep:
                    Arrival.model_in(self._arrival(member.site)).unlink(missing_ok=True)
                self.events.note("already-folded", member.site, digest=member.digest.hex())
            elif member.site in withdrawn:
                self._move(member, State.WITHDRAWN, f"site {member.site} withdrew its update")
                clear(self._arrival(member.site))
            elif self._summed:
                self._miss(member, f"site {member.site} is not in the secure sum, which is made once")
        return receipt is not None

    def _resume_sum(self) -> None:
        asked, self._revealed = attempt.revealing(self._folder.sum_record)
        for member in self.members.values() if asked else ():
            if member.site in self._revealed:
                member.state = State.READY
            elif member.site not in asked:
                self._miss(member, f"site {member.site} is not in the secure sum, which is made once")

    def _correct(self) -> None:
        """Have the journal say what the merge state says, and begin with what isn't merged."""
        standings = self._folder.home.journal.standings(self._folder.key)
        for member in self.members.values():
            said = standings[member.site].state if member.site in standings else ""
            if said in (State.MERGED.value, State.WITHDRAWN.value) and said != member.state.value:
                self.events.note("corrected", member.site, said=said, state=member.state.value)
            self.events.place(member)

    # ------------------------------------------------------ what is due now

    def requests(self, online: Collection[int]) -> Iterator[tuple[int, str, pb.Request]]:
        """Make the requests that are due now, to members whose nodes are connected: node, site, request."""
        for member in self.members.values():
            while member.node in online and member.node is not None:
                request = self._next(member)
                if request is None:
                    break
                yield member.node, member.site, request

    def _next(self, member: Member) -> pb.Request | None:
        now = time.monotonic()
        if (
            member.state is State.READY and self._summed
        ):  # it waits for the others, and is asked only if it is there
            alone = now >= member.due and not self._courier.under_way(node=member.node)
            return pb.Request(progress=pb.ProgressQuery()) if alone else None
        assert member.node is not None
        room = now >= member.due and self._courier.room("submit", member.node, self._submit.at_once)
        if member.state is State.READY and room:
            self._move(member, State.SUBMITTING)
            member.arrival = None
            # With something of it here already, its header has to say what is missing.
            kept = Arrival.model_in(self._arrival(member.site)).exists()
            member.parts = [] if kept else self._parts(self._specs(member.site))
            first = [] if kept else member.parts.pop(0)
            self.events.note("asked", member.site)
            return pb.Request(submit=pb.Submit(header=True, parameters=first))
        if member.state is State.SUBMITTING:
            # Without its header nothing can be checked, and what came before it would have to be sent again.
            if member.parts and room and member.arrival is not None:
                return pb.Request(submit=pb.Submit(parameters=member.parts.pop(0)))
            return None
        if now < member.due or self._courier.under_way(node=member.node):
            return None
        if member.state is State.CONNECTED:
            return pb.Request(adapt=pb.Adapt())
        if member.state is State.ADAPTING:
            return pb.Request(progress=pb.ProgressQuery())
        return None

    # ---------------------------------------------------- what has arrived

    def greeted(self, found: Greeted) -> int | None:
        """Take in which node a site is; return the node that it was before, if it was another."""
        member = self.members[found.site]
        if found.refusal:
            if member.node is None and not member.state.final:
                self._refuse(member, found.refusal, found.reason)
            return None
        before = member.node if member.node != found.node else None
        if before is not None and member.state is State.SUBMITTING:
            self._move(member, State.READY)  # what the old node was asked for won't come
        member.node, member.heard = found.node, time.monotonic()
        member.failures, member.due = 0, min(member.due, member.heard)
        if member.state is State.ABSENT:
            self._move(member, State.CONNECTED)
        self.events.note("connected", member.site, node=found.node)
        return before

    def disconnected(self, site: str) -> None:
        """Take in that a site's node is gone."""
        self.events.note("disconnected", site)

    def take(self, answer: Answer) -> None:
        """Take in what came of a request."""
        member = next((m for m in self.members.values() if m.node == answer.node), None)
        if member is None or member.state.final or member.state is State.FOLDING:
            return
        try:
            self._take_from(member, answer)
        except (UpdateRefusedError, BaseMismatchError) as error:
            self._refuse(member, error.what, error_word(error))

    def fold(self) -> None:
        """Start folding what is complete, and take in what has been folded."""
        done = self._folding.step()
        for arrival in done:
            member = self.members[arrival.site]
            member.seconds = time.monotonic() - self.quorum.started
            self._move(member, State.MERGED)
            if not self._keep:
                arrival.forget()
            seconds = round(self._folding.seconds / len(done), 3)  # its share of the batch
            self.events.note("folded", member.site, digest=member.digest.hex(), seconds=seconds)

    def _take_from(self, member: Member, answer: Answer) -> None:
        reply = answer.reply
        if reply is None:
            self.events.note("no-answer", member.site, to=kind_of(answer.request), message=answer.problem)
            self._ask_again(member, answer.request)
            return
        member.heard, member.failures = time.monotonic(), 0
        kind = reply.WhichOneof("what")
        if kind == "refusal":
            if reply.refusal.reason == pb.Refusal.REASON_NOT_READY:
                self._move(member, State.CONNECTED)
                self._later(member)
                return
            self._refuse(member, refusal(member.site, reply.refusal), refusal_word(reply.refusal))
        elif kind == "progress" and kind_of(answer.request) in ("adapt", "progress"):
            self._take_progress(member, reply.progress)
        elif kind_of(answer.request) == "submit" and kind == _WANTED[answer.request.submit.header]:
            if member.state is not State.SUBMITTING:
                return  # its header got lost meanwhile, so all of it is asked for again
            if kind == "header":
                self._take_header(member, reply.header)
            if answer.request.submit.parameters:
                self._take_part(member, answer)
            elif member.arrival is not None:
                self._take_up(member, member.arrival)
        else:
            raise UpdateRefusedError(f"site {member.site}: answered {kind} to {kind_of(answer.request)}")

    def _take_progress(self, member: Member, progress: pb.Progress) -> None:
        state, now = progress.state, time.monotonic()
        if state == pb.Progress.STATE_FAILED:
            tensor = f" (tensor {progress.tensor})" if progress.tensor else ""
            self._refuse(
                member,
                f"site {member.site}: adapting failed at step {progress.step} of {progress.steps}{tensor}; "
                "`onebasin site status` there says why",
                "adaptation",
            )
            return
        if state not in pb.Progress.State.values() or progress.phase not in PHASES:
            raise UpdateRefusedError(f"site {member.site}: its progress is none that is known here")
        self.events.note(
            "progress",
            member.site,
            state=pb.Progress.State.Name(state).removeprefix("STATE_").lower(),
            phase=PHASES[progress.phase],
            step=progress.step,
            steps=progress.steps,
            eta=round(progress.eta_seconds, 1),
        )
        if state == pb.Progress.STATE_READY:
            self._move(member, State.READY)
            member.due = now + (self._pace.most if self._summed else 0)
        elif state == pb.Progress.STATE_ADAPTING:
            self._move(member, State.ADAPTING)
            # The nearer the end, the more often: a third of what is left. While a site looks through its images it
            # can't tell, and each question costs it a process.
            eta = _LOOKING if progress.phase == pb.PHASE_DATA else progress.eta_seconds
            wait = eta / 3 if math.isfinite(eta) else self._pace.most
            member.due = now + min(max(wait, self._pace.least), self._pace.most)
        else:
            member.restarts += member.state is State.ADAPTING
            if member.restarts > MAX_RESTARTS:
                said = f"site {member.site}: its adapting process died {member.restarts} times"
                self._refuse(member, said, "adaptation")
                return
            self._move(member, State.CONNECTED)
            member.due = now + (pause(member.restarts) if member.restarts else 0)

    def _take_header(self, member: Member, envelope: update_pb2.Signed) -> None:
        arrival = Arrival(self._arrival(member.site), self.campaign, self._base, member.site, envelope)
        member.arrival, member.header, member.digest = arrival, arrival.header, arrival.digest
        check_apart(self.campaign, self._folder.state, member, arrival.standing, self.members.values())
        member.models = arrival.standing.models
        self.events.note("header", member.site, digest=arrival.digest.hex())

    def _take_up(self, member: Member, arrival: Arrival) -> None:
        """Go on with an update of which parts came before."""
        missing = {name: spec for name, spec in self._specs(member.site).items() if name in arrival.missing}
        member.parts = self._parts(missing)
        left = sum(spec.nbytes for spec in missing.values())
        self.events.note("taken-up", member.site, bytes=arrival.nbytes - left, left=left)
        self._complete(member, arrival)

    def _take_part(self, member: Member, answer: Answer) -> None:
        if member.arrival is None:
            self._ask_again(member, answer.request)  # its header got lost; without it nothing can be checked
            return
        try:
            raw = answer.parameters(f"site {member.site}")
        except SignatureError as error:  # not the site's doing: it was changed in between
            self.events.note("no-answer", member.site, to="submit", message=error.what)
            self._ask_again(member, answer.request)
            return
        member.arrival.take(raw, list(answer.request.submit.parameters))
        self._complete(member, member.arrival)

    def _complete(self, member: Member, arrival: Arrival) -> None:
        """Have an update folded if nothing of it is missing."""
        if not arrival.missing:
            self._move(member, State.FOLDING)
            self.events.note("arrived", member.site, digest=member.digest.hex(), bytes=arrival.nbytes)
            self._folding.add(arrival)

    def _ask_again(self, member: Member, request: pb.Request) -> None:
        self._later(member)
        if request.submit.header and member.state is State.SUBMITTING:
            self._move(member, State.READY)
        elif request.submit.parameters:
            member.parts.append(list(request.submit.parameters))

    # ----------------------------------------------------- who is given up

    def settled(self) -> bool:
        """Tell whether every member is merged, refused or missing; or, if a secure sum is to come, ready for it.

        Raises:
            QuorumError: Too few can still deliver, or by the rules nothing is merged after the deadline.

        """
        self.quorum.check_deadline()
        now = time.monotonic()
        for member in self.members.values():
            if member.state.final or member.state is State.FOLDING or member.site in self._revealed:
                continue
            if now - member.heard > self.rules.patience_seconds:
                silent = "never connected" if member.state is State.ABSENT else "stopped answering"
                self._miss(member, f"site {member.site} {silent} (waited {self.rules.patience_seconds} s)")
            elif self.quorum.too_late(member):
                self._miss(member, f"site {member.site} was {member.state.value} when the deadline passed")
        self.quorum.check(final=False)
        return all(member.state.final or self.quorum.waits(member) for member in self.members.values())

    def cancel(self) -> None:
        """Give up whoever isn't in a final state."""
        self.events.note("cancelled")
        for member in self.members.values():
            if not member.state.final:
                self._move(member, State.CANCELLED)

    def _move(self, member: Member, state: State, reason: str = "") -> None:
        """Bring a member into a state; it is in the journal before anything is done about it."""
        member.state, member.reason = state, reason
        self.events.place(member)

    def _later(self, member: Member) -> None:
        """Ask a member again, but the later, the more often it failed."""
        member.failures += 1
        member.due = time.monotonic() + pause(member.failures)

    def _refuse(self, member: Member, reason: str, word: str) -> None:
        """Give a member up for what it did or sent; the word is one of `members.WORDS`."""
        self._move(member, State.REFUSED, reason)
        self._drop(member)
        self.events.note("refused", member.site, message=reason, reason=word)

    def _miss(self, member: Member, reason: str) -> None:
        self._move(member, State.MISSING, reason)
        self._drop(member)
        self.events.note("missing", member.site, message=reason)

    def _drop(self, member: Member) -> None:
        """Drop what came of an update, in this run or in one that crashed: nobody is to have it any longer."""
        member.models = 0
        if not self._summed:
            clear(self._arrival(member.site))

    def _specs(self, site: str) -> Specs:
        return regions.specs(self.campaign, self._base, site)

    def _parts(self, specs: Specs) -> list[list[str]]:
        return list(parts(specs, self._submit.part_mebibytes << 20))

    def _arrival(self, site: str) -> Path:
        return self._folder.arrivals / site
