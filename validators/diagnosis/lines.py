"""Write the lines to paste for two models: they name their framework, and a Sequential gets a layer for a call."""

import ast
import json
import re
from collections.abc import Callable, Iterable
from typing import Any

from keras3conv.alignment.beside import Beside
from keras3conv.fixes import in_framework
from keras3conv.rules.correspondence import same_value
from keras3conv.validators.running.subject import Subject

_COMMENT = "  # "
_PLACE = re.compile(r"(?:torch: |Keras: )?(?:(?:before|after|in) )?(?:layer )?([\w./]+)")
"""The layer at the beginning of a comment."""

_TORCH_PAD = re.compile(r"x = F\.pad\(x, (\([^()]*\))(?:, mode=\"(\w+)\"|, (?:value=)?(.+))?\)")
_PADS = {"replicate": "Replication", "reflect": "Reflection", "circular": "Circular"}
"""The layers of torch that pad with other values than a constant, by the mode of `F.pad`."""

_TORCH_FUNCTION = re.compile(r"x = (?:F|torch)\.(\w+)\(x(?:, (.*))?\)")
_KERAS_ACTIVATION = re.compile(r"x = keras\.activations\.(\w+)\(x\)")
_KERAS_PAD = re.compile(r"keras\.ops\.pad\(x, .*\)")


def lines_for(subject: Subject, torch: Iterable[str], keras: Iterable[str]) -> tuple[str, ...]:
    """Return the lines for the torch module, then those for the Keras model; see `lines_in_torch`."""
    return (*(lines_in_torch(subject, code) for code in torch), *(lines_in_keras(subject, code) for code in keras))


def lines_in_torch(subject: Subject, code: str) -> str:
    """Return lines for the torch module; one beside a layer of a `nn.Sequential` is a layer: "nn.ZeroPad2d((0, 1))"."""
    return in_framework(_as_layers(code, lambda path: _is_in_torch(subject.torch, path), _torch_layer), "torch")


def lines_in_keras(subject: Subject, code: str) -> str:
    """Return lines for the Keras model; one beside a layer of a `keras.Sequential` is a layer, not a call of `x`."""
    return in_framework(_as_layers(code, lambda path: _is_in_keras(subject.keras, path), _keras_layer), "keras")


def _as_layers(code: str, is_in_sequential: Callable[[str], bool], layer: Callable[[str], str]) -> str:
    """Return lines of code in which a call beside a layer of a Sequential is replaced by a layer.

    Args:
        code: The lines.
        is_in_sequential: Returns whether a path is that of a layer directly in a Sequential.
        layer: Returns the layer for a call; empty if there is none.
    """
    lines = []
    for line in code.split("\n"):
        call, mark, comment = line.partition(_COMMENT)
        place = _PLACE.match(comment)
        made = layer(call) if place and is_in_sequential(place[1]) else ""
        lines.append(f"{made}{mark}{comment}" if made else line)
    return "\n".join(lines)


def _torch_layer(call: str) -> str:
    from torch import nn

    if found := _TORCH_PAD.fullmatch(call):
        pads, mode, value = found.groups()
        rank = pads.count(",") // 2 + 1
        if mode:
            return f"nn.{_PADS[mode]}Pad{rank}d({pads})" if mode in _PADS else ""
        return f"nn.ConstantPad{rank}d({pads}, {value})" if value else f"nn.ZeroPad{rank}d({pads})"
    if found := _TORCH_FUNCTION.fullmatch(call):
        wanted = found[1].replace("_", "")
        name = next((name for name in dir(nn) if name.lower() == wanted and name[0].isupper()), "")
        return f"nn.{name}({found[2] or ''})" if name else ""
    return _called_layers(call)


def _keras_layer(call: str) -> str:
    if found := _KERAS_ACTIVATION.fullmatch(call):
        return f'keras.layers.Activation("{found[1]}")'
    return _called_layers(call)


def _called_layers(call: str) -> str:
    """Return the layers that a statement calls in sequence, in this order: "first, second" for "x = second(first(x))".

    The innermost may be a padding of Keras, which becomes a layer. Empty for any other statement.
    """
    if not call.startswith("x = "):
        return ""
    layers: list[str] = []
    node: ast.AST = ast.parse(call.removeprefix("x = "), mode="eval").body
    while isinstance(node, ast.Call) and isinstance(node.func, ast.Call) and len(node.args) == 1:
        layers.append(ast.get_source_segment(call.removeprefix("x = "), node.func) or "")
        (node,) = node.args
    rest = ast.get_source_segment(call.removeprefix("x = "), node) or ""
    if _KERAS_PAD.fullmatch(rest):
        layers.append(f"keras.layers.Lambda(lambda x: {rest})")
    elif rest != "x":
        return ""
    return ", ".join(reversed(layers))


def _is_in_torch(module: Any, path: str) -> bool:
    from torch import nn

    modules = dict(module.named_modules()) if isinstance(module, nn.Module) else {}
    return path in modules and isinstance(modules.get(path.rpartition(".")[0]), nn.Sequential)


def _is_in_keras(model: Any, path: str) -> bool:
    *parents, last = path.split("/")
    for name in parents:
        model = next((layer for layer in getattr(model, "layers", ()) if layer.name == name), None)
    is_sequential = any(kind.__name__ == "Sequential" for kind in type(model).__mro__)
    return is_sequential and any(layer.name == last for layer in model.layers)


def setting_lines(name: str, value: object, present: object, place: str, beside: Beside) -> tuple[str, ...]:
    """Return the lines of code that set a field to a new value, in a tuple; () if the field has this value already.

    Args:
        name: The field: "units", or "layer.units" for the layer inside a wrapper such as Bidirectional.
        value: The new value.
        present: The present value.
        place: The layer that has the field, for the comment after the line.
        beside: The layers that are needed before or after it.
    """
    if same_value(value, present):
        return ()
    inner, _, argument = name.rpartition(".")
    inside = f"{inner} of " if inner and not inner.isdigit() else ""
    line = f"{argument if inside else name}={_code(argument, value)}  # {inside}{place}"
    return (beside.with_lines(line, place),)


def _code(argument: str, value: object) -> str:
    """Return a value as code, in the form of the other proofs: a text in double quotes, equal padding as one number."""
    if isinstance(value, str):
        return json.dumps(value)
    is_equal_padding = argument == "padding" and isinstance(value, tuple) and len(set(value)) == 1
    return repr(value[0] if is_equal_padding and isinstance(value, tuple) else value)
