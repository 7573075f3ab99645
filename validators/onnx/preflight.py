"""Check an untrusted ONNX file before onnxruntime loads it, more strictly than onnx's own checker."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from keras3conv.errors import BudgetExceeded, MalformedCheckpoint, MissingExtra, message_of, printable
from keras3conv.formats.safe.source import Source
from keras3conv.validators.onnx.tensors import check_tensors

OLDEST_OPSET = 7
"""Oldest version of the default operator set that onnxruntime supports."""

OLDEST_IR = 3

_MAX_SIZE = 1 << 31
"""The size limit of a protobuf message in bytes; a larger model keeps its weights in an external data file."""

_MAX_NODES = 1_000_000
"""The maximum number of nodes after every function is expanded."""

_DEFAULT = ("", "ai.onnx")
_KNOWN = frozenset({*_DEFAULT, "ai.onnx.ml", "com.microsoft"})


def check_file(path: Path) -> Any:
    """Parse an ONNX file without its external data, and raise an error if it is inconsistent or unsafe.

    Returns:
        The parsed file, an `onnx.ModelProto`.

    Raises:
        MissingExtra: onnx is not installed.
        FileError: The file or an external data file cannot be read.
        MalformedCheckpoint: The file is not an ONNX file, or is inconsistent; the message names the tensor or node.
        UnsafeCheckpoint: The file would read data outside of its folder.
        BudgetExceeded: The file declares unreasonably many or large tensors.
    """
    try:
        import onnx
    except ImportError:
        raise MissingExtra("compare_onnx", "onnx") from None
    source = Source.pin(path)
    if source.size >= _MAX_SIZE:
        raise BudgetExceeded(
            f"{path} has 2 GiB or more, which one ONNX file cannot have: save its weights with "
            "save_as_external_data=True"
        )
    with source.open() as file:
        content = bytes(source.read(file, 0, source.size))
    model = _parsed(path, content)
    _check_versions(path, model)
    check_tensors(path, model)
    _check_functions(path, model)
    _check_graph(path, model.graph, frozenset())
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, RuntimeError) as error:
        lines = message_of(error).strip().splitlines() or [type(error).__name__]
        raise MalformedCheckpoint(f"{path} is not a valid ONNX file; onnx's checker says: {lines[0][:400]}") from error
    return model


def _parsed(path: Path, content: bytes) -> Any:
    import onnx
    from google.protobuf.message import DecodeError

    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except DecodeError as error:
        raise MalformedCheckpoint(f"{path} is not an ONNX file: {error}") from error
    if not model.HasField("graph") or not model.graph.node:
        raise MalformedCheckpoint(f"{path} is not an ONNX file: it contains no graph with nodes")
    return model


def _check_versions(path: Path, model: Any) -> None:
    import onnx

    if not OLDEST_IR <= model.ir_version <= onnx.IR_VERSION:
        known = f"{OLDEST_IR} to {onnx.IR_VERSION}"
        raise MalformedCheckpoint(
            f"{path} has the ONNX format version {model.ir_version}, which is not supported; supported are {known}"
        )
    domains = [entry.domain if entry.domain != "ai.onnx" else "" for entry in model.opset_import]
    _refuse_duplicates(domains, f"{path} imports the operator set")
    newest = onnx.defs.onnx_opset_version()
    opsets = [entry.version for entry in model.opset_import if entry.domain in _DEFAULT]
    if not opsets or not OLDEST_OPSET <= opsets[0] <= newest:
        found = f"the operator set {opsets[0]}" if opsets else "no operator set"
        raise MalformedCheckpoint(
            f"{path} imports {found}, which is not supported; supported are the operator sets {OLDEST_OPSET} to "
            f"{newest}"
        )
    own = {function.domain for function in model.functions}
    bodies = (model.graph.node, *(function.node for function in model.functions))
    for node in (node for body in bodies for node in _all_nodes(body)):
        if node.domain not in _KNOWN | own:
            label = f"{path}: node {printable(node.name or node.op_type, 200)}"
            raise MalformedCheckpoint(
                f"{label} uses operators of the domain {printable(node.domain, 200)}, which the file does not import"
            )


def _check_functions(path: Path, model: Any) -> None:
    """Raise an error for a function that is defined twice, calls itself, or expands to too many nodes.

    onnx's checker and onnxruntime replace each call by the nodes of the function, so that a chain of 25 functions, each
    of which calls the next one twice, expands to 33 million nodes.
    """
    functions = {(function.domain, function.name): function for function in model.functions}
    _refuse_duplicates(
        [f"{function.domain}.{function.name}" for function in model.functions], f"{path} defines the function"
    )
    waiting = {
        key: Counter((node.domain, node.op_type) for node in _all_nodes(function.node))
        for key, function in functions.items()
    }
    sizes: dict[tuple[str, str], int] = {}
    while waiting:
        leaves = {key: called for key, called in waiting.items() if not called.keys() & waiting.keys()}
        if not leaves:
            raise MalformedCheckpoint(
                f"{path}: the function {min(waiting)[1]} calls itself, directly or through other functions"
            )
        sizes |= {key: _expanded(called, sizes) for key, called in leaves.items()}
        waiting = {key: called for key, called in waiting.items() if key not in leaves}
    nodes = _expanded(Counter((node.domain, node.op_type) for node in _all_nodes(model.graph.node)), sizes)
    if nodes > _MAX_NODES:
        raise BudgetExceeded(
            f"{path}: the graph has {nodes:,} nodes with its functions inlined; the limit is {_MAX_NODES:,}"
        )


def _expanded(called: Mapping[tuple[str, str], int], sizes: Mapping[tuple[str, str], int]) -> int:
    return sum(times * sizes.get(key, 1) for key, times in called.items())


def _all_nodes(nodes: Iterable[Any]) -> Iterator[Any]:
    """Yield all nodes of a graph, and the nodes of the graphs in their attributes."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from _all_nodes(inner.node)


def _check_graph(path: Path, graph: Any, outside: frozenset[str]) -> None:
    """Raise `MalformedCheckpoint` for a value that is used before it is produced (as in a cycle) or produced twice.

    Args:
        path: The file, for messages.
        graph: The graph, or the inner graph of a node such as If.
        outside: For an inner graph, the names of the values of the graphs that contain it.
    """
    stored = [tensor.name for tensor in graph.initializer] + [entry.values.name for entry in graph.sparse_initializer]
    _refuse_duplicates(stored, f"{path} has the initializer")
    inputs = [entry.name for entry in graph.input]
    _refuse_duplicates(inputs, f"{path} has the input")
    known = {*outside, *inputs, *stored}
    produced = {*inputs, *stored}
    for node in graph.node:
        label = f"{path}: node {printable(node.name or node.op_type, 200)}"
        for name in node.input:
            if name and name not in known:
                raise MalformedCheckpoint(
                    f"{label} uses the value {printable(name, 200)}, which no node before it computes"
                )
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                _check_graph(path, inner, frozenset(known))
        for name in filter(None, node.output):
            if name in produced or name in outside:
                raise MalformedCheckpoint(f"{label} computes the value {printable(name, 200)}, which exists already")
            produced.add(name)
            known.add(name)
    for entry in graph.output:
        if entry.name not in known:
            raise MalformedCheckpoint(f"{path} returns the value {printable(entry.name, 200)}, which no node computes")


def _refuse_duplicates(names: Iterable[str], label: str) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise MalformedCheckpoint(f"{label} {printable(name, 200) or 'of the default domain'} twice")
        seen.add(name)
