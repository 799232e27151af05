"""Regions: coordinators that take part in a campaign above them, with what Flower does kept in memory."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from region_trees import INSIDE, MODELS, SECURE, put

from client import adapting
from client.plain_words import rules
from coordinator.merge.state import MergeState
from coordinator.merging import last_receipt
from coordinator.verifying import Evidence, verify
from coordinator.withdrawing import withdraw
from protos import audit, receipts
from protos.errors import (
    AdaptationError,
    BaseMismatchError,
    ConfigurationError,
    PolicyError,
    QuorumError,
    UpdateRefusedError,
)
from protos.rules import Rules

EQUAL = Rules(evaluate=False, weighing="members")


@pytest.fixture
def flat(inside):
    """Return the digest of the merged model of a flat campaign of sites."""

    def digest(*names: str) -> str:
        return last_receipt(inside(*names).folder).merged.digest

    return digest


def test_two_regions_of_two_give_the_bits_of_a_flat_campaign_of_four(two_regions, run, flat):
    above, regions = two_regions
    receipt = run(above)
    assert receipt.merged.digest == flat("clear", "dusty", "fog", "night")
    assert receipt.models == 4
    # The receipt names what is nested in it, and both regions have the model.
    for entry in receipt.inputs:
        world = regions[entry.site]
        inner = receipts.read(world.folder.merged / "receipt.json", bytes.fromhex(entry.region.coordinator))
        assert (entry.region.receipt, entry.region.models) == (inner.digest, 2)
        model = above.joined(entry.site).folder / "merged.safetensors"
        assert model.read_bytes() == (above.folder.merged / "merged.safetensors").read_bytes()


def test_regions_that_sum_securely_give_the_same_bits(inside, build, run, flat):
    regions = {
        "east": inside("clear", "dusty", "fog", rules=SECURE),
        "west": inside("night", "rain", "snow", rules=SECURE),
    }
    above = build(regions)
    for name, world in regions.items():
        put(above, name, world)
    assert run(above).merged.digest == flat(*MODELS)


def test_unequal_regions_sites_and_regions_of_regions_give_the_flat_bits(inside, build, run, flat):
    below = {"low": inside("clear", "dusty")}
    middle = build(below, alone=("fog",), rules=INSIDE, campaign="middle")
    put(middle, "low", below["low"])
    run(middle)
    regions = {"left": middle, "right": inside("night", "rain")}
    top = build(regions, alone=("snow",), campaign="top")
    for name, world in regions.items():
        put(top, name, world)
    receipt = run(top)
    assert receipt.merged.digest == flat(*MODELS)
    assert {entry.site: entry.models for entry in receipt.inputs} == {"left": 3, "right": 2, "snow": 1}
    assert receipt.models == 6


def test_members_that_count_once_are_weighted_so(inside, build, run, flat):
    regions = {"east": inside("clear", "dusty"), "west": inside("fog", "night", "rain")}
    above = build(regions, rules=EQUAL)
    for name, world in regions.items():
        put(above, name, world)
    receipt = run(above)
    assert receipt.parameter_rule == "midpoint-of-members"
    assert receipt.models == 5
    with MergeState(above.folder.state) as state:
        assert state.models == 12  # two members of six each: 3 × 2 and 2 × 3
    assert receipt.merged.digest != flat("clear", "dusty", "fog", "night", "rain")
    with pytest.raises(ConfigurationError, match="counts each member once"):
        withdraw(above.folder, "east")


def test_a_region_can_be_withdrawn_as_a_whole(two_regions, run, flat, tmp_path, monkeypatch):
    monkeypatch.setattr("coordinator.withdrawing.write_report", lambda *_: None)
    above, _ = two_regions
    run(above)
    above.outbox("east").export(tmp_path / "east.safetensors")
    receipt = withdraw(above.folder, "east", tmp_path / "east.safetensors", force=True)
    assert receipt.merged.digest == flat("fog", "night")
    assert receipt.models == 2
    with MergeState(above.folder.state) as state:
        assert len(state.sites) == 2


def test_a_region_that_is_late_is_taken_in_by_a_later_run(inside, build, run, flat):
    regions = {"east": inside("clear", "dusty"), "west": inside("fog", "night")}
    above = build(regions, rules=Rules(evaluate=False, minimum_sites=1, deadline_seconds=60))
    put(above, "east", regions["east"])
    assert [entry.site for entry in run(above).inputs] == ["east"]
    put(above, "west", regions["west"])
    receipt = run(above)
    assert receipt.merged.digest == flat("clear", "dusty", "fog", "night")
    assert {entry.site: entry.models for entry in receipt.inputs} == {"east": 2, "west": 2}


def test_bytes_over_the_border_do_not_depend_on_the_sites_inside(inside, build):
    sizes = set()
    for names in (("clear", "dusty"), tuple(MODELS)):
        world = inside(*names)
        above = build({"east": world})
        put(above, "east", world)
        outbox = above.outbox("east")
        header = outbox.header()
        sizes.add((header.ByteSize(), len(outbox.parameters([p.name for p in header.parameters]))))
        # No site is named, no single model is in it.
        leaving = outbox.envelope().SerializeToString()
        assert not any(name.encode() in leaving for name in names)
    assert len(sizes) == 1


def test_sites_evaluate_and_regions_do_not(inside, build, run):
    regions = {"east": inside("clear", "dusty")}
    above = build(regions, alone=("fog",), rules=Rules())
    put(above, "east", regions["east"])
    run(above)
    asked = [event for _, event in above.home.journal.events(above.folder.key) if event["event"] == "evaluating"]
    assert [event["site"] for event in asked] == ["fog"]


# ------------------------------------------------------------------ what is refused


def test_an_unfinished_campaign_has_no_sum(inside, build):
    world = inside("clear", "dusty", over=False)
    above = build({"east": world})
    with pytest.raises(QuorumError, match="campaign one of the region has no merged model yet") as caught:
        put(above, "east", world)
    assert caught.value.exit_code == 9


def test_a_campaign_of_another_base_is_refused(inside, build, tmp_path, saved, model):
    world = inside("clear", "dusty")
    other = saved(tmp_path / "other.safetensors", model(9), {"model": "tiny-resnet", "classes": "5"})
    above = build({"east": world}, base=other)
    with pytest.raises(BaseMismatchError, match="campaign one of the region starts from base") as caught:
        put(above, "east", world)
    assert caught.value.exit_code == 4


def test_another_coordinators_campaign_is_refused(inside, build):
    above = build({"east": inside("clear", "dusty")})
    with pytest.raises(ConfigurationError, match="as the coordinator of region east, and"):
        put(above, "east", inside("fog", "night"))


def test_a_site_puts_no_sum_into_its_outbox(inside, build):
    world = inside("clear", "dusty")
    above = build({"east": world}, alone=("fog",))
    with pytest.raises(ConfigurationError, match="lists fog as a site, not as a region"):
        put(above, "fog", world)


def test_a_campaign_whose_members_did_not_agree_stays_in_the_region(inside, build):
    world = inside("clear", "dusty", rules=Rules(evaluate=False))
    above = build({"east": world})
    with pytest.raises(ConfigurationError, match="agreed to a sum that stays with their coordinator"):
        put(above, "east", world)


def test_a_campaign_of_the_other_copy_is_refused(inside, build):
    world = inside("clear", "dusty", rules=replace(INSIDE, copy="teacher"))
    above = build({"east": world})
    with pytest.raises(ConfigurationError, match="merges the teacher, campaign above above the student"):
        put(above, "east", world)


def test_the_sum_of_one_site_is_its_model_and_stays(inside, build):
    world = inside("clear")
    above = build({"east": world})
    with pytest.raises(UpdateRefusedError, match="are of 1 sites, by the campaign a region has 2 to 64") as caught:
        put(above, "east", world)
    assert caught.value.exit_code == 6
    assert not above.outbox("east").ready


def test_a_region_larger_than_agreed_is_refused(inside, build):
    world = inside("clear", "dusty", "fog")
    above = build({"east": world}, rules=Rules(evaluate=False, most_sites=2))
    with pytest.raises(UpdateRefusedError, match="are of 3 sites, by the campaign a region has 2 to 2"):
        put(above, "east", world)


def test_a_campaign_above_that_is_not_accepted_gets_nothing(inside, build):
    world = inside("clear", "dusty")
    above = build({"east": world})
    (above.joined("east").folder / "accepted.json").unlink()
    with pytest.raises(PolicyError):
        put(above, "east", world)


def test_the_same_sum_twice_is_the_same_update_and_a_merged_one_stays(two_regions, run):
    above, regions = two_regions
    before = above.outbox("east").digest()
    assert put(above, "east", regions["east"]).digest == before
    run(above)
    with pytest.raises(ConfigurationError, match="is merged already"):
        put(above, "east", regions["east"])


def test_a_region_adapts_nothing(two_regions):
    above, _ = two_regions
    with pytest.raises(AdaptationError, match="east is a region, which adapts nothing"):
        adapting.run(above.joined("east"))


def test_a_region_that_is_listed_as_a_site_does_not_join(inside, build):
    world = inside("clear", "dusty")
    above = build({"east": world})
    keys = {"east": replace(above.sites["east"].request().keys, region=b"")}
    made = above.home.create("another", above.base, members=keys, rules=Rules())
    with pytest.raises(ConfigurationError, match="lists east as another coordinator's region, or as none"):
        above.sites["east"].join(made.campaign_file, above.base)


def test_operators_read_what_a_region_means_before_they_accept(inside, build):
    world = inside("clear", "dusty", over=False)
    above = build({"east": world}, alone=("fog",), rules=Rules(weighing="members", most_sites=9))
    inner = dict(rules(world.campaign, "clear"))
    assert inner["sent on"].startswith("the sum of all updates may go to a coordinator above")
    for_site, for_region = dict(rules(above.campaign, "fog")), dict(rules(above.campaign, "east"))
    assert f"a region of up to 9 sites whose coordinator is {world.home.fingerprint}" in for_site["members"]
    assert for_site["weighing"].startswith("in the mid-point each member counts once")
    assert for_region["sends"].startswith("once: sums of its sites' parameters")
    assert "scores" in for_site
    assert "scores" not in for_region


def test_a_campaign_without_a_region_says_nothing_of_its_size(make_world):
    with pytest.raises(ConfigurationError, match="but has no region"):
        make_world(rules=Rules(most_sites=5))


# --------------------------------------------------------------------- the commands


def test_a_region_is_made_and_served_by_commands(onebasin, inside, tmp_path):
    world = inside("clear", "dusty")
    code, out, err = onebasin("region", "init", tmp_path / "east", world.home.folder)
    assert (code, err) == (0, "")
    assert world.home.fingerprint in out
    top = tmp_path / "top"
    onebasin("coordinator", "init", top, "--host", "localhost")
    site = tmp_path / "east"
    fingerprint = onebasin("site", "fingerprint", site)[1].strip()
    code, out, _ = onebasin("coordinator", "approve", top, site / "request.json", "--fingerprint", fingerprint)
    assert code == 0
    assert f"it is a region, the fingerprint of its coordinator is {world.home.fingerprint}" in out
    onebasin("coordinator", "create", top, "autumn", "--base", world.base, "--site", "east", "--no-evaluate")
    digest = onebasin("coordinator", "digest", top, "autumn")[1].strip()
    said = onebasin("coordinator", "fingerprint", top)[1].strip()
    welcome = top / "sites" / "east" / "welcome.json"
    code, out, err = onebasin(
        "site", "join", site, welcome, "--base", world.base, "--fingerprint", said, "--accept", digest
    )
    assert (code, err) == (0, "")
    assert "a region of up to 64 sites" in out
    code, out, err = onebasin("region", "sum", site, world.home.folder, "one", "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found["models"] == 2
    code, out, _ = onebasin("site", "preview", site, "--json")
    shown = json.loads(out)
    assert (code, shown["digest"]) == (0, found["update"])
    assert (shown["header"]["models"], shown["header"]["receipt"]) == ("2", found["receipt"])
    assert "No site's name or model is in it" in shown["leaves"][0]
    assert [entry.event for entry in audit.entries(site / "audit.jsonl")][-1] == "summed"
    assert onebasin("region", "sum", site, world.home.folder, "two")[0] == 3


def test_nested_receipts_are_verified(two_regions, run, onebasin):
    above, regions = two_regions
    run(above)
    folder = above.folder.merged
    command = ["verify", folder / "merged.safetensors", folder / "receipt.json"]
    command += ["--campaign", above.folder.campaign_file]
    code, out, _ = onebasin(*command)
    assert code == 0
    assert "– region east stands for 2 sites by its receipt" in out
    nested = [part for world in regions.values() for part in ("--region", world.folder.merged / "receipt.json")]
    proof = regions["east"].folder.merged / "proofs" / "dusty.json"
    leaves = [world.outbox(site).model for world in regions.values() for site in world.sites]
    code, out, _ = onebasin(*command, *leaves, *nested, "--proof", proof, "--base", above.base)
    assert (code, "✗" in out) == (0, False)
    assert "the receipt of region west is the one that is nested: 2 sites" in out
    assert "of site dusty is in the merge" in out
    assert "recomputed from 4 updates: the same bits" in out
    # The regions' own updates do as well; a stranger's receipt does not.
    sums = [above.outbox(name).model for name in regions]
    code, out, _ = onebasin(*command, *sums, "--base", above.base)
    assert code == 0
    assert "recomputed from 2 updates: the same bits" in out
    code, _, err = onebasin(*command, "--region", folder / "receipt.json")
    assert code == 16
    assert "is no receipt of a region in this merge" in err


def test_a_receipt_with_a_region_that_was_not_agreed_on_is_told_from_the_campaign(two_regions, run):
    above, _ = two_regions
    receipt = run(above)
    folder, key = above.folder.merged, above.campaign.message.coordinator_key
    for changes in ({"models": 65}, {"coordinator": "a" * 64}, None):
        first = receipt.inputs[0]
        nested = replace(first.region, **changes) if changes else None
        other = replace(receipt, inputs=(replace(first, region=nested), *receipt.inputs[1:]))
        (folder / "other.json").write_text(other.signed(above.home.signing_key))
        verdict = verify(folder / "merged.safetensors", folder / "other.json", key, Evidence(above.campaign))
        (wrong,) = [check for check in verdict.checks if check.ok is False]
        assert "a region in it is no region of the campaign, another coordinator's" in wrong.said


def test_equal_weights_are_recomputed_too(inside, build, run, onebasin):
    regions = {"east": inside("clear", "dusty"), "west": inside("fog", "night", "rain")}
    above = build(regions, alone=("snow",), rules=EQUAL)
    for name, world in regions.items():
        put(above, name, world)
    run(above)
    folder = above.folder.merged
    sums = [above.outbox(name).model for name in above.sites]
    code, out, _ = onebasin(
        *("verify", folder / "merged.safetensors", folder / "receipt.json", *sums),
        *("--campaign", above.folder.campaign_file, "--base", above.base),
    )
    assert code == 0
    assert "recomputed from 3 updates: the same bits" in out
