"""A page over coordinators in every state, and somebody who visits it."""

from __future__ import annotations

import re
import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

import pytest
from pages import Page

from coordinator import strategy
from coordinator.members import Member, State
from coordinator.page.app import make_app
from coordinator.page.desk import Desk
from coordinator.page.guard import FORM_TOKEN
from coordinator.strategy import OneShotMerge
from protos.rules import Rules

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it would rather have another package than httpx
    from starlette.testclient import TestClient

TOKEN = "a-token-that-only-these-tests-have"


@dataclass
class Visitor:
    """Somebody with a browser, who is logged in unless told otherwise."""

    client: TestClient
    desk: Desk

    def get(self, path: str, status: int = 200, **options: object) -> Page:
        answer = self.client.get(path, **options)
        assert answer.status_code == status, answer.text
        return Page(answer.text)

    def post(self, path: str, form: dict[str, str] | None = None, **options: object):
        """Send a form as its page has it: with the token in it."""
        page = self.client.get(path if path != "/logout" else "/").text
        if FORM_TOKEN not in page:
            page = self.client.get("/").text
        token = re.search(rf'name="{FORM_TOKEN}" value="([0-9a-f]+)"', page)[1]
        return self.client.post(path, data={FORM_TOKEN: token, **(form or {})}, **options)

    def log_in(self, token: str = TOKEN):
        return self.post("/login", {"token": token})

    def job(self, campaign: str = "one"):
        """Wait for the newest job of a campaign to end, and return it."""
        until = time.monotonic() + 20
        while (job := self.desk.jobs.of(campaign)[0]).ended is None:
            assert time.monotonic() < until, "the job doesn't end"
            time.sleep(0.01)
        return job


@pytest.fixture
def stranger() -> Callable[..., Visitor]:
    """Return a function that makes somebody who is not logged in, and a page of a coordinator."""

    def make(home, **options) -> Visitor:
        desk = Desk(home, TOKEN, "onebasin-8643", **options)
        app = make_app(desk, frozenset({"127.0.0.1", "localhost", "page.example"}))
        client = TestClient(app, "http://127.0.0.1:8643", follow_redirects=False, raise_server_exceptions=False)
        return Visitor(client, desk)

    return make


@pytest.fixture
def visit(stranger) -> Callable[..., Visitor]:
    """Return a function that makes somebody who is logged in to the page of a coordinator."""

    def make(home, **options) -> Visitor:
        visitor = stranger(home, **options)
        assert visitor.log_in().status_code == 303
        return visitor

    return make


@pytest.fixture
def merged(make_world, make_grid, clock, monkeypatch):
    """A campaign of three sites, of which two are enough, that is over; reports are a line long."""

    def write(folder, report):
        (folder / "report.html").write_text("<p style='color:red'>a report</p>")

    monkeypatch.setattr(strategy, "write_report", write)
    monkeypatch.setattr("coordinator.withdrawing.write_report", write)
    world = make_world(rules=Rules(minimum_sites=2, evaluate=False))
    OneShotMerge(world.folder).start(make_grid(world))
    world.folder.end(ok=True, exit_code=0)
    return world


STATES = ("new", "running", "stopped", "failed", "merged", "cancelling", "cancelled")


@pytest.fixture
def bring():
    """Return a function that brings a campaign into a state; what it holds is let go of at the end."""
    held = ExitStack()

    def to(folder, state: str) -> None:
        if state != "new":
            folder.begin()
            folder.log().note("started")
        if state in ("running", "cancelling"):
            held.enter_context(folder.alone())
        if state in ("cancelling", "cancelled"):
            folder.cancel()
        if state == "failed":
            folder.end(ok=False, exit_code=9, what="too few sites delivered", fix="mend them")
        if state == "merged":
            folder.end(ok=True, exit_code=0)

    with held:
        yield to


@pytest.fixture
def adapting():
    """Return a function that puts a member where it adapts, at a step."""

    def at(folder, site: str, step: int, steps: int = 200, **said: object) -> None:
        folder.log().place(Member(site, 0.0, State.ADAPTING))
        fields = {"state": "adapting", "phase": "adapting", "step": step, "steps": steps, "eta": 75.0, **said}
        folder.log().note("progress", site, **fields)

    return at
