"""Seals: what was closed opens for who it was closed for, and for nobody and nothing else."""

from __future__ import annotations

import hashlib
import hmac
import os
import tracemalloc
from dataclasses import replace
from io import BytesIO

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from hypothesis import given, settings
from hypothesis import strategies as st

from protos import sealing
from protos.errors import SignatureError
from protos.sealing import CHUNK, TAG, Context, opened_size
from protos.signing import public_bytes

CONTEXT = Context(b"c" * 32, "fog", "onebasin/reply/v1", b"n" * 16)
KEY = X25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = public_bytes(KEY)


def closed(content: bytes, name: str = "message", said: bytes = b"", context: Context = CONTEXT):
    ephemeral, seal = sealing.to(PUBLIC, context)
    return ephemeral, seal.close(name, BytesIO(content), said)


def opened(ephemeral: bytes, sealed: bytes, name: str = "message", said: bytes = b"", context: Context = CONTEXT):
    return bytes(sealing.of(ephemeral, KEY, context).open(name, BytesIO(sealed), "site fog", said))


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(sealing, "CHUNK", 32)


EDGES = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 2 * CHUNK + TAG, 3 * CHUNK - TAG]


@pytest.mark.parametrize("size", EDGES)
def test_what_was_closed_opens_and_is_longer_by_a_tag_for_each_chunk(size):
    content = os.urandom(size)
    ephemeral, sealed = closed(content, said=b"said")
    assert len(sealed) == size + TAG * max(1, -(-size // CHUNK))
    assert opened_size(len(sealed)) == size
    assert opened(ephemeral, sealed, said=b"said") == content


@given(content=st.binary(max_size=300), name=st.text(max_size=9), said=st.binary(max_size=40))
@settings(max_examples=60, deadline=None)
def test_any_content_survives(content, name, said):
    ephemeral, sealed = closed(content, name, said)
    assert opened(ephemeral, sealed, name, said) == content


@given(length=st.integers(0, 1 << 40))
def test_a_length_tells_the_size_of_one_content_or_of_none(length):
    size = opened_size(length)
    if size is None:
        assert length < TAG or length % (CHUNK + TAG) in range(1, TAG + 1)
    else:
        assert size + TAG * max(1, -(-size // CHUNK)) == length


def test_the_format_is_the_one_that_is_documented(small_chunks):
    """Open by hand: X25519, HKDF by RFC 5869, then chunk after chunk."""
    content = os.urandom(70)
    ephemeral, sealed = closed(content, "set:parameters", b"said")
    shared = KEY.exchange(X25519PublicKey.from_public_bytes(ephemeral))
    parts = [b"onebasin/seal/v1", ephemeral, PUBLIC, CONTEXT.campaign, b"fog", b"onebasin/reply/v1", CONTEXT.nonce]
    info = b"".join(len(part).to_bytes(4, "big") + part for part in [*parts, b"set:parameters"])
    extracted = hmac.digest(bytes(32), shared, "sha256")
    first = hmac.digest(extracted, info + b"\1", "sha256")
    okm = first + hmac.digest(extracted, first + info + b"\2", "sha256")
    key, prefix = okm[:32], okm[32:39]
    found = b""
    for number, (start, end) in enumerate([(0, 32), (32, 64), (64, 70)]):
        nonce = prefix + number.to_bytes(4, "big") + bytes([number == 2])
        tag = sealed[70 + 16 * number :][:16]
        found += ChaCha20Poly1305(key).decrypt(nonce, sealed[start:end] + tag, b"said")
    assert found == content


def test_nothing_of_the_content_is_in_what_was_closed():
    content = hashlib.shake_128(b"x").digest(3 * CHUNK)
    _, sealed = closed(content)
    windows = {content[i : i + 8] for i in range(0, len(content), 8)}
    assert not any(sealed[i : i + 8] in windows for i in range(len(sealed)))


def test_the_same_content_twice_looks_different_in_every_byte():
    (first, one), (second, two) = closed(bytes(1000)), closed(bytes(1000))
    assert first != second
    assert sum(a == b for a, b in zip(one, two, strict=True)) < 30


@pytest.mark.parametrize(
    "change",
    [{"campaign": b"x" * 32}, {"site": "night"}, {"direction": "onebasin/request/v1"}, {"nonce": b"x" * 16}],
    ids=lambda change: next(iter(change)),
)
def test_another_context_does_not_open_it(change):
    ephemeral, sealed = closed(b"content")
    with pytest.raises(SignatureError, match="site fog: what arrived doesn't open"):
        opened(ephemeral, sealed, context=replace(CONTEXT, **change))


def test_another_name_another_past_and_another_key_do_not_open_it():
    ephemeral, sealed = closed(b"content", "set:a", b"said")
    other = sealing.of(ephemeral, X25519PrivateKey.generate(), CONTEXT)
    for attempt in (
        lambda: opened(ephemeral, sealed, "set:b", b"said"),
        lambda: opened(ephemeral, sealed, "set:a", b"told"),
        lambda: opened(public_bytes(X25519PrivateKey.generate()), sealed, "set:a", b"said"),
        lambda: other.open("set:a", BytesIO(sealed), "site fog", b"said"),
    ):
        with pytest.raises(SignatureError):
            attempt()


def test_fields_of_a_context_do_not_run_into_each_other():
    ephemeral, sealed = closed(b"content", context=Context(b"ab", "c", "", b""))
    with pytest.raises(SignatureError):
        opened(ephemeral, sealed, context=Context(b"a", "bc", "", b""))


def test_a_name_is_closed_once():
    _, seal = sealing.to(PUBLIC, CONTEXT)
    seal.close("a", BytesIO(b"one"))
    seal.close("b", BytesIO(b"two"))
    with pytest.raises(AssertionError, match="the same nonces"):
        seal.close("a", BytesIO(b"three"))


def test_large_content_is_closed_and_opened_where_it_lies():
    size = 32 << 20
    room = BytesIO(os.urandom(size))
    ephemeral, seal = sealing.to(PUBLIC, CONTEXT)
    tracemalloc.start()
    try:
        room = BytesIO(seal.close("set:a", room))
        view = sealing.of(ephemeral, KEY, CONTEXT).open("set:a", room, "site fog")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(view) == size
    # Growing by the tags moves the buffer at most once; a copy on top of it would be seen.
    assert peak < 1.3 * size


LOW_ORDER = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
]
"""The points of order 1, 2, 4 and 8 and their other encodings: https://cr.yp.to/ecdh.html#validate."""


@pytest.mark.parametrize("point", LOW_ORDER)
@pytest.mark.parametrize("high_bit", [0, 0x80])
def test_a_point_of_low_order_is_no_key(point, high_bit):
    raw = bytearray.fromhex(point)
    raw[31] |= high_bit  # X25519 leaves this bit out
    assert not sealing.is_key(bytes(raw))
    with pytest.raises(SignatureError, match="no secret comes of it"):
        sealing.to(bytes(raw), CONTEXT)
    with pytest.raises(SignatureError, match="no secret comes of it"):
        sealing.of(bytes(raw), KEY, CONTEXT)


@pytest.mark.parametrize("raw", [b"", b"x", b"x" * 31, b"x" * 33, b"x" * 1_000_000])
def test_bytes_of_another_length_are_no_key(raw):
    assert not sealing.is_key(raw)
    with pytest.raises(SignatureError):
        sealing.of(raw, KEY, CONTEXT)
    assert sealing.is_key(PUBLIC)
