"""The outbox: an update is there whole or not at all, and only what was signed goes out of it."""

from __future__ import annotations

import numpy as np
import pytest

from client import outbox as module
from client.outbox import Outbox
from protos import files, signing
from protos import update_pb2 as pb
from protos.boundary import check_header
from protos.errors import ModelFileError, StorageError, UpdateRefusedError
from protos.tensorfile import TensorFile


def tree(folder) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def empty(make_world):
    return make_world(store=False)


def test_a_stored_update_is_ready_signed_and_checks_out(world):
    outbox = world.outbox("fog")
    assert outbox.ready
    key = world.campaign.keys["fog"]
    header = signing.opened(outbox.envelope(), signing.UPDATE, key, pb.UpdateHeader, "fog")
    check_header(header, world.campaign, world.manifest, "fog")
    assert outbox.header() == header
    assert outbox.digest() == signing.digest(outbox.envelope())


def test_storing_returns_the_digest_under_which_the_update_is_known(empty):
    outbox = empty.outbox("fog")
    assert not outbox.ready
    assert outbox.store(empty.models["fog"]) == outbox.digest()


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_the_kept_model_is_the_one_that_was_stored(make_world, dtype):
    world = make_world(dtype=dtype)
    with TensorFile(world.outbox("fog").model) as file:
        for name, array in world.models["fog"].items():
            assert file.tensor(name).tobytes() == array.tobytes()


def test_parameters_go_out_in_the_order_in_which_they_are_asked_for(world):
    names = ["scale", "head.weight", "unused", "head.bias"]
    raw = world.outbox("fog").parameters(names)
    assert raw == b"".join(world.models["fog"][name].tobytes() for name in names)
    assert world.outbox("fog").parameters([]) == b""


@pytest.mark.parametrize(
    "name", ["norm.running_mean", "norm.num_batches_tracked", "table", "optimizer", "../../keys/signing.pem", ""]
)
def test_what_is_no_parameter_of_the_update_does_not_go_out(world, name):
    with pytest.raises(UpdateRefusedError, match="is no parameter of this update") as caught:
        world.outbox("fog").parameters(["scale", name])
    assert caught.value.tensor == name


def test_a_model_that_changed_after_it_was_signed_does_not_go_out(world, saved):
    outbox = world.outbox("fog")
    model = {**world.models["fog"]}
    model["head.bias"] = model["head.bias"] + np.float32(1)
    saved(outbox.model, model)
    assert outbox.parameters(["scale"])
    with pytest.raises(UpdateRefusedError, match=r"the bytes of head\.bias are not the ones") as caught:
        outbox.parameters(["scale", "head.bias"])
    assert (caught.value.site, caught.value.tensor) == ("fog", "head.bias")


def test_a_damaged_header_is_a_model_file_error(world):
    outbox = world.outbox("fog")
    outbox._header.write_bytes(b"\xff" * 9)
    with pytest.raises(ModelFileError, match="can't read the update"):
        outbox.envelope()
    outbox._header.unlink()
    assert not outbox.ready
    with pytest.raises(ModelFileError, match="can't read the update"):
        outbox.digest()


def test_a_changed_buffer_that_is_no_statistic_is_refused(empty):
    model = {**empty.models["fog"], "table": empty.models["fog"]["table"] + 1}
    with pytest.raises(UpdateRefusedError, match="buffer table changed while adapting") as caught:
        empty.outbox("fog").store(model)
    assert (caught.value.site, caught.value.tensor) == ("fog", "table")
    assert not empty.outbox("fog").ready


def test_a_missing_buffer_is_refused(empty):
    model = {name: array for name, array in empty.models["fog"].items() if name != "table"}
    with pytest.raises(UpdateRefusedError, match="the model has no table") as caught:
        empty.outbox("fog").store(model)
    assert caught.value.tensor == "table"


@pytest.mark.parametrize("name", ["head.bias", "norm.running_var", "norm.num_batches_tracked"])
def test_a_refused_model_leaves_the_earlier_update_as_it_was(world, name):
    outbox = world.outbox("fog")
    before = tree(outbox.model.parent)
    bad = {**world.models["fog"], name: world.models["fog"][name] * 0 - 1000}
    bad[name] = bad[name].astype(world.models["fog"][name].dtype)
    with pytest.raises(UpdateRefusedError) as caught:
        outbox.store(bad)
    assert caught.value.tensor == name
    assert tree(outbox.model.parent) == before


def test_the_header_is_written_last(empty, monkeypatch):
    outbox, seen = empty.outbox("fog"), []
    write = files.write

    def traced(path, content, **options):
        seen.append((path.name, outbox.model.exists()))
        return write(path, content, **options)

    monkeypatch.setattr(module.files, "write", traced)
    outbox.store(empty.models["fog"])
    assert seen == [("update.binpb", True), ("audit.head.json", True)]


def test_a_full_disk_leaves_no_update(empty, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise StorageError("no space")

    monkeypatch.setattr(module, "write_tensors", full)
    with pytest.raises(StorageError):
        empty.outbox("fog").store(empty.models["fog"])
    assert not empty.outbox("fog").ready


def test_another_campaigns_outbox_is_another_folder(world):
    assert world.joined("fog").campaign.digest.hex().startswith(world.outbox("fog").model.parents[1].name)
    assert Outbox(world.joined("night")).model != world.outbox("fog").model


def test_storing_the_same_model_again_gives_the_same_update(world):
    outbox = world.outbox("fog")
    before = tree(outbox.model.parent)
    outbox.store(world.models["fog"])
    assert tree(outbox.model.parent) == before
