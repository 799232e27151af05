"""The audit log: what left, arrived, was refused, approved or changed, in a chain that shows any later edit.

``audit.jsonl`` is only ever appended to. Each line is a JSON object with its number, time and event, and the
SHA-256 of the line before, so that no line can be edited, moved or taken out of the middle. That the end wasn't
cut off is the affair of ``audit.head.json`` beside it: the newest line, signed with the side's Ed25519 key.

The head is written first, atomically, and holds the line itself. So there is no moment at which a line counts and
isn't signed, and whatever a crash leaves of the last line, the next writer completes it from the head.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from protos import dsse, files
from protos.errors import StorageError, VerificationError

LOG, HEAD = "audit.jsonl", "audit.head.json"
_HEAD_TYPE = "application/vnd.onebasin.audit-head+json"
_BEGINNING = hashlib.sha256(b"onebasin audit log v1\n").hexdigest()
"""What the first line has in place of a line before it."""
_LONGEST = 1 << 20
"""Bytes that a line may have."""
_OWN = frozenset({"seq", "time", "event", "prev"})
_EVIDENCE = "keep both files as evidence and compare them with a copy; once they are moved away, a new log begins"


@dataclass(frozen=True)
class Entry:
    """A line of the log.

    Attributes:
        seq: Its number, from 1.
        time: Seconds since 1970.
        event: What happened.
        fields: With whom and what.
        prev: The hexadecimal digest of the line before.
        sha256: The hexadecimal digest of the line: the next one carries it.

    """

    seq: int
    time: float
    event: str
    fields: dict[str, Any]
    prev: str
    sha256: str


@dataclass(frozen=True)
class Anchor:
    """A place in a log that is named elsewhere, as in a receipt: who holds it can tell if the log lost that line.

    Attributes:
        seq: A line's number.
        sha256: Its hexadecimal digest, and through the chain that of all before it.

    """

    seq: int
    sha256: str


@dataclass(frozen=True)
class Place:
    """How far somebody has read in a log.

    Attributes:
        offset: Bytes that were read.
        anchor: The last line that was.
        file: The file's number on its disk; 0 before anything was read.

    """

    offset: int = 0
    anchor: Anchor = Anchor(0, _BEGINNING)
    file: int = 0

    def holds(self, log: Path) -> bool:
        """Tell whether a log is the one that was read, and not shorter since."""
        try:
            found = log.stat()
        except FileNotFoundError:
            return False
        return found.st_ino == self.file and found.st_size >= self.offset


@dataclass(frozen=True)
class _Head:
    """The newest line.

    Attributes:
        seq: Its number.
        start: Bytes of the log before it.
        line: The line, without its end.

    """

    seq: int
    start: int
    line: bytes

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.line).hexdigest()

    @cached_property
    def prev(self) -> str:
        return _entry(self.line, "the head of an audit log").prev if self.seq else ""


_NONE = _Head(0, 0, b"")


class Audit:
    """One side's log, to be written to.

    Args:
        folder: The side's folder; the log's two files lie in it.
        key: Returns the key that the side signs with; asked for when the first line is written.

    """

    def __init__(self, folder: Path, key: Callable[[], Ed25519PrivateKey]) -> None:
        self.path = folder / LOG
        self._key = key

    def note(self, event: str, **fields: Any) -> Anchor:
        """Append a line; when this returns, it is on the disk.

        Args:
            event: What happened.
            fields: With whom and what: JSON's types, none of which may be called like a part of a line.

        Raises:
            VerificationError: The log is not as it was left, so nothing can be added to it.
            StorageError: It can't be written.

        """
        if clash := _OWN & fields.keys():
            raise ValueError(f"a field can't be called {min(clash)}")
        with self._alone() as (log, key):
            before = _completed(log, _read_head(self.path, key.public_key().public_bytes_raw()), self.path)
            entry = {
                "seq": before.seq + 1,
                "time": round(time.time(), 3),
                "event": event,
                **fields,
                "prev": before.sha256 if before.seq else _BEGINNING,
            }
            line = json.dumps(entry, separators=(",", ":"), allow_nan=False).encode()
            if len(line) > _LONGEST:
                raise ValueError(f"a line of {len(line)} bytes")
            head = _Head(before.seq + 1, os.fstat(log).st_size, line)
            files.write(self.path.with_name(HEAD), _signed_head(head, key), mode=0o600)
            _append(log, line + b"\n")
        return Anchor(head.seq, head.sha256)

    @contextmanager
    def _alone(self) -> Iterator[tuple[int, Ed25519PrivateKey]]:
        """Open the log for one writer at a time, over all processes and threads."""
        key = self._key()
        try:
            log = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(log, fcntl.LOCK_EX)
                yield log, key
            finally:
                os.close(log)
        except OSError as error:
            raise StorageError(
                f"can't write the audit log {self.path}: {error.strerror}", "free some space or check permissions"
            ) from error


def entries(log: Path) -> Iterator[Entry]:
    """Yield a log's lines in order, each checked against the one before.

    The last one may lie in the head alone, or in part, if a machine stopped in between: `verify` knows that.

    Raises:
        VerificationError: A line was edited, moved, put in or taken out, or can't be read; says which.

    """
    for entry, _ in tail(log, Place()):
        yield entry


def tail(log: Path, place: Place) -> Iterator[tuple[Entry, Place]]:
    """Yield the lines after a place, each with the place after it; see `entries`."""
    for line, offset, file in _lines(log, place.offset):
        before = place.anchor
        entry = _entry(line, f"line {before.seq + 1} of {log}")
        if entry.seq != before.seq + 1:
            raise VerificationError(
                f"line {before.seq + 1} of {log} has the number {entry.seq}: "
                "lines were reordered, put in or cut out",
                _EVIDENCE,
            )
        if entry.prev != before.sha256:
            edited = (
                f"line {before.seq} of {log} was edited" if before.seq else f"the beginning of {log} was cut off"
            )
            raise VerificationError(
                f"{edited}: line {entry.seq} carries another digest of what comes before it", _EVIDENCE
            )
        place = Place(offset, Anchor(entry.seq, entry.sha256), file)
        yield entry, place


@dataclass(frozen=True)
class Verified:
    """What a check of a log found.

    Attributes:
        lines: How many lines there are, all as they were written.
        head: The last one.
        unfinished: Whether the last one is in the head alone as yet, because the machine stopped in between.

    """

    lines: int
    head: Anchor
    unfinished: bool


def verify(log: Path, key: bytes, anchors: tuple[Anchor, ...] = ()) -> Verified:
    """Check a whole log: every line, the signed head, and places that receipts name.

    Args:
        log: ``audit.jsonl``; its head lies beside it.
        key: The Ed25519 public key (32 bytes) of the side that wrote it.
        anchors: Places that must be in it.

    Raises:
        VerificationError: A line was edited, moved, put in or taken out, at the end too; or a place is not in it.
        SignatureError: The head is not signed with this key, or was edited.

    """
    head = _read_head(log, key)
    named = {head.seq, *(anchor.seq for anchor in anchors)}
    found: dict[int, str] = {}
    last = Anchor(0, _BEGINNING)
    for entry in entries(log):
        last = Anchor(entry.seq, entry.sha256)
        if entry.seq in named:
            found[entry.seq] = entry.sha256
    rest = _rest(log)
    unfinished = last.seq + 1 == head.seq and head.line.startswith(rest) and head.prev == last.sha256
    if unfinished:
        last = Anchor(head.seq, head.sha256)
        found[head.seq] = head.sha256
    elif rest:
        raise VerificationError(
            f"{log} ends in the middle of line {last.seq + 1}, which is not the one that its head was signed for",
            _EVIDENCE,
        )
    if last.seq < head.seq:
        lost = f"line {head.seq} was" if head.seq == last.seq + 1 else f"lines {last.seq + 1} to {head.seq} were"
        raise VerificationError(f"{log} was cut: {lost} there when its head was signed", _EVIDENCE)
    if last.seq > head.seq:
        raise VerificationError(
            f"line {head.seq + 1} of {log} was put in: its head was signed at line {head.seq}", _EVIDENCE
        )
    if head.seq and found[head.seq] != head.sha256:
        raise VerificationError(
            f"line {head.seq} of {log} is not the one that its head was signed for: it was edited", _EVIDENCE
        )
    for anchor in anchors:
        if found.get(anchor.seq) != anchor.sha256:
            raise VerificationError(
                f"line {anchor.seq} of {log} is not the one that a receipt names: the log, with its head, was put "
                "back to an earlier state or written anew",
                _EVIDENCE,
            )
    return Verified(last.seq, Anchor(head.seq, head.sha256), unfinished)


def _lines(log: Path, start: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield the whole lines of a log from a place on, without their ends, with where each ends and in which file.

    A part of a line at the log's end is left out.
    """
    try:
        with log.open("rb") as file:
            number = os.fstat(file.fileno()).st_ino
            end = file.seek(start)
            while (line := file.readline(_LONGEST + 2)).endswith(b"\n"):
                end += len(line)
                yield line[:-1], end, number
    except FileNotFoundError:
        raise VerificationError(f"there is no audit log {log}") from None
    except OSError as error:
        raise VerificationError(f"can't read {log}: {error.strerror}") from error


