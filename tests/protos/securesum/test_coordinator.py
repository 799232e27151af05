"""The coordinator's side: what it takes in, and what it refuses without losing what it has."""

from __future__ import annotations

import dataclasses

import pytest

from protos import securesum_pb2 as pb
from protos.errors import SecureSumError, SignatureError
from protos.securesum.coordinator import Advertising
from protos.securesum.messages import hear, say
from protos.securesum.site import Confirmed

SITES = ("site-0", "site-1", "site-2", "site-3")
FOG = "site-1"


@pytest.fixture
def found(secure_sum):
    return secure_sum(4)


def changed(found, envelope, kind, change, site=FOG):
    """Return a message after a change, signed by its site again."""
    message = hear(envelope, kind, found.agreement, site)
    change(message)
    return say(message, found.keys[site])


def test_every_stage_hears_each_site_once(found):
    state = Advertising(found.agreement).take(FOG, found.begin(FOG))
    with pytest.raises(SecureSumError, match="site-1 answered this stage before"):
        state.take(FOG, found.begin(FOG))


def test_a_message_of_one_site_is_not_taken_as_anothers(found):
    envelope = found.begin(FOG)
    with pytest.raises(SignatureError):
        Advertising(found.agreement).take("site-0", envelope)
    stolen = changed(found, envelope, pb.Keys, lambda keys: None)
    keys = hear(stolen, pb.Keys, found.agreement, FOG)
    with pytest.raises(SecureSumError, match="says that it is site site-1's"):
        Advertising(found.agreement).take("site-0", say(keys, found.keys["site-0"]))


def test_a_stranger_is_not_heard(found):
    with pytest.raises(SecureSumError, match="rain is no member"):
        Advertising(found.agreement).take("rain", found.begin(FOG))


def test_a_message_of_another_sum_is_not_heard(found, secure_sum):
    other = secure_sum(4, nonce=b"yesterday's nonc").begin(FOG)
    stricter = secure_sum(4, 4).begin(FOG)
    for envelope in (other, stricter):
        with pytest.raises(SecureSumError, match="the message is of secure sum"):
            Advertising(found.agreement).take(FOG, envelope)


@pytest.mark.parametrize("field", ["mask_key", "share_key", "commitment"])
@pytest.mark.parametrize("value", [b"", b"k" * 31, b"k" * 33])
def test_keys_of_another_length_are_refused(found, field, value):
    envelope = changed(found, found.begin(FOG), pb.Keys, lambda keys: setattr(keys, field, value))
    with pytest.raises(SecureSumError, match="not 32 bytes long"):
        Advertising(found.agreement).take(FOG, envelope)


@pytest.mark.parametrize("field", ["mask_key", "share_key"])
@pytest.mark.parametrize("bad", [bytes(32), b"\1" + bytes(31)])
def test_a_key_of_which_no_secret_comes_is_refused_before_others_are_told_of_it(found, field, bad):
    """Or else every honest site would refuse the roster, and the one at fault would be left."""
    envelope = changed(found, found.begin(FOG), pb.Keys, lambda keys: setattr(keys, field, bad))
    with pytest.raises(SecureSumError, match="no secret comes") as caught:
        Advertising(found.agreement).take(FOG, envelope)
    assert caught.value.site == FOG


def test_one_key_for_two_purposes_is_refused_before_others_are_told_of_it(found):
    envelope = changed(found, found.begin(FOG), pb.Keys, lambda keys: setattr(keys, "share_key", keys.mask_key))
    with pytest.raises(SecureSumError, match="the same key for both") as caught:
        Advertising(found.agreement).take(FOG, envelope)
    assert caught.value.site == FOG


def test_of_two_sites_with_the_same_key_one_is_named_so_that_the_others_can_go_on(found):
    state, said = Advertising(found.agreement), {site: found.begin(site) for site in SITES}
    taken = hear(said["site-0"], pb.Keys, found.agreement, "site-0").mask_key
    said["site-2"] = changed(found, said["site-2"], pb.Keys, lambda k: setattr(k, "share_key", taken), "site-2")
    for site in SITES:
        state = state.take(site, said[site])
    with pytest.raises(SecureSumError, match="site-0 and site-2 have the same key") as caught:
        state.close()
    assert caught.value.site == "site-2"


SHARES = {
    "one for itself": lambda m: setattr(m.sealed[0], "site", FOG),
    "one missing": lambda m: m.sealed.pop(),
    "one twice": lambda m: m.sealed.add().CopyFrom(m.sealed[0]),
    "swapped": lambda m: (setattr(m.sealed[0], "site", "site-2"), setattr(m.sealed[1], "site", "site-0")),
    "short": lambda m: setattr(m.sealed[0], "content", m.sealed[0].content[:-1]),
    "of another roster": lambda m: setattr(m, "roster", b"x" * 32),
}


