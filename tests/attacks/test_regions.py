"""What a region could send that is no sum of its sites' updates, and what a stranger could send in its place."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from random_models import statistics_of
from region_trees import INSIDE, MODELS, build_above, put
from worlds import World, build_world

from client import acceptance
from client.answers import answer
from client.outbox import Outbox
from coordinator.arrivals import Arrival
from protos import messages_pb2 as pb
from protos import regions, signing, update_pb2
from protos.errors import (
    BaseMismatchError,
    ConfigurationError,
    MergeRangeError,
    QuorumError,
    SignatureError,
    UpdateRefusedError,
)
from protos.fixedpoint import quantise
from protos.regions import TOKEN, Standing
from protos.rules import Rules
from protos.statistics import StatisticSums

Change = Callable[[update_pb2.UpdateHeader], object]


def vouched(header: update_pb2.UpdateHeader, key, **changes: object) -> None:
    """Have a coordinator sign a header's sums as they are now, with changes to what it says of them."""
    statement = signing.decode(header.region.payload, update_pb2.RegionSum, "it")
    bare = update_pb2.UpdateHeader(parameters=header.parameters, layer_sums=header.layer_sums)
    statement.content = hashlib.sha256(signing.encode(bare)).digest()
    for name, value in changes.items():
        setattr(statement, name, value)
    header.region.CopyFrom(signing.signed(signing.REGION, statement, key))


@pytest.fixture(scope="module")
def parties(tmp_path_factory) -> tuple[World, dict[str, World], update_pb2.UpdateHeader]:
    """Two regions, a campaign above them, and an honest header of the first one; nobody changes them."""
    folder = tmp_path_factory.mktemp("regions")
    worlds = {
        name: build_world(folder / name, sites, INSIDE, models={site: MODELS[site] for site in sites})
        for name, sites in {"east": ("clear", "dusty"), "west": ("fog", "night")}.items()
    }
    above, east = build_above(folder / "above", worlds), worlds["east"]
    digests = {
        name: hashlib.sha256(sum(quantise(model[name]) for model in east.models.values()).tobytes()).digest()
        for name in above.manifest.parameters
    }
    found = [statistics_of(model) for model in east.models.values()]
    sums = {
        layer: StatisticSums.of(found[0][layer]).plus(StatisticSums.of(found[1][layer]))
        for layer in above.manifest.layers
    }
    standing = Standing(2, regions.tokens(east.campaign, east.sites), b"r" * 32)
    key = east.home.signing_key
    header = regions.describe(
        standing, digests, sums, above.manifest, campaign=above.campaign, region="east", key=key
    )
    return above, worlds, header


@pytest.fixture
def arrive(parties, tmp_path):
    """Let a header arrive as region east's after a change, signed by the region; it must leave nothing behind."""
    above, worlds, honest = parties

    def arrived(change: Change = lambda header: None, *, vouch: dict[str, object] | None = None) -> Arrival:
        header, site = update_pb2.UpdateHeader.FromString(honest.SerializeToString()), above.sites["east"]
        change(header)
        if vouch is not None:
            vouched(header, worlds["east"].home.signing_key, **vouch)
        envelope = signing.signed(signing.UPDATE, header, site.signing_key)
        folder = tmp_path / "arrivals" / "east"
        try:
            return Arrival(folder, above.campaign, above.manifest, "east", envelope)
        except BaseException:
            assert not folder.exists()
            raise

    return arrived


def layer(header: update_pb2.UpdateHeader, **changes: int) -> None:
    """Change a layer's first sums."""
    entry = header.layer_sums[0]
    for part, value in changes.items():
        width = StatisticSums.widths(1)[part][1]
        raw = getattr(entry, part)
        setattr(entry, part, value.to_bytes(width, "little", signed=True) + raw[width:])


def test_an_honest_sum_is_taken(arrive):
    found = arrive()
    assert found.standing.models == 2
    assert len(found.standing.sites) == 2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda h: layer(h, count=0), "no sum of 2 sites' statistics"),
        (lambda h: layer(h, count=1), "no sum of 2 sites' statistics"),
        (lambda h: layer(h, count=-5), "no sum of 2 sites' statistics"),
        (lambda h: layer(h, count=1 << 64), "no sum of 2 sites' statistics"),
        (lambda h: layer(h, square=0), "no sum of 2 sites' statistics"),
        (lambda h: layer(h, square=-1), "no sum of 2 sites' statistics"),
        (lambda h: layer(h, square=1 << 600), "no sum of 2 sites' statistics"),
        (lambda h: layer(h, mean=1 << 370), "no sum of 2 sites' statistics"),
        (lambda h: setattr(h.layer_sums[0], "mean", b"\0" * 7), "are not those of 4 channels"),
        (lambda h: setattr(h.layer_sums[0], "count", b""), "are not those of 4 channels"),
        (lambda h: h.layer_sums.pop(), "BatchNorm layer xnorm.deep is missing"),
        (lambda h: h.parameters.pop(), "parameter xnorm.deep.weight is missing"),
        (lambda h: setattr(h.parameters[0], "dtype", update_pb2.DTYPE_FLOAT32), "head.bias is float32"),
        (lambda h: h.batch_norms.add(layer="norm"), "the update is a single site's"),
    ],
)
def test_sums_that_cannot_be_are_refused_even_if_the_region_vouches_for_them(arrive, change, said):
    with pytest.raises(UpdateRefusedError, match=said) as caught:
        arrive(change, vouch={})
    assert caught.value.site == "east"


