"""Campaigns: what is accepted, what is refused, and what the digest depends on."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace

import pytest

from protos import campaign as campaigns
from protos import campaign_pb2 as pb
from protos.campaign import Keys, check_name
from protos.errors import ConfigurationError
from protos.rules import AT_DEADLINE, DAY, Rules

TERMS = {
    "name": "rain-2026",
    "base_digest": b"b" * 32,
    "model": "tiny-resnet",
    "classes": 19,
    "members": {"night": Keys(b"n" * 32, b"N" * 32), "fog": Keys(b"f" * 32, b"F" * 32)},
    "rules": Rules(minimum_sites=1, compare_single_models=True, copy="teacher"),
    "coordinator": Keys(b"c" * 32, b"C" * 32),
}

THREE = {**TERMS["members"], "rain": Keys(b"r" * 32, b"R" * 32)}


def make(**changes):
    return campaigns.new_campaign(**{**TERMS, **changes})


def changed(**changes) -> bytes:
    """Return a campaign's bytes with some of its fields changed."""
    message = pb.Campaign.FromString(make().payload)
    for name, value in changes.items():
        here = message
        *way, last = name.split("__")
        for step in way:
            here = getattr(here, step)
        if value is None:
            here.ClearField(last)
        elif isinstance(value, list):
            here.ClearField(last)
            getattr(here, last).extend(value)
        else:
            setattr(here, last, value)
    return message.SerializeToString(deterministic=True)


def member(site: str, key: bytes, agreement: bytes | None = None) -> pb.Member:
    return pb.Member(site=site, signing_key=key, agreement_key=key.upper() if agreement is None else agreement)


def test_what_was_laid_down_can_be_read_again():
    made = make()
    again = campaigns.parse(made.payload, "the file")
    assert again == made
    assert again.digest == made.digest == hashlib.sha256(b"onebasin campaign v1\n" + made.payload).digest()
    assert again.name == "rain-2026"
    assert again.sites == ("fog", "night")
    for site, keys in TERMS["members"].items():
        assert Keys(again.keys[site], again.agreement_keys[site]) == keys
    listed = Keys(again.message.coordinator_key, again.message.coordinator_agreement_key)
    assert listed == TERMS["coordinator"]
    assert again.rules == replace(TERMS["rules"], patience_seconds=DAY)


def test_no_minimum_means_all_members():
    assert make(rules=Rules()).rules.minimum_sites == 2


def test_the_same_terms_twice_are_two_campaigns():
    assert make().digest != make().digest


def test_every_term_changes_the_digest():
    payloads = [
        changed(),
        changed(name="sun-2026"),
        changed(base_digest=b"x" * 32),
        changed(model="other"),
        changed(classes=3),
        changed(rules__minimum_sites=2),
        changed(rules__deadline_seconds=1),
        changed(rules__patience_seconds=1),
        changed(rules__at_deadline=pb.AT_DEADLINE_WAIT),
        changed(rules__required=["fog"]),
        changed(rules__compare_single_models=False),
        changed(rules__copy=pb.COPY_STUDENT),
        changed(coordinator_key=b"y" * 32),
        changed(nonce=b"z" * 16),
        changed(coordinator_agreement_key=b"Y" * 32),
        changed(members=[member("fog", b"f" * 32)]),
        changed(members=[member("fog", b"f" * 32, b"G" * 32)]),
    ]
    assert len({campaigns.parse(payload, "it").digest for payload in payloads}) == len(payloads)


MALFORMED = {
    "has wire version 2": {"wire_version": 2},
    "has wire version 0": {"wire_version": None},
    "'Rain' can't be the name of a campaign": {"name": "Rain"},
    "'' can't be the name of a campaign": {"name": ""},
    "'../fog' can't be the name of a site": {"members": [member("../fog", b"f" * 32)]},
    "has no members": {"members": []},
    "lists its members twice": {"members": [member("fog", b"f" * 32), member("fog", b"g" * 32)]},
    "or out of order": {"members": [member("night", b"n" * 32), member("fog", b"f" * 32)]},
    "has keys that are not 32 bytes": {"members": [member("fog", b"f" * 31)]},
    "keys that are not 32 bytes long": {"coordinator_key": b""},
    "not 32 bytes long": {"coordinator_agreement_key": b""},
    "keys that are not 32": {"members": [member("fog", b"f" * 32, b"")]},
    "gives two parties the same key": {
        "members": [member("fog", b"f" * 32), member("night", b"f" * 32, b"N" * 32)]
    },
    "two parties the same key": {"members": [member("fog", b"f" * 32), member("night", b"n" * 32, b"F" * 32)]},
    "parties the same key": {"members": [member("fog", b"c" * 32, b"F" * 32)]},
    "the same key": {"members": [member("fog", b"f" * 32, b"C" * 32)]},
    "has key agreement keys of which no secret comes": {"members": [member("fog", b"f" * 32, bytes(32))]},
    "of which no secret comes": {"coordinator_agreement_key": b"\1" + bytes(31)},
    "has no digest of its base": {"base_digest": b"b" * 20},
    "no digest of its base": {"nonce": b"short"},
    "doesn't say which copy": {"rules__copy": pb.COPY_UNSPECIFIED},
    "doesn't say which": {"rules__copy": 9},
    "wants 3 sites but has 2": {"rules__minimum_sites": 3},
    "has no deadline": {"rules__deadline_seconds": 0},
    "what happens at the deadline": {"rules__at_deadline": 0},
    "requires sites twice": {"rules__required": ["night", "fog"]},
    "or that are no members": {"rules__required": ["rain"]},
}


