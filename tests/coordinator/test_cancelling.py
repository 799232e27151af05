"""Cancelling: the run ends, and every site that can be reached ends its adapting process."""

from __future__ import annotations

import pytest
from flwr.app import Error

from coordinator import cancelling, strategy
from coordinator.strategy import OneShotMerge
from protos import messages_pb2 as pb
from protos.errors import CancelledError
from protos.rules import Rules

pytestmark = pytest.mark.usefixtures("clock")


@pytest.fixture(autouse=True)
def _no_report(monkeypatch):
    monkeypatch.setattr(strategy, "write_report", lambda *_: None)


def progress(state: str, step: int = 3) -> pb.Reply:
    return pb.Reply(progress=pb.Progress(state=pb.Progress.State.Value(f"STATE_{state}"), step=step, steps=9))


def cancelled(world, grid) -> dict[str, list[dict]]:
    """Run a campaign that is cancelled; returns its events by name."""
    with pytest.raises(CancelledError, match="was cancelled") as caught:
        OneShotMerge(world.folder).start(grid)
    assert caught.value.exit_code == 18
    found: dict[str, list[dict]] = {}
    for _, event in world.home.journal.events(world.folder.key):
        found.setdefault(event["event"], []).append(event)
    return found


def adapting_until_cancelled(world, after: int = 3):
    """Let all sites adapt, and the operator cancel when they were asked a few times how far they are."""

    def react(node, site, request, before):
        kind = request.WhichOneof("what")
        if kind == "progress" and before == after:
            world.folder.cancel()
        if kind == "cancel":
            return progress("STOPPED")
        return progress("ADAPTING") if kind in ("adapt", "progress") else ...

    return react


def states(world) -> dict[str, str]:
    return {site: found.state for site, found in world.home.journal.standings(world.folder.key).items()}


def test_a_run_that_is_cancelled_tells_every_site_and_ends(world, make_grid, clock):
    grid = make_grid(world, react=adapting_until_cancelled(world))
    found = cancelled(world, grid)
    assert {event["site"] for event in found["stopped"]} == set(world.sites)
    assert all((event["step"], event["steps"]) == (3, 9) for event in found["stopped"])
    assert {site: len(grid.asked("cancel", site)) for site in world.sites} == dict.fromkeys(world.sites, 1)
    assert states(world) == dict.fromkeys(world.sites, "cancelled")
    assert not world.folder.merged.exists()


def test_the_final_state_is_written_before_the_sites_are_told(world, make_grid):
    seen = []
    react = adapting_until_cancelled(world)

    def looking(node, site, request, before):
        if request.WhichOneof("what") == "cancel":
            seen.append(states(world)[site])
        return react(node, site, request, before)

    cancelled(world, make_grid(world, react=looking))
    assert seen == ["cancelled"] * 3


def test_a_campaign_that_was_cancelled_while_no_run_was_on_tells_the_sites_and_asks_for_nothing(world, make_grid):
    world.folder.cancel()
    grid = make_grid(world)
    found = cancelled(world, grid)
    assert {event["site"] for event in found["stopped"]} == set(world.sites)
    assert not grid.asked("adapt")
    assert not grid.asked("submit")


def test_a_site_that_is_away_is_named_and_the_others_do_not_wait_for_long(world, make_grid, clock):
    world.folder.cancel()
    grid = make_grid(world)
    grid.online.discard(101)
    found = cancelled(world, grid)
    assert [event["site"] for event in found["not-stopped"]] == ["fog"]
    assert {event["site"] for event in found["stopped"]} == {"clear", "night"}
    assert clock.now < 1000 + 2 * cancelling.PATIENCE


def test_a_site_that_fails_to_answer_is_told_again_and_one_that_refuses_is_named(world, make_grid):
    world.folder.cancel()

    def react(node, site, request, before):
        if request.WhichOneof("what") != "cancel":
            return ...
        if site == "fog" and before < 2:
            return Error(5, "lost")
        refused = pb.Reply(refusal=pb.Refusal(reason=pb.Refusal.REASON_CONFIGURATION, site="night"))
        return refused if site == "night" else ...

    grid = make_grid(world, react=react)
    found = cancelled(world, grid)
    assert len(grid.asked("cancel", "fog")) == 3
    assert {event["site"] for event in found["stopped"]} == {"clear", "fog"}
    assert "is not configured correctly" in found["not-stopped"][0]["message"]


def test_what_was_merged_stays_merged_when_the_rest_is_cancelled(make_world, make_grid):
    world = make_world(rules=Rules(minimum_sites=3))

    def react(node, site, request, before):
        kind = request.WhichOneof("what")
        if site == "fog" and kind in ("adapt", "progress"):
            if kind == "progress" and states(world)["clear"] == states(world)["night"] == "merged":
                world.folder.cancel()
            return progress("ADAPTING")
        return ...

    grid = make_grid(world, react=react)
    found = cancelled(world, grid)
    assert states(world) == {"clear": "merged", "fog": "cancelled", "night": "merged"}
    assert [request.WhichOneof("what") for site, request in grid.log if site == "clear"].count("cancel") == 0
    assert {event["site"] for event in found["stopped"]} == {"fog"}
    world.folder.cancel(cancelled=False)
    grid = make_grid(world)
    OneShotMerge(world.folder).start(grid)
    assert states(world) == dict.fromkeys(world.sites, "merged")
    assert not grid.asked("submit", "clear")
