"""A site's side, stage by stage: what it says, what it keeps, and that it does nothing twice."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from protos import securesum_pb2 as pb
from protos.boundary import BatchNorm
from protos.errors import MergeRangeError, SecureSumError, UpdateRefusedError
from protos.securesum import keys, memory
from protos.securesum import site as site_side
from protos.securesum.keystream import Mask, apply
from protos.securesum.messages import hear
from protos.securesum.site import Advertised, Confirmed, Masked, Revealed, Shared

SITES = ("site-0", "site-1", "site-2", "site-3")
FOG = "site-1"


@pytest.fixture
def found(secure_sum):
    return secure_sum(4)


@pytest.fixture
def at_masked(found):
    """All four have masked; returns the sum, the coordinator's state, and what site FOG said and sent."""
    masking, deliveries = found.masking(*found.sharing(SITES), SITES)
    said = {site: found.mask(site, deliveries[site]) for site in SITES}
    for site in SITES:
        masking = masking.take(site, said[site][0], found.layout)
    return found, masking, said[FOG]


def secrets_of(state: bytes) -> list[bytes]:
    own = memory.load(state).secrets
    return [own.mask_key, own.share_key, own.seed]


def test_it_advertises_public_keys_and_a_commitment_and_nothing_secret(found):
    envelope = found.begin(FOG)
    said = hear(envelope, pb.Keys, found.agreement, FOG)
    mask_key, share_key, seed = secrets_of(found.states[FOG])
    assert (said.mask_key, said.share_key) == (keys.public(mask_key), keys.public(share_key))
    assert said.commitment == keys.commitment(seed, found.agreement.digest, FOG)
    assert not any(secret in envelope.SerializeToString() for secret in (mask_key, share_key, seed))


def test_every_sum_has_secrets_of_its_own(found):
    found.begin(FOG)
    first = secrets_of(found.states[FOG])
    found.begin(FOG)
    assert not set(first) & set(secrets_of(found.states[FOG]))


def test_its_masked_values_are_the_values_and_the_masks_that_others_can_compute(at_masked):
    found, _, (_, words) = at_masked
    state = found.at(FOG, Masked)
    masks = [Mask(keys.self_mask(state.secrets.seed, state.roster.digest, FOG), -1)]
    for site in SITES:
        if site != FOG:
            theirs = found.at(site, Masked).secrets.mask_key
            key = keys.pair_mask(theirs, state.roster.keys[FOG].mask_key, state.roster.digest, (site, FOG))
            masks.append(Mask(key, -1 if site > FOG else 1))
    name = "stem.weight"
    plain = words[f"sum:{name}"].copy()
    apply(masks, found.layout[f"sum:{name}"], 0, plain)
    values = found.models[FOG][name].reshape(-1).astype(np.float64)
    np.testing.assert_array_equal(plain.view(np.int64), np.rint(values * 2**40).astype(np.int64))


def test_what_it_says_of_masked_values_holds_their_digests(at_masked):
    found, _, (header, words) = at_masked
    said = hear(header, pb.Masked, found.agreement, FOG)
    assert [vector.key for vector in said.vectors] == list(found.layout)
    assert all(vector.sha256 == hashlib.sha256(words[vector.key]).digest() for vector in said.vectors)
    assert tuple(said.sharers) == SITES


def test_a_part_that_was_lost_is_masked_to_the_same_bytes_again(at_masked):
    found, _, (header, words) = at_masked
    again_header, again = found.masked(FOG)
    assert again_header == header
    assert all((again[key] == words[key]).all() for key in words)


def test_another_update_is_not_masked_with_the_same_masks(at_masked):
    found, _, _ = at_masked
    with pytest.raises(SecureSumError, match="the update changed since its masks were made"):
        found.at(FOG, Masked).masker(found.layout, found.update("site-0"))


@pytest.mark.parametrize(
    ("value", "error"), [(512, MergeRangeError), (np.nan, UpdateRefusedError), (-np.inf, UpdateRefusedError)]
)
def test_a_parameter_out_of_range_is_refused_before_it_is_masked(at_masked, value, error):
    found, _, _ = at_masked
    masker = found.at(FOG, Masked).masker(found.layout, found.update(FOG))
    with pytest.raises(error) as caught:
        masker.parameter("norm.bias", 0, np.array([0, value, 1, 1], np.float32))
    assert (caught.value.site, caught.value.tensor) == (FOG, "norm.bias")


@pytest.mark.parametrize("change", [{"mean": np.nan}, {"var": -1}, {"var": np.inf}, {"count": 0}, {"count": -5}])
def test_statistics_that_make_no_sense_are_refused_before_they_are_masked(at_masked, change):
    found, _, _ = at_masked
    masker = found.at(FOG, Masked).masker(found.layout, found.update(FOG))
    mean, var = np.full(4, change.get("mean", 0), np.float32), np.full(4, change.get("var", 1), np.float32)
    with pytest.raises(UpdateRefusedError, match="norm"):
        masker.statistics("norm", BatchNorm(mean, var, change.get("count", 7)))


def test_a_count_that_int64_does_not_hold_is_refused(at_masked):
    found, _, _ = at_masked
    masker = found.at(FOG, Masked).masker(found.layout, found.update(FOG))
    one = np.ones(4, np.float32)
    with pytest.raises(MergeRangeError, match="more than int64 holds"):
        masker.statistics("norm", BatchNorm(one, one, 1 << 63))


