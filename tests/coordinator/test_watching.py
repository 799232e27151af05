"""Following a run from outside."""

from __future__ import annotations

import json
from contextlib import ExitStack

import pytest

from coordinator import superlink, watching
from coordinator.watching import RunFailedError, cancel, run, sentence, watch
from protos.errors import CancelledError, ConfigurationError, FederationError


@pytest.fixture
def folder(make_world):
    return make_world(("fog",), store=False).folder


@pytest.fixture(autouse=True)
def flower(monkeypatch):
    """Replace Flower's programs and the passing of time; returns what was stopped."""
    stopped = []
    now = [0.0]

    class Clock:
        monotonic = staticmethod(lambda: now[0])

        @staticmethod
        def sleep(seconds: float) -> None:
            now[0] += seconds

    monkeypatch.setattr(watching, "time", Clock)
    monkeypatch.setattr(superlink, "submit", lambda folder: "run-1")
    monkeypatch.setattr(superlink, "run_status", lambda home, run_id: "running")
    monkeypatch.setattr(superlink, "stop_run", lambda home, run_id: stopped.append(run_id))
    return stopped


def during(monkeypatch, *steps):
    """Let something happen at each look at Flower's clock; afterwards nothing more does."""
    left = list(steps)
    sleep = watching.time.sleep

    def sleeping(seconds: float) -> None:
        sleep(seconds)
        if left:
            left.pop(0)()

    monkeypatch.setattr(watching.time, "sleep", staticmethod(sleeping))


def test_events_are_shown_as_they_come_and_a_good_end_returns(folder, monkeypatch):
    events, seen = folder.log(), []
    events.note("from an earlier run")
    during(
        monkeypatch,
        lambda: events.note("connected", "fog"),
        lambda: (events.note("merged", models=1), folder.end(ok=True, exit_code=0)),
    )
    run(folder, lambda event: seen.append(event["event"]))
    assert seen == ["connected", "merged"]


def test_a_bad_end_is_raised_with_its_reason_and_exit_code(folder, monkeypatch):
    during(monkeypatch, lambda: folder.end(ok=False, exit_code=9, what="too few", fix="mend them"))
    with pytest.raises(RunFailedError, match="too few") as caught:
        run(folder, lambda _: None)
    assert (caught.value.exit_code, caught.value.fix) == (9, "mend them")


def test_the_outcome_of_an_earlier_run_does_not_count(folder, monkeypatch):
    folder.end(ok=False, exit_code=9, what="old", fix="")
    during(monkeypatch, lambda: folder.end(ok=True, exit_code=0))
    run(folder, lambda _: None)


@pytest.mark.parametrize("status", ["finished:failed", "finished:completed", "finished:stopped"])
def test_a_run_that_ended_without_a_word_is_noticed(folder, monkeypatch, status):
    monkeypatch.setattr(superlink, "run_status", lambda home, run_id: status)
    with pytest.raises(FederationError, match="Flower's run run-1 ended without a result"):
        run(folder, lambda _: None)


def test_an_outcome_that_was_written_just_before_the_end_counts(folder, monkeypatch):
    def status(home, run_id):
        folder.end(ok=True, exit_code=0)
        return "finished:completed"

    monkeypatch.setattr(superlink, "run_status", status)
    run(folder, lambda _: None)


def test_flower_is_not_asked_about_a_run_that_holds_its_campaign(folder, monkeypatch):
    asked, holding = [], ExitStack()
    monkeypatch.setattr(superlink, "run_status", lambda home, run_id: asked.append(run_id) or "running")
    waiting = [lambda: None] * 30
    begin = [lambda: holding.enter_context(folder.alone())]
    during(monkeypatch, *waiting, *begin, *waiting, lambda: folder.end(ok=True, exit_code=0), holding.close)
    with holding:
        run(folder, lambda _: None)
    assert len(asked) == 2  # in the 15 seconds in which it had not begun


def test_a_run_that_lets_go_of_its_campaign_without_a_word_is_dead_at_once(folder, monkeypatch):
    holding = ExitStack()
    monkeypatch.setattr(superlink, "run_status", lambda home, run_id: pytest.fail("Flower was asked"))
    during(monkeypatch, lambda: holding.enter_context(folder.alone()), lambda: None, holding.close)
    with pytest.raises(FederationError, match="ended without a result"):
        run(folder, lambda _: None)


