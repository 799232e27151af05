"""Zip archives as torch writes them: members stored, their content at multiples of 64 bytes, fit for mapping."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Mapping
from typing import IO, NamedTuple

from protos import files

ALIGNMENT = 64

LARGE = 0xFFFFFFFF
"""From here on a number takes a field of 64 bits; a test lowers it."""

_MOST, _MANY = 0xFFFFFFFF, 0xFFFF
_UTF8 = 0x0800
_VERSION = 45


class _Member(NamedTuple):
    name: bytes
    size: int
    header: int
    extra: bytes

    @property
    def place(self) -> int:
        """Where its content starts."""
        return self.header + 30 + len(self.name) + len(self.extra)

    def local(self, crc: int) -> bytes:
        """Return the header before its content."""
        numbers = (
            _VERSION,
            _UTF8,
            0,
            0,
            0,
            crc,
            _fit(self.size),
            _fit(self.size),
            len(self.name),
            len(self.extra),
        )
        return struct.pack("<4s5H3L2H", b"PK\x03\x04", *numbers) + self.name + self.extra

    def entry(self, crc: int) -> bytes:
        """Return its entry in the directory."""
        large = [self.size, self.size] if self.size >= LARGE else []
        large += [self.header] if self.header >= LARGE else []
        extra = _zip64(*large) if large else b""
        sizes = (_fit(self.size), _fit(self.size))
        numbers = (_VERSION, _VERSION, _UTF8, 0, 0, 0, crc, *sizes, len(self.name), len(extra), 0, 0, 0, 0)
        return struct.pack("<4s6H3L5H2L", b"PK\x01\x02", *numbers, _fit(self.header)) + self.name + extra


class ZipWriter:
    """Writes an archive's members, each to its place, in any order and from several threads.

    Args:
        file: An empty file.
        sizes: Each member's bytes, in the order in which they lie in the file.

    Raises:
        OSError: There is no room for it.

    """

    def __init__(self, file: IO[bytes], sizes: Mapping[str, int]) -> None:
        self._file = file
        self._members: dict[str, _Member] = {}
        self._crcs: dict[str, int] = {}
        at = 0
        for name, size in sizes.items():
            self._members[name] = member = _member(name.encode(), size, at)
            at = member.place + size
        self._directory = at
        files.reserve(file, at + len(self._end()))

    def write(self, name: str, chunks: Iterable[bytes | memoryview]) -> None:
        """Write a member.

        Raises:
            OSError: The disk is full.
            AssertionError: These are not as many bytes as announced.

        """
        member = self._members[name]
        position, crc = member.place, 0
        for chunk in chunks:
            files.write_at(self._file, position, chunk)
            position, crc = position + len(chunk), zlib.crc32(chunk, crc)
        if position - member.place != member.size:
            raise AssertionError(f"{position - member.place} bytes of {name} instead of {member.size}")
        files.write_at(self._file, member.header, member.local(crc))
        self._crcs[name] = crc

    def finish(self) -> None:
        """Write the directory, once all members are there."""
        if missing := self._members.keys() - self._crcs.keys():
            raise AssertionError(f"{min(missing)} was not written")
        files.write_at(self._file, self._directory, self._end())

    def _end(self) -> bytes:
        """Return the directory and the file's end; as long as it will be even before checksums are known."""
        directory = b"".join(member.entry(self._crcs.get(name, 0)) for name, member in self._members.items())
        count, size, start, end = len(self._members), len(directory), self._directory, b""
        if max(start, size) >= LARGE or count >= _MANY:
            end = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, _VERSION, _VERSION, 0, 0, count, count, size, start)
            end += struct.pack("<4sLQL", b"PK\x06\x07", 0, start + size, 1)
        small = (min(count, _MANY), min(count, _MANY), _fit(size), _fit(start))
        return directory + end + struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, *small, 0)


def _member(name: bytes, size: int, header: int) -> _Member:
    """Fill a member's header up so that its content starts at a multiple of `ALIGNMENT`, as torch does."""
    extra = _zip64(size, size) if size >= LARGE else b""
    fill = -(header + 30 + len(name) + len(extra) + 4) % ALIGNMENT
    return _Member(name, size, header, extra + struct.pack("<2sH", b"FB", fill) + b"Z" * fill)


def _fit(number: int) -> int:
    return _MOST if number >= LARGE else number


def _zip64(*numbers: int) -> bytes:
    return struct.pack(f"<2H{len(numbers)}Q", 1, 8 * len(numbers), *numbers)
