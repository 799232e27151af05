"""Letters in the hands of others: none is read, made up, changed, passed off as another or played back.

pytest tests/attacks/test_sealing.py --mutations 100000
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from io import BytesIO

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

from client import correspondence
from coordinator.home import Home
from protos import flower, letters, sealing, signing, update_pb2
from protos import messages_pb2 as pb
from protos.campaign import Keys
from protos.errors import ConfigurationError, OnebasinError, SignatureError, UpdateRefusedError
from protos.flower import PARAMETERS
from protos.rules import Rules

NODE = 7
LOW_ORDER = bytes(32)
NAMES = ["head.bias", "head.weight", "stem.weight"]
PLAIN = b"These bytes must not be seen on the way."


@dataclass
class Wire:
    """Both ends of the way, and what a test does in between."""

    world: object
    desk: letters.Coordinator

    def ask(self, site: str = "fog", *, expires: float | None = None, sets=None, **what):
        """Write a request as the coordinator does; return what Flower carries, and what a reply is read with."""
        request = pb.Request(campaign_digest=self.world.campaign.digest, **what)
        until = time.time() + 60 if expires is None else expires
        letter, sealed, question = self.desk.ask(request, site, secrets.token_bytes(16), until, sets)
        return flower.packed(letter, sealed), question

    def answer(self, content: RecordDict, site: str = "fog") -> RecordDict:
        return correspondence.reply(self.world.sites[site], content, NODE)

    def read(self, content: RecordDict, question: letters.Question):
        """Read a reply as the coordinator does: the message and its parameters, if any came."""
        returned = flower.message_of(content, pb.Returned, "node 7")
        opened = self.desk.read(returned.letter, question)
        if f"set:{PARAMETERS}" not in content:
            return opened.message, None
        return opened.message, bytes(opened.parameters(PARAMETERS, flower.taken(content, PARAMETERS, "it")))

    def site(self, name: str, campaign=None) -> letters.Site:
        site = self.world.sites[name]
        return letters.Site(campaign or self.world.campaign, name, site.signing_key, site.agreement_key)


SUBMIT = {"submit": pb.Submit(header=True, parameters=NAMES)}


@pytest.fixture
def wire(world):
    return Wire(world, letters.Coordinator(world.campaign, world.home.signing_key, world.home.agreement_key))


@pytest.fixture
def untouched(monkeypatch):
    """Fail if a site so much as looks for an answer."""
    monkeypatch.setattr(correspondence, "answer", lambda *_: pytest.fail("the site answered"))


def envelope_of(content: RecordDict) -> update_pb2.Signed:
    return flower.message_of(content, update_pb2.Signed, "it")


def letter_of(envelope: update_pb2.Signed) -> pb.Letter:
    return pb.Letter.FromString(envelope.payload)


def refused(content: RecordDict) -> str:
    """Return the reason of a refusal in the clear, which is all that may be in the record."""
    assert set(content) == {"message"}
    returned = flower.message_of(content, pb.Returned, "it")
    assert returned.WhichOneof("what") == "refusal"
    assert returned.refusal.site in ("fog", "")
    assert not returned.refusal.tensor
    return pb.Refusal.Reason.Name(returned.refusal.reason).removeprefix("REASON_")


def with_set(content: RecordDict, raw: bytes) -> RecordDict:
    """Return a copy of a record with other sealed parameters."""
    copy = RecordDict({"message": content["message"]})
    array = Array(dtype="uint8", shape=(len(raw),), stype=flower.STYPE, data=raw)
    copy[f"set:{PARAMETERS}"] = ArrayRecord({flower.VALUES: array})
    return copy


def set_of(content: RecordDict) -> bytes:
    return flower.bytes_of(content, PARAMETERS, "it")


def test_an_honest_exchange_goes_through(wire):
    content, question = wire.ask(**SUBMIT)
    message, raw = wire.read(wire.answer(content), question)
    assert message.header == wire.world.outbox("fog").envelope()
    assert raw == b"".join(wire.world.models["fog"][name].tobytes() for name in NAMES)


# ------------------------------------------------- asking a site for something


def test_a_request_without_a_letter_is_refused(wire, untouched):
    request = pb.Request(campaign_digest=wire.world.campaign.digest, **SUBMIT)
    assert refused(wire.answer(flower.packed(request))) == "REQUEST"


@pytest.mark.parametrize("who", ["a stranger", "another site", "the site itself", "nobody"])
def test_a_request_that_the_coordinator_did_not_sign_is_refused(wire, untouched, who):
    key = {
        "another site": wire.world.sites["night"].signing_key,
        "the site itself": wire.world.sites["fog"].signing_key,
    }.get(who, Ed25519PrivateKey.generate())
    content, _ = wire.ask(**SUBMIT)
    envelope = signing.signed(signing.REQUEST, letter_of(envelope_of(content)), key)
    if who == "nobody":
        envelope.signature = b""
    assert refused(wire.answer(flower.packed(envelope))) == "UNSIGNED"


def test_a_coordinator_that_the_campaign_does_not_name_gets_nothing(wire, untouched, tmp_path):
    other = Home.init(tmp_path / "other", hosts=("localhost",), control_port=1, fleet_address="localhost:2")
    with pytest.raises(ConfigurationError, match="lists other keys for the coordinator"):
        letters.Coordinator(wire.world.campaign, other.signing_key, wire.world.home.agreement_key)
    with pytest.raises(ConfigurationError, match="lists other keys for the coordinator"):
        letters.Coordinator(wire.world.campaign, wire.world.home.signing_key, other.agreement_key)


@pytest.mark.parametrize("purpose", [signing.REPLY, signing.EVALUATION, signing.UPDATE, signing.HELLO])
def test_a_letter_that_the_coordinator_signed_for_another_purpose_is_refused(wire, untouched, purpose):
    content, _ = wire.ask(**SUBMIT)
    envelope = signing.signed(purpose, letter_of(envelope_of(content)), wire.world.home.signing_key)
    for said in (purpose, signing.REQUEST):
        envelope.purpose = said
        assert refused(wire.answer(flower.packed(envelope))) == "UNSIGNED"


def test_a_request_for_another_site_is_refused(wire, untouched):
    content, _ = wire.ask("night", **SUBMIT)
    assert refused(wire.answer(content, "fog")) == "UNSIGNED"


def test_a_request_of_another_campaign_is_refused(wire, untouched):
    world = wire.world
    members = {name: site.request().keys for name, site in world.sites.items()}
    made = world.home.create("other", world.base, members=members, rules=Rules())
    theirs = letters.Coordinator(made.campaign, world.home.signing_key, world.home.agreement_key)
    request = pb.Request(campaign_digest=made.campaign.digest, **SUBMIT)
    letter, _, _ = theirs.ask(request, "fog", bytes(16), time.time() + 60)
    assert refused(wire.answer(flower.packed(letter))) == "CAMPAIGN"
    # The coordinator itself, in a letter of the one, asks for the other.
    letter, _, _ = wire.desk.ask(request, "fog", bytes(16), time.time() + 60)
    assert refused(wire.answer(flower.packed(letter))) == "UNSIGNED"


@pytest.mark.parametrize(
    "change",
    [
        {"site": "night"},
        {"site": ""},
        {"nonce": b"x" * 16},
        {"expires": 1 << 40},
        {"hello": pb.Hello(nonce=b"n" * 16)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_letter_whose_head_was_changed_is_refused(wire, untouched, change):
    content, _ = wire.ask(**SUBMIT)
    envelope = envelope_of(content)
    letter = letter_of(envelope)
    letter.MergeFrom(pb.Letter(**change))
    for name, value in change.items():
        if not isinstance(value, pb.Hello):
            setattr(letter, name, value)
    envelope.payload = signing.encode(letter)
    assert refused(wire.answer(flower.packed(envelope))) == "UNSIGNED"


MALFORMED = {
    "a greeting that names a site": lambda letter: letter.hello.SetInParent(),
    "no body": lambda letter: letter.ClearField("sealed"),
    "a short nonce": lambda letter: setattr(letter, "nonce", b"n" * 15),
    "no nonce": lambda letter: letter.ClearField("nonce"),
    "an enormous nonce": lambda letter: setattr(letter, "nonce", bytes(5_000_000)),
    "an enormous name": lambda letter: setattr(letter, "site", "fog" * 1_000_000),
    "no ephemeral key": lambda letter: letter.sealed.ClearField("ephemeral_key"),
    "an ephemeral key of low order": lambda letter: setattr(letter.sealed, "ephemeral_key", LOW_ORDER),
    "an enormous ephemeral key": lambda letter: setattr(letter.sealed, "ephemeral_key", bytes(5_000_000)),
    "another ephemeral key": lambda letter: setattr(letter.sealed, "ephemeral_key", b"e" * 32),
    "no content": lambda letter: letter.sealed.ClearField("content"),
    "content shorter than a tag": lambda letter: setattr(letter.sealed, "content", b"x" * 15),
    "a tag and nothing else": lambda letter: setattr(letter.sealed, "content", b"x" * 16),
    "enormous content": lambda letter: setattr(letter.sealed, "content", bytes(20_000_000)),
}


@pytest.mark.parametrize("change", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_letter_is_refused_even_when_it_is_signed(wire, untouched, change):
    content, _ = wire.ask(**SUBMIT)
    letter = letter_of(envelope_of(content))
    change(letter)
    signed = signing.signed(signing.REQUEST, letter, wire.world.home.signing_key)
    assert refused(wire.answer(flower.packed(signed))) in ("UNSIGNED", "CAMPAIGN")


@pytest.mark.parametrize("inner", ["a greeting", "no message", "another campaign"])
def test_a_sealed_request_that_contradicts_its_letter_is_refused(wire, untouched, inner):
    world = wire.world
    letter = pb.Letter(
        campaign_digest=world.campaign.digest, site="fog", nonce=b"n" * 16, expires=int(time.time()) + 60
    )
    context = sealing.Context(letter.campaign_digest, "fog", signing.REQUEST, letter.nonce)
    ephemeral, seal = sealing.to(world.campaign.agreement_keys["fog"], context)
    content = {
        "a greeting": pb.Request(campaign_digest=letter.campaign_digest, hello=pb.Hello()).SerializeToString(),
        "no message": b"\xff\xff",
        "another campaign": pb.Request(campaign_digest=b"x" * 32, **SUBMIT).SerializeToString(),
    }[inner]
    letter.sealed.ephemeral_key = ephemeral
    letter.sealed.content = seal.close("message", BytesIO(content))
    signed = signing.signed(signing.REQUEST, letter, world.home.signing_key)
    assert refused(wire.answer(flower.packed(signed))) in ("UNSIGNED", "REQUEST")


def test_a_request_is_answered_once(wire, monkeypatch):
    content, question = wire.ask(**SUBMIT)
    assert wire.read(wire.answer(content), question)[0].HasField("header")
    monkeypatch.setattr(correspondence, "answer", lambda *_: pytest.fail("the site answered"))
    message, raw = wire.read(wire.answer(content), question)
    assert message.refusal.reason == pb.Refusal.REASON_STALE
    assert raw is None


@pytest.mark.parametrize("expires", [0, 1, "an hour ago", "in two days", 2**64 - 1])
def test_a_request_out_of_its_time_is_not_answered(wire, untouched, expires):
    when = {"an hour ago": time.time() - 3600, "in two days": time.time() + 2 * 86_400}.get(expires, expires)
    content, question = wire.ask(expires=when, **SUBMIT)
    message, raw = wire.read(wire.answer(content), question)
    assert message.refusal.reason == pb.Refusal.REASON_STALE
    assert raw is None


def test_a_refused_letter_fills_no_disk(wire, untouched):
    content, _ = wire.ask("night", **SUBMIT)
    wire.answer(content, "fog")
    forged, _ = wire.ask(**SUBMIT)
    envelope = envelope_of(forged)
    envelope.signature = bytes(64)
    wire.answer(flower.packed(envelope))
    assert not (wire.world.joined("fog").folder / "requests").exists()


def test_a_delivery_is_only_taken_with_the_request_that_it_came_with(wire):
    piece = pb.Deliver(pieces=[pb.Piece(digest=b"d" * 32, parameters=["head.bias"])])
    first, one = wire.ask(deliver=piece, sets={PARAMETERS: b"\1" * 20})
    second, two = wire.ask(deliver=piece, sets={PARAMETERS: b"\2" * 20})
    for content, question, raw in ((first, one, set_of(second)), (second, two, b"\0" * 36)):
        message, _ = wire.read(wire.answer(with_set(content, raw)), question)
        assert message.refusal.reason == pb.Refusal.REASON_NOT_DELIVERED
    assert not (wire.world.joined("fog").folder / "delivered" / f"{(b'd' * 32).hex()}.safetensors").exists()
    content, question = wire.ask(deliver=piece, sets={PARAMETERS: b"\3" * 20})
    assert wire.read(wire.answer(content), question)[0].HasField("delivered")


# --------------------------------------------------------- what comes of it


def test_the_replies_of_two_sites_cannot_be_swapped(wire):
    asked = {site: wire.ask(site, **SUBMIT) for site in ("fog", "night")}
    replies = {site: wire.answer(content, site) for site, (content, _) in asked.items()}
    for site, other in (("fog", "night"), ("night", "fog")):
        with pytest.raises(SignatureError, match=f"site {site}"):
            wire.read(replies[other], asked[site][1])


def test_a_reply_to_another_request_is_refused(wire):
    first, one = wire.ask(**SUBMIT)
    _, two = wire.ask(**SUBMIT)
    reply = wire.answer(first)
    with pytest.raises(SignatureError, match="for another campaign, site or request"):
        wire.read(reply, two)
    assert wire.read(reply, one)
    # The nonce alone isn't enough: another letter of the same nonce is another request.
    again, same, _ = wire.desk.ask(
        pb.Request(campaign_digest=wire.world.campaign.digest, progress=pb.ProgressQuery()),
        "fog",
        one.nonce,
        time.time() + 60,
    )
    question = letters.Question("fog", one.nonce, signing.digest(again))
    assert not same
    with pytest.raises(SignatureError, match="doesn't open"):
        wire.read(reply, question)


def test_a_reply_of_an_earlier_run_is_refused(wire):
    content, _ = wire.ask(**SUBMIT)
    recorded = wire.answer(content)
    later = Wire(
        wire.world, letters.Coordinator(wire.world.campaign, wire.desk.signing_key, wire.desk.agreement_key)
    )
    _, question = later.ask(**SUBMIT)
    with pytest.raises(SignatureError):
        later.read(recorded, question)


def test_a_reply_for_another_campaign_is_refused(wire):
    world = wire.world
    members = {name: site.request().keys for name, site in world.sites.items()}
    made = world.home.create("other", world.base, members=members, rules=Rules())
    _, question = wire.ask(**SUBMIT)
    letter, _ = wire.site("fog", made.campaign).answer(question, pb.Reply(delivered=pb.Delivered()))
    with pytest.raises(SignatureError, match="for another campaign"):
        wire.read(flower.packed(pb.Returned(letter=letter)), question)


def test_a_reply_sealed_to_another_key_is_refused(wire):
    world = wire.world
    message = world.campaign.message
    keys = Keys(message.coordinator_key, signing.public_bytes(X25519PrivateKey.generate()))
    altered = type(message).FromString(world.campaign.payload)
    altered.coordinator_agreement_key = keys.agreement
    _, question = wire.ask(**SUBMIT)
    site = wire.site("fog", type(world.campaign)(world.campaign.payload, altered))
    letter, _ = site.answer(question, pb.Reply(delivered=pb.Delivered()))
    with pytest.raises(SignatureError, match="doesn't open"):
        wire.read(flower.packed(pb.Returned(letter=letter)), question)


def test_another_site_cannot_sign_a_letter_as_its_own(wire):
    """Night takes fog's sealed letter and signs it, as if the update in it were night's."""
    content, question = wire.ask(**SUBMIT)
    reply = wire.answer(content)
    letter = letter_of(flower.message_of(reply, pb.Returned, "it").letter)
    letter.site = "night"
    stolen = signing.signed(signing.REPLY, letter, wire.world.sites["night"].signing_key)
    for asked in (question, letters.Question("night", question.nonce, question.digest)):
        with pytest.raises(SignatureError):
            wire.read(with_set(flower.packed(pb.Returned(letter=stolen)), set_of(reply)), asked)


def test_a_greeting_is_answered_by_no_stranger(wire):
    _, question = wire.ask("", hello=pb.Hello(nonce=b"n" * 16))
    for name in ("rain", "", "../fog", "f" * 1_000_000):
        letter = pb.Letter(campaign_digest=wire.world.campaign.digest, site=name, nonce=question.nonce)
        signed = signing.signed(signing.REPLY, letter, Ed25519PrivateKey.generate())
        with pytest.raises(UpdateRefusedError, match="is no member of campaign one"):
            wire.read(flower.packed(pb.Returned(letter=signed)), question)


@pytest.mark.parametrize("point", [LOW_ORDER, b"\1" + bytes(31), bytes.fromhex("ec" + "ff" * 30 + "7f")])
def test_a_reply_with_a_point_of_low_order_is_refused_even_from_the_site(wire, point):
    """With such a key everybody would know the secret, which is all zeros."""
    _, question = wire.ask(**SUBMIT)
    letter = pb.Letter(campaign_digest=wire.world.campaign.digest, site="fog", nonce=question.nonce)
    context = sealing.Context(letter.campaign_digest, "fog", signing.REPLY, question.nonce)
    seal = sealing.Seal(bytes(32), (point, signing.public_bytes(wire.desk.agreement_key)), context)
    letter.sealed.ephemeral_key = point
    reply = pb.Reply(delivered=pb.Delivered()).SerializeToString()
    letter.sealed.content = seal.close("message", BytesIO(reply), question.digest)
    signed = signing.signed(signing.REPLY, letter, wire.world.sites["fog"].signing_key)
    with pytest.raises(SignatureError, match="no secret comes of it"):
        wire.read(flower.packed(pb.Returned(letter=signed)), question)


# ---------------------------------------------------------------- parameters

CUT = 48
"""Bytes of a chunk in the tests below, so that a small set has several."""


@pytest.fixture
def chunked(wire, monkeypatch):
    """A reply whose parameters are sealed in chunks of 48 bytes: the record, the question, and the parameters."""
    monkeypatch.setattr(sealing, "CHUNK", CUT)
    content, question = wire.ask(**SUBMIT)
    reply = wire.answer(content)
    plain = b"".join(wire.world.models["fog"][name].tobytes() for name in NAMES)
    assert len(plain) > 10 * CUT
    return reply, question, plain


def chunks_of(raw: bytes, size: int) -> tuple[list[bytes], list[bytes]]:
    """Cut sealed bytes into their chunks and their tags."""
    tags = raw[size:]
    return [raw[i : min(i + CUT, size)] for i in range(0, size, CUT)], [
        tags[i : i + 16] for i in range(0, len(tags), 16)
    ]


def drop(i):
    return lambda c, t: (c[:i] + c[i + 1 :], t[:i] + t[i + 1 :])


CHUNKS = {
    "the last chunk is missing": lambda c, t: (c[:-1], t[:-1]),
    "all but the first are missing": lambda c, t: (c[:1], t[:1]),
    "the first is missing": drop(0),
    "one in the middle is missing": drop(4),
    "two are swapped": lambda c, t: ([c[1], c[0], *c[2:]], [t[1], t[0], *t[2:]]),
    "the chunks are swapped, the tags not": lambda c, t: ([c[1], c[0], *c[2:]], t),
    "the tags are swapped, the chunks not": lambda c, t: (c, [t[1], t[0], *t[2:]]),
    "all are in reverse": lambda c, t: (c[::-1], t[::-1]),
    "one is there twice": lambda c, t: (c[:2] + c[1:], t[:2] + t[1:]),
    "the last is there twice": lambda c, t: (c + c[-1:], t + t[-1:]),
    "one stands for another": lambda c, t: ([c[1], *c[1:]], [t[1], *t[1:]]),
    "nothing is left": lambda c, t: ([], []),
    "a tag is missing": lambda c, t: (c, t[:-1]),
    "an empty chunk is added": lambda c, t: (c, [*t, bytes(16)]),
    "the last is cut": lambda c, t: ([*c[:-1], c[-1][:-1]], t),
    "one byte is added": lambda c, t: ([*c, b"x"], t),
}


@pytest.mark.parametrize("change", CHUNKS.values(), ids=CHUNKS)
def test_chunks_that_are_missing_doubled_or_out_of_order_are_found(wire, chunked, change):
    reply, question, plain = chunked
    chunks, tags = change(*chunks_of(set_of(reply), len(plain)))
    with pytest.raises(SignatureError, match="site fog"):
        wire.read(with_set(reply, b"".join(chunks + tags)), question)


def test_each_chunk_opens_only_as_what_it_is(wire, chunked):
    """No chunk's bytes are those of another, whichever two are exchanged."""
    reply, question, plain = chunked
    chunks, tags = chunks_of(set_of(reply), len(plain))
    for i in range(len(chunks) - 1):
        for j in range(len(chunks) - 1):
            if i != j:
                moved = [chunks[j] if k == i else chunk for k, chunk in enumerate(chunks)]
                with_tag = [tags[j] if k == i else tag for k, tag in enumerate(tags)]
                with pytest.raises(SignatureError):
                    wire.read(with_set(reply, b"".join(moved + with_tag)), question)


