"""How far a site is, told from files alone; the adapting process is started once."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from types import SimpleNamespace

import pytest

from client import adaptation, adapting
from client.adapting import Status
from client.answers import answer
from client.data.settings import FolderData, ImageFolder, SceneData
from client.settings import Resources, SiteSettings, SuperLink
from client.training.settings import AdaptSettings
from protos import messages_pb2 as pb
from protos.errors import AdaptationError, DataError, StorageError, UpdateRefusedError


@pytest.fixture
def joined(make_world):
    return make_world(("fog",), store=False).joined("fog")


@pytest.fixture
def held(joined):
    """The lock, as an adapting process would hold it."""
    with (joined.folder / "adapt.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock


@pytest.fixture
def started(monkeypatch):
    """The processes that would have been started, without starting any."""
    calls = []

    class Popen:
        def __init__(self, command, **options):
            calls.append((command, options))

    monkeypatch.setattr(adapting.subprocess, "Popen", Popen)
    return calls


def progress(joined, **values):
    (joined.folder / "progress.json").write_text(json.dumps(values))


def test_a_site_that_never_started_is_idle(joined):
    assert adapting.status(joined) == Status("idle")


def test_a_site_whose_lock_is_held_is_adapting(joined, held):
    progress(joined, phase="adapt", step=3, steps=9, eta=1.5, loss=0.25, pid=1, time=0.0)
    assert adapting.status(joined) == Status("adapting", "adapt", 3, 9, 1.5, 0.25)


def test_what_else_is_known_is_shown_at_the_site(joined, held):
    progress(
        joined, phase="adapt", step=3, steps=9, note="80% of target pixels are sure", coverage=0.8, memory=900
    )
    found = adapting.status(joined)
    assert (found.note, found.coverage, found.memory) == ("80% of target pixels are sure", 0.8, 900)


def test_a_site_whose_process_is_gone_is_stopped(joined):
    progress(joined, phase="adapt", step=3, steps=9)
    assert adapting.status(joined) == Status("stopped", "adapt", 3, 9)


def test_a_site_that_failed_says_why_at_the_site(joined):
    progress(joined, phase="data", step=0, steps=9)
    (joined.folder / "failure.json").write_text(json.dumps({"what": "no images", "fix": "", "tensor": "w"}))
    assert adapting.status(joined) == Status("failed", "data", 0, 9, message="no images", tensor="w")


def test_a_site_whose_update_is_in_the_outbox_is_ready_whatever_else_is_there(world):
    joined = world.joined("fog")
    progress(joined, phase="update", step=9, steps=9, eta=3.0)
    (joined.folder / "failure.json").write_text("{}")
    assert adapting.status(joined) == Status("ready", "update", 9, 9, 0.0)


def test_a_progress_file_that_is_cut_short_is_as_good_as_none(joined):
    (joined.folder / "progress.json").write_text('{"phase": "ad')
    assert adapting.status(joined) == Status("idle")


def test_starting_hands_the_lock_to_one_new_process(joined, started):
    assert adapting.start(joined)
    ((command, options),) = started
    assert command[1:] == [
        *("-m", "onebasin", "site", "adapt", str(joined.site.folder)),
        *("--campaign", joined.campaign.digest.hex(), "--lock", str(options["pass_fds"][0])),
    ]
    assert options["start_new_session"]


def test_starting_while_it_runs_starts_nothing(joined, held, started):
    assert not adapting.start(joined)
    assert not started


def test_starting_when_the_update_is_there_starts_nothing(world, started):
    assert not adapting.start(world.joined("fog"))
    assert not started


def test_starting_again_forgets_the_last_failure(joined, started):
    (joined.folder / "failure.json").write_text("{}")
    adapting.start(joined)
    assert not (joined.folder / "failure.json").exists()


def test_a_process_that_cannot_be_started_is_a_storage_error(joined, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(adapting.subprocess, "Popen", fail)
    with pytest.raises(StorageError, match="Cannot allocate memory"):
        adapting.start(joined)


@pytest.mark.parametrize(
    ("error", "kept"),
    [
        (DataError("no images", "add some"), {"what": "no images", "fix": "add some", "tensor": ""}),
        (UpdateRefusedError("bad", "x", tensor="w"), {"what": "bad", "fix": "x", "tensor": "w"}),
    ],
)
def test_an_error_of_ours_is_kept_for_the_operator_and_raised(joined, monkeypatch, error, kept):
    monkeypatch.setattr(adaptation, "adapt", lambda _: (_ for _ in ()).throw(error))
    with pytest.raises(type(error)):
        adapting.run(joined)
    assert json.loads((joined.folder / "failure.json").read_text()) == kept
    assert adapting.status(joined).state == "failed"


def test_an_unexpected_error_is_kept_too(joined, monkeypatch):
    monkeypatch.setattr(adaptation, "adapt", lambda _: {}["gone"])
    with pytest.raises(KeyError):
        adapting.run(joined)
    assert adapting.status(joined).message == "KeyError: 'gone'"


def test_running_while_it_runs_is_refused_and_no_failure_of_the_running_one(joined, held):
    with pytest.raises(AdaptationError, match="site fog is adapting to campaign one already"):
        adapting.run(joined)
    assert adapting.status(joined).state == "adapting"


def test_running_holds_the_lock_and_lets_it_go(joined, monkeypatch):
    seen = []
    monkeypatch.setattr(adaptation, "adapt", lambda _: seen.append(adapting.status(joined).state))
    adapting.run(joined)
    assert seen == ["adapting"]
    assert adapting.status(joined).state == "idle"


def test_a_lock_that_was_handed_over_is_not_inherited_by_workers(joined, held, monkeypatch):
    os.set_inheritable(held.fileno(), True)
    monkeypatch.setattr(adaptation, "adapt", lambda _: None)
    adapting.run(joined, held.fileno())
    assert not os.get_inheritable(held.fileno())


def test_running_when_the_update_is_there_does_nothing(world, monkeypatch):
    monkeypatch.setattr(adaptation, "adapt", lambda _: pytest.fail("it adapted again"))
    adapting.run(world.joined("fog"))


@pytest.mark.parametrize("copy", ["student", "teacher"])
def test_one_copy_is_sent_whole(tmp_path, monkeypatch, one_thread, copy):
    """The parameters of the copy that the campaign asks for, with the statistics that are that copy's own."""
    import torch
    from safetensors.torch import save_file

    from client.models import build
    from client.training import adapt as adapt_module

    adapted, sent = [], []
    honest = adapt_module.adapt

    def noting(*arguments, **options):
        adapted.append(honest(*arguments, **options))
        return adapted[0]

    monkeypatch.setattr(adapt_module, "adapt", noting)
    monkeypatch.setattr(adaptation, "Outbox", lambda _: SimpleNamespace(store=sent.append))
    save_file(build("tiny-resnet", 19).state_dict(), tmp_path / "base.safetensors")
    settings = SiteSettings(
        "fog",
        SceneData("night", source_images=2, target_images=2, height=32, width=64),
        SuperLink("localhost:1"),
        adapt=AdaptSettings(steps=2, batch=1, checkpoint_every=1, encoder="nowhere.pth"),
        resources=Resources("cpu", 1),
    )
    site = SimpleNamespace(settings=settings, folder=tmp_path, name="fog")
    message = SimpleNamespace(model="tiny-resnet", classes=19)
    campaign = SimpleNamespace(message=message, rules=SimpleNamespace(copy=copy))
    joined = SimpleNamespace(site=site, campaign=campaign, folder=tmp_path, base=tmp_path / "base.safetensors")
    adaptation.adapt(joined)
    (state,) = sent
    expected = getattr(adapted[0], copy)
    assert state.keys() == expected.keys()
    assert all(torch.equal(torch.from_numpy(value), expected[name]) for name, value in state.items())
    assert int(state["backbone.stem.bn.num_batches_tracked"]) == {"student": 4, "teacher": 2}[copy]
    found = json.loads((tmp_path / "progress.json").read_text())
    assert (found["phase"], found["step"]) == ("update", 2)
    assert (tmp_path / "tensorboard").exists()
    assert not (tmp_path / "checkpoint.pt").exists()


