import copy
from dataclasses import replace

import pytest
import torch

from client.data import datasets
from client.data.datasets import LabelledImages, scene_source, scene_target
from client.data.scenes import Scene, render
from client.data.settings import SceneData
from client.models import build
from client.training.adapt import adapt
from client.training.settings import AdaptSettings
from protos.errors import AdaptationError, ConfigurationError

QUIET = lambda progress: None  # noqa: E731


class PowerCutError(Exception):
    pass


def cut_at(step):
    def report(progress):
        if progress.step == step:
            raise PowerCutError

    return report


def same(one, other):
    return all(
        torch.equal(value, getattr(other, which)[key])
        for which in ("student", "teacher")
        for key, value in getattr(one, which).items()
    )


@pytest.fixture
def run(base, source, target):
    def go(settings, report=QUIET, checkpoint=None, **other):
        arguments = {"base_state": base, "source": source, "target": target, **other}
        return adapt(
            model_name="tiny-resnet",
            classes=19,
            settings=settings,
            report=report,
            checkpoint=checkpoint,
            **arguments,
        )

    return go


def test_it_reports_each_step_and_leaves_the_base_alone(run, base, quick):
    before, reports = copy.deepcopy(base), []
    adapted = run(quick, reports.append)
    assert [(r.phase, r.step, r.steps) for r in reports] == [("adapt", step, 6) for step in range(1, 7)]
    assert "sure" in reports[0].note
    assert all(torch.equal(value, base[key]) for key, value in before.items())
    assert adapted.student.keys() == adapted.teacher.keys() == base.keys()
    assert any(not torch.equal(value, base[key]) for key, value in adapted.student.items())


def test_batches_are_counted_as_torch_does(run, base, quick):
    counted = {**base, "backbone.stem.bn.num_batches_tracked": torch.tensor(100)}
    adapted = run(quick, base_state=counted)
    assert adapted.student["backbone.stem.bn.num_batches_tracked"] == 100 + 2 * 6
    assert adapted.teacher["backbone.stem.bn.num_batches_tracked"] == 100 + 6


def test_the_teachers_statistics_come_from_target_images_only(run, quick, source):
    other = LabelledImages(255 - source.images, source.labels)
    # At rate zero the parameters stay the base's, so only images can make a difference.
    still = replace(quick, lr=0.0, weight_decay=0.0)
    one, two = run(still), run(still, source=other)
    key = "backbone.stem.bn.running_mean"
    assert torch.equal(one.teacher[key], two.teacher[key])
    assert not torch.equal(one.student[key], two.student[key])


def test_the_global_random_state_is_neither_read_nor_changed(run, quick):
    torch.manual_seed(1)
    first = run(quick)
    torch.manual_seed(2)
    expected = torch.rand(3)
    torch.manual_seed(2)
    again = run(quick)
    assert same(first, again)
    assert torch.equal(torch.rand(3), expected)
    assert not same(first, run(replace(quick, seed=1)))


