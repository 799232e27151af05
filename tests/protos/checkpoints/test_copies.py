"""Which copy of a model a file holds: told from its keys, chosen, and never mixed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from protos.checkpoints import open_model
from protos.checkpoints.copies import choose
from protos.errors import ModelFileError

PATH = Path("fog.pth")
NAMES = ["backbone.stem.weight", "bn.num_batches_tracked", "bn.running_mean", "bn.running_var", "decode_head.bias"]


def under(*prefixes: str) -> list[str]:
    return [prefix + name for prefix in prefixes for name in NAMES]


FOUND = {
    # an export of mmsegmentation's
    (): ((), None, ""),
    ("module.",): ((), None, "module."),
    # one model inside of a wrapper
    ("model.",): (("student",), "student", "model."),
    ("module.model.",): (("student",), "student", "module.model."),
    ("model.module.",): (("student",), "student", "model.module."),
    ("ema_model.",): (("ema",), "ema", "ema_model."),
    # a student with the network that it is kept near to
    ("model.", "imnet_model."): (("student", "imagenet"), "student", "model."),
}


@pytest.mark.parametrize("prefixes", FOUND)
def test_one_model_needs_no_choice(prefixes):
    layout = choose(under(*prefixes) if prefixes else NAMES, None, PATH)
    assert (layout.copies, layout.copy, layout.prefix) == FOUND[prefixes]
    assert layout.keys == {name: layout.prefix + name for name in NAMES}
    assert layout.others == ()


@pytest.mark.parametrize("outer", ["", "module."])
@pytest.mark.parametrize(
    ("copy", "prefix"),
    [("student", "model."), ("ema", "ema_model."), ("teacher", "ema_model."), ("imagenet", "imnet_model.")],
)
def test_each_copy_can_be_chosen(outer, copy, prefix):
    keys = under(outer + "model.", outer + "ema_model.", outer + "imnet_model.")
    layout = choose(keys, copy, PATH)
    assert layout.copies == ("student", "ema", "imagenet")
    assert layout.copy == ("ema" if copy == "teacher" else copy)
    assert layout.keys == {name: outer + prefix + name for name in NAMES}


def test_the_choice_is_asked_for_where_there_is_one():
    with pytest.raises(
        ModelFileError, match=r"fog\.pth holds several copies of the model: student, ema"
    ) as caught:
        choose(under("model.", "ema_model."), None, PATH)
    assert "student" in caught.value.fix
    assert "teacher" in caught.value.fix
    with pytest.raises(ModelFileError, match="only the network as it came from ImageNet"):
        choose(under("imnet_model."), None, PATH)


def test_a_copy_that_is_not_there_is_an_error():
    for prefixes, copy in ((("model.",), "ema"), (("ema_model.",), "student"), (("model.", "ema_model."), "best")):
        with pytest.raises(ModelFileError, match=f"holds no copy {copy}") as caught:
            choose(under(*prefixes), copy, PATH)
        assert caught.value.fix.startswith("it holds: ")


def test_a_model_without_prefix_is_what_it_is_whichever_copy_is_asked_for():
    layout = choose(NAMES, "ema", PATH)
    assert (layout.copies, layout.copy, layout.keys) == ((), None, {name: name for name in NAMES})


def test_a_network_with_a_part_called_model_keeps_its_names():
    keys = ["model.layers.0.weight", "model.norm.weight", "lm_head.weight"]
    layout = choose(keys, None, PATH)
    assert (layout.copies, layout.prefix, sorted(layout.keys)) == ((), "", sorted(keys))


def test_what_belongs_to_no_copy_is_listed():
    layout = choose([*under("model.", "ema_model."), "local_iter", "mic.teacher.ema_model.w"], "student", PATH)
    assert layout.others == ("local_iter", "mic.teacher.ema_model.w")
    assert sorted(layout.keys) == NAMES


def test_a_teacher_beside_a_model_without_prefix_is_unclear():
    with pytest.raises(ModelFileError, match=r"backbone\.stem\.weight beside ema"):
        choose([*NAMES, *under("ema_model.")], "ema", PATH)


# ------------------------------------------------------------ in actual files


def states() -> dict[str, torch.Tensor]:
    """Return a student and a teacher that differ in every tensor, statistics included."""
    shapes = {name: () if "num" in name else (4,) for name in NAMES}
    return {
        prefix + name: torch.full(shape, value, dtype=torch.int64 if "num" in name else torch.float32)
        for prefix, value in (("model.", 1), ("ema_model.", 2))
        for name, shape in shapes.items()
    }


def write(folder: Path, kind: str) -> Path:
    path = folder / f"model.{kind}"
    if kind == "safetensors":
        save_file(states(), path)
    else:
        torch.save({"meta": {"CLASSES": ("a", "b")}, "state_dict": states()}, path)
    return path


@pytest.mark.parametrize("kind", ["safetensors", "pth"])
@pytest.mark.parametrize(("copy", "value"), [("student", 1), ("ema", 2)])
def test_parameters_and_statistics_are_of_the_same_copy(tmp_path, kind, copy, value):
    with open_model(write(tmp_path, kind), copy) as file:
        assert (file.copies, file.copy) == (("student", "ema"), copy)
        assert list(file.manifest.tensors) == list(file.keys) == NAMES
        assert list(file.manifest.layers) == ["bn"]
        assert all((file.read(name) == value).all() for name in NAMES)


@pytest.mark.parametrize("kind", ["safetensors", "pth"])
def test_the_file_is_closed_when_the_choice_is_missing(tmp_path, kind):
    with pytest.raises(ModelFileError, match="several copies"):
        open_model(write(tmp_path, kind))
