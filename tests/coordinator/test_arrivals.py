"""An update on its way in."""

from __future__ import annotations

import random

import numpy as np
import pytest

from coordinator.arrivals import Arrival, clear, kept_header
from coordinator.folding import Folding, fold
from coordinator.merge.state import MergeState
from protos import signing
from protos.assembly import parts
from protos.errors import SignatureError, StorageError, UpdateRefusedError
from protos.tensorfile import TensorFile

BASE = bytes(range(32))


@pytest.fixture
def arrive(world, tmp_path):
    def arrived(site: str = "fog", envelope=None, folder=None) -> Arrival:
        return Arrival(
            folder or tmp_path / "arrivals" / site,
            world.campaign,
            world.manifest,
            site,
            envelope or world.outbox(site).envelope(),
        )

    return arrived


def deliver(arrival: Arrival, outbox, size: int = 1 << 20) -> None:
    for part in parts(arrival._base.parameters, size):
        arrival.take(outbox.parameters(part), part)


def test_parameters_become_a_model_file_whatever_their_order(arrive, world, tmp_path):
    for seed in range(5):
        arrival = arrive(folder=tmp_path / f"try-{seed}")
        shuffled = list(parts(world.manifest.parameters, 0))
        random.Random(seed).shuffle(shuffled)
        for part in shuffled:
            assert arrival.missing
            arrival.take(world.outbox("fog").parameters(part), part)
        assert not arrival.missing
        with TensorFile(arrival.model) as file:
            assert file.manifest.tensors == world.manifest.parameters
            for name in world.manifest.parameters:
                assert file.tensor(name).tobytes() == world.models["fog"][name].tobytes()


def test_a_part_that_arrives_twice_changes_nothing(arrive, world):
    arrival, outbox = arrive(), world.outbox("fog")
    deliver(arrival, outbox)
    before = arrival.model.read_bytes()
    part = ["head.bias", "scale"]
    arrival.take(outbox.parameters(part), part)
    assert arrival.model.read_bytes() == before


def test_it_knows_how_many_bytes_will_come(arrive, world):
    assert arrive().nbytes == sum(world.models["fog"][name].nbytes for name in world.manifest.parameters)


WRONG = {
    "a flipped bit": lambda raw: bytes([raw[0] ^ 1]) + raw[1:],
    "a flipped bit at the end": lambda raw: raw[:-1] + bytes([raw[-1] ^ 128]),
    "too few bytes": lambda raw: raw[:-1],
    "too many bytes": lambda raw: raw + b"\0",
    "nothing": lambda raw: b"",
    "another order": lambda raw: raw[20:] + raw[:20],
    "zeros": lambda raw: bytes(len(raw)),
}


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG)
def test_bytes_that_were_not_signed_for_are_refused_and_not_written(arrive, world, change):
    arrival, part = arrive(), ["head.bias", "head.weight"]
    before = set(arrival.missing)
    with pytest.raises(UpdateRefusedError) as caught:
        arrival.take(change(world.outbox("fog").parameters(part)), part)
    assert "site fog" in caught.value.what
    assert not arrival.model.exists()
    assert arrival.missing == before


def test_the_parameters_of_another_site_are_refused(arrive, world):
    part = ["head.bias"]
    with pytest.raises(UpdateRefusedError, match=r"site fog: the bytes of head\.bias") as caught:
        arrive().take(world.outbox("night").parameters(part), part)
    assert caught.value.tensor == "head.bias"


def test_a_header_that_another_site_signed_is_refused_and_leaves_nothing(arrive, world, tmp_path):
    with pytest.raises(SignatureError, match="site fog"):
        arrive("fog", world.outbox("night").envelope())
    assert not (tmp_path / "arrivals").exists()


def test_what_an_earlier_try_left_behind_is_not_trusted(arrive, world, tmp_path):
    folder = tmp_path / "arrivals" / "fog"
    folder.mkdir(parents=True)
    Arrival.model_in(folder).write_bytes(b"\xaa" * 100_000)
    arrival = arrive()
    deliver(arrival, world.outbox("fog"))
    with TensorFile(arrival.model) as file:
        assert file.tensor("head.bias").tobytes() == world.models["fog"]["head.bias"].tobytes()


def test_what_an_earlier_conversation_left_is_not_asked_for_again(arrive, world):
    outbox = world.outbox("fog")
    zeros = {name for name in world.manifest.parameters if not np.any(world.models["fog"][name])}  # as holes are
    names = sorted(world.manifest.parameters.keys() - zeros)
    for there in range(1, len(names) + 1):
        first = arrive()
        first.forget()
        for name in names[:there]:
            first.take(outbox.parameters([name]), [name])
        second = arrive()
        assert second.missing == set(names[there:])
        for name in names[there:]:
            second.take(outbox.parameters([name]), [name])
        with TensorFile(second.model) as file:
            for name in world.manifest.parameters:
                assert file.tensor(name).tobytes() == world.models["fog"][name].tobytes()


