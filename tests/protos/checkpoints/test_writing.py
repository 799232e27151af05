"""What we write, torch opens every way it can; and it is the same bits."""

from __future__ import annotations

import hashlib
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protos.checkpoints import open_model, write_torch, zipwriter
from protos.digest import file_digest, model_digest
from protos.errors import StorageError
from protos.tensorfile import TensorFile

META = {
    "CLASSES": ("road", "sidewalk"),
    "PALETTE": [[128, 64, 128], [244, 35, 232]],
    "env": "ü" * 300,
    "iter": 40000,
    "deep": {
        "a": [None, True, False, 1.5, -1, 255, 256, -(1 << 40), 1 << 80],
        3: b"\x00\xffbytes",
        "e": [(), [], {}],
    },
}
WAYS = [{"weights_only": True}, {"weights_only": False}, {"weights_only": True, "mmap": True}, {"mmap": True}]


@pytest.fixture
def source(tmp_path, model, saved):
    """A safetensors file with two BatchNorm layers, a 0-d, an empty and an int64 tensor."""
    arrays = {**model(1), "half": np.arange(5, dtype=np.float16), "brain": np.arange(7, dtype=np.uint16) << 7}
    arrays["flag"] = np.array([True, False, True])
    with TensorFile(saved(tmp_path / "m.safetensors", arrays)) as file:
        yield file


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("way", WAYS, ids=str)
def test_torch_opens_it(source, tmp_path, stored, way, threads):
    path = tmp_path / "m.pth"
    digests = write_torch(path, source.manifest.tensors, source.chunks, META, threads=threads)
    found = torch.load(path, **way)
    assert list(found) == ["meta", "state_dict"]
    assert found["meta"] == META
    assert repr(found["meta"]) == repr(META)
    assert type(found["state_dict"]).__name__ == "OrderedDict"
    assert list(found["state_dict"]) == list(source.manifest.tensors)
    for name, spec in source.manifest.tensors.items():
        tensor = found["state_dict"][name]
        assert (str(tensor.dtype), tuple(tensor.shape)) == (f"torch.{spec.dtype.name}", spec.shape)
        assert tensor.stride() == torch.empty(spec.shape).stride()
        assert not tensor.requires_grad
        assert stored(tensor).tobytes() == source.tensor(name).tobytes()
        assert digests[name] == hashlib.sha256(source.tensor(name).tobytes()).digest()


def test_the_same_tensors_give_the_same_bytes_and_we_read_them_back(source, tmp_path):
    for name, threads in (("a.pth", 1), ("b.pt", 4)):
        write_torch(tmp_path / name, source.manifest.tensors, source.chunks, META, threads=threads, durable=False)
    assert (tmp_path / "a.pth").read_bytes() == (tmp_path / "b.pt").read_bytes()
    with open_model(tmp_path / "a.pth") as file:
        assert file.manifest == source.manifest
        assert file.meta == META
        assert all(file.tensor(name).tobytes() == source.tensor(name).tobytes() for name in file.manifest.tensors)
        file.verify()


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_plain_state_dict_is_nothing_but_the_tensors(source, tmp_path, way):
    path = tmp_path / "plain.pth"
    digests = write_torch(path, source.manifest.tensors, source.chunks, META, wrapped=False)
    found = torch.load(path, **way)
    assert list(found) == list(source.manifest.tensors)
    assert found["stem.weight"].numpy().tobytes() == source.tensor("stem.weight").tobytes()
    with open_model(path) as file:
        assert file.meta == {}
        assert model_digest(file.manifest.tensors, digests) == file_digest(file)


def test_every_members_content_starts_at_a_multiple_of_64_bytes(source, tmp_path):
    path = tmp_path / "m.pth"
    write_torch(path, source.manifest.tensors, source.chunks)
    raw = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        for info in archive.infolist():
            lengths = raw[info.header_offset + 26 : info.header_offset + 30]
            start = info.header_offset + 30 + lengths[0] + 256 * lengths[1] + lengths[2] + 256 * lengths[3]
            assert start % 64 == 0
            assert raw[start : start + info.file_size] == archive.read(info)


def test_large_files_take_numbers_of_64_bits(source, tmp_path, monkeypatch):
    """As beyond 4 GiB, only that the border is much lower."""
    monkeypatch.setattr(zipwriter, "LARGE", 64)
    path = tmp_path / "m.pth"
    write_torch(path, source.manifest.tensors, source.chunks, META)
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
    with open_model(path) as file:
        file.verify()
        assert all(file.tensor(name).tobytes() == source.tensor(name).tobytes() for name in file.manifest.tensors)
    for way in WAYS:
        found = torch.load(path, **way)["state_dict"]
        assert found["stem.weight"].numpy().tobytes() == source.tensor("stem.weight").tobytes()


def test_an_export_goes_back_under_the_keys_that_it_came_from(zipped, tmp_path):
    state = {f"{prefix}.w": torch.full((3,), value) for prefix, value in (("model", 1.0), ("ema_model", 2.0))}
    with open_model(zipped({"meta": {"CLASSES": ("a",)}, "state_dict": state}), "ema") as file:
        specs = {file.keys[name]: spec for name, spec in file.manifest.tensors.items()}
        names = {key: name for name, key in file.keys.items()}
        write_torch(tmp_path / "out.pth", specs, lambda key: file.chunks(names[key]), file.meta)
    found = torch.load(tmp_path / "out.pth", weights_only=True)
    assert found["meta"] == {"CLASSES": ("a",)}
    assert list(found["state_dict"]) == ["ema_model.w"]
    assert found["state_dict"]["ema_model.w"].tolist() == [2, 2, 2]


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 200), 1 << 200)
    | st.floats(allow_nan=False)
    | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=3) | st.integers(0, 300), inner, max_size=3)
        | st.lists(inner, max_size=5).map(tuple)
    ),
    max_leaves=10,
)


@given(meta=st.dictionaries(st.text(max_size=5), PLAIN, max_size=4))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_notes_come_back(tmp_path, meta):
    path = tmp_path / "m.pth"
    write_torch(path, {}, lambda _: [], meta, durable=False)
    assert repr(torch.load(path, weights_only=True)) == repr(
        {"meta": meta, "state_dict": torch.load(path, weights_only=False)["state_dict"]}
    )


def loop() -> list[object]:
    found: list[object] = []
    found.append(found)
    return found


@pytest.mark.parametrize(
    "value",
    [np.float64(1), {1}, object(), torch.ones(1), loop(), 1 << 3000, print],
    ids=("numpy", "set", "object", "tensor", "loop", "large", "function"),
)
def test_notes_that_are_not_plain_are_a_bug_and_leave_nothing(tmp_path, value):
    with pytest.raises(TypeError, match="a checkpoint's notes"):
        write_torch(tmp_path / "m.pth", {}, lambda _: [], {"x": [value]})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [[], [b"\0" * 3], [b"\0" * 4, b"\0"]])
def test_writing_other_bytes_than_announced_is_a_bug_and_leaves_nothing(tmp_path, content, manifest_for):
    with pytest.raises(AssertionError, match="bytes of"):
        write_torch(tmp_path / "m.pth", manifest_for({"a": np.zeros(1, np.float32)}).tensors, lambda _: content)
    assert list(tmp_path.iterdir()) == []


def test_writing_into_a_missing_folder_is_a_storage_error(tmp_path):
    with pytest.raises(StorageError, match="No such file"):
        write_torch(tmp_path / "none" / "m.pth", {}, lambda _: [])
