import torch

from client.training.mic import patch_mask


def dice(seed=0):
    return torch.Generator().manual_seed(seed)


def test_whole_patches_stay_or_go():
    mask = patch_mask(torch.zeros(3, 3, 64, 96), 16, 0.5, dice())
    assert mask.shape == (3, 1, 64, 96)
    assert set(mask.unique().tolist()) == {0.0, 1.0}
    patches = mask.unfold(2, 16, 16).unfold(3, 16, 16).flatten(4)
    assert torch.equal(patches.amin(4), patches.amax(4))
    assert not torch.equal(mask[0], mask[1])


def test_a_patch_goes_with_the_ratios_probability():
    for ratio in (0.0, 0.3, 0.7, 1.0):
        share = 1 - patch_mask(torch.zeros(4, 3, 256, 256), 8, ratio, dice()).mean().item()
        assert abs(share - ratio) < 0.02


def test_it_follows_its_generator_and_fits_any_size():
    images = torch.zeros(1, 3, 50, 70)
    assert torch.equal(patch_mask(images, 64, 0.5, dice(3)), patch_mask(images, 64, 0.5, dice(3)))
    assert patch_mask(images, 16, 0.5, dice()).shape == (1, 1, 50, 70)
    assert patch_mask(torch.zeros(1, 3, 8, 8), 64, 0.5, dice()).shape == (1, 1, 8, 8)
