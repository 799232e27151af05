"""A SuperLink that was taken over, and a whole campaign that goes through it: what can it spoil, and what read?"""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from flwr.app import Error, RecordDict

from client import correspondence
from coordinator.strategy import OneShotMerge
from protos import flower, sealing, signing
from protos import messages_pb2 as pb
from protos.flower import PARAMETERS
from protos.rules import Rules
from protos.tensorfile import TensorFile

NODE = 7


def parameters_of(content: RecordDict) -> bytes:
    return flower.bytes_of(content, PARAMETERS, "it")


def with_parameters(content: RecordDict, raw: bytes) -> RecordDict:
    """Return a copy of a reply with other sealed parameters."""
    return flower.packed(flower.message_of(content, pb.Returned, "it"), {PARAMETERS: raw})


# ------------------------------------------------------------ what can be spoilt


def campaign(world, grid) -> list[dict]:
    OneShotMerge(world.folder).start(grid)
    return [event for _, event in world.home.journal.events(world.folder.key)]


ON_THE_WAY = {
    "one site's replies come from another": lambda s: lambda node, site, request, received: s.replay("night"),
    "a reply is played back": lambda s: lambda node, site, request, received: s.replay("fog"),
    "the parameters are another site's": lambda s: lambda node, site, request, received: s.mixed(received),
    "the reply is made up": lambda s: lambda node, site, request, received: s.made_up(),
    "the request is delivered twice": lambda s: lambda node, site, request, received: s.twice(site),
    "a refusal is made up": lambda s: (
        lambda node, site, request, received: correspondence.unanswered(pb.Refusal.REASON_UPDATE, "fog")
    ),
    "the reply is in the clear": lambda s: (
        lambda node, site, request, received: flower.packed(
            pb.Reply(header=s.world.outbox("fog").envelope()), {PARAMETERS: b"x"}
        )
    ),
}


@dataclass
class Between:
    """What somebody on the way has seen, and makes of it."""

    world: object
    seen: dict[str, RecordDict]
    asked: RecordDict | None = None

    def replay(self, site: str) -> RecordDict:
        return self.seen.get(site) or RecordDict()

    def mixed(self, own: RecordDict) -> RecordDict:
        return with_parameters(own, parameters_of(self.seen["night"])) if "night" in self.seen else RecordDict()

    def twice(self, site) -> RecordDict:
        """Return what the site says the second time: that it was asked before."""
        return correspondence.reply(site, self.asked, NODE)

    def made_up(self) -> RecordDict:
        letter = pb.Letter(campaign_digest=self.world.campaign.digest, site="fog", nonce=bytes(16))
        return flower.packed(
            pb.Returned(letter=signing.signed(signing.REPLY, letter, Ed25519PrivateKey.generate()))
        )


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("make", ON_THE_WAY.values(), ids=ON_THE_WAY)
def test_whatever_is_done_to_one_sites_update_on_the_way_it_is_not_merged(make_world, make_grid, make):
    world = make_world(rules=Rules(minimum_sites=2, patience_seconds=600, deadline_seconds=900, evaluate=False))
    between = Between(world, {})
    act = make(between)
    grid = make_grid(world)
    reply = type(grid)._replied

    def replied(node, site, request, received, message):
        found = reply(grid, node, site, request, received, message)
        if not request.HasField("submit") or found is None:
            return found
        honest, between.asked = found.content, message.content
        if site.name == "fog":
            correspondence.reply(site, message.content, NODE)
        copied = with_parameters(honest, parameters_of(honest))
        if site.name == "fog":
            found = type(found)(act(node, site, request, copied), reply_to=message)
        between.seen.setdefault(site.name, copied)
        return found

    grid._replied = replied
    lines = campaign(world, grid)
    assert {line["site"] for line in lines if line["event"] == "folded"} == {"clear", "night"}
    assert not [line for line in lines if line["event"] == "refused"]
    assert [line for line in lines if line["event"] == "no-answer" and line["site"] == "fog"]
    assert {line["site"] for line in lines if line["event"] == "missing"} == {"fog"}


