"""Digests: how a model, a campaign and an update are named.

A model's canonical form is one line per tensor in ascending order of name: the name as a JSON string, dtype,
shape, and the SHA-256 of its little-endian bytes. It doesn't depend on the file that holds the tensors, nor on
their order in it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from protos.errors import ModelFileError
from protos.manifest import TensorSpec

if TYPE_CHECKING:
    from protos.checkpoints import ModelReader

DIGEST_BYTES = 32
_MODEL = b"onebasin model v1\n"


def sha256(chunks: Iterable[bytes | memoryview]) -> bytes:
    """Digest a stream of bytes."""
    state = hashlib.sha256()
    for chunk in chunks:
        state.update(chunk)
    return state.digest()


def stream_digest(path: Path) -> str:
    """Digest a file's bytes, whatever they are; hexadecimal.

    Raises:
        ModelFileError: It can't be read.

    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelFileError(f"can't read {path}: {error.strerror}") from error


def model_digest(specs: Mapping[str, TensorSpec], digests: Mapping[str, bytes]) -> bytes:
    """Digest a model from its tensors' specs and the SHA-256 of each one's raw bytes; 32 bytes."""
    state = hashlib.sha256(_MODEL)
    for name in sorted(specs):
        spec = specs[name]
        line = [name, spec.dtype.name, list(spec.shape), digests[name].hex()]
        state.update(json.dumps(line, ensure_ascii=True, separators=(",", ":")).encode() + b"\n")
    return state.digest()


def file_digest(file: ModelReader) -> bytes:
    """Digest the model in an open file; 32 bytes."""
    return _digest(file, file.manifest.tensors)


def parameters_digest(file: ModelReader) -> bytes:
    """Digest a model's parameters alone, as if it had nothing else; 32 bytes."""
    return _digest(file, file.manifest.parameters)


def _digest(file: ModelReader, specs: Mapping[str, TensorSpec]) -> bytes:
    return model_digest(specs, {name: sha256(file.chunks(name)) for name in specs})


def short(digest: bytes) -> str:
    """Return the first 12 hexadecimal digits, for people to compare."""
    return digest.hex()[:12]
