"""Replace pairs of torch statements by one equivalent statement, to make the code shorter and faster.

Padding with zeros becomes the `padding` argument of the convolution, the parts of `relu6(x + 3) / 6` become one
statement, and a reduction keeps an axis instead of removing and adding it. A value is removed only if it is not used
elsewhere.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from keras3conv.builder.passes.folding import called_module, overwriting
from keras3conv.builder.program.names import OWN_LAYERS
from keras3conv.builder.program.operation import INDEX, Operation, operator
from keras3conv.builder.program.program import Module, Program, Step
from keras3conv.model.graph import Ref
from keras3conv.rules.rule import LayerSpec

_RELU6 = "torch.nn.functional.relu6"

_NOT_NEGATIVE = frozenset(
    {"torch.nn.functional.relu", _RELU6, "torch.sigmoid", "torch.nn.functional.hardsigmoid"}
)  # fmt: skip
"""Functions whose results are never negative, so that zero padding does not change the maximum of their results."""


@dataclass(frozen=True, kw_only=True)
class _Pair:
    """Two statements, of which only the second uses the result of the first.

    Attributes:
        program: The program that contains them.
        first: The first statement.
        second: The second statement; its first input is the output of the first statement.
    """

    program: Program
    first: Step
    second: Step

    def module(self, step: Step) -> Module | None:
        """Return the submodule that a statement calls, if it is called nowhere else; None for all other statements."""
        module = called_module(step, self.program)
        return module if module and self.program.module_uses[module.name] == 1 else None

    def joined(self, expression: Operation) -> Step:
        """Return the second statement with the merged expression as its right side."""
        return replace(self.second, expression=expression)


_Rewriting = Callable[[_Pair], tuple[Step, Mapping[str, Module]] | None]
"""A function that merges a pair of statements: it returns the merged statement and the changed submodules, or None."""


def tidied(program: Program) -> Program:
    """Return an equivalent program in which pairs of statements, such as a padding and a convolution, are one."""
    for rewriting in (_padding, _hard_sigmoid, _kept_axes):
        program = _rewritten(program, rewriting)
    used = {step.module for step in program.steps}
    modules = {name: module for name, module in program.modules.items() if name in used}
    return overwriting(replace(program, modules=modules))


def _rewritten(program: Program, rewriting: _Rewriting) -> Program:
    """Return the program after one attempt to merge each pair of statements, from the first pair to the last.

    Args:
        program: The program.
        rewriting: Returns the merged statement of a pair, or None to leave the pair unchanged.
    """
    steps = {step.outputs: step for step in program.steps}
    maker = {output: step.outputs for step in program.steps for output in step.outputs}
    modules = dict(program.modules)
    for second in program.steps:
        name = second.inputs[0] if second.inputs else ""
        first = steps.get(maker.get(name, ()))
        if first is None or program.uses[name] != 1 or len(first.outputs) != 1:
            continue
        if found := rewriting(_Pair(program=program, first=first, second=second)):
            steps[second.outputs] = found[0]
            modules |= found[1]
            del steps[first.outputs]
    return replace(program, steps=tuple(steps.values()), modules=modules)


def _padding(pair: _Pair) -> tuple[Step, Mapping[str, Module]] | None:
    """Merge a padding with zeros into the layer after it, as the layer's own padding; None if impossible."""
    pad, layer = pair.module(pair.first), pair.module(pair.second)
    if pad is None or layer is None or not pad.spec.kind.startswith("torch.nn.ZeroPad"):
        return None
    rank = int(pad.spec.kind[-2])
    if {*_numbers(layer.spec.config.get("padding", 0), rank)} != {0}:
        return None
    ends = _ends(pad.spec.config["padding"], rank)
    if any(start < 0 or end < 0 for start, end in ends):  # a crop, which no layer has as an argument
        return None
    if all(start == end for start, end in ends):
        spec = _evenly(pair, layer, tuple(end for _, end in ends))
    else:
        spec = _unevenly(layer, ends)
    if spec is None:
        return None
    step = pair.joined(replace(pair.second.expression, args=pair.first.expression.args))
    return step, {layer.name: replace(layer, spec=spec)}


def _evenly(pair: _Pair, layer: Module, around: tuple[int, ...]) -> LayerSpec | None:
    """Return the layer with the argument `padding`; None if this argument cannot replace the padding before the layer.

    Args:
        pair: The padding with zeros and the layer after it.
        layer: The layer.
        around: The padding at both ends of each axis.
    """
    config = {**layer.spec.config, "padding": around}
    return replace(layer.spec, config=config) if _pads_with_zeros(pair, layer, around) else None


def _unevenly(layer: Module, pads: Sequence[tuple[int, int]]) -> LayerSpec | None:
    """Return an `UnevenConv2d`, a convolution with more padding at the end, for a depthwise convolution; else None.

    For other convolutions `UnevenConv2d` is slower than a separate padding.

    Args:
        layer: The layer.
        pads: The padding at the start and the end of each axis.
    """
    config = layer.spec.config
    is_depthwise = layer.spec.kind == "torch.nn.Conv2d" and config.get("groups", 1) == config["in_channels"] > 1
    is_plain = config.get("padding_mode", "zeros") == "zeros" and {*_numbers(config.get("dilation", 1), 2)} == {1}
    if not is_depthwise or not is_plain or any(start > end for start, end in pads):
        return None
    kept = {name: _one(config[name]) for name in _KEPT if name in config}
    padding = {"padding": _one(tuple(end for _, end in pads)), "less": tuple(end - start for start, end in pads)}
    return LayerSpec(kind=f"{OWN_LAYERS}.UnevenConv2d", config={**kept, **padding})


