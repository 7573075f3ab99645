"""Evidence of structure: a rule exists for the two classes, and the shapes fit after its transforms.

Layers are sorted into groups by what they would be on the torch side: the rule's torch class with the shapes of its
tensors. Within a group every torch layer fits every Keras layer. Groups are found by a dictionary, so the work grows
with the number of layers, not with its square.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from keras3conv.alignment import Evidence, EvidenceKind, Ignored, Pair, misfit, tensors_by_path
from keras3conv.errors import AlignmentError, Problem, RuleError, TransformError, lay_out
from keras3conv.model import LayerView, ModelView, Side
from keras3conv.planner.composites import numbered, separator, units, without_parts
from keras3conv.rule import Config, LayerSpec, Rule, WeightMapping, find, lookup
from keras3conv.rules.parameter import constant_buffer, is_constant
from keras3conv.transforms import Shape

Key = tuple[str, frozenset[tuple[str, Shape]]]
"""A torch class, with the roles and shapes of its tensors: what a layer of either side is on the torch side."""

Keys = dict[Key, list[str]]
"""What a layer may be, each with the names of the rules that say so."""


@dataclass(frozen=True, kw_only=True)
class Fits:
    """The layers that still look for their counterpart."""

    torch_layers: tuple[LayerView, ...]
    keras_layers: tuple[LayerView, ...]

    def without(self, pairs: Iterable[Pair]) -> "Fits":
        """The layers that are in none of these pairs."""
        made = tuple(pairs)
        torch = {path for pair in made for path in pair.torch.split(" + ")}
        keras = {path for pair in made for path in pair.keras.split(" + ")}
        placed = {path for pair in made for mapping in pair.weights for path in (*mapping.torch, *mapping.keras)}
        return Fits(
            torch_layers=_untouched(_left(self.torch_layers, torch, "torch"), placed),
            keras_layers=_untouched(_left(self.keras_layers, keras, "keras"), placed),
        )


@dataclass(frozen=True, kw_only=True)
class Group:
    """Layers of both sides, each of which fits each of the other side.

    Attributes:
        torch_layers: The torch layers.
        keras_layers: The Keras layers; they may be of several classes (Dense and EinsumDense).
        rules: For every layer, by its side and path, the names of the rules that make it fit.
    """

    torch_layers: tuple[LayerView, ...]
    keras_layers: tuple[LayerView, ...]
    rules: Mapping[tuple[Side, str], Sequence[str]]

    def rule_for(self, torch: LayerView, keras: LayerView) -> Rule | None:
        """The first rule that makes both fit; None where one is excluded by its configuration."""
        common = set(self.rules["torch", torch.path])
        return next((find(name) for name in self.rules["keras", keras.path] if name in common), None)


def fitting(fits: Fits) -> Iterator[Group]:
    """The groups of layers that fit, in the order of the torch layers.

    A layer that fits several groups (a file does not tell its classes) goes to the first that both sides share.
    """
    yield from _groups(fits, torch_keys(fits.torch_layers), keras_keys(fits.keras_layers))


def fitting_in_keras(fits: Fits) -> Iterator[Group]:
    """The groups of layers that fit where it is the torch layer that tells: what each would be on the Keras side.

    A Keras layer does not know that its kernel holds the groups of a convolution, or the pixels of a patch.
    """
    torch = torch_keys(fits.torch_layers, in_keras=True)
    yield from _groups(fits, torch, keras_keys(fits.keras_layers, in_keras=True))


def _groups(fits: Fits, torch: Mapping[str, Keys], keras: Mapping[str, Keys]) -> Iterator[Group]:
    shared = _all(torch) & _all(keras)
    torch_layers = _outermost(fits.torch_layers, torch, shared, "torch")
    keras_layers = _outermost(fits.keras_layers, keras, shared, "keras")
    torch_groups = _grouped(torch_layers, torch, shared)
    keras_groups = _grouped(keras_layers, keras, shared)
    for key, layers in torch_groups.items():
        if key in keras_groups:
            named: dict[tuple[Side, str], Sequence[str]] = {}
            named |= {("torch", layer.path): torch[layer.path][key] for layer in layers}
            named |= {("keras", layer.path): keras[layer.path][key] for layer in keras_groups[key]}
            yield Group(torch_layers=tuple(layers), keras_layers=tuple(keras_groups[key]), rules=named)


def torch_keys(layers: Iterable[LayerView], *, in_keras: bool = False) -> dict[str, Keys]:
    """What each torch layer may be, by its path.

    Args:
        layers: The layers.
        in_keras: Whether the keys are of the Keras side: its classes, roles and shapes.
    """
    return _by_path(layers, _torch_keys_in_keras if in_keras else _torch_keys)


def keras_keys(layers: Iterable[LayerView], *, in_keras: bool = False) -> dict[str, Keys]:
    """What each Keras layer may be, by its path; see `torch_keys`."""
    return _by_path(layers, _keras_keys_in_keras if in_keras else _keras_keys)


def make_pair(
    rule: Rule, torch: LayerView, keras: LayerView, evidence: Iterable[Evidence], candidates: Iterable[str] = ()
) -> Pair:
    """The pair of two layers, by a rule that fits them, with the mappings' full tensor paths."""
    weights = tuple(_full_paths(rule, torch, keras))
    return Pair(
        torch=torch.path,
        keras=keras.path,
        rule=rule.name,
        weights=weights,
        evidence=(*evidence, *_unseen_flatten(rule, torch, keras)),
        candidates=tuple(candidates),
    )


