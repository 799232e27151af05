"""Each method, for two steps on a small but real network."""

from dataclasses import replace

import pytest
import torch

from client.models import build
from client.training.adapt import adapt
from client.training.dacs import make_teacher
from client.training.engine import Engine
from client.training.lessons import Learner
from client.training.passes import Passes
from client.training.settings import AdaptSettings
from protos.errors import ConfigurationError

SMALL = {"batch": 1, "warmup": 0, "threshold": 0.0, "mask_block": 16}


@pytest.mark.parametrize(
    ("method", "name"),
    [
        ("demo", "segformer-mitb0"),
        ("dacs", "segformer-mitb0"),
        ("daformer", "segformer-mitb0"),
        ("hrda", "hrda-mitb0"),
        ("mic", "segformer-mitb0"),
        ("advent", "segformer-mitb0"),
        ("advent", "tiny-resnet"),
    ],
)
def test_a_method_learns_and_is_a_function_of_its_seed(method, name, hrda, square_feed):
    base = build(name, 19).state_dict()
    feed = replace(square_feed, batch=1)

    def once(seed=0):
        losses = []
        settings = AdaptSettings(method=method, steps=2, seed=seed, **SMALL)
        report = lambda progress: losses.append(progress.loss)  # noqa: E731
        return adapt(base, name, 19, feed, settings, report), losses

    first, losses = once()
    assert len(losses) == 2
    assert all(0 < loss < 50 for loss in losses)
    assert all(value.isfinite().all() for value in first.student.values())
    changed = [key for key, value in first.student.items() if not torch.equal(value, base[key])]
    assert any(key.startswith("backbone.") for key in changed)
    assert any(key.startswith("decode_head.") for key in changed)
    if name != hrda:  # it takes seconds
        again, same = once()
        assert losses == same
        assert all(torch.equal(value, again.student[key]) for key, value in first.student.items())
        if method != "advent":  # which draws nothing, but for dropout
            assert once(seed=1)[1] != losses


def test_a_deep_network_with_batchnorm_learns_too(square_feed):
    base = build("daformer-r50", 19).state_dict()
    adapted = adapt(
        base,
        "daformer-r50",
        19,
        replace(square_feed, batch=1),
        AdaptSettings(method="daformer", steps=1, **SMALL),
        lambda progress: None,
    )
    assert adapted.student["backbone.stem.1.num_batches_tracked"] == 2  # source and mixed images
    assert adapted.teacher["backbone.stem.1.num_batches_tracked"] == 1


class Counting(Engine):
    """An engine that notes the losses that it was given."""

    def __init__(self):
        super().__init__(torch.device("cpu"))
        self.losses = []

    def backward(self, loss):
        self.losses.append(loss.item())
        super().backward(loss)


def outcome(square_feed, name, **settings):
    student, teacher, engine = build(name, 19).train(), make_teacher(build(name, 19)), Counting()
    chosen = AdaptSettings(method="dacs", **{**SMALL, **settings})
    passes = Passes(student, Learner(student), teacher, None, chosen, engine)
    (batch,) = square_feed.batches(0, 1)
    torch.manual_seed(0)
    return passes.run(batch, torch.Generator().manual_seed(0)), engine.losses, student, teacher


@pytest.mark.parametrize(
    ("settings", "passes"),
    [({}, 2), ({"masked": 1.0}, 3), ({"mixed": 0.0}, 1), ({"mixed": 0.0, "entropy": 1.0}, 2)],
)
def test_each_weight_above_0_is_a_pass_and_gives_the_student_its_gradients(square_feed, settings, passes):
    found, losses, student, teacher = outcome(square_feed, "tiny-resnet", **settings)
    assert len(losses) == passes
    assert found.loss.item() == pytest.approx(sum(losses), rel=1e-5)
    assert student.backbone.stem.bn.num_batches_tracked == passes
    assert teacher.backbone.stem.bn.num_batches_tracked == 1  # it labels whoever learns from it
    assert all(parameter.grad is not None for parameter in student.parameters())
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert found.guess.dtype == torch.uint8
    assert 0 <= found.coverage <= 1


def test_weights_scale_their_losses(square_feed):
    _, once, *_ = outcome(square_feed, "tiny-resnet", masked=1.0)
    _, twice, *_ = outcome(square_feed, "tiny-resnet", masked=2.0, mixed=0.5)
    assert twice == pytest.approx([once[0], 0.5 * once[1], 2 * once[2]], rel=1e-5)


def test_pseudo_labels_that_nobody_is_sure_of_teach_nothing(square_feed):
    _, losses, *_ = outcome(square_feed, "tiny-resnet", mix=0.0, threshold=1.0)
    assert losses[1] == 0


def test_feature_distance_needs_features(base, feed):
    with pytest.raises(ConfigurationError, match="tiny-resnet gives no features"):
        adapt(base, "tiny-resnet", 19, feed, AdaptSettings(method="daformer", steps=1), lambda progress: None)


def test_feature_distance_holds_the_encoder_back(square_feed):
    """With a weight that drowns all else, features of things hardly move."""
    name = "segformer-mitb0"
    base = build(name, 19).state_dict()

    def moved(weight):
        numbers = {**SMALL, "feature_classes": tuple(range(19)), "feature_distance": weight, "lr": 1e-4}
        settings = AdaptSettings(method="daformer", steps=2, mixed=0.0, **numbers)
        losses = []
        adapt(base, name, 19, square_feed, settings, lambda progress: losses.append(progress.loss))
        return losses

    free, held = moved(0.0), moved(5.0)
    assert held[0] > free[0]  # dropout alone makes a distance