_KEPT = ("in_channels", "out_channels", "kernel_size", "stride", "groups", "bias")
"""The arguments that an `UnevenConv2d` takes over from the convolution that it replaces."""


def _pads_with_zeros(pair: _Pair, layer: Module, around: tuple[int, ...]) -> bool:
    """Return True if the `padding` argument of a layer has the same effect as a zero padding of its input.

    Args:
        pair: A padding with zeros and the layer after it.
        layer: The layer.
        around: The padding at both ends of each axis.
    """
    kind, config = layer.spec.kind.removeprefix("torch.nn.")[:-2], layer.spec.config
    if kind == "Conv":
        return bool(config.get("padding_mode", "zeros") == "zeros")
    if kind not in ("MaxPool", "AvgPool") or config.get("ceil_mode"):
        return False
    sizes = _numbers(config["kernel_size"], len(around))
    if not all(2 * pad <= size for pad, size in zip(around, sizes, strict=True)):  # torch's limit
        return False
    if kind == "AvgPool":
        return bool(config.get("count_include_pad", True))
    maker = pair.program.makers.get(pair.first.inputs[0])
    return maker is not None and _is_not_negative(maker.expression)


def _is_not_negative(expression: Any) -> bool:
    match expression:
        case Operation("function", name, (Ref(),), kwargs) if not kwargs:
            return name in _NOT_NEGATIVE
    return False


def _ends(padding: Any, rank: int) -> list[tuple[int, int]]:
    """Return the (start, end) padding of each of `rank` axes from torch's flat list, which starts at the last axis."""
    numbers = _numbers(padding, 2 * rank)
    return [(numbers[place], numbers[place + 1]) for place in range(2 * rank - 2, -1, -2)]


def _one(value: Any) -> Any:
    """Return the number if a value is a tuple of equal numbers, (2, 2) -> 2; any other value unchanged."""
    return value[0] if isinstance(value, tuple) and len({*value}) == 1 else value


def _numbers(value: Any, count: int) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, tuple | list) else (value,) * count


def _hard_sigmoid(pair: _Pair) -> tuple[Step, Mapping[str, Module]] | None:
    """Merge two statements that are part of `relu6(x + 3) / 6` into one; return None for other statements.

    `F.hardsigmoid` is not used, because its gradient has only single precision for inputs in double precision.
    """
    given = pair.program.values[pair.first.inputs[0]]
    match pair.first.expression, pair.second.expression:
        case (
            Operation("operator", "+", (Ref() as x, 3) | (3, Ref() as x)),
            Operation("function", name, (Ref(),), kwargs),
        ) if name == _RELU6 and not kwargs and "float" in given.dtype:
            return pair.joined(Operation("function", _RELU6, (operator("+", x, 3),))), {}
        case Operation() as shifted, Operation("operator", "*" | "/" as sign, (Ref(), float() | int() as factor)):
            if _is_shifted_relu6(shifted) and _is_sixth(sign, factor):
                return pair.joined(shifted / 6), {}
    return None


def _is_shifted_relu6(expression: Operation) -> bool:
    match expression:
        case Operation("function", name, (Operation("operator", "+", (Ref(), 3)),), kwargs) if not kwargs:
            return name == _RELU6
    return False


def _is_sixth(sign: str, factor: float) -> bool:
    """Return True for ("/", 6), and for ("*", 1/6) with 1/6 in single or double precision."""
    return factor == 6 if sign == "/" else abs(factor - 1 / 6) < 1e-8


_REDUCTIONS = frozenset({"mean", "sum", "amax", "amin"})


def _kept_axes(pair: _Pair) -> tuple[Step, Mapping[str, Module]] | None:
    """Merge a reduction and an index that adds the reduced axes again into one reduction with `keepdim`.

    Returns:
        The merged statement, and an empty dict because no submodule changes; None for other pairs of statements.
    """
    match pair.first.expression, pair.second.expression:
        case (
            Operation("method", name, (Ref() as x,), {"dim": dim, **others}) as reduced,
            Operation("operator", sign, (Ref(), tuple() as key)),
        ) if name in _REDUCTIONS and not others and sign == INDEX:
            rank = pair.program.values[x.name].rank
            if _new_axes(key) == set(_numbers(dim, 1)) and len(key) <= rank:
                return pair.joined(replace(reduced, kwargs={"dim": dim, "keepdim": True})), {}
    return None


def _new_axes(key: tuple[Any, ...]) -> set[int] | None:
    """Return the positions of the axes that an index adds; None if the index also selects values."""
    if any(one is not None and one != slice(None) for one in key):
        return None
    return {position for position, one in enumerate(key) if one is None}
