"""The audit log: what is written is found again, whatever happens in between."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protos import audit, files, signing
from protos.audit import HEAD, LOG, Anchor, Audit, entries, verify
from protos.errors import SignatureError, StorageError, VerificationError

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = signing.public_bytes(KEY)


def log_in(folder) -> Audit:
    return Audit(folder, lambda: KEY)


@pytest.fixture
def log(tmp_path) -> Audit:
    return log_in(tmp_path)


def test_lines_say_when_what_happened_and_carry_the_digest_of_the_line_before(log):
    log.note("joined", campaign="autumn")
    log.note("left", site="fog", bytes=3)
    first, second = entries(log.path)
    assert (first.seq, first.event, first.fields) == (1, "joined", {"campaign": "autumn"})
    assert (second.seq, second.fields, second.prev) == (2, {"site": "fog", "bytes": 3}, first.sha256)
    assert second.time >= first.time > 1e9


def test_a_log_is_verified_as_a_whole(log):
    for i in range(5):
        anchor = log.note("left", bytes=i)
    found = verify(log.path, PUBLIC, (Anchor(2, list(entries(log.path))[1].sha256), anchor))
    assert (found.lines, found.head, found.unfinished) == (5, anchor, False)


def test_a_log_that_was_not_begun_is_not_there(log):
    with pytest.raises(VerificationError, match="there is no audit log"):
        verify(log.path, PUBLIC)


def test_lines_and_head_can_be_read_by_their_owner_only(log):
    log.note("joined")
    for name in (LOG, HEAD):
        assert (log.path.with_name(name).stat().st_mode & 0o777) == 0o600


def test_fields_cannot_hide_a_part_of_a_line(log):
    with pytest.raises(ValueError, match="prev"):
        log.note("left", prev="x")
    assert not log.path.exists()


def test_a_line_has_an_end(log):
    with pytest.raises(ValueError, match="a line of"):
        log.note("left", what="x" * (1 << 20))
    log.note("left")
    assert verify(log.path, PUBLIC).lines == 1


def test_writers_wait_for_each_other(tmp_path):
    def write() -> None:
        for i in range(8):
            log_in(tmp_path).note("left", part=i)

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert verify(tmp_path / LOG, PUBLIC).lines == 32


def test_lines_reach_the_disk_before_note_returns(log, monkeypatch):
    synced = []
    fsync = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda fd: (synced.append(str(Path(f"/proc/self/fd/{fd}").readlink())), fsync(fd))
    )
    log.note("left")
    assert synced[-1] == str(log.path)
    assert any(HEAD in path for path in synced)


def test_a_full_disk_is_a_storage_error_and_loses_no_line(log, monkeypatch):
    log.note("left")

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        with pytest.raises(StorageError, match=r"can't write the audit log .*No space left"):
            log.note("left")
    log.note("left")
    assert verify(log.path, PUBLIC).lines == 3


# ---------------------------------------------------------------- crashes


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(before=st.integers(0, 3), written=st.floats(0, 1), data=st.data())
def test_a_crash_at_any_moment_of_a_line_loses_nothing(tmp_path_factory, before, written, data):
    folder = tmp_path_factory.mktemp("log")
    log = log_in(folder)
    for i in range(before):
        log.note("left", number=i)
    content = log.path.read_bytes() if before else b""
    last = log.note("arrived", text=data.draw(st.text(max_size=30)))
    whole = log.path.read_bytes()
    torn = whole[: len(content) + int(written * (len(whole) - len(content)))]
    log.path.write_bytes(torn)

    found = verify(log.path, PUBLIC)
    assert (found.lines, found.head, found.unfinished) == (before + 1, last, torn != whole)
    log.note("left", number=-1)
    assert log.path.read_bytes().startswith(whole)
    assert verify(log.path, PUBLIC).lines == before + 2
    assert [entry.event for entry in entries(log.path)][before:] == ["arrived", "left"]


def test_a_crash_before_the_head_is_written_leaves_the_log_as_it_was(log, monkeypatch):
    anchor = log.note("left")

    def crash(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(files, "write", crash)
        with pytest.raises(KeyboardInterrupt):
            log.note("arrived")
    assert verify(log.path, PUBLIC).head == anchor


@given(
    events=st.lists(
        st.tuples(st.text(max_size=12), st.dictionaries(st.text(min_size=1, max_size=8), st.text(max_size=12))),
        min_size=1,
        max_size=6,
    )
)
@settings(max_examples=40, deadline=None)
def test_any_events_and_fields_are_read_back_as_they_were_written(tmp_path_factory, events):
    log = log_in(tmp_path_factory.mktemp("log"))
    listed = [(e, {k: v for k, v in f.items() if k not in audit._OWN | {"self", "event"}}) for e, f in events]
    for event, fields in listed:
        log.note(event, **fields)
    assert [(entry.event, entry.fields) for entry in entries(log.path)] == listed
    assert verify(log.path, PUBLIC).lines == len(listed)


# ------------------------------------------------------------ what is refused


def test_the_head_of_another_key_is_refused(log):
    log.note("left")
    with pytest.raises(SignatureError):
        verify(log.path, signing.public_bytes(Ed25519PrivateKey.generate()))
    with pytest.raises(SignatureError):
        Audit(log.path.parent, Ed25519PrivateKey.generate).note("left")


def test_nothing_is_added_to_a_log_that_is_not_as_it_was_left(log):
    for i in range(4):
        log.note("left", number=i)
    whole = log.path.read_bytes()
    lines = whole.splitlines(keepends=True)
    for content in (b"", b"".join(lines[:2]), whole + lines[3], whole[:-2] + b"X\n", whole + b"{"):
        log.path.write_bytes(content)
        with pytest.raises(VerificationError, match="is not as it was left, so nothing is added"):
            log.note("left")
        assert log.path.read_bytes() == content
    log.path.write_bytes(whole)
    log.path.with_name(HEAD).unlink()
    with pytest.raises(VerificationError, match=r"audit\.head\.json is missing"):
        log.note("left")


def test_a_head_that_says_nothing_is_refused(log):
    from protos import dsse

    log.note("left")
    for content in ({}, {"seq": "x", "start": 0, "line": ""}, {"seq": 1, "start": None, "line": ""}):
        text = dsse.signed(audit._HEAD_TYPE, dsse.canonical(content), KEY)
        log.path.with_name(HEAD).write_text(text)
        with pytest.raises(VerificationError, match="is no head"):
            verify(log.path, PUBLIC)


def test_a_line_that_is_none_is_named(log):
    for i in range(3):
        log.note("left", number=i)
    lines = log.path.read_bytes().splitlines(keepends=True)
    for bad in (b"\n", b"{}\n", b"[]\n", b"null\n", b'{"seq":"x"}\n', b"\xff\n", b"[" * 50_000 + b"\n"):
        log.path.write_bytes(lines[0] + bad + lines[2])
        with pytest.raises(VerificationError, match=r"line 2 of .* is no line of an audit log"):
            verify(log.path, PUBLIC)


def test_json_of_a_line_is_compact_and_one_line(log):
    log.note("left", text="a\nb")
    (line,) = log.path.read_text().splitlines()
    assert json.loads(line)["text"] == "a\nb"
