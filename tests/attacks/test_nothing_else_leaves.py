"""Trying to get something out of a site that may not leave it.

A marker is hidden in everything that a site holds: images, optimizer state, extra buffers, hooks, attributes, file
names, error texts. Then all that would cross the boundary is collected, byte by byte, and searched for it.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from torch import nn

from client import acceptance, adapting, answers, judge
from client.answers import answer
from client.delivered import Delivered
from client.joined import Joined
from client.outbox import Outbox
from client.site import Site
from client.tensors import raw_state
from coordinator.home import Home
from protos import errors, flower, signing, update_pb2
from protos import messages_pb2 as pb
from protos import securesum_pb2 as sums
from protos.errors import OnebasinError, UpdateRefusedError
from protos.rules import Rules

MARKER = b"PRIVATE-PHOTO-7f3a"
TEXT = MARKER.decode()
NONCE = bytes(range(16))


class Network(nn.Module):
    """A small network that carries the marker wherever PyTorch lets it."""

    def __init__(self, *, infected: bool) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.conv = nn.Conv2d(3, 4, 3)
        self.bn = nn.BatchNorm2d(4)
        self.bn(torch.randn(2, 4, 3, 3))  # one tracked batch
        self.head = nn.Conv2d(4, 5, 1)
        self.register_buffer("grid", torch.arange(6).reshape(2, 3))
        if not infected:
            return
        photo = torch.frombuffer(bytearray(MARKER * 64), dtype=torch.uint8)
        self.note = TEXT
        self.photos = [photo]
        self.register_buffer("gallery", photo.clone())
        self.register_buffer("floats", photo[: 4 * (len(photo) // 4)].clone().view(torch.float32))
        self.register_parameter(TEXT, nn.Parameter(torch.ones(2)))
        self.extra = nn.Linear(2, 2)
        with torch.no_grad():
            self.extra.bias.copy_(photo[:8].clone().view(torch.float32))
        self.register_forward_hook(lambda *_: TEXT)

    def get_extra_state(self) -> dict[str, object]:
        return {"secret": MARKER, "text": TEXT}

    def set_extra_state(self, state: object) -> None: ...


def infected_state(network: Network) -> dict[str, object]:
    """Return everything that training could hand over, and more."""
    optimizer = torch.optim.AdamW(network.parameters())
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    photo = torch.frombuffer(bytearray(MARKER * 8), dtype=torch.uint8)
    state: dict[str, object] = dict(network.state_dict())
    state |= {
        "optimizer": optimizer.state_dict(),
        "optimizer.exp_avg": photo,
        "images": photo,
        "path": f"/home/{TEXT}/photo.png",
        "bytes": MARKER,
        f"layer.{TEXT}.weight": torch.ones(3),
        "conv.weight.photo": photo,
        "bn.running_photo": photo,
        TEXT: {"nested": MARKER},
    }
    return state


@pytest.fixture
def joined(tmp_path, saved) -> Joined:
    """A site whose folder, too, is called by the marker, with an infected model in its outbox."""
    clean = raw_state(Network(infected=False).state_dict())
    base = saved(tmp_path / "base.safetensors", clean, {"model": "tiny-resnet", "classes": "5"})
    site = Site.init(tmp_path / TEXT / "fog", "fog", address=f"{TEXT}:9092", domain=TEXT)
    home = Home.init(tmp_path / "coordinator", hosts=("localhost",), control_port=1, fleet_address="localhost:2")
    made = home.create("one", base, members={"fog": site.request().keys}, rules=Rules())
    joined = site.join(made.campaign_file, base)
    acceptance.accept(joined, made.campaign.digest.hex())
    Outbox(joined).store(raw_state(infected_state(Network(infected=True))))
    return joined


@pytest.fixture
def crossing(carried):
    """Return a function that gives all bytes of a reply as Flower would carry them."""
    return lambda reply, sets: b"\0".join([repr(reply).encode(), carried(flower.packed(reply, sets))])


def ask(joined: Joined, **what: object) -> tuple[pb.Reply, dict[str, bytes]]:
    request = pb.Request(campaign_digest=joined.campaign.digest, **what)
    return answer(joined.site, request, 7, lambda name: MARKER)


REQUESTS = {
    "hello": {"hello": pb.Hello(nonce=NONCE)},
    "adapt": {"adapt": pb.Adapt()},
    "progress": {"progress": pb.ProgressQuery()},
    "header": {"submit": pb.Submit(header=True)},
    "parameters": {"submit": pb.Submit(parameters=["bn.bias", "bn.weight", "conv.weight"])},
    "a tensor that may not leave": {"submit": pb.Submit(parameters=["gallery"])},
    "a statistic as a parameter": {"submit": pb.Submit(parameters=["bn.running_mean"])},
    "the constant buffer": {"submit": pb.Submit(parameters=["grid"])},
    "evaluate": {"evaluate": pb.Evaluate(nonce=NONCE)},
    "deliver": {"deliver": pb.Deliver()},
    "nothing": {},
}


def test_the_marker_is_in_what_the_site_holds(crossing):
    """Or else none of the tests below could fail."""
    network = Network(infected=True)
    state = raw_state(infected_state(network))
    assert sum(MARKER in array.tobytes() for array in state.values()) >= 4
    assert MARKER in crossing(pb.Reply(refusal=pb.Refusal(site=TEXT)), {})
    assert MARKER in crossing(pb.Reply(), {"parameters": b"x" + MARKER})


def test_an_update_holds_none_of_it(joined):
    outbox = Outbox(joined)
    header, sent = outbox.header(), outbox.parameters(p.name for p in outbox.header().parameters)
    assert MARKER not in outbox.envelope().SerializeToString() + header.SerializeToString() + sent
    assert MARKER not in outbox.model.read_bytes()
    clean = Network(infected=False)
    assert [p.name for p in header.parameters] == sorted(name for name, _ in clean.named_parameters())
    assert len(sent) == sum(parameter.numel() * 4 for parameter in clean.parameters())
    assert [b.layer for b in header.batch_norms] == ["bn"]


def test_an_update_is_the_same_bytes_with_and_without_the_infection(joined):
    outbox = Outbox(joined)
    infected = outbox._header.read_bytes(), outbox.model.read_bytes()
    full = raw_state(infected_state(Network(infected=True)))
    clean = {name: full[name] for name in raw_state(Network(infected=False).state_dict())}
    outbox.store(clean)
    assert (outbox._header.read_bytes(), outbox.model.read_bytes()) == infected


@pytest.mark.parametrize("what", REQUESTS.values(), ids=REQUESTS)
def test_no_reply_holds_any_of_it(joined, what, crossing):
    reply, sets = ask(joined, **what)
    assert reply.WhichOneof("what")
    assert MARKER not in crossing(reply, sets)


@pytest.mark.parametrize(
    "what", [{"adapt": pb.Adapt()}, {"progress": pb.ProgressQuery()}], ids=["adapt", "progress"]
)
def test_what_the_adapting_process_wrote_down_stays(joined, monkeypatch, what, crossing):
    monkeypatch.setattr(adapting.subprocess, "Popen", lambda *_, **__: None)
    Outbox(joined)._header.unlink()
    files = {
        "progress.json": {
            "phase": TEXT,
            "step": 3,
            "steps": 9,
            "eta": 1.0,
            "loss": 0.5,
            "note": TEXT,
            "image": TEXT,
        },
        "failure.json": {"what": TEXT, "fix": TEXT, "tensor": TEXT},
    }
    for name, content in files.items():
        (joined.folder / name).write_text(json.dumps(content))
    reply, sets = ask(joined, **what)
    assert reply.progress.steps == 9
    assert MARKER not in crossing(reply, sets)


KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, OnebasinError)]
RAISED = [kind(TEXT, TEXT) for kind in KINDS] + [
    UpdateRefusedError(TEXT, TEXT, site=TEXT, tensor=TEXT),
    UpdateRefusedError(TEXT, TEXT, tensor="bn"),
    ValueError(TEXT),
    KeyError(TEXT),
    OSError(2, TEXT, f"/home/{TEXT}"),
    RuntimeError(TEXT, MARKER),
    UnicodeDecodeError("utf-8", MARKER, 0, 1, TEXT),
    MemoryError(TEXT),
]
WHERE = {
    "hello": (answers, "check_base"),
    "adapt": (adapting, "start"),
    "progress": (adapting, "status"),
    "header": (Outbox, "envelope"),
    "parameters": (Outbox, "parameters"),
    "evaluate": (judge, "judge"),
    "deliver": (Delivered, "take"),
}


@pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("name", WHERE)
def test_no_refusal_holds_the_text_of_an_error(joined, monkeypatch, caplog, name, error, crossing):
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(*WHERE[name], fail)
    reply, sets = ask(joined, **REQUESTS[name])
    assert reply.WhichOneof("what") == "refusal"
    assert reply.refusal.reason
    assert reply.refusal.tensor in ("", "bn")
    assert MARKER not in crossing(reply, sets)
    assert TEXT in caplog.text  # the operator does get to know


def test_damaged_files_whose_errors_hold_the_folders_name_tell_nothing(joined, crossing):
    outbox = Outbox(joined)
    for path in (outbox.model, outbox._header, joined.base, joined.folder / "campaign.binpb"):
        whole = path.read_bytes()
        for content in (whole[:-5], MARKER * 3, b""):
            path.write_bytes(content)
            for what in REQUESTS.values():
                assert MARKER not in crossing(*ask(joined, **what))
        path.write_bytes(whole)


def test_fields_that_someone_hid_in_the_outbox_stay_there(joined, crossing):
    path = Outbox(joined)._header
    path.write_bytes(path.read_bytes() + b"\xfa\x01" + bytes([len(MARKER)]) + MARKER)
    reply, sets = ask(joined, submit=pb.Submit(header=True))
    assert reply.WhichOneof("what") == "header"
    assert MARKER not in crossing(reply, sets)


def test_a_changed_buffer_that_is_no_statistic_keeps_the_whole_update_at_the_site(joined):
    outbox = Outbox(joined)
    before = outbox._header.read_bytes(), outbox.model.read_bytes()
    state = raw_state(infected_state(Network(infected=True)))
    state["grid"] = np.frombuffer((MARKER * 3)[:48], np.int64).reshape(2, 3)
    with pytest.raises(UpdateRefusedError, match="buffer grid changed") as caught:
        outbox.store(state)
    assert caught.value.tensor == "grid"
    assert (outbox._header.read_bytes(), outbox.model.read_bytes()) == before


ALLOWED = {
    "Reply.hello": "Signed",
    "Reply.progress": "Progress",
    "Reply.header": "Signed",
    "Reply.parameters": "Parameters",
    "Reply.evaluation": "Signed",
    "Reply.refusal": "Refusal",
    "Reply.delivered": "Delivered",
    "Reply.measured": "Signed",
    "Reply.adopted": "Adopted",
    "Reply.summed": "Signed",
    "Measured.campaign_digest": "bytes",
    "Measured.nonce": "bytes",
    "Measured.site": "string",
    "Measured.digest": "bytes",
    "Measured.batch_norms": "repeated BatchNorm",
    "Signed.purpose": "string",
    "Signed.payload": "bytes",
    "Signed.signature": "bytes",
    "Progress.state": "State",
    "Progress.phase": "Phase",
    "Progress.step": "uint64",
    "Progress.steps": "uint64",
    "Progress.eta_seconds": "double",
    "Progress.tensor": "string",
    "Refusal.reason": "Reason",
    "Refusal.site": "string",
    "Refusal.tensor": "string",
    "Refusal.member": "string",
    "HelloReply.campaign_digest": "bytes",
    "HelloReply.base_digest": "bytes",
    "HelloReply.nonce": "bytes",
    "HelloReply.node_id": "fixed64",
    "HelloReply.site": "string",
    "UpdateHeader.wire_version": "uint32",
    "UpdateHeader.campaign_digest": "bytes",
    "UpdateHeader.base_digest": "bytes",
    "UpdateHeader.site": "string",
    "UpdateHeader.copy": "Copy",
    "UpdateHeader.parameters": "repeated Parameter",
    "UpdateHeader.batch_norms": "repeated BatchNorm",
    "UpdateHeader.versions": "repeated Version",
    "UpdateHeader.region": "Signed",
    "UpdateHeader.layer_sums": "repeated LayerSums",
    "LayerSums.layer": "string",
    "LayerSums.count": "bytes",
    "LayerSums.mean": "bytes",
    "LayerSums.square": "bytes",
    "RegionSum.campaign_digest": "bytes",
    "RegionSum.region": "string",
    "RegionSum.models": "fixed32",
    "RegionSum.receipt": "bytes",
    "RegionSum.content": "bytes",
    "RegionSum.sites": "bytes",
    "Parameter.name": "string",
    "Parameter.dtype": "DType",
    "Parameter.shape": "repeated uint64",
    "Parameter.sha256": "bytes",
    "BatchNorm.layer": "string",
    "BatchNorm.mean": "repeated float",
    "BatchNorm.var": "repeated float",
    "BatchNorm.count": "int64",
    "Version.name": "string",
    "Version.version": "string",
    "Evaluation.campaign_digest": "bytes",
    "Evaluation.nonce": "bytes",
    "Evaluation.site": "string",
    "Evaluation.scores": "repeated Score",
    "Score.key": "string",
    "Score.classes": "uint32",
    "Score.confusion": "repeated uint64",
    "Score.images": "uint64",
    **{
        f"{message}.{field}": kind
        for message in ("Keys", "Shares", "Masked", "Confirmation", "Reveal")
        for field, kind in (("agreement", "bytes"), ("site", "string"), ("roster", "bytes"))
        if (message, field) != ("Keys", "roster")
    },
    "Keys.mask_key": "bytes",
    "Keys.share_key": "bytes",
    "Keys.commitment": "bytes",
    "Shares.sealed": "repeated Sealed",
    "Sealed.site": "string",
    "Sealed.content": "bytes",
    "Masked.sharers": "repeated string",
    "Masked.vectors": "repeated Vector",
    "Vector.key": "string",
    "Vector.sha256": "bytes",
    "Confirmation.sharers": "repeated string",
    "Confirmation.survivors": "repeated string",
    "Reveal.seeds": "repeated Share",
    "Reveal.mask_keys": "repeated Share",
    "Share.site": "string",
    "Share.share": "bytes",
}
"""Every field of every message that can leave a site. Whoever adds one here has decided that it may."""

SCALARS = {
    value: name.removeprefix("TYPE_").lower()
    for name, value in vars(FieldDescriptor).items()
    if name.startswith("TYPE_")
}


def fields(message: Descriptor, found: dict[str, str]) -> dict[str, str]:
    for field in message.fields:
        kind = field.message_type or field.enum_type
        name = f"{message.name}.{field.name}"
        if name not in found:
            found[name] = ("repeated " if field.is_repeated else "") + (kind.name if kind else SCALARS[field.type])
            if field.message_type:
                fields(field.message_type, found)
    return found


def test_the_fields_of_all_that_leaves_are_the_ones_on_the_list():
    found: dict[str, str] = {}
    signed = (pb.HelloReply, update_pb2.UpdateHeader, update_pb2.RegionSum, pb.Measured, pb.Evaluation)
    summed = (sums.Keys, sums.Shares, sums.Masked, sums.Confirmation, sums.Reveal)
    for message in (pb.Reply, *signed, *summed):
        assert not message.DESCRIPTOR.is_extendable
        fields(message.DESCRIPTOR, found)
    assert found == ALLOWED


def test_what_is_signed_is_of_a_kind_on_the_list(joined, monkeypatch):
    monkeypatch.setattr(judge, "judge", lambda *_: [])
    kinds = {"hello": pb.HelloReply, "header": update_pb2.UpdateHeader, "evaluation": pb.Evaluation}
    for name in ("hello", "header", "evaluate"):
        reply, _ = ask(joined, **REQUESTS[name])
        what = reply.WhichOneof("what")
        signing.decode(getattr(reply, what).payload, kinds[what], "it")
