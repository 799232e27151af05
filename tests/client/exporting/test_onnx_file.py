"""Networks as ONNX: what is written says what PyTorch says, or is not written."""

from __future__ import annotations

import importlib.util

import pytest
import torch

from client.data.images import normalise
from client.exporting import onnx_file
from client.models import build
from client.models.hrda import Sizes
from protos.errors import ConfigurationError, ModelFileError

needs_onnx = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxscript", "onnxruntime")),
    reason="the extra `export` is not installed",
)


def axes(path):
    """Return the lengths of the images' axes in a file: names where they are free."""
    import onnx

    (images,) = onnx.load(path).graph.input
    return [axis.dim_param or axis.dim_value for axis in images.type.tensor_type.shape.dim]


@needs_onnx
def test_images_may_have_any_number_and_size(shallow, trained, tmp_path):
    tried = onnx_file.write(trained("segformer-mitb0"), tmp_path / "m.onnx", {}, size=(96, 128))
    assert [one.shape for one in tried] == [(2, 96, 128), (1, 51, 65), (3, 64, 64)]
    assert all(one.difference <= 1e-4 * max(1, one.largest) for one in tried)
    assert axes(tmp_path / "m.onnx") == ["number", 3, "height", "width"]


@needs_onnx
def test_a_resnet_with_deeplabs_head_is_one_of_them(shallow, trained, tmp_path):
    tried = onnx_file.write(trained("deeplabv2-r50"), tmp_path / "m.onnx", {}, size=(65, 96), fixed=True)
    assert all(one.difference <= 1e-4 * max(1, one.largest) for one in tried)


@needs_onnx
def test_hrda_is_for_one_size_of_images_and_covers_it_with_its_windows(shallow, trained, tmp_path):
    network = trained("hrda-daformer-mitb5")
    network.sizes = Sizes(detail=64, window=128, stride=64)
    tried = onnx_file.write(network, tmp_path / "m.onnx", {}, size=(100, 150), fixed=True)
    assert [one.shape for one in tried] == [(1, 100, 150), (1, 100, 150)]
    assert axes(tmp_path / "m.onnx") == [1, 3, 100, 150]


@needs_onnx
def test_a_routed_network_also_says_which_set_each_image_got(routed_model, tmp_path):
    import onnx
    import onnxruntime

    path = tmp_path / "m.onnx"
    onnx_file.write(routed_model, path, {}, size=(64, 64), fixed=True)
    assert [output.name for output in onnx.load(path).graph.output] == ["logits", "set"]
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for light, wanted in ((40, 1), (170, 2), (250, 0)):
        grey = light + 15 * torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        images = normalise(grey.clamp(0, 255).to(torch.uint8))
        with torch.inference_mode():
            logits, sets = routed_model.explained(images)
        said, chosen = session.run(None, {"images": images.contiguous().numpy()})
        assert chosen.tolist() == sets.tolist() == [wanted]
        assert torch.allclose(torch.from_numpy(said), logits, atol=1e-4)


@pytest.fixture(scope="module")
def traced():
    """A tiny network's graph, for one image of 64 × 96."""
    network = build("tiny-resnet", 5).eval()
    with onnx_file._quiet():
        return onnx_file._traced(onnx_file._Answers(network), {"a": "b"}, (64, 96), tied=False, fixed=True)


@needs_onnx
def test_a_fixed_graph_takes_one_image_of_that_size(traced, tmp_path):
    (tmp_path / "m.onnx").write_bytes(traced)
    assert axes(tmp_path / "m.onnx") == [1, 3, 64, 96]


@needs_onnx
@pytest.mark.parametrize(("off", "said"), [(1e-3, "logits that differ by 0.001"), (float("nan"), "differ by nan")])
def test_what_says_something_else_than_pytorch_is_not_written(off, said, traced, tmp_path, monkeypatch):
    """The network that is compared is not the one that was traced: off by a thousandth, or broken."""
    network = build("tiny-resnet", 5).eval()
    monkeypatch.setattr(onnx_file, "_traced", lambda *_, **__: traced)
    assert onnx_file.write(network, tmp_path / "same.onnx", {}, size=(64, 96), fixed=True)
    with torch.no_grad():
        network.decode_head.conv_seg.bias.add_(off)
    with pytest.raises(ModelFileError, match=said):
        onnx_file.write(network, tmp_path / "m.onnx", {}, size=(64, 96), fixed=True)
    assert not (tmp_path / "m.onnx").exists()


@needs_onnx
def test_another_shape_of_logits_is_not_written(traced, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_file, "_traced", lambda *_, **__: traced)
    with pytest.raises(ModelFileError, match="logits of shape"):
        onnx_file.write(build("tiny-resnet", 6).eval(), tmp_path / "m.onnx", {}, size=(64, 96), fixed=True)


@needs_onnx
def test_what_pytorch_cannot_export_is_refused(tmp_path):
    class Undecided(torch.nn.Module):
        def forward(self, images):
            return images if float(images.sum()) > 0 else -images

    with pytest.raises(ModelFileError, match="can't write this network as ONNX"):
        onnx_file.write(Undecided(), tmp_path / "m.onnx", {}, size=(64, 64), fixed=True)
    assert not list(tmp_path.iterdir())


def test_hrda_needs_a_size(shallow, trained, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_file, "_require", lambda: None)
    with pytest.raises(ConfigurationError, match="for one size") as caught:
        onnx_file.write(trained("hrda-daformer-mitb5"), tmp_path / "m.onnx", {})
    assert "--size" in caught.value.fix


def test_missing_packages_are_named_with_the_extra(trained, tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxscript" else find(name))
    with pytest.raises(ConfigurationError, match="onnx") as caught:
        onnx_file.write(trained("tiny-resnet"), tmp_path / "m.onnx", {})
    assert "onebasin[export]" in caught.value.fix
