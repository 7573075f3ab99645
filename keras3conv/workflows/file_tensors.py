"""List the tensors of a file to write, read their values, and refuse a file that would lack a value."""

from collections.abc import Sequence

import numpy as np

from keras3conv.alignment.staging import Staging
from keras3conv.errors import Problem, TransferError
from keras3conv.messages import lay_out
from keras3conv.model.views import Reader, TensorRef
from keras3conv.transforms import Array


def require_no_computed(staging: Staging) -> None:
    """Raise `TransferError` if a target tensor is one that torch computes from other tensors (as for weight norm).

    A file contains those other tensors instead of the weight, and only a live module can compute them from a weight.
    """
    computed = [tensor for tensor in staging.target.tensors() if tensor.is_computed]
    fact = (
        "this tensor is computed from other tensors, which the file contains instead: only a live model can be the "
        "target"
    )
    _require_none(computed, staging, "cannot be written: torch computes tensors of the file", fact)


def inventory(staging: Staging, *, complete: bool) -> tuple[TensorRef, ...]:
    """Return the tensors of the file to write: those to which the plan maps values, and `num_batches_tracked` etc.

    If the target file exists, its other tensors are among them, too.

    Args:
        staging: The values to write.
        complete: Whether the target file exists: a tensor that the plan does not map then keeps its value.

    Raises:
        TransferError: The plan ignores a tensor, and there is no target file with its value.
    """
    tensors = tuple(tensor for tensor in staging.target.tensors() if not tensor.is_seed)
    missing = [] if complete else [one for one in tensors if not (staging.has(one) or _is_counter(one))]
    fact = "the plan ignores this tensor, so the new file would have no value for it"
    _require_none(missing, staging, "are not enough for a file: the plan ignores tensors", fact)
    return tensors


def _is_counter(tensor: TensorRef) -> bool:
    """Return True if a tensor is an integer scalar such as `num_batches_tracked`, which is 0 in a new file."""
    return tensor.shape == () and tensor.dtype.startswith("int")


def _require_none(tensors: Sequence[TensorRef], staging: Staging, why: str, fact: str) -> None:
    if tensors:
        fixes = ("k3c.transfer(source, target_model, plan, out=path)",)
        problems = [Problem.on(staging.target.side, tensor.path, fact, fixes) for tensor in tensors]
        raise TransferError(lay_out(f"the weights of {staging.source.title} {why}", problems))


def reader(staging: Staging, *, complete: bool) -> Reader:
    """Return the function that reads the value of a tensor of the file to write from its path.

    Args:
        staging: The values to write.
        complete: Whether the target file exists: a tensor that the plan does not map then keeps its value.
    """
    tensors = {tensor.path: tensor for tensor in staging.target.tensors()}
    waiting: dict[str, Array] = {}

    def read(path: str) -> Array:
        tensor = tensors[path]
        if staging.has(tensor):
            if path not in waiting:  # tensors of one mapping (query, key, value) are written one after the other
                waiting.clear()
                waiting.update(staging.read_together(path))
            return waiting.pop(path)
        return staging.target.read(path) if complete else np.zeros((), dtype=tensor.dtype)

    return read
