"""A campaign's secure sum: the whole conversation, with Flower's Grid replaced by one in memory."""

from __future__ import annotations

import itertools
import json
import random
from dataclasses import replace

import numpy as np
import pytest
from flwr.app import Error

from client.summing import Summing as AtSite
from coordinator import attempt, strategy, summed, summing
from coordinator.arrivals import MaskedArrival
from coordinator.merge.state import MergeState
from coordinator.merging import MODEL, RECEIPT
from coordinator.report.format import to_json
from coordinator.strategy import OneShotMerge
from protos import messages_pb2 as pb
from protos import receipts, securesum_pb2, signing
from protos.errors import ModelFileError, QuorumError, SecureSumError, StorageError
from protos.receipts import Proof
from protos.rules import Rules

pytestmark = pytest.mark.usefixtures("clock")

FOUR = ("clear", "dusty", "fog", "night")
RULES = Rules(privacy="secure-sum", minimum_sites=3, patience_seconds=600)
CRASHED = 8
STAGES = ("keys", "roster", "delivery", "survivors", "confirmations")


@pytest.fixture(autouse=True)
def _plain_report(monkeypatch):
    """Leave the report's pictures out: they take longer than everything else."""
    monkeypatch.setattr(
        strategy, "write_report", lambda folder, report: (folder / "report.json").write_text(to_json(report))
    )


@pytest.fixture
def four(make_world):
    return make_world(FOUR, RULES)


def stage_of(request: pb.Request) -> str:
    """Name what a request asks for: the stage of a secure sum, or else its kind."""
    kind = request.WhichOneof("what")
    return (request.sum.WhichOneof("given") or "keys") if kind == "sum" else kind


def reacting(site: str, stage: str, *reactions):
    """Let a site react in its own way whenever it is asked for a stage: once for each reaction, then as it is."""
    left = list(reactions)

    def react(node, name, request, before):
        return left.pop(0) if (name, stage_of(request)) == (site, stage) and left else ...

    return react


def gone(site: str, stage: str):
    """Let a site's answers to a stage get lost as often as they are asked for in one run."""
    return reacting(site, stage, *[None] * summing.TRIES)


def events(world, event: str) -> list[dict]:
    lines = [event for _, event in world.home.journal.events(world.folder.key)]
    return [line for line in lines if line["event"] == event]


def result(world) -> bytes:
    return (world.folder.merged / MODEL).read_bytes()


def summed_sites(world) -> list[str]:
    found = receipts.read(world.folder.merged / RECEIPT, world.campaign.message.coordinator_key)
    return [entry.site for entry in found.inputs]


def plain_bits(make_world, make_grid, world, sites) -> dict[str, bytes]:
    """Return the bits of a merge state without masks, of the same models."""
    models = {site: world.models[site] for site in sites}
    other = make_world(tuple(sites), Rules(), models=models, base_model=world.base_model)
    OneShotMerge(other.folder).start(make_grid(other))
    return bits(other)


def bits(world) -> dict[str, bytes]:
    with MergeState(world.folder.state) as state:
        state.check()
        found = {name: state._file.tensor(f"sum:{name}").tobytes() for name in world.manifest.parameters}
        for layer in world.manifest.layers:
            found |= {f"{part}:{layer}": raw.tobytes() for part, raw in state.statistics(layer).to_bytes().items()}
    return found


# --------------------------------------------------------------- all is well


def test_the_merge_has_the_bits_of_one_without_masks(four, make_world, make_grid):
    OneShotMerge(four.folder).start(make_grid(four))
    assert summed_sites(four) == list(FOUR)
    assert bits(four) == plain_bits(make_world, make_grid, four, FOUR)


