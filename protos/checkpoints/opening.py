"""Opening a model file, whichever kind it is: that shows in its first bytes, not in its name."""

from __future__ import annotations

from pathlib import Path

from protos.checkpoints.copies import choose
from protos.checkpoints.modelfile import ModelFile
from protos.checkpoints.rawfile import AGAIN, RawFile
from protos.checkpoints.saved import LEGACY
from protos.checkpoints.shards import INDEX, Safetensors, open_index
from protos.checkpoints.source import Kind, Source
from protos.checkpoints.torchfile import TorchFile
from protos.errors import ModelFileError

_HEAD = 512
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_KINDS = "a safetensors file, or a checkpoint that torch.save wrote"
_CONVERT = f"onebasin opens {_KINDS}: convert the model to one of them"
_ALONE = "have whoever made it save the weights with torch.save(model.state_dict(), …)"

_OTHERS = (
    (b"version https://git-lfs", "is a Git LFS pointer, not the model", "fetch the model itself: git lfs pull"),
    (b"\x89HDF", "is an HDF5 file", _CONVERT),
    (b"\x93NUMPY", "is a NumPy array", _CONVERT),
    (b"\x1f\x8b", "is packed with gzip", "unpack it first: gunzip, or tar xzf"),
    (b"BZh", "is packed with bzip2", "unpack it first: bunzip2"),
    (b"\xfd7zXZ", "is packed with xz", "unpack it first: unxz"),
    (b"\x80", "is a pickle, but no checkpoint that torch.save wrote; it was not loaded", _ALONE),
)
"""How other files start, what they are, and what to do."""


def open_model(path: Path, copy: str | None = None) -> ModelFile:
    """Open a model for reading, tensor by tensor and range by range.

    Args:
        path: A safetensors file, an index of several (``model.safetensors.index.json``) or the folder that holds
            one, or a torch checkpoint (``.pth``, ``.pt``, ``.bin``). Torch is not needed, and nothing that a
            checkpoint names is ever run.
        copy: Which of several copies of the model: "student", "ema" (or "teacher"), "imagenet". It has to be given
            where the file holds both a student and its teacher.

    Raises:
        ModelFileError: The file is missing, damaged, of another kind, or holds code; a tensor of the copy can't be
            read; or the copy has to be chosen, or isn't there.

    """
    source = open_source(_in_folder(path) if _is_folder(path) else path)
    try:
        if not source.keys:
            raise ModelFileError(f"{path} holds no tensors", "check that it is the right file")
        return ModelFile(source, choose(source.keys, copy, path))
    except BaseException:
        source.close()
        raise


def open_source(path: Path) -> Source:
    """Open tensors by the file's own keys, whether or not they make up a model; see `open_model`."""
    if path.name.endswith(INDEX):
        return open_index(path)
    file = RawFile(path)
    try:
        head = file.bytes(0, _HEAD)
        # A header's length may start with the bytes that mark another kind, so this comes first.
        if head[8:9] != b"{" or int.from_bytes(head[:8], "little") > file.size:
            if head.startswith((*_ZIP, LEGACY)):
                return TorchFile(file)
            _refuse_others(path, head)
    except BaseException:
        file.close()
        raise
    file.close()
    return Safetensors(path, Kind.SAFETENSORS, [path])


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a name that is too long, a folder that may not be looked into: opening it will say so
        return False


def _in_folder(folder: Path) -> Path:
    """Find the one model in a folder."""
    for pattern in (f"*{INDEX}", "*.safetensors"):
        found = sorted(folder.glob(pattern))
        if len(found) > 1:
            names = ", ".join(path.name for path in found[:8])
            raise ModelFileError(f"the folder {folder} holds several models: {names}", "name one of them")
        if found:
            return found[0]
    raise ModelFileError(
        f"the folder {folder} holds no model: neither an index (*{INDEX}) nor a file *.safetensors",
        "name the model's file",
    )


def _refuse_others(path: Path, head: bytes) -> None:
    """Say what a file is that is no model."""
    if not head:
        raise ModelFileError(f"{path} is empty", AGAIN)
    for start, what, fix in _OTHERS:
        if head.startswith(start):
            raise ModelFileError(f"{path} {what}", fix)
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        raise ModelFileError(
            f"{path} is a web page, not a model",
            "the download went wrong: open its address in a browser to see why",
        )
    if text.startswith(b"{"):
        raise ModelFileError(
            f"{path} is a JSON text, not a model", f"name the model's file, or its index (*{INDEX})"
        )
    if head[257:262] == b"ustar":
        raise ModelFileError(
            f"{path} is a tar archive", f"unpack it; if torch before 0.1.10 saved it, convert it: {_ALONE}"
        )
    if head[8:9] != b"{":  # else it is a safetensors file whose length is damaged, which its library will say
        raise ModelFileError(f"{path} is no model file, or is damaged", f"it has to be {_KINDS}")
