"""A request is taken once, and not after its time."""

from __future__ import annotations

import pytest

from client import freshness
from client.freshness import LEEWAY, StaleError, Taken
from protos.errors import StorageError
from protos.letters import LONGEST

NOW = 1_800_000_000.0
NONCE = bytes(range(16))


@pytest.fixture
def now(monkeypatch):
    found = [NOW]
    monkeypatch.setattr(freshness.time, "time", lambda: found[0])
    return found


@pytest.fixture
def taken(tmp_path, now):
    return Taken(tmp_path / "requests")


def test_a_request_is_taken_once_whoever_asks(taken, tmp_path):
    taken.take(NONCE, int(NOW) + 60)
    for again in (taken, Taken(tmp_path / "requests")):
        with pytest.raises(StaleError, match="took before"):
            again.take(NONCE, int(NOW) + 60)
    taken.take(NONCE[::-1], int(NOW) + 60)


@pytest.mark.parametrize("late", [0, 1, LEEWAY])
def test_clocks_may_differ_a_little(taken, late):
    taken.take(NONCE, int(NOW) - late)


@pytest.mark.parametrize(
    ("expires", "said"),
    [
        (NOW - LEEWAY - 1, "arrived 301 s after it had expired"),
        (0, "after it had expired"),
        (NOW + LONGEST + LEEWAY + 1, "may be answered for another"),
        (2**64 - 1, "may be answered for another"),
    ],
)
def test_a_request_out_of_its_time_is_refused_and_leaves_nothing(taken, tmp_path, expires, said):
    with pytest.raises(StaleError, match=said) as caught:
        taken.take(NONCE, int(expires))
    assert "clock" in caught.value.fix
    assert not (tmp_path / "requests").exists()


def test_a_request_is_remembered_for_as_long_as_it_could_be_answered(taken, tmp_path, now):
    expires = int(NOW) + 60
    taken.take(NONCE, expires)
    now[0] = expires + LEEWAY
    with pytest.raises(StaleError, match="took before"):
        taken.take(NONCE, expires)
    now[0] = expires + LEEWAY + 1.0
    with pytest.raises(StaleError, match="expired"):
        taken.take(NONCE, expires)
    taken.take(NONCE[::-1], expires + 100)
    assert [path.name for path in (tmp_path / "requests").iterdir()] == [f"{expires + 100}-{NONCE[::-1].hex()}"]


def test_a_disk_that_is_full_refuses_the_request(taken, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(freshness.Path, "touch", full)
    with pytest.raises(StorageError, match="No space left"):
        taken.take(NONCE, int(NOW))
