"""The forms: logging in and out, approving, cancelling, withdrawing, verifying."""

from __future__ import annotations

import math
from typing import Literal, TypedDict
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from coordinator.admitting import admit
from coordinator.campaign_folder import CampaignFolder
from coordinator.page import actions, looking
from coordinator.page.access import LIFETIME, same
from coordinator.page.desk import desk_of, form_of
from coordinator.page.guard import LOGIN, cookie_name
from protos.errors import ConfigurationError, OnebasinError


class _Kept(TypedDict):
    """Whom a browser gives a cookie to: this page alone, when it is asked for from itself."""

    path: str
    secure: bool
    httponly: bool
    samesite: Literal["strict"]


async def ask_for_token(request: Request) -> Response:
    """Ask for the token."""
    visit = form_of(request)
    if visit.inside:
        return RedirectResponse("/", 303)
    new = not visit.visitor
    visit.visitor = visit.visitor or desk_of(request).sessions.visitor()
    response = desk_of(request).page(request, "login.html.j2", problem="")
    if new:
        _remember(request, response, visit.visitor)
    return response


async def log_in(request: Request) -> Response:
    """Let somebody in who has the token.

    This runs on the one thread that answers requests, so that no two guesses are looked at at once.
    """
    desk, given = desk_of(request), form_of(request).form.get("token", "").strip()
    if wait := desk.guesses.wait():
        said = f"too many wrong tokens: try again in {math.ceil(wait)} s"
        response: Response = desk.page(request, "login.html.j2", 429, problem=said)
        response.headers["Retry-After"] = str(math.ceil(wait))
        return response
    if not same(given, desk.token):
        desk.guesses.wrong()
        return desk.page(request, "login.html.j2", 403, problem="that is not the token")
    response = RedirectResponse("/", 303)
    _remember(request, response, desk.sessions.begin())
    return response


async def log_out(request: Request) -> Response:
    """End a session."""
    desk_of(request).sessions.end(form_of(request).visitor)
    response = RedirectResponse(LOGIN, 303)
    response.delete_cookie(cookie_name(desk_of(request).cookie, request), **_kept_to_this_page(request))
    return response


def approve(request: Request) -> Response:
    """Take a site in, as ``onebasin coordinator approve`` does."""
    form, found = form_of(request).form, looking.waiting_for(request)
    try:
        admitted = admit(
            desk_of(request).home, found.path, form.get("fingerprint", ""), renew=form.get("renew") == "yes"
        )
    except OnebasinError as error:
        return looking.approval(request, error)
    query = {"approved": admitted.request.site, **({} if admitted.let_in else {"later": "yes"})}
    return RedirectResponse(f"/sites?{urlencode(query)}", 303)


def cancel(request: Request) -> Response:
    """Begin to cancel a campaign."""
    folder = looking.folder_of(request)
    try:
        actions.cancel(desk_of(request).jobs, folder)
    except ConfigurationError as error:
        return desk_of(request).page(request, "cancel.html.j2", 422, folder=folder, problem=error)
    return _to(folder)


def withdraw(request: Request) -> Response:
    """Begin to take a site's update out of a merge, if its name was typed."""
    folder, form = looking.folder_of(request), form_of(request).form
    site, _ = looking.merged_site(request, folder)
    try:
        if form.get("confirm", "").strip() != site:
            raise ConfigurationError("what was typed is not the site's name", f"to confirm, type: {site}")
        force = form.get("force") == "yes"
        actions.withdraw(desk_of(request).jobs, folder, site, form.get("update", ""), force=force)
    except ConfigurationError as error:
        return looking.withdrawal(request, error)
    return _to(folder)


def verify(request: Request) -> Response:
    """Begin to verify a merged model."""
    folder = looking.folder_of(request)
    actions.verify(desk_of(request).jobs, folder)
    return _to(folder)


def _to(folder: CampaignFolder) -> Response:
    return RedirectResponse(f"/campaigns/{folder.path.name}", 303)


def _remember(request: Request, response: Response, visitor: str) -> None:
    name = cookie_name(desk_of(request).cookie, request)
    response.set_cookie(name, visitor, max_age=int(LIFETIME), **_kept_to_this_page(request))


def _kept_to_this_page(request: Request) -> _Kept:
    return {"path": "/", "secure": request.url.scheme == "https", "httponly": True, "samesite": "strict"}
