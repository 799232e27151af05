"""Shamir's scheme: any threshold of shares is enough, one fewer says nothing."""

from __future__ import annotations

import itertools

import pytest

from protos.errors import SecureSumError
from protos.securesum import sharing

SITES = ("clear", "dusty", "fog", "night", "rain")
SECRET = bytes(range(32))


def combined(shares, threshold=3, right=SECRET.__eq__):
    return sharing.combine(shares, threshold, SITES, right, "the seed of site fog")


def test_any_threshold_of_shares_is_enough():
    shares = sharing.split(SECRET, 3, SITES)
    assert tuple(shares) == SITES
    assert {len(share) for share in shares.values()} == {sharing.SHARE_BYTES}
    for count in (3, 4, 5):
        for chosen in itertools.permutations(SITES, count):
            assert combined({site: shares[site] for site in chosen}) == SECRET


def test_fewer_are_refused():
    shares = sharing.split(SECRET, 3, SITES)
    with pytest.raises(SecureSumError, match="the seed of site fog can't be put together from the 2 shares"):
        combined({site: shares[site] for site in SITES[:2]})


def test_fewer_shares_fit_any_secret():
    """With two of three shares, a third can be found for whatever secret: so they say nothing of it."""
    shares = sharing.split(SECRET, 3, SITES)
    other = bytes(reversed(SECRET))
    # The quadratic through two shares and another secret at 0, found by treating that secret as a fourth point.
    from Crypto.Protocol.SecretSharing import _Element

    def at(x: int, points: list[tuple[int, bytes]]) -> bytes:
        total = _Element(0)
        for i, (place, value) in enumerate(points):
            term = _Element(value)
            for j, (elsewhere, _) in enumerate(points):
                if i != j:
                    top, bottom = _Element(x) + _Element(elsewhere), _Element(place) + _Element(elsewhere)
                    term = term * top * bottom.inverse()
            total = total + term
        return total.encode()

    forged = b"".join(
        at(3, [(0, other[h : h + 16]), (1, shares["clear"][h : h + 16]), (2, shares["dusty"][h : h + 16])])
        for h in (0, 16)
    )
    mixed = {"clear": shares["clear"], "dusty": shares["dusty"], "fog": forged}
    assert combined(mixed, right=other.__eq__) == other


@pytest.mark.parametrize("bad", SITES)
def test_one_wrong_share_is_left_out_if_there_is_one_to_spare(bad):
    shares = sharing.split(SECRET, 3, SITES) | {bad: bytes(32)}
    assert combined(shares) == SECRET
    with pytest.raises(SecureSumError, match="can't be put together"):
        combined({site: shares[site] for site in {bad, *[s for s in SITES if s != bad][:2]}})


def test_shares_of_one_secret_are_new_each_time():
    first, second = (sharing.split(SECRET, 3, SITES) for _ in range(2))
    assert not set(first.values()) & set(second.values())
    assert SECRET not in (*first.values(), *second.values())
