import copy
from dataclasses import fields, replace

import pytest
import torch

from client.data import datasets
from client.data.datasets import LabelledImages, UnlabelledImages, scene_source, scene_target
from client.data.feed import Batch
from client.data.memory import MemoryFeed
from client.data.scenes import Scene, render
from client.data.settings import SceneData
from client.models import build
from client.training.adapt import adapt
from client.training.settings import AdaptSettings
from protos.errors import AdaptationError, ConfigurationError, DataError

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
def run(base, feed):
    def go(settings, report=QUIET, checkpoint=None, **other):
        arguments = {"base_state": base, "model_name": "tiny-resnet", "feed": feed, **other}
        return adapt(classes=19, settings=settings, report=report, checkpoint=checkpoint, **arguments)

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


def test_the_teachers_statistics_come_from_target_images_only(run, quick, feed, source):
    other = replace(feed, source=LabelledImages(255 - source.images, source.labels))
    # At rate zero the parameters stay the base's, so only images can make a difference.
    still = replace(quick, lr=0.0, weight_decay=0.0)
    one, two = run(still), run(still, feed=other)
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


@pytest.mark.parametrize(
    "change",
    [
        {"lr": 0.5},
        {"seed": 4},
        {"steps": 7},
        {"ema": 0.5},
        {"threshold": 0.1},
        {"accumulate": 2},
        {"clip": 1.0},
        {"precision": "bf16-mixed"},
        {"masked": 1.0},
    ],
)
def test_a_checkpoint_of_other_settings_is_refused_by_name(run, quick, tmp_path, change):
    checkpoint = tmp_path / "checkpoint.pt"
    run(quick, checkpoint=checkpoint)
    with pytest.raises(AdaptationError, match=next(iter(change))):
        run(replace(quick, **change), checkpoint=checkpoint)


def test_a_checkpoint_of_another_base_or_other_images_is_refused(run, quick, tmp_path, feed, source, target):
    checkpoint = tmp_path / "checkpoint.pt"
    run(quick, checkpoint=checkpoint)
    with pytest.raises(AdaptationError, match="base"):
        run(quick, checkpoint=checkpoint, base_state=build("tiny-resnet", 19, seed=1).state_dict())
    with pytest.raises(AdaptationError, match="target"):
        run(quick, checkpoint=checkpoint, feed=replace(feed, target=UnlabelledImages(target.images.flip(0))))
    with pytest.raises(AdaptationError, match="source"):
        other = LabelledImages(source.images, source.labels.flip(0))
        run(quick, checkpoint=checkpoint, feed=replace(feed, source=other))


def test_what_does_not_change_the_result_may_change(run, quick, tmp_path):
    checkpoint = tmp_path / "checkpoint.pt"
    with pytest.raises(PowerCutError):
        run(quick, cut_at(3), checkpoint)
    other = replace(quick, checkpoint_every=5, tensorboard=False)
    assert same(run(quick), run(other, checkpoint=checkpoint))


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


def test_weights_that_are_no_numbers_are_neither_kept_nor_returned(run, quick, tmp_path):
    checkpoint = tmp_path / "checkpoint.pt"
    with pytest.raises(AdaptationError, match=r"conv\.weight is not finite any more after step 1"):
        run(replace(quick, steps=1, warmup=0, lr=float("inf")), checkpoint=checkpoint)
    assert not checkpoint.exists()


def test_a_base_that_does_not_fit_is_refused(run, base, quick):
    with pytest.raises(AdaptationError, match="does not fit"):
        run(quick, base_state={key: value for key, value in base.items() if "conv_seg" not in key})


def test_an_unknown_model_is_refused(base, feed):
    with pytest.raises(ConfigurationError, match="'huge'"):
        adapt(base, "huge", 19, feed, AdaptSettings(steps=1), QUIET)


def test_a_method_for_another_model_is_refused(base, feed):
    with pytest.raises(ConfigurationError, match="the base is a tiny-resnet"):
        adapt(base, "tiny-resnet", 19, feed, AdaptSettings(method="hrda", steps=1), lambda _: None)


def test_a_label_outside_the_classes_is_named(run, quick, feed, source):
    wrong = source.labels.clone()
    wrong[:, 3, 3] = 34
    with pytest.raises(DataError, match="label 34; there are 19 classes"):
        run(quick, feed=replace(feed, source=LabelledImages(source.images, wrong)))


