"""Find the tensors of a module in a checkpoint; remember what a report should say about the rest of the file."""

from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn

from keras3conv import formats
from keras3conv.errors import InputError, ModelError, Problem, listed
from keras3conv.messages import lay_out
from keras3conv.model.views import ModelView
from keras3conv.model.wrappers import covering_prefix
from keras3conv.transforms import Array

_NOTES: "WeakKeyDictionary[nn.Module, tuple[str, ...]]" = WeakKeyDictionary()
"""For each module whose weights were loaded, the notes about the file."""


def notes_on_file(module: Any) -> tuple[str, ...]:
    """Return notes on the file from which a module got its weights: tensors that it lacks, and other state dicts."""
    return _NOTES.get(module, ())


def state_dict_of(module: nn.Module, path: Path, *, entry: str = "") -> dict[str, Array]:
    """Return the values of all tensors of a module from a file, by the names in the module.

    Args:
        module: The module.
        path: The file.
        entry: The name of the state dict, if the file holds several.

    Raises:
        InputError: The file is a Keras file.
        ModelError: The file lacks tensors of the module, or has others among them.
    """
    saved = formats.read(path, entry=entry)
    if saved.side != "torch":
        raise InputError(
            f"{path} contains Keras weights, but torch weights are needed here; keras3conv align and transfer "
            f"move Keras weights into a torch module\nFix:  keras3conv align TORCH.py:make {path}"
        )
    wanted = {
        name: f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
        for name, tensor in module.state_dict().items()
    }
    prefix = covering_prefix([tensor.path for tensor in saved.tensors()], wanted)
    if problems := _problems(saved, prefix, wanted):
        headline = f"the weights in {path} are not the weights of {type(module).__name__} (torch)"
        raise ModelError(lay_out(headline, problems))
    _NOTES[module] = saved.notes
    if others := [tensor.path for tensor in saved.tensors() if not tensor.path.startswith(prefix)]:
        left_out = f"{path.name} has other tensors, which the torch module does not have: {listed(others)}"
        _NOTES[module] = (left_out, *saved.notes)
    return {name: saved.read(f"{prefix}{name}") for name in wanted}


def _problems(saved: ModelView, prefix: str, wanted: dict[str, str]) -> list[Problem]:
    """Return a problem for each tensor that a file lacks, or that differs from that of the module.

    Args:
        saved: The tensors in the file.
        prefix: The prefix of the names of the module's tensors in the file.
        wanted: The dtype and shape of each tensor of the module.
    """
    kept = [tensor for tensor in saved.tensors() if tensor.path.startswith(prefix)]
    found = {tensor.path.removeprefix(prefix): f"{tensor.dtype} {tensor.shape}" for tensor in kept}
    problems = []
    for name in sorted(wanted.keys() | found.keys()):
        if name not in found:
            problems.append(Problem(torch=name, fact="the module has this tensor, but the file does not"))
        elif name not in wanted:
            problems.append(Problem(torch=name, fact="the file has this tensor, but the module does not"))
        elif found[name] != wanted[name]:
            fact = f"this tensor is {found[name]} in the file, but {wanted[name]} in the module"
            problems.append(Problem(torch=name, fact=fact))
    return problems
