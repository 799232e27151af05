"""Keys: the same from both ends, and another for each purpose, site and roster."""

from __future__ import annotations

import itertools

import pytest

from protos.errors import SecureSumError
from protos.securesum import keys
from protos.securesum.keys import Secrets

ROSTER, OTHER_ROSTER = b"r" * 32, b"s" * 32


@pytest.fixture(scope="module")
def pair():
    return Secrets.draw(), Secrets.draw()


def test_two_sites_find_the_same_mask(pair):
    fog, night = pair
    one = keys.pair_mask(fog.mask_key, keys.public(night.mask_key), ROSTER, ("fog", "night"))
    other = keys.pair_mask(night.mask_key, keys.public(fog.mask_key), ROSTER, ("night", "fog"))
    assert one == other
    assert len(one) == keys.KEY_BYTES


def test_every_purpose_site_and_roster_has_a_key_of_its_own(pair):
    fog, night = pair
    public = keys.public(night.mask_key)
    found = [
        *(keys.pair_mask(fog.mask_key, public, roster, ("fog", "night")) for roster in (ROSTER, OTHER_ROSTER)),
        keys.pair_mask(fog.mask_key, public, ROSTER, ("fog", "rain")),
        keys.pair_mask(fog.mask_key, public, ROSTER, ("fo", "gnight")),
        *(keys.self_mask(fog.seed, roster, "fog") for roster in (ROSTER, OTHER_ROSTER)),
        keys.self_mask(fog.seed, ROSTER, "night"),
        keys.commitment(fog.seed, ROSTER, "fog"),
        fog.seed,
    ]
    assert all(a != b for a, b in itertools.combinations(found, 2))


def test_what_is_sealed_opens_at_its_place_and_at_no_other(pair):
    fog, night = pair
    sealed = keys.seal(b"shares", fog.share_key, keys.public(night.share_key), ROSTER, "fog", "night")
    assert len(sealed) == keys.sealed_bytes(6)
    public = keys.public(fog.share_key)
    assert keys.unseal(sealed, night.share_key, public, ROSTER, "fog", "night") == b"shares"
    wrong = [
        (sealed, night.share_key, public, OTHER_ROSTER, "fog", "night"),
        (sealed, night.share_key, public, ROSTER, "rain", "night"),
        (sealed, night.share_key, public, ROSTER, "fog", "rain"),
        (sealed, night.share_key, public, ROSTER, "night", "fog"),
        (sealed, night.mask_key, public, ROSTER, "fog", "night"),
        (sealed, fog.share_key, keys.public(night.share_key), ROSTER, "night", "fog"),
        (sealed[:-1], night.share_key, public, ROSTER, "fog", "night"),
        (sealed[:12], night.share_key, public, ROSTER, "fog", "night"),
        (b"", night.share_key, public, ROSTER, "fog", "night"),
        *(
            (
                sealed[:i] + bytes([sealed[i] ^ 1]) + sealed[i + 1 :],
                night.share_key,
                public,
                ROSTER,
                "fog",
                "night",
            )
            for i in range(len(sealed))
        ),
    ]
    for arguments in wrong:
        with pytest.raises(SecureSumError, match="can't open the shares"):
            keys.unseal(*arguments)


def test_the_same_content_is_never_sealed_the_same(pair):
    fog, night = pair
    public = keys.public(night.share_key)
    one, other = (keys.seal(b"shares", fog.share_key, public, ROSTER, "fog", "night") for _ in range(2))
    assert one != other


@pytest.mark.parametrize("bad", [bytes(32), b"\1" + bytes(31)])
def test_a_public_key_of_low_order_is_refused(pair, bad):
    with pytest.raises(SecureSumError, match="fog and night can't agree on a key"):
        keys.pair_mask(pair[0].mask_key, bad, ROSTER, ("fog", "night"))


def test_secrets_are_not_printed(pair):
    text = repr(pair[0])
    for secret in (pair[0].mask_key, pair[0].share_key, pair[0].seed):
        assert secret.hex() not in text
        assert str(secret) not in text
