import torch
from hypothesis import given
from hypothesis import strategies as st

from client.training.mixing import mix, paste_mask


def dice(seed):
    return torch.Generator().manual_seed(seed)


@given(classes=st.integers(1, 19), seed=st.integers(0, 1000), share=st.sampled_from([0.25, 0.5, 1.0]))
def test_whole_classes_are_chosen_rounded_up(classes, seed, share):
    labels = torch.randint(0, classes, (3, 20, 20), generator=dice(seed), dtype=torch.uint8)
    labels[:, 0] = 255
    mask = paste_mask(labels, share, dice(seed))
    for one, chosen in zip(labels, mask, strict=True):
        present = set(one.flatten().tolist()) - {255}
        pasted = set(one[chosen].tolist())
        assert not pasted & set(one[~chosen].tolist())
        assert 255 not in pasted
        assert len(pasted) == -(-len(present) * share // 1)


def test_an_image_without_labels_pastes_nothing():
    labels = torch.full((2, 4, 4), 255, dtype=torch.uint8)
    assert not paste_mask(labels, 0.5, dice(0)).any()


def test_mix_takes_source_where_the_mask_is_true():
    mask = torch.tensor([[[True, False]]])
    source, target = torch.ones(1, 3, 1, 2), torch.zeros(1, 3, 1, 2)
    assert mix(mask, source, target)[0, :, 0].tolist() == [[1, 0]] * 3
    assert mix(mask, source[:, 0], target[:, 0]).tolist() == [[[1, 0]]]
