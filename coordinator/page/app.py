"""The page as a program of the web: which address shows what, and what is shown when something is wrong."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from coordinator.page import acting, looking
from coordinator.page.desk import FOLDER, Desk, desk_of
from coordinator.page.guard import LOGIN, STATIC, Guard
from protos.errors import ConfigurationError, OnebasinError

_NAME = "/campaigns/{name}"


def make_app(desk: Desk, names: frozenset[str]) -> ASGIApp:
    """Return the page of a coordinator, guarded.

    Args:
        desk: What its pages share.
        names: Host names under which it is reached, in lower case, without ports.

    """
    get, post = ["GET"], ["POST"]
    app = Starlette(
        routes=[
            Route(LOGIN, acting.ask_for_token, methods=get),
            Route(LOGIN, acting.log_in, methods=post),
            Route("/logout", acting.log_out, methods=post),
            Route("/", looking.campaigns, methods=get),
            Route("/live", looking.campaigns_again, methods=get),
            Route(_NAME, looking.campaign, methods=get),
            Route(f"{_NAME}/live", looking.campaign_again, methods=get),
            Route(f"{_NAME}/report", looking.report, methods=get),
            Route(f"{_NAME}/receipts", looking.all_receipts, methods=get),
            Route(f"{_NAME}/receipts/{{file}}", looking.receipt_file, methods=get),
            Route(f"{_NAME}/verify", acting.verify, methods=post),
            Route(f"{_NAME}/cancel", looking.ask_to_cancel, methods=get),
            Route(f"{_NAME}/cancel", acting.cancel, methods=post),
            Route(f"{_NAME}/withdraw/{{site}}", looking.ask_to_withdraw, methods=get),
            Route(f"{_NAME}/withdraw/{{site}}", acting.withdraw, methods=post),
            Route("/sites", looking.sites, methods=get),
            Route("/sites/{name}/welcome.json", looking.welcome, methods=get),
            Route("/requests/{file}", looking.ask_to_approve, methods=get),
            Route("/requests/{file}", acting.approve, methods=post),
            Route("/audit", looking.audit_log, methods=get),
            Mount(STATIC.rstrip("/"), StaticFiles(directory=FOLDER / "static")),
        ],
        exception_handlers={OnebasinError: _wrong, HTTPException: _not_there, Exception: _unexpected},
    )
    app.router.redirect_slashes = False
    app.state.desk = desk
    return Guard(app, desk.sessions, names, desk.cookie)


def _wrong(request: Request, error: Exception) -> Response:
    """Say what an error of ours says: what happened, and what to do next."""
    assert isinstance(error, OnebasinError)
    status = 409 if request.method == "POST" and isinstance(error, ConfigurationError) else 500
    return desk_of(request).page(request, "error.html.j2", status, what=error.what, fix=error.fix)


def _not_there(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    what, _, fix = error.detail.partition("\n  → ")
    if error.status_code == 404 and what == "Not Found":
        what = "there is no such page"
    response = desk_of(request).page(request, "error.html.j2", error.status_code, what=what, fix=fix)
    response.headers.update(error.headers or {})
    return response


def _unexpected(request: Request, error: Exception) -> Response:
    what, fix = f"unexpected: {type(error).__name__}", "the output of the page's program says more"
    return desk_of(request).page(request, "error.html.j2", 500, what=what, fix=fix)
