import torch
from torch import nn

from client.models import build
from client.training.dacs import dacs_loss, follow, pseudo_labels
from client.training.settings import AdaptSettings


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


def test_one_step_gives_gradients_to_the_student_only(source, target):
    student, teacher = build("tiny-resnet", 19).train(), build("tiny-resnet", 19).train()
    generator = torch.Generator().manual_seed(0)
    settings = AdaptSettings()
    images = (source.images[:2], source.labels[:2], target.images[:2])
    loss, sure = dacs_loss(student, teacher, *images, settings, generator)
    assert loss > 0
    assert 0 <= sure <= 1
    assert all(parameter.grad is not None for parameter in student.parameters())
    assert all(parameter.grad is None for parameter in teacher.parameters())
    # Source and mixed images pass through the student one after the other, target images through the teacher.
    assert student.backbone.stem.bn.num_batches_tracked == 2
    assert teacher.backbone.stem.bn.num_batches_tracked == 1
