"""Convert a Keras model: trace it, write the source code of a torch module, instantiate it and copy the weights."""

from dataclasses import dataclass
from typing import Any

from keras3conv.alignment.plan import Alignment
from keras3conv.builder.operations import library as handlers
from keras3conv.builder.operations.call import HANDLERS
from keras3conv.builder.passes.blocks import structured
from keras3conv.builder.passes.sequence import arranged
from keras3conv.builder.passes.tidying import tidied
from keras3conv.builder.passes.towers import with_towers
from keras3conv.builder.program.layouts import Channels
from keras3conv.builder.program.own_rules import own_classes, require_arguments
from keras3conv.builder.program.program import Program
from keras3conv.builder.source.frozen import frozen_parts
from keras3conv.builder.source.torch_source import write
from keras3conv.builder.to_torch.lowering import lower
from keras3conv.builder.to_torch.pairing import alignment_of
from keras3conv.builder.to_torch.proof_inputs import proof_inputs
from keras3conv.errors import RAISED_BY_MODELS, ModelError, Problem, UnsupportedLayerError, message_of
from keras3conv.messages import count, lay_out
from keras3conv.model.graph import Graph, Node
from keras3conv.rules.library import known_classes
from keras3conv.transforms import Array


@dataclass(frozen=True, kw_only=True)
class Built:
    """The result of `build`: a torch module with the Keras model's weights, not validated yet; see `Conversion`."""

    model: Any
    source: str
    alignment: Alignment
    graph: Graph
    program: Program


def build(model: Any, channels: Channels, inputs: Any, *, shared: bool = False) -> Built:
    """Return the torch module for a live Keras model.

    Args:
        model: The model.
        channels: The position of the channel axis of images in the inputs of the module: "first" or "last".
        inputs: The inputs for the trace, if the model has no input specification; else None.
        shared: Whether all inputs have the same dynamic sizes; else every input may have its own.

    Raises:
        UnsupportedLayerError: A layer or operation cannot be converted, or the model reads the values of a variable,
            which a trace does not record; the message lists all problems.
        RuleError: A rule of the user gives a class other arguments than its constructor takes.
        ModelError: The model cannot be called with symbolic tensors, or a class of the user cannot be instantiated.
    """
    from keras3conv.alignment.staging import stage
    from keras3conv.frameworks.torch import generated as torch_code
    from keras3conv.frameworks.torch import module as torch_side

    graph, program, problems = _read(model, channels, inputs, shared=shared)
    if problems and has_own_sizes(graph):
        graph, program, problems = _read(model, channels, inputs, shared=True)
    require_none(graph.name, problems)
    structure = structured(with_towers(program, tidied))
    program = tidied(arranged(program))
    require_arguments(program, "to_torch")
    source = write(structure.program, structure.blocks)
    try:
        module = torch_code.instance_of(source)
    except RAISED_BY_MODELS as error:
        if not (own := own_classes(program)):
            raise
        raise ModelError(
            f"the new torch module cannot be built with your own classes {', '.join(own)}: "
            f"{type(error).__name__}: {message_of(error)}"
        ) from error
    plan = alignment_of(program, structure.paths, torch_side.view(module), graph.view)
    try:
        _require_no_hidden_use(model, plan, graph, program)
    except ModelError:  # the model does not run on inputs of different sizes, as it seemed to in the trace
        if not has_own_sizes(graph):
            raise
        return build(model, channels, inputs, shared=True)
    if frozen := frozen_parts(program, structure.paths, plan, torch_side.view(module), graph.view):
        source = write(structure.program, structure.blocks, frozen)
        module = torch_code.instance_of(source)
    staged = stage(plan, graph.view, torch_side.view(module), cast=False)
    paths = structure.paths
    constants = {
        paths.get(weight.name, weight.name): weight.array
        for weight in program.weights.values()
        if weight.array is not None
    }
    torch_side.write(module, {**dict(staged.values()), **constants})
    return Built(model=module, source=source, alignment=plan, graph=graph, program=program)


def has_own_sizes(graph: Graph) -> bool:
    """Return True if two inputs of a graph have dynamic sizes that may differ, other than the batch size."""
    return any("_" in symbol for symbol in graph.sizes)


