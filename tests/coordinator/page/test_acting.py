"""What the page does: the same as the commands, after confirming, and in the audit log."""

from __future__ import annotations

import threading

import pytest

from client.site import Site
from coordinator import roster, superlink, watching
from coordinator.page.jobs import Jobs
from coordinator.receipted import last_receipt
from protos import audit, files
from protos.errors import ConfigurationError, FederationError


@pytest.fixture
def waiting(world, tmp_path):
    """A site whose request waits."""
    site = Site.init(tmp_path / "north", "north", domain="night")
    folder = files.make_folder(roster.requests_of(world.home))
    (folder / "from north.json").write_bytes(site.request_path.read_bytes())
    return site


@pytest.fixture
def flower(monkeypatch):
    """Replace Flower's programs; returns what they were asked."""
    asked = []
    monkeypatch.setattr(superlink, "is_running", lambda home: True)
    monkeypatch.setattr(superlink, "register", lambda home, request: asked.append(("register", request.site)))
    monkeypatch.setattr(superlink, "unregister", lambda home, site: asked.append(("unregister", site)))
    return asked


def lines(home, event: str) -> list[dict]:
    return [entry.fields for entry in audit.entries(home.audit.path) if entry.event == event]


REQUEST = "/requests/from%20north.json"


def test_a_site_is_approved_by_the_fingerprint_that_was_typed(world, visit, waiting, flower):
    visitor = visit(world.home)
    page = visitor.get("/sites")
    assert REQUEST in {a.get("href") for a in page.all("a")}
    said = waiting.request().fingerprint
    for shown in (page, visitor.get(REQUEST)):
        assert said not in shown.text  # or somebody would copy it from there
    answer = visitor.post(REQUEST, {"fingerprint": said.lower().replace("-", " ")})
    assert (answer.status_code, answer.headers["Location"]) == (303, "/sites?approved=north")
    assert roster.find(world.home, "north") == waiting.request()
    assert lines(world.home, "approved") == [{"site": "north", "fingerprint": said}]
    assert flower == [("register", "north")]
    shown = visitor.get(answer.headers["Location"])
    assert "Approved north." in shown.text
    assert "None. Put a site's request.json" in shown.text


def test_a_wrong_fingerprint_approves_nobody(world, visit, waiting):
    visitor = visit(world.home)
    for said in ("", "AAAA-AAAA-AAAA-AAAA-AAAA", "<script>"):
        answer = visitor.post(REQUEST, {"fingerprint": said})
        assert answer.status_code == 422
        assert "somebody exchanged the file on its way" in answer.text
    assert lines(world.home, "approved") == []
    with pytest.raises(ConfigurationError):
        roster.find(world.home, "north")


def test_new_keys_take_the_old_ones_place_only_if_that_is_meant(world, visit, waiting, flower, tmp_path):
    twin = Site.init(tmp_path / "twin", "north", domain="night")
    roster.approve(world.home, twin.request_path, twin.request().fingerprint)
    visitor, form = visit(world.home), {"fingerprint": waiting.request().fingerprint}
    assert "new keys" in visitor.get("/sites").text
    assert twin.request().fingerprint in visitor.get(REQUEST).text
    answer = visitor.post(REQUEST, form)
    assert answer.status_code == 422
    assert "there is a site north already" in answer.text
    assert visitor.post(REQUEST, {**form, "renew": "yes"}).status_code == 303
    assert roster.find(world.home, "north") == waiting.request()
    assert flower == [("unregister", "north"), ("register", "north")]


def test_without_a_superlink_it_is_said_that_the_site_is_let_in_later(world, visit, waiting):
    visitor = visit(world.home)
    answer = visitor.post(REQUEST, {"fingerprint": waiting.request().fingerprint})
    assert "let in when the SuperLink starts" in visitor.get(answer.headers["Location"]).text


def test_only_what_waits_can_be_approved(world, visit, waiting):
    visitor = visit(world.home)
    (roster.requests_of(world.home) / "junk.json").write_text("{}")
    for path in ("/requests/none.json", "/requests/junk.json", "/requests/..%2fcoordinator.toml"):
        visitor.get(path, 404)
        assert visitor.post(path, {"fingerprint": waiting.request().fingerprint}).status_code == 404


def test_a_campaign_is_cancelled_after_asking(world, visit, monkeypatch):
    def cancel(folder, on_event):
        folder.cancel()
        folder.log().note("cancelled")
        on_event({"event": "stopped", "site": "fog", "step": 3, "steps": 9})
        on_event({"event": "not-stopped", "site": "night", "message": "<script>alert(1)</script>"})

    monkeypatch.setattr(watching, "cancel", cancel)
    visitor = visit(world.home)
    assert "Cancel one?" in visitor.get("/campaigns/one/cancel").text
    assert world.folder.course().cancelled is None
    answer = visitor.post("/campaigns/one/cancel")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/campaigns/one")
    assert visitor.job().state == "done"
    page = visitor.get("/campaigns/one")
    assert "fog: stopped at step 3 of 9; its checkpoint is kept" in page.text
    assert "campaign one is cancelled" in page.text
    assert "<script>alert(1)</script>" in page.text  # as words
    assert len(page.all("script")) == 2
    assert lines(world.home, "cancelled") == [{"campaign": "one"}]


