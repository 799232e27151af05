"""One attempt at a campaign's secure sum: what was heard of whom, and what each site is given next.

All that was heard is added to a file before anything follows from it. A coordinator that is killed plays it back
into the same state machine and goes on with the same nonce: sites say again what got lost, but do no stage twice.
A last entry that is not whole was never heard.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterable, Mapping
from io import BytesIO
from pathlib import Path

from google.protobuf import proto
from google.protobuf.message import DecodeError

from protos import files, signing
from protos import messages_pb2 as pb
from protos import securesum_pb2 as sums
from protos.campaign import Campaign
from protos.errors import OnebasinError, SecureSumError, StorageError
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
        entries = read(path)
        self.resumed = bool(entries)
        if not entries:
            entries = [sums.Entry(begun=_nonce())]
            files.write(path, _framed(entries[0]), mode=0o600)
        self._nonce = entries[0].begun
        self.given: Mapping[str, pb.SumStage] = {site: pb.SumStage(nonce=self._nonce) for site in sites}
        self.said: set[str] = set()
        self.masked: dict[str, Signed] = {}
        self.masks: tuple[Mask, ...] | None = None
        try:
            self.stage: Stage = Advertising(Agreement.of(campaign, self._nonce))
            for entry in entries[1:]:
                if entry.HasField("closed"):
                    self._close()
                else:
                    self._hear(entry.said.site, entry.said.envelope)
        except (AssertionError, OnebasinError) as error:
            raise _damaged(path, str(error)) from error

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
        self._add(sums.Entry(said=sums.Said(site=site, envelope=envelope)))

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
        self._add(sums.Entry(closed=sums.Entry.Closed()))

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

    def _close(self) -> None:
        nonce, stage = self._nonce, self.stage
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

    def _add(self, entry: sums.Entry) -> None:
        try:
            with self._path.open("ab") as file:
                file.write(_framed(entry))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise StorageError(f"can't write {self._path}: {error.strerror}", "free some space") from error


def read(path: Path) -> list[sums.Entry]:
    """Read an attempt's record, and cut off a last entry that is not whole; empty if there is none.

    Raises:
        SecureSumError: It is damaged.
        StorageError: It can't be read.

    """
    try:
        content = BytesIO(path.read_bytes())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StorageError(f"can't read {path}: {error.strerror}", "mend its permissions or the disk") from error
    found, whole = [], 0
    try:
        while (entry := proto.parse_length_prefixed(sums.Entry, content)) is not None:
            found.append(entry)
            whole = content.tell()
    except (DecodeError, ValueError):
        if whole == 0 or content.tell() < len(content.getbuffer()):
            raise _damaged(path, "an entry makes no sense") from None
    if whole < len(content.getbuffer()):
        os.truncate(path, whole)
    if found and not found[0].HasField("begun"):
        raise _damaged(path, "it has no beginning")
    return found


def revealing(path: Path) -> tuple[set[str], set[str]]:
    """Return, of a sum whose shares are being revealed: who is asked for them, and who has revealed its own.

    Both are empty if there is no such record; raises as `read`.
    """
    entries, stage, said = read(path), 0, [set[str]() for _ in range(6)]
    for entry in entries:
        stage += entry.HasField("closed")
        if entry.HasField("said"):
            said[min(stage, 5)].add(entry.said.site)
    return (said[3], said[4]) if stage >= 4 else (set(), set())


def digests(path: Path) -> dict[str, bytes]:
    """Return the digests of the statements about masked values that a record holds, by site; raises as `read`."""
    found, stage = {}, 0
    for entry in read(path):
        stage += entry.HasField("closed")
        if stage == 2 and entry.HasField("said"):
            found[entry.said.site] = signing.digest(entry.said.envelope)
    return found


def _nonce() -> bytes:
    """Draw an attempt's nonce. Later ones are larger, so a site can tell an old request from a new attempt."""
    return time.time_ns().to_bytes(8, "big") + secrets.token_bytes(NONCE_BYTES - 8)


def _framed(entry: sums.Entry) -> bytes:
    content = BytesIO()
    proto.serialize_length_prefixed(entry, content)
    return content.getvalue()


def _damaged(path: Path, why: str) -> SecureSumError:
    return SecureSumError(
        f"the record of the secure sum, {path}, is damaged: {why}",
        "remove it to start another sum; if sites have revealed their shares already, create a new campaign",
    )
