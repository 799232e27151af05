"""The pending update before it leaves: every field of its header, every tensor, and the exact bytes.

The bytes are those of the reply in which the signed header leaves, and of the parameters that leave beside it. A
coordinator asks for them in parts, a few parameters at a time in the header's order, so all parts in a row are
these bytes, whatever the size of a part::

    8 bytes       length of the reply, little-endian
    the reply     protobuf: onebasin.v1.Reply with the field `header`, a Signed (purpose, payload, signature)
    the rest      the parameters' values in the header's order, raw and little-endian, nothing in between

In a secure sum no header leaves, and no value as it is: the reply is the one with `summed`, what the site signs
for its masked vectors, and the rest are these vectors' words. They are there only while the sum is on.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from client.joined import Joined
from client.outbox import Outbox
from client.plain_words import leaves
from client.summing import Summing
from protos import dtypes, files, regions, securesum_pb2, signing, update_pb2
from protos import messages_pb2 as pb
from protos.errors import AdaptationError, SecureSumError
from protos.rules import COPIES, SECURE_SUM
from protos.securesum.layout import Layout, layout
from protos.tensorfile import TensorFile

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
        masked: Whether parameters and statistics leave under masks: `parameters` are the masked vectors then.

    """

    digest: str
    fields: dict[str, str]
    parameters: tuple[Tensor, ...]
    layers: tuple[Layer, ...]
    header_bytes: int
    sentences: tuple[str, ...]
    masked: bool = False

    @property
    def nbytes(self) -> int:
        """All bytes that leave: the header's and the parameters'."""
        return self.header_bytes + sum(tensor.nbytes for tensor in self.parameters)

    def as_json(self) -> dict[str, Any]:
        """Return it for programs."""
        return {
            "digest": self.digest,
            "bytes": self.nbytes,
            "masked": self.masked,
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
    if joined.campaign.rules.privacy == SECURE_SUM:
        return _masked(joined, outbox)
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
    if joined.is_region:
        standing = regions.standing(header)
        fields |= {
            "models": str(standing.models),
            "receipt": standing.receipt.hex(),
            "sites": ", ".join(sorted(standing.sites)),
        }
    statistics = regions.statistics(header)
    return Preview(
        digest=outbox.digest().hex(),
        fields=fields,
        parameters=tuple(map(_tensor, header.parameters)),
        layers=tuple(Layer(layer, len(found.mean), found.count) for layer, found in statistics.items()),
        header_bytes=len(signing.encode(pb.Reply(header=outbox.envelope()))),
        sentences=tuple(leaves(joined.campaign, joined.site.address, joined.site.name)),
    )


def write_bytes(joined: Joined, path: Path) -> int:
    """Write the exact bytes that would leave, in the form that this module's text describes; return how many.

    Every parameter is checked against the signed header, as it is when it leaves.

    Raises:
        AdaptationError: There is no update yet.
        SecureSumError: It is to leave under masks, and is not masked.
        UpdateRefusedError: The model in the outbox is not the one that was signed.
        StorageError: The file can't be written.

    """
    outbox, summing = _ready(joined), Summing(joined)
    if joined.campaign.rules.privacy == SECURE_SUM:
        if not summing.words_file.exists():
            raise SecureSumError(
                f"site {joined.site.name}: nothing of campaign {joined.campaign.name} is masked now, "
                "and nothing leaves without masks",
                "look again while the sum is on; `onebasin site preview` without --bytes lists what it will be",
            )
        reply, read = signing.encode(pb.Reply(summed=summing.masked())), summing.words
        names = list(_vectors(joined))
    else:
        reply, read = signing.encode(pb.Reply(header=outbox.envelope())), outbox.parameters
        names = [parameter.name for parameter in outbox.header().parameters]
    written = 0
    with files.atomic(path, mode=0o600, durable=False) as file:
        file.write(LENGTH.pack(len(reply)))
        written += file.write(reply)
        for name in names:  # one by one: a model needn't fit into memory
            written += file.write(read([name]))
    return written


def _ready(joined: Joined) -> Outbox:
    outbox = Outbox(joined)
    if not outbox.ready:
        raise AdaptationError(
            f"site {joined.site.name} has no update for campaign {joined.campaign.name} yet",
            "adapt first: onebasin site adapt",
        )
    return outbox


def _masked(joined: Joined, outbox: Outbox) -> Preview:
    """Look at what leaves in a secure sum: vectors of masked words, and what the site signs for them."""
    signed = Summing(joined).masked()
    fields, listed, reply = {"masks": "are agreed on with the other sites when the sum is made"}, {}, b""
    if signed is not None:
        statement = signing.decode(signed.payload, securesum_pb2.Masked, f"site {joined.site.name}")
        fields = {
            "agreement": statement.agreement.hex(),
            "site": statement.site,
            "roster": statement.roster.hex(),
            "sharers": ", ".join(statement.sharers),
            "signature": signed.signature.hex(),
        }
        listed = {vector.key: vector.sha256.hex() for vector in statement.vectors}
        reply = signing.encode(pb.Reply(summed=signed))
    return Preview(
        digest=outbox.digest().hex(),
        fields=fields,
        parameters=tuple(
            Tensor(key, "uint64", (vector.words,), vector.nbytes, listed.get(key, ""))
            for key, vector in _vectors(joined).items()
        ),
        layers=(),
        header_bytes=len(reply),
        sentences=tuple(leaves(joined.campaign, joined.site.address, joined.site.name)),
        masked=True,
    )


def _vectors(joined: Joined) -> Layout:
    with TensorFile(joined.base) as base:
        return layout(base.manifest)


def _tensor(parameter: update_pb2.Parameter) -> Tensor:
    dtype = dtypes.by_wire(parameter.dtype)
    assert dtype is not None  # the outbox wrote it
    shape = tuple(parameter.shape)
    nbytes = dtype.storage.itemsize
    for size in shape:
        nbytes *= size
    return Tensor(parameter.name, dtype.name, shape, nbytes, parameter.sha256.hex())
