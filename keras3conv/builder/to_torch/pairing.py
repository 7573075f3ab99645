"""Create the plan (the pairs of tensors) for a generated module, from the Keras layers that it was generated from."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from keras3conv.alignment.binding import make_pair, pair_of_tensors
from keras3conv.alignment.pair import Evidence, Ignored, Pair
from keras3conv.alignment.plan import Alignment
from keras3conv.builder.program.program import Module, Program
from keras3conv.errors import RuleError
from keras3conv.model.views import LayerView, ModelView
from keras3conv.planner.evidence.structure import ignored_tensors
from keras3conv.rules.library import find
from keras3conv.rules.misnamed import does_not_apply
from keras3conv.rules.rule import Rule, WeightMapping
from keras3conv.rules.units import numbered, units
from keras3conv.transforms import Same

_EVIDENCE = Evidence(kind="construction", detail="the torch layer was generated from the Keras layer")


def alignment_of(program: Program, paths: Mapping[str, str], torch: ModelView, keras: ModelView) -> Alignment:
    """Return the plan (the pairs of tensors) for a generated torch module and its Keras model.

    Args:
        program: The flat program of the module: all its statements, not yet divided among blocks (classes).
        paths: For each module and weight that is in a block, its path; see `Structure.paths`.
        torch: The layers and tensors of the module (its view).
        keras: The layers and variables of the Keras model (its view).
    """
    pairs = [*_layer_pairs(program, paths, torch, keras), *_weight_pairs(program, paths)]
    by_path = {path: pair for pair in pairs for path in pair.torch_layers}
    ignored = [*ignored_tensors(torch, by_path), *_constants(program, paths), *_unused(pairs, keras)]
    return Alignment(pairs=tuple(pairs), ignored=tuple(ignored), torch=torch.outline(), keras=keras.outline())


def _layer_pairs(program: Program, paths: Mapping[str, str], torch: ModelView, keras: ModelView) -> Iterator[Pair]:
    torch_layers = {layer.path: layer for layer in units(torch)}
    keras_layers = {layer.path: layer for layer in units(keras)}
    for path, modules in _by_keras_layer(program).items():
        parts = [torch_layers[paths.get(module.name, module.name)] for module in modules]
        whole = parts[0] if len(parts) == 1 else numbered(parts, "torch")
        rule = find(modules[0].rule)
        pair = make_pair(rule, *_flattening(whole, keras_layers[path], modules[0]), [_EVIDENCE])
        _require_named(rule, pair, whole, keras_layers[path])
        yield pair


def _require_named(rule: Rule, pair: Pair, torch: LayerView, keras: LayerView) -> None:
    """Raise `RuleError` if a rule names a tensor that one of the two layers does not have."""
    for side, layer in (("torch", torch), ("keras", keras)):
        roles = {tensor.path: rule.aliases.get(tensor.role, tensor.role) for tensor in layer.tensors}
        named = [path for mapping in pair.weights for path in (mapping.torch if side == "torch" else mapping.keras)]
        if any(path not in roles for path in named):
            names = [roles.get(path, path.removeprefix(layer.path)[1:]) for path in named]
            raise RuleError(does_not_apply(rule, layer.path, roles.values(), names))


def _by_keras_layer(program: Program) -> dict[str, list[Module]]:
    found: dict[str, list[Module]] = {}
    for module in program.modules.values():
        if module.source:
            found.setdefault(module.source, []).append(module)
    return found


def _flattening(torch: LayerView, keras: LayerView, module: Module) -> tuple[LayerView, LayerView]:
    """Return the views of two paired layers, completed with the shape of their input before it was flattened.

    Args:
        torch: The torch layer.
        keras: The Keras layer.
        module: The torch layer in the program, which has this shape.

    Returns:
        Both views with `run.flattened`: (channels, height, width) in torch, (height, width, channels) in Keras.
    """
    first = module.flattened or None
    second = (*first[1:], first[0]) if first else None
    torch_run = replace(torch.run, flattened=first, calls=(0,))
    keras_run = replace(keras.run, flattened=second, calls=(0,))
    return replace(torch, run=torch_run), replace(keras, run=keras_run)


def _weight_pairs(program: Program, paths: Mapping[str, str]) -> Iterator[Pair]:
    for weight in program.weights.values():
        if weight.source:
            path = paths.get(weight.name, weight.name)
            mapping = WeightMapping(torch=(path,), keras=(weight.source,), transform=Same())
            yield pair_of_tensors([mapping], [_EVIDENCE])


def _constants(program: Program, paths: Mapping[str, str]) -> Iterator[Ignored]:
    for weight in program.weights.values():
        if not weight.source:
            path = paths.get(weight.name, weight.name)
            yield Ignored(side="torch", path=path, reason="it is a constant in a call of the Keras model, not a weight")


def _unused(pairs: list[Pair], keras: ModelView) -> Iterator[Ignored]:
    placed = {path for pair in pairs for mapping in pair.weights for path in mapping.keras}
    for tensor in keras.tensors():
        if tensor.is_seed:
            yield Ignored(side="keras", path=tensor.path, reason="the state of a random generator")
        elif tensor.path not in placed:
            yield Ignored(side="keras", path=tensor.path, reason="no output of the Keras model depends on it")