def test_what_was_damaged_since_is_asked_for_again(arrive, world):
    first = arrive()
    deliver(first, world.outbox("fog"))
    with TensorFile(first.model) as file:
        start = file._start + file._header["head.bias"]["data_offsets"][0]
    raw = bytearray(first.model.read_bytes())
    raw[start] ^= 1
    first.model.write_bytes(raw)
    assert arrive().missing == {"head.bias"}
    first.model.write_bytes(raw[:-1])
    assert arrive().missing == set(world.manifest.parameters)


def test_of_another_update_only_what_is_the_same_counts(arrive, world, tmp_path):
    folder = tmp_path / "arrivals" / "one"
    first = arrive("fog", folder=folder)
    deliver(first, world.outbox("fog"))
    same = {
        name
        for name in world.manifest.parameters
        if world.models["fog"][name].tobytes() == world.models["night"][name].tobytes()
    }
    second = arrive("night", folder=folder)
    assert second.missing == set(world.manifest.parameters) - same
    deliver(second, world.outbox("night"))
    assert not second.missing


def test_a_folder_that_vanished_is_a_storage_error(arrive, world):
    arrival = arrive()
    clear(arrival.folder)
    with pytest.raises(StorageError, match="can't write"):
        deliver(arrival, world.outbox("fog"))


def test_the_header_is_kept_and_found_again(arrive, world):
    arrival = arrive()
    header, digest = kept_header(arrival.folder, world.campaign, "fog")
    assert (header, digest) == (arrival.header, arrival.digest)
    assert digest == world.outbox("fog").digest()
    arrival.forget()
    assert kept_header(arrival.folder, world.campaign, "fog")


def test_a_kept_header_that_is_missing_damaged_or_anothers_is_none(arrive, world, tmp_path):
    assert kept_header(tmp_path / "none", world.campaign, "fog") is None
    arrival = arrive()
    assert kept_header(arrival.folder, world.campaign, "night") is None
    path = arrival.folder / "update.binpb"
    whole = path.read_bytes()
    for content in (b"", b"\xff\xff", whole[:-1], whole[:-1] + bytes([whole[-1] ^ 1])):
        path.write_bytes(content)
        assert kept_header(arrival.folder, world.campaign, "fog") is None


def test_an_envelope_with_smuggled_fields_keeps_none_of_them(arrive, world):
    envelope = type(world.outbox("fog").envelope()).FromString(
        world.outbox("fog").envelope().SerializeToString() + b"\xfa\x01\x05photo"
    )
    arrival = arrive("fog", envelope)
    assert arrival.digest == world.outbox("fog").digest()


# -------------------------------------------------------------------- folding


def complete(arrive, world, *sites: str) -> list[Arrival]:
    arrivals = [arrive(site) for site in sites]
    for arrival in arrivals:
        deliver(arrival, world.outbox(arrival.site))
    return arrivals


def wait(folder: Folding) -> list[str]:
    done = []
    while folder.busy:
        done += [arrival.site for arrival in folder.step()]
    return done


def test_batches_fold_into_the_same_state_as_one_by_one(arrive, world, tmp_path):
    arrivals = complete(arrive, world, "clear", "fog", "night")
    fold(tmp_path / "whole", world.manifest, BASE, arrivals)
    for arrival in reversed(arrivals):
        fold(tmp_path / "single", world.manifest, BASE, [arrival])
    assert (tmp_path / "whole").read_bytes() == (tmp_path / "single").read_bytes()
    with Folding(tmp_path / "worker", world.manifest, BASE) as folder:
        folder.add(arrivals[0])
        folder.step()
        folder.add(arrivals[1])
        folder.add(arrivals[2])
        assert wait(folder) == ["clear", "fog", "night"]
        assert not folder.busy
    assert (tmp_path / "worker").read_bytes() == (tmp_path / "whole").read_bytes()


def test_a_batch_with_a_duplicate_folds_nothing(arrive, world, tmp_path):
    (fog,) = complete(arrive, world, "fog")
    fold(state := tmp_path / "state", world.manifest, BASE, [fog])
    before = state.read_bytes()
    (night,) = complete(arrive, world, "night")
    with Folding(state, world.manifest, BASE) as folder:
        folder.add(night)
        folder.add(fog)
        with pytest.raises(UpdateRefusedError, match="is in the merge already"):
            wait(folder)
    assert state.read_bytes() == before


def test_leaving_waits_for_the_fold_that_is_running(arrive, world, tmp_path):
    arrivals = complete(arrive, world, "fog")
    with Folding(tmp_path / "state", world.manifest, BASE) as folder:
        folder.add(arrivals[0])
        folder.step()
    with MergeState(tmp_path / "state") as state:
        assert state.digests == {signing.digest(world.outbox("fog").envelope()).hex()}
