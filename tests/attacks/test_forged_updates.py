"""Updates and greetings that are not what they say."""

from __future__ import annotations

import pytest
from flwr.app import Error

from client.correspondence import unanswered
from client.outbox import Outbox
from coordinator.arrivals import Arrival
from coordinator.strategy import OneShotMerge
from protos import messages_pb2 as pb
from protos import signing, update_pb2
from protos.errors import BaseMismatchError, SignatureError, UpdateRefusedError
from protos.rules import Rules


@pytest.fixture
def receive(world, tmp_path):
    """Let an envelope arrive at the coordinator as a site's; it must leave nothing behind if it is refused."""

    def received(envelope, site: str = "fog") -> Arrival:
        folder = tmp_path / "arrivals" / site
        try:
            return Arrival(folder, world.campaign, world.manifest, site, envelope)
        except BaseException:
            assert not folder.exists()
            raise

    return received


def resigned(world, site: str, change) -> update_pb2.Signed:
    """Return a site's header after a change, signed again with the site's own key."""
    header = world.outbox(site).header()
    change(header)
    return signing.signed(signing.UPDATE, header, world.sites[site].signing_key)


def test_an_honest_update_is_taken(receive, world):
    assert receive(world.outbox("fog").envelope()).header == world.outbox("fog").header()


def test_an_update_of_another_campaign_cannot_be_played_back(receive, world):
    members = {name: site.request().keys for name, site in world.sites.items()}
    earlier = world.home.create("earlier", world.base, members=members, rules=Rules())
    site = world.sites["fog"]
    joined = site.join(earlier.campaign_file, world.base)
    Outbox(joined).store(world.models["fog"])
    with pytest.raises(UpdateRefusedError, match="the update is for campaign") as caught:
        receive(Outbox(joined).envelope())
    assert caught.value.site == "fog"


def test_an_update_that_claims_this_campaign_but_not_its_base_is_refused(receive, world):
    with pytest.raises(BaseMismatchError):
        receive(resigned(world, "fog", lambda header: setattr(header, "base_digest", b"x" * 32)))


def test_another_sites_update_is_not_taken_as_ones_own(receive, world):
    with pytest.raises(SignatureError):
        receive(world.outbox("night").envelope())
    stolen = signing.signed(signing.UPDATE, world.outbox("night").header(), world.sites["fog"].signing_key)
    with pytest.raises(UpdateRefusedError, match="says that it is site night's"):
        receive(stolen)


def test_another_sites_update_under_a_swapped_name_is_refused(receive, world):
    header = world.outbox("night").header()
    header.site = "fog"
    for key, kind in (("night", SignatureError), ("clear", SignatureError)):
        with pytest.raises(kind):
            receive(signing.signed(signing.UPDATE, header, world.sites[key].signing_key))


def test_parameters_with_swapped_names_are_refused(receive, world):
    def swap(header):
        first, second = (p for p in header.parameters if p.name in ("norm.bias", "norm.weight"))
        first.name, second.name = second.name, first.name

    with pytest.raises(UpdateRefusedError, match="stands twice or out of order"):
        receive(resigned(world, "fog", swap))


def test_parameters_whose_content_was_swapped_are_refused_when_they_arrive(receive, world):
    arrival = receive(world.outbox("fog").envelope())
    names = ["norm.bias", "norm.weight"]  # of one shape
    with pytest.raises(UpdateRefusedError, match=r"norm\.bias are not the ones"):
        arrival.take(world.outbox("fog").parameters(reversed(names)), names)


@pytest.mark.parametrize("purpose", [signing.HELLO, signing.EVALUATION])
def test_a_signature_for_another_purpose_is_refused(receive, world, purpose):
    header = world.outbox("fog").header()
    envelope = signing.signed(purpose, header, world.sites["fog"].signing_key)
    with pytest.raises(SignatureError):
        receive(envelope)
    envelope.purpose = signing.UPDATE
    with pytest.raises(SignatureError):
        receive(envelope)


@pytest.mark.parametrize("signature", [b"", b"\0" * 64, b"\xff" * 64])
def test_a_forged_signature_is_refused(receive, world, signature):
    envelope = world.outbox("fog").envelope()
    envelope.signature = signature
    with pytest.raises(SignatureError):
        receive(envelope)


def test_an_enormous_shape_is_refused_before_anything_is_made_of_it(receive, world):
    def grow(header):
        header.parameters[0].shape[0] = (1 << 64) - 1

    with pytest.raises(UpdateRefusedError, match=r"head\.bias is float32\[18446744073709551615\]"):
        receive(resigned(world, "fog", grow))


@pytest.mark.parametrize("field", ["parameters", "batch_norms"])
def test_very_many_entries_are_refused_and_named_once(receive, world, field):
    def flood(header):
        for i in range(20_000):
            getattr(header, field).add(**{"name" if field == "parameters" else "layer": f"zz{i:05}"})

    with pytest.raises(UpdateRefusedError, match="zz00000 is not in the base") as caught:
        receive(resigned(world, "fog", flood))
    assert len(caught.value.what) < 200


