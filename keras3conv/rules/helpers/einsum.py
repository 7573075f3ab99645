"""Read einsum equations that are one matrix product: "abc,cde->abde", "abcd,cde->abe", "...i,io->...o".

The matrix product has two merged axes. Its inputs are the axes that the input and the kernel have in common, merged in
the order of the input. Its outputs are the axes that the kernel and the output have in common, merged in the order of
the output.
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
    """An einsum equation that is one matrix product; each letter is an axis, such as "abc,cde->abde".

    Attributes:
        input_axes: The axes of the input, such as "abc".
        kernel: The axes of the kernel, such as "cde".
        output_axes: The axes of the output, such as "abde".
        before: Whether an ellipsis precedes the axes of input and output ("...i").
        after: Whether an ellipsis follows the axes of input and output ("ai...").
        bias: The axes of the bias; None if there is no bias.
    """

    input_axes: str
    kernel: str
    output_axes: str
    before: bool = False
    after: bool = False
    bias: str | None = None

    @property
    def inputs(self) -> str:
        """The letters of the axes over which the product sums, in the order of the input."""
        return "".join(axis for axis in self.input_axes if axis in self.kernel)

    @property
    def outputs(self) -> str:
        """The letters of the axes that kernel and output have in common, in the order of the output."""
        return "".join(axis for axis in self.output_axes if axis in self.kernel)

    def places(self, axes: str, among: str) -> tuple[int, ...]:
        """Return the positions of some axes in the input or the output; negative ones if an ellipsis precedes its axes.

        Args:
            axes: The letters of the axes, such as "de".
            among: The letters of the input or of the output, such as "abde".
        """
        shift = len(among) if self.before else 0
        return tuple(among.index(axis) - shift for axis in axes)


def read_product(config: Config) -> Product:
    """Return the product that an EinsumDense computes; raise `RuleError` if it is not one matrix product.

    Args:
        config: The configuration of the EinsumDense, with its equation.
    """
    equation, bias = config.get("equation"), config.get("bias_axes")
    if equation is None:
        raise RuleError(
            "the equation of an EinsumDense is unknown, because the file or model gives no configuration of it"
            ": use the live model, or a file with the architecture (.keras)"
        )
    match = _EQUATION.fullmatch(equation)
    # In Keras, the ellipsis must be at the same end of the input and of the output.
    if match is None or match.group(1, 3) != match.group(5, 7) or all(match.group(1, 3)):
        raise RuleError(
            f"EinsumDense has the equation {equation!r}, which is not of the form 'input,kernel->output'"
            ": write it in this form"
        )
    before, given, after, kernel, _, made, _ = match.groups()
    product = Product(
        input_axes=given, kernel=kernel, output_axes=made, before=bool(before), after=bool(after), bias=bias
    )
    for fact in _reasons_against(product):
        raise RuleError(
            f"EinsumDense({equation!r}, bias_axes={bias!r}) cannot become a Linear, because it is not one matrix "
            f"product: {fact}"
        )
    return product


def with_usual_letters(product: Product) -> Product:
    """Return an einsum product whose axes are renamed to a, b, c, ... in the order of their first use.

    Products that differ only in the letters become equal.

    Args:
        product: The equation, as its parts.
    """
    letters = dict.fromkeys(product.input_axes + product.kernel + product.output_axes)
    table = str.maketrans(dict(zip(letters, "abcdefghijklmnopqrstuvwxyz", strict=False)))
    renamed = {name: getattr(product, name).translate(table) for name in ("input_axes", "kernel", "output_axes")}
    return replace(product, **renamed, bias=product.bias and product.bias.translate(table))


def _reasons_against(product: Product) -> list[str]:
    given, kernel, made = set(product.input_axes), set(product.kernel), set(product.output_axes)
    batched, summed = "".join(sorted(given & kernel & made)), "".join(sorted(given - kernel - made))
    kept = ["".join(axis for axis in side if axis not in kernel) for side in (product.input_axes, product.output_axes)]
    facts = {
        f"axis {batched} is in input, kernel and output: this is a batched product": bool(batched),
        f"axis {summed} is only in the input, so it is summed without weights": bool(summed),
        f"the axes {kept[0]}, which the kernel lacks, become {kept[1]} in the output": kept[0] != kept[1],
        "the kernel has no axis of the input, or no axis of the output": not kernel & given or not kernel & made,
        "an axis occurs twice in one operand": any(
            len(set(side)) < len(side) for side in (product.input_axes, product.kernel, product.output_axes)
        ),
        "the bias does not have exactly the output axes of the kernel": product.bias is not None
        and set(product.bias) != set(product.outputs),
    }
    return [fact for fact, holds in facts.items() if holds]


def kernel_pattern(product: Product, shape: Shape, *, outputs_first: bool = True) -> Axes:
    """Return the transform from torch's 2-D weight to the kernel of an EinsumDense.

    Args:
        product: The equation, as its parts.
        shape: The shape of the kernel.
        outputs_first: Whether torch's weight has the shape (out, in), as in a Linear; else (in, out).
    """
    sizes = dict(zip(product.kernel, shape, strict=True))
    sides = (product.outputs, product.inputs) if outputs_first else (product.inputs, product.outputs)
    return _axes(" ".join(map(_group, sides)), " ".join(map(_name, product.kernel)), sides, sizes)


def bias_pattern(product: Product, kernel_shape: Shape, bias_shape: Shape | None) -> Axes:
    """Return the transform from torch's 1-D bias to Keras' bias, which is broadcast over the output.

    The axes of Keras' bias are those of the output from the first kernel axis on; axes that are not in the kernel have
    size one.

    Args:
        product: The equation, as its parts.
        kernel_shape: The shape of the Keras kernel.
        bias_shape: The shape of Keras' bias; None if unknown.
    """
    sizes = dict(zip(product.kernel, kernel_shape, strict=True))
    first = min(map(product.output_axes.index, product.outputs))
    tokens = [_name(axis) if axis in product.outputs else "1" for axis in product.output_axes[first:]]
    if bias_shape is not None:
        tokens += ["1"] * (len(bias_shape) - len(tokens))
    return _axes(_group(product.outputs), " ".join(tokens), (product.outputs,), sizes)


def _axes(left: str, right: str, groups: tuple[str, ...], sizes: Mapping[str, int]) -> Axes:
    # The size of the first axis of a group is derived, not fixed, because the number of heads may differ.
    merged = [axis for group in groups for axis in group[1:]]
    return Axes(f"{left} -> {right}", **{_name(axis): sizes[axis] for axis in merged})


def _group(axes: str) -> str:
    names = " ".join(map(_name, axes))
    return f"({names})" if len(axes) > 1 else names


def _name(axis: str) -> str:
    """Return the name of an einsum axis in an `Axes` pattern, which allows only lower-case letters: "B" -> "b_"."""
    return axis if axis.islower() else f"{axis.lower()}_"


def sizes_of_product(product: Product, shape: Shape) -> tuple[int, int]:
    """Return the number of inputs and the number of outputs of the matrix product of an einsum equation.

    Args:
        product: The equation, as its parts.
        shape: The shape of the kernel.
    """
    sizes = dict(zip(product.kernel, shape, strict=True))
    return prod(sizes[axis] for axis in product.inputs), prod(sizes[axis] for axis in product.outputs)


def around(product: Product, shape: Shape, owner: LayerSpec, *, views: bool = False) -> LayerSpecs:
    """Return the torch layers for an EinsumDense: the layer with the weights, and functions before and after it.

    The functions permute, merge and split axes.

    Args:
        product: The parts of the einsum equation.
        shape: The shape of the Keras kernel.
        owner: The torch layer that has the weights, such as a Linear.
        views: Whether the torch layer calls `view` on its input, which fails unless permuted axes are made contiguous.
    """
    sizes = dict(zip(product.kernel, shape, strict=True))
    before, after = [], []
    ends = tuple(range(-len(product.inputs), 0))
    if product.after or not product.input_axes.endswith(product.inputs):
        before.append(_movedim(product.places(product.inputs, product.input_axes), ends))
        before += [LayerSpec(kind="torch.Tensor.contiguous")] * views
    if len(product.inputs) > 1:
        before.append(LayerSpec(kind="torch.nn.Flatten", config={"start_dim": ends[0], "end_dim": -1}))
    ends = tuple(range(-len(product.outputs), 0))
    if len(product.outputs) > 1:
        split = tuple(sizes[axis] for axis in product.outputs)
        after.append(LayerSpec(kind="torch.nn.Unflatten", config={"dim": -1, "unflattened_size": split}))
    if product.after or not product.output_axes.endswith(product.outputs):
        after.append(_movedim(ends, product.places(product.outputs, product.output_axes)))
    return (*before, owner, *after)


def _movedim(source: tuple[int, ...], destination: tuple[int, ...]) -> LayerSpec:
    return LayerSpec(kind="torch.movedim", config={"source": source, "destination": destination})
