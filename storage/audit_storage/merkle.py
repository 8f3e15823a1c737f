"""Merkle trees of RFC 6962 section 2.1 (unchanged in RFC 9162): one root over many leaves.

A leaf is hashed as SHA-256(0x00 || bytes), a node as SHA-256(0x01 || left || right); the left
subtree of n leaves holds the largest power of two below n. The tree of nothing is SHA-256 of
nothing. Archive and verify hash entries' canonical bytes with it; it keeps no state on disk.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256

EMPTY_ROOT = sha256(b"").digest()
"""Root of a tree without leaves."""


LEAF_PREFIX = b"\x00"
"""What stands before a leaf's data when it is hashed."""


def leaf_hash(data: bytes) -> bytes:
    """Return the 32-byte hash of one leaf's data."""
    return sha256(LEAF_PREFIX + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the 32-byte hash of a node over its two children's hashes."""
    return sha256(b"\x01" + left + right).digest()


class MerkleTree:
    """Takes leaves one by one and keeps only the roots of complete subtrees: O(log n) memory."""

    def __init__(self) -> None:
        self.size = 0
        self._peaks: list[bytes] = []

    def add(self, data: bytes) -> None:
        """Append a leaf by its data."""
        self.add_hash(leaf_hash(data))

    def add_hash(self, leaf: bytes) -> None:
        """Append a leaf by its hash."""
        # The binary form of `size` tells which complete subtrees stand: each trailing 1 is a
        # subtree as large as the one just completed, so the two join.
        size = self.size
        while size & 1:
            leaf = node_hash(self._peaks.pop(), leaf)
            size >>= 1
        self._peaks.append(leaf)
        self.size += 1

    def add_hashes(self, leaves: Iterable[bytes]) -> None:
        """Append leaves by their hashes, in order; many at once in half the time."""
        size, pop, push = self.size, self._peaks.pop, self._peaks.append
        for leaf in leaves:
            at = size
            while at & 1:
                leaf = sha256(b"\x01" + pop() + leaf).digest()
                at >>= 1
            push(leaf)
            size += 1
        self.size = size

    def root(self) -> bytes:
        """Return the 32-byte root over the leaves so far."""
        if not self._peaks:
            return EMPTY_ROOT
        root = self._peaks[-1]
        for peak in reversed(self._peaks[:-1]):
            root = node_hash(peak, root)
        return root


def root_of(leaves: Iterable[bytes]) -> bytes:
    """Return the 32-byte root over the leaves' data, in order."""
    tree = MerkleTree()
    for data in leaves:
        tree.add(data)
    return tree.root()


def root_of_hashes(hashes: Iterable[bytes]) -> bytes:
    """Return the 32-byte root over leaf hashes, in order."""
    tree = MerkleTree()
    tree.add_hashes(hashes)
    return tree.root()


def inclusion_proof(index: int, hashes: Sequence[bytes]) -> list[bytes]:
    """Return the audit path of leaf `index` (from 0), lowest first (RFC 6962, 2.1.1).

    Raises `IndexError` when there is no such leaf.
    """
    if not 0 <= index < len(hashes):
        raise IndexError(f"leaf {index} is not in a tree of {len(hashes)}")
    if len(hashes) == 1:
        return []
    split = _split(len(hashes))
    if index < split:
        return [*inclusion_proof(index, hashes[:split]), root_of_hashes(hashes[split:])]
    return [*inclusion_proof(index - split, hashes[split:]), root_of_hashes(hashes[:split])]


def consistency_proof(old_size: int, hashes: Sequence[bytes]) -> list[bytes]:
    """Return the proof that the tree of the first `old_size` leaves grew into this one.

    Empty when the sizes agree or `old_size` is 0 (RFC 6962, 2.1.2). Raises `ValueError` when
    `old_size` is larger than the tree.
    """
    if not 0 <= old_size <= len(hashes):
        raise ValueError(f"a tree of {len(hashes)} leaves has no older form of {old_size}")
    return _subproof(old_size, hashes, whole=True) if old_size else []


def root_from_inclusion(index: int, size: int, leaf: bytes, proof: Sequence[bytes]) -> bytes:
    """Return the root that a leaf and its audit path lead to (RFC 9162, 2.1.3.2).

    The leaf is proved when this equals a trusted root. Raises `ValueError` when the path's
    length cannot belong to the index and the size.
    """
    if not 0 <= index < size:
        raise ValueError(f"leaf {index} is not in a tree of {size}")
    node, last, root = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            raise ValueError("the inclusion proof is longer than the tree is high")
        if node & 1 or node == last:
            root = node_hash(sibling, root)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            root = node_hash(root, sibling)
        node, last = node >> 1, last >> 1
    if last:
        raise ValueError("the inclusion proof is shorter than the tree is high")
    return root


def is_consistent(
    old_size: int, new_size: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]
) -> bool:
    """Say whether the proof shows that the new tree continues the old (RFC 9162, 2.1.4.2)."""
    if not 0 <= old_size <= new_size:
        return False
    if old_size == 0 or old_size == new_size:
        expected = EMPTY_ROOT if old_size == 0 else new_root
        return not proof and old_root == expected
    path = list(proof) if old_size & (old_size - 1) else [old_root, *proof]
    if not path:
        return False
    node, last = old_size - 1, new_size - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    old = new = path[0]
    for sibling in path[1:]:
        if last == 0:
            return False
        if node & 1 or node == last:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            new = node_hash(new, sibling)
        node, last = node >> 1, last >> 1
    return last == 0 and old == old_root and new == new_root


def _subproof(old_size: int, hashes: Sequence[bytes], *, whole: bool) -> list[bytes]:
    if old_size == len(hashes):
        return [] if whole else [root_of_hashes(hashes)]
    split = _split(len(hashes))
    if old_size <= split:
        return [
            *_subproof(old_size, hashes[:split], whole=whole),
            root_of_hashes(hashes[split:]),
        ]
    return [
        *_subproof(old_size - split, hashes[split:], whole=False),
        root_of_hashes(hashes[:split]),
    ]


def _split(size: int) -> int:
    """Return the largest power of two below `size`."""
    return 1 << ((size - 1).bit_length() - 1)
