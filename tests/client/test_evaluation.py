import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from client.data.datasets import LabelledImages
from client.evaluation import CONVENTIONS, Windows, confusion, miou, predict
from protos.errors import ConfigurationError, DataError


class RedIsOne(nn.Module):
    """Says 1 where an image is red, else 0; class 2 is never said."""

    def forward(self, images):
        assert not self.training
        red = images[:, 0] - images[:, 2]
        return torch.stack([torch.zeros_like(red), red, torch.full_like(red, -9.0)], 1)


def pictures():
    images = torch.zeros(5, 3, 4, 6, dtype=torch.uint8)
    images[:, 0, :, 3:] = 255
    labels = torch.zeros(5, 4, 6, dtype=torch.uint8)
    labels[:, :, 4:] = 1
    labels[:, 0] = 255
    return LabelledImages(images, labels)


def test_predict_keeps_order_over_batches_and_puts_the_mode_back():
    data = pictures()
    data.images[2] = 0
    model = RedIsOne().train()
    guess = predict(model, data.images, batch=2)
    assert guess.dtype == torch.uint8
    assert guess.shape == (5, 4, 6)
    assert guess.flatten(1).any(1).tolist() == [True, True, False, True, True]
    assert model.training


def test_the_mode_is_put_back_after_an_error():
    class Broken(nn.Module):
        def forward(self, images):
            raise ValueError

    model = Broken().train()
    with pytest.raises(ValueError):
        predict(model, pictures().images)
    assert model.training


def test_confusion_counts_truth_by_guess_without_the_ignored():
    counts = confusion(RedIsOne(), pictures(), batch=2)
    assert counts.dtype == torch.int64
    # 5 images × 3 counted rows: 3 columns of true 0 guessed 0, 1 of true 0 guessed 1, 2 of true 1 guessed 1.
    assert counts.tolist() == [[45, 15, 0], [0, 30, 0], [0, 0, 0]]


def test_miou_leaves_absent_classes_out():
    mean, each = miou(torch.tensor([[45, 15, 0], [0, 30, 0], [0, 0, 0]]))
    assert each == [pytest.approx(45 / 60), pytest.approx(30 / 45), None]
    assert mean == pytest.approx((45 / 60 + 30 / 45) / 2)


def test_a_class_that_is_only_guessed_has_no_iou_but_harms_the_others():
    mean, each = miou(torch.tensor([[5, 5], [0, 0]]))
    assert each == [0.5, None]
    assert mean == 0.5


@given(st.lists(st.integers(0, 50), min_size=9, max_size=9))
def test_miou_is_a_share(counts):
    matrix = torch.tensor(counts).view(3, 3)
    if not matrix.sum():
        return
    mean, each = miou(matrix)
    assert 0 <= mean <= 1
    assert [value is None for value in each] == [not total for total in matrix.sum(1)]


def test_nothing_counted_is_an_error():
    with pytest.raises(DataError, match="No labelled pixel"):
        miou(torch.zeros(3, 3, dtype=torch.int64))


def test_a_label_outside_the_classes_is_an_error():
    data = pictures()
    data.labels[0, 2, 2] = 7
    with pytest.raises(DataError, match="Label 7"):
        confusion(RedIsOne(), data)


def test_counts_are_those_of_torchmetrics():
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torchmetrics.functional.classification import multiclass_confusion_matrix

    dice = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (3, 3, 20, 24), generator=dice, dtype=torch.uint8)
    labels = torch.randint(0, 3, (3, 20, 24), generator=dice, dtype=torch.uint8)
    labels[:, :2] = 255
    counts = confusion(RedIsOne(), LabelledImages(images, labels))
    expected = multiclass_confusion_matrix(predict(RedIsOne(), images).long(), labels.long(), 3, ignore_index=255)
    assert counts.dtype == expected.dtype == torch.int64
    assert torch.equal(counts, expected)


def all_but(*absent):
    """Counts of 19 classes, each with the IoU 1 / (2 + its number); some are absent, but guessed."""
    counts = torch.zeros(19, 19, dtype=torch.int64)
    for number in set(range(19)) - set(absent):
        counts[number, number] = 1
        counts[number, absent[0]] = 1 + number
    return counts


def test_papers_leave_out_what_their_data_lack():
    counts = all_but(16)
    ious = {number: 1 / (2 + number) for number in range(19) if number != 16}
    assert miou(counts)[0] == pytest.approx(sum(ious.values()) / 18)
    assert miou(counts, "idd-18")[0] == pytest.approx(sum(ious.values()) / 18)
    # IDD has no train: tables with 19 classes count it as 0.
    assert miou(counts, "cityscapes-19", missing=0.0)[0] == pytest.approx(sum(ious.values()) / 19)
    assert miou(counts, "cityscapes-19")[0] == pytest.approx(sum(ious.values()) / 18)
    sixteen = [value for number, value in ious.items() if number not in (9, 14)]
    assert miou(counts, "synthia-16")[0] == pytest.approx(sum(sixteen) / 16)


def test_every_class_keeps_its_own_iou_whatever_is_averaged():
    _, each = miou(all_but(16), "synthia-16")
    assert each[9] == pytest.approx(1 / 11)
    assert each[16] is None
    assert [len(classes) for classes in CONVENTIONS.values()] == [19, 16, 18]


def test_a_convention_that_is_none_or_does_not_fit_is_refused():
    with pytest.raises(ConfigurationError, match="'idd'"):
        miou(all_but(16), "idd")
    with pytest.raises(ConfigurationError, match="3 classes"):
        miou(torch.eye(3, dtype=torch.int64), "idd-18")


class Mean(nn.Module):
    """Says 1 where an image is brighter than the mean of what it is shown."""

    sizes: list[tuple[int, ...]]

    def __init__(self):
        super().__init__()
        self.sizes = []

    def forward(self, images):
        self.sizes.append(tuple(images.shape))
        bright = images.mean(1)
        return torch.stack([torch.zeros_like(bright), bright - bright.mean((1, 2), keepdim=True)], 1)


def test_windows_are_looked_at_one_by_one_and_averaged():
    images = torch.zeros(2, 3, 8, 20, dtype=torch.uint8)
    images[..., 0:4] = 100
    images[..., 10:] = 200
    images[..., 10:12] = 150
    whole, model = predict(Mean(), images), Mean()
    seen = predict(model, images, windows=Windows(8, 6))
    assert model.sizes == [(2, 3, 8, 8)] * 3
    assert seen.shape == whole.shape
    assert not whole[..., 0:4].any()  # darker than the whole, but brighter than what is near
    assert seen[..., 0:4].all()
    data = LabelledImages(images, seen)
    assert confusion(Mean(), data, windows=Windows(8, 6)).diagonal().sum() == seen.numel()


def test_windows_that_leave_gaps_are_refused():
    with pytest.raises(ConfigurationError, match="leave gaps"):
        Windows(512, 600)
