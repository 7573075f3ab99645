"""Recognise formulas that Keras has as one layer or operation (SiLU, GELU, RMS normalization, a bag of rows).

A formula is replaced only if its operators match the definition exactly, and nothing else uses the intermediate values.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import pi, sqrt
from typing import Any

from keras3conv.model.graph import Graph, Node, Ref, refs

_CASTS = ("to", "_to_copy", "type_as", "contiguous", "clone")
"""Cast operators that return their input unchanged if it already has the requested dtype."""


@dataclass
class _Uses:
    """The calls of a graph by the values that they compute, and the number of uses of each value."""

    makers: Mapping[str, Node]
    count: Mapping[str, int]

    def maker(self, value: Any, *names: str) -> Node | None:
        """Return the call that computes a value.

        None if its operator is not one of `names`, or if the value is used more than once.
        """
        node = self.source(value)
        single = node is not None and self.count.get(node.outputs[0].name, 0) == 1
        return node if node is not None and single and _name(node) in names else None

    def source(self, value: Any) -> Node | None:
        """Return the call that computes a value; calls in between that only return their input are left out."""
        node = self.makers.get(value.name) if isinstance(value, Ref) else None
        while node is not None and _passes_on(node, self.makers):
            value = node.arguments["self"]
            node = self.makers.get(value.name)
        return node

    def origin(self, value: Any) -> Any:
        """Return the value from which a value was computed by calls that return their input unchanged."""
        while isinstance(value, Ref) and value.name in self.makers and _passes_on(self.makers[value.name], self.makers):
            value = self.makers[value.name].arguments["self"]
        return value


def _name(node: Node) -> str:
    return node.kind.split(".")[1]


def _passes_on(node: Node, makers: Mapping[str, Node]) -> bool:
    given = node.arguments.get("self")
    if _name(node) not in _CASTS or not isinstance(given, Ref):
        return False
    before = makers.get(given.name)
    return before is None or before.outputs[0].dtype == node.outputs[0].dtype


def recognised(graph: Graph) -> Graph:
    """Return the call graph with known formulas, such as that of GELU, replaced by single calls."""
    makers = {output.name: node for node in graph.nodes for output in node.outputs}
    count: dict[str, int] = {}
    for name in [*(name for node in graph.nodes for name in node.inputs), *(ref.name for ref in refs(graph.outputs))]:
        count[name] = count.get(name, 0) + 1
    uses = _Uses(makers=makers, count=count)
    nodes = []
    for node in graph.nodes:
        found = next((made for pattern in _PATTERNS if (made := pattern(node, uses, graph))), None)
        nodes.append(found or node)
    return replace(graph, nodes=tuple(nodes)).pruned()


def _replaced(node: Node, name: str, arguments: Mapping[str, Any]) -> Node:
    return replace(node, kinds=(f"aten.{name}.default",), arguments=arguments, config={})


def _silu(node: Node, uses: _Uses, graph: Graph) -> Node | None:
    """Return a single call for the formula `x * sigmoid(x)` if `node` is its last call; else None."""
    if _name(node) != "mul":
        return None
    first, second = node.arguments.get("self"), node.arguments.get("other")
    for given, gate in ((first, second), (second, first)):
        sigmoid = uses.maker(gate, "sigmoid")
        if isinstance(given, Ref) and sigmoid is not None and uses.origin(sigmoid.arguments["self"]) == given:
            return _replaced(node, "silu", {"self": given})
    return None


def _gelu(node: Node, uses: _Uses, graph: Graph) -> Node | None:
    """Return a single call for the formula of GELU, exact or with tanh, if `node` is its last call; else None.

    The exact formula is `0.5 * x * (1 + erf(x / sqrt(2)))`.
    """
    if _name(node) != "mul":
        return None
    first, second = node.arguments.get("self"), node.arguments.get("other")
    for half, gate in ((first, second), (second, first)):
        given = _scaled(half, 0.5, uses)
        total = uses.maker(gate, "add")
        curve = uses.maker(total.arguments["self"], "erf", "tanh") if total is not None else None
        if given is None or total is None or curve is None or not _adds_one(total):
            continue
        inner = curve.arguments["self"]
        if _name(curve) == "erf" and _is_over_root_of_two(inner, given, uses):
            return _replaced(node, "gelu", {"self": given, "approximate": "none"})
        if _name(curve) == "tanh" and _is_tanh_argument(inner, given, uses):
            return _replaced(node, "gelu", {"self": given, "approximate": "tanh"})
    return None


def _scaled(value: Any, factor: float, uses: _Uses) -> Any:
    """Return the operand x if a value is computed as x times the number `factor`; else None."""
    product = uses.maker(value, "mul")
    is_scaled = product is not None and _is_number(product.arguments.get("other"), factor)
    return uses.origin(product.arguments["self"]) if product is not None and is_scaled else None


def _adds_one(total: Node) -> bool:
    return _is_number(total.arguments.get("other"), 1.0) and total.arguments.get("alpha", 1) == 1


def _is_number(value: Any, number: float) -> bool:
    return isinstance(value, int | float) and abs(value - number) <= 1e-15 * number


def _is_over_root_of_two(value: Any, tensor: Any, uses: _Uses) -> bool:
    quotient = uses.maker(value, "div")
    if quotient is not None and quotient.arguments.get("rounding_mode") is None:
        is_root = _is_number(quotient.arguments.get("other"), sqrt(2))
        return is_root and bool(uses.origin(quotient.arguments["self"]) == tensor)
    return bool(_scaled(value, sqrt(0.5), uses) == tensor)


def _is_tanh_argument(value: Any, tensor: Any, uses: _Uses) -> bool:
    """Return True if a value is computed as `sqrt(2 / pi) * (x + 0.044715 * x ** 3)` from the value `tensor`, x."""
    product = uses.maker(value, "mul")
    if product is None or not _is_number(product.arguments.get("other"), sqrt(2 / pi)):
        return False
    total = uses.maker(product.arguments["self"], "add")
    if total is None or total.arguments.get("alpha", 1) != 1:
        return False
    cube = uses.maker(total.arguments.get("other"), "mul")
    power = uses.maker(cube.arguments["self"], "pow") if cube is not None else None
    if cube is None or power is None or not _is_number(cube.arguments.get("other"), 0.044715):
        return False
    is_cube = power.arguments.get("exponent") in (3, 3.0) and uses.origin(power.arguments["self"]) == tensor
    return is_cube and bool(uses.origin(total.arguments["self"]) == tensor)


def _rms_norm(node: Node, uses: _Uses, graph: Graph) -> Node | None:
    """Return a single call for the formula of an RMS normalization if `node` is its last call; else None.

    The formula is `weight * (x * rsqrt(mean(x ** 2, -1, keepdim=True) + epsilon))`.
    """
    if _name(node) != "mul":
        return None
    parameters = {parameter.tensor.name: parameter for parameter in graph.parameters}
    first, second = node.arguments.get("self"), node.arguments.get("other")
    for weight, scaled in ((first, second), (second, first)):
        if not isinstance(weight, Ref) or weight.name not in parameters:
            continue
        found = _without_weight(scaled, uses)
        shape = parameters[weight.name].tensor.shape
        if found is not None and len(shape) == 1 and node.outputs[0].shape[-1] == shape[0]:
            given, epsilon = found
            arguments = {"input": given, "normalized_shape": [*shape], "weight": weight, "eps": epsilon}
            return _replaced(node, "rms_norm", arguments)
    return None


def _without_weight(scaled: Any, uses: _Uses) -> tuple[Ref, float] | None:
    """Return the input and the epsilon of the RMS normalization that computes `scaled`; None if there is none."""
    product = uses.maker(scaled, "mul")
    if product is None:
        return None
    first, second = product.arguments.get("self"), product.arguments.get("other")
    for given, factor in ((first, second), (second, first)):
        root = uses.maker(factor, "rsqrt")
        total = uses.maker(root.arguments["self"], "add") if root is not None else None
        epsilon = total.arguments.get("other") if total is not None else None
        if total is None or not isinstance(epsilon, float) or total.arguments.get("alpha", 1) != 1:
            continue
        mean = uses.maker(total.arguments["self"], "mean")
        square = uses.maker(mean.arguments["self"], "pow", "square") if mean is not None else None
        if mean is None or square is None or not isinstance(given, Ref) or not _is_over_last_axis(mean):
            continue
        is_square = _name(square) == "square" or square.arguments.get("exponent") in (2, 2.0)
        if is_square and uses.origin(square.arguments["self"]) == uses.origin(given):
            return given, epsilon
    return None


def _is_over_last_axis(mean: Node) -> bool:
    axes = mean.arguments.get("dim")
    rank = len(mean.outputs[0].shape)
    return (
        isinstance(axes, list) and len(axes) == 1 and axes[0] % rank == rank - 1 and bool(mean.arguments.get("keepdim"))
    )


def _normalized(node: Node, uses: _Uses, graph: Graph) -> Node | None:
    """Return a single call for the formula `x / max(norm(x, dim), epsilon)` if `node` is its last call; else None.

    The call is that of `functional.normalize`.
    """
    given = node.arguments.get("self")
    if _name(node) != "div" or node.arguments.get("rounding_mode") is not None or not isinstance(given, Ref):
        return None
    grown = uses.maker(node.arguments.get("other"), "expand_as", "expand")
    limited = uses.maker(grown.arguments["self"] if grown is not None else None, "clamp_min", "clamp")
    if limited is None or limited.arguments.get("max") is not None:
        return None
    norm, epsilon = uses.maker(limited.arguments["self"], "linalg_vector_norm"), limited.arguments.get("min")
    if norm is None or not isinstance(epsilon, float) or norm.arguments["self"] != given:
        return None
    axes, order = norm.arguments.get("dim"), norm.arguments.get("ord", 2)
    is_whole = graph.tensors[given.name].shape == node.outputs[0].shape
    if not isinstance(axes, list) or len(axes) != 1 or order != 2 or not norm.arguments.get("keepdim") or not is_whole:
        return None
    return _replaced(node, "normalize", {"self": given, "dim": axes[0], "eps": epsilon})


def _bag_of_rows(node: Node, uses: _Uses, graph: Graph) -> Node | None:
    """Return a call for `node`, an `embedding_bag` whose offsets torch computed from two-axis indices; else None.

    The new call takes the indices with two axes: such offsets are equally spaced, so each row of the indices is a bag.
    """
    if _name(node) != "embedding_bag" or "has_rows" in node.arguments:
        return None
    offsets = uses.source(node.arguments["offsets"])
    rows = _before_flattening(node.arguments["indices"], uses, graph)
    if offsets is None or _name(offsets) != "arange" or rows is None:
        return None
    given = offsets.arguments
    if given.get("start", 0) != 0 or given.get("step") != graph.tensors[rows.name].shape[1]:
        return None
    factors = node.arguments.get("per_sample_weights")
    arguments = {name: value for name, value in node.arguments.items() if name != "offsets"}
    arguments |= {"indices": rows, "has_rows": True}
    if isinstance(factors, Ref):
        arguments["per_sample_weights"] = _before_flattening(factors, uses, graph)
        if arguments["per_sample_weights"] is None:
            return None
    return replace(node, arguments=arguments)


def _before_flattening(value: Any, uses: _Uses, graph: Graph) -> Ref | None:
    """Return the tensor with two axes that a reshape flattened to the given value; None if no reshape did."""
    node = uses.source(value)
    if node is None or _name(node) not in ("reshape", "view", "flatten", "_unsafe_view"):
        return None
    given = node.arguments["self"]
    tensor = graph.tensors.get(given.name) if isinstance(given, Ref) else None
    is_flat = len(node.outputs[0].shape) == 1 and tensor is not None and len(tensor.shape) == 2
    return given if is_flat else None


_PATTERNS: tuple[Callable[[Node, _Uses, Graph], Node | None], ...] = (
    _silu,
    _gelu,
    _rms_norm,
    _normalized,
    _bag_of_rows,
)