def pair_by_hand(
    torch: ModelView, keras: ModelView, torch_path: str, keras_path: str, kind: EvidenceKind = "by hand"
) -> Pair:
    """The pair of two layers that somebody named; several of one side are joined by " + ".

    Raises:
        AlignmentError: A name is unknown, no rule knows the classes, or the shapes do not fit.
    """
    names = torch_path.split(" + "), keras_path.split(" + ")
    counts = len(names[0]), len(names[1])
    first, second = _named(torch, names[0]), _named(keras, names[1])
    known = tensors_by_path(torch), tensors_by_path(keras)
    facts = []
    for rule in lookup(first.kinds, second.kinds, counts):
        if not _may_apply(rule, first):
            continue
        pair = make_pair(rule, first, second, [Evidence(kind=kind)])
        misfits = [fact for mapping in pair.weights if (fact := misfit(mapping, *known))]
        if not misfits and pair.weights:
            return pair
        facts += misfits
    if not facts:
        facts = [f"no rule pairs {first.kind or 'an unknown class'} with {second.kind or 'an unknown class'}"]
    problems = [Problem(torch=torch_path, keras=keras_path, fact=fact) for fact in dict.fromkeys(facts)]
    raise AlignmentError(lay_out(f"cannot pair a layer of {torch.title} with one of {keras.title}", problems))


def ignored_tensors(torch: ModelView, pairs: Mapping[str, Pair]) -> Iterator[Ignored]:
    """The torch tensors that need no counterpart: by the rule of their pair, or as buffers that are constant."""
    placed = {path for pair in pairs.values() for mapping in pair.weights for path in mapping.torch}
    reasons: dict[str, str] = {}
    for layer in units(torch):
        pair = pairs.get(layer.path)
        declared = find(pair.rule).ignored if pair else _ignored_roles(layer)
        for tensor in layer.tensors:
            name = tensor.role.rpartition(".")[2]
            constant = "" if tensor.trainable else constant_buffer(name, tensor.dtype)
            reason = declared.get(tensor.role, "") or constant
            if reason and tensor.path not in placed:
                reasons.setdefault(tensor.path, reason)
    for path, reason in reasons.items():
        yield Ignored(side="torch", path=path, reason=reason)


def _ignored_roles(layer: LayerView) -> dict[str, str]:
    """What the rules for the layer's class ignore; for a layer of unknown class, what any rule does."""
    return {role: reason for rule in _rules_for_torch(layer) for role, reason in rule.ignored.items()}


def _rules_for_torch(layer: LayerView) -> Sequence[Rule]:
    return tuple(lookup(layer.kinds, ()))


def _may_apply(rule: Rule, layer: LayerView) -> bool:
    """Whether a rule is for this layer's configuration; a file does not tell, so then it may be, but for a variant."""
    return not rule.variant if layer.config is None else rule.applies(rule.config_of(layer))


def _by_path(layers: Iterable[LayerView], find_keys: Callable[[LayerView], Keys]) -> dict[str, Keys]:
    """The keys of every layer; a model has few kinds of layers many times, and each kind is looked at once."""
    known: dict[Hashable, Keys] = {}
    found = {}
    for layer in layers:
        config = None if layer.config is None else {k: v for k, v in layer.config.items() if k != "name"}
        alike = (layer.kinds, repr(config), tuple(layer.shapes.items()), layer.inputs)
        if alike not in known:
            known[alike] = find_keys(layer)
        found[layer.path] = known[alike]
    return found


def _torch_keys(layer: LayerView) -> Keys:
    keys: Keys = {}
    for rule in _rules_for_torch(layer):
        if _may_apply(rule, layer):
            kept = [tensor for tensor in layer.tensors if tensor.role not in rule.ignored and not is_constant(tensor)]
            shapes = {tensor.role: tensor.shape for tensor in kept}
            keys.setdefault((rule.torch, _signature(shapes)), []).append(rule.name)
    return keys


