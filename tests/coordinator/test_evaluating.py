"""After the merge: each site is asked to judge, and its scores are checked."""

from __future__ import annotations

import json
import random

import pytest
from flwr.app import Error

from client import measuring
from client.delivered import Delivered
from coordinator import asking, collecting, strategy
from coordinator.strategy import OneShotMerge
from protos import boundary, signing
from protos import messages_pb2 as pb
from protos.assembly import parts
from protos.rules import BUFFERS, Rules
from protos.tensorfile import TensorFile

pytestmark = pytest.mark.usefixtures("clock")


def judged(world, at: str, request: pb.Request, **changes) -> pb.Reply:
    """Return scores in which every pixel is right, signed by the site."""
    scores = [
        pb.Score(key=c.key, classes=5, confusion=[9 * (i % 6 == 0) for i in range(25)], images=3)
        for c in request.evaluate.candidates
    ]
    fields = {
        "campaign_digest": world.campaign.digest,
        "nonce": request.evaluate.nonce,
        "site": at,
        "scores": scores,
        **changes,
    }
    return pb.Reply(
        evaluation=signing.signed(signing.EVALUATION, pb.Evaluation(**fields), world.sites[at].signing_key)
    )


@pytest.fixture
def no_report(monkeypatch):
    """Leave the report's pictures out: they take longer than everything else."""
    monkeypatch.setattr(strategy, "write_report", lambda *_: None)


@pytest.fixture
def run(make_grid):
    def ran(world, reaction, **options):
        def react(node, site, request, before):
            if request.WhichOneof("what") == "adopt" and not request.adopt.digest:
                return pb.Reply(adopted=pb.Adopted())  # what was delivered stays, to be looked at
            return reaction(site, request, before) if request.WhichOneof("what") == "evaluate" else ...

        grid = make_grid(world, react=react, **options)
        OneShotMerge(world.folder).start(grid)
        lines = [event for _, event in world.home.journal.events(world.folder.key)]
        return grid, lines

    return ran


def told(lines, event: str) -> dict[str, str]:
    return {line["site"]: line.get("message", "") for line in lines if line["event"] == event}


def test_every_sites_signed_scores_are_kept_and_reported(world, run):
    _, lines = run(world, lambda site, request, before: judged(world, site, request))
    assert told(lines, "evaluated").keys() == set(world.sites)
    report = json.loads((world.folder.merged / "report.json").read_text())
    rows = {row["key"]: row for row in report["rows"]}
    assert {"base", "midpoint:pooled", "midpoint:averaged", "single:fog"} == rows.keys() - {
        "single:clear",
        "single:night",
    }
    assert rows["midpoint:pooled"]["scores"].keys() == set(world.sites)
    kept = pb.Reply().evaluation.FromString((world.folder.path / "evaluations" / "fog.binpb").read_bytes())
    signing.opened(kept, signing.EVALUATION, world.campaign.keys["fog"], pb.Evaluation, "fog")


def test_without_the_rule_no_single_model_travels(world, run, no_report):
    grid, _ = run(world, lambda site, request, before: judged(world, site, request))
    for site in world.sites:
        (request,) = grid.asked("evaluate", site)
        singles = [c for c in request.evaluate.candidates if c.key.startswith("single:")]
        assert [c.key for c in singles] == [f"single:{site}"]
        assert singles[0].parameters.kind == pb.Candidate.KIND_OWN
        assert {s.set for s in request.evaluate.buffer_sets} == {"pooled", "averaged"}


def test_with_the_rule_single_models_are_compared_everywhere(make_world, run):
    world = make_world(rules=Rules(compare_single_models=True, deliver=False))
    grid, _ = run(world, lambda site, request, before: judged(world, site, request))
    (request,) = grid.asked("evaluate", "fog")
    keys = {c.key: c.parameters for c in request.evaluate.candidates}
    assert keys["single:fog"].kind == pb.Candidate.KIND_OWN
    assert keys["single:night"].kind == pb.Candidate.KIND_CARRIED
    with Delivered(world.joined("fog"), world.manifest).open(keys["single:night"].digest) as file:
        for name in world.manifest.parameters:
            assert file.tensor(name).tobytes() == world.models["night"][name].tobytes()
    assert "midpoint:site:night" in keys
    report = json.loads((world.folder.merged / "report.json").read_text())
    assert all(entry["distance_from_base"] > 0 for entry in report["sites"])


