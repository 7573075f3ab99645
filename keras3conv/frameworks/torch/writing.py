"""Write the tensors of a live torch module, all or none."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn

from keras3conv.frameworks.shared.backup import Backup, restored_by
from keras3conv.frameworks.torch.derived import Derived, derived_tensors
from keras3conv.frameworks.torch.tensors import named_tensors, overwrite, to_numpy, to_torch
from keras3conv.transforms import Array


def write(
    module: nn.Module,
    values: Mapping[str, Array] | Iterable[tuple[str, Array]],
    in_parts: Collection[str] = (),
) -> None:
    """Write values into the tensors of a module; after any exception all tensors have their old values.

    Args:
        module: The module.
        values: Arrays by the path of the tensor, each of the tensor's shape.
        in_parts: The paths of computed weights (weight norm) for which `values` has the tensors they are computed from.
    """
    tensors, derived = dict(named_tensors(module)), derived_tensors(module, in_parts)
    with _undone_on_failure(tensors, derived) as backup, torch.no_grad():
        for path, value in values.items() if isinstance(values, Mapping) else values:
            parts = derived[path].parts if path in derived else (path,)
            for part in parts:
                backup.keep(part, to_numpy(tensors[part]))
            if path in derived:
                first = tensors[parts[0]]
                derived[path].assign(to_torch(value).to(first.device, first.dtype))
            else:
                overwrite(tensors[path], value)


@contextmanager
def _undone_on_failure(tensors: Mapping[str, torch.Tensor], derived: Mapping[str, Derived]) -> Iterator[Backup]:
    """Yield an empty backup of tensors; if the `with` block raises, restore the values that it has put into the backup.

    Args:
        tensors: The tensors of the module, by path.
        derived: The computed weights of the module, which are then computed again.
    """

    def restore(backup: Backup) -> None:
        for path, old in backup.items():
            overwrite(tensors[path], old)
        for weight in derived.values():
            weight.refresh()

    with restored_by(restore) as backup:
        yield backup


@contextmanager
def restored_on_failure(module: nn.Module, paths: Iterable[str]) -> Iterator[None]:
    """Restore tensors bit for bit if the `with` block raises.

    Args:
        module: The module.
        paths: The paths of the tensors; for a computed weight, the tensors that it is computed from are restored.
    """
    tensors, derived = dict(named_tensors(module)), derived_tensors(module)
    with _undone_on_failure(tensors, derived) as backup:
        for path in paths:
            for part in derived[path].parts if path in derived else (path,):
                backup.keep(part, to_numpy(tensors[part]))
        yield
