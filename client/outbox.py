"""The outbox: the finished update, kept until the operator clears it, and sent as often as it is asked for.

The model's file is written first and its signed header last, each atomically, so an update is there whole or
not at all. The header's digest of every parameter is checked when the bytes are read to be sent. An update that
was cleared leaves its header behind: receipts are compared with it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from google.protobuf.message import DecodeError

from client.joined import Joined
from protos import boundary, faults, files, flower, regions, signing, updatefile
from protos import update_pb2 as pb
from protos.boundary import Array, BatchNorm
from protos.errors import ConfigurationError, ModelFileError, StorageError, UpdateRefusedError
from protos.manifest import TensorSpec
from protos.tensorfile import Content, TensorFile, write_tensors
from protos.updatefile import UpdateFile

Describe = Callable[[Mapping[str, bytes]], pb.UpdateHeader]
"""Makes an update's header of the digests of its parameters."""
_SAME = "adapt the campaign's base without changing its architecture"


@dataclass(frozen=True)
class Outbox:
    """A joined campaign's outbox."""

    joined: Joined

    @property
    def model(self) -> Path:
        """The adapted model."""
        return self.joined.folder / "outbox" / "model.safetensors"

    @property
    def _header(self) -> Path:
        return self.joined.folder / "outbox" / updatefile.HEADER

    @property
    def ready(self) -> bool:
        """Whether an update is there."""
        return self._header.exists() and not self.cleared

    @property
    def cleared(self) -> bool:
        """Whether there was one that was removed once it was merged."""
        return self._marker.exists()

    @property
    def _marker(self) -> Path:
        return self.joined.folder / "outbox" / "cleared.json"

    @property
    def known(self) -> bool:
        """Whether the header of an update is there, be the update cleared or not."""
        return self._header.exists()

    @property
    def stored(self) -> float:
        """When the update was stored, in seconds since 1970."""
        return self._header.stat().st_mtime

    @property
    def nbytes(self) -> int:
        """Bytes that it takes."""
        return sum(path.stat().st_size for path in (self._header, self.model) if path.exists())

    def clear(self, receipt: str) -> None:
        """Remove the update. From then on it can neither be sent nor be presented once more.

        Args:
            receipt: Digest of the receipt that covers it, hexadecimal.

        Raises:
            StorageError: It can't be removed.

        """
        if not self.cleared:  # written down first: a crash in between leaves a file too many, not a doubt
            digest, campaign = self.digest().hex(), self.joined.campaign.digest.hex()
            self.joined.site.audit.note("cleared", campaign=campaign, digest=digest, receipt=receipt)
            content = {"digest": digest, "receipt": receipt, "time": int(time.time())}
            files.write(self._marker, json.dumps(content) + "\n")
        try:
            self.model.unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(
                f"can't remove {self.model}: {error.strerror}", "check permissions, and clear once more"
            ) from error

    def store(self, state: Mapping[str, Array]) -> bytes:
        """Make the update of a model's tensors, sign it and keep it; return its digest.

        Args:
            state: Tensors as NumPy stores their dtypes. Only what the base names is looked at.

        Raises:
            UpdateRefusedError: The model has not what the base has, or values that can't be merged.
            StorageError: The disk is full.

        """
        site, campaign = self.joined.site, self.joined.campaign
        with TensorFile(self.joined.base) as base:
            header = boundary.describe(state, base.manifest, campaign, site.name)
            _check_buffers(state, base, site.name)
            files.make_folder(self.model.parent)
            _write_model(self.model, base, state)
            faults.point("outbox-model")
        return self._signed(header, "adapted")

    def store_sums(self, specs: Mapping[str, TensorSpec], content: Content, describe: Describe) -> bytes:
        """Make a region's update of its sites' sums, sign it and keep it in place of one that is there.

        Args:
            specs: What its parameters travel as.
            content: Yields each parameter's sums.
            describe: Makes the header of the digests of what was written.

        Returns:
            The update's digest.

        Raises:
            ConfigurationError: The one that is there is merged already.
            UpdateRefusedError: It is no sum that may leave.
            StorageError: The disk is full.

        """
        site, campaign = self.joined.site, self.joined.campaign
        if self.cleared or (self.joined.folder / "receipt.json").exists():
            raise ConfigurationError(
                f"the update of {site.name} for campaign {campaign.name} is merged already",
                "a region sends one sum in a campaign: join another one",
            )
        files.make_folder(self.model.parent)
        fresh = self.model.with_name("sums.safetensors")
        try:
            header = describe(write_tensors(fresh, specs, content))
            self._header.unlink(missing_ok=True)
            fresh.replace(self.model)
        finally:
            fresh.unlink(missing_ok=True)
        return self._signed(header, "summed")

    def _signed(self, header: pb.UpdateHeader, event: str) -> bytes:
        """Sign a header and keep it: from then on the update is there; return its digest."""
        site, campaign = self.joined.site, self.joined.campaign
        envelope = signing.signed(signing.UPDATE, header, site.signing_key)
        files.write(self._header, envelope.SerializeToString(deterministic=True))
        faults.point("outbox-header")
        digest = signing.digest(envelope)
        site.audit.note(event, campaign=campaign.digest.hex(), digest=digest.hex())
        return digest

    def envelope(self) -> pb.Signed:
        """Return the signed header.

        Raises:
            ModelFileError: There is none, or it is damaged.

        """
        envelope = pb.Signed()
        try:
            envelope.ParseFromString(self._header.read_bytes())
        except (OSError, DecodeError) as error:
            raise ModelFileError(f"can't read the update {self._header}: {error}", "adapt again") from error
        envelope.DiscardUnknownFields()  # no one reads them, so they don't leave
        return envelope

    def digest(self) -> bytes:
        """Return the update's digest."""
        return signing.digest(self.envelope())

    def header(self) -> pb.UpdateHeader:
        """Return the header."""
        return signing.decode(self.envelope().payload, pb.UpdateHeader, f"site {self.joined.site.name}")

    def statistics(self) -> dict[str, BatchNorm]:
        """Return the statistics that the update holds."""
        return boundary.statistics(self.header())

    def parameters(self, names: Iterable[str]) -> bytes:
        """Read parameters to be sent, one after the other, and check them against the signed header.

        Raises:
            UpdateRefusedError: A name is not in the header, or the file isn't what was signed.

        """
        site = self.joined.site.name
        header = self.header()
        listed, models = {one.name: one for one in header.parameters}, regions.standing(header).models
        wanted = list(names)
        for name in wanted:
            if name not in listed:
                raise UpdateRefusedError(
                    f"site {site}: {name} is no parameter of this update", site=site, tensor=name
                )
        with TensorFile(self.model) as file:
            raw = flower.joined([(file, wanted)])
            for name, content in flower.split(raw, file.manifest.tensors, wanted, f"site {site}"):
                boundary.check_parameter(listed[name], content, site, models)
        return raw

    def export(self, path: Path) -> bytes:
        """Write the update into one file, to be presented once more; return its digest.

        Raises:
            ModelFileError: There is none, or it is damaged.
            UpdateRefusedError: The model isn't what was signed.
            ConfigurationError: There is a file of that name.
            StorageError: The disk is full.

        """
        if path.exists():
            raise ConfigurationError(f"{path} is there already", "choose another name")
        with UpdateFile(self.model) as update:
            update.check()
            updatefile.write(path, update.envelope, update.file)
        digest = self.digest()
        self.joined.site.audit.note(
            "exported", campaign=self.joined.campaign.digest.hex(), digest=digest.hex(), bytes=path.stat().st_size
        )
        return digest


def _check_buffers(state: Mapping[str, Array], base: TensorFile, site: str) -> None:
    """Refuse a model whose other buffers changed: they can't travel, so it would not work elsewhere."""
    for name in base.manifest.buffers:
        if name not in state:
            raise UpdateRefusedError(f"site {site}: the model has no {name}", _SAME, site=site, tensor=name)
        if state[name].tobytes() != base.tensor(name).tobytes():
            raise UpdateRefusedError(
                f"site {site}: buffer {name} changed while adapting, but only parameters and BatchNorm statistics "
                "may leave",
                "keep it constant, or make it a parameter of the base",
                site=site,
                tensor=name,
            )


def _write_model(path: Path, base: TensorFile, state: Mapping[str, Array]) -> None:
    # The base's metadata (its architecture and classes) are the adapted model's too.
    write_tensors(path, base.manifest.tensors, lambda name: [state[name].tobytes()], base.metadata)
