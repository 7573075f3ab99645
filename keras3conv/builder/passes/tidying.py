"""What a person would write shorter, and torch computes faster: several statements that torch has one for.

Every rewriting here is exact: a padding with zeros is the convolution's own, the parts of `relu6(x + 3) / 6` stand
together, an axis that is reduced and comes back is kept. Only a value that nobody else needs is left out.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from keras3conv.builder.passes.folding import overwriting, uses_of
from keras3conv.builder.program.names import OWN_LAYERS
from keras3conv.builder.program.program import Module, Program, Step
from keras3conv.rules.rule import LayerSpec

_CALL = "{module}({0})"

_POSITIVE = ("F.relu({0})", "F.relu6({0})", "torch.sigmoid({0})", "F.hardsigmoid({0})")
"""Functions that return nothing below zero: to a maximum of such values, zeros around them add nothing."""


@dataclass(frozen=True, kw_only=True)
class _Pair:
    """Two statements, the second of which is all that needs what the first makes.

    Attributes:
        program: The program that they stand in.
        first: The one.
        second: The other; its first input is what the one makes.
    """

    program: Program
    first: Step
    second: Step

    def module(self, step: Step) -> Module | None:
        """The submodule that a statement calls, if that is all it does, and nothing else calls it."""
        alone = step.template == _CALL and sum(one.module == step.module for one in self.program.steps) == 1
        return self.program.modules[step.module] if alone else None


_Rewriting = Callable[[_Pair], tuple[Step, Mapping[str, Module]] | None]
"""The one statement for two, with the submodules that are other ones; None where there is none."""


def tidied(program: Program) -> Program:
    """The program with fewer statements that compute the same."""
    for rewriting in (_padding, _hard_sigmoid, _kept_axes):
        program = _rewritten(program, rewriting)
    used = {step.module for step in program.steps}
    modules = {name: module for name, module in program.modules.items() if name in used}
    return overwriting(replace(program, modules=modules))


def _rewritten(program: Program, rewriting: _Rewriting) -> Program:
    """The program after every pair of statements was looked at once, from the first on."""
    steps = {step.outputs: step for step in program.steps}
    maker = {output: step.outputs for step in program.steps for output in step.outputs}
    modules, uses = dict(program.modules), uses_of(program)
    for second in program.steps:
        name = second.inputs[0] if second.inputs else ""
        first = steps.get(maker.get(name, ()))
        if first is None or uses[name] != 1 or len(first.outputs) != 1:
            continue
        if found := rewriting(_Pair(program=program, first=first, second=second)):
            steps[second.outputs] = found[0]
            modules |= found[1]
            del steps[first.outputs]
    return replace(program, steps=tuple(steps.values()), modules=modules)


def _padding(pair: _Pair) -> tuple[Step, Mapping[str, Module]] | None:
    """Zeros around an image, and what is then slid over it."""
    pad, layer = pair.module(pair.first), pair.module(pair.second)
    if pad is None or layer is None or not pad.spec.kind.startswith("torch.nn.ZeroPad"):
        return None
    rank = int(pad.spec.kind[-2])
    if {*_numbers(layer.spec.config.get("padding", 0), rank)} != {0}:
        return None
    ends = _ends(pad.spec.config["padding"], rank)
    if all(start == end for start, end in ends):
        spec = _evenly(pair, layer, tuple(end for _, end in ends))
    else:
        spec = _unevenly(layer, ends)
    if spec is None:
        return None
    return replace(pair.second, inputs=pair.first.inputs), {layer.name: replace(layer, spec=spec)}


def _evenly(pair: _Pair, layer: Module, around: tuple[int, ...]) -> LayerSpec | None:
    """A layer with padding of its own."""
    config = {**layer.spec.config, "padding": around}
    return replace(layer.spec, config=config) if _pads_itself(pair, layer, around) else None


def _unevenly(layer: Module, ends: Sequence[tuple[int, int]]) -> LayerSpec | None:
    """A depthwise convolution with more padding behind; with others, computing with zeros takes longer than a copy."""
    config = layer.spec.config
    depthwise = layer.spec.kind == "torch.nn.Conv2d" and config.get("groups", 1) == config["in_channels"] > 1
    plain = config.get("padding_mode", "zeros") == "zeros" and {*_numbers(config.get("dilation", 1), 2)} == {1}
    if not depthwise or not plain or any(start > end for start, end in ends):
        return None
    kept = {name: _one(config[name]) for name in _KEPT if name in config}
    padding = {"padding": _one(tuple(end for _, end in ends)), "less": tuple(end - start for start, end in ends)}
    return LayerSpec(kind=f"{OWN_LAYERS}.UnevenConv2d", config={**kept, **padding})


_KEPT = ("in_channels", "out_channels", "kernel_size", "stride", "groups", "bias")
"""What an uneven convolution is made with beside its padding."""


def _pads_itself(pair: _Pair, layer: Module, around: tuple[int, ...]) -> bool:
    """Whether a layer's own padding is the same as zeros around what it is given."""
    kind, config = layer.spec.kind.removeprefix("torch.nn.")[:-2], layer.spec.config
    if kind == "Conv":
        return bool(config.get("padding_mode", "zeros") == "zeros")
    if kind not in ("MaxPool", "AvgPool") or config.get("ceil_mode"):
        return False
    half = all(2 * pad <= size for pad, size in zip(around, _numbers(config["kernel_size"], len(around)), strict=True))
    if kind == "AvgPool":
        return half and bool(config.get("count_include_pad", True))
    makers = [step for step in pair.program.steps if step.outputs == pair.first.inputs]
    return half and bool(makers) and makers[0].template in _POSITIVE


