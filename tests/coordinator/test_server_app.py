"""The Flower ServerApp writes down how a run ended before it ends."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from coordinator import server_app
from protos.errors import QuorumError


def run(folder, monkeypatch, error: BaseException | None) -> None:
    class Merge:
        def __init__(self, found):
            assert found.path == folder.path

        def start(self, grid):
            if error:
                raise error

    monkeypatch.setattr(server_app, "OneShotMerge", Merge)
    context = SimpleNamespace(run_config={server_app.CAMPAIGN_FOLDER: str(folder.path)})
    server_app.main(None, context)


@pytest.fixture
def folder(make_world):
    return make_world(("fog",), store=False).folder


def test_a_good_end(folder, monkeypatch):
    run(folder, monkeypatch, None)
    assert folder.outcome()["ok"] is True


def test_an_error_of_ours_keeps_its_words_and_code_and_is_raised_again(folder, monkeypatch):
    with pytest.raises(QuorumError):
        run(folder, monkeypatch, QuorumError("too few", "mend them"))
    found = folder.outcome()
    assert (found["ok"], found["exit_code"], found["what"], found["fix"]) == (False, 9, "too few", "mend them")


@pytest.mark.parametrize("error", [ZeroDivisionError("oops"), KeyboardInterrupt(), SystemExit(3)])
def test_any_other_error_is_written_down_too(folder, monkeypatch, error):
    with pytest.raises(type(error)):
        run(folder, monkeypatch, error)
    found = folder.outcome()
    assert (found["ok"], found["exit_code"]) == (False, 1)
    assert type(error).__name__ in found["what"]