def _keras_keys(layer: LayerView) -> Keys:
    keys: Keys = {}
    for rule in lookup((), layer.kinds):
        shapes = shapes_in_torch(rule, layer)
        if shapes is not None:
            keys.setdefault((rule.torch, _signature(shapes)), []).append(rule.name)
    return keys


def _torch_keys_in_keras(layer: LayerView) -> Keys:
    keys: Keys = {}
    for rule in _rules_for_torch(layer) if layer.config is not None else ():
        shapes = _shapes_in_keras(rule, layer) if _may_apply(rule, layer) else None
        if shapes is not None:
            keys.setdefault((rule.keras, _signature(shapes)), []).append(rule.name)
    return keys


def _keras_keys_in_keras(layer: LayerView) -> Keys:
    keys: Keys = {}
    for rule in lookup((), layer.kinds):
        keys.setdefault((rule.keras, _signature(_keras_shapes(rule, layer))), []).append(rule.name)
    return keys


def _shapes_in_keras(rule: Rule, layer: LayerView) -> dict[str, Shape] | None:
    """What the tensors of a torch layer are on the Keras side; None where its configuration does not tell."""
    shapes = {role: shape for role, shape in layer.shapes.items() if role not in rule.ignored}
    keras: dict[str, Shape] = {}
    try:
        mappings = rule.weights({**rule.config_of(layer), "inputs": layer.inputs})
        for mapping in mappings:
            if shapes.keys() & set(mapping.torch):
                given = tuple(shapes.pop(role) for role in mapping.torch)
                keras |= dict(zip(mapping.keras, mapping.transform.shapes(given), strict=True))
    except (RuleError, TransformError, LookupError):
        return None  # the shapes are not those of this rule's layer, or only the Keras layer can tell
    return None if shapes else keras


def shapes_in_torch(rule: Rule, layer: LayerView) -> dict[str, Shape] | None:
    """What the tensors of a Keras layer are on the torch side; None where it cannot be a layer of this rule."""
    mappings = _mappings(rule, None, layer)
    if mappings is None:
        return None
    shapes = _keras_shapes(rule, layer)
    torch: dict[str, Shape] = {}
    try:
        for mapping in mappings:
            given = tuple(shapes[role] for role in mapping.keras)
            torch |= dict(zip(mapping.torch, mapping.transform.inverse.shapes(given), strict=True))
    except (TransformError, KeyError):
        return None  # the shapes are not those of this rule's layer
    return torch if {role for mapping in mappings for role in mapping.keras} == set(shapes) else None


def _full_paths(rule: Rule, torch: LayerView, keras: LayerView) -> Iterator[WeightMapping]:
    torch_paths = {tensor.role: tensor.path for tensor in torch.tensors}
    keras_paths = {rule.aliases.get(tensor.role, tensor.role): tensor.path for tensor in keras.tensors}
    for mapping in _mappings(rule, torch, keras) or ():
        torch_names = tuple(torch_paths.get(role, f"{torch.path}.{role}") for role in mapping.torch)
        keras_names = tuple(keras_paths.get(role, f"{keras.path}/{role}") for role in mapping.keras)
        yield replace(mapping, torch=torch_names, keras=keras_names)


def _mappings(rule: Rule, torch: LayerView | None, keras: LayerView) -> tuple[WeightMapping, ...] | None:
    """The rule's mappings of which a tensor exists; None where the Keras layer cannot be one of the rule's."""
    shapes = _keras_shapes(rule, keras)
    config = torch_config(rule, torch, keras)
    if config is None:
        return None
    present = set(shapes), set(torch.shapes) if torch else set()
    return tuple(
        mapping
        for mapping in rule.weights(config)
        if present[0].intersection(mapping.keras)
        or present[1].intersection(mapping.torch)
        or (torch is None and not mapping.keras)  # what Keras does without stands in the torch layer all the same
    )


def torch_config(rule: Rule, torch: LayerView | None, keras: LayerView) -> Config | None:
    """The torch layer's configuration, or where only the Keras layer is known, the one that it comes from."""
    spec = keras_spec(rule, keras)
    # What a rule may need beyond the torch layer's own configuration: its counterpart, its input.
    beyond: dict[str, Any] = {"keras": spec}
    if torch is not None:
        beyond |= {"flattened": _flattened(torch, keras), "inputs": torch.inputs}
    if torch is not None and torch.config is not None:
        return {**rule.config_of(torch), **beyond}
    try:
        made = rule.to_torch((spec,))
        owner = next((part for part in made if part.kind == rule.torch), made[-1])
        return {**owner.config, **beyond}
    except (RuleError, ValueError, LookupError, TypeError, StopIteration):
        return None  # not a layer of this rule


