"""Read names as evidence: split paths into words, and normalise synonyms such as q_proj and query.

Numbers in names are evidence of order, not of identity: one side may count its blocks from 0, the other from 1. The
comparison uses the rank of the number among the paths that differ only in this number.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from keras3conv.formats.keras.names import class_of, snake_case
from keras3conv.model.views import LayerView

_PREFIXES = ("module", "model", "_orig_mod", "backbone", "base_model")

_MEANINGS = {
    "query": ("q", "query", "q_proj", "wq", "to_q", "query_proj", "query_dense", "q_lin"),
    "key": ("k", "key", "k_proj", "wk", "to_k", "key_proj", "key_dense", "k_lin"),
    "value": ("v", "value", "v_proj", "wv", "to_v", "value_proj", "value_dense", "v_lin"),
    "attention output": ("o_proj", "out_proj", "wo", "to_out", "attention_output", "output_dense", "out_lin", "out"),
    "gate": ("gate", "gate_proj", "w1"),
    "up": ("up", "up_proj", "w3", "fc1", "intermediate", "lin1", "ffn_1", "mlp_dense_1"),
    "down": ("down", "down_proj", "w2", "fc2", "lin2", "ffn_2", "mlp_dense_2"),
    "shortcut": ("downsample", "shortcut", "skip", "proj_shortcut", "residual"),
}
"""For each function of a layer in its block, such as "query", the names that models use for it ("q", "q_proj").

They distinguish layers of a block with equal shapes.
"""

_MEANING_OF = {word: meaning for meaning, words in _MEANINGS.items() for word in words}


_FUSED = frozenset({"query", "key", "value", "gate", "up"})


def name_of(layer: LayerView) -> str:
    """Return the path of a layer for comparisons of names; the last name is the one that its author chose.

    Keras numbers the layers that have no name argument: "block_1/dense_7". A layer of the user's own holds them in
    attributes, and the attribute is the chosen name, such as "block_1/query".
    """
    outer, slash, last = layer.path.rpartition("/")
    attribute = layer.attribute.rpartition("/")[2]  # the whole one may begin with those of the layers in between
    return f"{outer}{slash}{attribute}" if attribute and _is_automatic(last, layer.kind) else layer.path


@lru_cache(maxsize=1 << 18)
def _is_automatic(name: str, kind: str) -> bool:
    """Return whether Keras has made the name of a layer from its class, such as "dense_7"."""
    return bool(class_of(name)) or re.sub(r"_\d+$", "", name) == snake_case(kind.rpartition(".")[2])


@lru_cache(maxsize=1 << 18)
def words(path: str) -> tuple[str, ...]:
    """Return the lower-case words and numbers of a path, without a wrapper's prefix such as "module".

    "module.layer1.0.convA" gives ("layer", "1", "0", "conv", "a").
    """
    parts = re.split(r"[./]", path)
    while len(parts) > 1 and parts[0].lower() in _PREFIXES:
        parts = parts[1:]
    path = ".".join(parts)
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Za-z])(?=\d)|(?<=\d)(?=[A-Za-z])", " ", path)
    return tuple(word.lower() for word in re.split(r"[\s./_#-]+", spaced) if word)


@lru_cache(maxsize=1 << 18)
def meaning(path: str) -> str:
    """Return the function of a layer, as the end of its path shows: "query" for "attn.q_proj"; empty if unknown."""
    parts = [part.lower() for part in re.split(r"[./#]", path) if part and not part.isdigit()]
    for part in reversed(parts[-2:]):
        if part in _MEANING_OF:
            return _MEANING_OF[part]
        if _is_fused(part):
            return ""
        for length in (2, 1):
            tail = "_".join([word for word in part.split("_") if word][-length:])
            if tail in _MEANING_OF and tail != part:
                return _MEANING_OF[tail]
    return ""


def _is_fused(part: str) -> bool:
    """Return whether a word of a path names a fused layer, several layers in one: "query_key_value", "gate_up_proj"."""
    return len({_MEANING_OF[word] for word in part.split("_") if word in _MEANING_OF} & _FUSED) > 1


_PACKED = re.compile(r"(^|_)(w?qkv|kvq|vkq|kv|qk|c_attn|in_proj(ection)?|gate_up|w_?pack|to_?qkv|to_?kv)(_|$|\d)")
"""The names of layers that are several layers in one."""


@lru_cache(maxsize=1 << 18)
def is_packed(path: str) -> bool:
    """Return whether the last name of a path is that of several layers in one: "qkv", "c_attn", "query_key_value"."""
    last = re.split(r"[./#]", path)[-1].lower()
    return _PACKED.search(last) is not None or _is_fused(last)


_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True)
class Ranks:
    """The rank of each number in a path among paths that differ only in numbers.

    "heads.0", "heads.1" and "heads.3" have the ranks 0, 1 and 2.

    Attributes:
        ranks: For each path, the rank of each of its numbers: {"heads.3": (2,)}.
        sizes: For each path, how many different numbers there are in place of each of its numbers: {"heads.3": (3,)}.
    """

    ranks: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    sizes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, paths: Iterable[str]) -> "Ranks":
        """Return the ranks of the numbers in paths: "heads.0", "heads.1" and "heads.3" have the ranks 0, 1 and 2."""
        families: dict[str, dict[str, tuple[int, ...]]] = {}
        for path in paths:
            family = families.setdefault(_NUMBER.sub("#", path), {})
            family[path] = tuple(map(int, _NUMBER.findall(path)))
        ranks, sizes = {}, {}
        for family in families.values():
            columns = [sorted(set(column)) for column in zip(*family.values(), strict=True)]
            for path, numbers in family.items():
                ranks[path] = tuple(map(list.index, columns, numbers))
                sizes[path] = tuple(map(len, columns))
        return cls(ranks, sizes)

    def differ(self, torch_path: str, keras_ranks: "Ranks", keras_path: str) -> bool:
        """Return whether a torch path and a Keras path have numbers of different rank, such as "heads.0" and "heads_1".

        Return False if the ranks cannot be compared, for example because one model has more heads than the other.

        Args:
            torch_path: A path in the torch model, whose ranks these are.
            keras_ranks: The ranks in the Keras model.
            keras_path: A path in the Keras model.
        """
        sizes = self.sizes.get(torch_path)
        return (
            bool(sizes)
            and sizes == keras_ranks.sizes.get(keras_path)
            and self.ranks[torch_path] != keras_ranks.ranks[keras_path]
        )