def test_what_goes_wrong_is_shown_with_what_to_do(world, visit, monkeypatch):
    def fails(folder):
        raise FederationError("flwr run failed", "is the SuperLink running?")

    monkeypatch.setattr(superlink, "submit", fails)
    visitor = visit(world.home)
    visitor.post("/campaigns/one/cancel")
    assert visitor.job().state == "failed"
    page = visitor.get("/campaigns/one")
    assert "flwr run failed → is the SuperLink running?" in page.text
    assert " cancelled " in page.text  # it is, only nobody was told


def test_the_server_answers_while_something_takes_long_and_does_no_two_things_at_once(world, visit, monkeypatch):
    go_on = threading.Event()
    monkeypatch.setattr(watching, "cancel", lambda folder, on_event: go_on.wait(20))
    visitor = visit(world.home)
    try:
        visitor.post("/campaigns/one/cancel")
        assert "under way cancelling" in visitor.get("/campaigns/one").text
        answer = visitor.post("/campaigns/one/cancel")
        assert answer.status_code == 422
        assert "cancelling is under way" in answer.text
        assert visitor.post("/campaigns/one/verify").status_code == 409
    finally:
        go_on.set()
    assert visitor.job().state == "done"


def test_an_update_is_withdrawn_as_by_the_command(merged, visit):
    presented = files.make_folder(merged.folder.path / "presented")
    merged.outbox("fog").export(presented / "fog.safetensors")
    before, visitor = last_receipt(merged.folder), visit(merged.home)
    page = visitor.get("/campaigns/one/withdraw/fog")
    assert "fog.safetensors" in page.text
    answer = visitor.post("/campaigns/one/withdraw/fog", {"update": "fog.safetensors", "confirm": "fog"})
    assert answer.status_code == 303
    assert visitor.job().result == "withdrew site fog; merged now: clear, night"
    after = last_receipt(merged.folder)
    assert after.supersedes == before.digest
    assert [line["site"] for line in lines(merged.home, "withdrawn")] == ["fog"]
    page = visitor.get("/campaigns/one")
    assert "Withdrawn fog" in page.text
    assert "/campaigns/one/withdraw/fog" not in {a.get("href") for a in page.all("a")}
    shown = visitor.get("/campaigns/one/receipts")
    assert before.digest in shown.text
    assert "fog withdrawn" in shown.text
    path = f"/campaigns/one/receipts/{before.digest[:12]}.json"
    assert visitor.client.get(path).status_code == 200


def test_nothing_is_withdrawn_unless_the_name_is_typed(merged, visit):
    before, visitor = last_receipt(merged.folder), visit(merged.home)
    for typed in ("", "night", "FOG", "<script>"):
        answer = visitor.post("/campaigns/one/withdraw/fog", {"confirm": typed})
        assert answer.status_code == 422
        assert "is not the site&#39;s name" in answer.text
    assert visitor.desk.jobs.of("one") == []
    assert last_receipt(merged.folder) == before


def test_an_update_that_is_not_kept_or_not_there_is_named(merged, visit):
    visitor = visit(merged.home)
    visitor.post("/campaigns/one/withdraw/fog", {"confirm": "fog"})
    assert "is not here any more" in visitor.job().problem
    form = {"confirm": "fog", "update": "../../keys/signing.pem"}
    assert visitor.post("/campaigns/one/withdraw/fog", form).status_code == 422
    visitor.get("/campaigns/one/withdraw/rain", 404)
    assert visitor.post("/campaigns/one/withdraw/rain", {"confirm": "rain"}).status_code == 404


def test_too_few_sites_are_enough_only_if_that_is_meant(merged, visit):
    presented = files.make_folder(merged.folder.path / "presented")
    visitor = visit(merged.home)
    for site, force in (("fog", ""), ("night", ""), ("night", "yes")):
        merged.outbox(site).export(presented / f"{site}-{force}.safetensors")
        form = {"confirm": site, "update": f"{site}-{force}.safetensors", "force": force}
        assert visitor.post(f"/campaigns/one/withdraw/{site}", form).status_code == 303
        job = visitor.job()
        assert job.state == ("failed" if (site, force) == ("night", "") else "done"), job
    assert [entry.site for entry in last_receipt(merged.folder).inputs] == ["clear"]


def test_a_merged_model_is_verified(merged, visit):
    visitor = visit(merged.home)
    assert visitor.post("/campaigns/one/verify").status_code == 303
    job = visitor.job()
    assert (job.state, job.result) == ("done", "the merged model is the receipt's")
    assert sum(line.startswith("✓") for line in job.lines) >= 6
    assert "✗" not in " ".join(job.lines)
    model = merged.folder.merged / "merged.safetensors"
    content = bytearray(model.read_bytes())
    content[-1] ^= 1
    model.write_bytes(content)
    visitor.post("/campaigns/one/verify")
    assert visitor.job().state == "failed"
    assert "don't use the model before it is clear why" in visitor.get("/campaigns/one").text


def test_a_job_that_breaks_is_said_and_nothing_else_stops(capsys):
    def breaks(say):
        raise RuntimeError("a secret")

    jobs, ended = Jobs(), threading.Event()
    job = jobs.start("one", "breaking", breaks)
    for _ in range(200):
        if job.ended:
            break
        ended.wait(0.02)
    assert (job.state, job.problem) == ("failed", "unexpected: RuntimeError")
    assert "a secret" in capsys.readouterr().err
    jobs.start("one", "another", lambda say: "well")
