"""The zip files that torch writes: members lie stored, so a tensor's bytes can be read where they are.

The directory at the end is read once, and has to be such that no two members share a byte. A member's own header
is read when its place is asked for.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from protos.checkpoints.rawfile import RawFile, damaged, shown
from protos.errors import ModelFileError

_DIRECTORY = 64 << 20
"""Bytes of a directory; a checkpoint of 10,000 storages has one of less than a megabyte."""

_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR = struct.Struct("<4sLQL")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_COMMENT = 0xFFFF
_MANY, _LARGE = 0xFFFF, 0xFFFFFFFF
_ENCRYPTED = 0x41


class Member(NamedTuple):
    """One file in the archive.

    Attributes:
        name: Its name.
        header: Where its own header starts.
        size: Its bytes in the archive.
        crc: The CRC-32 of its content.
        stored: Whether its content lies there as it is, neither compressed nor encrypted.
        limit: Where it has to end.

    """

    name: str
    header: int
    size: int
    crc: int
    stored: bool
    limit: int


class ZipArchive:
    """The members of a zip file by name.

    Raises:
        ModelFileError: The file is cut short or contradicts itself, members overlap, share a name, point outside
            of the archive.

    """

    def __init__(self, file: RawFile) -> None:
        self.file = file
        count, start, size = self._end()
        if size > _DIRECTORY:
            raise damaged(file.path, f"its directory of {size} bytes is larger than any checkpoint's")
        self.members = self._read(count, start, file.bytes(start, size))
        self._places: dict[str, int] = {}

    def place(self, name: str) -> int:
        """Return where in the file a member's bytes start.

        Raises:
            ModelFileError: It is compressed or encrypted; or its own header is not where the directory says, or
                leaves no room for it.

        """
        if name in self._places:
            return self._places[name]
        member, raw = self.members[name], name.encode("utf-8", "surrogateescape")
        if not member.stored:
            raise ModelFileError(
                f"{self.file.path}: {shown(name)} is compressed or encrypted; what would come out is not known",
                "save it anew with torch.save, or unpack and pack it without compression",
            )
        header = self.file.bytes(member.header, _LOCAL.size + len(raw))
        if len(header) < _LOCAL.size + len(raw):
            raise self._damaged(f"{shown(name)} starts where the file ends")
        magic, _, flags, method, *_, length, extra = _LOCAL.unpack_from(header)
        if magic != b"PK\x03\x04" or length != len(raw) or header[_LOCAL.size :] != raw:
            raise self._damaged(f"{shown(name)} is not where its directory says")
        if method or flags & _ENCRYPTED:
            raise self._damaged(f"{shown(name)} is packed otherwise than its directory says")
        place: int = member.header + _LOCAL.size + length + extra
        if place + member.size > member.limit:
            raise self._damaged(f"{shown(name)} runs into what follows it")
        self._places[name] = place
        return place

    def content(self, name: str, limit: int) -> bytes:
        """Read a small member whole.

        Raises:
            ModelFileError: It has more than `limit` bytes.

        """
        size = self.members[name].size
        if size > limit:
            raise self._damaged(f"{shown(name)} has {size} bytes, which is more than any checkpoint's")
        content = self.file.bytes(self.place(name), size)
        if len(content) != size:
            raise self._damaged(f"{shown(name)} is cut short")
        return content

    def verify(self) -> None:
        """Read everything and compare with the checksums in the directory.

        Raises:
            ModelFileError: A member's bytes are not those that were written.

        """
        for member in self.members.values():
            if self.file.crc(self.place(member.name), member.size) != member.crc:
                raise self._damaged(
                    f"the bytes of {shown(member.name)} don't have the checksum they were saved with"
                )

    def _damaged(self, why: str) -> ModelFileError:
        return damaged(self.file.path, why)

    def _end(self) -> tuple[int, int, int]:
        """Find the directory: how many entries, where it starts, its bytes."""
        length = min(self.file.size, _END.size + _COMMENT)
        tail = self.file.bytes(self.file.size - length, length)
        at = tail.rfind(b"PK\x05\x06")
        if at < 0 or len(tail) - at < _END.size:
            raise self._damaged("it starts as a zip archive, but its end is missing")
        _, disk, first, here, count, size, start, comment = _END.unpack_from(tail, at)
        end = self.file.size - length + at
        if end + _END.size + comment != self.file.size:
            raise self._damaged("there is something after its end")
        found: tuple[int, ...] = (here, count, start, size, disk, first)
        if end >= _LOCATOR.size:
            magic, _, position, _ = _LOCATOR.unpack(self.file.bytes(end - _LOCATOR.size, _LOCATOR.size))
            if magic == b"PK\x06\x07":
                end, found = self._end64(position, end, found)
        here, count, start, size, disk, first = found
        if disk or first or here != count or start + size != end:
            raise self._damaged("its directory is not where its end says")
        return count, start, size

    def _end64(self, at: int, end: int, found: tuple[int, ...]) -> tuple[int, tuple[int, ...]]:
        """Read the large numbers of the end, which may not contradict the small ones."""
        if at + _END64.size + _LOCATOR.size != end:
            raise self._damaged("the two parts of its end don't meet")
        raw = self.file.bytes(at, _END64.size)
        magic, length, _, _, disk, first, here, count, size, start = _END64.unpack(raw)
        large = (here, count, start, size, disk, first)
        most = (_MANY, _MANY, _LARGE, _LARGE, _MANY, _MANY)
        if magic != b"PK\x06\x06" or length != _END64.size - 12:
            raise self._damaged("the large part of its end is none")
        if any(a != b and b != m for a, b, m in zip(large, found, most, strict=True)):
            raise self._damaged("the two parts of its end contradict each other")
        return at, large

    def _read(self, count: int, start: int, raw: bytes) -> dict[str, Member]:
        """Parse the directory and check that no two members overlap."""
        found: list[tuple[int, int, str, int, bool]] = []
        at = 0
        for _ in range(count):
            if len(raw) - at < _ENTRY.size:
                raise self._damaged("its directory ends too early")
            entry = _ENTRY.unpack_from(raw, at)
            magic, _, _, flags, method, _, _, crc, packed, size, name, extra, comment, disk, _, _, header = entry
            at += _ENTRY.size
            if magic != b"PK\x01\x02" or len(raw) - at < name + extra + comment:
                raise self._damaged("its directory contradicts itself")
            text = raw[at : at + name].decode("utf-8", "surrogateescape")
            if _LARGE in (size, packed, header):
                size, packed, header = self._large(raw[at + name : at + name + extra], (size, packed, header))
            self._check_name(text)
            if disk:
                raise self._damaged("it is one part of a zip archive that was split")
            stored = not method and not flags & _ENCRYPTED and size == packed
            found.append((header, packed, text, crc, stored))
            at += name + extra + comment
        if at != len(raw):
            raise self._damaged("its directory has entries that are not counted")
        return self._apart(sorted(found), start)

    def _apart(self, found: list[tuple[int, int, str, int, bool]], start: int) -> dict[str, Member]:
        members: dict[str, Member] = {}
        limits = [*(header for header, *_ in found), start][1:]
        for (header, size, name, crc, stored), limit in zip(found, limits, strict=True):
            if header + _LOCAL.size + len(name) + size > limit:
                raise self._damaged(f"{shown(name)} overlaps with what follows it")
            if name in members:
                raise self._damaged(f"it holds {shown(name)} twice")
            members[name] = Member(name, header, size, crc, stored, limit)
        return members

    def _check_name(self, name: str) -> None:
        if name.startswith("/") or "\\" in name or "\0" in name or ".." in name.split("/"):
            raise ModelFileError(
                f"{self.file.path} holds a file that would lie outside of it: {shown(name)}; refused",
                "no tool writes such a file by mistake: don't unpack it, and ask where it came from",
            )

    def _large(self, extra: bytes, small: tuple[int, int, int]) -> tuple[int, ...]:
        """Replace the numbers that didn't fit into 32 bits by those in the zip64 field."""
        while len(extra) >= 4:
            kind, length = struct.unpack_from("<2H", extra)
            field, extra = extra[4 : 4 + length], extra[4 + length :]
            missing = sum(value == _LARGE for value in small)
            if kind == 1 and len(field) == length >= 8 * missing:
                numbers = iter(struct.unpack_from(f"<{missing}Q", field))
                return tuple(next(numbers) if value == _LARGE else value for value in small)
        raise self._damaged("its directory lacks a number that didn't fit")
