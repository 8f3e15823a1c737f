"""The trees against the vectors that Certificate Transparency's implementations publish."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit_storage.merkle import (
    EMPTY_ROOT,
    MerkleTree,
    consistency_proof,
    inclusion_proof,
    is_consistent,
    leaf_hash,
    root_from_inclusion,
    root_of,
)

# transparency-dev/merkle, testonly/constants.go: eight leaves, and the root of the first n.
LEAVES = [
    bytes.fromhex(text)
    for text in (
        "", "00", "10", "2021", "3031", "40414243", "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]  # fmt: skip
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
INCLUSION_OF_0_IN_8 = [
    "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
    "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
    "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
]
INCLUSION_OF_5_IN_8 = [
    "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
]
CONSISTENCY_OF_6_AND_8 = [
    "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
    "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
]
HASHES = [leaf_hash(data) for data in LEAVES]


@pytest.mark.parametrize("size", range(9))
def test_roots_are_the_published_ones(size: int) -> None:
    assert root_of(LEAVES[:size]).hex() == ROOTS[size]


def test_the_tree_tells_its_root_after_each_leaf() -> None:
    tree = MerkleTree()
    roots = [tree.root().hex()]
    for data in LEAVES:
        tree.add(data)
        roots.append(tree.root().hex())
    assert roots == ROOTS
    assert tree.size == 8


@pytest.mark.parametrize(
    ("index", "published"), [(0, INCLUSION_OF_0_IN_8), (5, INCLUSION_OF_5_IN_8)]
)
def test_inclusion_proofs_are_the_published_ones(index: int, published: list[str]) -> None:
    assert [node.hex() for node in inclusion_proof(index, HASHES)] == published


def test_consistency_proofs_are_the_published_ones() -> None:
    assert [node.hex() for node in consistency_proof(6, HASHES)] == CONSISTENCY_OF_6_AND_8
    assert [node.hex() for node in consistency_proof(2, HASHES)] == INCLUSION_OF_0_IN_8[1:]


@given(st.integers(1, 70), st.data())
def test_every_leaf_is_proved_by_its_path_and_by_no_other(size: int, data: st.DataObject) -> None:
    hashes = [leaf_hash(bytes([n])) for n in range(size)]
    index = data.draw(st.integers(0, size - 1))
    proof = inclusion_proof(index, hashes)
    root = root_of(bytes([n]) for n in range(size))
    assert root_from_inclusion(index, size, hashes[index], proof) == root
    other = sha256(b"another leaf").digest()
    assert root_from_inclusion(index, size, other, proof) != root
    for wrong in ([*proof, other], proof[:-1]):
        if wrong != proof:
            with pytest.raises(ValueError, match="tree is high"):
                root_from_inclusion(index, size, hashes[index], wrong)


@given(st.integers(1, 70), st.data())
def test_growth_is_proved_and_a_changed_past_is_not(size: int, data: st.DataObject) -> None:
    texts = [bytes([n]) for n in range(size)]
    old = data.draw(st.integers(0, size))
    proof = consistency_proof(old, [leaf_hash(text) for text in texts])
    new_root, old_root = root_of(texts), root_of(texts[:old])
    assert is_consistent(old, size, old_root, new_root, proof)
    assert not is_consistent(old, size, sha256(b"other").digest(), new_root, proof)
    assert not is_consistent(old, size, old_root, new_root, [*proof, EMPTY_ROOT])
    if proof:
        assert not is_consistent(old, size, old_root, sha256(b"other").digest(), proof)
        assert not is_consistent(old, size, old_root, new_root, proof[:-1])


def test_a_leaf_that_is_not_there_has_no_proof() -> None:
    with pytest.raises(IndexError, match="leaf 8 is not in a tree of 8"):
        inclusion_proof(8, HASHES)
    with pytest.raises(ValueError, match="has no older form of 9"):
        consistency_proof(9, HASHES)
    with pytest.raises(ValueError, match="leaf 3 is not in a tree of 3"):
        root_from_inclusion(3, 3, HASHES[0], [])
