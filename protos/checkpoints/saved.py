"""Torch checkpoints (``.pth``, ``.pt``, ``.bin``), read without torch.

A checkpoint is a pickle beside the bytes of its storages. Since torch 1.6 both are members of a zip archive;
before, and still in many published models, they follow each other in one file.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Protocol

from protos.checkpoints.allowed import ALLOWED, storage
from protos.checkpoints.pickles import LIMIT, EndsEarlyError, Machine
from protos.checkpoints.rawfile import AGAIN, RawFile, damaged, shown
from protos.checkpoints.standins import Storage
from protos.checkpoints.ziparchive import ZipArchive
from protos.errors import ModelFileError

LEGACY = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
"""How files from before torch 1.6 start: the pickle of a number of torch's."""

_PROTOCOL = 1001
_WINDOW = 1 << 20
_LENGTH = struct.Struct("<q")


class Saved(Protocol):
    """What ``torch.save`` was given, and where in the file its storages lie."""

    root: object

    def place(self, storage: Storage) -> int:
        """Return where a storage's bytes start, all of which are in the file."""
        ...

    def verify(self) -> None:
        """Read everything, and compare with the checksums if there are any."""
        ...


class ZipSaved:
    """A checkpoint in a zip archive.

    Raises:
        ModelFileError: It is damaged, holds code, or is another kind of archive.

    """

    def __init__(self, file: RawFile) -> None:
        self._zip = ZipArchive(file)
        members = self._zip.members
        roots = [name.removesuffix("data.pkl") for name in members if name.endswith("data.pkl")]
        roots = [root for root in roots if root.count("/") == 1 and root.endswith("/")]
        if len(roots) != 1:
            raise ModelFileError(
                f"{file.path} is a zip archive, but no torch checkpoint",
                "name the file that torch.save wrote, or unpack the archive if the model is in it",
            )
        (self._root,) = roots
        if self._root + "constants.pkl" in members or any(
            name.startswith(self._root + "code/") for name in members
        ):
            raise ModelFileError(
                f"{file.path} holds a TorchScript program, not weights alone",
                "save the weights: torch.save(model.state_dict(), …)",
            )
        order = self._root + "byteorder"
        if order in members and self._zip.content(order, 64).strip() != b"little":
            raise ModelFileError(
                f"{file.path} was saved on a machine of the other byte order",
                "load it there and save it as safetensors",
            )
        pickle = self._zip.content(self._root + "data.pkl", LIMIT)
        try:
            self.root = Machine(pickle, file.path, ALLOWED, storage).run()
        except EndsEarlyError:
            raise damaged(file.path, "its pickle is cut short") from None

    def place(self, storage: Storage) -> int:
        """Return where a storage's bytes start."""
        name = f"{self._root}data/{storage.key}"
        member = self._zip.members.get(name)
        if member is None:
            raise damaged(self._zip.file.path, f"{shown(name)} is missing")
        if member.size != storage.nbytes:
            raise damaged(
                self._zip.file.path, f"{shown(name)} has {member.size} bytes, its pickle says {storage.nbytes}"
            )
        return self._zip.place(name)

    def verify(self) -> None:
        """Compare every member's bytes with its checksum."""
        self._zip.verify()


class LegacySaved:
    """A checkpoint of pickles and storages one after the other.

    Raises:
        ModelFileError: It is damaged, or holds code.

    """

    def __init__(self, file: RawFile) -> None:
        self._file = file
        self._at = 0
        self._storages: dict[str, Storage] = {}
        self._load()  # torch's number, which the file was recognised by
        protocol, system = self._load(), self._load()
        if protocol != _PROTOCOL or type(system) is not dict:
            raise damaged(file.path, "its first pickles are not torch's")
        if system.get("little_endian") is not True:
            raise ModelFileError(
                f"{file.path} was saved on a machine of the other byte order",
                "load it there and save it as safetensors",
            )
        self.root = self._load(self._remember)
        self._places = self._find(self._load())

    def place(self, storage: Storage) -> int:
        """Return where a storage's bytes start."""
        if self._storages.get(storage.key) != storage or storage.key not in self._places:
            raise damaged(self._file.path, f"storage {shown(storage.key)} is missing")
        return self._places[storage.key]

    def verify(self) -> None:
        """Read everything; there are no checksums to compare with."""
        self._file.crc(0, self._file.size)

    def _remember(self, saved: object) -> Storage:
        found = storage(saved)
        self._storages.setdefault(found.key, found)
        return found

    def _load(self, persistent: Callable[[object], object] = storage) -> object:
        """Read the next pickle; how long it is shows only then, so a window grows until it holds all of it."""
        size = _WINDOW
        while True:
            window = self._file.bytes(self._at, size)
            machine = Machine(window, self._file.path, ALLOWED, persistent)
            try:
                found = machine.run()
            except EndsEarlyError:
                if len(window) < size or size >= LIMIT:
                    raise damaged(self._file.path, "its pickle is cut short") from None
                size *= 8
                continue
            self._at += machine.at
            return found

    def _find(self, keys: object) -> dict[str, int]:
        """Walk over the storages, each of which is its number of elements and their bytes."""
        if type(keys) is not list:
            raise damaged(self._file.path, "its list of storages is none")
        found: dict[str, int] = {}
        for key in keys:
            known = self._storages.get(key) if type(key) is str else None
            length = self._file.bytes(self._at, _LENGTH.size)
            if known is None or key in found or len(length) < _LENGTH.size:
                raise damaged(self._file.path, "its list of storages doesn't fit its content")
            self._at += _LENGTH.size
            if _LENGTH.unpack(length) != (known.size,) or self._at + known.nbytes > self._file.size:
                raise ModelFileError(f"{self._file.path} ends too early, in storage {shown(key)}", AGAIN)
            found[key] = self._at
            self._at += known.nbytes
        return found
