"""What stands before every page: by which name it is asked, who asks, and what a browser may do with it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from coordinator.page.access import Sessions

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
"""The page runs and loads what it brings along, and nothing that stands in the page itself."""
REPORT_POLICY = (
    "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'none'; "
    "frame-ancestors 'none'; base-uri 'none'"
)
"""The report has its styles and pictures inside it. It is shown as if it came from nowhere, and runs nothing."""
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # with none at all, browsers would hide a form's origin from us too
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}
"""What each answer carries, unless it says otherwise itself."""
FORM_TOKEN = "form_token"  # noqa: S105  # the field's name
LOGIN, STATIC = "/login", "/static/"
_LARGEST = 64 << 10
_FIELDS = 20
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^:\[\]/@\s]+)(:[0-9]{1,5})?", re.IGNORECASE)


class _Refused(Exception):  # noqa: N818  # it ends nothing but a request
    """A request that is not answered.

    Args:
        status: HTTP's.
        said: Why.

    """

    def __init__(self, status: int, said: str) -> None:
        super().__init__(said)
        self.status = status
        self.said = said


@dataclass
class Visit:
    """Who asks, and with which form.

    Attributes:
        visitor: Their number, from the cookie; empty if they have none.
        inside: Whether they are logged in.
        form: The form's fields.

    """

    visitor: str
    inside: bool
    form: Mapping[str, str] = field(default_factory=dict)


class Guard:
    """Lets requests through that are meant for this page, and come from it.

    - The host that a browser asks for must be one of ours, or any other site could have its own name point here.
    - All but the login asks for a session.
    - A form must carry its visitor's token, and must not say that it comes from elsewhere.

    Args:
        app: The page.
        sessions: Who is logged in.
        names: Host names under which it is reached, in lower case, without ports.
        cookie: The name of the cookie.

    """

    def __init__(self, app: ASGIApp, sessions: Sessions, names: frozenset[str], cookie: str) -> None:
        self._app = app
        self._sessions = sessions
        self._names = names
        self._cookie = cookie

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            raise ValueError(f"the page answers no {scope['type']}")
        request = Request(scope, receive)

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            response = await self._looked_at(request)
        except _Refused as refused:
            response = PlainTextResponse(f"{refused.said}\n", refused.status)
        await (response or self._app)(scope, receive, guarded)

    async def _looked_at(self, request: Request) -> Response | None:
        """Return an answer if the page need not be asked for one."""
        self._check_host(request)
        if request.method not in ("GET", "HEAD", "POST"):
            raise _Refused(405, "only GET and POST")
        visitor = request.cookies.get(cookie_name(self._cookie, request), "")
        visit = Visit(visitor, self._sessions.known(visitor))
        request.scope.setdefault("state", {})["visit"] = visit
        path = request.url.path
        if request.method == "POST":
            self._check_origin(request)
            visit.form = await _form(request)
        if not visit.inside and path != LOGIN and not path.startswith(STATIC):
            return _to_login(request)
        if request.method == "POST" and not self._sessions.is_form_token(visitor, visit.form.get(FORM_TOKEN, "")):
            if path == LOGIN:
                return _to_login(request)  # the form is older than this program, or cookies are off
            raise _Refused(403, "This form is not from this session. Go back, load the page anew and try again.")
        return None

    def _check_host(self, request: Request) -> None:
        given = [value for key, value in request.headers.items() if key == "host"]
        found = _HOST.fullmatch(given[0]) if len(given) == 1 else None
        if found is None or found[1].lower().rstrip(".") not in self._names:
            raise _Refused(421, "Not the name of this page. If it is, start it with --name.")

    @staticmethod
    def _check_origin(request: Request) -> None:
        """Refuse a form that says that another site sent it; its token would be missing anyway."""
        origin = request.headers.get("origin")
        if origin is not None and urlsplit(origin).netloc.lower() != request.headers["host"].lower():
            raise _Refused(403, "This form comes from another site.")
        if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            raise _Refused(403, "This form comes from another site.")


def cookie_name(cookie: str, request: Request) -> str:
    """Return the cookie's name: over TLS one that browsers keep to this very host and to TLS."""
    return f"__Host-{cookie}" if request.url.scheme == "https" else cookie


def _to_login(request: Request) -> Response:
    if "hx-request" in request.headers:  # a redirection would be followed, and the login be shown in a corner
        return Response(status_code=401, headers={"HX-Redirect": LOGIN})
    return RedirectResponse(LOGIN, 303)


async def _form(request: Request) -> dict[str, str]:
    """Read a form: plain fields, each once."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise _Refused(415, "only forms")
    body = b""
    try:
        async for part in request.stream():
            body += part
            if len(body) > _LARGEST:
                raise _Refused(413, "too large for a form")
    except ClientDisconnect:
        raise _Refused(400, "no whole form") from None
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=_FIELDS, errors="strict")
    except ValueError:
        raise _Refused(400, "no form") from None
    if len({name for name, _ in pairs}) != len(pairs):
        raise _Refused(400, "a field stands twice in this form")
    return dict(pairs)
