"""The Flower strategy: one merge, in one shot.

Flower's strategies train in rounds. This one drives the same four methods as a conversation: again and again,
`configure_train` makes the requests that are due now and `aggregate_train` takes in what has arrived, until
every member is merged, refused or missing. Members are asked for their updates a few parts at a time, and
replies are pulled, checked, written down and dropped one by one, so memory doesn't grow with their number.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result, Strategy
from google.protobuf.message import DecodeError

from coordinator.arrivals import Arrival, clear, kept_header
from coordinator.courier import Answer, Courier, kind_of
from coordinator.evaluating import Evaluating
from coordinator.folding import Folder
from coordinator.home import CampaignFolder, Events
from coordinator.members import Member, State, refusal
from coordinator.merge.state import MergeState
from coordinator.merging import merge
from coordinator.report import write_report
from coordinator.results import report
from protos import flower, signing, update_pb2
from protos import messages_pb2 as pb
from protos.digest import short
from protos.errors import BaseMismatchError, QuorumError, UpdateRefusedError
from protos.tensorfile import TensorFile

log = logging.getLogger("onebasin.coordinator")

TICK = 0.2
"""Seconds between two looks at what has arrived."""
RETRY = 5.0
"""Seconds until a site that did not answer is asked again."""
MAX_RESTARTS = 3
"""How often an adapting process that died is started again."""
PER_SITE = 2
"""Parts of one update that may be under way at once: one is read while the other is on the wire."""


@dataclass(frozen=True)
class Pace:
    """How often to ask: seconds between two looks at a site's progress, at least and at most."""

    least: float = 2.0
    most: float = 60.0


