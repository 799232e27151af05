"""What leaves is seen before it leaves, to the byte."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from client.preview import LENGTH, preview, write_bytes
from client.preview_text import as_text
from client.summing import Summing
from coordinator.strategy import OneShotMerge
from protos import messages_pb2 as pb
from protos import printing, signing, update_pb2
from protos.digest import sha256
from protos.errors import AdaptationError, SecureSumError, UpdateRefusedError
from protos.rules import Rules


def test_every_field_and_tensor_of_the_header_is_listed(world):
    found, header = preview(world.joined("fog")), world.outbox("fog").header()
    assert [tensor.name for tensor in found.parameters] == [p.name for p in header.parameters]
    assert [(layer.name, layer.count) for layer in found.layers] == [
        (b.layer, b.count) for b in header.batch_norms
    ]
    of_a_region = {"region", "layer_sums"}
    shown = set(found.fields) | {"parameters", "batch_norms"} - {"signature"} | of_a_region
    assert {field.name for field in update_pb2.UpdateHeader.DESCRIPTOR.fields} <= shown
    assert found.digest == world.outbox("fog").digest().hex()


def test_sizes_are_those_of_the_models_tensors(world):
    for tensor in preview(world.joined("fog")).parameters:
        array = world.models["fog"][tensor.name]
        assert (tensor.nbytes, tensor.shape, tensor.dtype) == (array.nbytes, array.shape, str(array.dtype))


def test_the_written_bytes_are_those_that_leave_whatever_the_size_of_a_part(world, tmp_path):
    joined, outbox = world.joined("fog"), world.outbox("fog")
    written = write_bytes(joined, tmp_path / "bytes")
    content = (tmp_path / "bytes").read_bytes()
    (length,) = LENGTH.unpack(content[: LENGTH.size])
    reply, values = content[LENGTH.size :][:length], content[LENGTH.size + length :]
    assert pb.Reply.FromString(reply) == pb.Reply(header=outbox.envelope())
    assert reply == signing.encode(pb.Reply(header=outbox.envelope()))
    names = [parameter.name for parameter in outbox.header().parameters]
    assert values == outbox.parameters(names[:3]) + outbox.parameters(names[3:])
    assert written == len(content) - LENGTH.size == preview(joined).nbytes


def test_an_altered_model_is_not_written_out_as_if_it_would_leave(world, tmp_path):
    path = world.outbox("fog").model
    content = path.read_bytes()
    path.write_bytes(content[:-200] + bytes(200))
    with pytest.raises(UpdateRefusedError, match="are not the ones that the site signed for"):
        write_bytes(world.joined("fog"), tmp_path / "bytes")
    assert not (tmp_path / "bytes").exists()


def test_without_an_update_there_is_nothing_to_see(make_world, tmp_path):
    joined = make_world(("fog",), store=False).joined("fog")
    for look in (preview, lambda j: write_bytes(j, tmp_path / "x")):
        with pytest.raises(AdaptationError, match="has no update for campaign one yet"):
            look(joined)


def test_people_and_programs_read_the_same(world, capsys):
    found = preview(world.joined("fog"))
    printing.show(as_text(found))
    text = capsys.readouterr().out
    content = json.loads(json.dumps(found.as_json()))
    for tensor in content["parameters"]:
        assert tensor["name"] in text
        assert tensor["sha256"] in text
    assert f"{content['bytes']:,} bytes leave" in text
    assert world.home.fingerprint in text


def test_it_says_who_else_gets_to_see_the_model(make_world):
    shown = preview(make_world(rules=Rules(compare_single_models=True)).joined("fog")).sentences
    hidden = preview(make_world(rules=Rules(evaluate=False)).joined("fog")).sentences
    assert "to the other members" in shown[0]
    assert "to nobody else" in hidden[0]
    assert any("confusion matrices" in sentence for sentence in shown)
    assert not any("confusion matrices" in sentence for sentence in hidden)


# ------------------------------------------------------------- secure sums


@pytest.fixture
def summed(make_world):
    return make_world(rules=Rules(privacy="secure-sum"))


def test_in_a_secure_sum_masked_vectors_leave_and_no_header(summed):
    found = preview(summed.joined("fog"))
    values = sum(spec.size for spec in summed.manifest.parameters.values())
    channels, layers = sum(summed.manifest.layers.values()), len(summed.manifest.layers)
    assert found.masked
    assert found.nbytes == 8 * values + 128 * channels + 16 * layers
    assert {tensor.dtype for tensor in found.parameters} == {"uint64"}
    assert not found.layers
    said = " ".join(found.sentences)
    assert "masked before it leaves" in said
    assert "unless more than 1 other member side with the coordinator" in said
    text = "\n".join(str(part) for part in as_text(found))
    assert "vectors of masked words" in text
    with pytest.raises(SecureSumError, match="nothing of campaign one is masked now"):
        write_bytes(summed.joined("fog"), Path("never"))


def test_while_the_sum_is_on_the_very_bytes_can_be_written(summed, make_grid, tmp_path, clock):
    joined, seen = summed.joined("fog"), {}

    def react(node, site, request, before):
        if site == "fog" and request.submit.parameters and not seen:
            write_bytes(joined, tmp_path / "bytes")
            seen["found"] = preview(joined)
        return ...

    OneShotMerge(summed.folder).start(make_grid(summed, react=react))
    content, found = (tmp_path / "bytes").read_bytes(), seen["found"]
    (length,) = LENGTH.unpack(content[: LENGTH.size])
    reply, position = pb.Reply.FromString(content[LENGTH.size :][:length]), LENGTH.size + length
    assert signing.digest(reply.summed) == Summing(joined).digest()
    for tensor in found.parameters:
        assert sha256([content[position:][: tensor.nbytes]]).hex() == tensor.sha256
        position += tensor.nbytes
    assert position == len(content) == found.nbytes + LENGTH.size
