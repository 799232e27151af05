"""A site's part in a secure sum: what it answers, what it remembers, and what it never does."""

from __future__ import annotations

import stat
import threading

import pytest

from client.answers import answer
from client.summing import Summing
from protos import messages_pb2 as pb
from protos import securesum_pb2 as sums
from protos import signing
from protos.digest import sha256
from protos.errors import SecureSumError, StorageError
from protos.rules import Rules
from protos.securesum import coordinator, layout
from protos.securesum.agreement import Agreement

SITES = ("clear", "fog", "night")
RULES = Rules(privacy="secure-sum", minimum_sites=2)
NONCE = b"n" * 16


class Played:
    """A coordinator that plays by the rules, as far as a test lets it."""

    def __init__(self, world, nonce: bytes = NONCE) -> None:
        self.world, self.nonce = world, nonce
        self.agreement = Agreement.of(world.campaign, nonce)
        self.vectors = layout.layout(world.manifest)

    def tell(self, site: str, **given) -> sums.Masked:
        """Ask a site for a stage; what it says, signed."""
        return Summing(self.world.joined(site)).answer(pb.SumStage(nonce=self.nonce, **given))

    def roster(self, sites=SITES) -> tuple[coordinator.Sharing, sums.Roster]:
        state = coordinator.Advertising(self.agreement)
        for site in sites:
            state = state.take(site, self.tell(site))
        return state.close()

    def deliveries(self, sites=SITES) -> tuple[coordinator.Masking, dict[str, sums.Delivery]]:
        state, roster = self.roster(sites)
        for site in sites:
            state = state.take(site, self.tell(site, roster=roster))
        return state.close()

    def masked(self, sites=SITES) -> tuple[coordinator.Confirming, sums.Survivors]:
        state, deliveries = self.deliveries(sites)
        for site in sites:
            state = state.take(site, self.tell(site, delivery=deliveries[site]), self.vectors)
        return state.close()

    def confirmed(self, sites=SITES) -> tuple[coordinator.Revealing, sums.Confirmations]:
        state, survivors = self.masked(sites)
        for site in sites:
            state = state.take(site, self.tell(site, survivors=survivors))
        return state.close()


@pytest.fixture
def world(make_world):
    return make_world(SITES, RULES)


@pytest.fixture
def played(world) -> Played:
    return Played(world)


def ask(world, site: str, **what) -> str:
    """Return the kind of a site's reply, or the reason of its refusal."""
    request = pb.Request(campaign_digest=world.campaign.digest, **what)
    reply, _ = answer(world.sites[site], request, 1, lambda name: b"")
    if reply.WhichOneof("what") == "refusal":
        return pb.Refusal.Reason.Name(reply.refusal.reason).removeprefix("REASON_")
    return reply.WhichOneof("what")


def files_of(world, site: str):
    return world.joined(site).folder / "sum"


# ------------------------------------------------------------ what leaves, when


def test_the_masked_words_are_those_that_were_signed(played, world):
    played.masked()
    summing = Summing(world.joined("fog"))
    statement = signing.decode(summing.masked().payload, sums.Masked, "it")
    assert [vector.key for vector in statement.vectors] == list(played.vectors)
    for vector in statement.vectors:
        raw = summing.words([vector.key])
        assert len(raw) == played.vectors[vector.key].nbytes
        assert sha256([raw]) == vector.sha256


def test_an_update_never_leaves_without_masks(played, world):
    """A coordinator that asks for it as in another campaign is refused, at every stage."""
    plain = [
        pb.Submit(header=True),
        pb.Submit(header=True, parameters=list(world.manifest.parameters)[:1]),
    ]
    names = pb.Submit(parameters=list(world.manifest.parameters)[:1])
    for stage in (lambda: None, played.roster, played.masked):
        stage()
        assert [ask(world, "fog", submit=what) for what in plain] == ["RULES", "RULES"]
        assert ask(world, "fog", submit=names) in ("SUM", "UPDATE")
        played = Played(world, bytes([played.nonce[0] + 1]) * 16)


def test_in_another_campaign_there_is_no_sum(make_world):
    world = make_world(SITES, Rules())
    assert ask(world, "fog", sum=pb.SumStage(nonce=NONCE)) == "RULES"


def test_without_an_update_a_site_takes_no_part(make_world):
    world = make_world(SITES, RULES, store=False)
    assert ask(world, "fog", sum=pb.SumStage(nonce=NONCE)) == "NOT_READY"
    assert not files_of(world, "fog").exists()


def test_masked_words_are_there_between_masking_and_revealing_only(played, world):
    key = next(iter(played.vectors))
    assert ask(world, "fog", submit=pb.Submit(parameters=[key])) == "SUM"
    _, deliveries = played.deliveries()
    assert ask(world, "fog", submit=pb.Submit(parameters=[key])) == "SUM"
    played.tell("fog", delivery=deliveries["fog"])
    assert ask(world, "fog", submit=pb.Submit(parameters=[key])) == "parameters"
    assert Summing(world.joined("fog")).words_file.exists()
    played.tell("fog", survivors=sums.Survivors(sites=SITES))
    assert ask(world, "fog", submit=pb.Submit(parameters=[key])) == "SUM"
    assert not Summing(world.joined("fog")).words_file.exists()


def test_a_name_that_is_no_vectors_is_refused(played, world):
    played.masked()
    for name in ("head.weight", "../state.binpb", ""):
        assert ask(world, "fog", submit=pb.Submit(parameters=[name])) == "UPDATE"


# --------------------------------------------------------------- said once


