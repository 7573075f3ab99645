"""Read einsum equations that are one matrix product: "abc,cde->abde", "abcd,cde->abe", "...i,io->...o".

The axes that the input and the kernel share are the inputs of the product, merged in the order of the input; the axes
of the output that only the kernel has are its outputs, merged in the order of the output.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod

from keras3conv.errors import RuleError
from keras3conv.rules.rule import Config, LayerSpec, LayerSpecs
from keras3conv.transforms import Axes, Shape

_EQUATION = re.compile(r"(\.\.\.)?([a-zA-Z]+)(\.\.\.)?,([a-zA-Z]+)->(\.\.\.)?([a-zA-Z]+)(\.\.\.)?")


@dataclass(frozen=True, kw_only=True)
class Product:
    """The parts of an equation; an axis is a letter.

    Attributes:
        given: The axes of the input.
        kernel: The axes of the kernel.
        made: The axes of the output.
        before: Whether more axes come before the named ones ("...i").
        after: Whether more axes come after them ("ai...").
        bias: The axes of the bias; None where there is none.
    """

    given: str
    kernel: str
    made: str
    before: bool = False
    after: bool = False
    bias: str | None = None

    @property
    def inputs(self) -> str:
        """The axes that the product sums over, in the order of the input."""
        return "".join(axis for axis in self.given if axis in self.kernel)

    @property
    def outputs(self) -> str:
        """The axes that the product makes, in the order of the output."""
        return "".join(axis for axis in self.made if axis in self.kernel)

    def places(self, axes: str, among: str) -> tuple[int, ...]:
        """Return the indices of axes in the input or the output, counted from the end if more may come before them."""
        shift = len(among) if self.before else 0
        return tuple(among.index(axis) - shift for axis in axes)


def read_product(config: Config) -> Product:
    """Return the product that an EinsumDense computes; raises `RuleError` if it is not one matrix product."""
    equation, bias = config.get("equation"), config.get("bias_axes")
    if equation is None:
        raise RuleError("EinsumDense: its equation is needed, and is not known")
    match = _EQUATION.fullmatch(equation)
    # Keras refuses an equation with the ellipsis on different sides of the input and the output.
    if match is None or match.group(1, 3) != match.group(5, 7) or all(match.group(1, 3)):
        raise RuleError(f"EinsumDense({equation!r}) is not an equation of an input and a kernel")
    before, given, after, kernel, _, made, _ = match.groups()
    product = Product(given=given, kernel=kernel, made=made, before=bool(before), after=bool(after), bias=bias)
    for fact in _what_is_no_product(product):
        raise RuleError(f"EinsumDense({equation!r}, bias_axes={bias!r}) is not one matrix product: {fact}")
    return product


def with_usual_letters(product: Product) -> Product:
    """Return the same product with the letters a, b, c, ... in the order of their first use."""
    letters = dict.fromkeys(product.given + product.kernel + product.made)
    table = str.maketrans(dict(zip(letters, "abcdefghijklmnopqrstuvwxyz", strict=False)))
    renamed = {name: getattr(product, name).translate(table) for name in ("given", "kernel", "made")}
    return replace(product, **renamed, bias=product.bias and product.bias.translate(table))


def _what_is_no_product(product: Product) -> list[str]:
    given, kernel, made = set(product.given), set(product.kernel), set(product.made)
    kept = ["".join(axis for axis in side if axis not in kernel) for side in (product.given, product.made)]
    facts = {
        f"axis {''.join(sorted(given & kernel & made))} has a matrix for each of its places": given & kernel & made,
        f"axis {''.join(sorted(given - kernel - made))} is summed without a kernel": given - kernel - made,
        f"the kept axes {kept[0]} become {kept[1]}": kept[0] != kept[1],
        "the kernel has only axes of the input, or only axes of the output": not kernel & given or not kernel & made,
        "an axis is named twice": any(
            len(set(side)) < len(side) for side in (product.given, product.kernel, product.made)
        ),
        "the bias is not one number for each output": product.bias is not None
        and set(product.bias) != set(product.outputs),
    }
    return [fact for fact, holds in facts.items() if holds]


def kernel_pattern(product: Product, shape: Shape, *, outputs_first: bool = True) -> Axes:
    """Return the pattern from torch's matrix, (out, in) or (in, out), to the kernel of this shape."""
    sizes = dict(zip(product.kernel, shape, strict=True))
    sides = (product.outputs, product.inputs) if outputs_first else (product.inputs, product.outputs)
    return _axes(" ".join(map(_group, sides)), " ".join(map(_name, product.kernel)), sides, sizes)


