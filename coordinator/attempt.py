"""One attempt at a campaign's secure sum: what was heard of whom, and what each site is given next.

All that was heard is written down before anything follows from it. A coordinator that is killed plays it back into
the same state machine and goes on with the same nonce: sites say again what got lost, but do no stage twice.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path

from google.protobuf.message import DecodeError

from protos import files, signing
from protos import messages_pb2 as pb
from protos import securesum_pb2 as sums
from protos.campaign import Campaign
from protos.errors import SecureSumError
from protos.securesum.agreement import NONCE_BYTES, Agreement
from protos.securesum.coordinator import Advertising, Confirming, Masking, Revealing, Sharing
from protos.securesum.keystream import Mask
from protos.securesum.layout import Layout
from protos.update_pb2 import Signed

Stage = Advertising | Sharing | Masking | Confirming | Revealing


class Attempt:
    """An attempt at a secure sum.

    Args:
        path: Its record; an attempt that is recorded there is continued.
        campaign: The campaign.
        vectors: The base's.
        sites: Who is asked first.

    Attributes:
        resumed: Whether an earlier run began it.
        stage: Where it is.
        given: What each site that is asked at this stage is given.
        said: Who has answered at this stage.
        masked: Each site's signed statement about its masked values, once they are all here.
        masks: What is left in the sum, once it is known; the attempt is over then.

    Raises:
        SecureSumError: The record is damaged.

    """

    def __init__(self, path: Path, campaign: Campaign, vectors: Layout, sites: Iterable[str]) -> None:
        self._path = path
        self._vectors = vectors
        found = read(path)
        record = found or sums.Record(nonce=secrets.token_bytes(NONCE_BYTES))
        self.resumed = found is not None
        self._record = sums.Record(nonce=record.nonce)
        self.stage: Stage = Advertising(Agreement.of(campaign, record.nonce))
        self.given: Mapping[str, pb.SumStage] = {site: pb.SumStage(nonce=record.nonce) for site in sites}
        self.said: set[str] = set()
        self.masked: dict[str, Signed] = {}
        self.masks: tuple[Mask, ...] | None = None
        for one in record.heard:
            if one.HasField("closed"):
                self._close()
            else:
                self._hear(one.said.site, one.said.envelope)

    @property
    def name(self) -> str:
        """The stage's name."""
        return type(self.stage).__name__.lower()

    @property
    def survivors(self) -> tuple[str, ...]:
        """Whose values are summed, ascending; known when all masked values are there."""
        assert isinstance(self.stage, Confirming | Revealing)
        return self.stage.survivors

    def statement(self, site: str) -> sums.Masked:
        """Return what a site said about its masked values."""
        return signing.decode(self.masked[site].payload, sums.Masked, f"site {site}")

    def hear(self, site: str, envelope: Signed) -> None:
        """Take in what a site says, and write it down.

        Raises:
            SecureSumError: It doesn't fit the stage, or contradicts what others were told.
            SignatureError: The site didn't sign it.
            UpdateRefusedError: It is malformed.
            StorageError: The disk is full.

        """
        self._hear(site, envelope)
        self._write()

    def check_masked(self, site: str, envelope: Signed) -> sums.Masked:
        """Check what a site says about its masked values, before these arrive; raises as `hear`."""
        assert isinstance(self.stage, Masking)
        return self.stage.check(site, envelope, self._vectors)

    def close(self) -> None:
        """Go on to the next stage with those that answered.

        Raises:
            SecureSumError: They are too few, or what they said doesn't fit together.
            StorageError: The disk is full.

        """
        self._close()
        self._write()

    def forget(self) -> None:
        """Drop the record: the next attempt is a new one."""
        self._path.unlink(missing_ok=True)

    def _hear(self, site: str, envelope: Signed) -> None:
        if isinstance(self.stage, Masking):
            self.stage = self.stage.take(site, envelope, self._vectors)
            self.masked[site] = envelope
        else:
            self.stage = self.stage.take(site, envelope)
        self.said.add(site)
        self._record.heard.add(said=sums.Said(site=site, envelope=envelope))

    def _close(self) -> None:
        nonce, stage = self._record.nonce, self.stage
        match stage:
            case Advertising():
                self.stage, roster = stage.close()
                self.given = {site: pb.SumStage(nonce=nonce, roster=roster) for site in self.stage.roster.sites}
            case Sharing():
                self.stage, deliveries = stage.close()
                self.given = {
                    site: pb.SumStage(nonce=nonce, delivery=delivery) for site, delivery in deliveries.items()
                }
            case Masking():
                self.stage, survivors = stage.close()
                self.given = {site: pb.SumStage(nonce=nonce, survivors=survivors) for site in survivors.sites}
            case Confirming():
                self.stage, confirmations = stage.close()
                self.given = {site: pb.SumStage(nonce=nonce, confirmations=confirmations) for site in self.said}
            case Revealing():
                self.masks, self.given = stage.close(), {}
        self.said = set()
        self._record.heard.add(closed=sums.Heard.Close())

    def _write(self) -> None:
        files.write(self._path, signing.encode(self._record), mode=0o600)


def read(path: Path) -> sums.Record | None:
    """Read an attempt's record; None if there is none.

    Raises:
        SecureSumError: It is damaged.

    """
    try:
        return sums.Record.FromString(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, DecodeError):
        raise SecureSumError(
            f"the record of the secure sum, {path}, is damaged",
            "remove it to start another sum; if sites have revealed their shares already, create a new campaign",
        ) from None


def digests(path: Path) -> dict[str, bytes]:
    """Return the digests of the statements about masked values that a record holds, by site; raises as `read`."""
    record = read(path) or sums.Record()
    found, closed = {}, 0
    for one in record.heard:
        closed += one.HasField("closed")
        if closed == 2 and one.HasField("said"):  # the third stage
            found[one.said.site] = signing.digest(one.said.envelope)
    return found
