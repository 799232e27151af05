"""What the coordinator calls what members say."""

from coordinator.members import PHASES
from protos import messages_pb2 as pb


def test_every_phase_has_a_word_that_an_operator_understands():
    assert PHASES.keys() == set(pb.Phase.values())
    assert len(set(PHASES.values())) == len(PHASES)
    assert not {"unspecified", ""} & set(PHASES.values())
