import pytest
import torch
from torch import nn

from client.models.hrda import HRDA, HRDAHead, Sizes, detail_box, fuse
from protos.errors import ConfigurationError


def test_without_a_box_both_scales_count_everywhere():
    coarse, fine = torch.ones(1, 3, 4, 4), torch.full((1, 3, 8, 8), 5.0)
    attention = torch.tensor([0.0, 0.25, 1.0]).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    fused = fuse(coarse, fine, attention)
    assert fused.shape == (1, 3, 8, 8)
    for number, expected in enumerate((1.0, 2.0, 5.0)):
        assert torch.equal(fused[0, number], torch.full((8, 8), expected))


def test_outside_of_its_box_a_detail_counts_nothing():
    # 64 × 96 pixels: coarse logits are 8 × 12, fine ones of the detail of 32 × 32 at (16, 40) are 8 × 8.
    coarse, fine = torch.ones(1, 1, 8, 12), torch.full((1, 1, 8, 8), 5.0)
    fused = fuse(coarse, fine, torch.full((1, 1, 8, 12), 0.25), (16, 48, 40, 72))
    assert fused.shape == (1, 1, 16, 24)
    inside = torch.zeros(16, 24, dtype=torch.bool)
    inside[4:12, 10:18] = True
    assert torch.equal(fused[0, 0, 5:11, 11:17], torch.full((6, 6), 2.0))
    far = ~nn.functional.max_pool2d(inside[None].float(), 3, 1, 1)[0].bool()
    assert torch.equal(fused[0, 0][far], torch.ones(int(far.sum())))
    # At the border attention fades, and details are gone at once: coarse logits alone would be less than 1.
    assert fused[0, 0, 3, 12] < 1


def test_details_are_on_the_grid_and_everywhere():
    generator = torch.Generator().manual_seed(0)
    boxes = {detail_box(64, 96, 48, generator) for _ in range(300)}
    assert boxes == {(top, top + 48, left, left + 48) for top in (0, 8, 16) for left in range(0, 49, 8)}
    assert detail_box(32, 64, 48, generator)[:2] == (0, 32)
    again = (torch.Generator().manual_seed(7) for _ in range(2))
    assert len({detail_box(512, 512, 64, generator) for generator in again}) == 1


class Colours(nn.Module):
    """An encoder whose features are the image's colours, at a quarter of its size."""

    def forward(self, images):
        return tuple(nn.functional.avg_pool2d(images, 4) for _ in range(4))


@pytest.fixture
def model():
    torch.manual_seed(0)
    return HRDA(Colours(), HRDAHead((3, 3, 3, 3), 5), Sizes(16, 32, 16)).eval()


def test_training_looks_at_one_detail_that_the_generator_chooses(model):
    images = torch.randn(2, 3, 32, 48)
    lessons = [model.forward_train(images, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    whole, detail = lessons[0].views
    assert (whole.weight, detail.weight) == (0.9, 0.1)
    assert whole.box == (0, 32, 0, 48)
    assert detail.logits.shape == (2, 5, 16, 16)
    assert lessons[1].views[1].box == detail.box != lessons[2].views[1].box
    assert torch.equal(lessons[1].views[0].logits, whole.logits)
    assert [f.shape for f in lessons[0].features] == [(2, 3, 4, 6)] * 4


def test_training_crops_have_sides_that_are_multiples_of_8(model):
    with pytest.raises(ConfigurationError, match="60 × 64"):
        model.forward_train(torch.zeros(1, 3, 60, 64))


def test_a_detail_as_large_as_the_images_is_all_of_them(model):
    model.sizes = Sizes(128)  # A window of 1024 pixels.
    images = torch.randn(1, 3, 32, 48)
    with torch.no_grad():
        whole, detail = model.forward_train(images).views
        assert detail.box == whole.box
        torch.testing.assert_close(model(images), whole.logits)


def test_windows_pass_at_once_in_training_mode_only(model):
    batches = []
    model.backbone.register_forward_pre_hook(lambda _, images: batches.append(len(images[0])))
    images = torch.randn(2, 3, 32, 48)
    with torch.no_grad():
        model(images)
        # Two windows of 32 pixels, each with its context and 3 × 3 details.
        assert batches == [2, 18, 2, 18]
        batches.clear()
        model.train()(images)
    assert batches == [4, 36]


@pytest.mark.parametrize("sizes", [{"detail": 60}, {"detail": 0}, {"stride": 0}, {"window": 256}])
def test_impossible_sizes_are_refused(sizes):
    with pytest.raises(ConfigurationError):
        Sizes(**sizes)
