"""The pending update before it leaves: every field of its header, every tensor, and the exact bytes.

The bytes are those of the reply in which the signed header leaves, and of the parameters that leave beside it. A
coordinator asks for them in parts, a few parameters at a time in the header's order, so all parts in a row are
these bytes, whatever the size of a part::

    8 bytes       length of the reply, little-endian
    the reply     protobuf: onebasin.v1.Reply with the field `header`, a Signed (purpose, payload, signature)
    the rest      the parameters' values in the header's order, raw and little-endian, nothing in between
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from client.outbox import Outbox
from client.plain_words import leaves
from client.site import Joined
from protos import dtypes, files, signing, update_pb2
from protos import messages_pb2 as pb
from protos.campaign import COPIES
from protos.errors import AdaptationError

LENGTH = struct.Struct("<Q")


@dataclass(frozen=True)
class Tensor:
    """A parameter that leaves.

    Attributes:
        name: Its name.
        dtype: Its dtype.
        shape: Its shape.
        nbytes: Bytes of its values.
        sha256: Of its values; hexadecimal.

    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    sha256: str


@dataclass(frozen=True)
class Layer:
    """A BatchNorm layer whose statistics leave.

    Attributes:
        name: Its name.
        channels: How many means and variances it has, float32 each.
        count: Batches that they were gathered from.

    """

    name: str
    channels: int
    count: int


@dataclass(frozen=True)
class Preview:
    """All that leaves with the update.

    Attributes:
        digest: The update's; hexadecimal.
        fields: The header's other fields, by name.
        parameters: The parameters.
        layers: The BatchNorm layers; their statistics stand in the header.
        header_bytes: Bytes of the reply that carries the header.
        sentences: What else leaves, and to whom.

    """

    digest: str
    fields: dict[str, str]
    parameters: tuple[Tensor, ...]
    layers: tuple[Layer, ...]
    header_bytes: int
    sentences: tuple[str, ...]

    @property
    def nbytes(self) -> int:
        """All bytes that leave: the header's and the parameters'."""
        return self.header_bytes + sum(tensor.nbytes for tensor in self.parameters)

    def as_json(self) -> dict[str, Any]:
        """Return it for programs."""
        return {
            "digest": self.digest,
            "bytes": self.nbytes,
            "header": {"bytes": self.header_bytes, **self.fields},
            "parameters": [{**vars(tensor), "shape": list(tensor.shape)} for tensor in self.parameters],
            "batch_norms": [vars(layer) for layer in self.layers],
            "leaves": list(self.sentences),
        }


def preview(joined: Joined) -> Preview:
    """Look at the pending update of a campaign.

    Raises:
        AdaptationError: There is none yet.
        ModelFileError: It is damaged.

    """
    outbox = _ready(joined)
    header = outbox.header()
    fields = {
        "wire_version": str(header.wire_version),
        "campaign_digest": header.campaign_digest.hex(),
        "base_digest": header.base_digest.hex(),
        "site": header.site,
        "copy": next((name for name, value in COPIES.items() if value == header.copy), "unknown"),
        "versions": ", ".join(f"{entry.name} {entry.version}" for entry in header.versions),
        "signature": outbox.envelope().signature.hex(),
    }
    return Preview(
        digest=outbox.digest().hex(),
        fields=fields,
        parameters=tuple(map(_tensor, header.parameters)),
        layers=tuple(Layer(entry.layer, len(entry.mean), entry.count) for entry in header.batch_norms),
        header_bytes=len(_reply(outbox)),
        sentences=tuple(leaves(joined.campaign, joined.site.address)),
    )


def write_bytes(joined: Joined, path: Path) -> int:
    """Write the exact bytes that would leave, in the form that this module's text describes; return how many.

    Every parameter is checked against the signed header, as it is when it leaves.

    Raises:
        AdaptationError: There is no update yet.
        UpdateRefusedError: The model in the outbox is not the one that was signed.
        StorageError: The file can't be written.

    """
    outbox = _ready(joined)
    reply = _reply(outbox)
    written = 0
    with files.atomic(path, mode=0o600, durable=False) as file:
        file.write(LENGTH.pack(len(reply)))
        written += file.write(reply)
        for parameter in outbox.header().parameters:  # one by one: a model needn't fit into memory
            written += file.write(outbox.parameters([parameter.name]))
    return written


def _ready(joined: Joined) -> Outbox:
    outbox = Outbox(joined)
    if not outbox.ready:
        raise AdaptationError(
            f"site {joined.site.name} has no update for campaign {joined.campaign.name} yet",
            "adapt first: onebasin site adapt",
        )
    return outbox


def _reply(outbox: Outbox) -> bytes:
    return signing.encode(pb.Reply(header=outbox.envelope()))


def _tensor(parameter: update_pb2.Parameter) -> Tensor:
    dtype = dtypes.by_wire(parameter.dtype)
    assert dtype is not None  # the outbox wrote it
    shape = tuple(parameter.shape)
    nbytes = dtype.storage.itemsize
    for size in shape:
        nbytes *= size
    return Tensor(parameter.name, dtype.name, shape, nbytes, parameter.sha256.hex())
