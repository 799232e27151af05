"""A SuperNode is watched."""

import pytest

from client import supernode


def test_a_supernode_that_ended_well_was_not_asked_to_and_is_started_again(world, monkeypatch):
    ends = iter([(0, ""), (-9, ""), (1, supernode._REFUSED), (0, "")])
    said = []

    def run(*_):
        try:
            return next(ends)
        except StopIteration:
            raise KeyboardInterrupt from None

    monkeypatch.setattr(supernode, "_run", run)
    monkeypatch.setattr(supernode, "_PAUSE", 0.0)

    with pytest.raises(KeyboardInterrupt):
        supernode.serve(world.sites["fog"], lambda line, level: said.append(line))

    assert [line.partition(";")[0].partition(":")[0] for line in said] == [
        "the SuperNode ended (exit code 0)",
        "the SuperNode ended (exit code -9)",
        "the SuperLink refuses the key of site fog",
        "the SuperNode ended (exit code 0)",
    ]
