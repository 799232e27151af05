"""Someone with access to the files but not to the key changes an audit log: it is found, and the line named."""

from __future__ import annotations

import hashlib
import json
import random
import shutil

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from protos import audit, signing
from protos.audit import HEAD, Audit, verify
from protos.errors import OnebasinError, SignatureError, VerificationError

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = signing.public_bytes(KEY)
LINES = 9


@pytest.fixture
def log(tmp_path):
    made = Audit(tmp_path, lambda: KEY)
    for number in range(1, LINES + 1):
        made.note("left", update=f"{number:064x}", bytes=number)
    return made.path


def lines_of(log) -> list[bytes]:
    return log.read_bytes().splitlines(keepends=True)


def rechained(lines: list[bytes]) -> list[bytes]:
    """Write a chain anew, as someone would who knows how it is made."""
    found, before = [], audit._BEGINNING
    for seq, line in enumerate(lines, 1):
        content = json.loads(line) | {"seq": seq, "prev": before}
        line = json.dumps(content, separators=(",", ":")).encode()
        before = hashlib.sha256(line).hexdigest()
        found.append(line + b"\n")
    return found


def refused(log, lines: list[bytes], said: str) -> None:
    log.write_bytes(b"".join(lines))
    with pytest.raises(VerificationError, match=said):
        verify(log, PUBLIC)


@pytest.mark.parametrize("number", range(1, LINES + 1))
def test_an_edited_line_is_named(log, number):
    lines = lines_of(log)
    lines[number - 1] = lines[number - 1].replace(b'"left"', b'"held"')
    refused(log, lines, f"line {number} of .* (was edited|is not the one)|middle of line {number}")


@pytest.mark.parametrize("number", range(1, LINES + 1))
def test_a_line_that_is_taken_out_is_named(log, number):
    lines = lines_of(log)
    del lines[number - 1]
    if number == LINES:  # the head still holds it: nothing is lost
        log.write_bytes(b"".join(lines))
        assert verify(log, PUBLIC).unfinished
    else:
        refused(log, lines, f"line {number} of .* has the number {number + 1}")


@pytest.mark.parametrize("number", range(1, LINES))
def test_two_lines_that_change_places_are_named(log, number):
    lines = lines_of(log)
    lines[number - 1], lines[number] = lines[number], lines[number - 1]
    refused(log, lines, f"line {number} of .* has the number {number + 1}")


@pytest.mark.parametrize("number", range(1, LINES + 1))
def test_a_line_that_stands_twice_is_named(log, number):
    lines = lines_of(log)
    lines.insert(number, lines[number - 1])
    refused(log, lines, f"line {number + 1} of .* has the number {number}")


@pytest.mark.parametrize("left", range(LINES - 1))
def test_a_cut_tail_is_found_and_said_which_lines_are_gone(log, left):
    refused(log, lines_of(log)[:left], f"was cut: lines {left + 1} to {LINES} were there")


def test_a_line_that_is_put_on_top_is_found(log):
    lines = lines_of(log)
    refused(log, rechained([*lines, lines[-1]]), f"line {LINES + 1} of .* was put in")


@pytest.mark.parametrize("number", range(1, LINES + 1))
def test_a_chain_that_is_written_anew_after_an_edit_is_found_by_the_head(log, number):
    lines = lines_of(log)
    lines[number - 1] = lines[number - 1].replace(b'"left"', b'"held"')
    refused(log, rechained(lines), f"line {LINES} of .* is not the one that its head was signed for")


@pytest.mark.parametrize("number", range(1, LINES))
def test_a_line_that_is_cut_out_of_a_chain_that_is_written_anew_is_found(log, number):
    lines = lines_of(log)
    del lines[number - 1]
    refused(log, rechained(lines), "was cut|is not the one|was edited")


def test_a_head_that_is_edited_signed_anew_or_gone_is_refused(log, tmp_path):
    head = log.with_name(HEAD)
    whole = head.read_text()
    for position in range(0, len(whole), 37):
        content = whole[:position] + ("A" if whole[position] != "A" else "B") + whole[position + 1 :]
        head.write_text(content)
        with pytest.raises(OnebasinError):
            verify(log, PUBLIC)
    other = Audit(tmp_path / "other", lambda: Ed25519PrivateKey.from_private_bytes(bytes(32)))
    other.path.parent.mkdir()
    for number in range(LINES):
        other.note("left", bytes=number)
    shutil.copy(other.path.with_name(HEAD), head)
    with pytest.raises(SignatureError):
        verify(log, PUBLIC)
    head.unlink()
    with pytest.raises(VerificationError, match="without it nobody can tell whether"):
        verify(log, PUBLIC)


def test_log_and_head_that_are_put_back_together_are_found_by_an_anchor_that_travelled(log, tmp_path):
    """The one thing that the files themselves can't show: both as they were before. A receipt shows it."""
    earlier = tmp_path / "earlier"
    shutil.copytree(log.parent, earlier, ignore=shutil.ignore_patterns("earlier"))
    anchor = Audit(log.parent, lambda: KEY).note("merging")
    assert verify(log, PUBLIC, (anchor,)).lines == LINES + 1
    for name in (log.name, HEAD):
        shutil.copy(earlier / name, log.parent)
    assert verify(log, PUBLIC).lines == LINES  # nothing is wrong with them
    with pytest.raises(VerificationError, match=f"line {LINES + 1} of .* is not the one that a receipt names"):
        verify(log, PUBLIC, (anchor,))
    Audit(log.parent, lambda: KEY).note("something else")
    with pytest.raises(VerificationError, match="is not the one that a receipt names"):
        verify(log, PUBLIC, (anchor,))


def test_no_random_damage_passes(log):
    whole, rng = log.read_bytes(), random.Random(5)
    for _ in range(300):
        changed = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            changed[rng.randrange(len(changed))] = rng.randrange(256)
        if bytes(changed) == whole:
            continue
        log.write_bytes(bytes(changed))
        with pytest.raises(VerificationError):
            verify(log, PUBLIC)


def test_very_long_lines_and_deep_ones_are_refused_without_trouble(log):
    lines = lines_of(log)
    refused(log, [*lines[:3], b"x" * (3 << 20) + b"\n", *lines[4:]], "was cut|middle of line 4")
    refused(log, [*lines[:3], b"[" * 500_000 + b"\n", *lines[4:]], "line 4 of .* is no line")
    refused(log, [*lines[:3], b'{"seq":' + b"9" * 9000 + b"}\n", *lines[4:]], "line 4 of .* is no line")
