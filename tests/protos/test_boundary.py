"""The boundary, from both sides: what `describe` lets out and what `check_header` takes in."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from protos import boundary
from protos import update_pb2 as pb
from protos.boundary import check_header, check_parameter, describe
from protos.campaign import Keys, new_campaign
from protos.errors import BaseMismatchError, MergeRangeError, UpdateRefusedError
from protos.rules import Rules

STAT = "norm.running_mean"


@pytest.fixture
def campaign():
    return new_campaign(
        name="one",
        base_digest=b"b" * 32,
        model="tiny-resnet",
        classes=5,
        members={"fog": Keys(b"f" * 32, b"F" * 32), "night": Keys(b"n" * 32, b"N" * 32)},
        rules=Rules(),
        coordinator=Keys(b"c" * 32, b"C" * 32),
    )


@pytest.fixture
def base(model, manifest_for):
    return manifest_for(model(0))


@pytest.fixture
def header(model, base, campaign) -> pb.UpdateHeader:
    return describe(model(1), base, campaign, "fog")


# ------------------------------------------------------------------ outwards


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_a_header_describes_every_parameter_and_layer_and_nothing_else(
    model, manifest_for, statistics_in, campaign, dtype
):
    state = model(1, dtype)
    base = manifest_for(state)
    header = describe(state, base, campaign, "fog")
    assert [p.name for p in header.parameters] == list(base.parameters)
    for parameter in header.parameters:
        assert parameter.sha256 == hashlib.sha256(state[parameter.name].tobytes()).digest()
        assert tuple(parameter.shape) == state[parameter.name].shape
        assert pb.DType.Name(parameter.dtype) == f"DTYPE_{dtype.upper()}"
    wanted = statistics_in(state)
    assert [b.layer for b in header.batch_norms] == list(wanted)
    for layer, found in boundary.statistics(header).items():
        np.testing.assert_array_equal(found.mean, wanted[layer].mean, strict=True)
        np.testing.assert_array_equal(found.var, wanted[layer].var, strict=True)
        assert found.count == wanted[layer].count
    assert (header.campaign_digest, header.base_digest, header.site) == (campaign.digest, b"b" * 32, "fog")
    check_header(header, campaign, base, "fog")


def test_the_versions_are_of_what_computes(header):
    assert [entry.name for entry in header.versions] == ["onebasin", "flwr", "torch"]


def test_what_the_base_does_not_name_is_not_looked_at(model, base, campaign, header):
    class Untouchable:
        def __getattribute__(self, name: str) -> object:
            raise AssertionError("someone looked")

    assert describe({**model(1), "optimizer": Untouchable()}, base, campaign, "fog") == header


def test_memory_layout_does_not_matter(model, base, campaign, header):
    state = model(1)
    state["head.weight"] = np.asfortranarray(state["head.weight"])
    state["norm.bias"] = np.repeat(state["norm.bias"], 2)[::2]
    assert describe(state, base, campaign, "fog") == header


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("head.bias", None, "the model has no head.bias"),
        ("head.bias", np.zeros(6, np.float32), "head.bias is float32[6], the base has float32[5]"),
        ("head.bias", np.zeros((5, 1), np.float32), "head.bias is float32[5, 1]"),
        ("head.bias", np.zeros(5, np.float16), "head.bias is float16[5]"),
        ("head.bias", np.zeros(5, np.float64), "head.bias is float64[5]"),
        ("head.bias", np.asarray([0, 0, np.nan, 0, 0], np.float32), "head.bias has 1 values that are NaN"),
        ("head.bias", np.asarray([0, 0, 0, 0, -np.inf], np.float32), "head.bias has 1 values that are NaN"),
        ("head.bias", np.full(5, 512, np.float32), "head.bias has a value of magnitude 512"),
        ("scale", np.asarray(np.nan, np.float32), "scale has 1 values that are NaN"),
        (STAT, None, "the model has no norm.running_mean"),
        (STAT, np.zeros(3, np.float32), "norm.running_mean is float32[3], the base has float32[4]"),
        (STAT, np.asarray([0, np.nan, 0, 0], np.float32), "norm.running_mean has values that are NaN"),
        (
            "norm.running_var",
            np.asarray([1, np.inf, 1, 1], np.float32),
            "norm.running_var has values that are NaN",
        ),
        ("norm.running_var", np.asarray([1, -1e-9, 1, 1], np.float32), "has a negative variance, -1e-09"),
        ("norm.num_batches_tracked", np.asarray(0), "norm.num_batches_tracked is 0"),
        ("norm.num_batches_tracked", np.asarray(-3), "norm.num_batches_tracked is -3"),
        ("norm.num_batches_tracked", np.asarray(3, np.int32), "norm.num_batches_tracked is int32[]"),
        ("norm.num_batches_tracked", None, "the model has no norm.num_batches_tracked"),
    ],
)
def test_a_model_that_cannot_be_merged_does_not_leave(model, base, campaign, name, value, said):
    state = {key: array for key, array in {**model(1), name: value}.items() if array is not None}
    with pytest.raises(UpdateRefusedError) as caught:
        describe(state, base, campaign, "fog")
    assert said in caught.value.what
    assert "site fog" in caught.value.what
    assert (caught.value.site, caught.value.tensor) == ("fog", name)
    assert caught.value.fix


# ------------------------------------------------------------------- inwards


def first(items, name: str):
    return next(item for item in items if name in (getattr(item, "name", ""), getattr(item, "layer", "")))


def drop(items, name: str) -> None:
    items.remove(first(items, name))


CHANGES = {
    "another wire version": (lambda h: setattr(h, "wire_version", 2), "wire version 2, this is 1", ""),
    "another campaign": (lambda h: setattr(h, "campaign_digest", b"x" * 32), "is for campaign 787878787878", ""),
    "no campaign": (lambda h: h.ClearField("campaign_digest"), "is for campaign", ""),
    "another site": (lambda h: setattr(h, "site", "night"), "says that it is site night's", ""),
    "another copy": (
        lambda h: setattr(h, "copy", pb.UpdateHeader(copy=2).copy),
        "the update is of the teacher",
        "",
    ),
    "an unknown copy": (lambda h: setattr(h, "copy", 7), "the update is of the unknown copy", ""),
    "a missing parameter": (lambda h: drop(h.parameters, "scale"), "parameter scale is missing", "scale"),
    "an extra parameter": (
        lambda h: h.parameters.append(pb.Parameter(name="zz.photo", dtype=1, shape=[3], sha256=b"0" * 32)),
        "parameter zz.photo is not in the base",
        "zz.photo",
    ),
    "a renamed parameter": (
        lambda h: setattr(first(h.parameters, "scale"), "name", "photo"),
        "parameter scale is missing (and 1 more differ)",
        "scale",
    ),
    "a parameter twice": (
        lambda h: h.parameters.insert(0, h.parameters[0]),
        "parameter head.bias stands twice or out of order",
        "head.bias",
    ),
    "parameters out of order": (
        lambda h: h.parameters.reverse(),
        "stands twice or out of order",
        "xnorm.deep.weight",
    ),
    "another shape": (
        lambda h: first(h.parameters, "head.weight").shape.reverse(),
        "head.weight is float32[4, 5], the base has float32[5, 4]",
        "head.weight",
    ),
    "another dtype": (
        lambda h: setattr(first(h.parameters, "head.bias"), "dtype", pb.DTYPE_BFLOAT16),
        "head.bias is bfloat16[5], the base has float32[5]",
        "head.bias",
    ),
    "an unknown dtype": (
        lambda h: setattr(first(h.parameters, "head.bias"), "dtype", 99),
        "head.bias is unknown dtype[5]",
        "head.bias",
    ),
    "a missing layer": (lambda h: drop(h.batch_norms, "norm"), "BatchNorm layer norm is missing", "norm"),
    "an extra layer": (
        lambda h: h.batch_norms.append(pb.BatchNorm(layer="zz", mean=[0], var=[1], count=1)),
        "BatchNorm layer zz is not in the base",
        "zz",
    ),
    "a layer twice": (
        lambda h: h.batch_norms.append(h.batch_norms[1]),
        "BatchNorm layer norm stands twice",
        "norm",
    ),
    "layers out of order": (lambda h: h.batch_norms.reverse(), "stands twice or out of order", "xnorm.deep"),
    "too few means": (lambda h: h.batch_norms[0].mean.pop(), "norm has 3 means and 4 variances for 4", "norm"),
    "too many variances": (lambda h: h.batch_norms[0].var.append(1), "norm has 4 means and 5 variances", "norm"),
    "no statistics": (
        lambda h: (h.batch_norms[0].ClearField("mean"), h.batch_norms[0].ClearField("var")),
        "norm has 0 means and 0 variances for 4 channels",
        "norm",
    ),
    "a mean that is NaN": (
        lambda h: h.batch_norms[1].mean.__setitem__(0, float("nan")),
        "xnorm.deep.running_mean has values that are NaN",
        "xnorm.deep.running_mean",
    ),
    "an infinite variance": (
        lambda h: h.batch_norms[1].var.__setitem__(2, float("inf")),
        "xnorm.deep.running_var has values that are NaN",
        "xnorm.deep.running_var",
    ),
    "a negative variance": (
        lambda h: h.batch_norms[1].var.__setitem__(2, -0.25),
        "xnorm.deep.running_var has a negative variance, -0.25",
        "xnorm.deep.running_var",
    ),
    "no batches": (
        lambda h: setattr(h.batch_norms[1], "count", 0),
        "xnorm.deep.num_batches_tracked is 0",
        "xnorm.deep.num_batches_tracked",
    ),
    "fewer than no batches": (
        lambda h: setattr(h.batch_norms[1], "count", -(1 << 62)),
        "xnorm.deep.num_batches_tracked is -",
        "xnorm.deep.num_batches_tracked",
    ),
}


@pytest.mark.parametrize(("change", "said", "tensor"), CHANGES.values(), ids=CHANGES)
def test_a_header_that_breaks_a_rule_is_refused_by_site_and_tensor(header, base, campaign, change, said, tensor):
    change(header)
    with pytest.raises(UpdateRefusedError) as caught:
        check_header(header, campaign, base, "fog")
    assert said in caught.value.what
    assert "site fog" in caught.value.what
    assert (caught.value.site, caught.value.tensor) == ("fog", tensor)


def test_a_header_from_another_base_is_refused(header, base, campaign):
    header.base_digest = b"x" * 32
    with pytest.raises(BaseMismatchError, match="site fog: the update started from base 787878787878"):
        check_header(header, campaign, base, "fog")


def test_a_site_cannot_send_in_anothers_name(header, base, campaign):
    with pytest.raises(UpdateRefusedError, match="says that it is site fog's"):
        check_header(header, campaign, base, "night")


def test_negative_zero_is_no_negative_variance(header, base, campaign):
    header.batch_norms[0].var[0] = -0.0
    check_header(header, campaign, base, "fog")


# -------------------------------------------------------------------- bytes


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_the_bytes_that_were_signed_for_are_accepted(model, manifest_for, campaign, dtype):
    state = model(1, dtype)
    for parameter in describe(state, manifest_for(state), campaign, "fog").parameters:
        check_parameter(parameter, memoryview(state[parameter.name].tobytes()), "fog")


def test_other_bytes_are_refused_by_site_and_tensor(header, model):
    raw = bytearray(model(1)["head.weight"].tobytes())
    raw[5] ^= 4
    with pytest.raises(UpdateRefusedError, match=r"the bytes of head\.weight are not the ones") as caught:
        check_parameter(first(header.parameters, "head.weight"), memoryview(raw), "fog")
    assert (caught.value.site, caught.value.tensor) == ("fog", "head.weight")


@pytest.mark.parametrize(
    ("value", "kind"), [(np.nan, UpdateRefusedError), (np.inf, UpdateRefusedError), (600, MergeRangeError)]
)
@pytest.mark.parametrize("dtype", [pb.DTYPE_FLOAT32, pb.DTYPE_FLOAT16, pb.DTYPE_BFLOAT16])
def test_values_that_cannot_be_merged_are_refused_even_when_they_are_signed_for(value, kind, dtype):
    from protos import dtypes

    found = dtypes.by_wire(dtype)
    raw = found.narrow(np.asarray([1, value], np.float32)).tobytes()
    parameter = pb.Parameter(name="w", dtype=dtype, shape=[2], sha256=hashlib.sha256(raw).digest())
    with pytest.raises(kind) as caught:
        check_parameter(parameter, memoryview(raw), "fog")
    assert (caught.value.site, caught.value.tensor) == ("fog", "w")


def test_statistics_survive_the_wire(statistics_in, model):
    for layer, found in statistics_in(model(4)).items():
        again = boundary.batch_norm(boundary.wire_batch_norm(layer, found))
        np.testing.assert_array_equal(again.mean, found.mean, strict=True)
        np.testing.assert_array_equal(again.var, found.var, strict=True)
        assert again.count == found.count