@pytest.mark.parametrize(("said", "change"), MALFORMED.items(), ids=MALFORMED)
def test_a_malformed_campaign_is_refused(said, change):
    with pytest.raises(ConfigurationError) as caught:
        campaigns.parse(changed(**change), "campaign.binpb")
    assert said in caught.value.what
    assert caught.value.fix


@pytest.mark.parametrize("payload", [b"\xff" * 9, changed() + b"\xfa\x01\x01x", changed()[:-1]])
def test_bytes_that_are_no_campaign_are_a_configuration_error(payload):
    with pytest.raises(ConfigurationError, match=r"campaign\.binpb: the Campaign"):
        campaigns.parse(payload, "campaign.binpb")


def test_nothing_at_all_is_no_campaign():
    with pytest.raises(ConfigurationError):
        campaigns.parse(b"", "campaign.binpb")


def test_an_unknown_copy_is_refused_before_anything_is_laid_down():
    with pytest.raises(ConfigurationError, match="there is no copy 'both'"):
        make(rules=Rules(copy="both"))


def test_terms_that_make_no_sense_are_refused_when_they_are_laid_down():
    with pytest.raises(ConfigurationError, match="wants 5 sites but has 2"):
        make(rules=Rules(minimum_sites=5))


def test_a_file_is_read_and_a_missing_one_is_named(tmp_path):
    made = make()
    (tmp_path / "campaign.binpb").write_bytes(made.payload)
    assert campaigns.load(tmp_path / "campaign.binpb") == made
    with pytest.raises(ConfigurationError, match="can't read the campaign"):
        campaigns.load(tmp_path / "gone.binpb")


@pytest.mark.parametrize("name", ["a", "0", "fog-2", "a" * 40, "x-"])
def test_names_are_lower_case_letters_digits_and_hyphens(name):
    assert check_name(name, "site") == name


def test_the_defaults_are_those_of_the_documentation():
    assert Rules() == Rules(0, 7 * DAY, 0, False, "student", at_deadline="merge", required=())


@pytest.mark.parametrize(("days", "seconds"), [(7, DAY), (30, DAY), (1, DAY // 7), (0.0001, 60)])
def test_patience_follows_from_the_deadline_where_the_rules_do_not_say(days, seconds):
    assert make(rules=Rules(deadline_seconds=int(days * DAY))).rules.patience_seconds == seconds
    assert make(rules=Rules(deadline_seconds=int(days * DAY), patience_seconds=5)).rules.patience_seconds == 5


@pytest.mark.parametrize("rule", AT_DEADLINE)
def test_each_rule_for_the_deadline_can_be_laid_down(rule):
    assert make(rules=Rules(at_deadline=rule)).rules.at_deadline == rule


def test_a_rule_for_the_deadline_that_is_none_is_refused():
    with pytest.raises(ConfigurationError, match="no rule for the deadline 'sleep'") as caught:
        make(rules=Rules(at_deadline="sleep"))
    assert "merge, fail, wait" in caught.value.fix


def test_required_sites_stand_in_order():
    assert make(rules=Rules(required=("night", "fog"))).rules.required == ("fog", "night")
    with pytest.raises(ConfigurationError, match="that are no members"):
        make(rules=Rules(required=("rain",)))


SUMMED = Rules(privacy="secure-sum")


@pytest.mark.parametrize("rules", [Rules(privacy="sealed"), SUMMED, replace(SUMMED, minimum_sites=2)])
def test_each_privacy_mode_can_be_laid_down(rules):
    assert make(rules=rules, members=THREE).rules.privacy == rules.privacy


@pytest.mark.parametrize(
    ("rules", "members", "message"),
    [
        (SUMMED, 2, "has 2 members, a secure sum needs 3"),
        (replace(SUMMED, minimum_sites=1), 3, "wants 1 of 3 sites, a secure sum needs more than half"),
        (replace(SUMMED, compare_single_models=True), 3, "compare_single_models"),
        (replace(SUMMED, buffers="routed"), 3, "statistics that they measured"),
        (replace(SUMMED, buffers="pooled-recalibrated"), 3, "statistics that they measured"),
    ],
)
def test_a_secure_sum_goes_together_with_nothing_that_shows_one_site(rules, members, message):
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        make(rules=rules, members=dict(list(THREE.items())[:members]))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("rules__privacy", 0),
        ("rules__privacy", 9),
        ("rules__code_digest", b"x"),
        ("rules__code_digest", b"x" * 33),
    ],
)
def test_a_campaign_of_no_known_privacy_or_with_a_digest_that_is_none_is_refused(field, value):
    with pytest.raises(ConfigurationError, match=r"the file (doesn't say in which privacy mode|has a digest)"):
        campaigns.parse(changed(**{field: value}), "the file")


def test_the_codes_digest_is_a_rule():
    one, two = (make(rules=Rules(code_digest=digit * 64)) for digit in "ab")
    assert one.rules.code_digest == "a" * 64
    assert one.digest != two.digest
