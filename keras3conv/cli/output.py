"""Format the output of the command line: models and rules as text, Markdown and JSON."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING, Any

from keras3conv.cli.weights_only import (
    guessed_parameters,
    is_weights_alone,
    likely,
    missing_information,
    own_architecture,
)
from keras3conv.collapsing import collapse
from keras3conv.messages import count
from keras3conv.model.listing import forms_of
from keras3conv.model.views import LayerView, ModelView, TensorRef
from keras3conv.rules.unsupported import UNSUPPORTED, WITHOUT_RULE
from keras3conv.transforms import Shape

if TYPE_CHECKING:
    from keras3conv.rules.rule import Rule


def model_text(view: ModelView, changes: Sequence[tuple[str, str]] = (), *, every: bool) -> str:
    """Return a model as text: its facts, a table of its layers, the totals, and the settings of an old file.

    Args:
        view: The model.
        changes: The layers whose settings are read with the meaning of Keras 2, each with the change.
        every: Whether to print a line for every layer, also for repeated layers and layers without tensors.
    """
    from keras3conv.report.cells import visible
    from keras3conv.width import columns, fitted_table, folded, keeps_words

    facts = {"side": view.side, **view.facts}
    facts |= {f"input {spec.name}".rstrip(): f"{spec.shape} {spec.dtype}" for spec in view.input_specs}
    width = max(map(len, facts))
    lines = [visible(view.title), *(f"  {visible(name):<{width}}  {visible(fact)}" for name, fact in facts.items()), ""]
    alone = is_weights_alone(view)
    header = ("layer", "class", "tensors", *(("derived from shapes",) if alone else ()))
    rows = [tuple(map(visible, row)) for row in _layer_rows(view, every=every, alone=alone)]
    if not keeps_words(header, rows, columns()):
        rows = [(layer, kind.rpartition(".")[2], *rest) for layer, kind, *rest in rows]
    lines = [*map(folded, lines), *fitted_table(header, rows, whole=(0, 1)).lines]
    if changes:
        changed = [tuple(map(visible, row)) for row in changes]
        lines += ["", folded(_OLD), *fitted_table(("layer", "setting"), changed, whole=(0,)).lines]
    last = missing_information(view) if alone else own_architecture(view)
    return "\n".join([*lines, "", totals(view), *(("", folded(last)) if last else ())])


_OLD = "Settings with another name, value or meaning in Keras 3; convert keeps that of the file:"


def totals(view: ModelView) -> str:
    """Return the totals of a model, such as "2 layers with tensors, 4 tensors, 1,234 numbers, 4.8 KiB"."""
    listed = forms_of(view.layers)
    kinds: Counter[tuple[Shape, str]] = Counter()
    owners = 0
    for form, times in Counter(listed.forms).items():
        tensors = listed.examples[form].tensors
        owners += times if tensors else 0
        for tensor in tensors:
            kinds[tensor.shape, tensor.dtype] += times
    if listed.has_ties:
        several = {(tensor.storage, tensor.path if not tensor.storage else ""): tensor for tensor in view.tensors()}
        kinds = Counter([(tensor.shape, tensor.dtype) for tensor in several.values()])
    size = sum(times * prod(shape) * _bytes_each(dtype) for (shape, dtype), times in kinds.items())
    number = sum(times * prod(shape) for (shape, _), times in kinds.items())
    return f"{count(owners, 'layer')} with tensors, {count(kinds.total(), 'tensor')}, {number:,} numbers, {_size(size)}"


def model_json(view: ModelView, changes: Sequence[tuple[str, str]] = ()) -> str:
    """Return a model as JSON: names, classes, shapes and dtypes, without values.

    Args:
        view: The model.
        changes: The layers whose settings are read with the meaning of Keras 2, each with the change.
    """
    data = {
        "side": view.side,
        "name": view.name,
        "origin": view.origin,
        "fingerprint": view.fingerprint,
        "facts": dict(view.facts),
        "inputs": [{"name": spec.name, "shape": list(spec.shape), "dtype": spec.dtype} for spec in view.input_specs],
        "layers": [_layer_json(layer) for layer in view.layers],
        "read_as_in_keras_2": [{"layer": layer, "change": change} for layer, change in changes],
    }
    return json.dumps(data, indent=1)


def rules_text(rules: "Sequence[Rule]") -> str:
    """Return the rules, each with its note below it, then the classes that need no rule, then the unsupported ones."""
    from keras3conv.width import columns, folded

    lines = ["torch  <->  keras", "-" * columns()]
    for rule in rules:
        line = rule.name.replace(" <-> ", "  <->  ")
        lines += [line] if len(line) <= columns() else line.replace("  <->  ", "\n  <->  ").split("\n")
        lines += [folded(f"    {rule.note}")] if rule.note else []
    otherwise, without = (
        [folded(f"{', '.join(names)}\n    {reason}") for reason, names in _by_reason(classes)]
        for classes in (WITHOUT_RULE, UNSUPPORTED)
    )
    counted = f"{count(len(rules), 'rule')}; {count(len(UNSUPPORTED), 'class', 'classes')} without one:"
    return "\n".join([*lines, "", f"{_OTHERWISE}:", *otherwise, "", counted, *without])


_OTHERWISE = "Classes that are supported without a rule, and how"
_UNSUPPORTED = "Classes without a rule, and why"


def rules_markdown(rules: "Sequence[Rule]") -> str:
    """Return the rules as a Markdown table.

    Rules for classes that differ only in a number (Conv1d, Conv2d) share a line; so do rules for the same torch class.
    """
    from keras3conv.report.markdown import escape

    names = [rule.name.split(" <-> ") for rule in rules]
    rows = [(_short(torch, "torch."), _short(keras, "keras.")) for torch, keras in names]
    grouped: dict[tuple[str, str], list[str]] = {}
    for line in collapse(rows, [rule.note for rule in rules]):
        grouped.setdefault((line.paths[0], rules[line.places[0]].note), []).append(f"`{line.paths[1]}`")
    lines = ["| PyTorch | Keras 3 | note |", "| --- | --- | --- |"]
    lines += [f"| `{torch}` | {', '.join(keras)} | {escape(note)} |" for (torch, note), keras in grouped.items()]
    for title, classes in ((_OTHERWISE, WITHOUT_RULE), (_UNSUPPORTED, UNSUPPORTED)):
        lines += ["", f"{title}:", "", "| classes | reason |", "| --- | --- |"]
        grouped_classes = _by_reason(classes)
        lines += [
            f"| {', '.join(f'`{name}`' for name in names)} | {escape(reason)} |" for reason, names in grouped_classes
        ]
    return "\n".join(lines)


def _short(name: str, prefix: str) -> str:
    """Return a class name without the package: "Linear" for "torch.nn.Linear", "2 GRU" for "2 torch.nn.GRU".

    Args:
        name: The name.
        prefix: The package with a dot, such as "torch.nn.".
    """
    return " ".join(part.removeprefix(prefix) for part in name.split(" "))


def rules_json(rules: "Sequence[Rule]") -> str:
    """Return the rules (classes, variant, note, agreement in training) and the classes without a rule, as JSON."""
    supported = [
        {"torch": rule.torch, "keras": rule.keras, "variant": rule.variant, "note": rule.note, "train": rule.train}
        for rule in rules
    ]
    return json.dumps(
        {"supported": supported, "otherwise": dict(WITHOUT_RULE), "unsupported": dict(UNSUPPORTED)}, indent=1
    )


def _by_reason(classes: Mapping[str, str]) -> Iterable[tuple[str, list[str]]]:
    """Group the layer classes that have no rule by the reason why they have none.

    Args:
        classes: The reason, by the name of the class.

    Returns:
        Each reason with the short names of its classes.
    """
    found: dict[str, list[str]] = {}
    for name, reason in classes.items():
        short = name.replace("torch.nn.", "nn.").replace("keras.layers.", "layers.")
        found.setdefault(reason, []).append(short)
    return found.items()


def _layer_rows(view: ModelView, *, every: bool, alone: bool) -> Iterator[tuple[str, ...]]:
    listed = forms_of(view.layers)
    shown = [every or bool(example.tensors) for example in listed.examples]
    places = [place for place, form in enumerate(listed.forms) if shown[form]]
    keys = [listed.forms[place] for place in places]
    groups = collapse([(listed.paths[place],) for place in places], [*enumerate(keys)] if every else keys)
    for line in groups:
        layer = listed.examples[keys[line.places[0]]]
        times = f" (x {len(line.places)})" if len(line.places) > 1 else ""
        shapes = (guessed_parameters(layer),) if alone else ()
        kind = likely(layer) if alone else layer.kind
        tensors = ", ".join(map(_tensor_text, layer.tensors))
        yield f"{line.paths[0] or '(the model itself)'}{times}", kind or "-", tensors, *shapes


def _tensor_text(tensor: TensorRef) -> str:
    dtype = "" if tensor.dtype == "float32" else f" {tensor.dtype}"
    return f"{tensor.role} {tensor.shape}{dtype}"


def _layer_json(layer: LayerView) -> dict[str, Any]:
    tensors = [
        {
            "path": tensor.path,
            "role": tensor.role,
            "shape": list(tensor.shape),
            "dtype": tensor.dtype,
            "trainable": tensor.trainable,
        }
        for tensor in layer.tensors
    ]
    return {"path": layer.path, "class": layer.kind, "tensors": tensors}


def _bytes_each(dtype: str) -> int:
    from keras3conv.formats.safe.source import dtype_named

    return dtype_named(dtype).itemsize


def _size(size: int) -> str:
    """Return a readable number of bytes, such as "4.8 KiB"."""
    if size < 1024:
        return f"{size:,} bytes"
    power = min((size.bit_length() - 1) // 10, 4)
    return f"{size / 1024**power:,.1f} {('KiB', 'MiB', 'GiB', 'TiB')[power - 1]}"
