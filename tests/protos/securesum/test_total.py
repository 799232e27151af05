"""The running sum: each site once, whole, and a sum only when all masks are gone."""

from __future__ import annotations

import numpy as np
import pytest

from protos.errors import SecureSumError
from protos.securesum import total as total_module
from protos.securesum.keystream import Mask
from protos.securesum.total import MaskedTotal

KEY = b"k" * 32


@pytest.fixture
def begun(secure_sum):
    """A sum of three sites, up to the point where the masked values are there: the state, the words by site."""
    found = secure_sum()
    masking, deliveries = found.masking(*found.sharing(found.agreement.sites), found.agreement.sites)
    words = {}
    for site in found.agreement.sites:
        header, words[site] = found.mask(site, deliveries[site])
        masking = masking.take(site, header, found.layout)
    confirming, survivors = masking.close()
    revealing, confirmations = found.revealing(confirming, survivors, found.agreement.sites)
    for site in found.agreement.sites:
        revealing = revealing.take(site, found.reveal(site, confirmations))
    return found, revealing.close(), words


def reader(words):
    return lambda vector, start, stop: words[vector.key][start * vector.width : stop * vector.width]


def summed(found, words, **options) -> MaskedTotal:
    total = MaskedTotal(found.layout, **options)
    for site in found.agreement.sites:
        total.fold(site, reader(words[site]))
    return total


@pytest.mark.parametrize("block", [16, 17, 100, 1 << 18])
def test_blocks_make_no_difference(begun, monkeypatch, block):
    found, masks, words = begun
    whole = summed(found, words)
    whole.unmask(masks, found.agreement.sites)
    monkeypatch.setattr(total_module, "BLOCK", block)
    pieces = summed(found, words)
    pieces.unmask(masks, found.agreement.sites)
    np.testing.assert_array_equal(pieces.parameter("stem.weight"), whole.parameter("stem.weight"))
    np.testing.assert_array_equal(pieces.parameter("stem.weight", 5, 50), whole.parameter("stem.weight")[5:50])
    assert pieces.statistics("norm").square.tolist() == whole.statistics("norm").square.tolist()


def test_it_can_lie_on_the_disk(begun, tmp_path):
    found, masks, words = begun
    count = 0

    def allocate(size):
        nonlocal count
        count += 1
        if not size:
            return np.zeros(0, "<u8")
        return np.memmap(tmp_path / str(count), "<u8", "w+", shape=(size,))

    total = summed(found, words, allocate=allocate)
    total.unmask(masks, found.agreement.sites)
    plain = summed(found, words)
    plain.unmask(masks, found.agreement.sites)
    np.testing.assert_array_equal(total.parameter("head.weight"), plain.parameter("head.weight"))
    assert total.statistics("norm").mean.tolist() == plain.statistics("norm").mean.tolist()


def test_a_site_counts_once(begun):
    found, _, words = begun
    total = summed(found, words)
    with pytest.raises(SecureSumError, match="site-1 is in the sum already"):
        total.fold("site-1", reader(words["site-1"]))
    assert total.sites == set(found.agreement.sites)


def test_values_that_were_added_in_part_spoil_the_sum(begun):
    found, masks, words = begun
    total = MaskedTotal(found.layout)

    def broken(vector, start, stop):
        if vector.key == "sum:scale":
            raise OSError("the disk")
        return reader(words["site-0"])(vector, start, stop)

    with pytest.raises(OSError, match="the disk"):
        total.fold("site-0", broken)
    for again in (
        lambda: total.fold("site-0", reader(words["site-0"])),
        lambda: total.unmask(masks, found.agreement.sites),
    ):
        with pytest.raises(SecureSumError, match="in part only"):
            again()


def test_it_is_read_only_when_it_is_unmasked_and_then_nothing_is_added(begun):
    found, masks, words = begun
    total = summed(found, words)
    for early in (lambda: total.parameter("scale"), lambda: total.statistics("norm")):
        with pytest.raises(SecureSumError, match="masked still"):
            early()
    total.unmask(masks, found.agreement.sites)
    for late in (
        lambda: total.fold("site-9", reader(words["site-0"])),
        lambda: total.unmask(masks, found.agreement.sites),
    ):
        with pytest.raises(SecureSumError, match="unmasked already"):
            late()


def test_it_must_be_the_sum_of_the_survivors(begun):
    found, masks, words = begun
    with pytest.raises(SecureSumError, match="not that of the survivors"):
        summed(found, words).unmask(masks, ["site-0", "site-1"])


@pytest.mark.parametrize("change", ["missing", "more", "turned"])
def test_a_mask_that_stays_is_noticed(begun, change):
    found, masks, words = begun
    wrong = {"missing": masks[1:], "more": (*masks, Mask(KEY, 1)), "turned": (-masks[0], *masks[1:])}[change]
    with pytest.raises(SecureSumError, match="without its masks is no sum of updates"):
        summed(found, words).unmask(wrong, found.agreement.sites)


def test_a_mask_that_stays_on_statistics_alone_is_noticed(begun):
    found, masks, words = begun
    vector = found.layout["mean:norm"]
    words["site-0"]["mean:norm"] = words["site-0"]["mean:norm"].copy()
    words["site-0"]["mean:norm"][5 :: vector.width] ^= np.uint64(1 << 62)
    with pytest.raises(SecureSumError, match="what is left of norm"):
        summed(found, words).unmask(masks, found.agreement.sites)
