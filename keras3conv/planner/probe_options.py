"""What a Keras layer may be filled with: a torch layer, a part of one, several joined, or tensors without a rule."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations, islice, permutations, product
from typing import Literal

import numpy as np

from keras3conv.model import LayerView, TensorRef
from keras3conv.planner.bare import RULE
from keras3conv.planner.probe_layouts import arrays_like, same_sizes, transforms_between
from keras3conv.planner.probe_record import Print, TorchCall, TorchRun, size_of
from keras3conv.planner.probe_weights import moves
from keras3conv.planner.structure import Key, Keys, keras_keys, make_pair, torch_keys
from keras3conv.rule import Rule, WeightMapping, find
from keras3conv.transforms import Array, Shape, Skip

Kind = Literal["layer", "part", "joined", "tensors", "parameter"]

_MOST_WAYS = 24
"""Of one torch layer without a rule, or of several joined, this many ways are tried."""

_MOST_JOINED = 4
_MOST_PARTS = 8
_MOST_TENSORS = 4


@dataclass(frozen=True, kw_only=True)
class Part:
    """A torch tensor, or `start:stop` along one of its axes."""

    path: str
    axis: int = 0
    start: int = 0
    stop: int

    def of(self, array: Array) -> Array:
        """This part of the tensor's values."""
        if array.ndim == 0:
            return array
        return array[(slice(None),) * self.axis + (slice(self.start, self.stop),)]

    def overlaps(self, other: "Part") -> bool:
        """Whether the two have values in common."""
        return self.path == other.path and (
            self.axis != other.axis or (self.start < other.stop and other.start < self.stop)
        )


@dataclass(frozen=True, kw_only=True)
class Option:
    """One way to fill a Keras layer.

    Attributes:
        kind: What of torch it takes: a whole layer, a part of one, several joined, tensors that no rule knows, or
            parameters that belong to no layer.
        layers: The torch layers.
        keras: The Keras layer.
        rule: The rule; None where the values alone say how the tensors correspond.
        mappings: Which tensor becomes which. The torch names are those of `sources`.
        sources: What stands for each torch name: the parts that are joined along their axis.
    """

    kind: Kind
    layers: tuple[LayerView, ...]
    keras: LayerView
    rule: Rule | None
    mappings: tuple[WeightMapping, ...]
    sources: Mapping[str, tuple[Part, ...]]

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """Everything of torch that it takes."""
        return tuple(part for name in dict.fromkeys(self._names()) for part in self.sources[name])

    def _names(self) -> Iterator[str]:
        for mapping in self.mappings:
            yield from mapping.torch

    @cached_property
    def name(self) -> tuple[object, ...]:
        """What tells it from the other options of its layer."""
        return (self.kind, self.parts, tuple(repr(mapping.transform) for mapping in self.mappings))

    @property
    def torch(self) -> str:
        """The paths of the torch layers."""
        return " + ".join(layer.path for layer in self.layers)

    def values(self, weights: Mapping[str, Array]) -> dict[str, Array]:
        """The values of the Keras layer's tensors, by their paths."""
        made: dict[str, Array] = {}
        for mapping in self.mappings:
            given = tuple(_joined(self.sources[name], weights) for name in mapping.torch)
            made |= dict(zip(mapping.keras, mapping.transform(given), strict=True))
        return made

    def expected(self, run: TorchRun, shape: Shape, place: int) -> Iterator[Array]:
        """What torch returned in a call of these layers, in every layout that has the shape Keras returns."""
        calls = [run.of(layer.path) for layer in self.layers]
        if self.kind == "parameter" or any(place >= len(entries) for entries in calls):
            return
        outputs = tuple(entries[place].outputs for entries in calls)
        if not all(outputs):
            return
        given = outputs[0] if self.kind in ("layer", "tensors") else (self._cut(outputs),)
        if self.rule is not None:
            yield from _by_rule(self.rule, given, self.layers[0], self.keras, shape)
        yield from arrays_like(given[0], shape)

    def _cut(self, outputs: Sequence[tuple[Array, ...]]) -> Array:
        """The outputs joined, or the part of the one that the weights are a part of."""
        channels = self.rule is not None and self.rule.layout_for(self.layers[0].config or {}) == "channels"
        axis = 1 if channels and outputs[0][0].ndim > 2 else -1
        if self.kind == "joined":
            return np.concatenate([arrays[0] for arrays in outputs], axis)
        part = self.parts[0]
        return np.take(outputs[0][0], range(part.start, part.stop), axis)


