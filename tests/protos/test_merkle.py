"""The Merkle tree: RFC 6962's own examples, and proofs that prove what they should and nothing else."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos import merkle

# The leaves and roots that Certificate Transparency's reference implementation is tested with.
LEAVES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]

leaves = st.lists(st.binary(max_size=40), min_size=1, max_size=70)


@pytest.mark.parametrize("size", range(1, 9))
def test_roots_are_those_of_the_reference_implementation(size):
    assert merkle.root(LEAVES[:size]).hex() == ROOTS[size - 1]


def test_the_root_of_nothing_is_the_digest_of_nothing():
    assert merkle.root([]) == hashlib.sha256(b"").digest()


@given(leaves)
def test_every_leaf_is_proved_and_its_proof_is_short(found):
    root = merkle.root(found)
    for index, leaf in enumerate(found):
        path = merkle.proof(found, index)
        assert len(path) <= (len(found) - 1).bit_length()
        assert merkle.proves(leaf, index, len(found), path, root)


@given(leaves, st.data())
def test_a_proof_proves_no_other_leaf_place_size_path_or_root(found, data):
    root, index = merkle.root(found), data.draw(st.integers(0, len(found) - 1))
    leaf, path, size = found[index], merkle.proof(found, index), len(found)
    assert not merkle.proves(leaf + b"x", index, size, path, root)
    assert not merkle.proves(leaf, index, size, (*path, root), root)
    assert not merkle.proves(leaf, index, size, path, hashlib.sha256(root).digest())
    for other in range(-1, size + 1):
        if other != index and not (0 <= other < size and found[other] == leaf):
            assert not merkle.proves(leaf, other, size, path, root)
    if path:
        assert not merkle.proves(leaf, index, size, path[:-1], root)
        changed = data.draw(st.integers(0, len(path) - 1))
        forged = [bytes(32) if i == changed else step for i, step in enumerate(path)]
        assert not merkle.proves(leaf, index, size, forged, root)


@given(st.lists(st.binary(min_size=1, max_size=8), min_size=2, max_size=40, unique=True), st.data())
def test_any_change_of_the_leaves_changes_the_root(found, data):
    index = data.draw(st.integers(0, len(found) - 2))
    swapped = [*found[:index], found[index + 1], found[index], *found[index + 2 :]]
    roots = {merkle.root(found), merkle.root(swapped), merkle.root(found[:-1]), merkle.root([*found, found[-1]])}
    assert len(roots) == 4


def test_a_node_does_not_pass_for_a_leaf():
    a, b = (hashlib.sha256(b"\0" + leaf).digest() for leaf in (b"a", b"b"))
    assert merkle.root([a + b]) != merkle.root([b"a", b"b"])
    assert not merkle.proves(a + b, 0, 1, (), merkle.root([b"a", b"b"]))


@pytest.mark.parametrize("index", [-1, 3])
def test_a_leaf_that_is_not_there_has_no_proof(index):
    with pytest.raises(IndexError):
        merkle.proof([b"a", b"b", b"c"], index)
