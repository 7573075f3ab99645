"""Make functions of the repeated parts of a Keras program, and rename the layers in these functions."""

from dataclasses import replace

from keras3conv.builder.passes.blocks import structured
from keras3conv.builder.passes.computations import with_computations
from keras3conv.builder.passes.hoisting import with_constants_first
from keras3conv.builder.passes.inlining import inlined
from keras3conv.builder.passes.nested import nested
from keras3conv.builder.passes.sequence import with_early_results
from keras3conv.builder.program.names import class_identifier
from keras3conv.builder.program.structure import Structure
from keras3conv.builder.source.copying import copied_functions
from keras3conv.builder.source.keras_spelling import with_constants
from keras3conv.builder.to_keras.layers import Placement
from keras3conv.builder.to_keras.lowered import Lowered
from keras3conv.model.views import ModelView

_CONTAINERS = frozenset({"Sequential", "ModuleList", "ModuleDict"})
"""Torch's container classes (Sequential, ModuleList), whose names say nothing as the name of a function."""


def with_functions(lowered: Lowered, view: ModelView) -> tuple[Structure, tuple[Placement, ...]]:
    """Return the program with functions for its repeated parts, and the torch tensors that each Keras layer receives.

    A layer in a function gets a name made of the names of the function's call and of the layer: "layer1_0" and "conv1"
    give "layer1_0_conv1".

    Args:
        lowered: The program and the torch tensors of its layers.
        view: The view of the torch module, whose classes give the functions their names.
    """
    classes = {layer.path: layer.kind.rpartition(".")[2] for layer in view.layers if layer.kind}
    classes = {path: name for path, name in classes.items() if name not in _CONTAINERS}
    program, constants = with_constants(with_constants_first(lowered.program))
    program = replace(program, weights={})
    taken = ("BuildModel", *map(class_identifier, copied_functions(Structure(program=program))))
    structure = nested(Structure(program=program), classes, taken)
    structure = structured(structure, taken, with_shared=False, least=1)
    structure = replace(structure, program=with_early_results(structure.program))
    structure = inlined(with_computations(structure, taken))
    names = {flat: path.replace(".", "_") for flat, path in structure.paths.items()}
    every = [names.get(name, name) for name in lowered.program.modules]
    if len({*every}) < len(every):  # two layers would have the same name
        return Structure(program=program, constants=constants), lowered.placements
    structure = replace(structure, constants=constants)
    return structure, tuple(replace(one, layer=names.get(one.layer, one.layer)) for one in lowered.placements)