@pytest.mark.parametrize("step", [1, 2, 3, 5, 6])
def test_an_interrupted_run_ends_with_the_same_bits(run, quick, tmp_path, step):
    checkpoint = tmp_path / "run" / "checkpoint.pt"
    whole = run(quick)
    with pytest.raises(PowerCutError):
        run(quick, cut_at(step), checkpoint)
    steps = []
    resumed = run(quick, lambda progress: steps.append(progress.step), checkpoint)
    assert same(whole, resumed)
    assert steps == list(range(step // 2 * 2 + 1, 7))
    assert [path.name for path in checkpoint.parent.iterdir()] == ["checkpoint.pt"]


def test_a_finished_run_is_not_run_again(run, quick, tmp_path):
    checkpoint = tmp_path / "checkpoint.pt"
    first = run(quick, checkpoint=checkpoint)
    assert same(first, run(quick, cut_at(1), checkpoint))


@pytest.mark.parametrize("change", [{"lr": 0.5}, {"seed": 4}, {"steps": 7}, {"ema": 0.5}, {"threshold": 0.1}])
def test_a_checkpoint_of_other_settings_is_refused_by_name(run, quick, tmp_path, change):
    checkpoint = tmp_path / "checkpoint.pt"
    run(quick, checkpoint=checkpoint)
    with pytest.raises(AdaptationError, match=next(iter(change))):
        run(replace(quick, **change), checkpoint=checkpoint)


def test_a_checkpoint_of_another_base_or_other_images_is_refused(run, quick, tmp_path, source, target):
    checkpoint = tmp_path / "checkpoint.pt"
    run(quick, checkpoint=checkpoint)
    with pytest.raises(AdaptationError, match="base"):
        run(quick, checkpoint=checkpoint, base_state=build("tiny-resnet", 19, seed=1).state_dict())
    with pytest.raises(AdaptationError, match="target"):
        run(quick, checkpoint=checkpoint, target=type(target)(target.images.flip(0)))
    with pytest.raises(AdaptationError, match="source"):
        run(quick, checkpoint=checkpoint, source=LabelledImages(source.images, source.labels.flip(0)))


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"hello"])
def test_a_damaged_checkpoint_is_refused(run, quick, tmp_path, damage):
    checkpoint = tmp_path / "checkpoint.pt"
    run(quick, checkpoint=checkpoint)
    checkpoint.write_bytes(damage(checkpoint.read_bytes()))
    with pytest.raises(AdaptationError, match="can't be read") as caught:
        run(quick, checkpoint=checkpoint)
    assert str(checkpoint) in caught.value.fix


def test_a_checkpoint_with_code_inside_is_refused_and_not_run(run, quick, tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "boom"), "w"))

    checkpoint = tmp_path / "checkpoint.pt"
    torch.save({"run": Bomb()}, checkpoint)
    with pytest.raises(AdaptationError, match="can't be read"):
        run(quick, checkpoint=checkpoint)
    assert not (tmp_path / "boom").exists()


def test_a_checkpoint_that_cannot_be_written_says_so(run, quick, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(AdaptationError, match="can't be written"):
        run(quick, checkpoint=tmp_path / "file" / "checkpoint.pt")


def test_a_loss_that_is_no_number_names_its_step(run, base, quick):
    broken = {**base, "decode_head.conv_seg.bias": torch.full((19,), float("nan"))}
    with pytest.raises(AdaptationError, match="step 1"):
        run(quick, base_state=broken)


def test_a_base_that_does_not_fit_is_refused(run, base, quick):
    with pytest.raises(AdaptationError, match="does not fit"):
        run(quick, base_state={key: value for key, value in base.items() if "conv_seg" not in key})


def test_an_unknown_model_is_refused(base, source, target):
    with pytest.raises(ConfigurationError, match="'huge'"):
        adapt(base, "huge", 19, source, target, AdaptSettings(steps=1), QUIET)


@pytest.mark.parametrize("garbage", ["ignored", "random"])
def test_adaptation_cannot_see_the_targets_labels(monkeypatch, base, quick, garbage):
    """Whatever the target's labels are, the adapted models are the same to the last bit."""
    few = SceneData("adverse", source_images=4, target_images=6, height=32, width=64)

    def outcome():
        return adapt(base, "tiny-resnet", 19, scene_source(few), scene_target(few), quick, QUIET)

    honest, dice = outcome(), torch.Generator().manual_seed(0)
    spoilt = []

    def with_garbage(domain, *rest):
        scene = render(domain, *rest)
        if domain == "source":
            return scene
        spoilt.append(domain)
        labels = torch.full(scene.labels.shape, 255, dtype=torch.uint8)
        if garbage == "random":
            labels = torch.randint(0, 256, scene.labels.shape, generator=dice, dtype=torch.uint8)
        return Scene(scene.image, labels.numpy())

    monkeypatch.setattr(datasets, "render", with_garbage)
    assert same(honest, outcome())
    assert spoilt == ["adverse"] * 6
