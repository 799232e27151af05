"""Who gets an answer, and what every answer carries."""

from __future__ import annotations

import re

import pytest

from coordinator.page.access import LIFETIME, Guesses, Sessions
from coordinator.page.guard import FORM_TOKEN, HEADERS, POLICY, REPORT_POLICY
from coordinator.report.html import POLICY as IN_REPORT

EVERYWHERE = (
    "/",
    "/live",
    "/login",
    "/nowhere",
    "/sites",
    "/audit",
    "/static/page.css",
    "/static/none",
    "/campaigns/two",
)


@pytest.fixture
def someone(world, stranger):
    return stranger(world.home)


@pytest.fixture
def visitor(world, visit):
    return visit(world.home)


@pytest.mark.parametrize("path", EVERYWHERE)
def test_every_answer_carries_the_policy_and_all_other_headers(visitor, path):
    for answer in (
        visitor.client.get(path),
        visitor.client.head(path),
        visitor.client.post(path),
        visitor.client.put(path),
    ):
        for name, value in HEADERS.items():
            assert answer.headers[name] == value, (path, answer.request.method, name)


def test_an_answer_to_a_failure_carries_them_too_and_tells_no_secrets(visitor, monkeypatch):
    def fails(*_):
        raise RuntimeError("the secret")

    monkeypatch.setattr("coordinator.page.looking.overview", fails)
    answer = visitor.client.get("/campaigns/one")
    assert answer.status_code == 500
    assert "unexpected: RuntimeError" in answer.text
    assert "the secret" not in answer.text
    assert answer.headers["Content-Security-Policy"] == POLICY


def test_the_policy_lets_nothing_in_the_page_run():
    for policy in (POLICY, REPORT_POLICY):
        found = {part.split()[0]: part.split()[1:] for part in policy.split("; ")}
        assert found["default-src"] == found["frame-ancestors"] == found["base-uri"] == ["'none'"]
        assert "unsafe-eval" not in policy
    assert "unsafe" not in POLICY
    assert "script-src" not in REPORT_POLICY
    assert REPORT_POLICY.startswith("sandbox;")
    assert set(IN_REPORT.split("; ")) <= set(REPORT_POLICY.split("; "))  # no looser than what the report asks for


@pytest.mark.parametrize("path", [path for path in EVERYWHERE if path not in ("/login",) and "static" not in path])
def test_without_a_session_there_is_only_the_login(someone, path):
    answer = someone.client.get(path)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/login")
    answer = someone.client.get(path, headers={"HX-Request": "true"})
    assert (answer.status_code, answer.headers["HX-Redirect"], answer.text) == (401, "/login", "")


def test_a_form_without_a_session_does_nothing(someone, world):
    answer = someone.client.post("/campaigns/one/cancel", data={"any": "thing"})
    assert (answer.status_code, answer.headers["Location"]) == (303, "/login")
    assert world.folder.course().cancelled is None


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8643",
        "127.0.0.1.evil.example",
        "",
        "localhost@evil.example",
        "localhost:1:2",
        "[::1",
        "a b",
    ],
)
def test_a_name_that_is_not_ours_gets_no_answer(visitor, host):
    for path in ("/", "/login", "/static/page.css"):
        assert visitor.client.get(path, headers={"Host": host}).status_code == 421


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:9999", "LOCALHOST", "page.example", "page.example.:80"])
def test_our_names_get_one_whatever_the_port(someone, host):
    assert someone.client.get("/login", headers={"Host": host}).status_code == 200


def test_the_token_opens_the_page_under_a_new_number(someone):
    someone.get("/login")
    before = dict(someone.client.cookies)
    answer = someone.log_in()
    assert (answer.status_code, answer.headers["Location"]) == (303, "/")
    assert dict(someone.client.cookies) != before
    assert "Campaigns" in someone.get("/").text
    assert someone.client.get("/login").headers["Location"] == "/"


def test_the_cookie_is_kept_from_scripts_and_other_sites(someone):
    for answer in (someone.client.get("/login"), someone.log_in()):
        found = answer.headers["Set-Cookie"]
        assert found.startswith("onebasin-8643=")
        assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(found.split("; "))
        assert "Domain" not in found


