"""The page in a real browser: by keyboard, live, on a phone, and without a complaint of the browser's."""

from __future__ import annotations

import threading

import pytest
from browser import browser, program

from coordinator import superlink, watching
from coordinator.members import Member, State
from coordinator.page.serving import Place, Server

pytestmark = pytest.mark.skipif(
    program() is None, reason="Chromium is not on this machine: the page was not tried in a browser"
)
PAGES = ("", "campaigns/one", "campaigns/one/cancel", "sites", "audit", "nowhere")


@pytest.fixture
def serve(monkeypatch):
    """Return a function that brings a coordinator's page up; Flower's programs are replaced."""

    def ends(folder, *_):
        folder.end(ok=False, exit_code=18, what="over", fix="")
        return folder.outcome()

    monkeypatch.setattr(superlink, "submit", lambda folder: "run-1")
    monkeypatch.setattr(watching, "_wait", ends)
    up = []

    def begin(home) -> Server:
        found = Server(home, Place(port=0))
        thread = threading.Thread(target=found.run)
        thread.start()
        up.append((found, thread))
        return found

    yield begin
    for found, thread in up:
        found.stop()
        thread.join(20)


@pytest.fixture
def server(world, serve):
    return serve(world.home)


def enter(tab, server, token: str = "") -> None:
    """Type the token, or something else, where the login has the focus."""
    tab.wait(
        lambda: tab.run("document.readyState == 'complete' && document.activeElement.id == 'token'"), "for focus"
    )
    tab.type(token or server.token_file.read_text().strip())
    tab.press("Enter")


def log_in(tab, server) -> None:
    tab.open(server.address)
    enter(tab, server)
    tab.see("Campaigns")


def test_an_operator_watches_and_cancels_a_campaign(world, server, adapting):
    folder = world.folder
    folder.begin()
    adapting(folder, "fog", 50)
    with browser() as tab:
        tab.size(1180, 800)
        tab.open(server.address)
        enter(tab, server, "not the token at all")
        tab.see("that is not the token")
        assert [said for said in tab.complaints if "403" not in said] == []
        tab.complaints.clear()
        enter(tab, server)
        tab.see("Campaigns")
        assert tab.run("document.cookie") == ""  # scripts don't see it

        tab.press("Tab")
        assert tab.run("document.activeElement.className") == "skip"
        assert tab.run("document.activeElement.getBoundingClientRect().top") >= 0  # it shows itself
        tab.tab_to("one")
        assert tab.run("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        tab.press("Enter")
        tab.see("50 of 200")

        bar = "document.querySelector('progress[aria-label=\"adaptation at fog\"]').value"
        tab.tab_to("to-cancel")
        adapting(folder, "fog", 120)
        tab.see("120 of 200")
        assert tab.run(bar) == 120
        assert tab.run("document.activeElement.id") == "to-cancel"  # nobody who types is thrown out of their place
        folder.log().place(Member("clear", 0.0, State.MERGED))
        tab.wait(lambda: "1 of 3 sites merged" in tab.run("document.getElementById('said').innerText"))

        tab.press("Enter")
        tab.see("Cancel one?")
        assert folder.course().cancelled is None
        tab.tab_to("Cancel the campaign")
        tab.press("Space")
        tab.see("campaign one is cancelled")
        assert folder.course().cancelled is not None
        assert tab.complaints == []


def test_every_page_fits_a_phone_and_breaks_no_policy(world, server, adapting):
    world.folder.begin()
    adapting(world.folder, "fog", 50, phase="<img src=x onerror=console.error(1)>" * 20)
    world.folder.log().place(Member("night", 0.0, State.REFUSED, reason="x" * 2000))
    world.home.audit.note("noted", **{"y" * 300: "z" * 3000})
    with browser() as tab:
        tab.size(375, 720, phone=True)
        log_in(tab, server)
        for dark in (False, True):
            tab.size(375, 720, dark=dark, phone=True)
            for page in PAGES:
                tab.open(server.address + page)
                assert tab.run("document.documentElement.scrollWidth") <= 375, page
                assert tab.run("getComputedStyle(document.body).fontFamily").startswith("system-ui"), page
        assert [said for said in tab.complaints if not ("404" in said and "/nowhere" in said)] == []
        tab.size(1180, 800)
        for page in PAGES:
            tab.open(server.address + page)
            assert tab.run("document.documentElement.scrollWidth") <= 1180, page


def test_who_is_logged_out_and_what_is_gone_are_noticed_by_themselves(world, server):
    with browser() as tab:
        log_in(tab, server)
        tab.do("Network.clearBrowserCookies")
        tab.see("Token")  # the list asks every two seconds, and is sent to the login
        enter(tab, server)
        tab.see("Campaigns")
        assert tab.run("document.getElementById('lost').checkVisibility()") is False
        server.stop()
        tab.see("does not answer")
        assert tab.run("document.getElementById('lost').checkVisibility()") is True


def test_a_script_that_got_into_a_page_would_not_run(world, server):
    with browser() as tab:
        tab.open(server.address)
        tab.run("document.body.appendChild(document.createElement('script')).textContent = 'window.ran = true'")
        tab.run("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.ran = true\">')")
        tab.wait(lambda: len(tab.complaints) >= 2)
        assert tab.run("window.ran") is None
        assert all("Content Security Policy" in said for said in tab.complaints[:2])


def test_the_report_is_shown_without_running_anything(merged, serve):
    (merged.folder.merged / "report.html").write_text(
        "<style>p { color: rgb(1, 2, 3) }</style><p id='p'>a report</p>"
        "<script>document.getElementById('p').innerText = 'it ran'</script>"
    )
    server = serve(merged.home)
    with browser() as tab:
        log_in(tab, server)
        tab.open(f"{server.address}campaigns/one/report")
        tab.see("a report")
        assert tab.run("getComputedStyle(document.getElementById('p')).color") == "rgb(1, 2, 3)"
        assert tab.run("window.origin") == "null"