def test_every_bit_of_sealed_parameters_counts(wire, chunked):
    reply, question, plain = chunked
    raw = set_of(reply)
    opened = wire.desk.read(flower.message_of(reply, pb.Returned, "it").letter, question)
    for bit in range(8 * len(raw)):
        flipped = bytearray(raw)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(SignatureError):
            opened.parameters(PARAMETERS, BytesIO(flipped))
    assert bytes(opened.parameters(PARAMETERS, BytesIO(raw))) == plain


def test_every_bit_of_a_letter_counts(wire):
    content, question = wire.ask(progress=pb.ProgressQuery())
    letter = flower.message_of(wire.answer(content), pb.Returned, "it").letter
    whole = letter.SerializeToString()
    for bit in range(8 * len(whole)):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(OnebasinError):
            wire.read(returned_with(bytes(flipped)), question)


def test_parameters_belong_to_one_reply(wire):
    """The same parameters, asked for twice: each set only opens with the reply that it came with."""
    (first, one), (second, two) = wire.ask(**SUBMIT), wire.ask(**SUBMIT)
    replies = wire.answer(first), wire.answer(second)
    with pytest.raises(SignatureError):
        wire.read(with_set(replies[0], set_of(replies[1])), one)
    with pytest.raises(SignatureError):
        wire.read(with_set(replies[1], set_of(replies[0])), two)


