"""Read the names and addresses of the members of many HDF5 groups at once, from their symbol tables.

A group has a local heap with the names, and a B-tree whose leaves list the members in the order of their names. HDF5
finds a member by the keys of the B-tree. They are not used here, but they are checked, as is the order.
"""

from dataclasses import dataclass
from operator import lt

import numpy as np

from keras3conv.formats.safe.hdf5_image import Image, require, spread
from keras3conv.formats.safe.source import MAX_TENSORS
from keras3conv.transforms import Array

_TREE, _HEAP, _LEAF = (int.from_bytes(mark, "little") for mark in (b"TREE\0", b"HEAP\0\0\0\0", b"SNOD\x01\0"))
"""The first bytes of a node of a tree of groups, of a heap, and of a leaf, with version and reserved bytes."""

CHILDREN, ENTRIES = 32, 8
"""The largest number of children of a node of a tree, and of members in a leaf, with the default settings of HDF5."""

_NODE, _ENTRY = 24 + 8 + 16 * CHILDREN, 40
_DEEPEST = 6
_MOST_FREE = 64
_MOST_NAMES = 32 << 20
_UNDEFINED = -1


@dataclass(frozen=True)
class Members:
    """The members of several groups, in arrays with one element for each member.

    Attributes:
        owner: The index of the group that contains the member; ascending.
        names: The name of the member.
        address: The address of the member's object header.
        table: For a member that is a group: the addresses of its B-tree and heap, as the symbol table entry caches
            them, in two columns; -1 if the entry caches none.
    """

    owner: Array
    names: list[bytes]
    address: Array
    table: Array


class Seen:
    """Collects the addresses that were read (headers, B-trees, leaves, heaps), to refuse groups that share one."""

    def __init__(self) -> None:
        self._addresses: list[Array] = []

    def add(self, addresses: Array) -> None:
        """Add the addresses of headers, B-trees, leaves or heaps that are read."""
        self._addresses.append(addresses)

    def check(self) -> None:
        """Raise `UnusualError` if an address was added twice."""
        require(np.diff(np.sort(np.concatenate(self._addresses))) > 0)


def read(image: Image, trees: Array, heaps: Array, seen: Seen) -> Members:
    """Return the members of several groups.

    Args:
        image: The file.
        trees: The address of the B-tree of each group.
        heaps: The address of the local heap of each group.
        seen: The addresses that were read before; those that are read here are added.

    Raises:
        UnusualError: A B-tree or a heap is damaged, or a member is a link.
    """
    texts, lengths = _heaps(image, heaps, seen)
    owner, leaves, keys = _leaves(image, trees, seen)
    image.need(leaves, 8 + ENTRIES * _ENTRY)
    seen.add(leaves)
    head = image.numbers(leaves)
    require(head & 0xFFFF_FFFF_FFFF == _LEAF)
    used = head >> 48
    require((used >= 1) & (used <= ENTRIES))
    entries = leaves.repeat(used) + 8 + _ENTRY * spread(np.zeros(len(leaves), np.int64), used)
    owner = owner.repeat(used)
    rows = image.words(entries, 5)
    name, has_table = rows[:, 0], rows[:, 2]  # the kind of the entry, and four reserved bytes; 2 is a link
    require(name[np.cumsum(used) - 1] == keys)
    require((has_table == 0) | (has_table == 1))
    require((name > 0) & (name < lengths[owner]))
    names = image.names(texts[owner] + name, (texts + lengths)[owner])
    _check_order(owner, names)
    return Members(owner, names, rows[:, 1], np.where(has_table[:, None] == 1, rows[:, 3:], _UNDEFINED))


def _heaps(image: Image, heaps: Array, seen: Seen) -> tuple[Array, Array]:
    """Return the address and the length of the names that each local heap stores, one after the other."""
    image.need(heaps, 32)
    seen.add(heaps)
    mark, lengths, free, texts = image.words(heaps, 4).T
    require(mark == _HEAP)
    require((lengths >= 16) & (lengths <= _MOST_NAMES))
    require(int(lengths.sum()) <= 4 * _MOST_NAMES)
    image.need(texts, lengths)
    require(image.numbers(texts, "<u1") == 0)  # the first text is empty: the key before all names
    _check_free(image, texts, lengths, free)
    return texts, lengths