def test_the_order_and_size_of_parts_change_nothing(four, make_world, make_grid):
    path = four.home.settings_path
    path.write_text(path.read_text().replace("part_mebibytes = 48", "part_mebibytes = 0"))
    draw = random.Random(1)
    grid = make_grid(four, wait=lambda: draw.randrange(6))
    OneShotMerge(four.folder).start(grid)
    assert len(grid.asked("submit")) == 4 * (len(four.manifest.parameters) + 3 * len(four.manifest.layers))
    assert grid.most <= 3
    assert bits(four) == plain_bits(make_world, make_grid, four, FOUR)


def test_sites_are_asked_for_parts_side_by_side_and_of_each_until_all_are_there(four, make_grid):
    path = four.home.settings_path
    path.write_text(path.read_text().replace("part_mebibytes = 48", "part_mebibytes = 0"))
    grid = make_grid(four)
    OneShotMerge(four.folder).start(grid)
    asked = [site for site, request in grid.log if request.WhichOneof("what") == "submit"]
    assert all(first != second for first, second in itertools.pairwise(asked))
    assert set(asked[: len(asked) // 2]) == set(FOUR[:2])


def test_nothing_of_a_single_update_is_kept(four, make_grid):
    OneShotMerge(four.folder).start(make_grid(four))
    left = {
        path.relative_to(four.folder.path).as_posix() for path in four.folder.path.rglob("*") if path.is_file()
    }
    assert not {path for path in left if path.startswith("arrivals") or path == "sum.binpb"}


def test_a_site_finds_its_masked_update_in_the_receipt(four, make_grid):
    OneShotMerge(four.folder).start(make_grid(four))
    found = receipts.read(four.folder.merged / RECEIPT, four.campaign.message.coordinator_key)
    for entry in found.inputs:
        assert entry.digest == AtSite(four.joined(entry.site)).digest().hex()
        assert entry.digest != four.outbox(entry.site).digest().hex()
        proof = Proof.read(four.folder.merged / "proofs" / f"{entry.site}.json")
        assert proof.proves(found.root)
        assert (
            four.joined(entry.site).folder / "merged.safetensors"
        ).exists()  # it adopted the model by that name


def test_the_report_shows_nothing_of_a_single_site(four, make_grid):
    OneShotMerge(four.folder).start(make_grid(four))
    found = json.loads((four.folder.merged / "report.json").read_text())
    assert found["divergence"] is None
    for site in found["sites"]:
        assert site["message"] == "it was added up under masks"
        assert site["distance_from_base"] is None
        assert not site["batches"]


def test_a_site_that_waits_for_others_is_not_given_up(four, make_grid, clock):
    """Adapting may take days longer at one site than at the others."""
    started = clock.now
    slow = pb.Reply(progress=pb.Progress(state=pb.Progress.STATE_ADAPTING, phase=pb.PHASE_ADAPT, eta_seconds=1e5))

    def react(node, name, request, before):
        kind = stage_of(request)
        return slow if name == "fog" and kind in ("adapt", "progress") and clock.now - started < 3000 else ...

    grid = make_grid(four, react=react)
    OneShotMerge(four.folder).start(grid)
    assert clock.now - started > 3000
    assert summed_sites(four) == list(FOUR)
    assert not [request for site, request in grid.log if site == "clear" and request.HasField("submit")][20:]


# --------------------------------------------------------- sites that drop out


@pytest.mark.parametrize("stage", STAGES)
def test_a_site_that_is_gone_at_a_stage_drops_out(four, make_world, make_grid, stage):
    grid = make_grid(four)

    def react(node, name, request, before):
        if (name, stage_of(request)) == ("fog", stage):
            grid.online.discard(node)
            return Error(CRASHED, "gone")
        return ...

    grid.react = react
    OneShotMerge(four.folder).start(grid)
    inside = stage in ("survivors", "confirmations")  # its values were there by then
    left = list(FOUR) if inside else [site for site in FOUR if site != "fog"]
    assert summed_sites(four) == left
    assert bits(four) == plain_bits(make_world, make_grid, four, left)
    assert [event["site"] for event in events(four, "dropped-out")] == ["fog"]


def test_a_site_that_is_gone_while_its_values_travel_drops_out(four, make_world, make_grid):
    grid = make_grid(four)

    def react(node, name, request, before):
        if (name, stage_of(request)) == ("fog", "submit"):
            grid.online.discard(node)
            return None
        return ...

    grid.react = react
    OneShotMerge(four.folder).start(grid)
    left = [site for site in FOUR if site != "fog"]
    assert summed_sites(four) == left
    assert bits(four) == plain_bits(make_world, make_grid, four, left)


@pytest.mark.parametrize(("away", "left"), [(50, FOUR), (400, ("clear", "dusty", "night"))])
def test_patience_begins_anew_whenever_a_site_is_connected(make_world, make_grid, clock, away, left):
    """An answer may take longer than a site may be away."""
    world = make_world(FOUR, replace(RULES, patience_seconds=200))
    grid, began = make_grid(world), []

    def react(node, name, request, before):
        if (name, stage_of(request)) == ("fog", "roster") and not began:
            began.append(clock.now)
            return None  # it is asked again when nothing came for five and a half minutes
        return ...

    def online():
        gone = began and 250 < clock.now - began[0] < 250 + away
        return [node for node, site in grid.nodes.items() if not (gone and site.name == "fog")]

    grid.react, grid.get_node_ids = react, online
    OneShotMerge(world.folder).start(grid)
    assert summed_sites(world) == list(left)


@pytest.mark.parametrize("stage", [*STAGES, "submit"])
def test_an_answer_that_gets_lost_is_said_again(four, make_world, make_grid, stage):
    """The site answers, but Flower loses what it says: the site says the same once more."""
    lost = []

    def react(node, name, request, before):
        if (name, stage_of(request)) == ("fog", stage) and not lost:
            lost.append(AtSite(four.joined("fog")).answer(request.sum) if request.HasField("sum") else None)
            return Error(CRASHED, "lost")
        return ...

    OneShotMerge(four.folder).start(make_grid(four, react=react))
    assert lost
    assert summed_sites(four) == list(FOUR)
    assert bits(four) == plain_bits(make_world, make_grid, four, FOUR)


@pytest.mark.parametrize("stage", [*STAGES, "submit"])
def test_a_site_that_comes_back_as_another_node_goes_on(four, make_grid, stage):
    grid, moved = make_grid(four), []

    def react(node, name, request, before):
        if (name, stage_of(request)) == ("fog", stage) and not moved:
            grid.online.discard(node)
            grid.nodes[900] = grid.nodes[node]
            grid.online.add(900)
            moved.append(node)
            return None
        return ...

    grid.react = react
    OneShotMerge(four.folder).start(grid)
    assert moved
    assert summed_sites(four) == list(FOUR)


@pytest.mark.parametrize("stage", STAGES)
def test_a_site_that_refuses_is_left_out(four, make_grid, stage):
    refusal = pb.Reply(refusal=pb.Refusal(reason=pb.Refusal.REASON_SUM, site="fog"))
    OneShotMerge(four.folder).start(make_grid(four, react=reacting("fog", stage, refusal)))
    assert set(summed_sites(four)) >= set(FOUR) - {"fog"}
    (event,) = events(four, "dropped-out")
    assert "can't do this stage of the secure sum" in event["message"]


def test_with_too_few_sites_nothing_is_merged_and_nothing_revealed(four, make_grid):
    grid = make_grid(four)

    def react(node, name, request, before):
        if name in ("fog", "night") and stage_of(request) == "survivors":
            grid.online.discard(node)
            return None
        return ...

    grid.react = react
    with pytest.raises(QuorumError, match="nothing was revealed") as raised:
        OneShotMerge(four.folder).start(grid)
    assert "fog is not connected" in raised.value.what
    assert not four.folder.state.exists()
    assert not [r for _, r in grid.log if stage_of(r) == "confirmations"]
    # What the others have still counts: when the sites are back, the campaign is run again.
    OneShotMerge(four.folder).start(make_grid(four))
    assert summed_sites(four) == list(FOUR)


def test_a_site_that_spoils_an_attempt_is_left_out_of_the_next(four, make_world, make_grid):
    wrong = pb.Reply(progress=pb.Progress())
    grid = make_grid(four, react=reacting("fog", "delivery", wrong))
    OneShotMerge(four.folder).start(grid)
    assert "fog" not in summed_sites(four)
    assert "answered progress to sum" in events(four, "dropped-out")[0]["message"]


def test_a_sum_is_tried_again_and_not_for_ever(make_world, make_grid):
    world = make_world(FOUR[:3], RULES)
    grid = make_grid(
        world,
        react=lambda node, name, request, before: (
            None if (name, stage_of(request)) == ("fog", "delivery") else ...
        ),
    )
    with pytest.raises(QuorumError, match="was given up 3 times"):
        OneShotMerge(world.folder).start(grid)
    nonces = {request.sum.nonce for request in grid.asked("sum")}
    assert len(nonces) == 3
    assert len(events(world, "sum-given-up")) == 3


# ------------------------------------------------- a coordinator that is killed


class Killed(BaseException):
    """The coordinator's process ends here."""


def test_a_coordinator_that_is_killed_at_any_moment_goes_on(make_world, make_grid, monkeypatch):
    """Ends the process before and after each time that something is written down, one at a time."""
    wanted, done = None, False
    for moment in itertools.count():
        world = make_world(FOUR[:3], RULES)
        count = itertools.count()

        def dying(function, count=count, moment=moment):
            def wrapper(*args, **kwargs):
                if next(count) == moment:
                    raise Killed
                found = function(*args, **kwargs)
                if next(count) == moment:
                    raise Killed
                return found

            return wrapper

        with monkeypatch.context() as patch:
            patch.setattr(attempt.Attempt, "_add", dying(attempt.Attempt._add))
            patch.setattr(summed, "write_sum", dying(summed.write_sum))
            patch.setattr(strategy, "merge", dying(strategy.merge))
            grid = make_grid(world)
            try:
                OneShotMerge(world.folder).start(grid)
                done = True
            except Killed:
                pass
        if not done:
            OneShotMerge(world.folder).start(make_grid(world))
        assert summed_sites(world) == list(FOUR[:3])
        wanted = wanted or plain_bits(make_world, make_grid, world, FOUR[:3])
        assert bits(world) == wanted
        if done:
            break
    assert moment > 20


def test_when_the_sum_is_made_a_site_that_comes_late_stays_out(four, make_grid):
    grid = make_grid(four)
    grid.online.discard(next(node for node, site in grid.nodes.items() if site.name == "fog"))
    OneShotMerge(four.folder).start(grid)
    before = result(four)
    OneShotMerge(four.folder).start(make_grid(four))
    assert result(four) == before
    assert summed_sites(four) == ["clear", "dusty", "night"]
    assert "is not in the secure sum, which is made once" in events(four, "missing")[-1]["message"]


def test_while_shares_are_revealed_the_sum_waits_for_another_run(make_world, make_grid):
    world = make_world(FOUR[:3], RULES)
    grid = make_grid(world)

    def react(node, name, request, before):
        if (name, stage_of(request)) == ("fog", "confirmations"):
            grid.online.discard(node)
            return None
        return ...

    grid.react = react
    with pytest.raises(QuorumError, match="revealed their shares") as raised:
        OneShotMerge(world.folder).start(grid)
    assert "what the others said is kept" in raised.value.fix
    again = make_grid(world)
    OneShotMerge(world.folder).start(again)
    assert summed_sites(world) == list(FOUR[:3])
    assert [site for site, request in again.log if request.HasField("sum")] == ["fog"]


@pytest.mark.parametrize(("needed", "survives"), [(3, True), (4, False)])
def test_a_wrong_share_is_survived_if_there_is_one_to_spare(make_world, make_grid, needed, survives):
    world = make_world(FOUR, replace(RULES, minimum_sites=needed))

    def react(node, name, request, before):
        if (name, stage_of(request)) != ("fog", "confirmations"):
            return ...
        said = AtSite(world.joined("fog")).answer(request.sum)
        reveal = signing.decode(said.payload, securesum_pb2.Reveal, "it")
        reveal.seeds[0].share = bytes(32)
        return pb.Reply(summed=signing.signed(said.purpose, reveal, world.sites["fog"].signing_key))

    if survives:
        OneShotMerge(world.folder).start(make_grid(world, react=react))
        assert bits(world) == plain_bits(make_world, make_grid, world, FOUR)
        return
    for _ in range(2):  # and so it stays
        with pytest.raises(QuorumError) as raised:
            OneShotMerge(world.folder).start(make_grid(world, react=react))
        assert "create a new campaign: each site reveals its shares but once" in raised.value.fix
    assert not world.folder.state.exists()


def test_masked_values_that_were_damaged_between_two_runs_are_found(make_world, make_grid):
    world = make_world(FOUR[:3], RULES)
    grid = make_grid(world)

    def react(node, name, request, before):
        if (name, stage_of(request)) == ("fog", "confirmations"):
            grid.online.discard(node)
            return None
        return ...

    grid.react = react
    with pytest.raises(QuorumError):
        OneShotMerge(world.folder).start(grid)
    path = MaskedArrival.file_in(world.folder.arrivals / "clear")
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match="is not what site clear sent"):
        OneShotMerge(world.folder).start(make_grid(world))


@pytest.mark.parametrize("content", [b"\xff\xff", b"\x02\xff\xff", b"\x02\x1a\x00"])
def test_a_damaged_record_is_found(four, make_grid, content):
    four.folder.sum_record.write_bytes(content)
    with pytest.raises(SecureSumError, match="is damaged"):
        OneShotMerge(four.folder).start(make_grid(four))


@pytest.mark.parametrize("cut", range(1, 200, 13))
def test_an_entry_that_was_not_written_whole_was_never_heard(make_world, make_grid, cut):
    world = make_world(FOUR[:3], RULES)
    with pytest.raises(QuorumError):
        OneShotMerge(world.folder).start(make_grid(world, react=gone("fog", "confirmations")))
    path = world.folder.sum_record
    path.write_bytes(path.read_bytes()[:-cut])
    OneShotMerge(world.folder).start(make_grid(world))
    assert summed_sites(world) == list(FOUR[:3])


def test_values_damaged_before_anything_was_revealed_are_masked_anew(make_world, make_grid):
    world = make_world(FOUR[:3], RULES)

    def kill(node, name, request, before):
        if stage_of(request) == "survivors":
            raise Killed
        return ...

    with pytest.raises(Killed):
        OneShotMerge(world.folder).start(make_grid(world, react=kill))
    path = MaskedArrival.file_in(world.folder.arrivals / "clear")
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)
    OneShotMerge(world.folder).start(make_grid(world))
    assert bits(world) == plain_bits(make_world, make_grid, world, FOUR[:3])
    assert "is not what site clear sent" in events(world, "sum-given-up")[0]["message"]