def _joined(parts: Sequence[Part], weights: Mapping[str, Array]) -> Array:
    arrays = [part.of(weights[part.path]) for part in parts]
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays, parts[0].axis)


def _by_rule(
    rule: Rule, outputs: tuple[Array, ...], torch: LayerView, keras: LayerView, shape: Shape
) -> Iterator[Array]:
    from keras3conv.frameworks.layout import output_of  # numpy only, but it stands with the frameworks

    try:
        array = output_of(outputs, rule, torch.config, keras.config, shape)
    except (ValueError, IndexError):  # an output of another size than this Keras layer's
        return
    if array.shape == shape:
        yield array


def whole(tensor: TensorRef) -> tuple[Part, ...]:
    """All of a tensor."""
    return (Part(path=tensor.path, stop=tensor.shape[0] if tensor.shape else 1),)


@dataclass
class Options:
    """Finds the options of Keras layers, from what the two models are made of and from what the torch run told.

    Attributes:
        torch: The torch layers that can be paired.
        run: The run of the torch module.
    """

    torch: tuple[LayerView, ...]
    run: TorchRun
    _found: dict[str, tuple[Option, ...]] = field(default_factory=dict)

    @cached_property
    def _keys(self) -> dict[str, Keys]:
        return torch_keys(self.torch)

    @cached_property
    def _keys_in_keras(self) -> dict[str, Keys]:
        return torch_keys(self.torch, in_keras=True)

    @cached_property
    def _by_key(self) -> dict[Key, list[LayerView]]:
        return _by_key(self.torch, self._keys)

    @cached_property
    def _by_key_in_keras(self) -> dict[Key, list[LayerView]]:
        return _by_key(self.torch, self._keys_in_keras)

    @cached_property
    def _by_class(self) -> dict[tuple[str, frozenset[str]], list[tuple[Key, LayerView]]]:
        """The layers by their rule's class and the roles of their tensors, whatever their sizes are."""
        found: dict[tuple[str, frozenset[str]], list[tuple[Key, LayerView]]] = {}
        for key, layers in self._by_key.items():
            roles = frozenset(role for role, _ in key[1])
            found.setdefault((key[0], roles), []).extend((key, layer) for layer in layers)
        return found

    @cached_property
    def loose(self) -> tuple[TensorRef, ...]:
        """Parameters of layers that are no leaf of a known class: class tokens, position tables, layer scales."""
        return tuple(
            tensor
            for layer in self.torch
            if not (self._keys[layer.path] or self._keys_in_keras[layer.path])
            for tensor in layer.tensors
            if moves(tensor)
        )

    def layers(self, keras: LayerView) -> tuple[Option, ...]:
        """The torch layers that a rule pairs with a Keras layer."""
        if keras.path not in self._found:
            self._found[keras.path] = tuple(self._layers(keras))
        return self._found[keras.path]

    def _layers(self, keras: LayerView) -> Iterator[Option]:
        seen: set[str] = set()
        ways = ((self._keys, self._by_key, False), (self._keys_in_keras, self._by_key_in_keras, True))
        for known, by_key, in_keras in ways:
            for key, names in keras_keys((keras,), in_keras=in_keras)[keras.path].items():
                for layer in by_key.get(key, ()):
                    rule = _first_common(names, known[layer.path][key])
                    if rule is not None and layer.path in self.run.calls and layer.path not in seen:
                        seen.add(layer.path)
                        yield from _whole_options(rule, layer, keras)

    def parts(self, keras: LayerView, given: Print | None) -> Iterator[Option]:
        """Parts of larger torch layers that were given the same: one of a packed query, key and value."""
        for key, names in keras_keys((keras,))[keras.path].items():
            roles = frozenset(role for role, _ in key[1])
            for other, layer in self._by_class.get((key[0], roles), ()):
                cut = _cut(dict(other[1]), dict(key[1]))
                rule = next((find(name) for name in names if name in self._keys[layer.path][other]), None)
                if cut is not None and rule is not None and _was_given(self.run.of(layer.path), given):
                    yield from _part_options(rule, layer, keras, *cut)

    def joined(self, keras: LayerView, given: Print | None) -> Iterator[Option]:
        """Several smaller torch layers that were all given the same: what Keras has packed."""
        for key, names in keras_keys((keras,))[keras.path].items():
            roles = frozenset(role for role, _ in key[1])
            near: dict[str, list[tuple[LayerView, dict[str, int], int]]] = {}
            for other, layer in self._by_class.get((key[0], roles), ()):
                cut = _cut(dict(key[1]), dict(other[1]))
                rule = next((name for name in names if name in self._keys[layer.path][other]), None)
                if cut is not None and rule is not None and _was_given(self.run.of(layer.path), given):
                    near.setdefault(rule, []).append((layer, cut[0], cut[2]))
            for rule, entries in near.items():
                total = cut_size(dict(key[1]), entries[0][1])
                yield from islice(_joined_options(find(rule), entries, keras, total), _MOST_WAYS)

    def tensors(self, keras: LayerView) -> Iterator[Option]:
        """Torch layers with as many numbers, tensor by tensor, whatever their class."""
        wanted = [tensor for tensor in keras.tensors if not tensor.is_seed]
        for layer in self.torch:
            mine = [tensor for tensor in layer.tensors if moves(tensor)]
            if layer.path in self.run.calls and same_sizes(_shapes(mine), _shapes(wanted)):
                yield from islice(_tensor_options((layer,), mine, keras, wanted, "tensors"), _MOST_WAYS)
            elif layer.path in self.run.calls and len(mine) == len(wanted) == 1:
                yield from _row_options(layer, mine[0], keras, wanted[0])
            elif layer.path in self.run.calls and mine and len(mine) < len(wanted) <= _MOST_TENSORS:
                for chosen in combinations(wanted, len(mine)):
                    if same_sizes(_shapes(mine), _shapes(chosen)):
                        yield from islice(_tensor_options((layer,), mine, keras, chosen, "tensors"), _MOST_WAYS)

    def parameters(self, keras: LayerView, tensor: TensorRef, among: Iterable[TensorRef]) -> Iterator[Option]:
        """Torch tensors with as many numbers as one Keras variable."""
        owners = {entry.path: layer for layer in self.torch for entry in layer.tensors}
        for other in among:
            if size_of(other.shape) == size_of(tensor.shape):
                yield from _tensor_options((owners[other.path],), [other], keras, [tensor], "parameter")


