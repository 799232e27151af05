"""An update on its way in: its signed header, and its parameters as they arrive.

Parameters are written straight into a model file of their own and folded only when the last one is there, so a
site that dies half-way leaves the merge untouched. A part that arrives twice is written twice, to the same place.
Whatever ends the conversation half-way, the next one asks only for what is missing: the signed header tells of
each parameter that is there whether it is whole.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

from google.protobuf.message import DecodeError

from coordinator.merge.state import Update
from protos import boundary, faults, files, flower, signing
from protos import update_pb2 as pb
from protos.assembly import Assembly, Specs
from protos.campaign import Campaign
from protos.digest import sha256
from protos.errors import ModelFileError, StorageError, UpdateRefusedError
from protos.manifest import Manifest
from protos.securesum_pb2 import Masked
from protos.tensorfile import TensorFile


class Arrival:
    """One site's update, arriving.

    Args:
        folder: Where it is kept.
        campaign: What it must be for.
        base: What it must consist of.
        site: Whose it must be.
        envelope: The signed header.

    Attributes:
        header: What the site signed.
        digest: The update's digest.
        missing: The parameters that are not there yet.

    Raises:
        UpdateRefusedError: The header is not signed by the site, or breaks a rule.

    """

    def __init__(self, folder: Path, campaign: Campaign, base: Manifest, site: str, envelope: pb.Signed) -> None:
        self.site = site
        self.folder = folder
        self.header = signing.opened(envelope, signing.UPDATE, campaign.keys[site], pb.UpdateHeader, site)
        boundary.check_header(self.header, campaign, base, site)
        self.digest = signing.digest(envelope)
        self._listed = {parameter.name: parameter for parameter in self.header.parameters}
        self._base = base
        self._assembly = Assembly(self.model, base.parameters)
        files.make_folder(folder)
        files.write(folder / "update.binpb", envelope.SerializeToString(deterministic=True))
        self.missing = set(self._listed) - self._whole()
        faults.point("arrival-header")

    @property
    def model(self) -> Path:
        """The file that its parameters are written into."""
        return self.model_in(self.folder)

    @staticmethod
    def model_in(folder: Path) -> Path:
        """Return where an arrival in `folder` keeps its parameters."""
        return folder / "parameters.safetensors"

    @property
    def nbytes(self) -> int:
        """Bytes of all its parameters."""
        return sum(spec.nbytes for spec in self._base.parameters.values())

    def take(self, raw: bytes | memoryview, wanted: list[str]) -> None:
        """Check parameters and write them down.

        Args:
            raw: What arrived: the parameters' bytes, one after the other.
            wanted: The names that were asked for, in order.

        Raises:
            UpdateRefusedError: It is not what was asked for, or not what the site signed.
            StorageError: The disk is full.

        """
        tensors = dict(flower.split(raw, self._base.tensors, wanted, f"site {self.site}"))
        for name, content in tensors.items():
            boundary.check_parameter(self._listed[name], content, self.site)
        self._assembly.write(tensors)
        faults.point("arrival-part")
        self.missing -= tensors.keys()

    def _whole(self) -> set[str]:
        """Find what an earlier conversation left, of this very update: anything else contradicts its header."""
        try:
            with TensorFile(self.model) as file:
                if file.manifest.parameters == self._base.parameters:
                    return {name for name in self._listed if self._holds(file, name)}
        except ModelFileError:
            pass
        self.forget()
        return set()

    def _holds(self, file: TensorFile, name: str) -> bool:
        try:
            boundary.check_parameter(self._listed[name], memoryview(file.read(name).tobytes()), self.site)
        except UpdateRefusedError:
            return False
        return True

    def update(self) -> Update:
        """Open it as a term of the merge; only when nothing is missing."""
        return Update(TensorFile(self.model), boundary.statistics(self.header), self.digest, self.site)

    def forget(self) -> None:
        """Drop the parameters. The header stays: it says what was merged."""
        with suppress(FileNotFoundError):
            self.model.unlink()


class MaskedArrival:
    """One site's masked update, arriving.

    Args:
        folder: Where it is kept.
        specs: The vectors' specs, by key.
        site: Whose it is.
        statement: What the site signed for it, checked.

    Attributes:
        missing: The vectors that are not there yet.

    """

    def __init__(self, folder: Path, specs: Specs, site: str, statement: Masked) -> None:
        self._site = site
        self._specs = specs
        self._digests = {vector.key: vector.sha256 for vector in statement.vectors}
        self.missing = set(specs)
        path = self.file_in(files.make_folder(folder))
        path.unlink(missing_ok=True)  # what an earlier attempt left behind
        self._assembly = Assembly(path, specs)

    @staticmethod
    def file_in(folder: Path) -> Path:
        """Return where an arrival in `folder` keeps its words."""
        return folder / "masked.safetensors"

    def take(self, raw: bytes | memoryview, wanted: list[str]) -> None:
        """Check vectors and write them down.

        Args:
            raw: What arrived: the vectors' words, one after the other.
            wanted: The keys that were asked for, in order.

        Raises:
            UpdateRefusedError: It is not what was asked for, or not what the site signed.
            StorageError: The disk is full.

        """
        vectors = dict(flower.split(raw, self._specs, wanted, f"site {self._site}"))
        for key, content in vectors.items():
            if sha256([content]) != self._digests[key]:
                raise UpdateRefusedError(
                    f"site {self._site}: {key} is not what the site signed", "send it again", site=self._site
                )
        self._assembly.write(vectors)
        self.missing -= vectors.keys()

    def sync(self) -> None:
        """Have all of it on the disk: what is said to have arrived must be there after a crash.

        Raises:
            StorageError: The disk is full or broken.

        """
        self._assembly.sync()


def kept_header(folder: Path, campaign: Campaign, site: str) -> tuple[pb.UpdateHeader, bytes] | None:
    """Read the header of an update that arrived in an earlier run, with its digest; None if there is none."""
    envelope = pb.Signed()
    try:
        envelope.ParseFromString((folder / "update.binpb").read_bytes())
        header = signing.opened(envelope, signing.UPDATE, campaign.keys[site], pb.UpdateHeader, site)
    except (OSError, DecodeError, UpdateRefusedError):
        return None
    return header, signing.digest(envelope)


def clear(folder: Path) -> None:
    """Drop everything of an arrival, or of all of them.

    Raises:
        StorageError: It can't be removed.

    """
    try:
        with suppress(FileNotFoundError):
            shutil.rmtree(folder)
    except OSError as error:
        raise StorageError(f"can't remove {folder}: {error.strerror}", "remove it by hand") from error
