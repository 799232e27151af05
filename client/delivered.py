"""Models that the coordinator delivers: written down part by part, and dropped once nothing needs them any more.

Each is named by the digest of its parameters, so an incomplete or altered one is found when it is opened.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from client.joined import Joined
from protos import files, flower
from protos import messages_pb2 as pb
from protos.assembly import Assembly
from protos.digest import DIGEST_BYTES, parameters_digest, short
from protos.errors import UpdateRefusedError
from protos.manifest import Manifest
from protos.rules import MEASURED
from protos.tensorfile import TensorFile


class NotDeliveredError(UpdateRefusedError):
    """A model that a request names isn't here, or not whole."""


class ForbiddenError(UpdateRefusedError):
    """The campaign's rules don't let the coordinator ask for this."""


class Delivered:
    """The models that were delivered for a campaign.

    Args:
        joined: The campaign.
        base: What each consists of.

    """

    def __init__(self, joined: Joined, base: Manifest) -> None:
        self._site = joined.site.name
        self._folder = joined.folder / "delivered"
        self._base = base
        rules = joined.campaign.rules
        singles = len(joined.campaign.sites) if rules.evaluate and rules.compare_single_models else 0
        needed = rules.evaluate or rules.deliver or rules.buffers in MEASURED
        self._most = singles + 1 if needed else 0
        self._whole: set[bytes] = set()

    def take(self, pieces: Sequence[pb.Piece], raw: bytes | memoryview) -> None:
        """Write parts of models down.

        Args:
            pieces: What arrived, in order.
            raw: All their bytes, one after the other.

        Raises:
            ForbiddenError: By the campaign's rules sites need no models.
            UpdateRefusedError: What arrived doesn't fit the base.
            StorageError: The disk is full.

        """
        if not self._most:
            raise ForbiddenError(f"site {self._site}: by the campaign's rules sites get no models")
        wanted = [name for piece in pieces for name in piece.parameters]
        for name in wanted:
            if name not in self._base.parameters:
                raise UpdateRefusedError(f"site {self._site}: a model was delivered that has {name!r}")
        if any(len(piece.digest) != DIGEST_BYTES for piece in pieces):
            raise UpdateRefusedError(f"site {self._site}: a model was delivered whose name is no digest")
        tensors = iter(flower.split(raw, self._base.tensors, wanted, "the coordinator"))
        files.make_folder(self._folder)
        for piece in pieces:
            model = Assembly(self._path(piece.digest), self._base.parameters)
            model.write(dict(islice(tensors, len(piece.parameters))))
        self._keep()

    def open(self, digest: bytes) -> TensorFile:
        """Open a model.

        Raises:
            NotDeliveredError: It is not here, or its parameters are not the ones that the digest names.

        """
        path = self._path(digest)
        if not path.exists():
            raise NotDeliveredError(f"site {self._site}: model {short(digest)} was not delivered")
        file = TensorFile(path)
        if digest not in self._whole and parameters_digest(file) != digest:
            file.close()
            raise NotDeliveredError(f"site {self._site}: model {short(digest)} did not arrive whole")
        self._whole.add(digest)
        return file

    def clear(self) -> None:
        """Drop all models."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _keep(self) -> None:
        """Drop the models that were written to longest ago, if there are more than the rules know of."""
        found = sorted(self._folder.glob("*.safetensors"), key=lambda path: path.stat().st_mtime_ns)
        for path in found[: -self._most]:
            path.unlink()

    def _path(self, digest: bytes) -> Path:
        return self._folder / f"{digest.hex()}.safetensors"