def bias_pattern(product: Product, kernel_shape: Shape, bias_shape: Shape | None) -> Axes:
    """Return the pattern from torch's bias to that of Keras, which begins with the first output axis that it has."""
    sizes = dict(zip(product.kernel, kernel_shape, strict=True))
    first = min(map(product.made.index, product.outputs))
    tokens = [_name(axis) if axis in product.outputs else "1" for axis in product.made[first:]]
    if bias_shape is not None:
        tokens += ["1"] * (len(bias_shape) - len(tokens))
    return _axes(_group(product.outputs), " ".join(tokens), (product.outputs,), sizes)


def _axes(left: str, right: str, groups: tuple[str, ...], sizes: Mapping[str, int]) -> Axes:
    merged = [axis for group in groups for axis in group[1:]]  # the first is derived: the number of heads may differ
    return Axes(f"{left} -> {right}", **{_name(axis): sizes[axis] for axis in merged})


def _group(axes: str) -> str:
    names = " ".join(map(_name, axes))
    return f"({names})" if len(axes) > 1 else names


def _name(axis: str) -> str:
    """Return an axis name for a pattern, which has small letters only."""
    return axis if axis.islower() else f"{axis.lower()}_"


def sizes_of_product(product: Product, shape: Shape) -> tuple[int, int]:
    """Return the number of inputs and of outputs of the product for a kernel of this shape."""
    sizes = dict(zip(product.kernel, shape, strict=True))
    return prod(sizes[axis] for axis in product.inputs), prod(sizes[axis] for axis in product.outputs)


def around(product: Product, shape: Shape, owner: LayerSpec, *, views: bool = False) -> LayerSpecs:
    """Return the torch layer with the functions before and after it that move, merge and split axes.

    Args:
        product: The equation.
        shape: The shape of the kernel.
        owner: The torch layer.
        views: Whether it calls `view` on its input, for which moved axes must be copied.
    """
    sizes = dict(zip(product.kernel, shape, strict=True))
    before, after = [], []
    ends = tuple(range(-len(product.inputs), 0))
    if product.after or not product.given.endswith(product.inputs):
        before.append(_movedim(product.places(product.inputs, product.given), ends))
        before += [LayerSpec(kind="torch.Tensor.contiguous")] * views
    if len(product.inputs) > 1:
        before.append(LayerSpec(kind="torch.nn.Flatten", config={"start_dim": ends[0], "end_dim": -1}))
    ends = tuple(range(-len(product.outputs), 0))
    if len(product.outputs) > 1:
        split = tuple(sizes[axis] for axis in product.outputs)
        after.append(LayerSpec(kind="torch.nn.Unflatten", config={"dim": -1, "unflattened_size": split}))
    if product.after or not product.made.endswith(product.outputs):
        after.append(_movedim(ends, product.places(product.outputs, product.made)))
    return (*before, owner, *after)


def _movedim(source: tuple[int, ...], destination: tuple[int, ...]) -> LayerSpec:
    return LayerSpec(kind="torch.movedim", config={"source": source, "destination": destination})


__all__ = [
    "Product",
    "around",
    "bias_pattern",
    "kernel_pattern",
    "read_product",
    "sizes_of_product",
    "with_usual_letters",
]