def test_a_flood_of_bytes_is_refused(receive, world):
    arrival = receive(world.outbox("fog").envelope())
    with pytest.raises(UpdateRefusedError, match="sent 10000000 bytes of parameters, the base's have 20"):
        arrival.take(bytes(10_000_000), ["head.bias"])


# ------------------------------------------------------------------ greetings


@pytest.fixture
def greeted(make_world, make_grid, clock):
    """Run a campaign in which one node's greetings are replaced; returns the world and its events."""

    def ran(react, **options):
        world = make_world(rules=Rules(minimum_sites=2, patience_seconds=300))
        grid = make_grid(world, **options)

        def reacting(node, site, request, before):
            if site == "fog" and request.WhichOneof("what") == "hello":
                return react(world, node, request)
            return ...

        grid.react = reacting
        OneShotMerge(world.folder).start(grid)
        return world, [event for _, event in world.home.journal.events(world.folder.key)]

    return ran


def hello(world, node: int, request: pb.Request, signer: str = "fog", **changes) -> pb.Reply:
    fields = {
        "campaign_digest": world.campaign.digest,
        "base_digest": world.campaign.message.base_digest,
        "nonce": request.hello.nonce,
        "node_id": node,
        "site": "fog",
        **changes,
    }
    return pb.Reply(hello=signing.signed(signing.HELLO, pb.HelloReply(**fields), world.sites[signer].signing_key))


FORGED = {
    "an old nonce": lambda w, n, r: hello(w, n, r, nonce=b"0" * 16),
    "no nonce": lambda w, n, r: hello(w, n, r, nonce=b""),
    "another node": lambda w, n, r: hello(w, n + 1, r),
    "another campaign": lambda w, n, r: hello(w, n, r, campaign_digest=b"x" * 32),
    "another site's name": lambda w, n, r: hello(w, n, r, site="night"),
    "another site's key": lambda w, n, r: hello(w, n, r, signer="night"),
    "a stranger's name": lambda w, n, r: hello(w, n, r, site="rain"),
    "no name": lambda w, n, r: hello(w, n, r, site=""),
    "a path": lambda w, n, r: hello(w, n, r, site="../../fog"),
    "no signature": lambda w, n, r: pb.Reply(hello=update_pb2.Signed(purpose=signing.HELLO)),
    "a payload that is no message": lambda w, n, r: pb.Reply(
        hello=update_pb2.Signed(purpose=signing.HELLO, payload=b"\xff\xff\xff", signature=b"x" * 64)
    ),
    "a name that is no text": lambda w, n, r: pb.Reply(
        hello=update_pb2.Signed(purpose=signing.HELLO, payload=b"\x2a\x02\xff\xfe", signature=b"x" * 64)
    ),
    "an update": lambda w, n, r: pb.Reply(hello=w.outbox("fog").envelope()),
    "a refusal of no kind": lambda w, n, r: unanswered(99),
    "a progress": lambda w, n, r: pb.Reply(progress=pb.Progress(state=3)),
    "nothing": lambda w, n, r: pb.Reply(),
}


@pytest.mark.parametrize("react", FORGED.values(), ids=FORGED)
def test_a_forged_greeting_is_noted_and_the_campaign_goes_on_without_it(greeted, react):
    world, events = greeted(react)
    assert {e["site"] for e in events if e["event"] == "folded"} == {"clear", "night"}
    assert not [e for e in events if e["event"] == "connected" and e["site"] == "fog"]
    assert any(e["event"] in ("stranger", "refused") for e in events)
    assert {e["message"] for e in events if e["event"] == "missing"} == {"site fog never connected (waited 300 s)"}
    assert not (world.folder.path / "arrivals" / "fog").exists()


def test_a_node_cannot_refuse_in_the_name_of_another_site(world, make_grid, clock):
    """Such a refusal isn't signed, and before the other site answers, nobody would contradict it."""

    def react(node, site, request, before):
        if request.WhichOneof("what") == "hello" and before == 0:
            if site == "night":
                return unanswered(pb.Refusal.REASON_CAMPAIGN, "fog")
            if site == "fog":
                return Error(8, "it answers later")
        return ...

    OneShotMerge(world.folder).start(make_grid(world, react=react))
    events = [event for _, event in world.home.journal.events(world.folder.key)]
    assert {e["site"] for e in events if e["event"] == "folded"} == {"clear", "fog", "night"}
    assert not [e for e in events if e["event"] == "refused"]
    assert "has joined another campaign" in next(e["message"] for e in events if e["event"] == "stranger")


def test_a_greeting_that_was_recorded_cannot_be_played_back_later(greeted):
    recorded = {}

    def react(world, node, request):
        return recorded.setdefault("hello", hello(world, node, request, nonce=b"recorded earlier"))

    _, events = greeted(react)
    (message, *_) = [e["message"] for e in events if e["event"] == "stranger"]
    assert "the greeting is for another campaign, site, node or time" in message