def _check_free(image: Image, texts: Array, lengths: Array, free: Array) -> None:
    """Raise `UnusualError` unless the free blocks of each local heap lie inside the heap.

    Args:
        image: The file.
        texts: The address of the names in each heap.
        lengths: The number of bytes from there to the end of the heap.
        free: The offset of the heap's first free block from that address; 1 if the heap has none.
    """
    for _ in range(_MOST_FREE):
        some = free != 1
        texts, lengths, free = texts[some], lengths[some], free[some]
        if not free.size:
            return
        require((free > 0) & (free % 8 == 0) & (free <= lengths - 16))
        size = image.numbers(texts + free + 8)
        require((size >= 16) & (size <= lengths - free))
        free = image.numbers(texts + free)
    require(condition=False)


def _leaves(image: Image, trees: Array, seen: Seen) -> tuple[Array, Array, Array]:
    """Return, for each symbol table node below the B-trees, the index of its group, its address, and its right key.

    The right key of a child in a B-tree is the offset, in the heap, of a name that no name in the child exceeds.

    Args:
        image: The file.
        trees: The address of the B-tree of each group.
        seen: The addresses that were read before; those that are read here are added.
    """
    owner, nodes, level = np.arange(len(trees)), trees, np.full(len(trees), _UNDEFINED)
    before, after = np.zeros(len(trees), np.int64), np.full(len(trees), _UNDEFINED)
    found: list[tuple[Array, Array, Array]] = []
    for _ in range(_DEEPEST):
        image.need(nodes, _NODE)
        seen.add(nodes)
        used, below = _check_nodes(image, owner, nodes, level, before, after)
        places = nodes.repeat(used) + 24 + 16 * spread(np.zeros(len(nodes), np.int64), used)
        require(len(places) <= 2 * MAX_TENSORS)
        owner, level = owner.repeat(used), below.repeat(used)
        before, nodes, after = image.words(places, 3).T
        is_leaf = level < 0
        found.append((owner[is_leaf], nodes[is_leaf], after[is_leaf]))
        owner, nodes, level, before, after = (part[~is_leaf] for part in (owner, nodes, level, before, after))
        if not nodes.size:
            break
    require(nodes.size == 0)
    owner, nodes, after = (np.concatenate(part) for part in zip(*found, strict=True))
    order = np.argsort(owner, kind="stable")  # the leaves of one tree are all at one depth
    return owner[order], nodes[order], after[order]


def _check_nodes(
    image: Image, owner: Array, nodes: Array, level: Array, before: Array, after: Array
) -> tuple[Array, Array]:
    """Check B-tree nodes of one depth; return the number of children of each node, and the level of its children.

    Args:
        image: The file.
        owner: The index of the group of each node; ascending. The nodes of a group are in their order.
        nodes: The address of each node.
        level: The level that each node must have; -1 for a root, which may have any level.
        before: The key of the B-tree (offset of a name in the heap) before each node; 0 for a root.
        after: The key after each node; -1 for a root.
    """
    head, left, right, key = image.words(nodes, 4).T
    own, used = head >> 40 & 0xFF, head >> 48
    require(head & 0xFF_FFFF_FFFF == _TREE)
    is_root = level < 0
    require(is_root | (own == level))
    is_empty = is_root & (own == 0) & (used == 0)
    require((used <= CHILDREN) & (is_empty | (used >= 1)))
    is_first, is_last = np.ones(len(nodes), np.bool_), np.ones(len(nodes), np.bool_)
    is_first[1:] = is_last[:-1] = owner[1:] != owner[:-1]
    require(left == np.where(is_first, _UNDEFINED, np.roll(nodes, 1)))
    require(right == np.where(is_last, _UNDEFINED, np.roll(nodes, -1)))
    require(is_empty | (key == before))
    require(is_root | (image.numbers(nodes + 24 + 16 * used) == after))
    return used, own - 1


def _check_order(owner: Array, names: list[bytes]) -> None:
    """Raise `UnusualError` unless the names of each group are distinct and in order."""
    inner = np.flatnonzero(owner[1:] == owner[:-1])
    before, after = ([names[place] for place in places.tolist()] for places in (inner, inner + 1))
    require(all(map(lt, before, after)) and all(names))