def test_an_image_without_any_label_gives_no_nan(run, quick, feed, source):
    blank = replace(feed, source=LabelledImages(source.images, torch.full_like(source.labels, 255)))
    assert not any(value.isnan().any() for value in run(quick, feed=blank).student.values())


class Short:
    fingerprint = {}  # noqa: RUF012
    closed = False

    def __init__(self, feed, last):
        self.feed, self.last = feed, last

    def batches(self, first, last):
        try:
            yield from self.feed.batches(first, min(last, self.last))
        finally:
            self.closed = True


def test_data_that_ends_too_early_is_named(run, quick, feed):
    with pytest.raises(AdaptationError, match="ended at step 4"):
        run(quick, feed=Short(feed, 3))


def test_what_reads_ahead_is_closed_when_a_run_ends_early(run, quick, feed):
    closing = Short(feed, 99)
    with pytest.raises(PowerCutError) as caught:
        run(quick, cut_at(2), feed=closing)
    assert closing.closed, caught


def test_accumulated_batches_make_one_step(run, quick, feed):
    asked = []

    class Noting(Short):
        def batches(self, first, last):
            asked.append((first, last))
            return super().batches(first, last)

    reports = []
    adapted = run(replace(quick, accumulate=3), reports.append, feed=Noting(feed, 99))
    assert asked == [(0, 18)]
    assert [report.step for report in reports] == [1, 2, 3, 4, 5, 6]
    assert adapted.teacher["backbone.stem.bn.num_batches_tracked"] == 18


def test_gradients_of_accumulated_batches_are_averaged(run, quick, base):
    """Of two batches that are the same, and without random numbers, the mean is either."""

    class Twice:
        fingerprint = {}  # noqa: RUF012

        def batches(self, first, last):
            for _ in range(first, last):
                yield Batch(images, labels, images)

    images = torch.randint(0, 256, (2, 3, 32, 64), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    labels = torch.zeros(2, 32, 64, dtype=torch.uint8)
    plain = replace(quick, steps=1, source_jitter=0.0, jitter=0.0, blur_share=0.0, mixed=0.0)
    once = run(plain, feed=Twice())
    twice = run(replace(plain, accumulate=2), feed=Twice())
    for name in dict(build("tiny-resnet", 19).named_parameters()):
        torch.testing.assert_close(once.student[name], twice.student[name])


def test_a_copy_is_its_own_parameters_with_its_own_statistics(run, quick):
    adapted = run(quick)
    assert adapted.copy("student") is adapted.student
    assert adapted.copy("teacher") is adapted.teacher
    for name in ("backbone.stem.conv.weight", "backbone.stem.bn.running_mean"):
        assert not torch.equal(adapted.student[name], adapted.teacher[name])


def test_several_devices_need_a_checkpoint(run, quick):
    with pytest.raises(ConfigurationError, match="checkpoint"):
        run(replace(quick, devices=2))


@pytest.mark.parametrize("name", ["segformer-mitb0", "hrda-mitb0"])
def test_dropout_details_and_masks_are_continued_too(run, hrda, square_feed, tmp_path, name):
    settings = AdaptSettings(method="mic", steps=2, warmup=0, threshold=0.0, mask_block=16, checkpoint_every=1)
    small = replace(square_feed, batch=1 if name == hrda else 2)
    other = {"base_state": build(name, 19).state_dict(), "model_name": name, "feed": small}
    whole = run(settings, **other)
    with pytest.raises(PowerCutError):
        run(settings, cut_at(1), tmp_path / "checkpoint.pt", **other)
    torch.rand(7)  # whatever else draws from the global generator
    assert same(whole, run(settings, checkpoint=tmp_path / "checkpoint.pt", **other))


def test_a_batch_has_nowhere_to_put_the_targets_labels():
    assert [field.name for field in fields(Batch)] == ["source", "labels", "target"]


@pytest.mark.parametrize("garbage", ["ignored", "random"])
def test_adaptation_cannot_see_the_targets_labels(monkeypatch, base, quick, garbage):
    """Whatever the target's labels are, the adapted models are the same to the last bit."""
    few = SceneData("adverse", source_images=4, target_images=6, height=32, width=64)

    def outcome():
        feed = MemoryFeed(scene_source(few), scene_target(few), 2, 0)
        return adapt(base, "tiny-resnet", 19, feed, quick, QUIET)

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
