"""Define an occurrence of a block, and choose the names of the block's class, of its instances and of their parts."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from keras3conv.builder.passes.segments import Segment, prefix_of
from keras3conv.builder.program.names import class_identifier, identifier, unique
from keras3conv.builder.program.program import Program, Step

_SHORT = {
    "Conv": "conv", "Linear": "linear", "BatchNorm": "norm", "LayerNorm": "norm", "ZeroPad": "pad", "MaxPool": "pool",
    "AvgPool": "pool", "AveragePool": "pool", "GlobalAverage": "pool", "GlobalMax": "pool", "Dropout": "dropout",
}  # fmt: skip


@dataclass(frozen=True)
class Occurrence:
    """A segment, a sequence of adjacent statements, that one call of a block replaces."""

    program: Program
    segment: Segment

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """The statements of the segment, which the call of the block replaces."""
        return self.program.steps[self.segment.start : self.segment.stop]

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """The names of the modules and weights in the segment, in the order of their first use.

        In all segments of a block, the names at one index stand for the same module or weight of the block.
        """
        names: dict[str, None] = {}
        for step in self.steps:
            if step.module:
                names.setdefault(step.module)
            for name in step.inputs:
                if name in self.program.weights:
                    names.setdefault(name)
        return tuple(names)

    @cached_property
    def prefix(self) -> str:
        """The common prefix of the segment's names; for one call of a source layer, the layer's path: "encoder_0."."""
        return (
            f"{self.segment.path}." if self.segment.path else prefix_of([step.path for step in self.steps if step.path])
        )

    def flat_name(self, key: str) -> str:
        """Return the name that a module or weight of the segment had in the program before any block was made.

        Args:
            key: The module or weight, one of those in `keys`.
        """
        return self.program.weights[key].name if key in self.program.weights else key

    def short_name(self, key: str) -> str:
        """Return the name of a module or weight without the prefix of this segment: "conv" for "layer1_conv".

        Args:
            key: The module or weight, one of those in `keys`.
        """
        name, prefix = self.flat_name(key), identifier(self.prefix) if self.prefix else ""
        rest = name.removeprefix(prefix).strip("_") if prefix else name
        return identifier(rest) if rest else name


def inner_names(occurrences: Sequence[Occurrence]) -> list[str]:
    """Return the names that the modules and weights get inside a block's class, in the order of `Occurrence.keys`.

    A name is that of the source layer without a prefix, "conv" for "layer1_conv", if all segments have this name; else
    it is made from the class of the module.

    Args:
        occurrences: The segments (sequences of statements) that the block replaces.
    """
    first = occurrences[0]
    short = [[occurrence.short_name(key) for key in occurrence.keys] for occurrence in occurrences]
    wanted = [
        short[0][place] if len({names[place] for names in short}) == 1 else _name_by_kind(first, key)
        for place, key in enumerate(first.keys)
    ]
    names: list[str] = []
    for place, name in enumerate(wanted):
        is_numbered = wanted.count(name) > 1
        names.append(unique(f"{name}_{wanted[: place + 1].count(name)}" if is_numbered else name, names))
    return names


def _name_by_kind(occurrence: Occurrence, key: str) -> str:
    if key in occurrence.program.weights:
        return "weight"
    kind = occurrence.program.modules[key].spec.kind.rpartition(".")[2]
    return next((short for start, short in _SHORT.items() if kind.startswith(start)), identifier(kind))


def outer_names(occurrences: Sequence[Occurrence], taken: Iterable[str], block: str) -> list[str]:
    """Return the attribute names of the instances of a block, one for each segment that the block replaces.

    Args:
        occurrences: The sequences of statements that the block replaces.
        taken: Names that must not be used.
        block: The name for an instance, with a number added, if the layers of its segment have no common prefix.
    """
    names: list[str] = []
    for number, occurrence in enumerate(occurrences, 1):
        numbered = f"{block}_{number}" if len(occurrences) > 1 else block
        wanted = identifier(occurrence.prefix) if occurrence.prefix.strip("_/.") else numbered
        names.append(unique(wanted, {*taken, *names}))
    return names


def class_name_of(
    occurrences: Sequence[Occurrence], taken: Iterable[str], kind: str, classes: Mapping[str, str]
) -> str:
    """Return the class name of a block: "EncoderLayer" for the segments "encoder_layer_0" and "encoder_layer_1".

    If every segment is the call of a source layer, and these layers have one class, the block gets the name of this
    class.

    Args:
        occurrences: The segments (sequences of statements) that the block replaces.
        taken: Class names that must not be used.
        kind: The name to use if the prefixes of the segments differ in more than numbers.
        classes: The class of each source layer, by its path.
    """
    sources = {classes.get(occurrence.prefix.strip("._/"), "") for occurrence in occurrences}
    if len(sources) == 1 and (source := sources.pop()):
        return unique(class_identifier(source), taken, "")
    words = [_words(occurrence.prefix) for occurrence in occurrences]
    common = words[0] if all(one == words[0] for one in words) else []
    name = class_identifier("_".join(word for word in common if len(word) > 1) or kind)
    return unique(name, taken, "")


def _words(prefix: str) -> list[str]:
    """Return the words in the prefix of layer names, without numbers: ["encoder", "layer"] for "encoder_layer_0"."""
    parts = (part.strip("0123456789") for part in prefix.replace("/", "_").split("_"))
    return [part for part in parts if part.isalpha()]
