"""Describe the layers that a framework needs before or after a layer to compute what the other framework's layer does.

A convolution of Keras with padding "same" and a stride pads one side more than the other. Torch needs a `ZeroPad2d`
before its convolution for that.
"""

from dataclasses import dataclass, field
from math import isinf

from keras3conv.model.views import LayerView
from keras3conv.rules.rule import Config, LayerSpec, LayerSpecs


@dataclass(frozen=True, kw_only=True)
class Beside:
    """The layers to call before and after a layer; as text "after nn.ZeroPad2d(padding=1)", empty without any.

    Attributes:
        before: The layers to call before it, in the order of their calls.
        after: The layers to call after it.
        arguments: Other arguments of the layer that change with the one that is compared, such as `ceil_mode`.
        note: The end of a comment on them, such as on the sizes for which they are right; may be empty.
    """

    before: LayerSpecs = ()
    after: LayerSpecs = ()
    arguments: Config = field(default_factory=dict)
    note: str = ""

    def __bool__(self) -> bool:
        return bool(self.before or self.after or self.arguments)

    def __str__(self) -> str:
        texts = [f"with {_listed(self.arguments)}"] if self.arguments else []
        for word, specs in (("after", self.before), ("before", self.after)):
            if specs:
                texts.append(f"{word} {', '.join(map(_written, specs))}")
        return " and ".join(texts)

    def with_lines(self, line: str, path: str) -> str:
        """Return lines to paste: one that changes an argument of the layer, between the calls of the other layers.

        Args:
            line: The line that changes the argument.
            path: The path of the layer, for the comments.
        """
        before = [f"x = {_call(spec)}  # before {path}{self.note}" for spec in self.before]
        after = [f"x = {_call(spec)}  # after {path}" for spec in self.after]
        others = [f"{name}={_value(value)}  # {path}{self.note}" for name, value in self.arguments.items()]
        return "\n".join([*before, line, *others, *after])


NOTHING = Beside()


def around(specs: LayerSpecs, owner: LayerSpec, last: LayerSpec | None = None, note: str = "") -> Beside:
    """Return the layers before and after the layer with the weights, among those that a rule makes.

    Args:
        specs: The layers in the order of their calls.
        owner: The layer among them that has the weights.
        last: The last such layer, if there are several.
        note: The end of a comment on them.
    """
    place = next(number for number, spec in enumerate(specs) if spec is owner)
    end = next(number for number, spec in enumerate(specs) if spec is (last or owner))
    return Beside(before=specs[:place], after=specs[end + 1 :], note=note)


def at_this_size(keras: LayerView) -> str:
    """Return the end of a comment that a padding "same" of a Keras layer depends on the size of its input; or empty."""
    config, shapes = keras.config or {}, keras.run.inputs or ()
    strides = config.get("strides", 1)
    if config.get("padding") != "same" or not shapes:
        return ""
    axes = shapes[0][2:] if config.get("data_format") == "channels_first" else shapes[0][1:-1]
    return only_at_size(axes, strides if isinstance(strides, tuple) else (strides,) * len(axes))


def only_at_size(sizes: tuple[int | None, ...], strides: tuple[int, ...]) -> str:
    """Return the end of a comment: at a stride above 1, the padding of "same" depends on the size of the input.

    Args:
        sizes: The sizes of the input along the axes of the window; None or empty if they are unknown.
        strides: The stride along each axis of the window.
    """
    if max(strides, default=1) == 1 or not sizes or None in sizes:
        return ""
    return f'; for inputs of {"x".join(map(str, sizes))}: at another size "same" pads differently'


def _written(spec: LayerSpec) -> str:
    kind = spec.kind.replace("torch.nn.", "nn.").replace("keras.layers.", "layers.")
    return f"{kind}({_listed(spec.config)})"


def _call(spec: LayerSpec) -> str:
    padding = spec.config.get("padding")
    if spec.kind.startswith("torch.nn.ZeroPad") and isinstance(padding, tuple):
        return f"F.pad(x, {padding!r})"
    if spec.kind.startswith("keras.layers.ZeroPadding") and set(spec.config) == {"padding"}:
        return f"{spec.kind}({padding!r})(x)"
    name, arguments = spec.kind.replace("torch.nn.", "nn."), _listed(spec.config)
    if name.rpartition(".")[2].islower():  # a function, such as keras.ops.pad, takes the tensor with its arguments
        return f"{name}({', '.join(filter(None, ('x', arguments)))})"
    return f"{name}({arguments})(x)"


def _listed(config: Config) -> str:
    return ", ".join(f"{name}={_value(value)}" for name, value in config.items())


def _value(value: object) -> str:
    """Return a value as Python source; `repr` writes an infinite number as a name that Python does not have."""
    if isinstance(value, float) and isinf(value):
        return f'{"-" if value < 0 else ""}float("inf")'
    return repr(value)