def test_who_asks_the_same_again_gets_the_same_again(played, world):
    _, confirmations = played.confirmed()
    first = played.tell("fog", confirmations=confirmations)
    assert played.tell("fog", confirmations=confirmations) == first
    other = Played(world, b"o" * 16)
    with pytest.raises(SecureSumError, match="revealed its shares for this campaign already"):
        other.tell("fog")


def test_another_request_of_a_stage_that_is_done_is_refused(played):
    """As a coordinator would make it that wants to hear two stories from one site."""
    _, survivors = played.masked()
    played.tell("fog", survivors=survivors)
    with pytest.raises(SecureSumError, match="is at stage confirmed of this secure sum, not masked"):
        played.tell("fog", survivors=sums.Survivors(sites=["clear", "fog"]))


def test_a_stage_of_an_earlier_sum_is_refused(played, world):
    _, survivors = played.masked()
    later = Played(world, b"o" * 16)
    later.roster()
    with pytest.raises(SecureSumError, match="takes part in another secure sum"):
        played.tell("fog", survivors=survivors)
    with pytest.raises(SecureSumError, match="of an earlier secure sum"):
        played.tell("fog")


def test_a_request_of_an_earlier_sum_that_was_held_back_does_not_begin_it_now(played, world):
    """Its keys would take the place of what this site needs to reveal."""
    _, confirmations = played.confirmed()
    with pytest.raises(SecureSumError, match="a request of an earlier secure sum arrived"):
        Played(world, b"a" * 16).tell("fog")
    played.tell("fog", confirmations=confirmations)


def test_who_lied_is_named_to_the_coordinator(played, world):
    _, deliveries = played.deliveries()
    wrong = sums.Delivery.FromString(deliveries["fog"].SerializeToString())
    wrong.sealed[1].content = bytes(len(wrong.sealed[1].content))
    request = pb.Request(campaign_digest=world.campaign.digest, sum=pb.SumStage(nonce=NONCE, delivery=wrong))
    reply, _ = answer(world.sites["fog"], request, 1, lambda name: b"")
    assert (reply.refusal.reason, reply.refusal.member) == (pb.Refusal.REASON_SUM, "night")


def test_two_processes_at_once_say_the_same(played, world):
    """Flower may start a process for a request that is asked again while the first is still at work."""
    _, deliveries = played.deliveries()
    said = []
    threads = [
        threading.Thread(target=lambda: said.append(played.tell("fog", delivery=deliveries["fog"])))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(said) == 4
    assert all(one == said[0] for one in said)


def test_an_update_that_was_made_anew_is_not_masked_with_the_same_masks(played, world):
    """The masked words lie on the disk, so what is adapted later doesn't get under them."""
    _, deliveries = played.deliveries()
    first = played.tell("fog", delivery=deliveries["fog"])
    outbox = world.outbox("fog")
    outbox.store(world.models["clear"])
    assert played.tell("fog", delivery=deliveries["fog"]) == first
    statement = signing.decode(first.payload, sums.Masked, "it")
    key = statement.vectors[0].key
    assert sha256([Summing(world.joined("fog")).words([key])]) == statement.vectors[0].sha256


# --------------------------------------------------------------- bad files


def test_secrets_are_readable_by_the_site_alone(played, world):
    played.roster()
    folder = files_of(world, "fog")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "state.binpb").stat().st_mode) == 0o600


@pytest.mark.parametrize("content", [b"", b"\xff", b"\x0a\x02ab", b"x" * 1000])
def test_a_damaged_state_ends_the_sum_at_this_site(played, world, content):
    """It might hide that shares were revealed already."""
    played.roster()
    (files_of(world, "fog") / "state.binpb").write_bytes(content)
    for nonce in (NONCE, b"o" * 16):
        with pytest.raises(SecureSumError):
            Played(world, nonce).tell("fog")
    assert ask(world, "fog", sum=pb.SumStage(nonce=b"o" * 16)) == "SUM"


def test_damaged_masked_words_are_not_sent(played, world):
    played.masked()
    path = Summing(world.joined("fog")).words_file
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert ask(world, "fog", submit=pb.Submit(parameters=[list(played.vectors)[-1]])) == "UPDATE"


def test_a_model_that_is_not_what_was_signed_is_not_masked(played, world):
    _, deliveries = played.deliveries()
    path = world.outbox("fog").model
    content = path.read_bytes()
    path.write_bytes(content[:-200] + bytes(200))
    stage = pb.SumStage(nonce=NONCE, delivery=deliveries["fog"])
    assert ask(world, "fog", sum=stage) == "UPDATE"
    path.write_bytes(content)
    assert ask(world, "fog", sum=stage) == "summed"  # nothing was lost


def test_on_a_full_disk_nothing_is_said_and_the_stage_can_be_done_later(played, world, monkeypatch):
    from protos import files

    _, roster = played.roster()

    def full(*_, **__):
        raise StorageError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(files, "write", full)
        assert ask(world, "fog", sum=pb.SumStage(nonce=NONCE, roster=roster)) == "STORAGE"
    assert ask(world, "fog", sum=pb.SumStage(nonce=NONCE, roster=roster)) == "summed"


def test_the_log_and_the_audit_log_hold_no_secret(played, world, caplog):
    _, confirmations = played.confirmed()
    request = pb.Request(
        campaign_digest=world.campaign.digest, sum=pb.SumStage(nonce=NONCE, confirmations=confirmations)
    )
    reply, _ = answer(world.sites["fog"], request, 1, lambda name: b"")
    revealed = signing.decode(reply.summed.payload, sums.Reveal, "it")
    lines = "\n".join(path.read_text() for path in world.sites["fog"].folder.glob("audit*")) + caplog.text
    assert '"stage": "confirmations"' in lines or '"stage":"confirmations"' in lines
    for share in (*revealed.seeds, *revealed.mask_keys):
        assert share.share.hex() not in lines