def test_a_last_share_can_come_when_the_other_sites_are_gone(make_world, make_grid):
    world = make_world(FOUR[:3], RULES)
    with pytest.raises(QuorumError):
        OneShotMerge(world.folder).start(make_grid(world, react=gone("fog", "confirmations")))
    grid = make_grid(world)
    grid.online = {node for node, site in grid.nodes.items() if site.name == "fog"}
    OneShotMerge(world.folder).start(grid)
    assert summed_sites(world) == list(FOUR[:3])


def test_one_liar_that_makes_all_others_refuse_is_left_out_alone(four, make_world, make_grid):
    """It shares rubbish. Each of the others refuses at the next stage, and names it."""

    def react(node, name, request, before):
        if name == "night" and stage_of(request) == "roster":
            said = AtSite(four.joined("night")).answer(request.sum)
            shares = signing.decode(said.payload, securesum_pb2.Shares, "it")
            for sealed in shares.sealed:
                sealed.content = bytes(len(sealed.content))
            return pb.Reply(summed=signing.signed(said.purpose, shares, four.sites["night"].signing_key))
        return ...

    OneShotMerge(four.folder).start(make_grid(four, react=react))
    assert summed_sites(four) == ["clear", "dusty", "fog"]
    assert len(events(four, "sum-given-up")) == 1


