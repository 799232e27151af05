"""The pages that show something: campaigns, sites, receipts, the audit log. They change nothing."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response

from coordinator import receipted, roster
from coordinator.campaign_folder import CampaignFolder
from coordinator.home import Home
from coordinator.members import State
from coordinator.overview import Overview, overview, share
from coordinator.page.actions import presented
from coordinator.page.desk import Desk, desk_of
from coordinator.page.guard import REPORT_POLICY
from coordinator.watching import sentence
from protos import audit, receipts
from protos.audit import Entry, Verified
from protos.campaign import check_name
from protos.errors import ConfigurationError, OnebasinError
from protos.receipts import Receipt
from protos.rules import SECURE_SUM

LINES = 50
"""Lines of the audit log on a page."""
EVENTS = 15
_ROW_NUMBERS = 2000
"""How far back the last events are looked for; their numbers are shared by all campaigns."""
_FARTHEST = 100_000


@dataclass(frozen=True)
class Row:
    """A campaign in the list.

    Attributes:
        name: Its folder's.
        found: Where it stands; None if that can't be read.
        problem: Why not.

    """

    name: str
    found: Overview | None
    problem: str = ""

    @property
    def merged(self) -> int:
        """How many sites are merged."""
        return _merged(self.found) if self.found else 0


@dataclass(frozen=True)
class Shown:
    """A receipt's file.

    Attributes:
        path: Where it is.
        receipt: What it says, its signature checked; None if it is not good.
        problem: What is wrong with it.

    """

    path: Path
    receipt: Receipt | None
    problem: str = ""


# ----------------------------------------------------------------- campaigns


def campaigns(request: Request) -> Response:
    """Show all campaigns."""
    desk = desk_of(request)
    waiting = sum(one.request is not None for one in roster.waiting(desk.home))
    return desk.page(request, "campaigns.html.j2", part=desk.part(request, **_campaigns(desk)), waiting=waiting)


def campaigns_again(request: Request) -> Response:
    """Show all campaigns anew, if something changed."""
    desk = desk_of(request)
    return desk.changed(request, **_campaigns(desk))


def campaign(request: Request) -> Response:
    """Show one campaign."""
    desk, folder = desk_of(request), folder_of(request)
    rules = [pair for pair in asdict(folder.campaign.rules).items() if pair[0] != "code_digest"]
    rules = [(name, ", ".join(value) if isinstance(value, tuple) else value) for name, value in rules]
    return desk.page(
        request, "campaign.html.j2", folder=folder, rules=rules, part=desk.part(request, **_campaign(desk, folder))
    )


def campaign_again(request: Request) -> Response:
    """Show one campaign anew, if something changed."""
    desk = desk_of(request)
    return desk.changed(request, **_campaign(desk, folder_of(request)))


def report(request: Request) -> Response:
    """Show the report of a merge, as if it came from nowhere: what is in it can reach nothing here."""
    path = folder_of(request).merged / "report.html"
    if not path.exists():
        raise HTTPException(404, "there is no report: it is written when a campaign is merged")
    # A page that is sandboxed can't also ask for a browsing context of its own: browsers refuse to show it then.
    headers = {"Content-Security-Policy": REPORT_POLICY, "Cross-Origin-Opener-Policy": "unsafe-none"}
    return HTMLResponse(path.read_bytes(), headers=headers)


def all_receipts(request: Request) -> Response:
    """Show a campaign's receipts, the one that counts first."""
    folder = folder_of(request)
    found = [_shown(folder.home, path) for path in receipted.receipt_files(folder)]
    return desk_of(request).page(request, "receipts.html.j2", folder=folder, receipts=found)


def receipt_file(request: Request) -> Response:
    """Hand out a receipt's file."""
    folder, name = folder_of(request), request.path_params["file"]
    path = next((path for path in receipted.receipt_files(folder) if path.name == name), None)
    if path is None:
        raise HTTPException(404, f"campaign {folder.path.name} has no such receipt")
    return FileResponse(path, media_type="application/json", filename=f"{folder.path.name}-{name}")


def ask_to_cancel(request: Request) -> Response:
    """Ask whether a campaign is to be cancelled."""
    return desk_of(request).page(request, "cancel.html.j2", folder=folder_of(request), problem=None)


def ask_to_withdraw(request: Request) -> Response:
    """Ask whether a site's update is to be withdrawn."""
    return withdrawal(request, None)


def withdrawal(request: Request, problem: OnebasinError | None) -> Response:
    """Show the form to withdraw a site's update, with what was wrong with it."""
    folder = folder_of(request)
    site, receipt = merged_site(request, folder)
    return desk_of(request).page(
        request,
        "withdraw.html.j2",
        422 if problem else 200,
        folder=folder,
        site=site,
        receipt=receipt,
        files=presented(folder),
        problem=problem,
    )


def merged_site(request: Request, folder: CampaignFolder) -> tuple[str, Receipt]:
    """Return the site that an address names, and the receipt of the merge that it is in.

    Raises:
        HTTPException: It is not in the merge.

    """
    site, receipt = request.path_params["site"], receipted.last_receipt(folder)
    if receipt is None or site not in {entry.site for entry in receipt.inputs}:
        raise HTTPException(404, f"that site is not in the merge of campaign {folder.path.name}")
    return site, receipt