# ------------------------------------------------------------ what can be read


def test_only_the_head_of_a_letter_is_in_the_clear(wire):
    content, _ = wire.ask(**SUBMIT)
    for letter in (
        letter_of(envelope_of(content)),
        letter_of(flower.message_of(wire.answer(content), pb.Returned, "it").letter),
    ):
        assert {field.name for field, _ in letter.ListFields()} <= {
            "campaign_digest",
            "site",
            "nonce",
            "expires",
            "sealed",
        }


# -------------------------------------------------------------------- mutations


def record_of(raw: bytes) -> RecordDict:
    """Return a record whose message is these bytes."""
    return RecordDict({"message": ConfigRecord({"bytes": raw})})


def returned_with(letter: bytes) -> RecordDict:
    """Return a reply whose letter is these bytes."""
    return record_of(b"\x0a" + varint(len(letter)) + letter)


def varint(number: int) -> bytes:
    found = b""
    while number > 127:
        found += bytes([number & 127 | 128])
        number >>= 7
    return found + bytes([number])


@pytest.fixture
def rounds(request):
    return request.config.getoption("--mutations") // 4


@pytest.mark.timeout(3600)
def test_no_damaged_reply_is_taken(wire, rounds, mutations):
    content, question = wire.ask(**SUBMIT)
    reply = wire.answer(content)
    returned = flower.message_of(reply, pb.Returned, "it")
    letter, parameters = returned.letter, set_of(reply)
    opened = wire.desk.read(letter, question)
    wholes = (returned.SerializeToString(), parameters, letter.payload)
    damaged = [mutations(whole, rounds, seed) for seed, whole in enumerate(wholes)]
    for i, (whole, raw, payload) in enumerate(zip(*damaged, strict=True)):
        with pytest.raises(OnebasinError):
            wire.read(record_of(whole), question)
        with pytest.raises(OnebasinError):
            opened.parameters(PARAMETERS, BytesIO(raw))
        # The site itself signs what it garbled, so that only seal and head stand in the way.
        signed = signing.sign(signing.REPLY, payload, wire.world.sites["fog"].signing_key)
        with pytest.raises(OnebasinError):
            wire.desk.read(signed, question)
        if i % 500 == 0:
            assert wire.desk.read(letter, question).message == opened.message


@pytest.mark.timeout(3600)
def test_no_damaged_request_is_answered(wire, rounds, untouched, mutations):
    content, _ = wire.ask(**SUBMIT)
    whole = envelope_of(content).SerializeToString()
    for content in mutations(whole, rounds, 3):
        assert refused(wire.answer(record_of(content))) in ("REQUEST", "UNSIGNED", "CAMPAIGN")
    assert not (wire.world.joined("fog").folder / "requests").exists()


def test_no_key_and_no_content_is_in_an_error(wire):
    """What is raised names sites, not what it was about."""
    content, question = wire.ask(deliver=pb.Deliver(), sets={PARAMETERS: PLAIN * 3})
    with pytest.raises(SignatureError) as caught:
        wire.read(flower.packed(pb.Returned(letter=envelope_of(content))), question)
    assert PLAIN.decode() not in str(caught.value)
    assert question.nonce.hex() not in str(caught.value)