@pytest.mark.parametrize("rule", BUFFERS)
def test_the_models_that_the_rule_knows_of_are_judged(make_world, run, monkeypatch, rule):
    world = make_world(rules=Rules(buffers=rule))
    monkeypatch.setattr(
        measuring, "_measure", lambda joined, *_: boundary.statistics(world.outbox(joined.site.name).header())
    )
    grid, _ = run(world, lambda site, request, before: judged(world, site, request))
    further = {
        "pooled": set(),
        "own": {"own"},
        "recalibrated": {"recalibrated"},
        "pooled-recalibrated": {"recalibrated", "pooled-recalibrated"},
        "routed": {"recalibrated", "pooled-recalibrated", "routed"},
    }[rule]
    for site in world.sites:
        (request,) = grid.asked("evaluate", site)
        found = {c.key.removeprefix("midpoint:"): c for c in request.evaluate.candidates if "midpoint" in c.key}
        assert found.keys() == {"pooled", "averaged"} | further
        assert all(c.parameters == found["pooled"].parameters for c in found.values())
        sets = {entry.set for entry in request.evaluate.buffer_sets}
        assert {name for c in found.values() for name in c.buffers.sets} == (
            {"pooled", *(f"measured:{name}" for name in world.sites)} if rule == "routed" else set()
        )
        assert all(name in sets for c in found.values() for name in [*c.buffers.sets, c.buffers.set] if name)
    report = json.loads((world.folder.merged / "report.json").read_text())
    (merged,) = [row for row in report["rows"] if row["title"].startswith("merged: ")]
    assert merged["key"] == f"midpoint:{rule}"
    assert report["verdict"].startswith("The merged model (")


def test_each_site_gets_the_midpoint_in_parts(make_world, run, no_report, monkeypatch):
    world = make_world(rules=Rules(deliver=False))
    monkeypatch.setattr(asking, "parts", lambda specs, size: parts(specs, 100))
    grid, _ = run(world, lambda site, request, before: judged(world, site, request))
    for site in world.sites:
        requests = grid.asked("deliver", site)
        named = [name for r in requests for piece in r.deliver.pieces for name in piece.parameters]
        assert len(requests) > 3
        assert named == list(world.manifest.parameters)
        (digest,) = {piece.digest for r in requests for piece in r.deliver.pieces}
        with (
            Delivered(world.joined(site), world.manifest).open(digest) as file,
            TensorFile(world.folder.merged / "merged.safetensors") as merged,
        ):
            assert all(file.tensor(n).tobytes() == merged.tensor(n).tobytes() for n in world.manifest.parameters)


def test_a_few_parts_are_under_way_at_once(make_world, run, no_report, monkeypatch):
    world = make_world(names=("a", "b", "c", "d", "e"), rules=Rules(compare_single_models=True))
    monkeypatch.setattr(asking, "parts", lambda specs, size: parts(specs, 0))
    monkeypatch.setattr(collecting, "parts", lambda specs, size: parts(specs, 0))
    grid, lines = run(world, lambda site, request, before: judged(world, site, request), wait=lambda: 2)
    assert told(lines, "evaluated").keys() == set(world.sites)
    assert grid.most == world.home.settings.submit.at_once


def test_scores_are_asked_for_when_every_part_has_arrived(make_world, run, no_report, monkeypatch):
    world = make_world()
    monkeypatch.setattr(asking, "parts", lambda specs, size: parts(specs, 100))
    dice = random.Random(3)

    def judge_what_is_there(site, request, before):
        for candidate in request.evaluate.candidates:
            if candidate.parameters.kind == pb.Candidate.KIND_CARRIED:
                Delivered(world.joined(site), world.manifest).open(candidate.parameters.digest).close()
        return judged(world, site, request)

    _, lines = run(world, judge_what_is_there, wait=lambda: dice.randrange(5))
    assert told(lines, "evaluated").keys() == set(world.sites)


def lose_deliveries(monkeypatch, make_grid, world, times: int):
    """Let the first deliveries to fog come to nothing."""
    monkeypatch.setattr(asking, "parts", lambda specs, size: parts(specs, 100))

    def react(node, site, request, before):
        kind = request.WhichOneof("what")
        if kind == "deliver" and site == "fog" and before < times:
            return Error(8, "crashed")
        return judged(world, site, request) if kind == "evaluate" else ...

    grid = make_grid(world, react=react)
    OneShotMerge(world.folder).start(grid)
    return grid, [event for _, event in world.home.journal.events(world.folder.key)]


def test_a_part_that_got_lost_is_delivered_again(world, make_grid, no_report, monkeypatch):
    grid, lines = lose_deliveries(monkeypatch, make_grid, world, 2)
    assert told(lines, "evaluated").keys() == set(world.sites)
    assert len(grid.asked("deliver", "fog")) == len(grid.asked("deliver", "night")) + 2
    assert len(grid.asked("evaluate", "fog")) == 1


def test_a_site_that_can_take_nothing_is_given_up(world, make_grid, no_report, monkeypatch):
    grid, lines = lose_deliveries(monkeypatch, make_grid, world, 99)
    assert told(lines, "not-evaluated") == {"fog": "crashed (Flower's error 8)"}
    assert not grid.asked("evaluate", "fog")


def test_a_site_that_lost_the_models_gets_them_again(world, run, no_report):
    lost = pb.Reply(refusal=pb.Refusal(reason=pb.Refusal.REASON_NOT_DELIVERED, site="fog"))
    grid, lines = run(
        world,
        lambda site, request, before: lost if site == "fog" and not before else judged(world, site, request),
    )
    assert len(grid.asked("deliver", "fog")) == 2 * len(grid.asked("deliver", "night"))
    assert "fog" in told(lines, "evaluated")