def _rest(log: Path) -> bytes:
    """Return what follows the last whole line."""
    with log.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(max(0, size - _LONGEST - 2))
        return file.read().rpartition(b"\n")[2]


def _entry(line: bytes, whence: str) -> Entry:
    try:
        found = json.loads(line)
        seq, when, event = int(found["seq"]), float(found["time"]), str(found["event"])
        prev = str(found["prev"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise VerificationError(f"{whence} is no line of an audit log: it was edited", _EVIDENCE) from None
    fields = {key: value for key, value in found.items() if key not in _OWN}
    return Entry(seq, when, event, fields, prev, hashlib.sha256(line).hexdigest())


def _read_head(log: Path, key: bytes) -> _Head:
    path = log.with_name(HEAD)
    if not path.exists():
        if log.exists() and log.stat().st_size:
            raise VerificationError(
                f"{path} is missing: without it nobody can tell whether {log} was cut", _EVIDENCE
            )
        return _NONE
    found = dsse.parsed(dsse.opened(dsse.read(path, "head"), _HEAD_TYPE, key, str(path)), str(path))
    try:
        return _Head(int(found["seq"]), int(found["start"]), str(found["line"]).encode())
    except (KeyError, ValueError, TypeError):
        raise VerificationError(f"{path} was signed, but is no head of a log") from None


def _signed_head(head: _Head, key: Ed25519PrivateKey) -> str:
    content = {"seq": head.seq, "start": head.start, "line": head.line.decode()}
    return dsse.signed(_HEAD_TYPE, dsse.canonical(content), key)


def _completed(log: int, head: _Head, path: Path) -> _Head:
    """Bring the log to where its head is, if a crash came in between; otherwise only look at its last line."""
    size = os.fstat(log).st_size
    last = head.line + b"\n" if head.seq else b""
    there = size - head.start
    if not (0 <= there <= len(last) and last.startswith(os.pread(log, len(last), head.start))):
        raise VerificationError(
            f"the end of {path} is not as it was left, so nothing is added to it",
            f"`onebasin audit verify` names the line; {_EVIDENCE}",
        )
    if there < len(last):
        _append(log, last[there:])
    return head


def _append(log: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(log, view) :]
    os.fsync(log)
