"""Only accepted code runs at a site: the gate in Flower's SuperNode, in Flower's own functions."""

from __future__ import annotations

import hashlib
import types
from types import SimpleNamespace

import pytest
from flwr.app import Message, RecordDict
from flwr.cli.build import build_fab_from_disk
from flwr.common.constant import ErrorCode
from flwr.supercore.fab import Fab
from flwr.supercore.run import Run, RunNotRunningException
from flwr.supernode import start_client_internal

from client import flower_supernode
from client.flower_supernode import Gate, install, listen_often
from protos import code
from protos.errors import FederationError

BUNDLE = build_fab_from_disk(code.BUNDLE)


def bundle(content: bytes = BUNDLE, name: str = "") -> Fab:
    return Fab(name or hashlib.sha256(content).hexdigest(), content, {})


def run(fab: Fab, fab_id: str = "onebasin/onebasin-bundle", version: str = "1.0.0") -> Run:
    found = Run.create_empty(7)
    found.fab_id, found.fab_version, found.fab_hash = fab_id, version, fab.hash_str
    return found


@pytest.fixture
def problem(world):
    """Ask the gate of a site about a bundle and a run."""

    def asked(fab: Fab, told: Run | None = None) -> str:
        gate = Gate(world.sites["fog"].folder)
        gate.runs(lambda _: told or run(fab))(7)
        handed = gate.bundles(lambda *_: fab)(fab.hash_str, 7)
        said = gate.problem(fab)
        assert handed.content == (b"" if said else fab.content)
        return said

    return asked


def test_the_bundle_that_an_accepted_campaign_names_may_run(problem):
    assert problem(bundle()) == ""