def _by_key(layers: Iterable[LayerView], keys: Mapping[str, Keys]) -> dict[Key, list[LayerView]]:
    found: dict[Key, list[LayerView]] = {}
    for layer in layers:
        for key in keys[layer.path]:
            found.setdefault(key, []).append(layer)
    return found


def _first_common(names: Iterable[str], others: Iterable[str]) -> Rule | None:
    """The first rule that makes both sides fit."""
    known = set(others)
    return next((find(name) for name in names if name in known), None)


def cut_size(shapes: Mapping[str, Shape], axes: Mapping[str, int]) -> int:
    """The size along the axis that is cut."""
    role, axis = next(iter(axes.items()))
    return shapes[role][axis]


def _shapes(tensors: Iterable[TensorRef]) -> list[Shape]:
    return [tensor.shape for tensor in tensors]


def _was_given(calls: Iterable[TorchCall], given: Print | None) -> bool:
    return given is not None and any(entry.agrees(given, 1e-9) for call in calls for entry in call.prints)


def _whole_options(rule: Rule, torch: LayerView, keras: LayerView) -> Iterator[Option]:
    """The pair, and where torch flattens before the layer, also the one for a Keras model that does not."""
    seen = []
    for layer in (torch, replace(torch, flattened=None)) if torch.flattened else (torch,):
        mappings = make_pair(rule, layer, keras, ()).weights
        if mappings in seen or not mappings:
            continue
        seen.append(mappings)
        sources = {tensor.path: whole(tensor) for tensor in torch.tensors}
        if all(name in sources for mapping in mappings for name in mapping.torch):
            yield Option(kind="layer", layers=(torch,), keras=keras, rule=rule, mappings=mappings, sources=sources)


def _cut(larger: Mapping[str, Shape], smaller: Mapping[str, Shape]) -> tuple[dict[str, int], int, int] | None:
    """The axis of every tensor along which the two sizes differ, and the two sizes; None where they differ more."""
    axes: dict[str, int] = {}
    pairs = set()
    for role, shape in larger.items():
        other = smaller[role]
        differing = [axis for axis in range(len(shape)) if len(other) == len(shape) and shape[axis] != other[axis]]
        if len(differing) != 1:
            return None
        axes[role] = differing[0]
        pairs.add((shape[differing[0]], other[differing[0]]))
    if len(pairs) != 1 or not any(len(shape) > 1 for shape in larger.values()):
        return None
    total, size = pairs.pop()
    return (axes, total, size) if total > size else None


