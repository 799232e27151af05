"""After the merge: each site is asked to judge, and its scores are checked."""

from __future__ import annotations

import json

import pytest
from flwr.app import Error

from coordinator import evaluating, strategy
from coordinator.strategy import OneShotMerge
from protos import messages_pb2 as pb
from protos import signing
from protos.campaign import Rules

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
            return reaction(site, request, before) if request.WhichOneof("what") == "evaluate" else ...

        grid = make_grid(world, react=react, **options)
        OneShotMerge(world.folder).start(grid)
        lines = [json.loads(line) for line in world.folder.events.read_text().splitlines()]
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
    world = make_world(rules=Rules(compare_single_models=True))
    grid, _ = run(world, lambda site, request, before: judged(world, site, request))
    (request,) = grid.asked("evaluate", "fog")
    keys = {c.key: c.parameters for c in request.evaluate.candidates}
    assert keys["single:fog"].kind == pb.Candidate.KIND_OWN
    assert (keys["single:night"].kind, keys["single:night"].set) == (pb.Candidate.KIND_CARRIED, "site:night")
    assert "midpoint:site:night" in keys
    report = json.loads((world.folder.merged / "report.json").read_text())
    assert all(entry["distance_from_base"] > 0 for entry in report["sites"])


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
    assert len(grid.asked("evaluate", "fog")) == evaluating.TRIES == 3
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
    lines = [json.loads(line) for line in world.folder.events.read_text().splitlines()]
    assert told(lines, "not-evaluated")["fog"] == "site fog is not connected"
    assert clock.now - start > evaluating.PATIENCE