def test_sums_that_were_tampered_with_are_not_the_ones_vouched_for(arrive):
    with pytest.raises(SignatureError, match="not the ones that its coordinator vouches for") as caught:
        arrive(lambda header: layer(header, count=77))
    assert caught.value.exit_code == 7
    with pytest.raises(SignatureError, match="not the ones that its coordinator vouches for"):
        arrive(lambda header: setattr(header.parameters[0], "sha256", bytes(32)))


@pytest.mark.parametrize(
    ("vouch", "said"),
    [
        ({"models": 3}, "don't name 3 sites, each once"),
        ({"models": 1}, "are of 1 sites, by the campaign a region has 2 to 64"),
        ({"models": 0}, "are of 0 sites"),
        ({"models": 65}, "are of 65 sites"),
        ({"models": (1 << 32) - 1}, "are of 4294967295 sites"),
        ({"receipt": b""}, "name no receipt"),
        ({"receipt": b"x" * 31}, "name no receipt"),
        ({"sites": b""}, "don't name 2 sites, each once"),
        ({"sites": b"a" * TOKEN * 2 + bytes(TOKEN * 62)}, "don't name 2 sites, each once"),
        ({"sites": b"b" * TOKEN + b"a" * TOKEN + bytes(TOKEN * 62)}, "don't name 2 sites, each once"),
        ({"sites": b"a" * TOKEN + b"b" * TOKEN + b"c" * TOKEN * 62}, "don't name 2 sites, each once"),
        ({"campaign_digest": b"c" * 32}, "are for another campaign or region"),
        ({"region": "west"}, "are for another campaign or region"),
    ],
)
def test_what_the_coordinator_says_must_hold(arrive, vouch, said):
    with pytest.raises(UpdateRefusedError, match=said) as caught:
        arrive(vouch=vouch)
    assert caught.value.exit_code == 6


def test_only_the_regions_coordinator_vouches(arrive, parties):
    above, worlds, _ = parties
    for key in (worlds["west"].home.signing_key, above.sites["east"].signing_key, above.home.signing_key):
        with pytest.raises(SignatureError, match="the coordinator of region east: the signature is not that"):
            arrive(lambda header, key=key: vouched(header, key))
    with pytest.raises(UpdateRefusedError, match="the update is a single site's, but the campaign lists a region"):
        arrive(lambda header: header.ClearField("region"))


def test_another_base_is_refused(arrive):
    with pytest.raises(BaseMismatchError):
        arrive(lambda header: setattr(header, "base_digest", b"x" * 32))


def test_a_sum_out_of_the_range_of_so_many_models_is_refused(arrive):
    numbers = np.full(5, 1 << 50, np.int64)  # 2 models are less than 2 · 512 · 2⁴⁰

    def change(header):
        header.parameters[0].sha256 = hashlib.sha256(numbers.tobytes()).digest()

    arrival = arrive(change, vouch={})
    with pytest.raises(MergeRangeError, match=r"head\.bias can't be the sum of 2 models") as caught:
        arrival.take(numbers.tobytes(), ["head.bias"])
    assert caught.value.exit_code == 8


def test_a_site_cannot_pass_itself_off_as_a_region(build, inside, tmp_path):
    world = inside("clear", "dusty")
    above = build({"east": world}, alone=("fog",))
    put(above, "east", world)
    header = above.outbox("east").header()
    header.site = "fog"
    envelope = signing.signed(signing.UPDATE, header, above.sites["fog"].signing_key)
    with pytest.raises(UpdateRefusedError, match="the update is a region's, but the campaign lists a site"):
        Arrival(tmp_path / "arrivals", above.campaign, above.manifest, "fog", envelope)


def test_a_region_cannot_pass_off_a_single_model(build, inside, tmp_path):
    world = inside("clear", "dusty")
    above = build({"east": world}, alone=("fog",))
    header = above.outbox("fog").header()
    header.site = "east"
    envelope = signing.signed(signing.UPDATE, header, above.sites["east"].signing_key)
    with pytest.raises(UpdateRefusedError, match="the update is a single site's, but the campaign lists a region"):
        Arrival(tmp_path / "arrivals", above.campaign, above.manifest, "east", envelope)