def test_a_site_that_never_has_the_models_is_given_up(world, run, no_report):
    lost = pb.Reply(refusal=pb.Refusal(reason=pb.Refusal.REASON_NOT_DELIVERED, site="fog"))
    _, lines = run(world, lambda site, request, before: lost if site == "fog" else judged(world, site, request))
    assert "has not the models that it is to judge" in told(lines, "not-evaluated")["fog"]


def test_a_site_that_comes_back_as_another_node_is_asked_anew(world, make_grid, no_report):
    def react(node, site, request, before):
        if request.WhichOneof("what") != "evaluate":
            return ...
        if node == 101:  # this node is gone for good, and its last request with it
            grid.online.discard(101)
            grid.nodes[201] = grid.nodes[101]
            grid.online.add(201)
            return None
        return judged(world, site, request)

    grid = make_grid(world, react=react)
    OneShotMerge(world.folder).start(grid)
    lines = [event for _, event in world.home.journal.events(world.folder.key)]
    assert told(lines, "evaluated").keys() == set(world.sites)


def test_an_answer_of_another_kind_to_a_delivery_is_the_end(world, make_grid, no_report):
    def react(node, site, request, before):
        if request.WhichOneof("what") == "deliver" and site == "fog":
            return pb.Reply(progress=pb.Progress())
        return judged(world, site, request) if request.WhichOneof("what") == "evaluate" else ...

    OneShotMerge(world.folder).start(make_grid(world, react=react))
    lines = [event for _, event in world.home.journal.events(world.folder.key)]
    assert told(lines, "not-evaluated") == {"fog": "site fog: answered progress to deliver"}


def test_a_site_that_refuses_is_left_out_and_the_merge_stands(world, run, no_report):
    _, lines = run(
        world,
        lambda site, request, before: ... if site == "fog" else judged(world, site, request),
    )
    assert "has no images to evaluate on" in told(lines, "not-evaluated")["fog"]
    assert told(lines, "evaluated").keys() == {"clear", "night"}
    assert (world.folder.merged / "merged.safetensors").exists()


def test_a_site_that_fails_is_asked_three_times(world, run, no_report):
    grid, lines = run(
        world,
        lambda site, request, before: Error(8, "crashed") if site == "fog" else judged(world, site, request),
    )
    assert len(grid.asked("evaluate", "fog")) == asking.TRIES == 3
    assert told(lines, "not-evaluated") == {"fog": "crashed (Flower's error 8)"}


def test_a_site_that_fails_once_is_asked_again_with_another_nonce(world, run, no_report):
    grid, lines = run(
        world,
        lambda site, request, before: (
            Error(5, "away") if site == "fog" and not before else judged(world, site, request)
        ),
    )
    first, second = grid.asked("evaluate", "fog")
    assert first.evaluate.nonce != second.evaluate.nonce
    assert "fog" in told(lines, "evaluated")


WRONG = {
    "another campaign": {"campaign_digest": b"x" * 32},
    "an old nonce": {"nonce": b"0" * 16},
    "another site": {"site": "night"},
    "another size": {"scores": [pb.Score(key="base", classes=2, confusion=[1] * 4)]},
    "a matrix that is too short": {"scores": [pb.Score(key="base", classes=5, confusion=[1] * 24)]},
}


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG)
def test_scores_that_do_not_belong_here_are_left_out(world, run, change, no_report):
    _, lines = run(
        world,
        lambda site, request, before: judged(world, site, request, **(change if site == "fog" else {})),
    )
    assert "site fog" in told(lines, "not-evaluated")["fog"]
    assert told(lines, "evaluated").keys() == {"clear", "night"}
    assert not (world.folder.path / "evaluations" / "fog.binpb").exists()


@pytest.mark.parametrize(
    "reply",
    [
        pb.Reply(),
        pb.Reply(progress=pb.Progress()),
        pb.Reply(evaluation=pb.Reply().evaluation),
        pb.Reply(refusal=pb.Refusal(reason=99)),
    ],
)
def test_replies_that_are_no_scores_are_left_out(world, run, reply, no_report):
    _, lines = run(world, lambda site, request, before: reply if site == "fog" else judged(world, site, request))
    assert "fog" in told(lines, "not-evaluated")


def test_another_sites_scores_are_refused(world, run, no_report):
    _, lines = run(
        world,
        lambda site, request, before: judged(world, "night" if site == "fog" else site, request),
    )
    assert "signature" in told(lines, "not-evaluated")["fog"]


def test_a_site_that_went_away_is_waited_for_and_given_up(world, make_grid, monkeypatch, clock, no_report):
    grid = make_grid(world)
    merge = strategy.merge

    def leaving(*arguments):
        grid.online.discard(101)
        return merge(*arguments)

    monkeypatch.setattr(strategy, "merge", leaving)
    start = clock.now
    OneShotMerge(world.folder).start(grid)
    lines = [event for _, event in world.home.journal.events(world.folder.key)]
    assert told(lines, "not-evaluated")["fog"] == "site fog is not connected"
    assert clock.now - start > asking.PATIENCE
