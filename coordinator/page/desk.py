"""What all pages share: the coordinator, who is logged in, what is under way, and the templates."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from coordinator.home import Home
from coordinator.overview import span
from coordinator.page import words
from coordinator.page.access import Guesses, Sessions
from coordinator.page.guard import FORM_TOKEN, Visit
from coordinator.page.jobs import Jobs
from coordinator.report import text
from protos.audit import brief

FOLDER = Path(__file__).parent
HTMX_INTEGRITY = "sha384-2OatzQy1H+Zd/IIrjr1TcuDGqLXeHhbooAyJY1KdQMKnr4LZ22k31GBLdYKHmVjg"
"""Of ``static/htmx.min.js``: htmx 2.0.11, by Big Sky Software, under the Zero-Clause BSD licence beside it."""
POLL = 2
"""Seconds between two looks of a page at what may have changed."""


@dataclass(frozen=True)
class Desk:
    """What the pages of one coordinator share.

    Attributes:
        home: The coordinator.
        token: What opens the page.
        cookie: The name of its cookie.
        sessions: Who is logged in.
        guesses: Wrong tokens.
        jobs: What is under way.

    """

    home: Home
    token: str
    cookie: str
    sessions: Sessions = field(default_factory=Sessions)
    guesses: Guesses = field(default_factory=Guesses)
    jobs: Jobs = field(default_factory=Jobs)

    def page(self, request: Request, template: str, status: int = 200, **values: Any) -> HTMLResponse:
        """Answer with a page."""
        return HTMLResponse(self._text(request, template, **values), status)

    def part(self, request: Request, template: str, url: str, said: str, **values: Any) -> Markup:
        """Return a part of a page that looks by itself whether it is still so.

        Args:
            request: The page's.
            template: The part's.
            url: Where it is got anew.
            said: How it stands in a few words; they are read aloud when they change.
            values: What the template shows.

        """
        return self._part(request, template, url, said, values)[0]

    def changed(self, request: Request, template: str, url: str, said: str, **values: Any) -> Response:
        """Answer with such a part if it is not what the page shows already; the arguments are those of `part`."""
        part, seen = self._part(request, template, url, said, values)
        if request.query_params.get("seen") == seen:
            return Response(status_code=204)
        if request.query_params.get("said") != said:
            part += Markup('<p id="said" hx-swap-oob="innerHTML">{}</p>').format(said)
        return HTMLResponse(part)

    def _part(
        self, request: Request, template: str, url: str, said: str, values: dict[str, Any]
    ) -> tuple[Markup, str]:
        content = self._text(request, template, **values)
        seen = hashlib.sha256(f"{said}\n{content}".encode("utf-8", "surrogatepass")).hexdigest()[:16]
        again = f"{url}?{urlencode({'seen': seen, 'said': said})}"
        whole = self._text(request, "live.html.j2", content=Markup(content), url=again, seconds=POLL)  # noqa: S704
        return Markup(whole), seen  # noqa: S704  # rendered with all values escaped

    def _text(self, request: Request, template: str, **values: Any) -> str:
        visit: Visit = request.state.visit
        shared = {
            "visit": visit,
            "form_token": self.sessions.form_token(visit.visitor),
            "form_token_name": FORM_TOKEN,
            "path": request.url.path,
            "home": self.home,
            "integrity": HTMX_INTEGRITY,
            "zone": words.zone(),
        }
        return self._environment.get_template(template).render(**shared, **values)

    @cached_property
    def _environment(self) -> Environment:
        environment = Environment(
            loader=FileSystemLoader(FOLDER / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters.update(
            outside=words.outside,
            iso=words.iso,
            moment=words.moment,
            relative=words.relative,
            duration=text.duration,
            span=span,
            brief=brief,
            rule=lambda pair: text.rule(*pair),
        )
        environment.globals["tones"] = words.TONES
        return environment


def desk_of(request: Request) -> Desk:
    """Return the desk of the page that is asked."""
    found: Desk = request.app.state.desk
    return found


def form_of(request: Request) -> Visit:
    """Return who sent a form, and its fields."""
    found: Visit = request.state.visit
    return found
