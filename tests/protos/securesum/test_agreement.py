"""Who takes part, and how many must stay."""

from __future__ import annotations

import dataclasses
import itertools

import pytest

from protos import fixedpoint
from protos import securesum_pb2 as pb
from protos.errors import SecureSumError
from protos.securesum.agreement import Agreement, default_threshold

CAMPAIGN, NONCE = bytes(32), bytes(16)


def agreement(count: int, threshold: int = 0) -> Agreement:
    members = {f"site-{i}": i.to_bytes(32, "big") for i in range(count)}
    return Agreement(CAMPAIGN, NONCE, members, threshold or default_threshold(count))


def test_the_default_threshold_is_two_thirds_and_never_below_three():
    assert [default_threshold(n) for n in range(3, 10)] == [3, 3, 4, 4, 5, 6, 6]
    for count in range(3, 200):
        assert agreement(count).threshold * 3 >= 2 * count


@pytest.mark.parametrize("count", [0, 1, 2, fixedpoint.MAX_MODELS + 1])
def test_too_few_or_too_many_members_are_refused(count):
    with pytest.raises(SecureSumError, match=f"the campaign has {count}"):
        agreement(count, 3)


@pytest.mark.parametrize("count", [3, 4, 5, 8])
def test_a_threshold_is_more_than_half_and_no_more_than_all(count):
    for threshold in range(-1, count + 3):
        if 2 * threshold > count and threshold <= count:
            assert agreement(count, threshold or 1).threshold == threshold
        elif threshold:
            with pytest.raises(SecureSumError, match=f"threshold of {threshold} does not fit {count} members"):
                agreement(count, threshold)


@pytest.mark.parametrize(("count", "threshold"), [(n, t) for n in range(3, 9) for t in range(n // 2 + 1, n + 1)])
def test_as_many_colluding_sites_as_are_tolerated_cannot_have_two_stories_confirmed(count, threshold):
    """Every way to split the honest sites between two stories; colluding ones confirm both."""
    colluding = agreement(count, threshold).tolerated
    honest = count - colluding
    assert not any(
        first + colluding >= threshold and honest - first + colluding >= threshold for first in range(honest + 1)
    )
    assert threshold - colluding >= 2


def test_the_digest_changes_with_anything_in_it():
    whole = agreement(4)
    members = dict(whole.members)
    others = [
        whole,
        dataclasses.replace(whole, campaign=b"x" * 32),
        dataclasses.replace(whole, nonce=b"x" * 16),
        dataclasses.replace(whole, threshold=4),
        dataclasses.replace(whole, members={**members, "site-0": b"x" * 32}),
        dataclasses.replace(whole, members={**members, "site-4": b"x" * 32}),
    ]
    assert all(a.digest != b.digest for a, b in itertools.combinations(others, 2))


def test_members_are_in_order_however_they_came():
    members = {"fog": b"f" * 32, "clear": b"c" * 32, "night": b"n" * 32}
    one, other = (
        Agreement(CAMPAIGN, NONCE, dict(order), 3) for order in (members.items(), reversed(members.items()))
    )
    assert one.sites == ("clear", "fog", "night")
    assert one.digest == other.digest


def test_it_is_made_of_the_campaign_that_a_site_joined(world):
    found = Agreement.of(world.campaign, NONCE)
    assert (found.campaign, found.threshold) == (world.campaign.digest, 3)
    assert found.members == world.campaign.keys


def test_it_can_be_written_and_read():
    whole = agreement(5)
    assert Agreement.read(pb.Agreement.FromString(whole.message().SerializeToString())) == whole


@pytest.mark.parametrize("change", [{"campaign": b"x"}, {"nonce": b"x" * 17}, {"nonce": b""}])
def test_digests_and_nonces_of_another_length_are_refused(change):
    with pytest.raises(SecureSumError, match="bytes long"):
        dataclasses.replace(agreement(3), **change)
