"""A site's part in a campaign's secure sum: what it remembers between two messages, and its masked update.

The rules of who remembers are those of `protos.securesum.site`: one file for a campaign, written before the answer
leaves, under a lock. The answer is in it too: whoever asks the very same again gets the very same again, for it
got lost. Anything else of a stage that is done is refused.
"""

from __future__ import annotations

import fcntl
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from client.joined import Joined
from client.outbox import Outbox
from protos import files, flower, signing
from protos import messages_pb2 as pb
from protos import securesum_pb2 as sums
from protos.digest import DIGEST_BYTES, sha256
from protos.errors import SecureSumError, UpdateRefusedError
from protos.securesum import memory, site
from protos.securesum.agreement import Agreement
from protos.securesum.layout import SUM, Layout, layout, specs
from protos.securesum.site import Advertised, AnyState, Confirmed, Masked, Shared
from protos.securesum.wide import Words
from protos.tensorfile import TensorFile, write_tensors
from protos.update_pb2 import Signed
from protos.updatefile import UpdateFile

BLOCK = 1 << 18
"""Values that are masked at a time."""

log = logging.getLogger("onebasin.site")


class Summing:
    """A joined campaign's secure sum.

    Args:
        joined: The campaign.

    """

    def __init__(self, joined: Joined) -> None:
        self._joined = joined
        self._site = joined.site.name
        self._folder = joined.folder / "sum"

    @property
    def words_file(self) -> Path:
        """The masked update, as long as it may be asked for."""
        return self._folder / "masked.safetensors"

    def answer(self, stage: pb.SumStage) -> Signed:
        """Do a stage, or say again what was said.

        Args:
            stage: What the coordinator gives this site.

        Returns:
            What the site says, signed.

        Raises:
            SecureSumError: The stage can't be done, or not again; or what was given is a lie.
            SignatureError: A member didn't sign what the coordinator says that it said.
            UpdateRefusedError: The update can't be masked, or is not what was signed.
            StorageError: The disk is full.

        """
        asked = sha256([signing.encode(stage)])
        with self._alone():
            kept = self._kept()
            if kept is not None and kept.asked == asked:
                return kept.said
            before = None if kept is None else memory.load(kept.state)
            agreement = Agreement.of(self._joined.campaign, stage.nonce)
            state, said = self._done(stage, before, agreement)
            now = sums.Kept(state=memory.dump(state), asked=asked, said=said)
            if isinstance(state, Masked):
                now.masked.CopyFrom(said)
            elif kept is not None and not isinstance(state, Advertised | Shared):
                now.masked.CopyFrom(kept.masked)
            payload = signing.encode(now)
            files.write(self._file, sha256([payload]) + payload, mode=0o600)
            if not isinstance(state, Masked):
                self.words_file.unlink(missing_ok=True)
            log.info("secure sum: this site is at stage %s", type(state).__name__.lower())
        return said

    def words(self, names: Iterable[str]) -> bytes:
        """Read masked vectors to be sent, by their keys, one after the other; check them against what was signed.

        Raises:
            SecureSumError: There are none at this stage.
            UpdateRefusedError: A name is no vector's, or the file is not what was signed.

        """
        kept = self._kept()
        if kept is None or not isinstance(memory.load(kept.state), Masked):
            raise SecureSumError(f"site {self._site}: no masked values are asked for at this stage")
        statement = signing.decode(kept.masked.payload, sums.Masked, f"site {self._site}")
        listed = {vector.key: vector.sha256 for vector in statement.vectors}
        wanted = list(names)
        if unknown := [key for key in wanted if key not in listed]:
            raise UpdateRefusedError(f"site {self._site}: {unknown[0]} is no vector of this update")
        with TensorFile(self.words_file) as file:
            raw = flower.joined([(file, wanted)])
            for key, content in flower.split(raw, file.manifest.tensors, wanted, f"site {self._site}"):
                if sha256([content]) != listed[key]:
                    raise UpdateRefusedError(
                        f"site {self._site}: {self.words_file} is not as it was written: {key} is damaged",
                        "check the disk, and have the coordinator start another secure sum",
                    )
        return raw

    def masked(self) -> Signed | None:
        """Return what this site signed for its masked values, a `Masked`; None if it did not yet.

        Raises:
            SecureSumError: What this site remembers is damaged.

        """
        kept = self._kept()
        return kept.masked if kept is not None and kept.HasField("masked") else None

    def digest(self) -> bytes:
        """Return what a receipt names this site's update by: the digest of what it signed for its masked values.

        Raises:
            SecureSumError: It signed nothing yet.

        """
        found = self.masked()
        if found is None:
            raise SecureSumError(f"site {self._site} has sent no masked update in this campaign")
        return signing.digest(found)

    def _done(self, stage: pb.SumStage, before: AnyState | None, agreement: Agreement) -> tuple[AnyState, Signed]:
        """Do a stage; return the state after it, and what the site says."""
        key = self._joined.site.signing_key
        match stage.WhichOneof("given"):
            case None:
                if before is not None and stage.nonce < before.agreement.nonce:  # held back on its way
                    raise SecureSumError(f"site {self._site}: a request of an earlier secure sum arrived")
                return site.begin(agreement, self._site, key, before)
            case "roster":
                return memory.expect(before, Advertised, agreement).share(stage.roster, key)
            case "delivery":
                shared = memory.expect(before, Shared, agreement)
                return self._mask(shared.receive(stage.delivery, Outbox(self._joined).digest()))
            case "survivors":
                return memory.expect(before, Masked, agreement).confirm(stage.survivors, key)
            case _:
                return memory.expect(before, Confirmed, agreement).reveal(stage.confirmations, key)

    def _mask(self, state: Masked) -> tuple[Masked, Signed]:
        """Write the masked update down, and sign for it."""
        with TensorFile(self._joined.base) as base:
            vectors = layout(base.manifest)
        with UpdateFile(Outbox(self._joined).model) as update:
            update.check()
            digests = self._write(state, vectors, update)
        return state, state.statement(digests, self._joined.site.signing_key)

    def _write(self, state: Masked, vectors: Layout, update: UpdateFile) -> dict[str, bytes]:
        masker = state.masker(vectors, update.digest)
        statistics: dict[str, Words] = {}
        for layer, found in update.statistics.items():
            statistics |= masker.statistics(layer, found)

        def content(key: str) -> Iterator[bytes | memoryview]:
            vector = vectors[key]
            if vector.part != SUM:
                yield statistics[key].data.cast("B")
                return
            dtype = update.file.manifest.tensors[vector.name].dtype
            for start in range(0, vector.size, BLOCK):
                stop = min(start + BLOCK, vector.size)
                values = dtype.widen(update.file.read(vector.name, start, stop))
                yield masker.parameter(vector.name, start, values).data.cast("B")

        # Not synced: if the machine stops, this site has dropped out, and another attempt masks anew.
        return write_tensors(self.words_file, specs(vectors), content, durable=False)

    def _kept(self) -> sums.Kept | None:
        try:
            content = self._file.read_bytes()
        except FileNotFoundError:
            return None
        seal, payload = content[:DIGEST_BYTES], content[DIGEST_BYTES:]
        if sha256([payload]) != seal:
            raise SecureSumError(
                f"site {self._site}: {self._file} is damaged",
                "this site can't take part in this campaign's sum any more: ask for a new campaign",
            )
        return sums.Kept.FromString(payload)

    @property
    def _file(self) -> Path:
        return self._folder / "state.binpb"

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Wait until no other process of this site is at a stage."""
        files.make_folder(self._folder, mode=0o700)
        with (self._folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
