"""What a site forbids, whatever anybody accepts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from client.policy import Policy
from protos import campaign as campaigns
from protos import signing
from protos.campaign import Keys
from protos.errors import ConfigurationError, PolicyError
from protos.rules import Rules

MEMBERS = {name: Keys(name[:1].encode() * 32, name[-1:].encode() * 32) for name in ("fog", "night", "rain")}


def campaign(**rules):
    return campaigns.new_campaign(
        name="one",
        base_digest=b"b" * 32,
        model="tiny-resnet",
        classes=5,
        members=MEMBERS,
        rules=replace(Rules(), **rules),
        coordinator=Keys(b"c" * 32, b"d" * 32),
    )


FORBIDDEN = [
    ({"weakest_privacy": "secure-sum"}, {}, "runs with privacy 'sealed'"),
    ({"fewest_sites": 4}, {}, "merges as few as 3 sites"),
    ({"fewest_sites": 3}, {"minimum_sites": 2}, "merges as few as 2 sites"),
    ({"members": ("night",)}, {}, "has a member rain"),
    ({"members": ("night", signing.fingerprint(b"x" * 32))}, {}, signing.fingerprint(b"r" * 32)),
    ({"compare_single_models": False}, {"compare_single_models": True}, "shows single sites' models"),
    ({"counts_in_clear": False}, {}, "see BatchNorm counts"),
]


@pytest.mark.parametrize(("policy", "rules", "said"), FORBIDDEN, ids=repr)
def test_a_campaign_that_breaks_the_policy_is_refused_by_rule_and_key(policy, rules, said):
    with pytest.raises(PolicyError) as caught:
        Policy(**policy).check(campaign(**rules), "fog")
    assert said in caught.value.what
    assert f"{next(iter(policy))} = " in caught.value.what
    assert "site.toml" in caught.value.fix


ALLOWED = [
    ({}, {"compare_single_models": True}),
    ({"weakest_privacy": "sealed"}, {"privacy": "secure-sum"}),
    ({"weakest_privacy": "sealed"}, {"privacy": "sealed"}),
    ({"fewest_sites": 3}, {}),
    ({"members": ("night", "rain")}, {}),
    ({"members": ("night", signing.fingerprint(b"r" * 32).lower())}, {}),
    ({"counts_in_clear": False}, {"privacy": "secure-sum"}),
    ({"compare_single_models": False}, {}),
]


@pytest.mark.parametrize(("policy", "rules"), ALLOWED, ids=repr)
def test_a_campaign_that_keeps_to_the_policy_is_allowed(policy, rules):
    Policy(**policy).check(campaign(**rules), "fog")


@pytest.mark.parametrize(
    "values", [{"weakest_privacy": "none"}, {"fewest_sites": 0}, {"fewest_sites": -1}], ids=repr
)
def test_a_policy_that_makes_no_sense_is_refused(values):
    with pytest.raises(ConfigurationError, match="policy: "):
        Policy(**values)


def test_by_itself_a_policy_forbids_nothing_and_the_new_sites_file_says_the_same(world):
    assert world.sites["fog"].settings.policy == Policy()
