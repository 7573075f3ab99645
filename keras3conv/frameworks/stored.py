"""Combine a live model without values with a weight file, from which the values are read one tensor at a time.

The model itself needs no memory: a module made under `torch.device("meta")`, or a Keras model made under
`keras.device("meta")` on the torch backend, has names, shapes and configurations, and no values.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from keras3conv import formats
from keras3conv.errors import FileError, InputError, ModelError, Problem
from keras3conv.frameworks.adapter import Adapter, LiveModel, ModelFile, TorchFile
from keras3conv.messages import lay_out
from keras3conv.model.views import ModelView, TensorRef
from keras3conv.model.wrappers import covering_prefix
from keras3conv.transforms import Array


def view_without_values(model: LiveModel, planned: ModelView | None = None) -> ModelView:
    """Return the view of a live model: all layers with their configurations, and the names and shapes of all tensors.

    The tensors may be on the meta device; the view then cannot read their values.

    Args:
        model: The model.
        planned: The torch tensors in a plan; see `LiveModel.view`.
    """
    if model.side == "keras":
        return model.view()
    from keras3conv.frameworks.torch.derived import planned_in_parts
    from keras3conv.frameworks.torch.view import view

    return view(model.source, empty=True, in_parts=planned_in_parts(model.source, planned))


def view_in_parts(torch: Adapter) -> ModelView:
    """Return the view of a torch model in which weight norm is not applied: "weight_g" and "weight_v", not "weight".

    A file stores these tensors. The same holds for other weights that torch computes from stored tensors.

    Args:
        torch: The adapter (the interface to a model) of the torch model, live or a file.
    """
    if isinstance(torch, ModelFile):
        return formats.read_stored(torch.source, entry=torch.entry if isinstance(torch, TorchFile) else "")
    from keras3conv.frameworks.torch.derived import derived_tensors
    from keras3conv.frameworks.torch.view import view

    derived = derived_tensors(torch.source)
    owners = {weight.owner for weight in derived.values()}
    found = view(torch.source, in_parts=frozenset(derived))
    # No rule fits a convolution without its kernel, so its class must not suggest one.
    layers = (
        replace(layer, kinds=(f"{layer.kind} with a computed weight",)) if layer.path in owners else layer
        for layer in found.layers
    )
    return replace(found, layers=tuple(layers))


def with_stored_values(model: ModelView, path: Path, *, entry: str = "") -> ModelView:
    """Return the view of a live model that reads the values of its tensors from a file.

    Args:
        model: The described view of the live model.
        path: The file, or the index of a sharded one.
        entry: The name of the state dict, if a torch checkpoint holds several.

    Raises:
        InputError: The file belongs to the other framework, or a weight is computed from other tensors.
        ModelError: The file lacks tensors of the model, or has others, or they differ in shape or dtype.
    """
    stored = formats.read(path, entry=entry, planned=model)
    if stored.side != model.side:
        raise InputError(
            f"{path} contains {stored.side} weights, but {model.title} needs a file of {model.side} weights"
        )
    computed = [tensor.path for tensor in model.tensors() if tensor.is_computed]
    if computed:
        raise InputError(
            f"{model.title} computes {', '.join(computed)} from other tensors, which is impossible without their "
            "values: load the weights into the module first"
        )
    names = _names(model, stored)
    _require_fitting(model, stored, names, path)

    def read(name: str) -> Array:
        if name not in names:
            raise FileError(f"{path} has no values of the tensor {name}: give a file with all weights of the model")
        return stored.read(names[name])

    return replace(model, reader=read)


def _names(model: ModelView, stored: ModelView) -> dict[str, str]:
    """Return the path in the file of each tensor of the model; tensors that the file lacks are left out.

    A tied tensor may have only one of its names in the file.
    """
    find = _by_location(stored) if model.side == "keras" else _by_name(model, stored)
    by_storage = {tensor.storage: found for tensor in model.tensors() if tensor.storage and (found := find(tensor))}
    named = ((tensor.path, find(tensor) or by_storage.get(tensor.storage, "")) for tensor in model.tensors())
    return {path: name for path, name in named if name}


def _by_location(stored: ModelView) -> Callable[[TensorRef], str]:
    places = {tensor.location: tensor.path for tensor in stored.tensors()}
    return lambda tensor: places.get(tensor.location, "")


def _by_name(model: ModelView, stored: ModelView) -> Callable[[TensorRef], str]:
    saved = [tensor.path for tensor in stored.tensors()]
    prefix, known = _prefix(model, stored), set(saved)
    return lambda tensor: name if (name := f"{prefix}{tensor.path}") in known else ""


def _prefix(model: ModelView, stored: ModelView) -> str:
    """Return the prefix of wrappers that the names of the model's tensors have in a file of torch weights."""
    names = [tensor.path for tensor in stored.tensors()]
    return covering_prefix(names, [tensor.path for tensor in model.tensors()]) if model.side == "torch" else ""


def _require_fitting(model: ModelView, stored: ModelView, names: Mapping[str, str], path: Path) -> None:
    """Raise `ModelError` if a parameter is missing in the file, has another dtype or shape, or is not in the model.

    Args:
        model: The layers and tensors of the model (its view).
        stored: The tensors in the file (its view).
        names: The path in the file of each tensor of the model.
        path: The file, for the message.
    """
    saved = {tensor.path: tensor for tensor in stored.tensors()}
    problems = []
    for tensor in model.tensors():
        if tensor.path in names:
            found = saved[names[tensor.path]]
            if (found.dtype, found.shape) != (tensor.dtype, tensor.shape):
                fact = f"is {found.dtype} {found.shape} in the file, but {tensor.dtype} {tensor.shape} in the model"
                problems.append(Problem.on(model.side, tensor.path, fact))
        elif tensor.trainable and not tensor.is_seed:
            problems.append(Problem.on(model.side, tensor.path, "is in the model, but not in the file"))
    used = set(names.values())
    prefix = _prefix(model, stored)
    inside = [tensor for tensor in stored.tensors() if tensor.path.startswith(prefix)]
    extra = [tensor.path for tensor in inside if tensor.path not in used and not tensor.is_seed]
    problems += [Problem.on(model.side, name, "is in the file, but not in the model") for name in extra]
    if problems:
        raise ModelError(lay_out(f"the weights in {path} are not the weights of {model.title}", problems))


@contextmanager
def without_memory() -> Iterator[None]:
    """Put new models on the meta device, without values, inside the `with` block.

    This has an effect on torch modules, and on Keras models of the torch backend.
    """
    import keras
    import torch

    with ExitStack() as contexts:
        contexts.enter_context(torch.device("meta"))
        if keras.backend.backend() == "torch":
            contexts.enter_context(keras.device("meta"))
        yield
