"""Name the torch modules that a converted model computes by several Keras layers, and how to get a single layer."""

from collections.abc import Collection, Iterator

from torch import nn

from keras3conv.errors import first_of
from keras3conv.frameworks.torch.derived import derived_tensors, is_parametrized
from keras3conv.frameworks.torch.tensors import named_modules

_SHOWN = 3


def written_out(module: nn.Module, converted: Collection[str]) -> tuple[str, ...]:
    """Return a remark for each kind of module that the Keras model computes with several layers and functions.

    Args:
        module: The torch module.
        converted: The paths of the torch tensors that have a variable in the Keras model.
    """
    return (*_computed_weights(module, converted), *_attentions(module, converted))


def _computed_weights(module: nn.Module, converted: Collection[str]) -> Iterator[str]:
    modules = dict(named_modules(module))
    found = [one for one in derived_tensors(module).values() if set(one.parts) & set(converted)]
    parametrized = [one for one in found if is_parametrized(modules[one.owner])]
    if parametrized:
        first = parametrized[0]
        at = f"module.{first.owner}" if first.owner else "module"
        yield (
            f"{_named([one.owner for one in parametrized])}: no single Keras layer, because torch computes the weight "
            "from other tensors, and the Keras model does the same. For a plain layer, before the conversion: "
            f'torch.nn.utils.parametrize.remove_parametrizations({at}, "{first.name}")'
        )


def _attentions(module: nn.Module, converted: Collection[str]) -> Iterator[str]:
    paths = [path for path, child in named_modules(module) if isinstance(child, nn.MultiheadAttention)]
    if paths := [path for path in paths if any(tensor.startswith(f"{path}.") for tensor in converted)]:
        yield (
            f"{_named(paths)}: nn.MultiheadAttention is written out with Dense layers and functions, as the "
            "conversion follows the operations in it. For a layers.MultiHeadAttention write the Keras model yourself: "
            "k3c.align pairs the two classes, and k3c.transfer moves the weights"
        )


def _named(paths: list[str]) -> str:
    return first_of([path or "the module itself" for path in paths], _SHOWN)