def keras_spec(rule: Rule, keras: LayerView) -> LayerSpec:
    """A Keras layer as a rule reads it."""
    shapes, inputs = _keras_shapes(rule, keras), keras.inputs or ()
    return LayerSpec(kind=keras.kind, config=keras.config or {}, shapes=shapes, inputs=inputs)


def _flattened(torch: LayerView, keras: LayerView) -> Shape | None:
    """The shape in torch's order of what both sides flatten before this layer; None if they do not, or it is unknown.

    Where the Keras side could not be looked at, it flattens what torch does: else the models would not be the same.
    """
    if torch.flattened and (keras.flattened is not None or keras.calls is None):
        return torch.flattened
    if torch.calls is None and keras.flattened:
        return (keras.flattened[-1], *keras.flattened[:-1])
    return None


def _unseen_flatten(rule: Rule, torch: LayerView, keras: LayerView) -> Iterator[Evidence]:
    """A doubt: one side flattens before this layer, and nobody saw what the other does; the rows may be permuted."""
    torch_unseen = torch.calls is None and keras.flattened is not None
    keras_unseen = keras.calls is None and torch.flattened is not None
    if not (torch_unseen or keras_unseen):
        return
    config = torch_config(rule, torch, keras) or {}
    permuted = rule.weights(config) != rule.weights({**config, "flattened": None})
    order = "its rows are permuted" if permuted else "its rows are taken as they are"
    if torch_unseen:
        yield Evidence(kind="unseen flatten", detail=f"Keras flattens before it, torch was not run: {order}")
    elif permuted:
        detail = f"torch flattens {torch.flattened} before it, Keras could not be looked at: {order}"
        yield Evidence(kind="unseen flatten", detail=detail)


def _keras_shapes(rule: Rule, layer: LayerView) -> dict[str, Shape]:
    return {rule.aliases.get(tensor.role, tensor.role): tensor.shape for tensor in layer.tensors if not tensor.is_seed}


def _signature(shapes: Mapping[str, Shape]) -> frozenset[tuple[str, Shape]]:
    return frozenset(shapes.items())


def _left(layers: tuple[LayerView, ...], paired: set[str], side: Side) -> tuple[LayerView, ...]:
    """The layers that are not paired, nor part of one that is, nor have a part that is."""
    between = separator(side)
    outer = {path.rpartition(between)[0] for path in paired}
    wholes = [layer for layer in layers if layer.path in paired]
    free = without_parts(layers, wholes, side)
    return tuple(layer for layer in free if layer.path not in paired and (not layer.path or layer.path not in outer))


def _untouched(layers: tuple[LayerView, ...], placed: set[str]) -> tuple[LayerView, ...]:
    """The layers of which no tensor has a place."""
    return tuple(layer for layer in layers if placed.isdisjoint(tensor.path for tensor in layer.tensors))


def _outermost(
    layers: tuple[LayerView, ...], keys: Mapping[str, Keys], shared: set[Key], side: Side
) -> tuple[LayerView, ...]:
    """The layers that fit one of the other side, without those that are part of another that does."""
    fit = [layer for layer in layers if shared.intersection(keys[layer.path])]
    return tuple(without_parts(fit, fit, side))


def _all(keys: Mapping[str, Keys]) -> set[Key]:
    return {key for entry in keys.values() for key in entry}


def _grouped(layers: Iterable[LayerView], keys: Mapping[str, Keys], shared: set[Key]) -> dict[Key, list[LayerView]]:
    groups: dict[Key, list[LayerView]] = {}
    for layer in layers:
        key = next((key for key in keys[layer.path] if key in shared), None)
        if key is not None:
            groups.setdefault(key, []).append(layer)
    return groups


def _named(view: ModelView, paths: list[str]) -> LayerView:
    """The layer with this path; several as one with numbered roles."""
    found = [_layer(view, path) for path in paths]
    return found[0] if len(found) == 1 else numbered(found, view.side)


def _layer(view: ModelView, path: str) -> LayerView:
    layers = {layer.path: layer for layer in units(view)}
    if path in layers:
        return layers[path]
    from rapidfuzz import process

    close = [name for name, _, _ in process.extract(path, list(layers), limit=3)]
    problem = Problem(fact=f"{path!r} is not a layer with tensors; similar: {', '.join(close)}")
    raise AlignmentError(lay_out(f"there is no such layer in {view.title}", [problem]))
