"""Updates as files: written whole, and read only if they are what the site signed."""

from __future__ import annotations

import shutil

import pytest

from protos import updatefile
from protos.errors import ConfigurationError, ModelFileError, SignatureError, UpdateRefusedError
from protos.tensorfile import TensorFile, write_tensors
from protos.updatefile import UpdateFile


@pytest.fixture
def exported(world, tmp_path):
    world.outbox("fog").export(tmp_path / "fog.safetensors")
    return tmp_path / "fog.safetensors"


def test_an_export_holds_what_was_sent_and_nothing_else(world, exported):
    with UpdateFile(exported) as update, TensorFile(exported) as file:
        assert update.digest == world.outbox("fog").digest()
        assert file.manifest.tensors == world.manifest.parameters
        assert file.metadata.keys() == {"format", "header"}
        for name in world.manifest.parameters:
            assert file.tensor(name).tobytes() == world.models["fog"][name].tobytes()
        update.check_for(world.campaign, world.manifest, "fog")


def test_an_outbox_is_an_update_too(world):
    with UpdateFile(world.outbox("fog").model) as update:
        update.check_for(world.campaign, world.manifest, "fog")
        assert update.statistics.keys() == world.manifest.layers.keys()


def test_an_export_is_noted_and_overwrites_nothing(world, exported):
    from protos.audit import entries

    last = list(entries(world.sites["fog"].audit.path))[-1]
    assert (last.event, last.fields["digest"]) == ("exported", world.outbox("fog").digest().hex())
    with pytest.raises(ConfigurationError, match="is there already"):
        world.outbox("fog").export(exported)


def test_an_outbox_that_was_changed_is_not_exported(world, tmp_path):
    path = world.outbox("fog").model
    content = bytearray(path.read_bytes())
    content[8 + int.from_bytes(content[:8], "little")] ^= 1
    path.write_bytes(content)
    with pytest.raises(UpdateRefusedError, match=r"site fog: head\.bias .* is not what the site signed for"):
        world.outbox("fog").export(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_another_sites_update_is_refused(world, exported):
    with UpdateFile(exported) as update, pytest.raises(SignatureError):
        update.check_for(world.campaign, world.manifest, "night")


def test_a_file_without_a_header_is_none(world, tmp_path):
    shutil.copy(world.base, tmp_path / "model.safetensors")
    with pytest.raises(ModelFileError, match="its signed header is missing or damaged") as caught:
        UpdateFile(tmp_path / "model.safetensors")
    assert "onebasin site export" in caught.value.fix


@pytest.mark.parametrize("header", ["", "%%%", "AAAA", "CgR4eHh4"])
def test_a_damaged_header_is_refused(exported, tmp_path, header):
    with TensorFile(exported) as file:
        metadata = {"format": updatefile.FORMAT, "header": header}
        write_tensors(tmp_path / "bad", file.manifest.tensors, file.chunks, metadata)
    with pytest.raises(ModelFileError, match="is missing or damaged"):
        UpdateFile(tmp_path / "bad")


def test_a_parameter_of_another_dtype_or_shape_is_refused(exported, tmp_path):
    with TensorFile(exported) as file:
        tensors = dict(file.manifest.tensors)
        spec = tensors["head.weight"]
        tensors["head.weight"] = type(spec)(spec.dtype, (4, 5))
        write_tensors(tmp_path / "bad", tensors, file.chunks, file.metadata)
    with UpdateFile(tmp_path / "bad") as update, pytest.raises(UpdateRefusedError, match=r"head\.weight"):
        update.check()
