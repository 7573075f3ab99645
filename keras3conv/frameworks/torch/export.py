"""Export a torch module as a call graph with `torch.export`.

The module is exported in evaluation mode, to the operators that it calls (the training IR).
Axis 0 of every input is dynamic where torch allows it. A value that depends on no input and no parameter is a constant.
"""

import warnings
from collections.abc import Mapping, Sequence

import torch
from torch import nn

from keras3conv.errors import Problem, UnsupportedLayerError
from keras3conv.frameworks.torch.decomposing import rewritten
from keras3conv.frameworks.torch.depth import captured_depth
from keras3conv.frameworks.torch.dynamic_sizes import BATCH
from keras3conv.frameworks.torch.exportable import exportable, split_outside, with_plain_weights
from keras3conv.frameworks.torch.exporting import Exported, exported, with_two_examples
from keras3conv.frameworks.torch.modes import evaluating
from keras3conv.frameworks.torch.module import call_arguments
from keras3conv.frameworks.torch.observing import Arguments
from keras3conv.frameworks.torch.opaque import registered_modules
from keras3conv.frameworks.torch.program_graph import Captured, Source
from keras3conv.frameworks.torch.program_nodes import dropout_places, needs_rewriting
from keras3conv.frameworks.torch.repeating import remembered_attributes
from keras3conv.frameworks.torch.training_dropouts import Dropouts, training_dropouts, warn_of_missing
from keras3conv.frameworks.torch.training_only import training_only
from keras3conv.frameworks.torch.view import view
from keras3conv.messages import lay_out
from keras3conv.model.graph import Graph
from keras3conv.model.views import ModelView


def capture(module: nn.Module, inputs: object, dynamic: Mapping[str, Sequence[int]] | None = None) -> Captured:
    """Return the call graph of a module for these inputs.

    Args:
        module: The module.
        inputs: A tensor or array, a tuple of positional arguments, or a dict of keyword arguments.
        dynamic: The dynamic axes besides the batch axis, by the name of the input.

    Raises:
        InputError: The inputs are neither a tensor, nor an array, a tuple or a dict.
        UnsupportedLayerError: The module is TorchScript, or torch cannot capture it.
    """
    if isinstance(module, torch.jit.ScriptModule):
        name = type(module).__name__
        fact = "this module is TorchScript, which torch.export cannot capture: pass the nn.Module that it was made from"
        problem = Problem(torch=name, fact=fact)
        raise UnsupportedLayerError(lay_out(f"{name} (torch) cannot be converted to Keras", (problem,)))
    return capture_call(module, call_arguments(module, inputs), dynamic or {})


def capture_call(module: nn.Module, arguments: Arguments, dynamic: Mapping[str, Sequence[int]]) -> Captured:
    """Return the call graph of a module for the arguments of one call, which are tensors already.

    Args:
        module: The module.
        arguments: The positional and the keyword arguments of its call, as tensors.
        dynamic: The dynamic axes besides the batch axis, by the name of the input.
    """
    in_parts = split_outside(module, registered_modules(view(module)))
    described = view(module, in_parts=in_parts)
    module = with_plain_weights(module, in_parts)
    with (
        evaluating(module),
        captured_depth(module) as depth,
        exportable(module),
        torch.no_grad(),
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings("ignore", "The tensor attributes? self", UserWarning)
        capture = exported(module, described, arguments, dynamic)
        if capture.program is None:
            return _nothing(module, described, capture)
        program = rewritten(capture.program, {}) if needs_rewriting(capture.program) else capture.program
        remembered = remembered_attributes(module, arguments)
        places = [place for _, place in dropout_places(program)]
        examples = with_two_examples(arguments)
        dropouts = training_dropouts(module, *examples).beside(places) if places else Dropouts()
        remarks = training_only(module, examples, {*depth, *registered_modules(described)})
    missing = warn_of_missing(dropouts, places, type(module).__name__)
    source = Source(
        module=module,
        exported=program,
        described=described,
        depth=depth,
        dropouts=dropouts,
        capture=capture,
        remembered=remembered,
        remarks=(*missing, *remarks),
    )
    return source.read()


def _nothing(module: nn.Module, described: ModelView, exported: Exported) -> Captured:
    """Return an empty call graph with the problems, for a module whose own code torch.export cannot capture."""
    graph = Graph(name=type(module).__name__, view=described, inputs=(), nodes=(), outputs=())
    return Captured(graph=graph, shapes={}, lines={}, problems=exported.problems, inner=exported.inner, read_from=None)


__all__ = ["BATCH", "Captured", "capture", "capture_call"]
