import pickle

import pytest
import torch

from client.models import build
from client.models.pretrained import load_encoder
from protos.errors import ConfigurationError, ModelFileError

CLASSIFIER = {"weight": torch.zeros(1000, 8), "bias": torch.zeros(1000)}


@pytest.fixture(scope="module")
def resnet():
    """Weights of ImageNet, as it were."""
    encoder = build("deeplabv2-r50", 5, seed=1).backbone
    encoder.layer1[0].bn1.num_batches_tracked.fill_(12)
    return encoder.state_dict()


@pytest.fixture(scope="module")
def mit():
    return build("segformer-mitb0", 5, seed=1).backbone.state_dict()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "encoder.pth"


def with_classifier(state, name):
    return {**state, **{f"{name}.{key}": value for key, value in CLASSIFIER.items()}}


def openmmlab(state):
    return with_classifier(state, "fc")


def mmpretrain(state):
    state = {f"backbone.{name}": value for name, value in state.items()}
    return {"meta": {"epoch": 100}, "state_dict": with_classifier(state, "head.fc")}


def old(state):
    names = {name: name.replace("stem.7.", "bn1.").replace("stem.", "conv1.") for name in state}
    return {"state_dict": {names[name]: v for name, v in state.items() if "num_batches" not in name}}


@pytest.mark.parametrize("form", [openmmlab, mmpretrain, old])
def test_a_resnet_is_loaded_whole_and_the_head_stays(resnet, path, form):
    torch.save(form(resnet), path)
    model = build("deeplabv2-r50", 5)
    head = {name: value.clone() for name, value in model.decode_head.state_dict().items()}
    load_encoder(model, path)
    for name, value in model.backbone.state_dict().items():
        counts = name.endswith("num_batches_tracked")
        assert torch.equal(value, torch.zeros_like(value) if form is old and counts else resnet[name]), name
    assert all(torch.equal(value, head[name]) for name, value in model.decode_head.state_dict().items())


def test_a_mit_is_loaded_whole(mit, path):
    torch.save(with_classifier(mit, "head"), path)
    model = build("segformer-mitb0", 5)
    load_encoder(model, path)
    assert all(torch.equal(value, mit[name]) for name, value in model.backbone.state_dict().items())


def refused(model, path):
    with pytest.raises(ModelFileError) as caught:
        load_encoder(model, path)
    assert caught.value.fix
    return caught.value.what


def test_what_lacks_is_too_much_or_has_another_shape_is_named(mit, path):
    model = build("segformer-mitb0", 5)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    wrong = dict(mit)
    del wrong["norm4.weight"], wrong["norm4.bias"]
    wrong["norm5.weight"] = torch.ones(2)
    wrong["block1.0.attn.q.weight"] = torch.ones(64, 64)
    torch.save(wrong, path)
    what = refused(model, path)
    assert "2 tensors missing, first norm4.weight" in what
    assert "1 tensor unknown, first norm5.weight" in what
    assert "block1.0.attn.q.weight, (64, 64) instead of (32, 32)" in what
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_torchvisions_stem_is_refused(resnet, path):
    state = {name: value for name, value in resnet.items() if not name.startswith("stem.")}
    torch.save({**state, "conv1.weight": torch.zeros(64, 3, 7, 7), "bn1.weight": torch.ones(64)}, path)
    what = refused(build("deeplabv2-r50", 5), path)
    assert "first stem.0.weight" in what
    assert "first conv1.weight" in what


class Trap:
    def __reduce__(self):
        return print, ("trapped",)


@pytest.mark.parametrize(
    "content",
    [b"", b"no checkpoint", pickle.dumps(Trap()), pickle.dumps({"a": 1})],
)
def test_what_is_no_checkpoint_is_refused(content, path, capsys):
    path.write_bytes(content)
    assert str(path) in refused(build("segformer-mitb0", 5), path)
    assert "trapped" not in capsys.readouterr().out


@pytest.mark.parametrize("content", [[1, 2], {"state_dict": {"norm1.weight": 3}}, {1: torch.ones(1)}])
def test_what_holds_no_tensors_by_name_is_refused(content, path):
    torch.save(content, path)
    assert str(path) in refused(build("segformer-mitb0", 5), path)


def test_code_in_a_checkpoint_is_not_run(mit, path, capsys):
    torch.save({"state_dict": mit, "meta": Trap()}, path)
    assert "holds code" in refused(build("segformer-mitb0", 5), path)
    assert "trapped" not in capsys.readouterr().out


def test_a_missing_file_is_named(path):
    assert f"there is no file {path}" in refused(build("segformer-mitb0", 5), path)


def test_the_tiny_model_has_no_pretraining(path):
    with pytest.raises(ConfigurationError):
        load_encoder(build("tiny-resnet", 5), path)
