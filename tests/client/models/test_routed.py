import copy
import itertools

import numpy as np
import pytest
import torch

from client.data.images import normalise
from client.models import build, norms
from client.models.hrda import Sizes
from client.models.routed import LIMIT, RoutedBatchNorm2d, RoutedModel, divergence, route
from client.recalibration import recalibrate
from protos.boundary import BatchNorm
from protos.errors import ConfigurationError, ModelFileError


def pictures(number, light=128, contrast=40, seed=0, size=(64, 64)):
    """Draw noise of another brightness and contrast for each "domain"."""
    dice = torch.Generator().manual_seed(seed)
    noise = torch.randn(number, 3, *size, generator=dice)
    return (light + contrast * noise).clamp(0, 255).to(torch.uint8)


DOMAINS = {"dark": (40, 10), "flat": (128, 6), "bright": (215, 25)}


def pooled_of(sets):
    """Pool sets with equal weights."""
    found = {}
    for layer in next(iter(sets.values())):
        means, variances = (
            np.stack([getattr(one[layer], part).astype(np.float64) for one in sets.values()])
            for part in ("mean", "var")
        )
        var = (variances + (means - means.mean(0)) ** 2).mean(0)
        found[layer] = BatchNorm(means.mean(0).astype(np.float32), var.astype(np.float32), len(sets))
    return found


@pytest.fixture(scope="module")
def tiny():
    network = build("tiny-resnet", 5).eval()
    dice = torch.Generator().manual_seed(3)
    with torch.no_grad():  # so that a weight or bias that is forgotten shows
        for layer in norms.batch_norms(network).values():
            layer.weight.copy_(0.5 + torch.rand(layer.weight.shape, generator=dice))
            layer.bias.copy_(0.3 * torch.randn(layer.bias.shape, generator=dice))
    return network


@pytest.fixture(scope="module")
def sets(tiny):
    return {name: recalibrate(tiny, [pictures(8, *look)]) for name, look in DOMAINS.items()}


@pytest.fixture(scope="module")
def routed(tiny, sets):
    return RoutedModel.from_sets(tiny, pooled_of(sets), sets)


def alone(network, statistics, image):
    """Run one image through the plain network with these statistics."""
    plain = copy.deepcopy(network).eval()
    norms.load(plain, statistics)
    with torch.no_grad():
        return plain(image[None])[0]


def check_like_alone(network, routed, sets, images):
    """Compare each image of a batch with running it by itself; return what was chosen."""
    rows = [pooled_of(sets), *sets.values()]
    pixels = normalise(images)
    with torch.no_grad():
        logits, chosen = routed.explained(pixels)
        assert torch.equal(logits, routed(pixels))
    for image, number, found in zip(pixels, chosen, logits, strict=True):
        wanted = alone(network, rows[number], image)
        assert (found - wanted).abs().max() <= 2e-5 * wanted.abs().max()
    return chosen.tolist()


def test_a_mixed_batch_is_as_each_image_alone_with_its_own_set(tiny, routed, sets):
    ours = [pictures(2, *look, seed=7) for look in DOMAINS.values()]
    strange = pictures(2, 128, 90, seed=8)
    images = torch.cat([ours[2], ours[0], strange, ours[1], ours[0]])
    assert check_like_alone(tiny, routed, sets, images) == [3, 3, 1, 1, 0, 0, 2, 2, 1, 1]
    assert routed.names == ("dark", "flat", "bright")


def test_the_sets_do_differ(tiny, sets):
    image = normalise(pictures(1))[0]
    outputs = [alone(tiny, found, image) for found in sets.values()]
    assert all((a - b).abs().max() > 0.01 for a, b in itertools.pairwise(outputs))


def test_images_in_either_memory_format_and_of_any_size(tiny, routed, sets):
    check_like_alone(tiny, routed, sets, pictures(3, 40, 10, size=(40, 72)))
    pixels = normalise(pictures(2, 40, 10))
    with torch.no_grad():
        assert torch.equal(routed(pixels), routed(pixels.contiguous()))


