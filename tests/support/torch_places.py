"""Cases of operators that take, write, scatter or sort elements for the conversion to Keras, each with a shape."""

import warnings
from collections.abc import Iterator
from typing import Any

import torch

from tests.support.torch_images import IMAGE
from tests.support.torch_spectra import TEXT


def _with_zeros(x: torch.Tensor) -> torch.Tensor:
    made = x.clone()
    made[:, 1:3].zero_()
    return made


def _written(x: torch.Tensor) -> torch.Tensor:
    made = x + 1
    made[:, 1:3] = 0.0
    made[:, 0, 1] = made[:, 0, 2]
    return made


def _shifted_in_time(x: torch.Tensor) -> torch.Tensor:
    made = torch.zeros_like(x)
    made[:, :-1, :2] = x[:, 1:, :2]
    made[:, 1:, 2:] = x[:, :-1, 2:]
    return made


def _put(x: torch.Tensor) -> torch.Tensor:
    made = x.clone()
    made[:, torch.tensor([0, 2])] = x[:, :2] * 2
    made[:, 1::2] = 0.5
    made[..., torch.tensor([3, 1])] = 1.5
    made[made > 1.7] = 0.0
    return made


def _reduced_rows(x: torch.Tensor) -> Iterator[torch.Tensor]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch warns that the function may change
        for axis, index in ((0, _rows(x)), (2, (x[0, 0] > 0).long() * 3)):
            for reduce in ("mean", "amax", "amin", "prod"):
                yield x.index_reduce(axis, index, x * 3, reduce, include_self=True)
                yield x.index_reduce(axis, index, x * 3, reduce, include_self=False)


def _rows(x: torch.Tensor) -> torch.Tensor:
    """Return an index along the batch axis for every sample: zero, or that of the sample itself."""
    return (x[:, 0, 0] > 0).long() * torch.arange(x.shape[0])


def _like(x: torch.Tensor) -> torch.Tensor:
    """Write into tensors that have the sizes of the rows of all samples."""
    rows = x.flatten(0, 1)
    marks = torch.zeros_like(rows).scatter(1, (rows[:, :1] > 0).long(), 1.0)
    places = rows.new_empty(rows.shape) + torch.empty(rows.shape)
    places[:, :2], places[:, 2:] = 3.0, rows[:, :2]
    others = torch.empty_like(rows).copy_(marks) + torch.full_like(rows, 0.5) - torch.ones_like(rows, dtype=torch.int32)
    return (rows * marks + places * others).view(-1, 5, 4)


PLACES: dict[str, tuple[Any, tuple[int, ...]]] = {
    "writing at places": (_put, TEXT),
    "adding at places": (lambda x: x.index_add(1, torch.tensor([0, 0, 3]), x[:, :3]), TEXT),
    "scatter": (lambda x: x.scatter(2, (x > 0).long() * 2, x * 3) + x.scatter(1, (x[:, :2] > 0).long(), 1.5), TEXT),
    "scatter that adds": (
        lambda x: torch.zeros_like(x).scatter_add(
            1, torch.tensor([0, 0, 2, 4, 1])[None, :, None].expand(x.shape[0], 5, 4), x
        ),
        TEXT,
    ),
    "adding at computed places": (
        lambda x: x.index_add(1, (x[0, :, 0] > 0).long() * 3, x * 2, alpha=0.5) + x.index_add(0, _rows(x), x * 3),
        TEXT,
    ),
    "reductions at computed places": (
        lambda x: tuple(
            x.scatter_reduce(1, (x > 0).long() * 2, x * 3, reduce, include_self=included)
            for reduce in ("sum", "mean", "amax", "amin", "prod")
            for included in (True, False)
        ),
        TEXT,
    ),
    "reductions of rows at computed places": (lambda x: tuple(_reduced_rows(x)), TEXT),
    "rows that are added at computed places": (
        lambda x: torch.zeros_like(x).scatter_add(0, _rows(x)[:, None, None].expand_as(x), x),
        TEXT,
    ),
    "integers at computed places": (
        lambda x: ((x * 9).long().scatter_reduce(1, (x > 0).long() * 2, (x * 20).long(), "amax") / 2,),
        TEXT,
    ),
    "gather of a part": (lambda x: x.gather(1, (x[:, :2, :3] > 0).long() * 3), TEXT),
    "constant indices along two axes": (lambda x: x[:, torch.tensor([0, 4]), torch.tensor([[2], [3]])], TEXT),
    "indices of each example along two axes": (
        lambda x: x[torch.arange(x.shape[0])[:, None], (x[:, :3, 0] > 0).long(), torch.tensor([0, 1, 3])],
        TEXT,
    ),
    "sorting": (
        lambda x: (*torch.sort(x, 1, descending=True), torch.sort(x, 1)[0], x.argsort(-1), x.median(-1)[0]),
        TEXT,
    ),
    "the largest and the smallest": (
        lambda x: (*x.topk(2, 1), x.topk(2, -1, largest=False)[0], x.kthvalue(2, 1)[0]),
        IMAGE,
    ),
    "search in a sorted sequence": (
        lambda x: (
            torch.bucketize(x, torch.tensor([-1.0, 0.0, 1.0]))
            + torch.searchsorted(torch.tensor([-0.5, 0.5]), x, right=True)
        ),
        TEXT,
    ),
    "one row of each example": (lambda x: x[torch.arange(x.shape[0]), x.argmax(1)[:, 0]], TEXT),
    "constant index": (lambda x: x[:, torch.tensor([3, 0, 1])], TEXT),
    "elements of a constant row": (lambda x: torch.arange(6.0).expand(x.shape[0], 6).gather(1, x.argmax(-1)), TEXT),
    "zeros in a slice": (lambda x: _with_zeros(x) * 1, TEXT),
    "writing into a slice": (lambda x: _written(x) * 1, TEXT),
    "writing into zeros of the shape of the input": (_shifted_in_time, TEXT),
    "slices": (lambda x: x[:, 1:, ::2].sum(-1) + x[:, :-1, 0] + x[:, 0, :1], TEXT),
    "tensors of the sizes of the rows of all samples": (_like, TEXT),
    "sliding windows": (lambda x: x.unfold(2, 3, 2).unfold(3, 2, 3), IMAGE),
}