def test_it_reveals_one_secret_of_each_site_and_keeps_none(at_masked):
    found, masking, _ = at_masked
    arrived = {site: one for site, one in masking.arrived.items() if site != "site-0"}
    confirming, survivors = type(masking)(masking.agreement, masking.roster, masking.sharers, arrived).close()
    _, confirmations = found.revealing(confirming, survivors, SITES[1:])
    assert "secrets" not in vars(memory.load(found.states[FOG]))
    before = found.at(FOG, Confirmed)
    said = hear(found.reveal(FOG, confirmations), pb.Reveal, found.agreement, FOG)
    assert {share.site: share.share for share in said.seeds} == {
        site: before.held[site].seed for site in SITES[1:]
    }
    assert {share.site: share.share for share in said.mask_keys} == {"site-0": before.held["site-0"].mask_key}
    state = found.at(FOG, Revealed)
    assert vars(state).keys() == {"agreement", "site", "spent"}
    assert not any(
        secret in found.states[FOG] for held in before.held.values() for secret in (held.seed, held.mask_key)
    )


def test_each_stage_is_done_once_even_if_the_request_is_the_same(found):
    sharing, roster = found.sharing(SITES)
    masking, deliveries = found.masking(sharing, roster, SITES)
    for site in SITES:
        masking = masking.take(site, found.mask(site, deliveries[site])[0], found.layout)
    confirming, survivors = masking.close()
    again = [
        lambda: found.share(FOG, roster),
        lambda: found.mask(FOG, deliveries[FOG]),
    ]
    for late in again:
        with pytest.raises(SecureSumError, match=r"site-1 is at stage masked of this secure sum, not"):
            late()
    _, confirmations = found.revealing(confirming, survivors, SITES)
    found.reveal(FOG, confirmations)
    for late in (*again, lambda: found.confirm(FOG, survivors), lambda: found.reveal(FOG, confirmations)):
        with pytest.raises(SecureSumError, match=r"site-1 is at stage revealed of this secure sum, not"):
            late()


def test_no_stage_is_done_before_its_turn(found):
    found.begin(FOG)
    for early in (
        lambda: found.mask(FOG, pb.Delivery()),
        lambda: found.confirm(FOG, pb.Survivors(sites=SITES)),
        lambda: found.reveal(FOG, pb.Confirmations()),
    ):
        with pytest.raises(SecureSumError, match="is at stage advertised of this secure sum, not"):
            early()


def test_a_nonce_is_used_once_and_a_campaign_revealed_once(found, secure_sum):
    found.run()
    last = memory.load(found.states[FOG])
    other = secure_sum(4, nonce=b"another nonce 16").agreement
    for agreement in (found.agreement, other):
        with pytest.raises(SecureSumError, match="site-1 revealed its shares for this campaign already"):
            site_side.begin(agreement, FOG, found.keys[FOG], last)


def test_nonces_of_all_attempts_are_remembered(found, secure_sum):
    nonces = [bytes([i]) * 16 for i in range(4)]
    state = None
    for nonce in nonces:
        state, _ = site_side.begin(secure_sum(4, nonce=nonce).agreement, FOG, found.keys[FOG], state)
        state = memory.load(memory.dump(state))
    assert state.spent == tuple(nonces[:-1])
    for nonce in nonces:
        with pytest.raises(SecureSumError, match="was begun before"):
            site_side.begin(secure_sum(4, nonce=nonce).agreement, FOG, found.keys[FOG], state)


def test_the_state_of_another_campaign_or_site_is_no_past_of_this_one(found):
    found.begin(FOG)
    with pytest.raises(SecureSumError, match="of another campaign or site"):
        site_side.begin(found.agreement, "site-0", found.keys["site-0"], memory.load(found.states[FOG]))


def test_a_stranger_does_not_take_part(found):
    with pytest.raises(SecureSumError, match="site rain is no member"):
        site_side.begin(found.agreement, "rain", found.keys[FOG])


@pytest.mark.parametrize("stage", [Advertised, Shared, Masked, Confirmed, Revealed])
def test_a_state_survives_being_written_and_a_damaged_one_is_refused(found, stage):
    masking = deliveries = confirming = survivors = None
    sharing, roster = found.sharing(SITES)
    if stage is not Advertised:
        masking, deliveries = found.masking(sharing, roster, SITES)
    if stage in (Masked, Confirmed, Revealed):
        for site in SITES:
            masking = masking.take(site, found.mask(site, deliveries[site])[0], found.layout)
    if stage in (Confirmed, Revealed):
        confirming, survivors = masking.close()
        _, confirmations = found.revealing(confirming, survivors, SITES)
        if stage is Revealed:
            found.reveal(FOG, confirmations)
    content = found.states[FOG]
    state = memory.load(content)
    assert type(state) is stage
    assert memory.dump(state) == content
    assert memory.load(memory.dump(state)) == state
    for i in range(0, len(content), 7):
        for damaged in (content[:i], content[:i] + bytes([content[i] ^ 1]) + content[i + 1 :]):
            with pytest.raises(SecureSumError, match="not as it was written"):
                memory.load(damaged)


def test_bytes_that_are_no_state_are_refused():
    for payload, said in ((b"\xff\xff", "can't be parsed"), (b"\x9a\x06\x00", "not in canonical form")):
        with pytest.raises(SecureSumError, match=said):
            memory.load(hashlib.sha256(payload).digest() + payload)


def test_a_site_that_is_in_no_sum_answers_nothing(found):
    with pytest.raises(SecureSumError, match="in another secure sum, or in none"):
        memory.expect(None, Advertised, found.agreement)
