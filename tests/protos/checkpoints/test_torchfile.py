"""Torch's own files: what torch.load reads from them, we read."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from protos import tensorfile
from protos.checkpoints import Kind, open_model, plain
from protos.errors import ModelFileError

DTYPES = ["float32", "float16", "bfloat16", "float64", "int64", "int32", "int16", "int8", "uint8", "bool"]
SHAPES = [(), (1,), (0,), (3, 0, 2), (5, 3), (2, 3, 4, 5)]


def some(dtype: str, shape: tuple[int, ...]) -> torch.Tensor:
    values = torch.randn(shape, generator=torch.Generator().manual_seed(7)) * 50
    return (values > 0) if dtype == "bool" else values.abs().to(getattr(torch, dtype))


def check(path, tensors, stored, copy=None):
    """Open a file and compare all of its tensors, bit by bit."""
    with open_model(path, copy) as file:
        assert list(file.manifest.tensors) == sorted(tensors)
        for name, tensor in tensors.items():
            spec = file.manifest.tensors[name]
            assert (spec.dtype.name, spec.shape) == (str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape))
            found = file.tensor(name)
            assert found.shape == tuple(tensor.shape)
            assert found.tobytes() == stored(tensor).tobytes()


def test_every_dtype_and_shape(saved_by_torch, stored):
    tensors = {f"{dtype}.{i}": some(dtype, shape) for dtype in DTYPES for i, shape in enumerate(SHAPES)}
    path = saved_by_torch(tensors)
    check(path, tensors, stored)
    with open_model(path) as file:
        assert (file.kind, file.files, file.path) == (Kind.TORCH, (path,), path)
        assert (file.copies, file.copy, file.prefix, file.metadata, file.meta) == ((), None, "", {}, {})
        assert file.kind == "torch checkpoint"
        file.verify()


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, bias=False)
        self.bn = nn.BatchNorm2d(4)
        self.head = nn.Conv2d(4, 5, 1)
        self.bn(torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(1)))


def test_a_networks_state_dict_and_its_parameters(saved_by_torch, stored):
    network = Network()
    state = network.state_dict()
    assert state._metadata  # an attribute, which the pickle sets
    check(saved_by_torch(state), state, stored)
    check(saved_by_torch(OrderedDict(network.named_parameters())), dict(network.named_parameters()), stored)
    tagged = nn.Parameter(torch.randn(3))
    tagged.note = "an attribute of a parameter"
    marked = torch.randn(4)
    marked.note = ["an attribute of a tensor"]
    check(saved_by_torch({"tagged": tagged, "marked": marked}), {"tagged": tagged, "marked": marked}, stored)


META = {
    "env_info": "sys.platform: linux\n",
    "seed": np.int64(7),
    "CLASSES": ("road", "sidewalk"),
    "PALETTE": [[128, 64, 128], [244, 35, 232]],
    "iter": 40000,
    "time": 1.5,
    "hook_msgs": {
        "best_score": np.float64(68.25),
        "best_ckpt": "a.pth",
        "f": np.float32(0.5),
        "b": np.bool_(True),
    },
    "colours": np.arange(6, dtype=np.uint8).reshape(2, 3),
    "empty": np.zeros((0, 3)),
    "raw": b"\x00\xff",
    "large": 1 << 70,
    "negative": -300,
    "none": None,
    "flags": {True, False},
}


def training(network: nn.Module) -> dict[str, object]:
    """Return a checkpoint as mmsegmentation makes it, with what AdamW keeps."""
    state = {
        i: {"step": torch.tensor(1.0), "exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.ones_like(p)}
        for i, p in enumerate(network.parameters())
    }
    groups = [{"params": [i], "lr": 6e-5, "betas": (0.9, 0.999), "amsgrad": False, "foreach": None} for i in state]
    optimizer = {"state": state, "param_groups": groups}
    return {"meta": META, "state_dict": network.state_dict(), "optimizer": optimizer}


def test_a_training_checkpoint_with_optimizer_and_notes(saved_by_torch, stored):
    network = Network()
    path = saved_by_torch(training(network))
    check(path, network.state_dict(), stored)
    with open_model(path) as file:
        found = dict(file.meta)
    assert sorted(found.pop("flags")) == [False, True]
    assert found == {
        **{name: value for name, value in META.items() if name not in ("flags", "seed", "colours", "empty")},
        "seed": 7,
        "colours": [[0, 1, 2], [3, 4, 5]],
        "empty": [],
    }
    assert type(found["seed"]) is int
    assert type(found["hook_msgs"]["best_score"]) is float
    assert type(found["CLASSES"]) is tuple


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_binary_pickle_protocol(zipped, stored, protocol):
    network = Network()
    path = zipped(training(network), pickle_protocol=protocol)
    check(path, network.state_dict(), stored)
    with open_model(path) as file:
        assert file.meta["colours"] == [[0, 1, 2], [3, 4, 5]]
        assert file.meta["raw"] == b"\x00\xff"


def test_notes_that_are_no_plain_values_are_left_out(zipped, monkeypatch):
    monkeypatch.setattr(plain, "LIMIT", 1 << 20)
    loop: list[object] = []
    loop.append(loop)
    wide: object = "x" * 1000
    for _ in range(30):
        wide = [wide, wide]
    meta = {"good": 1, "tensor": torch.ones(2), "loop": loop, "wide": wide, "text": np.array(["a"]), 3: "no name"}
    with open_model(zipped({"meta": meta, "state_dict": {"a": torch.ones(1)}})) as file:
        assert file.meta == {"good": 1}
    with open_model(zipped({"meta": [1], "state_dict": {"a": torch.ones(1)}})) as file:
        assert file.meta == {}


@pytest.mark.parametrize("holder", ["state_dict", "model", "model_state_dict"])
def test_a_state_dict_under_any_of_its_usual_keys(zipped, stored, holder):
    state = Network().state_dict()
    check(zipped({"epoch": 3, holder: state, "amp": {"scale": torch.ones(1)}}), state, stored)


def test_lightnings_checkpoint(zipped, stored):
    state = {f"model.{key}": value for key, value in Network().state_dict().items()}
    content = {
        "epoch": 1,
        "pytorch-lightning_version": "2.6.0",
        "state_dict": state,
        "loops": {"fit_loop": {"state_dict": {}}},
        "callbacks": {"ModelCheckpoint{'monitor': None}": {"best_model_score": torch.tensor(0.5)}},
        "optimizer_states": [
            {"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": [{"betas": (0.9, 0.99)}]}
        ],
    }
    path = zipped(content)
    check(path, {key.removeprefix("model."): value for key, value in state.items()}, stored)
    with open_model(path) as file:
        assert (file.copies, file.copy, file.prefix) == (("student",), "student", "model.")


def test_what_is_no_tensor_is_skipped_and_listed(saved_by_torch, stored):
    state = {"w": torch.ones(2), "version": 3, "head._extra_state": {"x": torch.ones(1)}, "n": None, 7: "seven"}
    path = saved_by_torch(state)
    check(path, {"w": state["w"]}, stored)
    with open_model(path) as file:
        assert file.skipped == ("version", "head._extra_state", "n")


# ---------------------------------------------------------------------- views


def test_views_that_are_not_contiguous(saved_by_torch, stored):
    base = torch.arange(2 * 3 * 4 * 5, dtype=torch.float32)
    tensors = {
        "transposed": base.reshape(12, 10).t(),
        "last": base.reshape(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "slice": base[7:50],
        "steps": base[3::7],
        "corner": base.reshape(12, 10)[2:5, 3:8],
        "expanded": torch.ones(3, 1).expand(3, 4),
        "scalar": base[11],
        "diagonal": base[:100].reshape(10, 10).diagonal(),
        "one": base.reshape(1, 12, 1, 10).transpose(1, 3),
    }
    path = saved_by_torch(tensors)
    check(path, tensors, stored)
    with open_model(path) as file:
        for name, tensor in tensors.items():
            flat = stored(tensor).reshape(-1)
            for start in range(0, flat.size + 1, 3):
                for stop in range(start, flat.size + 1, 5):
                    np.testing.assert_array_equal(file.read(name, start, stop), flat[start:stop])


@pytest.mark.parametrize("chunk", [16, 40, 1 << 20])
def test_chunks_put_together_are_the_whole(zipped, stored, monkeypatch, chunk):
    monkeypatch.setattr(tensorfile, "CHUNK", chunk)
    tensors = {"a": some("float64", (5, 7)), "b": some("float32", (6, 4)).t(), "c": some("int8", (0, 2))}
    with open_model(zipped(tensors)) as file:
        for name, tensor in tensors.items():
            parts = [bytes(part) for part in file.chunks(name)]
            assert b"".join(parts) == stored(tensor).tobytes()
            assert all(len(part) <= chunk for part in parts)


@st.composite
def views(draw: st.DrawFn) -> torch.Tensor:
    """Draw a view of a storage: any shape, order of dimensions, steps and offset."""
    dtype = draw(st.sampled_from(DTYPES))
    shape = draw(st.lists(st.integers(0, 4), max_size=4))
    tensor = some(dtype, tuple(shape))
    tensor = tensor.permute(draw(st.permutations(range(len(shape)))))
    for dimension in range(tensor.dim()):
        length = tensor.shape[dimension]
        start = draw(st.integers(0, length))
        kept = torch.arange(length)[start :: draw(st.integers(1, 3))]
        if len(kept):
            tensor = tensor.narrow(dimension, start, length - start)
            tensor = tensor[
                (slice(None),) * dimension + (slice(None, None, int(kept[1] - kept[0]) if len(kept) > 1 else 1),)
            ]
    if draw(st.booleans()):
        tensor = tensor.unsqueeze(0).expand(draw(st.integers(0, 3)), *tensor.shape)
    return tensor


@given(tensors=st.lists(views(), min_size=1, max_size=3), legacy=st.booleans(), data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_view_reads_as_torch_reads_it(tmp_path, stored, tensors, legacy, data):
    path = tmp_path / "drawn.pth"
    torch.save({str(i): t for i, t in enumerate(tensors)}, path, _use_new_zipfile_serialization=not legacy)
    theirs = torch.load(path, weights_only=True)
    check(path, theirs, stored)
    name = data.draw(st.sampled_from(sorted(theirs)))
    start, stop = sorted(data.draw(st.tuples(*[st.integers(0, theirs[name].numel())] * 2)))
    with open_model(path) as file:
        found = file.read(name, start, stop)
    assert found.tobytes() == stored(theirs[name]).reshape(-1)[start:stop].tobytes()


# -------------------------------------------------------------------- aliases


def test_names_of_one_tensor_are_aliases_of_the_first(saved_by_torch):
    shared, empty = torch.randn(4, 3), torch.zeros(0)
    state = {
        "head.weight": shared,
        "body.weight": shared,
        "part": shared[:2],
        "turned": shared.t(),
        "equal": shared.clone(),
        "tied": shared.detach(),
        "none": empty,
        "nothing": empty,
    }
    with open_model(saved_by_torch(state)) as file:
        assert file.aliases == {"head.weight": "body.weight", "tied": "body.weight"}


def test_parameters_that_a_network_shares_are_aliases(saved_by_torch):
    network = Network()
    network.again = network.head
    with open_model(saved_by_torch(network.state_dict())) as file:
        assert file.aliases == {"head.bias": "again.bias", "head.weight": "again.weight"}


# ------------------------------------------------------------------- refusals


def quantized() -> torch.Tensor:
    return torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)


REFUSED = {
    "quantized": quantized,
    "sparse": lambda: torch.eye(3).to_sparse(),
    "meta": lambda: torch.empty(3, device="meta"),
    "conjugated": lambda: torch.ones(3, dtype=torch.complex64).conj(),
    "complex64": lambda: torch.ones(3, dtype=torch.complex64),
    "uint16": lambda: torch.ones(3, dtype=torch.uint16),
    "float8_e4m3fn": lambda: torch.ones(3, dtype=torch.float8_e4m3fn),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", REFUSED)
def test_a_tensor_that_is_no_plain_array_is_named(zipped, kind):
    state = {"fine": torch.ones(2), "odd.weight": REFUSED[kind]()}
    path = zipped(state)
    with pytest.raises(ModelFileError, match=r"model\.pth: tensor odd\.weight") as caught:
        open_model(path)
    assert kind in caught.value.what
    assert caught.value.fix
    # Where it isn't needed, it is no matter.
    with open_model(zipped({"state_dict": {"fine": torch.ones(2)}, "optimizer": state})) as file:
        assert list(file.manifest.tensors) == ["fine"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (torch.ones(3), "one tensor"),
        ([torch.ones(3)], "of type list"),
        ({}, "nothing"),
        ({"epoch": 3}, "at its top there is: epoch"),
        ({"state_dict": {}}, "at its top there is: state_dict"),
        ({"encoder": {"w": torch.ones(1)}, "decoder": {"w": torch.ones(1)}}, "encoder, decoder"),
        (
            {"model": {"w": torch.ones(1)}, "state_dict": {"w": torch.ones(1)}},
            "several models: state_dict and model",
        ),
        ({3: torch.ones(1)}, "key is no text"),
        ({"": torch.ones(1)}, "key that can't be"),
        ({"__metadata__": torch.ones(1)}, "key that can't be"),
        ({"\ud800": torch.ones(1)}, "key that can't be"),
    ],
)
def test_a_checkpoint_without_one_state_dict_is_refused(zipped, content, said):
    with pytest.raises(ModelFileError, match=said) as caught:
        open_model(zipped(content))
    assert "model.pth" in caught.value.what
    assert caught.value.fix


def test_incomplete_batchnorm_statistics_are_refused_with_the_file(zipped):
    state = Network().state_dict()
    del state["bn.running_var"]
    with pytest.raises(ModelFileError, match=r"model\.pth: BatchNorm layer bn has no running_var"):
        open_model(zipped(state))


def test_a_whole_network_is_refused_by_the_name_of_its_class(zipped):
    with pytest.raises(ModelFileError, match=r"holds code: .*Network; refused") as caught:
        open_model(zipped(Network()))
    assert "torch.save(model.state_dict()" in caught.value.fix


def test_torchscript_is_refused(tmp_path):
    torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2)), tmp_path / "m.pt")
    with pytest.raises(ModelFileError, match="holds a TorchScript program"):
        open_model(tmp_path / "m.pt")


def test_a_file_that_gets_shorter_while_it_is_open_is_refused(saved_by_torch):
    path = saved_by_torch({"w": torch.ones(50_000)})
    with open_model(path) as file:
        with path.open("r+b") as other:
            other.truncate(100_000)
        with pytest.raises(ModelFileError, match="ends too early"):
            file.tensor("w")
        with pytest.raises(ModelFileError, match="ends too early"):
            file.verify()
