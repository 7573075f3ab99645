"""Read the nodes of a program of `torch.export`: names of operators, arguments, modules and source lines."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
from torch.export import ExportedProgram

from keras3conv.frameworks.torch.training_dropouts import Place, operator_name


def needs_rewriting(exported: ExportedProgram) -> bool:
    """Return whether a graph has operators that mean something only beside others: writing into views, and `vmap`."""
    return _writes_into_a_view(exported) or any(_is_of_vmap(node) for node in exported.graph.nodes)


def _is_of_vmap(node: torch.fx.Node) -> bool:
    return getattr(node.target, "__module__", "") == "torch._functorch.predispatch"


def _writes_into_a_view(exported: ExportedProgram) -> bool:
    """Return whether an operator writes into memory that another value of the graph shares."""
    viewed = {node for node in exported.graph.nodes if _is_view(node)}
    viewed |= {node.args[0] for node in viewed if node.args}
    return any(is_in_place(node) and node.args[0] in viewed for node in exported.graph.nodes)


def _is_view(node: torch.fx.Node) -> bool:
    schema = getattr(node.target, "_schema", None)
    aliases = [result.alias_info for result in schema.returns] if schema else []
    return any(alias is not None and not alias.is_write for alias in aliases)


def is_in_place(node: torch.fx.Node) -> bool:
    """Return whether an operator writes into its first argument."""
    schema = getattr(node.target, "_schema", None)
    return bool(schema and schema.is_mutable and node.args)


def dropout_places(exported: ExportedProgram) -> Iterator[tuple[torch.fx.Node, Place]]:
    """Yield each node of an exported module that may have a dropout in training, and the call that identifies it.

    Such nodes are attentions, softmaxes and dropouts. The call is a tuple of the path of the module, the name of the
    operator, and the number of its call in this module: ("block.attention", "softmax", 0).
    """
    counts: Counter[tuple[str, str]] = Counter()
    for node in exported.graph.nodes:
        name = operator_name(str(node.target)) if node.op == "call_function" and "." in str(node.target) else ""
        if name:
            path = module_of(node)
            yield node, (path, name, counts[path, name])
            counts[path, name] += 1


def bound_arguments(node: torch.fx.Node) -> dict[str, Any]:
    """Return the arguments that a node gives to its operator, by parameter name."""
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return {}
    names = [argument.name for argument in schema.arguments]
    return dict(zip(names, node.args, strict=False)) | dict(node.kwargs)


def kind_of(node: torch.fx.Node) -> str:
    """Return the name of the operator of a graph node; an in-place operator gets the name without the underscore."""
    name = str(node.target)
    if not hasattr(node.target, "_schema") and callable(node.target):  # a Python function
        name = f"python.{getattr(node.target, '__name__', 'function')}.default"
    namespace, _, rest = name.partition(".")
    base, _, overload = rest.partition(".")
    base = base[:-1] if is_in_place(node) and base.endswith("_") and not base.startswith("__") else base
    return f"{namespace}.{base}.{overload}"


def calls_of(node: torch.fx.Node) -> Iterator[str]:
    """Yield the calls of modules that contain a graph node, the outermost first, as path and number: "block.conv:0"."""
    for key, (path, _) in (node.meta.get("nn_module_stack") or {}).items():
        if path and not key.startswith("_empty"):
            yield f"{path}:{key.rpartition('@')[2] if '@' in key else '0'}"


def module_of(node: torch.fx.Node) -> str:
    """Return the path of the innermost module that contains a graph node; empty for the outermost module."""
    return ["", *calls_of(node)][-1].rpartition(":")[0]


def line_of(node: torch.fx.Node) -> str:
    """Return the user's innermost line of code that created a graph node."""
    frames = [line.strip() for line in (node.meta.get("stack_trace") or "").splitlines()]
    places = [place for place, line in enumerate(frames) if line.startswith('File "') and "/torch/" not in line]
    return " ".join(frames[places[-1] : places[-1] + 2]) if places else ""
