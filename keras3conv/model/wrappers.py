"""Recognize the prefix that a wrapper (DataParallel, torch.compile) puts before all names: `module.`, `_orig_mod.`."""

from collections.abc import Callable, Iterable
from dataclasses import replace

from keras3conv.model.views import LayerView, ModelView
from keras3conv.transforms import Array

_WRAPPERS = ("module.", "_orig_mod.", "model.")


def common_prefix(names: Iterable[str], wanted: Iterable[str]) -> str:
    """Return the prefix that wrappers put before all names of a state dict; empty if the names are as expected.

    Args:
        names: The names in the file.
        wanted: The names in the module.
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


def named_as(view: ModelView, planned: ModelView) -> ModelView:
    """Return a view with the tensor names of another view of the same module, which lack or have a wrapper's prefix.

    If the names differ otherwise, the view is returned unchanged.

    Args:
        view: A view of a torch module or of its checkpoint.
        planned: The view for which a plan was made.
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
    """Return a view in which the tensors have other names.

    Args:
        view: The view.
        new: Returns the new name of a tensor.
        old: Returns the name that a tensor had before.
    """

    def renamed(layer: LayerView) -> LayerView:
        tensors = tuple(replace(tensor, path=new(tensor.path)) for tensor in layer.tensors)
        return replace(layer, path=new(f"{layer.path}.").removesuffix("."), tensors=tensors)

    def read(path: str) -> Array:
        return view.read(old(path))

    return replace(view, layers=tuple(map(renamed, view.layers)), reader=read)