def _read(model: Any, channels: Channels, inputs: Any, *, shared: bool) -> tuple[Graph, Program, tuple[Problem, ...]]:
    """Return the call graph and the torch program (the list of statements) of a Keras model, and the problems.

    If a layer cannot be converted as a whole, the graph has the operations inside it instead of the layer.
    """
    from keras3conv.frameworks.keras.tracing import endings as keras_endings
    from keras3conv.frameworks.keras.tracing import graph as keras_graph
    from keras3conv.frameworks.keras.tracing.merging import DEPENDS
    from keras3conv.frameworks.keras.tracing.tracer import DRAWN

    handlers.load()
    known = keras_graph.leaf_by_name(dict.fromkeys([*known_classes()[1], *HANDLERS]))
    refused: dict[str, Problem] = {}
    tied: frozenset[str] = frozenset()
    while True:
        graph, traced = keras_graph.graph_of(model, known, inputs, tied | frozenset(refused), shared=shared)
        if more := _tied(graph) - tied:
            tied |= more
            continue
        program, lowered = lower(graph, channels, frozenset(problem.keras for problem in traced))
        layers = {node.path for node in graph.nodes if _may_be_traced_into(node)}
        fresh = {problem.keras: problem for problem in lowered if problem.keras in layers - refused.keys()}
        if not fresh:
            # Report why the layer has no rule; this is more helpful than why it could not be traced into.
            problems = [refused.get(problem.keras, problem) for problem in (*traced, *lowered)]
            problems += keras_endings.mixed(model)
            if any(DRAWN in problem.fact for problem in traced):
                # The two traces differ by random numbers, not by sizes.
                problems = [problem for problem in problems if DEPENDS not in problem.fact]
            else:
                problems += _value_reads(model, graph, inputs)
            return graph, program, tuple(problems)
        refused |= fresh


def _tied(graph: Graph) -> frozenset[str]:
    """Return the paths of the layers whose variables are also used by operations outside of the layer.

    The graph then has the operations of such a layer in place of its call, so that all can share a parameter.
    """
    leaves = {node.path for node in graph.nodes if not node.kind.startswith("keras.ops.")}
    paths = (parameter.path.split("/") for parameter in graph.parameters)
    starts = {"/".join(parts[:length]) for parts in paths for length in range(1, len(parts))}
    return frozenset(leaves & starts)


def _may_be_traced_into(node: Node) -> bool:
    """Return True if the trace can record the operations inside a layer; False for a recurrent layer, which loops.

    The operations inside a Bidirectional can be recorded: the calls of two recurrent layers, and the join of their
    outputs.
    """
    is_operation = node.kind.startswith(("keras.ops.", "keras.activations."))
    return not is_operation and "keras.layers.RNN" not in node.kinds


def _require_no_hidden_use(model: Any, plan: Alignment, graph: Graph, program: Program) -> None:
    """Raise `UnsupportedLayerError` if a variable without a torch counterpart influences the Keras model's outputs.

    If a layer's `call` reads the values of a variable, the trace has a constant instead of the variable. A comparison
    of the outputs cannot find that, because the outputs agree as long as the variable has its current values.
    """
    from keras3conv.frameworks.keras import influence as keras_influence

    tensors = {tensor.path: tensor for tensor in graph.view.tensors()}
    placed = {tensors[path].storage for mapping in plan.mappings for path in mapping.keras}
    left = [tensors[ignored.path] for ignored in plan.ignored if ignored.side == "keras"]
    hidden = [tensor.path for tensor in left if not tensor.is_seed and tensor.storage not in placed]
    found = keras_influence.influential(model, proof_inputs(graph, program)[1], hidden)
    require_none(graph.name, tuple(Problem(keras=path, fact=_HIDDEN) for path in found))


def _value_reads(model: Any, graph: Graph, inputs: Any) -> tuple[Problem, ...]:
    """Return a problem for each variable whose values are a constant of the graph: training would not change them."""
    from keras3conv.frameworks.keras import influence as keras_influence
    from keras3conv.frameworks.keras.tracing import graph as keras_graph

    if not graph.constants:
        return ()
    known = keras_graph.leaf_by_name(dict.fromkeys([*known_classes()[1], *HANDLERS]))
    paths = [tensor.path for tensor in graph.view.tensors() if not tensor.is_seed and tensor.dtype.startswith("float")]
    leaves = {node.path for node in graph.nodes}

    def constants() -> dict[str, Array]:
        followed = frozenset(layer.path for layer in graph.view.layers if layer.path not in leaves)
        return dict(keras_graph.graph_of(model, known, inputs, followed)[0].constants)

    found = keras_influence.read_by_value(model, paths, constants)
    return tuple(Problem(keras=path, fact=_HIDDEN) for path in found)


_HIDDEN = (
    "the outputs depend on this variable, but no Keras operation uses it: a `call` method reads its values, "
    "which would "
    "become a constant. Make the variable an attribute of the layer, and use it in keras.ops instead"
)


def require_none(name: str, problems: tuple[Problem, ...]) -> None:
    """Raise `UnsupportedLayerError` with all problems of a conversion; do nothing if there are none."""
    if problems:
        headline = f"{count(len(problems), 'problem')} in {name} (keras): it cannot be converted to torch"
        raise UnsupportedLayerError(lay_out(headline, problems, limit=50))
