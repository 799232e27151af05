"""Networks compute the same function after any order of their channels, so tables say what torch does."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from client.models import build
from client.models.daformer import DAFormerHead
from client.models.deeplab import DLV2Head
from client.models.hrda import HRDA, HRDAHead, Sizes
from client.models.mit import WIDTHS, MixTransformer
from client.models.network import EncoderDecoder
from coordinator.merge.basin.architectures import table_of

pytestmark = pytest.mark.usefixtures("one_thread")


def hrda_of_b0() -> nn.Module:
    return HRDA(MixTransformer("b0"), HRDAHead(WIDTHS["b0"], 19), Sizes(detail=32, window=64, stride=32))


def logits(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return network(images)


def load(network: nn.Module, arrays) -> nn.Module:
    network.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
    return network


NETWORKS = {
    "tiny-resnet": lambda: build("tiny-resnet", 19),
    "daformer-r50": lambda: build("daformer-r50", 19),
    "segformer-mitb0": lambda: build("segformer-mitb0", 19),
    "daformer-mitb0": lambda: EncoderDecoder(MixTransformer("b0"), DAFormerHead(WIDTHS["b0"], 19)),
    "deeplabv2-mitb0": lambda: EncoderDecoder(MixTransformer("b0"), DLV2Head(WIDTHS["b0"][-1], 19)),
    "hrda-daformer-mitb0": hrda_of_b0,
}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_function_stays(name, make_lively, in_arrays, specs_in, shuffled, reordered):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = make_lively(NETWORKS[name]())
        images = torch.randn(1, 3, 64, 64)
    before, arrays = logits(network, images), in_arrays(network)
    orders = shuffled(table_of(specs_in(arrays)), 4)
    assert orders.share < 0.2
    after = logits(load(network, reordered(arrays, orders)), images)
    assert before.std() > 1e-3
    assert (after - before).abs().max() < 1e-4 * before.abs().max()


def test_no_tensor_may_be_left_out(tiny, tiny_table, shuffled, reordered):
    """Statistics and what heads read have to follow too; the method's official script forgets both."""
    network, images = (
        build("tiny-resnet", 19),
        torch.randn(1, 3, 32, 64, generator=torch.Generator().manual_seed(0)),
    )
    before = logits(load(network.eval(), tiny), images)
    orders = shuffled(tiny_table, 5)
    moved = reordered(tiny, orders)
    for name in tiny:
        if all(order is None for order in orders.axes(name)):
            assert tiny_table.axes[name] in ((), ((),)), name  # a count, or the classes' bias
            continue
        after = logits(load(network, {**moved, name: tiny[name]}), images)
        assert (after - before).abs().max() > 1e-3 * before.abs().max(), name
