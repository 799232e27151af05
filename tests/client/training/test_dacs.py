import torch
from torch import nn

from client.models import build
from client.training.dacs import follow, make_teacher, mixed_pairs, pseudo_labels


def test_the_teacher_starts_as_the_student_and_then_follows():
    student, teacher = nn.Linear(2, 1, bias=False), nn.Linear(2, 1, bias=False)
    follow(teacher, student, 0, 0.9)
    assert torch.equal(teacher.weight, student.weight)
    with torch.no_grad():
        student.weight += 1
    before = teacher.weight.clone()
    follow(teacher, student, 1, 0.9)  # α = min(1 − 1/2, 0.9)
    torch.testing.assert_close(teacher.weight, 0.5 * before + 0.5 * student.weight)
    before = teacher.weight.clone()
    follow(teacher, student, 99, 0.9)
    torch.testing.assert_close(teacher.weight, 0.9 * before + 0.1 * student.weight)


def test_the_teacher_leaves_buffers_alone():
    student, teacher = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
    student(torch.rand(2, 3, 4, 4))
    follow(teacher, student, 0, 0.9)
    assert teacher.num_batches_tracked == 0
    assert student.num_batches_tracked == 1


def test_sure_pixels_are_those_above_the_threshold():
    class Fixed(nn.Module):
        def forward(self, images):
            logits = torch.zeros(1, 2, 1, 4)
            logits[0, 1, 0, :3] = 10.0
            logits.requires_grad_()
            return logits

    labels, sure = pseudo_labels(Fixed(), torch.zeros(1, 3, 1, 4), 0.9)
    assert labels.tolist() == [[[1, 1, 1, 0]]]
    assert labels.dtype == torch.uint8
    assert sure == 0.75
    assert not sure.requires_grad


def test_the_share_of_sure_pixels_weighs_what_is_not_pasted():
    dice = torch.Generator().manual_seed(0)
    source, target = torch.rand(2, 2, 3, 4, 6, generator=dice)
    labels, guess = torch.randint(0, 5, (2, 2, 4, 6), generator=dice, dtype=torch.uint8)
    mask = torch.rand(2, 4, 6, generator=dice) < 0.5
    images, truth, weights = mixed_pairs(mask, source, labels, target, guess, torch.tensor(0.25))
    for n, y, x in torch.ones(2, 4, 6).nonzero().tolist():
        pasted = bool(mask[n, y, x])
        assert torch.equal(images[n, :, y, x], (source if pasted else target)[n, :, y, x])
        assert truth[n, y, x] == (labels if pasted else guess)[n, y, x]
        assert weights[n, y, x] == (1.0 if pasted else 0.25)


def test_the_teacher_leaves_nothing_out_but_its_batchnorm_trains():
    teacher = make_teacher(build("segformer-mitb0", 5))
    images = torch.rand(2, 3, 64, 64)
    first, _ = pseudo_labels(teacher, images, 0.5)
    again, _ = pseudo_labels(teacher, images, 0.5)
    assert torch.equal(first, again)
    batch_norm = teacher.decode_head.linear_fuse.bn
    assert batch_norm.training
    assert batch_norm.num_batches_tracked == 2
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
