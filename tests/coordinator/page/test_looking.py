"""What the pages show, for campaigns in every state and whatever comes from outside."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import time

import pytest

from client.site import Site
from coordinator import roster
from coordinator.home import Home
from coordinator.members import Member, State
from coordinator.page import words
from coordinator.page.desk import FOLDER, HTMX_INTEGRITY
from coordinator.page.guard import REPORT_POLICY
from coordinator.receipted import last_receipt
from protos import files

from .conftest import STATES

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "{{ 7 * 7 }} ${x} &lt;",
    "\u202egnp.exe\x00\x1b[31m\n\r\u2028",
    "x" * 100_000,
    "ä😀" * 500,
]


@pytest.fixture
def empty(tmp_path):
    return Home.init(tmp_path / "empty", hosts=("localhost",), control_port=9093, fleet_address="127.0.0.1:9092")


def harmless(page) -> None:
    """Make sure that nothing in a page is anything but what its templates have."""
    assert {attributes.get("src") for attributes in page.all("script")} == {
        "/static/htmx.min.js",
        "/static/page.js",
    }
    assert all(attributes["src"] == "/static/icon.svg" for attributes in page.all("img"))
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on") or name == "style"], tag
        for name in ("href", "action", "hx-get"):
            assert re.match(r"/(?!/)|#", attributes.get(name) or "/"), attributes
    assert not page.all("style")
    assert not re.search("[\x00-\x08\x0b-\x1f\u202e\u2028]", page.text)


def test_an_empty_coordinator_says_what_to_do_next(empty, visit):
    visitor = visit(empty)
    assert "onebasin coordinator create empty NAME" in visitor.get("/").text
    sites = visitor.get("/sites")
    assert "onebasin site init" in sites.text
    assert str(empty.folder / "requests") in sites.text
    log = visitor.get("/audit")
    assert "1 line, all as they were written" in log.text
    for page in (sites, log):
        harmless(page)


@pytest.mark.parametrize("state", STATES)
def test_a_campaign_is_shown_in_every_state(world, visit, bring, state):
    bring(world.folder, state)
    visitor = visit(world.home)
    listed, page = visitor.get("/"), visitor.get("/campaigns/one")
    for shown in (listed, page):
        assert f" {state} " in f" {shown.text} "
        harmless(shown)
    assert "0 of 3" in listed.text
    assert world.folder.key in page.text
    assert all(site in page.text for site in world.sites)
    assert ("/campaigns/one/cancel" in {a.get("href") for a in page.all("a")}) == (state != "merged")
    wanted = {
        "new": "coordinator run",
        "stopped": "coordinator run",
        "failed": "too few sites delivered → mend them",
    }
    assert {**wanted, "cancelled": "--reopen"}.get(state, "") in page.text


def test_a_member_is_shown_in_every_state(world, visit):
    visitor = visit(world.home)
    for state in State:
        world.folder.log().place(Member("fog", 0.0, state, reason="a reason" if not state.owner else ""))
        page = visitor.get("/campaigns/one")
        assert f" fog {state.value} " in page.text
        assert (f"the {state.owner}'s turn" if state.owner else "a reason") in page.text


def test_progress_is_a_bar_with_its_numbers_and_the_time_that_is_left(world, visit, adapting):
    adapting(world.folder, "fog", 50)
    page = visit(world.home).get("/campaigns/one")
    bar = next(bar for bar in page.all("progress") if bar.get("aria-label") == "adaptation at fog")
    assert (bar["value"], bar["max"]) == ("50", "200")
    assert "50 of 200 adapting, 1 min 15 s left" in page.text
    assert "adapting (adapting), step 50 of 200" in page.text


def test_numbers_that_make_no_sense_break_no_bar(world, visit, adapting):
    visitor = visit(world.home)
    for step, steps in ((0, 0), (-4, 10), (10**12, 10), (3, 10)):
        adapting(world.folder, "fog", step, steps, eta=0.0)
        for bar in visitor.get("/campaigns/one").all("progress"):
            assert 0 <= int(bar["value"]) <= int(bar["max"])


def test_what_has_not_changed_is_not_sent_again(world, visit, adapting, monkeypatch):
    now = time.time()
    monkeypatch.setattr(words.time, "time", lambda: now)  # or "5 s ago" becomes "6 s ago"
    visitor = visit(world.home)
    world.folder.begin()
    adapting(world.folder, "fog", 50)

    def live(path: str) -> str:
        found = next(a for _, a in visitor.get(path).elements if a.get("id") == "live")
        assert found["hx-trigger"] == "every 2s"
        return found["hx-get"]

    for path in ("/campaigns/one", "/"):
        assert visitor.client.get(live(path)).status_code == 204
    url = live("/campaigns/one")
    adapting(world.folder, "fog", 60)
    answer = visitor.client.get(url)
    assert (answer.status_code, "60 of 200" in answer.text, 'id="said"' in answer.text) == (200, True, False)
    world.folder.log().place(Member("fog", 0.0, State.MERGED))
    assert '<p id="said" hx-swap-oob="innerHTML">' in visitor.client.get(url).text  # read aloud, as it changed


def test_a_merged_campaign_has_a_report_and_receipts(merged, visit):
    visitor = visit(merged.home)
    page = visitor.get("/campaigns/one")
    receipt = last_receipt(merged.folder)
    assert {receipt.digest, receipt.merged.digest} <= set(page.text.split())
    assert "3 of 3" in page.text
    found = visitor.get("/campaigns/one/receipts")
    harmless(found)
    for entry in receipt.inputs:
        assert f"{entry.site} merged {entry.digest}" in found.text
    assert receipt.merged.sha256 in found.text
    answer = visitor.client.get("/campaigns/one/receipts/receipt.json")
    assert answer.content == (merged.folder.merged / "receipt.json").read_bytes()
    assert answer.headers["Content-Disposition"] == 'attachment; filename="one-receipt.json"'
    for name in ("none.json", "..%2f..%2fcampaign.binpb", "report.html"):
        visitor.get(f"/campaigns/one/receipts/{name}", 404)


def test_the_report_is_shown_as_if_it_came_from_nowhere(merged, visit):
    answer = visit(merged.home).client.get("/campaigns/one/report")
    assert (answer.status_code, answer.headers["Content-Security-Policy"]) == (200, REPORT_POLICY)
    assert answer.headers["X-Frame-Options"] == "DENY"
    assert "a report" in answer.text


def test_a_receipt_that_was_changed_is_shown_as_that(merged, visit):
    path = merged.folder.merged / "receipt.json"
    found = json.loads(path.read_text())
    found["payload"] = base64.b64encode(b'{"site": "<script>"}').decode()
    path.write_text(json.dumps(found))
    visitor = visit(merged.home)
    for address in ("/campaigns/one", "/campaigns/one/receipts", "/audit"):
        page = visitor.get(address)
        harmless(page)
        assert "not signed with the key" in page.text
    assert "Withdraw" not in visitor.get("/campaigns/one").text


def test_the_audit_log_is_paged_and_verified_with_the_receipts(merged, visit):
    for number in range(120):
        merged.home.audit.note("noted", number=number)
    visitor = visit(merged.home)
    page = visitor.get("/audit")
    harmless(page)
    assert "all as they were written" in page.text
    assert "the line that 1 receipt names is in it" in page.text
    numbers = [int(n) for n in re.findall(r"number (\d+)", page.text)]
    assert numbers == list(range(119, 69, -1))
    numbers = [int(n) for n in re.findall(r"number (\d+)", visitor.get("/audit?page=2").text)]
    assert numbers == list(range(69, 19, -1))
    for odd in ("0", "-1", "x", "99999999", "9" * 30, "²"):
        visitor.get(f"/audit?page={odd}")


def test_an_audit_log_that_was_edited_says_which_line(world, visit):
    log = world.home.audit.path
    log.write_bytes(log.read_bytes().replace(b'"event":"made"', b'"event":"mode"'))
    page = visit(world.home).get("/audit")
    assert "line 1 of" in page.text
    assert "was edited" in page.text
    assert "all as they were written" not in page.text


def test_sites_and_their_welcomes_are_there(world, visit, tmp_path):
    site = Site.init(tmp_path / "north", "north", domain="night")
    roster.approve(world.home, site.request_path, site.request().fingerprint)
    visitor = visit(world.home)
    assert site.request().fingerprint in visitor.get("/sites").text
    answer = visitor.client.get("/sites/north/welcome.json")
    assert answer.content == (world.home.folder / "sites" / "north" / "welcome.json").read_bytes()
    roster.revoke(world.home, "north")
    assert "Revoked: north" in visitor.get("/sites").text
    for name in ("north", "none", "..", "A%20B"):
        assert visitor.client.get(f"/sites/{name}/welcome.json").status_code == 404


@pytest.mark.parametrize("words_", HOSTILE, ids=range(len(HOSTILE)))
def test_words_from_outside_stay_words(world, visit, adapting, words_):
    adapting(world.folder, "fog", 3, phase=words_)
    world.folder.log().place(Member("night", 0.0, State.REFUSED, reason=f"site night sent tensor {words_}"))
    world.folder.log().note("refused", "night", message=words_)
    world.folder.log().note(words_, "clear", message=words_)
    world.folder.end(ok=False, exit_code=6, what=words_, fix=words_)
    world.home.audit.note(words_[:5000], **{words_[:50]: words_[:5000]})
    visitor = visit(world.home)
    for path in ("/", "/campaigns/one", "/audit", "/sites"):
        page = visitor.get(path)
        harmless(page)
        assert len(page.text) < 60_000


def test_what_is_no_text_breaks_no_page(world, visit, adapting, tmp_path):
    adapting(world.folder, "fog", 3, phase="\ud800 half a letter")
    world.home.audit.note("noted", said="\udfff", **{"\ud800": "x"})
    folder = files.make_folder(roster.requests_of(world.home))
    site = Site.init(tmp_path / "north", "north", domain="night")
    (folder / os.fsdecode(b"\xff.json")).write_bytes(site.request_path.read_bytes())
    visitor = visit(world.home)
    for path in ("/", "/campaigns/one", "/audit", "/sites"):
        harmless(visitor.get(path))


@pytest.mark.parametrize(
    "name", ["<script>alert(1)<⁄script>", '" onclick="alert(1)', "'\\\n\u202e", "%2e%2e%2f", "x" * 240]
)
def test_requests_with_any_name_and_content_are_shown_harmlessly(world, visit, name):
    folder = files.make_folder(roster.requests_of(world.home))
    (folder / f"{name}.json").write_text("<script>alert(1)</script>")
    visitor = visit(world.home)
    page = visitor.get("/sites")
    harmless(page)
    assert "not a request" in page.text
    assert "wait" not in visitor.get("/").text  # it is none


def test_what_is_not_there_is_said_with_what_to_do(world, visit):
    visitor = visit(world.home)
    for path in ("/campaigns/two", "/campaigns/%2e%2e%2f", "/campaigns/%3Cscript%3E", "/campaigns/two/live", "/x"):
        page = visitor.get(path, 404)
        harmless(page)
        assert "Something is wrong" in page.text


def test_a_damaged_journal_is_said_and_one_damaged_campaign_hides_no_other(world, visit):
    (world.home.folder / "campaigns" / "broken").mkdir()
    (world.home.folder / "campaigns" / "broken" / "campaign.binpb").write_bytes(b"\xff\xff")
    visitor = visit(world.home)
    page = visitor.get("/")
    assert "damaged" in page.text
    assert "one" in {a.get("href", "").rpartition("/")[2] for a in page.all("a")}
    other = Home.open(world.home.folder)
    for suffix in ("", "-wal", "-shm"):
        (world.home.folder / f"journal.db{suffix}").unlink(missing_ok=True)
    (world.home.folder / "journal.db").write_bytes(b"no database" * 1000)
    page = visit(other).get("/campaigns/one", 500)
    assert "is damaged" in page.text
    assert "restore it from a copy" in page.text


def test_the_library_is_the_one_whose_digest_the_page_names(world, visit):
    content = (FOLDER / "static" / "htmx.min.js").read_bytes()
    digest = base64.b64encode(hashlib.sha384(content).digest()).decode()
    assert f"sha384-{digest}" == HTMX_INTEGRITY
    assert b'version:"2.0.11"' in content
    assert "Zero-Clause BSD" in (FOLDER / "static" / "htmx.LICENSE").read_text()
    visitor = visit(world.home)
    script = next(a for a in visitor.get("/").all("script") if "htmx" in a["src"])
    assert script["integrity"] == HTMX_INTEGRITY
    assert visitor.client.get(script["src"]).content == content
    (told,) = (a["content"] for a in visitor.get("/").all("meta") if a.get("name") == "htmx-config")
    told = json.loads(told)
    assert not (told["allowEval"] or told["allowScriptTags"] or told["includeIndicatorStyles"])


def test_nothing_is_loaded_from_elsewhere():
    for path in [*(FOLDER / "templates").iterdir(), *(FOLDER / "static").glob("page.*")]:
        assert not re.search(r"https?:|//[a-z]|@import|url\(", path.read_text().replace("// Says", "")), path.name
        assert not re.search(r"\sstyle=|<style|\son[a-z]+=|javascript:", path.read_text()), path.name


def test_times_are_put_into_words():
    assert words.relative(1000.0, 1000.4) == "now"
    assert words.relative(1000.0, 1300.0) == "5 minutes ago"
    assert words.relative(10_000.0, 1000.0) == "in 2 hours"
    for odd in (None, float("nan"), float("inf"), 1e300):
        assert (words.iso(odd), words.moment(odd), words.relative(odd)) == ("", "–", "")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d", words.iso(1.0))
    assert re.fullmatch(r"UTC[+-]\d\d:\d\d", words.zone())
