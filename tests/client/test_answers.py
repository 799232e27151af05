"""One request in, one reply out, and a refusal with a number where there is no answer."""

from __future__ import annotations

import json

import pytest

from client import adapting, answers, judge
from client.answers import PARAMETERS, answer
from client.settings import Resources
from client.site import Site
from protos import messages_pb2 as pb
from protos import signing
from protos.errors import (
    AdaptationError,
    BaseMismatchError,
    ConfigurationError,
    DataError,
    MergeRangeError,
    ModelFileError,
    OnebasinError,
    StorageError,
    UpdateRefusedError,
)

NONCE = bytes(range(16))


def none(name: str) -> bytes:
    raise AssertionError(f"nobody asked for {name}")


@pytest.fixture
def ask(world):
    def asked(site: str = "fog", digest: bytes | None = None, **what) -> tuple[pb.Reply, dict]:
        request = pb.Request(campaign_digest=world.campaign.digest if digest is None else digest, **what)
        return answer(world.sites[site], request, 77, none)

    return asked


def refusal(found) -> str:
    reply, sets = found
    assert not sets
    assert reply.WhichOneof("what") == "refusal"
    assert reply.refusal.site == "fog"
    return pb.Refusal.Reason.Name(reply.refusal.reason).removeprefix("REASON_")


def test_a_greeting_is_signed_and_ties_site_node_campaign_and_nonce_together(ask, world):
    reply, _ = ask(hello=pb.Hello(nonce=NONCE))
    found = signing.opened(reply.hello, signing.HELLO, world.campaign.keys["fog"], pb.HelloReply, "fog")
    assert found == pb.HelloReply(
        campaign_digest=world.campaign.digest,
        base_digest=world.campaign.message.base_digest,
        nonce=NONCE,
        node_id=77,
        site="fog",
    )


@pytest.mark.parametrize("nonce", [b"", b"x" * 15, b"x" * 1000])
def test_a_nonce_of_another_length_is_not_signed(ask, nonce):
    assert refusal(ask(hello=pb.Hello(nonce=nonce))) == "REQUEST"


def test_a_site_whose_base_is_damaged_says_so_at_the_greeting(ask, world):
    world.joined("fog").base.write_bytes(b"")
    assert refusal(ask(hello=pb.Hello(nonce=NONCE))) == "BASE"


def test_adapting_is_not_started_when_the_update_is_there(ask, monkeypatch, world):
    monkeypatch.setattr(adapting.subprocess, "Popen", lambda *_, **__: pytest.fail("started"))
    for what in ({"adapt": pb.Adapt()}, {"progress": pb.ProgressQuery()}):
        reply, _ = ask(**what)
        assert reply.progress.state == pb.Progress.STATE_READY


def test_progress_says_how_far_and_neither_loss_nor_message(make_world):
    world = make_world(("fog",), store=False)
    joined = world.joined("fog")
    values = {"phase": "adapt", "step": 3, "steps": 9, "eta": 4.5, "loss": 0.5}
    (joined.folder / "progress.json").write_text(json.dumps(values))
    (joined.folder / "failure.json").write_text(json.dumps({"what": "secret", "tensor": "head.bias"}))
    assert answers.progress(joined) == pb.Progress(
        state=pb.Progress.STATE_FAILED, phase=pb.PHASE_ADAPT, step=3, steps=9, eta_seconds=4.5, tensor="head.bias"
    )


def test_a_site_with_a_schedule_of_its_own_is_not_started_and_takes_its_time(make_world, monkeypatch):
    world = make_world(("fog",), store=False)
    joined = world.joined("fog")
    settings = joined.site.settings_path
    settings.write_text(settings.read_text().replace('adapting = "asked"', 'adapting = "scheduled"'))
    monkeypatch.setattr(adapting.subprocess, "Popen", lambda *_, **__: pytest.fail("started"))
    request = pb.Request(campaign_digest=world.campaign.digest, adapt=pb.Adapt())
    for step, eta in ((0, 600.0), (3, 7200.0)):
        site = Site.open(joined.site.folder)
        reply, _ = answer(site, request, 77, none)
        assert reply.progress == pb.Progress(
            state=pb.Progress.STATE_ADAPTING,
            phase=pb.PHASE_ADAPT if step else pb.PHASE_UNSPECIFIED,
            step=step,
            steps=9 if step else 0,
            eta_seconds=eta,
        )
        values = {"phase": "adapt", "step": 3, "steps": 9, "eta": 7200.0}
        (joined.folder / "progress.json").write_text(json.dumps(values))
    (joined.folder / "failure.json").write_text(json.dumps({"what": "it diverged"}))
    reply, _ = answer(Site.open(joined.site.folder), request, 77, none)
    assert reply.progress.state == pb.Progress.STATE_FAILED


def test_nobody_else_may_start_adapting():
    with pytest.raises(ConfigurationError, match="adapting = 'sometimes'"):
        Resources(adapting="sometimes")


