"""What several attacks need: damage of all kinds, and the eyes of who carries the messages."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import pytest
from flwr.app import ArrayRecord, ConfigRecord, RecordDict


def _mutations(whole: bytes, count: int, seed: int) -> Iterator[bytes]:
    """Yield damaged copies: flipped bits, cut, grown, doubled, left out, overwritten."""
    dice = random.Random(seed)
    while count:
        found = bytearray(whole)
        for _ in range(dice.choice((1, 1, 1, 2, 5))):
            place = dice.randrange(len(found) or 1)
            match dice.randrange(7):
                case 0 if found:
                    found[place] ^= 1 << dice.randrange(8)
                case 1:
                    del found[place:]
                case 2:
                    found[place:place] = dice.randbytes(dice.randrange(1, 9))
                case 3:
                    found[place:place] = found[place : place + dice.randrange(1, 80)]
                case 4:
                    del found[place : place + dice.randrange(1, 80)]
                case 5:
                    found[place : place + 8] = b"\xff" * 8
                case _:
                    found += dice.randbytes(dice.randrange(1, 30))
        if bytes(found) != whole:
            count -= 1
            yield bytes(found)


@pytest.fixture(scope="session")
def mutations() -> Callable[[bytes, int, int], Iterator[bytes]]:
    """Return a function that damages bytes, so often and by these dice; none comes out whole."""
    return _mutations


def _carried(content: RecordDict) -> bytes:
    found = []
    for name, record in content.items():
        found.append(name.encode())
        if isinstance(record, ArrayRecord):
            for key, array in record.items():
                found += [key.encode(), array.data, f"{array.dtype} {array.shape} {array.stype}".encode()]
        else:
            assert isinstance(record, ConfigRecord)
            found += [
                part if isinstance(part, bytes) else str(part).encode() for item in record.items() for part in item
            ]
    return b"\0".join(found)


@pytest.fixture(scope="session")
def carried() -> Callable[[RecordDict], bytes]:
    """Return a function that gives all bytes of a record as Flower carries them: names, values, message."""
    return _carried