def refusals(above) -> dict[str, str]:
    events = [event for _, event in above.home.journal.events(above.folder.key)]
    return {event["site"]: event["message"] for event in events if event["event"] == "refused"}


def test_a_site_in_two_regions_counts_in_one(build, inside, run):
    east = inside("clear", "dusty")
    west = inside("fog", "night", over=False)
    # The same site, by its key, takes part in the other region's campaign too.
    shared = east.sites["dusty"]
    keys = {name: site.request().keys for name, site in west.sites.items()} | {"dusty": shared.request().keys}
    made = west.home.create("two", west.base, members=keys, rules=Rules(evaluate=False, send_on=True))
    sites = {**west.sites, "dusty": shared}
    for name, site in sites.items():
        joined = site.join(made.campaign_file, west.base)
        acceptance.accept(joined, made.campaign.digest.hex())
        Outbox(joined).store({**west.models, **east.models}[name])
    west = replace(west, folder=made, sites=dict(sorted(sites.items())))
    run(west)
    above = build({"east": east, "west": west}, rules=Rules(evaluate=False, minimum_sites=1))
    put(above, "east", east)
    put(above, "west", west)
    assert len(run(above).inputs) == 1
    ((late, said),) = refusals(above).items()
    other = {"east": "west", "west": "east"}[late]
    assert said == f"region {late}: a site in its update is in region {other} as well"


def test_a_site_that_is_a_member_itself_is_in_no_region_too(build, inside, run):
    world = inside("clear", "dusty")
    above = build({"east": world}, alone=("fog",))
    shared = world.sites["clear"]
    members = {name: site.request().keys for name, site in above.sites.items() if name == "east"}
    made = above.home.create(
        "second", above.base, members=members | {"clear": shared.request().keys}, rules=Rules(evaluate=False)
    )
    sites = {"clear": shared, "east": above.sites["east"]}
    for name, site in sites.items():
        (site.folder / "welcome.json").unlink(missing_ok=True)
        joined = site.join(made.campaign_file, above.base)
        acceptance.accept(joined, made.campaign.digest.hex())
        if name == "clear":
            Outbox(joined).store(world.models["clear"])
    above = replace(above, folder=made, sites=sites)
    put(above, "east", world)
    with pytest.raises(QuorumError, match="region east: a site in its update is in site clear as well"):
        run(above)


def test_a_region_answers_nothing_about_images(two_regions):
    above, _ = two_regions
    for request in (pb.Request(evaluate=pb.Evaluate()), pb.Request(measure=pb.Measure())):
        request.campaign_digest = above.campaign.digest
        reply, sets = answer(above.sites["east"], request, 1, lambda name: b"")
        assert (reply.refusal.reason, sets) == (pb.Refusal.REASON_RULES, {})


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        (Rules(privacy="secure-sum"), "is a secure sum with a region as a member"),
        (Rules(compare_single_models=True), "but a region has no single model"),
        *[
            (Rules(buffers=rule), "has buffers that each member measures or keeps")
            for rule in ("own", "recalibrated", "pooled-recalibrated", "routed")
        ],
        (Rules(most_sites=1), "lets a region stand for 1 sites"),
        (Rules(most_sites=1 << 15), "lets a region stand for 32768 sites"),
        (Rules(weighing="members", send_on=True), "lets its sum be sent on"),
        (Rules(weighing="images"), "there is no rule for weighing 'images'"),
    ],
)
def test_rules_that_make_no_sense_with_a_region_are_refused(inside, build, rules, said):
    with pytest.raises(ConfigurationError, match=said) as caught:
        build({"east": inside("clear", "dusty", over=False)}, alone=("fog", "night"), rules=rules)
    assert caught.value.exit_code == 3


def test_a_token_says_nothing_but_that_a_known_key_is_there(two_regions):
    above, worlds = two_regions
    listed = regions.standing(above.outbox("east").header()).sites
    keys = {name: site.request().signing_key for name, site in worlds["east"].sites.items()}
    base = above.campaign.message.base_digest
    assert listed == {regions.token(base, key) for key in keys.values()}
    assert not any(key.hex() in listed for key in keys.values())


def test_the_conversation_refuses_a_region_without_ending_the_run(two_regions, run):
    above, _ = two_regions
    path = above.outbox("east").model.with_name("update.binpb")
    header = above.outbox("east").header()
    layer(header, count=0)
    path.write_bytes(signing.signed(signing.UPDATE, header, above.sites["east"].signing_key).SerializeToString())
    with pytest.raises(QuorumError, match="the sums are not the ones that its coordinator vouches for"):
        run(above)