def test_a_tensor_that_the_base_does_not_have_is_not_named(make_world):
    joined = make_world(("fog",), store=False).joined("fog")
    (joined.folder / "failure.json").write_text(json.dumps({"what": "x", "tensor": "/home/me/photo.png"}))
    assert answers.progress(joined).tensor == ""


def test_the_header_is_sent_as_it_is_kept(ask, world):
    reply, sets = ask(submit=pb.Submit(header=True))
    assert reply.header == world.outbox("fog").envelope()
    assert sets == {PARAMETERS: b""}
    reply, sets = ask(submit=pb.Submit(header=True, parameters=["scale"]))
    assert reply.header == world.outbox("fog").envelope()
    assert sets == {PARAMETERS: world.outbox("fog").parameters(["scale"])}


def test_parameters_travel_beside_the_reply(ask, world):
    reply, sets = ask(submit=pb.Submit(parameters=["scale", "head.bias"]))
    assert reply == pb.Reply(parameters=pb.Parameters())
    assert sets == {PARAMETERS: world.outbox("fog").parameters(["scale", "head.bias"])}


def test_an_update_that_is_not_there_yet_is_not_ready(make_world):
    world = make_world(("fog",), store=False)
    request = pb.Request(campaign_digest=world.campaign.digest, submit=pb.Submit(header=True))
    assert refusal(answer(world.sites["fog"], request, 1, none)) == "NOT_READY"


@pytest.mark.parametrize("digest", [b"", b"\1" * 32, b"\1"])
@pytest.mark.parametrize(
    "what",
    [
        {"hello": pb.Hello(nonce=NONCE)},
        {"adapt": pb.Adapt()},
        {"progress": pb.ProgressQuery()},
        {"submit": pb.Submit(header=True)},
        {"evaluate": pb.Evaluate()},
    ],
)
def test_nothing_is_answered_for_another_campaign(ask, digest, what):
    assert refusal(ask(digest=digest, **what)) == "CAMPAIGN"


def test_a_request_of_no_kind_is_refused(ask):
    assert refusal(ask()) == "REQUEST"


def test_a_tensor_that_is_no_parameter_is_refused_without_naming_what_the_base_has_not(ask):
    reply, _ = ask(submit=pb.Submit(parameters=["/etc/passwd"]))
    assert reply == pb.Reply(refusal=pb.Refusal(reason=pb.Refusal.REASON_UPDATE, site="fog"))
    reply, _ = ask(submit=pb.Submit(parameters=["norm.running_mean"]))
    assert reply.refusal.tensor == "norm.running_mean"


REASONS = [
    (BaseMismatchError("x"), "BASE"),
    (DataError("x"), "DATA"),
    (StorageError("x"), "STORAGE"),
    (UpdateRefusedError("x"), "UPDATE"),
    (MergeRangeError("x"), "UPDATE"),
    (ModelFileError("x"), "UPDATE"),
    (AdaptationError("x"), "NOT_READY"),
    (ConfigurationError("x"), "CONFIGURATION"),
    (OnebasinError("x"), "INTERNAL"),
    (ValueError("x"), "INTERNAL"),
    (MemoryError("x"), "INTERNAL"),
    (AssertionError("x"), "INTERNAL"),
    (OSError(5, "x", "/secret"), "INTERNAL"),
]


@pytest.mark.parametrize(("error", "reason"), REASONS, ids=lambda value: getattr(type(value), "__name__", value))
def test_whatever_goes_wrong_becomes_a_number(ask, monkeypatch, error, reason):
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(adapting, "status", fail)
    assert refusal(ask(progress=pb.ProgressQuery())) == reason
    monkeypatch.setattr(judge, "judge", fail)
    assert refusal(ask(evaluate=pb.Evaluate(nonce=NONCE))) == reason


def test_a_refusal_is_still_sent_when_the_base_is_gone(ask, world, monkeypatch):
    def fail(*_: object) -> None:
        raise UpdateRefusedError("x", tensor="head.bias")

    monkeypatch.setattr(adapting, "status", fail)
    world.joined("fog").base.unlink()
    assert refusal(ask(progress=pb.ProgressQuery())) == "UPDATE"


def test_scores_are_signed_with_the_requests_nonce(ask, world, monkeypatch):
    score = pb.Score(key="base", classes=2, confusion=[1, 2, 3, 4], images=5)
    monkeypatch.setattr(judge, "judge", lambda *_: [score])
    reply, _ = ask(evaluate=pb.Evaluate(nonce=NONCE))
    found = signing.opened(reply.evaluation, signing.EVALUATION, world.campaign.keys["fog"], pb.Evaluation, "fog")
    assert found == pb.Evaluation(campaign_digest=world.campaign.digest, nonce=NONCE, site="fog", scores=[score])


def test_the_reason_stays_in_the_sites_log(ask, caplog):
    ask(submit=pb.Submit(parameters=["nothing"]))
    assert "nothing is no parameter of this update" in caplog.text