def test_over_tls_the_cookie_is_bound_to_tls_and_to_this_host(someone):
    answer = someone.client.get("https://127.0.0.1:8643/login")
    assert answer.headers["Set-Cookie"].startswith("__Host-onebasin-8643=")
    assert "Secure" in answer.headers["Set-Cookie"].split("; ")


@pytest.mark.parametrize("token", ["", "wrong", "a-token-that-only-these-tests-hav", "ä" * 40, "x" * 20_000])
def test_a_wrong_token_does_not(someone, token):
    answer = someone.log_in(token)
    assert answer.status_code == 403
    assert "that is not the token" in answer.text
    assert someone.client.get("/").status_code == 303


def test_after_five_wrong_tokens_none_is_looked_at_for_a_while(world, stranger):
    now = [100.0]
    someone = stranger(world.home, guesses=Guesses(lambda: now[0]))
    for _ in range(5):
        assert someone.log_in("wrong").status_code == 403
        now[0] += 1
    answer = someone.log_in()
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "55")
    now[0] += 54
    assert someone.log_in().status_code == 429
    now[0] += 1
    assert someone.log_in().status_code == 303


def test_a_session_ends_by_itself_and_by_logging_out(world, stranger):
    now = [0.0]
    someone = stranger(world.home, sessions=Sessions(lambda: now[0]))
    someone.log_in()
    now[0] = LIFETIME - 1
    someone.get("/")
    now[0] = LIFETIME
    assert someone.client.get("/").status_code == 303
    someone.log_in()
    kept = dict(someone.client.cookies)
    assert someone.post("/logout").headers["Location"] == "/login"
    assert someone.client.get("/", cookies=kept).status_code == 303


def test_only_so_many_sessions_are_kept():
    sessions = Sessions()
    visitors = [sessions.begin() for _ in range(101)]
    assert [sessions.known(visitor) for visitor in visitors[:2]] == [False, True]
    assert sessions.known(visitors[-1])


@pytest.mark.parametrize("token", [None, "", "0" * 64])
@pytest.mark.parametrize(
    "path", ["/campaigns/one/cancel", "/campaigns/one/verify", "/logout", "/campaigns/one/withdraw/fog"]
)
def test_a_form_needs_its_token(visitor, world, path, token):
    form = {"any": "thing"} if token is None else {FORM_TOKEN: token}
    assert visitor.client.post(path, data=form).status_code == 403
    assert world.folder.course().cancelled is None
    visitor.get("/")  # nobody was logged out


def test_another_visitors_token_is_no_good(world, visitor, stranger):
    page = stranger(world.home).client.get("/login").text
    theirs = re.search(rf'name="{FORM_TOKEN}" value="([0-9a-f]+)"', page)[1]
    assert visitor.client.post("/logout", data={FORM_TOKEN: theirs}).status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:9000"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_a_form_that_says_it_is_from_elsewhere_is_refused_with_a_good_token_too(visitor, headers):
    assert visitor.post("/logout", headers=headers).status_code == 403
    visitor.get("/")


def test_a_form_from_here_may_say_so(visitor):
    headers = {"Origin": "http://127.0.0.1:8643", "Sec-Fetch-Site": "same-origin"}
    assert visitor.post("/logout", headers=headers).status_code == 303


def test_what_is_no_plain_form_is_refused(visitor):
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    for status, headers, body in (
        (415, {"Content-Type": "application/json"}, b"{}"),
        (415, {"Content-Type": "multipart/form-data; boundary=x"}, b"--x--"),
        (415, {}, b""),
        (413, form, b"a=" + b"x" * 70_000),
        (400, form, b"a=%ff"),
        (400, form, b"\xff=1"),
        (400, form, b"&".join(b"a%d=1" % i for i in range(30))),
        (400, form, b"form_token=1&form_token=2"),
    ):
        assert visitor.client.post("/logout", content=body, headers=headers).status_code == status
    for method in ("PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"):
        assert visitor.client.request(method, "/").status_code == 405


def test_forms_are_not_sent_by_get(visitor):
    for path in ("/logout", "/campaigns/one/verify"):
        assert visitor.client.get(path).status_code == 405


@pytest.mark.parametrize(
    "path", ["/static/../guard.py", "/static/%2e%2e/guard.py", "/static//etc/passwd", "/static/"]
)
def test_only_what_is_meant_to_be_served_is(visitor, path):
    assert visitor.client.get(path).status_code == 404
