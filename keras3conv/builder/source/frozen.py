"""What no optimiser changes in a Keras model is frozen in the module that is made of it, where its text says so.

A layer of Keras with trainable=False has no trainable variables, and one with scale=False has no scale at all, where
torch has one that is 1 and must stay so. A BatchNormalization that is frozen does more: it runs
in inference mode even in training, so its counterpart stays in evaluation mode.
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
    """The frozen parts of a module, each by the shortest path that holds nothing else.

    Attributes:
        modules: Submodules all of whose parameters are frozen; "" is the whole module.
        parameters: Parameters that are frozen beside others that are not.
        scales: The classes of batch normalisations all of whose scales are frozen: their names are not listed.
        norms: Submodules all of whose batch normalisations stay in evaluation mode.
    """

    modules: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()
    scales: tuple[str, ...] = ()
    norms: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.modules or self.parameters or self.scales or self.norms)


NOTHING = Frozen()
"""Nothing is frozen."""


def frozen_parts(
    program: Program, paths: Mapping[str, str], plan: Alignment, torch: ModelView, keras: ModelView
) -> Frozen:
    """What is frozen, seen from the variables of the Keras model.

    Args:
        program: What the module was written from, without blocks.
        paths: Where the modules that went into blocks are.
        plan: Which tensor is which.
        torch: The module.
        keras: The Keras model.
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
    """The classes of which every layer, and there are several, has a scale that is frozen beside a shift that is not.

    One loop says it then, where a list would be as long as the model.
    """
    found = []
    for kind in dict.fromkeys(kinds.values()):
        paths = [path for path, one in kinds.items() if one == kind]
        alone = all(f"{path}.weight" in held and f"{path}.bias" in {*parameters} - {*held} for path in paths)
        if alone and len(paths) > 1:
            found.append(kind)
    return tuple(found)


def shortest(chosen: Collection[str], every: Collection[str]) -> tuple[str, ...]:
    """The shortest paths that, with everything below them, hold what was chosen and nothing else of all paths."""
    if chosen and len(chosen) == len(every):
        return ("",)
    others = [path for path in every if path not in chosen]
    blocked = {start for path in others for start in _starts(path)}
    found = (next(start for start in _starts(path) if start not in blocked) for path in every if path in chosen)
    return tuple(dict.fromkeys(found))


def _starts(path: str) -> list[str]:
    """The path and every path that it is below, the shortest first."""
    parts = path.split(".")
    return [".".join(parts[:length]) for length in range(1, len(parts) + 1)]


def frozen_lines(frozen: Frozen) -> Iterator[str]:
    """The end of the constructor."""
    for kind in frozen.scales:
        yield "        # These layers of Keras have no scale: it is one, and stays one."
        yield "        for part in self.modules():"
        yield f"            if isinstance(part, {kind.replace('torch.nn.', 'nn.')}):"
        yield "                part.weight.requires_grad_(False)"
    if frozen.modules or frozen.parameters:
        yield "        # What the Keras model does not train, or does not have: a scale of one, a shift of zero."
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
    """The method that keeps frozen batch normalisations in evaluation mode."""
    if not frozen.norms:
        return
    yield ""
    yield '    def train(self, mode: bool = True) -> "Model":'
    yield from docstring(8, "Sets the mode; a batch normalisation that is frozen in Keras stays as in evaluation.")
    yield "        super().train(mode)"
    yield from statement(8, f"frozen = {_names(frozen.norms)}")
    yield "        for name in frozen:"
    yield "            for part in self.get_submodule(name).modules():"
    yield "                if isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)):"
    yield "                    part.eval()"
    yield "        return self"


def _names(paths: Collection[str]) -> str:
    return f"[{', '.join(map(literal, paths))}]"


__all__ = ["NOTHING", "Frozen", "frozen_lines", "frozen_parts", "mode_lines", "shortest"]