@pytest.mark.parametrize("change", SHARES.values(), ids=SHARES)
def test_shares_for_others_than_those_on_the_roster_are_refused(found, change):
    state, roster = found.sharing(SITES)
    envelope = changed(found, found.share(FOG, roster), pb.Shares, change)
    with pytest.raises(SecureSumError, match="site-1"):
        state.take(FOG, envelope)


MASKED = {
    "of other sharers": lambda m: m.sharers.pop(),
    "of other vectors": lambda m: setattr(m.vectors[0], "key", "sum:x"),
    "of fewer vectors": lambda m: m.vectors.pop(),
    "without a digest": lambda m: m.vectors[0].ClearField("sha256"),
    "of another roster": lambda m: setattr(m, "roster", b"x" * 32),
}


@pytest.mark.parametrize("change", MASKED.values(), ids=MASKED)
def test_masked_values_of_something_else_are_refused(found, change):
    state, deliveries = found.masking(*found.sharing(SITES), SITES)
    envelope = changed(found, found.mask(FOG, deliveries[FOG])[0], pb.Masked, change)
    with pytest.raises(SecureSumError, match="site-1"):
        state.take(FOG, envelope, found.layout)


@pytest.fixture
def confirming(found):
    state, deliveries = found.masking(*found.sharing(SITES), SITES)
    for site in SITES[:3]:
        state = state.take(site, found.mask(site, deliveries[site])[0], found.layout)
    return state.close()


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.survivors.pop(),
        lambda m: m.survivors.append("site-3"),
        lambda m: m.sharers.pop(),
        lambda m: setattr(m, "roster", b"x" * 32),
    ],
)
def test_a_confirmation_of_other_sets_is_refused(found, confirming, change):
    state, survivors = confirming
    envelope = changed(found, found.confirm(FOG, survivors), pb.Confirmation, change)
    with pytest.raises(SecureSumError, match="site-1"):
        state.take(FOG, envelope)


REVEALS = {
    "one seed fewer": lambda m: m.seeds.pop(),
    "a seed of one that dropped out": lambda m: m.seeds.add(site="site-3", share=b"s" * 32),
    "no mask key": lambda m: m.ClearField("mask_keys"),
    "a short share": lambda m: setattr(m.seeds[0], "share", b"s" * 31),
    "of another roster": lambda m: setattr(m, "roster", b"x" * 32),
}


@pytest.mark.parametrize("change", REVEALS.values(), ids=REVEALS)
def test_other_shares_than_those_that_are_needed_are_refused(found, confirming, change):
    state, confirmations = found.revealing(*confirming, SITES[:3])
    envelope = changed(found, found.reveal(FOG, confirmations), pb.Reveal, change)
    with pytest.raises(SecureSumError, match="site-1"):
        state.take(FOG, envelope)


@pytest.mark.parametrize("field", ["seeds", "mask_keys"])
def test_a_wrong_share_is_found_out_and_one_to_spare_mends_it(secure_sum, field):
    found = secure_sum(5)  # any four are needed
    sites = found.agreement.sites
    masking, deliveries = found.masking(*found.sharing(sites), sites)
    total_sites = sites if field == "seeds" else sites[:4]
    for site in total_sites:
        masking = masking.take(site, found.mask(site, deliveries[site])[0], found.layout)
    confirming, survivors = masking.close()
    state, confirmations = found.revealing(confirming, survivors, total_sites)

    def forge(message):
        getattr(message, field)[0].share = b"s" * 32

    for site in total_sites:
        envelope = found.reveal(site, confirmations)
        state = state.take(site, changed(found, envelope, pb.Reveal, forge) if site == FOG else envelope)
    if field == "seeds":
        assert len(state.close()) == 5
        state = dataclasses.replace(state, shares={s: v for s, v in state.shares.items() if s != "site-4"})
    with pytest.raises(SecureSumError, match="can't be put together from the 4 shares"):
        state.close()


def test_secrets_and_shares_are_not_printed(found, confirming):
    state, confirmations = found.revealing(*confirming, SITES[:3])
    before = found.at(FOG, Confirmed)
    state = state.take(FOG, found.reveal(FOG, confirmations))
    for text in (repr(state), repr(before)):
        for held in before.held.values():
            for secret in (held.seed, held.mask_key):
                assert str(secret)[2:-1] not in text
                assert secret.hex() not in text
