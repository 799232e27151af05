"""Every kind of file is recognised by its content, and what is no model is called by its name."""

from __future__ import annotations

import gzip
import json
import os
import pickle
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from protos.checkpoints import Kind, ModelFile, ModelReader, open_model
from protos.errors import ModelFileError
from protos.tensorfile import TensorFile

ROOT = Path(__file__).parents[3]


def same(one: ModelReader, other: ModelReader) -> None:
    """Compare two open models as a merge would."""
    assert one.manifest == other.manifest
    assert one.metadata == other.metadata
    for name in one.manifest.tensors:
        assert one.read(name, 0, 1).tobytes() == other.read(name, 0, 1).tobytes()
        assert one.tensor(name).tobytes() == other.tensor(name).tobytes()
        assert b"".join(one.chunks(name)) == b"".join(other.chunks(name))


def test_a_safetensors_file_is_read_as_before(tmp_path, model, saved):
    path = saved(tmp_path / "m.anything", model(1), {"model": "tiny", "classes": "5"})
    with open_model(path) as file, TensorFile(path) as plain:
        assert isinstance(file, ModelFile)
        assert (file.kind, file.files, file.path) == (Kind.SAFETENSORS, (path,), path)
        assert (file.copies, file.copy, file.prefix, file.aliases, file.meta, file.skipped) == (
            (),
            None,
            "",
            {},
            {},
            (),
        )
        assert file.keys == {name: name for name in file.manifest.tensors}
        same(file, plain)
        file.verify()


def test_a_safetensors_file_whose_length_looks_like_another_kind_is_one(tmp_path):
    """Its first byte may be that of a pickle, of a JSON text or of a space."""
    for wanted in (0x80, ord("{"), ord("<"), ord(" ")):
        entry = {"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}
        text = json.dumps(entry).encode().ljust(wanted if wanted > 100 else wanted + 256)
        path = tmp_path / f"{wanted}.pth"
        path.write_bytes(len(text).to_bytes(8, "little") + text + np.float32(7).tobytes())
        with open_model(path) as file:
            assert file.tensor("w").tolist() == [7]


def test_the_kind_shows_in_the_content_and_not_in_the_name(tmp_path, zipped):
    path = zipped({"w": torch.ones(2)}, "really.safetensors")
    with open_model(path) as file:
        assert file.kind is Kind.TORCH


def test_opening_and_reading_checkpoints_needs_no_torch(tmp_path, saved_by_torch):
    path = saved_by_torch({"meta": {"a": np.float64(3)}, "state_dict": {"w": torch.ones(2, 3).t()}})
    program = f"""if True:
        import sys
        from pathlib import Path
        from protos.checkpoints import open_model, write_torch
        with open_model(Path({str(path)!r})) as file:
            assert file.tensor("w").sum() == 6 and file.meta == {{"a": 3.0}}
            write_torch(Path({str(tmp_path / "out.pth")!r}), file.manifest.tensors, file.chunks, file.meta)
        assert "torch" not in sys.modules
    """
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)
    assert torch.load(tmp_path / "out.pth", weights_only=True)["state_dict"]["w"].sum() == 6


# ------------------------------------------------------------------- refusals


def tar(path: Path) -> None:
    with tarfile.open(path, "w") as archive:
        archive.add(__file__, "pickle")


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
OTHERS = {
    "is empty": b"",
    "is a Git LFS pointer, not the model": LFS,
    "is a web page": b"\n<!DOCTYPE html><html><title>404</title></html>",
    "is a web page, not a model": b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>',
    "is a JSON text": b'{"error": "not found"}',
    "is an HDF5 file": b"\x89HDF\r\n\x1a\n" + bytes(64),
    "is a NumPy array": b"\x93NUMPY\x01\x00" + bytes(64),
    "is packed with gzip": gzip.compress(b"x" * 100),
    "is a pickle, but no checkpoint that torch.save wrote; it was not loaded": pickle.dumps({"a": [1]}),
    "is a tar archive": tar,
    "is no model file, or is damaged": b"just some text that somebody saved",
    "no model file, or is damaged": bytes(1000),
    "is damaged or no safetensors file": (1 << 60).to_bytes(8, "little") + b'{"a": 1}',
    "starts as a zip archive, but its end is missing": b"PK\x03\x04" + bytes(100),
}


