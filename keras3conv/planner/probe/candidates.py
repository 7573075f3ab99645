"""What a Keras layer may be filled with: a torch layer, a part of one, several joined, or tensors without a rule."""

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations, islice, permutations, product

from keras3conv.model.views import LayerView, Side, TensorRef
from keras3conv.numerics.fingerprint import Print, size_of
from keras3conv.planner.evidence.keys import Key, Keys, by_key, first_common, keras_keys, sort_of, torch_keys
from keras3conv.planner.probe.layouts import same_sizes, transforms_between
from keras3conv.planner.probe.option import Kind, Option, whole
from keras3conv.planner.probe.parts import cut, cut_size, joined_options, part_options
from keras3conv.planner.probe.pieces import has_as_many, piece_options, stack_options
from keras3conv.planner.probe.record import TorchCall, TorchRun
from keras3conv.planner.probe.rows import row_options
from keras3conv.planner.probe.weights import moves
from keras3conv.rules.applying import mappings_of, with_paths
from keras3conv.rules.library import find
from keras3conv.rules.rule import Rule, WeightMapping
from keras3conv.transforms import Shape, Skip

_MOST_WAYS = 24
"""Of one torch layer without a rule, or of several joined, this many ways are tried."""

_MOST_TENSORS = 4


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
    _sorts: dict[tuple[Side, str, Shape | None], Hashable] = field(default_factory=dict)
    _keras_keys: dict[tuple[Hashable, bool], Keys] = field(default_factory=dict)
    _known: dict[tuple[Hashable, ...], tuple[WeightMapping, ...]] = field(default_factory=dict)

    @cached_property
    def _keys(self) -> dict[str, Keys]:
        return torch_keys(self.torch)

    @cached_property
    def _keys_in_keras(self) -> dict[str, Keys]:
        return torch_keys(self.torch, in_keras=True)

    @cached_property
    def _by_key(self) -> dict[Key, list[LayerView]]:
        return by_key(self.torch, self._keys)

    @cached_property
    def _by_key_in_keras(self) -> dict[Key, list[LayerView]]:
        return by_key(self.torch, self._keys_in_keras)

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
        for known, fitting, in_keras in ways:
            for key, names in self._keys_of(keras, in_keras=in_keras).items():
                for layer in fitting.get(key, ()):
                    rule = first_common(names, known[layer.path][key])
                    if rule is not None and layer.path in self.run.calls and layer.path not in seen:
                        seen.add(layer.path)
                        yield from self._whole(rule, layer, keras)
        yield from row_options(self.torch, self.run, keras)

    def _whole(self, rule: Rule, torch: LayerView, keras: LayerView) -> Iterator[Option]:
        """The pair, and where torch flattens before the layer, also the one for a Keras model that does not."""
        seen = []
        for layer in (torch, replace(torch, flattened=None)) if torch.flattened else (torch,):
            mappings = self._mappings(rule, layer, keras)
            if mappings in seen or not mappings:
                continue
            seen.append(mappings)
            sources = {tensor.path: whole(tensor) for tensor in torch.tensors}
            if all(name in sources for mapping in mappings for name in mapping.torch):
                yield Option(kind="layer", layers=(torch,), keras=keras, rule=rule, mappings=mappings, sources=sources)

    def _mappings(self, rule: Rule, torch: LayerView, keras: LayerView) -> tuple[WeightMapping, ...]:
        """The mappings of two layers; a model has few kinds of layers many times, and a rule is asked once for each."""
        key = (rule.name, self._sort("torch", torch), self._sort("keras", keras))
        if key not in self._known:
            self._known[key] = mappings_of(rule, torch, keras) or ()
        return tuple(with_paths(self._known[key], rule, torch, keras))

    def _keys_of(self, keras: LayerView, *, in_keras: bool = False) -> Keys:
        """What a Keras layer may be; every sort of layer is looked at once."""
        sort = self._sort("keras", keras)
        if (sort, in_keras) not in self._keras_keys:
            self._keras_keys[sort, in_keras] = keras_keys((keras,), in_keras=in_keras)[keras.path]
        return self._keras_keys[sort, in_keras]

    def _sort(self, side: Side, layer: LayerView) -> Hashable:
        name = (side, layer.path, layer.flattened)
        if name not in self._sorts:
            self._sorts[name] = sort_of(layer)
        return self._sorts[name]

    def parts(self, keras: LayerView, given: Print | None) -> Iterator[Option]:
        """Parts of larger torch layers that were given the same: one of a packed query, key and value."""
        for key, names in self._keys_of(keras).items():
            roles = frozenset(role for role, _ in key[1])
            for other, layer in self._by_class.get((key[0], roles), ()):
                sizes = cut(dict(other[1]), dict(key[1]))
                rule = next((find(name) for name in names if name in self._keys[layer.path][other]), None)
                if sizes is not None and rule is not None and _was_given(self.run.of(layer.path), given):
                    yield from part_options(rule, layer, keras, *sizes)

    def joined(self, keras: LayerView, given: Print | None) -> Iterator[Option]:
        """Several smaller torch layers that were all given the same: what Keras has packed."""
        for key, names in self._keys_of(keras).items():
            roles = frozenset(role for role, _ in key[1])
            near: dict[str, list[tuple[LayerView, dict[str, int], int]]] = {}
            for other, layer in self._by_class.get((key[0], roles), ()):
                sizes = cut(dict(key[1]), dict(other[1]))
                rule = next((name for name in names if name in self._keys[layer.path][other]), None)
                if sizes is not None and rule is not None and _was_given(self.run.of(layer.path), given):
                    near.setdefault(rule, []).append((layer, sizes[0], sizes[2]))
            for rule, entries in near.items():
                total = cut_size(dict(key[1]), entries[0][1])
                yield from islice(joined_options(find(rule), entries, keras, total), _MOST_WAYS)

    @cached_property
    def _undivided(self) -> tuple[LayerView, ...]:
        """The layers that ran and have no layer with tensors in them: what those return is not theirs alone."""
        paths = [layer.path.split(".") for layer in self.torch if layer.tensors]
        divided = {".".join(names[:length]) for names in paths for length in range(len(names))}
        return tuple(layer for layer in self.torch if layer.path in self.run.calls and layer.path not in divided)

    def tensors(self, keras: LayerView) -> Iterator[Option]:
        """Torch layers with as many numbers, tensor by tensor, whatever their class."""
        wanted = [tensor for tensor in keras.tensors if not tensor.is_seed]
        for layer in self._undivided:
            mine = [tensor for tensor in layer.tensors if moves(tensor)]
            if same_sizes(_shapes(mine), _shapes(wanted)):
                yield from islice(_tensor_options((layer,), mine, keras, wanted, "tensors"), _MOST_WAYS)
            elif len(mine) == len(wanted) == 1:
                yield from _row_options(layer, mine[0], keras, wanted[0])
            elif mine and len(mine) < len(wanted) <= _MOST_TENSORS:
                for chosen in combinations(wanted, len(mine)):
                    if same_sizes(_shapes(mine), _shapes(chosen)):
                        yield from islice(_tensor_options((layer,), mine, keras, chosen, "tensors"), _MOST_WAYS)

    def parameters(self, keras: LayerView, tensor: TensorRef, among: Iterable[TensorRef]) -> Iterator[Option]:
        """Torch tensors with as many numbers as one Keras variable."""
        owners = {entry.path: layer for layer in self.torch for entry in layer.tensors}
        for other in among:
            if size_of(other.shape) == size_of(tensor.shape):
                yield from _tensor_options((owners[other.path],), [other], keras, [tensor], "parameter")

    def pieces(self, keras: LayerView, tensor: TensorRef, *, alone: bool) -> Iterator[Option]:
        """What a Keras variable may be that is a piece of a torch tensor, or several of them.

        Args:
            keras: The Keras layer.
            tensor: Its variable.
            alone: Whether no torch tensor has the variable's size.
        """
        owners = {entry.path: layer for layer in self.torch for entry in layer.tensors}
        if alone or has_as_many(keras, tensor, 2):
            for other in self.loose:
                yield from piece_options(owners[other.path], other, keras, tensor)
        if alone:
            yield from stack_options(self.torch, keras, tensor)


def _shapes(tensors: Iterable[TensorRef]) -> list[Shape]:
    return [tensor.shape for tensor in tensors]


def _was_given(calls: Iterable[TorchCall], given: Print | None) -> bool:
    return given is not None and any(entry.agrees(given, 1e-9) for call in calls for entry in call.prints)


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