def test_hrda_shows_its_windows_with_the_sets_of_their_images():
    network = build("hrda-daformer-r50", 5).eval()
    network.sizes = Sizes(detail=32, window=64, stride=64)
    looks = {"dark": (40, 10), "bright": (215, 25)}
    found = {name: recalibrate(network, [pictures(2, *look)]) for name, look in looks.items()}
    routed = RoutedModel.from_sets(network, pooled_of(found), found, limit=5)
    images = torch.cat([pictures(1, *looks["bright"], seed=4), pictures(1, *looks["dark"], seed=4)])
    assert check_like_alone(network, routed, found, images) == [2, 1]


def test_divergence_is_the_symmetric_kullback_leibler_divergence():
    dice = torch.Generator().manual_seed(0)
    draw = [torch.rand(n, 6, generator=dice) + 0.2 for n in (4, 4, 3, 3)]

    def gaussian(mean, var):
        return torch.distributions.Normal(mean.double(), var.double().sqrt())

    p, q = gaussian(draw[0][:, None], draw[1][:, None]), gaussian(draw[2], draw[3])
    kl = torch.distributions.kl_divergence
    wanted = (kl(p, q) + kl(q, p)).mean(-1)
    torch.testing.assert_close(divergence(*draw).double(), wanted, rtol=1e-5, atol=1e-6)


def test_the_nearest_set_wins_within_the_limit_and_nearer_than_the_pooled_one():
    means = torch.tensor([[0.0], [-2.0], [2.0]])
    variances = torch.tensor([[5.0], [1.0], [1.0]])

    def chosen(mean, var=1.0, limit=LIMIT):
        return route(torch.tensor([[mean]]), torch.tensor([[var]]), means, variances, limit).item()

    assert chosen(-2.0) == 1
    assert chosen(2.4) == 2
    assert chosen(2.6) == 0  # more than half a standard deviation away: J = .36
    assert chosen(2.6, limit=0.5) == 2
    assert chosen(9.0) == 0
    assert chosen(2.0, 1.9) == 2
    assert chosen(2.0, 2.1) == 0  # twice the variance: J = .29
    assert chosen(0.3, 5.0, limit=99) == 0  # like all together, and like none


def test_two_sites_of_one_domain_keep_their_images(tiny):
    twins = {name: recalibrate(tiny, [pictures(8, 40, 10, seed=i)]) for i, name in enumerate(("a", "b"))}
    twins["bright"] = recalibrate(tiny, [pictures(8, *DOMAINS["bright"])])
    routed = RoutedModel.from_sets(tiny, pooled_of(twins), twins)
    with torch.no_grad():
        _, chosen = routed.explained(normalise(pictures(8, 40, 10, seed=9)))
    assert set(chosen.tolist()) <= {1, 2}


def test_an_image_between_opposite_sites_is_neither_s(tiny, sets):
    opposite = {name: sets[name] for name in ("dark", "bright")}
    routed = RoutedModel.from_sets(tiny, pooled_of(opposite), opposite)
    with torch.no_grad():
        _, chosen = routed.explained(normalise(pictures(4, *DOMAINS["flat"], seed=9)))
    assert chosen.tolist() == [0] * 4


def test_nothing_is_changed_and_it_never_trains(tiny, sets):
    before = copy.deepcopy(tiny.state_dict())
    routed = RoutedModel.from_sets(tiny, pooled_of(sets), sets).train()
    assert not any(module.training for module in routed.modules())
    with torch.no_grad():
        routed(normalise(pictures(2)))
    assert all(torch.equal(value, before[name]) for name, value in tiny.state_dict().items())
    assert not any(isinstance(module, RoutedBatchNorm2d) for module in tiny.modules())


