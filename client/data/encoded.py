"""The bytes of image files, before they are decoded: whether they are whole, and a palette taken off.

OpenCV decodes some damaged files without an error and paints what is missing grey, and it turns a label map with a
palette, such as GTA's, into colours. Both are settled here, from the bytes alone.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8"
_PALETTE = 3
"""PNG's colour type of images whose pixels are numbers of colours."""


def flaw(content: bytes) -> str:
    """Say what is wrong with a PNG or JPEG file, or "" if nothing is; other formats are not looked into."""
    if not content:
        return "is empty"
    if content.startswith(_PNG):
        return _png_flaw(content)
    if content.startswith(_JPEG):
        return _jpeg_flaw(content)
    return ""


def without_palette(content: bytes) -> tuple[bytes, int]:
    """Rewrite a PNG with a palette as a grey one, so that it decodes to the numbers and not to their colours.

    Returns:
        The PNG, and by how much its decoded values are too large: a grey PNG of fewer than 8 bits is stretched to
        0…255. Other content comes back as it is, with 1.

    """
    if not content.startswith(_PNG) or len(content) < 26 or content[25] != _PALETTE:
        return content, 1
    kept = [_PNG]
    for kind, data, _ in _chunks(content):
        if kind == b"IHDR":
            kept.append(_chunk(kind, bytes(data[:9]) + b"\0" + bytes(data[10:])))
        elif kind not in (b"PLTE", b"tRNS", b"bKGD", b"hIST"):  # these mean nothing without colours
            kept.append(_chunk(kind, data))
    return b"".join(kept), 255 // ((1 << content[24]) - 1)


def _png_flaw(content: bytes) -> str:
    last = b""
    for kind, data, checksum in _chunks(content):
        if zlib.crc32(data, zlib.crc32(kind)) != checksum:
            return "is damaged"
        last = kind
    return "" if last == b"IEND" else "is cut short"


def _chunks(content: bytes) -> Iterator[tuple[bytes, memoryview, int]]:
    """Yield a PNG's whole chunks, up to its end: kind, data, checksum."""
    view, at = memoryview(content), len(_PNG)
    while at + 12 <= len(view):
        length = int.from_bytes(view[at : at + 4], "big")
        kind, end = bytes(view[at + 4 : at + 8]), at + 8 + length
        if end + 4 > len(view):
            return
        yield kind, view[at + 8 : end], int.from_bytes(view[end : end + 4], "big")
        if kind == b"IEND":
            return
        at = end + 4


def _chunk(kind: bytes, data: bytes | memoryview) -> bytes:
    body = kind + bytes(data)
    return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))


def _jpeg_flaw(content: bytes) -> str:
    """Look for the end mark behind the header: a thumbnail in the header has an end mark of its own."""
    at = 2
    while at + 4 <= len(content) and content[at] == 0xFF:
        marker = content[at + 1]
        if marker == 0xFF:  # filling
            at += 1
            continue
        at += 2 + int.from_bytes(content[at + 2 : at + 4], "big")
        if marker == 0xDA:  # pixels begin
            return "" if content.find(b"\xff\xd9", at) >= 0 else "is cut short"
    return "is cut short" if at + 4 > len(content) else "is damaged"
