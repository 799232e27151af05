"""A coordinator in one file, and back: all that can't be made again if its disk is lost.

It may be taken while campaigns run. Files that are replaced atomically are linked, in an instant, into a folder
from which they are then read; the journal is copied by SQLite, and the audit log under its lock. What is written
in place (updates on their way in, the record of a secure sum) is checked by who reads it; its end may be missing.

The file is a tar archive that ends with the SHA-256 of everything in it. It holds private keys.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
import shutil
import sqlite3
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import IO

from coordinator.home import Home
from coordinator.journal import FILE as JOURNAL
from protos import files
from protos.errors import ConfigurationError, StorageError, VerificationError

SUMS = "SHA256SUMS"
_TRIES = 20
_LEFT_OUT = {"flower", "run.lock", ".making", ".old"}
"""Flower makes its files again, and locks and what is being made belong to processes."""
_AUDIT = ("audit.head.json", "audit.jsonl")


def backup(home: Home, path: Path) -> int:
    """Write a coordinator into a file; return its size in bytes.

    Args:
        home: The coordinator.
        path: The file; there must be none. Only its owner will be able to read it.

    Raises:
        ConfigurationError: There is a file of that name.
        StorageError: The disk is full, or something can't be read.

    """
    if path.exists():
        raise ConfigurationError(f"{path} is there already", "choose another name")
    with (
        _stored(path),
        _snapshot(home) as folder,
        files.atomic(path, mode=0o600) as file,
        tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        lines = []
        for found in sorted(folder.rglob("*")):
            name = found.relative_to(folder).as_posix()
            if found.is_dir():  # for its mode: a folder of keys is its owner's alone
                archive.addfile(_anonymous(archive.gettarinfo(found, name)))
                continue
            with found.open("rb") as content:  # some are being written to: what counts is what was read
                member, digesting = _anonymous(archive.gettarinfo(name, name, content)), _Digesting(content)
                archive.addfile(member, digesting)
            lines.append(f"{digesting.digest.hexdigest()}  {name}\n")
        listed = "".join(lines).encode()
        last = tarfile.TarInfo(SUMS)
        last.size, last.mode = len(listed), 0o600
        archive.addfile(last, io.BytesIO(listed))
    home.audit.note("backed-up", bytes=path.stat().st_size)
    return path.stat().st_size


def restore(path: Path, folder: Path) -> Home:
    """Make a coordinator from a backup, in a folder that is not there yet.

    Raises:
        ConfigurationError: The folder is there and not empty.
        VerificationError: The file is no backup, or not whole.
        StorageError: The disk is full, or the file can't be read.

    """
    if folder.exists() and any(folder.iterdir()):
        raise ConfigurationError(f"{folder} is not empty", "restore into a new folder, and move it afterwards")
    files.make_folder(folder.parent)
    with _stored(folder):
        part = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            try:
                with tarfile.open(path, "r:") as archive:
                    archive.extractall(part, filter=_harmless)  # noqa: S202  # it refuses what points elsewhere
            except tarfile.TarError as error:
                raise VerificationError(f"{path} is no backup of a coordinator: {error}", _AGAIN) from error
            _check(part, path)
            with suppress(FileNotFoundError):
                folder.rmdir()
            part.rename(folder)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise
    home = Home.open(folder)
    home.audit.note("restored")
    return home


class _Digesting(io.RawIOBase):
    """Digests what is read from a file."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        """Read up to so many bytes."""
        found = self._file.read(size)
        self.digest.update(found)
        return found


@contextmanager
def _snapshot(home: Home) -> Iterator[Path]:
    """Yield a folder that shows the coordinator as it was at one moment."""
    with tempfile.TemporaryDirectory(prefix=".backup-", dir=home.folder) as name:
        folder = Path(name)
        for entry in home.folder.iterdir():
            if entry.name.startswith((".backup-", JOURNAL)) or entry.name in {*_LEFT_OUT, *_AUDIT, "campaigns"}:
                continue
            _link(entry, folder / entry.name)
        for campaign in sorted((home.folder / "campaigns").glob("*")):
            _link_whole(campaign, folder / "campaigns" / campaign.name)
        _copy_audit(home.folder, folder)
        if (home.folder / JOURNAL).exists():
            with (
                closing(sqlite3.connect(home.folder / JOURNAL, timeout=30)) as source,
                closing(sqlite3.connect(folder / JOURNAL)) as target,
            ):
                source.backup(target)
        yield folder


def _link_whole(campaign: Path, target: Path) -> None:
    """Link a campaign; again if a result was put in its place meanwhile, for its parts belong together."""
    for _ in range(_TRIES):
        before = _result(campaign)
        with suppress(FileNotFoundError):  # renamed while it was being walked through
            _link(campaign, target)
            if _result(campaign) == before:
                return
        shutil.rmtree(target, ignore_errors=True)
    raise StorageError(f"{campaign} changes all the time", "try again in a while")


def _result(campaign: Path) -> list[tuple[str, int, int]]:
    found = []
    for name in ("merged", "state.safetensors", ".ready"):
        with suppress(FileNotFoundError):
            status = (campaign / name).stat()
            found.append((name, status.st_ino, status.st_mtime_ns))
    return found


def _link(source: Path, target: Path) -> None:
    if source.name in _LEFT_OUT:
        return
    if source.is_dir():
        target.mkdir(parents=True, exist_ok=True)
        shutil.copymode(source, target)
        for entry in source.iterdir():
            _link(entry, target / entry.name)
    elif source.is_file():
        os.link(source, target)


def _copy_audit(source: Path, target: Path) -> None:
    """Copy the log and its head while nobody writes to them."""
    log = source / "audit.jsonl"
    if log.exists():
        with log.open("rb") as held:
            fcntl.flock(held, fcntl.LOCK_SH)
            for name in _AUDIT:
                if (source / name).exists():
                    shutil.copy2(source / name, target / name)


def _check(folder: Path, path: Path) -> None:
    """Compare what was unpacked with its digests."""
    try:
        lines = (folder / SUMS).read_text().splitlines()
    except (FileNotFoundError, UnicodeDecodeError):
        raise VerificationError(f"{path} is not whole: the digests at its end are missing", _AGAIN) from None
    (folder / SUMS).unlink()
    listed = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    there = {one.relative_to(folder).as_posix(): one for one in folder.rglob("*") if not one.is_dir()}
    if listed.keys() != there.keys():
        wrong = sorted(listed.keys() ^ there.keys())[0]
        raise VerificationError(f"{path} is not whole: {wrong} is missing or too many", _AGAIN)
    for name, found in there.items():
        with found.open("rb") as content:
            if hashlib.file_digest(content, "sha256").hexdigest() != listed[name]:
                raise VerificationError(f"{path} is damaged: {name} is not what was backed up", _AGAIN)


def _harmless(member: tarfile.TarInfo, path: str) -> tarfile.TarInfo:
    """Refuse what points elsewhere or is no file; keep the modes of folders, which Python's own filter doesn't."""
    found = tarfile.data_filter(member, path)
    return found.replace(mode=member.mode & 0o777) if member.isdir() else found


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Leave out who owned a file: it will be whoever restores it."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


@contextmanager
def _stored(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        raise StorageError(f"{path}: {error}", "free some space, or check permissions and the disk") from error


_AGAIN = "use another copy of the backup"
