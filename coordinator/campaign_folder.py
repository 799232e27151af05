"""What the coordinator keeps for one campaign, and who may change it."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from coordinator import publishing
from coordinator.events import Events
from coordinator.journal import Course
from protos import campaign as campaigns
from protos.campaign import Campaign
from protos.errors import ConfigurationError

if TYPE_CHECKING:
    from coordinator.home import Home


@dataclass(frozen=True)
class CampaignFolder:
    """What the coordinator keeps for a campaign.

    ::

        campaign.binpb  base.safetensors
        run.lock                          held while a run is on
        arrivals/<site>/                  an update on its way in, and its signed header; until the run is over
        sum.binpb                         what was heard in a secure sum; until the run is over
        state.safetensors                 the merge state
        evaluations/<site>.binpb          signed scores
        merged/                           model, card, receipt, proofs, report; earlier receipts
    """

    home: Home
    path: Path

    @property
    def campaign_file(self) -> Path:
        """The file that sites get."""
        return self.path / "campaign.binpb"

    @property
    def base(self) -> Path:
        """The base."""
        return self.path / "base.safetensors"

    @property
    def state(self) -> Path:
        """The merge state."""
        return self.path / "state.safetensors"

    @property
    def arrivals(self) -> Path:
        """The folder of single updates, each in one of its own by site."""
        return self.path / "arrivals"

    @property
    def sum_record(self) -> Path:
        """The file of a secure sum that is under way."""
        return self.path / "sum.binpb"

    @property
    def merged(self) -> Path:
        """The folder of the result."""
        return self.path / "merged"

    @property
    def key(self) -> str:
        """What the journal knows the campaign by: its digest, hexadecimal."""
        return self.campaign.digest.hex()

    def log(self) -> Events:
        """Return where events are noted; those that matter go into the audit log too."""
        return Events(self.home.journal, self.key, self.path.name, self.home.audit)

    @cached_property
    def campaign(self) -> Campaign:
        """The campaign itself."""
        return campaigns.load(self.campaign_file)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the campaign: two runs at once would write one merge state. A dead run holds nothing.

        A result that a crash kept from its place is put there first.

        Raises:
            ConfigurationError: Another run holds it.

        """
        with (self.path / "run.lock").open("a") as lock:
            if not _locked(lock):
                raise ConfigurationError(
                    f"campaign {self.path.name} is running already", "watch it: onebasin coordinator status"
                )
            if publishing.finish(self.path):
                self.log().note("completed")
            yield

    def held(self) -> bool:
        """Tell whether somebody holds the campaign: a run that is on, say."""
        with suppress(FileNotFoundError), (self.path / "run.lock").open("rb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def course(self) -> Course:
        """Return how the campaign went so far."""
        return self.home.journal.course(self.key)

    def begin(self) -> Course:
        """Begin a run, and return how the campaign went so far: its deadline counts from its first run."""
        return self.home.journal.begin(self.key, self.path.name, self.campaign.rules.deadline_seconds)

    def outcome(self) -> Mapping[str, Any] | None:
        """Return how the last run ended, or None if it did not."""
        return self.course().outcome

    def end(self, **outcome: Any) -> None:
        """Write down how a run ended."""
        self.home.journal.end(self.key, self.path.name, {**outcome, "time": time.time()})

    def cancel(self, *, cancelled: bool = True) -> None:
        """Write down that the campaign is cancelled, or that it is taken up again."""
        self.home.journal.cancel(self.key, self.path.name, cancelled=cancelled)

    def forget_outcome(self) -> None:
        """Start a new run."""
        self.home.journal.end(self.key, self.path.name, None)


def _locked(lock: IO[str]) -> bool:
    """Lock a file for oneself; tried more than once, for `CampaignFolder.held` locks it for an instant."""
    for _ in range(5):
        with suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        time.sleep(0.02)
    return False