def _ends(padding: Any, rank: int) -> list[tuple[int, int]]:
    """What is padded before and behind each axis; torch names the last axis first."""
    numbers = _numbers(padding, 2 * rank)
    return [(numbers[place], numbers[place + 1]) for place in range(2 * rank - 2, -1, -2)]


def _one(value: Any) -> Any:
    """One number for equal ones."""
    return value[0] if isinstance(value, tuple) and len({*value}) == 1 else value


def _numbers(value: Any, count: int) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, tuple | list) else (value,) * count


_SIXTH = re.compile(r"\{0\} \* (0\.1666666\d*)|\{0\} / (6|6\.0)")


def _hard_sigmoid(pair: _Pair) -> tuple[Step, Mapping[str, Module]] | None:
    """`relu6(x + 3) / 6`; in two stages, for a pair is looked at: the first keeps what was added.

    It is not made `F.hardsigmoid`, whose gradient is that of single precision in double precision, too.
    """
    first, second = pair.first.template, pair.second.template
    numbers = "float" in pair.program.values[pair.first.inputs[0]].dtype
    if numbers and first in ("{0} + 3.0", "{0} + 3", "3.0 + {0}", "3 + {0}") and second == "F.relu6({0})":
        return replace(pair.second, template=_SHIFTED, inputs=pair.first.inputs), {}
    if first == _SHIFTED and _SIXTH.fullmatch(second):
        return replace(pair.second, template=f"{_SHIFTED} / 6", inputs=pair.first.inputs), {}
    return None


_SHIFTED = "F.relu6({0} + 3)"


_REDUCED = re.compile(r"\{0\}\.(mean|sum|amax|amin)\(dim=(\d+|\([\d, ]+\))\)")
_NEW_AXES = re.compile(r"\{0\}\[((?::|None)(?:, (?::|None))*)\]")


def _kept_axes(pair: _Pair) -> tuple[Step, Mapping[str, Module]] | None:
    """Axes that a reduction removes, and that are put back at once."""
    reduced, indexed = _REDUCED.fullmatch(pair.first.template), _NEW_AXES.fullmatch(pair.second.template)
    if reduced is None or indexed is None:
        return None
    gone = {int(number) for number in re.findall(r"\d+", reduced[2])}
    marks = indexed[1].split(", ")
    rank = pair.program.values[pair.first.inputs[0]].rank
    new = {place for place, mark in enumerate(marks) if mark == "None"}
    if gone != new or (len(marks) > rank):
        return None
    template = f"{{0}}.{reduced[1]}(dim={reduced[2]}, keepdim=True)"
    return replace(pair.second, template=template, inputs=pair.first.inputs), {}


__all__ = ["tidied"]
