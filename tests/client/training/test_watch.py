import logging

import torch

from client.training import watch
from client.training.watch import Watch, name_of

CPU = torch.device("cpu")


def fed(found, guesses):
    for guess in guesses:
        found.count(torch.tensor(guess, dtype=torch.uint8))
    return found


def test_a_class_that_vanishes_is_named_once(caplog):
    with caplog.at_level(logging.WARNING):
        found = fed(Watch(19, CPU), [[[0, 16]]] * 50 + [[[0, 0]]] * 90)
        assert not found.lost
        fed(found, [[[0, 0]]] * 60)
        assert found.lost == (16,)
        fed(found, [[[0, 0]]] * 100)
    (record,) = caplog.records
    assert "class train has not been in the pseudo-labels for" in record.getMessage()
    assert "was in 50 before" in record.getMessage()


def test_a_class_that_comes_back_is_not_lost_any_more():
    found = fed(Watch(3, CPU), [[0, 1]] * 50 + [[0, 0]] * 150)
    assert found.lost == (1,)
    assert fed(found, [[0, 1]] * watch.EVERY).lost == ()


def test_a_class_that_never_was_there_or_always_was_rare_is_no_alarm():
    rare = ([[0, 2]] + [[0, 0]] * 30) * 25
    assert fed(Watch(3, CPU), [*rare, *[[0, 0]] * 300]).lost == ()
    assert fed(Watch(3, CPU), [*rare, *[[0, 0]] * 700]).lost == (2,)


def test_it_goes_on_where_a_checkpoint_left_it(caplog):
    half = fed(Watch(3, CPU), [[0, 1]] * 50 + [[0, 0]] * 130)
    other = Watch(3, CPU)
    other.load(half.state())
    assert other.lost == half.lost == (1,)
    caplog.clear()
    assert fed(other, [[0, 0]] * 100).lost == (1,)
    assert not caplog.records
    fed(half, [[0, 0]] * 100)
    assert all(torch.equal(half.state()[key], other.state()[key]) for key in ("seen", "gone"))
    assert half.state()["steps"] == other.state()["steps"] == 280


def test_classes_have_names_as_far_as_there_are_any():
    assert (name_of(13), name_of(40)) == ("car", "40")
