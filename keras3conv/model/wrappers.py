"""Recognize the prefix of all tensor names that a wrapper adds: `module.` (DataParallel), `_orig_mod.` (compile)."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import product

from keras3conv.model.views import LayerView, ModelView
from keras3conv.transforms import Array

_WRAPPERS = ("module.", "_orig_mod.", "model.")


def common_prefix(names: Iterable[str], wanted: Iterable[str]) -> str:
    """Return the prefix that wrappers put before all tensor names of a state dict: "module." or "module._orig_mod.".

    The result is empty if the names have no such prefix, or if the names without it are not those of the module.

    Args:
        names: The tensor names in the state dict.
        wanted: The tensor names in the module without wrappers.
    """
    given, known = list(names), set(wanted)
    prefix = ""
    while given and not known.issuperset(name.removeprefix(prefix) for name in given):
        rest = [name.removeprefix(prefix) for name in given]
        found = next((wrapper for wrapper in _WRAPPERS if all(name.startswith(wrapper) for name in rest)), "")
        if not found:
            return prefix if known.intersection(rest) else ""
        prefix += found
    return prefix


def covering_prefix(names: Iterable[str], wanted: Iterable[str]) -> str:
    """Return the prefix of wrappers under which a state dict has all tensors of a module; others may be without it.

    A wrapper may have tensors of its own, such as `n_averaged` of an AveragedModel, and a training step has those of
    its loss. The result is empty if the module's tensors have no such prefix, or are not all there.

    Args:
        names: The tensor names in the state dict.
        wanted: The tensor names in the module without wrappers.
    """
    given, known = list(names), list(wanted)
    if prefix := common_prefix(given, known):
        return prefix
    there = set(given)
    several = ("".join(parts) for number in (1, 2) for parts in product(_WRAPPERS, repeat=number))
    covering = (prefix for prefix in several if known and all(f"{prefix}{name}" in there for name in known))
    return "" if there.issuperset(known) else next(covering, "")


def named_as(view: ModelView, planned: ModelView) -> ModelView:
    """Return a view with a wrapper's prefix ("module.") added to all names or removed, as the names in a plan require.

    The view is returned unchanged if its names differ from those of the plan in another way than such a prefix.

    Args:
        view: A view of a torch module or of its checkpoint.
        planned: The view for which the plan was made; its tensor names have the prefix that the result should have.
    """
    if view.side != "torch" or view.fingerprint == planned.fingerprint:
        return view
    names, wanted = ([tensor.path for tensor in each.tensors()] for each in (view, planned))
    if prefix := common_prefix(names, wanted):
        return _renamed(view, lambda path: path.removeprefix(prefix), lambda path: prefix + path)
    if prefix := common_prefix(wanted, names):
        return _renamed(view, lambda path: prefix + path, lambda path: path.removeprefix(prefix))
    return view


def _renamed(view: ModelView, new: Callable[[str], str], old: Callable[[str], str]) -> ModelView:
    """Return a view with new paths of layers and tensors, which still reads the values of the given view.

    Args:
        view: The view.
        new: Returns the new path of a tensor: "module.fc.weight" -> "fc.weight".
        old: The inverse of `new`.
    """

    def renamed(layer: LayerView) -> LayerView:
        tensors = tuple(replace(tensor, path=new(tensor.path)) for tensor in layer.tensors)
        return replace(layer, path=new(f"{layer.path}.").removesuffix("."), tensors=tensors)

    def read(path: str) -> Array:
        return view.read(old(path))

    return replace(view, layers=tuple(map(renamed, view.layers)), reader=read)