def _part_options(
    rule: Rule, torch: LayerView, keras: LayerView, axes: Mapping[str, int], total: int, size: int
) -> Iterator[Option]:
    starts = [*range(0, total - size + 1, size)][:_MOST_PARTS]
    for start in dict.fromkeys([*starts, total - size]):
        sources = {
            f"{tensor.path}[{start}:{start + size}]": (
                Part(path=tensor.path, axis=axes[tensor.role], start=start, stop=start + size),
            )
            for tensor in torch.tensors
            if tensor.role in axes
        }
        yield from _virtual("part", rule, (torch,), keras, sources, (total, size))


def _joined_options(
    rule: Rule, entries: Sequence[tuple[LayerView, dict[str, int], int]], keras: LayerView, total: int
) -> Iterator[Option]:
    for count in range(2, _MOST_JOINED + 1):
        for chosen in permutations(entries, count):
            if sum(size for _, _, size in chosen) != total:
                continue
            layers = tuple(layer for layer, _, _ in chosen)
            sources = {
                " + ".join(_tensor(layer, role).path for layer in layers): tuple(
                    Part(path=_tensor(layer, role).path, axis=axis, stop=_tensor(layer, role).shape[axis])
                    for layer in layers
                )
                for role, axis in chosen[0][1].items()
            }
            yield from _virtual("joined", rule, layers, keras, sources, (chosen[0][2], total))


def _tensor(layer: LayerView, role: str) -> TensorRef:
    return next(tensor for tensor in layer.tensors if tensor.role == role)


def _virtual(
    kind: Kind,
    rule: Rule,
    layers: tuple[LayerView, ...],
    keras: LayerView,
    sources: Mapping[str, tuple[Part, ...]],
    sizes: tuple[int, int],
) -> Iterator[Option]:
    """The pair with a torch layer that does not exist: the part of one, or several joined."""
    shapes = {tensor.path: tensor for layer in layers for tensor in layer.tensors}
    tensors = []
    for name, parts in sources.items():
        first = shapes[parts[0].path]
        extent = sum(part.stop - part.start for part in parts)
        shape = (*first.shape[: parts[0].axis], extent, *first.shape[parts[0].axis + 1 :])
        tensors.append(replace(first, path=name, shape=shape))
    config = {name: sizes[1] if value == sizes[0] else value for name, value in (layers[0].config or {}).items()}
    made = replace(layers[0], tensors=tuple(tensors), config=config, flattened=None)
    mappings = make_pair(rule, made, keras, ()).weights
    if mappings and all(name in sources for mapping in mappings for name in mapping.torch):
        yield Option(kind=kind, layers=layers, keras=keras, rule=rule, mappings=mappings, sources=sources)


def _row_options(layer: LayerView, mine: TensorRef, keras: LayerView, wanted: TensorRef) -> Iterator[Option]:
    """The last rows of a table: a table of positions may begin with rows that nothing looks up."""
    more = mine.shape[0] - wanted.shape[0] if mine.shape and wanted.shape else 0
    if more > 0 and len(mine.shape) > 1 and mine.shape[1:] == wanted.shape[1:]:
        mapping = WeightMapping(torch=(mine.path,), keras=(wanted.path,), transform=Skip(0, more))
        yield Option(
            kind="tensors",
            layers=(layer,),
            keras=keras,
            rule=None,
            mappings=(mapping,),
            sources={mine.path: whole(mine)},
        )


def _tensor_options(
    layers: tuple[LayerView, ...], mine: Sequence[TensorRef], keras: LayerView, wanted: Sequence[TensorRef], kind: Kind
) -> Iterator[Option]:
    """Every way to make the wanted tensors of these."""
    for order in permutations(mine):
        ways = [
            list(transforms_between(torch.shape, tensor.shape)) for torch, tensor in zip(order, wanted, strict=True)
        ]
        for transforms in product(*ways):
            mappings = tuple(
                WeightMapping(torch=(torch.path,), keras=(tensor.path,), transform=transform)
                for torch, tensor, transform in zip(order, wanted, transforms, strict=True)
            )
            sources = {tensor.path: whole(tensor) for tensor in mine}
            yield Option(kind=kind, layers=layers, keras=keras, rule=None, mappings=mappings, sources=sources)


__all__ = ["RULE", "Option", "Options", "Part", "whole"]