def test_an_interruption_stops_the_run_and_says_so(folder, monkeypatch, flower):
    def interrupt() -> None:
        raise KeyboardInterrupt

    during(monkeypatch, interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(folder, lambda _: None)
    assert flower == ["run-1"]
    assert folder.outcome()["exit_code"] == 130


def run_is_on(folder, *steps):
    """Hold a campaign, as a run does, and let it end with the last of some steps."""
    holding = ExitStack()
    holding.enter_context(folder.alone())
    *before, last = steps
    return holding, [*before, lambda: (last(), holding.close())]


def test_a_run_that_is_on_is_watched_from_its_beginning_to_its_end(folder, monkeypatch):
    events, seen = folder.log(), []
    events.note("started")
    events.note("disconnected", "fog")  # of an earlier run
    events.note("started")
    events.note("connected", "fog")
    holding, steps = run_is_on(
        folder,
        lambda: events.note("merged", models=1),
        lambda: folder.end(ok=True, exit_code=0),
    )
    during(monkeypatch, *steps)
    with holding:
        watch(folder, lambda event: seen.append(event["event"]))
    assert seen == ["started", "connected", "merged"]


def test_watching_a_run_that_ended_badly_ends_with_its_exit_code(folder):
    folder.log().note("started")
    folder.end(ok=False, exit_code=9, what="too few", fix="mend them")
    with pytest.raises(RunFailedError, match="too few") as caught:
        watch(folder, lambda _: None)
    assert caught.value.exit_code == 9


def test_watching_when_no_run_is_on_says_so(folder):
    with pytest.raises(FederationError, match="no run is on") as caught:
        watch(folder, lambda _: None)
    assert "onebasin coordinator run" in caught.value.fix


def test_a_run_that_is_on_is_cancelled_and_its_end_awaited(folder, monkeypatch):
    seen = []
    holding, steps = run_is_on(
        folder,
        lambda: folder.log().note("stopped", "fog", step=3, steps=9),
        lambda: folder.end(ok=False, exit_code=18, what="it was cancelled", fix=""),
    )
    during(monkeypatch, *steps)
    monkeypatch.setattr(superlink, "submit", lambda folder: pytest.fail("another run was started"))
    with holding:
        cancel(folder, lambda event: seen.append(event["event"]))
    assert seen == ["stopped"]
    assert folder.course().cancelled is not None


def test_a_campaign_that_is_not_running_is_cancelled_by_a_run_that_tells_the_sites(folder, monkeypatch):
    during(monkeypatch, lambda: folder.end(ok=False, exit_code=18, what="it was cancelled", fix=""))
    folder.end(ok=False, exit_code=9, what="too few", fix="")
    cancel(folder, lambda _: None)
    assert folder.outcome()["exit_code"] == 18


def test_a_campaign_is_cancelled_even_if_no_site_can_be_told(folder, monkeypatch):
    def unreachable(folder):
        raise FederationError("flwr run failed", "is the SuperLink running?")

    monkeypatch.setattr(superlink, "submit", unreachable)
    with pytest.raises(FederationError):
        cancel(folder, lambda _: None)
    assert folder.course().cancelled is not None
    assert folder.outcome()["exit_code"] == 18


def test_a_run_that_ended_well_just_before_is_not_cancelled(folder, monkeypatch):
    during(monkeypatch, lambda: folder.end(ok=True, exit_code=0))
    with pytest.raises(ConfigurationError, match="was merged before it could be cancelled"):
        cancel(folder, lambda _: None)
    assert folder.course().cancelled is None


def test_a_cancelled_campaign_is_not_run_again_without_saying_so(folder, monkeypatch):
    folder.cancel()
    with pytest.raises(CancelledError, match="was cancelled") as caught:
        run(folder, lambda _: None)
    assert "--reopen" in caught.value.fix
    during(monkeypatch, lambda: folder.end(ok=True, exit_code=0))
    run(folder, lambda _: None, reopen=True)
    assert folder.course().cancelled is None


SENTENCES = {
    "cancelled: telling the sites to stop adapting": {"event": "cancelled"},
    "fog: stopped at step 3 of 9; its checkpoint is kept": {
        "event": "stopped",
        "site": "fog",
        "step": 3,
        "steps": 9,
    },
    "fog: not-stopped it is away": {"event": "not-stopped", "site": "fog", "message": "it is away"},
    "fog: has the receipt for its update": {"event": "receipted", "site": "fog"},
    "started": {"event": "started"},
    "fog: was merged by the journal, and is absent by the merge state": {
        "event": "corrected",
        "site": "fog",
        "said": "merged",
        "state": "absent",
    },
    "fog: connected": {"event": "connected", "site": "fog", "node": 7},
    "fog: disconnected": {"event": "disconnected", "site": "fog"},
    "fog: asked for its update": {"event": "asked", "site": "fog"},
    "fog: 1.5 MB of its update came before, 3.0 MB are asked for": {
        "event": "taken-up",
        "site": "fog",
        "bytes": 1_500_000,
        "left": 3_000_000,
    },
    "fog: submitting update abcdef012345": {"event": "header", "site": "fog", "digest": "abcdef0123456789"},
    "fog: update arrived, 1.5 MB": {"event": "arrived", "site": "fog", "bytes": 1_500_000},
    "fog: folded into the merge state": {"event": "folded", "site": "fog", "digest": "ab"},
    "fog: was folded in an earlier run": {"event": "already-folded", "site": "fog"},
    "fog: was sent models, 2.5 MB": {"event": "delivered", "site": "fog", "bytes": 2_500_000},
    "fog: asked for statistics of the merged model": {"event": "measuring", "site": "fog"},
    "fog: measured statistics of the merged model": {"event": "measured", "site": "fog"},
    "gave the merged model the statistics that were measured": {"event": "finished", "digest": "ab"},
    "fog: has the merged model": {"event": "adopted", "site": "fog"},
    "secure sum, sharing: clear, fog": {"event": "summing", "stage": "sharing", "sites": ["clear", "fog"]},
    "fog: dropped out of the secure sum, masking: it is gone": {
        "event": "dropped-out",
        "site": "fog",
        "stage": "masking",
        "message": "it is gone",
    },
    "the secure sum was given up, sharing: too few": {
        "event": "sum-given-up",
        "stage": "sharing",
        "message": "too few",
    },
    "merging 3 models": {"event": "merging", "models": 3},
    "merged 3 models": {"event": "merged", "models": 3},
    "fog: evaluating 5 models": {"event": "evaluating", "site": "fog", "models": 5},
    "fog: evaluated 5 models": {"event": "evaluated", "site": "fog", "models": 5},
    "dropped 3 single updates": {"event": "forgotten", "updates": 3},
    "fog: update abcdef012345 withdrawn": {"event": "withdrawn", "site": "fog", "digest": "abcdef0123456789"},
    "a result that a crash had held up was put in its place": {"event": "completed"},
    "the merge is better": {"event": "reported", "message": "the merge is better"},
    "fog: adapting (adapt), step 3 of 9, 12 s left": {
        "event": "progress",
        "site": "fog",
        "state": "adapting",
        "phase": "adapt",
        "step": 3,
        "steps": 9,
        "eta": 12.4,
    },
    "fog: ready (update), step 9 of 9": {
        "event": "progress",
        "site": "fog",
        "state": "ready",
        "phase": "update",
        "step": 9,
        "steps": 9,
        "eta": 0.0,
    },
    "fog: refused its head.bias is NaN": {"event": "refused", "site": "fog", "message": "its head.bias is NaN"},
    "fog: missing never connected": {"event": "missing", "site": "fog", "message": "never connected"},
    "fog: no-answer lost": {"event": "no-answer", "site": "fog", "to": "adapt", "message": "lost"},
    "fog: not-evaluated no images": {"event": "not-evaluated", "site": "fog", "message": "no images"},
    "stranger who": {"event": "stranger", "node": 7, "message": "who"},
    "something new": {"event": "something new"},
}


@pytest.mark.parametrize(("words", "event"), SENTENCES.items(), ids=SENTENCES)
def test_each_event_is_put_into_words(words, event):
    assert sentence({"time": 0.0, **event}) == words


def test_every_event_of_a_run_has_its_words_here():
    """Fails when the coordinator notes an event that no sentence above is of."""
    import re
    from pathlib import Path

    noted = set()
    for path in Path(watching.__file__).parent.glob("*.py"):
        noted |= set(re.findall(r'(?<!audit)\.note\(\s*"([^"]+)"', path.read_text()))
    assert noted <= {event["event"] for event in SENTENCES.values()}
    assert len(noted) > 10
    json.dumps(SENTENCES)