def test_the_smallest_memory_preset_makes_crops_smaller():
    images = ImageFolder("gta", "gta")
    large = FolderData(images, ImageFolder("cityscapes", "cityscapes", "train"), crop=1024)
    assert adaptation.within(large, "8GB").crop == 512
    assert adaptation.within(large, "16GB") is large
    small = FolderData(images, images, crop=256)
    assert adaptation.within(small, "8GB") is small
    scenes = SceneData("night")
    assert adaptation.within(scenes, "8GB") is scenes


# --------------------------------------------------------------------- stopping

HOLDER = """
import fcntl, os, sys, time
from client import adapting
lock = open(sys.argv[1], "a")
fcntl.flock(lock, fcntl.LOCK_EX)
adapting._sign(lock.fileno(), str(os.getpid()))
if sys.argv[2] == "stubborn":
    import signal
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("ready", flush=True)
    time.sleep(60)
with adapting._ending():
    try:
        print("ready", flush=True)
        time.sleep(60)
    finally:
        open(sys.argv[1] + ".clean", "w").close()
"""


@pytest.fixture
def process(joined):
    """Return a function that starts a process which holds the lock as an adapting one does."""
    with ExitStack() as running:

        def started(kind):
            command = [sys.executable, "-c", HOLDER, str(joined.folder / "adapt.lock"), kind]
            found = running.enter_context(
                subprocess.Popen(
                    command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
                )
            )
            running.callback(found.kill)
            assert found.stdout.readline() == b"ready\n"
            return found

        yield started


def test_an_adapting_process_that_is_stopped_puts_away_what_is_open_and_has_not_failed(joined, process):
    progress(joined, phase="adapt", step=3, steps=9)
    found = process("willing")
    assert adapting.stop(joined)
    assert found.wait(10) not in (0, -signal.SIGKILL)
    assert (joined.folder / "adapt.lock.clean").exists()
    assert adapting.status(joined) == Status("stopped", "adapt", 3, 9)
    assert not (joined.folder / "failure.json").exists()


def test_a_process_that_does_not_end_by_itself_is_killed(joined, process):
    found = process("stubborn")
    assert adapting.stop(joined, patience=0.3)
    assert found.wait(10) == -signal.SIGKILL


def test_where_nothing_adapts_nothing_is_stopped(joined):
    assert not adapting.stop(joined)


def test_a_holder_of_the_lock_that_nobody_knows_is_an_error(joined, held):
    with pytest.raises(AdaptationError, match="can't be ended"):
        adapting.stop(joined, patience=0.1)


def test_a_site_that_is_told_to_stop_says_how_far_it_is(joined, process):
    progress(joined, phase="adapt", step=3, steps=9)
    process("willing")
    request = pb.Request(campaign_digest=joined.campaign.digest, cancel=pb.Cancel())
    reply, _ = answer(joined.site, request, 7, lambda name: b"")
    assert (reply.progress.state, reply.progress.step) == (pb.Progress.STATE_STOPPED, 3)
    reply, _ = answer(joined.site, request, 7, lambda name: b"")
    assert reply.progress.state == pb.Progress.STATE_STOPPED
