"""The Flower strategy: one merge, in one shot.

Flower's strategies train in rounds. This one drives the same four methods as a conversation: again and again,
`configure_train` makes the requests that are due now and `aggregate_train` takes in what has arrived, until
every member is merged, refused or missing; the other two ask the merged sites for what comes after. Members are
asked for their updates a few parts at a time, and replies are pulled, checked, written down and dropped one by
one, so memory doesn't grow with their number.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result, Strategy

from coordinator import roster
from coordinator.adopting import Acknowledging, Adopting
from coordinator.arrivals import clear
from coordinator.asking import Asking, Held
from coordinator.campaign_folder import CampaignFolder
from coordinator.cancelling import Cancelling
from coordinator.collecting import Collecting, Pace
from coordinator.courier import Answer, Courier, kind_of
from coordinator.evaluating import Evaluating
from coordinator.folding import Folding
from coordinator.greeting import Greeter
from coordinator.measuring import Measuring
from coordinator.members import State
from coordinator.merging import Measured, finish, merge, sets_for_sites
from coordinator.pacing import lifetime
from coordinator.report.write import write_report
from coordinator.results import report
from coordinator.summing import Summing
from protos import faults, letters
from protos import messages_pb2 as pb
from protos.digest import short
from protos.errors import CancelledError
from protos.rules import MEASURED, SECURE_SUM
from protos.tensorfile import TensorFile

log = logging.getLogger("onebasin.coordinator")

TICK = 0.2
"""Seconds between two looks at what has arrived."""


class OneShotMerge(Strategy):
    """Merge the members' updates once, by the campaign's rules.

    Args:
        folder: The campaign's folder.
        pace: How often to ask for progress.

    """

    def __init__(self, folder: CampaignFolder, pace: Pace | None = None) -> None:
        self.folder = folder
        self.campaign = folder.campaign
        self.events = folder.log()
        self._pace = pace or Pace()

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
            CancelledError: The operator cancelled it. The sites that could be reached have stopped adapting.
            OnebasinError: Something on the coordinator's side went wrong, e.g. a full disk.

        """
        home = self.folder.home
        desk = letters.Coordinator(self.campaign, home.signing_key, home.agreement_key)
        self._courier = Courier(grid, desk)
        self._greeter = Greeter(self.campaign, self.events, lambda node: roster.site_of(home, node))
        self.summary()
        digest = self.campaign.message.base_digest
        weighing = self.campaign.rules.weighing
        with (
            TensorFile(self.folder.base) as base,
            Folding(self.folder.state, base.manifest, digest, weighing) as folding,
        ):
            self._collecting = Collecting(self.folder, base.manifest, self._courier, folding, self._pace)
            self.events.note("started")
            self._collecting.resume()
            try:
                self._run(base, grid)
            except CancelledError:
                self._collecting.cancel()
                self._ask(Cancelling(self.folder, self._collecting.members, self._courier), grid)
                raise
        return Result()

    def _run(self, base: TensorFile, grid: Grid) -> None:
        """Go through the campaign, step by step; raises as `start`."""
        arrays, config = ArrayRecord(), ConfigRecord()
        self._check_cancelled()
        while not self._collecting.settled():
            self._look()
            self._courier.push(self.configure_train(1, arrays, config, grid))
            self.aggregate_train(1, self._courier.replies())
            time.sleep(TICK)
            self._check_cancelled()
        members = list(self._collecting.members.values())
        if any(member.state is State.READY for member in members):
            self._ask(Summing(self.folder, base.manifest, members, self._courier), grid)
        self._collecting.quorum.check(final=True)
        collected = time.monotonic()
        self.events.note("merging", models=self._collecting.quorum.merged)
        receipt = merge(self.folder, base, members)
        merged = time.monotonic()
        self.events.note(
            "merged",
            models=receipt.models,
            digest=receipt.merged.digest,
            receipt=receipt.digest,
            seconds=round(merged - collected, 3),
        )
        rules, held, measured = self.campaign.rules, Held(), Measured()
        if rules.buffers in MEASURED:
            measuring = Measuring(self.folder, base.manifest, members, self._courier, held)
            self._ask(measuring, grid)
            measured = measuring.measured()
            receipt = finish(self.folder, base, members, measured)
            self.events.note("finished", digest=receipt.merged.digest, receipt=receipt.digest)
        finished = time.monotonic()
        scores = {}
        if rules.evaluate:
            evaluating = Evaluating(self.folder, base.manifest, members, self._courier, held, measured)
            self._ask(evaluating, grid)
            scores = evaluating.scores
        evaluated = time.monotonic()
        if rules.deliver:
            sets = sets_for_sites(self.folder, base.manifest, measured)
            self._ask(Adopting(self.folder, base.manifest, members, self._courier, held, sets), grid)
        else:
            self._ask(Acknowledging(self.folder, base.manifest, members, self._courier, held), grid)
        timings = {
            "collecting": collected - self._collecting.quorum.started,
            "merging": merged - collected,
            "measuring": finished - merged,
            "evaluating": evaluated - finished,
            "delivering": time.monotonic() - evaluated,
        }
        found = report(self.folder, base, members, receipt, scores, timings)
        write_report(self.folder.merged, found)
        self._forget()
        self.events.note("reported", message=found.verdict)

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterator[Message]:
        """Make the requests that are due now, one at a time."""
        yield from self._greetings()
        for node, site, request in self._collecting.requests(self._greeter.online):
            yield self._message(node, request, site)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Take in replies, one at a time; return no arrays, and how many updates are merged."""
        for message in replies:
            answer = self._courier.answer(message)
            del message  # its tensors must be gone before the next one is pulled
            if answer is not None:
                self._take(answer, self._collecting.take)
            del answer
        for lost in self._courier.lost():
            self._take(lost, self._collecting.take)
        self._collecting.fold()
        return None, MetricRecord({"merged": self._collecting.quorum.merged})

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterator[Message]:
        """Make the requests that are due after the merge, one at a time."""
        yield from self._greetings()  # a site that was merged in an earlier run may connect only now
        yield from self._asking.messages(self._greeter.online)

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Take in answers, one site at a time."""
        for message in replies:
            answer = self._courier.answer(message)
            if answer is not None:
                self._take(answer, self._asking.take)
        for lost in self._courier.lost():
            self._take(lost, self._asking.take)
        return None

    def summary(self) -> None:
        """Log what is about to happen."""
        log.info(
            "campaign %s (%s): base %s, sites %s, needed %d",
            self.campaign.name,
            short(self.campaign.digest),
            short(self.campaign.message.base_digest),
            ", ".join(self.campaign.sites),
            self.campaign.rules.minimum_sites,
        )

    def _check_cancelled(self) -> None:
        if self.folder.course().cancelled is not None:
            raise CancelledError(
                f"campaign {self.campaign.name} was cancelled",
                "take it up again: onebasin coordinator run --reopen",
            )

    def _ask(self, asking: Asking | Summing | Cancelling, grid: Grid) -> None:
        """Hold a conversation with the sites, until each has answered or was given up; raises as `start`."""
        self._asking = asking
        arrays, config = ArrayRecord(), ConfigRecord()
        while not asking.done:
            self._look()
            self._courier.push(self.configure_evaluate(1, arrays, config, grid))
            self.aggregate_evaluate(1, self._courier.replies())
            time.sleep(TICK)
            if not isinstance(asking, Cancelling):
                self._check_cancelled()

    def _forget(self) -> None:
        """Drop single updates, which nobody needs any more: what stays are the sums, digests and receipts."""
        faults.point("forget-before")
        self.folder.sum_record.unlink(missing_ok=True)
        summed = self.campaign.rules.privacy == SECURE_SUM  # masked updates are of no use to anyone
        if (summed or not self.folder.home.settings.keep_updates) and self.folder.arrivals.exists():
            clear(self.folder.arrivals)
            self.events.note("forgotten", updates=self._collecting.quorum.merged)

    def _look(self) -> None:
        for site in self._greeter.look(self._courier.nodes()):
            self._collecting.disconnected(site)

    def _greetings(self) -> Iterator[Message]:
        for node, request in self._greeter.greetings(lambda node: self._courier.under_way(node=node) > 0):
            yield self._message(node, request)

    def _take(self, answer: Answer, otherwise: Callable[[Answer], None]) -> None:
        if kind_of(answer.request) != "hello":
            otherwise(answer)
            return
        found = self._greeter.take(answer)
        if found is not None:
            before = self._collecting.greeted(found)
            if before is not None:
                self._greeter.replaced(before)

    def _message(self, node: int, request: pb.Request, site: str = "") -> Message:
        request.campaign_digest = self.campaign.digest
        collecting = self._collecting
        seconds = self.campaign.rules.deadline_seconds
        ttl = lifetime(kind_of(request), seconds, collecting.quorum.left, collecting.failures(site))
        return self._courier.message(node, request, ttl, site=site)