def _campaigns(desk: Desk) -> dict[str, Any]:
    rows = [_row(folder) for folder in desk.home.campaigns()]
    states = Counter(row.found.state if row.found else "damaged" for row in rows)
    said = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    return {"template": "campaigns_live.html.j2", "url": "/live", "said": said, "rows": rows}


def _row(folder: CampaignFolder) -> Row:
    try:
        return Row(folder.path.name, overview(folder))
    except OnebasinError as error:
        return Row(folder.path.name, None, str(error))


def _campaign(desk: Desk, folder: CampaignFolder) -> dict[str, Any]:
    found, journal = overview(folder), desk.home.journal
    receipt, problem = None, None
    try:
        receipt = receipted.last_receipt(folder)
    except OnebasinError as error:
        problem = error
    events = journal.events(folder.key, journal.last(folder.key) - _ROW_NUMBERS)[-EVENTS:]
    return {
        "template": "campaign_live.html.j2",
        "url": f"/campaigns/{folder.path.name}/live",
        "said": f"{found.state}, {_merged(found)} of {len(found.sites)} sites merged",
        "folder": folder,
        "found": found,
        "merged": _merged(found),
        "shares": {site: share(standing) for site, standing in found.sites.items()},
        "events": [(event, sentence(event)) for _, event in reversed(events)],
        "jobs": desk.jobs.of(folder.path.name),
        "receipt": receipt,
        "problem": problem,
        "summed": folder.campaign.rules.privacy == SECURE_SUM,
    }


def _merged(found: Overview) -> int:
    return sum(standing.state == State.MERGED.value for standing in found.sites.values())


def _shown(home: Home, path: Path) -> Shown:
    try:
        return Shown(path, receipts.read(path, home.public_key))
    except OnebasinError as error:
        return Shown(path, None, str(error))


def folder_of(request: Request) -> CampaignFolder:
    """Return the campaign that an address names.

    Raises:
        HTTPException: There is none of that name.

    """
    try:
        return desk_of(request).home.campaign(check_name(request.path_params["name"], "campaign"))
    except ConfigurationError as error:
        raise HTTPException(404, str(error)) from None


# --------------------------------------------------------------------- sites


def sites(request: Request) -> Response:
    """Show who takes part, and whose requests wait."""
    desk = desk_of(request)
    approved = [found.site for found in roster.approved(desk.home)]
    new = request.query_params.get("approved")
    return desk.page(
        request,
        "sites.html.j2",
        approved=list(roster.approved(desk.home)),
        revoked=roster.revoked(desk.home),
        waiting=list(roster.waiting(desk.home)),
        requests=roster.requests_of(desk.home),
        new=new if new in approved else None,
        later="later" in request.query_params,
    )


def welcome(request: Request) -> Response:
    """Hand out a site's welcome."""
    home, name = desk_of(request).home, request.path_params["name"]
    try:
        path = roster.folder_of(home, roster.find(home, name).site) / "welcome.json"
    except ConfigurationError as error:
        raise HTTPException(404, str(error)) from None
    return FileResponse(path, media_type="application/json", filename=f"welcome-{name}.json")


def ask_to_approve(request: Request) -> Response:
    """Ask for the fingerprint of a site whose request waits."""
    return approval(request, None)


def approval(request: Request, problem: OnebasinError | None) -> Response:
    """Show the form to approve a site, with what was wrong with it."""
    found = waiting_for(request)
    return desk_of(request).page(request, "approve.html.j2", 422 if problem else 200, found=found, problem=problem)


def waiting_for(request: Request) -> roster.Waiting:
    """Return the request that an address names.

    Raises:
        HTTPException: It does not wait, or is no request.

    """
    name = request.path_params["file"]
    found = next((one for one in roster.waiting(desk_of(request).home) if one.path.name == name), None)
    if found is None or found.request is None:
        raise HTTPException(404, "no such request waits")
    return found


# ----------------------------------------------------------------- audit log


@dataclass(frozen=True)
class Log:
    """A page of the audit log.

    Attributes:
        entries: Its lines, the newest first.
        total: How many lines could be read.
        verified: What checking all of it found; None if something is wrong.
        problem: What is wrong.
        receipts: How many receipts' lines were looked for in it.

    """

    entries: list[Entry]
    total: int
    verified: Verified | None
    problem: OnebasinError | None
    receipts: int


def audit_log(request: Request) -> Response:
    """Show a page of the audit log, and whether all of it is as it was written."""
    number = _number(request.query_params)
    log = _log(desk_of(request).home, number)
    return desk_of(request).page(
        request, "audit.html.j2", log=log, number=number, last=max(1, -(-log.total // LINES))
    )


def _log(home: Home, number: int) -> Log:
    newest: deque[Entry] = deque(maxlen=number * LINES)
    total, verified, problem, anchors = 0, None, None, []
    try:
        key = home.public_key
        for folder in home.campaigns():
            anchors += [receipts.read(path, key).audit for path in receipted.receipt_files(folder)]
        verified = audit.verify(home.audit.path, key, tuple(anchors))
    except OnebasinError as error:
        problem = error
    try:
        for entry in audit.entries(home.audit.path):
            newest.append(entry)
            total = entry.seq
    except OnebasinError as error:
        problem = problem or error
    lines = list(reversed(newest))[(number - 1) * LINES :]
    return Log(lines, total, verified, problem, len(anchors))


def _number(query: Mapping[str, str]) -> int:
    given = query.get("page", "1")
    return min(max(int(given), 1), _FARTHEST) if given.isascii() and given.isdigit() and len(given) < 10 else 1
