"""Models that are delivered to be judged."""

from __future__ import annotations

import os

import pytest

from client.delivered import Delivered, ForbiddenError, NotDeliveredError
from protos import messages_pb2 as pb
from protos.assembly import parts
from protos.digest import parameters_digest
from protos.errors import UpdateRefusedError
from protos.rules import Rules
from protos.tensorfile import TensorFile


class Package:
    """A model, ready to be delivered."""

    def __init__(self, path, model) -> None:
        self.model = model
        with TensorFile(path) as file:
            self.specs = file.manifest.parameters
            self.digest = parameters_digest(file)

    def piece(self, names) -> tuple[pb.Piece, bytes]:
        return pb.Piece(digest=self.digest, parameters=names), b"".join(self.model[n].tobytes() for n in names)


@pytest.fixture
def package(tmp_path, model, saved):
    def made(seed: int) -> Package:
        content = model(seed)
        return Package(saved(tmp_path / f"{seed}.safetensors", content), content)

    return made


@pytest.fixture
def at(world):
    return Delivered(world.joined("fog"), world.manifest)


def deliver(at: Delivered, package: Package, size: int = 60) -> None:
    for names in parts(package.specs, size):
        piece, raw = package.piece(names)
        at.take([piece], raw)


def folder(world):
    return world.joined("fog").folder / "delivered"


def test_a_model_that_arrived_in_parts_is_opened_by_its_digest(world, at, package):
    one = package(7)
    deliver(at, one)
    with Delivered(world.joined("fog"), world.manifest).open(one.digest) as file:
        assert all(file.tensor(name).tobytes() == one.model[name].tobytes() for name in one.specs)


def test_several_models_can_share_a_part(make_world, package):
    world = make_world(rules=Rules(compare_single_models=True))
    at = Delivered(world.joined("fog"), world.manifest)
    packages = [package(seed) for seed in (7, 8, 9)]
    pieces = [found.piece(list(found.specs)) for found in packages]
    at.take([piece for piece, _ in pieces], b"".join(raw for _, raw in pieces))
    for found in packages:
        with at.open(found.digest) as file:
            assert file.tensor("stem.weight").tobytes() == found.model["stem.weight"].tobytes()


def test_a_model_that_never_came_is_not_there(at, package):
    with pytest.raises(NotDeliveredError, match=r"fog.*was not delivered"):
        at.open(package(7).digest)


def test_a_model_of_which_a_part_is_missing_is_not_whole(at, package):
    one = package(7)
    piece, raw = one.piece(["stem.weight"])
    at.take([piece], raw)
    with pytest.raises(NotDeliveredError, match="did not arrive whole"):
        at.open(one.digest)


def test_a_model_that_was_altered_on_the_way_is_not_whole(at, package):
    one = package(7)
    deliver(at, one)
    piece, raw = one.piece(["stem.weight"])
    at.take([piece], bytes([raw[0] ^ 1]) + raw[1:])
    with pytest.raises(NotDeliveredError, match="did not arrive whole"):
        at.open(one.digest)


WRONG = {
    "a tensor that the base has not": lambda p: (pb.Piece(digest=p.digest, parameters=["spy"]), b"1234"),
    "a statistic": lambda p: (pb.Piece(digest=p.digest, parameters=["norm.running_mean"]), bytes(16)),
    "too few bytes": lambda p: (p.piece(["stem.weight"])[0], b"1234"),
    "too many bytes": lambda p: (p.piece(["stem.weight"])[0], bytes(10_000)),
    "a path for a digest": lambda p: (pb.Piece(digest=b"../../up", parameters=["scale"]), bytes(4)),
    "no digest": lambda p: (pb.Piece(parameters=["scale"]), bytes(4)),
    "a digest as long as a book": lambda p: (pb.Piece(digest=bytes(5000), parameters=["scale"]), bytes(4)),
}


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG)
def test_what_does_not_fit_is_refused_and_nothing_is_written(world, at, package, change):
    piece, raw = change(package(7))
    with pytest.raises(UpdateRefusedError):
        at.take([piece], raw)
    assert not folder(world).exists()


def test_nothing_is_taken_that_the_rules_have_no_use_for(make_world, package):
    world = make_world(rules=Rules(evaluate=False, deliver=False))
    with pytest.raises(ForbiddenError, match="sites get no models"):
        deliver(Delivered(world.joined("fog"), world.manifest), package(7))
    assert not folder(world).exists()


@pytest.mark.parametrize(("compare", "most"), [(False, 1), (True, 4)])
def test_no_more_models_are_kept_than_the_rules_let_be_judged(make_world, package, compare, most):
    world = make_world(rules=Rules(compare_single_models=compare))
    at = Delivered(world.joined("fog"), world.manifest)
    packages = [package(seed) for seed in range(20, 27)]
    for i, found in enumerate(packages):
        deliver(at, found)
        os.utime(folder(world) / f"{found.digest.hex()}.safetensors", ns=(i, i))
    for found in packages[-most:]:
        at.open(found.digest).close()
    assert len(list(folder(world).iterdir())) == most


def test_after_judging_nothing_is_left(world, at, package):
    deliver(at, package(7))
    at.clear()
    assert not folder(world).exists()
    at.clear()