@pytest.mark.usefixtures("clock")
def test_what_was_damaged_once_on_the_way_is_asked_for_again_and_merged(world, make_grid):
    grid = make_grid(world)
    reply, harmed = type(grid)._replied, []

    def replied(node, site, request, received, message):
        found = reply(grid, node, site, request, received, message)
        if request.HasField("submit") and site.name not in harmed:
            harmed.append(site.name)
            raw = bytearray(parameters_of(found.content))
            raw[len(raw) // 2] ^= 1
            found = type(found)(with_parameters(found.content, bytes(raw)), reply_to=message)
        return found

    grid._replied = replied
    lines = campaign(world, grid)
    assert {line["site"] for line in lines if line["event"] == "folded"} == set(world.sites)
    assert {line["site"] for line in lines if line["event"] == "no-answer"} >= set(world.sites)


@pytest.mark.usefixtures("clock")
def test_errors_of_flowers_are_no_answers(world, make_grid):
    """What the SuperLink says of a node proves nothing about the site."""
    grid = make_grid(world, react=lambda node, site, request, before: Error(2, "x") if before < 2 else ...)
    lines = campaign(world, grid)
    assert {line["site"] for line in lines if line["event"] == "folded"} == set(world.sites)


# ------------------------------------------------------------ what can be read


COUNTS = [90_000_000_000 + i for i in range(25)]
"""A confusion matrix whose counts stand out."""


@pytest.fixture
def on_the_wire(make_world, make_grid, clock, carried):
    """Run a campaign in which everything travels, and return its world and what a SuperLink holds, both ways."""

    def ran():
        world = make_world(rules=Rules(compare_single_models=True))
        down, up = [], []

        def react(node, site, request, before):
            if not request.HasField("evaluate"):
                return ...
            scores = [
                pb.Score(key=candidate.key, classes=5, confusion=COUNTS, images=3)
                for candidate in request.evaluate.candidates
            ]
            found = pb.Evaluation(
                campaign_digest=world.campaign.digest, nonce=request.evaluate.nonce, site=site, scores=scores
            )
            return pb.Reply(evaluation=signing.signed(signing.EVALUATION, found, world.sites[site].signing_key))

        grid = make_grid(world, react=react)
        push = grid.push_messages

        def pushed(messages):
            (message,) = messages
            down.append(carried(message.content))  # before the site opens it where it lies
            ids = push([message])
            up.extend(carried(grid.parcels[name].reply.content) for name in ids)
            return ids

        grid.push_messages = pushed
        OneShotMerge(world.folder).start(grid)
        assert (world.folder.path / "evaluations" / "fog.binpb").exists()
        assert grid.asked("deliver") and grid.asked("submit")
        return world, b"\0".join(down), b"\0".join(up)

    return ran


def secrets_of(world) -> dict[str, list[bytes]]:
    """Return what may not be read on the way: 8 bytes and more of each tensor, and the confusion matrix."""
    models = {**world.models, "base": world.base_model}
    with TensorFile(world.folder.merged / "merged.safetensors") as file:
        models["merged"] = {name: file.tensor(name) for name in file.manifest.tensors}
    found = {}
    for model, tensors in models.items():
        for name, array in tensors.items():
            raw = array.tobytes()
            if name != "table" and len(raw) >= 8 and not name.endswith("num_batches_tracked"):
                found[f"{name} of {model}"] = [raw[i : i + 8] for i in range(0, len(raw) - 7, 4)]
    packed = pb.Score(confusion=COUNTS).SerializeToString()
    found["confusion matrix"] = [packed[i : i + 8] for i in range(4, len(packed) - 8)]
    found["names"] = [b"head.weight", b"xnorm.deep", b"midpoint:", b"single:", b"pooled"]
    return found


def leaks(world, seen: bytes) -> set[str]:
    return {name for name, parts in secrets_of(world).items() if any(part in seen for part in parts)}


def test_no_parameter_no_statistic_and_no_score_can_be_read_on_the_way(on_the_wire):
    world, down, up = on_the_wire()
    assert len(down) > 10_000
    assert len(up) > 10_000
    assert not leaks(world, down)
    assert not leaks(world, up)


def test_without_seals_all_of_it_could_be_read(on_the_wire, monkeypatch):
    """Or else the test above could not fail."""

    def close(self, name, content, said=b""):
        raw = content.getvalue()
        return raw + bytes(16)

    def opened(self, name, content, whose, said=b""):
        return memoryview(content.getvalue())[:-16]

    monkeypatch.setattr(sealing.Seal, "close", close)
    monkeypatch.setattr(sealing.Seal, "open", opened)
    world, down, up = on_the_wire()
    everything = secrets_of(world).keys()
    of_sites = {name for name in everything if name.rpartition(" of ")[2] in world.sites}
    assert leaks(world, up) == of_sites | {"confusion matrix", "names"}
    statistics = {name for name in everything if name.endswith(" of merged") and "running" in name}
    parameters = {name for name in everything if name.endswith(" of merged") and "running" not in name}
    assert leaks(world, down) >= of_sites | parameters | statistics | {"names"}
