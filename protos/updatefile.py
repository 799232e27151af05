"""An update as a file: what a site hands over to withdraw it, or to have a merge recomputed.

It is a safetensors file with the update's parameters. The signed header, which holds the statistics and names all
parameters by digest, is in its metadata or in ``update.binpb`` beside it, as in a site's outbox.
"""

from __future__ import annotations

import base64
from functools import cached_property
from pathlib import Path

from google.protobuf.message import DecodeError

from protos import boundary, dtypes, regions, signing
from protos import update_pb2 as pb
from protos.boundary import Statistics
from protos.campaign import Campaign
from protos.checkpoints.reader import ModelReader
from protos.closing import Closing
from protos.digest import sha256
from protos.errors import ModelFileError, UpdateRefusedError
from protos.manifest import Manifest
from protos.tensorfile import TensorFile, write_tensors

FORMAT = "onebasin-update/1"
HEADER = "update.binpb"


class UpdateFile(Closing):
    """An update's file, open for reading.

    Attributes:
        path: The file.
        file: Its parameters.
        envelope: The signed header.
        header: The header, whose signature is not checked yet.
        digest: What the update is named by; 32 bytes.

    Raises:
        ModelFileError: The file or its header is missing or damaged.

    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = TensorFile(path)
        try:
            self.envelope = self._envelope()
            if not self.envelope.payload:
                raise ValueError("no payload")
            self.header = signing.decode(self.envelope.payload, pb.UpdateHeader, str(path))
        except UpdateRefusedError as error:
            self.close()
            raise ModelFileError(error.what, _AGAIN) from error
        except (OSError, ValueError, DecodeError):
            self.close()
            raise ModelFileError(f"{path} is no update: its signed header is missing or damaged", _AGAIN) from None
        self.digest = signing.digest(self.envelope)

    def _envelope(self) -> pb.Signed:
        if self.file.metadata.get("format") == FORMAT:
            return pb.Signed.FromString(base64.b64decode(self.file.metadata.get("header", ""), validate=True))
        return pb.Signed.FromString(self.path.with_name(HEADER).read_bytes())

    @cached_property
    def statistics(self) -> Statistics:
        """Each BatchNorm layer's statistics: the header's."""
        return boundary.statistics(self.header)

    def check(self) -> None:
        """Read all parameters and compare them with the header.

        Raises:
            UpdateRefusedError: One is missing, or isn't what the header names.

        """
        site = self.header.site
        for listed in self.header.parameters:
            spec = self.file.manifest.tensors.get(listed.name)
            same = spec is not None and (dtypes.by_wire(listed.dtype), tuple(listed.shape)) == (
                spec.dtype,
                spec.shape,
            )
            if not same or sha256(self.file.chunks(listed.name)) != listed.sha256:
                raise UpdateRefusedError(
                    f"site {site}: {listed.name} in {self.path} is not what the site signed for",
                    _AGAIN,
                    site=site,
                    tensor=listed.name,
                )

    def check_for(self, campaign: Campaign, base: Manifest, site: str) -> None:
        """Check everything: signature, header and parameters, by the rules of an update that arrives.

        Raises:
            SignatureError: It is not signed by the site.
            UpdateRefusedError: It is for another campaign, from another site, or damaged.
            BaseMismatchError: It started from another base.

        """
        signing.opened(self.envelope, signing.UPDATE, campaign.keys[site], pb.UpdateHeader, site)
        regions.check_header(self.header, campaign, base, site)
        self.check()

    def close(self) -> None:
        """Close the file."""
        self.file.close()


def write(path: Path, envelope: pb.Signed, model: ModelReader) -> None:
    """Write an update into one file.

    Args:
        path: Where to.
        envelope: The signed header.
        model: A model with the parameters that the header lists.

    Raises:
        StorageError: The disk is full.

    """
    header = signing.decode(envelope.payload, pb.UpdateHeader, "the update")
    specs = {listed.name: model.manifest.tensors[listed.name] for listed in header.parameters}
    signed = base64.b64encode(envelope.SerializeToString(deterministic=True)).decode()
    write_tensors(path, specs, model.chunks, {"format": FORMAT, "header": signed})


_AGAIN = "export it again at the site: onebasin site export"
