"""The sum of masked updates: the same whichever blocks it is read in, and only when all masks are gone."""

from __future__ import annotations

import numpy as np
import pytest

from protos.errors import SecureSumError
from protos.securesum.keystream import Mask
from protos.securesum.total import MaskedSum

KEY = b"k" * 32


@pytest.fixture
def revealed(secure_sum):
    """A sum of three sites, up to the point where the masks are known: the state, and the masks."""
    found = secure_sum()
    masking, deliveries = found.masking(*found.sharing(found.agreement.sites), found.agreement.sites)
    confirming, survivors = found.confirming(masking, deliveries, found.agreement.sites)
    revealing, confirmations = found.revealing(confirming, survivors, found.agreement.sites)
    for site in found.agreement.sites:
        revealing = revealing.take(site, found.reveal(site, confirmations))
    return found, revealing.close()


def summed(found, masks, sites=("site-0", "site-1", "site-2")) -> MaskedSum:
    return MaskedSum(found.layout, found.reads(sites), masks)


def read(total: MaskedSum, found) -> None:
    """Read all of it."""
    for vector in found.layout.values():
        (total.parameter if vector.part == "sum" else total.statistics)(vector.name)


@pytest.mark.parametrize("block", [1, 7, 16, 100, 1 << 18])
def test_blocks_make_no_difference(revealed, block):
    total = summed(*revealed)
    whole = total.parameter("stem.weight")
    pieces = [total.parameter("stem.weight", i, min(i + block, whole.size)) for i in range(0, whole.size, block)]
    np.testing.assert_array_equal(np.concatenate(pieces), whole)
    assert total.parameter("stem.weight", 5, 5).size == 0


def test_it_knows_of_how_many_updates_it_is_the_sum(revealed):
    assert summed(*revealed).models == 3


def test_what_was_masked_stays_as_it_is(revealed):
    found, masks = revealed
    before = {site: {key: words.tobytes() for key, words in found.words[site].items()} for site in found.words}
    read(summed(found, masks), found)
    assert before == {site: {key: w.tobytes() for key, w in found.words[site].items()} for site in found.words}


@pytest.mark.parametrize("change", ["missing", "more", "turned"])
def test_a_mask_that_stays_is_noticed(revealed, change):
    found, masks = revealed
    wrong = {"missing": masks[1:], "more": (*masks, Mask(KEY, 1)), "turned": (-masks[0], *masks[1:])}[change]
    with pytest.raises(SecureSumError, match="without its masks is no sum of updates"):
        read(summed(found, wrong), found)


@pytest.mark.parametrize("sites", [("site-0", "site-1"), ("site-0", "site-1", "site-2", "site-2")])
def test_an_update_too_few_or_too_many_is_noticed(revealed, sites):
    found, masks = revealed
    with pytest.raises(SecureSumError, match="without its masks is no sum of updates"):
        read(summed(found, masks, sites), found)


def test_a_mask_that_stays_on_statistics_alone_is_noticed(revealed):
    found, masks = revealed
    vector = found.layout["mean:norm"]
    found.words["site-0"]["mean:norm"] = found.words["site-0"]["mean:norm"].copy()
    found.words["site-0"]["mean:norm"][5 :: vector.width] ^= np.uint64(1 << 62)
    with pytest.raises(SecureSumError, match="what is left of norm"):
        summed(found, masks).statistics("norm")
