"""Freeze the parameters of a generated module that are not trainable in the Keras model.

These are the parameters of Keras layers with trainable=False, and torch parameters without a Keras variable: with
scale=False the torch weight is 1 and must stay 1. A frozen BatchNormalization runs in inference mode also in training,
so its torch counterpart stays in evaluation mode.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from keras3conv.alignment.plan import Alignment
from keras3conv.builder.program.program import Program
from keras3conv.builder.source.formatting import docstring, literal, statement
from keras3conv.model.views import ModelView

_NORMS = "torch.nn.BatchNorm"


@dataclass(frozen=True, kw_only=True)
class Frozen:
    """The parts of a generated module that are not trained: whole submodules where possible, else parameters.

    Attributes:
        modules: The submodules in which all parameters are frozen; "" is the whole module.
        parameters: The frozen parameters of submodules that also have trainable parameters.
        scales: The batch normalization classes whose layers all have a frozen scale and a trainable shift. These layers
            are not in `parameters`.
        norms: The submodules in which all batch normalization layers stay in evaluation mode.
    """

    modules: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()
    scales: tuple[str, ...] = ()
    norms: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.modules or self.parameters or self.scales or self.norms)


NOTHING = Frozen()
"""The `Frozen` of a module in which everything is trainable."""


def frozen_parts(
    program: Program, paths: Mapping[str, str], plan: Alignment, torch: ModelView, keras: ModelView
) -> Frozen:
    """Return the parts of a module that must not be trained, by the `trainable` flags of the Keras variables.

    Args:
        program: The flat program of the module: all its statements, not yet divided among blocks (classes).
        paths: For each module that is now in a block, its new path, by its name in the flat program.
        plan: The pairs of torch and Keras tensors.
        torch: The layers and tensors of the module (its view).
        keras: The layers and variables of the Keras model (its view).
    """
    parameters = [tensor.path for tensor in torch.tensors() if tensor.trainable]
    trained = {tensor.path for tensor in keras.tensors() if tensor.trainable}
    held = {path for one in plan.mappings if not trained & {*one.keras} for path in one.torch}
    kinds = {
        paths.get(name, name): module.spec.kind
        for name, module in program.modules.items()
        if module.spec.kind.startswith(_NORMS)
    }
    scales = _scales(kinds, held & {*parameters}, parameters)
    alone = {path for path in held if kinds.get(path.removesuffix(".weight")) in scales and path.endswith(".weight")}
    alone = {path for path in alone if path.removesuffix("weight") + "bias" not in held}
    chosen = shortest(held & {*parameters}, parameters)
    chosen = tuple(path for path in chosen if path not in alone)
    norms = {
        paths.get(name, name): module.trainable
        for name, module in program.modules.items()
        if module.spec.kind.startswith(_NORMS)
    }
    return Frozen(
        modules=tuple(path for path in chosen if path not in parameters),
        parameters=tuple(path for path in chosen if path in parameters),
        scales=scales if chosen != ("",) else (),
        norms=shortest({path for path, trainable in norms.items() if not trainable}, tuple(norms)),
    )


def _scales(kinds: Mapping[str, str], held: Collection[str], parameters: Collection[str]) -> tuple[str, ...]:
    """Return the batch normalization classes that have several layers, all with a frozen scale and a trainable shift.

    The generated code freezes the scales of such a class in a loop, instead of listing them all.

    Args:
        kinds: The class of each batch normalization layer, by its path.
        held: The paths of the frozen parameters.
        parameters: The paths of all parameters.
    """
    found = []
    for kind in dict.fromkeys(kinds.values()):
        paths = [path for path, one in kinds.items() if one == kind]
        alone = all(f"{path}.weight" in held and f"{path}.bias" in {*parameters} - {*held} for path in paths)
        if alone and len(paths) > 1:
            found.append(kind)
    return tuple(found)


def shortest(chosen: Collection[str], every: Collection[str]) -> tuple[str, ...]:
    """Return the shortest prefixes of all chosen paths and no others: ("a",) for a.b and a.c, if d is not chosen.

    If all paths are chosen, the result is ("",).
    """
    if chosen and len(chosen) == len(every):
        return ("",)
    others = [path for path in every if path not in chosen]
    blocked = {start for path in others for start in _starts(path)}
    found = (next(start for start in _starts(path) if start not in blocked) for path in every if path in chosen)
    return tuple(dict.fromkeys(found))


def _starts(path: str) -> list[str]:
    """Return the prefixes of a path, the shortest first: "a", "a.b" and "a.b.c" for "a.b.c"."""
    parts = path.split(".")
    return [".".join(parts[:length]) for length in range(1, len(parts) + 1)]


def frozen_lines(frozen: Frozen) -> Iterator[str]:
    """Yield those lines of a generated module's constructor that freeze its parameters."""
    for kind in frozen.scales:
        yield "        # These layers have no scale in Keras: their weight is one, and is not trained."
        yield "        for part in self.modules():"
        yield f"            if isinstance(part, {kind.replace('torch.nn.', 'nn.')}):"
        yield "                part.weight.requires_grad_(False)"
    if frozen.modules or frozen.parameters:
        yield "        # Not trained in the Keras model, or missing there: a scale of one, a shift of zero."
    if frozen.modules == ("",):
        yield "        self.requires_grad_(False)"
    elif frozen.modules:
        yield from statement(8, f"frozen = {_names(frozen.modules)}")
        yield "        for name in frozen:"
        yield "            self.get_submodule(name).requires_grad_(False)"
    if frozen.parameters:
        yield from statement(8, f"frozen_parameters = {_names(frozen.parameters)}")
        yield "        for name in frozen_parameters:"
        yield "            self.get_parameter(name).requires_grad_(False)"


def mode_lines(frozen: Frozen) -> Iterator[str]:
    """Yield the lines of a generated module's method `train`, which keeps frozen batch norms in evaluation mode."""
    if not frozen.norms:
        return
    yield ""
    yield '    def train(self, mode: bool = True) -> "Model":'
    yield from docstring(8, "Set the mode; a batch normalization that is frozen in Keras stays in evaluation mode.")
    yield "        super().train(mode)"
    yield from statement(8, f"frozen = {_names(frozen.norms)}")
    yield "        for name in frozen:"
    yield "            for part in self.get_submodule(name).modules():"
    yield "                if isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)):"
    yield "                    part.eval()"
    yield "        return self"


def _names(paths: Collection[str]) -> str:
    return f"[{', '.join(map(literal, paths))}]"