def test_one_sites_word_against_anothers_costs_both(make_world, make_grid):
    world = make_world(("a", "b", "c", "d", "e"), RULES)
    accusing = pb.Reply(refusal=pb.Refusal(reason=pb.Refusal.REASON_SUM, site="a", member="b"))
    left = [None] * 2 * summing.TRIES

    def react(node, name, request, before):
        if (name, stage_of(request)) == ("a", "delivery"):
            return accusing
        if name in ("c", "d") and stage_of(request) == "delivery" and left:
            return left.pop()  # with these gone the attempt is given up
        return ...

    OneShotMerge(world.folder).start(make_grid(world, react=react))
    assert summed_sites(world) == ["c", "d", "e"]


def test_a_full_disk_ends_the_run_and_the_next_one_goes_on(four, make_grid, monkeypatch):
    def full(*_):
        raise StorageError("the disk is full", "free some space")

    with monkeypatch.context() as patch:
        patch.setattr(summed, "write_sum", full)
        with pytest.raises(StorageError):
            OneShotMerge(four.folder).start(make_grid(four))
    grid = make_grid(four)
    OneShotMerge(four.folder).start(grid)
    assert not grid.asked("sum")  # all that was said is in the record
    assert summed_sites(four) == list(FOUR)


def test_masked_values_tell_nothing_of_a_sites_own(four, make_grid):
    """What the coordinator writes down of one site has none of its values in it: its bytes are those of noise."""
    grid, found = make_grid(four), {}

    def react(node, name, request, before):
        if stage_of(request) == "survivors" and name not in found:
            found[name] = MaskedArrival.file_in(four.folder.arrivals / name).read_bytes()
        return ...

    grid.react = react
    OneShotMerge(four.folder).start(grid)
    assert sorted(found) == list(FOUR)
    for raw in found.values():
        ones = np.unpackbits(np.frombuffer(raw, np.uint8)[2000:]).mean()
        assert 0.48 < ones < 0.52


@pytest.mark.parametrize("stage", ["keys", "roster", "delivery"])
def test_without_a_required_site_nothing_is_revealed(make_world, make_grid, stage):
    world = make_world(FOUR, replace(RULES, required=("fog",)))
    refused = pb.Reply(refusal=pb.Refusal(reason=pb.Refusal.REASON_SUM, site="fog"))
    grid = make_grid(world, react=reacting("fog", stage, *[refused] * 3))
    with pytest.raises(QuorumError, match="with fog among them") as raised:
        OneShotMerge(world.folder).start(grid)
    assert "nothing was revealed" in raised.value.what
    assert not [one for one in grid.asked("sum") if one.sum.WhichOneof("given") == "confirmations"]
    assert not world.folder.state.exists()


def test_a_required_site_whose_values_are_masked_may_leave(make_world, make_grid):
    world = make_world(FOUR, replace(RULES, required=("fog",)))
    refused = pb.Reply(refusal=pb.Refusal(reason=pb.Refusal.REASON_SUM, site="fog"))
    OneShotMerge(world.folder).start(make_grid(world, react=reacting("fog", "survivors", refused)))
    assert summed_sites(world) == list(FOUR)
