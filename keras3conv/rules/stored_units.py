"""Find the modules of a torch file whose tensors have the names in a rule of the user: a file stores no classes."""

from collections.abc import Iterator
from dataclasses import replace

from keras3conv.model.views import LayerView, ModelView, TensorRef
from keras3conv.rules.registry import users_rules
from keras3conv.rules.rule import Rule
from keras3conv.rules.stored import torch_names


def is_torch_file(view: ModelView) -> bool:
    """Return whether a view is of a file of torch weights, which stores no classes."""
    return view.side == "torch" and not any(layer.kinds for layer in view.layers)


def named_units(view: ModelView) -> Iterator[LayerView]:
    """Yield the modules of a torch file that have exactly the tensors of a rule of the user, some in inner modules.

    Each is one layer with all its tensors: the rule that names "value.weight" and "temp" is for a module "1" with the
    tensors "1.value.weight" and "1.temp".
    """
    rules = [rule for rule in users_rules() if rule.torch_count == rule.keras_count == 1]
    wanted = [(rule, names) for rule in rules for names in torch_names(rule) if any("." in name for name in names)]
    for module in modules_of(view) if wanted else ():
        if any(has_names(rule, names, module) for rule, names in wanted):
            yield module


def has_names(rule: Rule, names: frozenset[str], module: LayerView) -> bool:
    """Return whether a module has the tensors with these names, and no others that the rule does not ignore."""
    return names == module.shapes.keys() - rule.ignored.keys()


def modules_of(view: ModelView) -> list[LayerView]:
    """Return each module that the names of a torch file show, with the tensors of its inner modules."""
    found: dict[str, list[TensorRef]] = {}
    for tensor in view.tensors():
        path = tensor.path
        while path:
            path = path.rpartition(".")[0]
            found.setdefault(path, []).append(replace(tensor, role=tensor.path[len(path) + 1 if path else 0 :]))
    layers = {layer.path: layer for layer in view.layers}
    return [
        replace(layers.get(path, LayerView(path=path, kinds=())), tensors=tuple(tensors))
        for path, tensors in found.items()
    ]