class OneShotMerge(Strategy):
    """Merge the members' updates once, by the campaign's rules.

    Args:
        folder: The campaign's folder.
        pace: How often to ask for progress.

    """

    def __init__(self, folder: CampaignFolder, pace: Pace | None = None) -> None:
        self.folder = folder
        self.campaign = folder.campaign
        self.rules = folder.campaign.rules
        self.events = Events(folder.events)
        self._pace = pace or Pace()
        self._submit = folder.home.settings.submit
        self._started = time.monotonic()
        self.members = {site: Member(site, self._started) for site in self.campaign.sites}
        self._nodes: dict[int, str] = {}  # connected nodes, and which site each proved to be ("" if none)
        self._nonces: dict[int, bytes] = {}
        self._retry_hello: dict[int, float] = {}

    # ---------------------------------------------------------------- the run

    def start(
        self,
        grid: Grid,
        initial_arrays: ArrayRecord | None = None,
        num_rounds: int = 1,
        timeout: float = 3600,
        train_config: ConfigRecord | None = None,
        evaluate_config: ConfigRecord | None = None,
        evaluate_fn: Callable[[int, ArrayRecord], MetricRecord | None] | None = None,
    ) -> Result:
        """Run the campaign to its end: collect, merge, evaluate.

        Only `grid` matters. The other arguments are Flower's: there is one round, nothing is trained centrally,
        no arrays are sent at the start (each site has the base), and the campaign's rules set the times.

        Raises:
            QuorumError: Too few sites delivered; says which are missing and why. Nothing was merged.
            OnebasinError: Something on the coordinator's side went wrong, e.g. a full disk.

        """
        arrays, config = ArrayRecord(), ConfigRecord()
        self._courier = Courier(grid)
        self.summary()
        with TensorFile(self.folder.base) as base, Folder(self.folder.state, base.manifest) as self._folding:
            self._base = base.manifest
            self._resume()
            while not self._settled():
                self._look_around()
                self._courier.push(self.configure_train(1, arrays, config, grid))
                self.aggregate_train(1, self._courier.replies())
                time.sleep(TICK)
            self._check_quorum(final=True)
            collected = time.monotonic()
            self.events.note("merging", models=self._count(State.MERGED))
            members = list(self.members.values())
            receipt, digest = merge(self.folder, base, members)
            merged = time.monotonic()
            self.events.note("merged", models=self._count(State.MERGED))
            self._evaluating = Evaluating(self.folder, base, members, self._courier)
            while self.rules.evaluate and not self._evaluating.done:
                self._look_around()
                self._courier.push(self.configure_evaluate(1, arrays, config, grid))
                self.aggregate_evaluate(1, self._courier.replies())
                time.sleep(TICK)
            timings = {
                "collecting": collected - self._started,
                "merging": merged - collected,
                "evaluating": time.monotonic() - merged,
            }
            found = report(self.folder, base, members, receipt, digest, self._evaluating.scores, timings)
            write_report(self.folder.merged, found)
            self.events.note("reported", message=found.verdict)
        return Result()

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterator[Message]:
        """Make the requests that are due now, one at a time."""
        yield from self._hellos()
        for member in self.members.values():
            if member.node is None or member.node not in self._nodes:
                continue
            while (request := self._next(member)) is not None:
                yield self._message(member.node, request)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Take in replies, one at a time; return no arrays, and how many updates are merged."""
        for message in replies:
            answer = self._courier.answer(message)
            del message  # its tensors must be gone before the next one is pulled
            if answer is not None:
                self._take(answer)
            del answer
        for lost in self._courier.lost():
            self._take(lost)
        for arrival in self._folding.step():
            self._folded(arrival)
        return None, MetricRecord({"merged": self._count(State.MERGED)})

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterator[Message]:
        """Make the requests for evaluation that are due, one at a time."""
        yield from self._hellos()  # a site that was merged in an earlier run may connect only now
        yield from self._evaluating.messages(self._nodes.keys())

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Take in scores, one site at a time; return how many sites evaluated."""
        for message in replies:
            answer = self._courier.answer(message)
            if answer is not None:
                self._take_score(answer)
        for lost in self._courier.lost():
            self._take_score(lost)
        return MetricRecord({"evaluated": len(self._evaluating.scores)})

    def summary(self) -> None:
        """Log what is about to happen."""
        log.info(
            "campaign %s (%s): base %s, sites %s, needed %d",
            self.campaign.name,
            short(self.campaign.digest),
            short(self.campaign.message.base_digest),
            ", ".join(self.campaign.sites),
            self.rules.minimum_sites,
        )

    # ------------------------------------------------------ what is due now

    def _hellos(self) -> Iterator[Message]:
        for node in [node for node in self._nodes if self._greets(node)]:
            nonce = self._nonces[node] = secrets.token_bytes(16)
            yield self._message(node, pb.Request(hello=pb.Hello(nonce=nonce)))

    def _look_around(self) -> None:
        online = self._courier.nodes()
        for node in online - self._nodes.keys():
            self._nodes[node] = ""
        for node in self._nodes.keys() - online:
            site = self._nodes.pop(node)
            self._retry_hello.pop(node, None)
            if site and not self.members[site].state.final:
                self.events.note("disconnected", site)

    def _greets(self, node: int) -> bool:
        due = time.monotonic() >= self._retry_hello.get(node, 0.0)
        return not self._nodes[node] and due and not self._courier.under_way(node=node)

    def _next(self, member: Member) -> pb.Request | None:
        now = time.monotonic()
        if member.state is State.SUBMITTING:
            room = self._courier.under_way("submit") < self._submit.at_once
            mine = self._courier.under_way("submit", member.node) < PER_SITE
            if room and mine and member.parts and now >= member.due:
                return pb.Request(submit=pb.Submit(parameters=member.parts.pop(0)))
            return None
        if now < member.due or self._courier.under_way(node=member.node):
            return None
        if member.state is State.CONNECTED:
            return pb.Request(adapt=pb.Adapt())
        if member.state is State.ADAPTING:
            return pb.Request(progress=pb.ProgressQuery())
        if member.state is State.READY and self._courier.under_way("submit") < self._submit.at_once:
            self.events.note("asked", member.site)
            return pb.Request(submit=pb.Submit(header=True))
        return None

    def _message(self, node: int, request: pb.Request) -> Message:
        request.campaign_digest = self.campaign.digest
        return self._courier.message(node, request, ttl=max(self._left(), 60.0))

    def _left(self) -> float:
        return self._started + self.rules.deadline_seconds - time.monotonic()

    # ---------------------------------------------------- what has arrived

    def _take(self, answer: Answer) -> None:
        if kind_of(answer.request) == "hello":
            self._take_hello(answer)
            return
        member = next((m for m in self.members.values() if m.node == answer.node), None)
        if member is None or member.state.final:
            return
        try:
            self._take_from(member, answer)
        except (UpdateRefusedError, BaseMismatchError) as error:
            self._refuse(member, error.what)

    def _take_score(self, answer: Answer) -> None:
        if kind_of(answer.request) == "hello":
            self._take_hello(answer)
        else:
            self._evaluating.take(answer)

    def _take_hello(self, answer: Answer) -> None:
        node = answer.node
        self._retry_hello[node] = time.monotonic() + RETRY
        reply = answer.reply
        if reply is None:
            return
        if reply.WhichOneof("what") != "hello":
            # Nothing signed came, so all that is known is the name that a registered node gives itself.
            member = self.members.get(reply.refusal.site)
            if member is not None and member.node is None and not member.state.final:
                self._refuse(member, refusal(member.site, reply.refusal))
            else:
                self.events.note("stranger", node=node, message=refusal(str(node), reply.refusal))
            self._retry_hello[node] = time.monotonic() + 12 * RETRY
            return
        try:
            site = self._proven(reply.hello, node)
        except (UpdateRefusedError, BaseMismatchError) as error:
            self.events.note("stranger", node=node, message=error.what)
            self._retry_hello[node] = time.monotonic() + 12 * RETRY
            return
        member = self.members[site]
        if member.node is not None and member.node != node:
            self._nodes.pop(member.node, None)
            if member.arrival is not None:  # what the old node was asked for won't come
                member.parts = list(member.arrival.parts(self._submit.part_mebibytes << 20))
        self._nodes[node], member.node, member.heard = site, node, time.monotonic()
        if member.state is State.ABSENT:
            member.state = State.CONNECTED
        self.events.note("connected", site, node=node)

    def _proven(self, envelope: update_pb2.Signed, node: int) -> str:
        try:
            claimed = pb.HelloReply.FromString(envelope.payload).site
        except DecodeError:
            raise UpdateRefusedError(f"node {node}: the greeting can't be parsed") from None
        if claimed not in self.campaign.keys:
            raise UpdateRefusedError(f"site {claimed} is no member of campaign {self.campaign.name}", site=claimed)
        hello = signing.opened(envelope, signing.HELLO, self.campaign.keys[claimed], pb.HelloReply, claimed)
        expected = (self.campaign.digest, self._nonces.pop(node, b""), node)
        if (hello.campaign_digest, hello.nonce, hello.node_id) != expected:
            raise UpdateRefusedError(
                f"site {claimed}: the greeting is for another campaign, node or time", site=claimed
            )
        return claimed

    def _take_from(self, member: Member, answer: Answer) -> None:
        reply = answer.reply
        if reply is None:
            self.events.note("no-answer", member.site, to=kind_of(answer.request), message=answer.problem)
            if answer.request.submit.parameters:
                member.parts.append(list(answer.request.submit.parameters))
            member.due = time.monotonic() + RETRY
            return
        member.heard = time.monotonic()
        kind = reply.WhichOneof("what")
        if kind == "refusal":
            if reply.refusal.reason == pb.Refusal.REASON_NOT_READY:
                member.state, member.due = State.CONNECTED, time.monotonic() + RETRY
                return
            self._refuse(member, refusal(member.site, reply.refusal))
        elif kind == "progress" and kind_of(answer.request) in ("adapt", "progress"):
            self._take_progress(member, reply.progress)
        elif kind == "header" and member.state is State.READY:
            self._take_header(member, reply.header)
        elif kind == "parameters" and member.state is State.SUBMITTING and answer.content is not None:
            wanted = list(answer.request.submit.parameters)
            assert member.arrival is not None
            member.arrival.take(flower.bytes_of(answer.content, "parameters", f"site {member.site}"), wanted)
            if not member.arrival.missing:
                member.state = State.FOLDING
                self.events.note("arrived", member.site, digest=member.digest.hex(), bytes=member.arrival.nbytes)
                self._folding.add(member.arrival)
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
            )
            return
        if state not in pb.Progress.State.values() or progress.phase not in pb.Phase.values():
            raise UpdateRefusedError(f"site {member.site}: its progress is none that is known here")
        self.events.note(
            "progress",
            member.site,
            state=pb.Progress.State.Name(state).removeprefix("STATE_").lower(),
            phase=pb.Phase.Name(progress.phase).removeprefix("PHASE_").lower(),
            step=progress.step,
            steps=progress.steps,
            eta=round(progress.eta_seconds, 1),
        )
        if state == pb.Progress.STATE_READY:
            member.state, member.due = State.READY, now
        elif state == pb.Progress.STATE_ADAPTING:
            member.state = State.ADAPTING
            # The nearer the end, the more often: a third of what is left.
            member.due = now + min(max(progress.eta_seconds / 3, self._pace.least), self._pace.most)
        else:
            member.restarts += member.state is State.ADAPTING
            if member.restarts > MAX_RESTARTS:
                self._refuse(member, f"site {member.site}: its adapting process died {member.restarts} times")
                return
            member.state, member.due = State.CONNECTED, now + RETRY * member.restarts

    def _take_header(self, member: Member, envelope: update_pb2.Signed) -> None:
        arrival = Arrival(self._arrival(member.site), self.campaign, self._base, member.site, envelope)
        member.arrival, member.header, member.digest = arrival, arrival.header, arrival.digest
        member.parts = list(arrival.parts(self._submit.part_mebibytes << 20))
        member.state = State.SUBMITTING
        self.events.note("header", member.site, digest=arrival.digest.hex(), parts=len(member.parts))

    def _folded(self, arrival: Arrival) -> None:
        member = self.members[arrival.site]
        member.state, member.seconds = State.MERGED, time.monotonic() - self._started
        if not self.rules.compare_single_models:
            arrival.forget()
        self.events.note("folded", member.site, digest=member.digest.hex())

    # ------------------------------------------------------------- the rules

    def _settled(self) -> bool:
        now = time.monotonic()
        for member in self.members.values():
            if member.state.final or member.state is State.FOLDING:
                continue
            if now - member.heard > self.rules.patience_seconds:
                silent = "never connected" if member.state is State.ABSENT else "stopped answering"
                self._miss(member, f"site {member.site} {silent} (waited {self.rules.patience_seconds} s)")
            elif self._left() < 0:
                self._miss(member, f"site {member.site} was {member.state.value} when the deadline passed")
        self._check_quorum(final=False)
        return all(member.state.final for member in self.members.values())

    def _check_quorum(self, *, final: bool) -> None:
        lost = [member for member in self.members.values() if member.state in (State.REFUSED, State.MISSING)]
        possible = len(self.members) - len(lost)
        merged, needed = self._count(State.MERGED), self.rules.minimum_sites
        if (merged if final else possible) >= needed:
            return
        reasons = "; ".join(member.reason for member in lost)
        raise QuorumError(
            f"campaign {self.campaign.name}: {needed} of {len(self.members)} sites are needed, "
            f"at most {possible} can deliver, so nothing was merged. {reasons}",
            "mend these sites and run the campaign again: what the others sent is not asked for twice",
        )

    def _count(self, state: State) -> int:
        return sum(member.state is state for member in self.members.values())

    def _refuse(self, member: Member, reason: str) -> None:
        member.state, member.reason = State.REFUSED, reason
        if member.arrival is not None:
            clear(member.arrival.folder)
        self.events.note("refused", member.site, message=reason)

    def _miss(self, member: Member, reason: str) -> None:
        member.state, member.reason = State.MISSING, reason
        self.events.note("missing", member.site, message=reason)

    # ------------------------------------------------------------ resuming

    def _arrival(self, site: str) -> Path:
        return self.folder.path / "arrivals" / site

    def _resume(self) -> None:
        """Find out what an earlier run folded already: its digests stand in the state itself."""
        if not self.folder.state.exists():
            return
        with MergeState(self.folder.state) as state:
            inside = state.digests
        for member in self.members.values():
            kept = kept_header(self._arrival(member.site), self.campaign, member.site)
            if kept is not None and kept[1].hex() in inside:
                member.header, member.digest = kept
                member.state = State.MERGED
                self.events.note("already-folded", member.site, digest=member.digest.hex())