def test_the_network_in_it_has_the_plain_keys_and_the_pooled_statistics(tiny, routed, sets):
    plain = build("tiny-resnet", 5)
    plain.load_state_dict(routed.network.state_dict())
    pooled = pooled_of(sets)
    for layer, found in norms.statistics(plain).items():
        assert np.array_equal(found.mean, pooled[layer].mean) and np.array_equal(found.var, pooled[layer].var)
        assert found.count == pooled[layer].count
    assert torch.equal(plain.decode_head.conv_seg.weight, tiny.decode_head.conv_seg.weight)


def test_a_failed_call_leaves_nothing_behind(routed):
    pixels = normalise(pictures(2, *DOMAINS["dark"]))
    with torch.no_grad():
        wanted = routed(pixels)
        with pytest.raises(RuntimeError):
            routed(pixels[:, :2])
        assert torch.equal(routed(pixels), wanted)
        assert torch.equal(copy.deepcopy(routed)(pixels), wanted)


def test_it_can_be_exported(routed):
    example = normalise(pictures(2, size=(32, 64)))
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(routed, (example,), dynamic_shapes={"images": {0: batch}}).module()
    images = torch.cat([pictures(1, *look, seed=5, size=(32, 64)) for look in DOMAINS.values()])
    with torch.no_grad():
        wanted = routed(normalise(images))
        torch.testing.assert_close(program(normalise(images)), wanted, rtol=1e-5, atol=1e-5)


# -------------------------------------------------- errors


def changed(found, layer, **parts):
    return {**found, layer: BatchNorm(**{**vars(found[layer]), **parts})}


def test_sets_that_do_not_fit_are_refused(tiny, sets):
    pooled, one = pooled_of(sets), sets["dark"]
    layer = "backbone.layer1.0.bn1"
    nan = one[layer].mean.copy()
    nan[3] = np.nan
    for wrong, said in (
        ({key: value for key, value in one.items() if key != layer}, f"fog's statistics have no layer {layer}"),
        ({**one, "other": one[layer]}, "an unknown layer other"),
        (changed(one, layer, mean=np.zeros(7, np.float32)), "of shape \\[7\\], the layer has 32 channels"),
        (changed(one, layer, mean=nan), f"{layer}.running_mean that are NaN"),
        (changed(one, layer, var=-one[layer].var), "negative variance"),
        (changed(one, layer, count=-1), "no count"),
    ):
        with pytest.raises(ModelFileError, match=said):
            RoutedModel.from_sets(tiny, pooled, {"dark": one, "fog": wrong})
    with pytest.raises(ModelFileError, match="the pooled statistics have no layer"):
        RoutedModel.from_sets(tiny, {}, sets)


def test_what_makes_no_sense_is_refused(tiny, sets):
    pooled = pooled_of(sets)
    with pytest.raises(ConfigurationError, match="no sets"):
        RoutedModel.from_sets(tiny, pooled, {})
    with pytest.raises(ConfigurationError, match="can't be the name"):
        RoutedModel.from_sets(tiny, pooled, {"a.b": sets["dark"]})
    for limit in (0, float("nan")):
        with pytest.raises(ConfigurationError, match="limit"):
            RoutedModel.from_sets(tiny, pooled, sets, limit=limit)
    with pytest.raises(ConfigurationError, match="no BatchNorm"):
        RoutedModel.from_sets(torch.nn.Conv2d(3, 5, 1), pooled, sets)
    one = {"1": BatchNorm(np.zeros(4, np.float32), np.ones(4, np.float32), 1)}
    flat = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.BatchNorm1d(4))
    with pytest.raises(ConfigurationError, match="1 is a BatchNorm1d"):
        RoutedModel.from_sets(flat, one, {"dark": one})


def test_a_layer_without_weights_of_its_own():
    network = torch.nn.Sequential(torch.nn.BatchNorm2d(3, affine=False)).eval()
    found = {"0": BatchNorm(np.full(3, 0.5, np.float32), np.full(3, 4.0, np.float32), 1)}
    images = 0.5 + 2 * torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    routed = RoutedModel.from_sets(network, pooled_of({"a": found, "b": found}), {"dark": found})
    norms.load(network, found)
    torch.testing.assert_close(routed(images), network(images))