@pytest.mark.parametrize("name", ["model.pth", "model.safetensors"])
@pytest.mark.parametrize("said", OTHERS)
def test_what_is_no_model_is_called_by_its_name(tmp_path, said, name):
    path, content = tmp_path / name, OTHERS[said]
    if callable(content):
        content(path)
    else:
        path.write_bytes(content)
    with pytest.raises(ModelFileError) as caught:
        open_model(path)
    assert said in caught.value.what
    assert str(path) in caught.value.what
    assert caught.value.fix


@pytest.mark.parametrize(
    "name", ["gone.pth", "gone/model.safetensors", "gone.safetensors.index.json", "nul\0.pth", "x" * 5000]
)
def test_a_missing_file_is_named(tmp_path, name):
    with pytest.raises(ModelFileError) as caught:
        open_model(tmp_path / name)
    assert name in caught.value.what
    assert caught.value.fix


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.pth")
    with pytest.raises(ModelFileError, match="is no file"):
        open_model(tmp_path / "pipe.pth")


def test_a_zip_archive_that_is_no_checkpoint_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "m.zip", "w") as archive:
        archive.writestr("photo.jpg", b"x")
    with pytest.raises(ModelFileError, match="is a zip archive, but no torch checkpoint"):
        open_model(tmp_path / "m.zip")
    zipfile.ZipFile(tmp_path / "e.zip", "w").close()
    with pytest.raises(ModelFileError, match="is a zip archive, but no torch checkpoint"):
        open_model(tmp_path / "e.zip")


def test_a_safetensors_file_without_tensors_is_refused(tmp_path, saved):
    with pytest.raises(ModelFileError, match="holds no tensors"):
        open_model(saved(tmp_path / "m", {}))


def test_a_safetensors_dtype_that_is_not_known_is_refused_with_the_tensor(tmp_path):
    from safetensors.torch import save_file

    save_file({"w": torch.zeros(3, dtype=torch.float8_e4m3fn)}, tmp_path / "m")
    with pytest.raises(ModelFileError, match=r"m: tensor w: dtype F8_E4M3"):
        open_model(tmp_path / "m")


def test_a_checkpoint_cut_short_anywhere_is_refused(saved_by_torch):
    path = saved_by_torch({"state_dict": {"w": torch.ones(50), "bias": torch.zeros(3)}, "meta": {"a": 1}})
    whole = path.read_bytes()
    for length in range(0, len(whole), 13):
        path.write_bytes(whole[:length])
        with pytest.raises(ModelFileError, match=r"model\.pth") as caught:
            open_model(path)
        assert caught.value.fix
    path.write_bytes(whole + b"\0")
    if whole.startswith(b"PK"):
        with pytest.raises(ModelFileError, match="something after its end"):
            open_model(path)


def test_a_flipped_bit_is_a_clear_error_or_another_file_that_makes_sense(saved_by_torch):
    path = saved_by_torch(
        {"state_dict": {"w": torch.ones(20), "t": torch.ones(2, 3).t()}, "meta": {"a": np.float32(1)}}
    )
    whole = path.read_bytes()
    refused = 0
    for position in range(0, len(whole), 3):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << (position % 8)
        path.write_bytes(damaged)
        try:
            with open_model(path) as file:
                assert isinstance(dict(file.meta), dict)
                for name in file.manifest.tensors:
                    file.tensor(name)
        except ModelFileError as error:
            refused += 1
            assert str(path) in error.what
    assert refused > len(whole) // 10


def test_a_flipped_bit_in_any_member_is_found_by_its_checksum(zipped):
    path = zipped({"w": torch.randn(40), "b": torch.randn(3)})
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    whole = path.read_bytes()
    for name, content in members.items():
        damaged = bytearray(whole)
        damaged[whole.index(content, whole.index(name.encode()))] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(ModelFileError), open_model(path) as file:
            if "data/" in name:
                assert file.manifest.tensors["w"].shape == (40,)  # a weight's bit shows in nothing else
            file.verify()