@pytest.mark.parametrize("place", [0, 30, len(BUNDLE) // 2, -30, -1])
def test_a_bundle_changed_by_one_byte_may_not(problem, place):
    changed = bytearray(BUNDLE)
    changed[place] ^= 1
    assert "which no campaign names that this site's operator accepted" in problem(bundle(bytes(changed)))


def test_the_name_that_the_superlink_gives_a_bundle_counts_for_nothing(problem):
    other = BUNDLE + b"x"
    assert "no campaign names" in problem(bundle(other, name=bundle().hash_str))
    assert "other names" in problem(bundle(name="0" * 64))


@pytest.mark.parametrize(
    ("fab_id", "version"),
    [
        ("onebasin/other", "1.0.0"),
        ("onebasin/onebasin-bundle", "1.0.0/../../evil"),
        ("../onebasin-bundle", "1.0.0"),
    ],
)
def test_flower_is_not_led_to_another_folder_than_the_bundles(problem, fab_id, version):
    assert "other names" in problem(bundle(), run(bundle(), fab_id, version))


def test_without_an_accepted_campaign_nothing_runs(problem, world):
    (world.joined("fog").folder / "accepted.json").unlink()
    assert "no campaign names" in problem(bundle())


def test_a_site_that_cannot_be_read_runs_nothing(problem, world):
    world.sites["fog"].settings_path.write_text("name = 7")
    assert problem(bundle())


# ------------------------------------------------------------ in Flower's hands


class State:
    """What Flower's SuperNode keeps; only what pulling a message needs."""

    def __init__(self, task: int | None = None) -> None:
        self.replies: list[Message] = []
        self.stored: list[Fab] = []
        self.finished: list[int] = []
        self.task = task

    def get_run(self, _):
        return None

    def get_node_id(self):
        return 12

    def get_run_series_context(self, _):
        return None

    def set_run_series_context(self, *_): ...

    def store_run(self, _): ...

    def store_fab(self, fab):
        self.stored.append(fab)

    def create_task(self, **_):
        return self.task  # None as if an id had collided: Flower stops here, after it took the code in

    def store_message(self, message):
        self.replies.append(message)

    def delete_messages(self, message_ids):
        self.replies = [one for one in self.replies if one.metadata.message_id not in message_ids]

    def finish_task(self, task, **_):
        self.finished.append(task)


@pytest.fixture
def pulled(world, flower_task, monkeypatch):
    """Let Flower pull a message of a run with a bundle; returns what its state holds then."""

    def pull(fab: Fab, task: int | None = None, fetch=lambda *_: b"") -> State:
        engine = types.ModuleType("engine")
        engine.__dict__.update(vars(start_client_internal))
        real = start_client_internal._pull_and_store_message
        # Flower's function, but looking its helpers up in the copy, so that no other test sees the gate.
        engine._pull_and_store_message = types.FunctionType(
            real.__code__, vars(engine), real.__name__, real.__defaults__, real.__closure__
        )
        engine._pull_and_store_message.__kwdefaults__ = real.__kwdefaults__
        install(Gate(world.sites["fog"].folder), engine)
        state = State(task)
        message = Message(RecordDict(), 12, "query")
        message.metadata.__dict__["_message_id"] = "one"
        store = SimpleNamespace(preregister=lambda *_: ["piece"], put=lambda *_: None, delete=lambda *_: None)
        engine._pull_and_store_message(
            state=state,
            object_store=store,
            node_config={},
            receive=lambda: (message, None),
            get_run=lambda _: run(fab),
            get_fab=lambda *_: fab,
            pull_object=fetch,
            confirm_message_received=lambda *_: None,
            trusted_entities=None,
        )
        return state

    return pull


def test_flower_takes_in_accepted_code(pulled):
    state = pulled(bundle())
    assert [fab.content for fab in state.stored] == [BUNDLE]
    assert not state.replies


def test_flower_answers_for_changed_code_and_does_not_take_it_in(pulled):
    state = pulled(bundle(BUNDLE[:-1] + bytes([BUNDLE[-1] ^ 1])))
    assert not state.stored
    (reply,) = state.replies
    assert reply.error.code == ErrorCode.INVALID_FAB


def test_a_message_whose_run_ends_while_it_is_fetched_leaves_no_client_app_waiting_for_the_rest(pulled):
    def fetch(*_):
        raise RunNotRunningException

    state = pulled(bundle(), task=5, fetch=fetch)
    assert state.finished == [5]
    assert not state.replies


def test_a_message_that_is_fetched_waits_for_its_client_app(pulled):
    state = pulled(bundle(), task=5)
    assert not state.finished
    assert len(state.replies) == 1


def test_a_flower_that_fetches_code_in_another_way_is_not_started(world):
    for content in ({}, {"_pull_and_store_message": lambda state: None, "_verify_fab": None}):
        engine = types.ModuleType("engine")
        engine.__dict__.update(content)
        with pytest.raises(FederationError, match="fetches code in another way"):
            install(Gate(world.sites["fog"].folder), engine)


def test_while_the_coordinator_talks_to_a_site_it_listens_more_often(monkeypatch):
    now, asked, coming = [1000.0], [], {1000.0: 7, 1001.0: 7}

    def pull(state):
        assert state == "of Flower"
        asked.append(now[0])
        return coming.pop(now[0], None)

    def sleep(seconds: float) -> None:
        now[0] += seconds

    engine = SimpleNamespace(_pull_and_store_message=pull)
    listen_often(engine)
    monkeypatch.setattr(flower_supernode, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=sleep))
    found = [engine._pull_and_store_message(state="of Flower") for _ in range(3)]
    assert found == [7, 7, None]
    assert asked[:4] == [1000.0, 1000.0, 1000.5, 1001.0]  # once, then until the second message came
    after = asked[4:]
    assert after == [1001.0 + flower_supernode.OFTEN * i for i in range(len(after))]
    assert after[-1] == 1001.0 + flower_supernode.TALKING
    assert engine._pull_and_store_message(state="of Flower") is None
    assert asked[len(after) + 4 :] == [after[-1]]  # from now on Flower waits, for as long as it likes
